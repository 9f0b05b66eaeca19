"""A configuration: all trials that are equal but for the seed; and the keys in which configurations differ."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ganlab.leaderboard.run_record import RunRecord
from ganlab.runs.hydra_record import is_of_a_run

ABSENT = "-"


@dataclass(frozen=True)
class Configuration:
    """Trials with the same settings, one for each seed.

    Attributes:
        trials: by seed. Of several with the same seed the latest that is done, or else the latest.
        repeated: the others.
    """

    trials: tuple[RunRecord, ...]
    repeated: tuple[RunRecord, ...]

    def value(self, key: str) -> Any:
        """Of a group: the option's name; of a leaf: its value; where it has neither: `-`."""
        first = self.trials[0]
        if key in first.choices:
            option = first.choices[key]
            return ABSENT if option is None else option
        return (first.settings or {}).get(key, ABSENT)

    def values(self, keys: Iterable[str]) -> tuple[Any, ...]:
        return tuple(self.value(key) for key in keys)


def group(trials: Sequence[RunRecord]) -> list[Configuration]:
    """The configurations of all trials whose settings are known, in the order of their first."""
    alike: dict[str, list[RunRecord]] = {}
    for trial in trials:
        if trial.settings is not None:
            alike.setdefault(_key(trial.settings), []).append(trial)
    return [_one_per_seed(members) for members in alike.values()]


def _one_per_seed(trials: Sequence[RunRecord]) -> Configuration:
    # A run made twice is no second seed: counted twice, it would make the spread look small.
    latest_last = sorted(trials, key=lambda trial: (trial.status == "done", trial.folder.stat().st_mtime))
    chosen = {_key(trial.seed): trial for trial in latest_last}
    kept = sorted(chosen.values(), key=lambda trial: (isinstance(trial.seed, str), trial.seed is None, trial.seed or 0))
    return Configuration(tuple(kept), tuple(trial for trial in trials if trial not in kept))


def swept_keys(configurations: Sequence[Configuration]) -> list[str]:
    """The fewest keys that tell the configurations apart, those that were typed first.

    A group that is chosen as a whole stands for all leaves that come with it.
    """
    keys = [key for key in _typed(configurations) if _differs(key, configurations)]
    trials = [configuration.trials[0] for configuration in configurations]
    groups = dict.fromkeys(key for trial in trials for key in trial.choices if is_of_a_run(key))
    others = dict.fromkeys(key for trial in trials for key in trial.settings or {})
    for key in (*groups, *others):
        told_apart = len({_key(c.values(keys)) for c in configurations})
        if told_apart < len({_key(c.values([*keys, key])) for c in configurations}):
            keys.append(key)
    return keys


def _typed(configurations: Sequence[Configuration]) -> list[str]:
    overrides = (override for c in configurations for trial in c.trials for override in trial.overrides)
    typed = dict.fromkeys(override.partition("=")[0].lstrip("+~") for override in overrides)
    known = {key for c in configurations for key in (*c.trials[0].choices, *(c.trials[0].settings or {}))}
    return [key for key in typed if key in known and is_of_a_run(key)]


def _differs(key: str, configurations: Sequence[Configuration]) -> bool:
    return len({_key(configuration.value(key)) for configuration in configurations}) > 1


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)
