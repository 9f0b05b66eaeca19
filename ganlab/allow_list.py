"""What may be built from the config in a run's folder, which is data that a stranger may have written.

The allow-list is closed: at each key, the constructors that ganlab's own config files name there. A new option of a
group joins it with its file. Modules of the user's own are trusted by name, never because they lie in the run's folder.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from ganlab.config_files import YamlLoader, conf_dir
from ganlab.errors import CheckpointError
from ganlab.signatures import is_special, locate

NAMED = ("penalty", "tracker")  # groups of several choices at once, each under a name
SAME_AS = {"penalty.*.schedule": "schedule"}  # keys that no config file sets, and the key whose constructors they take


@cache
def constructors() -> Mapping[str, frozenset[str]]:
    """Key -> the constructors that may stand there; `*` stands for a name of the user's choice."""
    found: dict[str, set[str]] = {}
    for file in conf_dir().glob("*/*.yaml"):
        text, group = file.read_text(), file.parent.name
        tree = yaml.load(text, Loader=YamlLoader)  # a safe one
        is_global = text.startswith("# @package _global_")
        for key, target in _targets(tree, "" if is_global else group):
            found.setdefault(key, set()).add(target)
    return {key: frozenset(names) for key, names in found.items()} | {
        key: frozenset(found[same]) for key, same in SAME_AS.items()
    }


def _targets(tree: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(tree, dict):
        if "_target_" in tree:
            yield key, tree["_target_"]
        for name, child in tree.items():
            yield from _targets(child, below(key, name))


def below(key: str, name: str) -> str:
    """The key of a child as `constructors` has it."""
    return f"{key}.*" if key in NAMED else f"{key}.{name}" if key else name


def refuse_foreign(tree: Any, folder: Path, trust: Iterable[str] = ()) -> None:
    """Refuse a config from a run's folder that would call anything but what is listed, or modules that are trusted.

    Args:
        folder: the run's, from which no module is imported.
        trust: names of the user's own modules.

    Raises:
        CheckpointError: the first key that is not allowed, with the reason.
    """
    _Check(folder, tuple(trust)).node(tree, key="", place="", in_trusted=False)
    extractor = tree.get("metrics", {}).get("extractor") if isinstance(tree.get("metrics"), dict) else None
    if isinstance(extractor, str) and "." in extractor:  # the one other value that names code
        _Check(folder, tuple(trust)).trusted("metrics.extractor", extractor)


class _Check(NamedTuple):
    folder: Path
    trust: tuple[str, ...]

    def node(self, node: Any, key: str, place: str, in_trusted: bool) -> None:
        """Walk a tree.

        Args:
            key: of the node, as the user writes it.
            place: the same, as `constructors` has it.
            in_trusted: whether it is an argument of a trusted constructor, which may take any object.
        """
        if isinstance(node, list):
            for index, child in enumerate(node):
                self.node(child, f"{key}[{index}]", f"{place}[]", in_trusted)
        elif isinstance(node, dict):
            if "_target_" in node:
                in_trusted = self.target(node["_target_"], key, place, in_trusted)
            for name, child in node.items():
                if is_special(name):
                    raise CheckpointError(f"{key}.{name}: not allowed; an argument is given by its name")
                self.node(child, f"{key}.{name}" if key else name, below(place, name), in_trusted)

    def target(self, target: object, key: str, place: str, in_trusted: bool) -> bool:
        """Whether a target is of a trusted module; if not, it is one that ganlab builds there."""
        if not isinstance(target, str):
            raise CheckpointError(f"{key}._target_={target}: must be the name of a class or function")
        listed = constructors()
        allowed = frozenset[str]().union(*listed.values()) if in_trusted else listed.get(place, frozenset())
        if target in allowed:
            return False
        if not in_trusted and place not in listed:
            raise CheckpointError(f"{key}._target_={target}: must be a value; no object is built there")
        self.trusted(f"{key}._target_", target)
        return True

    def trusted(self, key: str, target: str) -> None:
        """Refuse what is not defined in a trusted module that lies outside the run's folder."""
        is_ours = target.startswith("ganlab.")
        if is_ours or not self.trusts(target):
            hint = "" if is_ours else "; if it is your own, name its module in trust="
            raise CheckpointError(f"{key}={target}: not among the parts of ganlab that may stand there{hint}")
        path = target.split(".")[:-1]
        for end in range(1, len(path) + 1):  # from the top, as looking for a module imports the packages around it
            self.outside(key, ".".join(path[:end]))
        found = locate(key, target)
        module = getattr(found, "__module__", None)
        if hasattr(found, "__name__") and not self.trusts(f"{module}."):  # a definition, not an instance
            raise CheckpointError(f"{key}={target}: is defined in {module}, which trust= does not name")

    def trusts(self, name: str) -> bool:
        return any(name.startswith(f"{module}.") for module in self.trust)

    def outside(self, key: str, module: str) -> None:
        try:
            spec = importlib.util.find_spec(module)
        except (ImportError, ValueError) as error:
            raise CheckpointError(f"{key}: module {module} cannot be imported: {error}") from error
        places = [] if spec is None else [spec.origin, *(spec.submodule_search_locations or ())]
        if any(place and is_inside(place, self.folder) for place in places):
            raise CheckpointError(f"{key}: module {module} lies in the run's folder; no code is taken from there")


def refuse_imports_from(folder: Path) -> None:
    """Refuse to work on a run from which Python imports modules, as `python -m` does from the current folder.

    Raises:
        CheckpointError: a part of the import path lies in the run's folder.
    """
    if any(is_inside(path or ".", folder) for path in sys.path):
        raise CheckpointError(
            f"{folder}: Python imports modules from this folder; start the command in another one, or with python -P"
        )


def is_inside(path: str | Path, folder: Path) -> bool:
    return Path(path).resolve().is_relative_to(folder.resolve())
