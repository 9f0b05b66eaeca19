"""Trains the jobs of a sweep that differ only in numbers as populations, each in one process."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from hydra.core.utils import configure_log
from omegaconf import DictConfig, OmegaConf, open_dict

from ganlab.config import command_line
from ganlab.config.environment import environment
from ganlab.config.ranges import PositiveInt
from ganlab.config.run_config import ResolvedConfig
from ganlab.config.signatures import check_value
from ganlab.config.stackable import without_stackable
from ganlab.errors import ConfigError, GanlabError
from ganlab.files import as_yaml
from ganlab.leaderboard.table import plural
from ganlab.runs.folder import RunFolder, contains_run, read_result, status_of
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
        max_population: maximum number of members of a population; None: as many as fit in half of the available memory.
        arguments: see `Sweep`.
    """

    def __init__(self, *arguments: Any, max_population: PositiveInt | None = None, **keywords: Any) -> None:
        check_value("hydra.launcher.max_population", max_population, PositiveInt | None)
        super().__init__(*arguments, **keywords)
        self.max_population = max_population

    def run(self, planned: list[PlannedJob], stop: StopSignal, until: float | None = None) -> None:
        for jobs in populations(planned):
            if stop.number:
                return
            if len(jobs) == 1 or not self.run_population(jobs, stop, until):
                super().run(jobs, stop, until)

    def run_population(self, jobs: list[PlannedJob], stop: StopSignal, until: float | None) -> bool:
        """Train jobs as populations; return False if some cannot be stacked and must run in processes of their own."""
        log.info("Training %s together", plural(len(jobs), "job"))
        runs = {job.folder: job.config for job in jobs if record(job) and not is_done(job.config, job.folder)}
        arguments = (runs, self.config.hydra.hydra_logging, until, self.max_population)
        process = self.processes.Process(target=work, args=arguments, name=f"population {jobs[0].folder.name}")
        began, forwarded = time.monotonic(), False
        with block_stop_signals(), environment(**self.environment):
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
        for number, planned in enumerate(jobs, start=1):
            if exit_code < 0 and status_of(read_result(planned.folder)) == "running":  # it can continue
                RunFolder(planned.folder).note(
                    status="stopped", error=f"killed by signal {-exit_code}", exit_code=128 - exit_code
                )
            position = f"{number} of {len(jobs)}"
            self.report(planned, time.monotonic() - began, exit_code, position, stopping=bool(stop.number))
        return True


def populations(planned: Iterable[PlannedJob]) -> list[list[PlannedJob]]:
    """Group jobs that can be stacked, in the order of their first job."""
    groups: dict[str, list[PlannedJob]] = {}
    for job in planned:
        try:
            valid = job.config.validate()
        except GanlabError:  # its own process will say why
            groups[str(job.folder)] = [job]
        else:
            key = json.dumps(without_stackable(valid.plain()), sort_keys=True)
            groups.setdefault(key, []).append(replace(job, config=valid))
    return list(groups.values())


def record(job: PlannedJob) -> bool:
    """Write the record that Hydra keeps of a job to the job's folder; return False if the folder cannot be written."""
    folder = job.folder / ".hydra"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        log.error("#%s cannot be trained: %s", job.folder.name, error)
        return False
    with open_dict(job.hydra_config):
        job.hydra_config.hydra.runtime.output_dir = str(job.folder.absolute())
    settings = OmegaConf.to_container(job.hydra_config.hydra, enum_to_str=True)
    (folder / "hydra.yaml").write_bytes(as_yaml({"hydra": settings}))
    (folder / "config.yaml").write_bytes(as_yaml(job.config.plain()))
    (folder / "overrides.yaml").write_bytes(as_yaml(list(job.hydra_config.hydra.overrides.task)))
    return True


def work(
    runs: Mapping[Path, ResolvedConfig], logging_config: DictConfig, until: float | None, max_size: int | None
) -> None:
    """Train jobs together; the target of their process."""
    accept_signals_of_launcher()
    keep_freed_memory()
    configure_log(logging_config, False)
    for name in ("ganlab.train", "ganlab.training.recorder"):  # a line for each member would hide the others
        logging.getLogger(name).setLevel(logging.WARNING)
    resumed = [folder for folder in runs if contains_run(folder)]
    try:
        train_together(runs, resume=resumed, until=until, max_size=max_size)
    except ConfigError as error:
        log.info("Not trained together: %s", error)
        sys.exit(ConfigError.exit_code)
    except GanlabError as error:
        sys.exit(command_line.say(error))
