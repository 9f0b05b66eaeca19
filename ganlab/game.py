"""The two-player game: each player's loss as a pure function of its network and inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ganlab.augment import Augment, NoAugment
from ganlab.losses import Loss
from ganlab.models.latents import Latent, Normal
from ganlab.penalties import Discriminator, ForwardPass, Gather, Penalty, whole_batch
from ganlab.rng import StepRNG, make_rng


@dataclass(frozen=True)
class Players:
    """The two networks and the shapes of their inputs.

    Attributes:
        generator: maps latents [B, latent_dim] to examples [B, ...].
        discriminator: maps examples, concatenated in packs of `pack`, to logits [B / pack].
        latent: distribution of the latents.
        num_classes: number of classes that both networks are conditional on; 0 if unconditional.
        pack: number of examples per discriminator input (Lin et al., 2018, PacGAN).
    """

    generator: nn.Module
    discriminator: nn.Module
    latent_dim: int
    latent: Latent = field(default_factory=Normal)
    num_classes: int = 0
    pack: int = 1

    def draw(self, num: int, seed: int, stream: str, index: int = 0) -> tuple[Tensor, Tensor | None]:
        """Sample latents [num, latent_dim] and, if conditional, uniform labels [num], on the CPU."""
        z = self.latent((num, self.latent_dim), make_rng(seed, stream, index))
        if not self.num_classes:
            return z, None
        return z, torch.randint(self.num_classes, (num,), generator=make_rng(seed, f"{stream} label", index))


class DiscriminatorStats(NamedTuple):
    """Accuracy and logit gap of the discriminator, as scalars; at chance level 1/2, 1/2 and 0.

    Attributes:
        accuracy_real, accuracy_fake: fractions of the real and of the fake examples classified correctly.
        logit_gap: mean logit of the real examples minus that of the fake ones.
    """

    accuracy_real: Tensor
    accuracy_fake: Tensor
    logit_gap: Tensor


@dataclass(frozen=True)
class DiscriminatorLoss:
    """Loss of the discriminator and its parts, as scalars.

    Attributes:
        total: sum of the adversarial loss and the penalties.
        adversarial: adversarial loss.
        penalties: weighted penalties by name; 0 for a penalty that is not due.
        stats: accuracy and logit gap.
    """

    total: Tensor
    adversarial: Tensor
    penalties: dict[str, Tensor]
    stats: DiscriminatorStats


@dataclass(frozen=True)
class Game:
    """Losses of both players, from an adversarial loss, penalties on the discriminator and an augmentation.

    Attributes:
        gather: concatenates the logits or penalties of the shards on which several processes train.
    """

    loss: Loss
    penalties: Mapping[str, Penalty]
    augment: Augment = field(default_factory=NoAugment)
    pack: int = 1
    gather: Gather = whole_batch

    def discriminator_loss(
        self,
        discriminator: Discriminator,
        real: Tensor,
        fake: Tensor,
        rng: StepRNG,
        penalty_factors: Mapping[str, float | Tensor],
    ) -> DiscriminatorLoss:
        """Compute the discriminator's loss on real and (detached) fake examples, each [B, ...].

        Args:
            rng: random numbers of this update, for augmentations and penalties.
            penalty_factors: factors on the penalties that are due in this update; see `penalty_factors`.
        """
        differentiated = {side for name in penalty_factors for side in self.penalties[name].takes_gradient_of}
        real, fake = self._prepare(real, rng), self._prepare(fake, rng)
        on_real = ForwardPass(discriminator, real, keeps_graph="real" in differentiated, gather=self.gather)
        on_fake = ForwardPass(discriminator, fake, keeps_graph="fake" in differentiated, gather=self.gather)
        real_logit, fake_logit = self.gather(on_real.logit, on_fake.logit)
        adversarial = self.loss.discriminator(real_logit, fake_logit).mean()
        penalties = {
            name: self.gather(penalty(discriminator, on_real, on_fake, rng))[0].mean() * penalty_factors[name]
            if name in penalty_factors
            else torch.zeros_like(adversarial)
            for name, penalty in self.penalties.items()
        }
        total = sum(penalties.values(), start=adversarial)
        stats = discriminator_stats(real_logit, fake_logit, self.loss.boundary)
        return DiscriminatorLoss(total, adversarial, penalties, stats)

    def penalty_factors(self, update: int, progress: float) -> dict[str, float]:
        """Return the factors of the penalties that are due in an update of the discriminator.

        Args:
            update: number of the update, from 0.
            progress: fraction of training completed, in [0, 1).
        """
        due = {name: penalty for name, penalty in self.penalties.items() if penalty.is_due(update)}
        return {name: penalty.factor(progress) for name, penalty in due.items()}

    def generator_loss(self, discriminator: Discriminator, real: Tensor, fake: Tensor, rng: StepRNG) -> Tensor:
        """Compute the generator's loss on fake examples and the real ones paired with them, each [B, ...]; a scalar."""
        (fake_logit,) = self.gather(discriminator(self._prepare(fake, rng)))
        real_logit = None
        if self.loss.generator_sees_real:
            with torch.no_grad():  # real logits do not depend on the generator
                (real_logit,) = self.gather(discriminator(self._prepare(real, rng)))
        return self.loss.generator(real_logit, fake_logit).mean()

    def _prepare(self, x: Tensor, rng: StepRNG) -> Tensor:
        """Augment each example independently, then pack."""
        return packed(self.augment(x, rng), self.pack)


def bind_label(network: nn.Module, label: Tensor | None) -> Callable[[Tensor], Tensor]:
    """Bind `label` [B], so that the result takes the input alone; None for an unconditional network."""
    return network if label is None else lambda x: network(x, label)


def packed(x: Tensor, pack: int) -> Tensor:
    """Concatenate every `pack` examples [B, C, ...] along their channels or coordinates: [B / pack, pack * C, ...]."""
    return x if pack == 1 else x.reshape(len(x) // pack, pack * x.shape[1], *x.shape[2:])


def discriminator_stats(real: Tensor, fake: Tensor, boundary: float | None = 0.0) -> DiscriminatorStats:
    """Accuracy and logit gap of the discriminator, from logits [B] of real and of fake examples.

    Args:
        boundary: logits from this value on count as real; None uses the mean of all these logits.
    """
    real, fake = real.detach(), fake.detach()
    threshold = (real.mean() + fake.mean()) / 2 if boundary is None else boundary
    accuracy_real, accuracy_fake = (real >= threshold).float().mean(), (fake < threshold).float().mean()
    return DiscriminatorStats(accuracy_real, accuracy_fake, (real - fake).mean())
