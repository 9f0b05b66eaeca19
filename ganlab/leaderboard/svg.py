"""Draws inline SVG: marks, scales and colours. Text takes its colour from the page, for light and dark mode."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from ganlab.figures.markup import Html
from ganlab.leaderboard.run_record import is_number

CHARACTER = 6.4  # width of a character in pixels, slightly above the average
MAX_LINEAR_RATIO = 8.0  # numbers that span a larger factor use a logarithmic scale
GOOD, MIDDLE, BAD = (33, 102, 172), (154, 154, 154), (179, 88, 6)  # blue to orange, safe for colour blindness


def element(name: str, *children: str, **attributes: Any) -> Html:
    """Return an SVG element. `stroke_width=2` becomes `stroke-width="2"`; floats are rounded to tenths."""
    formatted = Html("").join(
        Html(' {}="{}"').format(key.strip("_").replace("_", "-"), _plain(value)) for key, value in attributes.items()
    )
    return Html("<{0}{1}>{2}</{0}>").format(name, formatted, Html("").join(children))


def _plain(value: Any) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)


def drawing(width: float, height: float, label: str, *children: str) -> Html:
    """Return a drawing of fixed size.

    Args:
        label: description for screen readers.
    """
    size = {"width": float(width), "height": float(height), "viewBox": f"0 0 {width:.0f} {height:.0f}"}
    return element("svg", *children, **size, role="img", aria_label=label)


def text(x: float, y: float, content: str, anchor: str = "start", full: str | None = None, **attributes: Any) -> Html:
    """Return one line of text; `full` is its tooltip."""
    title = element("title", full) if full and full != content else ""
    return element("text", content, title, x=float(x), y=float(y), text_anchor=anchor, **attributes)


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Html:
    return element("line", x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2), _class=kind)


def path(points: Iterable[tuple[float, float]], closed: bool = False, **attributes: Any) -> Html:
    """Return a polyline through points [(x, y)]."""
    steps = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return element("path", d=f"M{steps}{'Z' if closed else ''}", **attributes)


def colour(share: float) -> str:
    """Return the colour between good (0) and bad (1)."""
    low, high, t = (GOOD, MIDDLE, 2 * share) if share < 0.5 else (MIDDLE, BAD, 2 * share - 1)
    return "#" + "".join(f"{round(a + (b - a) * t):02x}" for a, b in zip(low, high, strict=True))


def ink(background: str) -> str:
    """Return `black` or `white`, whichever contrasts more with the background (WCAG 2.2, relative luminance)."""
    channels = [int(background[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "black" if (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) else "white"


class Scale:
    """Maps numbers to pixels, on a logarithmic scale if they span a large factor.

    Args:
        values: values that the scale must cover.
        start, end: pixels of the lowest and highest value.
    """

    def __init__(self, values: Iterable[float], start: float, end: float) -> None:
        known = list(values)
        self.low, self.high, self.start, self.end = min(known), max(known), start, end
        self.is_log = self.low > 0 and self.high / self.low > MAX_LINEAR_RATIO
        if self.low == self.high:
            margin = abs(self.low) / 10 or 1.0
            self.low, self.high = self.low - margin, self.high + margin

    def share(self, value: float) -> float:
        """Return the position of a value: 0 at the lowest, 1 at the highest."""
        low, high, value = (math.log(v) if self.is_log else v for v in (self.low, self.high, value))
        return (value - low) / (high - low)

    def __call__(self, value: float) -> float:
        return self.start + (self.end - self.start) * min(1.0, max(0.0, self.share(value)))

    def ticks(self, count: int = 5) -> list[float]:
        """Return about `count` round numbers within the scale."""
        return self._log_ticks(count) if self.is_log else self._even_ticks(count)

    def _even_ticks(self, count: int) -> list[float]:
        rough = (self.high - self.low) / count
        unit = 10.0 ** math.floor(math.log10(rough))
        step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        return [n * step for n in range(first, math.floor(self.high / step + 1e-9) + 1)]

    def _log_ticks(self, count: int) -> list[float]:
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for factors in ((1,), (1, 3), (1, 2, 5)):
            ticks = [f * 10.0**d for d in decades for f in factors if self.low <= f * 10.0**d <= self.high]
            if len(ticks) >= 3:
                break
        return ticks[:: max(1, round(len(ticks) / count))]


class Places:
    """Maps the values of a key to pixels: numbers by value; options evenly spaced, with `-` after numbers.

    Args:
        values: values of the key; duplicates are ignored.
        start, end: pixels of the first and last value.
        even: whether to space numbers evenly too.
    """

    def __init__(self, values: Sequence[Any], start: float, end: float, even: bool = False) -> None:
        self.values = ordered(values)
        self.start, self.end = start, end
        self.scale = Scale(self.values, start, end) if all(map(is_number, self.values)) and not even else None

    def __call__(self, value: Any) -> float:
        if self.scale:
            return self.scale(value)
        count = len(self.values)
        share = self.values.index(value) / (count - 1) if count > 1 else 0.5
        return self.start + (self.end - self.start) * share


def ordered(values: Iterable[Any]) -> list[Any]:
    """Return the distinct values: sorted numbers, then the others."""
    once = list({repr(value): value for value in values}.values())
    return sorted(once, key=lambda value: (not is_number(value), value if is_number(value) else 0.0, str(value)))
