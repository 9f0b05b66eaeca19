"""The leaderboard as one HTML page that needs nothing beside it: no network, no other file."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

from ganlab.sweeps import svg, table
from ganlab.sweeps.configurations import ABSENT
from ganlab.sweeps.curves import COLOURED, Curves
from ganlab.sweeps.leaderboard import Difference, Leaderboard, Row
from ganlab.sweeps.maps import MOST_KEYS, Maps
from ganlab.sweeps.table import interval, number, shorten, shown, signed
from ganlab.sweeps.trials import Trial

HERE = Path(__file__).parent
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
BUDGET = 6_500_000  # bytes of pictures; a third more once they are text
SIDES = ((24, 480), (80, 360), (200, 240))  # up to so many configurations, pixels of a picture's longer side
STRIP = 110  # pixels that the scores of a row's seeds are drawn on
OPENED = 12  # panels that are shown without being asked for
VALUE = 28  # characters of a value in the table
LABEL = 90  # characters of a configuration's name


def html_text(board: Leaderboard) -> str:
    """The whole page."""
    title = escape(table.title(board))
    sections = [_board(board), _pictures(board), _curves(board), _maps(board), _parallel(board), _lost(board)]
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>ganlab: {escape(board.folder.name)}</title><style>{(HERE / "page.css").read_text()}</style></head>
<body>
<h1>{title}</h1>
<p class="quiet"><code>{escape(str(board.folder))}</code>{_protocol(board)}</p>
{"".join(sections)}
<script>{(HERE / "page.js").read_text()}</script>
</body></html>
"""


def _protocol(board: Leaderboard) -> str:
    if board.score is None:
        return ""
    s = board.score
    parts = [f"{s.num_fake:,} samples against {s.num_real:,} real, {s.split.replace('_', ' ')}",
             f"features: {s.extractor} {s.extractor_hash}".strip(), f"data {s.dataset_hash}",
             *([f"{s.weights} weights"] if s.weights else [])]  # fmt: skip
    return "<br>" + escape(" · ".join(parts))


# The table -------------------------------------------------------------------------------------------------


def _board(board: Leaderboard) -> str:
    heads = [_head("#", "rank", True, "ascending")]
    heads += [_head(board.names[key], key, all(isinstance(r.values[i], int | float) for r in board.rows))
              for i, key in enumerate(board.keys)]  # fmt: skip
    heads += [_head(short, full, True) for short, full, _ in _columns(board)]
    rows = "".join(_row(board, index, row) for index, row in enumerate(board.rows))
    explained = " ".join(escape(f"{note}.") for note in table.notes(board)).replace(
        "* excludes 0", "differs: whether it excludes 0"
    )
    few = any(row.difference and row.difference.low is not None and row.difference.num_seeds < 5 for row in board.rows)
    warning = " Of fewer than 5 seeds a bootstrap interval is too narrow: take it as a hint." if few else ""
    return f"""<div class="search"><label for="search">Search</label>
<input id="search" type="search" placeholder="a key, a value, failed">
<span id="found" class="quiet" role="status"></span></div>
<div class="scroll"><table id="board"><thead><tr>{"".join(heads)}</tr></thead><tbody>{rows}</tbody></table></div>
<p class="quiet">{explained}{warning}</p>"""


def _head(name: str, full: str, is_number: bool, sort: str = "none") -> str:
    broken = escape(name).replace(".", ".<wbr>").replace("_", "_<wbr>")
    kind = ' class="number"' if is_number else ""
    return (
        f'<th scope="col" aria-sort="{sort}"{kind}><button type="button" title="{escape(full)}">{broken}</button></th>'
    )


def _columns(board: Leaderboard) -> list[tuple[str, str, Callable[[Row], str]]]:
    """(heading, what it means, a row's cell) of all but rank and keys. A count that is 0 throughout has no column."""
    scored = [("best", "mean over seeds of the best score, ± standard deviation",
               lambda row: _cell(row.best_mean, table.spread(row.best))),
              ("every seed", "the best score of each seed, better ones to the left, and their mean",
               lambda row: _strip(board, row)),
              ("last", "mean over seeds of the last score, ± standard deviation",
               lambda row: _cell(row.last_mean, table.spread(row.last))),
              ("vs best", "mean difference over common seeds", lambda row: _difference(row.difference)),
              ("95 % interval", "bootstrap over common seeds", lambda row: _interval(row.difference)),
              ("differs", "whether the interval excludes 0", lambda row: _verdict(row.difference))]  # fmt: skip
    seeds = ("seeds", "scored of all",
             lambda row: _cell(len(row.best if board.score else row.trials), table.seeds_of(board, row)))  # fmt: skip
    counts: list[tuple[str, str, Callable[[Row], int]]] = [
        ("failed", "failed or damaged", lambda row: row.failed),
        ("diverged", "a loss was no finite number", lambda row: row.counts["diverged"]),
        ("collapsed", "the watchdog saw a collapse", lambda row: row.counts["collapsed"]),
        ("halted", "stopped early by the sweep", lambda row: row.counts["halted"]),
        ("unfinished", "running or stopped", lambda row: row.unfinished),
    ]
    counted = [(name, full, partial(_count, count)) for name, full, count in counts if any(map(count, board.rows))]
    speed = ("steps/s", "median", lambda row: _cell(row.steps_per_second, number(row.steps_per_second)))
    return [*(scored if board.score else []), seeds, *counted, speed]


def _row(board: Leaderboard, index: int, row: Row) -> str:
    rank = index + 1 if row.best else None
    cells = [_cell(rank, ABSENT if rank is None else str(rank))]
    cells += [_cell(v, shown(v), "number" if isinstance(v, int | float) else "text") for v in row.values]
    cells += [cell(row) for _, _, cell in _columns(board)]
    statuses = " ".join({trial.status for trial in row.trials})
    words = f"{_name(board, row)} {statuses} {' '.join(o for t in row.trials for o in t.overrides)}"
    first = ' class="first"' if rank == 1 else ""
    return f'<tr data-row="{index}" data-text="{escape(words)}"{first}>{"".join(cells)}</tr>'


def _count(count: Callable[[Row], int], row: Row) -> str:
    found = count(row)
    return _cell(found, str(found), "number lost" if found else "number quiet")


def _strip(board: Leaderboard, row: Row) -> str:
    """A dot for each seed on a scale that all rows share, and a tick at the mean."""
    if row.best_mean is None or board.score is None:
        return _cell(None, "")
    ends = (5.0, STRIP - 5.0) if board.score.better == "lower" else (STRIP - 5.0, 5.0)
    x = svg.Scale([value for other in board.rows for value in other.best.values()], *ends)
    dots = [svg.element("circle", cx=x(value), cy=8, r=3, _class="seed") for value in row.best.values()]
    tick = svg.line(x(row.best_mean), 1, x(row.best_mean), 15, "curve c0")
    picture = svg.drawing(STRIP, 16, "scores of the seeds", svg.line(0, 8, STRIP, 8, "grid"), *dots, tick)
    return f'<td data-value="{row.best_mean!r}">{picture}</td>'


def _difference(difference: Difference | None) -> str:
    return _cell(difference and difference.mean, signed(difference.mean) if difference else ABSENT)


def _interval(difference: Difference | None) -> str:
    known = difference is not None and difference.low is not None
    return _cell(difference and difference.low, interval(difference) if difference and known else ABSENT)


def _verdict(difference: Difference | None) -> str:
    word = {True: "yes", False: "no", None: None}[difference.excludes_zero if difference else None]
    return _cell(word, word or ABSENT)


def _cell(value: Any, content: str, kind: str = "number") -> str:
    key = "" if value is None or value == ABSENT else shown(value) if not isinstance(value, float) else repr(value)
    short = shorten(content, VALUE)
    title = f' title="{escape(content)}"' if short != content else ""
    return f'<td class="{kind}" data-value="{escape(key)}"{title}>{escape(short)}</td>'


def _name(board: Leaderboard, row: Row) -> str:
    return "  ".join(f"{board.names[key]}={shown(value)}" for key, value in zip(board.keys, row.values, strict=True))


def _caption(board: Leaderboard, index: int) -> str:
    row = board.rows[index]
    score = f"<br>{escape(table.spread(row.best))}" if row.best else ""
    return f"<figcaption>{_label(board, index)}{score}</figcaption>"


def _label(board: Leaderboard, index: int) -> str:
    name = shorten(_name(board, board.rows[index]), LABEL) or "all runs"
    rank = f"#{index + 1}" if board.rows[index].best else "unranked:"
    return f"{rank} {escape(name)}"


# The pictures ----------------------------------------------------------------------------------------------


def _pictures(board: Leaderboard) -> str:
    figures = list(_figures(board))
    if not figures:
        return ""
    left_out = len(board.rows) - len(figures)
    note = f" The last {left_out} are left out, to keep the page small." if left_out else ""
    return f"""<h2>Samples</h2><p class="quiet">The last samples of each configuration's first seed.{note}</p>
<div class="pictures">{"".join(figures)}</div>"""


def _figures(board: Leaderboard) -> Iterator[str]:
    """A figure for each configuration, best first, as long as they fit in the budget."""
    if not any(trial.picture for row in board.rows for trial in row.trials):
        return
    side = next((side for most, side in SIDES if len(board.rows) <= most), SIDES[-1][1])
    spent = 0
    for index, row in enumerate(board.rows):
        trial = next((trial for trial in row.trials if trial.picture), None)
        content = _shrunk(trial, side) if trial else None
        spent += len(content or b"")
        if spent > BUDGET:
            return
        about = f"samples of {_name(board, row)}, seed {trial.seed}" if trial else ""
        image = (f'<img alt="{escape(about)}" src="data:image/jpeg;base64,{base64.b64encode(content).decode()}">'
                 if content else '<div class="missing">no picture</div>')  # fmt: skip
        yield f'<figure data-row="{index}">{_caption(board, index)}{image}</figure>'


def _shrunk(trial: Trial, side: int) -> bytes | None:
    """The final picture as a JPEG, on white; None: it cannot be read."""
    try:
        with Image.open(trial.picture or "") as picture:
            rgba = picture.convert("RGBA")
    except (OSError, ValueError):
        return None
    flat = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    flat.thumbnail((side, side), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    flat.save(file, "JPEG", quality=85)
    return file.getvalue()


# Drawings --------------------------------------------------------------------------------------------------


def _curves(board: Leaderboard) -> str:
    curves = Curves(board)
    if not curves.curves:
        return ""
    legend = "".join(
        f'<li><i class="c{n}"></i>{_label(board, i)}</li>' for n, i in enumerate(list(curves.curves)[:COLOURED])
    )
    panels = "".join(
        f'<figure data-row="{index}">{_caption(board, index)}{curves.panel(index)}</figure>' for index in curves.curves
    )
    few = " open" if len(curves.curves) <= OPENED else ""
    each = (
        f"""{curves.background()}<details{few}><summary>Each configuration before all others</summary>
<div class="panels">{panels}</div></details>"""
        if len(curves.curves) > COLOURED
        else ""
    )
    return f"""<h2>Learning curves</h2>
<p class="quiet">{escape(curves.metric)} at every evaluation: mean over seeds, band from the lowest seed to the highest.
Dashed: no run of the configuration is done.</p>
<ul class="legend">{legend}</ul><div class="scroll">{curves.together()}</div>{each}"""


def _maps(board: Leaderboard) -> str:
    maps = Maps(board)
    if not maps.scores() or not board.keys:
        return ""
    if len(board.keys) == 1:
        return f"""<h2>{escape(maps.metric)} over {escape(board.keys[0])}</h2>
<p class="quiet">Best score of every seed, and their mean.</p><div class="scroll">{maps.line()}</div>"""
    others = ", over all values of the other keys" if len(board.keys) > 2 else ""
    cut = f" Only the first {MOST_KEYS} keys." if len(board.keys) > MOST_KEYS else ""
    drawn = "".join(f"<div>{picture}</div>" for picture in maps.pairs())
    return f"""<h2>Pairs of keys</h2>
<p class="quiet">Mean of the best {escape(maps.metric)}{others}. Blue is better, orange worse, × was tried and has no
score.{cut}</p><div class="maps">{drawn}</div>"""  # noqa: RUF001


def _parallel(board: Leaderboard) -> str:
    maps = Maps(board)
    if not maps.scores() or len(board.keys) < 2:
        return ""
    return f"""<h2>All keys</h2>
<p class="quiet">A line is a configuration: blue is better, orange worse, dashed has no score. Hold the pointer on
one.</p>
<div class="scroll">{maps.parallel()}</div>"""


# What went wrong -------------------------------------------------------------------------------------------


def _lost(board: Leaderboard) -> str:
    collapsed = [trial for trial in board.trials if trial.collapsed and trial not in board.lost]
    rows = [_lost_row(board, trial, trial.status, trial.error) for trial in board.lost]
    rows += [_lost_row(board, trial, "collapsed", trial.collapsed) for trial in collapsed]
    if not rows:
        return ""
    return f"""<h2>Not done, or collapsed</h2><div class="scroll"><table id="lost"><thead><tr><th scope="col">run</th>
<th scope="col">status</th><th scope="col">overrides</th><th scope="col">why</th></tr></thead><tbody>{"".join(rows)}
</tbody></table></div>"""


def _lost_row(board: Leaderboard, trial: Trial, status: str, error: str | None) -> str:
    folder = trial.folder.relative_to(board.folder)
    overrides = escape(" ".join(trial.overrides) or ABSENT)
    return f"""<tr><td><code>{escape(str(folder))}</code></td><td class="lost">{escape(status)}</td>
<td class="text"><code>{overrides}</code></td><td class="text">{escape(error or ABSENT)}</td></tr>"""
