"""What is added to the discriminator's loss, per example, as functions of (discriminator, real, fake)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from ganlab.ranges import NonNegative

Discriminator = Callable[[Tensor], Tensor]


@runtime_checkable
class Penalty(Protocol):
    def __call__(self, discriminator: Discriminator, real: Tensor, fake: Tensor) -> Tensor:
        """The penalty of each example: [B]."""
        ...


def squared_gradient_norm(discriminator: Discriminator, x: Tensor) -> Tensor:
    """|| dD(x)/dx ||^2 of each example [B], itself differentiable with respect to the discriminator."""
    gradient = torch.func.grad(lambda inputs: discriminator(inputs).sum())(x)
    return gradient.square().flatten(1).sum(1)


class R1:
    """weight / 2 * || dD(x)/dx ||^2 at real x (Mescheder, Geiger and Nowozin, 2018, eq. 9)."""

    def __init__(self, weight: NonNegative = 0.5) -> None:
        self.weight = weight

    def __call__(self, discriminator: Discriminator, real: Tensor, fake: Tensor) -> Tensor:
        return self.weight / 2 * squared_gradient_norm(discriminator, real)
