"""The train command: `python -m ganlab [overrides]`, `-m` for a sweep, `resume=<run folder>` to go on.

Nothing heavy is imported before the config stands, so `--help` and a mistyped key answer at once.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from ganlab import command_line, config
from ganlab.errors import ConfigError, GanlabError, OperationalError, Refused, Stopped

log = logging.getLogger(__name__)


def main() -> None:
    arguments = sys.argv[1:]
    resumed = any(argument.startswith("resume=") for argument in arguments)
    sys.exit(command_line.run(lambda: resume(arguments) if resumed else launch(), arguments))


def launch() -> None:
    """One run, or a sweep of them, as Hydra reads the command line."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come back here, where they get their message and exit code
    ended: list[GanlabError] = []

    def job(cfg: DictConfig) -> None:
        try:
            train(cfg, Path(HydraConfig.get().runtime.output_dir))
        except GanlabError as error:
            if HydraConfig.get().mode is not RunMode.RUN:
                raise  # a sweep goes on, and Hydra tells at its end
            ended.append(error)

    hydra.main(config_path=str(config.conf_dir()), config_name=config.CONFIG_NAME, version_base="1.3")(job)()
    if ended:
        raise ended[0]


def resume(arguments: list[str]) -> None:
    """Continue a run in place; `trust=` names own modules, other arguments change single values of its config."""
    given = dict(argument.partition("=")[::2] for argument in arguments)
    folder, trust = Path(given.pop("resume")), given.pop("trust", "").strip("[]")
    flags = [argument for argument in arguments if argument.startswith("-")]
    if flags:
        raise ConfigError(f"{flags[0]}: does not go with resume=, which continues one run")
    cfg = config.load(folder, trust=[name.strip() for name in trust.split(",") if name.strip()])
    config.override(cfg, [f"{key}={value}" for key, value in given.items()])
    command_line.configure_logging(folder)
    train(cfg, folder, resume=True)


def train(cfg: DictConfig, folder: Path, *, resume: bool = False) -> None:
    """Train one run in its folder, and leave there how it ended.

    Raises:
        GanlabError: as its kind says; a run refused before its first step leaves no folder.
    """
    from ganlab.build import build
    from ganlab.figures import report
    from ganlab.runs import RunFolder

    run = RunFolder(folder)
    try:
        trainer = build(cfg, run, resume=resume)
    except Refused:
        if not resume:
            logging.shutdown()
            run.discard()
        raise
    shown = os.path.relpath(folder)
    log.info("Run folder: %s", shown)
    log.info("%s", trainer.summary())
    run.update(status="running", error=None)
    trainer.tracker.start(folder, run.result["id"], config.plain(cfg))
    try:
        trainer.train()
    except BaseException as error:
        ended = as_ganlab_error(error)
        run.update(status=ended.status, error=str(ended))
        trainer.tracker.finish(ended.exit_code, run.result)
        log.info("Run folder: %s (%s)", shown, ended.status)
        raise ended from error
    run.update(status="done")
    trainer.tracker.finish(0, run.result)
    report.write(run, config.plain(cfg))
    log.info("Run folder: %s (done)", shown)


def as_ganlab_error(error: BaseException) -> GanlabError:
    """What ended a run, as an error with a message, a status and an exit code. The unexpected leaves its traceback."""
    if isinstance(error, GanlabError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return Stopped("stopped by a second signal before it could save", signal.SIGINT)
    if isinstance(error, OSError):
        return OperationalError(str(error))
    log.error("The run failed", exc_info=error)
    return OperationalError(f"{type(error).__name__}: {error} (traceback above and in ganlab.log)")


if __name__ == "__main__":
    main()
