"""Looks up which config keys change the result of a run, from the declarations in the signatures."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from ganlab.config.allow_list import constructors
from ganlab.config.effects import Effect, effect_in
from ganlab.config.schema import GROUPS, KEYS
from ganlab.config.signatures import locate, parameters_of


@cache
def declared_effects() -> Mapping[str, Effect]:
    """Return key -> effect, for every key that declares one.

    Only ganlab's own constructors are read, so that a config from an untrusted source imports nothing. A key of the
    user's own constructor has the effect of the key with the same name in ganlab's constructors of that group.
    """
    found = {key: effect_in(annotation) for key, annotation in KEYS.items()}
    for group in GROUPS:
        for target in constructors().get(group, ()):
            for name, parameter in parameters_of(locate(group, target)).items():
                found[f"{group}.{name}"] = effect_in(parameter.annotation) or found.get(f"{group}.{name}")
    return {key: effect for key, effect in found.items() if effect is not None}


def effect_of(key: str) -> Effect:
    """Return the effect of a key or group: its own, or that of the innermost key above it that declares one.

    Unknown keys count as fixed.
    """
    while key and key not in declared_effects():
        key = key.rpartition(".")[0]
    return declared_effects().get(key, Effect.FIXED)


def has_effect(key: str) -> bool:
    """Whether a key, or a group, can change the result of a run."""
    return effect_of(key) is not Effect.NONE
