"""Vendi score: the effective number of distinct samples."""

from __future__ import annotations

import torch
from torch import Tensor

from ganlab.errors import DataError
from ganlab.metrics.features import checked


def vendi_score(features: Tensor) -> float:
    """Exponential of the entropy of the eigenvalues of K / N, with K the cosine similarities of features [N, D].

    Definition 3.1 of Friedman and Dieng, 2023, of order 1. The score ranges from 1, if all features have the same
    direction, to min(N, D), if they are orthogonal. It needs no real data. It stays low for non-negative features,
    such as the output of a ReLU.
    """
    features = checked(features)
    norms = features.norm(dim=1, keepdim=True)
    zero = int((norms == 0).sum())
    if zero:
        raise DataError(f"features: {zero:,} of {len(features):,} rows are zero and have no direction")
    x = features / norms
    matrix = x @ x.T if len(x) <= x.shape[1] else x.T @ x  # both have the same non-zero eigenvalues
    eigenvalues = torch.linalg.eigvalsh(matrix / len(x)).clamp(min=0)
    return torch.special.entr(eigenvalues).sum().exp().item()
