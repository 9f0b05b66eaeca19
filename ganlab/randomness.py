"""Everything random in a run is a function of (seed, stream, index), never of what was drawn before.

So a run that is resumed, swept or trained among others sees the same batches and the same noise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

BLOCK = 64  # steps of noise drawn at a time: one generator set up per block, not per step


def seed_of(seed: int, stream: str, index: int) -> int:
    """A 63-bit seed for one draw, unrelated to those of other streams and indices."""
    digest = hashlib.blake2b(f"{seed}/{stream}/{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(seed: int, stream: str, index: int = 0) -> torch.Generator:
    """A generator for one draw. It lives on the CPU, so that every device sees the same numbers."""
    return torch.Generator().manual_seed(seed_of(seed, stream, index))


@contextmanager
def seeded(seed: int, stream: str) -> Iterator[None]:
    """Seed torch's global generator, which layers draw their initial weights from, and put it back after."""
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed_of(seed, stream, 0))
        yield


class Noise:
    """Standard normal latents, `noise(step)` being those of one step: [batch_size, latent_dim]."""

    def __init__(self, latent_dim: int, batch_size: int, seed: int, device: torch.device) -> None:
        self.size = (BLOCK, batch_size, latent_dim)
        self.seed = seed
        self.device = device
        self._index = -1
        self._block = torch.empty(0)

    def __call__(self, step: int) -> Tensor:
        index, row = divmod(step, BLOCK)
        if index != self._index:
            drawn = torch.randn(self.size, generator=generator(self.seed, "noise", index))
            self._index, self._block = index, drawn.to(self.device)
        return self._block[row]
