"""The game of the two players: what each minimises, as a pure function of its network and its inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ganlab.augment import Augment, Unchanged
from ganlab.losses import Loss
from ganlab.models.latents import Latent, Normal
from ganlab.penalties import Discriminator, Penalty
from ganlab.rng import StepRNG
from ganlab.rng import generator as random_generator


@dataclass(frozen=True)
class Players:
    """The two networks and how they are called.

    Attributes:
        generator: maps latents [B, latent_dim] to examples [B, ...].
        discriminator: maps examples, `pack` of them joined to one, to logits [B / pack].
        latent: what latents are drawn from.
        num_classes: how many classes both are told of; 0: none.
        pack: examples that the discriminator judges at a time (Lin et al., 2018, PacGAN).
    """

    generator: nn.Module
    discriminator: nn.Module
    latent_dim: int
    latent: Latent = field(default_factory=Normal)
    num_classes: int = 0
    pack: int = 1

    def draw(self, num: int, seed: int, stream: str, index: int = 0) -> tuple[Tensor, Tensor | None]:
        """Latents [num, latent_dim] and, where there are classes, labels [num], evenly distributed; on the CPU."""
        z = self.latent((num, self.latent_dim), random_generator(seed, stream, index))
        if not self.num_classes:
            return z, None
        return z, torch.randint(self.num_classes, (num,), generator=random_generator(seed, f"{stream} label", index))


@dataclass(frozen=True)
class StepContext:
    """Where in training an update of a player is.

    Attributes:
        update: its number, from 0.
        progress: the share of training done, in [0, 1).
        draws: what it draws at random.
    """

    update: int
    progress: float
    draws: StepRNG


class DiscriminatorStats(NamedTuple):
    """How well the discriminator tells real from fake, as scalars; a guess has 1/2, 1/2 and 0.

    Attributes:
        accuracy_real, accuracy_fake: the shares of the real and of the fake examples that it judges rightly.
        logit_gap: the mean logit of the real examples less that of the fake ones.
    """

    accuracy_real: Tensor
    accuracy_fake: Tensor
    logit_gap: Tensor


@dataclass(frozen=True)
class DiscriminatorLoss:
    """Scalars.

    Attributes:
        total: what the discriminator minimises.
        adversarial: its part from the loss.
        penalties: its parts from the penalties, by name; 0 where one is not due.
        verdict: how well the discriminator told real from fake.
    """

    total: Tensor
    adversarial: Tensor
    penalties: dict[str, Tensor]
    verdict: DiscriminatorStats


@dataclass(frozen=True)
class Game:
    loss: Loss
    penalties: Mapping[str, Penalty]
    augment: Augment = field(default_factory=Unchanged)
    pack: int = 1

    def discriminator_loss(
        self, discriminator: Discriminator, real: Tensor, fake: Tensor, moment: StepContext
    ) -> DiscriminatorLoss:
        """Of a batch of real and of (detached) fake examples, [B, ...] each."""
        real, fake = self._shown(real, moment), self._shown(fake, moment)
        real_logit, fake_logit = discriminator(real), discriminator(fake)
        adversarial = self.loss.discriminator(real_logit, fake_logit).mean()
        penalties = {
            name: penalty(discriminator, real, fake, moment.draws).mean() * penalty.factor(moment.progress)
            if penalty.is_due(moment.update)
            else torch.zeros_like(adversarial)
            for name, penalty in self.penalties.items()
        }
        total = sum(penalties.values(), start=adversarial)
        return DiscriminatorLoss(total, adversarial, penalties, verdict(real_logit, fake_logit, self.loss.boundary))

    def generator_loss(self, discriminator: Discriminator, real: Tensor, fake: Tensor, moment: StepContext) -> Tensor:
        """Of a batch of fake examples and of the real ones they are paired with, a scalar."""
        fake_logit = discriminator(self._shown(fake, moment))
        real_logit = None
        if self.loss.generator_sees_real:
            with torch.no_grad():  # the generator has no part in them
                real_logit = discriminator(self._shown(real, moment))
        return self.loss.generator(real_logit, fake_logit).mean()

    def _shown(self, x: Tensor, moment: StepContext) -> Tensor:
        """What the discriminator sees of examples: each augmented in its own way, then packed."""
        return packed(self.augment(x, moment.draws), self.pack)


def bind_label(network: nn.Module, label: Tensor | None) -> Callable[[Tensor], Tensor]:
    """The network as a function of its input alone, the classes [B] being given if it is one that is told them."""
    return network if label is None else lambda x: network(x, label)


def packed(x: Tensor, pack: int) -> Tensor:
    """Every `pack` examples [B, C, ...] joined to one along the channels, or coordinates: [B / pack, pack * C, ...]."""
    return x if pack == 1 else x.reshape(len(x) // pack, pack * x.shape[1], *x.shape[2:])


def verdict(real: Tensor, fake: Tensor, boundary: float | None = 0.0) -> DiscriminatorStats:
    """Of logits [B] of real and of fake examples.

    Args:
        boundary: the least logit of what is taken for real; None: the mean of all these logits.
    """
    real, fake = real.detach(), fake.detach()
    limit = (real.mean() + fake.mean()) / 2 if boundary is None else boundary
    return DiscriminatorStats((real >= limit).float().mean(), (fake < limit).float().mean(), (real - fake).mean())
