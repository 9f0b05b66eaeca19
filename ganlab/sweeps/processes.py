"""Runs each job of a sweep in its own process, so that a crash or a kill of one job leaves the others alone.

On Linux the processes are forked from a server that has imported everything a run needs but has computed nothing. A job
then starts quickly, and in the same state as a single run. Elsewhere each process imports everything itself.
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
from omegaconf import DictConfig, OmegaConf, open_dict

from ganlab.config.environment import environment
from ganlab.config.hydra_internals import is_basic_sweeper
from ganlab.config.ranges import PositiveInt
from ganlab.config.signatures import check_value
from ganlab.errors import CheckpointError, GanlabError
from ganlab.leaderboard.table import plural
from ganlab.runs.folder import RunFolder, read_result, status_of
from ganlab.sweeps.halving import Factor, Halving, RungList
from ganlab.sweeps.jobs import format_overrides, objective
from ganlab.sweeps.plan import ALWAYS_LISTED, STATES, Plan, PlannedJob
from ganlab.sweeps.preflight import refuse_if_all_invalid
from ganlab.sweeps.rungs import Rungs
from ganlab.training.gpus import visible_gpus
from ganlab.training.signals import StopSignal, block_stop_signals, unblock_stop_signals

log = logging.getLogger(__name__)

PRELOADED_MODULES = [
    *("ganlab.build", "ganlab.__main__", "ganlab.figures.report", "ganlab.sweeps.processes"),
    *("torch._dynamo", "sklearn.datasets", "matplotlib.figure", "matplotlib.backends.backend_agg"),
    *("pydantic.type_adapter", "pydantic.main", "PIL.GifImagePlugin", "PIL.JpegImagePlugin"),
]  # imported by every run; modules that are not installed are skipped
SIGNAL_POLL_SECONDS = 0.1  # delay before a stop signal is noticed; the end of a job is noticed immediately


@dataclass(eq=False)
class RunningJob:
    """A job and its process.

    Attributes:
        began: start time from `time.monotonic`.
        gpu: the only GPU that the job can use; None if it can use all.
    """

    planned: PlannedJob
    process: BaseProcess
    began: float
    gpu: str | None


class Sweep:
    """Runs the jobs of a sweep, and skips those that are already done in its folder.

    Args:
        jobs: number of jobs that run at the same time.
        cores: number of cores that the running jobs share; None uses all.
        halving: the best 1 / halving of the configurations continue at each rung; None turns halving off.
        rungs: fractions of a run; None uses 1 / halving ** 2 and 1 / halving.
        metric: metric to rank by at a rung; None uses the main metric of each run.

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
        self.context, self.task, self.config, self.num_parallel = context, task, config, jobs
        self.halving = Halving.read(halving, rungs, metric)
        self.plan = Plan(
            context, config, keep_diverged=self.halving is not None
        )  # with equal seeds they would diverge again
        self.folder = self.plan.folder
        # Hydra's own sweeper launches all jobs in one batch; others launch several batches
        self.knows_all_jobs = is_basic_sweeper(config.hydra.sweeper) and not self.plan.earlier
        num_threads = threads(jobs, cores)
        # For the processes: libraries read it when they are loaded
        self.environment = {} if num_threads is None else {"OMP_NUM_THREADS": str(num_threads)}
        self.gpus = visible_gpus()
        self.processes = processes()

    def launch(self, job_overrides: Sequence[Sequence[str]]) -> list[JobReturn]:
        """Run, continue or skip each of these jobs. The sweeper calls this once per batch.

        Raises:
            ConfigError: every job has an invalid config.
            SystemExit: stopped by a signal, after the running jobs were saved.
        """
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        try:
            planned = [self.plan.place(overrides) for overrides in job_overrides]
            rungs = Rungs(self.halving, planned) if self.halving else None
            if self.knows_all_jobs:
                with environment(**self.environment):
                    refuse_if_all_invalid(planned, self.processes)
        except GanlabError:
            RunFolder(self.folder).discard()
            raise
        self.folder.mkdir(parents=True, exist_ok=True)
        num = Counter(p.state for p in planned)
        log.info(
            "%s in %s, %d at a time: %s",
            *(plural(len(planned), "job"), os.path.relpath(self.folder), self.num_parallel),
            ", ".join(f"{num[state]} {state}" for state in STATES if num[state] or state in ALWAYS_LISTED),
        )
        rounds = rungs.rounds() if rungs else [([p for p in planned if p.state != "done"], None)]
        with StopSignal() as stop:
            for jobs, until in rounds:
                self.run(jobs, stop, until)
                if stop.number:
                    raise SystemExit(self.report_stopped(planned, stop.number))
        if rungs:
            log.info("%s", rungs.savings())
        return [outcome(p) for p in planned]

    def report_stopped(self, planned: list[PlannedJob], number: int) -> int:
        left = sum(status_of(read_result(p.folder)) in (None, "running", "stopped") for p in planned)
        name = signal.Signals(number).name
        again = shlex.quote(f"sweep_dir={self.folder}")
        log.info("Stopped by %s with %s left; to continue, rerun with %s", name, plural(left, "job"), again)
        return 128 + number

    def run(self, planned: list[PlannedJob], stop: StopSignal, until: float | None = None) -> None:
        """Run jobs to the end, or until their first evaluation at or after a fraction of the run."""
        waiting, running, forwarded = list(planned), list[RunningJob](), False
        while running or (waiting and not stop.number):
            while waiting and len(running) < self.num_parallel and not stop.number:
                running.append(self.start(waiting.pop(0), until, self.gpu_of_next([job.gpu for job in running])))
            wait([job.process.sentinel for job in running], timeout=SIGNAL_POLL_SECONDS)
            for job in [job for job in running if not job.process.is_alive()]:
                running.remove(job)
                num_ended = len(planned) - len(waiting) - len(running)
                self.end(job, f"{num_ended} of {len(planned)}", stopping=bool(stop.number))
            if stop.number and not forwarded:
                forwarded = True
                for job in running:
                    os.kill(job.process.pid, stop.number)  # type: ignore[arg-type]

    def gpu_of_next(self, busy: Sequence[str | None]) -> str | None:
        """Return the GPU with the fewest running jobs; None if there are not several to choose from."""
        return min(self.gpus, key=busy.count) if len(self.gpus) > 1 else None

    def start(self, planned: PlannedJob, until: float | None, gpu: str | None) -> RunningJob:
        quiet = self.num_parallel > 1
        if not quiet:
            log.info("#%s: %s", planned.folder.name, format_overrides(planned.overrides))
        with open_dict(planned.hydra_config):
            for key, value in planned.config.plain().items():  # Hydra records the values that the job trains with
                planned.hydra_config[key] = value
        task = partial(self.task, config=planned.config, until=until)  # type: ignore[call-arg]
        if planned.config.select("device") not in ("auto", "cuda"):
            gpu = None
        arguments = (self.context, task, planned.hydra_config, planned.folder, quiet, gpu)
        process = self.processes.Process(target=work, args=arguments, name=f"job {planned.folder.name}")
        began = time.monotonic()
        with block_stop_signals(), environment(**self.environment):
            process.start()
        return RunningJob(planned, process, began, gpu)

    def end(self, job: RunningJob, position: str, *, stopping: bool) -> None:
        """Release the process of an ended job and report the job."""
        job.process.join()
        exit_code = job.process.exitcode or 0
        job.process.close()  # frees its two file descriptors
        self.report(job.planned, time.monotonic() - job.began, exit_code, position, stopping=stopping)

    def report(self, planned: PlannedJob, seconds: float, exit_code: int, position: str, *, stopping: bool) -> None:
        """Log the status of an ended job, and record a failure that the job could not."""
        result = read_result(planned.folder)
        status = result.get("status")
        if status == "stopped" and result.get("exit_code") == 0:
            status = "paused"
        elif status is None and stopping:
            RunFolder(planned.folder).discard()
            status = "not started"
        elif status == "running" and stopping:  # the signal came before it could save; it resumes like a killed job
            status = "interrupted"
        elif status in (None, "running"):
            reason = f"killed by signal {-exit_code}" if exit_code < 0 else f"ended with code {exit_code}"
            status = f"failed, {reason}"
            with suppress(CheckpointError, OSError):  # another process is training this run, or it cannot be written
                RunFolder(planned.folder).fail(
                    reason, 128 - exit_code if exit_code < 0 else exit_code or 1, planned.config.identity
                )
        log.info(
            "#%s %s, %.1f s (%s): %s",
            planned.folder.name,
            status,
            seconds,
            position,
            format_overrides(planned.overrides),
        )


def outcome(planned: PlannedJob) -> JobReturn:
    """Return the result of a job for the sweeper, read from its folder."""
    return JobReturn(
        overrides=planned.overrides,
        hydra_cfg=planned.hydra_config,
        status=JobStatus.COMPLETED,
        _return_value=objective(planned.folder, OmegaConf.select(planned.hydra_config, "hydra.sweeper.direction")),
    )


# The processes ---------------------------------------------------------------------------------------------


def processes() -> Any:
    """Return the multiprocessing context. Forking after importing torch is safe only on Linux."""
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED_MODULES)
    with block_stop_signals():
        resource_tracker.ensure_running()  # started later, it would unblock signals for the server
    return context


def threads(jobs: int, cores: int | None) -> int | None:
    """Return the number of threads of each job; None leaves it as for a single run."""
    if cores is None and (jobs == 1 or "OMP_NUM_THREADS" in os.environ):
        return None
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, (cores or available) // jobs)


def work(
    context: HydraContext,
    task: TaskFunction,
    config: DictConfig,
    folder: Path,
    quiet: bool,
    gpu: str | None,
) -> None:
    """Run one job; the target of its process.

    Args:
        quiet: whether to redirect all output to the job's ganlab.log.
        gpu: the only GPU that the job can use; None if it can use all.
    """
    accept_signals_of_launcher()
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu  # the server that forked this process has another environment
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


def accept_signals_of_launcher() -> None:
    """Let only the launcher stop this process: by a signal that it forwards, or by its death."""
    unblock_stop_signals()
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)  # a terminal sends Ctrl-C to the group of the launcher
    stop_with_parent()


def stop_with_parent() -> None:
    """Send this process SIGTERM when the launcher dies, so that the job saves and stops."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            wait([parent.sentinel])
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True, name="launcher watch").start()


def print_into(file: Path, config: DictConfig) -> None:
    """Redirect standard output and error to a file, and drop the console log handler, as the log goes there anyway."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    handlers = OmegaConf.select(config, "hydra.job_logging.root.handlers")
    if handlers and "console" in handlers:
        handlers.remove("console")
