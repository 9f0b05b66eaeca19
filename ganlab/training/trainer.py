"""The training loop: what happens when. How a step is made is the learner's business."""

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
from ganlab.watchdog import Guard, Watchdog

log = logging.getLogger(__name__)

HIDDEN = DiscriminatorStats._fields  # from log lines and the bar, which have little room
MAX_SECONDS_UNSAVED = (
    300.0  # seconds of training that the death of a machine may cost, however far apart the checkpoints are
)


class Trainer:
    """Trains a generator against a discriminator.

    A step is one update of the generator, after `discriminator_steps` of the discriminator.

    Args:
        batch_size: examples per update, at most as many as there are.
        epochs: passes over the data, the incomplete last batch of each being dropped.
        steps: length in steps, instead of epochs; None: epochs decide.
        discriminator_steps: updates of the discriminator for each of the generator, each on a batch of its own.
        clip_gradient: the largest norm of each player's gradient, which is scaled down to it; None: any.
        ema_half_life: of the averaged generator, in images seen; None: no average is kept.
        ema_ramp: the half-life is at most this share of the images seen so far; None: no such limit.
        log_every: epochs between two records of the metrics. This and the next three may be fractions; None means
            at the last step only, which is never missed.
        sample_every: epochs between two pictures of samples of fixed noise.
        evaluate_every: epochs between two evaluations; one that is better than all before is kept as a checkpoint.
        checkpoint_every: epochs between two numbered checkpoints. Besides, `last.pt` is never over 5 minutes old.
        keep_checkpoints: how many of the latest numbered checkpoints stay on disk, besides the one that the watchdog
            would go back to; None: all.
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
        watchdog: Guard,
        facts: Mapping[str, Any],
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
        drawn = batches(batch_size)
        self.steps_per_epoch = drawn.per_epoch / discriminator_steps
        self.learner = Learner(
            players=players,
            game=game,
            optimizers=optimizers,
            schedule=schedule,
            batches=drawn,
            seed=seed,
            last_step=steps or max(1, int(epochs * self.steps_per_epoch)),
            discriminator_steps=discriminator_steps,
            clip_gradient=clip_gradient,
            ema_half_life=ema_half_life,
            ema_ramp=ema_ramp,
        )
        self.run, self.trackers, self.pictures, self.units, self.facts = run, trackers, pictures, units, facts
        self.checkpoints = Checkpoints(run.checkpoints, keep_checkpoints)
        self.log_every, self.sample_every = log_every, sample_every
        self.evaluate_every, self.checkpoint_every = evaluate_every, checkpoint_every
        self.evaluator, self.watchdog = evaluator, watchdog
        self.main_metric = best or (evaluator.main_metric if evaluator else None)
        self.dynamics = Diagnostics(players, drawn.data, seed)
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
        """What evaluation has cost so far, also before the run was resumed."""
        return self.evaluated_before + (self.evaluator.seconds if self.evaluator else 0.0)

    @property
    def plan(self) -> dict[str, int | str | None]:
        """How long the run is, and how often it is evaluated, in steps; and the metric that its best is chosen by."""
        every = self._in_steps(self.evaluate_every)
        return {"last_step": self.last_step, "evaluate_every": every, "main_metric": self.main_metric}

    # The loop ----------------------------------------------------------------------------------------------

    def train(self, stop: StopSignal, until: float | None = None) -> None:
        """Train from the current step to the last one, then draw the final pictures.

        Args:
            stop: looked at after every step; once the last one is made and saved, it is let pass.
            until: a fraction of the run, at whose next evaluation it is saved and left; None: go to the end.

        Raises:
            Diverged: a loss or weight is no longer a finite number.
            Stopped: a signal came; the state was saved.
        """
        if self.step == 0:
            self._sample()
        started = time.monotonic() - self.seconds
        with progress(self.step, self.last_step) as shown:
            while self.step < self.last_step and not self._may_pause(until):
                self.means.add(self.learner.update())
                self.seconds = time.monotonic() - started
                number = stop.number  # one that comes from here on is obeyed after the next step
                try:
                    self._follow_up(shown)
                    if number or self._may_pause(until) or self.seconds - self.saved_after > MAX_SECONDS_UNSAVED:
                        self._save_for_later()
                except Diverged as error:
                    self._roll_back(error)
                shown.go_to(self.step)
                if number and self.step < self.last_step:
                    name = signal.Signals(number).name
                    raise Stopped(f"stopped by {name} after step {self.step} of {self.last_step}, saved", number)
        if self.step < self.last_step:
            return
        self._tell_cost(time.monotonic() - started)
        log.info("Drawing the pictures")
        drawn = self.pictures.finish(self.run.history(), self.learner.sampled, self.learner.discriminator)
        for name, file in drawn.items():
            self.trackers.picture(name, file, self.step)

    def _follow_up(self, shown: Progress) -> None:
        """What is done after some of the steps."""
        scores = self._evaluate() if self._is_due(self.evaluate_every) else {}
        if scores or self._is_due(self.log_every):
            self._log(shown, scores)
        if self._is_due(self.sample_every):
            self._sample()
        if self._is_best(scores):
            self._save(is_best=True)
        elif self._is_due(self.checkpoint_every):
            self._save()

    def _is_due(self, every: float | None) -> bool:
        """Whether something that is done every so many epochs is to be done after the step just made."""
        return is_due(self.step, self._in_steps(every), self.last_step)

    def _in_steps(self, every: float | None) -> int | None:
        return None if every is None else max(1, round(every * self.steps_per_epoch))

    def _may_pause(self, until: float | None) -> bool:
        """Whether the run has been evaluated at or after a fraction of it, as it would have been anyway."""
        if until is None:
            return False
        return self.step >= first_due(until, self._in_steps(self.evaluate_every), self.last_step)

    def _log(self, shown: Progress, scores: Mapping[str, Score]) -> None:
        metrics = self._finite_means()
        metrics["accuracy"] = (metrics["accuracy_real"] + metrics["accuracy_fake"]) / 2
        numbers = {name: f"{value:.3f}" for name, value in metrics.items() if name not in HIDDEN}
        numbers |= {name: f"{score.value:.4g}" for name, score in scores.items() if name == self.main_metric}
        metrics |= self.dynamics.measure() | {name: score.value for name, score in scores.items()}
        self.means.reset()
        record = {"step": self.step, "epoch": self.epoch, **metrics}
        self.run.log(record)
        self.run.update(**self._progress())
        self.trackers.log({"epoch": self.epoch, **metrics}, self.step)
        shown.show(self.step, self.epoch, numbers, at_once=bool(scores))
        collapse = self.watchdog.look(record, saturates=self.learner.game.loss.boundary is not None)
        if collapse:
            self._tell_collapse(collapse)

    def _tell_collapse(self, sign: str) -> None:
        message = f"training has collapsed at step {self.step}: {sign}"
        self.run.update(collapsed=message)
        if self.watchdog.stops:
            raise Diverged(message)
        log.warning("WARNING: %s. watchdog=stop or watchdog=roll_back would act on it.", message)

    def _finite_means(self) -> dict[str, float]:
        metrics = self.means.values()
        broken = [name for name, value in metrics.items() if not math.isfinite(value)]
        if broken:
            first = self.step - self.means.count + 1
            raise Diverged(f"{', '.join(broken)} not finite between steps {first} and {self.step}")
        return metrics

    def _sample(self) -> None:
        picture = self.pictures.snapshot(self.step, self.epoch, self.learner.sampled, self.learner.discriminator)
        if picture is not None:
            self.trackers.picture("samples", picture, self.step)

    def _evaluate(self) -> dict[str, Score]:
        """The scores of the generator, as they are now; none if its samples cannot be judged."""
        if self.evaluator is None:
            return {}
        try:
            sampler = Sampler(self.learner.sampled, self.learner.players, self.units)
            scores = self.evaluator.evaluate(sampler, "ema" if self.learner.average else "raw", self.step)
        except DataError as error:  # of a generator that makes nonsense; whether that ends the run is the watchdog's
            log.warning("Samples of step %d cannot be scored: %s", self.step, error)
            return {}
        otherwise = self.run.keep_scores(scores, self.step)
        if otherwise:
            reason = next(iter(otherwise.values()))
            log.warning("WARNING: the curves of %s begin anew: %s", ", ".join(otherwise), reason)
            self.watchdog.forget(otherwise)
        return scores

    def _is_best(self, scores: Mapping[str, Score]) -> bool:
        score = scores.get(self.main_metric or "")
        if score is None:
            return False
        best = self.run.result["best"]
        try:
            return score.beats(Score.read(best) if best else None)
        except DataError as error:  # resumed with another protocol, or another metric to choose by
            log.warning("WARNING: the search for the best score begins anew: %s", error)
            return True

    def _tell_cost(self, seconds: float) -> None:
        """Log what evaluation took of a run of so many seconds, which do not have its preparation in them."""
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
        """All that must survive an interruption, besides some numbers."""
        return {**self.learner.state, "means": self.means, "watchdog": self.watchdog}

    def _save_for_later(self) -> None:
        """Write a checkpoint to go on from, but no numbered one: with those, the run could later roll back to a step
        that it would not know, had it not been interrupted."""
        if self.step not in self.checkpoints.steps():
            self._check_finite()
            self.checkpoints.save_last(self.step, self.state, self._beside_state())
            self.run.update(**self._progress())
        self.saved_after = self.seconds

    def _save(self, *, is_best: bool = False) -> None:
        """Write a checkpoint, unless the losses or weights have ceased to be finite."""
        self._check_finite()
        good_step = self.watchdog.good_step if self.watchdog.roll_backs else None
        self.checkpoints.save(self.step, self.state, self._beside_state(), is_best=is_best, good_step=good_step)
        if is_best and self.main_metric:
            self.run.update(best=self.run.result["scores"][self.main_metric])
        self.run.update(**self._progress())

    def _check_finite(self) -> None:
        self._finite_means()
        self.learner.refuse_nonfinite()

    def _beside_state(self) -> dict[str, Any]:
        return {
            **self.facts,
            "seconds": self.seconds,
            "evaluation_seconds": self.evaluation_seconds,
            "roll_backs": self.learner.roll_backs,
        }

    def _roll_back(self, error: Diverged) -> None:
        """Go back to the last checkpoint from before a collapse, with half the learning rates.

        Raises:
            Diverged: the one that is to be undone, where the watchdog does not go back; else with why not: it has too
                often, or there is no checkpoint so early.
        """
        if not self.watchdog.roll_backs:
            raise error
        if self.learner.roll_backs >= self.watchdog.roll_backs:
            raise Diverged(f"{error}; it has gone back {self.learner.roll_backs} times already") from error
        good = self.checkpoints.latest(self.watchdog.good_step)
        if good is None:
            reason = f"there is no checkpoint of step {self.watchdog.good_step} or before to go back to"
            raise Diverged(f"{error}; {reason}") from error
        tries = self.learner.roll_backs + 1
        self._restore_from(str(good))
        self.checkpoints.rewind(self.step)
        self.run.rewind(self.step)
        self.trackers.rewind(self.step)
        self.learner.roll_backs = tries
        self.checkpoints.save_last(self.step, self.state, self._beside_state())  # a resumed run is to know of it
        self.run.update(roll_backs=tries, **self._progress())
        log.warning("WARNING: %s; back to step %d, with learning rates divided by %d", error, self.step, 2**tries)

    def restore(self) -> None:
        """Go back to the run's last checkpoint, its record included; without one, to the start.

        Raises:
            CheckpointError: it is damaged or does not fit this run.
            ConfigError: the checkpoint is beyond the run's last step.
        """
        if self.checkpoints.has("last"):
            self.evaluated_before = self._restore_from("last")["evaluation_seconds"]
        self.run.rewind(self.step)

    def _restore_from(self, checkpoint: str) -> dict[str, Any]:
        """Check all of a checkpoint, then load it; returns its content."""
        path = self.checkpoints.find(checkpoint)
        content = read(path)
        self.learner.restore(content, self._check(path, content))
        self.means.load_state_dict(content["means"])
        try:
            self.watchdog.load_state_dict(content["watchdog"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:  # raised by a user-defined watchdog
            raise CheckpointError(f"{path}: watchdog: does not fit: {' '.join(str(error).split())}") from error
        self.seconds = self.saved_after = content["seconds"]
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
        check_equal(f"{where}data", content["data"], self.facts["data"])
        check_state(f"{where}means", means, self.means)
        names = self.learner.update_keys if means["count"] else []
        if means["names"] != names:
            raise CheckpointError(f"{where}means.names: expected {', '.join(names) or 'none'}")
        check_structure(f"{where}means.sums", means["sums"], torch.zeros(len(names)) if names else None)
        check_state(f"{where}watchdog", watchdog, self.watchdog)
        counts = {"means.count": means["count"]}
        if isinstance(self.watchdog, Watchdog):
            counts["watchdog.good_step"] = watchdog["good_step"]
        for name, number in counts.items():
            if number > step:
                raise CheckpointError(f"{where}{name}={number}: must be at most step={step}")
        return self.learner.check(where, content)
