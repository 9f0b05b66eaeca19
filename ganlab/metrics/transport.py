"""Optimal transport: Wasserstein-1 distances between two sets of points."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor

from ganlab.config.ranges import PositiveInt
from ganlab.errors import DataError
from ganlab.metrics.features import checked_pair, cpu_rng

MAX_PIVOTS = 10_000_000  # iteration limit of the network simplex, far more than 5,000 points need


def wasserstein_1d(a: Tensor, b: Tensor) -> Tensor:
    """W1 [P] of each column of a [N, P] and b [M, P]: the area between their distribution functions."""
    if len(a) == len(b):
        return (_sorted_columns(a) - _sorted_columns(b)).abs().mean(0)
    values, order = torch.cat([a, b]).sort(0)
    steps = torch.cat([a.new_full((len(a),), 1 / len(a)), b.new_full((len(b),), -1 / len(b))])
    gap = steps[order].cumsum(0)[:-1].abs()  # |F_a - F_b| between consecutive values, [N + M - 1, P]
    return (gap * values.diff(dim=0)).sum(0)


def _sorted_columns(x: Tensor) -> Tensor:
    """Sort each column [N, P]; NumPy does this several times faster than torch."""
    return torch.from_numpy(np.sort(x.t().contiguous().cpu().numpy(), axis=1)).t().to(x.device)


def sliced_wasserstein(a: Tensor, b: Tensor, num_projections: PositiveInt = 256, seed: int = 0) -> float:
    """Mean W1 over random one-dimensional projections of a [N, D] and b [M, D] (Bonneel et al., 2015, with p = 1).

    It is at most W1, and roughly W1 / sqrt(D). Memory: a few tensors of shape [N + M, num_projections].
    """
    a, b = checked_pair(a, b)
    directions = torch.randn(a.shape[1], num_projections, generator=cpu_rng(seed), dtype=torch.float64).to(a.device)
    directions = directions / directions.norm(dim=0)
    return wasserstein_1d(a @ directions, b @ directions).mean().item()


def wasserstein(a: Tensor, b: Tensor) -> float:
    """Exact W1 with Euclidean cost (earth mover's distance) between a [N, D] and b [M, D].

    Intended for a few thousand points: 5,000 take 3 seconds and 1 GB, 10,000 take five times as long. Without POT both
    sets must have the same size; they are then matched by SciPy's linear assignment.
    """
    a, b = checked_pair(a, b)
    cost = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").cpu().numpy()
    if find_spec("ot"):
        import ot

        return float(ot.emd2([], [], cost, numItermax=MAX_PIVOTS))
    if len(a) != len(b):
        raise DataError(
            f"W1 needs equal sample counts ({len(a):,} and {len(b):,}); install POT (pip install POT) or set num and "
            "num_real to the same number"
        )
    from scipy.optimize import linear_sum_assignment

    return float(cost[linear_sum_assignment(cost)].mean())
