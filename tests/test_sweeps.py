"""Sweeps: isolated jobs, their failures, resuming an interrupted sweep, and grids from files."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import make_run, results, wait_for_jobs
from fork_server import Forked
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf

from ganlab import build
from ganlab import hydra_callbacks as callbacks
from ganlab.config import run_config
from ganlab.config.conf_files import conf_dir
from ganlab.config.hydra_internals import initialize_hydra
from ganlab.runs.folder import RunFolder
from ganlab.runs.provenance import provenance
from ganlab.sweeps import jobs
from ganlab.sweeps.processes import threads

Command = Callable[..., "subprocess.CompletedProcess[str]"]
Start = Callable[..., Forked | subprocess.Popen[str]]

TINY = ("tracker=none", "metrics=none", "trainer.sample_every=null", "trainer.checkpoint_every=null", "trainer.steps=2")
OWN = """
import os, signal, sys
from ganlab.data.points import Circle

class Raises(Circle):
    def load(self):
        raise RuntimeError("no data today")

class Exits(Circle):
    def load(self):
        sys.exit(0)

class Wild(Circle):
    def load(self):
        examples = super().load()
        examples.data.fill_(float("nan"))
        return examples

class Dies(Circle):
    def load(self):
        os.kill(os.getpid(), signal.SIGKILL)
"""


def statuses(sweep: Path) -> dict[str, str]:
    return {job: result["status"] for job, result in results(sweep).items()}


def files(folder: Path) -> dict[Path, bytes]:
    """Return path -> content of the files that must not change: all but leaderboards and locks."""
    found = (file for file in folder.rglob("*") if file.is_file())
    return {file: file.read_bytes() for file in found if file.name != ".lock" and file.stem != "leaderboard"}


def test_a_job_that_crashes_ends_no_other_and_the_sweep_can_be_repeated(
    cold_ganlab: Command, ganlab: Command, tmp_path: Path
) -> None:
    (tmp_path / "own.py").write_text(OWN)
    targets = "dataset._target_=own.Raises,own.Exits,own.Dies,own.Wild,ganlab.data.points.Circle"
    command = ("-m", *TINY, targets, "sweep_dir=a sweep", "hydra.launcher.jobs=2", "hydra.launcher.cores=4")
    done = cold_ganlab(*command)
    sweep = tmp_path / "a sweep"
    assert statuses(sweep) == {"0": "failed", "1": "failed", "2": "failed", "3": "diverged", "4": "done"}
    assert [result["exit_code"] for result in results(sweep).values()] == [1, 1, 137, 3, 0]
    assert done.returncode == 1
    listed = listing(done)
    assert [line.split()[2] for line in listed] == ["0", "1", "2", "3"]
    assert re.search(r"\(.* dataset\._target_=own\.Raises\): RuntimeError: no data today", listed[0])
    assert listed[2].endswith("killed by signal 9")
    assert "not finite" in listed[3]
    assert 'raise RuntimeError("no data today")' in (sweep / "0" / "ganlab.log").read_text()
    assert "loss_generator" in (sweep / "4" / "ganlab.log").read_text()
    assert "  loss_generator " not in done.stdout  # not printed when jobs run in parallel
    assert len(re.findall(r"#4 done, .* of 5\): .*own|#4 done, .* of 5\): .*Circle", done.stdout)) == 1
    assert results(sweep)["4"]["provenance"]["threads"] == 2  # of four cores

    before = files(sweep)
    (tmp_path / "own.py").write_text(OWN.replace("raise RuntimeError", "return super().load()  #"))
    again = ganlab(*command)
    assert again.returncode == 1
    assert list(statuses(sweep).values())[5:] == ["done", "failed", "failed", "diverged"]  # as jobs with new numbers
    assert [line.split()[2] for line in listing(again)] == ["6", "7", "8"]
    before.pop(sweep / "multirun.yaml")
    assert {file: content for file, content in files(sweep).items() if file in before} == before


def listing(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in done.stderr.splitlines() if line.startswith("ganlab: job ")]


def test_a_job_equals_a_single_run_and_is_not_repeated(ganlab: Command, tmp_path: Path) -> None:
    run = ("trainer.steps=130", "model.latent_dim=3", "trainer.checkpoint_every=null")
    sweep, alone = tmp_path / "sweep", make_run(tmp_path / "alone", *run, "seed=1")
    command = ("-m", "tracker=none", "metrics=none", *run, "seed=0,1", "sweep_dir=sweep")
    first = ganlab(*command)
    assert first.returncode == 0, first.stderr
    assert (alone / "metrics.jsonl").read_bytes() == (sweep / "1" / "metrics.jsonl").read_bytes()
    one, other = (json.loads((folder / "result.json").read_text()) for folder in (alone, sweep / "1"))
    assert (one["config_hash"], one["dataset"]) == (other["config_hash"], other["dataset"])
    assert one["provenance"]["threads"] == other["provenance"]["threads"]

    before = files(sweep)
    again = ganlab(*command)
    assert (again.returncode, "0 new, 0 interrupted, 2 done" in again.stdout) == (0, True)
    before.pop(sweep / "multirun.yaml")
    assert {file: content for file, content in files(sweep).items() if file.name != "multirun.yaml"} == before
    more = ganlab(*command[:-2], "seed=2,1", "sweep_dir=sweep")
    assert (more.returncode, "1 new, 0 interrupted, 1 done" in more.stdout) == (0, True)
    assert [result["seed"] for result in results(sweep).values()] == [0, 1, 2]
    assert {file: content for file, content in files(sweep).items() if file in before} == before


def test_a_signal_saves_the_running_jobs_and_the_same_command_continues(start: Start, tmp_path: Path) -> None:
    run = ("trainer.steps=3000", *TINY[1:3])
    arguments = ("-m", "tracker=none", "metrics=none", *run, "seed=1,2", "sweep_dir=sweep", "hydra.launcher.jobs=2")
    sweep = tmp_path / "sweep"

    def begin(until: Callable[[], bool]) -> Forked | subprocess.Popen[str]:
        process = start(*arguments)
        while not until():
            assert process.poll() is None
            time.sleep(0.02)
        return process

    process = begin(lambda: len(list(sweep.glob("*/metrics.jsonl"))) == 2)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert (process.returncode, set(statuses(sweep).values())) == (130, {"stopped"})
    assert "Stopped by SIGINT with 2 jobs left" in output
    reached = {job: result["step"] for job, result in results(sweep).items()}

    process = begin(lambda: any(result["step"] > reached[job] for job, result in results(sweep).items()))
    process.kill()  # only the launcher: its jobs notice, save and stop
    process.communicate(timeout=60)
    wait_for_jobs(sweep)
    assert set(statuses(sweep).values()) == {"stopped"}

    process = start(*arguments)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, statuses(sweep)) == (0, {"0": "done", "1": "done"}), errors
    alone = make_run(tmp_path / "alone", *run, "seed=2")
    assert (alone / "metrics.jsonl").read_bytes() == (sweep / "1" / "metrics.jsonl").read_bytes()


@pytest.mark.skipif(sys.platform != "linux", reason="limits another process, and reads /proc")
def test_the_number_of_open_files_of_a_sweep_does_not_grow_with_its_jobs(cold_start: Start, tmp_path: Path) -> None:
    process = cold_start("-m", *TINY, "seed=range(8)", "hydra.launcher.jobs=2", "sweep_dir=sweep")
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (20, 20))  # and all that it starts
    _, errors = process.communicate(timeout=120)
    assert (process.returncode, list(statuses(tmp_path / "sweep").values())) == (0, ["done"] * 8), errors


LONG_STEPS = """
import os, time
from pathlib import Path
from ganlab.losses import NonSaturating

class Slow(NonSaturating):
    def generator(self, real, fake):
        Path(f"{os.getpid()}.stepping").touch()
        time.sleep(1)
        return super().generator(real, fake)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=["SIGTERM", "SIGHUP"])
def test_a_signal_to_every_process_of_a_sweep_still_saves_its_jobs(
    number: signal.Signals, cold_start: Start, tmp_path: Path
) -> None:
    """Slurm sends it several times; a closing terminal sends it too."""
    (tmp_path / "own.py").write_text(LONG_STEPS)
    sweep = ("loss._target_=own.Slow", "seed=1,2", "hydra.launcher.jobs=2", "sweep_dir=sweep")
    process = cold_start("-m", *TINY[:4], "trainer.steps=100", *sweep, SLURM_JOB_ID="1")
    while len(list(tmp_path.glob("*.stepping"))) < 2:
        assert process.poll() is None
        time.sleep(0.02)
    pids = [process.pid, *descendants(process.pid)]
    assert len(pids) >= 5  # launcher, resource tracker, server, two jobs
    for _ in range(2):
        for pid in pids:
            os.kill(pid, number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert f"Stopped by {number.name} with 2 jobs left" in output
    assert len(re.findall(r"#\d stopped", output)) == 2
    for result in results(tmp_path / "sweep").values():
        assert (result["status"], result["step"], result["exit_code"]) == ("stopped", 1, 128 + number)


def descendants(pid: int) -> list[int]:
    files = Path(f"/proc/{pid}/task").glob("*/children")
    children = [int(child) for file in files for child in file.read_text().split()]
    return [*children, *(one for child in children for one in descendants(child))]


TRAPS = """
from hydra.core.hydra_config import HydraConfig
from ganlab.data.points import Circle
from ganlab.losses import NonSaturating

def seed():
    return next(o for o in HydraConfig.get().overrides.task if o.startswith("seed="))

class Trap(Circle):
    def load(self):
        if seed() == "seed=1":
            raise RuntimeError("no data today")
        return super().load()

class Wild(NonSaturating):
    def generator(self, real, fake):
        return super().generator(real, fake) * (float("inf") if seed() == "seed=2" else 1)
"""


def test_a_sweep_of_twelve_jobs_survives_a_failure_a_divergence_and_a_kill(start: Start, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(TRAPS)
    experiments = tmp_path / "my_conf" / "experiment"
    experiments.mkdir(parents=True)
    for name, overrides in {
        "try_quick": {"optimizer": {"generator": {"lr": 1e-3}}},
        "try_slow": {"optimizer": {"generator": {"lr": 1e-4}}},
        "try_trap": {"model": {"latent_dim": 8}, "dataset": {"_target_": "own.Trap"}},
        "try_wild": {"model": {"latent_dim": 4}, "loss": {"_target_": "own.Wild"}},
    }.items():
        (experiments / f"{name}.yaml").write_text("# @package _global_\n" + OmegaConf.to_yaml(overrides))
    run = ("tracker=none", "trainer.steps=200", "trainer.sample_every=null", "trainer.checkpoint_every=1")
    run += ("metrics.num=100", "metrics.num_real=100")
    grid = ("-m", "experiment=glob(try_*)", "seed=range(3)", "sweep_dir=sweep", "hydra.launcher.jobs=2")
    arguments = ("--config-dir", "my_conf", *grid, *run)
    sweep = tmp_path / "sweep"

    process = start(*arguments)
    while len(results(sweep)) < 6:
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.communicate(timeout=60)
    wait_for_jobs(sweep)
    done = [sweep / job for job, status in statuses(sweep).items() if status == "done"]
    before = {folder: files(folder) for folder in done}
    assert 3 <= len(done) < 7

    process = start(*arguments)
    _, errors = process.communicate(timeout=200)
    ended = statuses(sweep)
    assert sorted(ended.values()) == ["diverged", *["done"] * 10, "failed"], errors
    assert sorted(map(int, ended)) == list(range(12)), "numbered on"
    assert {folder: files(folder) for folder in done} == before
    assert process.returncode in (1, 3)
    failed, wild = (line for line in errors.splitlines() if line.startswith("ganlab: job "))
    assert re.search(r"experiment=try_trap seed=1 .*: RuntimeError: no data today", failed)
    assert re.search(r"experiment=try_wild seed=2 .*loss_generator.* not finite", wild)
    rows = {row["experiment"]: row for row in csv.DictReader((sweep / "leaderboard.csv").read_text().splitlines())}
    assert {name: (row["seeds"], row["scored"], row["failed"], row["diverged"]) for name, row in rows.items()} == {
        "try_quick": ("3", "3", "0", "0"),
        "try_slow": ("3", "3", "0", "0"),
        "try_trap": ("3", "2", "1", "0"),
        "try_wild": ("3", "2", "0", "1"),
    }


SLOW = """
import time
from ganlab.trackers.tensorboard import TensorBoard

class Slow(TensorBoard):
    start_timeout = finish_timeout = 2.0

    def start(self, run):
        (run.folder / "starting").touch()
        time.sleep(60)
"""


def test_a_signal_while_a_tracker_starts_is_saved(start: Start, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(SLOW)
    process = start(*TINY[1:], "tracker=tensorboard", "tracker.tensorboard._target_=own.Slow", "hydra.run.dir=run")
    while not (tmp_path / "run" / "starting").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (process.returncode, result["status"], result["step"]) == (143, "stopped", 1)


# Other engines ----------------------------------------------------------------------------------------------


def test_joblib_runs_all_jobs_and_lists_the_failures(ganlab: Command, tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    lrs = "optimizer.discriminator.lr=1e38,1e-3"
    done = ganlab("-m", *TINY, lrs, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "hydra.sweep.dir=sweep")
    assert statuses(tmp_path / "sweep") == {"0": "diverged", "1": "done"}
    assert (done.returncode, len(listing(done))) == (3, 1)


def test_optuna_receives_inf_for_a_diverged_run(ganlab: Command, tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    optuna = ("hydra/sweeper=optuna", "hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=1", "hydra.sweep.dir=sweep")
    lr = "optimizer.discriminator.lr=interval(1e37,1e38)"
    done = ganlab("-m", *TINY, lr, *optuna)
    assert statuses(tmp_path / "sweep") == {"0": "diverged", "1": "diverged"}
    assert (done.returncode, len(listing(done))) == (3, 2)
    assert OmegaConf.load(tmp_path / "sweep" / "optimization_results.yaml").best_value == math.inf


SLURM = {
    "task": """i=$1; cd "$(dirname "$0")/.."
export SLURM_JOB_ID=$((1001 + i)) SLURM_ARRAY_JOB_ID=1000 SLURM_ARRAY_TASK_ID=$i SLURM_JOB_NODELIST=localhost
export SLURM_NTASKS=1 SLURM_JOB_NUM_NODES=1 SLURM_NODEID=0 SLURM_PROCID=0 SLURM_LOCALID=0
exec bash batch""",
    "sbatch": """here=$(dirname "$0"); cp "$1" "$here/../batch"; mkdir -p "$here/../pids"
for i in $(seq 0 "$(grep -oP 'array=0-\\K[0-9]+' "$1")"); do setsid "$here/task" "$i" > /dev/null 2>&1 & done
echo "Submitted batch job 1000" """,
    "srun": """while [ "${1#--}" != "$1" ]; do [ "$1" = --unbuffered ] && shift || shift 2; done
echo $$ > "$(dirname "$0")/../pids/$SLURM_ARRAY_TASK_ID"; exec "$@" """,
    "scontrol": """here=$(dirname "$0"); i=${2#1000_}; echo "$@" >> "$here/../requeued"
setsid bash -c "while kill -0 $(cat "$here/../pids/$i"); do sleep 0.1; done; $here/task $i" > /dev/null 2>&1 &""",
    "squeue": "echo RUNNING",
    "sacct": "echo 'JobID|State|NodeList'; for i in 0 1; do echo \"1000_$i|RUNNING|localhost\"; done",
    "scancel": 'kill $(cat "$(dirname "$0")/../pids/"*)',
}


@pytest.mark.waits
def test_a_preempted_job_of_a_slurm_array_is_requeued_and_continues(start: Start, tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    (tmp_path / "bin").mkdir()
    for name, script in SLURM.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/bash\n{script}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    slurm = ("hydra/launcher=submitit_slurm", "hydra.launcher.timeout_min=60", "hydra.launcher.max_num_timeout=3")
    run = ("trainer.steps=2000", "trainer.sample_every=null", "trainer.checkpoint_every=null")
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    process = start("-m", "tracker=none", "metrics=none", *run, *slurm, "seed=1,2", "hydra.sweep.dir=sweep", PATH=path)
    first = tmp_path / "sweep" / "0"
    while not (first / "metrics.jsonl").exists():
        assert process.poll() is None
        time.sleep(0.02)
    pid = int((tmp_path / "pids" / "0").read_text())
    for number in (signal.SIGTERM, signal.SIGUSR2):  # as sent by Slurm
        os.kill(pid, number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert statuses(tmp_path / "sweep") == {"0": "done", "1": "done"}
    batch = (tmp_path / "batch").read_text()
    assert "--array=0-1%2" in batch
    assert "--time=60" in batch
    assert (tmp_path / "requeued").read_text() == "requeue 1000_0\n"
    assert re.findall(r"Run folder: sweep/0 \((\w+)\)", (first / "ganlab.log").read_text()) == ["stopped", "done"]
    alone = make_run(tmp_path / "alone", *run, "seed=1")
    assert (alone / "metrics.jsonl").read_bytes() == (first / "metrics.jsonl").read_bytes()


# In-process -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sweep", [file.stem for file in sorted((conf_dir() / "sweep").glob("*.yaml"))])
def test_every_named_grid_sweeps_over_valid_runs(sweep: str) -> None:
    hydra = OmegaConf.load(conf_dir() / "sweep" / f"{sweep}.yaml").hydra
    assert hydra.mode == "MULTIRUN"
    grid = [f"{key}={value}" for key, value in hydra.sweeper.params.items()]
    (batch,) = BasicSweeper.split_arguments(parsed(grid), None)
    assert len(batch) > 1
    tried = {tuple(override for override in overrides if not override.startswith("seed=")) for overrides in batch}
    for overrides in tried:
        build.check(run_config.compose(overrides))


def parsed(overrides: list[str]) -> list[Override]:
    """Overrides with the options of a glob looked up, as Hydra does."""
    with initialize_hydra():
        loader = GlobalHydra.instance().config_loader()
        found = OverridesParser.create(config_loader=loader).parse_overrides(overrides)
        return [override for override in found if list(override.sweep_string_iterator())]


@pytest.mark.parametrize(
    ("jobs", "cores", "given", "expected"),
    [(1, None, None, None), (1, 3, None, 3), (2, 6, None, 3), (4, 3, None, 1), (2, None, "5", None), (2, 6, "5", 3)],
)
def test_jobs_share_the_cores(
    jobs: int, cores: int | None, given: str | None, expected: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert threads(jobs, cores) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-m", "seed=1,2", "hydra.launcher.jobs=0"), "hydra.launcher.jobs=0: must be greater than or equal to 1"),
        (("-m", "seed=1,2", "hydra.launcher.jobz=2"), "no such key; hydra.launcher has jobs, cores"),
        (("-m", "seed=1,2,3", "trainer.batch_size=-4"), "equal to 1 (and 2 other jobs also refused)"),
        (("seed=1", "sweep_dir=there"), "sweep_dir=there: applies only to sweeps"),
        (("seed=1", "hydra.launcher.jobs=2"), "hydra.launcher.jobs=2: applies only to sweeps"),
    ],
)
def test_an_invalid_sweep_is_refused(arguments: tuple[str, ...], message: str, ganlab: Command, tmp_path: Path) -> None:
    done = ganlab(*TINY, *arguments)
    assert (done.returncode, message in done.stderr, done.stderr.count("\n")) == (2, True, 1)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_sweep_with_one_valid_job_runs_it(ganlab: Command, tmp_path: Path) -> None:
    done = ganlab("-m", *TINY, "trainer.batch_size=-4,4", "sweep_dir=sweep")
    assert (done.returncode, statuses(tmp_path / "sweep")) == (2, {"0": "failed", "1": "done"})


DONE = {"status": "done", "scores": {}, "best": None}


@pytest.mark.parametrize(
    ("result", "direction", "expected"),
    [
        (DONE | {"best": {"value": 2.5}, "scores": {"fid": {"value": 4.0}}}, "minimize", 2.5),
        (DONE | {"scores": {"recall": {"value": 0.5}, "fid": {"value": 4.0}}, "main_metric": "fid"}, "minimize", 4.0),
        (DONE | {"scores": {"recall": {"value": 0.5}}, "main_metric": None}, "minimize", math.inf),
        (DONE | {"best": {"value": math.nan}}, "minimize", math.inf),
        (DONE | {"status": "diverged", "best": {"value": 2.5}}, "minimize", math.inf),
        ({"status": "failed"}, "Direction.maximize", -math.inf),
        ({}, None, math.inf),
        ({"status": "stopped", "best": {"value": 2.5}}, None, math.inf),
        ({"status": "stopped", "halted": "the worst", "best": {"value": 2.5}}, None, 2.5),
    ],
)
def test_a_sweeper_receives_the_best_score_or_infinity_for_a_failure(
    result: dict, direction: str | None, expected: float, tmp_path: Path
) -> None:
    (tmp_path / "result.json").write_text(json.dumps(result))
    assert jobs.objective(tmp_path, direction) == expected


def test_a_failure_is_dropped_if_a_later_job_with_its_config_succeeds(tmp_path: Path) -> None:
    for job, status, config_hash in ((0, "failed", "a"), (1, "done", "b"), (2, "stopped", "c"), (10, "done", "a")):
        record(tmp_path / str(job), status, config_hash)
    record(tmp_path / "9", "diverged", "c")
    record(tmp_path / "8", "stopped", "d", halted="place 7 of 9")  # as it should
    (tmp_path / "11" / ".hydra").mkdir(parents=True)  # of a job that was killed at its start
    found = jobs.jobs_in(tmp_path)
    assert [job.number for job in found] == [0, 1, 2, 8, 9, 10, 11]
    assert [job.folder.name for job in jobs.failures(found)] == ["9", "11"]


def record(folder: Path, status: str, config_hash: str, **facts: str) -> None:
    folder.mkdir()
    (folder / "result.json").write_text(json.dumps({"status": status, "config_hash": config_hash} | facts))


def test_a_killed_run_is_recorded_as_failed_once(tmp_path: Path) -> None:
    RunFolder(tmp_path / "run").fail("killed by signal 9", 137, {"seed": 3, "config_hash": "a"})
    RunFolder(tmp_path / "run").fail("something else", 1, {"seed": 3, "config_hash": "a"})
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (result["status"], result["error"], result["seed"]) == ("failed", "killed by signal 9", 3)


def test_an_error_in_the_leaderboard_does_not_hide_the_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record(tmp_path / "0", "done", "a")
    record(tmp_path / "1", "diverged", "b")
    monkeypatch.setattr("ganlab.leaderboard.write", lambda folder: f"the table of {folder.name}")
    cfg = OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}})
    with pytest.raises(SystemExit, match="1"):
        callbacks.ExitCode().on_multirun_end(cfg)
    assert f"the table of {tmp_path.name}" in capsys.readouterr().out
    monkeypatch.setattr("ganlab.leaderboard.write", lambda folder: 1 / 0)
    with pytest.raises(SystemExit, match="1"):
        callbacks.ExitCode().on_multirun_end(cfg)


def test_the_exit_code_of_a_stopped_sweep_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Hydra 1.4 calls the callbacks in a `finally`."""
    record(tmp_path / "0", "diverged", "a")
    cfg = OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}})
    with pytest.raises(SystemExit, match="143"):
        try:
            raise SystemExit(143)
        finally:
            callbacks.ExitCode().on_multirun_end(cfg)
    assert capsys.readouterr() == ("", "")


def test_provenance_records_the_commit_and_local_changes(tmp_path: Path) -> None:
    cpu = torch.device("cpu")
    assert provenance(cpu, tmp_path)["commit"] is None
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    (tmp_path / "file").write_text("1")
    for command in (("init", "-q"), ("add", "file"), (*who, "commit", "-q", "-m", "one")):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    clean = provenance(cpu, tmp_path)
    assert (len(clean["commit"]), clean["diff"]) == (40, None)
    (tmp_path / "file").write_text("2")
    changed = provenance(cpu, tmp_path)
    assert (changed["commit"], len(changed["diff"])) == (clean["commit"], 16)
    assert changed["threads"] == torch.get_num_threads()
    json.dumps(changed)
