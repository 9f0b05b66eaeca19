"""Trackers: places that metrics and pictures are copied to while the run folder holds the originals.

None may hurt the run that it watches: `Unfailing` calls them from a thread of its own and swallows what they raise,
with one warning.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from ganlab.ranges import Seconds

log = logging.getLogger(__name__)


@runtime_checkable
class Tracker(Protocol):
    patience: float  # seconds that starting may take, before the run goes on without it

    def start(self, folder: Path, run_id: str, config: Mapping[str, Any]) -> None:
        """Begin, or go on, with the run of that id, whose folder and whole config are given."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Copy scalars."""

    def picture(self, name: str, file: Path, step: int) -> None:
        """Copy a picture or an animation."""

    def finish(self, exit_code: int, summary: Mapping[str, Any]) -> None:
        """End; an exit code other than 0 marks a failure."""


class NoTracker:
    """Copies nothing."""

    patience = 1.0

    def start(self, folder: Path, run_id: str, config: Mapping[str, Any]) -> None:
        pass

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        pass

    def picture(self, name: str, file: Path, step: int) -> None:
        pass

    def finish(self, exit_code: int, summary: Mapping[str, Any]) -> None:
        pass


class Wandb:
    """Weights & Biases.

    Args:
        project, entity, name, group, job_type, tags, notes: as W&B shows them.
        mode: `offline` writes into the run's folder; `online` falls back to that where the server cannot be reached.
        start_timeout: seconds that an unreachable server may cost at the start.
    """

    def __init__(
        self,
        project: str = "ganlab",
        entity: str | None = None,
        name: str | None = None,
        group: str | None = None,
        job_type: str | None = None,
        tags: list[str] | None = None,
        notes: str | None = None,
        mode: Literal["online", "offline", "disabled"] = "offline",
        start_timeout: Seconds = 10.0,
    ) -> None:
        self.mode = mode
        self.start_timeout = start_timeout
        self.patience = start_timeout + 10  # to import wandb, and to start offline after all
        self.about: dict[str, Any] = {
            "project": project,
            "entity": entity,
            "name": name,
            "group": group,
            "job_type": job_type,
            "tags": tags,
            "notes": notes,
        }
        self.run: Any = None

    def start(self, folder: Path, run_id: str, config: Mapping[str, Any]) -> None:
        import wandb

        def begin(mode: str) -> Any:
            settings = wandb.Settings(init_timeout=0.8 * self.start_timeout, silent=True, console="off")
            return wandb.init(
                **self.about,
                dir=str(folder),
                id=run_id,
                config=dict(config),
                mode=mode,  # type: ignore[arg-type]  # checked against the same Literal in __init__
                resume="allow" if mode == "online" else None,
                reinit="finish_previous",
                settings=settings,
            )

        try:
            self.run = begin(self.mode)
        except Exception as error:
            if self.mode != "online":
                raise
            log.warning("W&B cannot be reached (%s); this run is tracked offline, in %s", error, folder / "wandb")
            self.run = begin("offline")

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        self.run.log(dict(metrics), step=step)

    def picture(self, name: str, file: Path, step: int) -> None:
        import wandb
        from PIL import Image

        if file.suffix == ".gif":
            self.run.log({name: wandb.Video(str(file), format="gif")}, step=step)
        else:  # from its pixels: W&B's own conversion of a float tensor is black since 0.29
            self.run.log({name: wandb.Image(Image.open(file).convert("RGB"))}, step=step)

    def finish(self, exit_code: int, summary: Mapping[str, Any]) -> None:
        if self.run is not None:
            self.run.summary.update(dict(summary))
            self.run.finish(exit_code=exit_code)


class Unfailing:
    """A tracker that can neither raise into the run nor block it.

    Args:
        tracker: the one that does the work, from now on in a thread of its own. Its `patience` bounds how long
            starting may take, twice of it how long finishing may.
    """

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker
        self._work: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._failed = self._hangs = False
        threading.Thread(target=self._serve, daemon=True, name="tracker").start()

    def start(self, folder: Path, run_id: str, config: Mapping[str, Any]) -> None:
        self._put(lambda: self.tracker.start(folder, run_id, config))
        self._wait("start", self.tracker.patience)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        self._put(lambda: self.tracker.log(metrics, step))

    def picture(self, name: str, file: Path, step: int) -> None:
        self._put(lambda: self.tracker.picture(name, file, step))

    def finish(self, exit_code: int, summary: Mapping[str, Any]) -> None:
        if not self._hangs:  # also after a failure: what has been started is to be closed
            self._work.put(lambda: self.tracker.finish(exit_code, summary))
            self._wait("finish", 2 * self.tracker.patience)

    def _put(self, call: Callable[[], None]) -> None:
        if not self._failed:
            self._work.put(call)

    def _wait(self, what: str, seconds: float) -> None:
        done = threading.Event()
        self._work.put(done.set)
        if not done.wait(seconds):
            self._hangs = True
            self._give_up(f"did not {what} within {seconds:g} s")

    def _serve(self) -> None:
        while True:
            call = self._work.get()
            try:
                call()
            except Exception as error:  # noqa: BLE001 - whatever a tracker raises must not reach the run
                self._give_up(f"failed: {error}")

    def _give_up(self, reason: str) -> None:
        if not self._failed:
            self._failed = True
            log.warning("The tracker %s; the run goes on without it.", reason)
