"""Diagnostics of all members of a population, measured at once."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch.func import vmap

from ganlab.data.units import NO_UNITS
from ganlab.metrics.diversity import mean_distance
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
        self.real_distance = mean_distance(torch.stack([member.real.flatten(1).double() for member in members]))
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
            "diversity": (mean_distance(samples.flatten(2).double()) / self.real_distance).tolist(),
        }
        for index, member in enumerate(self.measured):
            member.values = {name: values[index] for name, values in numbers.items() if math.isfinite(values[index])}
