"""Sweeps whose jobs train as populations: same folders and records as any sweep, and resumed bit for bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import make_run, results, wait_for_jobs
from fork_server import Forked

from ganlab import load_run
from ganlab.build import build
from ganlab.config import run_config
from ganlab.config.stackable import without_stackable
from ganlab.runs.folder import RunFolder
from ganlab.training.population import largest_population, memory_per_member

Command = Callable[..., "subprocess.CompletedProcess[str]"]
Start = Callable[..., Forked | subprocess.Popen[str]]

SWEEP = ("-m", "hydra/launcher=vectorized", "sweep_dir=sweep", "tracker=none", "trainer.sample_every=null")
MEASURED = ("metrics.num=100", "metrics.num_real=100")


def process_that_locks(folder: Path) -> int:
    lock = str(folder / ".lock")
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):  # the process has ended
            if os.readlink(link) == lock:
                return int(link.parts[2])
    raise AssertionError(f"no process uses {lock}")


def statuses(sweep: Path) -> dict[str, str]:
    return {job: result["status"] for job, result in results(sweep).items()}


def test_members_have_the_records_of_runs_trained_alone(ganlab: Command, tmp_path: Path) -> None:
    short = ("trainer.steps=20", "trainer.log_every=0.1", "trainer.evaluate_every=0.1", *MEASURED)
    done = ganlab(*SWEEP, *short, "seed=0,1", "optimizer.generator.lr=0.001,0.01", "trainer.ema_half_life=100")
    assert done.returncode == 0, done.stderr
    assert "Training 4 jobs together" in done.stdout
    assert "4 runs of 2 configurations" in done.stdout
    folder = tmp_path / "sweep" / "3"
    choices = ("seed=1", "optimizer.generator.lr=0.01", "trainer.ema_half_life=100", "metrics=default")
    alone = make_run(tmp_path / "alone", *short, "trainer.sample_every=null", *choices)
    mine, theirs = (RunFolder(path).history() for path in (folder, alone))
    assert [record.keys() for record in mine] == [record.keys() for record in theirs]
    for ours, expected in zip(mine, theirs, strict=True):
        assert ours == pytest.approx(expected, rel=0.01, abs=1e-4)
    result, expected = (json.loads((path / "result.json").read_text()) for path in (folder, alone))
    assert result.keys() == expected.keys()
    assert result["config_hash"] == expected["config_hash"]
    assert load_run(folder).sample(3) == pytest.approx(load_run(alone).sample(3), abs=1e-3)
    assert (folder / "report.html").is_file()
    overrides = (folder / ".hydra" / "overrides.yaml").read_text().split()
    assert overrides.count("seed=1") == 1


def test_members_have_the_files_that_hydra_writes_for_a_job(ganlab: Command, tmp_path: Path) -> None:
    short = ("metrics=none", "trainer.steps=1", "seed=0,1", "optimizer.generator.lr=1e-3")
    assert ganlab(*SWEEP, *short).returncode == 0
    (tmp_path / "sweep").rename(tmp_path / "members")
    by_processes = ["hydra/launcher=processes" if "launcher" in argument else argument for argument in SWEEP]
    assert ganlab(*by_processes, *short).returncode == 0
    for name in ("config.yaml", "overrides.yaml", "hydra.yaml"):
        ours, hydras = ((tmp_path / sweep / "1" / ".hydra" / name).read_text() for sweep in ("members", "sweep"))
        if name == "hydra.yaml":
            ours, hydras = without_launcher(ours), without_launcher(hydras)
        assert ours == hydras


def without_launcher(text: str) -> Any:
    settings = yaml.safe_load(text.replace("launcher=vectorized", "launcher=processes"))["hydra"]
    del settings["launcher"], settings["runtime"]["choices"]["hydra/launcher"]
    return settings


def test_a_member_is_resumed_alone(ganlab: Command, tmp_path: Path) -> None:
    assert ganlab(*SWEEP, "metrics=none", "trainer.steps=5", "seed=0,1").returncode == 0
    done = ganlab("resume=sweep/1", "trainer.steps=8")
    assert done.returncode == 0, done.stderr
    assert RunFolder(tmp_path / "sweep" / "1").history()[-1]["step"] == 8


def test_a_population_is_continued_bit_for_bit(start: Start, ganlab: Command, tmp_path: Path) -> None:
    arguments = (*SWEEP, "metrics=none", "trainer.steps=600", "trainer.log_every=0.1", "seed=0,1,2")
    sweep = tmp_path / "sweep"

    def begin(step: int) -> Forked | subprocess.Popen[str]:
        process = start(*arguments, "trainer.checkpoint_every=0.32")  # 20 of 62 steps
        while not any(result["step"] >= step for result in results(sweep).values()):
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        return process

    process = begin(30)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert (process.returncode, set(statuses(sweep).values())) == (143, {"stopped"})
    assert "Stopped by SIGTERM with 3 jobs left" in output
    reached = next(iter(results(sweep).values()))["step"]
    process = begin(reached + 30)
    process.kill()
    process.communicate(timeout=60)
    wait_for_jobs(sweep)
    again = ganlab(*arguments, "trainer.checkpoint_every=0.32")
    assert (again.returncode, set(statuses(sweep).values())) == (0, {"done"}), again.stderr

    whole = [argument.replace("sweep_dir=sweep", "sweep_dir=whole") for argument in arguments]
    assert ganlab(*whole, "trainer.checkpoint_every=0.32").returncode == 0
    for job in ("0", "1", "2"):
        assert (sweep / job / "metrics.jsonl").read_bytes() == (tmp_path / "whole" / job / "metrics.jsonl").read_bytes()


def test_a_member_that_diverges_ends_alone(ganlab: Command, tmp_path: Path) -> None:
    wild = ("optimizer=sgd", "optimizer.generator.lr=0.001,1e300", "trainer.log_every=0.05")
    done = ganlab(*SWEEP, "metrics=none", "trainer.steps=20", *wild)
    assert statuses(tmp_path / "sweep") == {"0": "done", "1": "diverged"}
    assert done.returncode == 3
    assert results(tmp_path / "sweep")["1"]["step"] < 20


def test_the_jobs_of_a_killed_population_can_continue(start: Start, ganlab: Command, tmp_path: Path) -> None:
    arguments = (*SWEEP, "metrics=none", "trainer.steps=1900", "seed=0,1", "trainer.log_every=0.1")
    process, sweep = start(*arguments), tmp_path / "sweep"
    while not any(result["step"] for result in results(sweep).values()):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    os.kill(process_that_locks(sweep / "0"), signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 137
    assert "killed by signal 9" in errors
    assert statuses(sweep) == {"0": "stopped", "1": "stopped"}
    assert ganlab(*arguments).returncode == 0
    assert statuses(sweep) == {"0": "done", "1": "done"}


def test_a_folder_that_cannot_be_written_does_not_stop_the_others(ganlab: Command, tmp_path: Path) -> None:
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "1").touch()
    done = ganlab(*SWEEP, "metrics=none", "trainer.steps=2", "seed=0,1,2")
    assert statuses(tmp_path / "sweep") == {"0": "done", "2": "done"}
    assert "#1 cannot be trained: [Errno 20] Not a directory" in done.stdout


def test_folders_of_jobs_are_in_the_folder_of_the_sweep(ganlab: Command, tmp_path: Path) -> None:
    refused = ganlab(*SWEEP, "metrics=none", "trainer.steps=2", "seed=0,1", "hydra.sweep.subdir='../${seed}'")
    assert refused.returncode == 2
    assert refused.stderr == "ganlab: hydra.sweep.subdir=../0: must be a folder in the sweep's folder\n"


def test_of_many_members_only_the_best_get_pictures(ganlab: Command, tmp_path: Path) -> None:
    short = ("trainer.steps=20", "trainer.evaluate_every=0.1", "trainer.sample_every=0.1", *MEASURED)
    done = ganlab(*SWEEP, *short, "seed=range(10)", "hydra.launcher.max_population=9")
    assert done.returncode == 0, done.stderr
    of_population = {job: result for job, result in results(tmp_path / "sweep").items() if job != "9"}
    pictured = {job for job in of_population if (tmp_path / "sweep" / job / "figures" / "final.png").is_file()}
    assert len(pictured) == 8
    worst = max(of_population, key=lambda job: of_population[job]["best"]["value"])
    assert pictured == of_population.keys() - {worst}
    assert len(list((tmp_path / "sweep" / "9" / "samples").iterdir())) > 1  # the second population has one member


def test_jobs_that_cannot_be_stacked_run_alone(ganlab: Command, tmp_path: Path) -> None:
    short = ("metrics=none", "trainer.steps=2", "seed=0,1")
    done = ganlab(*SWEEP, *short, "dataset=digits", "model=dcgan_small", "model.generator.width=4")
    assert (done.returncode, statuses(tmp_path / "sweep")) == (0, {"0": "done", "1": "done"}), done.stderr
    assert "Not trained together: model: convolutions and large networks are slower when stacked" in done.stdout


def test_halving_trains_the_survivors_as_a_population(ganlab: Command, tmp_path: Path) -> None:
    short = ("trainer.steps=40", "trainer.evaluate_every=0.1", *MEASURED, "seed=0,1")
    halving = ("hydra.launcher.halving=2", "hydra.launcher.rungs=[0.5]", "optimizer.generator.lr=0.001,1e-7")
    done = ganlab(*SWEEP, *short, *halving)
    assert done.returncode == 0, done.stderr
    assert sorted(statuses(tmp_path / "sweep").values()) == ["done", "done", "stopped", "stopped"]
    assert done.stdout.count("jobs together") == 2
    for result in results(tmp_path / "sweep").values():  # the rung is the first evaluation at or after step 20
        assert result["step"] == {"done": 40, "stopped": 24}[result["status"]]


CIRCLE = ("tracker=none", "metrics=none", "experiment=circle_tutorial")


@pytest.mark.parametrize("override", ["model.generator.width=64", "trainer.batch_size=64", "penalty=r1"])
def test_the_memory_of_a_member_grows_with_its_tensors(tmp_path: Path, override: str) -> None:
    small, large = (
        build(run_config.compose([*CIRCLE, *overrides]), RunFolder(tmp_path / name)).training_step
        for name, overrides in {"small": (), "large": (override,)}.items()
    )
    weights = {name: value.clone() for name, value in small.generator.state_dict().items()}
    assert memory_per_member(large) > memory_per_member(small) > sum(weight.nbytes for weight in weights.values())
    assert all(value.equal(weights[name]) for name, value in small.generator.state_dict().items())
    assert not small.generator_optimizer.state


def test_a_population_is_as_large_as_fits_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = run_config.compose([*CIRCLE])
    trainer = build(config, RunFolder(tmp_path / "run"))
    needed = memory_per_member(trainer.training_step)
    monkeypatch.setattr("ganlab.training.population.available_memory", lambda: 10 * needed)
    assert largest_population(trainer.training_step, [config] * 3) == 5
    other = run_config.compose([*CIRCLE, "dataset.num_examples=900"])
    assert largest_population(trainer.training_step, [config, other]) < 5


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("seed=0", "seed=1", True),
        ("optimizer.generator.lr=0.1", "optimizer.generator.lr=0.2", True),
        ("penalty.r1.weight=1", "penalty.r1.weight=2.5", True),
        ("tracker=none", "tracker=wandb", True),
        ("trainer.ema_half_life=10", "trainer.ema_half_life=null", False),
        ("trainer.batch_size=4", "trainer.batch_size=8", False),
        ("penalty.r1.interval=1", "penalty.r1.interval=2", False),
        ("optimizer=adam", "optimizer=rmsprop", False),
        ("model.generator.width=8", "model.generator.width=16", False),
    ],
)
def test_runs_that_differ_only_in_numbers_are_grouped(first: str, second: str, same: bool) -> None:
    one, other = (without_stackable(run_config.compose(["penalty=r1", each]).plain()) for each in (first, second))
    assert (one == other) is same
