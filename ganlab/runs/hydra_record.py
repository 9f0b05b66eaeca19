"""How a run was composed: what Hydra left of it in the run's folder, and which of its keys tell it from others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ganlab.config import run_config
from ganlab.errors import CheckpointError
from ganlab.files import read_yaml

NOT_OF_A_RUN = ("sweep", "hydra")  # groups that say how runs are started, not what they are


def composition(folder: Path) -> tuple[dict[str, Any], list[str]]:
    """What Hydra left of how it composed the run in a folder: its own settings, and the overrides as typed."""
    overrides = [str(override) for override in _yaml(folder / ".hydra" / "overrides.yaml", [])]
    return _yaml(folder / ".hydra" / "hydra.yaml", {}), overrides


def choices(runtime: Mapping[str, Any]) -> dict[str, Any]:
    """Group -> option, from Hydra's settings."""
    found = setting(runtime, "runtime", "choices")
    return {str(group): option for group, option in found.items()} if isinstance(found, Mapping) else {}


def setting(runtime: Mapping[str, Any], *names: str) -> Any:
    """One of Hydra's settings; None: it is not set."""
    node: Any = runtime
    for name in ("hydra", *names):
        node = node.get(name) if isinstance(node, Mapping) else None
    return node


def _yaml(file: Path, otherwise: Any) -> Any:
    """What a file holds; where it is missing, damaged or of another kind: something else."""
    try:
        content = read_yaml(file)
    except CheckpointError:
        return otherwise
    return content if isinstance(content, type(otherwise)) else otherwise


def settings_of(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The leaves of a plain config that decide the result, the seed among them."""
    return {key: value for key, value in leaves(tree) if has_effect(key)}


def has_effect(key: str) -> bool:
    """Whether a key, or a group, can change the result of a run."""
    return not any(f"{key}.".startswith(f"{other}.") for other in (*run_config.WITHOUT_EFFECT, "hydra"))


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value with its dotted key. A list is one value, and so is an empty group."""
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def is_of_a_run(key: str) -> bool:
    """Whether a key, or a group, tells one run from another."""
    return has_effect(key) and key.partition("/")[0] not in NOT_OF_A_RUN


def short_names(keys: Sequence[str], among: Iterable[str] = ()) -> dict[str, str]:
    """Key -> its last parts, as many as no other key ends in; whole where another key ends in all of it.

    Args:
        among: further keys that must not be meant.
    """
    endings = Counter(ending for key in {*keys, *among} for ending in _endings(key))
    return {key: next((ending for ending in _endings(key) if endings[ending] == 1), key) for key in keys}


def _endings(key: str) -> list[str]:
    parts = key.split(".")
    return [".".join(parts[start:]) for start in reversed(range(len(parts)))]
