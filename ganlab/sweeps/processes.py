"""Each job of a sweep in a process of its own: what ends one, be it a kill, ends no other.

The processes are forked from a server that has imported all that a run needs, but computed nothing, so that a job
costs little more than its training and begins as it would alone. Where that is not safe each one imports anew.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import shlex
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus, configure_log, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from ganlab.config.ranges import PositiveInt
from ganlab.config.signatures import check_value
from ganlab.errors import CheckpointError, GanlabError
from ganlab.runs.folder import RunFolder, read_result, status_of
from ganlab.sweeps.halving import Factor, Halving, RungList
from ganlab.sweeps.jobs import objective, shown
from ganlab.sweeps.plan import ALWAYS_TOLD, STATES, Plan, Planned, without_hydra
from ganlab.sweeps.preflight import refuse_if_all_would_be
from ganlab.sweeps.rungs import Rungs
from ganlab.train import identity
from ganlab.training.signals import StopSignal, block_stop_signals, unblock_stop_signals

log = logging.getLogger(__name__)

IMPORTED_BEFORE = [
    *("ganlab.build", "ganlab.__main__", "ganlab.figures.report", "ganlab.sweeps.processes"),
    *("torch._dynamo", "sklearn.datasets", "matplotlib.figure", "matplotlib.backends.backend_agg"),
    *("pydantic.type_adapter", "pydantic.main", "PIL.GifImagePlugin", "PIL.JpegImagePlugin"),
]  # what a run imports sooner or later; one that is not there is left out
SECONDS_BETWEEN_LOOKS = 0.1  # for a signal; the end of a job is noticed at once


@dataclass(eq=False)
class RunningJob:
    """A job and its process.

    Attributes:
        began: start time, by `time.monotonic`.
    """

    planned: Planned
    process: BaseProcess
    began: float


class Sweep:
    """Runs the jobs of a sweep, those excepted that its folder shows to be done.

    Args:
        jobs: how many at once.
        cores: that they share; None: all.
        halving: the best one in so many configurations goes on at each rung; None: all do.
        rungs: fractions of a run; None: 1 / halving ** 2 and 1 / halving.
        metric: that decides there; None: each run's main one.

    Raises:
        ConfigError: a number is out of range.
    """

    def __init__(
        self,
        context: HydraContext,
        task: TaskFunction,
        config: DictConfig,
        jobs: PositiveInt = 1,
        cores: PositiveInt | None = None,
        halving: Factor | None = None,
        rungs: RungList | None = None,
        metric: str | None = None,
    ) -> None:
        check_value("hydra.launcher.jobs", jobs, PositiveInt)
        check_value("hydra.launcher.cores", cores, PositiveInt | None)
        self.context, self.task, self.config, self.num_at_once = context, task, config, jobs
        self.halving = Halving.read(halving, rungs, metric)
        self.plan = Plan(context, config, diverged_stay=self.halving is not None)  # they would again
        self.folder = self.plan.folder
        # Only of Hydra's own sweeper are the jobs all there are; others try what they have not tried yet
        self.is_whole = str(config.hydra.sweeper._target_).endswith("BasicSweeper") and not self.plan.earlier
        num_threads = threads(jobs, cores)
        if num_threads is not None:
            os.environ["OMP_NUM_THREADS"] = str(num_threads)  # read by every library when it is loaded
        self.processes = processes()

    def launch(self, job_overrides: Sequence[Sequence[str]]) -> list[JobReturn]:
        """Run, skip or continue these jobs; called once for each batch of a sweeper.

        Raises:
            ConfigError: none of them has a config that can be run.
            SystemExit: a signal came; the jobs that ran were saved, no others were started.
        """
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        try:
            planned = [self.plan.place(overrides) for overrides in job_overrides]
            rungs = Rungs(self.halving, planned) if self.halving else None
            if self.is_whole:
                refuse_if_all_would_be(planned, self.processes)
        except GanlabError:
            RunFolder(self.folder).discard()
            raise
        self.folder.mkdir(parents=True, exist_ok=True)
        num = Counter(p.state for p in planned)
        log.info(
            "%d jobs in %s, %d at a time: %s",
            *(len(planned), os.path.relpath(self.folder), self.num_at_once),
            ", ".join(f"{num[state]} {state}" for state in STATES if num[state] or state in ALWAYS_TOLD),
        )
        rounds = rungs.rounds() if rungs else [([p for p in planned if p.state != "done"], None)]
        with StopSignal() as stop:
            for jobs, until in rounds:
                self.run(jobs, stop, until)
                if stop.number:
                    raise SystemExit(self.say_stopped(planned, stop.number))
        if rungs:
            log.info("%s", rungs.savings())
        return [outcome(p) for p in planned]

    def say_stopped(self, planned: list[Planned], number: int) -> int:
        left = sum(status_of(read_result(p.folder)) in (None, "running", "stopped") for p in planned)
        name = signal.Signals(number).name
        again = shlex.quote(f"sweep_dir={self.folder}")
        log.info("Stopped by %s with %d jobs left; to continue, rerun with %s", name, left, again)
        return 128 + number

    def run(self, planned: list[Planned], stop: StopSignal, until: float | None = None) -> None:
        """Run all of these, to the end or until they are evaluated after a fraction of it."""
        waiting, running, forwarded = list(planned), list[RunningJob](), False
        while running or (waiting and not stop.number):
            while waiting and len(running) < self.num_at_once and not stop.number:
                running.append(self.start(waiting.pop(0), until))
            wait([job.process.sentinel for job in running], timeout=SECONDS_BETWEEN_LOOKS)
            for job in [job for job in running if not job.process.is_alive()]:
                running.remove(job)
                num_ended = len(planned) - len(waiting) - len(running)
                self.end(job, f"{num_ended} of {len(planned)}", stopping=bool(stop.number))
            if stop.number and not forwarded:
                forwarded = True
                for job in running:
                    os.kill(job.process.pid, stop.number)  # type: ignore[arg-type]

    def start(self, planned: Planned, until: float | None) -> RunningJob:
        quiet = self.num_at_once > 1
        if not quiet:
            log.info("#%s: %s", planned.folder.name, shown(planned.overrides))
        task = self.task if until is None else partial(self.task, until=until)  # type: ignore[call-arg]
        arguments = (self.context, task, planned.config, planned.folder, quiet)
        process = self.processes.Process(target=work, args=arguments, name=f"job {planned.folder.name}")
        began = time.monotonic()
        with block_stop_signals():
            process.start()
        return RunningJob(planned, process, began)

    def end(self, job: RunningJob, position: str, *, stopping: bool) -> None:
        """Release the process of a job that has ended, log how it ended, and record it if the job could not."""
        planned, seconds = job.planned, time.monotonic() - job.began
        job.process.join()
        exit_code = job.process.exitcode or 0
        job.process.close()  # frees its two file descriptors
        result = read_result(planned.folder)
        status = result.get("status")
        if status == "stopped" and result.get("exit_code") == 0:
            status = "paused"
        elif status is None and stopping:
            RunFolder(planned.folder).discard()
            status = "never began"
        elif status == "running" and stopping:  # the signal came before it could save; it goes on as if killed
            status = "interrupted"
        elif status in (None, "running"):
            reason = f"killed by signal {-exit_code}" if exit_code < 0 else f"ended with code {exit_code}"
            status = f"failed, {reason}"
            facts = identity(without_hydra(planned.config))
            with suppress(CheckpointError):  # another process has it: it is not ours to judge
                RunFolder(planned.folder).fail(reason, 128 - exit_code if exit_code < 0 else exit_code or 1, facts)
        log.info("#%s %s, %.1f s (%s): %s", planned.folder.name, status, seconds, position, shown(planned.overrides))


def outcome(planned: Planned) -> JobReturn:
    """What a sweeper is told of a job, read from its folder."""
    return JobReturn(
        overrides=planned.overrides,
        cfg=without_hydra(planned.config),
        hydra_cfg=planned.config,
        status=JobStatus.COMPLETED,
        _return_value=objective(planned.folder, OmegaConf.select(planned.config, "hydra.sweeper.direction")),
    )


# The processes ---------------------------------------------------------------------------------------------


def processes() -> Any:
    """Where processes come from. Only on Linux may one that has imported torch be forked safely."""
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED_BEFORE)
    with block_stop_signals():
        resource_tracker.ensure_running()  # started later, it would unblock signals for the server
    return context


def threads(jobs: int, cores: int | None) -> int | None:
    """How many threads each job gets; None: as many as it would have alone."""
    if cores is None and (jobs == 1 or "OMP_NUM_THREADS" in os.environ):
        return None
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, (cores or here) // jobs)


def work(
    context: HydraContext,
    task: TaskFunction,
    config: DictConfig,
    folder: Path,
    quiet: bool,
) -> None:
    """One job, in its own process.

    Args:
        quiet: all that it would print goes to its ganlab.log alone.
    """
    unblock_stop_signals()
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)  # Ctrl-C reaches only the launcher, which forwards it
    stop_with_parent()
    if quiet:
        print_into(folder / "ganlab.log", config)
    setup_globals()
    done = run_job(
        hydra_context=context,
        task_function=task,
        config=config,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )
    if done.status is JobStatus.FAILED:
        log.error("The job failed", exc_info=done._return_value)
        sys.exit(1)


def stop_with_parent() -> None:
    """Save and stop, as on SIGTERM, when the launcher is killed."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            wait([parent.sentinel])
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True, name="launcher watch").start()


def print_into(file: Path, config: DictConfig) -> None:
    """Send standard output and error to a file, and the log there only once."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    handlers = OmegaConf.select(config, "hydra.job_logging.root.handlers")
    if handlers and "console" in handlers:
        handlers.remove("console")
