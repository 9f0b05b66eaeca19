"""Precision, recall, density, coverage, memorisation, diversity and the Vendi score against prdc and known answers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from ganlab.errors import DataError
from ganlab.metrics import distances
from ganlab.metrics.diversity import diversity
from ganlab.metrics.memorisation import memorisation
from ganlab.metrics.neighbours import NeighbourQuality, neighbour_quality, squared_radii
from ganlab.metrics.vendi import vendi_score


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_prdc(real: Tensor, fake: Tensor, k: int) -> Any:
    prdc = pytest.importorskip("prdc")
    return pytest.approx(NeighbourQuality(**prdc.compute_prdc(real.numpy(), fake.numpy(), k)), rel=1e-9)


@pytest.mark.parametrize("dim", [2, 64])
@pytest.mark.parametrize("k", [1, 5])
def test_neighbours_are_those_of_prdc(dim: int, k: int) -> None:
    real, fake = normal(400, dim), 0.8 * normal(300, dim, seed=1) + 0.1
    assert neighbour_quality(real, fake, k) == by_prdc(real, fake, k)


@pytest.mark.parametrize("seed", range(5))
def test_neighbours_on_a_lattice_where_many_distances_are_equal_are_those_of_prdc(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    real, fake = (torch.randint(-3, 4, (num, 3), generator=draw).double() for num in (241, 257))
    assert neighbour_quality(real, fake, 5) == by_prdc(real, fake, 5)


def test_neighbours_of_near_points_far_from_the_origin_are_those_of_prdc() -> None:
    # Differences of 1e-4 at a distance of 100: a matrix product in float32 cannot resolve them. The prdc package gets
    # centred points, as it has the same weakness.
    real, fake = 1e-4 * normal(300, 8), 1e-4 * normal(300, 8, seed=1)
    assert neighbour_quality(real, fake, 5) == by_prdc(real, fake, 5)
    apart = neighbour_quality(100 + real, 100 + fake)
    assert apart == pytest.approx(neighbour_quality(real, fake), rel=1e-9)


@pytest.mark.parametrize("scale", [1e-20, 1e20])  # whose squares float32 cannot represent
def test_neighbours_do_not_depend_on_the_scale(scale: float) -> None:
    real, fake = normal(150, 5), normal(120, 5, seed=1)
    assert neighbour_quality(scale * real, scale * fake) == pytest.approx(neighbour_quality(real, fake), rel=1e-9)


def test_blocks_are_invisible(monkeypatch: pytest.MonkeyPatch) -> None:
    real, fake = normal(101, 5), normal(77, 5, seed=1)
    whole, apart = neighbour_quality(real, fake), distances.nearest(real, fake)
    monkeypatch.setattr(distances, "BLOCK", 8 * 10 * 77)
    assert neighbour_quality(real, fake) == whole
    torch.testing.assert_close(distances.nearest(real, fake), apart, rtol=1e-12, atol=0)


def test_nearest_distances_are_exact() -> None:
    x, y = normal(500, 128) * 10 + 100, normal(400, 128, seed=1) * 10 + 100
    assert (distances.nearest(x, x.clone()) == 0).all()
    truth = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").amin(1)
    torch.testing.assert_close(distances.nearest(x, y), truth, rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("spread", [1e-6, 1.0])
def test_the_rounding_error_is_bounded(dtype: torch.dtype, spread: float) -> None:
    x = 1 + spread * normal(200, 300)
    truth = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist") ** 2
    found = distances.squared_distances(x.to(dtype), x.to(dtype)).double()
    assert (found - truth).abs().max() < distances.rounding_error(x.to(dtype), x.to(dtype))


def test_radii_are_exact_for_a_cluster_that_float32_cannot_resolve() -> None:
    x = torch.cat([normal(200, 8), 5 + 1e-6 * normal(200, 8, seed=1)])
    truth = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").kthvalue(6, dim=1).values
    torch.testing.assert_close(squared_radii(x, x, 5).sqrt(), truth, rtol=1e-12, atol=0)


@pytest.mark.parametrize("block", [distances.BLOCK, 1600])  # few ambiguous pairs, and too many to compute each exactly
def test_a_tight_cluster_of_fakes_is_judged_exactly(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    real = torch.cat([normal(200, 4), 5 + 1e-4 * normal(50, 4, seed=1)])
    fake = torch.cat([5 + 1e-4 * normal(150, 4, seed=2), normal(20, 4, seed=3)])
    radii = [torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").kthvalue(6).values for x in (real, fake)]
    apart = torch.cdist(real, fake, compute_mode="donot_use_mm_for_euclid_dist")
    in_real, in_fake = apart < radii[0][:, None], apart < radii[1]
    expected = (in_real.any(0), in_fake.any(1), in_real.sum(0).double() / 5, in_real.any(1))
    monkeypatch.setattr(distances, "BLOCK", block)
    assert neighbour_quality(real, fake) == pytest.approx([x.double().mean().item() for x in expected], rel=1e-9)


def test_copies_of_the_data_lie_on_surfaces_and_not_inside() -> None:
    real = normal(300, 16).float()
    shuffled = real[torch.randperm(300, generator=torch.Generator().manual_seed(0))]
    assert neighbour_quality(real, torch.cat([shuffled, normal(1, 16) + 100])).density == pytest.approx(300 / 301)


def test_a_point_on_one_surface_and_just_outside_another_is_in_no_ball() -> None:
    fake = torch.tensor([[0.0, 0.0], [1.0, 0.0], [-1.0, 1.75], [-1.0, 3.25]])  # balls of radius 1, 1, 1.5 and 1.5
    assert neighbour_quality(torch.tensor([[-1.0, 0.0], [-1.0, -64.0]]), fake, k=1).recall == 0
    assert neighbour_quality(torch.tensor([[-1.0, 0.5], [-1.0, -64.0]]), fake, k=1).recall == 0.5


def test_a_set_covers_itself() -> None:
    x = normal(200, 6)
    quality = neighbour_quality(x, x, k=3)
    assert quality[:2] == (1, 1)
    assert quality.coverage == 1
    # Its own k nearest include itself, and the surface is outside: k - 1 others and itself, each way round.
    assert quality.density == pytest.approx(1)


def test_one_image_over_and_over_is_precise_and_recalls_nothing() -> None:
    real = normal(500, 6)
    quality = neighbour_quality(real, real[:1].repeat(400, 1))
    assert quality.precision == 1
    assert quality.recall == 0
    assert quality.coverage < 0.05


def test_half_of_the_modes_is_half_covered() -> None:
    offset = torch.tensor([100.0, 0.0])
    real = torch.cat([normal(200, 2), normal(200, 2, seed=1) + offset])
    quality = neighbour_quality(real, normal(400, 2, seed=2))
    assert quality.coverage == pytest.approx(0.5, abs=0.02)
    assert quality.recall == pytest.approx(0.5, abs=0.02)
    assert quality.precision > 0.95


def test_neighbours_do_not_depend_on_order() -> None:
    real, fake = normal(150, 5), normal(120, 5, seed=1)
    assert neighbour_quality(real.flip(0), fake.flip(0)) == pytest.approx(neighbour_quality(real, fake), rel=1e-12)


def test_a_generator_that_copies_is_seen() -> None:
    train, held_out = normal(1000, 4), normal(500, 4, seed=1)
    scores = memorisation(train, held_out, train[:300])
    assert (scores.fake, scores.ratio, scores.copied, scores.farther) == (0, 0, 1, 0)
    assert scores.held_out > 0


def test_real_samples_that_were_not_trained_on_are_not_copies() -> None:
    scores = memorisation(normal(1000, 4), normal(2000, 4, seed=1), normal(2000, 4, seed=2))
    assert scores.ratio == pytest.approx(1, abs=0.05)
    assert scores.copied == pytest.approx(0.01, abs=0.01)
    assert scores.farther == pytest.approx(0.5, abs=0.03)
    same = memorisation(normal(1000, 4), normal(500, 4, seed=1), normal(500, 4, seed=1))
    assert (same.ratio, same.farther) == (1, 0.5)


def test_memorisation_by_hand() -> None:
    train = torch.zeros(1, 1)
    held_out = torch.arange(1.0, 101)[:, None]
    scores = memorisation(train, held_out, torch.tensor([[0.5], [50.0], [200.0]]))
    assert scores.held_out == pytest.approx(50.5)
    assert scores.fake == pytest.approx(50)
    assert scores.copied == pytest.approx(1 / 3)  # the first is nearer than the lowest 1 % of the held-out
    assert scores.farther == pytest.approx((0 + 49.5 + 100) / 300)


def test_the_mann_whitney_statistic_is_that_of_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    train, held_out, fake = normal(200, 3), normal(100, 3, seed=1), 0.7 * normal(150, 3, seed=2)
    ours, baseline = distances.nearest(fake, train).numpy(), distances.nearest(held_out, train).numpy()
    u = stats.mannwhitneyu(ours, baseline).statistic
    assert memorisation(train, held_out, fake).farther == pytest.approx(u / (100 * 150), rel=1e-12)


def test_vendi_counts_what_is_different() -> None:
    assert vendi_score(torch.ones(50, 3)) == pytest.approx(1)
    assert vendi_score(2 * torch.eye(7)) == pytest.approx(7)
    assert vendi_score(torch.eye(7)[:4]) == pytest.approx(4)
    assert vendi_score(torch.eye(3).repeat(20, 1)) == pytest.approx(3)
    shares = torch.tensor([0.75, 0.25])
    assert vendi_score(torch.eye(2)[[0, 0, 0, 1]]) == pytest.approx(math.exp(-(shares * shares.log()).sum()))


def test_vendi_is_the_same_by_either_matrix() -> None:
    x = normal(20, 30)
    cosines = torch.nn.functional.normalize(x) @ torch.nn.functional.normalize(x).T
    eigenvalues = torch.linalg.eigvalsh(cosines / 20)
    expected = torch.special.entr(eigenvalues).sum().exp().item()
    assert vendi_score(x) == pytest.approx(expected, rel=1e-9)
    assert vendi_score(x.repeat(3, 1)) == pytest.approx(expected, rel=1e-9)  # now [60, 30]


def test_diversity_is_relative_to_the_real() -> None:
    real = normal(100, 3, 4, 4)
    assert diversity(real, real) == pytest.approx(1)
    assert diversity(0.5 * real[:50], real[:50]) == pytest.approx(0.5)
    assert diversity(real[:1].repeat(40, 1, 1, 1), real) == 0
    assert diversity(torch.tensor([[0.0], [3.0]]), torch.tensor([[0.0], [1.0], [3.0]])) == pytest.approx(3 / 2)


def test_what_cannot_be_judged_is_refused() -> None:
    good, spoiled = normal(200, 3), normal(200, 3)
    spoiled[7, 1] = math.inf
    neighbour_quality(good[:6], good[:6], k=5)
    with pytest.raises(DataError, match="fake features: at least 6 samples are needed, there are 5"):
        neighbour_quality(good, good[:5], k=5)
    with pytest.raises(DataError, match="held-out features: at least 100 samples are needed, there are 99"):
        memorisation(good, good[:99], good)
    with pytest.raises(DataError, match="200 of 200 are in the training set"):
        memorisation(good, good, good)
    with pytest.raises(DataError, match="train 3, held_out 3, fake 4"):
        memorisation(good, good + 1, normal(9, 4))
    with pytest.raises(DataError, match="features: 1 of 2 rows are zero"):
        vendi_score(torch.tensor([[0.0, 0.0], [1.0, 0.0]]))
    with pytest.raises(DataError, match="all 9 are equal"):
        diversity(good, torch.ones(9, 3))
    with pytest.raises(DataError, match="real features: at least 2 samples"):
        diversity(good, good[:1])
    for score in (neighbour_quality, diversity):
        with pytest.raises(DataError, match="fake features: 1 of 200 rows are not finite"):
            score(good, spoiled) if score is neighbour_quality else score(spoiled, good)
    with pytest.raises(DataError, match="training features: 1 of 200 rows are not finite"):
        memorisation(spoiled, good, good)
    with pytest.raises(DataError, match="features: 1 of 200 rows are not finite"):
        vendi_score(spoiled)
