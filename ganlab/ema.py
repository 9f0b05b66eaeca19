"""The running average of the generator's weights, which samples better than any single moment of training."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class AveragedGenerator:
    """An exponential moving average with its half-life in images seen, so that it means the same at any batch size.

    Early on the half-life is at most a twentieth of the images seen so far, or the random start would linger
    (the ramp of Karras et al., 2020, StyleGAN2).
    """

    ramp = 0.05

    def __init__(self, generator: nn.Module, half_life: float, batch_size: int) -> None:
        self.module = copy.deepcopy(generator).eval().requires_grad_(False)
        self.half_life = half_life
        self.batch_size = batch_size

    def decay(self, step: int) -> float:
        """The weight of the past in step number `step`, counted from 1."""
        half_life = min(self.half_life, self.ramp * step * self.batch_size)
        return 0.5 ** (self.batch_size / half_life)

    @torch.no_grad()
    def update(self, generator: nn.Module, step: int) -> None:
        average: list[Tensor] = list(self.module.parameters())
        current: list[Tensor] = list(generator.parameters())
        torch._foreach_lerp_(average, current, 1 - self.decay(step))
        for mine, theirs in zip(self.module.buffers(), generator.buffers(), strict=True):
            mine.copy_(theirs)
