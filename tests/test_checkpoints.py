"""Checkpoints are complete and safe to load; damaged ones are refused by name."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest
import torch
from conftest import make_run

from ganlab import load_run
from ganlab.errors import CheckpointError
from ganlab.files import replace_file
from ganlab.runs.checkpoints import Checkpoints, read
from ganlab.runs.progress import Progress


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints") / "run"
    return make_run(folder, "trainer.steps=6", "trainer.checkpoint_every=0.032", "trainer.sample_every=null")


def test_one_file_holds_everything_and_loads_as_plain_data(run: Path) -> None:
    content = torch.load(run / "checkpoints" / "last.pt", weights_only=True)
    parts = {"generator", "discriminator", "ema", "generator_optimizer", "discriminator_optimizer"}
    assert parts <= set(content)
    assert content["progress"]["step"] == 6
    assert content["config"]["trainer"]["steps"] == 6


def test_last_is_the_latest_numbered_one(run: Path) -> None:
    folder = run / "checkpoints"
    assert sorted(file.name for file in folder.iterdir()) == [
        "last.pt", "step_00000002.pt", "step_00000004.pt", "step_00000006.pt",
    ]  # fmt: skip
    assert (folder / "last.pt").read_bytes() == (folder / "step_00000006.pt").read_bytes()
    assert read(Checkpoints(folder).find("4"))["progress"]["step"] == 4


def test_only_the_latest_checkpoints_are_kept_if_requested(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (1, 2, 3):
        checkpoints.save(step, {"progress": Progress(step)})
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "last.pt",
        "step_00000002.pt",
        "step_00000003.pt",
    ]


def test_the_last_one_alone_leaves_those_that_stay_as_they_were(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {"progress": Progress(1)}, is_best=True)
    checkpoints.save_last({"progress": Progress(2)})
    assert [read(checkpoints.find(which))["progress"]["step"] for which in ("last", "best", "1")] == [2, 1, 1]
    assert checkpoints.steps() == [1]


def test_without_hard_links_last_is_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    Checkpoints(tmp_path).save(1, {"progress": Progress(1)})
    assert read(tmp_path / "last.pt")["progress"]["step"] == 1


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "last.pt"
    replace_file(file, b"old")

    def power_fails(*_: object) -> None:
        raise OSError("power")

    monkeypatch.setattr(os, "replace", power_fails)
    with pytest.raises(OSError, match="power"):
        replace_file(file, b"new")
    assert file.read_bytes() == b"old"


def damage(name: str, content: bytes) -> bytes:
    if name == "truncated":
        return content[: len(content) // 2]
    if name == "empty":
        return b""
    if name == "text":
        return b"not a checkpoint"
    flipped = bytearray(content)
    flipped[content.index(b"data/0") + 200] ^= 1  # one bit of a weight, which torch.load would not notice
    return bytes(flipped)


@pytest.mark.parametrize("kind", ["truncated", "empty", "text", "one bit flipped"])
def test_a_damaged_checkpoint_is_refused(run: Path, tmp_path: Path, kind: str) -> None:
    file = tmp_path / "last.pt"
    file.write_bytes(damage(kind, (run / "checkpoints" / "last.pt").read_bytes()))
    with pytest.raises(CheckpointError, match="damaged"):
        read(file)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "broken_in"),)

    torch.save({"format": 1, "evil": Evil()}, tmp_path / "last.pt")
    with pytest.raises(CheckpointError):
        read(tmp_path / "last.pt")
    assert not (tmp_path / "broken_in").exists()


def test_a_zip_of_something_else_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "last.pt", "w") as archive:
        archive.writestr("a.txt", "a")
    with pytest.raises(CheckpointError):
        read(tmp_path / "last.pt")
    torch.save({"weights": torch.zeros(1)}, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match="not a checkpoint of this version"):
        read(tmp_path / "last.pt")


def test_a_missing_checkpoint_is_refused_listing_the_existing_ones(run: Path) -> None:
    with pytest.raises(CheckpointError, match="has last, 2, 4, 6"):
        load_run(run, checkpoint="5")
    with pytest.raises(CheckpointError, match="not a run's folder"):
        load_run(run / "samples")


def test_a_run_s_config_that_names_foreign_code_is_refused(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    for name in (".hydra/config.yaml", "checkpoints/last.pt"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_bytes((run / name).read_bytes())
    config = folder / ".hydra" / "config.yaml"
    config.write_text(config.read_text().replace("ganlab.models.mlp.MLPGenerator", "builtins.open"))
    with pytest.raises(CheckpointError, match=r"builtins\.open"):
        load_run(folder)


def test_samples_depend_only_on_seed_and_index(run: Path) -> None:
    trained = load_run(run)
    many = trained.sample(130, seed=3)
    torch.testing.assert_close(trained.sample(7, seed=3), many[:7])
    assert not torch.equal(trained.sample(7, seed=4), many[:7])
    assert trained.weights == "ema"
    assert not torch.equal(load_run(run, weights="raw").sample(7, seed=3), many[:7])
