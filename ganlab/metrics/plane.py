"""How well points in the plane meet a distribution that is known."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

ANGLES = 36


class MixtureQuality(NamedTuple):
    """Scores of samples of a mixture of Gaussians, by the protocol of PacGAN (Lin et al., 2018, section 4.1).

    Attributes:
        modes: how many have at least one sample of high quality.
        high_quality: share of samples within 3 standard deviations of the nearest mode. A perfect sampler of the
            plane scores 1 - exp(-9/2) = 0.989; clearly more means that samples are too concentrated.
        reverse_kl: of the modes' shares among the samples of high quality to equal shares, in nats.
    """

    modes: int
    high_quality: float
    reverse_kl: float


def mixture_quality(samples: Tensor, modes: Tensor, sigma: float) -> MixtureQuality:
    """Of samples [N, 2] against means [K, 2] and their standard deviation, all in the same units."""
    distance, nearest = torch.cdist(samples.double(), modes.double()).min(1)
    good = distance < 3 * sigma
    counts = torch.bincount(nearest[good], minlength=len(modes)).double()
    share = counts / counts.sum().clamp(min=1)
    kl = torch.special.xlogy(share, share * len(modes)).sum()
    return MixtureQuality(int((counts > 0).sum()), good.double().mean().item(), kl.item())


class CircleQuality(NamedTuple):
    """Scores of samples of a circle about the origin.

    Attributes:
        near: share of samples whose distance to the circle is less than the tolerance.
        angles: how many of 36 equal angles those cover.
    """

    near: float
    angles: int


def circle_quality(samples: Tensor, radius: float, tolerance: float = 0.05) -> CircleQuality:
    """Of samples [N, 2]."""
    near = (samples.norm(dim=1) - radius).abs() < tolerance
    turn = torch.atan2(samples[near, 1], samples[near, 0]) / (2 * math.pi) % 1  # [0, 1)
    return CircleQuality(near.double().mean().item(), len((turn * ANGLES).long().clamp(max=ANGLES - 1).unique()))
