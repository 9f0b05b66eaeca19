"""The config: composing it, checking that it can be run, and reading it back from a finished run."""

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

from ganlab.config.allow_list import NAMED, refuse_disallowed, refuse_imports_from
from ganlab.config.conf_files import CONFIG_NAME, conf_dir, options_of
from ganlab.config.hydra_errors import explain, first_line
from ganlab.config.ranges import Seed
from ganlab.config.signatures import check_node, check_value, shown
from ganlab.errors import CheckpointError, ConfigError
from ganlab.files import read_yaml, replace_file, values_in

log = logging.getLogger(__name__)

VALUES: dict[str, Any] = {"seed": Seed, "device": Literal["auto", "cpu", "cuda", "mps"]}
GROUPS = (
    *("dataset", "model", "condition", "latent", "init"),
    *("loss", "penalty", "augment", "optimizer", "schedule", "trainer", "watchdog", "metrics", "tracker"),
)
# What does not change the result of a run: where things lie, what is copied, how often it reports
WITHOUT_EFFECT = (
    *("tracker", "metrics"),
    *(f"dataset.{key}" for key in ("root", "mirror", "timeout", "cache")),
    *(f"trainer.{key}" for key in ("log_every", "sample_every", "evaluate_every", "checkpoint_every")),
    "trainer.keep_checkpoints",
)
# What a run keeps when it is resumed: with another value it would not be the same run
KEPT = (
    *("seed", "dataset", "model", "condition", "latent", "init", "loss", "augment"),
    *(f"trainer.{key}" for key in ("batch_size", "discriminator_steps", "ema_half_life", "ema_ramp")),
)


def compose(overrides: Sequence[str] = ()) -> DictConfig:
    """The config that `python -m ganlab <overrides>` would run, without Hydra's own part.

    Raises:
        ConfigError: an override names no key or option, or cannot be parsed.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    refuse_lists(overrides)
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        try:
            return hydra_compose(CONFIG_NAME, overrides=list(overrides))
        except (HydraException, OmegaConfBaseException, ValueError, YAMLError) as error:  # Hydra raises some of each
            raise ConfigError(explain(error, overrides)) from error


def refuse_lists(overrides: Sequence[str]) -> None:
    """Hydra would merge several options of any group, which makes sense only where each has a name of its own.

    Raises:
        ConfigError: a list is given to another group, or an empty one.
    """
    for override in overrides:
        group, _, value = override.partition("=")
        if group in GROUPS and value.startswith("[") and (group not in NAMED or not value.strip("[ ]")):
            several = f" or several of them; for none write {group}=none" if group in NAMED else ""
            raise ConfigError(f"{override}: must be {_one_of(group)}{several}")


def plain(cfg: DictConfig) -> dict[str, Any]:
    """The config as plain dictionaries and lists, every interpolation resolved.

    Raises:
        ConfigError: a value is missing (`???`) or an interpolation leads nowhere.
    """
    try:
        tree = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key or 'config'}: {first_line(error)}") from error
    return typing.cast(dict[str, Any], tree)


def config_hash(cfg: DictConfig | Mapping[str, Any]) -> str:
    """A hash of all that decides the result of a run, but for the data themselves, which have one of their own."""
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
        ConfigError: the first node or value that does not fit, with its key, value and what is allowed.
    """
    tree = plain(cfg)
    _refuse_interpolations(tree)
    for key, value in tree.items():
        if key not in (*GROUPS, *VALUES):
            raise ConfigError(f"{key}={shown(value)}: no such key; the config has {', '.join((*GROUPS, *VALUES))}")
    missing = next((key for key in (*VALUES, *GROUPS) if key not in tree), None)
    if missing:
        raise ConfigError(f"{missing}: missing; must be {_one_of(missing) if missing in GROUPS else 'given a value'}")
    for key, annotation in VALUES.items():
        check_value(key, tree[key], annotation)
    for group in GROUPS:
        if not isinstance(tree[group], Mapping):
            raise ConfigError(f"{group}={shown(tree[group])}: must be {_one_of(group)}")
    _refuse_unnamed(tree)
    for group in GROUPS:
        nodes = (
            {f"{group}.{name}": node for name, node in tree[group].items()} if group in NAMED else {group: tree[group]}
        )
        for key, node in nodes.items():
            if not isinstance(node, Mapping) or "_target_" not in node:
                otherwise = f"; ~{key} leaves it out" if group in NAMED else ""
                raise ConfigError(
                    f"{key}={shown(node)}: must have a _target_, the function or class that it calls{otherwise}"
                )
        check_node(group, tree[group])
    return OmegaConf.create(tree)


def _refuse_interpolations(tree: Mapping[str, Any]) -> None:
    for key, value in values_in(tree):
        if isinstance(value, str) and "${" in value:
            raise ConfigError(f"{key}={value}: must be a plain value, not an interpolation")


def _refuse_unnamed(tree: Mapping[str, Any]) -> None:
    for group in NAMED:
        for name in tree[group] if isinstance(tree.get(group), Mapping) else ():
            if not re.fullmatch(r"[\w-]+", str(name)):  # others have a meaning in the path of a key
                raise ConfigError(f"{group}.{name}: a name may have letters, digits, _ and - only")
        if isinstance(tree.get(group), Mapping) and "_target_" in tree[group]:  # as tracker was at first
            target = tree[group]["_target_"]
            raise ConfigError(f"{group}._target_={target}: must stand under a name, as {group}.NAME._target_ does")


def _one_of(group: str) -> str:
    return f"one of {', '.join(options_of(group))}"


# A finished run's config -----------------------------------------------------------------------------------


def read(folder: Path) -> dict[str, Any]:
    """The config in a run's folder as plain values, not checked yet.

    Raises:
        CheckpointError: the file is missing, is not a config, or has interpolations, which no run writes.
    """
    file = folder / ".hydra" / "config.yaml"
    if not file.is_file():
        raise CheckpointError(f"{folder}: not a run's folder, it has no .hydra/config.yaml")
    tree = read_yaml(file)
    if not isinstance(tree, dict):
        raise CheckpointError(f"{file}: not a config")
    try:
        _refuse_interpolations(tree)
    except ConfigError as error:
        raise CheckpointError(f"{file}: {error}") from error
    return tree


def load(folder: str | Path, trust: Iterable[str] = ()) -> DictConfig:
    """The checked config of an earlier run, which may build only what the allow-list and `trust` permit.

    Args:
        folder: the run's folder.
        trust: names of the user's own modules that may be imported.

    Raises:
        CheckpointError: there is no config, or it names something that is not allowed.
        ConfigError: it does not fit this version of ganlab.
    """
    refuse_imports_from(Path(folder))
    tree = read(Path(folder))
    _refuse_unnamed(tree)  # first: configs of that age also name classes that were removed
    refuse_disallowed(tree, Path(folder), trust)
    if isinstance(
        tree.get("dataset"), dict
    ):  # the user decides which server is contacted and where pictures are cached
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
    """Change values of a finished run's config in place, as `key=value` on the command line.

    Raises:
        ConfigError: an override names a key that the config does not have, or a whole group.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        raise ConfigError(explain(error, overrides)) from error
    for change in parsed:
        key = change.key_or_group
        if change.is_sweep_override():
            raise ConfigError(f"{change.input_line}: must be one value; a resumed run is no sweep")
        if key == "tracker":  # the one group that can be chosen anew, as it has no part in the run
            cfg.tracker = compose([str(change.input_line)]).tracker
            continue
        known = OmegaConf.select(cfg, key, throw_on_missing=False)
        if known is None and key not in _leaves(cfg):
            raise ConfigError(f"{change.input_line}: no such key; {_near(key, _leaves(cfg))}")
        kept = next((k for k in KEPT if f"{key}.".startswith(f"{k}.")), None)
        if (kept and key not in WITHOUT_EFFECT) or isinstance(known, DictConfig):
            raise ConfigError(f"{change.input_line}: a run keeps its {kept or key} when it is resumed")
        OmegaConf.update(cfg, key, change.value())


def save(cfg: DictConfig, folder: Path) -> None:
    """Make this the config of the run in a folder, every interpolation resolved, as `read` wants it."""
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
