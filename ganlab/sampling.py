"""Drawing samples from a generator, and the discriminator's logits of examples."""

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
    """The network as it is used, not trained: no dropout, no batch statistics, no gradients; then as it was."""
    was_training = network.training
    network.eval()
    with torch.no_grad():
        yield network
    network.train(was_training)


def class_averaged_logits(players: Players, x: Tensor) -> Tensor:
    """The discriminator's logits of examples [N, ...]: [N]; over its classes, their mean.

    A discriminator of packs is given packs of the same example.
    """
    x = packed(x.repeat_interleave(players.pack, 0), players.pack)
    with evaluating(players.discriminator) as discriminator:
        if not players.num_classes:
            return discriminator(x)
        labels = (torch.full((len(x),), label, device=x.device) for label in range(players.num_classes))
        return torch.stack([discriminator(x, label) for label in labels]).mean(0)


@dataclass(frozen=True)
class Sampler:
    """Draws samples from a generator of these players, be it the averaged one."""

    generator: nn.Module
    players: Players
    units: AffineUnits = NO_UNITS

    def batches(self, num: int, seed: int, label: int | None = None, size: int = 500) -> Iterator[Samples]:
        """`num` samples, `size` at a time. Sample number i depends on the seed and i alone.

        Args:
            label: the class of all of them; None: of all classes, evenly, where the generator is told them.
        """
        device = next(self.generator.parameters()).device
        drawn = [self.players.draw(BLOCK, seed, "sample", index) for index in range(-(-num // BLOCK))]
        z = torch.cat([z for z, _ in drawn])[:num]
        labels = torch.cat([y for _, y in drawn if y is not None])[:num] if self.players.num_classes else None
        if label is not None:
            labels = torch.full((num,), label)
        for start in range(0, num, size):
            part = None if labels is None else labels[start : start + size].to(device)
            yield Samples(sample(self.generator, z[start : start + size].to(device), part, self.units), part)


def sample(
    generator: nn.Module, z: Tensor, label: Tensor | None = None, units: AffineUnits = NO_UNITS, batch_size: int = 500
) -> Tensor:
    """Examples for latents [N, latent_dim], as they look outside: images in [0, 1] [N, C, H, W], points [N, D]."""
    labels = [None] * len(z.split(batch_size)) if label is None else label.split(batch_size)
    with evaluating(generator):
        parts = [bind_label(generator, y)(part) for part, y in zip(z.split(batch_size), labels, strict=True)]
    return units.outside(torch.cat(parts)).contiguous()
