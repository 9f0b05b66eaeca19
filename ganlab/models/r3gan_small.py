"""The networks of R3GAN (Huang et al., 2024, section 3.3 and appendix) for small images.

There are no normalisation layers; Fixup initialisation (Zhang et al., 2019) keeps the variance stable.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganlab.config.ranges import SmallCount, Width
from ganlab.models.conditional import WithLabel, projection
from ganlab.models.minibatch_std import MinibatchStd
from ganlab.models.sizes import Size, halved_to_about_4

SLOPE = 0.2
RELU_GAIN = (2 / (1 + SLOPE**2)) ** 0.5  # restores the second moment after a leaky ReLU (He et al., 2015)


def conv(inputs: int, outputs: int, kernel: int, groups: int = 1, bias: bool = False, gain: float = 1.0) -> nn.Conv2d:
    """Convolution whose initialisation scales the variance by gain^2."""
    layer = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=bias)
    nn.init.normal_(layer.weight, std=gain / (inputs // groups * kernel**2) ** 0.5)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class Block(nn.Module):
    """x + conv1x1(act(grouped conv3x3(act(conv1x1(x))))), twice as wide inside and initialised to the identity.

    Args:
        num_blocks: number of blocks in the network. Fixup scales the initial weights of the m = 3 layers of a block by
            num_blocks^(-1 / (2m - 2)).
        group_size: channels per group.
    """

    def __init__(self, channels: int, group_size: int, num_blocks: int) -> None:
        super().__init__()
        inner, gain = 2 * channels, RELU_GAIN * num_blocks**-0.25
        self.expand = conv(channels, inner, 1, bias=True, gain=gain)
        self.mix = conv(inner, inner, 3, groups=inner // group_size, bias=True, gain=gain)
        self.reduce = conv(inner, channels, 1, gain=0.0)

    def forward(self, x: Tensor) -> Tensor:
        y = F.leaky_relu(self.expand(x), SLOPE)  #  [B, 2C, H, W]
        y = F.leaky_relu(self.mix(y), SLOPE)  #     [B, 2C, H, W]
        return x + self.reduce(y)  #                [B, C, H, W]


class Up(nn.Module):
    """Doubles the sides by bilinear interpolation, after a 1x1 convolution if the number of channels changes."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.channels = conv(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(self.channels(x), scale_factor=2, mode="bilinear")


class Down(nn.Module):
    """Halves the sides, then applies a 1x1 convolution if the number of channels changes.

    Average pooling over 2x2 pixels equals bilinear interpolation to half the sides.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.channels = conv(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.channels(F.avg_pool2d(x, 2))


class Basis(nn.Module):
    """Learned feature maps [C, h, w], each scaled by a linear function of the latent."""

    def __init__(self, inputs: int, channels: int, size: Size) -> None:
        super().__init__()
        self.maps = nn.Parameter(torch.randn(channels, *size))
        self.scale = nn.Linear(inputs, channels, bias=False)
        nn.init.normal_(self.scale.weight, std=inputs**-0.5)

    def forward(self, z: Tensor) -> Tensor:
        return self.scale(z)[:, :, None, None] * self.maps


class Readout(nn.Module):
    """Inner product of each feature map with a learned one: features phi [B, C]. Counterpart of `Basis`."""

    def __init__(self, channels: int, size: Size) -> None:
        super().__init__()
        self.maps = nn.Conv2d(channels, channels, size, groups=channels, bias=False)
        nn.init.normal_(self.maps.weight, std=(size[0] * size[1]) ** -0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.maps(x).flatten(1)


def widths_of(sizes: list[Size], width: int, max_width: int, group_size: int) -> list[int]:
    """Return the number of channels at each size.

    Raises:
        ValueError: `group_size` does not divide the inner channels of a block.
    """
    widths = [min(width * 2**stage, max_width) for stage in range(len(sizes))]
    for channels in widths:
        if 2 * channels % group_size:
            raise ValueError(f"group_size={group_size}: must divide twice the channels at every size, {2 * channels}")
    return widths


class R3GANGenerator(nn.Module):
    """A basis of about 4x4 scaled by the latent, residual blocks at each size, a 1x1 convolution to the image.

    As in the paper, there is no tanh: values outside [-1, 1] are clamped when images are displayed or scored.

    Args:
        width: channels at full size; they double with each halving of the sides.
        max_width: maximum number of channels.
        blocks: residual blocks at each size.
        group_size: channels per group of the 3x3 convolutions.
    """

    def __init__(
        self,
        latent_dim: int,
        shape: tuple[int, ...],
        num_classes: int,
        width: Width = 32,
        max_width: Width = 128,
        blocks: SmallCount = 1,
        group_size: Width = 16,
    ) -> None:
        super().__init__()
        sizes = halved_to_about_4(shape, "r3gan_small")
        widths = widths_of(sizes, width, max_width, group_size)
        self.with_label = WithLabel(num_classes) if num_classes else None
        self.basis = Basis(latent_dim + (self.with_label.dim if self.with_label else 0), widths[-1], sizes[-1])
        layers: list[nn.Module] = []
        for stage in reversed(range(len(sizes))):
            layers += [Block(widths[stage], group_size, len(sizes) * blocks) for _ in range(blocks)]
            if stage > 0:
                layers.append(Up(widths[stage], widths[stage - 1]))
        self.layers = nn.Sequential(*layers)
        self.to_image = conv(widths[0], shape[0], 1)

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        if self.with_label is not None:
            z = self.with_label(z, label)
        return self.to_image(self.layers(self.basis(z)))  # [B, C, H, W]


class R3GANDiscriminator(nn.Module):
    """Mirror of the generator: a 1x1 convolution, residual blocks at each size, and inner products with learned maps.

    Args:
        width: channels at full size; they double with each halving of the sides.
        max_width: maximum number of channels.
        blocks: residual blocks at each size.
        group_size: channels per group of the 3x3 convolutions.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        num_classes: int,
        width: Width = 32,
        max_width: Width = 128,
        blocks: SmallCount = 1,
        group_size: Width = 16,
        minibatch_std: bool = False,
    ) -> None:
        super().__init__()
        sizes = halved_to_about_4(shape, "r3gan_small")
        widths = widths_of(sizes, width, max_width, group_size)
        self.from_image = conv(shape[0], widths[0], 1)
        layers: list[nn.Module] = []
        for stage in range(len(sizes)):
            if stage > 0:
                layers.append(Down(widths[stage - 1], widths[stage]))
            layers += [Block(widths[stage], group_size, len(sizes) * blocks) for _ in range(blocks)]
        if minibatch_std:
            layers.append(MinibatchStd())
        self.layers = nn.Sequential(*layers)
        features = widths[-1] + minibatch_std
        self.readout = Readout(features, sizes[-1])
        self.logit = nn.Linear(features, 1, bias=False)
        nn.init.normal_(self.logit.weight, std=features**-0.5)
        self.projection = projection(num_classes, features)

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        phi = self.readout(self.layers(self.from_image(x)))  #  [B, C]
        logit = self.logit(phi).squeeze(1)  #                   [B]
        return self.projection(logit, phi, label)
