"""What Hydra calls before it starts a run or a sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from ganlab import command_line
from ganlab.config import refuse_lists
from ganlab.errors import ConfigError
from ganlab.runs import holds_a_run


class RefuseBadConfig(Callback):
    """Refuses a config while nothing is on disk yet: Hydra makes the run's folder right after this callback."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        from ganlab import build  # imported late: torch takes seconds, and Hydra loads callbacks first

        def check_all() -> None:
            cfg = OmegaConf.masked_copy(config, [key for key in map(str, config) if key != "hydra"])
            refuse_lists(config.hydra.overrides.task)
            build.check(cfg)
            _refuse_used_folder(Path(config.hydra.run.dir))

        exit_code = command_line.run(check_all, config.hydra.overrides.task)
        if exit_code:
            raise SystemExit(exit_code)  # Hydra would only warn of any other exception

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        def check_all() -> None:
            refuse_lists(config.hydra.overrides.task)
            _refuse_used_folder(Path(config.hydra.sweep.dir))

        exit_code = command_line.run(check_all, [])
        if exit_code:
            raise SystemExit(exit_code)


def _refuse_used_folder(folder: Path) -> None:
    """Hydra would write a new run's config over that of the run which a folder holds."""
    if any(holds_a_run(folder) for folder in (folder, *folder.glob("*/"))):
        raise ConfigError(f"{folder}: holds a run or a sweep already; choose another folder, or continue with resume=")
