"""Formats the leaderboard as a terminal table, and as CSV at full precision."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from ganlab.config.terminal import printable
from ganlab.leaderboard.configurations import ABSENT
from ganlab.leaderboard.ranking import MIN_SEEDS, Difference, Leaderboard, Row, deviation

WIDTH = 100  # characters in a line of the terminal
MIN_COLUMN_WIDTH = 6  # characters; columns of text are not cut further
FAILURES_SHOWN = 10
LOST = ("F failed or damaged", "D diverged", "C collapsed", "H halted early", "U unfinished")


def terminal(board: Leaderboard) -> str:
    """Return the table, at most 100 characters wide if its numbers fit, followed by the failed runs."""
    heading, *rows = [[printable(cell) for cell in row] for row in _cells(board)]
    widths = _widths([heading, *rows], cuttable=range(1, 1 + len(board.keys)))
    lines = ["  ".join(shorten(c, w).ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in
             [heading, ["-" * w for w in widths], *rows]]  # fmt: skip
    letters = [f"lost: {', '.join(LOST)}"] if "lost" in heading else []
    return "\n".join([printable(title(board)), "", *lines, "", *notes(board), *letters, *_failures(board)])


def title(board: Leaderboard) -> str:
    """Return the title: number of runs, metric and floor."""
    runs = f"{plural(len(board.runs), 'run')} of {plural(len(board.rows), 'configuration')}"
    if board.score is None:
        measured = ", ".join(dict.fromkeys(name for run in board.runs for name in run.scores))
        unranked = f"none of them scored by a main metric; use metric= with one of {measured}"
        return f"{runs}, {unranked if measured else 'none of them scored'}"
    floor = f"{board.score.better} is better"
    if board.floors:
        low, high = map(number, board.floors)
        floor += f"; floor, real against real: {low if low == high else f'{low} to {high}'}"
    return f"{runs} by {board.score.metric} ({floor})"


def notes(board: Leaderboard) -> list[str]:
    """Return notes that explain the numbers in the table."""
    lines = []
    if any(len(row.runs) > 1 for row in board.rows) and board.score:
        lines.append("mean ± standard deviation over finished seeds; seeds: scored/all")
    compared = [row.difference for row in board.rows if row.difference and row.difference.low is not None]
    if compared:
        lines.append("vs best: difference over common seeds, 95 % bootstrap interval; * excludes 0")
    if any(difference.num_seeds < MIN_SEEDS for difference in compared):
        lines.append(f"fewer than {MIN_SEEDS} common seeds: the interval is too narrow to show a difference")
    if board.repeated:
        lines.append(f"{plural(board.repeated, 'run')} repeat a seed: only the latest finished run counts")
    if board.halted:
        lines.append(f"{plural(len(board.halted), 'run')} halted early: not ranked, as they trained for less time")
    if board.misplaced:
        lines.append(f"{plural(board.misplaced, 'run')} without a readable config: not in the table")
    return lines


def _cells(board: Leaderboard) -> list[list[str]]:
    lost = ["lost"] if any(_lost(row) for row in board.rows) else []
    scored = ["best", "last"] if board.score else []
    compared = ["vs best"] if any(row.difference for row in board.rows) else []
    heading = ["#", *(board.names[key] for key in board.keys), "seeds", *scored, *lost, "steps/s", *compared]
    rows = []
    for index, row in enumerate(board.rows):
        scores = [spread(row.best), spread(row.last)] if board.score else []
        against = [_against(row.difference)] if compared else []
        rows.append([rank_of(board, index), *map(format_value, row.values), seeds_of(board, row), *scores,
                     *([_lost(row) or ABSENT] if lost else []), number(row.steps_per_second),
                     *against])  # fmt: skip
    return [heading, *rows]


def _lost(row: Row) -> str:
    counts = {"F": row.failed, "D": row.counts["diverged"], "C": row.counts["collapsed"],
              "H": row.counts["halted"], "U": row.unfinished}  # fmt: skip
    return " ".join(f"{count}{letter}" for letter, count in counts.items() if count)


def rank_of(board: Leaderboard, index: int) -> str:
    return str(index + 1) if board.rows[index].best else ABSENT


def seeds_of(board: Leaderboard, row: Row) -> str:
    """Return the number of scored seeds out of all seeds."""
    if board.score is None:
        return str(len(row.runs))
    return f"{len(row.best)}/{len(row.runs)}" if len(row.best) < len(row.runs) else str(len(row.runs))


def spread(scores: dict[Any, float]) -> str:
    if not scores:
        return ABSENT
    mean, sd = sum(scores.values()) / len(scores), deviation(scores)
    return score(mean) if sd is None else f"{score(mean)} ± {score(sd, 2)}"


def _against(difference: Difference | None) -> str:
    if difference is None or difference.low is None or difference.high is None:
        return ABSENT
    star = " *" if difference.excludes_zero else ""
    return f"{signed(difference.mean)} {interval(difference)}{star}"


def interval(difference: Difference) -> str:
    return "[" + ", ".join(ABSENT if end is None else score(end, 3) for end in (difference.low, difference.high)) + "]"


def _widths(rows: Sequence[Sequence[str]], cuttable: range) -> list[int]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    while sum(widths) + 2 * (len(widths) - 1) > WIDTH:
        widest = max(cuttable, key=widths.__getitem__, default=None)
        if widest is None or widths[widest] <= MIN_COLUMN_WIDTH:
            break
        widths[widest] -= 1
    return widths


def _failures(board: Leaderboard) -> list[str]:
    lost = [run for run in board.lost if run.status != "halted"]  # halting many is the point
    if not lost:
        return []
    lines = ["", f"{plural(len(lost), 'run')} not done:"]
    for run in lost[:FAILURES_SHOWN]:
        about = printable(f"{run.status}  {run.folder.relative_to(board.folder)}  {' '.join(run.overrides)}")
        error = [f"    {printable(run.error)}"] if run.error else []
        lines += [shorten(line, WIDTH) for line in (f"  {about}", *error)]
    rest = len(lost) - FAILURES_SHOWN
    return [*lines, f"  and {rest} more, all listed in leaderboard.html"] if rest > 0 else lines


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def duration(seconds: float) -> str:
    unit, size = next(((u, s) for u, s in (("h", 3600), ("min", 60)) if seconds >= s), ("s", 1))
    return f"{seconds / size:.1f} {unit}"


def number(value: float | None) -> str:
    """Format a number with four significant digits; scores of different seeds agree on fewer."""
    if value is None:
        return ABSENT
    return f"{value:,.0f}" if 10_000 <= abs(value) < 1e9 else f"{value:.4g}"


def score(value: float, digits: int = 4) -> str:
    """Format a score with a fixed number of digits, so that a column is easy to compare."""
    return number(value) if abs(value) >= 10_000 else f"{value:#.{digits}g}".removesuffix(".")


def signed(value: float) -> str:
    return f"+{score(value, 3)}" if value > 0 else score(value, 3)


def format_value(value: Any) -> str:
    """Format the value of a key as it would be typed."""
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value, default=str)


def shorten(text: str, width: int) -> str:
    """Cut a text in the middle, as long values mostly differ at their ends."""
    if len(text) <= width:
        return text
    head = (width - 1) // 2
    return f"{text[:head]}…{text[len(text) - (width - 1 - head) :]}"


def csv_text(board: Leaderboard) -> str:
    """Return one line for each configuration; missing numbers are empty."""
    file = io.StringIO()
    names = ["seeds", "scored", "best_mean", "best_sd", "last_mean", "last_sd", "failed", "diverged", "collapsed",
             "halted", "unfinished", "steps_per_second", "difference", "difference_low", "difference_high",
             "common_seeds", "excludes_zero", "metric", "better", "floor"]  # fmt: skip
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["rank", *map(printable, board.keys), *names])
    for index, row in enumerate(board.rows):
        rank = index + 1 if row.best else None
        values = [v if isinstance(v, int | float) else printable(format_value(v)) for v in row.values]
        writer.writerow([rank, *values, *_numbers(row), *_protocol(board)])
    return file.getvalue()


def _numbers(row: Row) -> list[Any]:
    difference = row.difference
    compared = (
        [difference.mean, difference.low, difference.high, difference.num_seeds, difference.excludes_zero]
        if difference
        else [None] * 5
    )
    scores = [row.best_mean, deviation(row.best), row.last_mean, deviation(row.last)]
    counts = [row.failed, *(row.counts[name] for name in ("diverged", "collapsed", "halted")), row.unfinished]
    return [len(row.runs), len(row.best), *scores, *counts, row.steps_per_second, *compared]


def _protocol(board: Leaderboard) -> list[Any]:
    return [board.score.metric, board.score.better, board.score.floor] if board.score else [None] * 3
