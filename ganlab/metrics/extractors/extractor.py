"""The interface of all feature extractors, and what they share."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from ganlab.errors import ConfigError, DataError


class Features(NamedTuple):
    """Of N images.

    Attributes:
        values: float32 [N, D].
        probabilities: of a classifier's K classes, float32 [N, K]; None: the extractor has no classes.
    """

    values: Tensor
    probabilities: Tensor | None


class Extractor(Protocol):
    """Scores by two extractors can be compared only where both the names and the hashes are equal.

    Attributes:
        name: what it is chosen by.
        hash: 16 hex digits of its weights, which tell two of one name apart.
        about: one line for people.
    """

    name: str
    hash: str
    about: str

    def __call__(self, images: Tensor) -> Features:
        """The features of images, float32 [N, C, H, W] in [0, 1]; they lie on the extractor's device.

        Raises:
            DataError: images of another shape or range.
        """
        ...


class NetworkExtractor:
    """An extractor that is a network.

    Args:
        network: images [N, C, H, W] in [0, 1] -> features [N, D], or a pair of features and probabilities [N, K].
        shape: of an image, (C, H, W).
        at_a_time: images in one pass, which bounds the memory of the activations.
    """

    def __init__(
        self,
        name: str,
        hash: str,
        about: str,
        network: nn.Module,
        shape: tuple[int, ...],
        device: torch.device,
        at_a_time: int = 250,
    ) -> None:
        self.name = name
        self.hash = hash
        self.about = about
        self.shape = shape
        self.device = device
        self.at_a_time = at_a_time
        self.network = network.to(device).eval().requires_grad_(False)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Features:
        check_images(images, self.shape)
        parts = [self._features(batch.to(self.device)) for batch in images.split(self.at_a_time)]
        values, probabilities = zip(*parts, strict=True)
        return Features(torch.cat(values), None if probabilities[0] is None else torch.cat(probabilities))

    def _features(self, images: Tensor) -> Features:
        answer = self.network(images)
        values, probabilities = answer if isinstance(answer, tuple | list) else (answer, None)
        for part in (values, probabilities):
            if part is not None and not isinstance(part, Tensor):
                raise ConfigError(f"metrics.extractor={self.name}: must return tensors, not {type(part).__name__}")
            if part is not None and (part.dim() != 2 or len(part) != len(images)):
                raise ConfigError(
                    f"metrics.extractor={self.name}: must return one row of features an image, [{len(images)}, D], "
                    f"not {list(part.shape)}"
                )
        return Features(values.float(), None if probabilities is None else probabilities.float())


def check_images(images: Tensor, shape: tuple[int, ...]) -> None:
    """Refuse what an extractor of images of this shape would give wrong features of.

    Raises:
        DataError: another shape or kind of number, or values outside [0, 1].
    """
    if tuple(images.shape[1:]) != tuple(shape):
        raise DataError(f"images of shape {list(images.shape)}: must be [N, {', '.join(map(str, shape))}]")
    if not images.is_floating_point():
        raise DataError(f"images of {str(images.dtype).removeprefix('torch.')}: must be float32 in [0, 1]")
    if len(images):
        low, high = (limit.item() for limit in images.aminmax())
        if not (low >= 0 and high <= 1):  # also where they are NaN
            raise DataError(f"images from {low:.4g} to {high:.4g}: must lie in [0, 1]")
