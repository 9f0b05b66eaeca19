"""An annotation for numbers in which the members of a population may differ: `lr: Stackable[Positive] = 1e-3`."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from ganlab.config.signatures import locate, parameters_of


class _Stackable:
    """Marks a number that `ganlab.training.population` stacks."""


Value = TypeVar("Value")
Stackable = Annotated[Value, _Stackable()]


def without_stackable(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a validated config in which runs must agree to train as one population.

    Stackable numbers are replaced by a placeholder, as None is another choice than a number. Of the keys at the top
    level, the seed and the trackers are left out.
    """
    return {key: _without(key, value) for key, value in tree.items() if key not in ("seed", "tracker")}


def _without(key: str, node: Any) -> Any:
    if isinstance(node, Mapping):
        stackable = _stackable_parameters(key, str(node["_target_"])) if "_target_" in node else set()
        return {
            name: "number" if name in stackable and child is not None else _without(f"{key}.{name}", child)
            for name, child in node.items()
        }
    return [_without(key, child) for child in node] if isinstance(node, list) else node


def _stackable_parameters(key: str, target: str) -> set[str]:
    parameters = parameters_of(locate(key, target)).items()
    return {name for name, parameter in parameters if is_stackable(parameter.annotation)}


def is_stackable(annotation: Any) -> bool:
    arguments = typing.get_args(annotation) if typing.get_origin(annotation) is Annotated else ()
    return any(isinstance(argument, _Stackable) for argument in arguments)
