"""Has the generator learnt the training set by heart? Its samples' distances to it, against a held-out set's."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ganlab.errors import DataError
from ganlab.metrics.distances import nearest
from ganlab.metrics.features import checked, same_dimensions

QUANTILE = 0.01


class Memorisation(NamedTuple):
    """Distances to the nearest training sample, those of fakes against those of held-out real samples.

    Attributes:
        fake: median of the fakes.
        held_out: median of the held-out samples.
        ratio: fake / held_out. About 1 for new samples of the same distribution, 0 for copies, more than 1 for samples
            that are unlike the data.
        copied: share of fakes that are nearer than 1 % of the held-out samples are. 0.01 for a perfect generator, 1 for
            one that copies.
        farther: probability that a fake is farther than a held-out sample, ties counting half: the Mann-Whitney
            statistic of Meehan et al., 2020, section 3.1, before they normalise it. 0.5 for a perfect generator,
            0 for one that copies.
    """

    fake: float
    held_out: float
    ratio: float
    copied: float
    farther: float


def memorisation(train: Tensor, held_out: Tensor, fake: Tensor) -> Memorisation:
    """Of features [N, D], [M, D] and [K, D].

    Raises:
        DataError: fewer than 100 held-out samples, or half of them in the training set; features that are not finite or
            differ in D.
    """
    train, fake = checked(train, "training features"), checked(fake, "fake features")
    held_out = checked(held_out, "held-out features", at_least=round(1 / QUANTILE))
    same_dimensions(train=train, held_out=held_out, fake=fake)
    ours, baseline = nearest(fake, train), nearest(held_out, train).sort().values
    copies = int((baseline == 0).sum())
    if 2 * copies >= len(baseline):
        raise DataError(f"held-out features: {copies:,} of {len(baseline):,} are in the training set, half is too many")
    of_fakes, of_held_out = ours.quantile(0.5).item(), baseline.quantile(0.5).item()
    below = torch.searchsorted(baseline, ours) + torch.searchsorted(baseline, ours, right=True)  # ties: one of the two
    return Memorisation(
        fake=of_fakes,
        held_out=of_held_out,
        ratio=of_fakes / of_held_out,
        copied=(ours < baseline.quantile(QUANTILE)).double().mean().item(),
        farther=below.double().mean().item() / (2 * len(baseline)),
    )
