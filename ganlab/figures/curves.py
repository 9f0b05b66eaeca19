"""Losses and accuracy over training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ganlab.figures import GENERATED, REAL


def draw(history: Sequence[dict[str, Any]], file: Path) -> Path:
    """Two panels over epochs: both players' losses, and the discriminator's accuracy beside a guess's 1/2."""
    epochs = [record["epoch"] for record in history]
    marker = "o" if len(epochs) < 3 else None  # a line through fewer points would not be seen
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    losses, accuracy = figure.subplots(1, 2)

    for name, label, colour in (
        ("loss_discriminator", "discriminator", REAL),
        ("loss_generator", "generator", GENERATED),
    ):
        losses.plot(epochs, [r[name] for r in history], label=label, color=colour, marker=marker)
    losses.set(title="Losses", xlabel="epoch")
    losses.legend(frameon=False)

    accuracy.plot(epochs, [r["accuracy"] for r in history], color=REAL, marker=marker)
    accuracy.axhline(0.5, color="grey", linewidth=1, linestyle="--")
    accuracy.annotate("a guess", (1, 0.5), xycoords=("axes fraction", "data"), xytext=(-4, -14),
                      textcoords="offset points", ha="right", color="grey")  # fmt: skip
    accuracy.set(title="Accuracy of the discriminator", xlabel="epoch", ylim=(0, 1.02))

    for axes in (losses, accuracy):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=110)
    return file
