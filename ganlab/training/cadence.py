"""Cadence of periodic actions: at regular intervals of steps, and always after the last step."""

from __future__ import annotations

import math


def is_due(step: int, every: int | None, last_step: int) -> bool:
    """Whether a periodic action is due after `step`.

    Args:
        every: interval in steps; None means after the last step only.
    """
    return step == last_step or (every is not None and step % every == 0)


def first_due(fraction: float, every: int | None, last_step: int) -> int:
    """Return the first step at or after a fraction of the run at which a periodic action is due."""
    if every is None:
        return last_step
    target = fraction * last_step * (1 - 1e-12)  # rounding: 0.1 * 30 is slightly above 3
    return min(last_step, max(1, math.ceil(target / every)) * every)
