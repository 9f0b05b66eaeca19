"""Figures of point runs: real and generated points over the decision surface of the discriminator."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from ganlab.data.units import AffineUnits
from ganlab.figures import GENERATED, REAL, animation, canvas, curves
from ganlab.game import Players
from ganlab.runs.folder import RunFolder
from ganlab.sampling import class_averaged_logits, sample

NUM_SNAPSHOT, NUM_FINAL = 1000, 5000  # generated points in a snapshot and in the final figure
RESOLUTION = 80  # grid points of the decision surface along each axis
PANELS = 5
FRAME_SIDE, FINAL_SIDE, MARGIN, TITLE = 3.1, 6.3, 0.05, 0.25  # inches
SURFACE = LinearSegmentedColormap.from_list("surface", ["#f6c9b0", "#ffffff", "#b9d3ea"])  # fake, undecided, real

Array = NDArray[np.float32]
Extent = tuple[float, float, float, float]


class Snapshot(NamedTuple):
    """The state of training at one epoch.

    Attributes:
        points: generated points [N, 2].
        surface: decision surface [RESOLUTION, RESOLUTION], rows from bottom to top. It is the sigmoid of the logits
            minus their mean over real and generated points, because some losses define only differences of logits.
    """

    epoch: float
    points: Array
    surface: Array


def scatter(points: Array, file: Path) -> Path:
    """Plot generated points [N, 2] only."""
    figure = Figure(figsize=(6, 6), layout="constrained")
    axes = figure.subplots()
    size = max(2.0, min(20.0, 5000 / len(points)))
    axes.scatter(points[:, 0], points[:, 1], s=size, color=GENERATED, linewidths=0, alpha=0.6)
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_title(f"{len(points):,} generated points")
    canvas.render(figure).save(file)
    return file


def on_plane(points: Tensor) -> Array:
    """Project points [N, D] to their first two coordinates [N, 2]; a single coordinate is padded with zeros."""
    plane = points[:, :2].cpu().numpy()
    return plane if plane.shape[1] == 2 else np.pad(plane, ((0, 0), (0, 1)))


class PointPictures:
    """Draws the figures of a run on points, in data units; only the first two coordinates are shown.

    Args:
        real: all real points [N, D] in model range.
    """

    def __init__(self, run: RunFolder, real: Tensor, players: Players, units: AffineUnits, seed: int) -> None:
        self.run, self.players, self.units = run, players, units
        self.inside = real[:NUM_FINAL]
        self.real = on_plane(units.outside(self.inside))
        z, label = players.draw(NUM_FINAL, seed, "pictures")
        self.z, self.label = z.to(real.device), None if label is None else label.to(real.device)
        middle = (self.real.max(0) + self.real.min(0)) / 2
        reach = 0.7 * float(np.ptp(self.real, axis=0).max())
        left, bottom = (float(m) - reach for m in middle)
        self.extent = (left, left + 2 * reach, bottom, bottom + 2 * reach)
        x, y = (np.linspace(start, start + 2 * reach, RESOLUTION) for start in (left, bottom))
        plane = torch.tensor(np.stack(np.meshgrid(x, y), 2).reshape(-1, 2), dtype=torch.float32)  # x varies fastest
        self.plane = units.inside(plane).to(real.device) if real.shape[1] == 2 else None  # [RESOLUTION^2, 2]

    def snapshot(self, step: int, epoch: float, generator: nn.Module, discriminator: nn.Module) -> Path | None:
        snapshot = self._take_snapshot(epoch, generator, NUM_SNAPSHOT)
        np.savez_compressed(self.run.samples / f"step_{step:08d}.npz", **snapshot._asdict())
        return None

    def finish(
        self, history: Sequence[dict[str, Any]], generator: nn.Module, discriminator: nn.Module
    ) -> dict[str, Path]:
        snapshots = [self._read(file) for file in sorted(self.run.samples.glob("step_*.npz"))]
        small = Plot(self.real, self.extent, FRAME_SIDE, size=3, alpha=0.6)
        frames = [small.draw(snapshot, _caption(snapshot.epoch)) for snapshot in snapshots]
        panels = [frames[i] for i in sorted({round(i) for i in np.linspace(0, len(frames) - 1, PANELS)})]
        final = self._take_snapshot(snapshots[-1].epoch, generator, NUM_FINAL)
        title = f"{len(final.points):,} generated points after {final.epoch:.4g} epochs"
        large = Plot(self.real, self.extent, FINAL_SIDE, size=7, alpha=0.25)
        legend, figures = _legend(), self.run.figures
        canvas.column([canvas.row(panels), legend]).save(figures / "training.png")
        canvas.column([large.draw(final, title), legend]).save(figures / "final.png")
        return {
            "final": figures / "final.png",
            "training": figures / "training.png",
            "animation": animation.save(frames, figures / "training.gif"),
            "curves": curves.draw(history, self.run.result, figures / "curves.png"),
        }

    def _take_snapshot(self, epoch: float, generator: nn.Module, count: int) -> Snapshot:
        label = None if self.label is None else self.label[:count]
        generated = sample(generator, self.z[:count], label, self.units)
        points = on_plane(generated)
        if self.plane is None:  # the decision surface is not two-dimensional
            return Snapshot(epoch, points, np.full((RESOLUTION, RESOLUTION), 0.5, dtype=np.float32))
        sets = (self.inside, self.units.inside(generated))
        offset = torch.stack([class_averaged_logits(self.players, x).mean() for x in sets]).mean()
        surface = (class_averaged_logits(self.players, self.plane) - offset).sigmoid()
        return Snapshot(epoch, points, surface.view(RESOLUTION, RESOLUTION).cpu().numpy())

    @staticmethod
    def _read(file: Path) -> Snapshot:
        with np.load(file) as arrays:
            return Snapshot(float(arrays["epoch"]), arrays["points"], arrays["surface"])


class Plot:
    """A square plot of a snapshot. Drawing the next snapshot on it is faster than a new plot.

    Args:
        real: real points [N, 2].
        extent: left, right, bottom and top limit.
        side: width and height in inches, without the title.
        size: area of a point.
        alpha: opacity of the generated points.
    """

    def __init__(self, real: Array, extent: Extent, side: float, size: float, alpha: float) -> None:
        self.figure = Figure(figsize=(side + 2 * MARGIN, side + MARGIN + TITLE))
        width, height = self.figure.get_size_inches()
        axes = self.figure.add_axes((MARGIN / width, MARGIN / height, side / width, side / height))
        self.surface = axes.imshow(np.zeros((1, 1)), origin="lower", extent=extent, cmap=SURFACE,
                                   interpolation="bilinear", aspect="auto")  # fmt: skip
        axes.scatter(real[:, 0], real[:, 1], s=size, color=REAL, linewidths=0)
        self.generated = axes.scatter([], [], s=size, color=GENERATED, linewidths=0, alpha=alpha)
        self.title = self.figure.text(0.5, 1 - TITLE / 2 / height, "", ha="center", va="center", fontsize=10)
        axes.set(xlim=extent[:2], ylim=extent[2:], xticks=[], yticks=[])

    def draw(self, snapshot: Snapshot, title: str) -> Image.Image:
        spread = float(np.abs(snapshot.surface - 0.5).max())  # late in training only a few hundredths
        self.surface.set_data(snapshot.surface)
        self.surface.set_clim(0.5 - spread, 0.5 + spread)
        self.generated.set_offsets(snapshot.points)
        self.title.set_text(title)
        return canvas.render(self.figure)


def _caption(epoch: float) -> str:
    return f"epoch {epoch:.4g}" if epoch else "before training"


@cache
def _legend() -> Image.Image:
    """Draw the meaning of the colours, which is the same in all figures."""
    dots = [Line2D([], [], color=colour, marker="o", linestyle="", label=label)
            for label, colour in (("real", REAL), ("generated", GENERATED))]  # fmt: skip
    areas = [Patch(color=SURFACE(side), label=f"discriminator leans {label}")
             for label, side in (("real", 1.0), ("fake", 0.0))]  # fmt: skip
    figure = Figure(figsize=(6.4, 0.4))
    figure.legend(handles=[*dots, *areas], loc="center", ncols=4, frameon=False, fontsize=9)
    return canvas.render(figure)
