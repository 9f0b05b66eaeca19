"""Metrics of the plane against closed forms."""

from __future__ import annotations

import math

import pytest
import torch

from ganlab.errors import DataError
from ganlab.metrics.plane import circle_quality, manifold_quality, mixture_quality

MODES = torch.cartesian_prod(torch.arange(-4.0, 5, 2), torch.arange(-4.0, 5, 2))


def test_a_perfect_sampler_of_a_mixture_scores_what_the_normal_distribution_says() -> None:
    generator = torch.Generator().manual_seed(0)
    points = MODES.repeat(2000, 1) + 0.05 * torch.randn(50_000, 2, generator=generator)
    quality = mixture_quality(points, MODES, 0.05)
    assert quality.modes == 25
    assert quality.high_quality == pytest.approx(1 - math.exp(-4.5), abs=0.002)
    assert quality.reverse_kl == pytest.approx(0, abs=1e-4)
    assert quality.jensen_shannon == pytest.approx(0, abs=1e-4)


def test_half_of_the_modes_is_half_captured_and_costs_log_2() -> None:
    quality = mixture_quality(MODES[:24:2], MODES[:24], 0.05)
    assert quality.modes == 12
    assert quality.high_quality == 1
    assert quality.reverse_kl == pytest.approx(math.log(2))
    # The mean of both has 3/4 of its mass on the half and 1/4 on the rest.
    assert quality.jensen_shannon == pytest.approx((math.log(4 / 3) + math.log(2 / 3) / 2 + math.log(2) / 2) / 2)


def test_samples_between_the_modes_capture_none_and_score_as_bad_as_all_in_one() -> None:
    none, one = mixture_quality(MODES + 1.0, MODES, 0.05), mixture_quality(MODES[:1], MODES, 0.05)
    assert none[:2] == (0, 0.0)
    assert one[:2] == (1, 1.0)
    assert none[2:] == one[2:]
    assert one.reverse_kl == pytest.approx(math.log(25))


def test_circle_quality_by_hand() -> None:
    turn = torch.arange(72) / 72 * 2 * math.pi
    circle = torch.stack([turn.cos(), turn.sin()], 1)
    assert circle_quality(0.8 * circle, 0.8) == (1.0, 36)
    assert circle_quality(0.8 * circle[:36], 0.8) == (1.0, 18)
    assert circle_quality(0.9 * circle, 0.8) == (0.0, 0)


def circle(num: int, radius: float = 1.0) -> torch.Tensor:
    turn = torch.arange(num, dtype=torch.float64) / num * 2 * math.pi
    return radius * torch.stack([turn.cos(), turn.sin()], 1)


@pytest.mark.parametrize(
    ("dimensions", "tolerance"), [(2, 0.03), (6, 0.3)]
)  # the nearest points are found by a k-d tree, or from all distances
def test_manifold_quality_is_that_of_all_distances(dimensions: int, tolerance: float) -> None:
    rng = torch.Generator().manual_seed(0)
    samples, manifold = (torch.rand(num, dimensions, generator=rng, dtype=torch.float64) for num in (300, 200))
    distances = torch.cdist(samples, manifold)
    found = manifold_quality(samples, manifold, tolerance)
    near = [(distances.min(side).values < tolerance).double().mean().item() for side in (1, 0)]
    assert all(0.05 < share < 0.95 for share in near)
    assert found == pytest.approx((distances.min(1).values.mean().item(), *near))


def test_manifold_quality_by_hand() -> None:
    dense = circle(2000)
    assert manifold_quality(dense, dense) == (0, 1, 1)
    half = manifold_quality(dense[:1000], dense, tolerance=0.01)
    assert half.near == 1
    assert half.coverage == pytest.approx(0.5, abs=0.005)
    outside = manifold_quality(circle(2000, radius=1.1), dense, tolerance=0.05)
    assert outside == (pytest.approx(0.1, rel=1e-4), 0, 0)
    mixed = manifold_quality(torch.cat([circle(400), circle(100, radius=3)]), dense)
    assert mixed == (pytest.approx(0.4, rel=1e-4), 0.8, 1)


def test_points_that_are_not_finite_are_refused() -> None:
    spoiled = circle(10)
    spoiled[3, 0] = math.nan
    for score in (
        lambda: mixture_quality(spoiled, MODES, 0.05),
        lambda: circle_quality(spoiled, 0.8),
        lambda: manifold_quality(spoiled, circle(100)),
    ):
        with pytest.raises(DataError, match="samples: 1 of 10 rows are not finite"):
            score()
    with pytest.raises(DataError, match="samples 3, manifold 2"):
        manifold_quality(torch.zeros(5, 3), circle(100))
