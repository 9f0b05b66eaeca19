"""The commands as a user types them: what they print, leave behind and return."""

from __future__ import annotations

import fcntl
import importlib
import json
import logging
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import hostile
import numpy as np
import pytest
from conftest import ROOT, make_run
from fork_server import Forked
from PIL import Image

from ganlab.config import command_line
from ganlab.config.schema import GROUPS
from ganlab.config.terminal import LogFormatter, printable

Command = Callable[..., "subprocess.CompletedProcess[str]"]
Start = Callable[..., Forked | subprocess.Popen[str]]

QUICK = ("tracker=none", "metrics=none", "trainer.sample_every=null", "trainer.checkpoint_every=null")
LONG = (*QUICK, "trainer.steps=60000")


def only_run(folder: Path) -> Path:
    (run,) = folder.glob("outputs/*/*")
    return run


def wait_for_metrics(process: Forked | subprocess.Popen[str], folder: Path) -> None:
    while not list(folder.rglob("metrics.jsonl")):
        assert process.poll() is None
        time.sleep(0.02)


def test_a_run_prints_its_folder_first_and_last_and_writes_all_its_files(ganlab: Command, tmp_path: Path) -> None:
    done = ganlab("trainer.epochs=2")
    assert done.returncode == 0, done.stderr
    run = only_run(tmp_path)
    lines = done.stdout.splitlines()
    assert lines[0] == f"Run folder: {run.relative_to(tmp_path)}"
    assert lines[-1] == f"Run folder: {run.relative_to(tmp_path)} (done)"
    assert "loss_discriminator" in done.stdout
    assert "accuracy" in done.stdout
    names = {path.name for path in run.iterdir()}
    assert {
        ".hydra",
        "ganlab.log",
        "metrics.jsonl",
        "result.json",
        "checkpoints",
        "samples",
        "figures",
        "report.html",
    } <= names
    assert "wandb" in names  # the default tracker, offline
    result = json.loads((run / "result.json").read_text())
    assert (result["status"], result["epoch"], result["dataset"]["source"]) == ("done", 2.0, "scikit-learn")
    assert "loss_discriminator" in (run / "ganlab.log").read_text()


def test_a_terminal_shows_a_progress_bar(tmp_path: Path) -> None:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 160, 0, 0))  # 30 lines of 160 characters
    command = [sys.executable, "-m", "ganlab", *QUICK, "trainer.epochs=2"]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=slave, stderr=slave, close_fds=True)
    os.close(slave)
    shown = b""
    while chunk := _read(master):
        shown += chunk
    assert process.wait() == 0
    assert b"124/124" in shown
    assert b"loss_generator=" in shown
    assert b"epoch=" in shown


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # raised on Linux once the other end of the terminal is closed
        return b""


def test_help_lists_commands_and_config_groups(ganlab: Command) -> None:
    shown = ganlab("--help").stdout
    for words in (
        "python -m ganlab.sample",
        "resume=FOLDER",
        "the training data",
        "dcgan, dcgan_small, mlp, r3gan_small, resnet, tutorial_cnn",
    ):
        assert words in shown
    for group in (*GROUPS, "experiment", "sweep"):
        assert f"{group}: " in shown


def test_help_equals_the_help_that_hydra_prints(ganlab: Command, tmp_path: Path) -> None:
    chosen = ("model=dcgan_small", "dataset=digits")
    assert ganlab("--help", *chosen).stdout == ganlab("--help", "--config-dir", str(tmp_path), *chosen).stdout


@pytest.mark.parametrize(
    "arguments",
    [("--help",), ("--cfg", "job"), ("model=nope",), ("optimizer.generator.lrr=1",), ("nonsense=1",)],
    ids=" ".join,
)
def test_quick_answers_do_not_import_torch(arguments: tuple[str, ...], tmp_path: Path) -> None:
    code = (
        "import sys, atexit\n"
        "atexit.register(lambda: print('torch' in sys.modules, 'matplotlib' in sys.modules, 'wandb' in sys.modules))\n"
        "from ganlab.__main__ import main\n"
        "main()"
    )
    command = [sys.executable, "-c", code, *arguments]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "False False False"


@pytest.mark.parametrize(
    "argument",
    ["model=nope", "optimizer.generator.lrr=1", "trainer.epochs=many", "optimizer.generator.lr=-1", "model=dcgan_small",
     "dataset=ring8 --foo seed=1", "seed=1 --cfg nope",
     "dataset=mnist5 dataset.root=/dev/null", "device=cuda" if not os.path.exists("/dev/nvidia0") else "device=mps"],
)  # fmt: skip
def test_a_refusal_is_one_line_exit_2_and_no_folder(argument: str, ganlab: Command, tmp_path: Path) -> None:
    done = ganlab(*argument.split())
    assert done.returncode == 2
    assert done.stderr.startswith("ganlab: ")
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_flags_are_moved_before_overrides() -> None:
    given = ["dataset=ring8", "-m", "seed=1,2", "~penalty", "--config-dir", "a=b", "trainer=smoke"]
    ordered = ["-m", "--config-dir", "a=b", "dataset=ring8", "seed=1,2", "~penalty", "trainer=smoke"]
    assert command_line.flags_first(given) == ordered


def test_a_failed_download_leaves_no_run_folder(ganlab: Command, tmp_path: Path) -> None:
    root = tmp_path / "data"
    mirror = "+dataset.mirror=http://127.0.0.1:9/"
    done = ganlab("dataset=mnist5", "dataset.source=torchvision", f"dataset.root={root}", mirror)
    assert done.returncode == 2
    assert "could not be fetched" in done.stderr.splitlines()[-1]
    assert not list(tmp_path.glob("outputs/*/*"))


def test_a_used_folder_is_refused_and_untouched(ganlab: Command, cold_ganlab: Command, tmp_path: Path) -> None:
    folder = f"hydra.run.dir={tmp_path / 'run'}"
    assert ganlab(*QUICK, "trainer=smoke", folder).returncode == 0
    before = {file: file.read_bytes() for file in (tmp_path / "run").rglob("*") if file.is_file()}
    done = cold_ganlab(*QUICK, "trainer=smoke", "seed=5", folder)
    assert done.returncode == 2
    assert "contains a run" in done.stderr
    assert {file: file.read_bytes() for file in (tmp_path / "run").rglob("*") if file.is_file()} == before


def test_jobs_that_share_a_folder_are_refused_before_any_starts(ganlab: Command, tmp_path: Path) -> None:
    done = ganlab("-m", *QUICK, "trainer=smoke", "seed=1,2", "hydra.sweep.dir=sweep", "hydra.sweep.subdir=same")
    assert done.returncode == 2
    assert "hydra.sweep.subdir=same: must be unique" in done.stderr
    assert not (tmp_path / "sweep" / "same").exists()


def test_an_interrupted_run_is_resumed_in_place(cold_start: Start, ganlab: Command, tmp_path: Path) -> None:
    process = cold_start(*LONG)
    wait_for_metrics(process, tmp_path)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped by SIGINT after step" in errors
    assert "(stopped)" in output
    run = only_run(tmp_path)
    stopped = json.loads((run / "result.json").read_text())
    assert stopped["status"] == "stopped"
    assert 0 < stopped["step"] < 60000

    last = stopped["step"] + 40
    done = ganlab(f"resume={run}", f"trainer.steps={last}")
    assert done.returncode == 0, done.stderr
    result = json.loads((run / "result.json").read_text())
    assert (result["status"], result["step"], result["error"]) == ("done", last, None)
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps))
    assert steps[-1] == last


def test_a_signal_stops_a_whole_sweep(start: Start, tmp_path: Path) -> None:
    process = start(*LONG, "-m", "seed=1,2", "hydra.sweep.dir=sweep")
    wait_for_metrics(process, tmp_path)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "stopped by SIGTERM after step" in errors
    assert [path.name for path in (tmp_path / "sweep").iterdir() if path.is_dir()] == ["0"]


def test_a_resumed_run_can_change_its_tracker(ganlab: Command, tmp_path: Path) -> None:
    assert ganlab(*QUICK, "trainer=smoke", "hydra.run.dir=run").returncode == 0
    done = ganlab("resume=run", "trainer.steps=4", "tracker=wandb")
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "run" / "wandb").glob("offline-run-*"))
    wrong = ganlab("resume=run", "trainer.steps=6", "tracker.wandb.mod=disabled", "tracker=none")
    assert (wrong.returncode, "tracker.wandb.mod=disabled: no such key; " in wrong.stderr) == (2, True)
    odd = ganlab("resume=run", "zzz=1")
    assert "zzz=1: no such key; the run has tracker, trainer, " in odd.stderr


def test_a_run_in_training_is_not_resumed_by_another(start: Start, ganlab: Command, tmp_path: Path) -> None:
    process = start(*LONG, "hydra.run.dir=run")
    wait_for_metrics(process, tmp_path)
    refused = ganlab("resume=run")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143
    assert (refused.returncode, "another process is using this folder" in refused.stderr) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("resume=nowhere",), "not a run's folder"),
        (("resume=nowhere", "-m"), "cannot be combined with resume="),
    ],
    ids=["nowhere", "sweep"],
)
def test_an_impossible_resume_is_refused(arguments: tuple[str, ...], message: str, ganlab: Command) -> None:
    done = ganlab(*arguments)
    assert (done.returncode, message in done.stderr) == (2, True)


def test_each_job_of_a_sweep_has_its_own_folder_and_config_hash(ganlab: Command, tmp_path: Path) -> None:
    done = ganlab("-m", *QUICK, "trainer=smoke", "optimizer.generator.lr=1e-4,1e-3", "seed=range(2)")
    assert done.returncode == 0, done.stderr
    results = [json.loads(file.read_text()) for file in sorted(tmp_path.glob("outputs/*/*/*/result.json"))]
    assert [result["status"] for result in results] == ["done"] * 4
    assert len({result["config_hash"] for result in results}) == 4


def test_a_diverged_run_exits_3_and_a_sweep_continues_after_it(
    ganlab: Command, cold_ganlab: Command, tmp_path: Path
) -> None:
    done = cold_ganlab(*QUICK, "trainer.steps=20", "optimizer.discriminator.lr=1e38")
    assert done.returncode == 3
    assert "not finite" in done.stderr
    assert json.loads((only_run(tmp_path) / "result.json").read_text())["status"] == "diverged"
    swept = ganlab("-m", *QUICK, "trainer.steps=20", "optimizer.discriminator.lr=1e38,1e-3", "hydra.sweep.dir=sweep")
    assert swept.returncode == 3
    (message,) = swept.stderr.splitlines()
    assert message.startswith("ganlab: job 0 (")
    assert "not finite" in message
    statuses = [json.loads((tmp_path / "sweep" / job / "result.json").read_text())["status"] for job in "01"]
    assert statuses == ["diverged", "done"]


def test_samples_are_written_as_array_grid_or_folder_of_images(ganlab: Command, tmp_path: Path) -> None:
    assert ganlab(*QUICK, "dataset=digits", "model=dcgan_small", "trainer=smoke").returncode == 0
    run = f"run={only_run(tmp_path)}"
    for out in ("a.npy", "b.png", "pngs"):
        done = ganlab(run, "num=5", "seed=3", f"out={out}", module="ganlab.sample")
        assert done.returncode == 0, done.stderr
    samples = np.load(tmp_path / "a.npy")
    assert (samples.shape, samples.dtype) == ((5, 1, 8, 8), np.float32)
    assert samples.min() >= 0
    assert samples.max() <= 1
    files = sorted((tmp_path / "pngs").iterdir())
    assert len(files) == 5
    for file, sample in zip(files, samples, strict=True):
        with Image.open(file) as picture:
            np.testing.assert_array_equal(np.asarray(picture), np.round(sample[0] * 255))
    with Image.open(tmp_path / "b.png") as picture:
        assert picture.width > 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("num=0",), "num=0: must be greater than or equal to 1"),
        (("num=two",), "num=two: must be a valid integer"),
        (("weights=best",), "weights=best: must be 'ema' or 'raw' or null"),
        (("out=a.jpg",), "out=a.jpg: must end in .npy or .png"),
        (("colour=red",), "key one of run, num"),
        (("run=nowhere",), "not a run's folder"),
        ((), "run: missing"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_sample_refuses_in_one_line(arguments: tuple[str, ...], message: str, ganlab: Command) -> None:
    run = () if not arguments or arguments[0].startswith("run=") else ("run=x",)
    done = ganlab(*run, *arguments, module="ganlab.sample")
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


# Text from files is printed and logged without control characters ---------------------------------------------


def test_only_printable_characters_are_printable() -> None:
    assert printable("FID 3.2 ± 0.1 → größer, 日本語") == "FID 3.2 ± 0.1 → größer, 日本語"
    assert printable("a\nb\t\x1b[31m\x9b\u202e\udcff") == r"a\nb\t\x1b[31m\x9b\u202e\udcff"
    assert printable(hostile.TEXT).isprintable()


@pytest.fixture
def evaluated(tmp_path: Path, copy_of_run: Callable[..., Path]) -> Path:
    """A run with scores, with hostile text in the name of its folder, its overrides and its result."""
    folder = tmp_path / f"run{hostile.TEXT.replace('/', '')}"
    copy_of_run(folder, "trainer=smoke", "metrics=default", "metrics.num=100", "metrics.num_real=100")
    result = hostile.read(folder / "result.json")
    texts = dict.fromkeys(("error", "collapsed", hostile.TEXT), hostile.TEXT)
    compared = {name: result[name] for name in ("dataset", "config_hash", "config_hashes")}
    changed = hostile.strings_replaced(result, hostile.TEXT) | texts | compared
    hostile.replace(folder / "result.json", changed)
    hostile.replace(folder / ".hydra" / "overrides.yaml", [f"seed=0{hostile.TEXT}", f"{hostile.TEXT}=1"])
    return folder


def test_commands_escape_what_they_print_from_the_files_of_a_run(evaluated: Path, ganlab: Command) -> None:
    result, run = hostile.read(evaluated / "result.json"), f"run={evaluated}"
    other = hostile.strings_replaced(result["dataset"], hostile.TEXT)
    for module, arguments, said, dataset in [
        ("ganlab.evaluate", (run, "num=100", "num_real=100"), "was trained on other data", other),
        ("ganlab.sample", (run, "num=2", f"out={evaluated / 'samples.npy'}"), "2 samples of step", other),
        ("ganlab", (f"resume={evaluated}", "trainer.steps=4"), "the curves of", result["dataset"]),
        ("ganlab.compare", (str(evaluated.parent),), "1 run of 1 configuration", result["dataset"]),
    ]:
        changed = hostile.read(evaluated / "result.json") | {"dataset": dataset}
        hostile.replace(evaluated / "result.json", changed)
        done = ganlab(*arguments, module=module)
        assert done.returncode == 0, done.stderr
        hostile.assert_printable(done.stdout + done.stderr)
        assert said in done.stdout + done.stderr
    log = (evaluated / "ganlab.log").read_text()
    hostile.assert_printable(log)
    assert r"\nINJECTED" in log


@pytest.mark.parametrize(
    ("file", "change", "command"),
    [
        (".hydra/config.yaml", {hostile.TEXT: 1}, "ganlab.sample"),
        (".hydra/config.yaml", {"loss": {"_target_": hostile.TEXT}}, "ganlab.evaluate"),
        (".hydra/config.yaml", {"device": hostile.TEXT}, "ganlab.sample"),
        ("result.json", {"dataset": {hostile.TEXT: hostile.TEXT}}, "ganlab"),
    ],
    ids=["key", "target", "value", "dataset"],
)
def test_a_refusal_escapes_what_it_quotes_from_the_files_of_a_run(
    file: str, change: dict, command: str, evaluated: Path, ganlab: Command
) -> None:
    hostile.replace(evaluated / file, hostile.read(evaluated / file) | change)
    done = ganlab(f"{'resume' if command == 'ganlab' else 'run'}={evaluated}", module=command)
    assert done.returncode == 2
    hostile.assert_printable(done.stderr)
    assert len(done.stderr.splitlines()) == 1


def test_a_continued_sweep_escapes_what_it_prints_from_its_folder(ganlab: Command, tmp_path: Path) -> None:
    sweep = tmp_path / f"sweep{hostile.PARTS['colour']}{hostile.PARTS['direction']}"
    job = make_run(sweep / "0", "trainer=smoke")
    result = hostile.read(job / "result.json")
    hostile.replace(
        job / "result.json",
        hostile.strings_replaced(result, hostile.TEXT) | {"exit_code": hostile.TEXT, "error": hostile.TEXT},
    )
    text = hostile.TEXT.replace(hostile.PARTS["surrogate"], "")  # which no YAML file can hold
    hostile.replace(job / ".hydra" / "overrides.yaml", [f"seed=0{text}", f"{text}=1"])
    done = ganlab("-m", "tracker=none", "metrics=none", "trainer=smoke", "seed=0,1", f"sweep_dir={sweep.name}")
    assert done.returncode == 1
    hostile.assert_printable(done.stdout + done.stderr)
    assert done.stderr.startswith("ganlab: job 0 (seed=0")
    assert r"jobs in sweep\x1b[31m\u202e" in done.stdout
    for log in sweep.glob("*/ganlab.log"):
        hostile.assert_printable(log.read_text())


def test_an_error_raised_below_a_folder_named_hydra_is_not_reported_as_one_of_hydra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "hydra").mkdir()
    (tmp_path / "hydra" / "own_of_a_checkout.py").write_text("def fail():\n    raise KeyError('weights')\n")
    monkeypatch.syspath_prepend(tmp_path / "hydra")
    fail = importlib.import_module("own_of_a_checkout").fail
    assert command_line.run(fail, ["optimizer.generator.lr=1e-4"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_traceback_in_a_log_is_indented_and_printable(tmp_path: Path) -> None:
    try:
        raise ValueError(hostile.TEXT)
    except ValueError as error:
        record = logging.LogRecord("ganlab", logging.ERROR, "file", 1, "failed", (), (ValueError, error, None))
    message, *trace = LogFormatter("%(message)s").format(record).split("\n")
    assert message == "failed"
    assert all(line.startswith("  ") and line.isprintable() for line in trace)
