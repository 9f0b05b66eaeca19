"""What Hydra calls before it starts a run or a sweep, and at the end of it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from ganlab.config import command_line
from ganlab.config.run_config import refuse_lists
from ganlab.errors import ConfigError, GanlabError
from ganlab.runs.folder import RunFolder, holds_a_run
from ganlab.sweeps import jobs

log = logging.getLogger(__name__)

OF_SWEEPS = ("hydra.sweep.", "hydra.launcher.", "hydra/launcher", "hydra.sweeper.", "hydra/sweeper")
QUOTE = "'"  # which the folder of a sweep is put in for Hydra


class RefuseBadConfig(Callback):
    """Refuses a bad config before anything is on disk, then locks the folder: Hydra writes to it right after this."""

    folder: RunFolder | None = None  # the one that this process has locked

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        def check_all() -> None:
            _refuse_what_is_of_sweeps(config.hydra.overrides.hydra)
            from ganlab import build  # imported late: torch takes seconds, and Hydra loads callbacks first

            cfg = OmegaConf.masked_copy(config, [key for key in map(str, config) if key != "hydra"])
            refuse_lists(config.hydra.overrides.task)
            build.check(cfg)
            self._claim(Path(config.hydra.run.dir), must_be_unused=True)

        exit_code = command_line.run(check_all, config.hydra.overrides.task)
        if exit_code:
            raise SystemExit(exit_code)  # Hydra would only warn of any other exception

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        def check_all() -> None:
            refuse_lists(config.hydra.overrides.task)
            self._claim(Path(config.hydra.sweep.dir), must_be_unused=not goes_on(config))

        exit_code = command_line.run(check_all, [])
        if exit_code:
            raise SystemExit(exit_code)

    def _claim(self, folder: Path, *, must_be_unused: bool) -> None:
        """Lock the folder of a run or sweep; with `must_be_unused`, refuse one that contains runs."""
        for inner in folder.glob("*/") if must_be_unused else ():
            if holds_a_run(inner):
                raise ConfigError(f"{inner}: holds a run already; choose another folder, or continue with resume=")
        RefuseBadConfig.folder = RunFolder(folder)
        RefuseBadConfig.folder.claim()

    @classmethod
    def release(cls) -> None:
        """Unlock the folder, and remove it if no run was started there."""
        if cls.folder is not None:
            cls.folder.discard()


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
        from ganlab import leaderboard

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
