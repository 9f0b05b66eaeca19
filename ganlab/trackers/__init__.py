"""Trackers receive copies of metrics and pictures; the originals are in the run folder.

A tracker cannot disturb the run or another tracker. Each is called from its own thread, which turns its first exception
into a warning, and the run waits for it at most `start_timeout` and `finish_timeout` seconds.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunNames:
    """The name, group and tags of a run in a tracker.

    Attributes:
        name: overrides with short keys, or dataset and model if there are none; None if Hydra did not start the run.
        group: name of the sweep; None for a single run.
        tags: dataset, model and loss.
    """

    name: str | None = None
    group: str | None = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunInfo:
    """The run that a tracker copies.

    Attributes:
        folder: folder of the run.
        id: identifier of the run, which does not change on resume.
        config: whole config, as plain values.
        step: last step before the start; 0 unless the run is resumed.
    """

    folder: Path
    id: str
    names: RunNames
    config: Mapping[str, Any]
    step: int = 0


@runtime_checkable
class Tracker(Protocol):
    start_timeout: float  # seconds that the run waits for `start`
    finish_timeout: float  # seconds that the run waits for `finish`

    def start(self, run: RunInfo) -> None:
        """Start tracking a run, or continue after a resume."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Copy scalars."""

    def picture(self, name: str, file: Path, step: int) -> None:
        """Copy a picture or an animation."""

    def rewind(self, step: int) -> None:
        """Return to an earlier step, as the run has; delete copies from later steps if possible."""

    def finish(self, exit_code: int, result: Mapping[str, Any], best: Path | None) -> None:
        """Finish tracking; called even if `start` failed.

        Args:
            exit_code: exit code of the run; other than 0 marks a failure.
            result: content of `result.json`.
            best: checkpoint with the best score; None if there is none.
        """


class Trackers:
    """All trackers of a run, by name, each working in the background."""

    def __init__(self, trackers: Mapping[str, Tracker]) -> None:
        self.each = [BackgroundTracker(name, tracker) for name, tracker in trackers.items()]

    def start(self, run: RunInfo) -> None:
        for tracker in self.each:
            tracker.start(run)
        for tracker in self.each:
            tracker.await_start()

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        for tracker in self.each:
            tracker.log(metrics, step)

    def picture(self, name: str, file: Path, step: int) -> None:
        for tracker in self.each:
            tracker.picture(name, file, step)

    def rewind(self, step: int) -> None:
        for tracker in self.each:
            tracker.rewind(step)

    def finish(self, exit_code: int, result: Mapping[str, Any], best: Path | None = None) -> None:
        for tracker in self.each:
            tracker.finish(exit_code, result, best)
        for tracker in self.each:
            tracker.await_finish()


class BackgroundTracker:
    """Calls a tracker from its own thread, so that its exceptions and delays do not reach the run.

    Calls are queued until the tracker has started. If it has not started by the end of the run, it is abandoned.
    """

    def __init__(self, name: str, tracker: Tracker) -> None:
        self.name, self.tracker = name, tracker
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._started, self._finished = threading.Event(), threading.Event()
        self._deadline = 0.0
        self._failed = False

    def start(self, run: RunInfo) -> None:
        threading.Thread(target=self._serve, daemon=True, name=f"tracker {self.name}").start()
        self._deadline = time.monotonic() + self.tracker.start_timeout
        self._work.put(lambda: self.tracker.start(run))
        self._work.put(self._started.set)

    def await_start(self) -> None:
        if not self._started.wait(self._deadline - time.monotonic()):
            log.warning(
                "The tracker %s did not start within %g s; the run goes on without waiting for it.",
                *(self.name, self.tracker.start_timeout),
            )

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        self._put(lambda: self.tracker.log(metrics, step))

    def picture(self, name: str, file: Path, step: int) -> None:
        self._put(lambda: self.tracker.picture(name, file, step))

    def rewind(self, step: int) -> None:
        self._put(lambda: self.tracker.rewind(step))

    def finish(self, exit_code: int, result: Mapping[str, Any], best: Path | None) -> None:
        if not self._started.is_set():
            self._finished.set()
            self._give_up("did not start before the end of the run, and has no copy of it.")
        self._deadline = time.monotonic() + self.tracker.finish_timeout
        self._work.put(lambda: self.tracker.finish(exit_code, result, best))  # also after a failure
        self._work.put(self._finished.set)
        self._work.put(None)

    def await_finish(self) -> None:
        if not self._finished.wait(self._deadline - time.monotonic()):
            seconds = self.tracker.finish_timeout
            self._give_up(f"did not finish within {seconds:g} s; its copy may lack the end of the run.")

    def _put(self, call: Callable[[], None]) -> None:
        if not self._failed:
            self._work.put(call)

    def _serve(self) -> None:
        for call in iter(self._work.get, None):
            try:
                call()
            except BaseException as error:  # noqa: BLE001 - nothing may reach the run or end this thread
                self._give_up(f"failed: {one_line(error)}; the run goes on without it.")

    def _give_up(self, reason: str) -> None:
        if not self._failed:
            self._failed = True
            log.warning("The tracker %s %s", self.name, reason)


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def summary(result: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten `result.json` into searchable names with plain values.

    The best score, if there is one, is at `best/<metric>` and its step at `best_step`.
    """
    best = result.get("best")
    flat = {f"best/{best['metric']}": best["value"], "best_step": best["step"]} if best else {}
    for key, value in result.items():
        if key in ("dataset", "provenance") and isinstance(value, Mapping):
            flat |= {f"{key}/{name}": part for name, part in value.items()}
        elif not isinstance(value, Mapping):
            flat[key] = value
    return {key: value for key, value in flat.items() if value is not None and key != "id"}
