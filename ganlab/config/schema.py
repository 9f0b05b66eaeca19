"""The top level of a config. The schema of a group's keys is the signature that its `_target_` names."""

from __future__ import annotations

import typing

from ganlab.config.effects import Adjustable, Fixed, NoEffect
from ganlab.config.ranges import Seed
from ganlab.config.signatures import bare


class OneOption:
    """A group from which a config selects one option."""


class NamedOptions:
    """A group from which a config can select several options, each under a name."""


class Schema:
    """The keys at the top level of a config: groups and values, each with its effect on the result."""

    dataset: Fixed[OneOption]
    model: Fixed[OneOption]
    condition: Fixed[OneOption]
    latent: Fixed[OneOption]
    init: Fixed[OneOption]
    loss: Fixed[OneOption]
    penalty: Adjustable[NamedOptions]
    augment: Fixed[OneOption]
    optimizer: Adjustable[OneOption]
    schedule: Adjustable[OneOption]
    trainer: Adjustable[OneOption]
    watchdog: Adjustable[OneOption]
    metrics: NoEffect[OneOption]
    tracker: NoEffect[NamedOptions]
    seed: Fixed[Seed]
    device: Adjustable[str]  # ganlab.training.devices validates it


KEYS = typing.get_type_hints(Schema, include_extras=True)
_KINDS = {key: bare(annotation) for key, annotation in KEYS.items()}
GROUPS = tuple(key for key, kind in _KINDS.items() if kind in (OneOption, NamedOptions))
NAMED_GROUPS = tuple(key for key, kind in _KINDS.items() if kind is NamedOptions)
VALUES = {key: annotation for key, annotation in KEYS.items() if key not in GROUPS}
