"""Successive halving: at each rung the best share of the configurations goes on, the others are halted.

Jamieson & Talwalkar (2016), section 3; one bracket of Hyperband (Li et al., 2018), with budgets that are fractions of a
run's own length. Decisions only, of scores alone: `ganlab.sweeps.rungs` reads and runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Annotated

from annotated_types import Ge, Gt, Le, Lt, MinLen

from ganlab.config.signatures import check_value, shown
from ganlab.errors import ConfigError
from ganlab.runs.scores import Better

Factor = Annotated[float, Ge(2), Le(1000)]
RungList = Annotated[list[Annotated[float, Gt(0), Lt(1)]], MinLen(1)]


@dataclass(frozen=True)
class Halving:
    """What is asked for.

    Attributes:
        factor: eta; one in so many configurations goes on at each rung.
        rungs: fractions of a run, rising.
        metric: that decides; None: each run's main one.
    """

    factor: float
    rungs: tuple[float, ...]
    metric: str | None

    @classmethod
    def read(cls, factor: Factor | None, rungs: RungList | None, metric: str | None) -> Halving | None:
        """From the launcher's config; None: no halving is asked for.

        Args:
            rungs: None: 1 / factor ** 2 and 1 / factor, so that each rung costs about the same.

        Raises:
            ConfigError: a value does not fit.
        """
        check_value("hydra.launcher.halving", factor, Factor | None)
        check_value("hydra.launcher.rungs", rungs, RungList | None)
        check_value("hydra.launcher.metric", metric, str | None)
        if factor is None:
            for key, value in (("rungs", rungs), ("metric", metric)):
                if value is not None:
                    raise ConfigError(f"hydra.launcher.{key}={shown(value)}: needs hydra.launcher.halving=, 3 say")
            return None
        chosen = rungs or [1 / factor**2, 1 / factor]
        if any(later <= earlier for earlier, later in pairwise(chosen)):
            raise ConfigError(f"hydra.launcher.rungs={shown(rungs)}: must rise")
        return cls(factor, tuple(chosen), metric)

    def num_going_on(self, num: int) -> int:
        """Of so many configurations at a rung. Rounded up, where the papers round down: one is left in any case."""
        return math.ceil(num / self.factor)


@dataclass(frozen=True)
class Standing:
    """How a configuration does at a rung. Its seeds stand or fall together.

    Attributes:
        scores: of the seeds that have one.
        num_lost: seeds that failed, diverged, or could not be scored.
    """

    scores: tuple[float, ...]
    num_lost: int = 0

    @property
    def mean(self) -> float | None:
        return fmean(self.scores) if self.scores else None


def in_order(standings: Sequence[Standing], better: Better) -> list[int]:
    """Their indices, the best first; of equal ones the earlier first.

    One that lost a seed stands behind all that lost none, as the mean of the others would flatter it.
    """

    def place(index: int) -> tuple[int, float]:
        mean, sign = standings[index].mean, 1 if better == "lower" else -1
        return standings[index].num_lost, math.inf if mean is None else sign * mean

    return sorted(range(len(standings)), key=place)
