"""Self-attention over the positions of a feature map (Zhang et al., 2019, SAGAN)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SelfAttention(nn.Module):
    """y = gamma * o + x (eq. 3), where o is the output of the attention layer and gamma is initialised to 0.

    Attention is computed explicitly: PyTorch's fused kernels cannot be differentiated twice, as penalties require.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(channels // 8, 1)
        self.f = nn.Conv2d(channels, inner, 1, bias=False)
        self.g = nn.Conv2d(channels, inner, 1, bias=False)
        self.h = nn.Conv2d(channels, inner, 1, bias=False)
        self.v = nn.Conv2d(inner, channels, 1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        f, g, h = (layer(x).flatten(2) for layer in (self.f, self.g, self.h))  #     [B, C/8, N] with N = H * W
        beta = (g.transpose(1, 2) @ f).softmax(2)  # how much j attends to i, eq. 1  [B, N, N]
        o = h @ beta.transpose(1, 2)  #                                              [B, C/8, N]
        o = self.v(o.unflatten(2, x.shape[2:]))  #                                   [B, C, H, W], eq. 2
        return self.gamma * o + x
