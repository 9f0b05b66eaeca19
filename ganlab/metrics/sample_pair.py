"""The input of metrics: features of real and fake examples, and information about the dataset."""

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
from ganlab.metrics.transport import sorted_projections

BATCH = 4096  # examples per update of the moments


@dataclass(frozen=True)
class FeatureSet:
    """Features of a set of examples.

    Attributes:
        features: features [N, D]; for points, their coordinates in the units of the data.
        probabilities: class probabilities [N, K]; None: the extractor is not a classifier.
        label: labels of the examples [N]; None: unlabelled.
    """

    features: Tensor
    probabilities: Tensor | None = None
    label: Tensor | None = None

    def __len__(self) -> int:
        return len(self.features)

    @cached_property
    def moments(self) -> Moments:
        moments = Moments()
        for part in self.features.split(BATCH):  # bounds the memory of their float64 copies
            moments.add(part)
        return moments

    @cached_property
    def sorted_projections(self) -> Tensor:
        """Sorted random projections [P, N] for the sliced Wasserstein distance."""
        return sorted_projections(self.features)

    @property
    def classified(self) -> Tensor:
        """The class probabilities [N, K]; DataError if the extractor is not a classifier."""
        if self.probabilities is None:
            raise DataError("the extractor is not a classifier")
        return self.probabilities

    @cached_property
    def predicted(self) -> Tensor:
        """The most probable class of each example, [N]."""
        return self.classified.argmax(1)

    def part(self, start: int, stop: int | None) -> FeatureSet:
        """The examples of the slice `start:stop`."""
        probabilities, label = (None if x is None else x[start:stop] for x in (self.probabilities, self.label))
        return FeatureSet(self.features[start:stop], probabilities, label)

    def of_class(self, number: int) -> FeatureSet:
        if self.label is None:
            raise DataError("the examples have no labels")
        return FeatureSet(self.features[self.label == number])


@dataclass(frozen=True)
class DatasetInfo:
    """Information about the dataset, which decides the metrics that apply.

    Attributes:
        is_image: True for images, False for points.
        num_classes: number of classes that the generator is conditional on; 0: unconditional.
        is_classified: True if the extractor is a classifier and the dataset has more than one class. The classes of
            the two may differ.
        shares: share of each class among all examples [K]; None: the extractor does not predict these classes.
        modes, sigma: means [K, D] and standard deviation of a mixture of Gaussians; None: not a mixture.
        manifold: points [M, D] along the curve that the data lie on; None: no such curve is known.
        tolerance: distance from the curve up to which a sample counts as near.
        held_out: examples not used for training, the baseline for memorisation; None: none available.
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
    """Everything that a metric may use. Intermediate results shared by several metrics are cached."""

    real: FeatureSet
    fake: FeatureSet
    info: DatasetInfo

    def first(self, num: int) -> SamplePair:
        """The first `num` examples of each set; their order is random, so this is a random subset."""
        return SamplePair(self.real.part(0, num), self.fake.part(0, num), self.info)

    @cached_property
    def neighbours(self) -> NeighbourQuality:
        return neighbour_quality(self.real.features, self.fake.features)

    @cached_property
    def mixture(self) -> MixtureQuality:
        assert self.info.modes is not None
        return mixture_quality(self.fake.features, self.info.modes, self.info.sigma)

    @cached_property
    def curve(self) -> ManifoldQuality:
        assert self.info.manifold is not None
        return manifold_quality(self.fake.features, self.info.manifold, self.info.tolerance)

    @cached_property
    def memorised(self) -> Memorisation:
        """Memorisation; valid only if `real` is the whole training set."""
        assert self.info.held_out is not None
        return memorisation(self.real.features, self.info.held_out.features, self.fake.features)

    @cached_property
    def classes(self) -> Modes:
        """Number of classes predicted for the fake samples, and the divergence of their shares from the data."""
        assert self.info.shares is not None
        return modes_captured(self.fake.predicted, len(self.info.shares), self.info.shares)

    @property
    def class_kl(self) -> float:
        """KL divergence of the samples' class shares from those of the data.

        Raises:
            DataError: the divergence is infinite, because samples have classes that the data lack.
        """
        if math.isinf(self.classes.kl):
            assert self.info.shares is not None
            found = self.fake.predicted.unique()
            lacking = int((self.info.shares[found.cpu()] == 0).sum())
            raise DataError(f"infinite: the real examples lack {lacking:,} of the classes that samples have")
        return self.classes.kl

    def by_class(self, measure: Callable[[FeatureSet, FeatureSet], float]) -> float:
        """Mean over all classes of a metric computed within each class (Benny et al., 2021, section 3)."""
        values = [measure(self.real.of_class(c), self.fake.of_class(c)) for c in range(self.info.num_classes)]
        return sum(values) / len(values)
