"""Composes and validates the config of a run, and reads it back from a run's folder."""

from __future__ import annotations

import copy
import difflib
import hashlib
import json
import logging
import re
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from ganlab.config.allow_list import NAMED_GROUPS, refuse_disallowed, refuse_imports_from
from ganlab.config.conf_files import CONFIG_NAME, conf_dir, options_of
from ganlab.config.hydra_errors import explain, first_line
from ganlab.config.ranges import Seed
from ganlab.config.signatures import check_node, check_value, format_value
from ganlab.errors import CheckpointError, ConfigError
from ganlab.files import read_yaml, replace_file, values_in

log = logging.getLogger(__name__)

VALUES: dict[str, Any] = {"seed": Seed, "device": Literal["auto", "cpu", "cuda", "mps"]}
GROUPS = (
    *("dataset", "model", "condition", "latent", "init"),
    *("loss", "penalty", "augment", "optimizer", "schedule", "trainer", "watchdog", "metrics", "tracker"),
)
# Keys that do not change the result of a run: paths, trackers, and how often it reports
WITHOUT_EFFECT = (
    *("tracker", "metrics"),
    *(f"dataset.{key}" for key in ("root", "mirror", "timeout", "cache")),
    *(f"trainer.{key}" for key in ("log_every", "sample_every", "evaluate_every", "checkpoint_every")),
    "trainer.keep_checkpoints",
)
# Keys that cannot change on resume: another value would make it another run
FIXED_ON_RESUME = (
    *("seed", "dataset", "model", "condition", "latent", "init", "loss", "augment"),
    *(f"trainer.{key}" for key in ("batch_size", "discriminator_steps", "ema_half_life", "ema_ramp")),
)


def compose(overrides: Sequence[str] = ()) -> DictConfig:
    """Return the config that `python -m ganlab <overrides>` would run, without Hydra's own part.

    Raises:
        ConfigError: an override names an unknown key or option, or cannot be parsed.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    refuse_lists(overrides)
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        try:
            return hydra_compose(CONFIG_NAME, overrides=list(overrides))
        except (HydraException, OmegaConfBaseException, ValueError, YAMLError) as error:  # Hydra raises all of these
            raise ConfigError(explain(error, overrides)) from error


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


def plain(cfg: DictConfig) -> dict[str, Any]:
    """Return the config as plain dictionaries and lists, with every interpolation resolved.

    Raises:
        ConfigError: a value is missing (`???`) or an interpolation cannot be resolved.
    """
    try:
        tree = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key or 'config'}: {first_line(error)}") from error
    return typing.cast(dict[str, Any], tree)


def config_hash(cfg: DictConfig | Mapping[str, Any]) -> str:
    """Hash everything that determines the result of a run, except the data, which have their own hash."""
    tree = plain(cfg) if isinstance(cfg, DictConfig) else copy.deepcopy(dict(cfg))
    for key in WITHOUT_EFFECT:
        group, _, name = key.partition(".")
        if not name:
            tree.pop(group, None)
        elif isinstance(tree.get(group), dict):
            tree[group].pop(name, None)
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:16]


def check(cfg: DictConfig) -> DictConfig:
    """Bind every node of the config to the signature it names, and validate its values.

    Returns:
        The config with all interpolations resolved. Build from this one: resolving the original again may give values
        that were not checked.

    Raises:
        ConfigError: a node or value is invalid; the message names its key, its value and the choices.
    """
    tree = plain(cfg)
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
    return OmegaConf.create(tree)


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


def read(folder: Path) -> dict[str, Any]:
    """Return the config in a run's folder as plain values, not validated yet.

    Raises:
        CheckpointError: the file is missing, is not a config, or has interpolations, which no run writes.
    """
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


def load(folder: str | Path, trust: Iterable[str] = ()) -> DictConfig:
    """Return the validated config of an earlier run, which can build only what the allow-list and `trust` permit.

    Args:
        folder: the run's folder.
        trust: names of the user's own modules that may be imported.

    Raises:
        CheckpointError: there is no config, or it names a constructor that is not allowed.
        ConfigError: the config is not valid in this version of ganlab.
    """
    refuse_imports_from(Path(folder))
    tree = read(Path(folder))
    _refuse_unnamed(tree)  # first: old configs also name classes that were removed
    refuse_disallowed(tree, Path(folder), trust)
    if isinstance(tree.get("dataset"), dict):  # the user decides whom to contact and where to write
        tree["dataset"].update(dict.fromkeys({"mirror", "cache"} & set(tree["dataset"])))
    return check(OmegaConf.create(tree))


def go_offline(cfg: DictConfig) -> None:
    """Set trackers that a run's folder has online to offline: only the user decides what leaves this machine."""
    for name, tracker in cfg.tracker.items():
        if tracker.get("mode") == "online":
            tracker.mode = "offline"
            place = "/".join(str(tracker[key]) for key in ("entity", "project") if tracker.get(key))
            log.warning(
                "WARNING: tracker.%s.mode=online is not taken from the run's folder; "
                "to upload to %s, add tracker.%s.mode=online",
                *(name, place, name),
            )


def override(cfg: DictConfig, overrides: Sequence[str]) -> None:
    """Apply `key=value` overrides to the config of a finished run, in place.

    Raises:
        ConfigError: an override names an unknown key, a whole group, or a key that cannot change on resume.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        raise ConfigError(explain(error, overrides)) from error
    for change in parsed:
        key = change.key_or_group
        if change.is_sweep_override():
            raise ConfigError(f"{change.input_line}: must be a single value; a resumed run cannot be a sweep")
        if key == "tracker":  # the only group that can be replaced, as it does not affect the run
            cfg.tracker = compose([str(change.input_line)]).tracker
            continue
        known = OmegaConf.select(cfg, key, throw_on_missing=False)
        if known is None and key not in _leaves(cfg):
            raise ConfigError(f"{change.input_line}: no such key; {_near(key, _leaves(cfg))}")
        kept = next((k for k in FIXED_ON_RESUME if f"{key}.".startswith(f"{k}.")), None)
        if (kept and key not in WITHOUT_EFFECT) or isinstance(known, DictConfig):
            raise ConfigError(f"{change.input_line}: cannot change {kept or key} when resuming a run")
        OmegaConf.update(cfg, key, change.value())


def save(cfg: DictConfig, folder: Path) -> None:
    """Write the config to a run's folder, with every interpolation resolved, as `read` requires."""
    (folder / ".hydra").mkdir(exist_ok=True)  # Hydra creates it, but not for a run started from Python
    replace_file(folder / ".hydra" / "config.yaml", OmegaConf.to_yaml(cfg, resolve=True).encode())


def _leaves(cfg: DictConfig) -> list[str]:
    def walk(prefix: str, node: Any) -> Iterable[str]:
        for name, value in node.items():
            key = f"{prefix}{name}"
            yield from walk(f"{key}.", value) if isinstance(value, Mapping) else (key,)

    return list(walk("", OmegaConf.to_container(cfg, resolve=False)))


def _near(key: str, keys: list[str]) -> str:
    close = difflib.get_close_matches(key, keys, 3) or dict.fromkeys(key.partition(".")[0] for key in keys)
    return f"the run has {', '.join(close)}"
