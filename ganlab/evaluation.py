"""Evaluation: a generator's samples against real examples, by every metric that suits the data."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import torch

from ganlab.data.batches import to_model_range
from ganlab.data.dataset import Dataset, Examples
from ganlab.errors import ConfigError, DataError
from ganlab.extractors import Extractor, extractor_of
from ganlab.game import Samples
from ganlab.metrics.catalogue import METRICS, Measured, measure, suitable
from ganlab.metrics.classes import class_shares
from ganlab.metrics.evidence import Evidence, Facts, FeatureSet
from ganlab.randomness import generator
from ganlab.ranges import NumSamples
from ganlab.scores import Score

log = logging.getLogger(__name__)

Split = Literal["train", "held_out"]
UNSEEN = 5000  # held-out examples that are enough to tell how near new ones come to the training set
BATCH = 500  # examples whose features are taken at a time


class Source(Protocol):
    """What samples come from."""

    def batches(self, num: int, seed: int) -> Iterator[Samples]:
        """`num` samples, some at a time."""


class Reference(NamedTuple):
    """Real examples that samples are held against.

    Attributes:
        dataset_hash, split, num_real: see Score.
        floor: real examples, and others in the place of samples.
    """

    dataset_hash: str
    split: Split
    num_real: int
    floor: Evidence


class Evaluator:
    """Scores generators of one dataset. Real examples, and the floors, are looked at once, when it is made.

    Attributes:
        seconds: that it has taken so far.
        preparation: of these, before it was given any samples.

    Args:
        dataset: for what is known of its distribution.
        examples: of the split that samples are compared with.
        names: of the metrics; None: all that suit the data and can be told of so many examples.
        num: samples for each seed.
        num_real: real examples, at most; where there are more, a choice that is the same for every run.
        num_classes: that the generator is told of; 0: none.
        split: which the examples are.
        seeds: of the samples.
        quick: whether None means only the metrics that cost little.
        memory: all examples of the training set and of the held-out one, for metrics that tell copies; looked at only
            where such a metric is wanted.

    Raises:
        ConfigError: a metric does not suit the data.
        DataError: a metric that was named cannot be told of so few examples.
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
        num_floor = min(num, len(examples) // 2)
        looked_at = self._some_of(examples, num_floor + num_real)
        self.real = looked_at.part(0, num_real)
        tells_copies = names is None or any(METRICS[name].against == "memory" for name in names if name in METRICS)
        self.facts = self._facts(dataset, examples, memory if tells_copies and not quick else None)
        floor = Evidence(looked_at.part(num_floor, num_floor + num_real), looked_at.part(0, num_floor), self.facts)
        self.references = {"split": Reference(examples.fingerprint, split, len(self.real), floor)}
        if memory is not None and self.facts.held_out is not None:
            self.references["memory"] = self._memory(*memory)
        self.floors = self._floors(names, quick)
        self.seconds = self.preparation = time.monotonic() - started

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.floors)

    def evaluate(self, source: Source, weights: str | None = None, step: int | None = None) -> dict[str, Score]:
        """The scores of samples of every seed, by metric; one that cannot be told of those of a seed is left out.

        Args:
            weights, step: what the source is, for the scores to say.

        Raises:
            DataError: none can be told of them, with the number and the limit; or they are no such examples.
        """
        started = time.monotonic()
        found: dict[str, list[Measured]] = {name: [] for name in self.names}
        refused: dict[str, DataError] = {}
        for seed in self.seeds:
            evidence = Evidence(self.real, self.features(source.batches(self.num, seed)), self.facts)
            for name in [name for name in found if name not in refused]:
                try:
                    found[name].append(measure(name, evidence))
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

    def _facts(self, dataset: Dataset, examples: Examples, memory: tuple[Examples, Examples] | None) -> Facts:
        num_own, probabilities = len(dataset.classes), self.real.probabilities
        is_classified = probabilities is not None and varied(num_own)
        # An extractor does not name its classes: as many as the dataset has are taken to be these
        shares = (
            class_shares(examples.labels, num_own)
            if is_classified and probabilities is not None and probabilities.shape[1] == num_own
            else None
        )
        train = held_out = None
        if memory is not None:
            train, held_out = self._some_of(memory[0], len(memory[0])), self._some_of(memory[1], UNSEEN)
        return replace(
            known_facts(dataset),
            num_classes=self.num_classes,
            is_classified=is_classified,
            shares=shares,
            train=train,
            held_out=held_out,
        )

    def _memory(self, train: Examples, held_out: Examples) -> Reference:
        """The whole training set; in the floor one half of the held-out examples is in the place of samples."""
        assert self.facts.train is not None
        assert self.facts.held_out is not None
        half = len(self.facts.held_out) // 2
        baseline, others = self.facts.held_out.part(0, half), self.facts.held_out.part(half, None)
        floor = Evidence(self.facts.train, others, replace(self.facts, held_out=baseline))
        both = train.fingerprint[:8] + held_out.fingerprint[:8]  # as long as any other hash
        return Reference(both, "train", len(train), floor)

    def _floors(self, names: Sequence[str] | None, quick: bool) -> dict[str, float]:
        """Every metric between two disjoint sets of real examples; what cannot be told of these is left out."""
        suit = suitable(self.facts, quick=False)
        for name in names or ():
            if name not in suit:
                raise ConfigError(f"metrics.names: {name} does not suit this dataset; must be of {', '.join(suit)}")
        floors = {}
        for name in suitable(self.facts, quick=quick) if names is None else names:
            try:
                floors[name] = measure(name, self.references[METRICS[name].against].floor).value
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
            num_real=metric.counted(reference.num_real),
            num_fake=metric.counted(self.num),
            floor_real=metric.counted(len(reference.floor.real)),
            floor_fake=metric.counted(len(reference.floor.fake)),
            weights=weights,
            step=step,
            seeds=tuple(self.seeds),
        )


def known_facts(dataset: Dataset) -> Facts:
    """What is known of a dataset before its data are read."""
    return Facts(
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
    best: str | None  # the metric that the best checkpoint is chosen by; None: the first of all

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
        best: by which of them the best checkpoint is chosen; None: by the first.
        num: samples.
        num_real: examples of the training set that they are compared with, at most.
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
            num=self.num,
            num_real=self.num_real,
        )
        if self.best is not None and self.best not in evaluator.names:
            raise ConfigError(f"metrics.best={self.best}: must be one of {', '.join(evaluator.names)}")
        return evaluator
