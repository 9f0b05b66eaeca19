"""Groups runs that differ only in the seed into configurations, and finds the keys that distinguish these."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ganlab.leaderboard.run_record import RunRecord
from ganlab.runs.hydra_record import identifies_run

ABSENT = "-"


@dataclass(frozen=True)
class Configuration:
    """Runs with the same settings, one for each seed.

    Attributes:
        runs: one run for each seed: the latest finished run, or else the latest run.
        repeated: the other runs.
    """

    runs: tuple[RunRecord, ...]
    repeated: tuple[RunRecord, ...]

    def value(self, key: str) -> Any:
        """Return the option of a group, the value of a leaf, or `-` if the configuration has neither."""
        first = self.runs[0]
        if key in first.choices:
            option = first.choices[key]
            return ABSENT if option is None else option
        return (first.settings or {}).get(key, ABSENT)

    def values(self, keys: Iterable[str]) -> tuple[Any, ...]:
        return tuple(self.value(key) for key in keys)


def group(runs: Sequence[RunRecord]) -> list[Configuration]:
    """Return the configurations of all runs with known settings, in order of first appearance."""
    alike: dict[str, list[RunRecord]] = {}
    for run in runs:
        if run.settings is not None:
            alike.setdefault(_key(run.settings), []).append(run)
    return [_one_per_seed(members) for members in alike.values()]


def _one_per_seed(runs: Sequence[RunRecord]) -> Configuration:
    # A repeated run is not a second seed: counting both would underestimate the spread
    latest_last = sorted(runs, key=lambda run: (run.status == "done", run.folder.stat().st_mtime))
    chosen = {_key(run.seed): run for run in latest_last}
    kept = sorted(chosen.values(), key=lambda run: (isinstance(run.seed, str), run.seed is None, run.seed or 0))
    return Configuration(tuple(kept), tuple(run for run in runs if run not in kept))


def swept_keys(configurations: Sequence[Configuration]) -> list[str]:
    """Return few keys that distinguish the configurations, those typed on the command line first.

    A group represents all leaves of its options.
    """
    keys = [key for key in _typed(configurations) if _differs(key, configurations)]
    runs = [configuration.runs[0] for configuration in configurations]
    groups = dict.fromkeys(key for run in runs for key in run.choices if identifies_run(key))
    others = dict.fromkeys(key for run in runs for key in run.settings or {})
    for key in (*groups, *others):
        num_distinct = len({_key(c.values(keys)) for c in configurations})
        if num_distinct < len({_key(c.values([*keys, key])) for c in configurations}):
            keys.append(key)
    return keys


def _typed(configurations: Sequence[Configuration]) -> list[str]:
    overrides = (override for c in configurations for run in c.runs for override in run.overrides)
    typed = dict.fromkeys(override.partition("=")[0].lstrip("+~") for override in overrides)
    known = {key for c in configurations for key in (*c.runs[0].choices, *(c.runs[0].settings or {}))}
    return [key for key in typed if key in known and identifies_run(key)]


def _differs(key: str, configurations: Sequence[Configuration]) -> bool:
    return len({_key(configuration.value(key)) for configuration in configurations}) > 1


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)
