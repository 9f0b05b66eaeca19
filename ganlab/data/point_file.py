"""Points of the user's own, from a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ganlab.data.dataset import Examples
from ganlab.data.units import AffineUnits
from ganlab.errors import ConfigError, DataError


class PointFile:
    """Points of any dimension: one a line of a `.csv`, or a `.npy` of numbers [N, D].

    They are brought inside [-1, 1] by the middle of their range and half the largest range, the same on all axes, so
    that their shape is kept.

    Args:
        path: a `.csv` has commas or white space between the numbers and may have a line of names on top.

    Raises:
        ConfigError: the file is missing or of another kind, or is no table of numbers by its first line or header.
    """

    name = "points"
    classes = ()
    num_examples: int | None

    def __init__(self, path: str) -> None:
        self.path = Path(path).expanduser()
        if self.path.suffix.lower() not in (".csv", ".npy"):
            raise ConfigError(f"dataset.path={path}: must end in .csv or .npy")
        if not self.path.is_file():
            raise ConfigError(f"dataset.path={path}: no such file; must be a .csv or .npy with a point a row")
        try:
            self.num_examples, dimension = self._npy_shape() if self._is_npy else (None, self._csv_columns())
        except (OSError, ValueError, EOFError) as error:
            raise ConfigError(f"dataset.path={path}: cannot be read: {' '.join(str(error).split())}") from error
        self.shape = (dimension,)

    def check(self) -> None:
        pass  # all that can be seen without reading the points was seen when the shape was asked for

    def load(self) -> Examples:
        points = self._read()  # [N, D], float64
        if len(points) < 2:
            raise DataError(f"dataset.path={self.path}: must have at least 2 points, not {len(points)}")
        strange = np.flatnonzero(~np.isfinite(points).all(axis=1))
        if len(strange):
            raise DataError(
                f"dataset.path={self.path}: must have finite numbers only; {len(strange)} points have NaN or infinity, "
                f"the first is point {strange[0] + 1}: {points[strange[0]].tolist()}"
            )
        low, high = points.min(axis=0) / 2, points.max(axis=0) / 2  # halved first: the largest floats do not overflow
        center, scale = low + high, float((high - low).max())
        if not scale:
            raise DataError(
                f"dataset.path={self.path}: must have at least 2 different points; all {len(points)} are equal"
            )
        labels = torch.zeros(len(points), dtype=torch.int64)
        units = AffineUnits(tuple(center.tolist()), scale)
        return Examples.of_points(torch.from_numpy(points), labels, self.path.name, units)

    @property
    def _is_npy(self) -> bool:
        return self.path.suffix.lower() == ".npy"

    def _read(self) -> np.ndarray:
        try:
            if self._is_npy:
                return np.load(self.path, allow_pickle=False).astype(np.float64)
            return self._read_csv()
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"dataset.path={self.path}: cannot be read: {' '.join(str(error).split())}") from error

    def _npy_shape(self) -> tuple[int, int]:
        array = np.load(self.path, mmap_mode="r", allow_pickle=False)
        if array.dtype.kind not in "fiu" or array.ndim != 2 or not array.shape[1]:
            raise ConfigError(
                f"dataset.path={self.path}: must hold numbers of shape [N, D], not {array.dtype} of shape "
                f"{list(array.shape)}"
            )
        return array.shape[0], array.shape[1]

    def _csv_columns(self) -> int:
        """The number of columns, by the first line that is not empty."""
        with self.path.open(encoding="utf-8-sig") as lines:
            cells = next((_cells(line) for line in lines if line.strip()), [])
        if not cells:
            raise ConfigError(f"dataset.path={self.path}: is empty; must have a point a line")
        return len(cells)

    def _read_csv(self) -> np.ndarray:
        """The points, [N, D]; every number is looked at, so that a wrong one can be named by its line.

        Raises:
            DataError: a cell that is no number, or a line of another length.
        """
        points: list[list[float]] = []
        named = False
        with self.path.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, start=1):
                cells = _cells(line)
                if not points and not named and cells and not any(map(_is_number, cells)):
                    named = True
                elif line.strip():
                    points.append(self._point(cells, number))
        return np.array(points).reshape(-1, *self.shape)

    def _point(self, cells: list[str], line: int) -> list[float]:
        if len(cells) != self.shape[0]:
            raise DataError(
                f"dataset.path={self.path}: line {line} must have {self.shape[0]} numbers, not {len(cells)}"
            )
        try:
            return [float(cell) for cell in cells]
        except ValueError:
            wrong = next(cell for cell in cells if not _is_number(cell))
            raise DataError(f"dataset.path={self.path}: line {line} must have numbers only, not {wrong!r}") from None


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split(",")] if "," in line else line.split()


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
