"""Euclidean distances between all pairs of two sets, a block of them at a time."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

BLOCK = 2**25  # bytes of distances that are held at a time


def rows_at_a_time(x: Tensor, width: int) -> int:
    """How many rows of so many numbers of the type of x fit a block."""
    return max(1, BLOCK // (width * x.element_size()))


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """Of x [N, D] to y [M, D]: [N, M], by one matrix multiplication.

    It loses digits where points are nearer to each other than to the origin: by `rounding_error`.
    """
    lowered = torch.addmm(y.square().sum(1), x, y.T, alpha=-2)
    return lowered.add_(x.square().sum(1, keepdim=True)).clamp_(min=0)


def rounding_error(x: Tensor, y: Tensor) -> float:
    """What `squared_distances` may be wrong by; sums of D terms by sqrt(D) eps (Higham and Mary, 2019, theorem 2.4)."""
    largest = x.square().sum(1).max() + y.square().sum(1).max()
    return 4 * x.shape[1] ** 0.5 * torch.finfo(x.dtype).eps * largest.item()


def blocks(x: Tensor, y: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Squared distances of some rows of x [N, D] to all of y [M, D], with which rows they are.

    They are lowered by |x|^2, which no comparison within a row needs. Each block lies where the one before it lay, as
    new memory takes longer to get than to fill.
    """
    size = rows_at_a_time(x, len(y))
    place = x.new_empty(min(size, len(x)), len(y))
    norms, columns = y.square().sum(1), y.T.contiguous()
    for start in range(0, len(x), size):
        rows = slice(start, min(start + size, len(x)))
        yield rows, torch.addmm(norms, x[rows], columns, alpha=-2, out=place[: rows.stop - start])


def exact(x: Tensor, y: Tensor) -> Tensor:
    """Squared distances [...] of x [..., D] to y [..., D], one to one and from differences: of equals it is 0."""
    return (x - y).square().sum(-1)


def nearest(x: Tensor, y: Tensor) -> Tensor:
    """Distance of each x [N, D] to the nearest y [M, D]: [N]."""
    origin = y.mean(0)  # where the rounding error is small
    found = torch.empty(len(x), dtype=torch.int64, device=x.device)  # at once: parts between blocks split up the heap
    for rows, distances in blocks(x - origin, y - origin):
        found[rows] = distances.argmin(1)
    return exact(x, y[found]).sqrt()
