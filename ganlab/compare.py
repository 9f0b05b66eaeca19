"""The compare command: `python -m ganlab.compare FOLDER` ranks all runs at or below a folder."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from ganlab import leaderboard
from ganlab.config import command_line
from ganlab.config.terminal import printable


def compare(folder: str, metric: str | None = None, out: str | None = None, seeds_key: str = "seed") -> None:
    """Rank all runs at or below a folder on a leaderboard.

    python -m ganlab.compare FOLDER [metric=NAME] [out=FOLDER] [seeds_key=seed]

    Prints a table, and writes leaderboard.csv (numbers at full precision) and leaderboard.html (a page of pictures,
    curves and maps that opens offline). Runs that differ only in the seed share a row. Scores that were measured in
    different ways are refused.

    metric     metric to rank by; by default the main metric of the runs.
    out        folder for the two files; by default FOLDER.
    seeds_key  key that distinguishes the repetitions of a configuration.
    """
    target = Path(out or folder)
    print(leaderboard.write(Path(folder), metric, target, seeds_key))
    print(f"\n{printable(target / leaderboard.CSV)}\n{printable(target / leaderboard.HTML)}")


def _with_folder(arguments: Sequence[str]) -> list[str]:
    """Pass the first argument as `folder=`; the name of the folder may itself contain `=`."""
    first, *rest = arguments or [""]
    is_folder = first and not first.startswith("-") and ("=" not in first or Path(first).is_dir())
    return [f"folder={first}", *rest] if is_folder else list(arguments)


def main() -> None:
    arguments = sys.argv[1:]
    sys.exit(command_line.run(lambda: command_line.call(compare, _with_folder(arguments)), arguments))


if __name__ == "__main__":
    main()
