"""The plan of a sweep: in which folder each of its jobs lies, or will, and how far it has come there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict

from ganlab.config import run_config as configs
from ganlab.errors import ConfigError
from ganlab.sweeps.jobs import Job, jobs_in

ALWAYS_TOLD = ("new", "interrupted", "done")
STATES = (*ALWAYS_TOLD, "halted", "diverged")


@dataclass
class Planned:
    """A job of this sweep: where it goes, and whether it is there already.

    Attributes:
        state: one of STATES, at the start of the sweep.
    """

    config: DictConfig
    overrides: list[str]
    folder: Path
    state: str


class Plan:
    """Finds each job its place in the folder of a sweep.

    Args:
        config: of the sweep.
        diverged_stay: whether a job that diverged is not to be tried again.
    """

    def __init__(self, context: HydraContext, config: DictConfig, diverged_stay: bool = False) -> None:
        self.context, self.config, self.folder = context, config, Path(config.hydra.sweep.dir)
        self.wanted = [("done",), ("running", "stopped", "halted"), *([("diverged",)] if diverged_stay else [])]
        self.earlier = jobs_in(self.folder) if self.folder.is_dir() else []
        self.next_number = 1 + max((job.number for job in self.earlier if job.number is not None), default=-1)
        self.taken = {job.folder for job in self.earlier}

    def place(self, overrides: Sequence[str]) -> Planned:
        """The folder of an earlier job of the same config if it is done or can go on, else a new one.

        Raises:
            ConfigError: the new folder is taken.
        """
        config = self.context.config_loader.load_sweep_config(self.config, list(overrides))
        resolved = configs.plain(without_hydra(config))
        found = self._take_earlier(configs.config_hash(resolved))
        with open_dict(config):
            for key, value in resolved.items():  # so that checking, hashing and building see the same values
                config[key] = value
            config.hydra.sweep.dir = str(self.folder)
            config.hydra.job.num = config.hydra.job.id = self.next_number
            if found:
                config.hydra.job.num = config.hydra.job.id = found.number
                config.hydra.sweep.subdir = str(found.folder.relative_to(self.folder))
        if found:
            state = found.status if found.status in STATES else "interrupted"
            return Planned(config, list(overrides), found.folder, state)
        subdir = str(config.hydra.sweep.subdir)
        folder = self.folder / subdir
        if folder in self.taken:
            raise ConfigError(
                f"hydra.sweep.subdir={subdir}: holds a run already, or will; ${{hydra.job.num}} never does"
            )
        self.taken.add(folder)
        self.next_number += 1
        return Planned(config, list(overrides), folder, "new")

    def _take_earlier(self, config_hash: str) -> Job | None:
        for statuses in self.wanted:
            for earlier in self.earlier:
                if earlier.hash == config_hash and earlier.status in statuses:
                    self.earlier.remove(earlier)
                    return earlier
        return None


def without_hydra(config: DictConfig) -> DictConfig:
    return OmegaConf.masked_copy(config, [key for key in map(str, config) if key != "hydra"])
