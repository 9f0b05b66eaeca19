"""Mixtures of Gaussians with equal weights in the plane, as in the released code of PacGAN.

Lin, Khetan, Fanti and Oh, "PacGAN: The power of two samples in generative adversarial networks", 2018.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ganlab.config.ranges import NumExamples, Seed
from ganlab.config.stackable import Stackable
from ganlab.data.dataset import Examples
from ganlab.data.points import MAX_SIGMAS, RandomPoints
from ganlab.data.units import AffineUnits


class Mixture(RandomPoints):
    """Base class of the mixtures.

    Attributes:
        modes: means of the components [K, 2], in data units.
        sigma: standard deviation of each component, in both coordinates.

    Args:
        num_examples: number of examples to draw.
        seed: seed of the dataset.
    """

    name: str
    modes: Tensor
    sigma: float

    def __init__(self, num_examples: NumExamples = 100_000, seed: Stackable[Seed] = 0) -> None:
        super().__init__(num_examples, seed)
        self.classes = tuple(map(str, range(len(self.modes))))

    def draw(self, num: int, rng: torch.Generator) -> Examples:
        mode = torch.randint(len(self.modes), (num,), generator=rng)
        points = self.modes[mode] + self.sigma * torch.randn(num, 2, generator=rng)
        # Computed from the parameters, not the points, so that the units do not depend on the seed
        scale = self.modes.abs().max().item() + MAX_SIGMAS * self.sigma
        return Examples.of_points(points, mode, "drawn", AffineUnits(scale=scale))


class Ring8(Mixture):
    """Eight modes, evenly spaced on the unit circle, counter-clockwise from (1, 0)."""

    name = "ring8"
    sigma = 0.01
    modes = torch.tensor([[math.cos(k * math.pi / 4), math.sin(k * math.pi / 4)] for k in range(8)])


class Grid25(Mixture):
    """Twenty-five modes on the grid {-4, -2, 0, 2, 4}^2, row by row from the lower left."""

    name = "grid25"
    sigma = 0.05
    modes = torch.tensor([[float(x), float(y)] for y in range(-4, 5, 2) for x in range(-4, 5, 2)])
