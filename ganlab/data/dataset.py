"""What every dataset offers, and what it holds once loaded."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor


@dataclass(frozen=True)
class Examples:
    """The examples of a dataset, loaded.

    Attributes:
        data: images, uint8 [N, C, H, W]; or points, float32 [N, D] in [-1, 1].
        labels: int64 [N], numbered from 0.
        source: where they came from.
        center, scale: of points: what is x inside is x * scale + center outside, in the units that they came in. An
            empty center means the origin. Images have neither.
        flip: whether batches may be mirrored left to right.
    """

    data: Tensor
    labels: Tensor
    source: str
    center: tuple[float, ...] = ()
    scale: float = 1.0
    flip: bool = False

    @classmethod
    def of_points(
        cls, points: Tensor, labels: Tensor, source: str, center: tuple[float, ...] = (), scale: float = 1.0
    ) -> Examples:
        """The examples of points [N, D] in units of their own, brought inside [-1, 1] by a center and a scale."""
        inside = (points - torch.tensor(center or 0.0, dtype=points.dtype)) / scale
        return cls(inside.float(), labels, source, center, scale)

    def __len__(self) -> int:
        return len(self.data)

    def fingerprint(self) -> str:
        """A hash of the data and labels, to tell two datasets of one name apart."""
        digest = hashlib.sha256(str((tuple(self.data.shape), self.data.dtype)).encode())
        for tensor in (self.data, self.labels):  # read where they lie: a copy would take their memory once more
            digest.update(tensor.contiguous().numpy().data)
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Description:
    """What the networks were sized by, as a checkpoint keeps it; the data themselves may have gone.

    Attributes:
        name, shape, classes: the dataset's.
        center, scale: the examples'.
    """

    name: str
    shape: tuple[int, ...]
    classes: tuple[str, ...]
    center: tuple[float, ...] = ()
    scale: float = 1.0

    def plain(self) -> dict[str, Any]:
        """As lists and numbers, for a file."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def read(cls, tree: Mapping[str, Any]) -> Description:
        values: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in tree.items()}
        return cls(**values)


@runtime_checkable
class Dataset(Protocol):
    """Facts that are known before any data are read, and the reading."""

    name: str
    shape: tuple[int, ...]  # of one example: (C, H, W) for images, (D,) for points
    num_examples: int | None  # where it is known beforehand
    classes: tuple[str, ...]  # their names in the order of the labels; empty: the labels mean nothing

    def check(self) -> None:
        """Look for what would keep `load` from working, without reading or fetching any data.

        Raises:
            ganlab.errors.ConfigError: with the key, its value and what is allowed.
        """

    def load(self) -> Examples:
        """Read the examples, fetching them first where that is needed.

        Raises:
            ganlab.errors.DataError: they cannot be had.
        """
        ...
