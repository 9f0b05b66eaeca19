"""Initial weights of the networks, for those who want others than the networks' own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ganlab.ranges import Positive


@runtime_checkable
class Init(Protocol):
    def __call__(self, network: nn.Module) -> None:
        """Give the network other weights, drawn from torch's global generator, which the caller has seeded."""


def weights(network: nn.Module) -> Iterator[Tensor]:
    """The weights of linear and convolutional layers and embeddings; not the biases, gains and other vectors."""
    return (parameter for parameter in network.parameters() if parameter.dim() > 1)


class AsBuilt:
    """The networks' own."""

    def __call__(self, network: nn.Module) -> None:
        pass


class NormalInit:
    """Normal with a fixed standard deviation, DCGAN's by default (Radford, Metz and Chintala, 2016, section 4)."""

    def __init__(self, std: Positive = 0.02) -> None:
        self.std = std

    @torch.no_grad()
    def __call__(self, network: nn.Module) -> None:
        for weight in weights(network):
            nn.init.normal_(weight, std=self.std)


class OrthogonalInit:
    """Orthogonal rows or columns (Saxe, McClelland and Ganguli, 2014), as in BigGAN."""

    def __init__(self, gain: Positive = 1.0) -> None:
        self.gain = gain

    @torch.no_grad()
    def __call__(self, network: nn.Module) -> None:
        for weight in weights(network):
            nn.init.orthogonal_(weight, gain=self.gain)


class XavierInit:
    """Uniform, keeping the variance in both directions (Glorot and Bengio, 2010, eq. 16)."""

    def __init__(self, gain: Positive = 1.0) -> None:
        self.gain = gain

    @torch.no_grad()
    def __call__(self, network: nn.Module) -> None:
        for weight in weights(network):
            nn.init.xavier_uniform_(weight, gain=self.gain)


class KaimingInit:
    """Normal, keeping the variance through rectifiers (He et al., 2015, eq. 10)."""

    @torch.no_grad()
    def __call__(self, network: nn.Module) -> None:
        for weight in weights(network):
            nn.init.kaiming_normal_(weight, a=0.2)
