"""Runs one training from config to result."""

from __future__ import annotations

import itertools
import logging
import os
import signal
import time
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganlab.config import run_config
from ganlab.config.run_config import ResolvedConfig
from ganlab.errors import CheckpointError, DataError, GanlabError, OperationalError, ProcessLost, Stopped
from ganlab.runs.folder import RunFolder, read_result
from ganlab.training.memory import keep_freed_memory
from ganlab.training.signals import StopSignal

if TYPE_CHECKING:
    from ganlab.build import Shared
    from ganlab.training.trainer import Trainer

log = logging.getLogger(__name__)

MAX_SECONDS_TO_RECORD = 20.0  # how long the other ranks wait for rank 0 to record a lost process


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
            finish(trainer, ended)
            if ended is error:
                raise
            raise ended from error
        finish(trainer, None)


def train_together(
    runs: Mapping[Path, ResolvedConfig],
    *,
    resume: Collection[Path] = (),
    until: float | None = None,
    max_size: int | None = None,
) -> None:
    """Train several runs as populations, each in its folder and recorded as by `train`.

    Runs that continue from different steps form a population for each step. A run that fails before its first step, or
    diverges, ends without the others; its folder says why.

    Args:
        resume: the folders of runs that continue.
        until: see `train`.
        max_size: maximum number of runs in a population; None: as many as fit in half of the available memory.

    Raises:
        ConfigError: the runs differ in something that cannot be stacked; the message names it.
        Stopped: a signal arrived; all runs that had begun were saved.
    """
    from ganlab.build import Shared
    from ganlab.training.population import largest_population

    shared, waiting = Shared(), list(runs.items())
    with StopSignal() as stop:
        while waiting:
            trainers: list[Trainer] = []
            while waiting and len(trainers) != max_size:
                folder, cfg = waiting.pop(0)
                try:
                    run = RunFolder(folder)
                    trainers.append(begin(cfg, run, stop, resume=folder in resume, keep=True, shared=shared))
                except Stopped:
                    close(trainers)
                    raise
                except GanlabError as error:
                    log.error("%s: %s", folder, error)
                    continue
                if max_size is None:
                    max_size = largest_population(trainers[0].training_step, runs.values())
            train_populations(trainers, stop, until)


def train_populations(trainers: Iterable[Trainer], stop: StopSignal, until: float | None) -> None:
    """Train runs that have begun, those at the same step as a population."""
    from ganlab.training.population_trainer import PopulationTrainer

    waiting = sorted(trainers, key=lambda trainer: trainer.progress.step)
    try:
        for _, group in itertools.groupby(waiting, lambda trainer: trainer.progress.step):
            members = list(group)
            population = PopulationTrainer(members, finish)
            waiting = waiting[len(members) :]
            try:
                for trainer in members:
                    start_trackers(trainer)
                population.train(stop, until)
            except BaseException as error:
                for trainer in population.training:
                    finish(trainer, as_ganlab_error(error))
                raise
    finally:
        close(waiting)  # they have not started, and can continue alone


def close(trainers: Iterable[Trainer]) -> None:
    """Unlock the folders of runs that have not started."""
    for trainer in trainers:
        trainer.recorder.run.close()


def follow() -> int:
    """Carry out the commands of rank 0, and return its exit code. Only rank 0 has a run folder.

    Raises:
        DataError: the data differ from those of rank 0.
        ProcessLost: another process has died, and this one must report it.
    """
    from ganlab.build import Shared, build_replica
    from ganlab.training.data_parallel import Action, load_state, process_group

    logging.disable(logging.WARNING)  # rank 0 logs the same
    keep_freed_memory()
    description: dict[str, Any] = {}
    with process_group() as parallel, StopSignal() as stop:
        try:
            while True:
                command, content = parallel.receive(stop.number)
                if command.action is Action.BUILD:
                    description = content
                    _, examples, *_, training_step = build_replica(
                        ResolvedConfig(content["config"]).validate(), Shared()
                    )
                    if examples.fingerprint != content["data"]:
                        difference = f"rank {parallel.rank} has other data than rank 0"
                        raise DataError(f"dataset: {difference}; every machine needs the same files")
                elif command.action is Action.LOAD:
                    load_state(training_step.state, content)
                elif command.action is Action.STEP:
                    training_step(command.number, command.lr_factor)
                else:
                    return command.number
        except ProcessLost as error:
            if description:
                report_lost_process(error, Path(description["folder"]), ResolvedConfig(description["config"]))
                return error.exit_code
            raise


def report_lost_process(error: ProcessLost, folder: Path, cfg: ResolvedConfig) -> None:
    """Record in the run's folder that rank 0 was lost. If another process was lost, rank 0 records it.

    Raises:
        ProcessLost: this process made the record, so it reports the error; or the folder is on another machine.
    """
    deadline = time.monotonic() + MAX_SECONDS_TO_RECORD
    while (status := read_result(folder).get("status")) == "running" and time.monotonic() < deadline:
        with suppress(CheckpointError):  # rank 0 is alive and uses the folder
            if RunFolder(folder).fail(str(error), error.exit_code, cfg.identity):
                raise ProcessLost(f"{error}; continue with resume={os.path.relpath(folder)}") from error
        time.sleep(0.1)
    if status is None:  # the folder is on another machine
        raise error


def begin(
    cfg: ResolvedConfig, run: RunFolder, stop: StopSignal, *, resume: bool, keep: bool, shared: Shared | None = None
) -> Trainer:
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
            trainer = build(valid, run, resume=resume, shared=shared)
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


def finish(trainer: Trainer, error: GanlabError | None) -> None:
    """Record and log how a run ended.

    Args:
        error: what ended it; None if it is done, or paused at its first evaluation at or after a fraction of the run.
    """
    from ganlab.figures import report

    run = trainer.recorder.run
    status = error.status if error else "done" if trainer.is_done else "stopped"
    exit_code = error.exit_code if error else 0
    run.update(status=status, error=str(error) if error else None, exit_code=exit_code)
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
