"""PyTorch's convolutions, their parameters and, up to rounding, their numbers, but in less of a CPU's time."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Conv2d(nn.Conv2d):
    """`nn.Conv2d` with its bias added apart.

    On a CPU the backward pass of a convolution takes the gradient of its bias far slower than a sum does: from 8 to 16
    channels, without it, the whole backward pass takes 0.6 of the time. A GPU adds the bias apart in any case.
    """

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(x, self.weight, None, self.stride, self.padding, self.dilation, self.groups)
        return x if self.bias is None else x.add_(self.bias[:, None, None])


class ConvTranspose2d(nn.ConvTranspose2d):
    """`nn.ConvTranspose2d` with its bias added apart, for the reason that `Conv2d` gives."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        if output_size is not None:
            return super().forward(x, output_size)
        assert isinstance(self.padding, tuple)  # as transposed convolutions have no padding by name
        x = F.conv_transpose2d(
            x, self.weight, None, self.stride, self.padding, self.output_padding, self.groups, self.dilation
        )
        return x if self.bias is None else x.add_(self.bias[:, None, None])


class ToImage(nn.Conv2d):
    """A 3x3 convolution to the channels of an image; to one channel, as nine 1x1 convolutions shifted and summed.

    The parameters and, up to rounding, the numbers are those of `nn.Conv2d(inputs, channels, 3, padding=1)`. But a
    CPU computes as many output channels at once as its vectors are long, and with one most of each vector is idle:
    written this way a layer from 32 channels takes half the time.
    """

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__(inputs, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        if self.out_channels > 1 or self.bias is None:
            return super().forward(x)
        taps = self.weight.permute(2, 3, 1, 0).reshape(9, self.in_channels, 1, 1)
        image = self.bias
        for tap, shifted in enumerate(F.conv2d(x, taps).unbind(1)):  # [B, H, W] each
            down, right = tap // 3 - 1, tap % 3 - 1  # where the kernel's element lies from its centre
            image = image + F.pad(shifted, (-right, right, -down, down))
        return image.unsqueeze(1)  # [B, 1, H, W]
