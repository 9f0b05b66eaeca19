"""A floor is the score of real examples at the same sample counts, so a perfect generator scores at its floor."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from ganlab.data.dataset import Dataset, Examples, HasFresh, HasHeldOut, Samples
from ganlab.data.mixtures import Ring8
from ganlab.data.points import Circle, Moons
from ganlab.evaluate import evaluate
from ganlab.metrics import evaluator as evaluation
from ganlab.metrics.catalogue import METRICS
from ganlab.metrics.evaluator import EvaluateSamples, Evaluator, Sizes, sizes_with_floor
from ganlab.metrics.extractors import Coordinates, Features
from ganlab.runs.scores import Score

REPETITIONS = {60: 16, 500: 8, 1000: 8, 10_000: 4}  # by number of examples


class Given:
    """A source of given samples."""

    def __init__(self, samples: Samples) -> None:
        self.samples = samples

    def batches(self, num: int, seed: int) -> Iterator[Samples]:
        assert num <= len(self.samples.x)
        yield Samples(*(None if part is None else part[:num] for part in self.samples))


class Stripes:
    """Noisy 8x8 images of four classes; each class has its own pair of bright rows."""

    name = "stripes"
    shape = (1, 8, 8)
    classes = ("0", "1", "2", "3")

    def __init__(self, num_examples: int, seed: int) -> None:
        self.num_examples, self.seed = num_examples, seed

    def load(self) -> Examples:
        rng = torch.Generator().manual_seed(self.seed)
        labels = torch.randint(4, (self.num_examples,), generator=rng)
        data = torch.randint(100, (self.num_examples, *self.shape), generator=rng)
        data[:, 0] += 150 * (torch.arange(8) // 2 == labels[:, None])[:, :, None]
        return Examples(data.byte(), labels, "drawn")


class RowMeans:
    """Mean brightness of the pairs of rows, and probabilities of the classes of stripes."""

    name, hash, about = "row_means", "", ""

    def __call__(self, images: Tensor) -> Features:
        features = images.view(-1, 4, 16).mean(2)
        return Features(features, (8 * features).softmax(1))


class Real(NamedTuple):
    """A distribution of real examples.

    Attributes:
        dataset: (num, seed) -> a dataset of it.
        draw: (num, seed) -> other examples.
    """

    dataset: Callable[[int, int], Dataset]
    draw: Callable[[int, int], Samples]


def loaded(kind: type) -> Real:
    def draw(num: int, seed: int) -> Samples:
        examples = kind(num_examples=num, seed=seed + 1000).load()
        is_image = examples.data.dtype == torch.uint8
        outside = examples.data / 255 if is_image else examples.units.outside(examples.data)
        return Samples(outside, examples.labels if is_image else None)

    return Real(lambda num, seed: kind(num_examples=num, seed=seed), draw)


def on_circle(num: int, seed: int) -> Samples:
    turn = 2 * math.pi * torch.rand(num, generator=torch.Generator().manual_seed(seed))
    return Samples(Circle.radius * torch.stack([turn.cos(), turn.sin()], 1), None)


DISTRIBUTIONS = {
    "circle": Real(lambda num, seed: Circle(num), on_circle),
    "ring8": loaded(Ring8),
    "moons": loaded(Moons),
    "stripes": loaded(Stripes),
}


@pytest.fixture
def every_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure every metric during training, even the slow ones."""
    for name, metric in METRICS.items():
        if metric.against == "split":
            monkeypatch.setitem(METRICS, name, metric._replace(quick=True, at_most=metric.at_most and 500))
    monkeypatch.setattr(
        evaluation, "extractor_of", lambda name, dataset, *_: RowMeans() if dataset.name == "stripes" else Coordinates()
    )


@pytest.mark.parametrize("num_examples", REPETITIONS)
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_real_examples_used_as_samples_score_at_the_floor(name: str, num_examples: int, every_metric: None) -> None:
    """Over several draws of everything, the mean difference from the floor is within 5 standard errors of 0."""
    real = DISTRIBUTIONS[name]
    differences: dict[str, list[float]] = {}
    for seed in range(REPETITIONS[num_examples]):
        dataset = real.dataset(num_examples, seed)
        if isinstance(dataset, HasFresh):
            dataset.fresh = partial(other_fresh, dataset.fresh, seed)
        num_classes = 4 if name == "stripes" else 0
        evaluator = EvaluateSamples().evaluator(dataset, dataset.load(), num_classes, torch.device("cpu"))
        for score in evaluator.evaluate(Given(real.draw(2500, seed))).values():
            differences.setdefault(score.metric, []).append(score.value - score.floor)
    assert len(differences) >= 5
    for metric, found in differences.items():
        if len(found) > 2:  # otherwise it cannot be computed from most sets of this size
            error = statistics.stdev(found) / len(found) ** 0.5
            assert abs(statistics.fmean(found)) <= 5 * error + 1e-6, metric


def other_fresh(fresh: Callable[[int, int], Examples], repetition: int, num: int, seed: int) -> Examples:
    return fresh(num, seed + repetition)


@pytest.mark.parametrize(
    ("num_examples", "given", "expected"),
    [
        (100_000, (None, None), (2500, 10_000)),
        (5421, (None, None), (2500, 2921)),
        (1797, (None, None), (898, 899)),
        (60, (None, None), (30, 30)),
        (5421, (892, None), (892, 4529)),
        (5421, (None, 4000), (2500, 4000)),  # more than half, so it is left as it is: no floor
        (5421, (None, 2000), (2500, 2000)),
        (5421, (None, 10_000), (2500, 5421)),
        (5421, (5000, None), (5000, 5421)),
        (50_000, (50_000, 50_000), (50_000, 50_000)),  # the published protocol of CIFAR-10
        (50_000, (None, 45_000), (2500, 45_000)),
    ],
)
def test_default_sizes_are_lowered_and_given_sizes_are_kept(
    num_examples: int, given: tuple[int | None, int | None], expected: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    default = Sizes(2500, 10_000)
    sizes = sizes_with_floor(Stripes(num_examples, 0), num_examples, default, *given)
    assert sizes == expected
    wanted = (given[0] or 2500, min(given[1] or 10_000, num_examples))
    assert caplog.text.count("set aside for the floor") == (sizes != wanted)


def test_datasets_with_fresh_points_keep_the_sizes(caplog: pytest.LogCaptureFixture) -> None:
    assert sizes_with_floor(Circle(60), 60, Sizes(2500, 10_000)) == (2500, 60)
    assert not caplog.text


@pytest.mark.parametrize("dataset", [Circle(1000), Ring8(1000), Moons(1000)], ids=lambda dataset: dataset.name)
def test_fresh_points_are_new(dataset: HasFresh) -> None:
    others = [dataset, dataset.held_out()] if isinstance(dataset, HasHeldOut) else [dataset]
    known = torch.cat([other.load().data for other in others])
    fresh, again, other = (dataset.fresh(500, seed).data for seed in (0, 0, 1))
    assert torch.equal(fresh, again)
    assert not torch.equal(fresh, other)
    assert torch.cdist(fresh, known, compute_mode="donot_use_mm_for_euclid_dist").min() > 0


def test_the_floor_is_between_disjoint_sets_of_real_examples() -> None:
    dataset = Stripes(300, 0)
    evaluator = Evaluator(dataset, dataset.load(), RowMeans(), ["fid"], num=100, num_real=150)
    reference = evaluator.references["split"]
    assert reference.floor is not None
    real, floor = ({tuple(image) for image in part.features.tolist()} for part in (reference.real, reference.floor))
    assert (len(real), len(floor)) == (150, 100)
    assert not real & floor


def test_too_few_other_examples_give_no_floor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = np.random.default_rng(0).random((1500, 1, 8, 8), dtype=np.float32)
    np.save(tmp_path / "samples.npy", images)
    out = tmp_path / "scores.json"
    evaluate(
        data=f"{tmp_path}/samples.npy", dataset="digits", extractor="pixels", metrics=["fid", "recall"],
        num=1500, num_real=1797, out=str(out),
    )  # fmt: skip
    scores = {score["metric"]: Score.read(score) for score in json.loads(out.read_text())}
    assert [(score.num_fake, score.num_real, score.floor) for score in scores.values()] == [(1500, 1797, None)] * 2
    heading, fid, *_, compared, _, _ = capsys.readouterr().out.splitlines()
    assert fid.split()[2] == "-"
    assert fid.index("-") == heading.index("floor") + 4
    assert compared.endswith("against 1,797 real (train); no floor: it needs 3,297 real examples")
