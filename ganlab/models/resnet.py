"""The residual networks of SNGAN (Miyato et al., 2018, appendix B.4) and WGAN-GP (Gulrajani et al., 2017)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ganlab.config.ranges import PositiveInt, Width
from ganlab.models import spectral_norm as spectral
from ganlab.models.attention import SelfAttention
from ganlab.models.conditional import Conditional, Stack, batch_norm, projection
from ganlab.models.convolutions import ToImage
from ganlab.models.minibatch_std import MinibatchStd
from ganlab.models.sizes import check_attention, halved, halved_to_about_4

# A 1x1 convolution commutes with resizing; the shortcuts apply it to the smaller feature map.


class UpBlock(Conditional):
    """Residual block that doubles the sides, with a 1x1 convolution in the shortcut."""

    def __init__(self, inputs: int, outputs: int, num_classes: int) -> None:
        super().__init__()
        self.residual = Stack(
            batch_norm(inputs, num_classes),
            nn.ReLU(),
            nn.Upsample(scale_factor=2, mode="nearest"),
            nn.Conv2d(inputs, outputs, 3, padding=1),
            batch_norm(outputs, num_classes),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1),
        )
        self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1), nn.Upsample(scale_factor=2, mode="nearest"))

    def forward(self, x: Tensor, label: Tensor | None) -> Tensor:
        return self.shortcut(x) + self.residual(x, label)


class DownBlock(nn.Module):
    """Residual block that halves or keeps the sides, with a 1x1 convolution in the shortcut if shapes differ.

    Args:
        halves: whether to end with average pooling.
        first: whether the input is the image, which gets no ReLU.
    """

    def __init__(self, inputs: int, outputs: int, halves: bool, first: bool = False) -> None:
        super().__init__()
        pool = nn.AvgPool2d(2) if halves else nn.Identity()
        self.residual = nn.Sequential(
            nn.Identity() if first else nn.ReLU(),
            nn.Conv2d(inputs, outputs, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1),
            pool,
        )
        changes = halves or inputs != outputs
        self.shortcut = nn.Sequential(pool, nn.Conv2d(inputs, outputs, 1)) if changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.residual(x)


class ResNetGenerator(nn.Module):
    """A linear layer to about 4x4, residual blocks that double the sides, and a convolution to the image.

    Args:
        width: channels at full size; they double with each halving of the sides.
        max_width: maximum number of channels. If it equals `width`, all layers have the same width, as in the paper's
            network for CIFAR-10 (256). The paper's networks for 128 pixels go from 64 to 1024.
        attention: height in pixels of the feature map after which self-attention is inserted; None for no attention.
    """

    def __init__(
        self,
        latent_dim: int,
        shape: tuple[int, ...],
        num_classes: int,
        width: Width = 64,
        max_width: Width = 64,
        spectral_norm: bool = False,
        attention: PositiveInt | None = None,
    ) -> None:
        super().__init__()
        *sizes, start = halved_to_about_4(shape, "resnet")
        check_attention(attention, sizes)
        channels = min(width * 2 ** len(sizes), max_width)
        self.start = (channels, *start)
        self.project = nn.Linear(latent_dim, channels * start[0] * start[1])
        blocks: list[nn.Module] = []
        for stage, (height, _) in reversed(list(enumerate(sizes))):
            outputs = min(width * 2**stage, max_width)
            blocks.append(UpBlock(channels, outputs, num_classes))
            channels = outputs
            if height == attention:
                blocks.append(SelfAttention(channels))
        self.blocks = Stack(*blocks)
        self.to_image = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(), ToImage(channels, shape[0]), nn.Tanh())
        if spectral_norm:
            spectral.normalise(self)

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        x = self.project(z).view(-1, *self.start)  #    [B, channels, H/2^n, W/2^n]
        return self.to_image(self.blocks(x, label))  #  [B, C, H, W]


class ResNetDiscriminator(nn.Module):
    """Residual blocks that halve the sides to no less than 7, two that keep them, sum pooling and a logit.

    For 32 pixels, this is the paper's network for CIFAR-10.

    Args:
        width: channels after the first block; they double with each further halving.
        max_width: maximum number of channels. If it equals `width`, all layers have the same width, as in the paper's
            network for CIFAR-10 (128).
        attention: height in pixels of the feature map after which self-attention is inserted; None for no attention.
        minibatch_std: whether to append the minibatch standard deviation before the last block.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        num_classes: int,
        width: Width = 64,
        max_width: Width = 64,
        spectral_norm: bool = True,
        attention: PositiveInt | None = None,
        minibatch_std: bool = False,
    ) -> None:
        super().__init__()
        halved_to_about_4(shape, "resnet")
        sizes = halved(shape, smallest=7)[1:] or halved(shape)[1:2]  # 8 pixels are halved once
        check_attention(attention, sizes)
        channels = shape[0]
        blocks: list[nn.Module] = []
        for stage, (height, _) in enumerate(sizes):
            outputs = min(width * 2**stage, max_width)
            blocks.append(DownBlock(channels, outputs, halves=True, first=stage == 0))
            channels = outputs
            if height == attention:
                blocks.append(SelfAttention(channels))
        blocks.append(DownBlock(channels, channels, halves=False))
        if minibatch_std:
            blocks.append(MinibatchStd())
        blocks.append(DownBlock(channels + minibatch_std, channels, halves=False))
        self.blocks = nn.Sequential(*blocks)
        self.logit = nn.Linear(channels, 1)
        self.projection = projection(num_classes, channels)
        if spectral_norm:
            spectral.normalise(self)

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        phi = F.relu(self.blocks(x)).sum((2, 3))  # [B, channels]
        logit = self.logit(phi).squeeze(1)  #       [B]
        return self.projection(logit, phi, label)
