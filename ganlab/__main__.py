"""The train command: `python -m ganlab [overrides]`, with `-m` for a sweep or `resume=FOLDER` to continue a run.

Slow imports wait until the config is composed, so that `--help` and mistyped keys answer at once.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from ganlab.config import command_line, run_config
from ganlab.config.conf_files import options_of
from ganlab.config.environment import environment
from ganlab.config.hydra_internals import hydra_main
from ganlab.config.terminal import LogFormatter
from ganlab.errors import ConfigError
from ganlab.hydra_callbacks import ExitCode, RefuseBadConfig, task
from ganlab.runs.folder import RunFolder
from ganlab.train import follow, train
from ganlab.training import torchrun
from ganlab.training.memory import keep_freed_memory
from ganlab.training.signals import exit_at_once

log = logging.getLogger(__name__)


def main() -> None:
    if not sys.flags.safe_path:  # python -P
        sys.path.append("")  # the current directory comes last: user modules must not shadow installed packages
    arguments = sys.argv[1:]
    sys.exit(command_line.run(start_in_torchrun, []) if torchrun.is_data_parallel() else start(arguments))


def start_in_torchrun() -> None:
    """Run the command on rank 0; the other processes of torchrun carry out its commands."""
    from ganlab.training import data_parallel

    exit_code = follow() if torchrun.rank() > 0 else data_parallel.lead(lambda: start(sys.argv[1:]))
    logging.shutdown()
    exit_at_once(exit_code)  # threads of torch.distributed may abort a process during Python's clean-up


def start(arguments: list[str]) -> int:
    """Start or continue a run, or start a sweep; return the exit code."""
    if any(argument.startswith("resume=") for argument in arguments):
        return command_line.run(lambda: resume(arguments), arguments)
    return command_line.run(launch, [in_sweep_folder(argument) for argument in arguments])


def launch() -> None:
    """Start a run or a sweep from the command line, which Hydra parses."""
    arguments = command_line.flags_first(sys.argv[1:])
    if arguments and arguments[0] in ("-h", "--help") and not any(other.startswith("-") for other in arguments[1:]):
        print(command_line.help_text(arguments[1:]))
        return
    typed = sys.argv
    sys.argv = [typed[0], *map(in_sweep_folder, with_multirun(arguments))]  # hydra.main reads its arguments there
    try:
        with environment(HYDRA_FULL_ERROR="1"):  # makes Hydra raise errors, so that command_line.run can report them
            hydra_main(task, RefuseBadConfig, ExitCode, LogFormatter)()
    finally:
        sys.argv = typed
        RefuseBadConfig.release()


def with_multirun(arguments: list[str]) -> list[str]:
    """Add `--multirun` to a run with a grid: in Hydra 1.4, the config files of `sweep` cannot choose it themselves."""
    has_flags = any(argument.startswith("-") for argument in arguments)
    has_grid = any(argument == f"sweep={option}" for argument in arguments for option in options_of("sweep"))
    return ["--multirun", *arguments] if has_grid and not has_flags else arguments


def in_sweep_folder(argument: str) -> str:
    """Translate `sweep_dir=` into Hydra's key; its value is taken literally."""
    key, _, folder = argument.partition("=")
    quoted = folder.replace("\\", "\\\\").replace("'", "\\'")
    return f"hydra.sweep.dir='{quoted}'" if key == "sweep_dir" else argument


def resume(arguments: list[str]) -> None:
    """Continue a run in place. `trust=` names the user's modules; other arguments override values of its config."""
    given = dict(argument.partition("=")[::2] for argument in arguments)
    folder, trust = Path(given.pop("resume")), given.pop("trust", "").strip("[]")
    flags = [argument for argument in arguments if argument.startswith("-")]
    if flags:
        raise ConfigError(f"{flags[0]}: cannot be combined with resume=, which continues a single run")
    keep_freed_memory()
    run = RunFolder(folder)
    run.reopen()  # before anything is read or written
    try:
        cfg = run_config.load(folder, trust=[name.strip() for name in trust.split(",") if name.strip()])
        run.check_same_run(".hydra/config.yaml", cfg.seed, cfg.hash)
        cfg = cfg.offline().override([f"{key}={value}" for key, value in given.items()])
        command_line.configure_logging(folder)
        train(cfg, folder, resume=True)
    finally:
        run.close()


if __name__ == "__main__":
    main()
