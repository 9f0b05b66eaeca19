"""Schedules: factors on learning rates and penalty weights that change during training."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Annotated

from annotated_types import Ge, Lt

from ganlab.config.ranges import Fraction
from ganlab.config.stackable import Stackable

Start = Annotated[float, Ge(0), Lt(1)]


class Schedule(ABC):
    @abstractmethod
    def __call__(self, progress: float) -> float:
        """Return the factor at `progress`, the fraction of training completed, in [0, 1)."""


class Constant(Schedule):
    """Constant factor of 1."""

    def __call__(self, progress: float) -> float:
        return 1.0


class LinearDecay(Schedule):
    """Factor 1 until the fraction `start` of training, then linear decay to `end`."""

    def __init__(self, start: Stackable[Start] = 0.0, end: Stackable[Fraction] = 0.0) -> None:
        self.start, self.end = start, end

    def __call__(self, progress: float) -> float:
        done = max(0.0, (progress - self.start) / (1.0 - self.start))
        return 1.0 - (1.0 - self.end) * done


class Cosine(Schedule):
    """Linear warm-up from 0 to 1 over the fraction `warm_up` of training, then cosine decay to `end`.

    The decay is eq. 5 of Loshchilov and Hutter (2017) with one period.
    """

    def __init__(self, warm_up: Stackable[Start] = 0.0, end: Stackable[Fraction] = 0.0) -> None:
        self.warm_up, self.end = warm_up, end

    def __call__(self, progress: float) -> float:
        if progress < self.warm_up:
            return progress / self.warm_up
        done = (progress - self.warm_up) / (1.0 - self.warm_up)
        return self.end + (1.0 - self.end) * (1.0 + math.cos(math.pi * done)) / 2
