"""The rungs of a sweep: which of its jobs run how far.

They are read from the jobs' folders alone, so that a sweep which was interrupted finds its place again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from ganlab.config import run_config as configs
from ganlab.errors import CheckpointError, ConfigError, DataError
from ganlab.leaderboard import run_record
from ganlab.leaderboard.table import duration, plural
from ganlab.leaderboard.table import number as shown_number
from ganlab.runs.folder import RunFolder, read_result, status_of
from ganlab.runs.hydra_record import settings_of
from ganlab.runs.scores import Score
from ganlab.sweeps.halving import Halving, Standing, in_order
from ganlab.sweeps.plan import Planned, without_hydra
from ganlab.training.cadence import first_due

log = logging.getLogger(__name__)

LOST = ("diverged", "failed")
ENDED = ("done", *LOST)
WAITING = ("stopped", "halted")
Seeds = list[Planned]  # the jobs of one configuration, one for each seed


@dataclass(frozen=True)
class Position:
    """How far a job has come, as its result says.

    Attributes:
        step, last_step, evaluate_every: in steps; of a job that never began, 0 and None.
    """

    status: str | None
    step: int
    last_step: int | None
    evaluate_every: int | None
    steps_per_second: float | None

    @classmethod
    def of(cls, folder: Path) -> Position:
        result = read_result(folder)
        return cls(
            status=status_of(result),
            step=result.get("step", 0),
            last_step=result.get("last_step"),
            evaluate_every=result.get("evaluate_every"),
            steps_per_second=result.get("steps_per_second"),
        )

    def step_of(self, rung: float) -> int | None:
        """Of the evaluation that a rung, a fraction in (0, 1), looks at."""
        return None if self.last_step is None else first_due(rung, self.evaluate_every, self.last_step)

    def has_met(self, rung: float) -> bool:
        """Whether its scores there are on record. One that was killed has to find its own step first."""
        step = self.step_of(rung)
        return self.status in ENDED or (self.status in WAITING and step is not None and self.step >= step)


class Rungs:
    """One batch of jobs, halved at every rung.

    Raises:
        ConfigError: there will be no scores to rank all of them by, as far as that can be known.
    """

    def __init__(self, halving: Halving, planned: Sequence[Planned]) -> None:
        check_metric(halving, planned)
        self.halving, self.planned = halving, planned

    def rounds(self) -> Iterator[tuple[list[Planned], float | None]]:
        """What to run next, and until which fraction; what was run is looked at when the next is asked for.

        Raises:
            DataError: the scores are unlike, or there are none.
            CheckpointError: another process is at a job, or has stopped it.
        """
        going_on = by_configuration(self.planned)
        if len(going_on) < 2:
            log.warning("WARNING: only one configuration in this batch, so nothing to halve")
        for number, rung in enumerate(self.halving.rungs):
            if len(going_on) < 2:
                break
            yield [p for p in members(going_on) if not Position.of(p.folder).has_met(rung)], rung
            going_on = self._decide(going_on, number)
        yield unfinished(going_on), None

    def _decide(self, going_on: list[Seeds], number: int) -> list[Seeds]:
        """The configurations that go on from a rung; the others are halted.

        A verdict is on record in every run that it concerns. It stands whatever becomes of the runs later: a survivor
        may diverge, or roll back and rewrite what it was ranked by.
        """
        rung = self.halving.rungs[number]
        positions = {planned.folder: Position.of(planned.folder) for planned in members(going_on)}
        refuse_unmet(positions, rung)
        verdicts = [self._on_record(seeds, rung) for seeds in going_on]
        if None in verdicts:
            if self._halts_nothing(list(positions.values()), number):
                return going_on
            verdicts = self._rank(going_on, number, list(positions.values()))
        return [seeds for seeds, goes_on in zip(going_on, verdicts, strict=True) if goes_on]

    def _halts_nothing(self, positions: Sequence[Position], number: int) -> bool:
        rung = self.halving.rungs[number]
        if any(p.step_of(rung) == p.last_step for p in positions if p.last_step):
            log.warning(
                "WARNING: rung %.3g looks at runs that are not evaluated between it and their end; "
                "lower trainer.evaluate_every, or the rung",
                rung,
            )
        if not any(p.status in WAITING for p in positions):
            return True
        if number and all(p.step_of(rung) == p.step_of(self.halving.rungs[number - 1]) for p in positions):
            log.warning("WARNING: rung %.3g is left out: the same evaluations as at the one before", rung)
            return True
        return False

    def _rank(self, going_on: list[Seeds], number: int, positions: Sequence[Position]) -> list[bool | None]:
        """Of every configuration, whether it goes on; recorded, and the others are halted."""
        rung = self.halving.rungs[number]
        standings, example = self._standings(going_on, rung)
        order = in_order(standings, example.better)
        num_kept = self.halving.num_going_on(len(order))
        means = [shown_number(standings[order[place]].mean) for place in (0, num_kept - 1)]
        log.info(
            "Rung %d of %d, %s of each run: %d of %d configurations on, %d halted; %s at best %s, at the cut %s",
            *(number + 1, len(self.halving.rungs), shares(positions, rung)),
            *(num_kept, len(order), len(order) - num_kept, example.metric, *means),
        )
        for place, index in enumerate(order, start=1):
            goes_on = place <= num_kept
            for planned in going_on[index]:
                self._record(
                    planned.folder, rung, None if goes_on else f"place {place} of {len(order)} by {example.metric}"
                )
        kept = set(order[:num_kept])
        return [index in kept for index in range(len(going_on))]

    def _standings(self, going_on: list[Seeds], rung: float) -> tuple[list[Standing], Score]:
        """Of every configuration, by the best scores up to the rung, as the leaderboard ranks by best scores too."""
        first: tuple[Path, Score] | None = None
        standings = []
        for seeds in going_on:
            values = []
            for planned in seeds:
                score = score_at(planned.folder, rung, self.halving.metric)
                if score is None:
                    continue
                first = first or (planned.folder, score)
                run_record.refuse_unlike_runs(
                    first, (planned.folder, score), "; hydra.launcher.halving=null goes on without"
                )
                values.append(score.value)
            standings.append(Standing(tuple(values), len(seeds) - len(values)))
        if first is None:
            of = f" of {self.halving.metric}" if self.halving.metric else ""
            raise DataError(f"hydra.launcher.halving: no run has a score{of} at rung {rung:.3g} to be ranked by")
        return standings, first[1]

    # On record ---------------------------------------------------------------------------------------------

    def _asked(self, rung: float) -> dict[str, Any]:
        """What a verdict answers; to another question it is none."""
        return {"rung": rung, "halving": self.halving.factor, "metric": self.halving.metric}

    def _on_record(self, seeds: Seeds, rung: float) -> bool | None:
        """Whether a configuration was let go on from a rung; None: that was never asked of any of its seeds."""
        for planned in seeds:
            for verdict in read_result(planned.folder).get("rungs") or []:
                if verdict == {**self._asked(rung), "goes_on": verdict["goes_on"]}:
                    return bool(verdict["goes_on"])
        return None

    def _record(self, folder: Path, rung: float, place: str | None) -> None:
        """The verdict on one run, and where it does not go on, that it is halted and its place."""
        asked, position = self._asked(rung), Position.of(folder)
        others = [v for v in read_result(folder).get("rungs") or [] if {**v, **asked} != v]
        facts: dict[str, Any] = {"rungs": [*others, {**asked, "goes_on": place is None}]}
        if place is not None and position.status in WAITING:
            facts["halted"] = f"after step {position.step} of {position.last_step}, {place}"
        with suppress(CheckpointError):  # of one that left no result nothing can be said; it counted as lost
            RunFolder(folder).note(**facts)

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


def by_configuration(planned: Sequence[Planned]) -> list[Seeds]:
    """Jobs whose configs are equal but for the seed, in the order of their first."""
    alike: dict[str, Seeds] = {}
    for job in planned:
        settings = settings_of(configs.plain(without_hydra(job.config)))
        settings.pop("seed", None)
        alike.setdefault(json.dumps(settings, sort_keys=True), []).append(job)
    return list(alike.values())


def members(configurations: Sequence[Seeds]) -> list[Planned]:
    return [planned for seeds in configurations for planned in seeds]


def unfinished(configurations: Sequence[Seeds]) -> list[Planned]:
    return [planned for planned in members(configurations) if Position.of(planned.folder).status not in ENDED]


def score_at(folder: Path, rung: float, metric: str | None) -> Score | None:
    """The best score that a run had when it met a rung, a fraction in (0, 1); None: it had none, or is lost."""
    position = Position.of(folder)
    step = position.step_of(rung)
    if step is None or position.status in LOST or not position.has_met(rung):
        return None
    return run_record.read(folder).best_until(step, metric)


def shares(positions: Sequence[Position], rung: float) -> str:
    """Which fractions of the runs a rung really looked at, where they were evaluated: `0.167`, or `0.1 to 0.2`."""
    found = [step / p.last_step for p in positions if p.last_step and (step := p.step_of(rung))]
    return " to ".join(dict.fromkeys(f"{share:.3g}" for share in (min(found), max(found))))


def refuse_unmet(positions: Mapping[Path, Position], rung: float) -> None:
    """Nothing can be decided at a rung while a job is on its way there.

    Raises:
        CheckpointError: with the first such job.
    """
    for folder, position in positions.items():
        if not position.has_met(rung):
            reason = "another process is training it" if position.status == "running" else "it was stopped"
            raise CheckpointError(f"{folder}: has not met rung {rung:.3g}, {reason}; the same command goes on")


def check_metric(halving: Halving, planned: Sequence[Planned]) -> None:
    """Refuse a metric that a job will not measure, before any is run."""
    from ganlab.build import instantiate  # late: only a halved sweep pays for torch in the launcher
    from ganlab.data.dataset import Dataset
    from ganlab.metrics.catalogue import main_metric
    from ganlab.metrics.evaluator import Metrics, measurable

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
        if halving.metric is None and metrics.best is None and main_metric(names) is None:
            raise ConfigError(
                f"hydra.launcher.metric=null: must be one of {', '.join(names)}; no main metric is measured"
            )
    for key in ("dataset", "metrics"):
        if len({json.dumps(settled(job.config, key), sort_keys=True) for job in planned}) > 1:
            raise ConfigError(f"hydra.launcher.halving={halving.factor:g}: needs one {key}, or scores are not alike")


def settled(cfg: DictConfig, group: str) -> dict[str, Any]:
    """A group of a config without what only says where things lie."""
    node = configs.plain(cfg[group])
    return {key: value for key, value in node.items() if f"{group}.{key}" not in configs.WITHOUT_EFFECT}
