"""What makes a network conditional: a label is a class number, int64 [B]."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def _look_up(table: Tensor, label: Tensor | None) -> Tensor:
    """The row of each label: [B, ...]."""
    if label is None:
        raise ValueError("the network is conditional: it needs the label of each example")
    return F.embedding(label, table)


class Conditional(nn.Module):
    """A module inside a network that is called with the label too."""


class Stack(nn.Sequential):
    """Modules one after the other, those that are conditional with the label."""

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        for module in self:
            x = module(x, label) if isinstance(module, Conditional) else module(x)
        return x


class WithLabel(nn.Module):
    """The latent and a learned vector of its class, side by side: [B, latent_dim + dim].

    As many numbers as classes tell them apart as well as a one-hot code (Mirza and Osindero, 2014) would; for many
    classes fewer do.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.dim = min(num_classes, 128)
        self.weight = nn.Parameter(torch.randn(num_classes, self.dim))  # of the latent's scale

    def forward(self, z: Tensor, label: Tensor | None) -> Tensor:
        return torch.cat([z, _look_up(self.weight, label)], 1)


class ConditionalBatchNorm2d(Conditional):
    """Batch normalisation with a gain and a bias per class (Dumoulin et al., 2017; de Vries et al., 2017)."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.gain = nn.Parameter(torch.ones(num_classes, channels))
        self.bias = nn.Parameter(torch.zeros(num_classes, channels))

    def forward(self, x: Tensor, label: Tensor | None) -> Tensor:
        gain, bias = (_look_up(table, label)[:, :, None, None] for table in (self.gain, self.bias))  # [B, C, 1, 1]
        return self.norm(x) * gain + bias


def batch_norm(channels: int, num_classes: int) -> nn.Module:
    """Conditional where there are classes."""
    return ConditionalBatchNorm2d(channels, num_classes) if num_classes else nn.BatchNorm2d(channels)


class Projection(nn.Module):
    """The logit psi(phi) [B] and what the class adds to it, <embedding(label), phi> with features phi [B, n].

    Their sum is eq. 3 of Miyato and Koyama (2018).
    """

    def __init__(self, num_classes: int, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_classes, features) / features**0.5)  # of psi's scale

    def forward(self, logit: Tensor, phi: Tensor, label: Tensor | None) -> Tensor:
        return logit + (_look_up(self.weight, label) * phi).sum(1)


class NoProjection(nn.Module):
    """The logit without classes: as it is."""

    def forward(self, logit: Tensor, phi: Tensor, label: Tensor | None) -> Tensor:
        return logit


def projection(num_classes: int, features: int) -> nn.Module:
    """Of the class, where there are classes."""
    return Projection(num_classes, features) if num_classes else NoProjection()
