"""FID, KID, MMD and optimal transport against other implementations and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ganlab.errors import DataError
from ganlab.metrics import transport
from ganlab.metrics.features import cpu_rng
from ganlab.metrics.frechet import Moments, frechet_distance
from ganlab.metrics.kernel import contributions, cubic, kernel_distance, median_distance, mmd
from ganlab.metrics.transport import sliced_wasserstein, wasserstein


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def correlated(num: int, dim: int, seed: int, spread: float = 1.0) -> Tensor:
    """Features that are neither centred nor independent."""
    mix = torch.eye(dim, dtype=torch.float64) + 0.3 * normal(dim, dim, seed=100)
    return spread * normal(num, dim, seed=seed) @ mix + 3


class Identity(nn.Module):
    """An extractor for torchmetrics that returns its input."""

    num_features = 16

    def forward(self, x: Tensor) -> Tensor:
        return x


def fid(a: Tensor, b: Tensor) -> float:
    return frechet_distance(Moments().add(a), Moments().add(b))


def test_fid_is_that_of_torchmetrics() -> None:
    module = pytest.importorskip("torchmetrics.image.fid")
    real, fake = correlated(500, 16, seed=1), correlated(300, 16, seed=2, spread=1.3)
    theirs = module.FrechetInceptionDistance(feature=Identity()).set_dtype(torch.float64)
    theirs.update(real, real=True)
    theirs.update(fake, real=False)
    assert fid(real, fake) == pytest.approx(theirs.compute().item(), rel=1e-8)


def test_fid_of_gaussians_with_given_moments() -> None:
    a = normal(1000, 6)
    a = (a - a.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(a.T.cov())).T  # mean 0, covariance 1, exactly
    scales, shift = torch.tensor([0.5, 1, 2, 3, 4, 5.0], dtype=torch.float64), torch.arange(6.0, dtype=torch.float64)
    assert fid(a, a * scales + shift) == pytest.approx(((scales - 1) ** 2 + shift**2).sum().item(), rel=1e-9)


def test_fid_is_symmetric_and_zero_for_the_same() -> None:
    real, fake = correlated(200, 8, seed=1), correlated(300, 8, seed=2)
    assert fid(real, fake) == pytest.approx(fid(fake, real), rel=1e-9)
    assert fid(real, real) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_moments_do_not_depend_on_order_or_batch_size(size: int) -> None:
    features = 1e4 + correlated(1000, 5, seed=1)  # with this mean, a plain sum of squares loses eight digits
    moments = Moments()
    for batch in features[torch.randperm(1000, generator=torch.Generator().manual_seed(2))].split(size):
        moments.add(batch)
    assert moments.num == 1000
    torch.testing.assert_close(moments.mean, features.mean(0), rtol=1e-10, atol=0)
    torch.testing.assert_close(moments.covariance, features.T.cov(), rtol=1e-10, atol=1e-10)


def test_kid_is_that_of_torchmetrics() -> None:
    module = pytest.importorskip("torchmetrics.image.kid")
    real, fake = correlated(200, 16, seed=1), correlated(200, 16, seed=2, spread=1.3)
    with pytest.warns(UserWarning, match="save all extracted features in buffer"):
        theirs = module.KernelInceptionDistance(feature=Identity(), subsets=1, subset_size=200)
    theirs.update(real, real=True)
    theirs.update(fake, real=False)
    assert kernel_distance(real, fake).value == pytest.approx(theirs.compute()[0].item(), rel=1e-9)


def test_kid_by_hand() -> None:
    real, fake = torch.tensor([[0.0], [1.0]]), torch.tensor([[1.0], [2.0]])
    # k(x, y) = (xy + 1)^3: within 1 and 27; across 1, 1, 8, 27.
    assert kernel_distance(real, fake).value == pytest.approx(1 + 27 - 2 * (1 + 1 + 8 + 27) / 4)


def test_subsets_estimate_what_the_whole_does() -> None:
    real, fake = normal(2000, 4), normal(2000, 4, seed=1) + 1
    whole, subsets = kernel_distance(real, fake), kernel_distance(real, fake, subset_size=100, num_subsets=100)
    assert subsets.value != whole.value
    assert subsets.value == pytest.approx(whole.value, abs=3 * whole.error)
    assert whole.error < subsets.error < 1.5 * whole.error
    assert subsets == kernel_distance(real, fake, subset_size=100, num_subsets=100, seed=0)
    assert subsets != kernel_distance(real, fake, subset_size=100, num_subsets=100, seed=1)


def spread_and_error(shift: float, subset_size: int) -> tuple[float, float]:
    """Return the standard deviation of KID over fresh samples, and the mean of its own error estimates."""
    estimates = [
        kernel_distance(normal(100, 4, seed=2 * i), shift + normal(150, 4, seed=2 * i + 1), subset_size, 10)
        for i in range(120)
    ]
    return np.std([e.value for e in estimates]).item(), np.mean([e.error for e in estimates]).item()


@pytest.mark.parametrize("subset_size", [100, 20])
def test_the_error_of_kid_is_how_much_it_varies_over_fresh_samples(subset_size: int) -> None:
    spread, error = spread_and_error(1.0, subset_size)
    assert error == pytest.approx(spread, rel=0.25)


def test_the_error_of_kid_is_not_too_small_between_sets_that_are_alike() -> None:
    spread, error = spread_and_error(0.0, 100)
    assert spread < error < 2 * spread


def test_the_blocks_of_a_kernel_are_invisible(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = correlated(50, 4, seed=1), correlated(31, 4, seed=2)
    whole = contributions(x, y, cubic)
    monkeypatch.setattr("ganlab.metrics.distances.BLOCK", 8 * 7 * 50)
    torch.testing.assert_close(contributions(x, y, cubic), whole, rtol=1e-12, atol=0)


def test_mmd_by_hand() -> None:
    a, b = torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0], [2.0]])
    within = math.exp(-0.5) + math.exp(-2)
    across = (1 + math.exp(-2) + 2 * math.exp(-0.5)) / 4
    assert mmd(a, b, bandwidth=1) == pytest.approx(within - 2 * across)


def test_mmd_of_gaussians_is_the_closed_form() -> None:
    # E k(x, y) of N(m, 1) and N(0, 1) in one dimension: sqrt(h^2 / (h^2 + 2)) exp(-m^2 / (2 (h^2 + 2)))
    truth = 2 * math.sqrt(1 / 3) * (1 - math.exp(-1 / 6))
    assert mmd(normal(3000, 1) + 1, normal(3000, 1, seed=1), bandwidth=1) == pytest.approx(truth, rel=0.1)
    assert mmd(normal(3000, 1), normal(3000, 1, seed=1)) == pytest.approx(0, abs=1e-3)


def test_the_bandwidth_is_the_median_distance() -> None:
    assert median_distance(torch.tensor([[0.0], [1.0], [5.0]])) == 4  # of 1, 4, 5
    a, b = correlated(30, 3, seed=1), correlated(40, 3, seed=2)
    assert mmd(a, b) == mmd(a, b, bandwidth=torch.pdist(torch.cat([a, b])).quantile(0.5).item())
    assert median_distance(torch.tensor([[0.0], [1.0], [5.0], [25.0]])) == 12.5  # of 1, 4, 5, 20, 24, 25


@pytest.mark.parametrize("sizes", [(60, 60), (60, 40)])
def test_wasserstein_is_that_of_pot(sizes: tuple[int, int]) -> None:
    ot = pytest.importorskip("ot")
    a, b = correlated(sizes[0], 3, seed=1), correlated(sizes[1], 3, seed=2, spread=1.5)
    assert wasserstein(a, b) == pytest.approx(ot.emd2([], [], torch.cdist(a, b).numpy()), rel=1e-7)


def test_without_pot_scipy_matches_points_of_the_same_number(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ot")
    a, b = correlated(60, 3, seed=1), correlated(60, 3, seed=2, spread=1.5)
    expected = wasserstein(a, b)
    monkeypatch.setattr(transport, "find_spec", lambda name: None)
    assert wasserstein(a, b) == pytest.approx(expected, rel=1e-9)
    with pytest.raises(DataError, match=r"W1 needs equal sample counts \(60 and 59\); install POT"):
        wasserstein(a, b[1:])


def test_shifted_points_are_as_far_as_the_shift() -> None:
    a, shift = normal(50, 3), torch.tensor([1.0, 2.0, -2.0])
    assert wasserstein(a, a + shift) == pytest.approx(3, rel=1e-6)
    assert sliced_wasserstein(a[:, :1], a[:, :1] + 3) == pytest.approx(3, rel=1e-9)
    # The mean of |cos| over directions in three dimensions is a half.
    assert sliced_wasserstein(a, a + shift, num_projections=20_000) == pytest.approx(1.5, rel=0.02)


@pytest.mark.parametrize("sizes", [(50, 50), (50, 30)])
def test_one_dimensional_wasserstein_is_that_of_scipy(sizes: tuple[int, int]) -> None:
    stats = pytest.importorskip("scipy.stats")
    a, b = normal(sizes[0], 1), 2 * normal(sizes[1], 1, seed=1) + 1
    expected = stats.wasserstein_distance(a[:, 0].numpy(), b[:, 0].numpy())
    assert sliced_wasserstein(a, b, num_projections=3) == pytest.approx(expected, rel=1e-9)
    if sizes[0] == sizes[1]:
        assert wasserstein(a, b) == pytest.approx(expected, rel=1e-7)


def test_sliced_wasserstein_is_that_of_pot() -> None:
    ot = pytest.importorskip("ot")
    a, b = correlated(60, 4, seed=1).numpy(), correlated(45, 4, seed=2, spread=1.5).numpy()
    drawn = torch.randn(4, 500, generator=cpu_rng(7), dtype=torch.float64)
    theirs = ot.sliced_wasserstein_distance(a, b, p=1, projections=(drawn / drawn.norm(dim=0)).numpy())
    ours = sliced_wasserstein(torch.tensor(a), torch.tensor(b), num_projections=500, seed=7)
    assert ours == pytest.approx(theirs, rel=1e-10)
    others = ot.sliced_wasserstein_distance(a, b, n_projections=5000, p=1, seed=0)  # our directions are uniform
    assert ours == pytest.approx(others, rel=0.05)


def test_one_spoiled_row_is_counted() -> None:
    features = normal(2500, 4)
    features[[3, 5, 700]] = math.nan
    with pytest.raises(DataError, match=r"^features: 3 of 2,500 rows are not finite$"):
        Moments().add(features)
    for score in (kernel_distance, mmd, wasserstein, sliced_wasserstein):
        with pytest.raises(DataError, match=r"^fake features: 3 of 2,500 rows are not finite$"):
            score(normal(10, 4), features)
        with pytest.raises(DataError, match=r"^features differ in dimensions: real 4, fake 5$"):
            score(normal(10, 4), normal(10, 5))


def test_too_few_samples_are_refused() -> None:
    enough, few = Moments().add(normal(129, 128)), Moments().add(normal(100, 128))
    frechet_distance(enough, enough)
    with pytest.raises(DataError, match="the covariance of 128 features needs at least 129 samples, has 100"):
        frechet_distance(enough, few)
    with pytest.raises(DataError, match="4 and 128"):
        frechet_distance(Moments().add(normal(9, 4)), enough)
    with pytest.raises(DataError, match="5 dimensions after 4"):
        Moments().add(normal(9, 4)).add(normal(9, 5))
    with pytest.raises(DataError, match="has 0"):
        Moments().covariance  # noqa: B018
    with pytest.raises(DataError, match="real features: at least 2 samples are needed, there are 1"):
        kernel_distance(normal(1, 3), normal(9, 3))
    with pytest.raises(DataError, match="bandwidth=0: must be greater than 0"):
        mmd(torch.ones(5, 2), torch.ones(5, 2))
    with pytest.raises(DataError, match=r"shape must be \[samples, dimensions\], not \[9\]"):
        Moments().add(normal(9))
