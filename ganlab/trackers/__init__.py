"""Trackers: places that metrics and pictures are copied to while the run folder holds the originals.

None may hurt the run that it watches, or another tracker: each is called from a thread of its own, which swallows what
it raises, with one warning, and the run waits for it no longer than it may take to start and to finish.
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
class Title:
    """What a tracker calls a run.

    Attributes:
        name: its overrides, keys in short; of a run without any, the dataset and model; None: Hydra did not start it.
        group: of a sweep's job, the sweep; None: it is a single run.
        tags: its dataset, model and loss.
    """

    name: str | None = None
    group: str | None = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Watched:
    """The run that a tracker copies from.

    Attributes:
        folder: its own.
        id: it keeps it when it is resumed.
        config: all of it, as plain values.
        step: that it begins after; 0 unless it is resumed.
    """

    folder: Path
    id: str
    title: Title
    config: Mapping[str, Any]
    step: int = 0


@runtime_checkable
class Tracker(Protocol):
    start_timeout: float  # seconds that starting may hold up the run
    finish_timeout: float  # likewise finishing

    def start(self, run: Watched) -> None:
        """Begin with a run, or go on with it."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Copy scalars."""

    def picture(self, name: str, file: Path, step: int) -> None:
        """Copy a picture or an animation."""

    def rewind(self, step: int) -> None:
        """The run has gone back to an earlier step; what was copied of later ones is undone, where that can be."""

    def finish(self, exit_code: int, result: Mapping[str, Any], best: Path | None) -> None:
        """End, also where starting failed.

        Args:
            exit_code: other than 0 it marks a failure.
            result: what `result.json` says.
            best: the checkpoint with the best score; None: there is none.
        """


class Trackers:
    """All trackers of a run, by name; they do their work beside it."""

    def __init__(self, trackers: Mapping[str, Tracker]) -> None:
        self.each = [Unfailing(name, tracker) for name, tracker in trackers.items()]

    def start(self, run: Watched) -> None:
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


class Unfailing:
    """A tracker in a thread of its own, which can neither raise into the run nor hold it up.

    One that is slow to start gets its work when it has started; one that has not by the end of the run is left behind.
    """

    def __init__(self, name: str, tracker: Tracker) -> None:
        self.name, self.tracker = name, tracker
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._started, self._finished = threading.Event(), threading.Event()
        self._deadline = 0.0
        self._failed = False

    def start(self, run: Watched) -> None:
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
            self._give_up("has still not started; it has no copy of the run.")
        self._deadline = time.monotonic() + self.tracker.finish_timeout
        self._work.put(lambda: self.tracker.finish(exit_code, result, best))  # a failure is closed, too
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
    """What `result.json` says, as a list of plain values under names that can be searched for.

    Where the run has a best score, it is at `best/<metric>`, and the step that it is of at `best_step`.
    """
    best = result.get("best")
    flat = {f"best/{best['metric']}": best["value"], "best_step": best["step"]} if best else {}
    for key, value in result.items():
        if key in ("dataset", "provenance") and isinstance(value, Mapping):
            flat |= {f"{key}/{name}": part for name, part in value.items()}
        elif not isinstance(value, Mapping):
            flat[key] = value
    return {key: value for key, value in flat.items() if value is not None and key != "id"}
