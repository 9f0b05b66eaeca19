"""Sampling from a generator, and the discriminator's logits for examples."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ganlab.data.dataset import Samples
from ganlab.data.units import NO_UNITS, AffineUnits
from ganlab.game import Players, bind_label, packed
from ganlab.rng import BLOCK


@contextmanager
def evaluating(network: nn.Module) -> Iterator[nn.Module]:
    """Put a network in evaluation mode without gradients, and restore its mode on exit."""
    was_training = network.training
    network.eval()
    with torch.no_grad():
        yield network
    network.train(was_training)


def class_averaged_logits(players: Players, x: Tensor) -> Tensor:
    """Logits [N] of the discriminator for examples [N, ...], averaged over classes if it is conditional.

    If the discriminator takes packs, each pack repeats one example.
    """
    x = packed(x.repeat_interleave(players.pack, 0), players.pack)
    with evaluating(players.discriminator) as discriminator:
        if not players.num_classes:
            return discriminator(x)
        labels = (torch.full((len(x),), label, device=x.device) for label in range(players.num_classes))
        return torch.stack([discriminator(x, label) for label in labels]).mean(0)


@dataclass(frozen=True)
class Sampler:
    """Samples from a generator.

    Attributes:
        generator: the generator of the players, or an average of it.
        units: units of the points it generates.
        weights: `ema` for averaged weights, `raw` for those of the last update.
    """

    generator: nn.Module
    players: Players
    units: AffineUnits = NO_UNITS
    weights: str = "raw"

    def batches(self, num: int, seed: int, label: int | None = None, size: int = 500) -> Iterator[Samples]:
        """Yield `num` samples, `size` at a time. Sample number i depends only on the seed and i.

        Args:
            label: class of all samples. None samples classes uniformly if the generator is conditional.
        """
        device = next(self.generator.parameters()).device
        blocks = [self.players.draw(BLOCK, seed, "sample", index) for index in range(-(-num // BLOCK))]
        z = torch.cat([z for z, _ in blocks])[:num]
        labels = torch.cat([y for _, y in blocks if y is not None])[:num] if self.players.num_classes else None
        if label is not None:
            labels = torch.full((num,), label)
        for start in range(0, num, size):
            y = None if labels is None else labels[start : start + size].to(device)
            yield Samples(sample(self.generator, z[start : start + size].to(device), y, self.units), y)


def sample(
    generator: nn.Module, z: Tensor, label: Tensor | None = None, units: AffineUnits = NO_UNITS, batch_size: int = 500
) -> Tensor:
    """Map latents [N, latent_dim] to images [N, C, H, W] in [0, 1], or to points [N, D] in the units of the data."""
    labels = [None] * len(z.split(batch_size)) if label is None else label.split(batch_size)
    with evaluating(generator):
        parts = [bind_label(generator, y)(part) for part, y in zip(z.split(batch_size), labels, strict=True)]
    return units.outside(torch.cat(parts)).contiguous()
