"""On a real Slurm cluster, if its packages are installed (see `.ci/run`), a preempted job loses no step."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from fork_server import Forked
from slurm_cluster import cluster, kill_controller, missing, restart_controller, wait_until

from ganlab.runs.folder import read_result

pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
pytestmark = [
    pytest.mark.waits,
    pytest.mark.skipif(bool(missing()), reason=f"no Slurm here: {', '.join(missing())} not found"),
]

Start = Callable[..., Forked | subprocess.Popen[str]]

RUN = (
    *("tracker=none", "metrics=none", "trainer.steps=6000", "trainer.sample_every=null"),
    *("trainer.checkpoint_every=null", "seed=1"),
)


class Slurm:
    """A sweep of one job on the cluster, and Slurm's commands."""

    def __init__(
        self, environment: dict[str, str], start: Start, folder: Path, partition: str, *overrides: str
    ) -> None:
        self.environment, self.partition = environment, partition
        self.run = folder / partition / "0"
        slurm = ("hydra/launcher=submitit_slurm", f"hydra.launcher.partition={partition}")
        limits = ("hydra.launcher.timeout_min=60", "hydra.launcher.max_num_timeout=3")
        arguments = (*RUN, f"hydra.sweep.dir={partition}", *slurm, *limits, *overrides)
        self.launcher = start("-m", *arguments, **environment)

    def wait_for_training(self) -> None:
        self.wait_until(lambda: self.result.get("step", 0) > 0)
        self.number, *_ = self("squeue", "--noheader", "--format=%A", f"--partition={self.partition}").split()

    def __call__(self, *command: str) -> str:
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    @property
    def facts(self) -> dict[str, str]:
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
            assert time.monotonic() < end, (self.facts, self.result)
            time.sleep(0.05)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a running cluster."""
    with cluster(tmp_path_factory.mktemp("slurm")) as environment:
        yield environment


@pytest.fixture
def submit(environment: dict[str, str], start: Start, tmp_path: Path) -> Callable[..., Slurm]:
    """Starts the launcher of a job in a partition."""
    return partial(Slurm, environment, start, tmp_path)


def test_preempted_jobs_are_saved_requeued_once_and_equal_an_undisturbed_run(
    submit: Callable[[str], Slurm], start: Start, tmp_path: Path
) -> None:
    # At once, as Slurm delays a requeued job by some seconds
    jobs = [submit(partition) for partition in ("low", "without_grace")]
    for job in jobs:
        job.wait_for_training()
    times = [time.monotonic()]
    jobs[0]("sbatch", "--partition=high", "--cpus-per-task=2", "--output=/dev/null", "--wrap=true")
    stopped = [job.wait_for("stopped", "done", "failed") for job in jobs]
    times.append(time.monotonic())
    undisturbed = start(*RUN, "hydra.run.dir=alone")
    for result in stopped:
        assert (result["status"], result["exit_code"]) == ("stopped", 143)
        assert result["error"] == f"stopped by SIGTERM after step {result['step']} of 6000, saved"
    resumed = [job.wait_for("running", "done", "failed") for job in jobs]
    times.append(time.monotonic())
    for before, after in zip(stopped, resumed, strict=True):
        assert after["status"] == "running"
        assert after["step"] >= before["step"]  # it may have logged again
    alone = tmp_path / "alone"
    assert undisturbed.communicate(timeout=120)[1] == ""
    outputs = [job.launcher.communicate(timeout=120) for job in jobs]
    times.append(time.monotonic())
    saved, resumed_after, done = (f"{end - times[0]:.1f} s" for end in times[1:])
    print(f"After preemption: saved in {saved}, resumed in {resumed_after}, done in {done}")
    for job, output in zip(jobs, outputs, strict=True):
        assert job.launcher.returncode == 0, output
        assert (job.result["status"], job.facts["Restarts"]) == ("done", "1")
        ends = re.findall(rf"Run folder: {job.partition}/0 \((\w+)\)", (job.run / "ganlab.log").read_text())
        assert ends == ["stopped", "done"]
        assert_equal_to_undisturbed(job.run, alone)


def test_a_cancelled_job_is_saved_and_not_requeued(submit: Callable[[str], Slurm]) -> None:
    job = submit("low")
    job.wait_for_training()
    job("scancel", job.number)
    job.wait_until(lambda: not job("squeue", "--noheader"))
    assert (job.result["status"], job.result["exit_code"]) == ("stopped", 143)
    assert (job.facts["JobState"], job.facts["Restarts"]) == ("CANCELLED", "0")


# `Slow` delays a run while the file `slow` exists. `Failing` raises an error at its 300th call if `fails` is set, until
# the file `mended` exists.
OWN_LOSS = """
import time
from pathlib import Path

from ganlab.losses import NonSaturating


class Slow(NonSaturating):
    def discriminator(self, real, fake):
        if Path("slow").exists():
            time.sleep(0.02)
        return super().discriminator(real, fake)


class Failing(NonSaturating):
    num_calls = 0

    def __init__(self, fails: bool, smoothing: float) -> None:
        super().__init__(smoothing)
        self.fails = fails

    def discriminator(self, real, fake):
        self.num_calls += 1
        if self.num_calls == 300 and self.fails and not Path("mended").exists():
            raise OSError("No space left on device")
        return super().discriminator(real, fake)
"""


def assert_equal_to_undisturbed(run: Path, alone: Path) -> None:
    assert (alone / "metrics.jsonl").read_bytes() == (run / "metrics.jsonl").read_bytes()
    states = [torch.load(each / "checkpoints" / "last.pt", weights_only=True) for each in (alone, run)]
    for player in ("generator", "discriminator"):
        torch.testing.assert_close(*(state[player] for state in states), rtol=0, atol=0)


def run_alone(start: Start, *overrides: str) -> None:
    assert start(*RUN, *overrides, "hydra.run.dir=alone").communicate(timeout=120)[1] == ""


def test_a_job_at_its_time_limit_is_saved_requeued_and_equals_an_undisturbed_run(
    submit: Callable[..., Slurm], start: Start, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(OWN_LOSS)
    (tmp_path / "slow").touch()
    own = "loss._target_=mine.Slow"
    job = submit("low", own, "hydra.launcher.timeout_min=10")
    job.wait_for_training()
    job(
        "scontrol", "update", f"JobId={job.number}", "TimeLimit=1"
    )  # Slurm warns 2 minutes before, looking twice a minute
    stopped = job.wait_for("stopped", "done", "failed")
    job("scontrol", "update", f"JobId={job.number}", "TimeLimit=10")
    (tmp_path / "slow").unlink()
    assert (stopped["status"], stopped["exit_code"]) == ("stopped", 128 + signal.SIGUSR2)
    run_alone(start, own)
    output = job.launcher.communicate(timeout=120)
    assert job.launcher.returncode == 0, output
    assert job.facts["Restarts"] == "1"
    logs = "".join(file.read_text() for file in tmp_path.glob("low/.submitit/*/*.err"))
    assert "this job is timed-out" in logs
    assert_equal_to_undisturbed(job.run, tmp_path / "alone")


def test_a_failing_job_has_failed_in_slurm_too_and_can_continue(
    submit: Callable[..., Slurm], start: Start, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(OWN_LOSS)
    own = ("loss._target_=mine.Failing", "trainer.steps=1000", "trainer.checkpoint_every=1")
    sweep = submit("low", *own, "+loss.fails=true,false")
    errors = sweep.launcher.communicate(timeout=120)[1]
    assert sweep.launcher.returncode == 1, errors
    assert "No space left on device" in errors
    accounting = ("sacct", "--allocations", "--noheader", "--parsable2", "--format=State,ExitCode")
    number = next(tmp_path.glob("low/.submitit/*_0")).name.removesuffix("_0")
    wait_until(lambda: sweep(*accounting, f"--jobs={number}").split() == ["FAILED|1:0", "COMPLETED|0:0"], tmp_path)
    statuses = [read_result(tmp_path / "low" / number)["status"] for number in ("0", "1")]
    assert statuses == ["failed", "done"]
    (tmp_path / "mended").touch()
    assert start("resume=low/0", "trust=[mine]").communicate(timeout=120)[1] == ""
    run_alone(start, *own, "+loss.fails=true")
    assert_equal_to_undisturbed(tmp_path / "low" / "0", tmp_path / "alone")


def test_a_sweep_outlives_a_killed_controller(
    submit: Callable[..., Slurm], environment: dict[str, str], start: Start, tmp_path: Path
) -> None:
    sweep = submit("low", "seed=1,2,3", "trainer.steps=3000")  # the third waits for one of the two cores
    sweep.wait_for_training()
    sweep.wait_until(lambda: read_result(tmp_path / "low" / "1").get("step", 0) > 0)
    kill_controller(environment)
    step = sweep.result["step"]
    sweep.wait_until(lambda: sweep.result["step"] > step)
    assert not (tmp_path / "low" / "2").exists()
    restart_controller(environment)
    output = sweep.launcher.communicate(timeout=120)
    assert sweep.launcher.returncode == 0, output
    run_alone(start, "trainer.steps=3000")
    assert_equal_to_undisturbed(tmp_path / "low" / "0", tmp_path / "alone")
    for number in ("0", "1", "2"):
        run = tmp_path / "low" / number
        assert re.findall(r"Run folder: \S+ \((\w+)\)", (run / "ganlab.log").read_text()) == ["done"]
        assert read_result(run)["step"] == 3000
