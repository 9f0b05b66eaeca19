"""Turns errors of Hydra and OmegaConf into one line that names the key, the value and the choices.

For a bad override Hydra raises an exception whose text alone names the key. The key is found here by comparing the
overrides with the config that they would change.
"""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ganlab.config.conf_files import CONFIG_NAME, options_of
from ganlab.config.hydra_internals import initialize_hydra
from ganlab.config.signatures import HYDRA_KEYS


def explain(error: Exception, overrides: Sequence[str]) -> str:
    """Return an error of Hydra or OmegaConf as one line that names the key, the value and the choices."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, option = str(error.missing_cfg_file).rpartition("/")
        options = error.options or options_of(group)
        if group:
            return f"{group}={option}: no such option; {group} has {', '.join(options)}"
    if isinstance(error, OverrideParseException):
        return f"{error.override}: cannot be parsed: {first_line(error)}"
    if isinstance(error, (ConfigCompositionException, ValueError)) and (found := _bad_override(overrides)):
        return found
    if not isinstance(error, (HydraException, OmegaConfBaseException)):
        return f"{' '.join(overrides)}: {first_line(error)}"
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    return first_line(error) if cause is error else f"{first_line(error)}: {first_line(cause)}"


def _bad_override(overrides: Sequence[str]) -> str | None:
    """Return what is wrong with the first override that does not fit the config with the groups that the user chose."""
    own = [f"hydra.searchpath=[file://{folder}]" for folder in _own_folders(overrides)]
    parsed = _parsed(overrides)
    GlobalHydra.instance().clear()
    with initialize_hydra():
        loader = GlobalHydra.instance().config_loader()
        options = {
            override.input_line: loader.get_group_options(override.key_or_group, config_name=CONFIG_NAME, overrides=own)
            for override in parsed
        }
        choices = [override for override in parsed if options[override.input_line]]
        changes = [override for override in parsed if not options[override.input_line]]
        for choice in choices:
            if not choice.is_delete() and not choice.is_sweep_override() and not isinstance(choice.value(), str | list):
                return f"{choice.input_line}: must be one of {', '.join(options[choice.input_line])}"
        chosen = [str(choice.input_line) for choice in choices if not choice.is_sweep_override()]
        try:
            cfg = compose(CONFIG_NAME, overrides=[*chosen, *own], return_hydra_config=True)
        except (HydraException, OmegaConfBaseException):
            return None
    tree = OmegaConf.to_container(cfg, resolve=False)
    for change in changes:
        key = change.key_or_group
        parent, node = _innermost_node(tree, key)
        exists = key == parent or not isinstance(node, Mapping) or key.removeprefix(f"{parent}.") in node
        if change.is_add() and exists:
            return f"{change.input_line}: already exists; remove the +"
        if not exists and not change.is_add() and not change.is_force_add():
            names = [str(name) for name in node if name not in (*HYDRA_KEYS, "hydra")]
            near = difflib.get_close_matches(key.rpartition(".")[2], names, 1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            return (
                f"{change.input_line}: no such key; {parent or 'the config'} has {', '.join(names) or 'no keys'}{hint}"
            )
    return None


def _parsed(overrides: Sequence[str]) -> list[Override]:
    return [OverridesParser.create().parse_override(o) for o in overrides if not o.startswith("-")]


def _innermost_node(tree: Any, key: str) -> tuple[str, Any]:
    """Return the key of the last node on the way to a key, and that node: a dictionary, or a list."""
    node, found = tree, []
    for name in key.split("."):
        if not isinstance(node, Mapping) or not isinstance(node.get(name), Mapping | list):
            break
        node = node[name]
        found.append(name)
    return ".".join(found), node


def _own_folders(arguments: Sequence[str]) -> list[Path]:
    """Return the user's own folder of configs, given by `--config-dir`."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config-dir", "-cd", type=Path)
    folder = parser.parse_known_args(arguments)[0].config_dir
    return [folder.resolve()] if folder else []


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
