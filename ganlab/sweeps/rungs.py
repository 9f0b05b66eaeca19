"""The rungs of a halved sweep: decides how far each job trains.

All state is read from the folders of the jobs, so that an interrupted sweep can continue.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ganlab.errors import CheckpointError, ConfigError, DataError
from ganlab.leaderboard import run_record
from ganlab.leaderboard.table import duration, plural
from ganlab.leaderboard.table import number as shown_number
from ganlab.runs.folder import RunFolder, read_result, status_of
from ganlab.runs.hydra_record import settings_of
from ganlab.runs.scores import Score
from ganlab.sweeps.halving import Halving, Standing, rank
from ganlab.sweeps.plan import PlannedJob
from ganlab.training.cadence import Interval

log = logging.getLogger(__name__)

LOST = ("diverged", "failed")
ENDED = ("done", *LOST)
WAITING = ("stopped", "halted")
Seeds = list[PlannedJob]  # the jobs of one configuration, one for each seed


@dataclass(frozen=True)
class JobProgress:
    """The progress of a job, from its `result.json`.

    Attributes:
        step, last_step, evaluate_every: in steps; 0, None and None for a job that never started.
    """

    status: str | None
    step: int
    last_step: int | None
    evaluate_every: int | None
    steps_per_second: float | None

    @classmethod
    def of(cls, folder: Path) -> JobProgress:
        result = read_result(folder)
        return cls(
            status=status_of(result),
            step=result.get("step", 0),
            last_step=result.get("last_step"),
            evaluate_every=result.get("evaluate_every"),
            steps_per_second=result.get("steps_per_second"),
        )

    def step_of(self, rung: float) -> int | None:
        """Return the step of the first evaluation at or after a rung, a fraction in (0, 1); None if unknown."""
        return None if self.last_step is None else Interval(self.evaluate_every, self.last_step).first_due(rung)

    def has_reached(self, rung: float) -> bool:
        """Whether the scores at the rung are recorded. A killed job has to resume first, as its step is unknown."""
        step = self.step_of(rung)
        return self.status in ENDED or (self.status in WAITING and step is not None and self.step >= step)


class Rungs:
    """Applies successive halving to one batch of jobs.

    Raises:
        ConfigError: the jobs will not measure a common metric to rank by.
    """

    def __init__(self, halving: Halving, planned: Sequence[PlannedJob]) -> None:
        check_metric(halving, planned)
        self.halving, self.planned = halving, planned

    def rounds(self) -> Iterator[tuple[list[PlannedJob], float | None]]:
        """Yield the jobs to run next and the fraction to run them to. Results are read at the next request.

        Raises:
            DataError: the protocols of the scores differ, or there are no scores.
            CheckpointError: a job has not reached the rung.
        """
        remaining = by_configuration(self.planned)
        if len(remaining) < 2:
            log.warning("WARNING: this batch has only one configuration; halving needs at least two")
        for number, rung in enumerate(self.halving.rungs):
            if len(remaining) < 2:
                break
            yield [p for p in members(remaining) if not JobProgress.of(p.folder).has_reached(rung)], rung
            remaining = self._decide(remaining, number)
        yield unfinished(remaining), None

    def _decide(self, remaining: list[Seeds], number: int) -> list[Seeds]:
        """Return the configurations that continue after a rung, and halt the others.

        Each decision is recorded in the runs that it concerns. It stays valid whatever happens to the runs later: a
        survivor can diverge, or roll back and rewrite the scores that it was ranked by.
        """
        rung = self.halving.rungs[number]
        progress = {planned.folder: JobProgress.of(planned.folder) for planned in members(remaining)}
        refuse_pending(progress, rung)
        decisions = [self._on_record(seeds, rung) for seeds in remaining]
        if None in decisions:
            if self._halts_nothing(list(progress.values()), number):
                return remaining
            decisions = self._rank(remaining, number, list(progress.values()))
        return [seeds for seeds, goes_on in zip(remaining, decisions, strict=True) if goes_on]

    def _halts_nothing(self, progress: Sequence[JobProgress], number: int) -> bool:
        rung = self.halving.rungs[number]
        if any(p.step_of(rung) == p.last_step for p in progress if p.last_step):
            log.warning(
                "WARNING: rung %.3g: some runs are not evaluated between this rung and their end; "
                "lower trainer.evaluate_every or the rung",
                rung,
            )
        if not any(p.status in WAITING for p in progress):
            return True
        if number and all(p.step_of(rung) == p.step_of(self.halving.rungs[number - 1]) for p in progress):
            log.warning("WARNING: rung %.3g is skipped: it uses the same evaluations as the rung before", rung)
            return True
        return False

    def _rank(self, remaining: list[Seeds], number: int, progress: Sequence[JobProgress]) -> list[bool | None]:
        """Rank the configurations, record for each whether it continues, halt the others, and return the decisions."""
        rung = self.halving.rungs[number]
        standings, example = self._standings(remaining, rung)
        order = rank(standings, example.better)
        num_kept = self.halving.num_kept(len(order))
        means = [shown_number(standings[order[place]].mean) for place in (0, num_kept - 1)]
        log.info(
            "Rung %d of %d, %s of each run: %d of %d configurations continue, %d halted; best %s %s, at the cut %s",
            *(number + 1, len(self.halving.rungs), shares(progress, rung)),
            *(num_kept, len(order), len(order) - num_kept, example.metric, *means),
        )
        for place, index in enumerate(order, start=1):
            goes_on = place <= num_kept
            for planned in remaining[index]:
                self._record(
                    planned.folder, rung, None if goes_on else f"place {place} of {len(order)} by {example.metric}"
                )
        kept = set(order[:num_kept])
        return [index in kept for index in range(len(remaining))]

    def _standings(self, remaining: list[Seeds], rung: float) -> tuple[list[Standing], Score]:
        """Return the standing of every configuration, by best scores up to the rung, as on the leaderboard."""
        first: tuple[Path, Score] | None = None
        standings = []
        for seeds in remaining:
            values = []
            for planned in seeds:
                score = score_at(planned.folder, rung, self.halving.metric)
                if score is None:
                    continue
                first = first or (planned.folder, score)
                run_record.refuse_unlike_runs(
                    first, (planned.folder, score), "; use hydra.launcher.halving=null to train all runs to the end"
                )
                values.append(score.value)
            standings.append(Standing(tuple(values), len(seeds) - len(values)))
        if first is None:
            of = f" of {self.halving.metric}" if self.halving.metric else ""
            raise DataError(
                f"hydra.launcher.halving: no run has a score{of} at rung {rung:.3g} to rank by; use halving=null"
            )
        return standings, first[1]

    # Recorded decisions ----------------------------------------------------------------------------------

    def _settings(self, rung: float) -> dict[str, Any]:
        """Return the settings of a decision. Recorded decisions count only under the same settings."""
        return {"rung": rung, "halving": self.halving.factor, "metric": self.halving.metric}

    def _on_record(self, seeds: Seeds, rung: float) -> bool | None:
        """Return the recorded decision on a configuration at a rung; None if there is none for any of its seeds."""
        for planned in seeds:
            for decision in read_result(planned.folder).get("rungs") or []:
                if decision == {**self._settings(rung), "goes_on": decision["goes_on"]}:
                    return bool(decision["goes_on"])
        return None

    def _record(self, folder: Path, rung: float, place: str | None) -> None:
        """Record the decision on one run. If `place` is not None, the run is halted, with its place in the ranking."""
        settings, progress = self._settings(rung), JobProgress.of(folder)
        others = [d for d in read_result(folder).get("rungs") or [] if {**d, **settings} != d]
        entries: dict[str, Any] = {"rungs": [*others, {**settings, "goes_on": place is None}]}
        if place is not None and progress.status in WAITING:
            entries["halted"] = f"after step {progress.step} of {progress.last_step}, {place}"
        with suppress(CheckpointError):  # a run without result.json; it counted as lost
            RunFolder(folder).note(**entries)

    def savings(self) -> str:
        """Return one line on the steps that were saved."""
        known = [p for planned in self.planned if (p := JobProgress.of(planned.folder)).last_step]
        left = [(p, (p.last_step or 0) - p.step) for p in known if p.status == "halted"]
        num_left, total = sum(steps for _, steps in left), sum(p.last_step or 0 for p in known)
        seconds = sum(steps / p.steps_per_second for p, steps in left if p.steps_per_second)
        return (
            f"Halving: {len(left)} of {plural(len(self.planned), 'run')} halted; {num_left:,} of {total:,} steps not "
            f"run ({100 * num_left / max(total, 1):.0f} %), about {duration(seconds)} of training at their speed"
        )


def by_configuration(planned: Sequence[PlannedJob]) -> list[Seeds]:
    """Group jobs whose configs differ only in the seed, in order of first appearance."""
    alike: dict[str, Seeds] = {}
    for job in planned:
        settings = settings_of(job.config)
        settings.pop("seed", None)
        alike.setdefault(json.dumps(settings, sort_keys=True), []).append(job)
    return list(alike.values())


def members(configurations: Sequence[Seeds]) -> list[PlannedJob]:
    return [planned for seeds in configurations for planned in seeds]


def unfinished(configurations: Sequence[Seeds]) -> list[PlannedJob]:
    return [planned for planned in members(configurations) if JobProgress.of(planned.folder).status not in ENDED]


def score_at(folder: Path, rung: float, metric: str | None) -> Score | None:
    """Return the best score of a run up to a rung, a fraction in (0, 1); None if it has none or is lost."""
    progress = JobProgress.of(folder)
    step = progress.step_of(rung)
    if step is None or progress.status in LOST or not progress.has_reached(rung):
        return None
    return run_record.read(folder).best_until(step, metric)


def shares(progress: Sequence[JobProgress], rung: float) -> str:
    """Format the fractions of the runs at which they were evaluated for a rung: `0.167`, or `0.1 to 0.2`."""
    found = [step / p.last_step for p in progress if p.last_step and (step := p.step_of(rung))]
    return " to ".join(dict.fromkeys(f"{share:.3g}" for share in (min(found), max(found))))


def refuse_pending(progress: Mapping[Path, JobProgress], rung: float) -> None:
    """Refuse to decide at a rung before every job has reached it.

    Raises:
        CheckpointError: a job has not reached the rung; the message names the first one.
    """
    for folder, job in progress.items():
        if not job.has_reached(rung):
            reason = "another process is training it" if job.status == "running" else "it was stopped"
            raise CheckpointError(
                f"{folder}: has not reached rung {rung:.3g}: {reason}; to continue, run the same command again"
            )


def check_metric(halving: Halving, planned: Sequence[PlannedJob]) -> None:
    """Refuse a metric that a job will not measure, before any job starts."""
    # Imported late: torch takes seconds, and the launcher needs it only for halving
    from ganlab.build import instantiate
    from ganlab.data.dataset import Dataset
    from ganlab.metrics.catalogue import main_metric
    from ganlab.metrics.evaluator import Metrics, measurable

    seen: list[Any] = []
    for job in planned:
        nodes = [job.config.select(group) for group in ("metrics", "dataset")]
        if nodes in seen:
            continue
        seen.append(nodes)
        try:
            config = job.config.validate()
            metrics, dataset = instantiate(config, "metrics", Metrics), instantiate(config, "dataset", Dataset)
        except ConfigError:
            continue  # the job will report it
        names = measurable(dataset) if metrics.names is None else metrics.names
        if not names:
            raise ConfigError(f"hydra.launcher.halving={halving.factor:g}: needs scores to rank by; not metrics=none")
        if halving.metric is not None and halving.metric not in names:
            raise ConfigError(f"hydra.launcher.metric={halving.metric}: must be one of {', '.join(names)}, or null")
        if halving.metric is None and metrics.best is None and main_metric(names) is None:
            raise ConfigError(
                f"hydra.launcher.metric=null: must be one of {', '.join(names)}; no main metric is measured"
            )
    compared = {
        "dataset": [job.config.determining().get("dataset") for job in planned],
        "metrics": [job.config.select("metrics") for job in planned],
    }
    for key, nodes in compared.items():
        if any(node != nodes[0] for node in nodes):
            raise ConfigError(
                f"hydra.launcher.halving={halving.factor:g}: all jobs must have the same {key}, so that scores compare"
            )
