"""Losses, accuracy and score over training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ganlab.figures import GENERATED, REAL
from ganlab.metrics.catalogue import METRICS


def draw(history: Sequence[dict[str, Any]], result: Mapping[str, Any], file: Path) -> Path:
    """Over epochs: both players' losses, the discriminator's accuracy and chance level, and the main metric.

    Args:
        result: the run's `result.json`; for the main metric and its floor, which is what real examples score.
    """
    main = result["main_metric"]
    values = [record[main] for record in history if main in record]
    figure = Figure(figsize=(12.5 if values else 9, 3.4), layout="constrained")
    losses, accuracy, *rest = figure.subplots(1, 3 if values else 2)

    _line(losses, history, "loss_discriminator", REAL, "discriminator")
    _line(losses, history, "loss_generator", GENERATED, "generator")
    losses.set(title="Losses", xlabel="epoch")
    losses.legend(frameon=False)

    _line(accuracy, history, "accuracy", REAL)
    accuracy.axhline(0.5, color="grey", linewidth=1, linestyle="--")
    accuracy.annotate("chance level", (1, 0.5), xycoords=("axes fraction", "data"), xytext=(-4, -14),
                      textcoords="offset points", ha="right", color="grey")  # fmt: skip
    accuracy.set(title="Accuracy of the discriminator", xlabel="epoch", ylim=(0, 1.02))

    for axes in rest:
        _line(axes, history, main, GENERATED, "samples", marker="o")
        floor = result["scores"][main]["floor"]
        if floor is not None:
            axes.axhline(floor, color=REAL, linewidth=1, linestyle="--", label="real examples (floor)")
        axes.legend(frameon=False)
        axes.set(title=f"{main} ({METRICS[main].better} is better)", xlabel="epoch")
        if min(*values, floor or 0.0) >= 0:  # KID may be negative
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
