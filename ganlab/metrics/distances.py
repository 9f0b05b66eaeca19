"""Euclidean distances between all pairs of two sets, computed in blocks to bound memory."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

BLOCK = 2**25  # bytes of distances in memory at a time
TREE_DIMENSIONS = 4  # up to which a k-d tree finds neighbours ten times faster than all distances


def rows_per_block(x: Tensor, width: int) -> int:
    """The number of rows with `width` elements of the dtype of x that fit in a block."""
    return max(1, BLOCK // (width * x.element_size()))


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """Squared distances [N, M] from x [N, D] to y [M, D], by one matrix multiplication.

    Cancellation loses digits where points are closer to each other than to the origin; see `rounding_error`.
    """
    shifted = torch.addmm(y.square().sum(1), x, y.T, alpha=-2)
    return shifted.add_(x.square().sum(1, keepdim=True)).clamp_(min=0)


def rounding_error(x: Tensor, y: Tensor) -> float:
    """Error bound of `squared_distances`; sums of D terms err by sqrt(D) eps (Higham and Mary, 2019, theorem 2.4)."""
    largest = x.square().sum(1).max() + y.square().sum(1).max()
    return 4 * x.shape[1] ** 0.5 * torch.finfo(x.dtype).eps * largest.item()


def blocks(x: Tensor, y: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield slices of the rows of x [N, D] with the shifted squared distances [n, M] from those rows to all y [M, D].

    Shifted means that |x|^2 is subtracted, which changes no comparison within a row. All blocks share one buffer,
    because allocating memory takes longer than filling it.
    """
    size = rows_per_block(x, len(y))
    buffer = x.new_empty(min(size, len(x)), len(y))
    norms, columns = y.square().sum(1), y.T.contiguous()
    for start in range(0, len(x), size):
        rows = slice(start, min(start + size, len(x)))
        yield rows, torch.addmm(norms, x[rows], columns, alpha=-2, out=buffer[: rows.stop - start])


def exact_squared(x: Tensor, y: Tensor) -> Tensor:
    """Squared distances [...] between matching rows of x [..., D] and y [..., D]; exactly 0 for equal rows."""
    return (x - y).square().sum(-1)


def nearest(x: Tensor, y: Tensor, limit: float = math.inf) -> Tensor:
    """Distance [N] from each row of x [N, D] to the nearest row of y [M, D].

    Args:
        limit: distances of `limit` or more may be returned as infinity, which saves time.
    """
    if x.shape[1] <= TREE_DIMENSIONS and x.device.type == "cpu":
        from scipy.spatial import KDTree

        return torch.from_numpy(KDTree(y.numpy()).query(x.numpy(), distance_upper_bound=limit)[0]).to(x)
    origin = y.mean(0)  # centring reduces the rounding error
    # Allocated once, because small tensors between the blocks would fragment the heap
    found = torch.empty(len(x), dtype=torch.int64, device=x.device)
    for rows, distances in blocks(x - origin, y - origin):
        found[rows] = distances.argmin(1)
    return exact_squared(x, y[found]).sqrt()
