"""Latents for training batches."""

from __future__ import annotations

import torch
from torch import Tensor

from ganlab.models.latents import Latent
from ganlab.rng import BLOCK, make_rng


class Noise:
    """Latents for training: `noise(index)` returns those of one batch [batch_size, latent_dim]."""

    def __init__(self, latent: Latent, latent_dim: int, batch_size: int, seed: int, device: torch.device) -> None:
        self.latent = latent
        self.size = (BLOCK, batch_size, latent_dim)
        self.seed = seed
        self.device = device
        self._block_index = -1
        self._block = torch.empty(0)

    def __call__(self, index: int) -> Tensor:
        block, row = divmod(index, BLOCK)
        if block != self._block_index:
            self._block_index, self._block = block, self.block(block).to(self.device)
        return self._block[row]

    def block(self, block: int) -> Tensor:
        """Return the latents of a block of batches [BLOCK, batch_size, latent_dim], on the CPU."""
        return self.latent(self.size, make_rng(self.seed, "noise", block))
