"""Batches and latents of all members of a population at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ganlab.data.batches import Batch, Batches, to_model_range
from ganlab.training.noise import Noise


class StackedBatches:
    """Batches of several runs: `batches(index)` stacks what each member's own `Batches` returns, [M, B, ...].

    Args:
        members: batches of equal size; their data may differ, but not the number of examples.
    """

    def __init__(self, members: Sequence[Batches]) -> None:
        self.members, first = members, members[0]
        self.batch_size, self.per_epoch, self.flip = first.batch_size, first.per_epoch, first.flip
        is_shared = all(member.data is first.data or torch.equal(member.data, first.data) for member in members)
        self.data = first.data if is_shared else torch.cat([member.data for member in members])
        self.labels = None
        if first.labels is not None:
            self.labels = first.labels if is_shared else torch.cat([m.labels for m in members if m.labels is not None])
        starts = [0 if is_shared else index * len(first.data) for index in range(len(members))]
        self._first = torch.tensor(starts, device=self.data.device)[:, None]
        self._epoch = -1
        self._order = torch.empty(0, dtype=torch.int64)

    def __call__(self, index: int) -> Batch:
        epoch, batch = divmod(index, self.per_epoch)
        if epoch != self._epoch:
            orders = torch.stack([member.order(epoch) for member in self.members])
            self._epoch, self._order = epoch, orders.to(self.data.device) + self._first
        chosen = self._order[:, batch * self.batch_size : (batch + 1) * self.batch_size]
        x = to_model_range(self.data.index_select(0, chosen.flatten()))
        if self.flip:
            mirrored = torch.cat([member.mirrored(index) for member in self.members])
            x = torch.where(mirrored.to(x.device)[:, None, None, None], x.flip(3), x)
        return Batch(x.unflatten(0, chosen.shape), None if self.labels is None else self.labels[chosen])


class StackedNoise:
    """Latents of several runs: `noise(index)` stacks what each member's own `Noise` returns, [M, batch_size, D]."""

    def __init__(self, members: Sequence[Noise]) -> None:
        self.members = members
        self._block_index = -1
        self._block = torch.empty(0)

    def __call__(self, index: int) -> Tensor:
        block, row = divmod(index, self.members[0].size[0])
        if block != self._block_index:
            latents = torch.stack([member.block(block) for member in self.members], 1)
            self._block_index, self._block = block, latents.to(self.members[0].device)
        return self._block[row]
