"""The training loop: when to train, log, evaluate, sample and save."""

from __future__ import annotations

import logging
import math
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from ganlab.config.entries import check_equal, check_keys, check_state, check_structure
from ganlab.config.ranges import Epochs, Positive, PositiveInt
from ganlab.data.batches import Batches
from ganlab.data.units import AffineUnits
from ganlab.errors import CheckpointError, ConfigError, DataError, Diverged, Stopped
from ganlab.figures import Pictures
from ganlab.game import DiscriminatorStats, Game, Players
from ganlab.metrics.evaluator import Evaluator
from ganlab.optimizers import Optimizers
from ganlab.runs.checkpoints import FORMAT, Checkpoints, Metadata, Stateful, check_metadata, read
from ganlab.runs.folder import RunFolder
from ganlab.runs.scores import Score
from ganlab.sampling import Sampler
from ganlab.schedules import Schedule
from ganlab.trackers import Trackers
from ganlab.training.cadence import first_due, is_due
from ganlab.training.diagnostics import Diagnostics
from ganlab.training.progress import Progress, progress
from ganlab.training.running_means import RunningMeans
from ganlab.training.signals import StopSignal
from ganlab.training.step import Learner
from ganlab.watchdog import CollapseWatchdog, Watchdog

log = logging.getLogger(__name__)

NOT_DISPLAYED = DiscriminatorStats._fields  # log lines and the bar have little room
MAX_SECONDS_UNSAVED = 300.0  # training time that a crash may cost, however far apart the checkpoints are


class Trainer:
    """Trains a generator against a discriminator.

    A step is one update of the generator, after `discriminator_steps` of the discriminator.

    Args:
        batch_size: examples per update, at most the size of the dataset.
        epochs: passes over the data; the incomplete last batch of each is dropped.
        steps: number of steps; overrides `epochs` unless None.
        discriminator_steps: updates of the discriminator per update of the generator, each on a new batch.
        clip_gradient: maximum gradient norm of each player; larger gradients are scaled down. None for no clipping.
        ema_half_life: half-life of the averaged generator, in images; None for no average.
        ema_ramp: maximum half-life as a fraction of the images seen so far; None for no limit.
        log_every: epochs between records of the metrics. This and the next three may be fractions; None means after the
            last step only. All four are always due after the last step.
        sample_every: epochs between pictures of samples from fixed noise.
        evaluate_every: epochs between evaluations; a new best score is kept as a checkpoint.
        checkpoint_every: epochs between numbered checkpoints. In between, `last.pt` is rewritten every 5 minutes.
        keep_checkpoints: number of latest numbered checkpoints to keep, besides the one that the watchdog would roll
            back to; None keeps all.
    """

    def __init__(
        self,
        *,
        players: Players,
        game: Game,
        optimizers: Optimizers,
        schedule: Schedule,
        batches: Callable[[int], Batches],
        seed: int,
        run: RunFolder,
        trackers: Trackers,
        pictures: Pictures,
        units: AffineUnits,
        evaluator: Evaluator | None,
        best: str | None,
        watchdog: Watchdog,
        metadata: Mapping[str, Any],
        batch_size: PositiveInt = 64,
        epochs: PositiveInt = 100,
        steps: PositiveInt | None = None,
        discriminator_steps: PositiveInt = 1,
        clip_gradient: Positive | None = None,
        ema_half_life: Positive | None = 5000,
        ema_ramp: Positive | None = 0.05,
        log_every: Epochs | None = 1,
        sample_every: Epochs | None = 2,
        evaluate_every: Epochs | None = 5,
        checkpoint_every: Epochs | None = 10,
        keep_checkpoints: PositiveInt | None = None,
    ) -> None:
        training_batches = batches(batch_size)
        self.steps_per_epoch = training_batches.per_epoch / discriminator_steps
        self.learner = Learner(
            players=players,
            game=game,
            optimizers=optimizers,
            schedule=schedule,
            batches=training_batches,
            seed=seed,
            last_step=steps or max(1, int(epochs * self.steps_per_epoch)),
            discriminator_steps=discriminator_steps,
            clip_gradient=clip_gradient,
            ema_half_life=ema_half_life,
            ema_ramp=ema_ramp,
        )
        self.run, self.trackers, self.pictures, self.units, self.metadata = run, trackers, pictures, units, metadata
        self.checkpoints = Checkpoints(run.checkpoints, keep_checkpoints)
        self.log_every, self.sample_every = log_every, sample_every
        self.evaluate_every, self.checkpoint_every = evaluate_every, checkpoint_every
        self.evaluator, self.watchdog = evaluator, watchdog
        self.main_metric = best or (evaluator.main_metric if evaluator else None)
        self.diagnostics = Diagnostics(players, training_batches.data, seed)
        self.seconds = self.saved_after = self.evaluated_before = 0.0
        self.means = RunningMeans()

    @property
    def step(self) -> int:
        return self.learner.step

    @property
    def last_step(self) -> int:
        return self.learner.last_step

    @property
    def epoch(self) -> float:
        return round(self.step / self.steps_per_epoch, 4)

    @property
    def evaluation_seconds(self) -> float:
        """Time spent on evaluation so far, including before a resume."""
        return self.evaluated_before + (self.evaluator.seconds if self.evaluator else 0.0)

    @property
    def plan(self) -> dict[str, int | str | None]:
        """Length of the run and evaluation interval in steps, and the metric that selects the best checkpoint."""
        every = self._in_steps(self.evaluate_every)
        return {"last_step": self.last_step, "evaluate_every": every, "main_metric": self.main_metric}

    # The loop ----------------------------------------------------------------------------------------------

    def train(self, stop: StopSignal, until: float | None = None) -> None:
        """Train from the current step to the last one, then create the final pictures.

        Args:
            stop: checked after every step. Ignored once the last step is saved.
            until: fraction of the run. The run is saved and stops at the first evaluation from there on. None trains to
                the end.

        Raises:
            Diverged: a loss or weight is not finite, or the watchdog stopped a collapsed run.
            Stopped: a signal arrived; the state was saved.
        """
        if self.step == 0:
            self._sample()
        started = time.monotonic() - self.seconds
        with progress(self.step, self.last_step) as display:
            while self.step < self.last_step and not self._may_pause(until):
                self.means.add(self.learner.update())
                self.seconds = time.monotonic() - started
                number = stop.number  # snapshot: later signals wait one step
                try:
                    self._follow_up(display)
                    if number or self._may_pause(until) or self.seconds - self.saved_after > MAX_SECONDS_UNSAVED:
                        self._save_for_later()
                except Diverged as error:
                    self._roll_back(error)
                display.go_to(self.step)
                if number and self.step < self.last_step:
                    name = signal.Signals(number).name
                    raise Stopped(f"stopped by {name} after step {self.step} of {self.last_step}, saved", number)
        if self.step < self.last_step:
            return
        self._log_evaluation_cost(time.monotonic() - started)
        log.info("Creating pictures")
        pictures = self.pictures.finish(self.run.history(), self.learner.sampled, self.learner.discriminator)
        for name, file in pictures.items():
            self.trackers.picture(name, file, self.step)

    def _follow_up(self, display: Progress) -> None:
        """Evaluate, log, sample and save, where due after the current step."""
        scores = self._evaluate() if self._is_due(self.evaluate_every) else {}
        if scores or self._is_due(self.log_every):
            self._log(display, scores)
        if self._is_due(self.sample_every):
            self._sample()
        if self._is_best(scores):
            self._save(is_best=True)
        elif self._is_due(self.checkpoint_every):
            self._save()

    def _is_due(self, every: float | None) -> bool:
        """Whether an action that takes place every `every` epochs is due after the current step."""
        return is_due(self.step, self._in_steps(every), self.last_step)

    def _in_steps(self, every: float | None) -> int | None:
        return None if every is None else max(1, round(every * self.steps_per_epoch))

    def _may_pause(self, until: float | None) -> bool:
        """Whether the first regular evaluation at or after the fraction `until` of the run is done."""
        if until is None:
            return False
        return self.step >= first_due(until, self._in_steps(self.evaluate_every), self.last_step)

    def _log(self, display: Progress, scores: Mapping[str, Score]) -> None:
        metrics = self._finite_means()
        metrics["accuracy"] = (metrics["accuracy_real"] + metrics["accuracy_fake"]) / 2
        numbers = {name: f"{value:.3f}" for name, value in metrics.items() if name not in NOT_DISPLAYED}
        numbers |= {name: f"{score.value:.4g}" for name, score in scores.items() if name == self.main_metric}
        metrics |= self.diagnostics.measure() | {name: score.value for name, score in scores.items()}
        self.means.reset()
        record = {"step": self.step, "epoch": self.epoch, **metrics}
        self.run.log(record)
        self.run.update(**self._progress())
        self.trackers.log({"epoch": self.epoch, **metrics}, self.step)
        display.show(self.step, self.epoch, numbers, at_once=bool(scores))
        collapse = self.watchdog.check(record, saturates=self.learner.game.loss.boundary is not None)
        if collapse:
            self._report_collapse(collapse)

    def _report_collapse(self, sign: str) -> None:
        message = f"training has collapsed at step {self.step}: {sign}"
        self.run.update(collapsed=message)
        if self.watchdog.stops:
            raise Diverged(message)
        log.warning("WARNING: %s. To act on collapse, use watchdog=stop or watchdog=roll_back.", message)

    def _finite_means(self) -> dict[str, float]:
        metrics = self.means.values()
        nonfinite = [name for name, value in metrics.items() if not math.isfinite(value)]
        if nonfinite:
            first = self.step - self.means.count + 1
            raise Diverged(f"{', '.join(nonfinite)} not finite between steps {first} and {self.step}")
        return metrics

    def _sample(self) -> None:
        picture = self.pictures.snapshot(self.step, self.epoch, self.learner.sampled, self.learner.discriminator)
        if picture is not None:
            self.trackers.picture("samples", picture, self.step)

    def _evaluate(self) -> dict[str, Score]:
        """Score the current generator; return no scores if its samples cannot be scored."""
        if self.evaluator is None:
            return {}
        try:
            sampler = Sampler(self.learner.sampled, self.learner.players, self.units)
            scores = self.evaluator.evaluate(sampler, "ema" if self.learner.average else "raw", self.step)
        except DataError as error:  # unusable samples; the watchdog decides whether the run ends
            log.warning("Samples of step %d cannot be scored: %s", self.step, error)
            return {}
        changed = self.run.keep_scores(scores, self.step)
        if changed:
            reason = next(iter(changed.values()))
            log.warning("WARNING: the curves of %s start again: %s", ", ".join(changed), reason)
            self.watchdog.forget(changed)
        return scores

    def _is_best(self, scores: Mapping[str, Score]) -> bool:
        score = scores.get(self.main_metric or "")
        if score is None:
            return False
        best = self.run.result["best"]
        try:
            return score.beats(Score.read(best) if best else None)
        except DataError as error:  # resumed with another protocol or main metric
            log.warning("WARNING: the search for the best score starts again: %s", error)
            return True

    def _log_evaluation_cost(self, seconds: float) -> None:
        """Log the time spent on evaluation, and its share of the run's `seconds` plus the evaluator's preparation."""
        if self.evaluator is not None:
            share = self.evaluation_seconds / max(seconds + self.evaluator.preparation, 1e-9)
            log.info("Evaluation took %.1f s, %.0f %% of the run", self.evaluation_seconds, 100 * share)

    def _progress(self) -> dict[str, Any]:
        speed = round(self.step / self.seconds, 2) if self.seconds else None
        return {
            "step": self.step,
            "epoch": self.epoch,
            "seconds": round(self.seconds, 2),
            "steps_per_second": speed,
            "evaluation_seconds": round(self.evaluation_seconds, 2),
        }

    # State -------------------------------------------------------------------------------------------------

    @property
    def state(self) -> dict[str, Stateful]:
        """Objects whose state is saved in checkpoints; `_checkpoint_metadata` has the rest."""
        return {**self.learner.state, "means": self.means, "watchdog": self.watchdog}

    def _save_for_later(self) -> None:
        """Write `last.pt`, but no numbered checkpoint: a later roll-back could otherwise go to a step that has no
        checkpoint in an uninterrupted run."""
        if self.step not in self.checkpoints.steps():
            self._check_finite()
            self.checkpoints.save_last(self.step, self.state, self._checkpoint_metadata())
            self.run.update(**self._progress())
        self.saved_after = self.seconds

    def _save(self, *, is_best: bool = False) -> None:
        """Write a checkpoint, provided that losses and weights are finite."""
        self._check_finite()
        good_step = self.watchdog.good_step if self.watchdog.roll_backs else None
        self.checkpoints.save(self.step, self.state, self._checkpoint_metadata(), is_best=is_best, good_step=good_step)
        if is_best and self.main_metric:
            self.run.update(best=self.run.result["scores"][self.main_metric])
        self.run.update(**self._progress())

    def _check_finite(self) -> None:
        self._finite_means()
        self.learner.refuse_nonfinite()

    def _checkpoint_metadata(self) -> dict[str, Any]:
        return {
            **self.metadata,
            "seconds": self.seconds,
            "evaluation_seconds": self.evaluation_seconds,
            "roll_backs": self.learner.roll_backs,
        }

    def _roll_back(self, error: Diverged) -> None:
        """Restore the last checkpoint before a collapse, and halve the learning rates.

        Raises:
            Diverged: `error` itself if the watchdog does not roll back. Otherwise its message says why no roll-back is
                possible: there were too many, or there is no earlier checkpoint.
        """
        if not self.watchdog.roll_backs:
            raise error
        if self.learner.roll_backs >= self.watchdog.roll_backs:
            raise Diverged(f"{error}; all roll-backs are used (roll_backs={self.watchdog.roll_backs})") from error
        good = self.checkpoints.latest(self.watchdog.good_step)
        if good is None:
            reason = f"no checkpoint at or before step {self.watchdog.good_step} to roll back to"
            raise Diverged(f"{error}; {reason}") from error
        roll_backs = self.learner.roll_backs + 1
        self._restore_from(str(good))
        self.checkpoints.rewind(self.step)
        self.run.rewind(self.step)
        self.trackers.rewind(self.step)
        self.learner.roll_backs = roll_backs
        # So that resuming remembers the roll-back
        self.checkpoints.save_last(self.step, self.state, self._checkpoint_metadata())
        self.saved_after = self.seconds
        self.run.update(roll_backs=roll_backs, **self._progress())
        log.warning(
            "WARNING: %s; rolled back to step %d, learning rates divided by %d", error, self.step, 2**roll_backs
        )

    def restore(self) -> None:
        """Restore the run's last checkpoint and truncate its records to that step; without one, start from step 0.

        Raises:
            CheckpointError: the checkpoint is damaged or does not fit this run.
            ConfigError: the checkpoint is beyond the run's last step.
        """
        if self.checkpoints.has("last"):
            content = self._restore_from("last")
            self.evaluated_before = content["evaluation_seconds"]
            self.seconds = self.saved_after = content["seconds"]  # after a roll-back, the time it undid still counts
        self.run.rewind(self.step)

    def _restore_from(self, checkpoint: str) -> dict[str, Any]:
        """Check a whole checkpoint, then load it; return its content."""
        path = self.checkpoints.find(checkpoint)
        content = read(path)
        self.learner.restore(content, self._check(path, content))
        self.means.load_state_dict(content["means"])
        try:
            self.watchdog.load_state_dict(content["watchdog"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:  # raised by a user-defined watchdog
            raise CheckpointError(f"{path}: watchdog: does not fit: {' '.join(str(error).split())}") from error
        return content

    def _check(self, path: Path, content: Mapping[str, Any]) -> dict[str, Any]:
        """Check every entry of a checkpoint against the object that loads it.

        Returns:
            The optimizer templates of `Learner.check`.

        Raises:
            CheckpointError: names the first entry that does not fit.
            ConfigError: the checkpoint is beyond the run's last step.
        """
        where = f"{path}: "
        check_keys(where, content, {"format": FORMAT, **Metadata.__annotations__, **self.state})
        check_metadata(path, content)
        seed, config_hash = content["config"].get("seed"), content["config_hash"]
        self.run.check_same_run(f"checkpoints/{path.name}: config", seed, config_hash)
        step, means, watchdog = content["step"], content["means"], content["watchdog"]
        if step > self.last_step:
            raise ConfigError(f"{where}the run is already at step {step}; this asks for only {self.last_step}")
        check_equal(f"{where}data", content["data"], self.metadata["data"])
        check_state(f"{where}means", means, self.means)
        names = self.learner.update_keys if means["count"] else []
        if means["names"] != names:
            raise CheckpointError(f"{where}means.names: expected {', '.join(names) or 'none'}")
        check_structure(f"{where}means.sums", means["sums"], torch.zeros(len(names)) if names else None)
        check_state(f"{where}watchdog", watchdog, self.watchdog)
        counts = {"means.count": means["count"]}
        if isinstance(self.watchdog, CollapseWatchdog):
            counts["watchdog.good_step"] = watchdog["good_step"]
        for name, number in counts.items():
            if number > step:
                raise CheckpointError(f"{where}{name}={number}: must be at most step={step}")
        return self.learner.check(where, content)
