"""The watchdog on synthetic records, and on runs that collapse."""

from __future__ import annotations

import json
import logging
import math
import signal
from functools import partialmethod
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import make_run, save_config
from torch import Tensor

from ganlab.build import build
from ganlab.config import run_config
from ganlab.errors import Diverged, Stopped
from ganlab.runs.checkpoints import read
from ganlab.runs.folder import RunFolder
from ganlab.train import train
from ganlab.training.step import TrainingStep
from ganlab.training.trainer import Trainer
from ganlab.watchdog import CollapseWatchdog

HEALTHY = {"diversity": 0.9, "accuracy": 0.6, "logit_gap": 1.0}


def look(dog: CollapseWatchdog, *changes: dict[str, float], saturates: bool = True) -> list[str]:
    """Return the messages of the watchdog for a series of records with these changes to a healthy one."""
    records = ({"step": step, **HEALTHY, **change} for step, change in enumerate(changes, start=1))
    return [said for record in records if (said := dog.check(record, saturates))]


def test_collapsing_samples_are_detected_after_the_patience() -> None:
    dog = CollapseWatchdog(patience=3)
    assert look(dog, {}, {"diversity": 0.1}, {"diversity": 0.1}) == []
    assert dog.good_step == 1
    (message,) = look(dog, {"diversity": 0.1})
    assert "from 0.900 to 0.100" in message


def test_samples_that_spread_too_far_and_then_no_more_have_not_grown_alike() -> None:
    assert look(CollapseWatchdog(), {"diversity": 90.0}, *[{"diversity": 1.0}] * 5) == []
    (message,) = look(CollapseWatchdog(), {"diversity": 90.0}, *[{"diversity": 0.1}] * 5)
    assert "from 90.000 to 0.100" in message


def test_a_temporary_dip_is_not_a_collapse() -> None:
    alike = {"diversity": 0.1}
    assert look(CollapseWatchdog(patience=3), {}, alike, alike, {}, alike, alike) == []
    assert look(CollapseWatchdog(), *({"diversity": share} for share in (0.01, 0.02, 0.1, 0.5, 0.9))) == []


@pytest.mark.parametrize("saturates", [True, False])
def test_a_saturated_discriminator_is_detected_where_logits_are_meaningful(saturates: bool) -> None:
    said = look(CollapseWatchdog(), *[{"accuracy": 1.0, "logit_gap": 40.0}] * 3, saturates=saturates)
    assert ["always right" in message for message in said] == [True] * saturates


@pytest.mark.parametrize("name", ["modes", "classes"])
def test_lost_modes_are_detected_at_once(name: str) -> None:
    assert look(CollapseWatchdog(), {name: 8.0}, {}, {name: 4.0}) == []
    assert look(CollapseWatchdog(), {name: 8.0}, {}, {name: 3.0}) == [f"only 3 of 8 {name} are left"]


def test_few_modes_come_and_go_while_a_run_begins() -> None:
    assert look(CollapseWatchdog(), {"modes": 3.0}, {"modes": 0.0}, {"modes": 1.0}) == []


def test_what_is_measured_otherwise_is_no_loss() -> None:
    dog = CollapseWatchdog()
    look(dog, {"modes": 25.0})
    dog.forget(["modes"])
    assert look(dog, {"modes": 4.0}, {"modes": 4.0}) == []
    assert len(look(dog, {"modes": 1.0})) == 1


def test_each_collapse_is_reported_once() -> None:
    alike = {"diversity": 0.0}
    assert len(look(CollapseWatchdog(patience=2), {}, alike, alike, alike, {}, alike, alike)) == 2


def test_the_state_of_the_watchdog_is_restored() -> None:
    first, second = CollapseWatchdog(patience=2), CollapseWatchdog(patience=2)
    look(first, {}, {"diversity": 0.1})
    second.load_state_dict(first.state_dict())
    assert len(look(second, {"diversity": 0.1})) == 1


def constant_from(step: int, until: int = 10**9) -> Any:
    """A training step, but for a generator that is set to zero, hence makes one point, from a step on."""
    call = TrainingStep.__call__

    def broken(training_step: TrainingStep, number: int, lr_factor: float) -> dict[str, Tensor]:
        numbers = call(training_step, number, lr_factor)
        if step <= number + 1 < until and lr_factor == 1:
            with torch.no_grad():
                for parameter in training_step.generator.parameters():
                    parameter.zero_()
        return numbers

    return broken


SHORT = ("trainer.steps=40", "trainer.log_every=0.05", "trainer.checkpoint_every=0.1")  # 3 and 6 of 62 steps


def test_a_run_with_collapsing_samples_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TrainingStep, "__call__", constant_from(10))
    with pytest.raises(Diverged, match="too similar"):
        make_run(tmp_path / "run", *SHORT, "watchdog=stop")
    assert json.loads((tmp_path / "run" / "result.json").read_text())["status"] == "diverged"


def test_a_run_that_continues_records_its_collapse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(TrainingStep, "__call__", constant_from(10))
    with caplog.at_level(logging.WARNING):
        folder = make_run(tmp_path / "run", *SHORT)
    result = json.loads((folder / "result.json").read_text())
    assert result["status"] == "done"
    assert "too similar" in result["collapsed"]
    assert sum("too similar" in message for message in caplog.messages) == 1


def test_a_run_rolls_back_to_its_last_good_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TrainingStep, "__call__", constant_from(10))
    folder = make_run(tmp_path / "run", *SHORT, "watchdog=roll_back")
    result = json.loads((folder / "result.json").read_text())
    assert (result["status"], result["step"], result["roll_backs"]) == ("done", 40, 1)
    history = RunFolder(folder).history()
    assert [r["step"] for r in history] == [*range(3, 40, 3), 40]  # each once: undone records are not kept
    assert min(r["diversity"] for r in history) > 0.01


def test_the_checkpoint_for_a_roll_back_is_not_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TrainingStep, "__call__", constant_from(10))
    many = (*SHORT[:2], "trainer.checkpoint_every=0.016", "trainer.keep_checkpoints=2")  # of each step
    folder = make_run(tmp_path / "run", *many, "watchdog=roll_back")
    result = json.loads((folder / "result.json").read_text())
    assert (result["status"], result["roll_backs"]) == ("done", 1)
    assert sorted(file.name for file in (folder / "checkpoints").glob("step_*")) == [
        "step_00000039.pt", "step_00000040.pt"]  # fmt: skip


def test_a_run_does_not_roll_back_to_a_pause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TrainingStep, "__call__", constant_from(10))
    overrides = (*SHORT, "watchdog=roll_back", "trainer.evaluate_every=0.15")  # 9 of 62 steps
    whole = make_run(tmp_path / "whole", *overrides)
    cfg = run_config.compose(["tracker=none", "metrics=none", *overrides])
    save_config(cfg, tmp_path / "run")
    train(cfg, tmp_path / "run", until=0.2)
    assert RunFolder(tmp_path / "run").history()[-1]["step"] == 9
    train(cfg, tmp_path / "run", resume=True)
    assert RunFolder(tmp_path / "run").history() == RunFolder(whole).history()


@pytest.mark.parametrize("left_by", ["pause", "signal"])
def test_a_run_left_while_it_diverges_goes_back_as_if_it_had_not_been(
    left_by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = TrainingStep.__call__

    def broken(
        training_step: TrainingStep, number: int, lr_factor: float, signalled: bool = False
    ) -> dict[str, Tensor]:
        numbers = call(training_step, number, lr_factor)
        if number == 9 and lr_factor == 1:  # step 10 is neither logged nor saved
            torch.nn.init.constant_(training_step.generator_parameters[0], math.inf)
            if signalled:
                signal.raise_signal(signal.SIGTERM)
        return numbers

    monkeypatch.setattr(TrainingStep, "__call__", broken)
    overrides = (*SHORT, "watchdog=roll_back", "trainer.evaluate_every=0.16")  # 10 of 62 steps
    whole = make_run(tmp_path / "whole", *overrides)
    cfg = run_config.compose(["tracker=none", "metrics=none", *overrides])
    folder = tmp_path / "run"
    save_config(cfg, folder)
    if left_by == "pause":
        train(cfg, folder, until=0.25)
        assert RunFolder(folder).history()[-1]["step"] == 9
    else:
        with monkeypatch.context() as patch, pytest.raises(Stopped, match="after step 6 of 40, saved"):
            patch.setattr(TrainingStep, "__call__", partialmethod(broken, signalled=True))
            train(cfg, folder)
    train(cfg, folder, resume=True)
    assert json.loads((folder / "result.json").read_text())["roll_backs"] == 1
    assert RunFolder(folder).history() == RunFolder(whole).history()


def test_what_came_after_the_good_checkpoint_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    roll_back = Trainer._roll_back
    went_back: list[tuple[int, list[int], int]] = []

    def look(trainer: Trainer, error: Diverged) -> None:
        roll_back(trainer, error)
        last = read(trainer.checkpoints.find("last"))["progress"]["step"]
        went_back.append((trainer.progress.step, trainer.checkpoints.steps(), last))

    monkeypatch.setattr(TrainingStep, "__call__", constant_from(10))
    monkeypatch.setattr(Trainer, "_roll_back", look)
    make_run(tmp_path / "run", *SHORT, "watchdog=roll_back")
    assert went_back == [(6, [6], 6)]  # a crash now would resume from there


def test_a_roll_back_halves_the_learning_rates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TrainingStep, "__call__", constant_from(10))
    cfg = run_config.compose(["tracker=none", "metrics=none", "watchdog=roll_back", *SHORT])
    save_config(cfg, tmp_path / "run")
    trainers: list[Trainer] = []
    monkeypatch.setattr("ganlab.build.build", lambda *a, **k: trainers.append(build(*a, **k)) or trainers[-1])
    train(cfg, tmp_path / "run")
    lr = trainers[0].training_step.generator_optimizer.param_groups[0]["lr"]
    assert lr == pytest.approx(cfg.select("optimizer.generator.lr") / 2)


def test_without_a_good_checkpoint_the_run_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TrainingStep, "__call__", constant_from(4))
    with pytest.raises(Diverged, match=r"too similar.*; no checkpoint at or before step 3 to roll back to"):
        make_run(tmp_path / "run", *SHORT, "watchdog=roll_back")


def test_a_loss_that_is_no_number_is_gone_back_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call = TrainingStep.__call__

    def broken(training_step: TrainingStep, number: int, lr_factor: float) -> dict[str, Tensor]:
        numbers = call(training_step, number, lr_factor)
        if number == 19 and lr_factor == 1:
            numbers["loss_generator"] = torch.tensor(float("nan"))
        return numbers

    monkeypatch.setattr(TrainingStep, "__call__", broken)
    folder = make_run(tmp_path / "run", *SHORT, "watchdog=roll_back")
    assert json.loads((folder / "result.json").read_text())["status"] == "done"
    with pytest.raises(Diverged):
        make_run(tmp_path / "other", *SHORT, "watchdog=none")


def test_the_time_of_the_steps_that_a_roll_back_undoes_still_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spent: list[tuple[float, float]] = []
    roll_back = Trainer._roll_back

    def timed(trainer: Trainer, error: Diverged) -> None:
        before = trainer.progress.seconds
        roll_back(trainer, error)
        spent.append((before, trainer.progress.seconds))

    monkeypatch.setattr(TrainingStep, "__call__", constant_from(10))
    monkeypatch.setattr(Trainer, "_roll_back", timed)
    folder = make_run(tmp_path / "run", *SHORT, "watchdog=roll_back")
    ((before, after),) = spent
    assert after == before
    assert json.loads((folder / "result.json").read_text())["seconds"] >= round(before, 2)
