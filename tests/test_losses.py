"""Losses against closed forms, and at their known optima."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from ganlab.augment import DiffAugment
from ganlab.game import Game, discriminator_stats, packed
from ganlab.losses import (
    Hinge,
    LeastSquares,
    Loss,
    NonSaturating,
    Relativistic,
    RelativisticAverage,
    Saturating,
    Wasserstein,
)
from ganlab.penalties import R1
from ganlab.rng import StepRNG

CPU = torch.device("cpu")
LOSSES: list[Loss] = [
    *(NonSaturating(), Saturating(), LeastSquares(), Hinge(), Wasserstein()),
    *(Relativistic(), RelativisticAverage()),
]


def draws() -> StepRNG:
    return StepRNG(0, "test", 0, CPU)


def logits() -> tuple[Tensor, Tensor]:
    real, fake = torch.randn(2, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return real, fake


def test_non_saturating_is_the_cross_entropy_of_the_tutorial() -> None:
    real, fake = logits()
    entropy = nn.BCELoss(reduction="none")
    ones, zeros = torch.ones_like(real), torch.zeros_like(real)
    expected = entropy(real.sigmoid(), ones) + entropy(fake.sigmoid(), zeros)
    torch.testing.assert_close(NonSaturating().discriminator(real, fake), expected)
    torch.testing.assert_close(NonSaturating().generator(None, fake), entropy(fake.sigmoid(), ones))


def test_saturating_is_minimax_what_one_player_loses_the_other_wins() -> None:
    real, fake = logits()
    torch.testing.assert_close(Saturating().generator(None, fake), torch.log(1 - fake.sigmoid()))
    torch.testing.assert_close(Saturating().discriminator(real, fake), NonSaturating().discriminator(real, fake))


@pytest.mark.parametrize("loss", [NonSaturating, Saturating])
def test_smoothing_moves_the_target_of_real_examples_alone(loss: type[NonSaturating]) -> None:
    real, fake = logits()
    entropy = nn.BCELoss(reduction="none")
    expected = entropy(real.sigmoid(), torch.full_like(real, 0.9)) + entropy(fake.sigmoid(), torch.zeros_like(fake))
    torch.testing.assert_close(loss(smoothing=0.1).discriminator(real, fake), expected)
    torch.testing.assert_close(loss(smoothing=0.1).generator(None, fake), loss().generator(None, fake))


def test_of_a_guess_the_losses_are_their_known_values() -> None:
    zero = torch.zeros(3, dtype=torch.float64)
    log2 = math.log(2)
    expected = {
        NonSaturating: (2 * log2, log2),
        Saturating: (2 * log2, -log2),
        LeastSquares: (0.5, 0.5),
        Hinge: (2.0, 0.0),
        Wasserstein: (0.0, 0.0),
        Relativistic: (log2, log2),
        RelativisticAverage: (2 * log2, 2 * log2),
    }
    for loss in LOSSES:
        discriminator, generator = expected[type(loss)]
        assert loss.discriminator(zero, zero).tolist() == pytest.approx([discriminator] * 3)
        assert loss.generator(zero, zero).tolist() == pytest.approx([generator] * 3)


def test_losses_of_margins_and_distances_by_hand() -> None:
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 1.0])
    assert Hinge().discriminator(real, fake).tolist() == [0.0, 2.5]
    assert Hinge().generator(None, fake).tolist() == [3.0, -1.0]
    assert LeastSquares().discriminator(real, fake).tolist() == [5.0, 0.625]
    assert LeastSquares().generator(None, fake).tolist() == [8.0, 0.0]
    assert Wasserstein().discriminator(real, fake).tolist() == [-5.0, 0.5]


def test_relativistic_losses_see_differences_alone() -> None:
    real, fake = logits()
    for loss in (Relativistic(), RelativisticAverage()):
        for player in (loss.discriminator, loss.generator):
            torch.testing.assert_close(player(real + 5, fake + 5), player(real, fake))
    pairs = -torch.log(torch.sigmoid(real - fake))
    torch.testing.assert_close(Relativistic().discriminator(real, fake), pairs)
    torch.testing.assert_close(Relativistic().generator(fake, real), pairs)
    average = -torch.log(torch.sigmoid(real - fake.mean())) - torch.log(1 - torch.sigmoid(fake - real.mean()))
    torch.testing.assert_close(RelativisticAverage().discriminator(real, fake), average)


@pytest.mark.parametrize(
    ("loss", "optimum"),
    [
        (NonSaturating(), math.log(3)),  # log(p / q)
        (LeastSquares(), 0.75),  # p / (p + q): Mao et al., eq. 5 with labels 0 and 1
        (Hinge(), 1.0),  # the sign of p - q
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_optimal_discriminator_is_the_one_that_the_paper_gives(loss: Loss, optimum: float) -> None:
    """At a point where the density of real data is three times that of fake data."""
    logit = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([logit], lr=0.05)
    for _ in range(2000):
        real, fake = loss.discriminator(logit, torch.zeros(1)), loss.discriminator(torch.zeros(1), logit)
        optimizer.zero_grad()
        (0.75 * real + 0.25 * fake).sum().backward()
        optimizer.step()
    assert logit.item() == pytest.approx(optimum, abs=0.06)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_losses_are_per_example_finite_far_out_and_pull_the_right_way(loss: Loss) -> None:
    far = torch.tensor([-200.0, 200.0])
    for player in (loss.discriminator, loss.generator):
        assert player(far, far.flip(0)).shape == (2,)
        assert player(far, far.flip(0)).isfinite().all()
    real, fake = torch.full((4,), 0.5, requires_grad=True), torch.full((4,), 0.5, requires_grad=True)
    loss.discriminator(real, fake).sum().backward()
    assert (real.grad < 0).all()  # the discriminator raises the logits of real examples,
    assert (fake.grad > 0).all()  # and lowers those of fake ones,
    fake.grad = None
    loss.generator(real, fake).sum().backward()
    assert (fake.grad < 0).all()  # which the generator raises


def test_game_adds_the_penalties_to_what_the_discriminator_minimises() -> None:
    game = Game(NonSaturating(), {"a": R1(weight=1.0), "b": R1(weight=2.0)})
    d = game.discriminator_loss(lambda x: x.sum(1), *torch.zeros(2, 4, 2), draws(), {"a": 1.0, "b": 1.0})
    assert d.penalties["a"].item() == pytest.approx(1.0)  # 1/2 * || (1, 1) ||^2
    assert d.penalties["b"].item() == pytest.approx(2.0)
    assert d.total.item() == pytest.approx(math.log(4) + 3.0)


def test_a_relativistic_generator_is_paired_with_the_real_batch() -> None:
    real, fake = torch.randn(5, 1), torch.randn(5, 1)
    found = Game(Relativistic(), {}).generator_loss(lambda x: x.squeeze(1), real, fake, draws())
    torch.testing.assert_close(found, nn.functional.softplus(real - fake).mean())


def test_packs_join_neighbours_along_the_channels() -> None:
    x = torch.arange(24).view(4, 1, 2, 3)
    assert packed(x, 1) is x
    pairs = packed(x, 2)
    assert pairs.shape == (2, 2, 2, 3)
    assert torch.equal(pairs[1, 0], x[2, 0])
    assert torch.equal(pairs[1, 1], x[3, 0])


def test_augmentation_sees_single_examples_not_packs() -> None:
    """Contrast in a pack of a dark and a light image uses the mean of each image, not of the pack."""
    images = torch.tensor([-1.0, 1.0]).repeat(8).view(16, 1, 1, 1).expand(16, 1, 4, 4)
    seen: list[Tensor] = []

    def look(x: Tensor) -> Tensor:
        seen.append(x)
        return x.mean((1, 2, 3))

    Game(NonSaturating(), {}, DiffAugment(translation=0.0, cutout=0.0), pack=2).discriminator_loss(
        look, images, images, draws(), {}
    )
    packs = seen[0]
    assert packs.shape == (8, 2, 4, 4)
    assert ((packs[:, 0] + 1).abs() <= 0.5).all()  # only brightness changes a uniform image
    assert ((packs[:, 1] - 1).abs() <= 0.5).all()


def test_accuracy_is_judged_where_the_loss_is_undecided() -> None:
    real, fake = torch.tensor([[0.6], [0.7]]), torch.tensor([[0.2], [0.4]])
    shifted = real + 100, fake + 100

    def accuracy(loss: Loss, real: Tensor, fake: Tensor) -> float:
        seen = Game(loss, {}).discriminator_loss(lambda x: x.squeeze(1), real, fake, draws(), {}).stats
        return (seen.accuracy_real.item() + seen.accuracy_fake.item()) / 2

    assert accuracy(LeastSquares(), real, fake) == 1.0  # its targets are 1 and 0
    assert accuracy(NonSaturating(), real, fake) == 0.5
    for loss in (Relativistic(), RelativisticAverage(), Wasserstein()):
        assert accuracy(loss, *shifted) == 1.0


def test_a_logit_of_zero_counts_as_real() -> None:
    logits = torch.tensor([0.0, 1.0, -1.0])
    same = discriminator_stats(real=logits, fake=logits)
    assert same.accuracy_real.item() == pytest.approx(2 / 3)
    assert same.accuracy_fake.item() == pytest.approx(1 / 3)
    assert same.logit_gap.item() == 0
    apart = discriminator_stats(real=logits[:2], fake=logits[2:])
    assert [value.item() for value in apart] == [1.0, 1.0, 1.5]
