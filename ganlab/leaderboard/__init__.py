"""Ranks the runs below a folder, and writes the leaderboard as a table, a CSV file and an HTML page."""

from __future__ import annotations

from pathlib import Path

from ganlab.files import replace_file
from ganlab.leaderboard import page, table
from ganlab.leaderboard.ranking import rank

CSV, HTML = "leaderboard.csv", "leaderboard.html"


def write(folder: Path, metric: str | None = None, out: Path | None = None, seeds_key: str = "seed") -> str:
    """Rank the runs below a folder, write `leaderboard.csv` and `leaderboard.html`, and return a terminal table.

    Args:
        metric: metric to rank by; None uses the main metric of the runs.
        out: folder for the two files; None uses `folder`.
        seeds_key: key that distinguishes the repetitions of a configuration.

    Raises:
        ConfigError: there is no such folder or metric.
        DataError: there are no runs, or the protocols of their scores differ.
    """
    board = rank(folder, metric, seeds_key)
    target = out or folder
    target.mkdir(parents=True, exist_ok=True)
    replace_file(target / CSV, table.csv_text(board).encode())
    replace_file(target / HTML, page.html_text(board).encode())
    return table.terminal(board)
