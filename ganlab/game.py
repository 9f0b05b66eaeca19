"""The game of the two players: what each minimises, as a pure function of its network and its inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ganlab.data.batches import to_unit_range
from ganlab.losses import Loss
from ganlab.penalties import Discriminator, Penalty


@dataclass(frozen=True)
class DiscriminatorLoss:
    """Scalars, but for the logits [B].

    Attributes:
        total: what the discriminator minimises.
        adversarial: its part from the loss.
        penalties: its parts from the penalties, by name.
        real, fake: the logits of the batch.
    """

    total: Tensor
    adversarial: Tensor
    penalties: dict[str, Tensor]
    real: Tensor
    fake: Tensor


@dataclass(frozen=True)
class Game:
    loss: Loss
    penalties: Mapping[str, Penalty]

    def discriminator_loss(self, discriminator: Discriminator, real: Tensor, fake: Tensor) -> DiscriminatorLoss:
        """Of a batch of real and of (detached) fake examples, [B, ...] each."""
        real_logit, fake_logit = discriminator(real), discriminator(fake)
        adversarial = self.loss.discriminator(real_logit, fake_logit).mean()
        penalties = {name: penalty(discriminator, real, fake).mean() for name, penalty in self.penalties.items()}
        total = sum(penalties.values(), start=adversarial)
        return DiscriminatorLoss(total, adversarial, penalties, real_logit, fake_logit)

    def generator_loss(self, discriminator: Discriminator, real: Tensor, fake: Tensor) -> Tensor:
        """Of a batch of fake examples, a scalar."""
        real_logit = discriminator(real) if self.loss.generator_sees_real else None
        return self.loss.generator(real_logit, discriminator(fake)).mean()


def discriminator_accuracy(real: Tensor, fake: Tensor) -> Tensor:
    """The share that it judges rightly, of logits [B] of real and of fake examples: a scalar, 1/2 for a guess."""
    return torch.cat([real >= 0, fake < 0]).float().mean()


@contextmanager
def evaluating(network: nn.Module) -> Iterator[nn.Module]:
    """The network as it is used, not trained: no dropout, no batch statistics, no gradients; then as it was."""
    was_training = network.training
    network.eval()
    with torch.no_grad():
        yield network
    network.train(was_training)


def sample(generator: nn.Module, z: Tensor, batch_size: int = 500) -> Tensor:
    """Examples for latents [N, latent_dim], as they look outside: images in [0, 1] [N, C, H, W], points [N, D]."""
    with evaluating(generator):
        return torch.cat([to_unit_range(generator(part)) for part in z.split(batch_size)]).contiguous()
