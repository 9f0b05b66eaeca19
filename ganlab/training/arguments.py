"""The keys of the config group `trainer`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ganlab.config.effects import Adjustable, Fixed, NoEffect
from ganlab.config.ranges import Epochs, Positive, PositiveInt
from ganlab.config.stackable import Stackable
from ganlab.training.cadence import Cadence, Interval


@dataclass(frozen=True)
class TrainingArguments:
    """Length and cadence of a run, and the arguments of its training step.

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
        compile: whether to run the training step as one compiled function, which rounds differently. This needs a CPU
            and a C++ compiler. It makes small networks faster, those of `circle_tutorial` four times. "auto" compiles
            long runs of small networks without convolutions on a CPU.
    """

    batch_size: Fixed[PositiveInt] = 64
    epochs: Adjustable[PositiveInt] = 100
    steps: Adjustable[PositiveInt | None] = None
    discriminator_steps: Fixed[PositiveInt] = 1
    clip_gradient: Stackable[Adjustable[Positive | None]] = None
    ema_half_life: Stackable[Fixed[Positive | None]] = 5000
    ema_ramp: Stackable[Fixed[Positive | None]] = 0.05
    log_every: NoEffect[Epochs | None] = 1
    sample_every: NoEffect[Epochs | None] = 2
    evaluate_every: NoEffect[Epochs | None] = 5
    checkpoint_every: NoEffect[Epochs | None] = 10
    keep_checkpoints: NoEffect[PositiveInt | None] = None
    compile: Adjustable[Literal["auto", True, False]] = "auto"

    def cadence(self, batches_per_epoch: int) -> Cadence:
        """Convert the cadence from epochs to steps."""
        steps_per_epoch = batches_per_epoch / self.discriminator_steps
        last_step = self.steps or max(1, int(self.epochs * steps_per_epoch))

        def interval(epochs: float | None) -> Interval:
            return Interval(None if epochs is None else max(1, round(epochs * steps_per_epoch)), last_step)

        return Cadence(
            last_step,
            steps_per_epoch,
            log=interval(self.log_every),
            sample=interval(self.sample_every),
            evaluate=interval(self.evaluate_every),
            checkpoint=interval(self.checkpoint_every),
        )
