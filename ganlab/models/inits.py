"""Weight initialisation of the networks."""

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
        """Initialise the network's weights in place. The caller seeds torch's global generator."""


LAYERS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d, nn.Embedding)


def weights(network: nn.Module) -> Iterator[Tensor]:
    """Yield the weights of linear layers, convolutions and embeddings, before any spectral normalisation.

    Biases and other parameters, such as gains and learned feature maps, are not included.
    """
    for layer in network.modules():
        if isinstance(layer, LAYERS):
            parametrizations: Any = getattr(layer, "parametrizations", None)
            yield parametrizations.weight.original if parametrizations else layer.weight


class DefaultInit(Init):
    """Keep each layer's default initialisation."""

    def __call__(self, network: nn.Module) -> None:
        pass


class NormalInit(Init):
    """Normal initialisation; the default `std` is that of DCGAN (Radford, Metz and Chintala, 2016, section 4)."""

    def __init__(self, std: Factor = 0.02) -> None:
        self.std = std

    @torch.no_grad()
    def __call__(self, network: nn.Module) -> None:
        for weight in weights(network):
            nn.init.normal_(weight, std=self.std)


class OrthogonalInit(Init):
    """Orthogonal initialisation (Saxe, McClelland and Ganguli, 2014), as in BigGAN."""

    def __init__(self, gain: Factor = 1.0) -> None:
        self.gain = gain

    @torch.no_grad()
    def __call__(self, network: nn.Module) -> None:
        for weight in weights(network):
            nn.init.orthogonal_(weight, gain=self.gain)


class XavierInit(Init):
    """Uniform initialisation that balances forward and backward variance (Glorot and Bengio, 2010, eq. 16)."""

    def __init__(self, gain: Factor = 1.0) -> None:
        self.gain = gain

    @torch.no_grad()
    def __call__(self, network: nn.Module) -> None:
        for weight in weights(network):
            nn.init.xavier_uniform_(weight, gain=self.gain)


class KaimingInit(Init):
    """Normal initialisation that preserves variance through leaky ReLUs of slope 0.2 (He et al., 2015, eq. 15)."""

    @torch.no_grad()
    def __call__(self, network: nn.Module) -> None:
        for weight in weights(network):
            nn.init.kaiming_normal_(weight, a=0.2)
