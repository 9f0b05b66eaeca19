"""Validates the config against its schema: the Python signatures that its nodes name.

Every node with a `_target_` is bound to the signature of that function or class, and its values are validated against
the annotations (see `ganlab.config.ranges`). In ganlab, parameters that a partial node receives at run time have no
default.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType, NoneType, UnionType
from typing import TYPE_CHECKING, Any, TypeVar

from ganlab.errors import ConfigError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

Result = TypeVar("Result")

HYDRA_KEYS = {"_target_", "_partial_"}  # other special keys of Hydra would bypass this check

VALUE_TYPES = (bool, int, float, str, bytes, NoneType, typing.Literal, list, tuple, dict, Sequence, Mapping)


def cached(function: Callable[[Any], Result]) -> Callable[[Any], Result]:
    """Cache the results of a function of one argument, except for arguments that cannot be hashed."""
    remembered = functools.cache(function)

    @functools.wraps(function)
    def call(argument: Any) -> Result:
        try:
            hash(argument)
        except TypeError:
            return function(argument)
        return remembered(argument)

    return call


def check_node(key: str, node: Any) -> None:
    """Bind every call that a node of the config describes, at any depth.

    Raises:
        ConfigError: a call is invalid; the message names the first key and value, and the choices.
    """
    if isinstance(node, list):
        for index, child in enumerate(node):
            check_node(f"{key}[{index}]", child)
    elif isinstance(node, Mapping) and "_target_" in node:
        _check_call(key, node)
    elif isinstance(node, Mapping):
        for name, child in node.items():
            check_node(f"{key}.{name}", child)


def _check_call(key: str, node: Mapping[str, Any]) -> None:
    given = {name: value for name, value in node.items() if name not in HYDRA_KEYS}
    special = next(filter(is_reserved, given), None)
    if special:
        raise ConfigError(f"{key}.{special}: no such key; pass arguments by name")
    check_value(f"{key}._partial_", node.get("_partial_", False), bool)
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
        name: name of the function in error messages.
        prefix: prefix of the keys in error messages.
        partial: whether more arguments will be given later.

    Raises:
        ConfigError: an argument is unknown, missing, or does not match its annotation.
    """
    if not callable(function):
        raise ConfigError(f"{prefix}_target_={name}: must be a function or class")
    parameters = parameters_of(function)
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    ours = str(getattr(function, "__module__", "")).startswith("ganlab.")
    mine = [n for n, p in parameters.items() if not (partial and ours) or p.default is not p.empty]
    for key, value in given.items():
        if key not in mine and not takes_any:
            raise ConfigError(
                f"{prefix}{key}={format_value(value)}: no such key; {name} takes {', '.join(mine) or 'none'}"
            )
        if isinstance(value, Mapping) and "_target_" in value:
            _check_call(f"{prefix}{key}", value)
            if key in parameters:
                _check_kind(f"{prefix}{key}", value, parameters[key].annotation)
        elif key in parameters:
            check_value(f"{prefix}{key}", value, parameters[key].annotation)
            check_node(f"{prefix}{key}", value)
    for key, parameter in parameters.items():
        optional = parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        if not partial and not optional and parameter.default is parameter.empty and key not in given:
            raise ConfigError(f"{prefix}{key}: missing; {name} needs it")


def _check_kind(key: str, node: Mapping[str, Any], annotation: Any) -> None:
    """Refuse a node where the parameter takes a plain value or an object of another class."""
    if not takes_object(annotation):
        raise ConfigError(f"{key}._target_={node['_target_']}: must be a plain value, not an object")
    target, annotation = locate(key, node["_target_"]), bare(annotation)
    allowed = typing.get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    kinds = [kind for kind in allowed if inspect.isclass(kind) and kind is not type(None)]
    if inspect.isclass(target) and kinds and not node.get("_partial_") and not issubclass(target, tuple(kinds)):
        raise ConfigError(f"{key}._target_={node['_target_']}: must create a {kinds[0].__name__}")


def is_reserved(name: str) -> bool:
    """Whether a key has the form that Hydra reserves, such as `_args_`, and is not in `HYDRA_KEYS`."""
    return name.startswith("_") and name.endswith("_") and name not in HYDRA_KEYS


def takes_object(annotation: Any) -> bool:
    """Whether a parameter with this annotation accepts an object, not only strings, numbers and collections of them."""
    annotation = bare(annotation)
    if isinstance(annotation, UnionType) or typing.get_origin(annotation) is typing.Union:
        return any(takes_object(part) for part in typing.get_args(annotation))
    kind = typing.get_origin(annotation) or annotation
    return kind not in VALUE_TYPES


def bare(annotation: Any) -> Any:
    """Return an annotation without metadata such as ranges."""
    return typing.get_args(annotation)[0] if typing.get_origin(annotation) is typing.Annotated else annotation


def locate(key: str, target: str) -> Any:
    """Import the object that a `_target_` names.

    Raises:
        ConfigError: the object cannot be imported.
    """
    module, _, name = str(target).rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except Exception as error:
        raise ConfigError(f"{key}._target_={target}: cannot be imported: {' '.join(str(error).split())}") from error


@cached
def parameters_of(target: Any) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of a function or class with resolved annotations."""
    function = target.__init__ if inspect.isclass(target) else target
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError):  # annotations in third-party code may resolve only in a type checker
        hints = {}
    signature = inspect.signature(target)
    resolved = {n: p.replace(annotation=hints.get(n, p.annotation)) for n, p in signature.parameters.items()}
    return MappingProxyType(resolved)


def check_value(key: str, value: Any, annotation: Any) -> None:
    """Validate a value against an annotation, without coercion: a string is not a number, 1.5 is not an int.

    Raises:
        ConfigError: the value does not match.
    """
    from pydantic import ValidationError

    if annotation is inspect.Parameter.empty or isinstance(annotation, str):
        return
    validator = _validator(annotation)
    try:
        if validator is not None:
            validator.validate_python(value)
    except ValidationError as error:
        details = [e for e in error.errors() if "none" not in e["type"]] or error.errors()
        where = "".join(f"[{part}]" for part in details[0]["loc"] if isinstance(part, int))
        allowed = re.sub("^(Input|List|String) should ", "must ", details[0]["msg"])
        allowed = re.sub(r"\b(True|False)\b", lambda match: match[0].lower(), allowed)  # as in YAML
        optional = " or null" if NoneType in typing.get_args(bare(annotation)) and not where else ""
        given = format_value(details[0]["input"])
        if details[0]["type"] in ("list_type", "sequence_str"):
            allowed = f"must be a list, like [{given}]"
        raise ConfigError(f"{key}{where}={given}: {allowed.replace(' after validation', '')}{optional}") from error


@cached
def _validator(annotation: Any) -> TypeAdapter[Any] | None:
    """Return the validator of an annotation; None for one in third-party code that pydantic does not know."""
    from pydantic import ConfigDict, TypeAdapter
    from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

    rules = ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)
    try:
        return TypeAdapter(annotation, config=rules)
    except (PydanticSchemaGenerationError, PydanticUserError):
        return None


def format_value(value: Any) -> str:
    """Return a value as it is written on the command line."""
    return value if isinstance(value, str) else json.dumps(value, default=str)
