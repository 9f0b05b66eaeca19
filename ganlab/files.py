"""Atomic replacement of files, and safe reading of YAML files."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from ganlab.errors import CheckpointError

MAX_BYTES = 2**20  # of a YAML file in a run's folder; a typical config has 5,000
MAX_VALUES = 10_000  # in a YAML file with aliases expanded; a short file can expand to billions
MAX_DEPTH = 40
MAX_DIGITS = 40  # of a number; longer ones may take hours to convert or overflow when formatted
# Raised by PyYAML on damaged files; the last four on tags with invalid values, such as `!!bool maybe`
UNREADABLE = (OSError, yaml.YAMLError, RecursionError, ValueError, LookupError, AttributeError, ArithmeticError)
SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml is ten times faster

SafeDumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class YamlLoader(SafeLoader):
    """PyYAML's safe loader with a limit on the length of numbers and without merge keys.

    Merge keys are refused because they multiply entries, as aliases do.
    """

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Leave `<<` in the tree: it has no constructor, so loading fails."""

    def construct_short_int(self, node: yaml.ScalarNode) -> int:
        return int(self.construct_yaml_int(short(node)))

    def construct_short_float(self, node: yaml.ScalarNode) -> float:
        return float(self.construct_yaml_float(short(node)))


YamlLoader.add_constructor("tag:yaml.org,2002:int", YamlLoader.construct_short_int)
YamlLoader.add_constructor("tag:yaml.org,2002:float", YamlLoader.construct_short_float)


def short(number: yaml.ScalarNode) -> yaml.ScalarNode:
    """Return the node unchanged.

    Raises:
        ValueError: the number has more than `MAX_DIGITS` characters.
    """
    if len(number.value) > MAX_DIGITS:
        raise ValueError(f"line {number.start_mark.line + 1}: a number of more than {MAX_DIGITS} digits")
    return number


def replace_file(path: Path, content: bytes) -> None:
    """Replace a file atomically: after a power failure, either the old or the new content is complete."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    with temporary.open("xb") as file:  # does not follow symbolic links
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


class YamlDumper(SafeDumper):
    """PyYAML's safe dumper, which also quotes strings that only YAML 1.2 reads as numbers, such as `1e-3`."""

    def represent_string(self, value: str) -> yaml.ScalarNode:
        style = "'" if re.fullmatch(r"[-+]?[0-9_.]+([eE][-+]?[0-9_]+)?", value) else None
        node: yaml.ScalarNode = self.represent_scalar("tag:yaml.org,2002:str", value, style=style)
        return node


YamlDumper.add_representer(str, YamlDumper.represent_string)


def as_yaml(tree: Any) -> bytes:
    """Format dictionaries, lists, strings, numbers, booleans and None as YAML, for `read_yaml` and for OmegaConf."""
    text: str = yaml.dump(tree, Dumper=YamlDumper, sort_keys=False, allow_unicode=True, default_flow_style=False)
    return text.encode()


def read_yaml(file: Path) -> Any:
    """Read a YAML file as dictionaries, lists, strings, numbers, booleans and None; interpolations are not resolved.

    Raises:
        CheckpointError: the file cannot be read, is too large or too deeply nested, or contains other types.
    """
    try:
        if not file.is_file():
            raise CheckpointError(f"{file}: no such file")
        with file.open("rb") as opened:
            text = opened.read(MAX_BYTES + 1)
        if len(text) > MAX_BYTES:
            raise CheckpointError(f"{file}: must have at most {MAX_BYTES:,} bytes")
        content = yaml.load(text, Loader=YamlLoader)  # a safe loader
        for number, (key, value) in enumerate(values_in(content)):
            if number == MAX_VALUES:
                raise CheckpointError(f"{file}: must have at most {MAX_VALUES:,} values")
            if not isinstance(value, str | int | float | None) and value not in ({}, []):
                raise CheckpointError(f"{file}: {key} is a {type(value).__name__}, must be a string, number or list")
    except UNREADABLE as error:
        raise CheckpointError(f"{file}: cannot be read: {' '.join(str(error).split())}") from error
    return content


def values_in(tree: Any, key: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield (key, value) for every leaf of nested dictionaries and lists.

    Keys look like `optimizer.generator.betas[0]`. An empty dictionary or list counts as a
    value, so that the number of values bounds the work.

    Raises:
        ValueError: the tree is nested too deeply, or a key of a dictionary is not a string.
    """
    if depth > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
    if isinstance(tree, dict) and tree:
        for name, child in tree.items():
            if not isinstance(name, str):
                raise ValueError(f"the key {name!r} is not a string")
            yield from values_in(child, f"{key}.{name}" if key else name, depth + 1)
    elif isinstance(tree, list) and tree:
        for index, child in enumerate(tree):
            yield from values_in(child, f"{key}[{index}]", depth + 1)
    else:
        yield key, tree
