"""The entries of a checkpoint, checked before they are loaded: against a declared type, or the object that takes them.

Every error names the entry by its path, as in `last.pt: generator_optimizer.state[3].exp_avg: shape [3], expected [8]`.
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


def child(where: str, key: object) -> str:
    """The path of an entry inside another; that of a top-level one where `where` is empty or ends in a colon."""
    if not isinstance(key, str):
        return f"{where}[{shown(key)}]"
    name = ascii(key[:100])[1:-1]
    return f"{where}{name}" if where == "" or where.endswith(": ") else f"{where}.{name}"


def shown(value: object) -> str:
    """A short text for any value; one that is read from a file may be of any type and size."""
    if isinstance(value, str):
        return ascii(value[:30])
    if isinstance(value, int) and abs(value) >= 2**64:
        return "an integer beyond 64 bits"
    return repr(value) if isinstance(value, int | float | None) else type(value).__name__


@functools.cache
def adapter(annotation: Any) -> TypeAdapter[Any]:
    return TypeAdapter(annotation)


def check_declared(where: str, value: object, annotation: Any) -> None:
    """Validate plain values against a type with ranges, strictly: a boolean is no integer, a tuple no list.

    Raises:
        CheckpointError: the first that does not fit.
    """
    try:
        adapter(annotation).validate_python(value, strict=True)
    except ValidationError as errors:
        error = errors.errors(include_url=False, include_context=False)[0]
        for key in error["loc"]:
            where = where if key == "[key]" else child(where, key)
        if error["type"] == "missing":
            raise CheckpointError(f"{where}: missing") from errors
        if error["type"] in ("extra_forbidden", "invalid_key"):
            raise CheckpointError(f"{where}: unexpected") from errors
        rule = error["msg"].replace("Input should", "must")
        raise CheckpointError(f"{where}={shown(error['input'])}: {rule}") from errors


def check_state(where: str, state: object, part: Any) -> None:
    """Validate a state against the annotation in `part.load_state_dict`, where there is one that can be resolved."""
    try:
        hints = get_type_hints(part.load_state_dict, include_extras=True)
        annotation = next((hint for name, hint in hints.items() if name != "return"), Any)
        adapter(annotation)
    except (NameError, TypeError, PydanticUserError):  # of a user's own class, which then has to check it itself
        return
    check_declared(where, state, annotation)


def check_like(where: str, value: object, expected: object) -> None:
    """Refuse a value that differs from `expected` in more than finite numbers and text, however deep.

    Args:
        expected: tensors, numbers and text in dictionaries and lists, as a `state_dict()` has them.

    Raises:
        CheckpointError: the first difference in names, types, lengths, shapes or dtypes, or a number that is not
            finite.
    """
    if isinstance(expected, Tensor):
        _check_tensor(where, value, expected)
    elif isinstance(expected, Mapping):
        for key, part in check_names(where, value, expected).items():
            check_like(child(where, key), part, expected[key])
    elif type(value) is not type(expected):
        raise CheckpointError(f"{where}: {shown(value)}, expected {_kind(expected)}")
    elif isinstance(value, list | tuple) and isinstance(expected, list | tuple):
        if len(value) != len(expected):
            raise CheckpointError(f"{where}: length {len(value)}, expected {len(expected)}")
        for index, part in enumerate(value):
            check_like(child(where, index), part, expected[index])
    elif isinstance(value, float) and not math.isfinite(value):
        raise CheckpointError(f"{where}: {value}, expected a finite number")


def check_equal(where: str, value: Any, expected: Any) -> None:
    """Refuse a value that differs from `expected`, naming the innermost entry that does."""
    if isinstance(expected, Mapping):
        for key, part in check_names(where, value, expected).items():
            check_equal(child(where, key), part, expected[key])
    elif value != expected:
        raise CheckpointError(f"{where}={shown(value)}: differs from that of this run, {shown(expected)}")


def check_names(where: str, value: object, expected: Mapping[Any, Any]) -> dict[Any, Any]:
    """Refuse anything but a dictionary with the keys of `expected`; returns it."""
    if not isinstance(value, dict):
        raise CheckpointError(f"{where.removesuffix(': ')}: {shown(value)}, expected a dictionary")
    for key in expected:
        if key not in value:
            raise CheckpointError(f"{child(where, key)}: missing")
    for key in value:
        if key not in expected:
            raise CheckpointError(f"{child(where, key)}: unexpected")
    return value


def _check_tensor(where: str, value: object, expected: Tensor) -> None:
    """Compare what costs nothing first: the values may be far more than the file has bytes, as in an expanded view."""
    if type(value) is not Tensor:
        raise CheckpointError(f"{where}: {shown(value)}, expected a tensor")
    if value.is_nested:  # which has no shape
        raise CheckpointError(f"{where}: a nested tensor, expected shape {list(expected.shape)}")
    for name, found, wanted in (
        ("layout", value.layout, torch.strided),
        ("device", value.device.type, "cpu"),
        ("dtype", value.dtype, expected.dtype),
        ("shape", list(value.shape), list(expected.shape)),
    ):
        if found != wanted:
            given, needed = (str(one).removeprefix("torch.") for one in (found, wanted))
            raise CheckpointError(f"{where}: {name} {given}, expected {needed}")
    if not bool(torch.isfinite(value).all()):
        raise CheckpointError(f"{where}: not all of its values are finite numbers")


def _kind(expected: object) -> str:
    return "None" if expected is None else f"a value of type {type(expected).__name__}"
