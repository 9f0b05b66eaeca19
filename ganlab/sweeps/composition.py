"""Composes the jobs of a sweep faster than Hydra, which reads and merges all config files anew for every job."""

from __future__ import annotations

import copy
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from ganlab.config.hydra_internals import record_overrides
from ganlab.config.schema import VALUES


class SweepComposer:
    """Hydra's config loader, which composes jobs that set the same keys only once.

    Hydra composes the first of these jobs. The others are copies of its config with their own values, which takes a
    tenth of the time. Anything but a plain value, such as the option of a group, is left to Hydra.

    Args:
        loader: Hydra's config loader, which does everything but `load_sweep_config`.
    """

    def __init__(self, loader: ConfigLoader) -> None:
        self._loader = loader
        self._composed: dict[tuple[str, ...], DictConfig] = {}
        self._parser = OverridesParser.create()

    def __reduce__(self) -> tuple[type[SweepComposer], tuple[ConfigLoader]]:
        return SweepComposer, (self._loader,)  # without the configs, which no job needs

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """Return the config of a job; see `hydra.core.config_loader.ConfigLoader`.

        Args:
            master_config: the config of the sweep; the same one in every call.
            sweep_overrides: all overrides of the job.
        """
        overrides = self._parser.parse_overrides(sweep_overrides)
        values = [override for override in overrides if sets_value(override)]
        key = tuple(str(o.key_or_group if o in values else o.input_line) for o in overrides)
        if key not in self._composed:
            self._composed[key] = self._loader.load_sweep_config(master_config, sweep_overrides)
        config = copy.deepcopy(self._composed[key])
        for override in values:
            OmegaConf.update(config, override.key_or_group, override.value())
        record_overrides(config, overrides)
        return config


def sets_value(override: Override) -> bool:
    """Whether an override gives a number, string, boolean or null to an existing key of a run."""
    key = str(override.key_or_group)
    is_group = "." not in key and key not in VALUES
    is_change = not (override.is_add() or override.is_force_add() or override.is_delete())
    is_plain = isinstance(override.value(), str | int | float | None)
    return is_change and is_plain and not is_group and override.package is None and not key.startswith("hydra.")
