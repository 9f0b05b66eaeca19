"""Ranks configurations by the mean of their best scores, and compares each with the best one, seed by seed."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ganlab.errors import ConfigError, DataError
from ganlab.leaderboard import run_record
from ganlab.leaderboard.configurations import Configuration, group, swept_keys
from ganlab.leaderboard.run_record import RunRecord
from ganlab.runs.hydra_record import short_names
from ganlab.runs.scores import Score

RESAMPLES = 10_000
MIN_SEEDS = 5  # with fewer, bootstrap intervals are too narrow
FINISHED = "done"
UNFINISHED = ("running", "stopped")


@dataclass(frozen=True)
class Difference:
    """The difference between a configuration and the best one, over their common seeds.

    Attributes:
        mean: mean difference of their best scores.
        low, high: 95 % bootstrap interval of the mean; None for fewer than two common seeds.
        num_seeds: number of common seeds.
        excludes_zero: whether the interval excludes zero; None for fewer than five common seeds.
    """

    mean: float
    low: float | None
    high: float | None
    num_seeds: int

    @property
    def excludes_zero(self) -> bool | None:
        if self.low is None or self.high is None or self.num_seeds < MIN_SEEDS:
            return None
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Row:
    """One configuration on the leaderboard.

    Attributes:
        values: values of the swept keys.
        best, last: seed -> score, for the finished runs with a score.
        counts: number of runs with each status (halted runs do not count as stopped), and of collapsed runs.
        steps_per_second: median over the runs.
        difference: difference from the best configuration; None for the best one, or without common seeds.
    """

    configuration: Configuration
    values: tuple[Any, ...]
    best: dict[Any, float]
    last: dict[Any, float]
    counts: Counter[str]
    steps_per_second: float | None
    difference: Difference | None = None

    @property
    def runs(self) -> tuple[RunRecord, ...]:
        return self.configuration.runs

    @property
    def best_mean(self) -> float | None:
        return mean(self.best)

    @property
    def last_mean(self) -> float | None:
        return mean(self.last)

    @property
    def unfinished(self) -> int:
        return sum(self.counts[status] for status in UNFINISHED)

    @property
    def failed(self) -> int:
        return self.counts["failed"] + self.counts["damaged"]


@dataclass(frozen=True)
class Leaderboard:
    """All runs below a folder, ranked by configuration.

    Attributes:
        folder: folder that was searched.
        keys: swept keys.
        rows: best configuration first, configurations without a score last.
        score: one of the ranked scores, as an example of their common protocol; None if no run was scored.
        floors: lowest and highest floor of the scores; None if no score has a floor.
        runs: all runs.
    """

    folder: Path
    keys: tuple[str, ...]
    rows: tuple[Row, ...]
    score: Score | None
    floors: tuple[float, float] | None
    runs: tuple[RunRecord, ...]

    @cached_property
    def names(self) -> dict[str, str]:
        """Short names of the swept keys, such as `generator.lr` for `optimizer.generator.lr`."""
        return short_names(self.keys, {key for run in self.runs for key in run.settings or {}})

    @property
    def lost(self) -> list[RunRecord]:
        """All runs that are not done, for whatever reason."""
        return [run for run in self.runs if run.status != FINISHED]

    @property
    def halted(self) -> list[RunRecord]:
        """The lost runs that a sweep stopped early. They trained for less time, so they are not ranked."""
        return [run for run in self.runs if run.status == "halted"]

    @property
    def repeated(self) -> int:
        return sum(len(row.configuration.repeated) for row in self.rows)

    @property
    def misplaced(self) -> int:
        """Runs without a readable config, which belong to no row."""
        return sum(run.settings is None for run in self.runs)


def rank(folder: Path, metric: str | None = None, seeds_key: str = "seed") -> Leaderboard:
    """Rank all runs at or below a folder; for arguments and errors see `ganlab.leaderboard.write`."""
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; give a sweep or an output folder")
    found = [run_record.read(path, seeds_key) for path in run_record.find(folder)]
    if not found:
        raise DataError(f"{folder}: no runs at or below it; a run's folder has .hydra/config.yaml or result.json")
    scores = _comparable(found, folder, metric)
    name = scores[0].metric if scores else None
    configurations = group(found)
    keys = swept_keys(configurations)
    rows = [_row(configuration, keys, name) for configuration in configurations]
    if scores:
        rows = _compare(_in_order(rows, scores[0].better))
    floors = [score.floor for score in scores if score.floor is not None]
    ends = (min(floors), max(floors)) if floors else None
    return Leaderboard(folder, tuple(keys), tuple(rows), scores[0] if scores else None, ends, tuple(found))


def _comparable(found: Sequence[RunRecord], folder: Path, metric: str | None) -> list[Score]:
    """Return every last and best score to be ranked, after checking that their protocols are equal."""
    names = list(dict.fromkeys(name for run in found for name in run.scores))
    if metric is not None and metric not in names:
        raise ConfigError(
            f"metric={metric}: no run below {folder} has it; must be one of {', '.join(names)}"
            if names
            else f"metric={metric}: no run below {folder} was scored; drop metric="
        )
    first: tuple[Path, Score] | None = None
    scores = []
    for run in found:
        name = metric or run.main_metric
        for score in (run.last_score(name), run.best_score(name)) if name else ():
            if score is None:
                continue
            first = first or (run.folder, score)
            choose = "; choose one with metric=" if metric is None and first[1].metric != score.metric else ""
            run_record.refuse_unlike_runs(first, (run.folder, score), choose)
            scores.append(score)
    return scores


def _row(configuration: Configuration, keys: Sequence[str], metric: str | None) -> Row:
    done = [run for run in configuration.runs if run.status == FINISHED]
    best = {t.seed: score.value for t in done if metric and (score := t.best_score(metric))}
    last = {t.seed: score.value for t in done if metric and (score := t.last_score(metric))}
    counts = Counter(run.status for run in configuration.runs)
    counts["collapsed"] = sum(run.collapsed is not None for run in configuration.runs)
    speeds = [t.steps_per_second for t in configuration.runs if t.steps_per_second is not None]
    speed = statistics.median(speeds) if speeds else None
    return Row(configuration, configuration.values(keys), best, last, counts, speed)


def _in_order(rows: Sequence[Row], better: str) -> list[Row]:
    def sort_key(row: Row) -> tuple[bool, float]:
        value = row.best_mean
        return value is None, 0.0 if value is None else value if better == "lower" else -value

    return sorted(rows, key=sort_key)


def _compare(rows: Sequence[Row]) -> list[Row]:
    best = rows[0].best
    return [rows[0], *(replace(row, difference=paired_difference(row.best, best)) for row in rows[1:])]


def paired_difference(scores: Mapping[Any, float], reference: Mapping[Any, float]) -> Difference | None:
    """Return the mean difference over common seeds, with a percentile bootstrap interval (Efron & Tibshirani, 1993).

    Args:
        scores, reference: seed -> score.

    Returns:
        None if there are no common seeds.
    """
    common = [seed for seed in scores if seed in reference]
    if not common:
        return None
    differences = np.array([scores[seed] - reference[seed] for seed in common])  # [seeds]
    if len(common) < 2:
        return Difference(float(differences.mean()), None, None, 1)
    resamples = np.random.default_rng(0).integers(len(common), size=(RESAMPLES, len(common)))
    low, high = np.quantile(differences[resamples].mean(axis=1), [0.025, 0.975])
    return Difference(float(differences.mean()), float(low), float(high), len(common))


def mean(scores: Mapping[Any, float]) -> float | None:
    return statistics.fmean(scores.values()) if scores else None


def deviation(scores: Mapping[Any, float]) -> float | None:
    """Return the sample standard deviation over seeds (divisor n - 1); None for fewer than two seeds."""
    return statistics.stdev(scores.values()) if len(scores) > 1 else None
