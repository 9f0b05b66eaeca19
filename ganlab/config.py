"""Where the config files lie, how they are composed, and whether a composed config can be run.

The schema is the Python signature that each `_target_` names: `check` binds every node of the config to it and
validates the values against its annotations, before any object is made.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import inspect
import json
import re
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ganlab.errors import CheckpointError, ConfigError
from ganlab.ranges import Seed

CONFIG_NAME = "config"
TOP_LEVEL: dict[str, Any] = {"seed": Seed, "device": Literal["auto", "cpu", "cuda", "mps"]}
HYDRA_KEYS = {"_target_", "_partial_", "_convert_", "_recursive_", "_args_"}


def conf_dir() -> Path:
    """The folder of config files: inside the package once installed, beside it in a checkout."""
    package = Path(__file__).resolve().parent
    packaged = package / "conf"
    return packaged if packaged.is_dir() else package.parent / "conf"


def compose(overrides: Sequence[str] = ()) -> DictConfig:
    """The config that `python -m ganlab <overrides>` would run, without Hydra's own part.

    Raises:
        ConfigError: an override names no key or option, or cannot be parsed.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        try:
            return hydra_compose(CONFIG_NAME, overrides=list(overrides))
        except (HydraException, OmegaConfBaseException, ValueError) as error:  # Hydra raises some of each
            raise ConfigError(explain(error, overrides)) from error


def plain(cfg: DictConfig) -> dict[str, Any]:
    """The config as plain dictionaries and lists, every interpolation resolved.

    Raises:
        ConfigError: a value is missing (`???`) or an interpolation leads nowhere.
    """
    try:
        tree = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key or 'config'}: {_first_line(error)}") from error
    return typing.cast(dict[str, Any], tree)


def config_hash(cfg: DictConfig) -> str:
    """A hash of what decides the result: all of the config but where data lie and copies of the record go."""
    tree = plain(cfg)
    tree.pop("tracker", None)
    tree.get("dataset", {}).pop("root", None)
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:16]


# Checking ------------------------------------------------------------------------------------------------


def check(cfg: DictConfig) -> None:
    """Bind every node of the config to the signature it names, and validate its values.

    Raises:
        ConfigError: the first node or value that does not fit, with its key, value and what is allowed.
    """
    for key, value in plain(cfg).items():
        if key in TOP_LEVEL:
            _check_value(key, value, TOP_LEVEL[key])
        elif isinstance(value, Mapping):
            _check_node(key, value)
        elif value is not None:
            raise ConfigError(f"{key}={_shown(value)}: {_allowed_options(key)}")


def _check_node(key: str, node: Any) -> None:
    if isinstance(node, list):
        for index, child in enumerate(node):
            _check_node(f"{key}[{index}]", child)
    elif isinstance(node, Mapping) and "_target_" in node:
        _check_call(key, node)
    elif isinstance(node, Mapping):
        for name, child in node.items():
            _check_node(f"{key}.{name}", child)


def _check_call(key: str, node: Mapping[str, Any]) -> None:
    given = {name: value for name, value in node.items() if name not in HYDRA_KEYS}
    bind(
        locate(key, node["_target_"]),
        given,
        node["_target_"],
        prefix=f"{key}.",
        partial=bool(node.get("_partial_")),
    )


def bind(function: Any, given: Mapping[str, Any], name: str, prefix: str = "", partial: bool = False) -> None:
    """Check that a function or class can be called with the given values.

    Args:
        name: what the message calls it.
        prefix: of the keys, in the message.
        partial: whether more arguments will be given later.

    Raises:
        ConfigError: an argument that it does not have, lacks, or whose annotation the value does not meet.
    """
    parameters = _parameters(function)
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for key, value in given.items():
        if key not in parameters and not takes_any:
            mine = [n for n, p in parameters.items() if not partial or p.default is not p.empty]
            raise ConfigError(f"{prefix}{key}={_shown(value)}: no such key; {name} takes {', '.join(mine)}")
        if isinstance(value, Mapping) and "_target_" in value:
            _check_call(f"{prefix}{key}", value)
        elif key in parameters:
            _check_value(f"{prefix}{key}", value, parameters[key].annotation)
            _check_node(f"{prefix}{key}", value)
    for key, parameter in parameters.items():
        optional = parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        if not partial and not optional and parameter.default is parameter.empty and key not in given:
            raise ConfigError(f"{prefix}{key}: missing; {name} needs it")


def locate(key: str, target: str) -> Any:
    """The object that a `_target_` names.

    Raises:
        ConfigError: it cannot be imported.
    """
    module, _, name = str(target).rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except Exception as error:
        raise ConfigError(f"{key}._target_={target}: cannot be imported: {_first_line(error)}") from error


def _parameters(target: Any) -> dict[str, inspect.Parameter]:
    """The parameters of a function or class, their annotations resolved."""
    function = target.__init__ if inspect.isclass(target) else target
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError):  # a third party's annotation that only its type checker can resolve
        hints = {}
    signature = inspect.signature(target)
    return {n: p.replace(annotation=hints.get(n, p.annotation)) for n, p in signature.parameters.items()}


def _check_value(key: str, value: Any, annotation: Any) -> None:
    from pydantic import ConfigDict, TypeAdapter, ValidationError
    from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

    if annotation is inspect.Parameter.empty or isinstance(annotation, str):
        return
    rules = ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(annotation, config=rules)
    except (PydanticSchemaGenerationError, PydanticUserError):
        return  # a third party's annotation: its own constructor will have to judge
    try:
        adapter.validate_python(value)
    except ValidationError as error:
        details = [e for e in error.errors() if "none" not in e["type"]] or error.errors()
        where = "".join(f"[{part}]" for part in details[0]["loc"] if isinstance(part, int))
        allowed = details[0]["msg"].replace("Input should be", "must be").replace("List should have", "must have")
        optional = " or null" if type(None) in typing.get_args(annotation) else ""
        shown = _shown(details[0]["input"])
        raise ConfigError(f"{key}{where}={shown}: {allowed.replace(' after validation', '')}{optional}") from error


class RefuseBadConfig(Callback):
    """Refuses a config while nothing is on disk yet: Hydra makes the run's folder right after this callback."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        from ganlab import build, command_line

        def check_all() -> None:
            cfg = OmegaConf.masked_copy(config, [key for key in map(str, config) if key != "hydra"])
            build.check(cfg)
            _refuse_used_folder(Path(config.hydra.run.dir))

        exit_code = command_line.run(check_all, config.hydra.overrides.task)
        if exit_code:
            raise SystemExit(exit_code)  # Hydra would only warn of any other exception

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        from ganlab import command_line

        exit_code = command_line.run(lambda: _refuse_used_folder(Path(config.hydra.sweep.dir)), [])
        if exit_code:
            raise SystemExit(exit_code)


def _refuse_used_folder(folder: Path) -> None:
    """Hydra would write a new run's config over that of the run which a folder holds."""
    if any((folder / "result.json").is_file() for folder in (folder, *folder.glob("*/"))):
        raise ConfigError(f"{folder}: holds a run or a sweep already; choose another folder, or continue with resume=")


# A finished run's config -----------------------------------------------------------------------------------


def load(folder: str | Path, trust: Iterable[str] = ()) -> DictConfig:
    """The config of an earlier run, checked, and refused where it would build anything that is not ours.

    Args:
        folder: the run's folder.
        trust: names of the user's own modules that it may build from too.

    Raises:
        CheckpointError: there is no config, or it names something outside the allow-list.
        ConfigError: it does not fit this version of ganlab.
    """
    file = Path(folder) / ".hydra" / "config.yaml"
    if not file.is_file():
        raise CheckpointError(f"{folder}: not a run's folder, it has no .hydra/config.yaml")
    cfg = OmegaConf.load(file)
    if not isinstance(cfg, DictConfig):
        raise CheckpointError(f"{file}: not a config")
    allow_only(plain(cfg), trust)
    check(cfg)
    return cfg


def allow_only(tree: Any, trust: Iterable[str] = ()) -> None:
    """Refuse a config from a file that would build objects from modules which are neither ours nor trusted."""
    if isinstance(tree, Mapping):
        target = tree.get("_target_")
        roots = ("ganlab", *trust)
        if target is not None and not any(str(target).startswith(f"{root}.") for root in roots):
            raise CheckpointError(
                f"_target_={target}: not from {', '.join(roots)}; name its module in trust= if it is yours"
            )
        for value in tree.values():
            allow_only(value, trust)
    elif isinstance(tree, list):
        for value in tree:
            allow_only(value, trust)


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
        known = OmegaConf.select(cfg, key, throw_on_missing=False)
        if known is None and key not in _leaves(cfg):
            raise ConfigError(f"{change.input_line}: no such key; {_near(key, _leaves(cfg))}")
        if isinstance(known, DictConfig):
            raise ConfigError(f"{change.input_line}: a run keeps its {key} when it is resumed; single keys may change")
        OmegaConf.update(cfg, key, change.value())


# Hydra's errors, as one line -------------------------------------------------------------------------------


def explain(error: Exception, overrides: Sequence[str]) -> str:
    """An error of Hydra or OmegaConf as one line with key, value and what is allowed."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, option = str(error.missing_cfg_file).rpartition("/")
        options = error.options or []
        if group:
            return f"{group}={option}: no such option; {group} has {', '.join(options)}"
    if isinstance(error, OverrideParseException):
        return f"{error.override}: cannot be parsed: {_first_line(error)}"
    named = re.search(r"Could not (?:override|delete|append)[^']*'([^']+)'", str(error))
    if isinstance(error, ConfigCompositionException) and named:
        key = named.group(1)
        typed = next((o for o in overrides if o.lstrip("+~").startswith(key)), key)
        return f"{typed}: no such key; {_keys_beside(key, overrides)}"
    if not isinstance(error, (HydraException, OmegaConfBaseException)):
        return f"{' '.join(overrides)}: {_first_line(error)}"
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    return _first_line(error) if cause is error else f"{_first_line(error)}: {_first_line(cause)}"


def _keys_beside(key: str, overrides: Sequence[str]) -> str:
    """The keys that exist where an unknown one was looked for, the group choices being as the user made them."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    groups = {path.name for path in conf_dir().iterdir() if path.is_dir()}
    choices = [o for o in overrides if o.split("=")[0] in groups and "," not in o]
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            cfg = hydra_compose(CONFIG_NAME, overrides=choices)
    except (HydraException, OmegaConfBaseException):
        return "see python -m ganlab --help"
    parent, found = key, None
    while parent and not isinstance(found, DictConfig):
        parent = parent.rpartition(".")[0]
        found = OmegaConf.select(cfg, parent) if parent else cfg
    names = [str(name) for name in found if name not in HYDRA_KEYS] if isinstance(found, DictConfig) else []
    near = difflib.get_close_matches(key.rpartition(".")[2], names, 1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return f"{parent or 'the config'} has {', '.join(names)}{hint}"


def _leaves(cfg: DictConfig) -> list[str]:
    def walk(prefix: str, node: Any) -> Iterable[str]:
        for name, value in node.items():
            key = f"{prefix}{name}"
            yield from walk(f"{key}.", value) if isinstance(value, Mapping) else (key,)

    return list(walk("", OmegaConf.to_container(cfg, resolve=False)))


def _near(key: str, keys: list[str]) -> str:
    close = difflib.get_close_matches(key, keys, 3) or keys
    return f"the run has {', '.join(close)}"


def _allowed_options(group: str) -> str:
    options = sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))
    return f"must be one of {', '.join(options)}" if options else "no such key"


def _shown(value: Any) -> str:
    """A value as it is written on the command line."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _first_line(error: Exception | None) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
