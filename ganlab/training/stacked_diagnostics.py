"""Diagnostics of all members of a population, measured at once."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.func import vmap

from ganlab.data.units import NO_UNITS
from ganlab.sampling import evaluating
from ganlab.training.diagnostics import Diagnostics, MeasuredDiagnostics
from ganlab.training.stacked_network import StackedNetwork


class StackedDiagnostics:
    """Measures what each member's own `Diagnostics` would return.

    Attributes:
        measured: the diagnostics of each member.
    """

    def __init__(
        self, members: Sequence[Diagnostics], generator: StackedNetwork, discriminator: StackedNetwork
    ) -> None:
        self.generator, self.discriminator = generator, discriminator
        self.latents = torch.stack([member.z for member in members])
        labels = [member.label for member in members if member.label is not None]
        self.labels = (torch.stack(labels),) if labels else ()
        self.real_distance = mean_distance(torch.stack([member.real for member in members]))
        self.measured = [MeasuredDiagnostics() for _ in members]

    @torch.no_grad()
    def measure(self) -> None:
        """Measure the current networks."""
        with evaluating(self.generator.template):
            samples = vmap(self.generator.call)(self.generator.state, self.latents, *self.labels)
        samples = NO_UNITS.outside(samples.flatten(0, 1)).unflatten(0, samples.shape[:2])
        numbers = {
            "gradient_generator": self.generator.gradients.norm(dim=1).tolist(),
            "gradient_discriminator": self.discriminator.gradients.norm(dim=1).tolist(),
            "diversity": (mean_distance(samples) / self.real_distance).tolist(),
        }
        for index, member in enumerate(self.measured):
            member.values = {name: values[index] for name, values in numbers.items() if math.isfinite(values[index])}


def mean_distance(x: Tensor) -> Tensor:
    """Mean distance [M] between the examples of each set, x [M, N, ...]."""
    x = x.flatten(2).double()
    num = x.shape[1]
    distances = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
    return distances.sum((1, 2)) / (num * (num - 1))
