"""Validation of checkpoint entries before loading: against a type annotation, or against the object that loads them.

Every error names the path of the entry, as in `last.pt: generator_optimizer.state[3].exp_avg: shape [3], expected [8]`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any, get_type_hints

import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from torch import Tensor

from ganlab.errors import CheckpointError

STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True)


def entry_path(where: str, key: object) -> str:
    """Return the path of the entry `key` inside `where`, which is empty or ends in `: ` for a top-level entry."""
    if not isinstance(key, str):
        return f"{where}[{short_repr(key)}]"
    name = ascii(key[:100])[1:-1]
    return f"{where}{name}" if where == "" or where.endswith(": ") else f"{where}.{name}"


def short_repr(value: object) -> str:
    """Return a representation of bounded length; a value from a file may have any type and size."""
    if isinstance(value, str):
        return ascii(value[:30])
    if isinstance(value, int) and abs(value) >= 2**64:
        return "an integer beyond 64 bits"
    return repr(value) if isinstance(value, int | float | None) else type(value).__name__


@functools.cache
def type_adapter(annotation: Any) -> TypeAdapter[Any]:
    return TypeAdapter(annotation)


def check_type(where: str, value: object, annotation: Any) -> None:
    """Validate a value of builtin types against an annotation, without coercion: `True` is not an int.

    Raises:
        CheckpointError: an entry is invalid; the message names the first one.
    """
    try:
        type_adapter(annotation).validate_python(value, strict=True)
    except ValidationError as errors:
        error = errors.errors(include_url=False, include_context=False)[0]
        for key in error["loc"]:
            where = where if key == "[key]" else entry_path(where, key)
        if error["type"] == "missing":
            raise CheckpointError(f"{where}: missing") from errors
        if error["type"] in ("extra_forbidden", "invalid_key"):
            raise CheckpointError(f"{where}: unexpected") from errors
        rule = error["msg"].replace("Input should", "must")
        raise CheckpointError(f"{where}={short_repr(error['input'])}: {rule}") from errors


def check_state(where: str, state: object, part: Any) -> None:
    """Validate a state against the annotation of the argument of `part.load_state_dict`, if it can be resolved."""
    try:
        hints = get_type_hints(part.load_state_dict, include_extras=True)
        annotation = next((hint for name, hint in hints.items() if name != "return"), Any)
        type_adapter(annotation)
    except (NameError, TypeError, PydanticUserError):  # user-defined classes check their own state
        return
    check_type(where, state, annotation)


def check_structure(where: str, value: object, expected: object) -> None:
    """Refuse a nested value that differs from `expected` in anything but the values of finite numbers and strings.

    Args:
        expected: a `state_dict()`: tensors, numbers and strings in dictionaries and lists.

    Raises:
        CheckpointError: keys, types, lengths, shapes or dtypes differ, or a number is not finite; the message names the
            first such entry.
    """
    if isinstance(expected, Tensor):
        _check_tensor(where, value, expected)
    elif isinstance(expected, Mapping):
        for key, part in check_keys(where, value, expected).items():
            check_structure(entry_path(where, key), part, expected[key])
    elif type(value) is not type(expected):
        wanted = "None" if expected is None else f"a value of type {type(expected).__name__}"
        raise CheckpointError(f"{where}: {short_repr(value)}, expected {wanted}")
    elif isinstance(value, list | tuple) and isinstance(expected, list | tuple):
        if len(value) != len(expected):
            raise CheckpointError(f"{where}: length {len(value)}, expected {len(expected)}")
        for index, part in enumerate(value):
            check_structure(entry_path(where, index), part, expected[index])
    elif isinstance(value, float) and not math.isfinite(value):
        raise CheckpointError(f"{where}: {value}, expected a finite number")


def check_equal(where: str, value: Any, expected: Any) -> None:
    """Refuse a value that differs from `expected`; the error names the innermost entry."""
    if isinstance(expected, Mapping):
        for key, part in check_keys(where, value, expected).items():
            check_equal(entry_path(where, key), part, expected[key])
    elif value != expected:
        raise CheckpointError(f"{where}={short_repr(value)}: must be {short_repr(expected)}, as in this run")


def check_keys(where: str, value: object, expected: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return the value if it is a dictionary with the keys of `expected`."""
    if not isinstance(value, dict):
        raise CheckpointError(f"{where.removesuffix(': ')}: {short_repr(value)}, expected a dictionary")
    for key in expected:
        if key not in value:
            raise CheckpointError(f"{entry_path(where, key)}: missing")
    for key in value:
        if key not in expected:
            raise CheckpointError(f"{entry_path(where, key)}: unexpected")
    return value


def _check_tensor(where: str, value: object, expected: Tensor) -> None:
    """Check shape and dtype before values: an expanded view can have far more values than the file has bytes."""
    if type(value) is not Tensor:
        raise CheckpointError(f"{where}: {short_repr(value)}, expected a tensor")
    if value.is_nested:  # a nested tensor has no shape
        raise CheckpointError(f"{where}: a nested tensor, expected shape {list(expected.shape)}")
    for name, found, wanted in (
        ("layout", value.layout, torch.strided),
        ("device", value.device.type, "cpu"),
        ("dtype", value.dtype, expected.dtype),
        ("shape", list(value.shape), list(expected.shape)),
    ):
        if found != wanted:
            found, wanted = (str(attribute).removeprefix("torch.") for attribute in (found, wanted))
            raise CheckpointError(f"{where}: {name} {found}, expected {wanted}")
    if not bool(torch.isfinite(value).all()):
        raise CheckpointError(f"{where}: has values that are not finite")
