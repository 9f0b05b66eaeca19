"""The rungs of a sweep: which of its jobs run how far.

They are read from the jobs' folders alone, so that a sweep which was interrupted finds its place again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ganlab import config as configs
from ganlab.cadence import first_due
from ganlab.errors import CheckpointError, ConfigError, DataError
from ganlab.runs import RunFolder
from ganlab.scores import Score, refuse_unlike
from ganlab.sweeps import trials
from ganlab.sweeps.halving import Halving, Standing, in_order
from ganlab.sweeps.jobs import read_result, status_of
from ganlab.sweeps.plan import Planned, without_hydra
from ganlab.sweeps.table import number, plural

log = logging.getLogger(__name__)

ENDED = ("done", "diverged", "failed")
WAITING = ("stopped", "halted")
Configuration = list[Planned]  # a job for each seed


@dataclass(frozen=True)
class Position:
    """How far a job has come, as its result says."""

    status: str | None
    step: int
    last_step: int | None  # None: it never began
    evaluate_every: int | None
    steps_per_second: float | None

    @classmethod
    def of(cls, folder: Path) -> Position:
        result = read_result(folder)
        facts = [result.get(name) for name in ("last_step", "evaluate_every", "steps_per_second")]
        return cls(status_of(result), result.get("step", 0), *facts)

    def step_of(self, rung: float) -> int | None:
        """Of the evaluation that the rung looks at."""
        return None if self.last_step is None else first_due(rung, self.evaluate_every, self.last_step)

    def has_met(self, rung: float) -> bool:
        """Whether it was evaluated there, whatever became of it later. One that was killed has to find itself first."""
        step = self.step_of(rung)
        return self.status in (*ENDED, *WAITING) and step is not None and self.step >= step


class Rungs:
    """One batch of jobs, halved at every rung.

    Raises:
        ConfigError: there will be no scores of the metric to rank by, as far as that can be known.
    """

    def __init__(self, halving: Halving, planned: Sequence[Planned]) -> None:
        check_metric(halving, planned)
        self.halving, self.planned = halving, planned

    def rounds(self) -> Iterator[tuple[list[Planned], float | None]]:
        """What to run next, and until which fraction; what was run is looked at when the next is asked for.

        Raises:
            DataError: the scores are unlike, or there are none.
        """
        going_on = grouped(self.planned)
        if len(going_on) < 2:
            log.warning("WARNING: only one configuration in this batch, so nothing to halve")
        for position, rung in enumerate(self.halving.rungs):
            if len(going_on) < 2:
                break
            yield [p for p in unfinished(going_on) if not Position.of(p.folder).has_met(rung)], rung
            going_on = self._halve(going_on, position)
        yield unfinished(going_on), None

    def _halve(self, going_on: list[Configuration], position: int) -> list[Configuration]:
        """The configurations that go on from a rung; the others are halted."""
        rung = self.halving.rungs[position]
        positions = [Position.of(planned.folder) for planned in members(going_on)]
        if not any(p.status in WAITING for p in positions):
            if any(p.status == "done" and p.step_of(rung) == p.last_step for p in positions):
                log.warning(
                    "WARNING: rung %.3g halts nothing, as no run is evaluated between it and the end; "
                    "lower trainer.evaluate_every, or the rung",
                    rung,
                )
            return going_on
        if position and all(p.step_of(rung) == p.step_of(self.halving.rungs[position - 1]) for p in positions):
            log.warning("WARNING: rung %.3g is left out: the same evaluations as at the one before", rung)
            return going_on
        standings, example = self._standings(going_on, rung)
        order = in_order(standings, example.better)
        num_kept = self.halving.num_going_on(len(order))
        means = [number(standings[order[place]].mean) for place in (0, num_kept - 1)]
        log.info(
            "Rung %d of %d, %.3g of each run: %d of %d configurations on, %d halted; %s at best %s, at the cut %s",
            *(position + 1, len(self.halving.rungs), rung, num_kept, len(order), len(order) - num_kept),
            *(example.metric, *means),
        )
        for place, index in enumerate(order[num_kept:], start=num_kept + 1):
            self._halt(going_on[index], rung, f"place {place} of {len(order)} by {example.metric}")
        return [going_on[index] for index in sorted(order[:num_kept])]

    def _standings(self, going_on: list[Configuration], rung: float) -> tuple[list[Standing], Score]:
        """Of every configuration, by the best scores up to the rung, as the leaderboard ranks by best scores too."""
        first: tuple[Path, Score] | None = None
        standings = []
        for configuration in going_on:
            values = []
            for planned in configuration:
                score = score_at(planned.folder, rung, self.halving.metric)
                if score is None:
                    continue
                first = first or (planned.folder, score)
                refuse(first, (planned.folder, score))
                values.append(score.value)
            standings.append(Standing(tuple(values), len(configuration) - len(values)))
        if first is None:
            of = f" of {self.halving.metric}" if self.halving.metric else ""
            raise DataError(f"hydra.launcher.halving: no run has a score{of} at rung {rung:.3g} to be ranked by")
        return standings, first[1]

    def _halt(self, configuration: Configuration, rung: float, place: str) -> None:
        for planned in configuration:
            position = Position.of(planned.folder)
            reason = f"after step {position.step} of {position.last_step}, {place}"
            halts = position.status in WAITING and position.has_met(rung)
            if halts and read_result(planned.folder).get("halted") != reason:
                with suppress(CheckpointError):  # somebody continues it
                    RunFolder(planned.folder).halt(reason)

    def savings(self) -> str:
        """One line on what was not run."""
        known = [p for planned in self.planned if (p := Position.of(planned.folder)).last_step]
        left = [(p, (p.last_step or 0) - p.step) for p in known if p.status == "halted"]
        num_left, total = sum(steps for _, steps in left), sum(p.last_step or 0 for p in known)
        seconds = sum(steps / p.steps_per_second for p, steps in left if p.steps_per_second)
        return (
            f"Halving: {len(left)} of {plural(len(self.planned), 'run')} halted; {num_left:,} of {total:,} steps not "
            f"run ({100 * num_left / max(total, 1):.0f} %), about {duration(seconds)} of training at their speed"
        )


def grouped(planned: Sequence[Planned]) -> list[Configuration]:
    """Jobs whose configs are equal but for the seed, in the order of their first."""
    alike: dict[str, Configuration] = {}
    for job in planned:
        settings = trials.settings_of(configs.plain(without_hydra(job.config)))
        settings.pop("seed", None)
        alike.setdefault(json.dumps(settings, sort_keys=True), []).append(job)
    return list(alike.values())


def members(configurations: Sequence[Configuration]) -> list[Planned]:
    return [planned for configuration in configurations for planned in configuration]


def unfinished(configurations: Sequence[Configuration]) -> list[Planned]:
    return [planned for planned in members(configurations) if Position.of(planned.folder).status not in ENDED]


def score_at(folder: Path, rung: float, metric: str | None) -> Score | None:
    """The best score that a run had when it met a rung; None: it had none, or failed before."""
    position = Position.of(folder)
    step = position.step_of(rung)
    return trials.read(folder).best_until(step, metric) if step and position.has_met(rung) else None


def refuse(one: tuple[Path, Score], other: tuple[Path, Score]) -> None:
    try:
        refuse_unlike([one[1], other[1]])
    except DataError as error:
        raise DataError(f"{error} ({one[0]} and {other[0]}); hydra.launcher.halving=null goes on without") from error


def check_metric(halving: Halving, planned: Sequence[Planned]) -> None:
    """Refuse a metric that a job will not measure, before any is run."""
    from ganlab.build import instantiate  # imported late: torch takes seconds
    from ganlab.data.dataset import Dataset
    from ganlab.evaluation import Metrics, measurable

    seen: list[Any] = []
    for job in planned:
        nodes = (job.config.metrics, job.config.dataset)
        if nodes in seen:
            continue
        seen.append(nodes)
        try:
            metrics, dataset = instantiate(job.config, "metrics", Metrics), instantiate(job.config, "dataset", Dataset)
        except ConfigError:
            continue  # the job will say so itself
        names = measurable(dataset) if metrics.names is None else metrics.names
        if not names:
            raise ConfigError(f"hydra.launcher.halving={halving.factor:g}: needs scores to rank by; not metrics=none")
        if halving.metric is not None and halving.metric not in names:
            raise ConfigError(f"hydra.launcher.metric={halving.metric}: must be one of {', '.join(names)}, or null")


def duration(seconds: float) -> str:
    unit, size = next(((u, s) for u, s in (("h", 3600), ("min", 60)) if seconds >= s), ("s", 1))
    return f"{seconds / size:.1f} {unit}"
