"""Signs of trouble that are cheap enough to be looked at during training."""

from __future__ import annotations

import torch
from torch import Tensor

from ganlab.errors import DataError
from ganlab.metrics.features import checked_pair


def diversity(samples: Tensor, real: Tensor) -> float:
    """Mean distance between samples [N, ...] over that between real examples [M, ...]: 0 for one sample repeated, 1 for
    samples that are as different as real ones. A few hundred of each are enough.
    """
    real, samples = checked_pair(real, samples, at_least=2)
    scale = torch.pdist(real).mean()
    if scale == 0:
        raise DataError(f"real features: all {len(real):,} are equal")
    return (torch.pdist(samples).mean() / scale).item()
