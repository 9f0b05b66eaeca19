"""Penalties against closed forms, example by example, and their gradients against finite differences."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from ganlab.game import Game
from ganlab.losses import NonSaturating
from ganlab.penalties import (
    DRAGAN,
    R1,
    R2,
    Discriminator,
    ForwardPass,
    GradientPenalty,
    Penalty,
    ZeroCentered,
    interpolates,
)
from ganlab.rng import StepRNG
from ganlab.schedules import Constant, Cosine, LinearDecay

CPU = torch.device("cpu")
WEIGHTS = torch.tensor([3.0, -4.0])  # norm 5


def draws() -> StepRNG:
    return StepRNG(0, "test", 0, CPU)


def evaluate(penalty: Penalty, discriminator: Discriminator, real: Tensor, fake: Tensor) -> Tensor:
    """The penalty of each example, with the forward passes that the game shares with it."""
    passes = [
        ForwardPass(discriminator, x, keeps_graph=side in penalty.takes_gradient_of)
        for side, x in {"real": real, "fake": fake}.items()
    ]
    return penalty(discriminator, *passes, draws())


def linear(x: Tensor) -> Tensor:
    return x @ WEIGHTS


def quadratic(x: Tensor) -> Tensor:
    """A discriminator with gradient 2 x."""
    return x.square().flatten(1).sum(1)


def twice_norm(x: Tensor) -> Tensor:
    return 2 * x.flatten(1).norm(dim=1)


@pytest.mark.parametrize(
    ("penalty", "expected"),
    [
        (R1(weight=0.7), 0.35 * 25),
        (R2(weight=0.7), 0.35 * 25),
        (GradientPenalty(weight=10.0), 160.0),
        (DRAGAN(weight=10.0), 160.0),
        (ZeroCentered(weight=0.7), 0.7 * 25),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_penalty_has_the_closed_form_of_a_linear_discriminator(penalty: Penalty, expected: float) -> None:
    found = evaluate(penalty, linear, torch.randn(5, 2), torch.randn(5, 2))
    torch.testing.assert_close(found, torch.full((5,), expected))


def test_each_example_has_the_closed_form_of_a_quadratic_discriminator() -> None:
    """A norm over the whole batch, as some libraries take it, would give every example the same value."""
    real, fake = torch.randn(5, 1, 2, 3), 3 * torch.randn(5, 1, 2, 3)
    expected: list[tuple[Penalty, Tensor, Tensor]] = [
        (R1(weight=0.7), fake, 0.35 * twice_norm(real) ** 2),
        (R2(weight=0.7), fake, 0.35 * twice_norm(fake) ** 2),
        (DRAGAN(weight=10.0, noise=0.0), fake, 10 * (twice_norm(real) - 1) ** 2),
        (GradientPenalty(weight=10.0), real, 10 * (twice_norm(real) - 1) ** 2),  # real itself is between
        (ZeroCentered(weight=0.7), real, 0.7 * twice_norm(real) ** 2),
    ]
    for penalty, other, value in expected:
        torch.testing.assert_close(evaluate(penalty, quadratic, real, other), value)


def test_gradient_penalties_sample_the_line_between_real_and_fake_uniformly() -> None:
    real, fake = torch.zeros(1000, 2), torch.full((1000, 2), 3.0)
    share = (evaluate(ZeroCentered(weight=1.0), quadratic, real, fake) / twice_norm(fake) ** 2).sqrt()
    assert_uniform(share)
    distance_from_1 = evaluate(GradientPenalty(weight=1.0), quadratic, real, fake).sqrt()
    torch.testing.assert_close(distance_from_1, (share * twice_norm(fake) - 1).abs(), atol=1e-4, rtol=1e-4)


def test_the_noise_of_dragan_is_a_multiple_of_the_standard_deviation_of_the_real_examples() -> None:
    real = 100 + 2 * torch.randn(5000, 1, generator=torch.Generator().manual_seed(0))
    penalty = evaluate(DRAGAN(weight=1.0, noise=0.5), quadratic, real, real)
    noise = (penalty.sqrt() + 1) / 2 - real[:, 0]  # the penalty is (2 x - 1)^2 at x = real + noise
    assert abs(noise.mean().item()) < 0.05
    assert noise.std().item() == pytest.approx(0.5 * 2, rel=0.05)
    assert abs(torch.corrcoef(torch.stack([noise, real[:, 0]]))[0, 1].item()) < 0.05


def assert_uniform(share: Tensor) -> None:
    assert 0 <= share.min() < 0.01
    assert 0.99 < share.max() <= 1
    assert abs(share.mean().item() - 0.5) < 0.03
    assert abs(share.square().mean().item() - 1 / 3) < 0.03


def test_interpolates_lie_on_the_line_from_each_real_example_to_its_fake_one() -> None:
    real, fake = torch.zeros(1000, 2), torch.tensor([[1.0, 2.0]]).expand(1000, 2)
    between = interpolates(real, fake, draws())
    torch.testing.assert_close(between[:, 1], 2 * between[:, 0])
    assert_uniform(between[:, 0])


@pytest.mark.parametrize("kind", [R1, R2, GradientPenalty, DRAGAN, ZeroCentered])
def test_the_derivative_of_each_penalty_equals_finite_differences(kind: type[Penalty]) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1), nn.Flatten(0)).double()
    real, fake = torch.randn(2, 6, 3, dtype=torch.float64)

    def value(weight: Tensor) -> Tensor:
        parameters = dict(network.named_parameters()) | {"0.weight": weight}
        discriminator = lambda x: torch.func.functional_call(network, parameters, x)  # noqa: E731
        return evaluate(kind(weight=1.0), discriminator, real, fake).sum()

    weight = network[0].weight.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(value, (weight,))


@pytest.mark.parametrize("kind", [R1, R2])
def test_a_penalty_shares_the_forward_pass_of_the_loss(kind: type[Penalty]) -> None:
    calls: list[Tensor] = []

    def counted(x: Tensor) -> Tensor:
        calls.append(x)
        return quadratic(x)

    real, fake = torch.randn(2, 5, 2)
    game = Game(NonSaturating(), {"p": kind(weight=0.7)})
    shared = game.discriminator_loss(counted, real, fake, draws(), {"p": 1.0})
    assert len(calls) == 2
    separate = kind(weight=0.7)(quadratic, ForwardPass(quadratic, real), ForwardPass(quadratic, fake), draws()).mean()
    torch.testing.assert_close(shared.penalties["p"], separate)


def test_a_gradient_of_zero_has_a_finite_penalty_and_derivative() -> None:
    weight = torch.zeros(2, requires_grad=True)
    evaluate(GradientPenalty(weight=1.0), lambda x: x @ weight, torch.ones(3, 2), torch.ones(3, 2)).sum().backward()
    assert weight.grad.isfinite().all()


def test_dragan_of_a_single_number_is_finite() -> None:
    assert evaluate(DRAGAN(weight=1.0), quadratic, torch.ones(1, 1), torch.ones(1, 1)).isfinite().all()


def test_a_lazy_penalty_sums_to_the_same_as_one_in_every_update() -> None:
    real = torch.randn(4, 2)

    def values(penalty: Penalty) -> list[float]:
        game = Game(NonSaturating(), {"p": penalty})
        factors = [game.penalty_factors(update, update / 8) for update in range(8)]
        return [game.discriminator_loss(linear, real, real, draws(), each).penalties["p"].item() for each in factors]

    always, lazy = values(R1(weight=1.0)), values(R1(weight=1.0, interval=4))
    assert sum(lazy) == pytest.approx(sum(always))
    assert [value > 0 for value in lazy] == [True, False, False, False] * 2
    fading = values(R1(weight=1.0, schedule=LinearDecay()))
    assert fading == pytest.approx([12.5 * (1 - update / 8) for update in range(8)])


def test_schedules_by_hand() -> None:
    assert Constant()(0.9) == 1
    assert [LinearDecay(start=0.5, end=0.2)(p) for p in (0.0, 0.5, 0.75, 1.0)] == pytest.approx([1, 1, 0.6, 0.2])
    warm = Cosine(warm_up=0.1, end=0.5)
    assert [warm(p) for p in (0.0, 0.05, 0.1, 0.55, 1.0)] == pytest.approx([0, 0.5, 1, 0.75, 0.5])
    assert Cosine()(0.25) == pytest.approx((1 + math.sqrt(0.5)) / 2)
