"""Everything random is a function of (seed, stream, index)."""

from __future__ import annotations

import torch

from ganlab.data.batches import Batches, to_model_range, to_unit_range
from ganlab.randomness import BLOCK, Noise, seed_of, seeded


def test_noise_of_a_step_does_not_depend_on_what_was_drawn_before() -> None:
    cpu = torch.device("cpu")
    in_order, jumping = Noise(3, 4, 7, cpu), Noise(3, 4, 7, cpu)
    drawn = [in_order(step).clone() for step in range(BLOCK + 2)]
    for step in (BLOCK + 1, 0, BLOCK - 1):
        torch.testing.assert_close(jumping(step), drawn[step], rtol=0, atol=0)
    assert not torch.equal(Noise(3, 4, 8, cpu)(0), drawn[0])


def test_noise_is_standard_normal() -> None:
    noise = torch.cat([Noise(16, 256, 0, torch.device("cpu"))(step) for step in range(8)])
    assert abs(noise.mean().item()) < 0.02
    assert abs(noise.std().item() - 1) < 0.02


def test_an_epoch_shows_every_example_once_but_the_incomplete_batch() -> None:
    data = torch.arange(10.0)[:, None]
    batches = Batches(data, batch_size=3, seed=0)
    assert batches.per_epoch == 3
    epochs = [torch.cat([batches(3 * epoch + i) for i in range(3)]).flatten().tolist() for epoch in range(2)]
    for epoch in epochs:
        assert len(set(epoch)) == 9
    assert epochs[0] != epochs[1]
    torch.testing.assert_close(Batches(data, 3, 0)(4), torch.tensor(epochs[1])[3:6, None])


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
    torch.testing.assert_close((to_unit_range(inside) * 255).round().to(torch.uint8), images)
