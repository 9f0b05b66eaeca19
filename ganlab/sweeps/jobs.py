"""Runs one job of a sweep, under any launcher, and reads the state of all jobs from the folder of the sweep.

The progress of a sweep is recorded only in result.json and .hydra/ of each job.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from ganlab.config import command_line, run_config
from ganlab.config.hydra_internals import is_basic_sweeper
from ganlab.config.run_config import ResolvedConfig
from ganlab.errors import CheckpointError, GanlabError, Stopped
from ganlab.runs.folder import RESULT, contains_run, read_result, status_of
from ganlab.runs.hydra_record import read_hydra_record
from ganlab.train import train
from ganlab.training.signals import report_to_cluster, requeue

log = logging.getLogger(__name__)

SETTLED = ("done", "halted")  # statuses that are not failures


def run_in_sweep(cfg: ResolvedConfig, folder: Path, sweeper: DictConfig, until: float | None = None) -> float:
    """Train one job and return its objective. Errors of the run itself are logged, not raised.

    If the folder contains an unfinished run with the same config, the job continues it, as after a preemption. If that
    run is done, the job does nothing.

    Args:
        sweeper: Hydra's config of the sweeper.
        until: fraction of the run; the job pauses at its first evaluation there or later. None trains to the end.

    Raises:
        SystemExit: a signal stopped the job, so that this process starts no others.
        CheckpointError: the folder contains another run.
    """
    try:
        if not is_done(cfg, folder):
            train(cfg, folder, resume=contains_run(folder), keep=True, until=until)
    except Stopped as error:
        requeue()  # if on a cluster
        raise SystemExit(command_line.say(error)) from error
    except GanlabError as error:
        log.error("%s", error, exc_info=error if error.__cause__ else None)
        report_to_cluster(error.exit_code)
    score = objective(folder, sweeper.get("direction"))
    if until is None and math.isinf(score) and not is_basic_sweeper(sweeper):
        log.warning("The run has no score; the sweeper receives an infinitely bad one")
    return score


def is_done(cfg: ResolvedConfig, folder: Path) -> bool:
    """Whether the folder of a job contains the finished run.

    Raises:
        CheckpointError: the folder contains another run, or one that cannot continue.
    """
    if not contains_run(folder):
        return False
    result = read_result(folder)
    if result.get("config_hash") != cfg.hash:
        raise CheckpointError(f"{folder}: already contains a run with another config; choose another sweep_dir=")
    if result["status"] not in ("done", "running", "stopped"):
        raise CheckpointError(
            f"{folder}: already contains a run, which has {result['status']}; choose another sweep_dir="
        )
    return bool(result["status"] == "done")


def objective(folder: Path, direction: Any = None) -> float:
    """Return the number that a sweeper optimises: the best score of the main metric, or else its last score.

    Args:
        direction: direction of the sweeper, `minimize` or `maximize`.

    Returns:
        Never NaN. An unfinished run or one without a score has the worst value, inf or -inf. A halted run has its best
        score so far. The full run would score at least as well, and the sweeper learns which halted runs were close, as
        Optuna does for trials that it prunes.
    """
    result = read_result(folder)
    scores = result.get("scores") or {}
    score = result.get("best") or scores.get(result.get("main_metric"))
    value = score["value"] if score else None
    if status_of(result) in SETTLED and value is not None and not math.isnan(value):
        return float(value)
    return -math.inf if "max" in str(direction).lower() else math.inf


# The folders of a sweep ------------------------------------------------------------------------------------


@dataclass
class Job:
    """The state of a job, read from its folder.

    Attributes:
        number: number of the folder; None if its name is not a number.
        hash: hash of the config; None if the config cannot be read.
        status: `done`, `halted`, `running`, `stopped`, `diverged` or `failed`.
        overrides: overrides as typed on the command line.
    """

    folder: Path
    number: int | None
    hash: str | None
    status: str
    error: str
    exit_code: int
    overrides: list[str]


def jobs_in(sweep: Path) -> list[Job]:
    """Return all jobs that were ever started in the folder of a sweep, sorted by number."""
    folders = {path.parent for name in (RESULT, ".hydra") for path in sweep.rglob(name)} - {sweep}
    return sorted((_read(folder) for folder in folders), key=lambda job: (job.number is None, job.number, job.folder))


def _read(folder: Path) -> Job:
    result = read_result(folder)
    status = status_of(result) or "failed"  # no result: killed before it wrote one
    config_hash = result.get("config_hash")
    if not isinstance(config_hash, str):
        config_hash = None
        with suppress(CheckpointError):  # there is no config either
            config_hash = run_config.read(folder).hash
    return Job(
        folder=folder,
        number=int(folder.name) if folder.name.isdecimal() else None,
        hash=config_hash,
        status=status,
        error=result.get("error") or ("still running" if status == "running" else "ended before training started"),
        exit_code=code if isinstance(code := result.get("exit_code"), int) and code else 1,
        overrides=read_hydra_record(folder)[1],
    )


def failures(jobs: Iterable[Job]) -> list[Job]:
    """Return the last job of each config, except configs with a finished or halted job."""
    last: dict[str, Job] = {}
    for job in jobs:
        key = job.hash or str(job.folder)
        if key not in last or last[key].status != "done":
            last[key] = job
    return [job for job in last.values() if job.status not in SETTLED]


def format_overrides(overrides: Iterable[str]) -> str:
    return " ".join(override for override in overrides if not override.startswith("hydra."))
