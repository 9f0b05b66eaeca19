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
    scale = torch.pdist(real).mean()
    if scale == 0:
        raise DataError(f"real features: all {len(real):,} are equal")
    return (torch.pdist(samples).mean() / scale).item()
