"""Minibatch standard deviation, which lets a discriminator detect a lack of diversity (Karras et al., 2018)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MinibatchStd(nn.Module):
    """Appends a channel with the standard deviation over a group of examples, averaged over all features (section 3).

    A group is 4 consecutive examples, or the whole batch if 4 does not divide it. The logit of an example depends on
    its group, and so does a gradient penalty.
    """

    group = 4

    def forward(self, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        group = self.group if batch % self.group == 0 else batch
        variance = x.unflatten(0, (-1, group)).var(1, correction=0)  #   [B/4, C, H, W]
        std = (variance + 1e-8).sqrt().mean((1, 2, 3))  #                [B/4], finite gradient for equal examples
        channel = std.repeat_interleave(group)[:, None, None, None]  #   [B, 1, 1, 1]
        return torch.cat([x, channel.expand(-1, 1, height, width)], 1)  # [B, C+1, H, W]
