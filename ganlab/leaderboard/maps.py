"""Plots scores over the swept keys: a line plot for one key, heat maps for pairs, parallel coordinates for all."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from ganlab.figures.markup import Html
from ganlab.leaderboard.ranking import Leaderboard, Row
from ganlab.leaderboard.run_record import is_number
from ganlab.leaderboard.svg import (
    CHARACTER,
    Places,
    Scale,
    colour,
    drawing,
    element,
    ink,
    line,
    ordered,
    path,
    text,
)
from ganlab.leaderboard.table import format_value, number, shorten

CELL_WIDTH, CELL_HEIGHT = 64, 26
MAX_KEYS = 6  # number of keys whose pairs are drawn
MAX_LABELS = 12  # with more values, only round numbers get labels
NO_SCORE = "×"  # noqa: RUF001  # marks configurations without a score
MAX_CHARACTERS = 26  # characters of a label


class Maps:
    """Plots of the scores of a leaderboard over its swept keys."""

    def __init__(self, board: Leaderboard) -> None:
        self.board, self.keys, self.rows = board, board.keys, board.rows
        self.names = board.names
        self.metric = board.score.metric if board.score else ""
        self.lower_is_better = board.score is None or board.score.better == "lower"

    def colour(self, scale: Scale, value: float) -> str:
        share = min(1.0, max(0.0, scale.share(value)))
        return colour(share if self.lower_is_better else 1 - share)

    def scores(self) -> list[float]:
        return [row.best_mean for row in self.rows if row.best_mean is not None]

    # One key ------------------------------------------------------------------------------------------------

    def line(self) -> Html:
        """Plot the score of every seed, and the mean, over the only swept key."""
        values = [row.values[0] for row in self.rows]
        slots = ordered(values)
        labels = [shorten(format_value(value), MAX_CHARACTERS) for value in slots]
        y = Scale([s for row in self.rows for s in row.best.values()], 270.0, 14.0)
        ticks = {value: number(value) for value in y.ticks()}
        left = 20 + CHARACTER * max(map(len, ticks.values()), default=0)
        numeric = all(map(is_number, slots))
        gap = 60 if numeric else max(60.0, CHARACTER * max(map(len, labels)) + 12)
        inset = max(30.0, gap / 2)
        width = max(560.0, left + 2 * inset + gap * min(len(slots) - 1, 40))
        x = Places(values, left + inset, width - inset)
        grid = [line(left, y(v), width, y(v), "grid") + text(left - 6, y(v) + 4, t, "end") for v, t in ticks.items()]
        marks = [self._seeds(row, x(row.values[0]), y, 284.0) for row in self.rows]
        means = sorted((x(row.values[0]), y(row.best_mean)) for row in self.rows if row.best_mean is not None)
        joined = [path(means, _class="curve c0")] if numeric and len(means) > 1 else []
        names = [text(at, 300, label, "middle", format_value(value))
                 for at, value, label in _spaced(x, slots, labels)]  # fmt: skip
        title = text((left + width) / 2, 320, self.names[self.keys[0]], "middle", self.keys[0], _class="quiet")
        return drawing(width, 328, f"{self.metric} over {self.keys[0]}", *grid, *joined, *marks, *names, title)

    def _seeds(self, row: Row, x: float, y: Scale, bottom: float) -> Html:
        if row.best_mean is None:
            return text(x, bottom, NO_SCORE, "middle", "no score", _class="lost")
        dots = Html("").join(element("circle", cx=x, cy=y(v), r=2.5, _class="seed") for v in row.best.values())
        return dots + line(x - 9, y(row.best_mean), x + 9, y(row.best_mean), "curve c0")

    # Two keys -----------------------------------------------------------------------------------------------

    def pairs(self) -> list[Html]:
        """Draw each pair of the first keys as a heat map, or as a scatter plot if the pairs of values are sparse."""
        return [self._pair(a, b) for a, b in itertools.combinations(self.keys[:MAX_KEYS], 2)]

    def _pair(self, a: str, b: str) -> Html:
        first, second = self.keys.index(a), self.keys.index(b)
        cells: dict[tuple[str, str], list[float]] = {}
        for row in self.rows:
            cell = cells.setdefault((repr(row.values[first]), repr(row.values[second])), [])
            cell += [] if row.best_mean is None else [row.best_mean]
        columns, lines = ordered(r.values[first] for r in self.rows), ordered(r.values[second] for r in self.rows)
        if len(columns) < len(lines):  # the longer side is horizontal
            turned = {(y, x): found for (x, y), found in cells.items()}
            return self._scatter_or_heat(b, a, lines, columns, turned)
        return self._scatter_or_heat(a, b, columns, lines, cells)

    def _scatter_or_heat(
        self, a: str, b: str, columns: list[Any], lines: list[Any], cells: dict[tuple[str, str], list[float]]
    ) -> Html:
        sparse = len(cells) < len(columns) * len(lines) * 2 / 3 and len(columns) > MAX_LABELS
        return self._scatter(a, b) if sparse else self._heat(a, b, columns, lines, cells)

    def _heat(
        self, a: str, b: str, columns: list[Any], lines: list[Any], cells: dict[tuple[str, str], list[float]]
    ) -> Html:
        means = {place: fmean(found) for place, found in cells.items() if found}
        scale = Scale(means.values() or [0.0], 0, 1)
        heads = [shorten(format_value(value), MAX_CHARACTERS) for value in columns]
        sides = [shorten(format_value(value), MAX_CHARACTERS) for value in lines]
        cell = max(CELL_WIDTH, CHARACTER * max(map(len, heads)) + 10)
        left, top = CHARACTER * max(map(len, sides)) + 16, 40
        marks = []
        for (i, x), (j, y) in itertools.product(enumerate(columns), enumerate(lines)):
            if (repr(x), repr(y)) in cells:
                value = means.get((repr(x), repr(y)))
                marks.append(self._cell(left + i * cell, top + j * CELL_HEIGHT, cell, value, scale))
        marks += [text(left + (i + 0.5) * cell, top - 7, head, "middle", format_value(value))
                  for i, (head, value) in enumerate(zip(heads, columns, strict=True))]  # fmt: skip
        marks += [text(left - 8, top + j * CELL_HEIGHT + 17, side, "end", format_value(value))
                  for j, (side, value) in enumerate(zip(sides, lines, strict=True))]  # fmt: skip
        title = f"{self.names[b]} ↓   {self.names[a]} →"
        width = max(left + len(columns) * cell, CHARACTER * len(title)) + 4
        marks.append(text(0, 13, title, full=f"{b} down, {a} across", _class="quiet"))
        return drawing(width, top + len(lines) * CELL_HEIGHT + 4, f"{self.metric} over {a} and {b}", *marks)

    def _cell(self, x: float, y: float, width: float, value: float | None, scale: Scale) -> Html:
        size = {"x": x + 1, "y": y + 1, "width": float(width - 2), "height": CELL_HEIGHT - 2}
        if value is None:
            mark = text(x + width / 2, y + 17, NO_SCORE, "middle", "no score", _class="lost")
            return element("rect", **size, _class="empty") + mark
        fill = self.colour(scale, value)
        label = text(x + width / 2, y + 17, number(value), "middle", _class=ink(fill))
        return element("rect", **size, fill=fill) + label

    def _scatter(self, a: str, b: str) -> Html:
        first, second = self.keys.index(a), self.keys.index(b)
        y = Places([row.values[second] for row in self.rows], 250.0, 40.0)
        left = 16 + CHARACTER * max(len(label) for _, label in _labels(y))
        x = Places([row.values[first] for row in self.rows], left + 14, left + 380)
        scale = Scale(self.scores() or [0.0], 0, 1)
        marks = [line(left, 264, left + 394, 264, "axis"), line(left, 30, left, 264, "axis")]
        marks += [text(at, 280, label, "middle") for at, label in _labels(x)]
        marks += [text(left - 6, at + 4, label, "end") for at, label in _labels(y)]
        for row in reversed(self.rows):
            at = (x(row.values[first]), y(row.values[second]))
            if row.best_mean is None:
                marks.append(text(at[0], at[1] + 4, NO_SCORE, "middle", "no score", _class="lost"))
            else:
                hint = element("title", number(row.best_mean))
                marks.append(element("circle", hint, cx=at[0], cy=at[1], r=5, fill=self.colour(scale, row.best_mean)))
        title = text(0, 13, f"{self.names[b]} ↑   {self.names[a]} →", full=f"{b} up, {a} across", _class="quiet")
        return drawing(left + 424, 290, f"{self.metric} over {a} and {b}", *marks, title)

    # All keys -----------------------------------------------------------------------------------------------

    def parallel(self) -> Html:
        """Draw every configuration as a line through its values, coloured by score, or dashed if it has none."""
        top, bottom = 52.0, 320.0
        places = [Places([row.values[i] for row in self.rows], bottom, top) for i in range(len(self.keys))]
        labels = [_labels(place) for place in places]
        names = [shorten(self.names[key], MAX_CHARACTERS) for key in self.keys]
        gap = min(280.0, max(150.0, 1000 / len(self.keys)))
        widths = [max(gap, 46 + CHARACTER * max(len(label) for _, label in each)) for each in labels]
        widths = [max(w, CHARACTER * len(n) + 24) for w, n in zip(widths, names, strict=True)]
        left = 12.0
        xs = [left, *itertools.accumulate(widths, initial=left)][1:]
        score = Scale(self.scores(), *((bottom, top) if not self.lower_is_better else (top, bottom)))
        lines = [self._through(row, xs, places, score, bottom + 26) for row in reversed(self.rows)]
        axes = [line(x, top, x, bottom, "axis") for x in xs]
        heads = [text(x, 20, name, full=key) for x, name, key in zip(xs, names, self.keys, strict=False)]
        heads.append(text(xs[-1], 20, self.metric, _class="strong"))
        heads.append(text(xs[-1], 36, "better ↑", _class="quiet"))
        labels.append([(score(v), number(v)) for v in score.ticks()])
        marks = [text(x + 7, at + 4, label, _class="halo")
                 for x, each in zip(xs, labels, strict=True) for at, label in each]  # fmt: skip
        if any(row.best_mean is None for row in self.rows):
            marks.append(text(xs[-1] + 7, bottom + 30, "no score", _class="halo lost"))
        width = xs[-1] + 16 + CHARACTER * max(8, len(self.metric), *(len(label) for _, label in labels[-1]))
        return drawing(width, bottom + 40, f"{self.metric} over all keys", *lines, *axes, *heads, *marks)

    def _through(self, row: Row, xs: Sequence[float], places: Sequence[Places], score: Scale, below: float) -> Html:
        value = row.best_mean
        points = [(x, place(v)) for x, place, v in zip(xs, places, row.values, strict=False)]
        points.append((xs[-1], below if value is None else score(value)))
        about = ", ".join(f"{self.names[key]}={format_value(v)}" for key, v in zip(self.keys, row.values, strict=True))
        hint = element("title", f"{about}: {number(value) if value is not None else 'no score'}")
        curve = _bent(points)
        if value is None:
            return element("path", hint, d=curve, _class="through lost")
        return element("path", hint, d=curve, _class="through", stroke=self.colour(score, value))


def _bent(points: Sequence[tuple[float, float]]) -> str:
    """Return a curve that is horizontal at each axis, so that lines crossing there stay distinguishable."""
    parts = [f"M{points[0][0]:.1f} {points[0][1]:.1f}"]
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        middle = (x0 + x1) / 2
        parts.append(f"C{middle:.1f} {y0:.1f} {middle:.1f} {y1:.1f} {x1:.1f} {y1:.1f}")
    return "".join(parts)


def _labels(places: Places) -> list[tuple[float, str]]:
    """Return (pixel, label) pairs that do not overlap; for many numbers, round ones."""
    if places.scale and len(places.values) > MAX_LABELS:
        return [(places(value), number(value)) for value in places.scale.ticks()]
    labels = [shorten(format_value(value), MAX_CHARACTERS) for value in places.values]
    found: list[tuple[float, str]] = []
    for value, label in zip(places.values, labels, strict=True):
        if not found or abs(places(value) - found[-1][0]) >= 14:
            found.append((places(value), label))
    return found


def _spaced(x: Places, values: Sequence[Any], labels: Sequence[str]) -> list[tuple[float, Any, str]]:
    """Return (pixel, value, label) for the labels that fit without overlap."""
    found: list[tuple[float, Any, str]] = []
    free = float("-inf")
    for value, label in zip(values, labels, strict=True):
        half = CHARACTER * len(label) / 2
        if x(value) - half > free:
            found.append((x(value), value, label))
            free = x(value) + half + 4
    return found
