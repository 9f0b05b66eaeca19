"""Runs one training from config to result."""

from __future__ import annotations

import logging
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ganlab.config import run_config
from ganlab.config.run_config import ResolvedConfig
from ganlab.errors import CheckpointError, GanlabError, OperationalError, Stopped
from ganlab.runs.folder import RunFolder
from ganlab.training.signals import StopSignal

if TYPE_CHECKING:
    from ganlab.training.trainer import Trainer

log = logging.getLogger(__name__)


def train(
    cfg: ResolvedConfig, folder: Path, *, resume: bool = False, keep: bool = False, until: float | None = None
) -> None:
    """Train one run in its folder, and record there how it ended.

    Args:
        until: fraction of the run. The run stops at the first evaluation from there on, with the status `stopped`. None
            trains to the end.
        keep: keep the folder even if the run fails before its first step.

    Raises:
        GanlabError: the run did not end normally; the subclass says why.
    """
    run = RunFolder(folder)
    with StopSignal() as stop:
        trainer = begin(cfg, run, stop, resume=resume, keep=keep)
        log.info("Run folder: %s", os.path.relpath(folder))
        log.info("%s", trainer.training_step.summary())
        try:
            start_trackers(trainer)
            trainer.train(stop, until)
        except BaseException as error:
            ended = as_ganlab_error(error)
            finish(trainer, ended.status, str(ended), ended.exit_code)
            if ended is error:
                raise
            raise ended from error
        finish(trainer, "done" if trainer.is_done else "stopped", None, 0)


def begin(cfg: ResolvedConfig, run: RunFolder, stop: StopSignal, *, resume: bool, keep: bool) -> Trainer:
    """Check the config, then build or restore the trainer.

    A run that fails here leaves no folder unless `keep` is set. A run stopped by a signal here never leaves one, since
    there is nothing to save.
    """
    try:
        with stop.raising():
            from ganlab.build import build  # takes seconds, in which a signal may arrive

            if not resume:
                run.claim()
            valid = cfg.validate()
            trainer = build(valid, run, resume=resume)
    except BaseException as error:
        if keep and not isinstance(ended := as_ganlab_error(error), Stopped):
            with suppress(CheckpointError):  # another process is using the folder
                run.fail(str(ended), ended.exit_code, cfg.identity)
            raise ended from error
        if not resume:
            run.discard()
        run.close()
        raise
    valid.save(run.path)
    return trainer


def start_trackers(trainer: Trainer) -> None:
    from ganlab.runs.run_names import run_names
    from ganlab.trackers import RunInfo

    run = trainer.recorder.run
    config = run_config.read(run.path).plain()
    info = RunInfo(run.path, run.result["id"], run_names(run.path), config, trainer.progress.step)
    trainer.recorder.trackers.start(info)


def finish(trainer: Trainer, status: str, error: str | None, exit_code: int) -> None:
    """Record and log how a run ended."""
    from ganlab.figures import report

    run = trainer.recorder.run
    run.update(status=status, error=error, exit_code=exit_code)
    trainer.recorder.trackers.finish(exit_code, run.result, trainer.checkpoints.best)
    report.write(run)
    run.close()
    log.info("Run folder: %s (%s)", os.path.relpath(run.path), status)


def as_ganlab_error(error: BaseException) -> GanlabError:
    """Convert any exception to one with a status and an exit code. Unexpected ones are logged with their traceback."""
    if isinstance(error, GanlabError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return Stopped("stopped immediately by a second signal", signal.SIGINT)
    if isinstance(error, OSError):
        return OperationalError(str(error))
    log.error("The run failed", exc_info=error)
    return OperationalError(f"{type(error).__name__}: {error} (traceback above and in ganlab.log)")
