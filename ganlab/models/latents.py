"""Distributions of the latents."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from ganlab.config.ranges import Factor


class Latent(ABC):
    @abstractmethod
    def __call__(self, size: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Sample a float32 tensor of independent numbers of the given size on the CPU."""


class Normal(Latent):
    """Standard normal distribution."""

    def __call__(self, size: tuple[int, ...], generator: torch.Generator) -> Tensor:
        return torch.randn(size, generator=generator)


class Uniform(Latent):
    """Uniform distribution on [-1, 1)."""

    def __call__(self, size: tuple[int, ...], generator: torch.Generator) -> Tensor:
        return torch.rand(size, generator=generator) * 2 - 1


class Truncated(Latent):
    """Standard normal distribution truncated to [-bound, bound] (Brock, Donahue and Simonyan, 2019, section 3.1).

    Sampled by inverting the cumulative distribution function, which uses a fixed number of random numbers, unlike
    rejection sampling.
    """

    def __init__(self, bound: Factor = 2.0) -> None:
        self.bound = bound

    def __call__(self, size: tuple[int, ...], generator: torch.Generator) -> Tensor:
        probability = math.erf(self.bound / math.sqrt(2))  # of [-bound, bound]
        uniform = (torch.rand(size, generator=generator, dtype=torch.float64) * 2 - 1) * probability
        return (math.sqrt(2) * torch.erfinv(uniform)).to(torch.get_default_dtype())
