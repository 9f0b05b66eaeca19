"""Runs a command: parses `key=value` arguments, prints errors as one line and maps them to exit codes."""

from __future__ import annotations

import inspect
import logging.config
import os
import string
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from ganlab.config.conf_files import CONFIG_NAME, conf_dir
from ganlab.config.hydra_errors import explain, first_line
from ganlab.config.hydra_internals import flag_parser, initialize_hydra, raised_by_hydra
from ganlab.config.signatures import bind, parameters_of
from ganlab.config.terminal import LogFormatter, printable, printable_traceback
from ganlab.errors import ConfigError, GanlabError, OperationalError


def run(command: Callable[[], object], arguments: Sequence[str]) -> int:
    """Run a command and return its exit code; an error meant for the user is printed as one line."""
    log_warnings_to_stderr()
    try:
        command()
    except GanlabError as error:
        return say(error)
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        return _say(explain(error, arguments), ConfigError.exit_code)
    except KeyboardInterrupt:
        return _say("interrupted", 130)
    except BrokenPipeError:  # the reader of our output, such as `head`, has exited
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except MemoryError as error:
        return _say(f"out of memory: {error}", 1)
    except OSError as error:
        return _say(str(error), 1)
    except Exception as error:  # noqa: BLE001
        if raised_by_hydra(error):
            return _say(explain(error, arguments), ConfigError.exit_code)  # for some bad configs it raises a ValueError
        # a bug in ganlab or in the user's modules: print the whole traceback
        print(printable_traceback(traceback.format_exc()), file=sys.stderr)
        return 1
    return 0


def say(error: GanlabError, job: str = "") -> int:
    """Print an error as one line, and return its exit code.

    Args:
        job: the job of a sweep in which the error occurred; empty outside sweeps.
    """
    return _say(f"{job}{': ' if job else ''}{error}", error.exit_code)


def _say(message: str, exit_code: int) -> int:
    with suppress(OSError):  # the terminal is closed
        print(f"ganlab: {printable(' '.join(message.split()))}", file=sys.stderr)
    return exit_code


def call(function: Callable[..., object], arguments: Sequence[str], groups: Sequence[str] = ()) -> object:
    """Call a function with `key=value` arguments, read as YAML and checked against its annotations.

    Arguments of a config group, such as `dataset.path=value`, are not parsed here. They are passed as text in the
    function's argument `overrides`.

    Raises:
        ConfigError: an argument is unknown, missing or invalid.
    """
    if {"-h", "--help"} & set(arguments):
        print(inspect.getdoc(function))
        return None
    names = [name for name in inspect.signature(function).parameters if name != "overrides"]
    overrides = [a for a in arguments if a.partition(".")[0] in groups and "=" in a]
    arguments = [a for a in arguments if a not in overrides]
    for argument in arguments:
        if argument.partition("=")[0] not in names or "=" not in argument:
            raise ConfigError(f"{argument}: must be key=value with key one of {', '.join(names)}")
    given: dict[str, Any] = {"overrides": overrides} if overrides else {}
    for argument in arguments:
        key, _, value = argument.partition("=")
        is_text = parameters_of(function)[key].annotation in (str, str | None)
        given[key] = value if is_text else yaml_value(key, value)  # out=1 and label=007 stay text
    bind(function, given, function.__name__)
    return function(**given)


def flags_first(arguments: Sequence[str]) -> list[str]:
    """Move the overrides to the end: Hydra accepts them only there, without flags between them.

    Raises:
        ConfigError: a flag is unknown or has an invalid value.
    """
    parser = flag_parser()
    parser.error = _refuse  # type: ignore[method-assign]  # argparse would print its whole usage and exit
    known, others = parser.parse_known_args(list(arguments))
    unknown = [argument for argument in others if argument.startswith("-")]
    if unknown:
        raise ConfigError(f"{unknown[0]}: no such flag; python -m ganlab --hydra-help lists them")
    overrides = [*known.overrides, *others]
    return [argument for argument in arguments if argument not in overrides] + overrides


def help_text(overrides: Sequence[str]) -> str:
    """Return the text of `--help`, from Hydra's template; Hydra itself takes a second longer to fill it in."""
    with initialize_hydra():
        cfg = compose(CONFIG_NAME, list(overrides), return_hydra_config=True)
        loader = GlobalHydra.instance().config_loader()
        options = {group: sorted(loader.get_group_options(group)) for group in sorted(loader.list_groups(""))}
    return string.Template(cfg.hydra.help.template).substitute(
        APP_CONFIG_GROUPS="".join(f"{group}: {', '.join(options[group])}\n" for group in options if group != "hydra"),
        CONFIG=OmegaConf.to_yaml(OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])),
    )


def _refuse(message: str) -> NoReturn:
    raise ConfigError(message)


def yaml_value(key: str, text: str) -> Any:
    """Return the value that Hydra would read from `key=text`.

    Raises:
        ConfigError: the text cannot be parsed.
    """
    try:
        return OverridesParser.create().parse_override(f"{key}={text}").value()
    except HydraException as error:
        raise ConfigError(f"{key}={text}: cannot be parsed: {first_line(error)}") from error


def log_warnings_to_stderr() -> None:
    """Log warnings to stderr, escaped, until a run configures logging: Python's default handler does not escape."""
    terminal = logging.StreamHandler()
    terminal.setFormatter(LogFormatter())
    logging.basicConfig(handlers=[terminal])


def configure_logging(folder: Path) -> None:
    """Log as Hydra does for a new run: messages to the terminal, and with time stamps to the run's `ganlab.log`.

    Raises:
        OperationalError: the log cannot be written.
    """
    settings = OmegaConf.load(conf_dir() / "hydra" / "job_logging" / "ganlab.yaml")
    OmegaConf.update(settings, "handlers.file.filename", str(folder / "ganlab.log"))
    try:
        logging.config.dictConfig(OmegaConf.to_container(settings))  # type: ignore[arg-type]
    except ValueError as error:  # logging wraps the error of the file handler
        raise OperationalError(f"{folder / 'ganlab.log'}: cannot be written: {error.__cause__}") from error
