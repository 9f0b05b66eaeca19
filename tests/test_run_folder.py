"""A run's folder belongs to one run and one process: it is locked before anything is written."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from conftest import make_run
from fork_server import Forked

from ganlab.__main__ import resume
from ganlab.config import run_config
from ganlab.errors import CheckpointError
from ganlab.runs.folder import RunFolder

TINY = ("tracker=none", "metrics=none", "model.generator.width=2", "dataset.num_examples=16", "trainer.steps=2")
Start = Callable[..., Forked | subprocess.Popen[str]]


def test_one_of_six_runs_started_in_one_folder_owns_it(start: Start, tmp_path: Path) -> None:
    processes = [
        start(*TINY, "hydra.run.dir=run", f"seed={seed}", f"optimizer.generator.lr=0.0{seed + 1}") for seed in range(6)
    ]
    ends = [(process.communicate(timeout=200)[1], process.returncode) for process in processes]
    assert sorted(code for _, code in ends) == [0, 2, 2, 2, 2, 2]
    for message, code in ends:
        assert code == 0 or "already contains a run" in message or "another process is using this folder" in message
    (winner,) = [seed for seed, (_, code) in enumerate(ends) if code == 0]
    run = tmp_path / "run"
    cfg = run_config.load(run)
    result = json.loads((run / "result.json").read_text())
    checkpoint = torch.load(run / "checkpoints" / "last.pt", weights_only=True)
    assert cfg.seed == result["seed"] == checkpoint["config"]["seed"] == winner
    assert cfg.hash == result["config_hash"] == checkpoint["config_hash"]
    assert f"seed={winner}" in yaml.safe_load((run / ".hydra" / "overrides.yaml").read_text())
    assert (run / "ganlab.log").read_text().count("Run folder: ") == 2  # both lines of the winner


def test_a_folder_is_locked_until_its_process_closes_it(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.claim()
    code = "import sys; from ganlab.runs.folder import RunFolder; RunFolder(sys.argv[1]).claim()"
    other = [sys.executable, "-c", code, str(tmp_path / "run")]
    refused = subprocess.run(other, capture_output=True, text=True, timeout=60, check=False)
    assert "another process is using this folder" in refused.stderr
    run.close()
    assert subprocess.run(other, timeout=60, check=False).returncode == 0


def test_discarding_removes_an_unstarted_run_unless_another_process_holds_it(
    tmp_path: Path,
) -> None:
    (tmp_path / "runs" / "run" / ".hydra").mkdir(parents=True)
    holder = RunFolder(tmp_path / "runs" / "run")
    holder.claim()
    code = "import sys; from ganlab.runs.folder import RunFolder; RunFolder(sys.argv[1]).discard()"
    subprocess.run([sys.executable, "-c", code, str(holder.path)], timeout=60, check=True)
    assert (holder.path / ".hydra").is_dir()
    holder.discard()
    assert not (tmp_path / "runs").exists()


def test_two_sweeps_do_not_share_a_folder(start: Start, tmp_path: Path) -> None:
    one = RunFolder(tmp_path / "sweep")
    one.claim()
    process = start("-m", *TINY, "seed=0,1", "sweep_dir=sweep")
    _, message = process.communicate(timeout=60)
    assert (process.returncode, "another process is using this folder" in message) == (2, True)
    assert [path.name for path in (tmp_path / "sweep").iterdir()] == [".lock"]


def test_a_refused_sweep_leaves_no_folder(start: Start, tmp_path: Path) -> None:
    process = start("-m", *TINY, "loss=hinge,nope", "sweep_dir=sweep")
    process.communicate(timeout=60)
    assert process.returncode == 2
    assert not (tmp_path / "sweep").exists()


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    make_run(folder / "one", *TINY)
    make_run(folder / "other", *TINY, "seed=1")
    make_run(folder / "faster", *TINY, "optimizer.generator.lr=0.5")
    return folder


@pytest.mark.parametrize(
    ("file", "source", "message"),
    [
        (".hydra/config.yaml", "other", r"config\.yaml: has seed 1, but result\.json has 0"),
        (".hydra/config.yaml", "faster", r"config\.yaml: config_hash \w+ is not one of this run's"),
        ("checkpoints/last.pt", "other", r"last\.pt: config: has seed 1, but result\.json has 0"),
        ("checkpoints/last.pt", "faster", r"last\.pt: config: config_hash \w+ is not one of this run's"),
        ("result.json", "other", r"config\.yaml: has seed 0, but result\.json has 1"),
    ],
)
def test_a_run_with_a_file_of_another_run_is_not_resumed(
    file: str, source: str, message: str, two_runs: Path, tmp_path: Path, copy_of_run: Callable[..., Path]
) -> None:
    run = copy_of_run(tmp_path / "run", *TINY)
    (run / file).write_bytes((two_runs / source / file).read_bytes())
    with pytest.raises(CheckpointError, match=message):
        resume([f"resume={run}", "trainer.steps=4"])


def test_a_resume_killed_while_it_changes_the_config_can_be_resumed(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", *TINY)
    old_config = (run / ".hydra" / "config.yaml").read_bytes()
    old_checkpoint = (run / "checkpoints" / "last.pt").read_bytes()
    resume([f"resume={run}", "trainer.steps=4", "optimizer.generator.lr=0.25"])
    (run / ".hydra" / "config.yaml").write_bytes(old_config)  # as if killed after result.json was written
    (run / "checkpoints" / "last.pt").write_bytes(old_checkpoint)
    resume([f"resume={run}", "trainer.steps=6"])
    assert json.loads((run / "result.json").read_text())["step"] == 6
    assert run_config.load(run).select("optimizer.generator.lr") == 0.001
