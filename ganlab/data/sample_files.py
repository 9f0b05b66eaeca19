"""Samples of other programs, read some at a time: a `.npy` as `ganlab.sample` writes it, or a folder of images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ganlab.data.image_folder import SUFFIXES, UNREADABLE
from ganlab.errors import DataError
from ganlab.game import Samples

AT_A_TIME = 500


class SampleFile(ABC):
    """Examples as they look outside.

    Attributes:
        num: how many there are.
    """

    num: int

    def batches(self, num: int, seed: int) -> Iterator[Samples]:
        """The first `num`, in order; the seed means nothing.

        Raises:
            DataError: they cannot be read, or are no examples of that kind.
        """
        for start in range(0, num, AT_A_TIME):
            yield Samples(self.read(start, min(num, start + AT_A_TIME)), None)

    @abstractmethod
    def read(self, start: int, stop: int) -> Tensor:
        """Examples [stop - start, ...]: images in [0, 1], or points."""


class SampleArray(SampleFile):
    """A `.npy` of float32 [N, *shape], images in [0, 1]."""

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        try:
            self.array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise DataError(f"data={path}: must be a .npy or a folder of images: {error}") from error
        if self.array.dtype != np.float32 or self.array.shape[1:] != shape:
            raise DataError(
                f"data={path}: must be float32 [N, {', '.join(map(str, shape))}], is {self.array.dtype} "
                f"{list(self.array.shape)}"
            )
        if not len(self.array):
            raise DataError(f"data={path}: holds no samples")
        self.path, self.num = path, len(self.array)

    def read(self, start: int, stop: int) -> Tensor:
        part = torch.from_numpy(np.array(self.array[start:stop]))
        lowest, highest = part.min().item(), part.max().item()
        if part.dim() == 4 and not (lowest >= 0 and highest <= 1):
            raise DataError(f"data={self.path}: images must lie in [0, 1], these in [{lowest:g}, {highest:g}]")
        return part


class SampleFolder(SampleFile):
    """A folder of images of the size of [C, H, W], grey ones where C is 1."""

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        if len(shape) != 3:
            raise DataError(f"data={path}: a folder is for images, and the dataset has points; must be a .npy")
        self.files = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
        self.num, self.shape = len(self.files), shape
        if not self.files:
            raise DataError(f"data={path}: no images there; must hold {', '.join(SUFFIXES)}")

    def read(self, start: int, stop: int) -> Tensor:
        return torch.stack([self._read(file) for file in self.files[start:stop]])

    def _read(self, file: Path) -> Tensor:
        channels, height, width = self.shape
        try:
            with Image.open(file) as picture:
                pixels = np.array(picture.convert("L" if channels == 1 else "RGB"))
        except UNREADABLE as error:
            raise DataError(f"data: {file}: cannot be read: {error}") from error
        if pixels.shape[:2] != (height, width):
            raise DataError(f"data: {file}: must have {width}x{height} pixels, has {pixels.shape[1]}x{pixels.shape[0]}")
        return torch.from_numpy(pixels).view(height, width, channels).permute(2, 0, 1).float() / 255


def open_samples(path: str, shape: tuple[int, ...]) -> SampleFile:
    """What lies there, as examples of that shape.

    Raises:
        DataError: nothing that can be read, or of another shape.
    """
    return (SampleFolder if Path(path).is_dir() else SampleArray)(Path(path), shape)
