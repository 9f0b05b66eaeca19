"""Leaderboard of many runs: `python -m ganlab.compare FOLDER`, a sweep or any folder above runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from ganlab import leaderboard
from ganlab.config import command_line
from ganlab.config.terminal import printable


def compare(folder: str, metric: str | None = None, out: str | None = None, seeds_key: str = "seed") -> None:
    """Leaderboard over all runs at or below a folder.

    python -m ganlab.compare FOLDER [metric=NAME] [out=FOLDER] [seeds_key=seed]

    Prints a table, and writes leaderboard.csv (every number in full) and leaderboard.html (pictures, curves, maps;
    opens anywhere, without a network). Runs that are equal but for the seed are one row; scores that were not measured
    alike are refused.

    metric     what to rank by; left out: the main metric of the runs.
    out        where the two files go; left out: FOLDER.
    seeds_key  the key whose values repeat a configuration.
    """
    target = Path(out or folder)
    print(leaderboard.write(Path(folder), metric, target, seeds_key))
    print(f"\n{printable(target / leaderboard.CSV)}\n{printable(target / leaderboard.HTML)}")


def _with_folder(arguments: Sequence[str]) -> list[str]:
    """The first argument is the folder, whose name may itself have a `=` in it."""
    first, *rest = arguments or [""]
    is_folder = first and not first.startswith("-") and ("=" not in first or Path(first).is_dir())
    return [f"folder={first}", *rest] if is_folder else list(arguments)


def main() -> None:
    arguments = sys.argv[1:]
    sys.exit(command_line.run(lambda: command_line.call(compare, _with_folder(arguments)), arguments))


if __name__ == "__main__":
    main()
