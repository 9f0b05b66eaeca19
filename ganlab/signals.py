"""Signals that ask a run to stop."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


def requeues() -> bool:
    """Whether somebody, as submitit does on a cluster, handles SIGUSR2: it puts this job back into the queue."""
    return hasattr(signal, "SIGUSR2") and callable(signal.getsignal(signal.SIGUSR2))


def stopping() -> tuple[signal.Signals, ...]:
    """The signals that ask this process to stop. On a cluster SIGTERM only accompanies SIGUSR2, its first warning."""
    return (signal.SIGINT, signal.SIGUSR2 if requeues() else signal.SIGTERM)


class StopSignal:
    """Within it, the first signal to stop is noted in `number` for the loop to obey; the next one acts at once.

    Outside the main thread, where Python does not allow handlers, nothing is caught.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignal:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in stopping()}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
