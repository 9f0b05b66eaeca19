"""Single runs with a compiled training step: equal to eager ones, resumed bit for bit, and chosen where worthwhile."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import make_run

from ganlab.build import build
from ganlab.config import run_config
from ganlab.errors import ConfigError
from ganlab.runs.checkpoints import read
from ganlab.runs.folder import RunFolder
from ganlab.train import train
from ganlab.training.compiled_step import CompiledStep, should_compile
from ganlab.training.signals import StopSignal
from ganlab.training.step import TrainingStep

NEEDS_COMPILER = pytest.mark.skipif(
    not any(map(shutil.which, ("g++", "clang++", "c++"))), reason="needs a C++ compiler"
)
CIRCLE = ("experiment=circle_tutorial", "trainer.ema_half_life=100")
DIGITS = ("dataset=digits", "model=dcgan_small")


def training_step(folder: Path, *overrides: str) -> TrainingStep:
    return build(run_config.compose(["tracker=none", "metrics=none", *overrides]), RunFolder(folder)).training_step


@NEEDS_COMPILER
def test_a_compiled_step_equals_an_eager_one(tmp_path: Path) -> None:
    same = (*CIRCLE, "penalty=[r1,r2]", "schedule=linear", "trainer.clip_gradient=1", "trainer.steps=100")
    eager, compiled = (training_step(tmp_path / name, *same, f"trainer.compile={name}") for name in ("false", "true"))
    assert (type(eager), type(compiled)) == (TrainingStep, CompiledStep)
    for step in range(100):
        expected, found = (each(step, lr_factor=0.5) for each in (eager, compiled))
        assert expected.keys() == found.keys()
    torch.testing.assert_close(list(found.values()), list(expected.values()), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(compiled.generator.state_dict(), eager.generator.state_dict(), atol=1e-5, rtol=1e-5)


@NEEDS_COMPILER
def test_a_compiled_run_is_resumed_bit_for_bit(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    choices = (
        *CIRCLE,
        "metrics=none",
        "trainer.compile=true",
        "trainer.log_every=0.1",
        "trainer.checkpoint_every=null",
    )
    with caplog.at_level("INFO"):
        whole = make_run(tmp_path / "whole", *choices, "trainer.steps=60")
    assert any(message.startswith("Compiled the training step in") for message in caplog.messages)
    parts = make_run(tmp_path / "parts", *choices, "trainer.steps=30")
    train(run_config.load(parts).override(["trainer.steps=60"]), parts, resume=True)
    expected, found = (read(run / "checkpoints" / "last.pt") for run in (whole, parts))
    for name in ("generator", "discriminator", "ema"):
        for key, value in expected[name].items():
            assert value.equal(found[name][key]), (name, key)


@NEEDS_COMPILER
def test_a_compiled_run_continues_after_a_roll_back(tmp_path: Path) -> None:
    cfg = run_config.compose([*CIRCLE, "tracker=none", "metrics=none", "trainer.compile=true", "trainer.steps=40"])
    whole, parts = (build(cfg, RunFolder(tmp_path / name)) for name in ("whole", "parts"))
    with StopSignal() as stop:
        whole.train(stop)
        parts.recorder.sample(0)
        for step in range(20):
            parts.means.add(parts.training_step(step))
        parts.progress.step = 20
        parts._save_last()
        parts.training_step(20)  # which the roll-back undoes
        parts._restore_from("last")
        parts.train(stop)
    for name in ("generator", "discriminator", "ema"):
        expected, found = (trainer.training_step.state[name].state_dict() for trainer in (whole, parts))
        assert all(value.equal(found[key]) for key, value in expected.items())


@pytest.mark.parametrize(
    ("overrides", "is_compiled"),
    [
        ((*CIRCLE, "trainer.steps=100000"), True),
        ((*CIRCLE, "trainer.steps=1000"), False),
        ((*CIRCLE, "trainer.steps=1000", "trainer.compile=true"), True),
        ((*CIRCLE, "trainer.steps=100000", "trainer.compile=false"), False),
        ((*CIRCLE, "trainer.steps=100000", "model.generator.width=1024", "trainer.batch_size=64"), False),
        ((*DIGITS, "trainer.steps=100000"), False),
    ],
)
def test_only_runs_that_become_faster_are_compiled(
    tmp_path: Path, overrides: tuple[str, ...], is_compiled: bool
) -> None:
    step = training_step(tmp_path, *overrides)
    assert (isinstance(step, CompiledStep) and step.is_compiled) is is_compiled


def test_a_population_is_compiled_earlier_than_a_run(tmp_path: Path) -> None:
    step = training_step(tmp_path, *CIRCLE, "trainer.steps=10000")
    assert not should_compile(step)
    assert should_compile(step, num_runs=2)


def test_steps_are_compiled_on_a_cpu_only(tmp_path: Path) -> None:
    step = training_step(tmp_path, *CIRCLE, "trainer.steps=100000")
    step.device = torch.device("cuda")
    assert not should_compile(step)
    step.compile = True
    with pytest.raises(ConfigError, match=r"trainer\.compile=true: needs device=cpu, not cuda"):
        should_compile(step)


def test_steps_are_compiled_in_one_process_only(tmp_path: Path) -> None:
    step = training_step(tmp_path, *CIRCLE, "trainer.steps=100000")
    step.parallel = SimpleNamespace(num_processes=2)
    assert not should_compile(step)
    step.compile = True
    with pytest.raises(ConfigError, match=r"trainer\.compile=true: needs one process, not 2"):
        should_compile(step)


def test_a_step_that_cannot_be_compiled_runs_as_before(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    step = training_step(tmp_path, *CIRCLE, "optimizer=adam", "trainer.compile=true")
    step.generator_optimizer.param_groups[0]["amsgrad"] = True  # as a user-defined optimizer may
    with caplog.at_level("WARNING"):
        assert "loss_generator" in step(0)
    reason = "optimizer: Adam cannot be stacked with amsgrad"
    assert caplog.messages == [f"WARNING: the training step is not compiled: {reason}"]


def test_networks_that_cannot_be_vectorised_run_as_before(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    step = training_step(tmp_path, *CIRCLE, "trainer.compile=true")
    step.discriminator.register_forward_pre_hook(lambda _, inputs: torch.dropout(inputs[0], 0.5, True))
    with caplog.at_level("WARNING"):
        assert "loss_generator" in step(0)
    (message,) = caplog.messages
    assert message.startswith(
        "WARNING: the training step is not compiled: model: cannot be stacked: vmap: called random"
    )


def test_the_choices_of_compile_are_named() -> None:
    with pytest.raises(ConfigError, match=r"trainer\.compile=maybe: must be 'auto', true or false"):
        run_config.compose(["trainer.compile=maybe"])
