"""What Hydra calls: the task of each run or job, and callbacks before and after a run or a sweep."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from hydra.utils import get_class
from omegaconf import DictConfig

from ganlab.config import command_line
from ganlab.config.run_config import ResolvedConfig, RunConfig, refuse_lists
from ganlab.errors import ConfigError, GanlabError
from ganlab.runs.folder import RunFolder, contains_run
from ganlab.sweeps import jobs
from ganlab.train import train
from ganlab.training import torchrun
from ganlab.training.memory import keep_freed_memory

log = logging.getLogger(__name__)

SWEEP_KEYS = ("hydra.sweep.", "hydra.launcher.", "hydra/launcher", "hydra.sweeper.", "hydra/sweeper")
QUOTE = "'"  # quotes sweep_dir= for Hydra's parser


def task(cfg: DictConfig, config: ResolvedConfig | None = None, until: float | None = None) -> float | int:
    """Train one run, or one job of a sweep; Hydra calls this with the composed config, in a process of the command.

    Args:
        config: the config of a job, if its launcher has resolved it already.
        until: fraction of the run; a job pauses at its first evaluation there or later. None trains to the end.

    Returns:
        The exit code of a single run, or the objective of a job, which a sweeper optimises.

    Raises:
        SystemExit: a signal stopped a job, so that this process starts no others.
        CheckpointError: the folder of a job contains another run.
    """
    keep_freed_memory()
    hydra_cfg = HydraConfig.get()
    folder = Path(hydra_cfg.runtime.output_dir)
    if hydra_cfg.mode is RunMode.MULTIRUN:
        return jobs.run_in_sweep(config or ResolvedConfig.of(cfg), folder, hydra_cfg.sweeper, until)
    try:
        train(RefuseBadConfig.config or ResolvedConfig.of(cfg), folder)
    except GanlabError as error:
        return command_line.say(error)
    return 0


class RefuseBadConfig(Callback):
    """Refuses an invalid config before anything is written, then locks the folder, as Hydra writes to it next."""

    config: RunConfig | None = None  # of the single run that this process starts; its task trains it
    folder: RunFolder | None = None  # the folder that this process has locked

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        def check_all() -> None:
            _refuse_sweep_keys(config.hydra.overrides.hydra)
            from ganlab import build  # imported late: torch takes seconds, and Hydra loads callbacks first

            refuse_lists(config.hydra.overrides.task)
            RefuseBadConfig.config = ResolvedConfig.of(config).validate()
            build.check(RefuseBadConfig.config)
            self._claim(Path(config.hydra.run.dir), must_be_unused=True)

        exit_code = command_line.run(check_all, config.hydra.overrides.task)
        if exit_code:
            raise SystemExit(exit_code)  # Hydra turns any other exception into a warning

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        def check_all() -> None:
            if torchrun.is_data_parallel():
                raise ConfigError(
                    "-m: torchrun trains a single run on several processes; start sweeps without torchrun, and use "
                    "hydra.launcher.jobs=N to train N jobs at the same time"
                )
            refuse_lists(config.hydra.overrides.task)
            self._claim(Path(config.hydra.sweep.dir), must_be_unused=not continues_folder(config))

        exit_code = command_line.run(check_all, [])
        if exit_code:
            raise SystemExit(exit_code)

    def _claim(self, folder: Path, *, must_be_unused: bool) -> None:
        """Lock the folder of a run or sweep; with `must_be_unused`, refuse one that contains runs."""
        for inner in folder.glob("*/") if must_be_unused else ():
            if contains_run(inner):
                raise ConfigError(
                    f"{inner}: already contains a run; choose another folder, or continue it with resume="
                )
        RefuseBadConfig.folder = RunFolder(folder)
        RefuseBadConfig.folder.claim()

    @classmethod
    def release(cls) -> None:
        """Unlock the folder, and remove it if no run was started there."""
        if cls.folder is not None:
            cls.folder.discard()


class ExitCode(Callback):
    """Exits with the exit code of the run or sweep, after listing the leaderboard and the failures of a sweep."""

    def on_run_end(self, config: DictConfig, **kwargs: Any) -> None:
        job_return: JobReturn = kwargs["job_return"]
        if job_return.status is JobStatus.COMPLETED and job_return.return_value:
            raise SystemExit(job_return.return_value)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        if sys.exc_info()[1] is not None:  # refused or stopped; Hydra 1.3 does not call this then
            return
        folder = Path(config.hydra.sweep.dir)
        failed = jobs.failures(jobs.jobs_in(folder))
        show_leaderboard(folder)
        for job in failed:
            command_line.say(GanlabError(job.error), f"job {job.folder.name} ({jobs.format_overrides(job.overrides)})")
        if failed:
            raise SystemExit(failed[0].exit_code)


def show_leaderboard(folder: Path) -> None:
    """Write and print the leaderboard. A bug in it must not hide how the sweep ended."""
    try:
        from ganlab import leaderboard

        print(leaderboard.write(folder))
    except GanlabError as error:  # such as runs on two datasets, which cannot be compared
        log.warning("No leaderboard: %s", error)
    except Exception:
        log.exception("No leaderboard")


def continues_folder(config: DictConfig) -> bool:
    """Whether the launcher accepts a used sweep folder and keeps its jobs, as its class declares."""
    return bool(getattr(get_class(config.hydra.launcher._target_), "continues_folder", False))


def _refuse_sweep_keys(overrides: list[str]) -> None:
    for override in overrides:
        key, _, value = override.lstrip("+").partition("=")
        if key.startswith(SWEEP_KEYS):
            typed = f"sweep_dir={value.strip(QUOTE)}" if key == "hydra.sweep.dir" else override
            raise ConfigError(f"{typed}: applies only to sweeps; add -m, or sweep= with a grid")
