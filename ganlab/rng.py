"""Random numbers as a function of (seed, stream, index), independent of anything generated before.

A run therefore sees the same batches and noise whether it is resumed, part of a sweep or trained alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

import torch
from torch import Tensor

BLOCK = 64  # batches of noise per random number generator, since seeding one for every batch is slow


def seed_of(seed: int, stream: str, index: int) -> int:
    """Return a 63-bit seed, independent of the seeds of other streams and indices."""
    digest = hashlib.blake2b(f"{seed}/{stream}/{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def make_rng(seed: int, stream: str, index: int = 0) -> torch.Generator:
    """Return a seeded random number generator. It is on the CPU, so that every device gets the same numbers."""
    return torch.Generator().manual_seed(seed_of(seed, stream, index))


@contextmanager
def seeded(seed: int, stream: str) -> Iterator[None]:
    """Seed torch's global generator, which initialises layers, and restore its state on exit."""
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed_of(seed, stream, 0))
        yield


class StepRNG:
    """Random tensors for one update, besides its batch and latents: sampled on the CPU, returned on the device.

    Values depend on the order of the calls. The first dimension is that of the batch.
    """

    def __init__(self, seed: int, stream: str, index: int, device: torch.device) -> None:
        self.device = device
        self._source = (seed, stream, index)

    @cached_property
    def _rng(self) -> torch.Generator:
        return make_rng(*self._source)

    def uniform(self, num: int, *size: int) -> Tensor:
        """Sample from the uniform distribution on [0, 1)."""
        return torch.rand(num, *size, generator=self._rng).to(self.device)

    def normal(self, num: int, *size: int) -> Tensor:
        """Sample from the standard normal distribution."""
        return torch.randn(num, *size, generator=self._rng).to(self.device)
