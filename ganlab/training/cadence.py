"""How long a run trains, and after which steps it logs, samples, evaluates and saves."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """Steps after which a periodic action is due: every `steps` steps, and always after the last step.

    Attributes:
        steps: interval in steps; None means after the last step only.
        last_step: last step of the run.
    """

    steps: int | None
    last_step: int

    def is_due(self, step: int) -> bool:
        return step == self.last_step or (self.steps is not None and step % self.steps == 0)

    def first_due(self, fraction: float) -> int:
        """Return the first step at or after a fraction of the run at which the action is due."""
        if self.steps is None:
            return self.last_step
        target = fraction * self.last_step * (1 - 1e-12)  # rounding: 0.1 * 30 is slightly above 3
        return min(self.last_step, max(1, math.ceil(target / self.steps)) * self.steps)


@dataclass(frozen=True)
class Cadence:
    """Length of a run, and the intervals of all that it does besides training."""

    last_step: int
    steps_per_epoch: float
    log: Interval
    sample: Interval
    evaluate: Interval
    checkpoint: Interval

    def is_due(self, step: int) -> bool:
        """Whether anything besides training is due after a step."""
        return any(each.is_due(step) for each in (self.log, self.sample, self.evaluate, self.checkpoint))

    def epoch(self, step: int) -> float:
        return round(step / self.steps_per_epoch, 4)
