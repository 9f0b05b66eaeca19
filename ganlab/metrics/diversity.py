"""Sample diversity, a sign of mode collapse that is cheap enough to compute during training."""

from __future__ import annotations

import torch
from torch import Tensor

from ganlab.errors import DataError
from ganlab.metrics.features import checked_pair


def diversity(samples: Tensor, real: Tensor) -> float:
    """Mean pairwise distance of samples [N, ...] divided by that of real examples [M, ...].

    It is 0 if all samples are equal and 1 if they are as diverse as real examples. A few hundred of each are enough.
    """
    real, samples = checked_pair(real, samples, at_least=2)
    scale = mean_distance(real)
    if scale == 0:
        raise DataError(f"real features: all {len(real):,} are equal")
    return (mean_distance(samples) / scale).item()


def mean_distance(x: Tensor) -> Tensor:
    """Mean distance [...] between the rows of each x [..., N, D]."""
    num = x.shape[-2]
    return torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").sum((-2, -1)) / (num * (num - 1))
