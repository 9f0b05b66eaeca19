"""A small DCGAN (Radford, Metz and Chintala, 2016) for images with even sides of 8 pixels or more."""

from __future__ import annotations

from torch import Tensor, nn

from ganlab.models import ShapeError
from ganlab.models.to_image import ToImage
from ganlab.ranges import Count


def stages(shape: tuple[int, ...]) -> tuple[int, tuple[int, int]]:
    """How often the sides of an image can be halved while they stay 4 or more, and their size after that."""
    if len(shape) != 3:
        raise ShapeError("dcgan_small is for images [C, H, W]")
    height, width = shape[1:]
    count = 0
    while height % 2 == 0 and width % 2 == 0 and min(height, width) >= 8:
        height, width, count = height // 2, width // 2, count + 1
    if count == 0:
        raise ShapeError("dcgan_small is for images with even sides of 8 pixels or more")
    return count, (height, width)


class DCGANGenerator(nn.Module):
    """A linear layer to the smallest size, then transposed convolutions that double it, batch-normalised.

    Args:
        width: channels at full size; they double with every halving of the sides.
    """

    def __init__(self, latent_dim: int, shape: tuple[int, ...], width: Count = 16) -> None:
        super().__init__()
        count, (height, width_px) = stages(shape)
        channels = width * 2**count
        self.start = (channels, height, width_px)
        self.project = nn.Linear(latent_dim, channels * height * width_px)
        blocks: list[nn.Module] = [nn.BatchNorm2d(channels), nn.ReLU()]
        for _ in range(count):
            blocks += [
                nn.ConvTranspose2d(channels, channels // 2, 4, stride=2, padding=1),
                nn.BatchNorm2d(channels // 2),
                nn.ReLU(),
            ]
            channels //= 2
        self.blocks = nn.Sequential(*blocks)
        self.to_image = nn.Sequential(ToImage(width, shape[0]), nn.Tanh())

    def forward(self, z: Tensor) -> Tensor:
        x = self.project(z).view(-1, *self.start)  # [B, width * 2^n, H/2^n, W/2^n]
        return self.to_image(self.blocks(x))  #      [B, C, H, W]


class DCGANDiscriminator(nn.Module):
    """Convolutions that halve the sides, then a hidden layer and a logit; no normalisation, which would mix examples.

    The hidden layer lets it judge the image as a whole: the convolutions alone see a third of its side.

    Args:
        width: channels after the first halving; they double with every further one.
        hidden: units of the hidden layer.
    """

    def __init__(self, shape: tuple[int, ...], width: Count = 32, hidden: Count = 64) -> None:
        super().__init__()
        count, (height, width_px) = stages(shape)
        channels = shape[0]
        blocks: list[nn.Module] = []
        for stage in range(count):
            blocks += [nn.Conv2d(channels, width * 2**stage, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
            channels = width * 2**stage
        self.blocks = nn.Sequential(*blocks)
        self.logit = nn.Sequential(
            nn.Linear(channels * height * width_px, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(x)  #                         [B, width * 2^(n-1), H/2^n, W/2^n]
        return self.logit(x.flatten(1)).squeeze(1)  # [B]
