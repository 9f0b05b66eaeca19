"""Signals: which ones stop a run, what a second one does, and requeueing on a cluster."""

from __future__ import annotations

import os
import pty
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest
from conftest import ROOT, save_config
from hydra._internal.core_plugins.basic_sweeper import BasicSweeperConf
from omegaconf import OmegaConf

from ganlab.config import run_config
from ganlab.config.run_config import RunConfig
from ganlab.data.points import Circle
from ganlab.errors import Stopped
from ganlab.runs.folder import read_result
from ganlab.sweeps.jobs import run_in_sweep
from ganlab.train import train
from ganlab.training.signals import StopSignal
from ganlab.training.step import TrainingStep

QUICK = ("tracker=none", "metrics=none", "trainer.sample_every=null", "trainer.checkpoint_every=null")
STOPPING = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1]


@pytest.fixture(autouse=True)
def handlers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run each test outside a cluster and with Python's handlers, and restore those of this process.

    `nohup` ignores SIGHUP, and a shell ignores SIGINT in the background.
    """
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    numbers = [*STOPPING, signal.SIGUSR2]
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    yield
    for number in numbers:
        signal.signal(number, before[number])


def signalling(function: Callable, *numbers: signal.Signals) -> Callable:
    """Return the function, preceded by signals to this process."""

    def signalled(*arguments: object, **keywords: object) -> object:
        for number in numbers:
            signal.raise_signal(number)
        return function(*arguments, **keywords)

    return signalled


def new_run(folder: Path) -> RunConfig:
    cfg = run_config.compose([*QUICK, "trainer.steps=20"])
    save_config(cfg, folder)
    return cfg


@pytest.mark.parametrize("number", STOPPING, ids=lambda number: number.name)
def test_a_signal_saves_and_stops_after_the_step(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = new_run(tmp_path / "run")
    monkeypatch.setattr(TrainingStep, "__call__", signalling(TrainingStep.__call__, number))
    with pytest.raises(Stopped, match=f"stopped by {number.name} after step 1 of 20, saved") as stopped:
        train(cfg, tmp_path / "run")
    assert stopped.value.exit_code == 128 + number
    result = read_result(tmp_path / "run")
    assert (result["status"], result["step"], result["exit_code"]) == ("stopped", 1, 128 + number)
    assert (tmp_path / "run" / "checkpoints" / "last.pt").exists()


@pytest.mark.parametrize("number", STOPPING, ids=lambda number: number.name)
def test_a_signal_before_the_first_step_stops_at_once_and_leaves_nothing(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = new_run(tmp_path / "run")
    monkeypatch.setattr(Circle, "load", signalling(Circle.load, number))
    with pytest.raises(Stopped, match=f"stopped by {number.name} before the first step") as stopped:
        train(cfg, tmp_path / "run")
    assert stopped.value.exit_code == 128 + number
    assert not (tmp_path / "run").exists()


def test_a_second_signal_acts_at_once() -> None:
    with StopSignal() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop.number == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert stop.number == signal.SIGTERM


def test_a_second_hangup_is_part_of_the_first() -> None:
    """A shell whose terminal closes sends SIGHUP to its jobs, and so does the kernel."""
    with StopSignal() as stop:
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGHUP)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert stop.number == signal.SIGHUP


def test_on_a_cluster_a_second_signal_is_part_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    with StopSignal() as stop:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
            signal.raise_signal(number)
    assert stop.number == signal.SIGTERM


def test_nohup_is_respected() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with StopSignal() as stop:
        signal.raise_signal(signal.SIGHUP)
    assert stop.number is None
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


# On a cluster -----------------------------------------------------------------------------------------------


@pytest.fixture
def requeued() -> list[str]:
    """Install handlers like submitit's for SIGTERM and SIGUSR2, and record their calls."""
    noted = []

    def bypass(number: int, frame: FrameType | None) -> None:
        noted.append("bypassed")

    def requeue(number: int, frame: FrameType | None) -> None:
        for other in (signal.SIGTERM, signal.SIGUSR2):  # Slurm ends the job as soon as it is in the queue
            signal.raise_signal(other)
        noted.append("requeued")
        sys.exit(-1)

    signal.signal(signal.SIGTERM, bypass)
    signal.signal(signal.SIGUSR2, requeue)
    return noted


@pytest.mark.parametrize("number", [*STOPPING, signal.SIGUSR2], ids=lambda number: number.name)
@pytest.mark.parametrize("when", ["before the first step", "in training"])
def test_a_job_is_stopped_and_requeued_once(
    when: str, number: signal.Signals, requeued: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, method = (TrainingStep, "__call__") if when == "in training" else (Circle, "load")
    signals = (number, signal.SIGTERM, signal.SIGUSR2)  # with the other two that a cluster may send
    monkeypatch.setattr(kind, method, signalling(getattr(kind, method), *signals))
    sweeper = OmegaConf.structured(BasicSweeperConf)
    with pytest.raises(SystemExit):
        run_in_sweep(new_run(tmp_path / "run"), tmp_path / "run", sweeper)
    assert requeued == ["requeued"]
    result = read_result(tmp_path / "run")
    assert (result.get("status"), result.get("step")) == (("stopped", 1) if when == "in training" else (None, None))


@pytest.mark.parametrize(("state", "expected"), [("COMPLETING", []), ("RUNNING", ["requeued"]), ("", ["requeued"])])
def test_a_job_that_slurm_has_cancelled_or_requeued_is_not_requeued(
    state: str, expected: list[str], requeued: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    squeue = tmp_path / "squeue"
    squeue.write_text(f"#!/bin/sh\n[ $3 = --jobs=7 ] && echo {state}\n" if state else "#!/bin/sh\nexit 1\n")
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setattr(TrainingStep, "__call__", signalling(TrainingStep.__call__, signal.SIGTERM))
    sweeper = OmegaConf.structured(BasicSweeperConf)
    with pytest.raises(SystemExit) as ended:
        run_in_sweep(new_run(tmp_path / "run"), tmp_path / "run", sweeper)
    assert (requeued, ended.value.code) == (expected, -1 if expected else 143)
    assert read_result(tmp_path / "run")["status"] == "stopped"


@pytest.mark.parametrize(("handler", "expected"), [("print", 3), ("signal.SIG_DFL", 0)], ids=["cluster", "elsewhere"])
def test_the_exit_code_of_a_job_reaches_the_cluster_after_its_result(handler: str, expected: int) -> None:
    code = (
        "import signal; from ganlab.training.signals import report_to_cluster\n"
        f"signal.signal(signal.SIGUSR2, {handler})\n"
        "report_to_cluster(3)\n"
        "print('the result')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (expected, "the result\n", "")


# As subprocesses ---------------------------------------------------------------------------------------------


@pytest.mark.waits
@pytest.mark.skipif(not shutil.which("setsid"), reason="no setsid here, which gives a program a terminal of its own")
@pytest.mark.parametrize("arguments", [(), ("-m", "seed=1,2", "sweep_dir=sweep")], ids=["run", "sweep"])
def test_a_terminal_that_closes_saves_and_stops(arguments: tuple[str, ...], tmp_path: Path) -> None:
    program = shlex.join([sys.executable, "-m", "ganlab", *QUICK, "trainer.steps=60000", *arguments])
    terminal, its_end = pty.openpty()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), its_end)
    shell = subprocess.Popen(["setsid", "--ctty", "bash", "--norc", "-i"], cwd=tmp_path, env=environment, **streams)
    os.close(its_end)
    os.write(terminal, f"{program}\n".encode())
    while not list(tmp_path.rglob("metrics.jsonl")):
        assert shell.poll() is None
        if select.select([terminal], [], [], 0.05)[0]:
            os.read(terminal, 4096)  # otherwise the program blocks when it writes
    os.close(terminal)
    shell.wait(timeout=60)
    end = time.monotonic() + 60
    while (result := read_result(next(tmp_path.rglob("metrics.jsonl")).parent))["status"] == "running":
        assert time.monotonic() < end
        time.sleep(0.05)
    assert (result["status"], result["exit_code"]) == ("stopped", 129)
