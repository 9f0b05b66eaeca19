"""The table of all metrics: name, direction, and the datasets that each one applies to."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Literal, NamedTuple

import torch

from ganlab.errors import DataError
from ganlab.metrics.classes import inception_score
from ganlab.metrics.features import same_dimensions
from ganlab.metrics.frechet import frechet_distance
from ganlab.metrics.kernel import Estimate, kernel_distance, mmd
from ganlab.metrics.neighbours import neighbour_quality
from ganlab.metrics.sample_pair import DatasetInfo, FeatureSet, SamplePair
from ganlab.metrics.transport import wasserstein, wasserstein_of_sorted
from ganlab.metrics.vendi import vendi_score
from ganlab.runs.scores import Better


class Metric(NamedTuple):
    """A metric and the datasets that it applies to.

    Attributes:
        better: whether lower or higher values are better.
        suits: returns True if the metric applies to a dataset.
        about: one-line description for tables.
        measure: computes the value, or an `Estimate` with a standard error.
        quick: True if the metric is cheap enough to compute during training.
        against: the reference: `split`, real examples of the requested split, or `memory`, the whole training set with
            held-out examples as the baseline.
        at_most: maximum number of samples and of real examples used, because the cost grows quickly; None: all.
        main: True if the metric may choose the best checkpoint by default. Only distances between distributions
            qualify, because a constant generator has the best precision and density.
    """

    better: Better
    suits: Callable[[DatasetInfo], bool]
    about: str
    measure: Callable[[SamplePair], float | Estimate]
    quick: bool = True
    against: Literal["split", "memory"] = "split"
    at_most: int | None = None
    main: bool = False

    def num_used(self, num: int) -> int:
        """The number of examples that the metric uses out of `num`."""
        return num if self.at_most is None else min(num, self.at_most)


def _is_image(info: DatasetInfo) -> bool:
    return info.is_image


def _is_points(info: DatasetInfo) -> bool:
    return not info.is_image


def _has_modes(info: DatasetInfo) -> bool:
    return info.modes is not None


def _has_manifold(info: DatasetInfo) -> bool:
    return info.manifold is not None


def _is_classified(info: DatasetInfo) -> bool:
    return info.is_classified


def _has_class_shares(info: DatasetInfo) -> bool:
    return info.shares is not None


def _is_conditional(info: DatasetInfo) -> bool:
    return info.is_image and info.num_classes > 1


def _is_conditional_with_class_shares(info: DatasetInfo) -> bool:
    return _is_conditional(info) and _has_class_shares(info)


def _has_held_out(info: DatasetInfo) -> bool:
    return info.held_out is not None


def _frechet(real: FeatureSet, fake: FeatureSet) -> float:
    return frechet_distance(real.moments, fake.moments)


def _coverage(real: FeatureSet, fake: FeatureSet) -> float:
    return neighbour_quality(real.features, fake.features).coverage


def _kernel(pair: SamplePair) -> Estimate:
    return kernel_distance(pair.real.features, pair.fake.features)


def _sliced(pair: SamplePair) -> float:
    same_dimensions(real=pair.real.features, fake=pair.fake.features)
    return wasserstein_of_sorted(pair.real.sorted_projections, pair.fake.sorted_projections).mean().item()


def _label_accuracy(pair: SamplePair) -> float:
    if pair.fake.label is None:
        raise DataError("the samples have no labels")
    return (pair.fake.predicted == pair.fake.label).double().mean().item()


# fmt: off
METRICS = {
    "fid": Metric(
        "lower", _is_image, "Frechet distance between features", lambda e: _frechet(e.real, e.fake), main=True),
    "kid": Metric("lower", _is_image, "kernel distance between features", _kernel, quick=False, main=True),
    "precision": Metric(
        "higher", _is_image, "share of samples within the support of the data", lambda e: e.neighbours.precision),
    "recall": Metric(
        "higher", _is_image, "share of real examples within the support of the samples", lambda e: e.neighbours.recall),
    "density": Metric(
        "higher", _is_image, "how densely real examples surround the samples", lambda e: e.neighbours.density),
    "coverage": Metric(
        "higher", _is_image, "share of real examples with a sample nearby", lambda e: e.neighbours.coverage),
    "vendi": Metric(
        "higher", _is_image, "effective number of distinct samples", lambda e: vendi_score(e.fake.features)),
    "inception_score": Metric(
        "higher", _is_classified, "confidence and diversity of predicted classes",
        lambda e: inception_score(e.fake.classified)),
    "classes": Metric(
        "higher", _has_class_shares, "number of classes with at least one sample", lambda e: float(e.classes.modes)),
    "class_kl": Metric(
        "lower", _has_class_shares, "KL divergence of class shares, samples to data, in nats", lambda e: e.class_kl),
    "label_accuracy": Metric(
        "higher", _is_conditional_with_class_shares, "share of samples classified as their label", _label_accuracy),
    "intra_fid": Metric(
        "lower", _is_conditional, "mean Frechet distance within each class", lambda e: e.by_class(_frechet),
        quick=False),
    "intra_coverage": Metric(
        "higher", _is_conditional, "mean coverage within each class", lambda e: e.by_class(_coverage), quick=False),
    "sliced_wasserstein": Metric("lower", _is_points, "sliced Wasserstein-1 distance", _sliced, main=True),
    "modes": Metric("higher", _has_modes, "number of modes with a sample nearby", lambda e: float(e.mixture.modes)),
    "high_quality": Metric(
        "higher", _has_modes, "share of samples within 3 sigma of a mode", lambda e: e.mixture.high_quality),
    "reverse_kl": Metric(
        "lower", _has_modes, "KL divergence of mode shares from uniform, in nats", lambda e: e.mixture.reverse_kl),
    "jensen_shannon": Metric(
        "lower", _has_modes, "JS divergence of mode shares from uniform, in nats", lambda e: e.mixture.jensen_shannon),
    "near": Metric("higher", _has_manifold, "share of samples near the curve", lambda e: e.curve.near),
    "distance": Metric("lower", _has_manifold, "mean distance from samples to the curve", lambda e: e.curve.distance),
    "curve_coverage": Metric(
        "higher", _has_manifold, "share of the curve with a sample nearby", lambda e: e.curve.coverage),
    "mmd": Metric(
        "lower", _is_points, "maximum mean discrepancy", lambda e: mmd(e.real.features, e.fake.features), quick=False),
    "wasserstein": Metric(
        "lower", _is_points, "earth mover's distance", lambda e: wasserstein(e.real.features, e.fake.features),
        quick=False, at_most=5000),
    "memorisation": Metric(
        "higher", _has_held_out, "distance to the nearest training example, relative to held-out examples",
        lambda e: e.memorised.ratio, quick=False, against="memory"),
}
# fmt: on


def suitable(info: DatasetInfo, *, quick: bool) -> tuple[str, ...]:
    """The names of the metrics that apply to a dataset.

    Args:
        quick: restrict them to those allowed during training: quick metrics and main metrics.
    """
    return tuple(
        name for name, metric in METRICS.items() if metric.suits(info) and (metric.quick or metric.main or not quick)
    )


def main_metric(names: Collection[str]) -> str | None:
    """The metric among `names` that chooses the best checkpoint by default.

    It is the first of FID, KID and the sliced Wasserstein distance; None if `names` has none of them.
    """
    return next((name for name, metric in METRICS.items() if metric.main and name in names), None)


class Measured(NamedTuple):
    """The value of a metric and its standard error; None if the metric provides no error."""

    value: float
    error: float | None


def measure(name: str, pair: SamplePair) -> Measured:
    """Compute one metric.

    Raises:
        DataError: the metric cannot be computed from these sets, or its value is not finite.
    """
    metric = METRICS[name]
    if metric.at_most is not None:
        pair = pair.first(metric.at_most)
    with torch.no_grad():
        value = metric.measure(pair)
    measured = Measured(*value) if isinstance(value, Estimate) else Measured(value, None)
    if not math.isfinite(measured.value):  # JSON, trackers and means over seeds cannot represent it
        raise DataError(f"is {measured.value}, must be a finite number")
    return measured
