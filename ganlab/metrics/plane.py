"""How well points in the plane meet a distribution that is known."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ganlab.metrics.classes import jensen_shannon, kl_divergence
from ganlab.metrics.distances import nearest
from ganlab.metrics.features import checked, same_dimensions

ANGLES = 36


class MixtureQuality(NamedTuple):
    """Scores of samples of a mixture of Gaussians, by the protocol of PacGAN (Lin et al., 2018, section 4.1).

    Attributes:
        modes: how many have at least one sample of high quality.
        high_quality: share of samples within 3 standard deviations of the nearest mode. A perfect sampler of the
            plane scores 1 - exp(-9/2) = 0.989; clearly more means that samples are too concentrated.
        reverse_kl: of the modes' shares among the samples of high quality to equal shares, in nats; 0 to log of the
            number of modes. Where no sample is of high quality, as of all in one mode: the worst.
        jensen_shannon: divergence of the same, 0 to log 2.
    """

    modes: int
    high_quality: float
    reverse_kl: float
    jensen_shannon: float


def mixture_quality(samples: Tensor, modes: Tensor, sigma: float) -> MixtureQuality:
    """Of samples [N, 2] against means [K, 2] and their standard deviation, all in the same units."""
    distance, mode = torch.cdist(checked(samples, "samples"), checked(modes, "modes")).min(1)
    good = distance < 3 * sigma
    counts = torch.bincount(mode[good], minlength=len(modes)).double()
    share = counts / counts.sum() if good.any() else torch.eye(len(modes), dtype=counts.dtype, device=counts.device)[0]
    equal = torch.full_like(share, 1 / len(modes))
    return MixtureQuality(
        modes=int((counts > 0).sum()),
        high_quality=good.double().mean().item(),
        reverse_kl=kl_divergence(share, equal),
        jensen_shannon=jensen_shannon(share, equal),
    )


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
    samples = checked(samples, "samples")
    near = (samples.norm(dim=1) - radius).abs() < tolerance
    turn = torch.atan2(samples[near, 1], samples[near, 0]) / (2 * math.pi) % 1  # [0, 1)
    return CircleQuality(near.double().mean().item(), len((turn * ANGLES).long().clamp(max=ANGLES - 1).unique()))


class ManifoldQuality(NamedTuple):
    """Scores of samples of a curve or surface.

    Attributes:
        distance: mean distance of the samples to it, in their units.
        near: share of samples within the tolerance of it.
        coverage: share of it that has a sample within the tolerance.
    """

    distance: float
    near: float
    coverage: float


def manifold_quality(samples: Tensor, manifold: Tensor, tolerance: float = 0.05) -> ManifoldQuality:
    """Of samples [N, D] and points [M, D] spread evenly over the manifold without noise, closer than the tolerance."""
    samples, manifold = checked(samples, "samples"), checked(manifold, "manifold")
    same_dimensions(samples=samples, manifold=manifold)
    off, gap = nearest(samples, manifold), nearest(manifold, samples)
    return ManifoldQuality(
        distance=off.mean().item(),
        near=(off < tolerance).double().mean().item(),
        coverage=(gap < tolerance).double().mean().item(),
    )
