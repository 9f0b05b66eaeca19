"""Progress of a run, as its checkpoints save it."""

from __future__ import annotations

import typing
from dataclasses import asdict, dataclass
from typing import Annotated

from annotated_types import Ge, Le
from pydantic import with_config
from typing_extensions import TypedDict

from ganlab.config.entries import STRICT
from ganlab.config.ranges import SmallCountOrZero

Step = Annotated[int, Ge(0), Le(10**15)]
Duration = Annotated[float, Ge(0), Le(1e12)]  # seconds


@with_config(STRICT)
class ProgressState(TypedDict):
    step: Step
    seconds: Duration
    evaluation_seconds: Duration
    roll_backs: SmallCountOrZero


@dataclass
class Progress:
    """Progress of a run.

    Attributes:
        step: number of steps completed; with the seed, it determines all random numbers of the next step.
        seconds: time spent in the training loop, including steps that were rolled back and earlier processes.
        evaluation_seconds: time spent on evaluation, including its preparation.
        roll_backs: number of times the run was rolled back to an earlier step; each halves the learning rates.
    """

    step: int = 0
    seconds: float = 0.0
    evaluation_seconds: float = 0.0
    roll_backs: int = 0

    def state_dict(self) -> ProgressState:
        return typing.cast(ProgressState, asdict(self))

    def load_state_dict(self, state: ProgressState) -> None:
        self.step, self.roll_backs = state["step"], state["roll_backs"]
        self.seconds, self.evaluation_seconds = state["seconds"], state["evaluation_seconds"]
