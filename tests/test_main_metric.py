"""The metric that chooses the best checkpoint is declared, and a collapsed generator never wins by it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import make_run
from PIL import Image
from torch import Tensor

from ganlab import load_run
from ganlab.data.dataset import Samples
from ganlab.data.digits import Digits
from ganlab.metrics.catalogue import METRICS, main_metric
from ganlab.metrics.evaluator import EvaluateSamples, Source

NUM = 600  # samples of each generator that collapsed


class Images:
    def __init__(self, images: Tensor) -> None:
        self.images = images

    def batches(self, num: int, seed: int) -> Iterator[Samples]:
        yield Samples(self.images[:num], None)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Source:
    choices = ("dataset=digits", "model=dcgan_small", "trainer.steps=300", "trainer.sample_every=null")
    return load_run(make_run(tmp_path_factory.mktemp("digits") / "run", *choices)).sampler


def collapsed() -> dict[str, Tensor]:
    images = Digits().load().data / 255
    repeated = {f"digit {i}": images[i : i + 1] for i in (0, 1, 500, 900)}
    grey = {f"grey {level}": torch.full((1, 1, 8, 8), level) for level in (0.0, 0.5, 1.0)}
    noise = torch.rand(NUM, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    constant = {"mean": images.mean(0, keepdim=True), **repeated, **grey}
    return {name: image.expand(NUM, -1, -1, -1) for name, image in constant.items()} | {"noise": noise}


# 260 examples just suffice: half of them give a covariance of 128 features
@pytest.mark.parametrize(("num", "expected"), [(20, "kid"), (60, "kid"), (200, "kid"), (260, "fid"), (1000, "fid")])
def test_a_collapsed_generator_never_ranks_above_a_trained_one(num: int, expected: str, trained: Source) -> None:
    dataset = Digits()
    everything = dataset.load()
    chosen = torch.randperm(len(everything), generator=torch.Generator().manual_seed(5))[:num]
    examples = replace(everything, data=everything.data[chosen], labels=everything.labels[chosen])
    evaluator = EvaluateSamples("random").evaluator(dataset, examples, 0, torch.device("cpu"))
    assert evaluator.main_metric == expected
    good = evaluator.evaluate(trained)[expected]
    for name, images in collapsed().items():
        bad = evaluator.evaluate(Images(images))[expected]
        assert good.beats(bad), f"{name}: {expected} {bad.value:.4g}, trained: {good.value:.4g}"


def result(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "result.json").read_text())


def test_the_best_checkpoint_of_sixty_pictures_is_chosen_by_kid(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number, image in enumerate(Digits().load().data[:60, 0]):
        Image.fromarray(image.numpy()).save(pictures / f"{number:02}.png")
    folder = make_run(
        tmp_path / "run", "dataset=image_folder", f"dataset.path={pictures}", "dataset.size=8", "dataset.channels=1",
        f"dataset.cache={tmp_path}/cache", "model=dcgan_small", "metrics=default", "trainer.steps=4",
        "trainer.batch_size=16", "trainer.evaluate_every=0.5",
    )  # fmt: skip
    assert result(folder)["main_metric"] == result(folder)["best"]["metric"] == "kid"
    assert (folder / "checkpoints" / "best.pt").is_file()
    assert (result(folder)["best"]["num_fake"], result(folder)["best"]["num_real"]) == (30, 30)
    assert "fid" not in result(folder)["scores"]


def test_no_metric_that_a_constant_maximises_may_choose() -> None:
    assert [name for name, metric in METRICS.items() if metric.main] == ["fid", "kid", "sliced_wasserstein"]
    assert main_metric(["precision", "kid", "fid"]) == "fid"
    assert main_metric(["precision", "kid"]) == "kid"
    assert main_metric(["near", "sliced_wasserstein"]) == "sliced_wasserstein"
    assert main_metric(["precision", "near"]) is None


@pytest.mark.parametrize(("best", "chosen"), [("null", None), ("near", "near")])
def test_without_a_main_metric_no_checkpoint_is_the_best(
    best: str, chosen: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    choices = ("metrics=default", "metrics.names=[near,distance]", "trainer.steps=4", f"metrics.best={best}")
    folder = make_run(tmp_path / "run", *choices)
    assert result(folder)["main_metric"] == chosen
    assert (folder / "checkpoints" / "best.pt").is_file() == (chosen is not None)
    assert caplog.text.count("No best checkpoint will be kept") == (chosen is None)
    assert set(result(folder)["scores"]) == {"near", "distance"}


def test_kid_is_measured_while_training_only_where_fid_cannot_be() -> None:
    dataset = Digits()
    names = EvaluateSamples("random").evaluator(dataset, dataset.load(), 0, torch.device("cpu")).names
    assert "fid" in names
    assert "kid" not in names
