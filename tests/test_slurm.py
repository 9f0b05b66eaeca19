"""On a real Slurm cluster, if its packages are installed (see `.ci/run`), a preempted job loses no step."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from conftest import make_run
from fork_server import Forked
from slurm_cluster import cluster, missing

from ganlab.runs.folder import read_result

pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
pytestmark = pytest.mark.skipif(bool(missing()), reason=f"no Slurm here: {', '.join(missing())} not found")

Start = Callable[..., Forked | subprocess.Popen[str]]

RUN = ("trainer.steps=6000", "trainer.sample_every=null", "trainer.checkpoint_every=null", "seed=1")


class Slurm:
    """A sweep of one job, number 1 on the cluster, and Slurm's commands."""

    def __init__(self, environment: dict[str, str], start: Start, folder: Path) -> None:
        self.environment, self.start = environment, start
        self.run = folder / "sweep" / "0"

    def submit(self, partition: str) -> None:
        """Start the launcher, and wait until its job is training."""
        slurm = ("hydra/launcher=submitit_slurm", f"hydra.launcher.partition={partition}")
        limits = ("hydra.launcher.timeout_min=60", "hydra.launcher.max_num_timeout=3")
        job = ("tracker=none", "metrics=none", *RUN, "hydra.sweep.dir=sweep")
        self.launcher = self.start("-m", *job, *slurm, *limits, **self.environment)
        self.wait_until(lambda: self.result.get("step", 0) > 0)
        (self.number,) = self("squeue", "--noheader", "--format=%A").split()

    def __call__(self, *command: str) -> str:
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    @property
    def job(self) -> dict[str, str]:
        return dict(re.findall(r"(\w+)=(\S+)", self("scontrol", "show", "job", self.number)))

    @property
    def result(self) -> dict:
        return read_result(self.run)

    def wait_for(self, *statuses: str) -> dict:
        """Wait until the job has one of these statuses, and return its result."""
        seen = []

        def found() -> bool:
            seen.append(self.result)
            return seen[-1].get("status") in statuses

        self.wait_until(found)
        return seen[-1]

    def wait_until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + 120
        while not condition():
            assert self.launcher.poll() is None, self.launcher.communicate()
            assert time.monotonic() < end, (self.job, self.result)
            time.sleep(0.05)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a running cluster."""
    with cluster(tmp_path_factory.mktemp("slurm")) as environment:
        yield environment


@pytest.fixture
def slurm(environment: dict[str, str], start: Start, tmp_path: Path) -> Slurm:
    return Slurm(environment, start, tmp_path)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run without a cluster."""
    return make_run(tmp_path_factory.mktemp("alone") / "run", *RUN)


@pytest.mark.parametrize("partition", ["low", "without_grace"])
def test_a_preempted_job_is_saved_requeued_once_and_equals_an_undisturbed_run(
    slurm: Slurm, partition: str, alone: Path
) -> None:
    slurm.submit(partition)
    times = [time.monotonic()]
    slurm("sbatch", "--partition=high", "--output=/dev/null", "--wrap=sleep 1")
    stopped = slurm.wait_for("stopped", "done", "failed")
    times.append(time.monotonic())
    assert (stopped["status"], stopped["exit_code"]) == ("stopped", 143)
    assert stopped["error"] == f"stopped by SIGTERM after step {stopped['step']} of 6000, saved"
    resumed = slurm.wait_for("running", "done", "failed")
    times.append(time.monotonic())
    assert resumed["status"] == "running"
    assert resumed["step"] >= stopped["step"]  # it may have logged again
    output, errors = slurm.launcher.communicate(timeout=120)
    times.append(time.monotonic())
    saved, resumed_after, done = (f"{end - times[0]:.1f} s" for end in times[1:])
    print(f"After preemption: saved in {saved}, resumed in {resumed_after}, done in {done}")
    assert slurm.launcher.returncode == 0, (output, errors)
    assert (slurm.result["status"], slurm.job["Restarts"]) == ("done", "1")
    ends = re.findall(r"Run folder: sweep/0 \((\w+)\)", (slurm.run / "ganlab.log").read_text())
    assert ends == ["stopped", "done"]

    assert (alone / "metrics.jsonl").read_bytes() == (slurm.run / "metrics.jsonl").read_bytes()
    states = [torch.load(run / "checkpoints" / "last.pt", weights_only=True) for run in (alone, slurm.run)]
    for player in ("generator", "discriminator"):
        torch.testing.assert_close(*(state[player] for state in states), rtol=0, atol=0)


def test_a_cancelled_job_is_saved_and_not_requeued(slurm: Slurm) -> None:
    slurm.submit("low")
    slurm("scancel", slurm.number)
    slurm.wait_until(lambda: not slurm("squeue", "--noheader"))
    assert (slurm.result["status"], slurm.result["exit_code"]) == ("stopped", 143)
    assert (slurm.job["JobState"], slurm.job["Restarts"]) == ("CANCELLED", "0")
