"""The run folder, the primary record of a run; terminal output and trackers are copies of it."""

from __future__ import annotations

import json
import logging
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ganlab.errors import CheckpointError
from ganlab.files import replace_file
from ganlab.runs.scores import Score, changed_protocols

RESULT, METRICS = "result.json", "metrics.jsonl"
STARTUP_FILES = (".hydra", "ganlab.log", "multirun.yaml", ".lock")  # written before a run starts
# Symbolic links of W&B, which it replaces but never writes through
WANDB_LINKS = ("latest-run", "debug.log", "debug-internal.log", "debug-core.log")


def contains_run(folder: Path) -> bool:
    return (folder / RESULT).is_file()


def read_result(folder: Path) -> dict[str, Any]:
    """Read the `result.json` of a run; empty if it is missing or unreadable."""
    try:
        result = json.loads((folder / RESULT).read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return result if isinstance(result, dict) else {}


def status_of(result: dict[str, Any]) -> str | None:
    """Return the status in `result.json`, or `halted` for a stopped run that its sweep has halted."""
    status = result.get("status")
    return "halted" if status == "stopped" and result.get("halted") else status


def check_same_run(file: str | Path, config_hash: str, known: Sequence[object]) -> None:
    """Refuse a config or checkpoint of another run.

    Args:
        known: hash of every config that the run has had, as a resume may change the config.

    Raises:
        CheckpointError: the hash is not among them.
    """
    if config_hash not in known:
        raise CheckpointError(
            f"{file}: config_hash {config_hash} is not one of this run's, {', '.join(map(str, known))}: it was edited, "
            "or is from another run; pass changes as arguments, as in resume=FOLDER trainer.epochs=50"
        )


class RunFolder:
    """The folder with the metrics, result, checkpoints and pictures of one run. One process at a time can use it."""

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
            CheckpointError: the folder already contains a run, or another process has locked it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        self._acquire_lock()
        if contains_run(self.path):
            self.close()
            raise CheckpointError(
                f"{self.path}: already contains a run; choose another folder, or continue it with resume="
            )

    def start(self, entries: dict[str, Any]) -> None:
        """Start a new run: write `result.json` with status `running`.

        Args:
            entries: further entries of `result.json`.

        Raises:
            CheckpointError: as for `claim`.
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
        entries = {**entries, "config_hashes": [entries["config_hash"]], "scores": {}, "scores_since": {}, "best": None}
        self.update(**begun, seconds=0.0, steps_per_second=None, **entries)

    def reopen(self) -> None:
        """Lock the folder of an earlier run and read its result.

        Raises:
            CheckpointError: there is no run, its result is damaged, or another process is training it.
        """
        if not contains_run(self.path):
            raise CheckpointError(f"{self.path}: not a run's folder; it has no {RESULT}")
        self._acquire_lock()
        try:
            self.result = json.loads((self.path / RESULT).read_text())
            refuse_damaged(self.result)
        except (OSError, ValueError, TypeError, RecursionError) as error:
            self.close()
            raise CheckpointError(f"{self.path / RESULT}: cannot be read: {error}") from error
        for folder in (self.checkpoints, self.samples, self.figures):
            folder.mkdir(exist_ok=True)

    def resume(self, config_hash: str, entries: Mapping[str, Any]) -> None:
        """Write to `result.json` that a reopened run is running again, with a config that may have changed.

        Args:
            entries: further entries.
        """
        hashes = [*(earlier for earlier in self.result["config_hashes"] if earlier != config_hash), config_hash]
        self.update(**entries, config_hash=config_hash, config_hashes=hashes, status="running", error=None, halted=None)

    def check_same_run(self, source: str, seed: object, config_hash: str) -> None:
        """Refuse a config or checkpoint of another run.

        Args:
            source: file with this seed and config hash, for the error message.

        Raises:
            CheckpointError: the seed or config hash is not in `result.json`.
        """
        if seed != self.result["seed"]:
            raise CheckpointError(f"{self.path}/{source}: has seed {seed}, but {RESULT} has {self.result['seed']}")
        check_same_run(f"{self.path}/{source}", config_hash, self.result["config_hashes"])

    def fail(self, error: str, exit_code: int, entries: dict[str, Any]) -> bool:
        """Record the failure of a run whose process could not, unless `result.json` already says how the run ended.

        Args:
            entries: entries of `result.json` for a run that never started.

        Returns:
            Whether the failure was recorded.

        Raises:
            CheckpointError: another process is using the folder.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        self._acquire_lock()
        begun = {"id": uuid.uuid4().hex[:8], "step": 0, "epoch": 0.0, "seconds": 0.0, "steps_per_second": None}
        entries = {**entries, "config_hashes": [entries["config_hash"]], "dataset": None, "scores": {}, "best": None}
        never_began = {"status": "running", **begun, **entries}
        try:
            self.result = read_result(self.path) or never_began
            if self.result["status"] not in ("running", "stopped"):
                return False
            self.update(status="failed", error=error, exit_code=exit_code)
            return True
        finally:
            self.close()

    def note(self, **entries: Any) -> None:
        """Add entries to the `result.json` of a run that no process is training.

        Raises:
            CheckpointError: there is no result, or another process is using the folder.
        """
        self.reopen()
        try:
            self.update(**entries)
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
        """Unlock the folder for other processes."""
        if self._is_locked:
            self._is_locked = False
            self._lock.release()

    def update(self, **entries: Any) -> None:
        """Update `result.json` atomically, so that a reader never sees a partial file."""
        self.result.update(entries)
        replace_file(self.path / RESULT, (json.dumps(self.result, indent=2) + "\n").encode())

    def keep_scores(self, scores: Mapping[str, Score], step: int) -> dict[str, str]:
        """Keep the scores of a step, which the next update writes; metrics that it lacks keep their earlier scores.

        Returns:
            The metrics whose protocol has changed, and the difference. Their curves restart at this step, which is
            recorded in `scores_since`.
        """
        before = self.result["scores"]
        changed = changed_protocols(before, scores)
        since = {**self.result.get("scores_since", {}), **dict.fromkeys(changed, step)}
        now = {name: score.plain() for name, score in scores.items()}
        self.result["scores"] = now | {name: before[name] for name in before if name not in now}
        self.result["scores_since"] = since
        return changed

    def log(self, record: dict[str, Any]) -> None:
        """Append one line to `metrics.jsonl`."""
        with (self.path / METRICS).open("a") as file:
            file.write(json.dumps(record) + "\n")

    def history(self) -> list[dict[str, Any]]:
        """Return all records so far, oldest first, without a last line that a crash truncated.

        If the protocol of a metric changed on resume, its earlier scores are left out; `metrics.jsonl` keeps them.

        Raises:
            CheckpointError: another line is damaged.
        """
        since = (self.result or read_result(self.path)).get("scores_since") or {}
        return [
            {name: value for name, value in record.items() if record["step"] >= since.get(name, 0)}
            for record in self._records()
        ]

    def _records(self) -> list[dict[str, Any]]:
        """Return every record in the file, oldest first, without a last line that a crash truncated.

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
        """Delete the records after a step, which a resumed run will write again."""
        kept = [record for record in self._records() if record["step"] <= step]
        replace_file(self.path / METRICS, "".join(json.dumps(record) + "\n" for record in kept).encode())
        since = self.result.get("scores_since") or {}
        if any(first > step for first in since.values()):  # all later scores will use the new protocol
            self.update(scores_since={name: min(first, step + 1) for name, first in since.items()})

    def discard(self) -> None:
        """Close, delete the startup files of a run or sweep that never started, and delete the folder if it is empty.

        A log file among them is closed first. A folder that another process uses, or that contains a run or jobs, is
        left unchanged.
        """
        try:
            self._acquire_lock()
        except (CheckpointError, FileNotFoundError):
            return
        if not contains_run(self.path) and all(folder.name == ".hydra" for folder in self.path.glob("*/")):
            close_logs(self.path)
            for path in (self.path / name for name in STARTUP_FILES):
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        self.close()
        for folder in (self.path, self.path.parent):
            if folder.is_dir() and not any(folder.iterdir()) and folder.resolve() != Path.cwd():
                folder.rmdir()


def close_logs(folder: Path) -> None:
    """Close the log files in a folder, and remove their handlers from the root logger."""
    root, folder = logging.getLogger(), folder.absolute()
    for handler in list(root.handlers):
        if isinstance(handler, logging.FileHandler) and Path(handler.baseFilename).parent == folder:
            root.removeHandler(handler)
            handler.close()


def refuse_damaged(result: Any) -> None:
    """Refuse a result that lacks an entry needed to resume, or has one of the wrong type.

    Raises:
        TypeError: the message says what is wrong.
    """
    if not isinstance(result, dict):
        raise TypeError("not a JSON object")
    missing = {"id", "seed", "dataset", "step", "config_hash", "config_hashes"} - set(result)
    if missing:
        raise TypeError(f"damaged; missing {', '.join(sorted(missing))}")
    for name, kind in {"config_hashes": list, "scores": dict, "scores_since": dict}.items():
        if not isinstance(result.get(name, kind()), kind):
            raise TypeError(f"damaged; {name} is not a {kind.__name__}")
    if not all(isinstance(step, int) for step in result.get("scores_since", {}).values()):
        raise TypeError("damaged; scores_since must contain only steps")


def refuse_links(folder: Path) -> None:
    """Refuse symbolic links in a run's folder, as they point to files outside the run.

    Raises:
        CheckpointError: there is a link; the message names the first one.
    """
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = os.path.join(parent, name)
            is_wandb_link = "wandb" in Path(parent).parts and name in WANDB_LINKS
            if not is_wandb_link and os.path.islink(path):
                raise CheckpointError(f"{path}: is a symbolic link, which a run's folder must not contain; remove it")
