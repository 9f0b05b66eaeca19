"""Fully connected networks, for examples of any shape."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Literal

from torch import Tensor, nn

from ganlab.models import spectral_norm as spectral
from ganlab.models.conditional import WithLabel, projection
from ganlab.ranges import FewOrNone, Width

Activation = Literal["tanh", "relu", "leaky_relu", "gelu", "silu"]
ACTIVATIONS: dict[Activation, Callable[[], nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "leaky_relu": lambda: nn.LeakyReLU(0.2),
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}


def layers(inputs: int, outputs: int, width: int, depth: int, activation: Activation) -> nn.Sequential:
    """`depth` hidden layers of `width` units, then a linear one."""
    stack: list[nn.Module] = []
    for _ in range(depth):
        stack += [nn.Linear(inputs, width), ACTIVATIONS[activation]()]
        inputs = width
    return nn.Sequential(*stack, nn.Linear(inputs, outputs))


class MLPGenerator(nn.Module):
    """Hidden layers, then as many outputs as an example has numbers; for images through a tanh into [-1, 1]."""

    def __init__(
        self,
        latent_dim: int,
        shape: tuple[int, ...],
        num_classes: int,
        width: Width = 8,
        depth: FewOrNone = 2,
        activation: Activation = "tanh",
    ) -> None:
        super().__init__()
        self.shape = shape
        self.with_label = WithLabel(num_classes) if num_classes else None
        inputs = latent_dim + (self.with_label.dim if self.with_label else 0)
        self.layers = layers(inputs, prod(shape), width, depth, activation)
        self.output = nn.Tanh() if len(shape) == 3 else nn.Identity()

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        if self.with_label is not None:
            z = self.with_label(z, label)
        return self.output(self.layers(z)).view(-1, *self.shape)


class MLPDiscriminator(nn.Module):
    """The example as one vector, hidden layers, one logit."""

    def __init__(
        self,
        shape: tuple[int, ...],
        num_classes: int,
        width: Width = 8,
        depth: FewOrNone = 2,
        activation: Activation = "tanh",
        spectral_norm: bool = False,
    ) -> None:
        super().__init__()
        self.layers = layers(prod(shape), 1, width, depth, activation)
        self.projection = projection(num_classes, width if depth else prod(shape))
        if spectral_norm:
            spectral.normalise(self)

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        *hidden, psi = self.layers
        phi = x.flatten(1)
        for layer in hidden:
            phi = layer(phi)  #         [B, width]
        logit = psi(phi).squeeze(1)  #  [B]
        return logit + self.projection(phi, label)
