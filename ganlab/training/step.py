"""One training step; the trainer decides when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ganlab.config.entries import check_structure, entry_path
from ganlab.data.batches import Batches
from ganlab.errors import Diverged
from ganlab.game import DiscriminatorStats, Game, Players, StepContext, bind_label
from ganlab.models import spectral_norm
from ganlab.optimizers import Optimizers, check_num_updates, check_optimizer_state, restore_optimizer
from ganlab.rng import StepRNG
from ganlab.runs.checkpoints import Stateful, restore_network
from ganlab.schedules import Schedule
from ganlab.training.ema import AveragedGenerator
from ganlab.training.noise import Noise
from ganlab.training.running_means import mean


class Learner:
    """Networks, optimizers and averaged weights of a run, and the training step that updates them.

    Args:
        schedule: factor on both learning rates.
        last_step: number of steps in the whole run, which schedules depend on.
        others: see `ganlab.training.trainer.Trainer`.

    Attributes:
        step: number of steps completed; with the seed, it determines all random numbers of the next step.
        roll_backs: number of times the run was rolled back to an earlier step; each halves the learning rates.
        average: the averaged generator, or None if no average is kept.
    """

    def __init__(
        self,
        *,
        players: Players,
        game: Game,
        optimizers: Optimizers,
        schedule: Schedule,
        batches: Batches,
        seed: int,
        last_step: int,
        discriminator_steps: int,
        clip_gradient: float | None,
        ema_half_life: float | None,
        ema_ramp: float | None,
    ) -> None:
        self.players, self.game = players, game
        self.generator, self.discriminator = players.generator, players.discriminator
        self.generator_parameters = list(self.generator.parameters())
        self.discriminator_parameters = list(self.discriminator.parameters())
        self.optimizers = optimizers
        self.generator_optimizer = optimizers.generator(self.generator_parameters)
        self.discriminator_optimizer = optimizers.discriminator(self.discriminator_parameters)
        self.schedule = schedule
        self.base_lrs = {  # learning rates of each optimizer's groups, before the schedule
            optimizer: [group["lr"] for group in optimizer.param_groups]
            for optimizer in (self.generator_optimizer, self.discriminator_optimizer)
        }
        for network, optimizer in zip((self.generator, self.discriminator), self.base_lrs, strict=True):
            spectral_norm.update_after_each_step(network, optimizer)
        self.average = (
            AveragedGenerator(self.generator, ema_half_life, batches.batch_size * discriminator_steps, ema_ramp)
            if ema_half_life
            else None
        )
        self.batches, self.seed, self.device = batches, seed, batches.data.device
        self.noise = Noise(players.latent, players.latent_dim, batches.batch_size, seed, self.device)
        self.discriminator_steps, self.clip_gradient = discriminator_steps, clip_gradient
        self.step, self.last_step, self.roll_backs = 0, last_step, 0

    @property
    def sampled(self) -> nn.Module:
        """The generator to sample from: the averaged one if it is kept."""
        return self.average.module if self.average else self.generator

    @property
    def state(self) -> dict[str, Stateful]:
        """Objects whose state is saved in checkpoints, besides the step and the number of roll-backs."""
        parts: dict[str, Stateful] = {
            "generator": self.generator,
            "discriminator": self.discriminator,
            "generator_optimizer": self.generator_optimizer,
            "discriminator_optimizer": self.discriminator_optimizer,
        }
        return {**parts, "ema": self.average.module} if self.average else parts

    def check(self, where: str, content: Mapping[str, Any]) -> dict[str, Any]:
        """Check the networks and optimizers in a checkpoint.

        Returns:
            Optimizer name -> state template, for `restore`.

        Raises:
            CheckpointError: names the first entry that does not fit.
        """
        for name, part in self.state.items():
            if isinstance(part, nn.Module):
                check_structure(entry_path(where, name), content[name], part.state_dict())
        step, templates = content["step"], {}
        for player, optimizer, num_updates in (
            ("generator", self.generator_optimizer, step),
            ("discriminator", self.discriminator_optimizer, step * self.discriminator_steps),
        ):
            name = f"{player}_optimizer"
            path, make, network = entry_path(where, name), getattr(self.optimizers, player), getattr(self, player)
            templates[name] = check_optimizer_state(path, content[name], make, network, content[player])
            check_num_updates(path, optimizer, content[name]["state"], num_updates)
        return templates

    def restore(self, content: Mapping[str, Any], templates: Mapping[str, Any]) -> None:
        """Load a checkpoint for which `check` has returned `templates`."""
        for name, part in self.state.items():
            if isinstance(part, nn.Module):
                restore_network(part, content[name])
            elif isinstance(part, torch.optim.Optimizer):
                restore_optimizer(part, content[name], templates[name])
        self.step, self.roll_backs = content["step"], content["roll_backs"]

    @property
    def update_keys(self) -> list[str]:
        """The keys of the dictionary that `update` returns."""
        penalties = [f"penalty_{name}" for name in self.game.penalties]
        return ["loss_discriminator", "loss_generator", *DiscriminatorStats._fields, *penalties]

    def summary(self) -> str:
        """Describe the run in one line: data, steps and numbers of parameters."""
        generator, discriminator = (
            sum(p.numel() for p in parameters)
            for parameters in (self.generator_parameters, self.discriminator_parameters)
        )
        return (
            f"{len(self.batches.data):,} examples on {self.device}, {self.last_step:,} steps of "
            f"{self.batches.batch_size}; generator {generator:,} parameters, discriminator {discriminator:,}"
        )

    def update(self) -> dict[str, Tensor]:
        """Update the discriminator, then the generator on the last fake batch; return scalar losses and statistics."""
        self._set_learning_rates()
        first = self.step * self.discriminator_steps
        losses = []
        for index in range(first, first + self.discriminator_steps):
            real, label = self.batches(index)
            fake = bind_label(self.generator, label)(self.noise(index))
            discriminator = bind_label(self.discriminator, label)

            d = self.game.discriminator_loss(discriminator, real, fake.detach(), self._context("discriminator", index))
            optimizer_step(d.total, self.discriminator_parameters, self.discriminator_optimizer, self.clip_gradient)
            losses.append(d)

        generator_loss = self.game.generator_loss(discriminator, real, fake, self._context("generator", self.step))
        optimizer_step(generator_loss, self.generator_parameters, self.generator_optimizer, self.clip_gradient)

        self.step += 1
        if self.average:
            self.average.update(self.generator, self.step)
        return {
            "loss_discriminator": mean([d.adversarial for d in losses]),
            "loss_generator": generator_loss.detach(),
            **{name: mean([getattr(d.stats, name) for d in losses]) for name in DiscriminatorStats._fields},
            **{f"penalty_{name}": mean([d.penalties[name] for d in losses]) for name in d.penalties},
        }

    def _context(self, player: str, update: int) -> StepContext:
        return StepContext(update, self.step / self.last_step, StepRNG(self.seed, player, update, self.device))

    def _set_learning_rates(self) -> None:
        factor = self.schedule(self.step / self.last_step) / 2**self.roll_backs
        for optimizer, base_lrs in self.base_lrs.items():
            for group, base_lr in zip(optimizer.param_groups, base_lrs, strict=True):
                group["lr"] = factor * base_lr

    def refuse_nonfinite(self) -> None:
        """Check that all weights are finite.

        Raises:
            Diverged: a weight is not finite.
        """
        for name, network in (("generator", self.generator), ("discriminator", self.discriminator)):
            if not all(bool(parameter.isfinite().all()) for parameter in network.parameters()):
                raise Diverged(f"weights of the {name} not finite at step {self.step}")


def optimizer_step(
    loss: Tensor, parameters: Sequence[Tensor], optimizer: torch.optim.Optimizer, clip: float | None = None
) -> None:
    """Compute the gradient with respect to `parameters` only, and take one optimizer step."""
    for parameter in parameters:
        parameter.grad = None
    loss.backward(inputs=parameters)  # autograd.grad may return gradients in another memory layout
    if clip is not None:
        torch.nn.utils.clip_grad_norm_(parameters, clip)
    optimizer.step()
