"""Evaluation: a generator's samples against real examples, by every metric that suits the data."""

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
from ganlab.rng import generator
from ganlab.runs.scores import Score

log = logging.getLogger(__name__)

Split = Literal["train", "held_out"]
UNSEEN = 5000  # held-out examples that are enough to tell how near new ones come to the training set
BATCH = 500  # examples whose features are taken at a time


class Source(Protocol):
    """What samples come from."""

    def batches(self, num: int, seed: int) -> Iterator[Samples]:
        """`num` samples, some at a time."""


class Sizes(NamedTuple):
    """Numbers of samples and of real examples in a comparison."""

    num: int
    num_real: int


class Reference(NamedTuple):
    """Real examples that samples are compared with.

    Attributes:
        dataset_hash, split: see Score.
        num: number of samples that are compared with them.
        floor: `num` other real examples, scored in place of samples; None: too few are left.
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
        seconds: that it has taken so far.
        preparation: of these, before it was given any samples.

    Args:
        dataset: for what is known of its distribution.
        examples: of the split that samples are compared with.
        names: of the metrics; None: all that suit the data and can be computed from this many examples.
        num: samples for each seed.
        num_real: real examples, at most; of more, a subset that is the same for every run. There is no floor if fewer
            than `num` examples are left, unless the dataset draws fresh ones. See `sizes_with_floor`.
        num_classes: that the generator is told of; 0: none.
        split: which the examples are.
        seeds: of the samples.
        quick: whether None means only the metrics that cost little.
        memory: all examples of the training set and of the held-out one, for metrics that tell copies; looked at only
            where such a metric is wanted.

    Raises:
        ConfigError: a metric does not suit the data.
        DataError: a metric that was named cannot be computed from so few examples.
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
        self.facts = self._facts(dataset, examples, real.probabilities)
        tells_copies = names is None or any(METRICS[name].against == "memory" for name in names if name in METRICS)
        if memory is not None and tells_copies and not quick:
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
        """Metric -> score over all seeds; a metric that cannot be computed for one of them is left out.

        Args:
            weights, step: what the source is, for the scores to say.

        Raises:
            DataError: no metric can be computed, with the number and the limit; or they are no such examples.
        """
        if not self.names:
            return {}
        started = time.monotonic()
        found: dict[str, list[Measured]] = {name: [] for name in self.names}
        refused: dict[str, DataError] = {}
        for seed in self.seeds:
            samples = self.features(source.batches(self.num, seed))
            evidence = {against: self._evidence(against, samples) for against in self.references}
            for name in [name for name in found if name not in refused]:
                try:
                    found[name].append(measure(name, evidence[METRICS[name].against]))
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
        """Of examples as they look outside, of which only a batch at a time is held; on the CPU, as the facts are."""
        with torch.no_grad():
            parts = [(*self.extractor(batch.x), batch.label) for batch in batches]
        features, probabilities, label = (
            None if column[0] is None else torch.cat([x.cpu() for x in column]) for column in zip(*parts, strict=True)
        )
        assert features is not None
        return FeatureSet(features, probabilities, label)

    def _some_of(self, examples: Examples, num: int) -> FeatureSet:
        """Of as many real examples, or all, in an order that is the same for every run."""
        chosen = torch.randperm(len(examples), generator=generator(0, "evaluation"))[:num]
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
        """`num_real` examples to compare samples with, and `num` others for the floor (None: too few are left)."""
        if isinstance(dataset, HasFresh):
            return self._some_of(examples, num_real), self._some_of(dataset.fresh(num, seed=0), num)
        chosen = self._some_of(examples, num_real + num)
        real, others = chosen.part(0, num_real), chosen.part(num_real, None)
        return real, others if len(others) == num else None

    def _evidence(self, against: str, samples: FeatureSet) -> SamplePair:
        reference = self.references[against]
        return SamplePair(reference.real, samples.part(0, reference.num), self.facts)

    def _facts(self, dataset: Dataset, examples: Examples, probabilities: Tensor | None) -> DatasetInfo:
        num_own = len(dataset.classes)
        is_classified = probabilities is not None and varied(num_own)
        # An extractor does not name its classes: as many as the dataset has are taken to be these
        shares = (
            class_shares(examples.labels, num_own)
            if is_classified and probabilities is not None and probabilities.shape[1] == num_own
            else None
        )
        return replace(known_facts(dataset), num_classes=self.num_classes, is_classified=is_classified, shares=shares)

    def _add_memory(self, train: Examples, held_out: Examples) -> None:
        """Add the reference for metrics of memorisation, the whole training set.

        The held-out examples are split into a baseline and the floor, which has as many as there are samples but at
        most half of them. Samples beyond the size of the floor are ignored.
        """
        num = min(self.num, len(held_out) // 2)
        unseen = self._some_of(held_out, UNSEEN + num)
        self.facts = replace(self.facts, held_out=unseen.part(0, len(unseen) - num))
        both = train.fingerprint[:8] + held_out.fingerprint[:8]  # as long as any other hash
        real, floor = self._some_of(train, len(train)), unseen.part(len(unseen) - num, None)
        self.references["memory"] = Reference(both, "train", real, num, floor)

    def _floors(self, names: Sequence[str] | None, quick: bool) -> dict[str, float | None]:
        """Metric -> score of real examples in place of samples; a metric that cannot be computed is left out.

        During training, a slow main metric is measured only if no quick one can be.
        """
        suit = suitable(self.facts, quick=False)
        for name in names or ():
            if name not in suit:
                raise ConfigError(f"metrics.names: {name} does not suit this dataset; must be of {', '.join(suit)}")
        floors: dict[str, float | None] = {}
        evidence = {
            against: None if reference.floor is None else self._evidence(against, reference.floor)
            for against, reference in self.references.items()
        }
        for name in suitable(self.facts, quick=quick) if names is None else names:
            metric = METRICS[name]
            if names is None and quick and not metric.quick and main_metric(floors):
                continue
            real = evidence[metric.against]
            try:
                floors[name] = None if real is None else measure(name, real).value
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
            num_real=metric.counted(len(reference.real)),
            num_fake=metric.counted(reference.num),
            weights=weights,
            step=step,
            seeds=tuple(self.seeds),
        )


def sizes_with_floor(
    dataset: Dataset, num_examples: int, default: Sizes, num: int | None = None, num_real: int | None = None
) -> Sizes:
    """Sizes that leave enough real examples for a floor; lowering the defaults for this logs a warning.

    Args:
        num_examples: number of real examples in the dataset.
        num, num_real: sizes that the user has set, which are kept; None: at most the default. If one of them is more
            than half of the examples, no default is lowered.
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


def known_facts(dataset: Dataset) -> DatasetInfo:
    """What is known of a dataset before its data are read."""
    return DatasetInfo(
        is_image=len(dataset.shape) == 3,
        modes=getattr(dataset, "modes", None),
        sigma=getattr(dataset, "sigma", 0.0),
        manifold=getattr(dataset, "manifold", None),
        tolerance=getattr(dataset, "tolerance", 0.0),
    )


def varied(num_own: int) -> bool:
    """Whether an Inception score means something of data of so many classes, 0 for unknown: of one, its best is 1."""
    return num_own != 1


def measurable(dataset: Dataset) -> tuple[str, ...]:
    """The metrics that a run which names none may measure; it has fewer with some extractors, or without classes."""
    facts, num_own = known_facts(dataset), len(dataset.classes)
    if facts.is_image:
        shares = torch.full((num_own,), 1 / num_own) if num_own > 1 else None
        facts = replace(facts, num_classes=num_own, is_classified=varied(num_own), shares=shares)
    return suitable(facts, quick=True)


@runtime_checkable
class Metrics(Protocol):
    """What a run is evaluated by; the config group `metrics`."""

    names: list[str] | None  # of what is measured; None: all that is quick and suits the data
    best: str | None  # the metric that chooses the best checkpoint; None: the main metric

    def check(self) -> None:
        """Refuse what can be known to be wrong without any data.

        Raises:
            ConfigError: with the key, its value and what is allowed.
        """

    def evaluator(
        self, dataset: Dataset, examples: Examples, num_classes: int, device: torch.device
    ) -> Evaluator | None:
        """For generators of a dataset that are told of so many classes; None: there is to be no evaluation."""


class NoMetrics:
    """No evaluation."""

    names: list[str] | None = []  # noqa: RUF012
    best = None

    def check(self) -> None:
        pass

    def evaluator(self, dataset: Dataset, examples: Examples, num_classes: int, device: torch.device) -> None:
        return None


class EvaluateSamples:
    """Evaluation while training.

    Args:
        extractor: of features of images: `auto`, `domain`, `random`, `pixels`, `inception`, or the dotted name of
            your own network.
        names: of the metrics; None: the quick ones that suit the data.
        best: the metric that chooses the best checkpoint; None: FID, else KID, for images, and the sliced
            Wasserstein distance for points.
        num: samples.
        num_real: training examples that they are compared with, at most. For a small dataset, both numbers are
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
                raise ConfigError(f"metrics.{key}: {name}: needs all training examples; only ganlab.evaluate has them")
        if self.names is not None and self.best is not None and self.best not in self.names:
            raise ConfigError(f"metrics.best={self.best}: must be one of metrics.names, {', '.join(self.names)}")

    def evaluator(self, dataset: Dataset, examples: Examples, num_classes: int, device: torch.device) -> Evaluator:
        trusted = [self.extractor.partition(".")[0]]  # the user has named it in the config of a run of their own
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
