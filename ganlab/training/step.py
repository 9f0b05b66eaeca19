"""One training step; the trainer decides when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ganlab.config.entries import check_structure, entry_path
from ganlab.data.batches import Batches
from ganlab.errors import Diverged
from ganlab.game import DiscriminatorStats, Game, Players, bind_label
from ganlab.models import spectral_norm
from ganlab.optimizers import Optimizers, check_num_updates, check_optimizer_state, restore_optimizer
from ganlab.rng import StepRNG
from ganlab.runs.checkpoints import Stateful, restore_network
from ganlab.schedules import Schedule
from ganlab.training.data_parallel import SINGLE_PROCESS, TrainingProcess
from ganlab.training.ema import AveragedGenerator
from ganlab.training.noise import Noise
from ganlab.training.running_means import mean


class TrainingStep:
    """One training step: updates of the discriminator, then one of the generator.

    `training_step(step)` depends only on `step`, the seed, and the current weights and state of the optimizers.

    Args:
        parallel: divides the batch among processes.
        schedule: factor on both learning rates.
        batches, noise: real examples and latents of each update of the discriminator.
        average: moving average of the generator's weights; None if no average is kept.
        seed: seed of the random numbers of augmentations and penalties.
        last_step: number of steps in the whole run, which schedules depend on.
        discriminator_steps: updates of the discriminator per step, each on a new batch.
        clip_gradient: maximum gradient norm of each player; None for no clipping.
        compile: see `ganlab.training.compiled_step.should_compile`.
    """

    def __init__(
        self,
        *,
        players: Players,
        game: Game,
        optimizers: Optimizers,
        parallel: TrainingProcess,
        schedule: Schedule,
        batches: Batches,
        noise: Noise,
        average: AveragedGenerator | None,
        seed: int,
        last_step: int,
        discriminator_steps: int = 1,
        clip_gradient: float | None = None,
        compile: bool | Literal["auto"] = False,
    ) -> None:
        self.players, self.game, self.parallel = players, game, parallel
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
        self.average, self.batches, self.noise = average, batches, noise
        self.seed, self.device = seed, batches.data.device
        self.last_step, self.discriminator_steps, self.clip_gradient = last_step, discriminator_steps, clip_gradient
        self.compile = compile

    def __call__(self, step: int, lr_factor: float = 1.0) -> dict[str, Tensor]:
        """Update both players, the generator on the last fake batch of the discriminator.

        Args:
            step: number of steps completed before this one.
            lr_factor: factor on both learning rates besides the schedule.

        Returns:
            Losses, statistics and penalties as scalars, averaged over the updates of the discriminator.
        """
        progress = step / self.last_step
        self._set_learning_rates(lr_factor * self.schedule(progress))
        losses = []
        for update in range(step * self.discriminator_steps, (step + 1) * self.discriminator_steps):
            real, label, noise = self._shards(update)
            fake = bind_label(self.generator, label)(noise)
            discriminator = bind_label(self.discriminator, label)

            rng, factors = self._rng("discriminator", update), self.game.penalty_factors(update, progress)
            d = self.game.discriminator_loss(discriminator, real, fake.detach(), rng, factors)
            self._update(d.total, self.discriminator_parameters, self.discriminator_optimizer)
            losses.append(d)

        generator_loss = self.game.generator_loss(discriminator, real, fake, self._rng("generator", step))
        self._update(generator_loss, self.generator_parameters, self.generator_optimizer)

        if self.average:
            self.average.update(self.generator, step + 1)
        return {
            "loss_discriminator": mean([d.adversarial for d in losses]),
            "loss_generator": generator_loss.detach(),
            **{name: mean([getattr(d.stats, name) for d in losses]) for name in DiscriminatorStats._fields},
            **{f"penalty_{name}": mean([d.penalties[name] for d in losses]) for name in d.penalties},
        }

    def _shards(self, update: int) -> tuple[Tensor, Tensor | None, Tensor]:
        """Return this process's share of the real examples, their labels and the latents of an update."""
        (real, label), shard = self.batches(update), self.parallel.shard
        return shard(real), None if label is None else shard(label), shard(self.noise(update))

    def _rng(self, player: str, update: int) -> StepRNG:
        return self.parallel.rng(self.seed, player, update, self.device)

    def _update(self, loss: Tensor, parameters: Sequence[Tensor], optimizer: torch.optim.Optimizer) -> None:
        optimizer_step(loss, parameters, optimizer, self.clip_gradient, self.parallel)

    def _set_learning_rates(self, factor: float) -> None:
        for optimizer, base_lrs in self.base_lrs.items():
            for group, base_lr in zip(optimizer.param_groups, base_lrs, strict=True):
                group["lr"] = factor * base_lr

    @property
    def keys(self) -> list[str]:
        """The keys of the dictionary that a step returns."""
        penalties = [f"penalty_{name}" for name in self.game.penalties]
        return ["loss_discriminator", "loss_generator", *DiscriminatorStats._fields, *penalties]

    def summary(self) -> str:
        """Describe the run in one line: data, steps and numbers of parameters."""
        generator, discriminator = (
            sum(p.numel() for p in parameters)
            for parameters in (self.generator_parameters, self.discriminator_parameters)
        )
        num = self.parallel.num_processes
        processes = f", {num} processes" if num > 1 else ""
        return (
            f"{len(self.batches.data):,} examples on {self.device}{processes}, {self.last_step:,} steps of "
            f"{self.batches.batch_size}; generator {generator:,} parameters, discriminator {discriminator:,}"
        )

    def check_finite(self, step: int) -> None:
        """Check that all weights are finite.

        Raises:
            Diverged: a weight is not finite.
        """
        for name, network in (("generator", self.generator), ("discriminator", self.discriminator)):
            if not all(bool(parameter.isfinite().all()) for parameter in network.parameters()):
                raise Diverged(f"weights of the {name} not finite at step {step}")

    # State -------------------------------------------------------------------------------------------------

    @property
    def state(self) -> dict[str, Stateful]:
        """Objects whose state is saved in checkpoints."""
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
        step, templates = content["progress"]["step"], {}
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


def optimizer_step(
    loss: Tensor,
    parameters: Sequence[Tensor],
    optimizer: torch.optim.Optimizer,
    clip: float | None = None,
    parallel: TrainingProcess = SINGLE_PROCESS,
) -> None:
    """Compute the gradient with respect to `parameters` only, and take one optimizer step."""
    for parameter in parameters:
        parameter.grad = None
    loss.backward(inputs=parameters)  # autograd.grad may return gradients in another memory layout
    parallel.add_gradients(parameters)
    if clip is not None:
        torch.nn.utils.clip_grad_norm_(parameters, clip)
    optimizer.step()
