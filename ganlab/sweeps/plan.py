"""The plan of a sweep: the folder and the state of each of its jobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.types import HydraContext
from omegaconf import DictConfig, open_dict

from ganlab.config.run_config import ResolvedConfig
from ganlab.errors import ConfigError
from ganlab.sweeps.jobs import Job, jobs_in

ALWAYS_LISTED = ("new", "interrupted", "done")
STATES = (*ALWAYS_LISTED, "halted", "diverged")


@dataclass
class PlannedJob:
    """A job of this sweep, with its folder.

    Attributes:
        hydra_config: the job's config with Hydra's part, from which Hydra runs it.
        state: state of the job at the start of the sweep, one of STATES.
    """

    config: ResolvedConfig
    hydra_config: DictConfig
    overrides: list[str]
    folder: Path
    state: str


class Plan:
    """Assigns each job a folder in the folder of a sweep.

    Args:
        config: config of the sweep, including Hydra's part.
        keep_diverged: whether to keep diverged jobs instead of running them again.
    """

    def __init__(self, context: HydraContext, config: DictConfig, keep_diverged: bool = False) -> None:
        self.context, self.config, self.folder = context, config, Path(config.hydra.sweep.dir)
        self.wanted = [("done",), ("running", "stopped", "halted"), *([("diverged",)] if keep_diverged else [])]
        self.earlier = jobs_in(self.folder) if self.folder.is_dir() else []
        self.next_number = 1 + max((job.number for job in self.earlier if job.number is not None), default=-1)
        self.taken = {job.folder for job in self.earlier}

    def place(self, overrides: Sequence[str]) -> PlannedJob:
        """Assign the folder of an earlier job with the same config if it is done or can continue, else a new folder.

        Raises:
            ConfigError: the new folder is already in use.
        """
        config = self.context.config_loader.load_sweep_config(self.config, list(overrides))
        resolved = ResolvedConfig.of(config)
        found = self._take_earlier(resolved.hash)
        with open_dict(config):
            config.hydra.sweep.dir = str(self.folder)
            config.hydra.job.num, config.hydra.job.id = self.next_number, str(self.next_number)
            if found:
                config.hydra.job.num, config.hydra.job.id = found.number, str(found.number)
                config.hydra.sweep.subdir = str(found.folder.relative_to(self.folder))
        if found:
            state = found.status if found.status in STATES else "interrupted"
            return PlannedJob(resolved, config, list(overrides), found.folder, state)
        subdir = str(config.hydra.sweep.subdir)
        folder = self.folder / subdir
        if not folder.resolve().is_relative_to(self.folder.resolve()):
            raise ConfigError(f"hydra.sweep.subdir={subdir}: must be a folder in the sweep's folder")
        if folder in self.taken:
            raise ConfigError(f"hydra.sweep.subdir={subdir}: must be unique for each job; use ${{hydra.job.num}}")
        self.taken.add(folder)
        self.next_number += 1
        return PlannedJob(resolved, config, list(overrides), folder, "new")

    def _take_earlier(self, config_hash: str) -> Job | None:
        for statuses in self.wanted:
            for earlier in self.earlier:
                if earlier.hash == config_hash and earlier.status in statuses:
                    self.earlier.remove(earlier)
                    return earlier
        return None
