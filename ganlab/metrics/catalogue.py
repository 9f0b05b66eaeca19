"""Every metric under its name, and which data it suits."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Literal, NamedTuple

import torch

from ganlab.errors import DataError
from ganlab.metrics.classes import inception_score
from ganlab.metrics.frechet import frechet_distance
from ganlab.metrics.kernel import Estimate, kernel_distance, mmd
from ganlab.metrics.neighbours import neighbour_quality
from ganlab.metrics.sample_pair import DatasetInfo, FeatureSet, SamplePair
from ganlab.metrics.transport import sliced_wasserstein, wasserstein
from ganlab.metrics.vendi import vendi_score
from ganlab.runs.scores import Better


class Metric(NamedTuple):
    """A metric and where it can be used.

    Attributes:
        better: which values are.
        suits: whether it can be told from these facts.
        about: one line for people.
        measure: gives its value, or that and its standard error.
        quick: whether it is cheap enough to be measured while training.
        against: what samples are held against: `split`, real examples of the split that is asked for, or `memory`, the
            whole training set, with held-out examples as the baseline.
        at_most: samples, and real examples, that it looks at, as more would take too long; None: all.
        main: whether it may choose the best checkpoint by default. Only distances between distributions may: a
            constant generator has the best precision and density.
    """

    better: Better
    suits: Callable[[DatasetInfo], bool]
    about: str
    measure: Callable[[SamplePair], float | Estimate]
    quick: bool = True
    against: Literal["split", "memory"] = "split"
    at_most: int | None = None
    main: bool = False

    def counted(self, num: int) -> int:
        """How many of so many examples it looks at."""
        return num if self.at_most is None else min(num, self.at_most)


def _images(facts: DatasetInfo) -> bool:
    return facts.is_image


def _points(facts: DatasetInfo) -> bool:
    return not facts.is_image


def _mixture(facts: DatasetInfo) -> bool:
    return facts.modes is not None


def _curve(facts: DatasetInfo) -> bool:
    return facts.manifold is not None


def _classified(facts: DatasetInfo) -> bool:
    return facts.is_classified


def _own_classes(facts: DatasetInfo) -> bool:
    return facts.shares is not None


def _told(facts: DatasetInfo) -> bool:
    return facts.is_image and facts.num_classes > 1


def _told_and_own_classes(facts: DatasetInfo) -> bool:
    return _told(facts) and _own_classes(facts)


def _held_out(facts: DatasetInfo) -> bool:
    return facts.held_out is not None


def _frechet(real: FeatureSet, fake: FeatureSet) -> float:
    return frechet_distance(real.moments, fake.moments)


def _coverage(real: FeatureSet, fake: FeatureSet) -> float:
    return neighbour_quality(real.features, fake.features).coverage


def _kernel(e: SamplePair) -> Estimate:
    return kernel_distance(e.real.features, e.fake.features)


def _sliced(e: SamplePair) -> float:
    return sliced_wasserstein(e.real.features, e.fake.features)


def _label_accuracy(e: SamplePair) -> float:
    if e.fake.label is None:
        raise DataError("the samples have no classes")
    return (e.fake.predicted == e.fake.label).double().mean().item()


# fmt: off
METRICS = {
    "fid": Metric("lower", _images, "Frechet distance of the features", lambda e: _frechet(e.real, e.fake), main=True),
    "kid": Metric("lower", _images, "kernel distance of the features", _kernel, quick=False, main=True),
    "precision": Metric(
        "higher", _images, "share of samples among the real examples", lambda e: e.neighbours.precision),
    "recall": Metric("higher", _images, "share of real examples among the samples", lambda e: e.neighbours.recall),
    "density": Metric("higher", _images, "how near real examples the samples lie", lambda e: e.neighbours.density),
    "coverage": Metric(
        "higher", _images, "share of real examples that have a sample near", lambda e: e.neighbours.coverage),
    "vendi": Metric(
        "higher", _images, "effective number of different samples", lambda e: vendi_score(e.fake.features)),
    "inception_score": Metric(
        "higher", _classified, "sure and varied classes of the samples", lambda e: inception_score(e.fake.classified)),
    "classes": Metric(
        "higher", _own_classes, "how many of the classes have a sample", lambda e: float(e.classes.modes)),
    "class_kl": Metric(
        "lower", _own_classes, "KL of the samples' class shares to the data's, in nats", lambda e: e.class_kl),
    "label_accuracy": Metric(
        "higher", _told_and_own_classes, "share of samples of the class that was asked for", _label_accuracy),
    "intra_fid": Metric(
        "lower", _told, "mean Frechet distance within each class", lambda e: e.by_class(_frechet), quick=False),
    "intra_coverage": Metric(
        "higher", _told, "mean coverage within each class", lambda e: e.by_class(_coverage), quick=False),
    "sliced_wasserstein": Metric("lower", _points, "sliced Wasserstein-1 distance", _sliced, main=True),
    "modes": Metric("higher", _mixture, "how many have a sample near", lambda e: float(e.mixture.modes)),
    "high_quality": Metric(
        "higher", _mixture, "share of samples within 3 sigma of a mode", lambda e: e.mixture.high_quality),
    "reverse_kl": Metric(
        "lower", _mixture, "of the modes' shares to equal ones, in nats", lambda e: e.mixture.reverse_kl),
    "jensen_shannon": Metric(
        "lower", _mixture, "of the modes' shares and equal ones, in nats", lambda e: e.mixture.jensen_shannon),
    "near": Metric("higher", _curve, "share of samples near the curve", lambda e: e.curve.near),
    "distance": Metric("lower", _curve, "mean distance of samples to the curve", lambda e: e.curve.distance),
    "curve_coverage": Metric(
        "higher", _curve, "share of the curve that has a sample near", lambda e: e.curve.coverage),
    "mmd": Metric(
        "lower", _points, "maximum mean discrepancy", lambda e: mmd(e.real.features, e.fake.features), quick=False),
    "wasserstein": Metric(
        "lower", _points, "earth mover's distance", lambda e: wasserstein(e.real.features, e.fake.features),
        quick=False, at_most=5000),
    "memorisation": Metric(
        "higher", _held_out, "distance to the nearest training example, as a multiple of held-out examples'",
        lambda e: e.memorised.ratio, quick=False, against="memory"),
}
# fmt: on


def suitable(facts: DatasetInfo, *, quick: bool) -> tuple[str, ...]:
    """The names of the metrics that suit a dataset.

    Args:
        quick: only those that may be measured while training: quick metrics and main metrics.
    """
    return tuple(
        name for name, metric in METRICS.items() if metric.suits(facts) and (metric.quick or metric.main or not quick)
    )


def main_metric(names: Collection[str]) -> str | None:
    """The metric among `names` that chooses the best checkpoint by default: the first of FID, KID and the sliced
    Wasserstein distance. None: there is none.
    """
    return next((name for name, metric in METRICS.items() if metric.main and name in names), None)


class Measured(NamedTuple):
    """A value and, where the metric has one, its standard error."""

    value: float
    error: float | None


def measure(name: str, evidence: SamplePair) -> Measured:
    """One metric.

    Raises:
        DataError: it cannot be told of these sets, with the number and the limit; or is no finite number.
    """
    metric = METRICS[name]
    if metric.at_most is not None:
        evidence = evidence.first(metric.at_most)
    with torch.no_grad():
        value = metric.measure(evidence)
    measured = Measured(*value) if isinstance(value, Estimate) else Measured(value, None)
    if not math.isfinite(measured.value):  # no file or tracker could hold it, and no mean over seeds
        raise DataError(f"is {measured.value}, must be a finite number")
    return measured
