"""A run: one run of a sweep, as its folder tells of it, however it ended."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ganlab.config import run_config
from ganlab.errors import CheckpointError, DataError
from ganlab.runs.folder import RESULT, RunFolder, refuse_links, status_of
from ganlab.runs.hydra_record import choices, read_hydra_record, settings_of
from ganlab.runs.scores import Score, refuse_unlike

INSIDE_A_RUN = {".hydra", "checkpoints", "samples", "figures", "wandb", "tensorboard"}  # no runs below these


@dataclass(frozen=True)
class RunRecord:
    """One run.

    Attributes:
        status: as in `result.json`; `halted` where a sweep stopped it early, `failed` where there is no such file,
            `damaged` where it cannot be read.
        error: one line, of a halted run its place; None: nothing went wrong.
        seed: None: not known.
        settings: every leaf of the config that decides the result, but for the seed; None: there is no readable config.
        choices: group -> option, as Hydra composed them; {}: not recorded.
        overrides: as they were typed.
        scores: the last evaluation's, by metric, in order of importance.
        best: the best score of the main metric.
        main_metric: the metric that chooses the best checkpoint; None: none was measured.
        history: records of `metrics.jsonl`.
        collapsed: what the watchdog saw of a collapse; None: nothing.
    """

    folder: Path
    status: str
    error: str | None
    seed: Any
    settings: dict[str, Any] | None
    choices: dict[str, Any]
    overrides: list[str]
    steps_per_second: float | None = None
    scores: dict[str, Score] = field(default_factory=dict)
    best: Score | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    collapsed: str | None = None
    main_metric: str | None = None

    @property
    def picture(self) -> Path | None:
        file = self.folder / "figures" / "final.png"
        return file if file.is_file() else None

    def last_score(self, metric: str) -> Score | None:
        """The last value of a metric; None: never measured, or no finite number."""
        score = self.scores.get(metric)
        return score if score and is_number(score.value) else None

    def best_score(self, metric: str) -> Score | None:
        """The best value of a metric: the run's own best of its main metric, of another the best in its history."""
        last = self.last_score(metric)
        if self.best and self.best.metric == metric and is_number(self.best.value):
            return self.best
        if last is None:
            return None
        return best_of([*self.curve(metric), (last.step, last.value)], last)

    def best_until(self, step: int, metric: str | None = None) -> Score | None:
        """The best value of a metric in the evaluations up to a step; None: there was none, or no finite number.

        Args:
            metric: None: the run's main one.
        """
        name = metric or self.main_metric or ""
        described = self.scores.get(name)
        points = [point for point in self.curve(name) if point[0] <= step]
        return best_of(points, described) if described and points else None

    def curve(self, metric: str) -> list[tuple[int, float]]:
        """(step, value) of every evaluation during training."""
        points: list[tuple[Any, Any]] = [(record.get("step"), record.get(metric)) for record in self.history]
        return [(step, float(value)) for step, value in points if is_number(step) and is_number(value)]


def best_of(points: Sequence[tuple[int | None, float]], described: Score) -> Score:
    """The best of some (step, value), of which another score of the same run and metric says all else."""
    choose = min if described.better == "lower" else max
    step, value = choose(points, key=lambda point: point[1])
    return replace(described, value=value, step=step)


def find(folder: Path) -> Iterator[Path]:
    """Every run's folder at or below one, in order of name, numbers by size."""
    for path, folders, files in os.walk(folder):
        if RESULT in files or (Path(path) / ".hydra" / "config.yaml").is_file():
            yield Path(path)
        folders[:] = sorted(set(folders) - INSIDE_A_RUN, key=lambda name: (len(name) if name.isdigit() else 0, name))


def read(folder: Path, seeds_key: str = "seed") -> RunRecord:
    """The run in a folder. What is damaged is told in the run's status and error, not raised.

    Args:
        seeds_key: the key whose values repeat a configuration.
    """
    try:
        refuse_links(folder)
    except CheckpointError as link:
        return RunRecord(folder, "damaged", _line(str(link)), None, None, {}, [])
    settings, problem = _settings(folder)
    seed = settings.pop(seeds_key, None) if settings else None
    seed = json.dumps(seed) if isinstance(seed, list | dict) else seed  # seeds are keys of dictionaries
    runtime, overrides = read_hydra_record(folder)
    known = (seed, settings, choices(runtime), overrides)
    if not (folder / RESULT).is_file():
        return RunRecord(folder, "failed", f"left no {RESULT}; {_last_line(folder / 'ganlab.log')}", *known)
    try:
        result = json.loads((folder / RESULT).read_text())
        scores = {name: _score(tree) for name, tree in (result.get("scores") or {}).items()}
        best = _score(result["best"]) if result.get("best") else None
        history = RunFolder(folder).history()
        result["status"]  # without one it is damaged
        status, error = str(status_of(result)), result.get("error") or result.get("halted")
        speed = float(result["steps_per_second"]) if is_number(result.get("steps_per_second")) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, DataError, CheckpointError) as damage:
        return RunRecord(folder, "damaged", f"cannot be read: {_line(repr(damage))}", *known)
    if settings is None:
        return RunRecord(folder, "damaged", problem, *known)
    error, collapsed = (_line(what) if what else None for what in (error, result.get("collapsed")))
    main = result.get("main_metric")
    main = main if isinstance(main, str) else None
    return RunRecord(folder, status, error, *known, speed, scores, best, history, collapsed, main)


def _score(tree: Any) -> Score:
    """A score from a file, its fields validated against the annotations of `Score`.

    Raises:
        DataError: a field is missing or of the wrong type.
    """
    score = Score.read(tree)
    try:
        return _score_types().validate_python(asdict(score))
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(f"score {score.metric}: {first['loc'][0]}: {first['msg']}") from error


@cache
def _score_types() -> TypeAdapter[Score]:
    return TypeAdapter(Score)


def refuse_unlike_runs(one: tuple[Path, Score], other: tuple[Path, Score], remedy: str = "") -> None:
    """Scores of two runs' folders may be ranked together only if they are alike.

    Raises:
        DataError: they are not; the message names the folders and ends with the remedy.
    """
    try:
        refuse_unlike([one[1], other[1]])
    except DataError as error:
        raise DataError(f"{error} ({one[0]} and {other[0]}){remedy}") from error


def _settings(folder: Path) -> tuple[dict[str, Any] | None, str]:
    """The settings in a run's config, or None and the reason."""
    try:
        return settings_of(run_config.read(folder)), ""
    except CheckpointError as error:
        return None, f"its config cannot be read: {_line(str(error))}"


def _last_line(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").split("\n")
    except OSError:
        lines = []
    return _line(next((f"its log ends: {line}" for line in reversed(lines) if line.strip()), "it has no log"))


def _line(text: object) -> str:
    return " ".join(str(text).split())[:500]


def is_number(value: Any) -> bool:
    """Whether the value is a number, finite and small enough that differences do not overflow."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
