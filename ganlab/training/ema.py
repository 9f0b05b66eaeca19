"""Exponential moving average of the generator's weights, which gives better samples than the current weights."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from ganlab.models import spectral_norm


class AveragedGenerator:
    """Exponential moving average of a generator, with its half-life in images so that it does not depend on batch size.

    Buffers are copied, except the singular vectors of spectral normalisation, which are updated from the averaged
    weights.

    Args:
        ramp: limits the half-life to this fraction of the images seen so far, so that the initial weights are forgotten
            early (Karras et al., 2020, StyleGAN2). None for no limit.
    """

    def __init__(self, generator: nn.Module, half_life: float, batch_size: int, ramp: float | None = 0.05) -> None:
        self.module = copy.deepcopy(generator).eval().requires_grad_(False)
        self.copied = _copied(self.module)
        self.half_life = half_life
        self.batch_size = batch_size
        self.ramp = ramp

    @property
    def settings(self) -> tuple[float, int, float | None]:
        return self.half_life, self.batch_size, self.ramp

    def decay(self, step: int) -> float:
        """Return the decay of the average in step number `step`, counted from 1."""
        seen = step * self.batch_size
        half_life = self.half_life if self.ramp is None else min(self.half_life, self.ramp * seen)
        return 0.5 ** (self.batch_size / half_life)

    @torch.no_grad()
    def update(self, generator: nn.Module, step: int) -> None:
        average: list[Tensor] = list(self.module.parameters())
        current: list[Tensor] = list(generator.parameters())
        torch._foreach_lerp_(average, current, 1 - self.decay(step))
        for buffer, source, is_copied in zip(self.module.buffers(), generator.buffers(), self.copied, strict=True):
            if is_copied:
                buffer.copy_(source)
        if not all(self.copied):
            spectral_norm.update(self.module)


def _copied(network: nn.Module) -> list[bool]:
    """Whether each buffer of a network is copied, that is, not a singular vector."""
    norms = [module for module in network.modules() if isinstance(module, spectral_norm.SpectralNorm)]
    vectors = {id(vector) for norm in norms for vector in norm.buffers()}
    return [id(buffer) not in vectors for buffer in network.buffers()]
