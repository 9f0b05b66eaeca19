"""Running means of the numbers that training steps return."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from annotated_types import Ge, Le
from pydantic import with_config
from torch import Tensor
from typing_extensions import TypedDict

from ganlab.config.entries import STRICT


def mean(values: Sequence[Tensor]) -> Tensor:
    """Elementwise mean of tensors of one shape, detached from their graphs."""
    return values[0].detach() if len(values) == 1 else torch.stack(tuple(values)).detach().mean(0)


@with_config(STRICT)
class MeansState(TypedDict):
    names: list[str]
    sums: Tensor | None
    count: Annotated[int, Ge(0), Le(10**15)]


class RunningMeans:
    """Means over steps. Sums stay on the device, so that only `values` synchronises with it."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.names: list[str] = []
        self.sums: Tensor | None = None
        self.count = 0

    def add(self, numbers: Mapping[str, Tensor]) -> None:
        values = torch.stack(list(numbers.values()))
        self.names = list(numbers)
        self.sums = values if self.sums is None else self.sums.to(values.device) + values
        self.count += 1

    def values(self) -> dict[str, float]:
        means = [] if self.sums is None else (self.sums / self.count).tolist()
        return dict(zip(self.names, means, strict=True))

    def state_dict(self) -> MeansState:
        return {"names": self.names, "sums": self.sums, "count": self.count}

    def load_state_dict(self, state: MeansState) -> None:
        self.names, self.sums, self.count = state["names"], state["sums"], state["count"]


class StackedMeans:
    """Running means of the members of a population, which are those of each member between `lend` and `take_back`.

    Sums are added step by step, as for a run alone, so that an interruption does not change their rounding.
    """

    def __init__(self, members: Sequence[RunningMeans]) -> None:
        self.members = members
        self.counts = [member.count for member in members]
        sums = [member.sums for member in members]
        first = next((each for each in sums if each is not None), None)
        self.names = next((member.names for member in members if member.names), [])
        self.sums: Tensor | None = None  # [K, M]
        if first is not None:
            self.sums = torch.stack([torch.zeros_like(first) if each is None else each for each in sums], 1)

    def add(self, numbers: Mapping[str, Tensor]) -> None:
        values = torch.stack(list(numbers.values()))
        self.names = list(numbers)
        self.sums = values if self.sums is None else self.sums.to(values.device) + values
        self.counts = [count + 1 for count in self.counts]

    def lend(self) -> None:
        """Copy the sums to the members."""
        assert self.sums is not None
        columns = self.sums.t().clone()
        for member, column, count in zip(self.members, columns, self.counts, strict=True):
            member.names, member.sums, member.count = self.names, column, count

    def take_back(self) -> None:
        """Start again at zero for members that have been reset."""
        assert self.sums is not None
        is_kept = self.sums.new_tensor([member.count > 0 for member in self.members], dtype=torch.bool)
        self.sums = torch.where(is_kept, self.sums, 0.0)
        self.counts = [member.count for member in self.members]
