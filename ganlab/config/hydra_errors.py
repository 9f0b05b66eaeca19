"""Turns errors of Hydra and OmegaConf into one line that names the key, the value and the choices."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Sequence
from pathlib import Path

from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ganlab.config.conf_files import CONFIG_NAME, conf_dir, options_of
from ganlab.config.signatures import HYDRA_KEYS


def explain(error: Exception, overrides: Sequence[str]) -> str:
    """Return an error of Hydra or OmegaConf as one line that names the key, the value and the choices."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, option = str(error.missing_cfg_file).rpartition("/")
        options = error.options or options_of(group)
        if group:
            return f"{group}={option}: no such option; {group} has {', '.join(options)}"
    if "Config group override must be" in str(error):
        groups = {override.partition("=")[0]: override for override in overrides}
        group = next((name for name in groups if options_of(name) and not _is_option(groups[name])), "")
        return f"{groups.get(group, ' '.join(overrides))}: must be one of {', '.join(options_of(group))}"
    if isinstance(error, OverrideParseException):
        return f"{error.override}: cannot be parsed: {first_line(error)}"
    named = re.search(r"Could not (?:override|delete|append)[^']*'([^']+)'", str(error))
    if isinstance(error, ConfigCompositionException) and named:
        key = named.group(1)
        typed = next((o for o in overrides if o.lstrip("+~").startswith(key)), key)
        return f"{typed}: no such key; {_keys_beside(key, overrides)}"
    if not isinstance(error, (HydraException, OmegaConfBaseException)):
        return f"{' '.join(overrides)}: {first_line(error)}"
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    return first_line(error) if cause is error else f"{first_line(error)}: {first_line(cause)}"


def _is_option(override: str) -> bool:
    group, _, option = override.partition("=")
    return option in options_of(group)


def _keys_beside(key: str, overrides: Sequence[str]) -> str:
    """List the keys beside an unknown key, in the config with the groups that the user chose."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    groups = {path.name for path in conf_dir().iterdir() if path.is_dir()}
    groups |= {"hydra/launcher", "hydra/sweeper"}
    choices = [o for o in overrides if o.split("=")[0] in groups and "," not in o]
    choices += [f"hydra.searchpath=[file://{folder}]" for folder in _own_folders(overrides)]
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            cfg = hydra_compose(CONFIG_NAME, overrides=choices, return_hydra_config=key.startswith("hydra."))
    except (HydraException, OmegaConfBaseException):
        return "see python -m ganlab --help"
    parent, found = key, None
    while parent and not isinstance(found, DictConfig):
        parent = parent.rpartition(".")[0]
        found = OmegaConf.select(cfg, parent) if parent else cfg
    names = [str(name) for name in found if name not in (*HYDRA_KEYS, "hydra")] if isinstance(found, DictConfig) else []
    near = difflib.get_close_matches(key.rpartition(".")[2], names, 1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return f"{parent or 'the config'} has {', '.join(names) or 'no keys'}{hint}"


def _own_folders(arguments: Sequence[str]) -> list[Path]:
    """Return the user's own folder of configs, given by `--config-dir`."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config-dir", "-cd", type=Path)
    folder = parser.parse_known_args(arguments)[0].config_dir
    return [folder.resolve()] if folder else []


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
