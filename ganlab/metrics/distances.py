"""Euclidean distances between all pairs of two sets, a block of them at a time."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

BLOCK = 2**21  # distances that are held at a time: 16 MB in float64


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """Of x [N, D] to y [M, D] in float64: [N, M], by one matrix multiplication.

    The bound on the rounding error, 2 D eps |x|^2 for points that are near each other, is subtracted, so that equal
    points are exactly 0 apart. What is left is good to about 1e-7 of the points' distance from the origin.
    """
    rounding = 2 * x.shape[1] * torch.finfo(x.dtype).eps
    products = torch.addmm(y.square().sum(1), x, y.T, alpha=-2)  # |y|^2 - 2 x y, [N, M]
    return products.add_((1 - rounding) * x.square().sum(1, keepdim=True)).clamp_(min=0)


def blocks(x: Tensor, y: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Squared distances of some rows of x [N, D] to all of y [M, D], with which rows they are.

    The origin is moved to the mean of y, where the rounding error is small.
    """
    origin, size = y.mean(0), max(1, BLOCK // len(y))
    y = y - origin
    for start in range(0, len(x), size):
        rows = slice(start, min(start + size, len(x)))
        yield rows, squared_distances(x[rows] - origin, y)


def nearest(x: Tensor, y: Tensor) -> Tensor:
    """Distance of each x [N, D] to the nearest y [M, D]: [N]."""
    return torch.cat([distances.amin(1) for _, distances in blocks(x, y)]).sqrt()
