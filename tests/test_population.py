"""A member of a population equals the same run trained alone, in double precision."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch._inductor.exc import InductorError

from ganlab.build import build
from ganlab.config import run_config
from ganlab.config.conf_files import options_of
from ganlab.data.batches import to_model_range
from ganlab.errors import ConfigError
from ganlab.runs.folder import RunFolder
from ganlab.training.population import Population
from ganlab.training.step import TrainingStep

TOLERANCE = 1e-8
POINTS = ("experiment=circle_tutorial", "trainer.steps=50")
IMAGES = ("dataset=digits", "trainer.batch_size=8", "trainer.steps=10")
LINEAR = "++penalty.r1.schedule={_target_: ganlab.schedules.LinearDecay}"
SMALL = ("model.generator.width=4", "model.discriminator.width=4")


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def training_step(folder: Path, *overrides: str) -> TrainingStep:
    cfg = run_config.compose(["tracker=none", "metrics=none", *overrides])
    made = build(cfg, RunFolder(folder)).training_step
    made.batches.data = to_model_range(made.batches.data).double()
    return made


def differences(alone: TrainingStep, member: TrainingStep) -> Iterator[float]:
    for name, part in alone.state.items():
        theirs = member.state[name]
        if isinstance(part, nn.Module) and isinstance(theirs, nn.Module):
            for key, value in part.state_dict().items():
                yield distance(value, theirs.state_dict()[key])
        elif isinstance(part, torch.optim.Optimizer) and isinstance(theirs, torch.optim.Optimizer):
            for state, other in zip(part.state.values(), theirs.state.values(), strict=True):
                yield from (
                    distance(torch.as_tensor(value), torch.as_tensor(other[key])) for key, value in state.items()
                )


def distance(first: Tensor, second: Tensor) -> float:
    return (first.double() - second.double()).abs().max().item()


def assert_equal_to_runs_alone(folder: Path, each: Sequence[Sequence[str]]) -> None:
    alone = [training_step(folder / f"alone {index}", *overrides) for index, overrides in enumerate(each)]
    members = [training_step(folder / f"member {index}", *overrides) for index, overrides in enumerate(each)]
    population = Population(members)
    largest = 0.0
    for step in range(alone[0].last_step):
        numbers = population(step)
        for index, run in enumerate(alone):
            expected = run(step)
            assert expected.keys() == numbers.keys()
            largest = max(largest, *(distance(value, numbers[name][index]) for name, value in expected.items()))
    for run, member in zip(alone, members, strict=True):
        largest = max(largest, *differences(run, member))
    assert largest < TOLERANCE


def seeds(*overrides: str, num: int = 3) -> list[tuple[str, ...]]:
    return [(*overrides, f"seed={seed}") for seed in range(num)]


@pytest.mark.parametrize("loss", options_of("loss"))
def test_every_loss(loss: str, tmp_path: Path) -> None:
    assert_equal_to_runs_alone(tmp_path, seeds(*POINTS, f"loss={loss}"))


@pytest.mark.parametrize("penalty", [*options_of("penalty"), "[r1,gradient_penalty]"])
def test_every_penalty(penalty: str, tmp_path: Path) -> None:
    assert_equal_to_runs_alone(tmp_path, seeds(*POINTS, f"penalty={penalty}"))


@pytest.mark.parametrize("optimizer", options_of("optimizer"))
def test_every_optimizer(optimizer: str, tmp_path: Path) -> None:
    assert_equal_to_runs_alone(tmp_path, seeds(*POINTS, f"optimizer={optimizer}"))


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop"])
def test_momentum(optimizer: str, tmp_path: Path) -> None:
    momentum = ("optimizer.generator.momentum=0.9", "optimizer.generator.weight_decay=0.01")
    nesterov = ("optimizer.generator.nesterov=true",) if optimizer == "sgd" else ()
    assert_equal_to_runs_alone(tmp_path, seeds(*POINTS, f"optimizer={optimizer}", *momentum, *nesterov))


@pytest.mark.parametrize(
    "choice",
    [
        *(f"schedule={name}" for name in options_of("schedule")),
        *(f"latent={name}" for name in options_of("latent")),
        *("trainer.ema_half_life=200", "trainer.clip_gradient=0.01", "trainer.discriminator_steps=3", "model.pack=2"),
        "model.discriminator.spectral_norm=true",
    ],
)
def test_every_other_option(choice: str, tmp_path: Path) -> None:
    assert_equal_to_runs_alone(tmp_path, seeds(*POINTS, choice))


@pytest.mark.parametrize(
    "overrides",
    [
        ("model=dcgan_small", "model.generator.width=4", "augment=diffaugment"),  # batch normalization
        ("model=dcgan_small", "model.generator.width=4", "condition=concatenation", "penalty=r1"),
        ("model=resnet", "condition=projection", *SMALL),  # and spectral normalisation
        ("model=r3gan_small", "model.generator.width=8", "model.discriminator.width=8"),
    ],
    ids=lambda overrides: " ".join(overrides[:2]),
)
def test_images(overrides: tuple[str, ...], tmp_path: Path) -> None:
    assert_equal_to_runs_alone(tmp_path, seeds(*IMAGES, *overrides, "trainer.ema_half_life=50", num=2))


def test_members_may_differ_in_numbers(tmp_path: Path) -> None:
    common = (*POINTS, "optimizer=adam", "loss=non_saturating", "penalty=r1", "schedule=linear", LINEAR)
    columns = {
        "optimizer.generator.lr": (0.001, 0.003, 0.01),
        "optimizer.generator.betas": ("[0.0,0.99]", "[0.5,0.9]", "[0.9,0.999]"),
        "optimizer.generator.weight_decay": (0.0, 0.1, 0.2),
        "optimizer.discriminator.lr": (0.005, 0.01, 0.001),
        "penalty.r1.weight": (0.1, 1.0, 10.0),
        "++penalty.r1.schedule.end": (0.0, 0.5, 1.0),
        "loss.smoothing": (0.0, 0.1, 0.2),
        "schedule.end": (0.0, 0.1, 0.5),
        "trainer.ema_half_life": (100, 200, 300),
        "trainer.clip_gradient": (0.1, 1.0, 10.0),
        "seed": (0, 0, 1),
    }
    rows = zip(*columns.values(), strict=True)
    each = [(*common, *(f"{key}={value}" for key, value in zip(columns, row, strict=True))) for row in rows]
    assert_equal_to_runs_alone(tmp_path, each)


def test_members_may_have_data_of_their_own(tmp_path: Path) -> None:
    small = ("dataset=ring8", "dataset.num_examples=500", "trainer.batch_size=16", "trainer.steps=50")
    assert_equal_to_runs_alone(tmp_path, [(*small, f"dataset.seed={seed}") for seed in range(2)])


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("penalty=none", "penalty=r1", "penalty: must be the same"),
        ("penalty=r1", "penalty=[r1_lazy]", "penalty"),
        ("loss=hinge", "loss=wasserstein", "loss: must be of the same class"),
        ("optimizer=adam", "optimizer=rmsprop", "optimizer: must be of the same class"),
    ],
)
def test_members_that_differ_in_more_are_refused(first: str, second: str, message: str, tmp_path: Path) -> None:
    members = [training_step(tmp_path / choice, *POINTS, choice) for choice in (first, second)]
    with pytest.raises(ConfigError, match=message):
        Population(members)


def test_a_member_that_diverges_leaves_the_others_alone(tmp_path: Path) -> None:
    alone = training_step(tmp_path / "alone", *POINTS, "seed=1")
    members = [training_step(tmp_path / f"{seed}", *POINTS, f"seed={seed}") for seed in range(2)]
    nn.init.constant_(members[0].generator_parameters[0], torch.nan)
    population = Population(members)
    for step in range(20):
        numbers, expected = population(step), alone(step)
    assert numbers["loss_generator"].isfinite().tolist() == [False, True]
    assert max(distance(value, numbers[name][1]) for name, value in expected.items()) < TOLERANCE


def test_a_population_continues_from_restored_members(tmp_path: Path) -> None:
    """The state of the optimizers is taken over, and members can be stacked again at any step."""
    overrides = (*POINTS, "optimizer=adam", "trainer.ema_half_life=200")
    alone = [training_step(tmp_path / f"alone {seed}", *overrides, f"seed={seed}") for seed in range(2)]
    members = [training_step(tmp_path / f"{seed}", *overrides, f"seed={seed}") for seed in range(2)]
    for step in range(5):
        for run in (*alone, *members):
            run(step)
    for first in (5, 10):
        population = Population(members)
        for step in range(first, first + 5):
            population(step)
    for step in range(5, 15):
        for run in alone:
            run(step)
    assert max(gap for run, member in zip(alone, members, strict=True) for gap in differences(run, member)) < TOLERANCE


@pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++", "c++"))), reason="needs a C++ compiler")
def test_compiled_steps_equal_eager_ones(tmp_path: Path) -> None:
    overrides = (*POINTS, "penalty=r1", "schedule=linear", "trainer.ema_half_life=200", "trainer.steps=100")
    each = [(*overrides, f"seed={seed}", f"penalty.r1.weight={1 + seed}") for seed in range(3)]
    eager, compiled = (
        Population([training_step(tmp_path / f"{kind} {index}", *of) for index, of in enumerate(each)])
        for kind in ("eager", "compiled")
    )
    compiled.compile()
    for step in range(100):
        expected, found = eager(step), compiled(step)
    assert max(distance(value, found[name]) for name, value in expected.items()) < 1e-5
    assert distance(eager.generator.flat, compiled.generator.flat) < 1e-5


def test_without_a_compiler_steps_run_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_compiler(*_: object, **__: object) -> Callable[..., None]:
        def fail(*_: object) -> None:
            raise InductorError(RuntimeError("no working C++ compiler found"), None)

        return fail

    monkeypatch.setattr(torch, "compile", no_compiler)
    eager, other = (Population([training_step(tmp_path / name, *POINTS)]) for name in ("eager", "other"))
    other.compile()
    with caplog.at_level("WARNING"):
        for step in range(3):
            expected, found = eager(step), other(step)
    assert max(distance(value, found[name]) for name, value in expected.items()) == 0
    assert [message for message in caplog.messages if "not compiled" in message and "C++ compiler" in message] != []
    assert len(caplog.messages) == 1
