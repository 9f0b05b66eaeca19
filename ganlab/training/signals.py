"""Signals that stop a run, and requeueing and exit codes of jobs on a cluster."""

from __future__ import annotations

import atexit
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from types import FrameType, TracebackType
from typing import Any

from ganlab.errors import Stopped
from ganlab.training import torchrun

log = logging.getLogger(__name__)

STOP_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
REQUEUE_SIGNALS = ("SIGUSR2", "SIGUSR1")  # submitit's default comes first; SUBMITIT_PREEMPT_SIGNAL selects another


def stop_signals() -> set[signal.Signals]:
    """Return the signals that stop this process, among those that the platform supports."""
    numbers = {getattr(signal, name) for name in STOP_SIGNALS if hasattr(signal, name)}
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        numbers.remove(signal.SIGHUP)  # nohup ignores it
    return numbers | ({number} if (number := requeue_signal()) else set())


def requeue_signal() -> signal.Signals | None:
    """Return the signal whose handler, installed by submitit, requeues this job; None if there is none."""
    numbers = [getattr(signal, name) for name in REQUEUE_SIGNALS if hasattr(signal, name)]
    return next((number for number in numbers if callable(signal.getsignal(number))), None)


def requeue() -> None:
    """On a cluster, requeue this job, unless Slurm is already ending or requeueing it.

    Raises:
        SystemExit: the job has been requeued.
    """
    number = requeue_signal()
    if number is None:
        return
    handler: Any = signal.getsignal(number)
    for other in stop_signals():
        signal.signal(other, signal.SIG_IGN)  # Slurm signals every process, and the commands below inherit this
    if not is_completing():
        handler(number, None)


def report_to_cluster(exit_code: int) -> None:
    """On a cluster, have this process exit with a code, so that the scheduler lists the job as failed.

    It exits only after submitit has stored the job's objective: without one, submitit's launcher raises an error and
    drops the results of the other jobs.
    """
    if requeue_signal() is not None:
        atexit.register(exit_at_once, exit_code)


def exit_at_once(exit_code: int) -> None:
    """End this process without Python's clean-up, in which libraries can change the exit code."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(exit_code)  # a SystemExit here would not change the exit code


def is_completing() -> bool:
    """Whether Slurm is already ending this job: it was cancelled or requeued, or reached its time limit."""
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
def block_stop_signals() -> Iterator[None]:
    """Block stop signals in this process, and in processes started within until they call `unblock_stop_signals`.

    The fork server never unblocks them: a closing terminal and Slurm signal every process, but the exit codes of jobs
    are lost if the server dies.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, stop_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def unblock_stop_signals() -> None:
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, stop_signals())


class StopSignal:
    """Context manager that stores the first stop signal in `number`; the training loop stops after the current step.

    A second signal acts immediately, except where one request may arrive as several signals: in a job of a sweep or a
    cluster, in a process of torchrun, and for SIGHUP, which both the shell and the kernel send when a terminal closes.
    Outside the main thread no signal is caught, as Python allows no handlers there.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._previous: dict[signal.Signals, Any] = {}
        self._raises = False
        on_cluster = requeue_signal() is not None or "SLURM_JOB_ID" in os.environ
        in_sweep = multiprocessing.parent_process() is not None
        self._ignores_second = on_cluster or in_sweep or torchrun.is_data_parallel()

    def __enter__(self) -> StopSignal:
        if current_thread() is main_thread():
            self._previous = {number: signal.signal(number, self._note) for number in stop_signals()}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore(self._previous)

    @contextmanager
    def raising(self) -> Iterator[None]:
        """Raise on the first signal immediately, as before the first step there is nothing to save.

        Raises:
            Stopped: a stop signal arrived.
        """
        self._raises = True
        try:
            yield
        except KeyboardInterrupt:
            if self.number is None:
                raise
            name = signal.Signals(self.number).name
            raise Stopped(f"stopped by {name} before the first step", self.number) from None
        finally:
            self._raises = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        is_first = self.number is None
        self.number = self.number or number
        if not self._ignores_second:
            self._restore(number for number in self._previous if number.name != "SIGHUP")
        if self._raises and is_first:
            raise KeyboardInterrupt

    def _restore(self, numbers: Iterable[signal.Signals]) -> None:
        for number in numbers:
            signal.signal(number, self._previous[number])
