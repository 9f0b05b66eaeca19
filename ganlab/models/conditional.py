"""Layers of conditional networks. Labels are class indices, int64 [B]."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def _look_up(table: Tensor, label: Tensor | None) -> Tensor:
    """Return the row of `table` for each label: [B, ...]."""
    if label is None:
        raise ValueError("label=None: the network is conditional and needs the label of each example")
    return F.embedding(label, table)


class Conditional(nn.Module):
    """Base class of layers that are called with the label as second argument."""


class Stack(nn.Sequential):
    """`nn.Sequential` that passes the label to its conditional layers."""

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        for module in self:
            x = module(x, label) if isinstance(module, Conditional) else module(x)
        return x


class WithLabel(nn.Module):
    """Concatenates the latent with a learned embedding of its class: [B, latent_dim + dim].

    The embedding has one dimension per class, like a one-hot code (Mirza and Osindero, 2014), but at most 128.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.dim = min(num_classes, 128)
        self.weight = nn.Parameter(torch.randn(num_classes, self.dim))  # same scale as the latent

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
    """Return batch normalisation, conditional if there are classes."""
    return ConditionalBatchNorm2d(channels, num_classes) if num_classes else nn.BatchNorm2d(channels)


class Projection(nn.Module):
    """Adds <embedding(label), phi> to the logit psi(phi) [B], where phi [B, n] are features.

    The sum is eq. 3 of Miyato and Koyama (2018).
    """

    def __init__(self, num_classes: int, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_classes, features) / features**0.5)  # same scale as psi

    def forward(self, logit: Tensor, phi: Tensor, label: Tensor | None) -> Tensor:
        return logit + (_look_up(self.weight, label) * phi).sum(1)


class NoProjection(nn.Module):
    """Returns the logit of an unconditional discriminator unchanged."""

    def forward(self, logit: Tensor, phi: Tensor, label: Tensor | None) -> Tensor:
        return logit


def projection(num_classes: int, features: int) -> nn.Module:
    """Return a projection on the class if there are classes, else the identity on the logit."""
    return Projection(num_classes, features) if num_classes else NoProjection()
