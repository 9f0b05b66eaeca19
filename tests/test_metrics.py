"""Metrics against closed forms."""

from __future__ import annotations

import math

import pytest
import torch

from ganlab.metrics.plane import circle_quality, mixture_quality

MODES = torch.cartesian_prod(torch.arange(-4.0, 5, 2), torch.arange(-4.0, 5, 2))


def test_a_perfect_sampler_of_a_mixture_scores_what_the_normal_distribution_says() -> None:
    generator = torch.Generator().manual_seed(0)
    points = MODES.repeat(2000, 1) + 0.05 * torch.randn(50_000, 2, generator=generator)
    quality = mixture_quality(points, MODES, 0.05)
    assert quality.modes == 25
    assert quality.high_quality == pytest.approx(1 - math.exp(-4.5), abs=0.002)
    assert quality.reverse_kl == pytest.approx(0, abs=1e-4)


def test_half_of_the_modes_is_half_captured_and_costs_log_2() -> None:
    quality = mixture_quality(MODES[:24:2], MODES[:24], 0.05)
    assert quality.modes == 12
    assert quality.high_quality == 1
    assert quality.reverse_kl == pytest.approx(math.log(2))


def test_samples_between_the_modes_capture_none() -> None:
    quality = mixture_quality(MODES + 1.0, MODES, 0.05)
    assert quality == (0, 0.0, 0.0)


def test_circle_quality_by_hand() -> None:
    turn = torch.arange(72) / 72 * 2 * math.pi
    circle = torch.stack([turn.cos(), turn.sin()], 1)
    assert circle_quality(0.8 * circle, 0.8) == (1.0, 36)
    assert circle_quality(0.8 * circle[:36], 0.8) == (1.0, 18)
    assert circle_quality(0.9 * circle, 0.8) == (0.0, 0)
