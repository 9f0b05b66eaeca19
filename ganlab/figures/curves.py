"""Training curves: losses, accuracy and the main metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ganlab.figures import GENERATED, REAL, canvas
from ganlab.metrics.catalogue import METRICS


def draw(history: Sequence[dict[str, Any]], result: Mapping[str, Any], file: Path) -> Path:
    """Plot both losses, the accuracy of the discriminator and the main metric over epochs.

    Args:
        history: records of `metrics.jsonl`.
        result: content of `result.json`, for the name of the main metric and its floor, the score of real examples.
    """
    main = result["main_metric"]
    values = [record[main] for record in history if main in record]
    count, width, height = (3 if values else 2), 4.3, 3.4  # inches
    figure = Figure(figsize=(count * width, height))  # without a layout engine, which would take a third of the time
    figure.subplots_adjust(left=0.7 / count / width, right=1 - 0.2 / count / width, bottom=0.16, top=0.9, wspace=0.22)
    losses, accuracy, *rest = figure.subplots(1, count)

    _line(losses, history, "loss_discriminator", REAL, "discriminator")
    _line(losses, history, "loss_generator", GENERATED, "generator")
    losses.set(title="Losses", xlabel="epoch")
    losses.legend(frameon=False)

    _line(accuracy, history, "accuracy", REAL)
    accuracy.axhline(0.5, color="grey", linewidth=1, linestyle="--")
    accuracy.annotate("chance level", (1, 0.5), xycoords=("axes fraction", "data"), xytext=(-4, -14),
                      textcoords="offset points", ha="right", color="grey")  # fmt: skip
    accuracy.set(title="Discriminator accuracy", xlabel="epoch", ylim=(0, 1.02))

    for axes in rest:
        _line(axes, history, main, GENERATED, "samples", marker="o")
        floor = result["scores"][main]["floor"]
        if floor is not None:
            axes.axhline(floor, color=REAL, linewidth=1, linestyle="--", label="real examples (floor)")
        axes.legend(frameon=False)
        axes.set(title=f"{main} ({METRICS[main].better} is better)", xlabel="epoch")
        if min(*values, floor or 0.0) >= 0:  # KID can be negative
            axes.set_ylim(bottom=0)

    for axes in (losses, accuracy, *rest):
        axes.spines[["top", "right"]].set_visible(False)
        axes.ticklabel_format(axis="y", scilimits=(-3, 4))  # labels that fit the margin
        axes.title.set_y(1.02)
    canvas.render(figure).save(file)
    return file


def _line(
    axes: Axes,
    history: Sequence[dict[str, Any]],
    name: str,
    colour: str,
    label: str | None = None,
    marker: str | None = None,
) -> None:
    """Plot one quantity over the epochs at which it was recorded."""
    records = [record for record in history if name in record]
    marker = marker or ("o" if len(records) < 3 else None)  # a line through fewer points is hardly visible
    epochs, values = ([record[key] for record in records] for key in ("epoch", name))
    (line,) = axes.plot(epochs, values, label=label, color=colour, marker=marker)
    line.set_clip_on(marker is None)  # the axes would clip markers at their border
