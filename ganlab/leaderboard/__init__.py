"""Finished runs, read back from their folders, ranked and shown as a table, a CSV file and a page."""

from __future__ import annotations

from pathlib import Path

from ganlab.files import replace_file
from ganlab.leaderboard import page, table
from ganlab.leaderboard.ranking import rank

CSV, HTML = "leaderboard.csv", "leaderboard.html"


def write(folder: Path, metric: str | None = None, out: Path | None = None, seeds_key: str = "seed") -> str:
    """Rank the runs below a folder; leaves `leaderboard.csv` and `leaderboard.html`, and returns the terminal's table.

    Args:
        metric: None: the runs' main one.
        out: where the files go; None: into the folder.
        seeds_key: the key whose values repeat a configuration.

    Raises:
        ConfigError: there is no such folder or metric.
        DataError: there are no runs, or their scores are unlike.
    """
    board = rank(folder, metric, seeds_key)
    target = out or folder
    target.mkdir(parents=True, exist_ok=True)
    replace_file(target / CSV, table.csv_text(board).encode())
    replace_file(target / HTML, page.html_text(board).encode())
    return table.terminal(board)
