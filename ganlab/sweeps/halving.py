"""Successive halving: at each rung the best fraction of the configurations continues and the others are halted.

Jamieson & Talwalkar (2016), section 3; one bracket of Hyperband (Li et al., 2018), with budgets as fractions of a run.
This module only decides, from scores; `ganlab.sweeps.rungs` reads the scores and runs the jobs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Annotated

from annotated_types import Ge, Gt, Le, Lt, MinLen

from ganlab.config.signatures import check_value, format_value
from ganlab.errors import ConfigError
from ganlab.runs.scores import Better

Factor = Annotated[float, Ge(2), Le(1000)]
RungList = Annotated[list[Annotated[float, Gt(0), Lt(1)]], MinLen(1)]


@dataclass(frozen=True)
class Halving:
    """The settings of successive halving.

    Attributes:
        factor: eta in the paper; the best 1 / factor of the configurations continue at each rung.
        rungs: fractions of a run, in ascending order.
        metric: metric to rank by; None uses the main metric of each run.
    """

    factor: float
    rungs: tuple[float, ...]
    metric: str | None

    @classmethod
    def read(cls, factor: Factor | None, rungs: RungList | None, metric: str | None) -> Halving | None:
        """Create the settings from the launcher's config; None if halving is off.

        Args:
            rungs: None uses 1 / factor ** 2 and 1 / factor, so that each rung costs about the same.

        Raises:
            ConfigError: a value is invalid.
        """
        check_value("hydra.launcher.halving", factor, Factor | None)
        check_value("hydra.launcher.rungs", rungs, RungList | None)
        check_value("hydra.launcher.metric", metric, str | None)
        if factor is None:
            for key, value in (("rungs", rungs), ("metric", metric)):
                if value is not None:
                    raise ConfigError(
                        f"hydra.launcher.{key}={format_value(value)}: needs halving; add hydra.launcher.halving=3"
                    )
            return None
        chosen = rungs or [1 / factor**2, 1 / factor]
        if any(later <= earlier for earlier, later in pairwise(chosen)):
            raise ConfigError(f"hydra.launcher.rungs={format_value(rungs)}: must be in ascending order")
        return cls(factor, tuple(chosen), metric)

    def num_kept(self, num: int) -> int:
        """Return how many of `num` configurations continue: rounded up, unlike in the papers, so that one remains."""
        return math.ceil(num / self.factor)


@dataclass(frozen=True)
class Standing:
    """The result of a configuration at a rung. All its seeds continue or all are halted.

    Attributes:
        scores: scores of the seeds that have one.
        num_lost: number of seeds that failed, diverged, or could not be scored.
    """

    scores: tuple[float, ...]
    num_lost: int = 0

    @property
    def mean(self) -> float | None:
        return fmean(self.scores) if self.scores else None


def rank(standings: Sequence[Standing], better: Better) -> list[int]:
    """Return the indices of the standings, best first; ties keep their order.

    Fewer lost seeds rank first, as the mean over the remaining seeds would flatter a configuration.
    """

    def sort_key(index: int) -> tuple[int, float]:
        mean, sign = standings[index].mean, 1 if better == "lower" else -1
        return standings[index].num_lost, math.inf if mean is None else sign * mean

    return sorted(range(len(standings)), key=sort_key)
