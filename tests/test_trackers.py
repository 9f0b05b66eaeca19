"""Trackers hold true copies, and cannot hurt the run."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from conftest import make_run
from PIL import Image

from ganlab.errors import Diverged
from ganlab.runs import RunFolder
from ganlab.trackers import NoTracker, Unfailing


class Failing(NoTracker):
    def __init__(self, method: str, seconds: float = 0.0, patience: float = 10.0) -> None:
        self.method, self.seconds, self.patience = method, seconds, patience
        self.seen: list[int] = []
        self.finished = False

    def _act(self, method: str) -> None:
        if method == self.method:
            time.sleep(self.seconds)
            if not self.seconds:
                raise RuntimeError("no network")

    def start(self, folder: Path, run_id: str, config: Mapping[str, Any]) -> None:
        self._act("start")

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        self.seen.append(step)
        self._act("log")

    def finish(self, exit_code: int, summary: Mapping[str, Any]) -> None:
        self.finished = True
        self._act("finish")


def use(tracker: Unfailing) -> None:
    tracker.start(Path(), "id", {})
    tracker.log({"loss": 1.0}, 1)
    tracker.log({"loss": 1.0}, 2)
    tracker.finish(0, {})


@pytest.mark.parametrize("method", ["start", "log", "finish"])
def test_what_a_tracker_raises_is_one_warning(method: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        use(Unfailing(Failing(method)))
    assert [record.message for record in caplog.records] == [
        "The tracker failed: no network; the run goes on without it."
    ]


@pytest.mark.parametrize("method", ["start", "log", "finish"])
def test_a_tracker_that_hangs_is_left_behind(method: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        started = time.monotonic()
        use(Unfailing(Failing(method, seconds=30.0, patience=0.1)))
        assert time.monotonic() - started < 10
    assert len(caplog.records) == 1
    assert "did not" in caplog.text


def test_what_was_started_is_finished_after_a_failure() -> None:
    tracker = Failing("log")
    use(Unfailing(tracker))
    assert tracker.finished


def test_calls_arrive_in_order() -> None:
    tracker = Failing("none")
    use(Unfailing(tracker))
    assert tracker.seen == [1, 2]


def read_back(folder: Path) -> list[dict[str, Any]]:
    """What W&B's own reader finds in the offline run of a run's folder."""
    (run,) = (folder / "wandb").glob("offline-run-*")
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(run)]
    output = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    return [json.loads(line) for line in output.splitlines()]


def of_type(records: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [record[kind] for record in records if record["type"] == kind]


def test_wandb_holds_the_history_of_metrics_jsonl(tmp_path: Path) -> None:
    folder = make_run(
        tmp_path / "run", "tracker=wandb", "tracker.group=g", "tracker.tags=[a,b]", "tracker.job_type=j",
        "dataset=digits", "model=dcgan_small", "trainer.steps=6", "trainer.log_every=0.04",
    )  # fmt: skip
    records = read_back(folder)
    (about,) = of_type(records, "run")
    assert (about["run_group"], about["job_type"], about["tags"]) == ("g", "j", ["a", "b"])
    assert about["config"]["update"]["optimizer"]["generator"]["lr"] == 0.001
    sent = {item["_step"]: item for item in (record["item"] for record in of_type(records, "history"))}
    kept = RunFolder(folder).history()
    assert [record["step"] for record in kept] == [2, 4, 6]
    for record in kept:
        copied = {name: value for name, value in sent[record["step"]].items() if name in record}
        assert copied == pytest.approx({name: value for name, value in record.items() if name != "step"})
    assert {"samples.path", "final.path", "curves.path", "animation.path"} <= set(sent[6])
    assert of_type(records, "exit")[0]["exit_code"] == 0


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
