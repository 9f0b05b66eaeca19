"""Initial weights of the networks, for those who want others than the networks' own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ganlab.config.ranges import Factor


class Init(ABC):
    @abstractmethod
    def __call__(self, network: nn.Module) -> None:
        """Give the network other weights, drawn from torch's global generator, which the caller has seeded."""


LAYERS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d, nn.Embedding)


def weights(network: nn.Module) -> Iterator[Tensor]:
    """The weights of linear and convolutional layers and embeddings, as they are before any normalisation.

    Not their biases, nor what else a network learns: gains, by class or not, and feature maps.
    """
    for layer in network.modules():
        if isinstance(layer, LAYERS):
            normalised: Any = getattr(layer, "parametrizations", None)
            yield normalised.weight.original if normalised else layer.weight


class AsBuilt(Init):
    """The networks' own."""

    def __call__(self, network: nn.Module) -> None:
        pass


class NormalInit(Init):
    """Normal with a fixed standard deviation, DCGAN's by default (Radford, Metz and Chintala, 2016, section 4)."""

    def __init__(self, std: Factor = 0.02) -> None:
        self.std = std

    @torch.no_grad()
    def __call__(self, network: nn.Module) -> None:
        for weight in weights(network):
            nn.init.normal_(weight, std=self.std)


class OrthogonalInit(Init):
    """Orthogonal rows or columns (Saxe, McClelland and Ganguli, 2014), as in BigGAN."""

    def __init__(self, gain: Factor = 1.0) -> None:
        self.gain = gain

    @torch.no_grad()
    def __call__(self, network: nn.Module) -> None:
        for weight in weights(network):
            nn.init.orthogonal_(weight, gain=self.gain)


class XavierInit(Init):
    """Uniform, keeping the variance in both directions (Glorot and Bengio, 2010, eq. 16)."""

    def __init__(self, gain: Factor = 1.0) -> None:
        self.gain = gain

    @torch.no_grad()
    def __call__(self, network: nn.Module) -> None:
        for weight in weights(network):
            nn.init.xavier_uniform_(weight, gain=self.gain)


class KaimingInit(Init):
    """Normal, keeping the variance through leaky rectifiers of slope 0.2 (He et al., 2015, eq. 15)."""

    @torch.no_grad()
    def __call__(self, network: nn.Module) -> None:
        for weight in weights(network):
            nn.init.kaiming_normal_(weight, a=0.2)
