"""The training loop of a population: its members advance together, and each is recorded as if it were trained alone."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Sequence

from ganlab.errors import ConfigError, Diverged, GanlabError, Stopped
from ganlab.figures import NoPictures
from ganlab.training.compiled_step import is_small, should_compile
from ganlab.training.population import Population
from ganlab.training.progress_bar import progress_bar
from ganlab.training.running_means import StackedMeans
from ganlab.training.signals import StopSignal
from ganlab.training.stacked_diagnostics import StackedDiagnostics
from ganlab.training.trainer import MAX_SECONDS_UNSAVED, Trainer

MAX_PICTURED = 8  # drawing a run takes longer than training it in a population


class PopulationTrainer:
    """Trains several runs as a population.

    If there are more than `MAX_PICTURED` runs, only the best get pictures, and only of their last step.

    Args:
        trainers: one for each run, of the same cadence and at the same step.
        finish: called once for each run, as soon as it has ended, with the error that ended it or None.

    Attributes:
        training: the trainers of runs that have not ended.

    Raises:
        ConfigError: the runs differ in something that cannot be stacked; the message names it.
    """

    def __init__(self, trainers: Sequence[Trainer], finish: Callable[[Trainer, GanlabError | None], None]) -> None:
        step = trainers[0].training_step
        if step.device.type != "cpu":
            raise ConfigError(f"device={step.device}: populations train on a CPU only")
        if not is_small(step):
            raise ConfigError("model: convolutions and large networks are slower when stacked on a CPU")
        if trainers[0].watchdog.roll_backs:
            raise ConfigError(f"watchdog.roll_backs={trainers[0].watchdog.roll_backs}: members cannot go back alone")
        self.training, self.finish = list(trainers), finish
        self.population = Population([trainer.training_step for trainer in trainers])
        if should_compile(step, num_runs=len(trainers)):
            self.population.compile()
        for trainer in trainers:  # their writes take at most a tenth of the time
            trainer.recorder.seconds_between_updates = max(0.5, 0.01 * len(trainers))
        self.pictures = {trainer: trainer.recorder.pictures for trainer in trainers}
        for trainer in trainers if len(trainers) > MAX_PICTURED else ():
            trainer.recorder.pictures = NoPictures()
        self.means = StackedMeans([trainer.means for trainer in trainers])
        self.diagnostics = StackedDiagnostics(
            [trainer.recorder.diagnostics for trainer in trainers],
            self.population.generator,
            self.population.discriminator,
        )
        for trainer, measured in zip(trainers, self.diagnostics.measured, strict=True):
            trainer.recorder.diagnostics = measured

    def train(self, stop: StopSignal, until: float | None = None) -> None:
        """Train from the current step to the last one; see `Trainer.train`. A run that diverges ends alone.

        Raises:
            Stopped: a signal arrived; all runs were saved.
        """
        seconds_before = {trainer: trainer.progress.seconds for trainer in self.training}
        cadence, step = self.training[0].cadence, self.training[0].progress.step
        end = cadence.last_step if until is None else cadence.evaluate.first_due(until)
        for trainer in self.training if step == 0 else ():
            trainer.recorder.sample(0)
        started = saved_at = time.monotonic()
        signal_number = None
        with progress_bar(step, cadence.last_step) as bar:
            while self.training and step < end and not signal_number:
                self.means.add(self.population(step))
                step += 1
                now, signal_number = time.monotonic(), stop.number
                must_save = bool(signal_number) or step == end or now - saved_at > MAX_SECONDS_UNSAVED
                if must_save or cadence.is_due(step):
                    saved_at = now if must_save else saved_at
                    self.means.lend()
                    self.diagnostics.measure()
                    for trainer in list(self.training):
                        trainer.progress.step = step
                        trainer.progress.seconds = seconds_before[trainer] + now - started
                        try:
                            trainer.follow_up(bar if trainer is self.training[0] else None, must_save)
                        except Diverged as error:
                            self._end(trainer, error)
                    self.means.take_back()
                bar.go_to(step)
        for trainer in self._best() if len(self.pictures) > MAX_PICTURED else ():
            trainer.recorder.pictures = self.pictures[trainer]
            trainer.recorder.sample(step)
        for trainer in list(self.training):
            if trainer.is_done:
                trainer.recorder.finish(trainer.progress)
            self._end(trainer, trainer.stopped(signal_number) if signal_number and not trainer.is_done else None)
        if signal_number and step < cadence.last_step:
            name = signal.Signals(signal_number).name
            raise Stopped(f"stopped by {name} after step {step} of {cadence.last_step}, saved", signal_number)

    def _best(self) -> list[Trainer]:
        """Return at most `MAX_PICTURED` runs that are done, the best first."""

        def rank(trainer: Trainer) -> float:
            best = trainer.recorder.run.result["best"]
            if best is None:
                return math.inf
            value: float = best["value"]
            return value if best["better"] == "lower" else -value

        return sorted((trainer for trainer in self.training if trainer.is_done), key=rank)[:MAX_PICTURED]

    def _end(self, trainer: Trainer, error: GanlabError | None) -> None:
        self.training.remove(trainer)
        self.finish(trainer, error)
