"""Diagnostics of training besides the losses, measured on the current networks whenever metrics are logged."""

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
from ganlab.rng import make_rng
from ganlab.sampling import sample

NUM_SAMPLES = 128  # whose diversity is measured


class Diagnostics:
    """Gradient norms of the last update, after clipping, and the diversity of samples from fixed noise.

    Args:
        data: all real examples [N, ...]; a subset of them is the reference for diversity.
    """

    def __init__(self, players: Players, data: Tensor, seed: int) -> None:
        self.players = players
        z, label = players.draw(NUM_SAMPLES, seed, "dynamics")
        self.z = z.to(data.device)
        self.label = None if label is None else label.to(data.device)
        chosen = torch.randperm(len(data), generator=make_rng(seed, "dynamics", 1))[:NUM_SAMPLES]
        self.real = NO_UNITS.outside(to_model_range(data[chosen.to(data.device)]))

    def measure(self) -> dict[str, float]:
        """Return diagnostics by name; diversity is that of the raw generator relative to the real examples."""
        values = {
            "gradient_generator": _norm(self.players.generator.parameters()),
            "gradient_discriminator": _norm(self.players.discriminator.parameters()),
        }
        with suppress(DataError):  # samples are not finite, or all data are equal
            values["diversity"] = diversity(sample(self.players.generator, self.z, self.label), self.real)
        return values


class MeasuredDiagnostics(Diagnostics):
    """Diagnostics of a member of a population, which are measured together with those of the others."""

    def __init__(self) -> None:
        self.values: dict[str, float] = {}

    def measure(self) -> dict[str, float]:
        return self.values


def _norm(parameters: Iterable[Tensor]) -> float:
    """Norm of the gradients left by the last update."""
    return torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]).item()
