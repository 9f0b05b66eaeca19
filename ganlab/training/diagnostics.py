"""What shows how training goes, besides the losses: measured whenever metrics are logged, of the moment's networks."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

import torch
from torch import Tensor

from ganlab.data.batches import to_model_range
from ganlab.data.units import NO_UNITS
from ganlab.errors import DataError
from ganlab.game import Players
from ganlab.metrics.diversity import diversity
from ganlab.rng import generator
from ganlab.sampling import sample

COUNT = 128  # of samples whose diversity is measured


class Diagnostics:
    """Gradient norms of the last update, after clipping, and the diversity of samples of fixed noise.

    Args:
        data: all real examples [N, ...], of which some are what the samples are measured against.
    """

    def __init__(self, players: Players, data: Tensor, seed: int) -> None:
        self.players = players
        z, label = players.draw(COUNT, seed, "dynamics")
        self.z = z.to(data.device)
        self.label = None if label is None else label.to(data.device)
        chosen = torch.randperm(len(data), generator=generator(seed, "dynamics", 1))[:COUNT]
        self.real = NO_UNITS.outside(to_model_range(data[chosen.to(data.device)]))

    def measure(self) -> dict[str, float]:
        """Numbers by name; the diversity is that of the raw generator's samples as a share of the real examples'."""
        numbers = {
            "gradient_generator": _norm(self.players.generator.parameters()),
            "gradient_discriminator": _norm(self.players.discriminator.parameters()),
        }
        with suppress(DataError):  # of a generator that makes no numbers, or of data that are all alike
            numbers["diversity"] = diversity(sample(self.players.generator, self.z, self.label), self.real)
        return numbers


def _norm(parameters: Iterable[Tensor]) -> float:
    """Of the gradient that the last update left."""
    return torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]).item()
