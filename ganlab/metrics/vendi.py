"""The Vendi score: how many different samples there are, in effect."""

from __future__ import annotations

import torch
from torch import Tensor

from ganlab.errors import DataError
from ganlab.metrics.features import checked


def vendi_score(features: Tensor) -> float:
    """exp of the entropy of the eigenvalues of K / N, with K the cosines between features [N, D]: 1 to min(N, D).

    Friedman and Dieng, 2023, definition 3.1, of order 1. 1: all point the same way; N: all are orthogonal. Needs no
    real data; for features that are not negative, such as those after a ReLU, it stays low.
    """
    features = checked(features)
    norms = features.norm(dim=1, keepdim=True)
    zero = int((norms == 0).sum())
    if zero:
        raise DataError(f"features: {zero:,} of {len(features):,} rows are zero, and have no direction")
    x = features / norms
    matrix = x @ x.T if len(x) <= x.shape[1] else x.T @ x  # the same eigenvalues, but for zeros
    eigenvalues = torch.linalg.eigvalsh(matrix / len(x)).clamp(min=0)
    return torch.special.entr(eigenvalues).sum().exp().item()
