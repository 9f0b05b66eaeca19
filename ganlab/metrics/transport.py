"""Optimal transport between two sets of points: how far the one must be moved to become the other."""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import Tensor

from ganlab.config.ranges import PositiveInt
from ganlab.errors import DataError
from ganlab.metrics.features import checked_pair, draws

PIVOTS = 10_000_000  # of the network simplex, far more than 5,000 points need


def wasserstein_1d(a: Tensor, b: Tensor) -> Tensor:
    """W1 of each column of a [N, P] and b [M, P], the area between their distribution functions: [P]."""
    values, order = torch.cat([a, b]).sort(0)
    steps = torch.cat([a.new_full((len(a),), 1 / len(a)), b.new_full((len(b),), -1 / len(b))])
    apart = steps[order].cumsum(0)[:-1].abs()  # |F_a - F_b| between a value and the next, [N + M - 1, P]
    return (apart * values.diff(dim=0)).sum(0)


def sliced_wasserstein(a: Tensor, b: Tensor, num_projections: PositiveInt = 256, seed: int = 0) -> float:
    """The mean W1 of random one-dimensional projections of a [N, D] and b [M, D] (Bonneel et al., 2015, with p = 1).

    Holds [N + M, projections] numbers a few times over. At most W1 itself, and about 1 / sqrt(D) of it.
    """
    a, b = checked_pair(a, b)
    directions = torch.randn(a.shape[1], num_projections, generator=draws(seed), dtype=torch.float64).to(a.device)
    directions = directions / directions.norm(dim=0)
    return wasserstein_1d(a @ directions, b @ directions).mean().item()


def wasserstein(a: Tensor, b: Tensor) -> float:
    """W1 with Euclidean cost (the earth mover's distance) of a [N, D] and b [M, D], exactly.

    Meant for a few thousand points: 5,000 take 3 seconds and 1 GB, 10,000 five times as long. Without POT the sets must
    be of the same size, and are matched by scipy's assignment.
    """
    a, b = checked_pair(a, b)
    cost = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").cpu().numpy()
    if find_spec("ot"):
        import ot

        return float(ot.emd2([], [], cost, numItermax=PIVOTS))
    if len(a) != len(b):
        raise DataError(
            f"W1 needs equal numbers of points ({len(a):,} and {len(b):,}), or install POT (pip install POT)"
        )
    from scipy.optimize import linear_sum_assignment

    return float(cost[linear_sum_assignment(cost)].mean())
