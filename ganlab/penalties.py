"""Penalties added to the discriminator's loss, one value per example."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ganlab.config.ranges import Factor, PositiveInt, Weight
from ganlab.config.stackable import Stackable
from ganlab.rng import StepRNG
from ganlab.schedules import Constant, Schedule

Discriminator = Callable[[Tensor], Tensor]
Gather = Callable[..., Sequence[Tensor]]


def whole_batch(*shards: Tensor) -> Sequence[Tensor]:
    """Return the shards as they are: that of a single process is the whole batch."""
    return shards


class ForwardPass:
    """Forward pass of the discriminator on a batch, which the loss and the penalties share.

    Args:
        x: the batch [B, ...], or the shard of it that this process trains on.
        keeps_graph: whether to prepare for `gradient`, which then needs no second forward pass.
        gather: concatenates the shards of all processes.

    Attributes:
        logit: logits [B].
    """

    def __init__(
        self, discriminator: Discriminator, x: Tensor, keeps_graph: bool = False, gather: Gather = whole_batch
    ) -> None:
        self.discriminator, self.x, self.gather = discriminator, x, gather
        self._pull_back: Callable[[Tensor], tuple[Tensor]] | None = None
        if keeps_graph:
            self.logit, self._pull_back = torch.func.vjp(discriminator, x)  # type: ignore[misc]  # two values
        else:
            self.logit = discriminator(x)

    def gradient(self) -> Tensor:
        """dD(x)/dx of each example, flattened to [B, D]; differentiable with respect to the parameters."""
        if self._pull_back is None:
            return gradients(self.discriminator, self.x)
        (gradient,) = self._pull_back(torch.ones_like(self.logit))
        return gradient.flatten(1)

    def std(self) -> Tensor:
        """Return the standard deviation of all elements of the whole batch; a scalar."""
        (x,) = self.gather(self.x)
        return x.std(correction=0)


class Penalty(ABC):
    """A penalty on the discriminator.

    Attributes:
        takes_gradient_of: names of the forward passes whose gradient it uses, `real` and `fake`.

    Args:
        weight: coefficient in the formula; gamma or lambda in the papers.
        interval: apply the penalty every `interval` updates, multiplied by `interval` (lazy regularisation: Karras et
            al., 2020, StyleGAN2, appendix B).
        schedule: factor on the weight as a function of training progress.
    """

    takes_gradient_of: tuple[str, ...] = ()

    def __init__(self, weight: Stackable[Weight], interval: PositiveInt = 1, schedule: Schedule | None = None) -> None:
        self.weight = weight
        self.interval = interval
        self.schedule = schedule or Constant()

    @abstractmethod
    def __call__(self, discriminator: Discriminator, real: ForwardPass, fake: ForwardPass, rng: StepRNG) -> Tensor:
        """Return the penalty of each example [B], for batches of real and fake examples `real.x` and `fake.x`."""

    def is_due(self, update: int) -> bool:
        return update % self.interval == 0

    def factor(self, progress: float) -> float:
        """Return the factor on the penalty in an update in which it is due."""
        return self.interval * self.schedule(progress)


def gradients(discriminator: Discriminator, x: Tensor) -> Tensor:
    """dD(x)/dx of each example, flattened to [B, D]; differentiable with respect to the discriminator's parameters."""
    gradient: Tensor = torch.func.grad(lambda inputs: discriminator(inputs).sum())(x)
    return gradient.flatten(1)


def gradient_norm(discriminator: Discriminator, x: Tensor) -> Tensor:
    """|| dD(x)/dx || of each example [B]; where the norm is 0, its gradient is 0 too."""
    return torch.linalg.vector_norm(gradients(discriminator, x), dim=1)


def interpolates(real: Tensor, fake: Tensor, rng: StepRNG) -> Tensor:
    """Sample a point uniformly on the line from each real example to its paired fake example."""
    alpha = rng.uniform(len(real)).view(-1, *[1] * (real.dim() - 1))  # [B, 1, ...]
    return real + alpha * (fake - real)


class R1(Penalty):
    """weight / 2 * || dD(x)/dx ||^2 at real x (Mescheder, Geiger and Nowozin, 2018, eq. 9)."""

    takes_gradient_of = ("real",)

    def __call__(self, discriminator: Discriminator, real: ForwardPass, fake: ForwardPass, rng: StepRNG) -> Tensor:
        return self.weight / 2 * real.gradient().square().sum(1)


class R2(Penalty):
    """weight / 2 * || dD(x)/dx ||^2 at fake x (Mescheder, Geiger and Nowozin, 2018, eq. 10)."""

    takes_gradient_of = ("fake",)

    def __call__(self, discriminator: Discriminator, real: ForwardPass, fake: ForwardPass, rng: StepRNG) -> Tensor:
        return self.weight / 2 * fake.gradient().square().sum(1)


class GradientPenalty(Penalty):
    """weight * (|| dD(x)/dx || - 1)^2 at x between real and fake (WGAN-GP: Gulrajani et al., 2017, eq. 3)."""

    def __call__(self, discriminator: Discriminator, real: ForwardPass, fake: ForwardPass, rng: StepRNG) -> Tensor:
        return self.weight * (gradient_norm(discriminator, interpolates(real.x, fake.x, rng)) - 1).square()


class DRAGAN(Penalty):
    """weight * (|| dD(x)/dx || - 1)^2 at real x with normal noise added (Kodali et al., 2017, section 2.3).

    Args:
        noise: standard deviation of the noise, as a multiple of the standard deviation over the batch.
    """

    def __init__(
        self,
        weight: Stackable[Weight],
        noise: Stackable[Factor] = 0.5,
        interval: PositiveInt = 1,
        schedule: Schedule | None = None,
    ) -> None:
        super().__init__(weight, interval, schedule)
        self.noise = noise

    def __call__(self, discriminator: Discriminator, real: ForwardPass, fake: ForwardPass, rng: StepRNG) -> Tensor:
        perturbed = real.x + self.noise * real.std() * rng.normal(*real.x.shape)
        return self.weight * (gradient_norm(discriminator, perturbed) - 1).square()


class ZeroCentered(Penalty):
    """weight * || dD(x)/dx ||^2 at x between real and fake (0-GP: Thanh-Tung, Tran and Venkatesh, 2019)."""

    def __call__(self, discriminator: Discriminator, real: ForwardPass, fake: ForwardPass, rng: StepRNG) -> Tensor:
        return self.weight * gradients(discriminator, interpolates(real.x, fake.x, rng)).square().sum(1)
