"""Minibatch standard deviation, by which a discriminator sees that fakes are all alike (Karras et al., 2018)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MinibatchStd(nn.Module):
    """One more channel: the standard deviation over a group of examples, averaged over all features (section 3).

    Groups are of 4 neighbours in the batch, or the whole batch if 4 does not divide it. It ties the examples of a
    group together, so a penalty on the gradient of an example sees its neighbours too.
    """

    group = 4

    def forward(self, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        group = self.group if batch % self.group == 0 else batch
        variance = x.unflatten(0, (-1, group)).var(1, correction=0)  #   [B/4, C, H, W]
        std = (variance + 1e-8).sqrt().mean((1, 2, 3))  #                [B/4], with a finite slope for equal examples
        channel = std.repeat_interleave(group)[:, None, None, None]  #   [B, 1, 1, 1]
        return torch.cat([x, channel.expand(-1, 1, height, width)], 1)  # [B, C+1, H, W]
