"""The allow-list of constructors for the config in a run's folder, which may come from an untrusted source.

At each key, only the constructors that ganlab's own config files name there are allowed; a new config file extends the
list. A user's own modules must be named in `trust=` and must be outside the run's folder.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from ganlab.config.conf_files import conf_dir
from ganlab.config.signatures import is_reserved, locate
from ganlab.errors import CheckpointError
from ganlab.files import YamlLoader

NAMED_GROUPS = ("penalty", "tracker")  # groups that take several options at once, each under a name
SAME_CONSTRUCTORS_AS = {"penalty.*.schedule": "schedule"}  # keys that no config file sets


@cache
def constructors() -> Mapping[str, frozenset[str]]:
    """Key pattern -> allowed constructors; `*` in a pattern matches a name that the user chooses."""
    found: dict[str, set[str]] = {}
    for file in conf_dir().glob("*/*.yaml"):
        text, group = file.read_text(), file.parent.name
        tree = yaml.load(text, Loader=YamlLoader)  # a safe loader
        is_global = text.startswith("# @package _global_")
        for key, target in _targets(tree, "" if is_global else group):
            found.setdefault(key, set()).add(target)
    return {key: frozenset(names) for key, names in found.items()} | {
        key: frozenset(found[same]) for key, same in SAME_CONSTRUCTORS_AS.items()
    }


def _targets(tree: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(tree, dict):
        if "_target_" in tree:
            yield key, tree["_target_"]
        for name, child in tree.items():
            yield from _targets(child, child_pattern(key, name))


def child_pattern(pattern: str, name: str) -> str:
    """Return the key pattern of a child, as in `constructors`."""
    return f"{pattern}.*" if pattern in NAMED_GROUPS else f"{pattern}.{name}" if pattern else name


def refuse_disallowed(tree: Any, folder: Path, trust: Iterable[str] = ()) -> None:
    """Refuse a config from a run's folder if it names anything but allowed constructors and trusted modules.

    Args:
        folder: the run's folder, from which no module may be imported.
        trust: names of the user's own modules.

    Raises:
        CheckpointError: a key is not allowed; the message names the first one.
    """
    _ConfigChecker(folder, tuple(trust)).check_node(tree, key="", pattern="", in_trusted=False)


class _ConfigChecker(NamedTuple):
    folder: Path
    trust: tuple[str, ...]

    def check_node(self, node: Any, key: str, pattern: str, in_trusted: bool) -> None:
        """Check a node and, recursively, its children.

        Args:
            key: key of the node in the config.
            pattern: key pattern of the node, as in `constructors`.
            in_trusted: whether the node is an argument of a trusted constructor, which may take any object.
        """
        if isinstance(node, list):
            for index, child in enumerate(node):
                self.check_node(child, f"{key}[{index}]", f"{pattern}[]", in_trusted)
        elif isinstance(node, dict):
            if "_target_" in node:
                in_trusted = self.check_target(node["_target_"], key, pattern, in_trusted)
            for name, child in node.items():
                if is_reserved(name):
                    raise CheckpointError(f"{key}.{name}: must not be set in a run's config; pass arguments by name")
                child_key = f"{key}.{name}" if key else name
                if name == "extractor" and "." in str(child) and node.get("_target_") in constructors()["metrics"]:
                    self.check_trusted(child_key, str(child))  # the only other value that names code
                self.check_node(child, child_key, child_pattern(pattern, name), in_trusted)

    def check_target(self, target: object, key: str, pattern: str, in_trusted: bool) -> bool:
        """Refuse a target that is not allowed; return whether it is from a trusted module."""
        if not isinstance(target, str):
            raise CheckpointError(f"{key}._target_={target}: must be the name of a class or function")
        listed = constructors()
        allowed = frozenset[str]().union(*listed.values()) if in_trusted else listed.get(pattern, frozenset())
        if target in allowed:
            return False
        if not in_trusted and pattern not in listed:
            raise CheckpointError(f"{key}._target_={target}: must be a plain value; no object is built from this key")
        self.check_trusted(f"{key}._target_", target)
        return True

    def check_trusted(self, key: str, target: str) -> None:
        """Refuse a target that is not defined in a trusted module outside the run's folder."""
        is_ours = target.startswith("ganlab.")
        if is_ours or not self.is_trusted(target):
            hint = (
                "the run is of another version of ganlab, or its config was edited"
                if is_ours
                else "if it is your own, name its module in trust="
            )
            raise CheckpointError(
                f"{key}={target}: must be a constructor that ganlab's configs use for this key; {hint}"
            )
        path = target.split(".")[:-1]
        for end in range(1, len(path) + 1):  # outermost first: find_spec imports the parent packages
            self.check_outside_folder(key, ".".join(path[:end]))
        found = locate(key, target)
        module = getattr(found, "__module__", None)
        if hasattr(found, "__name__") and not self.is_trusted(f"{module}."):  # a definition, not an instance
            raise CheckpointError(f"{key}={target}: is defined in {module}, which must be named in trust=")

    def is_trusted(self, name: str) -> bool:
        return any(name.startswith(f"{module}.") for module in self.trust)

    def check_outside_folder(self, key: str, module: str) -> None:
        try:
            spec = importlib.util.find_spec(module)
        except (ImportError, ValueError) as error:
            raise CheckpointError(f"{key}: module {module} cannot be imported: {error}") from error
        places = [] if spec is None else [spec.origin, *(spec.submodule_search_locations or ())]
        if any(place and is_inside(place, self.folder) for place in places):
            raise CheckpointError(f"{key}: module {module} is inside the run's folder; move it elsewhere")


def refuse_imports_from(folder: Path) -> None:
    """Refuse a run's folder that is on Python's import path, as the current directory is under `python -m`.

    Raises:
        CheckpointError: an entry of `sys.path` is inside the folder.
    """
    if any(is_inside(path or ".", folder) for path in sys.path):
        raise CheckpointError(
            f"{folder}: Python imports modules from this folder; change to another directory or use python -P"
        )


def is_inside(path: str | Path, folder: Path) -> bool:
    return Path(path).resolve().is_relative_to(folder.resolve())
