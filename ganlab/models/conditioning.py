"""Class conditioning: how the networks use an example's label."""

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
    """Builds the two networks, conditional on `num_classes` classes if `uses_classes`."""

    uses_classes: bool

    def generator(self, model: Model, shape: tuple[int, ...], num_classes: int) -> nn.Module: ...

    def discriminator(self, model: Model, shape: tuple[int, ...], num_classes: int) -> nn.Module: ...


def _construct(factory: Callable[..., nn.Module], num_classes: int, **arguments: Any) -> nn.Module:
    """Construct a network, with `num_classes` if it has such a parameter."""
    takes_classes = "num_classes" in inspect.signature(factory).parameters
    return factory(**arguments, num_classes=num_classes) if takes_classes else factory(**arguments)


class Unconditional:
    """No conditioning; labels are ignored."""

    uses_classes = False

    def generator(self, model: Model, shape: tuple[int, ...], num_classes: int) -> nn.Module:
        return _construct(model.generator, 0, latent_dim=model.latent_dim, shape=shape)

    def discriminator(self, model: Model, shape: tuple[int, ...], num_classes: int) -> nn.Module:
        return _construct(model.discriminator, 0, shape=shape)


class Concatenation:
    """Concatenates an embedding of the class with the latent, and as constant channels with the example.

    Mirza and Osindero (2014). Works with any network, which only sees a longer latent and more channels.

    Args:
        embedding_dim: dimension of the embedding.
    """

    uses_classes = True

    def __init__(self, embedding_dim: Width = 16) -> None:
        self.embedding_dim = embedding_dim

    def generator(self, model: Model, shape: tuple[int, ...], num_classes: int) -> nn.Module:
        network = _construct(model.generator, 0, latent_dim=model.latent_dim + self.embedding_dim, shape=shape)
        return ConcatenatingGenerator(network, num_classes, self.embedding_dim)

    def discriminator(self, model: Model, shape: tuple[int, ...], num_classes: int) -> nn.Module:
        network = _construct(model.discriminator, 0, shape=(shape[0] + self.embedding_dim, *shape[1:]))
        return ConcatenatingDiscriminator(network, num_classes, self.embedding_dim)


class Projection:
    """Conditional batch normalisation in the generator, projection in the discriminator.

    Projection is eq. 3 of Miyato and Koyama (2018), the normalisation that of de Vries et al. (2017). Generators
    without normalisation concatenate an embedding of the class with the latent. The networks themselves must support
    `num_classes`.
    """

    uses_classes = True

    def generator(self, model: Model, shape: tuple[int, ...], num_classes: int) -> nn.Module:
        _check_takes_classes(model.generator)
        return _construct(model.generator, num_classes, latent_dim=model.latent_dim, shape=shape)

    def discriminator(self, model: Model, shape: tuple[int, ...], num_classes: int) -> nn.Module:
        _check_takes_classes(model.discriminator)
        return _construct(model.discriminator, num_classes, shape=shape)


def _check_takes_classes(factory: Callable[..., nn.Module]) -> None:
    if "num_classes" not in inspect.signature(factory).parameters:
        name = getattr(factory, "func", factory).__name__
        raise ConfigError(f"condition=projection: {name} has no parameter num_classes; use condition=concatenation")


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
