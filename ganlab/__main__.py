"""The train command: `python -m ganlab [overrides]`, `-m` for a sweep, `resume=<run folder>` to go on.

Nothing heavy is imported before the config stands, so `--help` and a mistyped key answer at once.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from ganlab import command_line, config
from ganlab.config_files import CONFIG_NAME, conf_dir
from ganlab.errors import ConfigError, GanlabError, OperationalError, Stopped
from ganlab.signals import StopSignal

if TYPE_CHECKING:
    from ganlab.runs import RunFolder
    from ganlab.trackers import Tracker

log = logging.getLogger(__name__)


def main() -> None:
    arguments = sys.argv[1:]
    resumed = any(argument.startswith("resume=") for argument in arguments)
    sys.exit(command_line.run(lambda: resume(arguments) if resumed else launch(), arguments))


def launch() -> None:
    """One run, or a sweep of them, as Hydra reads the command line."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come back here, where they get their message and exit code
    sys.argv[1:] = command_line.flags_first(sys.argv[1:])
    here = os.getpid()
    failures: list[int] = []  # their exit codes

    def job(cfg: DictConfig) -> None:
        hydra_cfg = HydraConfig.get()
        try:
            train(cfg, Path(hydra_cfg.runtime.output_dir))
        except Stopped as error:
            raise SystemExit(command_line.say(error)) from error  # Hydra would start a sweep's next job
        except GanlabError as error:
            if os.getpid() != here:
                raise  # a launcher of other processes: Hydra brings the error back
            sweeps = hydra_cfg.mode is not RunMode.RUN
            name = f"job {hydra_cfg.job.num} ({' '.join(hydra_cfg.overrides.task)})" if sweeps else ""
            failures.append(command_line.say(error, name))  # a sweep goes on

    hydra.main(config_path=str(conf_dir()), config_name=CONFIG_NAME, version_base="1.3")(job)()
    if failures:
        raise SystemExit(failures[0])


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
        GanlabError: as its kind says; a run that ends before its first step leaves no folder.
    """
    from ganlab.build import build
    from ganlab.runs import RunFolder

    run = RunFolder(folder)
    try:
        trainer = build(cfg, run, resume=resume)
    except BaseException:
        run.close()
        if not resume:
            logging.shutdown()
            run.discard()
        raise
    if resume:
        config.save(cfg, folder)
    log.info("Run folder: %s", os.path.relpath(folder))
    log.info("%s", trainer.summary())
    trainer.tracker.start(folder, run.result["id"], config.plain(cfg))
    with StopSignal() as stop:
        try:
            trainer.train(stop)
        except BaseException as error:
            ended = as_ganlab_error(error)
            finish(cfg, run, trainer.tracker, ended.status, str(ended), ended.exit_code)
            if ended is error:
                raise
            raise ended from error
        finish(cfg, run, trainer.tracker, "done", None, 0)


def finish(cfg: DictConfig, run: RunFolder, tracker: Tracker, status: str, error: str | None, exit_code: int) -> None:
    """Write down how a run ended, and say so."""
    from ganlab.figures import report

    run.update(status=status, error=error)
    tracker.finish(exit_code, run.result)
    report.write(run, config.plain(cfg))
    run.close()
    log.info("Run folder: %s (%s)", os.path.relpath(run.path), status)


def as_ganlab_error(error: BaseException) -> GanlabError:
    """What ended a run, as an error with a message, a status and an exit code. The unexpected leaves its traceback."""
    if isinstance(error, GanlabError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return Stopped("stopped at once by a second signal", signal.SIGINT)
    if isinstance(error, OSError):
        return OperationalError(str(error))
    log.error("The run failed", exc_info=error)
    return OperationalError(f"{type(error).__name__}: {error} (traceback above and in ganlab.log)")


if __name__ == "__main__":
    main()
