"""What every dataset offers, and what it holds once loaded."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor


@dataclass(frozen=True)
class Examples:
    """The examples of a dataset, loaded.

    Attributes:
        data: images, uint8 [N, C, H, W]; or points, float32 [N, D] in [-1, 1].
        labels: int64 [N], numbered from 0.
        source: where they came from.
        center, scale: points are measured in inside * scale + center; (): a center of zeros.
        flip: whether batches of images may be mirrored left to right at random.
    """

    data: Tensor
    labels: Tensor
    source: str
    center: tuple[float, ...] = ()
    scale: float = 1.0
    flip: bool = False

    def __len__(self) -> int:
        return len(self.data)

    def fingerprint(self) -> str:
        """A hash of the data and labels, to tell two datasets of one name apart."""
        digest = hashlib.sha256(str((tuple(self.data.shape), self.data.dtype)).encode())
        digest.update(self.data.contiguous().numpy().tobytes())
        digest.update(self.labels.numpy().tobytes())
        return digest.hexdigest()[:16]


@runtime_checkable
class Dataset(Protocol):
    """Facts that are known before any data are read, and the reading."""

    name: str
    shape: tuple[int, ...]  # of one example: (C, H, W) for images, (D,) for points
    num_examples: int | None  # where it is known beforehand
    classes: tuple[str, ...]  # their names, in the order of the labels; (): there are none

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
