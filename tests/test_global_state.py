"""Calling ganlab from Python, as a notebook does, leaves the state of the process as it was."""

from __future__ import annotations

import ctypes
import logging
import os
import platform
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import torch
from conftest import make_run
from omegaconf import OmegaConf

import ganlab
from ganlab import __main__ as command
from ganlab import evaluate as evaluation
from ganlab.config import run_config
from ganlab.errors import ConfigError, GanlabError
from ganlab.evaluate import evaluate
from ganlab.sweeps import preflight
from ganlab.sweeps.processes import Sweep
from ganlab.train import train

M_MMAP_THRESHOLD = -3
MAPPED = 512 * 2**20  # bytes, more than the heap of these tests ever has free
TINY = ("trainer.steps=2", "tracker=none")


class Memory(ctypes.Structure):
    """The result of glibc's `mallinfo2`."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


def maps_large_blocks() -> bool | None:
    """Whether malloc returns large blocks to the system, its default; None without glibc."""
    if platform.libc_ver()[0] != "glibc":
        return None
    libc = ctypes.CDLL("libc.so.6")
    libc.mallinfo2.restype, libc.malloc.restype, libc.free.argtypes = Memory, ctypes.c_void_p, [ctypes.c_void_p]
    libc.malloc.argtypes = [ctypes.c_size_t]
    before = libc.mallinfo2().hblks
    block = libc.malloc(MAPPED)
    is_mapped = bool(libc.mallinfo2().hblks > before)
    libc.free(block)
    return is_mapped


@pytest.fixture(autouse=True)
def default_memory() -> None:
    """Restore malloc's default, which commands in other tests may have changed."""
    if maps_large_blocks() is False:
        ctypes.CDLL("libc.so.6").mallopt(M_MMAP_THRESHOLD, 128 * 1024)
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def state() -> dict[str, Any]:
    """Return the global state of this process that a library can change."""
    loggers = [logging.getLogger(), *(log for log in KNOWN_LOGGERS if isinstance(log, logging.Logger))]
    handlers = [handler for log in loggers for handler in log.handlers]
    backends = torch.backends
    return {
        "loggers": [(log.name, log.level, log.propagate, log.disabled) for log in loggers],
        "log handlers": [(handler, getattr(handler, "_closed", False)) for handler in handlers],
        "logging disabled up to": logging.root.manager.disable,
        "warnings become log records": logging._warnings_showwarning is not None,  # type: ignore[attr-defined]
        "warning filters": list(warnings.filters),
        "environment": dict(os.environ),
        "arguments": list(sys.argv),
        "import path": list(sys.path),
        "exception hooks": (sys.excepthook, threading.excepthook),
        "folder": Path.cwd(),
        "signal handlers": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "signal mask": signal.pthread_sigmask(signal.SIG_BLOCK, []),
        "threads": {thread.name for thread in threading.enumerate()},
        "large blocks are mapped": maps_large_blocks(),
        "random": random.getstate(),
        "numpy.random": str(np.random.get_state(legacy=False)),  # noqa: NPY002 - the state that ganlab must not use
        "numpy errors": np.geterr(),
        "torch.random": torch.get_rng_state().tolist(),
        "torch modes": (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_default_dtype()),
        "torch threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "torch precision": (torch.get_float32_matmul_precision(), torch.are_deterministic_algorithms_enabled()),
        "torch.backends": (backends.cudnn.benchmark, backends.cudnn.deterministic, backends.mkldnn.enabled),
        "matplotlib": (dict(dict.items(mpl.rcParams)), sys.modules.get("matplotlib.pyplot")),
    }


KNOWN_LOGGERS = list(logging.Logger.manager.loggerDict.values())


def changed(before: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    after = state()
    return {name: (before[name], after[name]) for name in before if before[name] != after[name]}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("global state") / "run", "trainer.steps=2")


def train_to_the_end(run: Path, folder: Path) -> None:
    cfg = run_config.compose([*TINY, "dataset=digits", "model=dcgan_small", "trainer.batch_size=8", "metrics.num=500"])
    train(cfg, folder / "new")


def train_but_fail(run: Path, folder: Path) -> None:
    with pytest.raises(ConfigError):
        train(run_config.compose([*TINY, "dataset=circle", "model=dcgan_small"]), folder / "new")
    assert not (folder / "new").exists()


def resume(run: Path, folder: Path) -> None:
    train(run_config.load(run), run, resume=True)


def load_and_sample(run: Path, folder: Path) -> None:
    ganlab.load_run(run).sample(4)


def evaluate_points(run: Path, folder: Path) -> None:
    evaluate(run=str(run), num=50, num_real=50, out=str(folder / "scores.json"))


def refuse_every_job(run: Path, folder: Path) -> None:
    configs = [run_config.compose(["dataset=circle", "model=dcgan_small", *TINY])] * 2
    assert "model does not fit dataset circle" in str(preflight.first_refusal(configs))


def set_up_a_sweep(run: Path, folder: Path) -> None:
    sweeper = {"_target_": "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"}
    config = OmegaConf.create({"hydra": {"sweep": {"dir": str(folder)}, "sweeper": sweeper}})
    Sweep(None, None, config, jobs=2, cores=6)  # type: ignore[arg-type]  # they serve only the jobs


def launch(run: Path, folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", typed := ["ganlab", "sweep_dir=somewhere", "--cfg", "job"])
        command.launch()
        assert sys.argv is typed
        assert typed == ["ganlab", "sweep_dir=somewhere", "--cfg", "job"]


@pytest.mark.parametrize(
    "call",
    [
        *(train_to_the_end, train_but_fail, resume, load_and_sample),
        *(evaluate_points, refuse_every_job, set_up_a_sweep, launch),
    ],
)
def test_a_call_leaves_the_process_as_it_was(call: Callable[[Path, Path], None], run: Path, tmp_path: Path) -> None:
    before = state()
    call(run, tmp_path)
    assert not changed(before)


def test_a_run_that_fails_at_the_start_closes_only_its_own_log(tmp_path: Path) -> None:
    folder, root = tmp_path / "run", logging.getLogger()
    folder.mkdir()
    theirs, own = logging.FileHandler(tmp_path / "notebook.log"), logging.FileHandler(folder / "ganlab.log")
    root.addHandler(theirs)
    root.addHandler(own)
    with pytest.raises(GanlabError):
        train(run_config.compose([*TINY, "dataset=circle", "model=dcgan_small"]), folder)
    assert not folder.exists()
    assert own not in root.handlers
    assert own.stream is None  # closed
    assert theirs in root.handlers
    logging.getLogger("notebook").error("still logging")
    assert "still logging" in (tmp_path / "notebook.log").read_text()
    assert not theirs.stream.closed


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
@pytest.mark.parametrize("name", ["train", "resume", "evaluate"])
def test_a_command_keeps_freed_memory(name: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = {
        "train": ["trainer.steps=1", "tracker=none", "metrics=none", f"hydra.run.dir={tmp_path}/run"],
        "resume": [f"resume={run}"],
        "evaluate": [f"run={run}", "num=50", "num_real=50", f"out={tmp_path}/scores.json"],
    }
    monkeypatch.setattr(sys, "argv", ["ganlab", *arguments[name]])
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert maps_large_blocks()
    with pytest.raises(SystemExit) as end:
        (evaluation if name == "evaluate" else command).main()
    assert not end.value.code
    assert not maps_large_blocks()
