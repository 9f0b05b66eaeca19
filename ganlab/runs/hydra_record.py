"""Reads from Hydra's files how a run was composed, and decides which config keys distinguish runs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ganlab.config.key_effects import has_effect
from ganlab.config.run_config import ResolvedConfig
from ganlab.errors import CheckpointError
from ganlab.files import read_yaml

LAUNCH_GROUPS = ("sweep", "hydra")  # groups that define how runs are launched, not what they train


def read_hydra_record(folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Read Hydra's files in a run's folder: its own settings, and the overrides as typed."""
    overrides = [str(override) for override in _yaml(folder / ".hydra" / "overrides.yaml", [])]
    return _yaml(folder / ".hydra" / "hydra.yaml", {}), overrides


def choices(runtime: Mapping[str, Any]) -> dict[str, Any]:
    """Return group -> option, from Hydra's settings."""
    found = hydra_setting(runtime, "runtime", "choices")
    return {str(group): option for group, option in found.items()} if isinstance(found, Mapping) else {}


def hydra_setting(runtime: Mapping[str, Any], *names: str) -> Any:
    """Return one of Hydra's settings; None if it is not set."""
    node: Any = runtime
    for name in ("hydra", *names):
        node = node.get(name) if isinstance(node, Mapping) else None
    return node


def _yaml(file: Path, default: Any) -> Any:
    """Read a YAML file; return `default` if it is missing, damaged or of another type."""
    try:
        content = read_yaml(file)
    except CheckpointError:
        return default
    return content if isinstance(content, type(default)) else default


def settings_of(config: ResolvedConfig) -> dict[str, Any]:
    """Return the leaves of a config that can change the result, including the seed."""
    return dict(leaves(config.determining()))


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value with its dotted key. A list or an empty group is a single value."""
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def identifies_run(key: str) -> bool:
    """Whether a key, or a group, distinguishes runs."""
    return has_effect(key) and re.split("[/.]", key)[0] not in LAUNCH_GROUPS


def short_names(keys: Sequence[str], among: Iterable[str] = ()) -> dict[str, str]:
    """Return key -> its shortest suffix that is unique among all keys, or the whole key if no suffix is.

    Args:
        among: further keys from which the suffixes must differ.
    """
    endings = Counter(ending for key in {*keys, *among} for ending in _endings(key))
    return {key: next((ending for ending in _endings(key) if endings[ending] == 1), key) for key in keys}


def _endings(key: str) -> list[str]:
    parts = key.split(".")
    return [".".join(parts[start:]) for start in reversed(range(len(parts)))]
