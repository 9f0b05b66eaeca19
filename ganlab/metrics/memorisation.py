"""Memorisation of the training set, measured by distances to it from samples and from held-out examples."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ganlab.errors import DataError
from ganlab.metrics.distances import nearest
from ganlab.metrics.features import checked, same_dimensions

QUANTILE = 0.01


class Memorisation(NamedTuple):
    """Distances to the nearest training example, for fake samples compared with held-out real examples.

    Attributes:
        fake: median distance of the fake samples.
        held_out: median distance of the held-out examples.
        ratio: fake / held_out. About 1 for new samples from the same distribution, 0 for copies, greater than 1 for
            samples that differ from the data.
        copied: share of fake samples with a distance below the 1 % quantile of the held-out examples. 0.01 for a
            perfect generator, 1 for one that copies.
        farther: probability that a fake sample is farther away than a held-out example; ties count half. This is the
            Mann-Whitney statistic of Meehan et al., 2020, section 3.1, without their normalisation. 0.5 for a perfect
            generator, 0 for one that copies.
    """

    fake: float
    held_out: float
    ratio: float
    copied: float
    farther: float


def memorisation(train: Tensor, held_out: Tensor, fake: Tensor) -> Memorisation:
    """Measure memorisation from features [N, D], [M, D] and [K, D].

    Raises:
        DataError: there are fewer than 100 held-out examples, at least half of them are in the training set, or the
            features are not finite or differ in D.
    """
    train, fake = checked(train, "training features"), checked(fake, "fake features")
    held_out = checked(held_out, "held-out features", at_least=round(1 / QUANTILE))
    same_dimensions(train=train, held_out=held_out, fake=fake)
    distances, baseline = nearest(fake, train), nearest(held_out, train).sort().values
    copies = int((baseline == 0).sum())
    if 2 * copies >= len(baseline):
        raise DataError(
            f"held-out features: {copies:,} of {len(baseline):,} are in the training set; must be fewer than half"
        )
    fake_median, held_out_median = distances.quantile(0.5).item(), baseline.quantile(0.5).item()
    below = torch.searchsorted(baseline, distances) + torch.searchsorted(baseline, distances, right=True)  # ties: half
    return Memorisation(
        fake=fake_median,
        held_out=held_out_median,
        ratio=fake_median / held_out_median,
        copied=(distances < baseline.quantile(QUANTILE)).double().mean().item(),
        farther=below.double().mean().item() / (2 * len(baseline)),
    )
