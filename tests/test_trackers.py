"""Trackers receive exact copies and cannot disturb the run."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import ROOT, make_run
from PIL import Image
from torch import Tensor
from wandb_server import KEY, serving

from ganlab import build
from ganlab.config import run_config
from ganlab.config.conf_files import conf_dir
from ganlab.config.run_config import ResolvedConfig
from ganlab.errors import ConfigError, Diverged
from ganlab.runs import run_names
from ganlab.runs.folder import RunFolder, read_result
from ganlab.trackers import RunInfo, RunNames, Trackers
from ganlab.train import train
from ganlab.training.step import TrainingStep

SHORT = ("trainer.steps=6", "trainer.log_every=0.033")  # on the circle: a record every second step
Command = Callable[..., subprocess.CompletedProcess[str]]


class Faulty:
    """A tracker that raises in one of its methods, or hangs there until `go` is set."""

    def __init__(self, method: str = "none", go: threading.Event | None = None, patience: float = 10.0) -> None:
        self.method, self.go = method, go
        self.start_timeout = self.finish_timeout = patience
        self.seen: list[int] = []
        self.finished = False

    def _act(self, method: str) -> None:
        if method == self.method:
            if self.go is None:
                raise RuntimeError("no network")
            self.go.wait()

    def start(self, run: RunInfo) -> None:
        self._act("start")

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        self.seen.append(step)
        self._act("log")

    def picture(self, name: str, file: Path, step: int) -> None:
        pass

    def rewind(self, step: int) -> None:
        pass

    def finish(self, exit_code: int, result: Mapping[str, Any], best: Path | None) -> None:
        self.finished = True
        self._act("finish")


RUN = RunInfo(Path(), "id", RunNames(), {})


def use(**trackers: Any) -> None:
    together = Trackers(trackers)
    together.start(RUN)
    together.log({"loss": 1.0}, 1)
    together.log({"loss": 1.0}, 2)
    together.finish(0, {})


def test_trackers_import_neither_sweeps_nor_hydra() -> None:
    code = (
        "import sys, ganlab.trackers; print(*sorted(m for m in sys.modules if m.split('.')[0] in ('ganlab', 'hydra')))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["ganlab", "ganlab.trackers"]


@pytest.mark.parametrize("method", ["start", "log", "finish"])
def test_an_error_of_a_tracker_is_one_warning(method: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        use(mine=Faulty(method))
    assert [record.message for record in caplog.records] == [
        "The tracker mine failed: no network; the run goes on without it."
    ]


@pytest.mark.parametrize(("method", "num_warnings"), [("start", 2), ("log", 1), ("finish", 1)])
def test_a_hanging_tracker_is_abandoned_and_does_not_block_others(
    method: str, num_warnings: int, caplog: pytest.LogCaptureFixture
) -> None:
    other, go = Faulty(), threading.Event()
    with caplog.at_level(logging.WARNING):
        use(mine=Faulty(method, go, patience=0.1), other=other)  # would never return if it waited
    go.set()
    assert (other.seen, other.finished) == ([1, 2], True)
    assert len(caplog.records) == num_warnings
    assert all("The tracker mine" in record.message for record in caplog.records)


def test_a_tracker_that_raises_a_base_exception_is_closed(caplog: pytest.LogCaptureFixture) -> None:
    def interrupted(run: RunInfo) -> None:
        raise KeyboardInterrupt

    tracker = Faulty()
    tracker.start = interrupted  # type: ignore[method-assign]
    with caplog.at_level(logging.WARNING):
        use(mine=tracker)
    assert tracker.finished
    assert "The tracker mine failed: KeyboardInterrupt" in caplog.text


def test_a_started_tracker_is_finished_after_a_failure() -> None:
    tracker = Faulty("log")
    use(mine=tracker)
    assert tracker.finished


def test_trackers_start_at_the_same_time() -> None:
    both = threading.Barrier(2, timeout=30)
    trackers = Faulty(), Faulty()
    for tracker in trackers:
        tracker.start = lambda run: both.wait()  # type: ignore[method-assign]
    use(first=trackers[0], second=trackers[1])
    assert not both.broken
    assert all(tracker.seen == [1, 2] for tracker in trackers)


def test_a_tracker_that_starts_slowly_receives_all_records() -> None:
    tracker, go = Faulty(patience=0.1), threading.Event()
    tracker.start = lambda run: go.wait()  # type: ignore[assignment, method-assign, return-value]
    together = Trackers({"slow": tracker})
    together.start(RUN)
    together.log({"loss": 1.0}, 1)
    go.set()
    assert together.each[0]._started.wait(30)
    tracker.finish_timeout = 30.0
    together.finish(0, {})
    assert (tracker.seen, tracker.finished) == ([1], True)


@pytest.mark.parametrize(
    ("overrides", "called"),
    [
        (["optimizer.generator.lr=1e-4", "model.latent_dim=8", "seed=0"], "lr=1e-4 latent_dim=8 seed=0"),
        (["optimizer.generator.lr=1", "optimizer.discriminator.lr=2"], "generator.lr=1 discriminator.lr=2"),
        (
            ["loss=hinge", "tracker.wandb.mode=online", "metrics=none", "sweep=seeds", "hydra.verbose=true"],
            "loss=hinge",
        ),
        (["+penalty.r1.x=3", "~schedule"], "x=3 ~schedule"),
        ([], ""),
        (["dataset.path=" + 200 * "x"], "path=" + 123 * "x"),
    ],
)
def test_the_name_of_a_run_abbreviates_its_overrides(overrides: list[str], called: str) -> None:
    assert run_names.short_name(overrides) == called


# Weights & Biases ------------------------------------------------------------------------------------------


def read_back(folder: Path) -> list[dict[str, Any]]:
    """Return what W&B's own reader finds in the latest offline run in a run's folder."""
    run = max((folder / "wandb").glob("offline-run-*"))
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(run)]
    read = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert read.returncode == 0, read.stderr
    return [json.loads(line) for line in read.stdout.splitlines()]


def of_type(records: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [record[kind] for record in records if record["type"] == kind]


def summary_of(records: list[dict[str, Any]]) -> dict[str, Any]:
    return {key: value for part in of_type(records, "summary") for key, value in part["update"].items()}


def assert_holds_history(sent: list[dict[str, Any]], folder: Path) -> None:
    """Check that the history in W&B equals metrics.jsonl."""
    by_step: dict[int, dict[str, Any]] = {}
    for item in sent:
        by_step.setdefault(item["_step"], {}).update(item)
    kept = RunFolder(folder).history()
    assert kept
    for record in kept:
        copied = {name: value for name, value in by_step[record["step"]].items() if name in record}
        assert copied == pytest.approx({name: value for name, value in record.items() if name != "step"})


def test_wandb_receives_the_history_and_the_pictures(tmp_path: Path) -> None:
    folder = make_run(
        tmp_path / "run", "tracker=wandb", "tracker.wandb.group=g", "tracker.wandb.tags=[a,b]",
        "tracker.wandb.job_type=j", "tracker.wandb.name=n",
        "dataset=digits", "model=dcgan_small", "trainer.steps=6", "trainer.log_every=0.04",
    )  # fmt: skip
    records = read_back(folder)
    (about,) = of_type(records, "run")
    assert (about["run_group"], about["job_type"], about["tags"]) == ("g", "j", ["a", "b"])
    assert about["display_name"] == "n"
    history = [record["item"] for record in of_type(records, "history")]
    assert [record["step"] for record in RunFolder(folder).history()] == [2, 4, 6]
    assert_holds_history(history, folder)
    last = {key for item in history if item["_step"] == 6 for key in item}
    assert {"samples.path", "final.path", "curves.path", "animation.path"} <= last


def test_jobs_of_a_sweep_share_a_group_and_are_named_by_their_overrides(ganlab: Command, tmp_path: Path) -> None:
    done = ganlab("-m", "optimizer.discriminator.lr=1e-3,1e38", *SHORT, "seed=3", "tracker.wandb.tags=[mine]")
    assert done.returncode == 3, done.stderr
    (sweep,) = (tmp_path / "outputs").glob("*/*")
    ids = set()
    for job, lr in (("0", "0.001"), ("1", "1e+38")):
        records = read_back(sweep / job)
        (about,) = of_type(records, "run")
        ids.add(about["run_id"])
        assert about["display_name"] == f"lr={lr} steps=6 seed=3"
        assert about["run_group"] == "/".join(sweep.parts[-2:])
        assert set(about["tags"]) == {"mine", "circle", "mlp", "bce"}
        assert about["job_type"] == "train"
        assert about["config"]["update"]["optimizer"]["discriminator"]["lr"] == float(lr)
        result = RunFolder(sweep / job)
        result.reopen()
        result.close()
        told = summary_of(records)
        assert (told["status"], told["seed"]) == (result.result["status"], 3)
        assert of_type(records, "exit")[0].get("exit_code", 0) == result.result["exit_code"]
        if job == "0":
            assert_holds_history([record["item"] for record in of_type(records, "history")], sweep / job)
            best = result.result["best"]
            assert told[f"best/{best['metric']}"] == pytest.approx(best["value"])
            assert told["best_step"] == best["step"]
        else:
            assert (told["status"], result.result["exit_code"]) == ("diverged", 3)
    assert len(ids) == 2


def test_wandb_marks_a_diverged_run_as_failed(tmp_path: Path) -> None:
    with pytest.raises(Diverged):
        make_run(tmp_path / "run", "tracker=wandb", "optimizer.discriminator.lr=1e38", "trainer.steps=20")
    assert of_type(read_back(tmp_path / "run"), "exit")[0]["exit_code"] == 3


def test_samples_sent_to_wandb_are_not_black(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", "tracker=wandb", "dataset=digits", "model=dcgan_small", "trainer=smoke")
    sent = sorted((folder / "wandb").glob("offline-run-*/files/media/images/*.png"))
    assert len(sent) >= 5
    for file in sent:
        with Image.open(file) as picture:
            low, high = picture.convert("L").getextrema()
        assert high - low > 50, file
    assert RunFolder(folder).history()


def test_a_resumed_run_keeps_its_wandb_id(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", "tracker=wandb", *SHORT)
    before = of_type(read_back(folder), "run")[0]["run_id"]
    resume(folder, "trainer.steps=10")
    records = read_back(folder)
    assert of_type(records, "run")[0]["run_id"] == before
    assert {record["item"]["_step"] for record in of_type(records, "history")} == {8, 10}


def resume(folder: Path, *overrides: str) -> None:
    time.sleep(1.1)  # W&B names its folders by the second
    cfg = run_config.load(folder).override(overrides)
    train(cfg, folder, resume=True)


def test_online_tracking_uploads_the_run_and_its_best_checkpoint(ganlab: Command, tmp_path: Path) -> None:
    with serving() as server:
        done = ganlab(*SHORT, "hydra.run.dir=run", **server.environment)
    assert done.returncode == 0, done.stderr
    assert "racker" not in done.stdout
    folder = tmp_path / "run"
    about = server.queries["UpsertBucket"]
    assert (about["project"], about["displayName"]) == ("ganlab", "steps=6")
    assert_holds_history(server.history, folder)
    assert server.exit_code == 0
    assert any(file.startswith("media/videos/animation") for file in server.uploads)
    best = json.loads((folder / "result.json").read_text())["best"]
    artifact = server.queries["CreateArtifact"]["input"]
    assert artifact["artifactTypeName"] == "model"
    assert json.loads(artifact["metadata"]) == best
    assert {"best", f"step-{best['step']}"} <= {alias["alias"] for alias in artifact["aliases"]}
    assert server.uploads["best.pt"] == (folder / "checkpoints" / "best.pt").read_bytes()
    assert "CommitArtifact" in server.queries


@pytest.fixture(scope="module")
def untracked(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return metrics.jsonl of a run without trackers."""
    folder = make_run(tmp_path_factory.mktemp("untracked") / "run", *SHORT, "metrics=default")
    return (folder / "metrics.jsonl").read_bytes()


@pytest.mark.waits
@pytest.mark.parametrize("silent_after", ["graphql", "wandb-history.jsonl"], ids=["at the start", "later"])
def test_a_hanging_server_does_not_change_the_run(
    silent_after: str, ganlab: Command, tmp_path: Path, untracked: bytes
) -> None:
    with serving(silent_after) as server:
        timeouts = ("tracker.wandb.start_timeout=10", "tracker.wandb.finish_timeout=3")
        done = ganlab(*SHORT, *timeouts, "hydra.run.dir=run", **server.environment)
    assert done.returncode == 0, done.stderr
    assert server.silent.is_set()
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == untracked
    if silent_after == "graphql":
        assert "it is tracked offline in" in done.stdout
        assert_is_tracked_offline(tmp_path / "run")


@pytest.mark.waits
def test_an_unreachable_server_does_not_change_the_run(ganlab: Command, tmp_path: Path, untracked: bytes) -> None:
    environment = {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": KEY, "WANDB_MODE": "online"}
    done = ganlab(*SHORT, "tracker.wandb.start_timeout=10", "hydra.run.dir=run", **environment)
    assert done.returncode == 0, done.stderr
    assert "it is tracked offline in" in done.stdout
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == untracked
    assert_is_tracked_offline(tmp_path / "run")


def test_without_an_api_key_the_run_is_tracked_offline(ganlab: Command, tmp_path: Path) -> None:
    done = ganlab(*SHORT, "hydra.run.dir=run", "tracker.wandb.mode=online", HOME=str(tmp_path), WANDB_API_KEY="")
    assert done.returncode == 0, done.stderr
    assert "W&B cannot start this run online (no API key; run `wandb login`)" in done.stdout
    assert_is_tracked_offline(tmp_path / "run")


def assert_is_tracked_offline(folder: Path) -> None:
    records = read_back(folder)
    assert of_type(records, "run")[0]["run_id"] == json.loads((folder / "result.json").read_text())["id"]
    assert_holds_history([record["item"] for record in of_type(records, "history")], folder)
    assert of_type(records, "exit")


@pytest.mark.waits
@pytest.mark.parametrize(
    ("code", "runner"),
    [("import time; time.sleep(200)", "cold_ganlab"), ("import time\ndef init(**_): time.sleep(200)", "ganlab")],
    ids=["when imported", "when started"],
)
def test_a_hanging_wandb_does_not_change_the_run(
    code: str, runner: str, request: pytest.FixtureRequest, tmp_path: Path, untracked: bytes
) -> None:
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake" / "wandb.py").write_text(f"{code}\nclass Settings:\n    def __init__(self, **_): pass\n")
    path = f"{tmp_path / 'fake'}{os.pathsep}{ROOT}"
    command = request.getfixturevalue(runner)
    done = command(*SHORT, "tracker.wandb.start_timeout=1", "hydra.run.dir=run", PYTHONPATH=path)
    assert done.returncode == 0, done.stderr
    assert "The tracker wandb did not start within 1 s; the run goes on without waiting for it." in done.stdout
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == untracked


IMPATIENT = """
from wandb import wandb_agent
from wandb.cli.cli import cli

wandb_agent.Agent.POLL_INTERVAL = 0.2  # instead of 5 s before each look at its processes
cli()
"""


@pytest.mark.waits
def test_an_agent_of_wandb_runs_the_sweep_file(cold_ganlab: Command, tmp_path: Path) -> None:
    """The run of the agent is in the agent's project and logs the metric that the sweep optimises."""
    sweep = yaml.safe_load((conf_dir() / "wandb_sweep.yaml").read_text())
    assert "tracker.wandb.mode=online" in sweep["command"]
    short = [*sweep["command"][:-1], "trainer.steps=6", sweep["command"][-1]]
    values = {key: {"value": of.get("min") or of["values"][-1]} for key, of in sweep["parameters"].items()}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # of the interpreter that the agent starts
    (tmp_path / "impatient.py").write_text(IMPATIENT)
    with serving() as server:
        server.sweep = yaml.safe_dump(sweep | {"command": short})
        server.commands = [{"type": "run", "run_id": "theirs1", "program": sweep["program"], "args": values}]
        agent = ("agent", "--count", "1", "them/theirs/sweep1")
        done = cold_ganlab(*agent, module="impatient", PATH=path, **server.environment)
    assert (done.returncode, server.commands) == (0, []), done.stderr
    about = server.queries["UpsertBucket"]
    assert (about["name"], about["project"], about["entity"]) == ("theirs1", "theirs", "them")
    assert about["sweep"] == "sweep1"
    assert server.exit_code == 0
    (folder,) = (tmp_path / "outputs").glob("*/*")
    written = run_config.load(folder)
    assert written.select("optimizer.generator.lr") == sweep["parameters"]["optimizer.generator.lr"]["min"]
    assert any(sweep["metric"]["name"] in record for record in server.history)

    resume(folder, "tracker.wandb.mode=offline", "trainer.steps=8")
    assert of_type(read_back(folder), "run")[0]["run_id"] == "theirs1"


# TensorBoard -----------------------------------------------------------------------------------------------


def events(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder / "tensorboard"), size_guidance={"images": 0, "scalars": 0}).Reload()


def scalars(folder: Path) -> dict[int, dict[str, float]]:
    """Return step -> value, from TensorBoard's own reader."""
    read: dict[int, dict[str, float]] = {}
    found = events(folder)
    for tag in found.Tags()["scalars"]:
        for event in found.Scalars(tag):
            assert tag not in read.setdefault(event.step, {})
            read[event.step][tag] = event.value
    return read


def test_tensorboard_receives_the_history_and_the_pictures(tmp_path: Path) -> None:
    folder = make_run(
        tmp_path / "run", "tracker=tensorboard", "dataset=digits", "model=dcgan_small", "trainer.steps=4",
        "trainer.log_every=0.04",
    )  # fmt: skip
    kept = {record.pop("step"): record for record in RunFolder(folder).history()}
    assert set(kept) == {2, 4}
    read = scalars(folder)
    assert set(read) == set(kept)
    for step, record in kept.items():
        assert read[step] == pytest.approx(record, rel=1e-6)
    found = events(folder)
    for name in ("samples", "final", "animation"):
        sent = found.Images(name)[-1].encoded_image_string
        assert sent in [file.read_bytes() for file in folder.rglob("*") if file.suffix in (".png", ".gif")]
    config_text, result_text = (
        found.Tensors(f"{name}/text_summary")[0].tensor_proto.string_val[0] for name in ("config", "result")
    )
    assert b"latent_dim:" in config_text
    assert b"status: done" in result_text


def test_a_resumed_run_continues_in_tensorboard(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", "tracker=tensorboard", *SHORT, "trainer.checkpoint_every=0.033")
    for later in ("step_00000006.pt", "last.pt"):  # as after a kill at step 6, with the last checkpoint at step 4
        (folder / "checkpoints" / later).unlink()
    shutil.copy(folder / "checkpoints" / "step_00000004.pt", folder / "checkpoints" / "last.pt")
    resume(folder, "trainer.steps=8")
    assert set(scalars(folder)) == {2, 4, 6, 8}


def test_steps_that_are_rolled_back_are_removed_from_tensorboard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = TrainingStep.__call__

    def diverges_once(training_step: TrainingStep, number: int, lr_factor: float) -> dict[str, Tensor]:
        numbers = call(training_step, number, lr_factor)
        diverges = number == 4 and lr_factor == 1
        return numbers | {"loss_generator": torch.tensor(math.nan)} if diverges else numbers

    monkeypatch.setattr(TrainingStep, "__call__", diverges_once)
    overrides = ("tracker=tensorboard", "watchdog=roll_back", "trainer.checkpoint_every=0.05")  # of step 3
    folder = make_run(tmp_path / "run", *SHORT, *overrides)
    assert read_result(folder)["roll_backs"] == 1
    kept = {record["step"]: record["loss_generator"] for record in RunFolder(folder).history()}
    assert {step: values["loss_generator"] for step, values in scalars(folder).items()} == pytest.approx(kept)


def test_two_trackers_receive_the_same_run(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", "tracker=[wandb,tensorboard]", *SHORT)
    assert_holds_history([record["item"] for record in of_type(read_back(folder), "history")], folder)
    assert set(scalars(folder)) == {2, 4, 6}


def test_a_missing_tensorboard_package_is_refused_before_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = run_config.compose(["tracker=tensorboard"])
    build.check(cfg)
    monkeypatch.setattr("ganlab.trackers.tensorboard.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="tracker=tensorboard: TensorBoard is not installed; pip install"):
        build.check(cfg)


def test_an_old_config_with_an_unnamed_tracker_is_refused(tmp_path: Path) -> None:
    old = {**run_config.compose([]).plain(), "tracker": {"_target_": "ganlab.trackers.NoTracker"}}
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "config.yaml").write_text(json.dumps(old))  # which is YAML too
    for refuse in (lambda: ResolvedConfig(old).validate(), lambda: run_config.load(tmp_path)):
        with pytest.raises(ConfigError, match=r"^tracker\._target_=ganlab\.trackers\.NoTracker: must be under a name"):
            refuse()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("project=a/b", "tracker.wandb.project=a/b: must match pattern"),
        ("project=" + 129 * "x", "x: must have at most 128 characters"),
        ("name=" + 129 * "x", "x: must have at most 128 characters or null"),
        ("tags=[a,'']", "tracker.wandb.tags[1]=: must have at least 1 character"),
        ("tags=[" + 65 * "x" + "]", "x: must have at most 64 characters"),
    ],
)
def test_values_that_wandb_rejects_are_refused_before_the_run(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        build.check(run_config.compose([f"tracker.wandb.{override}"]))
    assert message in str(refused.value)
