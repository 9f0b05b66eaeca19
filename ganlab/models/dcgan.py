"""DCGAN (Radford, Metz and Chintala, 2016) for images with even sides of 28 to 128 pixels."""

from __future__ import annotations

from torch import Tensor, nn

from ganlab.config.ranges import PositiveInt, Width
from ganlab.models import ShapeError
from ganlab.models import spectral_norm as spectral
from ganlab.models.attention import SelfAttention
from ganlab.models.conditional import Stack, batch_norm, projection
from ganlab.models.convolutions import Conv2d, ConvTranspose2d, feature_maps
from ganlab.models.minibatch_std import MinibatchStd
from ganlab.models.sizes import Size, check_attention, halved


def doubling(inputs: int, outputs: int, num_classes: int) -> list[nn.Module]:
    """Layers of the generator that double the sides."""
    return [
        ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1),
        batch_norm(outputs, num_classes),
        nn.ReLU(inplace=True),
    ]


def halving(inputs: int, outputs: int) -> list[nn.Module]:
    """Layers of the discriminator that halve the sides."""
    return [Conv2d(inputs, outputs, 4, stride=2, padding=1), nn.LeakyReLU(0.2, inplace=True)]


def sizes_of(shape: tuple[int, ...], attention: int | None) -> list[Size]:
    """Return the sizes of the feature maps, starting with half the image.

    Raises:
        ShapeError: the shape is not supported, or no feature map has the height `attention`.
    """
    if len(shape) != 3 or any(side % 2 or not 28 <= side <= 128 for side in shape[1:]):
        raise ShapeError("dcgan is for images [C, H, W] with even sides of 28 to 128 pixels")
    sizes = halved(shape)[1:]
    check_attention(attention, sizes)
    return sizes


class DCGANGenerator(nn.Module):
    """A linear layer to the smallest size, batch-normalised transposed convolutions that double it, and a tanh.

    Args:
        width: channels at half the image's size; they double with each further halving.
        attention: height in pixels of the feature map after which self-attention is inserted; None for no attention.
    """

    def __init__(
        self,
        latent_dim: int,
        shape: tuple[int, ...],
        num_classes: int,
        width: Width = 64,
        spectral_norm: bool = False,
        attention: PositiveInt | None = None,
    ) -> None:
        super().__init__()
        sizes = sizes_of(shape, attention)
        channels = width * 2 ** (len(sizes) - 1)
        self.start = (channels, *sizes[-1])
        self.project = nn.Linear(latent_dim, channels * sizes[-1][0] * sizes[-1][1])
        blocks: list[nn.Module] = [batch_norm(channels, num_classes), nn.ReLU(inplace=True)]
        for height, _ in reversed(sizes):
            if height == attention:
                blocks.append(SelfAttention(channels))
            if height != sizes[0][0]:
                blocks += doubling(channels, channels // 2, num_classes)
                channels //= 2
        self.blocks = Stack(*blocks)
        self.to_image = nn.Sequential(nn.ConvTranspose2d(channels, shape[0], 4, stride=2, padding=1), nn.Tanh())
        if spectral_norm:
            spectral.normalise(self)

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        x = feature_maps(self.project(z), self.start)  # [B, width * 2^(n-1), H/2^n, W/2^n]
        x = self.blocks(x, label)  #                     [B, width, H/2, W/2]
        return self.to_image(x)  #                       [B, C, H, W]


class DCGANDiscriminator(nn.Module):
    """Convolutions that halve the sides, then a logit.

    Unlike in the paper, there is no batch normalisation. It would make the logit of an example depend on the others in
    its batch, which changes the meaning of gradient penalties, and real and fake batches have different statistics. Use
    spectral normalisation instead.

    Args:
        width: channels after the first halving; they double with each further one.
        attention: height in pixels of the feature map after which self-attention is inserted; None for no attention.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        num_classes: int,
        width: Width = 64,
        spectral_norm: bool = False,
        attention: PositiveInt | None = None,
        minibatch_std: bool = False,
    ) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        channels, outputs = shape[0], width
        sizes = sizes_of(shape, attention)
        for height, _ in sizes:
            blocks += halving(channels, outputs)
            channels, outputs = outputs, outputs * 2
            if height == attention:
                blocks.append(SelfAttention(channels))
        if minibatch_std:
            blocks.append(MinibatchStd())
            channels += 1
        self.blocks = nn.Sequential(*blocks)
        features = channels * sizes[-1][0] * sizes[-1][1]
        self.logit = nn.Linear(features, 1)
        self.projection = projection(num_classes, features)
        if spectral_norm:
            spectral.normalise(self)

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        phi = self.blocks(x).flatten(1)  #    [B, width * 2^(n-1) * H/2^n * W/2^n]
        logit = self.logit(phi).squeeze(1)  # [B]
        return self.projection(logit, phi, label)
