"""Points from a file of the user."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ganlab.data.dataset import Examples
from ganlab.data.units import AffineUnits
from ganlab.errors import ConfigError, DataError


class PointFile:
    """Points of any dimension, from a `.csv` with one point per line or a `.npy` of shape [N, D].

    They are scaled to [-1, 1] by the centre of their range and half of the largest range. All axes have the same
    scale, so proportions are preserved.

    Args:
        path: a `.csv` or `.npy` file. A `.csv` separates numbers by commas or white space and may have a header line.

    Raises:
        ConfigError: the file is missing, has another suffix, or its first line or header shows that it is not a table
            of numbers.
    """

    name = "points"
    classes = ()
    num_examples: int | None

    def __init__(self, path: str) -> None:
        self.path = Path(path).expanduser()
        if self.path.suffix.lower() not in (".csv", ".npy"):
            raise ConfigError(f"dataset.path={path}: must end in .csv or .npy")
        if not self.path.is_file():
            raise ConfigError(f"dataset.path={path}: no such file; must be a .csv or .npy with one point per row")
        try:
            self.num_examples, dimension = self._npy_shape() if self._is_npy else (None, self._csv_columns())
        except (OSError, ValueError, EOFError) as error:
            raise ConfigError(f"dataset.path={path}: cannot be read: {' '.join(str(error).split())}") from error
        self.shape = (dimension,)

    def check(self) -> None:
        pass  # the constructor has checked everything that can be checked without reading the points

    def load(self) -> Examples:
        points = self._read()  # [N, D], float64
        if len(points) < 2:
            raise DataError(f"dataset.path={self.path}: must have at least 2 points, not {len(points)}")
        invalid = np.flatnonzero(~np.isfinite(points).all(axis=1))
        if len(invalid):
            raise DataError(
                f"dataset.path={self.path}: must have finite numbers only; {len(invalid)} points have NaN or infinity, "
                f"the first is point {invalid[0] + 1}: {points[invalid[0]].tolist()}"
            )
        low, high = points.min(axis=0) / 2, points.max(axis=0) / 2  # halved first, so that large floats do not overflow
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
                f"dataset.path={self.path}: must contain numbers of shape [N, D], not {array.dtype} of shape "
                f"{list(array.shape)}"
            )
        return array.shape[0], array.shape[1]

    def _csv_columns(self) -> int:
        """The number of columns of the first line that is not empty."""
        with self.path.open(encoding="utf-8-sig") as lines:
            cells = next((_cells(line) for line in lines if line.strip()), [])
        if not cells:
            raise ConfigError(f"dataset.path={self.path}: is empty; must have one point per line")
        return len(cells)

    def _read_csv(self) -> np.ndarray:
        """Read the points [N, D]; cells are parsed one by one, so that an error can name its line.

        Raises:
            DataError: a cell is not a number, or a line has a different number of cells.
        """
        points: list[list[float]] = []
        has_header = False
        with self.path.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, start=1):
                cells = _cells(line)
                if not points and not has_header and cells and not any(map(_is_number, cells)):
                    has_header = True
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
