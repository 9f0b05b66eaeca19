"""The train command: `python -m ganlab [overrides]`, `-m` for a sweep, `resume=FOLDER` to go on.

Nothing heavy is imported before the config stands, so `--help` and a mistyped key answer at once.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from omegaconf import DictConfig

from ganlab import command_line, config
from ganlab.callbacks import RefuseBadConfig
from ganlab.config_files import CONFIG_NAME, conf_dir
from ganlab.errors import CheckpointError, ConfigError, GanlabError, OperationalError, Stopped
from ganlab.runs import RunFolder
from ganlab.signals import StopSignal
from ganlab.sweeps.jobs import identity, job

if TYPE_CHECKING:
    from ganlab.trainer import Trainer

log = logging.getLogger(__name__)


def main() -> None:
    if not sys.flags.safe_path:  # python -P
        sys.path.append("")  # the current directory, last: a user's modules are found and shadow no installed package
    arguments = sys.argv[1:]
    resumed = any(argument.startswith("resume=") for argument in arguments)
    sys.exit(command_line.run(lambda: resume(arguments) if resumed else launch(), arguments))


def launch() -> None:
    """One run, or a sweep of them, as Hydra reads the command line."""
    arguments = command_line.flags_first(sys.argv[1:])
    if arguments and arguments[0] in ("-h", "--help") and not any(other.startswith("-") for other in arguments[1:]):
        print(command_line.help_text(arguments[1:]))
        return
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come back here, where they get their message and exit code
    sys.argv[1:] = [in_sweep_folder(argument) for argument in arguments]
    try:
        hydra.main(config_path=str(conf_dir()), config_name=CONFIG_NAME, version_base="1.3")(job)()
    finally:
        RefuseBadConfig.leave()


def in_sweep_folder(argument: str) -> str:
    """`sweep_dir=` as Hydra calls it; its value is taken as it stands."""
    key, _, folder = argument.partition("=")
    quoted = folder.replace("\\", "\\\\").replace("'", "\\'")
    return f"hydra.sweep.dir='{quoted}'" if key == "sweep_dir" else argument


def resume(arguments: list[str]) -> None:
    """Continue a run in place; `trust=` names own modules, other arguments change single values of its config."""
    given = dict(argument.partition("=")[::2] for argument in arguments)
    folder, trust = Path(given.pop("resume")), given.pop("trust", "").strip("[]")
    flags = [argument for argument in arguments if argument.startswith("-")]
    if flags:
        raise ConfigError(f"{flags[0]}: does not go with resume=, which continues one run")
    run = RunFolder(folder)
    run.reopen()  # before anything is read or written
    try:
        cfg = config.load(folder, trust=[name.strip() for name in trust.split(",") if name.strip()])
        run.refuse_other(".hydra/config.yaml", cfg.seed, config.config_hash(cfg))
        config.go_offline(cfg)
        config.override(cfg, [f"{key}={value}" for key, value in given.items()])
        command_line.configure_logging(folder)
        train(cfg, folder, resume=True)
    finally:
        run.close()


def train(
    cfg: DictConfig, folder: Path, *, resume: bool = False, keep: bool = False, until: float | None = None
) -> None:
    """Train one run in its folder, and leave there how it ended.

    Args:
        until: a fraction of the run, at whose next evaluation it is left as `stopped`; None: train to the end.
        keep: also of a run that fails before its first step, which otherwise leaves no folder.

    Raises:
        GanlabError: as its kind says.
    """
    from ganlab.titles import title
    from ganlab.trackers import Watched

    run = RunFolder(folder)
    with StopSignal() as stop:
        cfg, trainer = begin(cfg, run, stop, resume=resume, keep=keep)
        log.info("Run folder: %s", os.path.relpath(folder))
        log.info("%s", trainer.learner.summary())
        try:
            trainer.trackers.start(Watched(folder, run.result["id"], title(folder), config.plain(cfg), trainer.step))
            trainer.train(stop, until)
        except BaseException as error:
            ended = as_ganlab_error(error)
            finish(cfg, run, trainer, ended.status, str(ended), ended.exit_code)
            if ended is error:
                raise
            raise ended from error
        status = "done" if trainer.step == trainer.last_step else "stopped"
        finish(cfg, run, trainer, status, None, 0)


def begin(cfg: DictConfig, run: RunFolder, stop: StopSignal, *, resume: bool, keep: bool) -> tuple[DictConfig, Trainer]:
    """Check the config and build a run, or resume one, up to its first step.

    One that fails here leaves no folder unless `keep`; nor does one that is stopped here, as it has nothing to save.

    Returns:
        The checked config, every interpolation resolved, and the trainer that was built from it.
    """
    try:
        with stop.at_once():
            from ganlab.build import build  # seconds, in which a signal may come as well

            if not resume:
                run.take()
            cfg = config.check(cfg)
            trainer = build(cfg, run, resume=resume)
    except BaseException as error:
        if keep and not isinstance(ended := as_ganlab_error(error), Stopped):
            with suppress(CheckpointError):  # another process is using the folder
                run.fail(str(ended), ended.exit_code, identity(cfg))
            raise ended from error
        if not resume:
            logging.shutdown()
            run.discard()
        run.close()
        raise
    config.save(cfg, run.path)  # resolved: it is read back as data
    return cfg, trainer


def finish(cfg: DictConfig, run: RunFolder, trainer: Trainer, status: str, error: str | None, exit_code: int) -> None:
    """Write down how a run ended, and say so."""
    from ganlab.figures import report

    run.update(status=status, error=error, exit_code=exit_code)
    trainer.trackers.finish(exit_code, run.result, trainer.checkpoints.best)
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
