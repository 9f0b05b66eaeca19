"""A population: training steps of several runs that advance together, with their tensors stacked.

Only forward passes are vectorised (`torch.func.vmap`); gradients are taken of the sum of the members' losses, which do
not depend on each other.
"""

from __future__ import annotations

import copy
import json
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch._dynamo.exc import TorchDynamoException
from torch._inductor.exc import InductorError
from torch.func import vmap
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from ganlab.config.run_config import ResolvedConfig
from ganlab.errors import ConfigError
from ganlab.game import bind_label
from ganlab.rng import StepRNG
from ganlab.training.memory import available_memory
from ganlab.training.running_means import mean
from ganlab.training.stacked_data import StackedBatches, StackedNoise
from ganlab.training.stacked_game import (
    Distinct,
    Draw,
    Numbers,
    Part,
    RecordingRNG,
    ReplayedRNG,
    numbers_of,
    with_numbers,
)
from ganlab.training.stacked_network import StackedNetwork
from ganlab.training.stacked_optimizers import StackedOptimizer
from ganlab.training.step import TrainingStep

log = logging.getLogger(__name__)

BYTES_OF_OBJECTS = 100_000  # estimate of a member's Python objects

State = Mapping[str, Tensor]  # parameters and buffers by name


class Inputs(NamedTuple):
    """What the members' updates of the discriminator depend on besides their state; all tensors start with M.

    Attributes:
        real, noise: real examples and latents.
        labels: the labels of both, if the networks are conditional, else empty.
        draws: random tensors of augmentations and penalties, in the order of their use.
        factors: factors on the penalties that are due.
        number: number of the update, counted from 1; [M].
    """

    real: Tensor
    noise: Tensor
    labels: tuple[Tensor, ...]
    draws: list[Tensor]
    factors: dict[str, Tensor]
    number: Tensor


class Population:
    """Training steps of several runs, of equal shape and at the same step, that advance together.

    Their networks, averages and optimizers become views of stacked tensors, so that each can be sampled, evaluated and
    saved as if it were trained alone. A member sees the same batches, noise and initial weights as when trained alone.

    Args:
        members: training steps that differ only in their seeds and in numbers that can be stacked.

    Raises:
        ConfigError: the members differ in something else; the message names it.
    """

    def __init__(self, members: Sequence[TrainingStep]) -> None:
        self.members, first = members, members[0]
        self.game, self.discriminator_steps, self.last_step = first.game, first.discriminator_steps, first.last_step
        self.numbers = numbers_of([member.game for member in members])
        self.generator = StackedNetwork([member.generator for member in members])
        self.discriminator = StackedNetwork([member.discriminator for member in members])
        self.generator_optimizer = StackedOptimizer([m.generator_optimizer for m in members], self.generator.split)
        self.discriminator_optimizer = StackedOptimizer(
            [member.discriminator_optimizer for member in members], self.discriminator.split
        )
        self.averages = StackedNetwork([m.average.module for m in members if m.average]) if first.average else None
        self.batches = StackedBatches([member.batches for member in members])
        self.noise = StackedNoise([member.noise for member in members])
        self.clip = None
        limits = [member.clip_gradient for member in members if member.clip_gradient is not None]
        if limits:
            self.clip = self.generator.flat.new_tensor(limits)[:, None]
        self.lr_generator, self.lr_discriminator = (
            self.generator.flat.new_tensor([member.base_lrs[optimizer][0] for member, optimizer in pairs])[:, None]
            for pairs in (
                [(member, member.generator_optimizer) for member in members],
                [(member, member.discriminator_optimizer) for member in members],
            )
        )
        self.schedules = Distinct([member.schedule for member in members])
        self.games = Distinct([member.game for member in members], lambda game: game.penalties)
        self.decays = Distinct([member.average for member in members], lambda average: average and average.settings)
        self._advance: Callable[..., dict[str, Tensor]] = self._eager_advance
        self._draw_sizes: dict[tuple[str, ...], list[Draw]] = {}
        self._check()

    def _check(self) -> None:
        """Check that the networks and losses can be vectorised, on copies of their state.

        Raises:
            ConfigError: they cannot; the message says why.
        """
        generator, discriminator = (
            {name: tensor.detach().clone() for name, tensor in network.state.items()}
            for network in (self.generator, self.discriminator)
        )
        try:
            inputs = self._inputs(0, 0.0)
            fake = vmap(self.generator.call)(generator, inputs.noise, *inputs.labels)
            vmap(self._discriminator_losses)(discriminator, inputs, fake, self.numbers)
        except RuntimeError as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ConfigError(f"model: cannot be stacked: {reason[:200]}") from error

    def __call__(self, step: int, lr_factor: float = 1.0) -> dict[str, Tensor]:
        """Update both players of all members; see `TrainingStep.__call__`.

        Returns:
            Losses, statistics and penalties, each [M].
        """
        progress, num = step / self.last_step, self.discriminator_steps
        updates = [self._inputs(update, progress) for update in range(step * num, (step + 1) * num)]
        draws = self._draw("generator", step, updates[-1].real, updates[-1].labels, {})
        factor = self._column(self.schedules, lambda schedule: lr_factor * schedule(progress))
        decay = None
        if self.averages is not None:
            decay = self._column(self.decays, lambda average: average.decay(step + 1) if average else 0.0)
        number = updates[-1].noise.new_full((len(self.members),), step + 1.0)
        rates = factor * self.lr_discriminator, factor * self.lr_generator
        losses = self._advance(updates, draws, number, *rates, decay)
        self.discriminator_optimizer.num_updates.fill_((step + 1) * num)
        self.generator_optimizer.num_updates.fill_(step + 1)
        return losses

    def _eager_advance(
        self,
        updates: Sequence[Inputs],
        draws: list[Tensor],
        number: Tensor,
        lr_discriminator: Tensor,
        lr_generator: Tensor,
        decay: Tensor | None,
    ) -> dict[str, Tensor]:
        """The step as a function of tensors, which changes the stacked state in place."""
        losses = []
        for inputs in updates:
            fake = vmap(self.generator.call)(self.generator.state, inputs.noise, *inputs.labels)
            d = vmap(self._discriminator_losses)(self.discriminator.state, inputs, fake.detach(), self.numbers)
            gradient = self.discriminator.gradient(d["total"])
            self._update(self.discriminator, self.discriminator_optimizer, gradient, lr_discriminator, inputs.number)
            losses.append(d)

        inputs = inputs._replace(draws=draws)
        generator_loss = vmap(self._generator_loss)(self.discriminator.state, inputs, fake, self.numbers)
        gradient = self.generator.gradient(generator_loss)
        self._update(self.generator, self.generator_optimizer, gradient, lr_generator, number)
        if self.averages is not None and decay is not None:
            self.averages.follow(self.generator, decay)
        return {
            "loss_discriminator": mean([d["adversarial"] for d in losses]),
            "loss_generator": generator_loss.detach(),
            **{name: mean([d[name] for d in losses]) for name in losses[0] if name not in ("total", "adversarial")},
        }

    def compile(self) -> None:
        """Run further steps as one compiled function, or as before if that is not possible."""
        # A C++ wrapper starts the kernels of a single run faster, but takes longer to compile
        options: dict[str, Any] = {"cpp_wrapper": len(self.members) == 1}
        compiled = torch.compile(self._eager_advance, fullgraph=True, options=options)
        tracing = torch._dynamo.config.patch(trace_autograd_ops=True)  # the step takes gradients itself
        log.info("Compiling the training step, which takes 10 to 30 s, or 3 s if it was compiled before")
        started: float | None = time.monotonic()

        def advance(*inputs: Any) -> dict[str, Tensor]:
            nonlocal started
            try:
                with tracing:
                    losses = compiled(*inputs)
            except (TorchDynamoException, InductorError) as error:  # raised before anything is changed
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                log.warning(
                    "WARNING: the training step is not compiled, so it is slower; trainer.compile=false avoids it: %s",
                    reason[:200],
                )
                self._advance = self._eager_advance
                return self._eager_advance(*inputs)
            if started is not None:
                log.info("Compiled the training step in %.1f s", time.monotonic() - started)
                started = None
            return losses

        self._advance = advance

    # The losses of one member, inside vmap ---------------------------------------------------------------------

    def _discriminator_losses(self, state: State, inputs: Inputs, fake: Tensor, numbers: Numbers) -> dict[str, Tensor]:
        discriminator, rng = self._bound(state, inputs.labels), cast(StepRNG, ReplayedRNG(inputs.draws))
        game = with_numbers(self.game, numbers)
        d = game.discriminator_loss(discriminator, inputs.real, fake, rng, inputs.factors)
        penalties = {f"penalty_{name}": value for name, value in d.penalties.items()}
        return {"total": d.total, "adversarial": d.adversarial, **d.stats._asdict(), **penalties}

    def _generator_loss(self, state: State, inputs: Inputs, fake: Tensor, numbers: Numbers) -> Tensor:
        discriminator, rng = self._bound(state, inputs.labels), cast(StepRNG, ReplayedRNG(inputs.draws))
        return with_numbers(self.game, numbers).generator_loss(discriminator, inputs.real, fake, rng)

    def _bound(self, state: State, labels: tuple[Tensor, ...]) -> Callable[[Tensor], Tensor]:
        return lambda x: self.discriminator.call(state, x, *labels)

    # What the losses depend on -----------------------------------------------------------------------------------

    def _inputs(self, update: int, progress: float) -> Inputs:
        batch, noise = self.batches(update), self.noise(update)
        labels = () if batch.label is None else (batch.label,)
        each = self.games.map(lambda game: game.penalty_factors(update, progress))
        factors = {name: noise.new_tensor([factors[name] for factors in each])[self.games.index] for name in each[0]}
        draws = self._draw("discriminator", update, batch.x, labels, factors)
        return Inputs(batch.x, noise, labels, draws, factors, noise.new_full((len(self.members),), update + 1.0))

    def _draw(
        self, player: str, update: int, real: Tensor, labels: tuple[Tensor, ...], factors: dict[str, Tensor]
    ) -> list[Tensor]:
        """Return the random tensors of an update [M, ...], for each member as when trained alone."""
        key = (player, *factors)
        if key not in self._draw_sizes:
            recorder = RecordingRNG(StepRNG(0, player, update, real.device))  # of one member's update, on a copy
            state, x, y, fs = tree_map(
                lambda tensor: tensor.detach()[0].clone(), (self.discriminator.state, real, labels, factors)
            )
            discriminator = self._bound(state, y)
            with torch.no_grad():
                if player == "generator":
                    self.game.generator_loss(discriminator, x, x, cast(StepRNG, recorder))
                else:
                    self.game.discriminator_loss(discriminator, x, x, cast(StepRNG, recorder), fs)
            self._draw_sizes[key] = recorder.draws
        if not self._draw_sizes[key]:
            return []
        rngs = [StepRNG(member.seed, player, update, member.device) for member in self.members]
        each = [[getattr(rng, kind)(*size) for kind, size in self._draw_sizes[key]] for rng in rngs]
        return [torch.stack(column) for column in zip(*each, strict=True)]

    @torch.no_grad()
    def _update(
        self, network: StackedNetwork, optimizer: StackedOptimizer, gradient: Tensor, lr: Tensor, number: Tensor
    ) -> None:
        if self.clip is not None:
            norm = gradient.norm(dim=1, keepdim=True)
            gradient = gradient * (self.clip / (norm + 1e-6)).clamp(max=1.0)
        network.gradients.copy_(gradient)
        optimizer.step(network.flat, gradient, lr, number[:, None])
        network.update_spectral_norms()

    def _column(self, objects: Distinct[Part], value_of: Callable[[Part], float]) -> Tensor:
        """Return a number of each member, [M, 1]."""
        return self.generator.flat.new_tensor(objects.map(value_of))[objects.index, None]


class AllocatedBytes(TorchDispatchMode):
    """Counts the bytes of all tensors that operations return, in a `with` block."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.count += sum(leaf.nbytes for leaf in tree_leaves(result) if isinstance(leaf, Tensor))
        return result


def largest_population(step: TrainingStep, configs: Collection[ResolvedConfig]) -> int:
    """Return the number of runs whose population fits in half of the available memory.

    Args:
        step: training step of one of the runs.
        configs: configs of all runs, which may have different data.
    """
    size = memory_per_member(step)
    if len({json.dumps(cfg.select("dataset"), sort_keys=True) for cfg in configs}) > 1:
        size += step.batches.data.nbytes
    largest = max(1, available_memory() // 2 // size)
    if largest < len(configs):
        log.info(
            "Populations have at most %d runs, of about %.1f MB each; hydra.launcher.max_population= changes this",
            *(largest, size / 1e6),
        )
    return largest


def memory_per_member(step: TrainingStep) -> int:
    """Estimate the bytes that a run needs as a member of a population, from the losses of its first step.

    All intermediate results are counted, although some are freed before others are computed.
    """
    batch, noise = step.batches(0), step.noise(0)
    rng, factors = StepRNG(step.seed, "discriminator", 0, step.device), step.game.penalty_factors(0, 0.0)
    generator, discriminator = (bind_label(copy.deepcopy(n), batch.label) for n in (step.generator, step.discriminator))
    with AllocatedBytes() as allocated:
        fake = generator(noise)
        loss = step.game.discriminator_loss(discriminator, batch.x, fake.detach(), rng, factors).total
        (loss + step.game.generator_loss(discriminator, batch.x, fake, rng)).backward()
    leaves = tree_leaves([part.state_dict() for part in step.state.values()])
    state = sum(leaf.nbytes for leaf in leaves if isinstance(leaf, Tensor))
    inputs = step.noise.block(0).nbytes + step.batches.order(0).nbytes
    # The state three times: the member's own, its copy in the stack, and gradients
    return allocated.count + 3 * state + inputs + BYTES_OF_OBJECTS
