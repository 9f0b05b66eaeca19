"""What ganlab uses of Hydra beyond the public API that versions 1.3 and 1.4 share, each with the reason.

No other module imports anything from `hydra._internal`.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import hydra
from hydra import initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.utils import get_class
from omegaconf import DictConfig

from ganlab.config.conf_files import conf_dir

_IS_1_3 = hydra.__version__.startswith("1.3.")

# Hydra 1.3 warns without version_base, Hydra 1.4 with it.
VERSION_BASE: dict[str, Any] = {"version_base": "1.3"} if _IS_1_3 else {}


def initialize_hydra() -> AbstractContextManager[None]:
    """Let Hydra compose from ganlab's config files, inside a `with` block."""
    return initialize_config_dir(str(conf_dir()), **VERSION_BASE)


def execution_whitelist(targets: Iterable[str], parameter: str = "_execution_whitelist_") -> dict[str, Any]:
    """Return the argument that permits Hydra to call these targets, which only Hydra 1.4 has, and warns without.

    Args:
        parameter: its name, which has no underscores in `hydra.main`.
    """
    return {} if _IS_1_3 else {parameter: list(targets)}


def targets_in(node: Any) -> Iterator[str]:
    """Yield every `_target_` at any depth of a node."""
    if isinstance(node, Mapping):
        yield from (str(value) for name, value in node.items() if name == "_target_")
        for child in node.values():
            yield from targets_in(child)
    elif isinstance(node, list):
        for child in node:
            yield from targets_in(child)


def flag_parser() -> ArgumentParser:
    """Return the parser of Hydra's flags. Hydra offers no other list of them, and their number grows."""
    return get_args_parser()


def is_basic_sweeper(sweeper: DictConfig) -> bool:
    """Whether `hydra.sweeper` is Hydra's default, which runs a grid and ignores what the jobs return.

    Sweepers have no attribute that says so, and Hydra does not export the class of its default.
    """
    return issubclass(get_class(sweeper._target_), BasicSweeper)
