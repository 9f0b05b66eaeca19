"""A user's own network, dataset and loss, in a module outside the package."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]

MODULE = """
import torch
from torch import nn
from ganlab.data.dataset import Examples


class Generator(nn.Module):
    def __init__(self, latent_dim: int, shape: tuple[int, ...], width: int = 16) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(latent_dim, width), nn.ReLU(), nn.Linear(width, shape[0]))

    def forward(self, z):
        return self.layers(z)


class Discriminator(nn.Module):
    def __init__(self, shape: tuple[int, ...], width: int = 16) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(shape[0], width), nn.ReLU(), nn.Linear(width, 1))

    def forward(self, x):
        return self.layers(x).squeeze(1)


class Line:
    name = "line"
    shape = (3,)
    classes = ()

    def __init__(self, num_examples: int = 100) -> None:
        self.num_examples = num_examples

    def check(self) -> None:
        pass

    def load(self) -> Examples:
        x = torch.linspace(-1, 1, self.num_examples)[:, None].repeat(1, 3)
        return Examples(x, torch.zeros(len(x), dtype=torch.int64), source="made")


class Quadratic:
    generator_sees_real = False
    boundary = 0.0

    def discriminator(self, real, fake):
        return (real - 1) ** 2 + (fake + 1) ** 2

    def generator(self, real, fake):
        return fake**2
"""
MODEL = """
_target_: ganlab.models.Model
latent_dim: 4
generator: {_target_: my_nets.Generator, _partial_: true, width: 8}
discriminator: {_target_: my_nets.Discriminator, _partial_: true, width: 8}
"""


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    (tmp_path / "my_nets.py").write_text(MODULE)
    files = {
        "model/mine": MODEL,
        "dataset/line": "_target_: my_nets.Line\nnum_examples: 100\n",
        "loss/quadratic": "_target_: my_nets.Quadratic\n",
    }
    for name, text in files.items():
        file = tmp_path / "my_conf" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path


CHOICES = ("--config-dir", "my_conf", "model=mine", "dataset=line", "loss=quadratic", "trainer=smoke", "tracker=none")


def test_own_network_dataset_and_loss_are_trained_sampled_and_resumed(beside: Path, ganlab: Run) -> None:
    done = ganlab(*CHOICES, "model.generator.width=12", "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    result = json.loads((beside / "run" / "result.json").read_text())
    assert (result["status"], result["step"], result["dataset"]["name"]) == ("done", 2, "line")

    refused = ganlab("run=run", "out=x.npy", module="ganlab.sample")
    assert refused.returncode == 2
    assert "trust=" in refused.stderr
    sampled = ganlab("run=run", "out=x.npy", "num=5", "trust=[my_nets]", module="ganlab.sample")
    assert sampled.returncode == 0, sampled.stderr
    assert np.load(beside / "x.npy").shape == (5, 3)
    resumed = ganlab("resume=run", "trust=[my_nets]", "trainer.steps=3")
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads((beside / "run" / "result.json").read_text())["step"] == 3


def test_a_gradient_penalty_on_batch_normalization_is_refused_before_the_run(beside: Path, ganlab: Run) -> None:
    """Its forward pass in training mode changes buffers, which torch.func.grad refuses."""
    module = beside / "my_nets.py"
    first_layer = "nn.Linear(shape[0], width), "
    module.write_text(module.read_text().replace(first_layer, f"{first_layer}nn.BatchNorm1d(width), "))
    done = ganlab(*CHOICES, "penalty=r1")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "penalty.r1: the discriminator has batch normalization (layers.1)" in done.stderr
    assert not (beside / "outputs").exists()
    assert ganlab(*CHOICES, "penalty=none", "hydra.run.dir=run").returncode == 0


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("dataset=digits",), "model does not fit dataset digits with examples of shape [1, 8, 8]"),
        (("model.generator.widht=3",), "did you mean width?"),
        (("model.generator.width=wide",), "model.generator.width=wide: must be a valid integer"),
        (("loss._target_=my_nets.Line",), "loss"),
        (("model=yours",), "model=yours: no such option; model has"),
    ],
)
def test_refusals_name_what_does_not_fit(overrides: tuple[str, ...], message: str, beside: Path, ganlab: Run) -> None:
    done = ganlab(*CHOICES, *overrides)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (beside / "outputs").exists()
