"""Batches of a dataset that lives in memory, drawn as a function of the step."""

from __future__ import annotations

import torch
from torch import Tensor

from ganlab.errors import ConfigError
from ganlab.randomness import generator


def to_model_range(data: Tensor) -> Tensor:
    """Examples as the networks see them: float32, bytes scaled to [-1, 1], images in channels-last layout."""
    if data.dtype == torch.uint8:
        data = data.float().div_(127.5).sub_(1)
    return data.contiguous(memory_format=torch.channels_last) if data.dim() == 4 else data


def to_unit_range(samples: Tensor) -> Tensor:
    """Generated images [N, C, H, W] from [-1, 1], as inside, to [0, 1], as outside. Points stay as they are."""
    return samples.add(1).div(2).clamp(0, 1) if samples.dim() == 4 else samples


def check_batch_size(batch_size: int, num_examples: int) -> None:
    if batch_size > num_examples:
        raise ConfigError(f"trainer.batch_size={batch_size}: must be at most the number of examples, {num_examples}")


class Batches:
    """`batches(step)` is the batch of one step. Every epoch is a new shuffle; its incomplete last batch is dropped.

    Args:
        data: all examples [N, ...], already on the device.
        batch_size: at most N.
        seed: of the run.

    Raises:
        ConfigError: the batch size is larger.
    """

    def __init__(self, data: Tensor, batch_size: int, seed: int) -> None:
        check_batch_size(batch_size, len(data))
        self.data = data
        self.batch_size = batch_size
        self.seed = seed
        self.per_epoch = len(data) // batch_size
        self._epoch = -1
        self._order = torch.empty(0, dtype=torch.int64)

    def __call__(self, step: int) -> Tensor:
        epoch, batch = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            order = torch.randperm(len(self.data), generator=generator(self.seed, "shuffle", epoch))
            self._epoch, self._order = epoch, order.to(self.data.device)
        index = self._order[batch * self.batch_size : (batch + 1) * self.batch_size]
        return to_model_range(self.data[index])
