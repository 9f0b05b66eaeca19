"""A population: training steps of several runs that advance together, with their tensors stacked.

Only forward passes are vectorised (`torch.func.vmap`); gradients are taken of the sum of the members' losses, which do
not depend on each other.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Generic, NamedTuple, TypeVar, cast

import torch
from torch import Tensor, nn
from torch._dynamo.exc import TorchDynamoException
from torch._inductor.exc import InductorError
from torch.func import functional_call, vmap
from torch.utils._pytree import tree_map

from ganlab.errors import ConfigError
from ganlab.game import Game
from ganlab.models import spectral_norm
from ganlab.rng import StepRNG
from ganlab.schedules import Schedule
from ganlab.training.running_means import mean
from ganlab.training.stacked_data import StackedBatches, StackedNoise
from ganlab.training.stacked_optimizers import StackedOptimizer
from ganlab.training.step import TrainingStep

log = logging.getLogger(__name__)

State = Mapping[str, Tensor]  # parameters and buffers by name
Numbers = Mapping[str, Mapping[str, Tensor]]
Part = TypeVar("Part")
Value = TypeVar("Value")
Draw = tuple[str, tuple[int, ...]]  # method of StepRNG, size


class StackedNetwork:
    """Networks of one architecture with their parameters and buffers stacked; those of each network become views.

    Attributes:
        flat: parameters of all networks [M, P].
        parameters: the same as views [M, ...] by name, leaves of the autograd graph.
        buffers: stacked buffers [M, ...] by name.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        self.template = copy.deepcopy(networks[0])
        named = [dict(network.named_parameters()) for network in networks]
        self.shapes = {name: parameter.shape for name, parameter in named[0].items()}
        self.flat = torch.stack([torch.cat([p.detach().reshape(-1) for p in each.values()]) for each in named])
        self.parameters = {name: part.requires_grad_() for name, part in self.split(self.flat).items()}
        buffers = [dict(network.named_buffers()) for network in networks]
        self.buffers = {name: torch.stack([each[name] for each in buffers]) for name in buffers[0]}
        for index, network in enumerate(networks):
            for name, parameter in network.named_parameters():
                parameter.data = self.parameters[name].detach()[index]
            for name, buffer in network.named_buffers():
                buffer.data = self.buffers[name][index]
        self.gradients = torch.zeros_like(self.flat)  # of the last update, after clipping
        for name, gradients in self.split(self.gradients).items():
            for gradient, each in zip(gradients, named, strict=True):
                each[name].grad = gradient
        self.norms = spectral_norm.named_norms(self.template)

    @property
    def state(self) -> dict[str, Tensor]:
        return self.parameters | self.buffers

    def split(self, flat: Tensor) -> dict[str, Tensor]:
        """Return views [M, ...] of a tensor [M, P] by the names of the parameters."""
        sizes = [shape.numel() for shape in self.shapes.values()]
        parts = zip(self.shapes.items(), flat.split(sizes, dim=1), strict=True)
        return {name: part.view(len(flat), *shape) for (name, shape), part in parts}

    def call(self, state: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
        """Call one network, given its slices of `parameters` and `buffers`."""
        output: Tensor = functional_call(self.template, dict(state), inputs)
        return output

    def gradient(self, losses: Tensor) -> Tensor:
        """Return the gradient [M, P] of the losses [M] with respect to the parameters."""
        gradients = torch.autograd.grad(losses.sum(), list(self.parameters.values()))
        return torch.cat([gradient.flatten(1) for gradient in gradients], 1)

    @torch.no_grad()
    def follow(self, source: StackedNetwork, decay: Tensor) -> None:
        """Update averages of other networks, as `AveragedGenerator.update` does; `decay` is [M, 1]."""
        self.flat.lerp_(source.flat, 1 - decay)
        for name, buffer in self.buffers.items():
            if name.rpartition(".")[0].removesuffix(".0") not in self.norms:
                buffer.copy_(source.buffers[name])
        self.update_spectral_norms()

    @torch.no_grad()
    def update_spectral_norms(self) -> None:
        """Update the singular vectors of spectral normalisation by one power iteration."""
        for name, norm in self.norms.items():
            vectors = [self.buffers[f"{name}.0.{side}"] for side in ("left", "right")]
            updated = vmap(norm.iterated)(self.parameters[f"{name}.original"], vectors[0])
            for vector, value in zip(vectors, updated, strict=True):
                vector.copy_(value)


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

    def __call__(self, step: int) -> dict[str, Tensor]:
        """Update both players of all members; see `TrainingStep.__call__`.

        Returns:
            Losses, statistics and penalties, each [M].
        """
        progress, num = step / self.last_step, self.discriminator_steps
        updates = [self._inputs(update, progress) for update in range(step * num, (step + 1) * num)]
        draws = self._draw("generator", step, updates[-1].real, updates[-1].labels, {})
        factor = self._column(self.schedules, lambda schedule: schedule(progress))
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

    @contextmanager
    def compiled(self) -> Iterator[None]:
        """Context manager in which steps run as one compiled function, or as before if that is not possible."""
        compiled = torch.compile(self._eager_advance, fullgraph=True)

        def advance(*inputs: Any) -> dict[str, Tensor]:
            try:
                return compiled(*inputs)
            except (TorchDynamoException, InductorError) as error:  # raised before anything is changed
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                log.warning("WARNING: the steps are not compiled, which makes them slower: %s", reason[:200])
                self._advance = self._eager_advance
                return self._eager_advance(*inputs)

        with torch._dynamo.config.patch(trace_autograd_ops=True):  # the step takes gradients itself
            self._advance = advance
            try:
                yield
            finally:
                self._advance = self._eager_advance

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


class Distinct(Generic[Part]):
    """The objects of all members without duplicates, so that each is evaluated once.

    Args:
        settings: returns what distinguishes an object.

    Attributes:
        index: position of each member's object among the distinct ones [M].
    """

    def __init__(self, objects: Sequence[Part], settings: Callable[[Part], object] = vars) -> None:
        keys = [repr_of(settings(each)) for each in objects]
        self.objects = dict(zip(keys, objects, strict=True))
        positions = {key: position for position, key in enumerate(self.objects)}
        self.index = torch.tensor([positions[key] for key in keys])

    def map(self, function: Callable[[Part], Value]) -> list[Value]:
        return [function(each) for each in self.objects.values()]


def repr_of(value: object) -> str:
    """Describe an object by its class and attributes, recursively."""
    if isinstance(value, Mapping):
        return repr({key: repr_of(part) for key, part in value.items()})
    attributes = getattr(value, "__dict__", None)
    return repr(value) if attributes is None else f"{type(value).__name__} {repr_of(attributes)}"


# Random numbers --------------------------------------------------------------------------------------------


class RecordingRNG:
    """Records which random tensors one update asks for."""

    def __init__(self, rng: StepRNG) -> None:
        self.rng, self.draws = rng, list[Draw]()

    def uniform(self, *size: int) -> Tensor:
        self.draws.append(("uniform", size))
        return self.rng.uniform(*size)

    def normal(self, *size: int) -> Tensor:
        self.draws.append(("normal", size))
        return self.rng.normal(*size)


class ReplayedRNG:
    """Returns tensors that were sampled before, in the order of the calls."""

    def __init__(self, draws: Sequence[Tensor]) -> None:
        self.draws = iter(draws)

    def uniform(self, *size: int) -> Tensor:
        return next(self.draws)

    normal = uniform


# Numbers of the game in which members differ -----------------------------------------------------------------


def numbers_of(games: Sequence[Game]) -> Numbers:
    """Return the numbers in which losses and penalties differ, stacked [M]: key of the part -> attribute -> values.

    Raises:
        ConfigError: the games differ in something else.
    """
    first = games[0]
    if any(repr_of(game.augment) != repr_of(first.augment) for game in games):
        raise ConfigError("augment: must be the same for all members")
    if any(game.penalties.keys() != first.penalties.keys() for game in games):
        raise ConfigError("penalty: must be the same for all members")
    parts: dict[str, list[object]] = {"loss": [game.loss for game in games]}
    parts |= {f"penalty.{name}": [game.penalties[name] for game in games] for name in first.penalties}
    return {key: numbers for key, part in parts.items() if (numbers := stacked_numbers(key, part))}


def stacked_numbers(key: str, objects: Sequence[object]) -> dict[str, Tensor]:
    """Stack the numbers in which objects of one class differ.

    Raises:
        ConfigError: they differ in class, or in something that is not a number.
    """
    first, stacked = objects[0], dict[str, Tensor]()
    if any(type(each) is not type(first) for each in objects):
        raise ConfigError(f"{key}: must be of the same class for all members")
    for name, value in vars(first).items():
        values = [vars(each)[name] for each in objects]
        if isinstance(value, Schedule) or all(each == value for each in values):
            continue  # schedules are evaluated for each member, as factors
        if name == "interval" or not all(type(each) in (int, float) for each in values):
            raise ConfigError(f"{key}.{name}: must be the same for all members")
        stacked[name] = torch.tensor(values, dtype=torch.get_default_dtype())
    return stacked


def with_numbers(game: Game, numbers: Numbers) -> Game:
    """Return the game with a member's own numbers."""

    def own(key: str, part: Part) -> Part:
        if key in numbers:
            part = copy.copy(part)
            vars(part).update(numbers[key])
        return part

    penalties = {name: own(f"penalty.{name}", penalty) for name, penalty in game.penalties.items()}
    return replace(game, loss=own("loss", game.loss), penalties=penalties)
