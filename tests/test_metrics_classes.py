"""Scores of classes against scipy and known answers."""

from __future__ import annotations

import math

import pytest
import torch

from ganlab.errors import DataError
from ganlab.metrics.classes import class_shares, inception_score, jensen_shannon, kl_divergence, modes_captured


def test_inception_score_runs_from_1_to_the_number_of_classes() -> None:
    assert inception_score(torch.eye(10).repeat(3, 1)) == pytest.approx(10)
    assert inception_score(torch.full((30, 10), 0.1)) == pytest.approx(1)
    assert inception_score(torch.eye(10)[:1].repeat(30, 1)) == pytest.approx(1)
    assert inception_score(torch.eye(10)[:4]) == pytest.approx(4)


def test_inception_score_by_hand() -> None:
    information = (0.9 * math.log(1.8) + 0.1 * math.log(0.2)) / 2 + (0.1 * math.log(0.2) + 0.9 * math.log(1.8)) / 2
    p = torch.tensor([[0.9, 0.1], [0.1, 0.9]], dtype=torch.float64)
    assert inception_score(p) == pytest.approx(math.exp(information), rel=1e-9)


def test_shares_of_classes() -> None:
    assert class_shares(torch.tensor([0, 2, 2, 3]), 5).tolist() == [0.25, 0, 0.5, 0.25, 0]


def test_divergences_by_hand() -> None:
    p, q = torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.25, 0.25, 0.5])
    assert kl_divergence(p, q) == pytest.approx(math.log(2))
    assert kl_divergence(q, p) == math.inf
    assert kl_divergence(p, p) == 0
    assert jensen_shannon(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])) == pytest.approx(math.log(2))
    assert jensen_shannon(p, q) == pytest.approx(jensen_shannon(q, p), rel=1e-12)


def test_divergences_are_those_of_scipy() -> None:
    stats, distance = pytest.importorskip("scipy.stats"), pytest.importorskip("scipy.spatial.distance")
    p, q = torch.rand(2, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    p, q = p / p.sum(), q / q.sum()
    assert kl_divergence(p, q) == pytest.approx(stats.entropy(p.numpy(), q.numpy()), rel=1e-9)
    assert jensen_shannon(p, q) == pytest.approx(distance.jensenshannon(p.numpy(), q.numpy()) ** 2, rel=1e-9)


def test_modes_of_stacked_mnist() -> None:
    half = torch.arange(500).repeat(4)
    assert modes_captured(half, 1000) == (500, pytest.approx(math.log(2)))
    assert modes_captured(torch.arange(1000), 1000) == (1000, pytest.approx(0, abs=1e-9))
    shares = class_shares(half, 1000)
    assert modes_captured(half, 1000, shares) == (500, 0)


def test_what_cannot_be_judged_is_refused() -> None:
    with pytest.raises(DataError, match="probabilities: 2 of 3 rows are negative or do not sum to 1"):
        inception_score(torch.tensor([[0.5, 0.5], [1.5, -0.5], [0.5, 0.6]]))
    with pytest.raises(DataError, match="probabilities: 1 of 1 rows are not finite"):
        inception_score(torch.tensor([[math.nan, 1.0]]))
    with pytest.raises(DataError, match="predicted classes: 0 to 10 is outside 0 to 9"):
        class_shares(torch.tensor([0, 10]), 10)
    with pytest.raises(DataError, match="predicted classes: -1 to 3"):
        modes_captured(torch.tensor([3, -1]), 10)
    with pytest.raises(DataError, match="there are 0"):
        class_shares(torch.empty(0, dtype=torch.long), 10)
    with pytest.raises(DataError, match="shares have different numbers of classes: 2 and 3"):
        kl_divergence(torch.ones(2) / 2, torch.ones(3) / 3)
