"""Fully connected networks, for examples of any shape."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Literal

from torch import Tensor, nn

from ganlab.config.ranges import SmallCountOrZero, Width
from ganlab.models import spectral_norm as spectral
from ganlab.models.conditional import WithLabel, projection

Activation = Literal["tanh", "relu", "leaky_relu", "gelu", "silu"]
ACTIVATIONS: dict[Activation, Callable[[], nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "leaky_relu": lambda: nn.LeakyReLU(0.2),
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}


def hidden_layers(inputs: int, width: int, depth: int, activation: Activation) -> list[nn.Module]:
    """Return `depth` linear layers of `width` units, each followed by an activation."""
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Linear(inputs, width), ACTIVATIONS[activation]()]
        inputs = width
    return layers


class MLPGenerator(nn.Module):
    """Hidden layers and an output layer, followed by a tanh for images."""

    def __init__(
        self,
        latent_dim: int,
        shape: tuple[int, ...],
        num_classes: int,
        width: Width = 8,
        depth: SmallCountOrZero = 2,
        activation: Activation = "tanh",
    ) -> None:
        super().__init__()
        self.shape = shape
        self.with_label = WithLabel(num_classes) if num_classes else None
        inputs = latent_dim + (self.with_label.dim if self.with_label else 0)
        hidden = hidden_layers(inputs, width, depth, activation)
        self.layers = nn.Sequential(*hidden, nn.Linear(width if depth else inputs, prod(shape)))
        self.output = nn.Tanh() if len(shape) == 3 else nn.Identity()

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        if self.with_label is not None:
            z = self.with_label(z, label)
        return self.output(self.layers(z)).view(-1, *self.shape)


class MLPDiscriminator(nn.Module):
    """Hidden layers on the flattened example, then a logit."""

    def __init__(
        self,
        shape: tuple[int, ...],
        num_classes: int,
        width: Width = 8,
        depth: SmallCountOrZero = 2,
        activation: Activation = "tanh",
        spectral_norm: bool = False,
    ) -> None:
        super().__init__()
        features = width if depth else prod(shape)
        self.hidden = nn.Sequential(*hidden_layers(prod(shape), width, depth, activation))
        self.logit = nn.Linear(features, 1)
        self.projection = projection(num_classes, features)
        if spectral_norm:
            spectral.normalise(self)

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        phi = self.hidden(x.flatten(1))  #     [B, width]
        logit = self.logit(phi).squeeze(1)  #  [B]
        return self.projection(logit, phi, label)
