"""The config of a run: composed or read, resolved, validated and hashed once, then passed on as one object."""

from __future__ import annotations

import copy
import difflib
import hashlib
import json
import logging
import re
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from ganlab.config.allow_list import refuse_disallowed, refuse_imports_from
from ganlab.config.conf_files import CONFIG_NAME, options_of
from ganlab.config.effects import Effect
from ganlab.config.hydra_errors import explain, first_line
from ganlab.config.hydra_internals import initialize_hydra
from ganlab.config.key_effects import effect_of, has_effect
from ganlab.config.schema import GROUPS, NAMED_GROUPS, VALUES
from ganlab.config.signatures import check_node, check_value, format_value
from ganlab.errors import CheckpointError, ConfigError
from ganlab.files import as_yaml, read_yaml, replace_file, values_in

log = logging.getLogger(__name__)


class ResolvedConfig:
    """The config of a run as plain values without interpolations. It is not validated, and does not change.

    Args:
        tree: the values; not copied, so the caller must not change them later.
    """

    def __init__(self, tree: dict[str, Any]) -> None:
        self._tree = tree

    @classmethod
    def of(cls, cfg: DictConfig) -> ResolvedConfig:
        """Resolve a config that Hydra has composed; Hydra's own part is dropped.

        Raises:
            ConfigError: a value is missing (`???`) or an interpolation cannot be resolved.
        """
        try:
            own = OmegaConf.masked_copy(cfg, [key for key in map(str, cfg) if key != "hydra"])
            tree = OmegaConf.to_container(own, resolve=True, throw_on_missing=True)
        except OmegaConfBaseException as error:
            raise ConfigError(f"{error.full_key or 'config'}: {first_line(error)}") from error
        return ResolvedConfig(typing.cast(dict[str, Any], tree))

    def validate(self) -> RunConfig:
        """Bind every node to the signature it names, and validate all values.

        Raises:
            ConfigError: a node or value is invalid; the message names its key, its value and the choices.
        """
        _check(self._tree)
        return RunConfig(self._tree)

    @cached_property
    def hash(self) -> str:
        """Hash of everything that determines the result of a run, except the data, which have their own hash."""
        return hashlib.sha256(json.dumps(self.determining(), sort_keys=True).encode()).hexdigest()[:16]

    def determining(self) -> dict[str, Any]:
        """Return the part that can change the result of a run, including the seed."""
        return {
            key: {name: value for name, value in node.items() if has_effect(f"{key}.{name}")}
            if isinstance(node, Mapping)
            else node
            for key, node in self.plain().items()
            if has_effect(key)
        }

    @property
    def identity(self) -> dict[str, Any]:
        """The entries of `result.json` that identify a run which failed before its first step."""
        return {"seed": self.select("seed"), "config_hash": self.hash}

    def plain(self) -> dict[str, Any]:
        """Return a copy as plain dictionaries and lists."""
        return copy.deepcopy(self._tree)

    def select(self, key: str, default: Any = None) -> Any:
        """Return a copy of a node or value by its dotted key; `default` if there is none."""
        node: Any = self._tree
        for name in key.split("."):
            if not isinstance(node, Mapping) or name not in node:
                return default
            node = node[name]
        return copy.deepcopy(node)


class RunConfig(ResolvedConfig):
    """The validated config of a run; `ResolvedConfig.validate` creates it."""

    def validate(self) -> RunConfig:
        return self

    @property
    def seed(self) -> int:
        return typing.cast(int, self._tree["seed"])

    @property
    def device(self) -> str:
        return typing.cast(str, self._tree["device"])

    def save(self, folder: Path) -> None:
        """Write the config to a run's folder."""
        (folder / ".hydra").mkdir(exist_ok=True)  # Hydra creates it, but not for a run started from Python
        replace_file(folder / ".hydra" / "config.yaml", as_yaml(self._tree))

    def offline(self) -> RunConfig:
        """Return the config with online trackers set to offline: only the user decides what leaves this machine."""
        tree = self.plain()
        for name, tracker in tree["tracker"].items():
            if tracker.get("mode") == "online":
                tracker["mode"] = "offline"
                place = "/".join(str(tracker[key]) for key in ("entity", "project") if tracker.get(key))
                log.warning(
                    "WARNING: tracker.%s.mode=online is not taken from the run's folder; "
                    "to upload to %s, add tracker.%s.mode=online",
                    *(name, place, name),
                )
        return ResolvedConfig(tree).validate()

    def override(self, overrides: Sequence[str]) -> RunConfig:
        """Return the config of a finished run with `key=value` overrides applied.

        Raises:
            ConfigError: an override names an unknown key, a whole group, or a key that cannot change on resume, or its
                value is invalid.
        """
        cfg = OmegaConf.create(self._tree)
        try:
            parsed = OverridesParser.create().parse_overrides(list(overrides))
        except HydraException as error:
            raise ConfigError(explain(error, overrides)) from error
        for change in parsed:
            key = change.key_or_group
            if change.is_sweep_override():
                raise ConfigError(f"{change.input_line}: must be a single value; a resumed run cannot be a sweep")
            if key == "tracker":  # the only group that can be replaced, as it does not affect the run
                cfg.tracker = compose([str(change.input_line)]).select("tracker")
                continue
            known = OmegaConf.select(cfg, key, throw_on_missing=False)
            if known is None and key not in _leaves(cfg):
                raise ConfigError(f"{change.input_line}: no such key; {_near(key, _leaves(cfg))}")
            if effect_of(key) is Effect.FIXED or isinstance(known, DictConfig):
                group = key.partition(".")[0]
                fixed = group if effect_of(group) is Effect.FIXED else key
                raise ConfigError(f"{change.input_line}: cannot change {fixed} when resuming a run")
            OmegaConf.update(cfg, key, change.value())
        return ResolvedConfig.of(cfg).validate()


def compose(overrides: Sequence[str] = ()) -> RunConfig:
    """Return the config that `python -m ganlab <overrides>` would run.

    Raises:
        ConfigError: an override names an unknown key or option, or cannot be parsed, or the config is invalid.
    """
    refuse_lists(overrides)
    with initialize_hydra():
        try:
            cfg = hydra_compose(CONFIG_NAME, overrides=list(overrides))
        except (HydraException, OmegaConfBaseException, ValueError, YAMLError) as error:  # Hydra raises all of these
            raise ConfigError(explain(error, overrides)) from error
    return ResolvedConfig.of(cfg).validate()


def refuse_lists(overrides: Sequence[str]) -> None:
    """Refuse lists of options, except for groups whose options have names: Hydra would merge the options of any group.

    Raises:
        ConfigError: a list is given to another group, or a list is empty.
    """
    for override in overrides:
        group, _, value = override.partition("=")
        if group in GROUPS and value.startswith("[") and (group not in NAMED_GROUPS or not value.strip("[ ]")):
            several = f" or a list of them; for none use {group}=none" if group in NAMED_GROUPS else ""
            raise ConfigError(f"{override}: must be {_one_of(group)}{several}")


def _check(tree: Mapping[str, Any]) -> None:
    """Refuse a config with unknown or missing keys, or with values that do not match the signatures."""
    _refuse_interpolations(tree)
    for key, value in tree.items():
        if key not in (*GROUPS, *VALUES):
            raise ConfigError(
                f"{key}={format_value(value)}: no such key; the config has {', '.join((*GROUPS, *VALUES))}"
            )
    missing = next((key for key in (*VALUES, *GROUPS) if key not in tree), None)
    if missing:
        raise ConfigError(f"{missing}: missing; must be {_one_of(missing) if missing in GROUPS else 'given a value'}")
    for key, annotation in VALUES.items():
        check_value(key, tree[key], annotation)
    for group in GROUPS:
        if not isinstance(tree[group], Mapping):
            raise ConfigError(f"{group}={format_value(tree[group])}: must be {_one_of(group)}")
    _refuse_unnamed(tree)
    for group in GROUPS:
        nodes = (
            {f"{group}.{name}": node for name, node in tree[group].items()}
            if group in NAMED_GROUPS
            else {group: tree[group]}
        )
        for key, node in nodes.items():
            if not isinstance(node, Mapping) or "_target_" not in node:
                otherwise = f"; ~{key} removes it" if group in NAMED_GROUPS else ""
                raise ConfigError(
                    f"{key}={format_value(node)}: must have a _target_, the function or class that it calls{otherwise}"
                )
        check_node(group, tree[group])


def _refuse_interpolations(tree: Mapping[str, Any]) -> None:
    for key, value in values_in(tree):
        if isinstance(value, str) and "${" in value:
            raise ConfigError(f"{key}={value}: must be a plain value, not an interpolation")


def _refuse_unnamed(tree: Mapping[str, Any]) -> None:
    for group in NAMED_GROUPS:
        for name in tree[group] if isinstance(tree.get(group), Mapping) else ():
            if not re.fullmatch(r"[\w-]+", str(name)):  # other characters have a meaning in a key
                raise ConfigError(f"{group}.{name}: a name must have only letters, digits, _ and -")
        if isinstance(tree.get(group), Mapping) and "_target_" in tree[group]:  # the former layout of tracker
            target = tree[group]["_target_"]
            raise ConfigError(f"{group}._target_={target}: must be under a name; use {group}.NAME._target_")


def _one_of(group: str) -> str:
    return f"one of {', '.join(options_of(group))}"


# The config of a finished run --------------------------------------------------------------------------


def read(folder: Path) -> ResolvedConfig:
    """Return the config in a run's folder, not validated yet.

    Raises:
        CheckpointError: the file is missing, is not a config, or has interpolations, which no run writes.
    """
    return ResolvedConfig(_read(folder))


def load(folder: str | Path, trust: Iterable[str] = ()) -> RunConfig:
    """Return the validated config of an earlier run, which can build only what the allow-list and `trust` permit.

    Args:
        folder: the run's folder.
        trust: names of the user's own modules that may be imported.

    Raises:
        CheckpointError: there is no config, or it names a constructor that is not allowed.
        ConfigError: the config is not valid in this version of ganlab.
    """
    refuse_imports_from(Path(folder))
    tree = _read(Path(folder))
    _refuse_unnamed(tree)  # first: old configs also name classes that were removed
    refuse_disallowed(tree, Path(folder), trust)
    if isinstance(tree.get("dataset"), dict):  # the user decides whom to contact and where to write
        tree["dataset"].update(dict.fromkeys({"mirror", "cache"} & set(tree["dataset"])))
    return ResolvedConfig.of(OmegaConf.create(tree)).validate()


def _read(folder: Path) -> dict[str, Any]:
    file = folder / ".hydra" / "config.yaml"
    if not file.is_file():
        raise CheckpointError(f"{folder}: not a run's folder; it has no .hydra/config.yaml")
    tree = read_yaml(file)
    if not isinstance(tree, dict):
        raise CheckpointError(f"{file}: not a config")
    try:
        _refuse_interpolations(tree)
    except ConfigError as error:
        raise CheckpointError(f"{file}: {error}") from error
    return tree


def _leaves(cfg: DictConfig) -> list[str]:
    def walk(prefix: str, node: Any) -> Iterator[str]:
        for name, value in node.items():
            key = f"{prefix}{name}"
            yield from walk(f"{key}.", value) if isinstance(value, Mapping) else (key,)

    return list(walk("", OmegaConf.to_container(cfg, resolve=False)))


def _near(key: str, keys: list[str]) -> str:
    close = difflib.get_close_matches(key, keys, 3) or dict.fromkeys(key.partition(".")[0] for key in keys)
    return f"the run has {', '.join(close)}"
