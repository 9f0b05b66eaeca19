"""The latents of every batch of training."""

from __future__ import annotations

import torch
from torch import Tensor

from ganlab.models.latents import Latent
from ganlab.rng import BLOCK, generator


class Noise:
    """Latents, `noise(index)` being those of one batch: [batch_size, latent_dim]."""

    def __init__(self, latent: Latent, latent_dim: int, batch_size: int, seed: int, device: torch.device) -> None:
        self.latent = latent
        self.size = (BLOCK, batch_size, latent_dim)
        self.seed = seed
        self.device = device
        self._index = -1
        self._block = torch.empty(0)

    def __call__(self, index: int) -> Tensor:
        block, row = divmod(index, BLOCK)
        if block != self._index:
            drawn = self.latent(self.size, generator(self.seed, "noise", block))
            self._index, self._block = block, drawn.to(self.device)
        return self._block[row]
