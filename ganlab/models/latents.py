"""What latents are drawn from."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from ganlab.config.ranges import Factor


class Latent(ABC):
    @abstractmethod
    def __call__(self, size: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Independent numbers, float32, in a tensor of that size on the CPU."""


class Normal(Latent):
    """The standard normal distribution."""

    def __call__(self, size: tuple[int, ...], generator: torch.Generator) -> Tensor:
        return torch.randn(size, generator=generator)


class Uniform(Latent):
    """Evenly in [-1, 1)."""

    def __call__(self, size: tuple[int, ...], generator: torch.Generator) -> Tensor:
        return torch.rand(size, generator=generator) * 2 - 1


class Truncated(Latent):
    """The standard normal distribution where it is within [-bound, bound] (Brock, Donahue and Simonyan, 2019, 3.1).

    By the inverse of its cumulative distribution, so that the number of draws does not depend on what is drawn.
    """

    def __init__(self, bound: Factor = 2.0) -> None:
        self.bound = bound

    def __call__(self, size: tuple[int, ...], generator: torch.Generator) -> Tensor:
        inside = math.erf(self.bound / math.sqrt(2))  # its probability
        evenly = (torch.rand(size, generator=generator, dtype=torch.float64) * 2 - 1) * inside
        return (math.sqrt(2) * torch.erfinv(evenly)).float()
