"""Batches of a dataset that lives in memory, drawn as a function of the step."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ganlab.errors import ConfigError
from ganlab.rng import generator


def to_model_range(data: Tensor) -> Tensor:
    """Examples as the networks see them: float32, bytes scaled to [-1, 1], images in channels-last layout."""
    if data.dtype == torch.uint8:
        data = data.float().div_(127.5).sub_(1)
    return data.contiguous(memory_format=torch.channels_last) if data.dim() == 4 else data


def check_batch_size(batch_size: int, num_examples: int) -> None:
    if batch_size > num_examples:
        raise ConfigError(f"trainer.batch_size={batch_size}: must be at most the number of examples, {num_examples}")


class Batch(NamedTuple):
    """Examples [B, ...] as the networks see them, and their labels [B], where the networks are told them."""

    x: Tensor
    label: Tensor | None


class Batches:
    """`batches(index)` is one batch. Every epoch is a new shuffle; its incomplete last batch is dropped.

    Args:
        data: all examples [N, ...], already on the device.
        batch_size: at most N.
        seed: of the run.
        labels: of the examples [N], if the batches are to have them.
        flip: whether each image is mirrored left to right with a chance of 1/2.

    Raises:
        ConfigError: the batch size is larger.
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
            order = torch.randperm(len(self.data), generator=generator(self.seed, "shuffle", epoch))
            self._epoch, self._order = epoch, order.to(self.data.device)
        chosen = self._order[batch * self.batch_size : (batch + 1) * self.batch_size]
        x = to_model_range(self.data.index_select(0, chosen))
        if self.flip:
            mirrored = torch.rand(len(x), generator=generator(self.seed, "flip", index)) < 0.5
            x = torch.where(mirrored.to(x.device)[:, None, None, None], x.flip(3), x)
        return Batch(x, None if self.labels is None else self.labels[chosen])
