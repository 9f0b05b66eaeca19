"""The training loop: when to train, evaluate, log, sample and save."""

from __future__ import annotations

import logging
import math
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ganlab.config.entries import check_equal, check_keys, check_state, check_structure
from ganlab.errors import CheckpointError, ConfigError, Diverged, ProcessLost, Stopped
from ganlab.game import DiscriminatorStats
from ganlab.runs.checkpoints import FORMAT, Checkpoints, Metadata, Stateful, check_metadata, read
from ganlab.runs.progress import Progress
from ganlab.runs.scores import Score
from ganlab.training.cadence import Cadence
from ganlab.training.progress_bar import ProgressBar, progress_bar
from ganlab.training.recorder import Recorder
from ganlab.training.running_means import RunningMeans
from ganlab.training.signals import StopSignal
from ganlab.training.step import TrainingStep
from ganlab.watchdog import CollapseWatchdog, Watchdog

log = logging.getLogger(__name__)

NOT_DISPLAYED = DiscriminatorStats._fields  # log lines and the bar have little room
MAX_SECONDS_UNSAVED = 300.0  # training time that a crash may cost, however far apart the checkpoints are


class Trainer:
    """Trains a generator against a discriminator.

    Args:
        training_step: updates both networks once.
        cadence: length of the run, and when to evaluate, log, sample and save.
        recorder: evaluates, logs and samples.
        checkpoints: the run's checkpoints.
        watchdog: checks each record for signs of collapse.

    Attributes:
        progress: step, time and roll-backs so far.
        means: running means of losses and statistics since the last record.
    """

    def __init__(
        self,
        training_step: TrainingStep,
        cadence: Cadence,
        recorder: Recorder,
        checkpoints: Checkpoints,
        watchdog: Watchdog,
    ) -> None:
        self.training_step, self.cadence, self.recorder = training_step, cadence, recorder
        self.parallel = training_step.parallel
        self.checkpoints, self.watchdog = checkpoints, watchdog
        self.progress, self.means = Progress(), RunningMeans()
        self._saved_at = 0.0  # training time of the last checkpoint, in seconds

    @property
    def is_done(self) -> bool:
        return self.progress.step == self.cadence.last_step

    # The loop ----------------------------------------------------------------------------------------------

    def train(self, stop: StopSignal, until: float | None = None) -> None:
        """Train from the current step to the last one, then create the final pictures.

        Args:
            stop: checked after every step. Ignored once the last step is saved.
            until: fraction of the run. The run is saved and stops at the first evaluation from there on. None trains to
                the end.

        Raises:
            Diverged: a loss or weight is not finite, or the watchdog stopped a collapsed run.
            ProcessLost: another process of the run has died; the state was saved.
            Stopped: a signal arrived; the state was saved.
        """
        progress, cadence = self.progress, self.cadence
        end = cadence.last_step if until is None else cadence.evaluate.first_due(until)
        if progress.step == 0:
            self.recorder.sample(0)
        self.parallel.send_state(self.training_step.state)
        started = time.monotonic() - progress.seconds
        with progress_bar(progress.step, cadence.last_step) as bar:
            while progress.step < end:
                self._train_step(lr_factor=0.5**progress.roll_backs)
                progress.seconds = time.monotonic() - started
                signal_number = stop.number or self.parallel.signal_number  # snapshot: later signals wait one step
                try:
                    self.follow_up(bar, must_save=bool(signal_number) or progress.step == end)
                except Diverged as error:
                    self._roll_back(error)
                bar.go_to(progress.step)
                if signal_number and not self.is_done:
                    raise self.stopped(signal_number)
        progress.seconds = time.monotonic() - started
        if self.is_done:
            self.recorder.finish(progress)

    def _train_step(self, lr_factor: float) -> None:
        step = self.progress.step
        try:
            with self.parallel.send_step(step, lr_factor, self.training_step.state):
                self.means.add(self.training_step(step, lr_factor))
        except ProcessLost as error:
            self._save_last()
            raise ProcessLost(f"{error} after step {step} of {self.cadence.last_step}, saved") from error
        self.progress.step += 1

    def follow_up(self, bar: ProgressBar | None, must_save: bool) -> None:
        """Evaluate, log, sample and save, where due after the current step.

        Raises:
            Diverged: a loss or weight is not finite, or the watchdog stops a collapsed run.
        """
        step, cadence = self.progress.step, self.cadence
        scores = self._evaluate() if cadence.evaluate.is_due(step) else {}
        if scores or cadence.log.is_due(step):
            self._log(scores, bar)
        if cadence.sample.is_due(step):
            self.recorder.sample(step)
        is_best = self.recorder.is_best(scores)
        if is_best or cadence.checkpoint.is_due(step):
            self._save(is_best)
        elif must_save or self.progress.seconds - self._saved_at > MAX_SECONDS_UNSAVED:
            self._save_last()

    def stopped(self, signal_number: int) -> Stopped:
        """Return the exception that ends a saved run after a signal."""
        name, last_step = signal.Signals(signal_number).name, self.cadence.last_step
        return Stopped(f"stopped by {name} after step {self.progress.step} of {last_step}, saved", signal_number)

    def _evaluate(self) -> Mapping[str, Score]:
        evaluation = self.recorder.evaluate(self.progress)
        self.watchdog.forget(evaluation.restarted)
        return evaluation.scores

    def _log(self, scores: Mapping[str, Score], bar: ProgressBar | None) -> None:
        """Record and display the means since the last record, and have the watchdog check them."""
        metrics = self._finite_means()
        self.means.reset()
        metrics["accuracy"] = (metrics["accuracy_real"] + metrics["accuracy_fake"]) / 2
        record = self.recorder.log(self.progress, metrics, scores)
        numbers = {name: f"{value:.3f}" for name, value in metrics.items() if name not in NOT_DISPLAYED}
        numbers |= {name: f"{score.value:.4g}" for name, score in scores.items() if name == self.recorder.main_metric}
        if bar:
            bar.show(record["step"], record["epoch"], numbers, at_once=bool(scores))
        sign = self.watchdog.check(record, saturates=self.training_step.game.loss.boundary is not None)
        if sign:
            self._report_collapse(sign)

    def _report_collapse(self, sign: str) -> None:
        message = f"training has collapsed at step {self.progress.step}: {sign}"
        self.recorder.update(self.progress, collapsed=message)
        if self.watchdog.stops:
            raise Diverged(message)
        log.warning("WARNING: %s. To act on collapse, use watchdog=stop or watchdog=roll_back.", message)

    def _finite_means(self) -> dict[str, float]:
        metrics, step = self.means.values(), self.progress.step
        nonfinite = [name for name, value in metrics.items() if not math.isfinite(value)]
        if nonfinite:
            first = step - self.means.count + 1
            raise Diverged(f"{', '.join(nonfinite)} not finite between steps {first} and {step}")
        return metrics

    # Checkpoints -------------------------------------------------------------------------------------------

    @property
    def state(self) -> dict[str, Stateful]:
        """Everything that checkpoints save."""
        own: dict[str, Stateful] = {"progress": self.progress, "means": self.means, "watchdog": self.watchdog}
        return self.training_step.state | own

    def _save(self, is_best: bool) -> None:
        """Write a numbered checkpoint, provided that losses and weights are finite."""
        self._check_finite()
        good_step = self.watchdog.good_step if self.watchdog.roll_backs else None
        self.checkpoints.save(self.progress.step, self.state, is_best=is_best, good_step=good_step)
        scores, metric = self.recorder.run.result["scores"], self.recorder.main_metric
        self.recorder.update(self.progress, **({"best": scores[metric]} if is_best else {}))
        self._saved_at = self.progress.seconds

    def _save_last(self) -> None:
        """Write `last.pt`, but no numbered checkpoint: a later roll-back could otherwise go to a step that has no
        checkpoint in an uninterrupted run."""
        self._check_finite()
        self.checkpoints.save_last(self.state)
        self.recorder.update(self.progress)
        self._saved_at = self.progress.seconds

    def _check_finite(self) -> None:
        self._finite_means()
        self.training_step.check_finite(self.progress.step)

    def _roll_back(self, error: Diverged) -> None:
        """Restore the last checkpoint before a collapse, and halve the learning rates.

        Raises:
            Diverged: `error` itself if the watchdog does not roll back. Otherwise its message says why no roll-back is
                possible: there were too many, or there is no earlier checkpoint.
        """
        progress = self.progress
        if not self.watchdog.roll_backs:
            raise error
        if progress.roll_backs >= self.watchdog.roll_backs:
            raise Diverged(f"{error}; all roll-backs are used (roll_backs={self.watchdog.roll_backs})") from error
        good = self.checkpoints.latest(self.watchdog.good_step)
        if good is None:
            reason = f"no checkpoint at or before step {self.watchdog.good_step} to roll back to"
            raise Diverged(f"{error}; {reason}") from error
        self._restore_from(str(good))
        self.parallel.send_state(self.training_step.state)
        progress.step, progress.roll_backs = good, progress.roll_backs + 1  # the time that was undone still counts
        self.checkpoints.rewind(good)
        self.recorder.rewind(good)
        self.checkpoints.save_last(self.state)  # so that resuming remembers the roll-back
        self._saved_at = progress.seconds
        self.recorder.update(progress, roll_backs=progress.roll_backs)
        log.warning(
            "WARNING: %s; rolled back to step %d, learning rates divided by %d", error, good, 2**progress.roll_backs
        )

    def restore(self) -> None:
        """Restore the run's last checkpoint and truncate its records to that step; without one, start from step 0.

        Raises:
            CheckpointError: the checkpoint is damaged or does not fit this run.
            ConfigError: the checkpoint is beyond the run's last step.
        """
        if self.checkpoints.has("last"):
            content = self._restore_from("last")
            self.progress.load_state_dict(content["progress"])
            self._saved_at = self.progress.seconds
        self.recorder.run.rewind(self.progress.step)

    def _restore_from(self, checkpoint: str) -> dict[str, Any]:
        """Check a whole checkpoint, then load all of it but the progress; return its content."""
        path = self.checkpoints.find(checkpoint)
        content = read(path)
        self.training_step.restore(content, self._check(path, content))
        self.means.load_state_dict(content["means"])
        try:
            self.watchdog.load_state_dict(content["watchdog"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:  # raised by a user-defined watchdog
            raise CheckpointError(f"{path}: watchdog: does not fit: {' '.join(str(error).split())}") from error
        return content

    def _check(self, path: Path, content: Mapping[str, Any]) -> dict[str, Any]:
        """Check every entry of a checkpoint against the object that loads it.

        Returns:
            The optimizer templates of `TrainingStep.check`.

        Raises:
            CheckpointError: names the first entry that does not fit.
            ConfigError: the checkpoint is beyond the run's last step.
        """
        where = f"{path}: "
        check_keys(where, content, {"format": FORMAT, **Metadata.__annotations__, **self.state})
        check_metadata(path, content)
        seed, config_hash = content["config"].get("seed"), content["config_hash"]
        self.recorder.run.check_same_run(f"checkpoints/{path.name}: config", seed, config_hash)
        step, means, watchdog = content["progress"]["step"], content["means"], content["watchdog"]
        last_step = self.cadence.last_step
        if step > last_step:
            raise ConfigError(f"{where}the run is already at step {step}; this asks for only {last_step}")
        check_equal(f"{where}data", content["data"], self.checkpoints.metadata["data"])
        check_state(f"{where}means", means, self.means)
        names = self.training_step.keys if means["count"] else []
        if means["names"] != names:
            raise CheckpointError(f"{where}means.names: expected {', '.join(names) or 'none'}")
        check_structure(f"{where}means.sums", means["sums"], torch.zeros(len(names)) if names else None)
        check_state(f"{where}watchdog", watchdog, self.watchdog)
        counts = {"means.count": means["count"]}
        if isinstance(self.watchdog, CollapseWatchdog):
            counts["watchdog.good_step"] = watchdog["good_step"]
        for name, number in counts.items():
            if number > step:
                raise CheckpointError(f"{where}{name}={number}: must be at most progress.step={step}")
        return self.training_step.check(where, content)
