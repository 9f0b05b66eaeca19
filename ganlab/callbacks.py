"""What Hydra calls before it starts a run or a sweep, and at the end of it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from ganlab import command_line
from ganlab.config import refuse_lists
from ganlab.errors import ConfigError, GanlabError
from ganlab.runs import holds_a_run
from ganlab.sweeps import jobs

log = logging.getLogger(__name__)

OF_SWEEPS = ("hydra.sweep.", "hydra.launcher.", "hydra/launcher", "hydra.sweeper.", "hydra/sweeper")
QUOTE = "'"  # which the folder of a sweep is put in for Hydra


class RefuseBadConfig(Callback):
    """Refuses a config while nothing is on disk yet: Hydra makes the run's folder right after this callback."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        def check_all() -> None:
            _refuse_what_is_of_sweeps(config.hydra.overrides.hydra)
            from ganlab import build  # imported late: torch takes seconds, and Hydra loads callbacks first

            cfg = OmegaConf.masked_copy(config, [key for key in map(str, config) if key != "hydra"])
            refuse_lists(config.hydra.overrides.task)
            build.check(cfg)
            folder = Path(config.hydra.run.dir)
            _refuse_used_folder(folder, *folder.glob("*/"))

        exit_code = command_line.run(check_all, config.hydra.overrides.task)
        if exit_code:
            raise SystemExit(exit_code)  # Hydra would only warn of any other exception

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        def check_all() -> None:
            refuse_lists(config.hydra.overrides.task)
            folder = Path(config.hydra.sweep.dir)
            _refuse_used_folder(folder, *([] if goes_on(config) else folder.glob("*/")))

        exit_code = command_line.run(check_all, [])
        if exit_code:
            raise SystemExit(exit_code)


class ExitCode(Callback):
    """Ends the program as the run, or the sweep, ended. A sweep first lists its failures and its leaderboard."""

    def on_run_end(self, config: DictConfig, **kwargs: Any) -> None:
        job_return: JobReturn = kwargs["job_return"]
        if job_return.status is JobStatus.COMPLETED and job_return.return_value:
            raise SystemExit(job_return.return_value)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        folder = Path(config.hydra.sweep.dir)
        failed = jobs.failures(jobs.jobs_in(folder))
        show_leaderboard(folder)
        for job in failed:
            command_line.say(GanlabError(job.error), f"job {job.folder.name} ({jobs.shown(job.overrides)})")
        if failed:
            raise SystemExit(failed[0].exit_code)


def show_leaderboard(folder: Path) -> None:
    """Write it and print it; a defect there must not hide how the sweep ended."""
    try:
        from ganlab.sweeps import leaderboard

        print(leaderboard.write(folder))
    except GanlabError as error:  # of runs that cannot be compared, on two datasets say
        log.warning("No leaderboard: %s", error)
    except Exception:
        log.exception("No leaderboard")


def goes_on(config: DictConfig) -> bool:
    """Whether the launcher leaves the jobs alone that the sweep's folder holds already."""
    return str(config.hydra.launcher.get("_target_")) == "hydra_plugins.ganlab_launcher.processes.Processes"


def _refuse_what_is_of_sweeps(overrides: list[str]) -> None:
    for override in overrides:
        key, _, value = override.lstrip("+").partition("=")
        if key.startswith(OF_SWEEPS):
            typed = f"sweep_dir={value.strip(QUOTE)}" if key == "hydra.sweep.dir" else override
            raise ConfigError(f"{typed}: is for a sweep; add -m, or sweep= with a grid")


def _refuse_used_folder(*folders: Path) -> None:
    """Hydra would write a new run's config over that of the run which a folder holds."""
    for folder in folders:
        if holds_a_run(folder):
            raise ConfigError(f"{folder}: holds a run already; choose another folder, or continue with resume=")
