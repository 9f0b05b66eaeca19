"""Draws learning curves: the mean over seeds, and a band from the lowest to the highest seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

from ganlab.figures.markup import Html
from ganlab.leaderboard.ranking import FINISHED, Leaderboard, Row
from ganlab.leaderboard.svg import CHARACTER, Scale, drawing, element, line, path, text
from ganlab.leaderboard.table import number

WIDTH, HEIGHT, TOP, BOTTOM, RIGHT = 1190, 340, 12, 42, 16
PANEL_WIDTH, PANEL_HEIGHT = 250, 150
NUM_COLOURED = 6  # number of colours that are easy to distinguish


@dataclass(frozen=True)
class Curve:
    """The learning curve of one configuration.

    Attributes:
        steps, means, lows, highs: lists of equal length; the statistics are over the seeds measured at each step.
        is_finished: whether the curve is of finished runs; otherwise no run is finished.
    """

    steps: list[int]
    means: list[float]
    lows: list[float]
    highs: list[float]
    is_finished: bool

    @classmethod
    def of(cls, row: Row, metric: str) -> Curve | None:
        """Return the curve of the finished runs, or of all runs if none is finished; None if nothing was measured."""
        done = [run for run in row.runs if run.status == FINISHED]
        values: dict[int, list[float]] = {}
        for run in done or row.runs:
            for step, value in run.curve(metric):
                values.setdefault(step, []).append(value)
        if not values:
            return None
        steps = sorted(values)
        at = [values[step] for step in steps]
        return cls(steps, [fmean(v) for v in at], [min(v) for v in at], [max(v) for v in at], bool(done))


class Curves:
    """All learning curves of a leaderboard, on the same axes."""

    def __init__(self, board: Leaderboard) -> None:
        self.metric = board.score.metric if board.score else ""
        self.curves = {index: c for index, row in enumerate(board.rows) if (c := Curve.of(row, self.metric))}

    @cached_property
    def values(self) -> list[float]:
        return [v for c in self.curves.values() for v in (*c.lows, *c.highs)]

    @cached_property
    def steps(self) -> list[int]:
        return [step for c in self.curves.values() for step in c.steps]

    def together(self) -> Html:
        """Draw the best configurations in colour over the others in grey."""
        y = Scale(self.values, HEIGHT - BOTTOM, TOP)
        labels = {value: number(value) for value in y.ticks()}
        left = 20 + CHARACTER * max(map(len, labels.values()), default=0)
        x = self._over_steps(left, WIDTH - RIGHT)
        grid = [line(left, y(v), WIDTH - RIGHT, y(v), "grid") + text(left - 6, y(v) + 4, label, "end")
                for v, label in labels.items()]  # fmt: skip
        ticks = [text(x(v), HEIGHT - BOTTOM + 18, f"{v:,.0f}", "middle") for v in x.ticks(8)]
        names = text((left + WIDTH - RIGHT) / 2, HEIGHT - 6, "steps", "middle", _class="quiet")
        coloured = list(self.curves)[:NUM_COLOURED]
        others = [_mean(c, x, y, "other") for index, c in self.curves.items() if index not in coloured]
        marks = [_band(self.curves[i], x, y, f"c{n}") for n, i in enumerate(coloured)]
        marks += [_mean(self.curves[i], x, y, f"c{n}") for n, i in enumerate(coloured)]
        label = f"{self.metric} over steps, the best {len(coloured)} configurations in colour"
        return drawing(WIDTH, HEIGHT, label, *grid, *ticks, names, *others, *marks)

    def background(self) -> Html:
        """Draw all means once, as a shared background for the panels."""
        x, y = self._panel_scales()
        lines = Html("").join(_mean(curve, x, y, "other") for curve in self.curves.values())
        return element("svg", element("defs", element("g", lines, id="all-curves")), width=0, height=0, _class="defs")

    def panel(self, index: int) -> Html:
        """Draw the curve of one configuration over the background."""
        x, y = self._panel_scales()
        left, bottom = x.start, y.start
        ends = [text(left - 5, y(v) + 4, number(v), "end") for v in _ends(y)]
        steps = [text(x(v), bottom + 14, f"{v:,.0f}", "end") for v in (max(self.steps),)]
        axis = line(left, bottom, x.end, bottom, "axis")
        curve = self.curves[index]
        own = _band(curve, x, y, "c0") + _mean(curve, x, y, "c0")
        behind = element("use", href="#all-curves")
        return drawing(PANEL_WIDTH, PANEL_HEIGHT, f"{self.metric} over steps", behind, axis, *ends, *steps, own)

    def _panel_scales(self) -> tuple[Scale, Scale]:
        y = Scale(self.values, PANEL_HEIGHT - 20, 8)
        left = 10 + CHARACTER * max(len(number(v)) for v in _ends(y))
        return self._over_steps(left, PANEL_WIDTH - 6), y

    def _over_steps(self, start: float, end: float) -> Scale:
        scale = Scale(self.steps, start, end)
        scale.is_log = False
        return scale


def _ends(scale: Scale) -> Sequence[float]:
    ticks = scale.ticks(3)
    return (ticks[0], ticks[-1]) if ticks else (scale.low, scale.high)


def _mean(curve: Curve, x: Scale, y: Scale, kind: str) -> Html:
    points = [(x(s), y(v)) for s, v in zip(curve.steps, curve.means, strict=True)]
    kind += "" if curve.is_finished else " lost"
    if len(points) == 1:
        return element("circle", cx=points[0][0], cy=points[0][1], r=3, _class=f"dot {kind}")
    return path(points, _class=f"curve {kind}")


def _band(curve: Curve, x: Scale, y: Scale, kind: str) -> Html:
    upper = [(x(s), y(v)) for s, v in zip(curve.steps, curve.highs, strict=True)]
    lower = [(x(s), y(v)) for s, v in zip(curve.steps, curve.lows, strict=True)]
    return path([*upper, *reversed(lower)], closed=True, _class=f"band {kind}")
