"""Trains the jobs of a sweep that differ only in numbers as populations, each in one process."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Iterable, Sequence
from multiprocessing.connection import wait
from typing import Any

from hydra.core.utils import configure_log, run_job, setup_globals
from hydra.types import HydraContext
from omegaconf import DictConfig

from ganlab.config import command_line
from ganlab.config.ranges import PositiveInt
from ganlab.config.signatures import check_value
from ganlab.config.stackable import without_stackable
from ganlab.errors import ConfigError, GanlabError
from ganlab.leaderboard.table import plural
from ganlab.runs.folder import contains_run
from ganlab.sweeps.jobs import is_done
from ganlab.sweeps.plan import PlannedJob
from ganlab.sweeps.processes import SIGNAL_POLL_SECONDS, Sweep, accept_signals_of_launcher
from ganlab.train import train_together
from ganlab.training.memory import keep_freed_memory
from ganlab.training.signals import StopSignal, block_stop_signals

log = logging.getLogger(__name__)


class VectorizedSweep(Sweep):
    """Runs the jobs of a sweep as populations; jobs that cannot be stacked run in processes of their own.

    Args:
        max_population: maximum number of members, which bounds the memory.
        arguments: see `Sweep`.
    """

    def __init__(self, *arguments: Any, max_population: PositiveInt = 512, **keywords: Any) -> None:
        check_value("hydra.launcher.max_population", max_population, PositiveInt)
        super().__init__(*arguments, **keywords)
        self.max_population = max_population

    def run(self, planned: list[PlannedJob], stop: StopSignal, until: float | None = None) -> None:
        for jobs in populations(planned, self.max_population):
            if stop.number:
                return
            if len(jobs) == 1 or not self.run_population(jobs, stop, until):
                super().run(jobs, stop, until)

    def run_population(self, jobs: list[PlannedJob], stop: StopSignal, until: float | None) -> bool:
        """Train jobs as a population; return False if they cannot be stacked and have not started."""
        log.info("Training %s as one population", plural(len(jobs), "job"))
        arguments = (self.context, jobs, self.config.hydra.hydra_logging, until)
        process = self.processes.Process(target=work, args=arguments, name=f"population {jobs[0].folder.name}")
        began, forwarded = time.monotonic(), False
        with block_stop_signals():
            process.start()
        while process.is_alive():
            wait([process.sentinel], timeout=SIGNAL_POLL_SECONDS)
            if stop.number and not forwarded:
                forwarded = True
                os.kill(process.pid, stop.number)
        process.join()
        exit_code = process.exitcode or 0
        process.close()
        if exit_code == ConfigError.exit_code:
            return False
        is_interrupted = bool(stop.number) or exit_code < 0  # killed members can continue, unlike one that kills itself
        for number, planned in enumerate(jobs, start=1):
            position = f"{number} of {len(jobs)}"
            self.report(planned, time.monotonic() - began, exit_code, position, stopping=is_interrupted)
        return True


def populations(planned: Iterable[PlannedJob], max_size: int) -> list[list[PlannedJob]]:
    """Group jobs that can train as one population, in the order of their first job."""
    groups: dict[str, list[PlannedJob]] = {}
    for job in planned:
        try:
            key = json.dumps(without_stackable(job.config.validate().plain()), sort_keys=True)
        except GanlabError:  # its own process will say why
            key = str(job.folder)
        groups.setdefault(key, []).append(job)
    return [group[first : first + max_size] for group in groups.values() for first in range(0, len(group), max_size)]


def work(context: HydraContext, jobs: Sequence[PlannedJob], logging_config: DictConfig, until: float | None) -> None:
    """Train a population; the target of its process."""
    accept_signals_of_launcher()
    keep_freed_memory()
    setup_globals()
    for job in jobs:
        record(context, job)
    configure_log(logging_config, False)
    for name in ("ganlab.train", "ganlab.training.recorder"):  # a line for each member would hide the others
        logging.getLogger(name).setLevel(logging.WARNING)
    runs = {job.folder: job.config for job in jobs if not is_done(job.config, job.folder)}
    resumed = [folder for folder in runs if contains_run(folder)]
    try:
        train_together(runs, resume=resumed, until=until)
    except ConfigError as error:
        log.info("Not trained as one population: %s", error)
        sys.exit(ConfigError.exit_code)
    except GanlabError as error:
        sys.exit(command_line.say(error))


def record(context: HydraContext, job: PlannedJob) -> None:
    """Have Hydra write its record of a job to the job's folder."""
    run_job(
        hydra_context=context,
        task_function=lambda _: None,
        config=job.hydra_config,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
        configure_logging=False,
    )
