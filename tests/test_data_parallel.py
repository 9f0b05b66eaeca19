"""`torchrun -m ganlab`: several processes train one run, like a single process and with its record."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT, make_run
from fork_server import Forked
from slurm_cluster import free_ports
from torch import Tensor

from ganlab.errors import ProcessLost
from ganlab.runs.folder import read_result
from ganlab.training.data_parallel import DataParallelProcess, process_group

TOLERANCE = 1e-9
QUICK = ("tracker=none", "metrics=none", "trainer.sample_every=null")
LONG = (*QUICK, "trainer.batch_size=12", "trainer.steps=100000", "trainer.checkpoint_every=null", "hydra.run.dir=run")
POINTS = (
    *("dataset=ring8", "dataset.num_examples=100", "trainer.batch_size=16", "trainer.steps=8"),
    *("trainer.clip_gradient=0.5", "optimizer=adamw"),
    *("penalty=r1_r2", "loss=relativistic", "trainer.discriminator_steps=2", "trainer.ema_half_life=200"),
    *("model.discriminator.spectral_norm=true", "model.pack=2", "schedule=linear"),
    *("watchdog=roll_back", "trainer.checkpoint_every=1"),
)
IMAGES = (
    *("dataset=digits", "model=r3gan_small", "model.generator.width=8", "model.generator.group_size=4"),
    *("trainer.batch_size=8", "trainer.steps=4", "penalty=[r1,gradient_penalty,dragan]", "augment=diffaugment"),
    *("loss=relativistic_average", "condition=concatenation", "optimizer=rmsprop"),
)

Start = Callable[..., list[Forked | subprocess.Popen[str]]]


@pytest.fixture
def start_all(start: Callable[..., Forked | subprocess.Popen[str]]) -> Start:
    """Starts the processes of a run, each with the environment that torchrun gives it."""

    def begin(num: int, *arguments: str, module: str = "ganlab") -> list[Forked | subprocess.Popen[str]]:
        (port,) = free_ports(1)
        shared = {
            "TORCHELASTIC_RUN_ID": "none",
            "WORLD_SIZE": str(num),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}",
        }
        return [start(*arguments, module=module, RANK=str(rank), LOCAL_RANK=str(rank), **shared) for rank in range(num)]

    return begin


@pytest.fixture
def train(start_all: Start) -> Callable[..., None]:
    """Trains a run on several processes to its end."""

    def run(num: int, *arguments: str, module: str = "ganlab") -> None:
        for process in start_all(num, *arguments, module=module):
            errors = process.communicate(timeout=120)[1]
            assert (process.returncode, errors) == (0, "")

    return run


def tensors(content: Any) -> Iterator[Tensor]:
    if isinstance(content, Tensor):
        yield content.double()
    elif isinstance(content, Mapping):
        for part in content.values():
            yield from tensors(part)


def weights(run: Path) -> list[Tensor]:
    """The networks, the average and the states of the optimizers."""
    content = torch.load(run / "checkpoints" / "last.pt", weights_only=True)
    parts = ("generator", "discriminator", "ema", "generator_optimizer", "discriminator_optimizer")
    return [tensor for part in parts for tensor in tensors(content[part])]


def records(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def assert_close(first: Any, second: Any) -> None:
    torch.testing.assert_close(first, second, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(("choices", "nums"), [(POINTS, (2, 4)), (IMAGES, (2,))], ids=["points", "images"])
def test_several_processes_train_like_one(
    choices: tuple[str, ...], nums: tuple[int, ...], train: Callable, tmp_path: Path
) -> None:
    for num in (1, *nums):
        train(num, *QUICK, *choices, f"hydra.run.dir={num}", module="data_parallel_program")
    alone = tmp_path / "1"
    for several in (tmp_path / str(num) for num in nums):
        assert_close(weights(several), weights(alone))
        assert_close(records(several), records(alone))
        assert read_result(several).get("roll_backs") == (1 if choices == POINTS else None)


def test_a_run_can_continue_on_another_number_of_processes(train: Callable, tmp_path: Path) -> None:
    choices = (*QUICK, "trainer.clip_gradient=0.5", "penalty=r1")
    train(1, *choices, "trainer.steps=12", "hydra.run.dir=alone", module="data_parallel_program")
    train(1, *choices, "trainer.steps=4", "hydra.run.dir=run", module="data_parallel_program")
    train(2, "resume=run", "trainer.steps=8", module="data_parallel_program")
    train(1, "resume=run", "trainer.steps=12", module="data_parallel_program")
    assert_close(weights(tmp_path / "run"), weights(tmp_path / "alone"))


def test_only_rank_0_writes_and_a_signal_to_any_rank_stops_all_after_the_same_step(
    start_all: Start, tmp_path: Path
) -> None:
    first, *others = start_all(3, *LONG)
    wait_for(tmp_path / "run" / "metrics.jsonl")
    others[0].send_signal(signal.SIGTERM)
    output, errors = first.communicate(timeout=60)
    result = read_result(tmp_path / "run")
    assert errors == f"ganlab: stopped by SIGTERM after step {result['step']} of 100000, saved\n"
    assert output.count("Run folder: run") == 2
    assert "1,000 examples on cpu, 3 processes, 100,000 steps of 12;" in output
    assert result["provenance"]["processes"] == 3
    assert (result["status"], result["exit_code"], first.returncode) == ("stopped", 143, 143)
    for other in others:
        assert other.communicate(timeout=60) == ("", "")
        assert other.returncode == 143
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert len(list(tmp_path.rglob("metrics.jsonl"))) == 1


def test_the_loss_of_rank_0_ends_all_and_is_recorded(start_all: Start, train: Callable, tmp_path: Path) -> None:
    first, *others = start_all(3, *LONG, "trainer.checkpoint_every=1")
    last = wait_for(tmp_path / "run" / "checkpoints" / "last.pt")
    first.kill()
    errors = [other.communicate(timeout=30)[1] for other in others]
    assert sorted(errors) == ["", "ganlab: another process of this run was lost; continue with resume=run\n"]
    assert [other.returncode for other in others] == [1, 1]
    result = read_result(tmp_path / "run")
    assert (result["status"], result["exit_code"]) == ("failed", 1)
    assert result["error"] == "another process of this run was lost"
    step = torch.load(last, weights_only=True)["progress"]["step"]
    train(2, "resume=run", f"trainer.steps={step + 5}")
    assert read_result(tmp_path / "run")["status"] == "done"


@pytest.mark.parametrize("num_sums", [1, 2], ids=["discriminator", "generator"])
def test_a_step_that_a_lost_process_interrupts_is_undone(
    num_sums: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = ("model=dcgan_small", "model.discriminator.spectral_norm=true", "schedule=constant")
    choices = (*QUICK, "dataset=digits", *network)
    saved = make_run(tmp_path / "saved", *choices, "trainer.steps=2")
    (port,) = free_ports(1)
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}.items():
        monkeypatch.setenv(name, value)
    add_gradients, sums = DataParallelProcess.add_gradients, itertools.count(1)

    def lose_a_process(parallel: DataParallelProcess, parameters: Sequence[Tensor]) -> None:
        add_gradients(parallel, parameters)
        if next(sums) == 4 + num_sums:  # in the third step
            raise ProcessLost("lost")

    monkeypatch.setattr(DataParallelProcess, "add_gradients", lose_a_process)
    with process_group(), pytest.raises(ProcessLost, match="lost after step 2 of 5, saved"):
        make_run(tmp_path / "interrupted", *choices, "trainer.steps=5")
    torch.testing.assert_close(weights(tmp_path / "interrupted"), weights(saved), rtol=0, atol=0)


@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes of torchrun in /proc")
def test_torchrun_ends_within_seconds_of_the_loss_of_a_rank_and_no_step_is_lost(
    cold_start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    options = ("--standalone", "--nproc-per-node=2", "-m", "ganlab")
    torchrun = cold_start(*options, *LONG, module="torch.distributed.run")
    try:
        wait_for(tmp_path / "run" / "metrics.jsonl")
        children = Path(f"/proc/{torchrun.pid}/task/{torchrun.pid}/children").read_text().split()
        lost = next(int(pid) for pid in children if "\0RANK=1\0" in Path(f"/proc/{pid}/environ").read_text())
        os.kill(lost, signal.SIGKILL)
        errors = torchrun.communicate(timeout=30)[1]
    finally:
        torchrun.terminate()  # which also ends its processes
    result, last = read_result(tmp_path / "run"), tmp_path / "run" / "checkpoints" / "last.pt"
    step = torch.load(last, weights_only=True)["progress"]["step"]
    message = f"another process of this run was lost after step {step} of 100000, saved"
    assert (result["status"], result["step"], result["error"], result["exit_code"]) == ("failed", step, message, 1)
    assert errors.count("ganlab: ") == 1
    assert f"ganlab: {message}\n" in errors
    assert torchrun.returncode == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trainer.batch_size=15"], "trainer.batch_size=15: must be a multiple of 2, for 2 processes"),
        (
            ["trainer.batch_size=6", "model.pack=2"],
            "trainer.batch_size=6: must be a multiple of 4, for 2 processes and model.pack=2",
        ),
        (["-m", "seed=1,2"], "-m: torchrun trains a single run"),
    ],
    ids=["batch", "pack", "sweep"],
)
def test_what_several_processes_cannot_train_is_refused_in_one_line(
    arguments: list[str], message: str, start_all: Start, tmp_path: Path
) -> None:
    first, second = start_all(2, *QUICK, *arguments)
    output, errors = first.communicate(timeout=60)
    assert errors.startswith(f"ganlab: {message}")
    assert (output, errors.count("\n")) == ("", 1)
    assert second.communicate(timeout=60) == ("", "")
    assert (first.returncode, second.returncode) == (2, 2)
    assert list(tmp_path.iterdir()) == []


def test_processes_with_different_data_are_refused(start_all: Start, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import os\n"
        "from ganlab.data.mixtures import Ring8\n"
        "class Mine(Ring8):\n"
        "    def load(self):\n"
        "        self.seed = int(os.environ['RANK'])\n"
        "        return super().load()\n"
    )
    first, second = start_all(2, *QUICK, "dataset=ring8", "dataset._target_=mine.Mine", "hydra.run.dir=run")
    assert (
        second.communicate(timeout=60)[1]
        == "ganlab: dataset: rank 1 has other data than rank 0; every machine needs the same files\n"
    )
    assert first.communicate(timeout=60)[1] == "ganlab: another process of this run was lost\n"
    assert (first.returncode, second.returncode) == (1, 2)
    assert read_result(tmp_path / "run")["status"] == "failed"


def test_batch_statistics_are_warned_of(start_all: Start) -> None:
    first, _ = start_all(2, *QUICK, "dataset=digits", "model=dcgan_small", "trainer.steps=1")
    output, _ = first.communicate(timeout=60)
    assert "WARNING: the generator uses statistics of the batch" in output
    assert "the discriminator uses" not in output


def wait_for(file: Path) -> Path:
    end = time.monotonic() + 60
    while not file.exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    return file
