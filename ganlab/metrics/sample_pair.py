"""What metrics judge by: the features of real and of fake examples, and what is known of their distribution."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from ganlab.errors import DataError
from ganlab.metrics.classes import Modes, modes_captured
from ganlab.metrics.frechet import Moments
from ganlab.metrics.memorisation import Memorisation, memorisation
from ganlab.metrics.neighbours import NeighbourQuality, neighbour_quality
from ganlab.metrics.plane import ManifoldQuality, MixtureQuality, manifold_quality, mixture_quality

AT_A_TIME = 4096  # examples whose moments are added


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
        moments = Moments()
        for part in self.features.split(AT_A_TIME):  # each is held in float64, twice
            moments.add(part)
        return moments

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

    def part(self, start: int, stop: int | None) -> FeatureSet:
        """The examples from `start` up to, but not with, `stop`; None: up to the last."""
        probabilities, label = (None if x is None else x[start:stop] for x in (self.probabilities, self.label))
        return FeatureSet(self.features[start:stop], probabilities, label)

    def of_class(self, number: int) -> FeatureSet:
        if self.label is None:
            raise DataError("the examples have no classes")
        return FeatureSet(self.features[self.label == number])


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of the distribution that is learnt.

    Attributes:
        is_image: rather than points.
        num_classes: that the generator is told of; 0: none.
        is_classified: whether the extractor is a classifier, of any classes, and the examples are not all of one class.
        shares: of the classes among all examples [K], where the extractor is a classifier of these.
        modes, sigma: of a mixture of normal distributions [K, D] and their standard deviation.
        manifold: points [M, D] all along the curve that the data lie on.
        tolerance: how far from it a sample may lie to count as near.
        held_out: examples that training has not seen, the baseline for memorisation.
    """

    is_image: bool
    num_classes: int = 0
    is_classified: bool = False
    shares: Tensor | None = None
    modes: Tensor | None = None
    sigma: float = 0.0
    manifold: Tensor | None = None
    tolerance: float = 0.0
    held_out: FeatureSet | None = None


@dataclass(frozen=True)
class SamplePair:
    """All that metrics judge by. What several of them need is worked out once."""

    real: FeatureSet
    fake: FeatureSet
    facts: DatasetInfo

    def first(self, num: int) -> SamplePair:
        """Of the first examples of each set alone, whose order is random."""
        return SamplePair(self.real.part(0, num), self.fake.part(0, num), self.facts)

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
        """Only for evidence whose real examples are the whole training set."""
        assert self.facts.held_out is not None
        return memorisation(self.real.features, self.facts.held_out.features, self.fake.features)

    @cached_property
    def classes(self) -> Modes:
        """How many classes the classifier sees among the fake examples, and how unlike the data's their shares are."""
        assert self.facts.shares is not None
        return modes_captured(self.fake.predicted, len(self.facts.shares), self.facts.shares)

    @property
    def class_kl(self) -> float:
        """KL of the classes' shares to the data's.

        Raises:
            DataError: it is infinite, as samples have classes that the data lack.
        """
        if math.isinf(self.classes.kl):
            assert self.facts.shares is not None
            found = self.fake.predicted.unique()
            lacking = int((self.facts.shares[found.cpu()] == 0).sum())
            raise DataError(f"the examples lack {lacking:,} of the classes that samples have; it would be infinite")
        return self.classes.kl

    def by_class(self, measure: Callable[[FeatureSet, FeatureSet], float]) -> float:
        """The mean over classes of a metric within each (Benny et al., 2021, section 3)."""
        values = [measure(self.real.of_class(c), self.fake.of_class(c)) for c in range(self.facts.num_classes)]
        return sum(values) / len(values)
