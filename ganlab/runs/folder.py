"""The run folder: the record of a run, which every other place (terminal, trackers) holds copies of."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ganlab.errors import CheckpointError
from ganlab.files import replace_file
from ganlab.runs.scores import Score, unlike

RESULT, METRICS = "result.json", "metrics.jsonl"
STARTUP_FILES = (".hydra", "ganlab.log", "multirun.yaml", ".lock")  # before a run starts
# W&B replaces these links, or leaves those of an earlier run alone, and never writes through them
WANDB_LINKS = ("latest-run", "debug.log", "debug-internal.log", "debug-core.log")


def holds_a_run(folder: Path) -> bool:
    return (folder / RESULT).is_file()


def read_result(folder: Path) -> dict[str, Any]:
    """A run's result.json; empty where there is none that can be read."""
    try:
        result = json.loads((folder / RESULT).read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return result if isinstance(result, dict) else {}


def status_of(result: dict[str, Any]) -> str | None:
    """As result.json has it, or `halted` where a sweep has decided that a stopped run is not to go on."""
    status = result.get("status")
    return "halted" if status == "stopped" and result.get("halted") else status


class RunFolder:
    """Where one run keeps its metrics, result, checkpoints and pictures, one process at a time."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.checkpoints = self.path / "checkpoints"
        self.samples = self.path / "samples"
        self.figures = self.path / "figures"
        self.result: dict[str, Any] = {}
        # One lock for all objects of this process: the launcher locks the folder before Hydra writes to it
        self._lock = FileLock(os.path.abspath(self.path / ".lock"), is_singleton=True)
        self._is_locked = False

    def claim(self) -> None:
        """Lock the folder for a new run or sweep, before anything is written to it.

        Raises:
            CheckpointError: the folder holds a run already, or another process has locked it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        self._acquire_lock()
        if holds_a_run(self.path):
            self.close()
            raise CheckpointError(f"{self.path}: holds a run already; choose another folder, or continue with resume=")

    def start(self, facts: dict[str, Any]) -> None:
        """Open a new run: `result.json` says that it is running, from now on until `update` says otherwise.

        Raises:
            CheckpointError: as `claim`.
        """
        self.claim()
        for folder in (self.checkpoints, self.samples, self.figures):
            folder.mkdir(exist_ok=True)
        begun = {
            "status": "running",
            "error": None,
            "exit_code": None,
            "halted": None,
            "id": uuid.uuid4().hex[:8],
            "step": 0,
            "epoch": 0.0,
        }
        facts = {**facts, "config_hashes": [facts["config_hash"]], "scores": {}, "scores_since": {}, "best": None}
        self.update(**begun, seconds=0.0, steps_per_second=None, **facts)

    def reopen(self) -> None:
        """Continue an earlier run, whose result is read.

        Raises:
            CheckpointError: there is none, or another process is training it.
        """
        if not holds_a_run(self.path):
            raise CheckpointError(f"{self.path}: not a run's folder, it has no {RESULT}")
        self._acquire_lock()
        try:
            self.result = json.loads((self.path / RESULT).read_text())
            refuse_damaged(self.result)
        except (OSError, ValueError, TypeError, RecursionError) as error:
            self.close()
            raise CheckpointError(f"{self.path / RESULT}: cannot be read: {error}") from error
        for folder in (self.checkpoints, self.samples, self.figures):
            folder.mkdir(exist_ok=True)

    def check_same_run(self, source: str, seed: object, config_hash: str) -> None:
        """Refuse a config or checkpoint of another run.

        Args:
            source: the file that has this seed and config hash, for the error message.

        Raises:
            CheckpointError: the seed or config hash is not in `result.json`.
        """
        if seed != self.result["seed"]:
            raise CheckpointError(f"{self.path}/{source}: has seed {seed}, but {RESULT} has {self.result['seed']}")
        if config_hash not in self.result["config_hashes"]:
            raise CheckpointError(
                f"{self.path}/{source}: config_hash {config_hash} is not in {RESULT}: it was edited, or is from "
                "another run; pass changes as arguments, as in resume=FOLDER trainer.epochs=50"
            )

    def fail(self, error: str, exit_code: int, facts: dict[str, Any]) -> None:
        """Record the failure of a run that could not do so itself, unless its end is on record already.

        Args:
            facts: of a run that never began.

        Raises:
            CheckpointError: another process is at it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        self._acquire_lock()
        begun = {"id": uuid.uuid4().hex[:8], "step": 0, "epoch": 0.0, "seconds": 0.0, "steps_per_second": None}
        facts = {**facts, "config_hashes": [facts["config_hash"]], "dataset": None, "scores": {}, "best": None}
        never_began = {"status": "running", **begun, **facts}
        try:
            self.result = read_result(self.path) or never_began
            if self.result["status"] in ("running", "stopped"):
                self.update(status="failed", error=error, exit_code=exit_code)
        finally:
            self.close()

    def note(self, **facts: Any) -> None:
        """Add facts to the result of a run that stands still.

        Raises:
            CheckpointError: there is no result, or another process is at it.
        """
        self.reopen()
        try:
            self.update(**facts)
        finally:
            self.close()

    def _acquire_lock(self) -> None:
        if self._is_locked:
            return
        refuse_links(self.path)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise CheckpointError(f"{self.path}: another process is using this folder") from None
        self._is_locked = True

    def close(self) -> None:
        """Let other processes use the folder."""
        if self._is_locked:
            self._is_locked = False
            self._lock.release()

    def update(self, **facts: Any) -> None:
        """Change `result.json`, which is replaced whole: a reader never sees half of it."""
        self.result.update(facts)
        replace_file(self.path / RESULT, (json.dumps(self.result, indent=2) + "\n").encode())

    def keep_scores(self, scores: Mapping[str, Score], step: int) -> dict[str, str]:
        """Put the scores of a step in `result.json`, beside the last ones of metrics that were not measured now.

        Returns:
            The metrics that were measured otherwise before, and what differs; their curves begin anew, `scores_since`.
        """
        before = self.result["scores"]
        otherwise = unlike(before, scores)
        since = {**self.result.get("scores_since", {}), **dict.fromkeys(otherwise, step)}
        now = {name: score.plain() for name, score in scores.items()}
        self.update(scores=now | {name: before[name] for name in before if name not in now}, scores_since=since)
        return otherwise

    def log(self, record: dict[str, Any]) -> None:
        """Append one line to `metrics.jsonl`."""
        with (self.path / METRICS).open("a") as file:
            file.write(json.dumps(record) + "\n")

    def history(self) -> list[dict[str, Any]]:
        """All records so far, oldest first. A last line that a crash cut short is left out.

        So are the scores of each metric from before its protocol changed in a resume, which `metrics.jsonl` keeps.

        Raises:
            CheckpointError: another line is damaged.
        """
        since = (self.result or read_result(self.path)).get("scores_since") or {}
        return [
            {name: value for name, value in record.items() if record["step"] >= since.get(name, 0)}
            for record in self._records()
        ]

    def _records(self) -> list[dict[str, Any]]:
        """Every record in the file, oldest first, but for a last line that a crash cut short.

        Raises:
            CheckpointError: another line is damaged.
        """
        try:
            lines = (self.path / METRICS).read_bytes().splitlines()
        except FileNotFoundError:
            return []
        records = []
        for number, line in enumerate(lines, start=1):
            try:
                record = json.loads(line)
                record["epoch"]
                if not isinstance(record["step"], int):
                    raise TypeError("its step is not a whole number")
                records.append(record)
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                if number < len(lines):
                    raise CheckpointError(f"{self.path / METRICS}: line {number} is damaged: {error}") from error
        return records

    def rewind(self, step: int) -> None:
        """Drop the records after a step, which a resumed run will write again."""
        kept = [record for record in self._records() if record["step"] <= step]
        replace_file(self.path / METRICS, "".join(json.dumps(record) + "\n" for record in kept).encode())
        since = self.result.get("scores_since") or {}
        if any(first > step for first in since.values()):  # what comes will be of the new protocol from the start
            self.update(scores_since={name: min(first, step + 1) for name, first in since.items()})

    def discard(self) -> None:
        """Close, and remove the startup files of a run or sweep that never started, then the folder if it is empty.

        A folder that another process uses, or that holds a run or jobs, is left unchanged.
        """
        try:
            self._acquire_lock()
        except (CheckpointError, FileNotFoundError):
            return
        if not holds_a_run(self.path) and all(folder.name == ".hydra" for folder in self.path.glob("*/")):
            for path in (self.path / name for name in STARTUP_FILES):
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        self.close()
        for folder in (self.path, self.path.parent):
            if folder.is_dir() and not any(folder.iterdir()) and folder.resolve() != Path.cwd():
                folder.rmdir()


def refuse_damaged(result: Any) -> None:
    """Refuse a result without what resuming reads, or of the wrong type there.

    Raises:
        TypeError: with what is wrong.
    """
    if not isinstance(result, dict):
        raise TypeError("not a JSON object")
    missing = {"id", "seed", "dataset", "step", "config_hash", "config_hashes"} - set(result)
    if missing:
        raise TypeError(f"damaged, it lacks {', '.join(sorted(missing))}")
    for name, kind in {"config_hashes": list, "scores": dict, "scores_since": dict}.items():
        if not isinstance(result.get(name, kind()), kind):
            raise TypeError(f"damaged, {name} is not a {kind.__name__}")
    if not all(isinstance(step, int) for step in result.get("scores_since", {}).values()):
        raise TypeError("damaged, scores_since has more than steps")


def refuse_links(folder: Path) -> None:
    """Refuse symbolic links in a run's folder: they lead to files that are not part of the run.

    Raises:
        CheckpointError: with the first link.
    """
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = os.path.join(parent, name)
            is_of_wandb = "wandb" in Path(parent).parts and name in WANDB_LINKS
            if not is_of_wandb and os.path.islink(path):
                raise CheckpointError(f"{path}: is a symbolic link; remove it, a run's folder must have none")
