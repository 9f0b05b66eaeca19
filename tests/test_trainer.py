"""The trainer against the tutorial's own loop and against interrupted runs, and a problem that it must solve."""

from __future__ import annotations

import copy
import json
import math
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_run, save_config
from omegaconf import DictConfig
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ganlab import load_run, optimizers
from ganlab.build import build
from ganlab.config import run_config
from ganlab.data.batches import Batches
from ganlab.data.points import Circle
from ganlab.errors import CheckpointError, Diverged, OperationalError, Stopped
from ganlab.game import Game
from ganlab.models import spectral_norm
from ganlab.models.dcgan_small import DCGANDiscriminator
from ganlab.models.latents import Normal
from ganlab.models.mlp import MLPDiscriminator, MLPGenerator
from ganlab.models.resnet import ResNetGenerator
from ganlab.penalties import R1, ForwardPass
from ganlab.rng import StepRNG, seeded
from ganlab.runs.checkpoints import Checkpoints, read
from ganlab.runs.folder import RunFolder
from ganlab.train import train
from ganlab.training.cadence import Interval
from ganlab.training.ema import AveragedGenerator
from ganlab.training.noise import Noise
from ganlab.training.step import TrainingStep, optimizer_step


def history(folder: Path) -> list[dict[str, float]]:
    return RunFolder(folder).history()


def share_on_circle(points: np.ndarray) -> float:
    return float((np.abs(np.hypot(*points.T) - Circle.radius) < 0.05).mean())


def tutorial_loop(epochs: int) -> list[dict[str, float]]:
    """Train as the tutorial does, with BCELoss on probabilities, on the batches and noise of the run."""
    data, cpu = Circle().load().data, torch.device("cpu")
    with seeded(0, "weights"):
        generator, logits = MLPGenerator(2, (2,), 0), MLPDiscriminator((2,), 0)
    discriminator = nn.Sequential(logits, nn.Sigmoid())
    batches, noise, loss = Batches(data, 4, 0), Noise(Normal(), 2, 4, 0, cpu), nn.BCELoss()
    generator_optimizer = torch.optim.RMSprop(generator.parameters(), lr=0.001)
    discriminator_optimizer = torch.optim.RMSprop(discriminator.parameters(), lr=0.005)
    real_label, fake_label = torch.ones(4), torch.zeros(4)
    records = []
    for epoch in range(epochs):
        sum_d = sum_g = correct = 0.0
        for step in range(epoch * 250, (epoch + 1) * 250):
            discriminator_optimizer.zero_grad()
            generator_optimizer.zero_grad()
            real_output = discriminator(batches(step).x)
            fake = generator(noise(step))
            fake_output = discriminator(fake.detach())
            error_d = loss(real_output, real_label) + loss(fake_output, fake_label)
            error_d.backward()
            correct += ((real_output >= 0.5).sum() + (fake_output < 0.5).sum()).item()
            discriminator_optimizer.step()
            error_g = loss(discriminator(fake), real_label)
            error_g.backward()
            generator_optimizer.step()
            sum_d, sum_g = sum_d + error_d.item(), sum_g + error_g.item()
        records.append({"loss_discriminator": sum_d / 250, "loss_generator": sum_g / 250, "accuracy": correct / 2000})
    return records


def test_circle_tutorial_is_the_tutorial_s_loop(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", "experiment=circle_tutorial", "trainer.epochs=2", "trainer.sample_every=null")
    for mine, theirs in zip(history(folder), tutorial_loop(2), strict=True):
        for name, value in theirs.items():
            assert mine[name] == pytest.approx(value, rel=1e-3), name


@pytest.mark.parametrize("overrides", [(), ("dataset=digits", "model=dcgan_small")], ids=["circle", "digits"])
def test_same_seed_same_run_and_another_seed_another(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    short = (*overrides, "trainer.steps=5", "trainer.log_every=0.01")
    first, again = make_run(tmp_path / "a", *short), make_run(tmp_path / "b", *short)
    assert history(first) == history(again)
    assert history(make_run(tmp_path / "c", *short, "seed=1")) != history(first)


@pytest.mark.parametrize(
    ("fraction", "every", "last_step", "expected"),
    [
        *((0.1, 3, 30, 3), (0.1, 4, 30, 4), (1 / 3, 3100, 18600, 6200), (1e-6, 7, 30, 7), (0.7, 1, 10, 7)),
        *((0.9, 20, 30, 30), (0.5, 40, 30, 30), (0.5, None, 30, 30)),  # only at the end
    ],
)
def test_the_first_evaluation_at_or_after_a_fraction(
    fraction: float, every: int | None, last_step: int, expected: int
) -> None:
    interval = Interval(every, last_step)
    due = [step for step in range(1, last_step + 1) if interval.is_due(step)]
    assert interval.first_due(fraction) == expected
    assert expected == next(step for step in due if step >= round(fraction * last_step, 6))


def test_a_run_pauses_only_where_it_is_evaluated_and_goes_on_as_if_it_had_not(tmp_path: Path) -> None:
    short = ("trainer.steps=30", "trainer.log_every=0.05", "trainer.evaluate_every=0.13")  # 3 and 8 of 62 steps
    measured = (*short, "metrics=default", "metrics.num=100", "metrics.num_real=100")
    whole = make_run(tmp_path / "whole", *measured)
    cfg = run_config.compose(["tracker=none", *measured])
    folder = tmp_path / "paused"
    save_config(cfg, folder)
    train(cfg, folder, until=0.3)
    paused = json.loads((folder / "result.json").read_text())
    assert (paused["status"], paused["error"], paused["step"], paused["last_step"]) == ("stopped", None, 16, 30)
    before = (folder / "metrics.jsonl").read_bytes()
    train(cfg, folder, resume=True, until=0.3)  # already saved
    assert (folder / "metrics.jsonl").read_bytes() == before
    RunFolder(folder).note(halted="it was the worst")
    train(cfg, folder, resume=True, until=0.6)
    result = json.loads((folder / "result.json").read_text())
    assert (result["step"], result["halted"]) == (24, None)
    train(cfg, folder, resume=True)
    assert json.loads((folder / "result.json").read_text())["status"] == "done"
    assert (folder / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert Checkpoints(folder / "checkpoints").steps() == Checkpoints(whole / "checkpoints").steps()


def test_a_short_circle_run_learns(tmp_path: Path) -> None:
    folder = make_run(
        tmp_path / "run", "trainer.epochs=120", "trainer.sample_every=null", "trainer.checkpoint_every=null"
    )
    cfg = run_config.load(folder)
    untrained = build(cfg, RunFolder(tmp_path / "untrained")).training_step.generator
    before = share_on_circle(untrained(torch.randn(2000, 2)).detach().numpy())
    after = share_on_circle(load_run(folder).sample(2000).numpy())
    assert after > 0.3
    assert after > 2 * before


EVERYTHING = (
    *("condition=projection", "augment=diffaugment", "penalty=[r1,dragan]", "penalty.r1.interval=3"),
    *("loss=relativistic", "latent=truncated", "schedule=cosine", "trainer.clip_gradient=1"),
    "model.discriminator.spectral_norm=true",
)


@pytest.mark.parametrize("choices", [(), EVERYTHING], ids=["default", "everything"])
@pytest.mark.parametrize("how", ["a signal", "a crash between two checkpoints"])
def test_a_resumed_run_is_the_uninterrupted_one(how: str, choices: tuple[str, ...], tmp_path: Path) -> None:
    overrides = ("dataset=digits", "model=dcgan_small", "trainer.steps=12", *choices)
    cadence = ("trainer.log_every=0.05", "trainer.checkpoint_every=0.08")  # 3 and 4 of 56 steps
    whole = make_run(tmp_path / "whole", *overrides, *cadence)
    folder = tmp_path / "interrupted"
    cfg = run_config.compose(["tracker=none", "metrics=none", *overrides, *cadence])
    save_config(cfg, folder)
    if how == "a signal":
        stop_at(folder, cfg, step=7)
    else:
        crash_at(folder, cfg, step=7)
        assert [record["step"] for record in history(folder)] == [3, 6]  # 6 is after the checkpoint of step 4
    train(run_config.load(folder), folder, resume=True)
    assert history(folder) == history(whole)
    assert json.loads((folder / "result.json").read_text())["status"] == "done"
    mine, theirs = (read(run / "checkpoints" / "last.pt") for run in (folder, whole))
    for part in ("generator", "discriminator", "ema", "generator_optimizer", "discriminator_optimizer"):
        torch.testing.assert_close(mine[part], theirs[part], rtol=0, atol=0)


def test_a_crash_costs_little_however_far_apart_the_checkpoints_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = ("trainer.steps=12", "trainer.log_every=0.05", "trainer.checkpoint_every=null")
    whole = make_run(tmp_path / "whole", *overrides)
    folder = tmp_path / "crashed"
    cfg = run_config.compose(["tracker=none", "metrics=none", *overrides])
    save_config(cfg, folder)
    monkeypatch.setattr("ganlab.training.trainer.MAX_SECONDS_UNSAVED", 0.0)
    crash_at(folder, cfg, step=9)
    assert Checkpoints(folder / "checkpoints").steps() == []  # numbered ones only where they were asked for
    assert read(folder / "checkpoints" / "last.pt")["progress"]["step"] == 8
    train(run_config.load(folder), folder, resume=True)
    assert history(folder) == history(whole)
    mine, theirs = (read(run / "checkpoints" / "last.pt") for run in (folder, whole))
    for part in ("generator", "discriminator", "generator_optimizer", "discriminator_optimizer"):
        torch.testing.assert_close(mine[part], theirs[part], rtol=0, atol=0)


def test_what_was_just_saved_is_not_saved_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[int] = []
    save_last = Checkpoints.save_last

    def save(checkpoints: Checkpoints, state: dict[str, Any]) -> None:
        saved.append(state["progress"].step)
        save_last(checkpoints, state)

    monkeypatch.setattr(Checkpoints, "save_last", save)
    overrides = ("trainer.steps=9", "trainer.checkpoint_every=0.048", "trainer.sample_every=null")  # 3 of 62 steps
    make_run(tmp_path / "slow", *overrides)
    assert saved == []
    monkeypatch.setattr("ganlab.training.trainer.MAX_SECONDS_UNSAVED", 0.0)
    make_run(tmp_path / "quick", *overrides)
    assert saved == [1, 2, 4, 5, 7, 8]


def test_the_discriminator_has_updates_of_its_own_on_batches_of_its_own(tmp_path: Path) -> None:
    choices = ("dataset=digits", "model=dcgan_small", "tracker=none", "metrics=none", "trainer.epochs=1")
    training_step = build(
        run_config.compose([*choices, "trainer.discriminator_steps=3"]), RunFolder(tmp_path / "run")
    ).training_step
    assert training_step.last_step == 1797 // 32 // 3
    drawn: list[int] = []
    batches = training_step.batches
    training_step.batches = lambda index: drawn.append(index) or batches(index)
    count = {"discriminator": 0, "generator": 0}
    for player in count:
        optimizer = getattr(training_step, f"{player}_optimizer")
        optimizer.register_step_post_hook(lambda *_, player=player: count.update({player: count[player] + 1}))
    training_step(0)
    training_step(1)
    assert drawn == [0, 1, 2, 3, 4, 5]
    assert count == {"discriminator": 6, "generator": 2}


def test_the_numbers_of_a_step_are_those_of_all_its_updates(tmp_path: Path) -> None:
    choices = ("dataset=digits", "model=dcgan_small", "tracker=none", "metrics=none", "penalty.r1.interval=2")
    training_step = build(
        run_config.compose([*choices, "trainer.discriminator_steps=2"]), RunFolder(tmp_path / "run")
    ).training_step
    seen = []
    loss = Game.discriminator_loss
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Game, "discriminator_loss", lambda *given: seen.append(loss(*given)) or seen[-1])
        numbers = training_step(0)
    due, lazy = (d.penalties["r1"].item() for d in seen)
    assert due > 0
    assert lazy == 0
    assert numbers["penalty_r1"].item() == pytest.approx(due / 2)
    assert numbers["loss_discriminator"].item() == pytest.approx(sum(d.adversarial.item() for d in seen) / 2)


def test_a_clipped_gradient_has_at_most_that_norm() -> None:
    layer = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    before = torch.cat([p.detach().clone().flatten() for p in layer.parameters()])
    optimizer_step(100 * layer(torch.ones(1, 4)).sum(), list(layer.parameters()), optimizer, clip=0.25)
    after = torch.cat([p.detach().flatten() for p in layer.parameters()])
    assert (after - before).norm().item() == pytest.approx(0.25, rel=1e-4)


def test_gradient_norms_are_those_of_the_last_update(tmp_path: Path) -> None:
    choices = ["dataset=digits", "model=dcgan_small", "tracker=none", "metrics=none", "trainer.clip_gradient=0.001"]
    trainer = build(run_config.compose(choices), RunFolder(tmp_path / "run"))
    trainer.training_step(0)
    measured = trainer.recorder.diagnostics.measure()
    for player in ("generator", "discriminator"):
        assert measured[f"gradient_{player}"] == pytest.approx(0.001, rel=1e-3)


def test_spectral_norms_follow_the_weights(tmp_path: Path) -> None:
    choices = [
        "dataset=digits",
        "model=dcgan_small",
        "model.discriminator.spectral_norm=true",
        "tracker=none",
        "metrics=none",
    ]
    training_step = build(run_config.compose(choices), RunFolder(tmp_path / "run")).training_step
    vectors = [buffer for name, buffer in training_step.discriminator.named_buffers() if name.endswith(".right")]
    before = [vector.clone() for vector in vectors]
    for step in range(5):
        training_step(step)
    assert vectors
    assert not any(torch.equal(a, b) for a, b in zip(before, vectors, strict=True))
    layers = [m for m in training_step.discriminator.modules() if isinstance(m, nn.Conv2d)]
    assert layers
    for layer in layers:
        norm = torch.linalg.matrix_norm(layer.weight.detach().flatten(1), ord=2).item()
        assert norm == pytest.approx(1.0, abs=0.05)


def test_resuming_with_another_learning_rate_uses_it(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", "trainer.steps=2")
    cfg = run_config.load(folder).override(["trainer.steps=4", "optimizer.generator.lr=0.25"])
    train(cfg, folder, resume=True)
    content = read(folder / "checkpoints" / "last.pt")
    assert content["generator_optimizer"]["param_groups"][0]["lr"] == 0.25
    assert run_config.load(folder).select("optimizer.generator.lr") == 0.25
    assert run_config.load(folder).select("trainer.steps") == 4


def crash_at(folder: Path, cfg: DictConfig, step: int) -> None:
    call = TrainingStep.__call__

    def crash(training_step: TrainingStep, number: int, lr_factor: float) -> dict[str, torch.Tensor]:
        if number == step - 1:
            raise RuntimeError("a cosmic ray")
        return call(training_step, number, lr_factor)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(OperationalError, match="RuntimeError: a cosmic ray"):
        patch.setattr(TrainingStep, "__call__", crash)
        train(cfg, folder)
    assert json.loads((folder / "result.json").read_text())["status"] == "failed"


def stop_at(folder: Path, cfg: DictConfig, step: int) -> None:
    """Train until a signal comes in the middle of a step."""
    call = TrainingStep.__call__

    def interrupted(training_step: TrainingStep, number: int, lr_factor: float) -> dict[str, torch.Tensor]:
        if number == step - 1:
            signal.raise_signal(signal.SIGTERM)
        return call(training_step, number, lr_factor)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stopped) as stopped:
        patch.setattr(TrainingStep, "__call__", interrupted)
        train(cfg, folder)
    assert stopped.value.exit_code == 143
    assert f"step {step} " in str(stopped.value)


def test_a_run_without_a_checkpoint_starts_over(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", "trainer.steps=4", "trainer.log_every=0.001")
    expected = history(folder)
    for file in (folder / "checkpoints").iterdir():
        file.unlink()
    train(run_config.load(folder), folder, resume=True)
    assert history(folder) == expected


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("result.json", b"{}"),
        ("result.json", b"no json"),
        ("metrics.jsonl", b'{"step": 1, "epoch": 0.1}\nrubbish\n{"step": 2, "epoch": 0.2}\n'),
        ("metrics.jsonl", b'\xff\xfe\n{"step": 2, "epoch": 0.2}\n'),
        ("metrics.jsonl", b'{"loss": 1}\n{"step": 2, "epoch": 0.2}\n'),
        (".hydra/config.yaml", b"a: [1"),
        ("checkpoints/last.pt", b"rubbish"),
    ],
)
def test_resume_names_a_file_that_is_broken(file: str, content: bytes, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", "trainer=smoke", "trainer.sample_every=null")
    (folder / file).write_bytes(content)
    with pytest.raises(CheckpointError, match=file):
        train(run_config.load(folder), folder, resume=True)


def test_resume_makes_folders_that_are_gone(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", "trainer=smoke")
    for name in ("samples", "figures", "checkpoints"):
        shutil.rmtree(folder / name)
    train(run_config.load(folder), folder, resume=True)
    assert (folder / "figures" / "final.png").exists()


def test_resume_refuses_a_checkpoint_of_other_networks(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", "trainer.steps=2")
    cfg = run_config.compose(["tracker=none", "metrics=none", "trainer.steps=2", "model.generator.width=9"])
    with pytest.raises(CheckpointError, match=r"last.pt: generator.layers.0.weight: shape \[8, 2\], expected \[9, 2\]"):
        train(cfg, folder, resume=True)


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    overrides = [
        "tracker=none",
        "metrics=none",
        "trainer.steps=30",
        "trainer.checkpoint_every=0.08",
        "trainer.log_every=0.16",
    ]
    cfg = run_config.compose(overrides)
    save_config(cfg, folder)
    call = TrainingStep.__call__

    def broken(training_step: TrainingStep, number: int, lr_factor: float) -> dict[str, torch.Tensor]:
        numbers = call(training_step, number, lr_factor)
        return numbers | {"loss_generator": torch.tensor(math.nan)} if number == 10 else numbers

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Diverged, match=r"loss_generator.*step"):
        patch.setattr(TrainingStep, "__call__", broken)
        train(cfg, folder)
    assert Diverged.exit_code == 3
    assert json.loads((folder / "result.json").read_text())["status"] == "diverged"
    assert read(folder / "checkpoints" / "last.pt")["progress"]["step"] == 10


def test_weights_that_are_no_numbers_are_not_saved(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    cfg = run_config.compose(
        ["tracker=none", "metrics=none", "trainer.steps=30", "trainer.checkpoint_every=0.16", "trainer.log_every=0.16"]
    )
    save_config(cfg, folder)
    call = TrainingStep.__call__

    def broken(training_step: TrainingStep, number: int, lr_factor: float) -> dict[str, torch.Tensor]:
        numbers = call(training_step, number, lr_factor)
        if number == 19:  # step 20 is logged and saved, with losses computed before this
            torch.nn.init.constant_(training_step.generator_parameters[0], math.nan)
        return numbers

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Diverged, match="weights of the generator"):
        patch.setattr(TrainingStep, "__call__", broken)
        train(cfg, folder)
    assert read(folder / "checkpoints" / "last.pt")["progress"]["step"] == 10


def test_pictures_change_nothing(tmp_path: Path) -> None:
    short = ("dataset=digits", "model=dcgan_small", "trainer.steps=8", "trainer.log_every=0.02")
    often = make_run(tmp_path / "often", *short, "trainer.sample_every=0.02")
    never = make_run(tmp_path / "never", *short, "trainer.sample_every=null")
    assert history(often) == history(never)


def test_the_last_step_is_never_missed(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", "trainer.steps=7", "trainer.log_every=0.048")  # every 3 of 62 steps
    assert [record["step"] for record in history(folder)] == [3, 6, 7]
    assert read(folder / "checkpoints" / "last.pt")["progress"]["step"] == 7


def test_steps_win_over_epochs_and_smoke_makes_two(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", "trainer=smoke", "trainer.epochs=50")
    assert history(folder)[-1]["step"] == 2


@pytest.mark.parametrize("optimizer", [optimizers.adam, optimizers.rmsprop])
def test_a_step_is_the_same_in_channels_last_layout(optimizer: Callable[..., torch.optim.Optimizer]) -> None:
    """A fused optimizer reads gradients in memory order, so a gradient in another layout than its parameter gives wrong
    updates."""
    torch.manual_seed(0)
    first = DCGANDiscriminator((1, 28, 28), 0)
    last = copy.deepcopy(first).to(memory_format=torch.channels_last)
    x = torch.rand(16, 1, 28, 28)
    for network in (first, last):
        before = {name: value.clone() for name, value in network.named_parameters()}
        forward = ForwardPass(network, x, keeps_graph=True)
        loss = (forward.logit + R1(weight=1.0)(network, forward, forward, StepRNG(0, "", 0, x.device))).mean()
        expected = torch.autograd.grad(loss, list(network.parameters()), retain_graph=True)
        optimizer_step(loss, list(network.parameters()), optimizer(network.parameters(), lr=0.01))
        for (name, after), gradient in zip(network.named_parameters(), expected, strict=True):
            against = (
                before[name] - after
            ) * gradient  # the first step of both optimizers is along the negative sign of the gradient
            assert (against >= 0).all(), name


def test_the_average_equals_the_one_of_pytorch() -> None:
    """A half-life of 100 images is two steps of 50, so each step has a decay of sqrt(1 / 2)."""
    torch.manual_seed(0)
    network = nn.Linear(3, 2)
    average = AveragedGenerator(network, half_life=100.0, batch_size=50, ramp=None)
    reference = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(math.sqrt(0.5)))
    reference.update_parameters(network)  # its first update copies the weights
    for step in range(1, 20):
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter)
        average.update(network, step)
        reference.update_parameters(network)
    for mine, theirs in zip(average.module.parameters(), reference.module.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_the_ramp_limits_the_half_life_to_a_fraction_of_the_images_seen() -> None:
    """A fraction of 0.5 gives step t a decay of 0.5^(2 / t); the initial weight keeps the product of the decays."""
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 1.0)
    average = AveragedGenerator(network, half_life=150.0, batch_size=50, ramp=0.5)
    nn.init.constant_(network.weight, 0.0)
    for step in range(1, 9):  # from step 6 on the half-life is 150 images, three steps
        average.update(network, step)
    exponent = 2 * (1 + 1 / 2 + 1 / 3 + 1 / 4 + 1 / 5) + 3 * (1 / 3)
    assert average.module.weight.item() == pytest.approx(0.5**exponent)


def test_the_spectral_norms_of_the_average_are_of_its_own_weights() -> None:
    torch.manual_seed(0)
    network = ResNetGenerator(8, (1, 8, 8), 0, width=8, max_width=8, spectral_norm=True)
    average = AveragedGenerator(network, half_life=5000, batch_size=50, ramp=None)
    for step in range(1, 201):
        for parameter in network.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
        spectral_norm.update(network)
        network(torch.randn(4, 8))  # the statistics of the batch normalisation are buffers too
        average.update(network, step)
    layers = [m for m in average.module.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(layers) > 3
    for layer in layers:
        norm = torch.linalg.matrix_norm(layer.weight.flatten(1), ord=2).item()
        assert norm == pytest.approx(1.0, abs=0.005)
    mine, theirs = average.module.state_dict(), network.state_dict()
    for name in mine:
        if "running" in name:
            assert torch.equal(mine[name], theirs[name])
