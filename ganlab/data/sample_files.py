"""Samples of other programs, read in batches from a `.npy` or `.npz` array or a folder of images."""

from __future__ import annotations

import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ganlab.data.dataset import Samples
from ganlab.data.image_folder import SUFFIXES, UNREADABLE, to_channels
from ganlab.errors import DataError
from ganlab.rng import make_rng

BATCH = 500


class SampleFile(ABC):
    """Base class of files with samples in data units.

    Attributes:
        num: number of samples.
    """

    num: int

    def batches(self, num: int, seed: int) -> Iterator[Samples]:
        """Yield `num` random samples in batches. Files may be sorted by class, so the order is random.

        Raises:
            DataError: samples cannot be read, or have the wrong shape or range.
        """
        chosen = torch.randperm(self.num, generator=make_rng(seed, "evaluation"))[:num]
        for part in chosen.split(BATCH):
            yield Samples(self.read(part.tolist()), None)

    @abstractmethod
    def read(self, which: Sequence[int]) -> Tensor:
        """Read the samples with these indices [num, ...]: images in [0, 1], or points."""


class SampleArray(SampleFile):
    """Samples from an array: points [N, D], or images [N, C, H, W], [N, H, W, C] or, for greyscale, [N, H, W].

    Points are floats. Images are bytes, or floats in [0, 1].
    """

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        array = _array_at(path)
        layouts, types = [shape], [np.dtype(kind) for kind in (np.float16, np.float32, np.float64)]
        if len(shape) == 3:
            types.append(np.dtype(np.uint8))
            channels, height, width = shape
            layouts.append((height, width, channels))
            if channels == 1:
                layouts.append((height, width))
        if array.shape[1:] not in layouts or array.dtype not in types:
            allowed = " or ".join(str(["N", *layout]).replace("'", "") for layout in layouts)
            raise DataError(
                f"data={path}: must contain {' or '.join(map(str, types))} {allowed}, contains {array.dtype} "
                f"{list(array.shape)}"
            )
        if not len(array):
            raise DataError(f"data={path}: contains no samples")
        if array.shape[1:] == shape:
            self.array = array
        elif array.ndim == 4:
            self.array = array.transpose(0, 3, 1, 2)
        else:
            self.array = array[:, None]
        self.path, self.num = path, len(array)

    def read(self, which: Sequence[int]) -> Tensor:
        part = torch.from_numpy(np.ascontiguousarray(self.array[which]))
        part = part / 255 if part.dtype == torch.uint8 else part.float()
        lowest, highest = part.min().item(), part.max().item()
        if part.dim() == 4 and not (lowest >= 0 and highest <= 1):
            raise DataError(f"data={self.path}: images must be in [0, 1], these are in [{lowest:g}, {highest:g}]")
        return part


def _array_at(path: Path) -> np.ndarray:
    """Open the array of a `.npy` as a memory map, or load the first array of a `.npz`.

    Raises:
        DataError: the file is neither a `.npy` nor a `.npz`.
    """
    try:
        with path.open("rb") as file:
            if file.read(2) != b"PK":  # the signature of zip files, including .npz
                return np.lib.format.open_memmap(path, mode="r")
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                first = arrays[arrays.files[0]]
        if not isinstance(first, np.ndarray):
            raise ValueError("its first file is not an array")
        return first
    except (OSError, ValueError, IndexError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"data={path}: must be a .npy, a .npz or a folder of images: {error}") from error


class SampleFolder(SampleFile):
    """Samples from a folder of images of the size (C, H, W), decoded as in `ImageFolder`; C = 1 is greyscale."""

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        if len(shape) != 3:
            raise DataError(f"data={path}: is a folder, but the dataset has points; must be a .npy")
        self.files = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
        self.num, self.shape = len(self.files), shape
        if not self.files:
            raise DataError(f"data={path}: contains no images; must contain {', '.join(SUFFIXES)}")

    def read(self, which: Sequence[int]) -> Tensor:
        return torch.stack([self._read(self.files[number]) for number in which])

    def _read(self, file: Path) -> Tensor:
        channels, height, width = self.shape
        try:
            with Image.open(file) as picture:
                pixels = np.array(to_channels(picture, channels))
        except UNREADABLE as error:
            raise DataError(f"data: {file}: cannot be read: {error}") from error
        if pixels.shape[:2] != (height, width):
            raise DataError(f"data: {file}: must have {width}x{height} pixels, has {pixels.shape[1]}x{pixels.shape[0]}")
        return torch.from_numpy(pixels).view(height, width, channels).permute(2, 0, 1).float() / 255


def open_samples(path: str, shape: tuple[int, ...]) -> SampleFile:
    """Open a folder or file of samples with the given shape.

    Raises:
        DataError: it cannot be read, or has a different shape.
    """
    return (SampleFolder if Path(path).is_dir() else SampleArray)(Path(path), shape)
