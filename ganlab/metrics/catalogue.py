"""Every metric under its name, and what each needs to know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from ganlab.errors import DataError
from ganlab.metrics.classes import Modes, inception_score, modes_captured
from ganlab.metrics.frechet import Moments, frechet_distance
from ganlab.metrics.kernel import Estimate, kernel_distance, mmd
from ganlab.metrics.memorisation import Memorisation, memorisation
from ganlab.metrics.neighbours import NeighbourQuality, neighbour_quality
from ganlab.metrics.plane import ManifoldQuality, MixtureQuality, manifold_quality, mixture_quality
from ganlab.metrics.transport import sliced_wasserstein, wasserstein
from ganlab.metrics.vendi import vendi_score
from ganlab.scores import Better


@dataclass(frozen=True)
class FeatureSet:
    """What is known of a set of examples.

    Attributes:
        features: [N, D]; of points, their coordinates in the units of the data.
        probabilities: of a classifier's classes [N, K], where the extractor has one.
        label: of the examples [N], where they were made or drawn by class.
    """

    features: Tensor
    probabilities: Tensor | None = None
    label: Tensor | None = None

    def __len__(self) -> int:
        return len(self.features)

    @cached_property
    def moments(self) -> Moments:
        return Moments().add(self.features)

    @property
    def classified(self) -> Tensor:
        """The classifier's probabilities [N, K]."""
        if self.probabilities is None:
            raise DataError("the extractor is no classifier")
        return self.probabilities

    @cached_property
    def predicted(self) -> Tensor:
        """The classifier's classes [N]."""
        return self.classified.argmax(1)

    def of_class(self, number: int) -> FeatureSet:
        if self.label is None:
            raise DataError("the examples have no classes")
        return FeatureSet(self.features[self.label == number])


@dataclass(frozen=True)
class Facts:
    """What is known of the distribution that is learnt.

    Attributes:
        is_image: rather than points.
        num_classes: that the generator is told of; 0: none.
        shares: of the classes among all examples [K], where the extractor is a classifier of these.
        modes, sigma: of a mixture of normal distributions [K, D] and their standard deviation.
        manifold: points [M, D] all along the curve that the data lie on.
        tolerance: how far from it a sample may lie to count as near.
        train, held_out: the training set and some of the held-out one, where memorisation is to be judged.
    """

    is_image: bool
    num_classes: int = 0
    shares: Tensor | None = None
    modes: Tensor | None = None
    sigma: float = 0.0
    manifold: Tensor | None = None
    tolerance: float = 0.0
    train: FeatureSet | None = None
    held_out: FeatureSet | None = None


@dataclass(frozen=True)
class Evidence:
    """All that metrics judge by. What several of them need is worked out once."""

    real: FeatureSet
    fake: FeatureSet
    facts: Facts

    @cached_property
    def neighbours(self) -> NeighbourQuality:
        return neighbour_quality(self.real.features, self.fake.features)

    @cached_property
    def mixture(self) -> MixtureQuality:
        assert self.facts.modes is not None
        return mixture_quality(self.fake.features, self.facts.modes, self.facts.sigma)

    @cached_property
    def curve(self) -> ManifoldQuality:
        assert self.facts.manifold is not None
        return manifold_quality(self.fake.features, self.facts.manifold, self.facts.tolerance)

    @cached_property
    def memorised(self) -> Memorisation:
        assert self.facts.train is not None
        assert self.facts.held_out is not None
        return memorisation(self.facts.train.features, self.facts.held_out.features, self.fake.features)

    @cached_property
    def classes(self) -> Modes:
        """How many classes the classifier sees among the fake examples, and how unlike the data's their shares are."""
        assert self.facts.shares is not None
        return modes_captured(self.fake.predicted, len(self.facts.shares), self.facts.shares)

    def by_class(self, measure: Callable[[FeatureSet, FeatureSet], float]) -> float:
        """The mean over classes of a metric within each (Benny et al., 2021, section 3)."""
        values = [measure(self.real.of_class(c), self.fake.of_class(c)) for c in range(self.facts.num_classes)]
        return sum(values) / len(values)


class Metric(NamedTuple):
    """A metric and where it can be used.

    Attributes:
        better: which values are.
        measure: gives its value, or that and its standard error.
        suits: whether it can be told from these facts, and what the extractor gives.
        quick: whether it is cheap enough to be measured while training.
        about: one line for people.
        unseen: whether its floor is that of held-out examples, as training examples would be copies.
    """

    better: Better
    measure: Callable[[Evidence], float | Estimate]
    suits: Callable[[Facts], bool]
    quick: bool
    about: str
    unseen: bool = False


def _images(facts: Facts) -> bool:
    return facts.is_image


def _points(facts: Facts) -> bool:
    return not facts.is_image


def _mixture(facts: Facts) -> bool:
    return facts.modes is not None


def _curve(facts: Facts) -> bool:
    return facts.manifold is not None


def _classified(facts: Facts) -> bool:
    return facts.shares is not None


def _told(facts: Facts) -> bool:
    return facts.is_image and facts.num_classes > 1


def _told_and_classified(facts: Facts) -> bool:
    return _told(facts) and _classified(facts)


def _held_out(facts: Facts) -> bool:
    return facts.train is not None and facts.held_out is not None


def _frechet(real: FeatureSet, fake: FeatureSet) -> float:
    return frechet_distance(real.moments, fake.moments)


def _label_accuracy(evidence: Evidence) -> float:
    fake = evidence.fake
    if fake.label is None:
        raise DataError("the samples have no classes")
    return (fake.predicted == fake.label).double().mean().item()


METRICS = {  # the first of those that suit a dataset is the one that its best checkpoint is chosen by
    "fid": Metric("lower", lambda e: _frechet(e.real, e.fake), _images, True, "Frechet distance of the features"),
    "kid": Metric(
        "lower",
        lambda e: kernel_distance(e.real.features, e.fake.features),
        _images,
        False,
        "kernel distance of the features",
    ),
    "precision": Metric(
        "higher", lambda e: e.neighbours.precision, _images, True, "share of samples among the real examples"
    ),
    "recall": Metric(
        "higher", lambda e: e.neighbours.recall, _images, True, "share of real examples among the samples"
    ),
    "density": Metric(
        "higher", lambda e: e.neighbours.density, _images, True, "how near real examples the samples lie"
    ),
    "coverage": Metric(
        "higher", lambda e: e.neighbours.coverage, _images, True, "share of real examples that have a sample near"
    ),
    "vendi": Metric(
        "higher", lambda e: vendi_score(e.fake.features), _images, True, "effective number of different samples"
    ),
    "inception_score": Metric(
        "higher",
        lambda e: inception_score(e.fake.classified),
        _classified,
        True,
        "sure and varied classes of the samples",
    ),
    "classes": Metric(
        "higher",
        lambda e: float(e.classes.modes),
        _classified,
        True,
        "how many of the classifier's classes have a sample",
    ),
    "class_kl": Metric(
        "lower",
        lambda e: e.classes.kl,
        _classified,
        True,
        "KL of the samples' class shares to the data's, in nats",
    ),
    "label_accuracy": Metric(
        "higher", _label_accuracy, _told_and_classified, True, "share of samples of the class that was asked for"
    ),
    "intra_fid": Metric(
        "lower", lambda e: e.by_class(_frechet), _told, False, "mean Frechet distance within each class"
    ),
    "intra_coverage": Metric(
        "higher",
        lambda e: e.by_class(lambda real, fake: neighbour_quality(real.features, fake.features).coverage),
        _told,
        False,
        "mean coverage within each class",
    ),
    "sliced_wasserstein": Metric(
        "lower",
        lambda e: sliced_wasserstein(e.real.features, e.fake.features),
        _points,
        True,
        "mean distance of the projections on lines",
    ),
    "modes": Metric("higher", lambda e: float(e.mixture.modes), _mixture, True, "how many have a sample near"),
    "high_quality": Metric(
        "higher", lambda e: e.mixture.high_quality, _mixture, True, "share of samples within 3 sigma of a mode"
    ),
    "reverse_kl": Metric(
        "lower", lambda e: e.mixture.reverse_kl, _mixture, True, "of the modes' shares to equal ones, in nats"
    ),
    "jensen_shannon": Metric(
        "lower", lambda e: e.mixture.jensen_shannon, _mixture, True, "of the modes' shares and equal ones, in nats"
    ),
    "near": Metric("higher", lambda e: e.curve.near, _curve, True, "share of samples near the curve"),
    "distance": Metric("lower", lambda e: e.curve.distance, _curve, True, "mean distance of samples to the curve"),
    "curve_coverage": Metric(
        "higher", lambda e: e.curve.coverage, _curve, True, "share of the curve that has a sample near"
    ),
    "mmd": Metric("lower", lambda e: mmd(e.real.features, e.fake.features), _points, False, "maximum mean discrepancy"),
    "wasserstein": Metric(
        "lower", lambda e: wasserstein(e.real.features, e.fake.features), _points, False, "earth mover's distance"
    ),
    "memorisation": Metric(
        "higher",
        lambda e: e.memorised.ratio,
        _held_out,
        False,
        "distance to the nearest training example, as a multiple of held-out examples'",
        unseen=True,
    ),
}


def suitable(facts: Facts, *, quick: bool) -> tuple[str, ...]:
    """The names of the metrics that suit a dataset.

    Args:
        quick: only those to be measured while training.
    """
    return tuple(name for name, metric in METRICS.items() if metric.suits(facts) and (metric.quick or not quick))


class Measured(NamedTuple):
    """A value and, where the metric has one, its standard error."""

    value: float
    error: float | None


def measure(name: str, evidence: Evidence) -> Measured:
    """One metric.

    Raises:
        DataError: it cannot be told of these sets; with the number and the limit.
    """
    with torch.no_grad():
        value = METRICS[name].measure(evidence)
    return Measured(*value) if isinstance(value, Estimate) else Measured(value, None)
