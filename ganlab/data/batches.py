"""Batches of a dataset in memory, each a function of the seed and the batch index."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ganlab.errors import ConfigError
from ganlab.rng import make_rng


def to_model_range(data: Tensor) -> Tensor:
    """Convert examples to the input of networks: float32 in [-1, 1], images in channels-last memory format."""
    if data.dtype == torch.uint8:
        data = data.float().div_(127.5).sub_(1)
    return data.contiguous(memory_format=torch.channels_last) if data.dim() == 4 else data


def check_batch_size(batch_size: int, num_examples: int) -> None:
    if batch_size > num_examples:
        raise ConfigError(f"trainer.batch_size={batch_size}: must be at most the number of examples, {num_examples}")


class Batch(NamedTuple):
    """Examples [B, ...] in model range and their labels [B]; None: the run is unconditional."""

    x: Tensor
    label: Tensor | None


class Batches:
    """Shuffled batches: `batches(index)` returns one. Each epoch is a new shuffle without its incomplete last batch.

    Args:
        data: all examples [N, ...], already on the device.
        batch_size: at most N.
        seed: seed of the shuffles and flips.
        labels: labels of the examples [N]; None: batches have no labels.
        flip: whether to mirror each image left to right with probability 1/2.

    Raises:
        ConfigError: the batch size is greater than N.
    """

    def __init__(
        self, data: Tensor, batch_size: int, seed: int, labels: Tensor | None = None, flip: bool = False
    ) -> None:
        check_batch_size(batch_size, len(data))
        self.data = data
        self.labels = labels
        self.flip = flip
        self.batch_size = batch_size
        self.seed = seed
        self.per_epoch = len(data) // batch_size
        self._epoch = -1
        self._order = torch.empty(0, dtype=torch.int64)

    def __call__(self, index: int) -> Batch:
        epoch, batch = divmod(index, self.per_epoch)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self.order(epoch).to(self.data.device)
        chosen = self._order[batch * self.batch_size : (batch + 1) * self.batch_size]
        x = to_model_range(self.data.index_select(0, chosen))
        if self.flip:
            x = torch.where(self.mirrored(index).to(x.device)[:, None, None, None], x.flip(3), x)
        return Batch(x, None if self.labels is None else self.labels[chosen])

    def order(self, epoch: int) -> Tensor:
        """Return the indices of the examples [N] in the order of an epoch, on the CPU."""
        return torch.randperm(len(self.data), generator=make_rng(self.seed, "shuffle", epoch))

    def mirrored(self, index: int) -> Tensor:
        """Return whether each image of a batch [B] is mirrored, on the CPU."""
        return torch.rand(self.batch_size, generator=make_rng(self.seed, "flip", index)) < 0.5
