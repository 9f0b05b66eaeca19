"""The training loop: what happens when. What the players minimise is the game's business."""

from __future__ import annotations

import logging
import math
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ganlab.cadence import first_due, is_due
from ganlab.checkpoints import Checkpoints, Stateful
from ganlab.data.batches import Batches
from ganlab.data.units import Units
from ganlab.dynamics import Dynamics
from ganlab.ema import AveragedGenerator
from ganlab.errors import CheckpointError, ConfigError, DataError, Diverged, Stopped
from ganlab.evaluation import Evaluator
from ganlab.figures import Pictures
from ganlab.game import Game, Moment, Players, Sampler, Verdict, told
from ganlab.means import Means, mean
from ganlab.models import spectral_norm
from ganlab.optimizers import Optimizers, restore_optimizer
from ganlab.progress import Progress, progress
from ganlab.randomness import Draws, Noise
from ganlab.ranges import Count, Epochs, Positive
from ganlab.runs import RunFolder
from ganlab.schedules import Schedule
from ganlab.scores import Score
from ganlab.signals import StopSignal
from ganlab.trackers import Trackers
from ganlab.watchdog import Guard

log = logging.getLogger(__name__)

HIDDEN = Verdict._fields  # from log lines and the bar, which have little room


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
        checkpoint_every: epochs between two checkpoints.
        keep_checkpoints: how many of the latest numbered checkpoints stay on disk; None: all.
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
        units: Units,
        evaluator: Evaluator | None,
        best: str | None,
        watchdog: Guard,
        facts: Mapping[str, Any],
        batch_size: Count = 64,
        epochs: Count = 100,
        steps: Count | None = None,
        discriminator_steps: Count = 1,
        clip_gradient: Positive | None = None,
        ema_half_life: Positive | None = 5000,
        ema_ramp: Positive | None = 0.05,
        log_every: Epochs | None = 1,
        sample_every: Epochs | None = 2,
        evaluate_every: Epochs | None = 5,
        checkpoint_every: Epochs | None = 10,
        keep_checkpoints: Count | None = None,
    ) -> None:
        self.players, self.game = players, game
        self.generator, self.discriminator = players.generator, players.discriminator
        self.generator_parameters = list(self.generator.parameters())
        self.discriminator_parameters = list(self.discriminator.parameters())
        self.generator_optimizer = optimizers.generator(self.generator_parameters)
        self.discriminator_optimizer = optimizers.discriminator(self.discriminator_parameters)
        self.schedule = schedule  # of both learning rates
        self.base_lrs = {  # of each optimizer's groups, before the schedule's factor
            optimizer: [group["lr"] for group in optimizer.param_groups]
            for optimizer in (self.generator_optimizer, self.discriminator_optimizer)
        }
        for network, optimizer in zip((self.generator, self.discriminator), self.base_lrs, strict=True):
            optimizer.register_step_post_hook(lambda *_, network=network: spectral_norm.update(network))
        self.average = (
            AveragedGenerator(self.generator, ema_half_life, batch_size * discriminator_steps, ema_ramp)
            if ema_half_life
            else None
        )
        self.batches = batches(batch_size)
        self.device = self.batches.data.device
        self.noise = Noise(players.latent, players.latent_dim, batch_size, seed, self.device)
        self.discriminator_steps, self.clip_gradient = discriminator_steps, clip_gradient
        self.seed = seed

        self.run, self.trackers, self.pictures, self.units, self.facts = run, trackers, pictures, units, facts
        self.checkpoints = Checkpoints(run.checkpoints, keep_checkpoints)
        self.log_every, self.sample_every = log_every, sample_every
        self.evaluate_every, self.checkpoint_every = evaluate_every, checkpoint_every
        self.evaluator, self.watchdog = evaluator, watchdog
        self.best_metric = best or (evaluator.names[0] if evaluator and evaluator.names else None)
        self.dynamics = Dynamics(players, self.batches.data, seed)
        self.step = self.roll_backs = 0
        self.steps_per_epoch = self.batches.per_epoch / discriminator_steps
        self.last_step = steps or max(1, int(epochs * self.steps_per_epoch))
        self.seconds = 0.0
        self.means = Means()

    @property
    def epoch(self) -> float:
        return round(self.step / self.steps_per_epoch, 4)

    @property
    def sampler(self) -> Sampler:
        """What samples are drawn from: the averaged generator where one is kept."""
        return Sampler(self.average.module if self.average else self.generator, self.players, self.units)

    @property
    def length(self) -> dict[str, int | None]:
        """How long the run is, and how often it is evaluated, in steps."""
        return {"last_step": self.last_step, "evaluate_every": self._in_steps(self.evaluate_every)}

    def summary(self) -> str:
        """One line on what is going to be trained."""
        generator, discriminator = (
            sum(p.numel() for p in parameters)
            for parameters in (self.generator_parameters, self.discriminator_parameters)
        )
        return (
            f"{len(self.batches.data):,} examples on {self.device}, {self.last_step:,} steps of "
            f"{self.batches.batch_size}; generator {generator:,} parameters, discriminator {discriminator:,}"
        )

    # One step ----------------------------------------------------------------------------------------------

    def update(self) -> dict[str, Tensor]:
        """The discriminator's updates, then the generator's on the last fakes; returns their numbers, as scalars."""
        self._set_learning_rates()
        first = self.step * self.discriminator_steps
        seen = []
        for index in range(first, first + self.discriminator_steps):
            real, label = self.batches(index)
            fake = told(self.generator, label)(self.noise(index))
            discriminator = told(self.discriminator, label)

            d = self.game.discriminator_loss(discriminator, real, fake.detach(), self._moment("discriminator", index))
            descend(d.total, self.discriminator_parameters, self.discriminator_optimizer, self.clip_gradient)
            seen.append(d)

        generator_loss = self.game.generator_loss(discriminator, real, fake, self._moment("generator", self.step))
        descend(generator_loss, self.generator_parameters, self.generator_optimizer, self.clip_gradient)

        self.step += 1
        if self.average:
            self.average.update(self.generator, self.step)
        return {
            "loss_discriminator": mean([d.adversarial for d in seen]),
            "loss_generator": generator_loss.detach(),
            **{name: mean([getattr(d.verdict, name) for d in seen]) for name in Verdict._fields},
            **{f"penalty_{name}": mean([d.penalties[name] for d in seen]) for name in d.penalties},
        }

    def _moment(self, player: str, update: int) -> Moment:
        return Moment(update, self.step / self.last_step, Draws(self.seed, player, update, self.device))

    def _set_learning_rates(self) -> None:
        factor = self.schedule(self.step / self.last_step) / 2**self.roll_backs
        for optimizer, base_lrs in self.base_lrs.items():
            for group, base_lr in zip(optimizer.param_groups, base_lrs, strict=True):
                group["lr"] = factor * base_lr

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
                self.means.add(self.update())
                self.seconds = time.monotonic() - started
                number = stop.number  # one that comes from here on is obeyed after the next step
                try:
                    self._follow_up(shown)
                    if number or self._may_pause(until):
                        self._save_for_later()
                except Diverged as error:
                    self._roll_back(error)
                shown.go_to(self.step)
                if number and self.step < self.last_step:
                    name = signal.Signals(number).name
                    raise Stopped(f"stopped by {name} after step {self.step} of {self.last_step}, saved", number)
        if self.step < self.last_step:
            return
        self._tell_cost()
        log.info("Drawing the pictures")
        for name, file in self.pictures.finish(self.run.history(), self.sampler.generator, self.discriminator).items():
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
        numbers |= {name: f"{score.value:.4g}" for name, score in scores.items() if name == self.best_metric}
        metrics |= self.dynamics.measure() | {name: score.value for name, score in scores.items()}
        self.means.reset()
        record = {"step": self.step, "epoch": self.epoch, **metrics}
        self.run.log(record)
        self.run.update(**self._progress())
        self.trackers.log({"epoch": self.epoch, **metrics}, self.step)
        shown.show(self.step, self.epoch, numbers, at_once=bool(scores))
        collapse = self.watchdog.look(record, saturates=self.game.loss.boundary is not None)
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
        picture = self.pictures.snapshot(self.step, self.epoch, self.sampler.generator, self.discriminator)
        if picture is not None:
            self.trackers.picture("samples", picture, self.step)

    def _evaluate(self) -> dict[str, Score]:
        """The scores of the generator, as they are now; none if its samples cannot be judged."""
        if self.evaluator is None:
            return {}
        try:
            scores = self.evaluator.evaluate(self.sampler, "ema" if self.average else "raw", self.step)
        except DataError as error:  # of a generator that makes nonsense; whether that ends the run is the watchdog's
            log.warning("Samples of step %d cannot be scored: %s", self.step, error)
            return {}
        self.run.update(scores={name: score.plain() for name, score in scores.items()})
        return scores

    def _is_best(self, scores: Mapping[str, Score]) -> bool:
        score = scores.get(self.best_metric or "")
        if score is None:
            return False
        best = self.run.result["best"]
        try:
            return score.beats(Score.read(best) if best else None)
        except DataError as error:  # resumed with another protocol
            log.warning("WARNING: the best score so far is of another kind (%s); the search for it begins anew", error)
            return True

    def _tell_cost(self) -> None:
        if self.evaluator is not None:
            share = self.evaluator.seconds / max(self.seconds, 1e-9)
            log.info("Evaluation took %.1f s, %.0f %% of the run", self.evaluator.seconds, 100 * share)

    def _progress(self) -> dict[str, Any]:
        speed = round(self.step / self.seconds, 2) if self.seconds else None
        return {
            "step": self.step,
            "epoch": self.epoch,
            "seconds": round(self.seconds, 2),
            "steps_per_second": speed,
        }

    # State -------------------------------------------------------------------------------------------------

    @property
    def state(self) -> dict[str, Stateful]:
        """All that must survive an interruption, besides the step, from which everything random follows."""
        parts: dict[str, Stateful] = {
            "generator": self.generator,
            "discriminator": self.discriminator,
            "generator_optimizer": self.generator_optimizer,
            "discriminator_optimizer": self.discriminator_optimizer,
            "means": self.means,
            "watchdog": self.watchdog,
        }
        return {**parts, "ema": self.average.module} if self.average else parts

    def _save_for_later(self) -> None:
        """Write a checkpoint to go on from, but no numbered one: with those, the run could later roll back to a step
        that it would not know, had it not been interrupted."""
        if self.step not in self.checkpoints.steps():
            self._check_finite()
            self.checkpoints.save_last(self.step, self.state, self._beside_state())
            self.run.update(**self._progress())

    def _save(self, *, is_best: bool = False) -> None:
        """Write a checkpoint, unless the losses or weights have ceased to be finite."""
        self._check_finite()
        self.checkpoints.save(self.step, self.state, self._beside_state(), is_best)
        if is_best and self.best_metric:
            self.run.update(best=self.run.result["scores"][self.best_metric])
        self.run.update(**self._progress())

    def _check_finite(self) -> None:
        self._finite_means()
        for name, network in (("generator", self.generator), ("discriminator", self.discriminator)):
            if not all(bool(parameter.isfinite().all()) for parameter in network.parameters()):
                raise Diverged(f"weights of the {name} not finite at step {self.step}")

    def _beside_state(self) -> dict[str, Any]:
        return {**self.facts, "seconds": self.seconds, "roll_backs": self.roll_backs}

    def _roll_back(self, error: Diverged) -> None:
        """Go back to the last checkpoint from before a collapse, with half the learning rates.

        Raises:
            Diverged: the one that is to be undone, if the run may not go back any more, or has no such checkpoint.
        """
        good = [step for step in self.checkpoints.steps() if step <= self.watchdog.good_step]
        if self.roll_backs >= self.watchdog.roll_backs or not good:
            raise error
        tries = self.roll_backs + 1
        self._restore_from(str(good[-1]))
        self.checkpoints.rewind(self.step)
        self.run.rewind(self.step)
        self.roll_backs = tries
        self.checkpoints.save_last(self.step, self.state, self._beside_state())  # a resumed run is to know of it
        self.run.update(roll_backs=tries, **self._progress())
        log.warning("WARNING: %s; back to step %d, with learning rates divided by %d", error, self.step, 2**tries)

    def restore(self) -> None:
        """Go back to the run's last checkpoint, its record included; without one, to the start.

        Raises:
            CheckpointError: it is damaged, or of other networks.
        """
        if self.checkpoints.has("last"):
            self._restore_from("last")
        if self.step > self.last_step:
            raise ConfigError(f"the run is at step {self.step} already, beyond the {self.last_step} it is to make")
        self.run.rewind(self.step)

    def _restore_from(self, checkpoint: str) -> None:
        content = self.checkpoints.load(checkpoint)
        for name, part in self.state.items():
            try:
                if isinstance(part, torch.optim.Optimizer):
                    restore_optimizer(part, content[name])
                else:
                    part.load_state_dict(content[name])
            except (KeyError, RuntimeError, ValueError) as error:
                reason = " ".join(str(error).split())
                raise CheckpointError(
                    f"{self.checkpoints.folder}/{checkpoint}.pt: {name} does not fit: {reason}"
                ) from error
        self.step, self.seconds, self.roll_backs = content["step"], content["seconds"], content["roll_backs"]


def descend(
    loss: Tensor, parameters: Sequence[Tensor], optimizer: torch.optim.Optimizer, clip: float | None = None
) -> None:
    """One step of an optimizer on the gradient with respect to its own parameters, no other being computed."""
    for parameter in parameters:
        parameter.grad = None
    loss.backward(inputs=parameters)  # not autograd.grad, whose results need not have their parameters' layout
    if clip is not None:
        torch.nn.utils.clip_grad_norm_(parameters, clip)
    optimizer.step()
