"""The tutorial's networks for MNIST.

Internally they use pixels in [0, 1], as in the tutorial, and convert from and to the framework's [-1, 1].
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganlab.config.ranges import Width
from ganlab.models import ShapeError
from ganlab.models.convolutions import ConvTranspose2d, FlatLinear, PooledConv2d, ToImage


def _image_shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return (C, H, W), or raise `ShapeError` if the shape is not supported."""
    if len(shape) != 3 or shape[1] % 4 or shape[2] % 4:
        raise ShapeError("tutorial_cnn is for images [C, H, W] with sides divisible by 4")
    return shape[0], shape[1], shape[2]


class TutorialGenerator(nn.Module):
    """A linear layer to half the image's size, a transposed convolution that doubles it, a convolution, a sigmoid."""

    def __init__(self, latent_dim: int, shape: tuple[int, ...], width: Width = 32) -> None:
        super().__init__()
        channels, height, width_px = _image_shape(shape)
        self.start = (height // 2, width_px // 2, width)
        self.project = nn.Linear(latent_dim, width * (height // 2) * (width_px // 2))
        self.convt1 = ConvTranspose2d(width, width, 3, stride=2, padding=1, output_padding=1)
        self.conv1 = ToImage(width, channels)

    def forward(self, z: Tensor) -> Tensor:
        # In place, since writing an activation of this size takes as long as computing it; channels last, the
        # layout in which the convolution is fast
        x = F.relu(self.project(z), inplace=True).view(-1, *self.start)  # [B, H/2, W/2, width]
        x = self.convt1(x.permute(0, 3, 1, 2))  #                          [B, width, H, W]
        x = self.conv1(F.relu(x, inplace=True))  #                         [B, C, H, W]
        return torch.tanh(x / 2)  # a sigmoid scaled to [-1, 1]


class TutorialDiscriminator(nn.Module):
    """Two convolutions, each followed by max pooling, then linear layers of 32, 8 and 1 units."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        channels, height, width = _image_shape(shape)
        self.conv1 = PooledConv2d(channels, 8, 3, padding=1)
        self.conv2 = PooledConv2d(8, 16, 3, padding=1)
        self.fc1 = FlatLinear(16 * (height // 4) * (width // 4), 32)
        self.fc2 = nn.Linear(32, 8)
        self.fc3 = nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = (x + 1) / 2  #                              [B, C, H, W] in [0, 1]
        x = F.relu(self.conv1(x), inplace=True)  #      [B, 8, H/2, W/2], the same as pooling after the ReLU
        x = F.relu(self.conv2(x), inplace=True)  #      [B, 16, H/4, W/4], and a quarter of the work
        x = F.relu(self.fc1(x))  #                      [B, 32]
        return self.fc3(F.relu(self.fc2(x))).squeeze(1)
