"""How the networks are told an example's class."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ganlab.config.ranges import Width
from ganlab.errors import ConfigError
from ganlab.models import Model


@runtime_checkable
class Conditioning(Protocol):
    uses_classes: bool

    def generator(self, model: Model, shape: tuple[int, ...], num_classes: int) -> nn.Module: ...

    def discriminator(self, model: Model, shape: tuple[int, ...], num_classes: int) -> nn.Module: ...


def _made(part: Callable[..., nn.Module], num_classes: int, **facts: Any) -> nn.Module:
    """A network, told the number of classes if it is one that can use it."""
    knows = "num_classes" in inspect.signature(part).parameters
    return part(**facts, num_classes=num_classes) if knows else part(**facts)


class Unconditional:
    """Not at all."""

    uses_classes = False

    def generator(self, model: Model, shape: tuple[int, ...], num_classes: int) -> nn.Module:
        return _made(model.generator, 0, latent_dim=model.latent_dim, shape=shape)

    def discriminator(self, model: Model, shape: tuple[int, ...], num_classes: int) -> nn.Module:
        return _made(model.discriminator, 0, shape=shape)


class Concatenation:
    """By a learned vector of the class, beside the latent and, as constant channels, beside the example.

    Mirza and Osindero (2014). It fits any network, as what the network sees is a longer latent and more channels.

    Args:
        embedding_dim: numbers per class.
    """

    uses_classes = True

    def __init__(self, embedding_dim: Width = 16) -> None:
        self.embedding_dim = embedding_dim

    def generator(self, model: Model, shape: tuple[int, ...], num_classes: int) -> nn.Module:
        network = _made(model.generator, 0, latent_dim=model.latent_dim + self.embedding_dim, shape=shape)
        return ConcatenatingGenerator(network, num_classes, self.embedding_dim)

    def discriminator(self, model: Model, shape: tuple[int, ...], num_classes: int) -> nn.Module:
        network = _made(model.discriminator, 0, shape=(shape[0] + self.embedding_dim, *shape[1:]))
        return ConcatenatingDiscriminator(network, num_classes, self.embedding_dim)


class Projection:
    """By the network's own means: conditional normalisation in the generator, projection in the discriminator.

    Miyato and Koyama (2018), eq. 3, for the projection; de Vries et al. (2017) for the normalisation. Networks without
    normalisation take the class beside the latent.
    """

    uses_classes = True

    def generator(self, model: Model, shape: tuple[int, ...], num_classes: int) -> nn.Module:
        _refuse_without_classes(model.generator)
        return _made(model.generator, num_classes, latent_dim=model.latent_dim, shape=shape)

    def discriminator(self, model: Model, shape: tuple[int, ...], num_classes: int) -> nn.Module:
        _refuse_without_classes(model.discriminator)
        return _made(model.discriminator, num_classes, shape=shape)


def _refuse_without_classes(part: Callable[..., nn.Module]) -> None:
    if "num_classes" not in inspect.signature(part).parameters:
        name = getattr(part, "func", part).__name__
        raise ConfigError(f"condition=projection: {name} cannot be told classes; use condition=concatenation")


class ConcatenatingGenerator(nn.Module):
    def __init__(self, network: nn.Module, num_classes: int, embedding_dim: int) -> None:
        super().__init__()
        self.network = network
        self.embedding = nn.Embedding(num_classes, embedding_dim)

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        return self.network(torch.cat([z, self.embedding(label)], 1))


class ConcatenatingDiscriminator(nn.Module):
    def __init__(self, network: nn.Module, num_classes: int, embedding_dim: int) -> None:
        super().__init__()
        self.network = network
        self.embedding = nn.Embedding(num_classes, embedding_dim)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        vector = self.embedding(label)
        planes = vector.view(*vector.shape, *[1] * (x.dim() - 2)).expand(-1, -1, *x.shape[2:])  # [B, dim, H, W]
        return self.network(torch.cat([x, planes], 1))
