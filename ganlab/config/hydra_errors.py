"""Turns errors of Hydra and OmegaConf into one line that names the key, the value and the choices.

For a bad override Hydra raises an exception whose text alone names the key. The key is found here by comparing the
overrides with the config that they would change.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ganlab.config.conf_files import CONFIG_NAME, options_of
from ganlab.config.hydra_internals import flag_parser, initialize_hydra
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


def _bad_override(arguments: Sequence[str]) -> str | None:
    """Return what is wrong with the first override that does not fit the config with the groups that the user chose."""
    flags, others = flag_parser().parse_known_args(list(arguments))
    parsed = OverridesParser.create().parse_overrides([*flags.overrides, *others])
    own = [f"hydra.searchpath=[file://{Path(flags.config_dir).resolve()}]"] if flags.config_dir else []
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
        parent, node, rest = _innermost_node(tree, change.key_or_group)
        if change.is_add():
            is_set = not rest or (isinstance(node, Mapping) and node.get(rest) is not None)
            if is_set and not isinstance(change.value(), Mapping | list):  # Hydra merges these
                return f"{change.input_line}: already exists; remove the +"
        elif rest and isinstance(node, Mapping) and rest not in node and not change.is_force_add():
            names = [str(name) for name in node if name not in (*HYDRA_KEYS, "hydra")]
            known = f"{parent or 'the config'} has {', '.join(names) or 'no keys'}"
            near = difflib.get_close_matches(rest.rpartition(".")[2], names, 1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            return f"{change.input_line}: no such key; {known}{hint}"
    return None


def _innermost_node(tree: Any, key: str) -> tuple[str, Any, str]:
    """Return the last dictionary or list on the way to a key: its own key, itself, and the rest of the key."""
    node, names = tree, key.split(".")
    for depth, name in enumerate(names):
        if not isinstance(node, Mapping) or not isinstance(node.get(name), Mapping | list):
            return ".".join(names[:depth]), node, ".".join(names[depth:])
        node = node[name]
    return key, node, ""


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
