"""A run's folder is untrusted data: nothing in it is executed, downloaded, resolved or followed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, SAMPLE, make_run
from PIL import Image
from wandb_server import serving

from ganlab import load_run
from ganlab.__main__ import resume
from ganlab.compare import compare
from ganlab.config import run_config
from ganlab.config.allow_list import refuse_disallowed
from ganlab.errors import CheckpointError, GanlabError, OperationalError, Refused
from ganlab.evaluate import evaluate
from ganlab.leaderboard import run_record
from ganlab.sample import sample
from ganlab.sweeps import jobs

TINY = ("trainer.steps=2", "model.generator.width=2", "dataset.num_examples=16")
SECRET = "s3cr3t-of-the-user"
COMMANDS: dict[str, Callable[[Path], object]] = {
    "sample": lambda run: sample(run=str(run), out=str(run.parent / "x.npy")),
    "evaluate": lambda run: evaluate(run=str(run), num=20),
    "resume": lambda run: resume([f"resume={run}", "trainer.steps=4"]),
    "load_run": load_run,
}
Change = Callable[[dict[str, Any]], object]


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANLAB_TEST_SECRET", SECRET)


@pytest.fixture
def run(tmp_path: Path, copy_of_run: Callable[..., Path]) -> Path:
    return copy_of_run(tmp_path / "run", *TINY)


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """The address of a local server, and the paths that were requested from it."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, format: str, *args: object) -> None:
            pass

    listening = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{listening.server_port}", asked
    listening.shutdown()
    thread.join()
    listening.server_close()


def edit(run: Path, change: Change) -> None:
    file = run / ".hydra" / "config.yaml"
    tree = yaml.safe_load(file.read_text())
    change(tree)
    file.write_text(yaml.safe_dump(tree))


def put(key: str, value: Any) -> Change:
    """Return a change that sets one key."""
    *path, last = key.split(".")

    def change(tree: dict[str, Any]) -> None:
        for name in path:
            tree = tree[name]
        tree[last] = value

    return change


def calls(function: str, **arguments: Any) -> dict[str, Any]:
    return {"_target_": function, **arguments}


# Objects built from a config ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_a_ganlab_function_in_place_of_a_value_is_not_called(
    command: str, run: Path, server: tuple[str, list[str]]
) -> None:
    address, asked = server
    file = calls("ganlab.data.folders.cache_folder")
    edit(run, put("model.latent_dim", calls(
        "ganlab.data.download.download", addresses=[f"{address}/x"], digest="0", timeout=2.0, file=file)))  # fmt: skip
    with pytest.raises(Refused, match=r"model\.latent_dim"):
        COMMANDS[command](run)
    assert asked == []


ENV = "${oc.env:GANLAB_TEST_SECRET}"
SWITCH = "${oc.select:nothing,${oc.env:GANLAB_TEST_SWITCH,safe}}"
METRICS, LOCATE = "ganlab.metrics.evaluator.EvaluateSamples", "ganlab.config.signatures.locate"
HOSTILE: dict[str, tuple[Change, str]] = {
    "a resolver in a value": (put("dataset.num_examples", "${oc.decode:'16'}"), "dataset.num_examples"),
    "a resolver in a target": (put("loss._target_", "ganlab.losses.${oc.env:L,NonSaturating}"), "loss._target_"),
    "a resolver that changes its mind": (put("device", SWITCH), "device"),
    "an interpolation that is quoted": (put("device", r"\${oc.env:HOME}"), "device"),
    "an interpolation in a list": (put("optimizer.generator.betas", [0.0, "${seed}"]), r"betas\[1\]"),
    "positional arguments": (put("metrics", calls(METRICS, _args_=["os.path"])), "_args_"),
    "arguments that stay configs": (put("model._recursive_", False), "_recursive_"),
    "another conversion": (put("model.generator._convert_", "none"), "_convert_"),
    "a constructor of another group": (put("loss", calls("ganlab.data.points.Circle")), "loss._target_"),
    "a tool of ours": (put("init", calls(LOCATE, key="k", target="os.system")), "init._target_"),
    "a method of ours": (put("loss", calls("ganlab.losses.NonSaturating.generator")), "loss._target_"),
    "a node in a list": (put("optimizer.generator.betas", [0.0, calls("ganlab.losses.Hinge")]), r"betas\[1\]"),
    "a node below a value": (put("trainer.steps", {"deep": calls("ganlab.losses.Hinge")}), "trainer.steps"),
    "a target that is a list": (put("loss._target_", ["os.system"]), "loss._target_"),
    "a target below a target": (put("loss._target_", calls("os.system", command="true")), "loss._target_"),
    "an extractor of a stranger": (
        put("metrics", calls(METRICS, extractor="payload.Net")), "metrics.extractor"),
    "a module of the standard library": (put("loss", calls("os.system", command="true")), "loss._target_=os.system"),
    "a key of another kind": (lambda tree: tree.update({3: "x"}), "not a string"),
    "a name that is a path of keys": (put("penalty", {"a.b": calls("ganlab.penalties.R1")}), r"penalty\.a\.b"),
    "partial as text": (put("model.generator._partial_", "yes"), "_partial_"),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("command", ["sample", "resume"])
def test_a_hostile_config_is_refused_by_its_key(command: str, kind: str, run: Path) -> None:
    change, named = HOSTILE[kind]
    edit(run, change)
    before = contents(run)
    with pytest.raises(Refused, match=named) as refusal:
        COMMANDS[command](run)
    assert "\n" not in str(refusal.value)
    assert contents(run) == before


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in folder.rglob("*") if file.is_file() and file.name != ".lock"}


NESTED = [f"{after}: &{after} [{', '.join([f'*{before}'] * 9)}]" for before, after in pairwise("abcdefghij")]
MERGED = [f"{after}: &{after} {{<<: [{', '.join([f'*{before}'] * 9)}]}}" for before, after in pairwise("abcdefghij")]
FILES = {
    "aliases that hold billions": "\n".join(["a: &a [x, x]", *NESTED]),
    "a tree without an end": "a: &a [*a]\n",
    "aliases that hold billions of empty lists": "\n".join(["a: &a []", *NESTED]),
    "merge keys that hold billions": "\n".join(["a: &a {x: 1}", *MERGED]),
    "a hexadecimal number without an end": f"a: 0x{'f' * 6000}\n",
    "a number to base 60 that takes hours": f"a: 1{':59' * 300_000}\n",
    "a float to base 60 that overflows": f"a: 1{':59' * 300}.5\n",
    "a truth value that is none": "a: !!bool maybe\n",
    "a number that is none": "a: !!int ''\n",
    "a time that is none": "a: !!timestamp never\n",
    "a deep tree": "[" * 3000 + "]" * 3000,
    "a large file": "a: " + "x" * 2**21,
    "a Python object": "a: !!python/object/apply:os.system [true]\n",
    "a date": "a: 2026-01-01\n",
    "no mapping": "[1, 2]\n",
    "no text": "\x00\xff",
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.timeout(20)
def test_a_malformed_config_is_refused_and_listed_as_damaged(kind: str, run: Path) -> None:
    (run / ".hydra" / "config.yaml").write_text(FILES[kind], encoding="latin1")
    with pytest.raises(Refused, match=r"config\.yaml"):
        run_config.load(run)
    assert run_record.read(run).status == "damaged"
    (run / ".hydra" / "config.yaml").rename(run / ".hydra" / "overrides.yaml")
    assert run_record.read(run).overrides in ([], ["1", "2"])


def test_environment_variables_are_not_resolved_in_files_of_a_folder(run: Path) -> None:
    edit(run, put("device", ENV))
    (run / ".hydra" / "overrides.yaml").write_text(f"- device={ENV}\n- '{ENV}'\n")
    result = json.loads((run / "result.json").read_text())
    (run / "result.json").write_text(json.dumps({k: v for k, v in result.items() if k != "config_hash"}))
    for command in COMMANDS.values():
        with pytest.raises(GanlabError) as refusal:
            command(run)
        assert SECRET not in str(refusal.value)
    assert SECRET not in repr(run_record.read(run))
    assert SECRET not in repr(jobs.jobs_in(run.parent))


def test_the_config_in_a_run_folder_is_written_resolved(tmp_path: Path, ganlab: Callable[..., Any]) -> None:
    done = ganlab(*TINY, "tracker=none", "metrics=none", "hydra.run.dir=one")
    assert done.returncode == 0, done.stderr
    swept = ganlab("-m", "seed=0", *TINY, "tracker=none", "metrics=none", "hydra/launcher=basic", "sweep_dir=all")
    assert swept.returncode == 0, swept.stderr
    for folder in ("one", "all/0"):
        assert "${" not in (tmp_path / folder / ".hydra" / "config.yaml").read_text()
        cfg = run_config.load(tmp_path / folder)
        assert [cfg.select(f"model.{player}.width") for player in ("generator", "discriminator")] == [2, 2]


def test_the_mirror_of_a_dataset_is_not_read_from_a_file(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", "dataset=mnist5", *SAMPLE, "model.generator.width=2", "trainer=smoke")
    edit(run, put("dataset.mirror", "http://127.0.0.1:9/"))
    assert run_config.load(run).select("dataset.mirror") is None


def test_the_cache_of_pictures_is_not_read_from_a_file(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (4, 4)).save(pictures / name)
    data = (f"dataset.path={pictures}", "dataset.size=4", "dataset.channels=1")
    small = ("trainer.batch_size=2", "trainer.steps=2", "model.generator.width=2")
    run = make_run(tmp_path / "run", "dataset=image_folder", *data, *small, f"dataset.cache={tmp_path / 'own'}")
    edit(run, put("dataset.cache", str(tmp_path / "elsewhere")))
    assert run_config.load(run).select("dataset.cache") is None
    resume([f"resume={run}", "trainer.steps=4", f"dataset.cache={tmp_path / 'own'}"])
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("by", ["file", "user"])
def test_a_resumed_run_is_tracked_online_only_on_the_command_line(
    by: str, run: Path, ganlab: Callable[..., Any]
) -> None:
    node = calls("ganlab.trackers.wandb.Wandb", mode="online", entity="stranger", project="open")
    edit(run, put("tracker", {"wandb": node}))
    said = ["tracker.wandb.mode=online"] if by == "user" else []
    with serving() as server:
        done = ganlab("resume=run", "trainer.steps=4", *said, **server.environment)
    assert done.returncode == 0, done.stderr
    assert "to upload to stranger/open, add tracker.wandb.mode=online" in done.stderr
    assert ("UpsertBucket" in server.queries) == (by == "user")


def test_malformed_hydra_settings_do_not_prevent_a_resume(run: Path) -> None:
    (run / ".hydra" / "hydra.yaml").write_text("hydra: [1, 2]\n")
    (run / ".hydra" / "overrides.yaml").write_text("{a: 1}\n")
    resume([f"resume={run}", "trainer.steps=4"])
    assert json.loads((run / "result.json").read_text())["step"] == 4


# Results -----------------------------------------------------------------------------------------------------

DAMAGED_RESULTS = {
    "a list of names": '["id", "seed", "dataset", "step", "config_hash", "config_hashes"]',
    "brackets without an end": "[" * 100_000,
    "hashes that are a number": {"config_hashes": 5},
    "scores that are a list": {"scores": ["x"]},
    "steps that are text": {"scores_since": {"fid": "x"}},
    "steps that are a list": {"scores_since": [1]},
}


@pytest.mark.parametrize("kind", DAMAGED_RESULTS)
def test_a_damaged_result_is_refused_and_listed_as_damaged(kind: str, run: Path) -> None:
    change = DAMAGED_RESULTS[kind]
    result = json.loads((run / "result.json").read_text())
    (run / "result.json").write_text(change if isinstance(change, str) else json.dumps({**result, **change}))
    with pytest.raises(CheckpointError, match=r"result\.json: cannot be read"):
        resume([f"resume={run}", "trainer.steps=4"])
    assert run_record.read(run).status in ("damaged", "done")
    assert [job.folder for job in jobs.failures(jobs.jobs_in(run.parent))] in ([run], [])
    with suppress(CheckpointError):  # without any hash that the config could match
        evaluate(run=str(run), num=20)


@pytest.mark.parametrize("records", ['{"step": "x", "epoch": 1}\n' * 2, "[" * 100_000 + "\n{}\n"])
def test_damaged_metrics_are_refused(records: str, run: Path) -> None:
    (run / "metrics.jsonl").write_text(records)
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl: line 1 is damaged"):
        resume([f"resume={run}", "trainer.steps=4"])


def test_an_unwritable_log_is_reported_in_one_line(run: Path) -> None:
    (run / "ganlab.log").mkdir()
    with pytest.raises(OperationalError, match=r"ganlab\.log: cannot be written"):
        resume([f"resume={run}", "trainer.steps=4"])


@pytest.mark.parametrize("dataset", [5, "x", ["x"], None])
def test_a_malformed_config_group_ends_neither_a_sweep_nor_an_evaluation(dataset: Any, run: Path) -> None:
    result = json.loads((run / "result.json").read_text())
    (run / "result.json").write_text(json.dumps({**result, "dataset": dataset, "config_hash": ["x"]}))
    evaluate(run=str(run), num=20)
    assert [job.status for job in jobs.jobs_in(run.parent)] == ["done"]
    (run / "result.json").unlink()
    edit(run, put("dataset", dataset))
    assert [job.status for job in jobs.failures(jobs.jobs_in(run.parent))] == ["failed"]


@pytest.mark.parametrize("file", [".hydra/config.yaml", "checkpoints/last.pt", "result.json"])
@pytest.mark.parametrize("command", ["sample", "evaluate", "load_run"])
def test_no_samples_are_drawn_from_files_of_two_runs(
    command: str, file: str, run: Path, tmp_path: Path, copy_of_run: Callable[..., Path]
) -> None:
    other = copy_of_run(tmp_path / "other", *TINY, "latent=uniform", "seed=1")
    (run / file).write_bytes((other / file).read_bytes())
    with pytest.raises(CheckpointError, match=r"config_hash \w+ is not one of this run's"):
        COMMANDS[command](run)


# The user's own modules -----------------------------------------------------------------------------------

OWN = """
from os import environ, system
from pathlib import Path
from random import randint

from numpy import save
from torch import nn

Path(__file__).with_suffix(".imported").touch()


class Discriminator(nn.Module):
    def __init__(self, shape, width=2):
        super().__init__()
        self.layer = nn.Linear(shape[0], 1)

    def forward(self, x):
        return self.layer(x).squeeze(1)
"""


def test_a_trusted_module_provides_only_what_it_defines(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_of_a_test.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    node = calls("own_of_a_test.Discriminator", _partial_=True)
    edit(run, put("model.discriminator", node))
    with pytest.raises(CheckpointError, match=r"model\.discriminator\._target_=own_of_a_test\.Discriminator: .*trust="):
        run_config.load(run)
    assert not (tmp_path / "own_of_a_test.imported").exists()
    trusted = run_config.load(run, trust=["own_of_a_test"])
    assert trusted.select("model.discriminator._target_") == node["_target_"]
    for name in ("system", "save", "randint", "environ"):
        edit(run, put("model.discriminator", calls(f"own_of_a_test.{name}", command="true")))
        with pytest.raises(Refused, match=rf"own_of_a_test\.{name}: (is defined in|must be a function)"):
            run_config.load(run, trust=["own_of_a_test"])
    edit(run, put("model.discriminator", node))
    edit(run, put("model.latent_dim", node))
    with pytest.raises(Refused, match=r"model\.latent_dim"):
        run_config.load(run, trust=["own_of_a_test"])


def test_an_extractor_inside_a_trusted_constructor_must_be_trusted_too(tmp_path: Path) -> None:
    inner = calls(METRICS, extractor="payload.Net")
    with pytest.raises(CheckpointError, match=r"metrics\.inner\.extractor=payload\.Net: .*trust="):
        refuse_disallowed({"metrics": calls("json.JSONEncoder", inner=inner)}, tmp_path, trust=["json"])


@pytest.mark.parametrize("inside", ["payload_of_a_test.py", "payload_of_a_test/__init__.py"])
def test_no_module_inside_the_folder_is_imported_even_if_trusted(
    inside: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = run / inside
    file.parent.mkdir(exist_ok=True)
    file.write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)  # from here the folder itself can be imported as a package
    for module in ("run.payload_of_a_test", "run"):
        for target in ("loss._target_", "metrics.extractor"):
            edit(run, put("metrics", calls("ganlab.metrics.evaluator.EvaluateSamples")))
            edit(run, put(target, "run.payload_of_a_test.Discriminator"))
            with pytest.raises(CheckpointError, match="is inside the run's folder"):
                run_config.load(run, trust=[module])
            edit(run, put("loss._target_", "ganlab.losses.NonSaturating"))
    assert not list(run.rglob("*.imported"))


@pytest.mark.parametrize("arguments", [("ganlab.sample", "run=."), ("ganlab", "resume=.", "trainer.steps=4")])
def test_a_command_started_in_the_folder_is_refused_unless_python_ignores_it(
    arguments: tuple[str, ...], run: Path
) -> None:
    """The module would be imported later, in place of a package that is not installed."""
    (run / "torch_fidelity.py").write_text("import pathlib; pathlib.Path('imported').touch()")
    for options, exit_code in ((["-m"], 2), (["-P", "-m"], 0)):
        done = subprocess.run(
            [sys.executable, *options, *arguments],
            cwd=run,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == exit_code, done.stderr
        assert exit_code == 0 or re.fullmatch(r"ganlab: \.: Python imports modules from this folder.*\n", done.stderr)
        assert not (run / "imported").exists()


# Symbolic links ----------------------------------------------------------------------------------------------

LINKED = (
    *("metrics.jsonl", "result.json", "ganlab.log", "report.html", "scores.json", ".lock", ".hydra"),
    *(".hydra/config.yaml", "checkpoints", "checkpoints/last.pt", "samples", "samples/new.png", "figures"),
    *("figures/curves.png", "wandb", "wandb/new", "tensorboard"),
)


@pytest.mark.parametrize("name", LINKED)
def test_a_link_in_the_folder_is_not_written_through(name: str, run: Path, tmp_path: Path) -> None:
    elsewhere, link = tmp_path / "elsewhere", run / name
    if link.exists():
        link.rename(elsewhere)
    else:
        elsewhere.mkdir()
        link.parent.mkdir(exist_ok=True)
    link.symlink_to(elsewhere)
    before = contents(tmp_path)
    with pytest.raises(CheckpointError, match=rf"{re.escape(str(link))}: is a symbolic link"):
        resume([f"resume={run}", "trainer.steps=4"])
    assert contents(tmp_path) == before


READ_BY_COMPARE = {
    "ganlab.log": f"begun\n{SECRET}\n",
    "figures/final.png": SECRET,
    ".hydra/config.yaml": f"github.com: {{oauth_token: {SECRET}}}\n",
    ".hydra/overrides.yaml": f"[{SECRET}=1]\n",
    "result.json": json.dumps({"status": "failed", "error": SECRET}),
}


@pytest.mark.parametrize("name", READ_BY_COMPARE)
def test_targets_of_links_do_not_appear_in_a_leaderboard(
    name: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "elsewhere").write_text(READ_BY_COMPARE[name])
    other = tmp_path / "other"
    shutil.copytree(run, other)
    (run / "result.json").unlink(missing_ok=name == "ganlab.log")
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(tmp_path / "elsewhere")
    compare(str(tmp_path))
    assert "is a symbolic link" in capsys.readouterr().out
    assert run_record.read(run).status == "damaged"
    written = (tmp_path / "leaderboard.html").read_text() + (tmp_path / "leaderboard.csv").read_text()
    assert SECRET not in written


def test_no_file_is_written_through_a_link_named_like_a_temporary_file(run: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("kept")
    for name in ("scores.json", "leaderboard.csv", "leaderboard.html"):
        (run / f".{name}.{os.getpid()}.tmp").symlink_to(elsewhere)
    evaluate(run=str(run), num=20)
    compare(str(run))
    assert elsewhere.read_text() == "kept"
    assert {"scores.json", "leaderboard.csv", "leaderboard.html"} <= {file.name for file in run.iterdir()}


def test_links_made_by_wandb_do_not_prevent_a_resume(run: Path) -> None:
    logs = run / "wandb" / "offline-run-1" / "logs"
    logs.mkdir(parents=True)
    (logs / "debug-core.log").symlink_to("/cache/of/wandb/debug-core.log")
    (run / "wandb" / "latest-run").symlink_to("/where/the/folder/was/before/offline-run-1")
    resume([f"resume={run}", "trainer.steps=4"])
    assert json.loads((run / "result.json").read_text())["step"] == 4
