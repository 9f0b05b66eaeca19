"""Reads the record of a run from its folder, however the run ended."""

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

INSIDE_A_RUN = {".hydra", "checkpoints", "samples", "figures", "wandb", "tensorboard"}  # folders that contain no runs
# Exceptions from reading a damaged result
UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)


@dataclass(frozen=True)
class RunRecord:
    """The record of one run.

    Attributes:
        status: status in `result.json`; `halted` if a sweep stopped the run early, `failed` if the file is missing,
            `damaged` if it cannot be read.
        error: one line, or the place of a halted run; None if nothing went wrong.
        seed: None if unknown.
        settings: every leaf of the config that can change the result, except the seed; None if there is no config.
        choices: group -> option, as Hydra composed them; empty if not recorded.
        overrides: overrides as typed.
        scores: metric -> score of the last evaluation, in order of importance.
        best: best score of the main metric.
        main_metric: metric that selects the best checkpoint; None if none was measured.
        history: records of `metrics.jsonl`.
        collapsed: the collapse that the watchdog detected; None if there was none.
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
        """Return the last score of a metric; None if it was not measured or is not finite."""
        score = self.scores.get(metric)
        return score if score and is_number(score.value) else None

    def best_score(self, metric: str) -> Score | None:
        """Return the best score of a metric: the recorded one of the main metric, else the best one in the history."""
        last = self.last_score(metric)
        if self.best and self.best.metric == metric and is_number(self.best.value):
            return self.best
        if last is None:
            return None
        return best_of([*self.curve(metric), (last.step, last.value)], last)

    def best_until(self, step: int, metric: str | None = None) -> Score | None:
        """Return the best score of a metric up to a step; None if there is no finite score.

        Args:
            metric: None uses the main metric of the run.
        """
        name = metric or self.main_metric or ""
        described = self.scores.get(name)
        points = [point for point in self.curve(name) if point[0] <= step]
        return best_of(points, described) if described and points else None

    def curve(self, metric: str) -> list[tuple[int, float]]:
        """Return (step, value) of every evaluation during training."""
        points: list[tuple[Any, Any]] = [(record.get("step"), record.get(metric)) for record in self.history]
        return [(step, float(value)) for step, value in points if is_number(step) and is_number(value)]


def best_of(points: Sequence[tuple[int | None, float]], described: Score) -> Score:
    """Return the best of (step, value) points as a score, with all other fields from `described`."""
    choose = min if described.better == "lower" else max
    step, value = choose(points, key=lambda point: point[1])
    return replace(described, value=value, step=step)


def find(folder: Path) -> Iterator[Path]:
    """Yield the folder of every run at or below a folder, sorted by name, with numbers by value."""
    for path, folders, files in os.walk(folder):
        if RESULT in files or (Path(path) / ".hydra" / "config.yaml").is_file():
            yield Path(path)
        folders[:] = sorted(set(folders) - INSIDE_A_RUN, key=lambda name: (len(name) if name.isdigit() else 0, name))


def read(folder: Path, seeds_key: str = "seed") -> RunRecord:
    """Read the record of a run. Damage is reported in `status` and `error`, not raised.

    Args:
        seeds_key: key that distinguishes the repetitions of a configuration.
    """
    try:
        refuse_links(folder)
    except CheckpointError as link:
        return RunRecord(folder, "damaged", _line(str(link).removeprefix(f"{folder}/")), None, None, {}, [])
    settings, problem = _settings(folder)
    seed = settings.pop(seeds_key, None) if settings else None
    seed = json.dumps(seed) if isinstance(seed, list | dict) else seed  # seeds are keys of dictionaries
    runtime, overrides = read_hydra_record(folder)
    known = (seed, settings, choices(runtime), overrides)
    if not (folder / RESULT).is_file():
        return RunRecord(folder, "failed", f"no {RESULT}; {_last_line(folder / 'ganlab.log')}", *known)
    try:
        result = json.loads((folder / RESULT).read_text())
        scores = {name: _score(tree) for name, tree in (result.get("scores") or {}).items()}
        best = _score(result["best"]) if result.get("best") else None
        history = RunFolder(folder).history()
        result["status"]  # raises KeyError if missing
        status, error = str(status_of(result)), result.get("error") or result.get("halted")
        speed = float(result["steps_per_second"]) if is_number(result.get("steps_per_second")) else None
    except (*UNREADABLE, DataError, CheckpointError) as damage:
        return RunRecord(folder, "damaged", f"cannot be read: {_line(repr(damage))}", *known)
    if settings is None:
        return RunRecord(folder, "damaged", problem, *known)
    error, collapsed = (_line(what) if what else None for what in (error, result.get("collapsed")))
    main = result.get("main_metric")
    main = main if isinstance(main, str) else None
    return RunRecord(folder, status, error, *known, speed, scores, best, history, collapsed, main)


def _score(tree: Any) -> Score:
    """Return a score from a file, with its fields validated against the annotations of `Score`.

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
    """Refuse to rank the scores of two run folders together unless their protocols are equal.

    Raises:
        DataError: the protocols differ; the message names the folders and ends with the remedy.
    """
    try:
        refuse_unlike([one[1], other[1]])
    except DataError as error:
        raise DataError(f"{error} ({one[0]} and {other[0]}){remedy}") from error


def _settings(folder: Path) -> tuple[dict[str, Any] | None, str]:
    """Return the settings in a run's config, or None and the reason."""
    try:
        return settings_of(run_config.read(folder)), ""
    except CheckpointError as error:
        return None, f"the config cannot be read: {_line(str(error))}"


def _last_line(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").split("\n")
    except OSError:
        lines = []
    return _line(next((f"last line of the log: {line}" for line in reversed(lines) if line.strip()), "there is no log"))


def _line(text: object) -> str:
    return " ".join(str(text).split())[:500]


def is_number(value: Any) -> bool:
    """Whether a value is a finite number, small enough that differences do not overflow."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
