"""Precision, recall, density and coverage: who lies among the nearest neighbours of whom."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ganlab.metrics.distances import blocks
from ganlab.metrics.features import checked_pair
from ganlab.ranges import Count


class NeighbourQuality(NamedTuple):
    """How well the balls about the samples, each as large as the distance to its k-th neighbour, cover the others.

    Attributes:
        precision: share of fakes inside the ball of any real (Kynkaanniemi et al., 2019, eq. 2).
        recall: share of reals inside the ball of any fake.
        density: balls of reals that a fake is in, in the mean, over k; about 1 for a perfect generator, and it can be
            more (Naeem et al., 2020, eq. 6).
        coverage: share of reals with a fake inside their ball (Naeem et al., 2020, eq. 7).
    """

    precision: float
    recall: float
    density: float
    coverage: float


def squared_radii(features: Tensor, k: int) -> Tensor:
    """Squared distance of each of [N, D] to its k-th nearest other, [N]."""
    # The nearest is the sample itself, at a distance of exactly 0.
    return torch.cat([d.topk(k + 1, largest=False, sorted=False).values.amax(1) for _, d in blocks(features, features)])


def neighbour_quality(real: Tensor, fake: Tensor, k: Count = 5) -> NeighbourQuality:
    """Of features [N, D] and [M, D]. A point on the surface of a ball is not inside, as in the authors' prdc.

    Raises:
        DataError: fewer than k + 1 samples, or features that are not finite or differ in D.
    """
    real, fake = checked_pair(real, fake, at_least=k + 1)
    real_radii, fake_radii = squared_radii(real, k), squared_radii(fake, k)  # [N], [M]
    balls = torch.zeros(len(fake), dtype=torch.long, device=fake.device)  # of reals, that each fake is in
    recalled = covered = 0
    for rows, distances in blocks(real, fake):
        radii = real_radii[rows]
        inside = (distances < radii[:, None]).nonzero()[:, 1]
        balls += torch.bincount(inside, minlength=len(fake))
        recalled += int((distances < fake_radii).any(1).sum())
        covered += int((distances.amin(1) < radii).sum())
    return NeighbourQuality(
        precision=(balls > 0).double().mean().item(),
        recall=recalled / len(real),
        density=balls.double().mean().item() / k,
        coverage=covered / len(real),
    )
