"""Selection of the device, and the messages if it is not available."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ganlab.errors import ConfigError
from ganlab.training import devices, gpus


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.mark.parametrize(
    ("name", "device"),
    [("auto", "cuda"), ("cuda", "cuda"), ("cuda:0", "cuda:0"), ("cuda:1", "cuda:1"), ("cpu", "cpu")],
)
def test_a_gpu_is_selected_by_its_number(name: str, device: str, two_gpus: None) -> None:
    assert devices.resolve(name) == torch.device(device)


@pytest.mark.parametrize("name", ["auto", "cuda", "cuda:1"])
def test_several_processes_train_on_cpus_only(name: str, two_gpus: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=f"device={name}: torchrun trains on CPUs only"):
        devices.resolve(name)
    assert devices.resolve("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "cuda:-1", "cpu:0", "auto:1"])
def test_an_unknown_device_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"device={name}: must be 'auto', 'cpu', 'cuda', 'cuda:N'"):
        devices.resolve(name)


def test_a_gpu_that_is_not_there_is_refused(two_gpus: None) -> None:
    with pytest.raises(ConfigError, match="device=cuda:2: no such GPU; must be at most cuda:1"):
        devices.resolve("cuda:2")


def test_no_gpu_at_all_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="device=cuda:1: no CUDA device found; use device="):
        devices.resolve("cuda:1")


def unavailable() -> bool:
    warnings.warn("CUDA initialization: The NVIDIA driver on your system is too old\n(found version 1).", stacklevel=2)
    return False


@pytest.mark.parametrize(
    ("is_available", "reason"),
    [
        (unavailable, "CUDA initialization: The NVIDIA driver on your system is too old (found version 1)."),
        (lambda: False, "PyTorch finds no GPU, but "),
    ],
    ids=["error", "no error"],
)
def test_auto_warns_if_it_uses_the_cpu_because_cuda_is_broken(
    is_available: Callable[[], bool],
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", is_available)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    cpu = devices.resolve("auto")
    monkeypatch.setattr(gpus, "GPU_FILES", str(tmp_path / "nvidia[0-9]*"))
    devices.warn_of_broken_cuda("auto", cpu)  # a machine without a GPU
    (tmp_path / "nvidia0").touch()
    (tmp_path / "nvidiactl").touch()
    devices.warn_of_broken_cuda("cpu", cpu)
    with monkeypatch.context() as hidden:
        hidden.setenv("CUDA_VISIBLE_DEVICES", "")
        devices.warn_of_broken_cuda("auto", cpu)
    assert caplog.messages == []
    devices.warn_of_broken_cuda("auto", cpu)
    (message,) = caplog.messages
    assert message.startswith(f"WARNING: device=auto: using the CPU, because CUDA does not work: {reason}")
    assert "\n" not in message


def test_jobs_of_a_sweep_use_the_gpus_in_turn_and_see_only_their_own(ganlab: Callable, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import json, os, time\n"
        "from ganlab.losses import Hinge\n"
        "class Mine(Hinge):\n"
        "    def __init__(self, job: str) -> None:\n"
        "        with open('seen.jsonl', 'a') as file:\n"
        "            print(json.dumps([job, os.environ['CUDA_VISIBLE_DEVICES']]), file=file)\n"
    )
    arguments = ("-m", "tracker=none", "metrics=none", "trainer.steps=1", "hydra.launcher.jobs=2", "sweep_dir=sweep")
    swept = ("~loss", "+loss._target_=mine.Mine", "+loss.job=a,b,c")
    done = ganlab(*arguments, *swept, CUDA_VISIBLE_DEVICES="3,5")
    assert done.returncode == 0, done.stderr
    seen = [json.loads(line) for line in (tmp_path / "seen.jsonl").read_text().splitlines()]
    of_jobs = {job: gpu for job, gpu in seen if gpu != "3,5"}  # the configs are checked before the sweep
    assert (of_jobs["a"], of_jobs["b"]) == ("3", "5")
    assert of_jobs["c"] in ("3", "5")


def test_jobs_with_another_device_see_all_gpus(ganlab: Callable, tmp_path: Path) -> None:
    arguments = ("-m", "tracker=none", "metrics=none", "trainer.steps=1", "device=cpu", "sweep_dir=sweep", "seed=0")
    code = "import os; from pathlib import Path; Path('seen').write_text(os.environ['CUDA_VISIBLE_DEVICES'])\n"
    (tmp_path / "mine.py").write_text(f"{code}from ganlab.losses import Hinge\n")
    done = ganlab(*arguments, "~loss", "+loss._target_=mine.Hinge", CUDA_VISIBLE_DEVICES="3,5")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "seen").read_text() == "3,5"
