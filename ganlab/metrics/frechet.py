"""Frechet distance between Gaussians fitted to two sets of features (FID)."""

from __future__ import annotations

import torch
from torch import Tensor

from ganlab.errors import DataError
from ganlab.metrics.features import checked


class Moments:
    """Running mean and covariance of features, accumulated in float64 batch by batch.

    Partial sums are centred on their own means before they are merged (Chan, Golub and LeVeque, 1983, eq. 1.5).
    A large mean therefore costs no precision, and the order and size of the batches do not matter.

    Attributes:
        num: number of samples so far.
        mean: mean of the features [D].
    """

    def __init__(self) -> None:
        self.num = 0
        self.mean = torch.zeros(0, dtype=torch.float64)
        self.scatter = torch.zeros(0, 0, dtype=torch.float64)  # sum of (x - mean)(x - mean)^T

    def add(self, features: Tensor) -> Moments:
        """Add features [N, D] and return `self`."""
        features = checked(features)
        if self.num == 0:
            self.mean = features.new_zeros(features.shape[1])
            self.scatter = features.new_zeros(features.shape[1], features.shape[1])
        if features.shape[1] != len(self.mean):
            raise DataError(f"features: {features.shape[1]:,} dimensions after {len(self.mean):,}")
        num, mean = len(features), features.mean(0)
        centred, delta = features - mean, mean - self.mean
        total = self.num + num
        self.scatter += centred.T @ centred + torch.outer(delta, delta) * (self.num * num / total)
        self.mean += delta * (num / total)
        self.num = total
        return self

    @property
    def covariance(self) -> Tensor:
        """Unbiased covariance [D, D]."""
        if self.num < 2:
            raise DataError(f"a covariance needs at least 2 samples, has {self.num}")
        return self.scatter / (self.num - 1)


def frechet_distance(a: Moments, b: Moments) -> float:
    """Frechet distance |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) (Heusel et al., 2017, section 2).

    Raises:
        DataError: the dimensions differ, or there are too few samples for full-rank covariances.
    """
    if len(a.mean) != len(b.mean):
        raise DataError(f"features differ in dimensions: {len(a.mean):,} and {len(b.mean):,}")
    for moments in (a, b):
        dim = len(moments.mean)
        if moments.num <= dim:
            raise DataError(
                f"the covariance of {dim:,} features needs at least {dim + 1:,} samples, has {moments.num:,}"
            )
    roots = torch.linalg.eigvals(a.covariance @ b.covariance).sqrt().real.sum()
    distance = (a.mean - b.mean).square().sum() + a.covariance.trace() + b.covariance.trace() - 2 * roots
    return max(0.0, distance.item())  # rounding can give -1e-13 for equal moments
