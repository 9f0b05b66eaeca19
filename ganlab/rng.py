"""Everything random in a run is a function of (seed, stream, index), never of what was drawn before.

So a run that is resumed, swept or trained among others sees the same batches and the same noise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

import torch
from torch import Tensor

BLOCK = 64  # batches of noise drawn at a time: one generator set up per block, not per batch


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


class StepRNG:
    """What an update draws besides its batch and latents: tensors on the device, in the order in which it asks."""

    def __init__(self, seed: int, stream: str, index: int, device: torch.device) -> None:
        self.device = device
        self._source = (seed, stream, index)

    @cached_property
    def _generator(self) -> torch.Generator:
        return generator(*self._source)

    def uniform(self, *size: int) -> Tensor:
        """Evenly distributed numbers in [0, 1)."""
        return torch.rand(size, generator=self._generator).to(self.device)

    def normal(self, *size: int) -> Tensor:
        """Standard normal numbers."""
        return torch.randn(size, generator=self._generator).to(self.device)
