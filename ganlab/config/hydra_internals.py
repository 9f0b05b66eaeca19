"""What ganlab uses of Hydra beyond the public API that versions 1.3 and 1.4 share, each with the reason.

No other module imports anything from `hydra._internal`.
"""

from __future__ import annotations

import traceback
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import hydra
from hydra import initialize_config_dir
from hydra._internal import config_loader_impl
from hydra._internal.core_plugins import basic_sweeper
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.types import Override
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig

from ganlab.config.conf_files import CONFIG_NAME, conf_dir

_IS_1_3 = hydra.__version__.startswith("1.3.")
# Hydra 1.3 warns without version_base, Hydra 1.4 with it.
_VERSION_BASE: dict[str, Any] = {"version_base": "1.3"} if _IS_1_3 else {}


def initialize_hydra() -> AbstractContextManager[None]:
    """Let Hydra compose from ganlab's config files, inside a `with` block."""
    return initialize_config_dir(str(conf_dir()), **_VERSION_BASE)


def hydra_main(task: Callable[..., Any], *classes: type) -> Callable[[], None]:
    """Return Hydra's command line, which composes the config and calls the task.

    Args:
        classes: all classes that Hydra itself creates from ganlab's config. Hydra 1.4 warns without a list of them.
    """
    names = [f"{cls.__module__}.{cls.__qualname__}" for cls in classes]
    allowed: dict[str, Any] = {} if _IS_1_3 else {"execution_whitelist": names}
    decorator = hydra.main(config_path=str(conf_dir()), config_name=CONFIG_NAME, **_VERSION_BASE, **allowed)
    return decorator(task)


def instantiate_checked(node: Any) -> Any:
    """Create the object that a node of a validated config describes; it can call only the targets that it names."""
    allowed: dict[str, Any] = {} if _IS_1_3 else {"_execution_whitelist_": list(_targets_in(node))}
    return instantiate(node, _convert_="all", **allowed)


def _targets_in(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        yield from (str(value) for name, value in node.items() if name == "_target_")
    for child in node.values() if isinstance(node, Mapping) else node if isinstance(node, list) else ():
        yield from _targets_in(child)


def flag_parser() -> ArgumentParser:
    """Return the parser of Hydra's flags. Hydra publishes no list of them, and it differs between versions."""
    return get_args_parser()


def is_basic_sweeper(sweeper: DictConfig) -> bool:
    """Whether `hydra.sweeper` is Hydra's default, which runs a grid and ignores what the jobs return.

    Sweepers have no attribute that says so, and the class of the default is internal. It is looked up late, as Hydra
    executes the modules of its plugins again when it searches for plugins.
    """
    return issubclass(get_class(sweeper._target_), basic_sweeper.BasicSweeper)


def record_overrides(config: DictConfig, overrides: Sequence[Override]) -> None:
    """Record the overrides of a job in its config, as Hydra does when it composes the config."""
    task = [override for override in overrides if not override.is_hydra_override()]
    config.hydra.overrides.task = [override.input_line for override in task]
    if _IS_1_3:  # Hydra 1.4 has a resolver instead
        settings = config.hydra.job.config.override_dirname
        config.hydra.job.override_dirname = config_loader_impl.get_overrides_dirname(task, **settings)


def raised_by_hydra(error: Exception) -> bool:
    """Whether an error was raised in Hydra's code, which raises a plain ValueError for some bad configs.

    The module is compared, not its path: a checkout may be in a folder with any name.
    """
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] == hydra.__name__
