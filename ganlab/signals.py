"""Signals that ask a run to stop, and the way back into the queue of a cluster."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from types import FrameType, TracebackType
from typing import Any

from ganlab.errors import Stopped

log = logging.getLogger(__name__)

STOP_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
REQUEUE_SIGNALS = ("SIGUSR2", "SIGUSR1")  # submitit's default first; it reads another from SUBMITIT_PREEMPT_SIGNAL


def stop_signals() -> set[signal.Signals]:
    """The signals that ask this process to stop, as far as the platform has them."""
    numbers = {getattr(signal, name) for name in STOP_SIGNALS if hasattr(signal, name)}
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        numbers.remove(signal.SIGHUP)  # nohup
    return numbers | ({number} if (number := requeue_signal()) else set())


def requeue_signal() -> signal.Signals | None:
    """The signal whose handler requeues this job, as submitit installs one on a cluster; None: there is no handler."""
    numbers = [getattr(signal, name) for name in REQUEUE_SIGNALS if hasattr(signal, name)]
    return next((number for number in numbers if callable(signal.getsignal(number))), None)


def requeue() -> None:
    """Put a stopped job of a cluster back into the queue, once, unless Slurm is ending or requeueing it already.

    Raises:
        SystemExit: the job is in the queue.
    """
    number = requeue_signal()
    if number is None:
        return
    handler: Any = signal.getsignal(number)
    for other in stop_signals():
        signal.signal(other, signal.SIG_IGN)  # inherited by the commands below: Slurm signals every process
    if not is_completing():
        handler(number, None)


def is_completing() -> bool:
    """Whether Slurm is ending the job of this process, because it was cancelled, is out of time or was requeued."""
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        return False
    try:
        command = ["squeue", "--noheader", "--format=%T", f"--jobs={job}"]
        state = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("The state of Slurm job %s is unknown, so it is requeued: %s", job, error)
        return False
    return state == "COMPLETING"


@contextmanager
def blocked() -> Iterator[None]:
    """Hold back stop signals here, and in processes started within until they call `unblock`.

    The server that jobs are forked from never does: a closing terminal and Slurm signal every process, and without
    the server nobody learns how its jobs end.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, stop_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def unblock() -> None:
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, stop_signals())


class StopSignal:
    """Within it, the first signal to stop is noted in `number` for the loop to obey.

    A second signal acts at once where a user sends it, but not where one request arrives as several signals: in a job
    of a sweep or a cluster, and as SIGHUP, which both the shell and the kernel send when a terminal closes. Outside
    the main thread, where Python does not allow handlers, nothing is caught.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._before: dict[signal.Signals, Any] = {}
        self._interrupts = False
        on_cluster = requeue_signal() is not None or "SLURM_JOB_ID" in os.environ
        self._ignores_second = on_cluster or multiprocessing.parent_process() is not None

    def __enter__(self) -> StopSignal:
        if current_thread() is main_thread():
            self._before = {number: signal.signal(number, self._note) for number in stop_signals()}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore(self._before)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Before the first step there is nothing to save: the first signal ends what runs within.

        Raises:
            Stopped: by that signal.
        """
        self._interrupts = True
        try:
            yield
        except KeyboardInterrupt:
            if self.number is None:
                raise
            name = signal.Signals(self.number).name
            raise Stopped(f"stopped by {name} before the first step", self.number) from None
        finally:
            self._interrupts = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        is_first = self.number is None
        self.number = self.number or number
        if not self._ignores_second:
            self._restore(number for number in self._before if number.name != "SIGHUP")
        if self._interrupts and is_first:
            raise KeyboardInterrupt

    def _restore(self, numbers: Iterable[signal.Signals]) -> None:
        for number in numbers:
            signal.signal(number, self._before[number])
