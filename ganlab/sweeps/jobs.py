"""One job of a sweep, by whichever engine it is run, and what the folders of a sweep say of its jobs.

Nothing but the folders themselves records how far a sweep has come: result.json and .hydra/ of each job.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from ganlab.config import command_line, run_config
from ganlab.errors import CheckpointError, GanlabError, Stopped
from ganlab.runs.folder import RESULT, holds_a_run, read_result, status_of
from ganlab.runs.hydra_record import composition
from ganlab.train import train
from ganlab.training.signals import requeue

log = logging.getLogger(__name__)

SETTLED = ("done", "halted")  # statuses of what went as it should


def job(cfg: DictConfig, until: float | None = None) -> float | int:
    """What Hydra calls with a config: one run, or one job of a sweep.

    Args:
        until: of a job, a fraction at whose next evaluation it is to stop; None: go to the end.

    Returns:
        Of a single run, its exit code. Of a job, the score that a sweeper looks at.

    Raises:
        SystemExit: a signal stopped a job, and no more shall be started in this process.
        CheckpointError: the folder of a job holds another run.
    """
    hydra_cfg = HydraConfig.get()
    folder = Path(hydra_cfg.runtime.output_dir)
    if hydra_cfg.mode is RunMode.RUN:
        return run_alone(cfg, folder)
    return run_in_sweep(cfg, folder, hydra_cfg.sweeper, until)


def run_alone(cfg: DictConfig, folder: Path) -> int:
    """One run; its exit code."""
    try:
        train(cfg, folder)
    except GanlabError as error:
        return command_line.say(error)
    return 0


def run_in_sweep(cfg: DictConfig, folder: Path, sweeper: DictConfig, until: float | None = None) -> float:
    """One job, which never raises what is the run's own fault; the score that the sweeper looks at.

    A job whose folder holds a part of the same run continues it, as after a preemption, and does nothing where it
    is done.
    """
    try:
        if not is_done(cfg, folder):
            train(cfg, folder, resume=holds_a_run(folder), keep=True, until=until)
    except Stopped as error:
        requeue()  # on a cluster
        raise SystemExit(command_line.say(error)) from error
    except GanlabError as error:
        log.error("%s", error, exc_info=error if error.__cause__ else None)
    score = objective(folder, sweeper.get("direction"))
    if until is None and math.isinf(score) and not sweeper._target_.endswith("BasicSweeper"):
        log.warning("No score for the sweeper, which is told the worst there is")
    return score


def is_done(cfg: DictConfig, folder: Path) -> bool:
    """Whether the folder of a job holds the whole of it.

    Raises:
        CheckpointError: it holds another run, or one that cannot go on.
    """
    if not holds_a_run(folder):
        return False
    result = read_result(folder)
    if result.get("config_hash") != run_config.config_hash(cfg):
        raise CheckpointError(f"{folder}: holds a run already, with another config; choose another sweep_dir=")
    if result["status"] not in ("done", "running", "stopped"):
        raise CheckpointError(f"{folder}: holds a run already, which has {result['status']}; choose another sweep_dir=")
    return bool(result["status"] == "done")


def objective(folder: Path, direction: Any = None) -> float:
    """The number that a sweeper looks at: the best score of the main metric, else its last.

    Args:
        direction: the sweeper's, as `minimize` or `maximize`.

    Returns:
        The worst there is, inf or -inf, for a run that was not finished or has no score. Never NaN. Of a halted run
        the score that it reached: as a best score can only improve, no more is claimed than the whole run would have
        had, and a sweeper learns which of the halted were near, as Optuna does of trials that it prunes itself.
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
    """What lies in a job's folder.

    Attributes:
        number: of the folder, None where it has a name.
        hash: of the config; None where it cannot be read.
        status: `done`, `halted`, `running`, `stopped`, `diverged` or `failed`.
        overrides: as on the command line.
    """

    folder: Path
    number: int | None
    hash: str | None
    status: str
    error: str
    exit_code: int
    overrides: list[str]


def jobs_in(sweep: Path) -> list[Job]:
    """All jobs that were ever started in the folder of a sweep, in the order of their numbers."""
    folders = {path.parent for name in (RESULT, ".hydra") for path in sweep.rglob(name)} - {sweep}
    return sorted((_read(folder) for folder in folders), key=lambda job: (job.number is None, job.number, job.folder))


def _read(folder: Path) -> Job:
    result = read_result(folder)
    status = status_of(result) or "failed"  # also of one that was killed before it wrote any
    config_hash = result.get("config_hash")
    if not isinstance(config_hash, str):
        config_hash = None
        with suppress(CheckpointError):  # it has no config either
            config_hash = run_config.config_hash(run_config.read(folder))
    return Job(
        folder=folder,
        number=int(folder.name) if folder.name.isdecimal() else None,
        hash=config_hash,
        status=status,
        error=result.get("error") or ("still running" if status == "running" else "ended before it began"),
        exit_code=code if isinstance(code := result.get("exit_code"), int) and code else 1,
        overrides=composition(folder)[1],
    )


def failures(jobs: Iterable[Job]) -> list[Job]:
    """Of every config the last job, unless any of them was done or it was halted."""
    last: dict[str, Job] = {}
    for job in jobs:
        key = job.hash or str(job.folder)
        if key not in last or last[key].status != "done":
            last[key] = job
    return [job for job in last.values() if job.status not in SETTLED]


def shown(overrides: Iterable[str]) -> str:
    return " ".join(override for override in overrides if not override.startswith("hydra."))
