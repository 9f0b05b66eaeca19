"""Annotations that declare whether a config key changes the result of a run: `batch_size: Fixed[PositiveInt] = 64`.

A group declares the effect of all its keys in `ganlab.config.schema`. A constructor that has a key with another effect
declares the effect of each of its parameters.
"""

from __future__ import annotations

import typing
from enum import Enum
from typing import Annotated, Any, TypeVar


class Effect(Enum):
    """Whether a key can change the result, and whether a resumed run may change the key."""

    FIXED = "part of the config hash; another value would make it another run"
    ADJUSTABLE = "part of the config hash; may change on resume"
    NONE = "not part of the config hash; may change on resume"


Value = TypeVar("Value")
Fixed = Annotated[Value, Effect.FIXED]
Adjustable = Annotated[Value, Effect.ADJUSTABLE]
NoEffect = Annotated[Value, Effect.NONE]


def effect_in(annotation: Any) -> Effect | None:
    """Return the effect that an annotation declares; None if it declares none."""
    if typing.get_origin(annotation) is not Annotated:
        return None
    return next((mark for mark in typing.get_args(annotation)[1:] if isinstance(mark, Effect)), None)
