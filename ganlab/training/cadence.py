"""Cadence: what is done every so many steps of a run, and at its last one in any case."""

from __future__ import annotations

import math


def is_due(step: int, every: int | None, last_step: int) -> bool:
    """Whether something is to be done after a step.

    Args:
        every: so many steps; None: at the last one only.
    """
    return step == last_step or (every is not None and step % every == 0)


def first_due(fraction: float, every: int | None, last_step: int) -> int:
    """The first step, at or after a fraction of a run, after which something is to be done."""
    if every is None:
        return last_step
    at = fraction * last_step * (1 - 1e-12)  # 0.1 of 30 is not to mean more than 3 because binary numbers make it so
    return min(last_step, max(1, math.ceil(at / every)) * every)
