"""What the game of each member of a population depends on: random numbers, and numbers in which members differ."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Generic, TypeVar

import torch
from torch import Tensor

from ganlab.errors import ConfigError
from ganlab.game import Game
from ganlab.rng import StepRNG
from ganlab.schedules import Schedule

Numbers = Mapping[str, Mapping[str, Tensor]]
Part = TypeVar("Part")
Value = TypeVar("Value")
Draw = tuple[str, tuple[int, ...]]  # method of StepRNG, size


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
