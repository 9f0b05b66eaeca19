"""Everything random is a function of (seed, stream, index)."""

from __future__ import annotations

import torch

from ganlab.data.batches import Batches, to_model_range
from ganlab.data.units import AffineUnits
from ganlab.models.latents import Normal, Truncated, Uniform
from ganlab.rng import BLOCK, StepRNG, make_rng, seed_of, seeded
from ganlab.training.noise import Noise


def test_noise_of_a_step_does_not_depend_on_what_was_drawn_before() -> None:
    cpu = torch.device("cpu")
    in_order, jumping = Noise(Normal(), 3, 4, 7, cpu), Noise(Normal(), 3, 4, 7, cpu)
    drawn = [in_order(step).clone() for step in range(BLOCK + 2)]
    for step in (BLOCK + 1, 0, BLOCK - 1):
        torch.testing.assert_close(jumping(step), drawn[step], rtol=0, atol=0)
    assert not torch.equal(Noise(Normal(), 3, 4, 8, cpu)(0), drawn[0])


def test_noise_is_standard_normal() -> None:
    noise = torch.cat([Noise(Normal(), 16, 256, 0, torch.device("cpu"))(step) for step in range(8)])
    assert abs(noise.mean().item()) < 0.02
    assert abs(noise.std().item() - 1) < 0.02


def test_an_epoch_shows_every_example_once_but_the_incomplete_batch() -> None:
    data = torch.arange(10.0)[:, None]
    batches = Batches(data, batch_size=3, seed=0)
    assert batches.per_epoch == 3
    epochs = [torch.cat([batches(3 * epoch + i).x for i in range(3)]).flatten().tolist() for epoch in range(2)]
    for epoch in epochs:
        assert len(set(epoch)) == 9
    assert epochs[0] != epochs[1]
    torch.testing.assert_close(Batches(data, 3, 0)(4).x, torch.tensor(epochs[1])[3:6, None])


def test_streams_and_indices_have_seeds_of_their_own() -> None:
    seeds = {seed_of(s, stream, i) for s in range(10) for stream in ("noise", "shuffle") for i in range(50)}
    assert len(seeds) == 1000
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_seeding_for_weights_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(1)
    expected = torch.randn(3)
    torch.manual_seed(1)
    with seeded(0, "weights"):
        first = torch.randn(3)
    torch.testing.assert_close(torch.randn(3), expected)
    with seeded(0, "weights"):
        torch.testing.assert_close(torch.randn(3), first)


def test_bytes_become_minus_one_to_one_and_come_back() -> None:
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    inside = to_model_range(images)
    assert inside.min().item() == -1
    assert inside.max().item() == 1
    torch.testing.assert_close((AffineUnits().outside(inside) * 255).round().to(torch.uint8), images)


def test_points_leave_in_the_units_of_their_data_and_come_back() -> None:
    points = torch.tensor([[-1.0, 0.5], [1.0, 0.0]])
    units = AffineUnits((10.0, 20.0), 4.0)
    torch.testing.assert_close(units.outside(points), torch.tensor([[6.0, 22.0], [14.0, 20.0]]))
    torch.testing.assert_close(units.inside(units.outside(points)), points)
    far = torch.tensor([[1e9 + 3]], dtype=torch.float64)  # more digits than a float32 has
    assert AffineUnits((1e9 + 1,)).inside(far).item() == 2


def test_labels_and_mirroring_go_with_their_examples() -> None:
    labels = torch.arange(64)
    data = labels.to(torch.uint8)[:, None, None, None].repeat(1, 1, 4, 4)
    data[..., 0] = 0  # a dark left edge, which a flip moves to the right
    batches = Batches(data, 32, seed=0, labels=labels, flip=True)
    x, label = batches(5)
    assert label is not None
    shown = ((x + 1) * 127.5).round().long()
    assert torch.equal(shown[:, 0, 0, 1], label)
    mirrored = shown[:, 0, 0, 0] != 0
    assert torch.equal(shown[mirrored, 0, 0, 3], torch.zeros(int(mirrored.sum()), dtype=torch.int64))
    assert 6 <= int(mirrored.sum()) <= 26
    again = Batches(data, 32, seed=0, labels=labels, flip=True)(5)
    torch.testing.assert_close(again.x, x, rtol=0, atol=0)


def test_latents_have_the_distribution_of_their_name() -> None:
    size = (20_000, 5)
    for latent, bound, std in (
        (Normal(), 10.0, 1.0),
        (Uniform(), 1.0, 3**-0.5),
        (Truncated(bound=1.0), 1.0, 0.5396),  # sqrt(1 - 2 phi(1) / (2 Phi(1) - 1))
    ):
        z = latent(size, make_rng(0, "test"))
        assert z.dtype == torch.float32
        assert z.abs().max().item() <= bound
        assert abs(z.mean().item()) < 0.01
        assert abs(z.std().item() - std) < 0.01


def test_draws_are_those_of_their_source_whatever_else_was_drawn() -> None:
    cpu = torch.device("cpu")
    first = StepRNG(0, "discriminator", 7, cpu)
    numbers = first.uniform(3), first.normal(2)
    torch.rand(5)
    again = StepRNG(0, "discriminator", 7, cpu)
    assert torch.equal(again.uniform(3), numbers[0])
    assert torch.equal(again.normal(2), numbers[1])
    assert not torch.equal(StepRNG(0, "generator", 7, cpu).uniform(3), numbers[0])
