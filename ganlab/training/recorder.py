"""Records a run in its folder and trackers: metrics, scores, samples, pictures."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ganlab.errors import DataError
from ganlab.figures import Pictures
from ganlab.metrics.evaluator import Evaluator
from ganlab.runs.folder import RunFolder
from ganlab.runs.progress import Progress
from ganlab.runs.scores import Score
from ganlab.sampling import Sampler
from ganlab.trackers import Trackers
from ganlab.training.cadence import Cadence
from ganlab.training.diagnostics import Diagnostics

log = logging.getLogger(__name__)


class Evaluation(NamedTuple):
    """Scores of one step.

    Attributes:
        scores: scores by metric; empty if there is no evaluation, or the samples cannot be scored.
        restarted: metrics whose protocol has changed on resume, so that their curves start again at this step.
    """

    scores: Mapping[str, Score]
    restarted: Iterable[str]


NO_SCORES = Evaluation({}, ())


class Recorder:
    """Records a run in its folder, and sends copies to its trackers.

    Args:
        evaluator: None for no evaluation.
        sampler: the generator to sample from and evaluate: the averaged one if an average is kept.
        cadence: converts steps to epochs.
        main_metric: metric that selects the best checkpoint; None if there is none.

    Attributes:
        seconds_between_updates: minimum interval of the progress in `result.json`; a write takes as long as many steps.
    """

    def __init__(
        self,
        *,
        run: RunFolder,
        trackers: Trackers,
        pictures: Pictures,
        evaluator: Evaluator | None,
        diagnostics: Diagnostics,
        sampler: Sampler,
        cadence: Cadence,
        main_metric: str | None,
    ) -> None:
        self.run, self.trackers, self.pictures = run, trackers, pictures
        self.evaluator, self.diagnostics, self.sampler = evaluator, diagnostics, sampler
        self.cadence, self.main_metric = cadence, main_metric
        self.seconds_between_updates, self._updated_at = 0.5, -math.inf

    def evaluate(self, progress: Progress) -> Evaluation:
        """Score the current generator; `log` writes the scores."""
        if self.evaluator is None:
            return NO_SCORES
        before = self.evaluator.seconds
        try:
            scores = self.evaluator.evaluate(self.sampler, self.sampler.weights, progress.step)
        except DataError as error:  # unusable samples; the watchdog decides whether the run ends
            log.warning("Samples of step %d cannot be scored: %s", progress.step, error)
            return NO_SCORES
        finally:
            progress.evaluation_seconds += self.evaluator.seconds - before
        changed = self.run.keep_scores(scores, progress.step)
        if changed:
            reason = next(iter(changed.values()))
            log.warning("WARNING: the curves of %s start again: %s", ", ".join(changed), reason)
        return Evaluation(scores, changed)

    def log(self, progress: Progress, metrics: Mapping[str, float], scores: Mapping[str, Score]) -> dict[str, Any]:
        """Append a record of the metrics, diagnostics and scores to `metrics.jsonl`, and return it.

        `result.json` is updated too if there are scores, or if the last update is `seconds_between_updates` ago.
        """
        epoch = self.cadence.epoch(progress.step)
        numbers = {**metrics, **self.diagnostics.measure(), **{name: score.value for name, score in scores.items()}}
        record = {"step": progress.step, "epoch": epoch, **numbers}
        self.run.log(record)
        if scores or time.monotonic() - self._updated_at > self.seconds_between_updates:
            self.update(progress)
        self.trackers.log({"epoch": epoch, **numbers}, progress.step)
        return record

    def sample(self, step: int) -> None:
        """Record samples of fixed latents."""
        networks = self.sampler.generator, self.sampler.players.discriminator
        picture = self.pictures.snapshot(step, self.cadence.epoch(step), *networks)
        if picture is not None:
            self.trackers.picture("samples", picture, step)

    def is_best(self, scores: Mapping[str, Score]) -> bool:
        """Whether the score of the main metric is better than that of the best checkpoint so far."""
        score = scores.get(self.main_metric or "")
        if score is None:
            return False
        best = self.run.result["best"]
        try:
            return score.beats(Score.read(best) if best else None)
        except DataError as error:  # resumed with another protocol or main metric
            log.warning("WARNING: the search for the best score starts again: %s", error)
            return True

    def update(self, progress: Progress, **entries: Any) -> None:
        """Write the progress and further entries to `result.json`."""
        self._updated_at = time.monotonic()
        self.run.update(
            **entries,
            step=progress.step,
            epoch=self.cadence.epoch(progress.step),
            seconds=round(progress.seconds, 2),
            steps_per_second=round(progress.step / progress.seconds, 2) if progress.seconds else None,
            evaluation_seconds=round(progress.evaluation_seconds, 4),
        )

    def rewind(self, step: int) -> None:
        """Delete the records after a step, which the run will reach again."""
        self.run.rewind(step)
        self.trackers.rewind(step)

    def finish(self, progress: Progress) -> None:
        """Log the cost of evaluation and draw the final pictures."""
        if self.evaluator is not None:
            share = progress.evaluation_seconds / max(progress.seconds + self.evaluator.preparation, 1e-9)
            log.info("Evaluation took %.1f s, %.0f %% of the run", progress.evaluation_seconds, 100 * share)
        log.info("Creating pictures")
        networks = self.sampler.generator, self.sampler.players.discriminator
        for name, file in self.pictures.finish(self.run.history(), *networks).items():
            self.trackers.picture(name, file, progress.step)
