"""Losses and penalties against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from ganlab.game import Game, discriminator_accuracy
from ganlab.losses import BCE
from ganlab.penalties import R1, squared_gradient_norm


def test_bce_is_the_cross_entropy_of_the_tutorial() -> None:
    real, fake = torch.randn(2, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    entropy = nn.BCELoss(reduction="none")
    ones, zeros = torch.ones_like(real), torch.zeros_like(real)
    expected = entropy(real.sigmoid(), ones) + entropy(fake.sigmoid(), zeros)
    torch.testing.assert_close(BCE().discriminator(real, fake), expected)
    torch.testing.assert_close(BCE().generator(None, fake), entropy(fake.sigmoid(), ones))


def test_bce_of_a_guess_is_log_4_and_log_2() -> None:
    zero = torch.zeros(3, dtype=torch.float64)
    assert BCE().discriminator(zero, zero).tolist() == pytest.approx([math.log(4)] * 3)
    assert BCE().generator(None, zero).tolist() == pytest.approx([math.log(2)] * 3)


def test_bce_stays_finite_where_a_sigmoid_would_round_to_0_and_1() -> None:
    far = torch.tensor([-200.0, 200.0])
    assert BCE().discriminator(far, far).tolist() == [200.0, 200.0]
    assert BCE().generator(None, far).tolist() == [200.0, 0.0]


def test_gradient_norm_of_a_linear_discriminator_is_that_of_its_weights() -> None:
    weights = torch.tensor([3.0, -4.0])
    norms = squared_gradient_norm(lambda x: x @ weights, torch.randn(5, 2))
    torch.testing.assert_close(norms, torch.full((5,), 25.0))


def test_r1_of_a_quadratic_discriminator_is_per_example() -> None:
    real, fake = torch.randn(5, 1, 2, 3), torch.randn(5, 1, 2, 3)

    def quadratic(x: Tensor) -> Tensor:
        return x.square().flatten(1).sum(1)

    expected = 0.7 / 2 * 4 * real.square().flatten(1).sum(1)  # || 2 x ||^2 of each example, and of no other
    torch.testing.assert_close(R1(weight=0.7)(quadratic, real, fake), expected)


def test_r1_has_the_gradient_of_finite_differences() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1), nn.Flatten(0)).double()
    real = torch.randn(6, 3, dtype=torch.float64)

    def penalty(weight: Tensor) -> Tensor:
        parameters = dict(network.named_parameters()) | {"0.weight": weight}
        return R1(weight=1.0)(lambda x: torch.func.functional_call(network, parameters, x), real, real).sum()

    weight = network[0].weight.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(penalty, (weight,))


def test_game_adds_the_penalties_to_what_the_discriminator_minimises() -> None:
    game = Game(BCE(), {"a": R1(weight=1.0), "b": R1(weight=2.0)})
    d = game.discriminator_loss(lambda x: x.sum(1), torch.zeros(4, 2), torch.zeros(4, 2))
    assert d.penalties["a"].item() == pytest.approx(1.0)  # 1/2 * || (1, 1) ||^2
    assert d.penalties["b"].item() == pytest.approx(2.0)
    assert d.total.item() == pytest.approx(math.log(4) + 3.0)


def test_discriminator_accuracy_counts_a_logit_of_zero_as_real() -> None:
    logits = torch.tensor([0.0, 1.0, -1.0])
    assert discriminator_accuracy(real=logits, fake=logits).item() == pytest.approx(0.5)
    assert discriminator_accuracy(real=logits[:2], fake=logits[2:]).item() == 1.0
