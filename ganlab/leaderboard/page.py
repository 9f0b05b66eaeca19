"""Renders the leaderboard as a self-contained HTML page that opens offline."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from ganlab.figures.markup import Html, content_policy
from ganlab.leaderboard import svg, table
from ganlab.leaderboard.configurations import ABSENT
from ganlab.leaderboard.curves import NUM_COLOURED, Curves
from ganlab.leaderboard.maps import MAX_KEYS, Maps
from ganlab.leaderboard.ranking import Difference, Leaderboard, Row
from ganlab.leaderboard.run_record import RunRecord
from ganlab.leaderboard.table import format_value, interval, number, shorten, signed

HERE = Path(__file__).parent
BUDGET = 6_500_000  # bytes of all pictures; base64 adds a third
SIDES = ((24, 480), (80, 360), (200, 240))  # (maximum number of configurations, longer side of a picture in pixels)
STRIP = 110  # width in pixels of the plot of a row's seeds
MAX_OPEN_PANELS = 12  # with more panels, their section starts folded
VALUE = 28  # maximum number of characters of a value in the table
LABEL = 90  # maximum number of characters of a configuration's name


def html_text(board: Leaderboard) -> Html:
    """Render the whole page."""
    style, script = (Html((HERE / name).read_text()) for name in ("page.css", "page.js"))  # noqa: S704 - our own files
    sections = [_board(board), _pictures(board), _curves(board), _maps(board), _parallel(board), _lost(board)]
    return Html("""<!doctype html>
<html lang="en"><head><meta http-equiv="Content-Security-Policy" content="{policy}">
<meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>ganlab: {name}</title><style>{style}</style></head>
<body>
<h1>{title}</h1>
<p class="quiet"><code>{folder}</code>{protocol}</p>
{sections}
<script>{script}</script>
</body></html>
""").format(
        policy=content_policy(style, script),
        name=board.folder.name,
        style=style,
        title=table.title(board),
        folder=board.folder,
        protocol=_protocol(board),
        sections=Html("").join(sections),
        script=script,
    )


def _protocol(board: Leaderboard) -> Html:
    if board.score is None:
        return Html("")
    s = board.score
    parts = [f"{s.num_fake:,} samples against {s.num_real:,} real, {s.split.replace('_', ' ')}",
             f"features: {s.extractor} {s.extractor_hash}".strip(), f"data {s.dataset_hash}",
             *([f"{s.weights} weights"] if s.weights else [])]  # fmt: skip
    return Html("<br>{}").format(" · ".join(parts))


# The table -------------------------------------------------------------------------------------------------


def _board(board: Leaderboard) -> Html:
    heads = [_head("#", "rank", True, "ascending")]
    heads += [_head(board.names[key], key, all(isinstance(r.values[i], int | float) for r in board.rows))
              for i, key in enumerate(board.keys)]  # fmt: skip
    heads += [_head(short, full, True) for short, full, _ in _columns(board)]
    rows = Html("").join(_row(board, index, row) for index, row in enumerate(board.rows))
    explained = " ".join(f"{note}." for note in table.notes(board)).replace(
        "* excludes 0", "differs: whether the interval excludes 0"
    )
    return Html("""<div class="search"><label for="search">Search</label>
<input id="search" type="search" placeholder="a key, a value, failed">
<span id="found" class="quiet" role="status"></span></div>
<div class="scroll"><table id="board"><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>
<p class="quiet">{}</p>""").format(Html("").join(heads), rows, explained)


def _head(name: str, full: str, is_number: bool, sort: str = "none") -> Html:
    broken = Html.escape(name).replace(".", Html(".<wbr>")).replace("_", Html("_<wbr>"))
    kind = Html(' class="number"') if is_number else ""
    return Html('<th scope="col" aria-sort="{}"{}><button type="button" title="{}">{}</button></th>').format(
        sort, kind, full, broken
    )


def _columns(board: Leaderboard) -> list[tuple[str, str, Callable[[Row], Html]]]:
    """Return (heading, tooltip, cell of a row) of all columns but rank and keys. Counts that are all 0 are left out."""
    scored = [("best", "mean over seeds of the best score, ± standard deviation",
               lambda row: _cell(row.best_mean, table.spread(row.best))),
              ("every seed", "the best score of each seed, better scores to the left, and their mean",
               lambda row: _strip(board, row)),
              ("last", "mean over seeds of the last score, ± standard deviation",
               lambda row: _cell(row.last_mean, table.spread(row.last))),
              ("vs best", "mean difference over common seeds", lambda row: _difference(row.difference)),
              ("95 % interval", "bootstrap over common seeds", lambda row: _interval(row.difference)),
              ("differs", "whether the interval excludes 0", lambda row: _differs(row.difference))]  # fmt: skip
    seeds = ("seeds", "number of scored seeds / all seeds",
             lambda row: _cell(len(row.best if board.score else row.runs), table.seeds_of(board, row)))  # fmt: skip
    counts: list[tuple[str, str, Callable[[Row], int]]] = [
        ("failed", "failed or damaged", lambda row: row.failed),
        ("diverged", "a loss was not finite", lambda row: row.counts["diverged"]),
        ("collapsed", "the watchdog detected a collapse", lambda row: row.counts["collapsed"]),
        ("halted", "stopped early by the sweep", lambda row: row.counts["halted"]),
        ("unfinished", "running or stopped", lambda row: row.unfinished),
    ]
    counted = [(name, full, partial(_count, count)) for name, full, count in counts if any(map(count, board.rows))]
    speed = ("steps/s", "median", lambda row: _cell(row.steps_per_second, number(row.steps_per_second)))
    return [*(scored if board.score else []), seeds, *counted, speed]


def _row(board: Leaderboard, index: int, row: Row) -> Html:
    rank = index + 1 if row.best else None
    cells = [_cell(rank, ABSENT if rank is None else str(rank))]
    cells += [_cell(v, format_value(v), "number" if isinstance(v, int | float) else "text") for v in row.values]
    cells += [cell(row) for _, _, cell in _columns(board)]
    statuses = " ".join({run.status for run in row.runs})
    words = f"{_name(board, row)} {statuses} {' '.join(o for t in row.runs for o in t.overrides)}"
    first = Html(' class="first"') if rank == 1 else ""
    return Html('<tr data-row="{}" data-text="{}"{}>{}</tr>').format(index, words, first, Html("").join(cells))


def _count(count: Callable[[Row], int], row: Row) -> Html:
    found = count(row)
    return _cell(found, str(found), "number lost" if found else "number quiet")


def _strip(board: Leaderboard, row: Row) -> Html:
    """Draw a dot for each seed on a scale that all rows share, and a tick at the mean."""
    if row.best_mean is None or board.score is None:
        return _cell(None, "")
    ends = (5.0, STRIP - 5.0) if board.score.better == "lower" else (STRIP - 5.0, 5.0)
    x = svg.Scale([value for other in board.rows for value in other.best.values()], *ends)
    dots = [svg.element("circle", cx=x(value), cy=8, r=3, _class="seed") for value in row.best.values()]
    tick = svg.line(x(row.best_mean), 1, x(row.best_mean), 15, "curve c0")
    picture = svg.drawing(STRIP, 16, "scores of the seeds", svg.line(0, 8, STRIP, 8, "grid"), *dots, tick)
    return Html('<td data-value="{!r}">{}</td>').format(row.best_mean, picture)


def _difference(difference: Difference | None) -> Html:
    return _cell(difference and difference.mean, signed(difference.mean) if difference else ABSENT)


def _interval(difference: Difference | None) -> Html:
    known = difference is not None and difference.low is not None
    return _cell(difference and difference.low, interval(difference) if difference and known else ABSENT)


def _differs(difference: Difference | None) -> Html:
    word = {True: "yes", False: "no", None: None}[difference.excludes_zero if difference else None]
    return _cell(word, word or ABSENT)


def _cell(value: Any, content: str, kind: str = "number") -> Html:
    key = (
        "" if value is None or value == ABSENT else format_value(value) if not isinstance(value, float) else repr(value)
    )
    short = shorten(content, VALUE)
    title = Html(' title="{}"').format(content) if short != content else ""
    return Html('<td class="{}" data-value="{}"{}>{}</td>').format(kind, key, title, short)


def _name(board: Leaderboard, row: Row) -> str:
    return "  ".join(
        f"{board.names[key]}={format_value(value)}" for key, value in zip(board.keys, row.values, strict=True)
    )


def _caption(board: Leaderboard, index: int) -> Html:
    row = board.rows[index]
    score = Html("<br>{}").format(table.spread(row.best)) if row.best else ""
    return Html("<figcaption>{}{}</figcaption>").format(_label(board, index), score)


def _label(board: Leaderboard, index: int) -> str:
    name = shorten(_name(board, board.rows[index]), LABEL) or "all runs"
    rank = f"#{index + 1}" if board.rows[index].best else "unranked:"
    return f"{rank} {name}"


# The pictures ----------------------------------------------------------------------------------------------


def _pictures(board: Leaderboard) -> Html:
    figures = list(_figures(board))
    if not figures:
        return Html("")
    left_out = len(board.rows) - len(figures)
    note = f" The last {left_out} are omitted to keep the page small." if left_out else ""
    return Html("""<h2>Samples</h2><p class="quiet">Final samples of the first seed of each configuration.{}</p>
<div class="pictures">{}</div>""").format(note, Html("").join(figures))


def _figures(board: Leaderboard) -> Iterator[Html]:
    """Yield a figure for each configuration, best first, while they fit in the budget."""
    if not any(run.picture for row in board.rows for run in row.runs):
        return
    side = next((side for most, side in SIDES if len(board.rows) <= most), SIDES[-1][1])
    spent = 0
    for index, row in enumerate(board.rows):
        run = next((run for run in row.runs if run.picture), None)
        content = _shrunk(run, side) if run else None
        spent += len(content or b"")
        if spent > BUDGET:
            return
        about = f"samples of {_name(board, row)}, seed {run.seed}" if run else ""
        image = Html('<div class="missing">no picture</div>')
        if content:
            data = base64.b64encode(content).decode()
            image = Html('<img alt="{}" src="data:image/jpeg;base64,{}">').format(about, data)
        yield _figure(board, index, image)


def _figure(board: Leaderboard, index: int, picture: Html) -> Html:
    return Html('<figure data-row="{}">{}{}</figure>').format(index, _caption(board, index), picture)


def _shrunk(run: RunRecord, side: int) -> bytes | None:
    """Return the final picture as a JPEG on white; None if it cannot be read."""
    try:
        with Image.open(run.picture or "") as picture:
            rgba = picture.convert("RGBA")
    except (OSError, ValueError):
        return None
    flat = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    flat.thumbnail((side, side), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    flat.save(file, "JPEG", quality=85)
    return file.getvalue()


# Drawings --------------------------------------------------------------------------------------------------


def _curves(board: Leaderboard) -> Html:
    curves = Curves(board)
    if not curves.curves:
        return Html("")
    legend = Html("").join(
        Html('<li><i class="c{}"></i>{}</li>').format(n, _label(board, i))
        for n, i in enumerate(list(curves.curves)[:NUM_COLOURED])
    )
    panels = Html("").join(_figure(board, index, curves.panel(index)) for index in curves.curves)
    few = " open" if len(curves.curves) <= MAX_OPEN_PANELS else ""
    each = (
        Html("""{}<details{}><summary>Each configuration highlighted</summary>
<div class="panels">{}</div></details>""").format(curves.background(), few, panels)
        if len(curves.curves) > NUM_COLOURED
        else ""
    )
    return Html("""<h2>Learning curves</h2>
<p class="quiet">{} at every evaluation: mean over seeds, with a band from the lowest to the highest seed.
Dashed: no run of the configuration is finished.</p>
<ul class="legend">{}</ul><div class="scroll">{}</div>{}""").format(curves.metric, legend, curves.together(), each)


def _maps(board: Leaderboard) -> Html:
    maps = Maps(board)
    if not maps.scores() or not board.keys:
        return Html("")
    if len(board.keys) == 1:
        return Html("""<h2>{} over {}</h2>
<p class="quiet">Best score of every seed, and the mean.</p><div class="scroll">{}</div>""").format(
            maps.metric, board.keys[0], maps.line()
        )
    others = " over all values of the other keys" if len(board.keys) > 2 else ""
    cut = f" Only the first {MAX_KEYS} keys are shown." if len(board.keys) > MAX_KEYS else ""
    drawn = Html("").join(Html("<div>{}</div>").format(picture) for picture in maps.pairs())
    return Html("""<h2>Pairs of keys</h2>
<p class="quiet">Mean of the best {}{}. Blue is better, orange is worse, × has no
score.{}</p><div class="maps">{}</div>""").format(maps.metric, others, cut, drawn)  # noqa: RUF001


def _parallel(board: Leaderboard) -> Html:
    maps = Maps(board)
    if not maps.scores() or len(board.keys) < 2:
        return Html("")
    return Html("""<h2>All keys</h2>
<p class="quiet">Each line is a configuration: blue is better, orange is worse, dashed has no score. Hover over a line
for details.</p>
<div class="scroll">{}</div>""").format(maps.parallel())


# Unfinished and collapsed runs -----------------------------------------------------------------------------


def _lost(board: Leaderboard) -> Html:
    collapsed = [run for run in board.runs if run.collapsed and run not in board.lost]
    rows = [_lost_row(board, run, run.status, run.error) for run in board.lost]
    rows += [_lost_row(board, run, "collapsed", run.collapsed) for run in collapsed]
    if not rows:
        return Html("")
    return Html("""<h2>Unfinished or collapsed runs</h2><div class="scroll"><table id="lost"><thead>
<tr><th scope="col">run</th><th scope="col">status</th><th scope="col">overrides</th><th scope="col">reason</th></tr>
</thead><tbody>{}</tbody></table></div>""").format(Html("").join(rows))


def _lost_row(board: Leaderboard, run: RunRecord, status: str, error: str | None) -> Html:
    folder = run.folder.relative_to(board.folder)
    overrides = " ".join(run.overrides) or ABSENT
    return Html("""<tr><td><code>{}</code></td><td class="lost">{}</td>
<td class="text"><code>{}</code></td><td class="text">{}</td></tr>""").format(
        folder, status, overrides, error or ABSENT
    )
