"""Fully connected networks, for examples of any shape."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from torch import Tensor, nn

from ganlab.ranges import Count, NonNegativeInt


def layers(inputs: int, outputs: int, width: int, depth: int, activation: Callable[[], nn.Module]) -> nn.Sequential:
    """`depth` hidden layers of `width` units, then a linear one."""
    stack: list[nn.Module] = []
    for _ in range(depth):
        stack += [nn.Linear(inputs, width), activation()]
        inputs = width
    return nn.Sequential(*stack, nn.Linear(inputs, outputs))


class MLPGenerator(nn.Module):
    """Hidden layers, then as many outputs as an example has numbers; for images through a tanh into [-1, 1]."""

    def __init__(
        self,
        latent_dim: int,
        shape: tuple[int, ...],
        width: Count = 8,
        depth: NonNegativeInt = 2,
        activation: Callable[[], nn.Module] = nn.Tanh,
    ) -> None:
        super().__init__()
        self.shape = shape
        self.layers = layers(latent_dim, prod(shape), width, depth, activation)
        self.output = nn.Tanh() if len(shape) == 3 else nn.Identity()

    def forward(self, z: Tensor) -> Tensor:
        return self.output(self.layers(z)).view(-1, *self.shape)


class MLPDiscriminator(nn.Module):
    """The example as one vector, hidden layers, one logit."""

    def __init__(
        self,
        shape: tuple[int, ...],
        width: Count = 8,
        depth: NonNegativeInt = 2,
        activation: Callable[[], nn.Module] = nn.Tanh,
    ) -> None:
        super().__init__()
        self.layers = layers(prod(shape), 1, width, depth, activation)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x.flatten(1)).squeeze(1)
