"""Losses, accuracy and score over training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ganlab.figures import GENERATED, REAL
from ganlab.metrics.catalogue import METRICS


def draw(history: Sequence[dict[str, Any]], scores: Mapping[str, dict[str, Any]], file: Path) -> Path:
    """Over epochs: both players' losses, the discriminator's accuracy beside a guess's 1/2, and the first score.

    Args:
        scores: the last ones, as `result.json` has them; for the floor, which is what real examples score.
    """
    scored = next((name for name in METRICS if any(name in record for record in history)), "")
    figure = Figure(figsize=(12.5 if scored else 9, 3.4), layout="constrained")
    losses, accuracy, *rest = figure.subplots(1, 3 if scored else 2)

    _line(losses, history, "loss_discriminator", REAL, "discriminator")
    _line(losses, history, "loss_generator", GENERATED, "generator")
    losses.set(title="Losses", xlabel="epoch")
    losses.legend(frameon=False)

    _line(accuracy, history, "accuracy", REAL)
    accuracy.axhline(0.5, color="grey", linewidth=1, linestyle="--")
    accuracy.annotate("a guess", (1, 0.5), xycoords=("axes fraction", "data"), xytext=(-4, -14),
                      textcoords="offset points", ha="right", color="grey")  # fmt: skip
    accuracy.set(title="Accuracy of the discriminator", xlabel="epoch", ylim=(0, 1.02))

    for axes in rest:
        _line(axes, history, scored, GENERATED, "samples", marker="o")
        if scored in scores:  # a resumed run may measure something else by now
            axes.axhline(scores[scored]["floor"], color=REAL, linewidth=1, linestyle="--", label="real examples")
        axes.legend(frameon=False)
        axes.set(title=f"{scored} ({METRICS[scored].better} is better)", xlabel="epoch")
        axes.set_ylim(bottom=0)

    for axes in (losses, accuracy, *rest):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=110)
    return file


def _line(
    axes: Axes,
    history: Sequence[dict[str, Any]],
    name: str,
    colour: str,
    label: str | None = None,
    marker: str | None = None,
) -> None:
    """One number over epochs, where it was recorded."""
    records = [record for record in history if name in record]
    marker = marker or ("o" if len(records) < 3 else None)  # a line through fewer points would not be seen
    epochs, values = ([record[key] for record in records] for key in ("epoch", name))
    (line,) = axes.plot(epochs, values, label=label, color=colour, marker=marker)
    line.set_clip_on(marker is None)  # the frame would cut a marker on it
