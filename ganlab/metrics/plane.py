"""Metrics for points whose true distribution is known: mixtures, circles and curves."""

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
    """Metrics for a mixture of Gaussians, by the protocol of PacGAN (Lin et al., 2018, section 4.1).

    Attributes:
        modes: number of modes with at least one high-quality sample.
        high_quality: share of samples within 3 standard deviations of the nearest mode. A perfect sampler in the
            plane scores 1 - exp(-9/2) = 0.989; a clearly higher value means that samples are too concentrated.
        reverse_kl: KL divergence of the mode shares of high-quality samples from equal shares, in nats, from 0 to the
            log of the number of modes. Without high-quality samples it takes its worst value, that of a single mode.
        jensen_shannon: Jensen-Shannon divergence of the same shares, in nats, from 0 to log 2.
    """

    modes: int
    high_quality: float
    reverse_kl: float
    jensen_shannon: float


def mixture_quality(samples: Tensor, modes: Tensor, sigma: float) -> MixtureQuality:
    """Compare samples [N, 2] with mode means [K, 2] and their standard deviation, all in the same units."""
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
    """Metrics for a circle centred on the origin.

    Attributes:
        near: share of samples closer to the circle than the tolerance.
        angles: number of 36 equal sectors that contain such a sample.
    """

    near: float
    angles: int


def circle_quality(samples: Tensor, radius: float, tolerance: float = 0.05) -> CircleQuality:
    """Compare samples [N, 2] with a circle of the given radius."""
    samples = checked(samples, "samples")
    near = (samples.norm(dim=1) - radius).abs() < tolerance
    turn = torch.atan2(samples[near, 1], samples[near, 0]) / (2 * math.pi) % 1  # [0, 1)
    return CircleQuality(near.double().mean().item(), len((turn * ANGLES).long().clamp(max=ANGLES - 1).unique()))


class ManifoldQuality(NamedTuple):
    """Metrics for a curve or surface.

    Attributes:
        distance: mean distance from the samples to the manifold, in the units of the samples.
        near: share of samples closer to the manifold than the tolerance.
        coverage: share of the manifold with a sample closer than the tolerance.
    """

    distance: float
    near: float
    coverage: float


def manifold_quality(samples: Tensor, manifold: Tensor, tolerance: float = 0.05) -> ManifoldQuality:
    """Compare samples [N, D] with a manifold.

    Args:
        manifold: noise-free points [M, D], evenly spaced on the manifold and less than the tolerance apart.
    """
    samples, manifold = checked(samples, "samples"), checked(manifold, "manifold")
    same_dimensions(samples=samples, manifold=manifold)
    to_manifold, to_samples = nearest(samples, manifold), nearest(manifold, samples, limit=tolerance)
    return ManifoldQuality(
        distance=to_manifold.mean().item(),
        near=(to_manifold < tolerance).double().mean().item(),
        coverage=(to_samples < tolerance).double().mean().item(),
    )
