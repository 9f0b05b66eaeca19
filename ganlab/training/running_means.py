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
    """Mean of scalars, detached from their graphs."""
    return values[0].detach() if len(values) == 1 else torch.stack(tuple(values)).detach().mean()


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
