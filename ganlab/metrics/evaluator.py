"""Evaluation: compares the samples of a generator with real examples by all metrics that suit the data."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from ganlab.config.ranges import NumSamples
from ganlab.data.batches import to_model_range
from ganlab.data.dataset import Dataset, Examples, HasFresh, Samples
from ganlab.errors import ConfigError, DataError
from ganlab.metrics.catalogue import METRICS, Measured, main_metric, measure, suitable
from ganlab.metrics.classes import class_shares
from ganlab.metrics.extractors import Extractor, extractor_of
from ganlab.metrics.sample_pair import DatasetInfo, FeatureSet, SamplePair
from ganlab.rng import make_rng
from ganlab.runs.scores import Score

log = logging.getLogger(__name__)

Split = Literal["train", "held_out"]
NUM_BASELINE = 5000  # held-out examples in the baseline for memorisation
BATCH = 500  # examples per call of the extractor


class Source(Protocol):
    """An origin of samples: a generator or a file."""

    def batches(self, num: int, seed: int) -> Iterator[Samples]:
        """Yield `num` samples in batches."""


class Sizes(NamedTuple):
    """The numbers of samples and real examples in a comparison."""

    num: int
    num_real: int


class Reference(NamedTuple):
    """Real examples that samples are compared with.

    Attributes:
        dataset_hash, split: see `Score`.
        real: features of the real examples.
        num: number of samples to compare with them.
        floor: `num` other real examples, scored in place of samples; None: there are too few.
    """

    dataset_hash: str
    split: Split
    real: FeatureSet
    num: int
    floor: FeatureSet | None


class Evaluator:
    """Scores generators of one dataset. Features of real examples and floors are computed once, in the constructor.

    A floor has the same sample counts and real examples as a score, since metrics depend on both.

    Attributes:
        seconds: total evaluation time so far.
        preparation: the part of `seconds` spent in the constructor.

    Args:
        dataset: provides the shape, the classes and the known distribution.
        examples: examples of the split that samples are compared with.
        names: names of the metrics; None: all that suit the data and can be computed from this many examples.
        num: number of samples per seed.
        num_real: maximum number of real examples. From a larger dataset, every run uses the same subset. There is no
            floor if fewer than `num` other examples are left, unless the dataset draws fresh ones. See
            `sizes_with_floor`.
        num_classes: number of classes that the generator is conditional on; 0: unconditional.
        split: the split that `examples` belong to.
        seeds: seeds of the samples, one set of samples each.
        quick: if `names` is None, restrict the metrics to those allowed during training.
        memory: all examples of the training set and of the held-out set. Used only for memorisation metrics.

    Raises:
        ConfigError: a named metric does not suit the data.
        DataError: a named metric cannot be computed from this many examples.
    """

    def __init__(
        self,
        dataset: Dataset,
        examples: Examples,
        extractor: Extractor,
        names: Sequence[str] | None = None,
        *,
        num: int,
        num_real: int,
        num_classes: int = 0,
        split: Split = "train",
        seeds: Sequence[int] = (0,),
        quick: bool = True,
        memory: tuple[Examples, Examples] | None = None,
    ) -> None:
        started = time.monotonic()
        self.extractor, self.num_classes, self.num, self.seeds = extractor, num_classes, num, seeds
        real, floor = self._real_and_floor(dataset, examples, num, num_real)
        self.references = {"split": Reference(examples.fingerprint, split, real, num, floor)}
        self.info = self._info(dataset, examples, real.probabilities)
        needs_memory = names is None or any(METRICS[name].against == "memory" for name in names if name in METRICS)
        if memory is not None and needs_memory and not quick:
            self._add_memory(*memory)
        self.floors = self._floors(names, quick)
        self.seconds = self.preparation = time.monotonic() - started

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.floors)

    @property
    def main_metric(self) -> str | None:
        """The metric that chooses the best checkpoint if the user names none."""
        return main_metric(self.names)

    def evaluate(self, source: Source, weights: str | None = None, step: int | None = None) -> dict[str, Score]:
        """Score the samples of all seeds: metric -> score. Leaves out metrics that cannot be computed for every seed.

        Args:
            weights, step: recorded in the scores.

        Raises:
            DataError: no metric can be computed, or the samples do not have the shape or range of the data.
        """
        if not self.names:
            return {}
        started = time.monotonic()
        found: dict[str, list[Measured]] = {name: [] for name in self.names}
        refused: dict[str, DataError] = {}
        for seed in self.seeds:
            samples = self.features(source.batches(self.num, seed))
            pairs = {against: self._pair(against, samples) for against in self.references}
            for name in [name for name in found if name not in refused]:
                try:
                    found[name].append(measure(name, pairs[METRICS[name].against]))
                except DataError as error:
                    refused[name] = error
        self.seconds += time.monotonic() - started
        if found.keys() == refused.keys() != set():
            name, reason = next(iter(refused.items()))
            raise DataError(f"{name}: {reason}") from reason
        for name, reason in refused.items():
            log.warning("%s is not measured: %s", name, reason)
        return {name: self._score(name, found[name], weights, step) for name in found if name not in refused}

    def features(self, batches: Iterable[Samples]) -> FeatureSet:
        """Features of examples in data units, on the CPU. Only one batch of examples is in memory at a time."""
        with torch.no_grad():
            parts = [(*self.extractor(batch.x), batch.label) for batch in batches]
        features, probabilities, label = (
            None if column[0] is None else torch.cat([x.cpu() for x in column]) for column in zip(*parts, strict=True)
        )
        assert features is not None
        return FeatureSet(features, probabilities, label)

    def _subset(self, examples: Examples, num: int) -> FeatureSet:
        """Features of at most `num` real examples, in an order that is the same for every run."""
        chosen = torch.randperm(len(examples), generator=make_rng(0, "evaluation"))[:num]
        return self.features(
            Samples(
                examples.units.outside(to_model_range(examples.data[part])),
                examples.labels[part] if self.num_classes else None,
            )
            for part in chosen.split(BATCH)
        )

    def _real_and_floor(
        self, dataset: Dataset, examples: Examples, num: int, num_real: int
    ) -> tuple[FeatureSet, FeatureSet | None]:
        """`num_real` examples to compare samples with, and `num` others for the floor; None: too few are left."""
        if isinstance(dataset, HasFresh):
            return self._subset(examples, num_real), self._subset(dataset.fresh(num, seed=0), num)
        chosen = self._subset(examples, num_real + num)
        real, others = chosen.part(0, num_real), chosen.part(num_real, None)
        return real, others if len(others) == num else None

    def _pair(self, against: str, samples: FeatureSet) -> SamplePair:
        reference = self.references[against]
        return SamplePair(reference.real, samples.part(0, reference.num), self.info)

    def _info(self, dataset: Dataset, examples: Examples, probabilities: Tensor | None) -> DatasetInfo:
        num_own = len(dataset.classes)
        is_classified = probabilities is not None and may_vary_in_class(num_own)
        # Extractors do not name their classes; if there are as many as in the dataset, they are assumed to be the same
        shares = (
            class_shares(examples.labels, num_own)
            if is_classified and probabilities is not None and probabilities.shape[1] == num_own
            else None
        )
        return replace(dataset_info(dataset), num_classes=self.num_classes, is_classified=is_classified, shares=shares)

    def _add_memory(self, train: Examples, held_out: Examples) -> None:
        """Add the reference for memorisation metrics: the whole training set.

        The held-out examples are split into the baseline and the floor. The floor has as many examples as there are
        samples, but at most half of the held-out set. Samples beyond the size of the floor are ignored.
        """
        num = min(self.num, len(held_out) // 2)
        unseen = self._subset(held_out, NUM_BASELINE + num)
        self.info = replace(self.info, held_out=unseen.part(0, len(unseen) - num))
        both = train.fingerprint[:8] + held_out.fingerprint[:8]  # the usual 16 digits
        real, floor = self._subset(train, len(train)), unseen.part(len(unseen) - num, None)
        self.references["memory"] = Reference(both, "train", real, num, floor)

    def _floors(self, names: Sequence[str] | None, quick: bool) -> dict[str, float | None]:
        """Compute the floors: metric -> score of real examples in place of samples. None: there is no floor.

        Leaves out metrics that cannot be computed. During training, a slow main metric is measured only if no quick
        main metric can be computed.
        """
        suit = suitable(self.info, quick=False)
        for name in names or ():
            if name not in suit:
                raise ConfigError(f"metrics.names: {name} does not suit this dataset; must be one of {', '.join(suit)}")
        floors: dict[str, float | None] = {}
        pairs = {
            against: None if reference.floor is None else self._pair(against, reference.floor)
            for against, reference in self.references.items()
        }
        for name in suitable(self.info, quick=quick) if names is None else names:
            metric = METRICS[name]
            if names is None and quick and not metric.quick and main_metric(floors):
                continue
            pair = pairs[metric.against]
            try:
                floors[name] = None if pair is None else measure(name, pair).value
            except DataError as error:
                if names is not None:
                    raise DataError(f"{name}: {error}") from error
                log.warning("%s is not measured: %s", name, error)
        return floors

    def _score(self, name: str, found: Sequence[Measured], weights: str | None, step: int | None) -> Score:
        metric, values = METRICS[name], [each.value for each in found]
        reference = self.references[metric.against]
        return Score(
            metric=name,
            value=statistics.fmean(values),
            error=statistics.stdev(values) if len(values) > 1 else found[0].error,
            floor=self.floors[name],
            better=metric.better,
            extractor=self.extractor.name,
            extractor_hash=self.extractor.hash,
            dataset_hash=reference.dataset_hash,
            split=reference.split,
            num_real=metric.num_used(len(reference.real)),
            num_fake=metric.num_used(reference.num),
            weights=weights,
            step=step,
            seeds=tuple(self.seeds),
        )


def sizes_with_floor(
    dataset: Dataset, num_examples: int, default: Sizes, num: int | None = None, num_real: int | None = None
) -> Sizes:
    """Choose sizes that leave enough real examples for a floor. Lowering a default for this logs a warning.

    Args:
        num_examples: number of real examples in the dataset.
        default: sizes that may be lowered.
        num, num_real: sizes set by the user, which are never changed; None: use the default. If one of them exceeds
            half of the examples, no default is lowered.
    """
    wanted = Sizes(num or default.num, min(num_real or default.num_real, num_examples))
    half, fits = num_examples // 2, sum(wanted) <= num_examples
    if fits or isinstance(dataset, HasFresh) or max(num or 0, num_real or 0) > half:
        return wanted
    fewer = num or min(wanted.num, num_examples - num_real if num_real else half)
    fitting = Sizes(fewer, min(wanted.num_real, num_examples - fewer))
    log.warning(
        "Scores compare %s samples with %s real examples, not %s with %s: %s of the %s are set aside for the floor",
        *(f"{number:,}" for number in (*fitting, *wanted, fewer, num_examples)),
    )
    return fitting


def dataset_info(dataset: Dataset) -> DatasetInfo:
    """The information about a dataset that is available before its data are loaded."""
    return DatasetInfo(
        is_image=len(dataset.shape) == 3,
        modes=getattr(dataset, "modes", None),
        sigma=getattr(dataset, "sigma", 0.0),
        manifold=getattr(dataset, "manifold", None),
        tolerance=getattr(dataset, "tolerance", 0.0),
    )


def may_vary_in_class(num_own: int) -> bool:
    """False if the data have a single class, for which the Inception score is at best 1; `num_own` 0 means unknown."""
    return num_own != 1


def measurable(dataset: Dataset) -> tuple[str, ...]:
    """The metrics that a run measures if it names none.

    A run may measure fewer, depending on its extractor and on whether it is conditional.
    """
    info, num_own = dataset_info(dataset), len(dataset.classes)
    if info.is_image:
        shares = torch.full((num_own,), 1 / num_own) if num_own > 1 else None
        info = replace(info, num_classes=num_own, is_classified=may_vary_in_class(num_own), shares=shares)
    return suitable(info, quick=True)


@runtime_checkable
class Metrics(Protocol):
    """The evaluation of a run; the interface of the config group `metrics`."""

    names: list[str] | None  # metrics to measure; None: all quick ones that suit the data
    best: str | None  # the metric that chooses the best checkpoint; None: the main metric

    def check(self) -> None:
        """Check the settings without loading any data.

        Raises:
            ConfigError: a setting is invalid; the message names the key, its value and the allowed values.
        """

    def evaluator(
        self, dataset: Dataset, examples: Examples, num_classes: int, device: torch.device
    ) -> Evaluator | None:
        """The evaluator for generators conditional on `num_classes` classes (0: none); None: no evaluation."""


class NoMetrics:
    """No evaluation."""

    names: list[str] | None = []  # noqa: RUF012
    best = None

    def check(self) -> None:
        pass

    def evaluator(self, dataset: Dataset, examples: Examples, num_classes: int, device: torch.device) -> None:
        return None


class EvaluateSamples:
    """Evaluation during training.

    Args:
        extractor: feature extractor for images: `auto`, `domain`, `random`, `pixels`, `inception`, or the dotted name
            of your own network.
        names: names of the metrics; None: the quick ones that suit the data.
        best: the metric that chooses the best checkpoint; None: FID, else KID, for images, and the sliced
            Wasserstein distance for points.
        num: number of samples.
        num_real: maximum number of training examples to compare them with. For a small dataset, both numbers are
            lowered so that `num` other examples are left for the floor.
    """

    def __init__(
        self,
        extractor: str = "auto",
        names: list[str] | None = None,
        best: str | None = None,
        num: NumSamples = 2500,
        num_real: NumSamples = 10_000,
    ) -> None:
        self.extractor, self.names, self.best, self.num, self.num_real = extractor, names, best, num, num_real

    def check(self) -> None:
        for key, name in [("names", name) for name in self.names or ()] + [("best", self.best)]:
            if name is not None and name not in METRICS:
                raise ConfigError(f"metrics.{key}: {name}: must be one of {', '.join(METRICS)}")
            if name is not None and METRICS[name].against == "memory":
                raise ConfigError(
                    f"metrics.{key}: {name}: not available during training; use python -m ganlab.evaluate"
                )
        if self.names is not None and self.best is not None and self.best not in self.names:
            raise ConfigError(f"metrics.best={self.best}: must be one of metrics.names, {', '.join(self.names)}")

    def evaluator(self, dataset: Dataset, examples: Examples, num_classes: int, device: torch.device) -> Evaluator:
        trusted = [self.extractor.partition(".")[0]]  # naming it in the config of one's own run implies trust
        evaluator = Evaluator(
            dataset,
            examples,
            extractor_of(self.extractor, dataset, device, trusted),
            self.names,
            num_classes=num_classes,
            **sizes_with_floor(dataset, len(examples), Sizes(self.num, self.num_real))._asdict(),
        )
        if self.best is not None and self.best not in evaluator.names:
            raise ConfigError(f"metrics.best={self.best}: must be one of {', '.join(evaluator.names)}")
        if self.best is None and evaluator.names and evaluator.main_metric is None:
            log.warning(
                "No best checkpoint will be kept: no main metric is measured; choose one with metrics.best=NAME"
            )
        return evaluator
