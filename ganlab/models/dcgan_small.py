"""A small DCGAN (Radford, Metz and Chintala, 2016) for images with even sides of 8 pixels or more."""

from __future__ import annotations

from torch import Tensor, nn

from ganlab.config.ranges import Width
from ganlab.models import ShapeError
from ganlab.models import spectral_norm as spectral
from ganlab.models.conditional import Stack, batch_norm, projection
from ganlab.models.convolutions import FlatLinear, ToImage, feature_maps
from ganlab.models.dcgan import doubling, halving
from ganlab.models.minibatch_std import MinibatchStd
from ganlab.models.sizes import Size, halved


def stages(shape: tuple[int, ...]) -> tuple[int, Size]:
    """Return how often the sides of an image can be halved while they stay at least 4, and the final size.

    Raises:
        ShapeError: the sides cannot be halved even once.
    """
    sizes = halved(shape)
    if len(sizes) < 2:
        raise ShapeError("dcgan_small is for images [C, H, W] with even sides of 8 pixels or more")
    return len(sizes) - 1, sizes[-1]


class DCGANGenerator(nn.Module):
    """A linear layer to the smallest size, batch-normalised transposed convolutions that double it, and a tanh.

    Args:
        width: channels at full size; they double with each halving of the sides.
    """

    def __init__(self, latent_dim: int, shape: tuple[int, ...], num_classes: int, width: Width = 16) -> None:
        super().__init__()
        count, (height, width_px) = stages(shape)
        channels = width * 2**count
        self.start = (channels, height, width_px)
        self.project = nn.Linear(latent_dim, channels * height * width_px)
        blocks: list[nn.Module] = [batch_norm(channels, num_classes), nn.ReLU(inplace=True)]
        for _ in range(count):
            blocks += doubling(channels, channels // 2, num_classes)
            channels //= 2
        self.blocks = Stack(*blocks)
        self.to_image = nn.Sequential(ToImage(width, shape[0]), nn.Tanh())

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        x = feature_maps(self.project(z), self.start)  # [B, width * 2^n, H/2^n, W/2^n]
        return self.to_image(self.blocks(x, label))  #   [B, C, H, W]


class DCGANDiscriminator(nn.Module):
    """Convolutions that halve the sides, then a hidden layer and a logit.

    Batch normalisation is left out because it would mix examples. The hidden layer combines the whole image, while the
    receptive field of the convolutions covers a third of its side.

    Args:
        width: channels after the first halving; they double with each further one.
        hidden: width of the hidden layer.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        num_classes: int,
        width: Width = 32,
        hidden: Width = 64,
        spectral_norm: bool = False,
        minibatch_std: bool = False,
    ) -> None:
        super().__init__()
        count, (height, width_px) = stages(shape)
        channels = shape[0]
        blocks: list[nn.Module] = []
        for stage in range(count):
            blocks += halving(channels, width * 2**stage)
            channels = width * 2**stage
        if minibatch_std:
            blocks.append(MinibatchStd())
            channels += 1
        self.blocks = nn.Sequential(*blocks)
        self.logit = nn.Sequential(
            FlatLinear(channels * height * width_px, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, 1)
        )
        self.projection = projection(num_classes, hidden)
        if spectral_norm:
            spectral.normalise(self)

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        to_hidden, activation, psi = self.logit
        phi = activation(to_hidden(self.blocks(x)))  # [B, hidden]
        logit = psi(phi).squeeze(1)  #                 [B]
        return self.projection(logit, phi, label)
