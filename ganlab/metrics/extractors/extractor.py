"""The interface of feature extractors, and the class for those that are networks."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from ganlab.errors import ConfigError, DataError


class Features(NamedTuple):
    """Features of N images.

    Attributes:
        values: features, float32 [N, D].
        probabilities: class probabilities, float32 [N, K]; None: the extractor is not a classifier.
    """

    values: Tensor
    probabilities: Tensor | None


class Extractor(Protocol):
    """Maps images to features.

    Scores of two extractors are comparable only if both their names and their hashes are equal.

    Attributes:
        name: the value of `metrics.extractor` that selects it.
        hash: 16 hex digits that identify its weights.
        about: one-line description.
    """

    name: str
    hash: str
    about: str

    def __call__(self, images: Tensor) -> Features:
        """Extract the features of images, float32 [N, C, H, W] in [0, 1], on the extractor's device.

        Raises:
            DataError: the images have a different shape or range.
        """
        ...


class NetworkExtractor:
    """An extractor that is a network.

    Args:
        network: images [N, C, H, W] in [0, 1] -> features [N, D], or a pair of features and probabilities [N, K].
        shape: image shape (C, H, W).
        batch_size: images per forward pass, which bounds the memory for activations.
    """

    def __init__(
        self,
        name: str,
        hash: str,
        about: str,
        network: nn.Module,
        shape: tuple[int, ...],
        device: torch.device,
        batch_size: int = 250,
    ) -> None:
        self.name = name
        self.hash = hash
        self.about = about
        self.shape = shape
        self.device = device
        self.batch_size = batch_size
        self.network = network.to(device).eval().requires_grad_(False)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Features:
        check_images(images, self.shape)
        parts = [self._features(batch.to(self.device)) for batch in images.split(self.batch_size)]
        values, probabilities = zip(*parts, strict=True)
        return Features(torch.cat(values), None if probabilities[0] is None else torch.cat(probabilities))

    def _features(self, images: Tensor) -> Features:
        output = self.network(images)
        values, probabilities = output if isinstance(output, tuple | list) else (output, None)
        for part in (values, probabilities):
            if part is not None and not isinstance(part, Tensor):
                raise ConfigError(f"metrics.extractor={self.name}: must return tensors, not {type(part).__name__}")
            if part is not None and (part.dim() != 2 or len(part) != len(images)):
                raise ConfigError(
                    f"metrics.extractor={self.name}: must return one row of features per image, [{len(images)}, D], "
                    f"not {list(part.shape)}"
                )
        return Features(values.float(), None if probabilities is None else probabilities.float())


def check_images(images: Tensor, shape: tuple[int, ...]) -> None:
    """Check that images have this shape and are floats in [0, 1].

    Raises:
        DataError: the shape, the dtype or the range is wrong.
    """
    if tuple(images.shape[1:]) != tuple(shape):
        raise DataError(f"images of shape {list(images.shape)}: must be [N, {', '.join(map(str, shape))}]")
    if not images.is_floating_point():
        raise DataError(f"images of {str(images.dtype).removeprefix('torch.')}: must be float32 in [0, 1]")
    if len(images):
        low, high = (limit.item() for limit in images.aminmax())
        if not (low >= 0 and high <= 1):  # also where they are NaN
            raise DataError(f"images from {low:.4g} to {high:.4g}: must be in [0, 1]")
