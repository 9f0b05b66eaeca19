"""The Frechet distance between Gaussians that have the moments of two sets of features (FID)."""

from __future__ import annotations

import torch
from torch import Tensor

from ganlab.errors import DataError
from ganlab.metrics.features import checked


class Moments:
    """Mean and covariance of features that arrive in batches, in float64.

    The sums of two parts are merged about their own means (Chan, Golub and LeVeque, 1983, eq. 1.5), so a large mean
    costs no digits and the order and size of the batches does not matter.

    Attributes:
        num: samples so far.
        mean: [D].
    """

    def __init__(self) -> None:
        self.num = 0
        self.mean = torch.zeros(0, dtype=torch.float64)
        self.scatter = torch.zeros(0, 0, dtype=torch.float64)  # sum of (x - mean)(x - mean)^T

    def add(self, features: Tensor) -> Moments:
        """Count features [N, D] in, and return itself."""
        features = checked(features)
        if self.num == 0:
            self.mean = features.new_zeros(features.shape[1])
            self.scatter = features.new_zeros(features.shape[1], features.shape[1])
        if features.shape[1] != len(self.mean):
            raise DataError(f"features: {features.shape[1]:,} dimensions after {len(self.mean):,}")
        num, mean = len(features), features.mean(0)
        centred, apart = features - mean, mean - self.mean
        total = self.num + num
        self.scatter += centred.T @ centred + torch.outer(apart, apart) * (self.num * num / total)
        self.mean += apart * (num / total)
        self.num = total
        return self

    @property
    def covariance(self) -> Tensor:
        """Unbiased, [D, D]."""
        if self.num < 2:
            raise DataError(f"a covariance needs at least 2 samples, has {self.num}")
        return self.scatter / (self.num - 1)


def frechet_distance(a: Moments, b: Moments) -> float:
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), at least 0 (Heusel et al., 2017, section 2).

    Raises:
        DataError: the dimensions differ, or the samples are too few for covariances of full rank.
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
    return max(0.0, distance.item())  # rounding can leave -1e-13 between equals
