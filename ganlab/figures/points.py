"""Figures of point runs: real and generated points over the decision surface of the discriminator."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from ganlab.data.units import AffineUnits
from ganlab.figures import GENERATED, REAL, animation, curves
from ganlab.game import Players
from ganlab.runs.folder import RunFolder
from ganlab.sampling import class_averaged_logits, sample

NUM_SNAPSHOT, NUM_FINAL = 1000, 5000  # generated points in a snapshot and in the final figure
RESOLUTION = 80  # grid points of the decision surface along each axis
PANELS = 5
SURFACE = LinearSegmentedColormap.from_list("surface", ["#f6c9b0", "#ffffff", "#b9d3ea"])  # fake, undecided, real

Array = NDArray[np.float32]


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
    figure.savefig(file, dpi=110)
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
        final = self._take_snapshot(snapshots[-1].epoch, generator, NUM_FINAL)
        figures = self.run.figures
        return {
            "final": self._draw_final(final, figures / "final.png"),
            "training": self._draw_training(snapshots, figures / "training.png"),
            "animation": self._animate(snapshots, figures / "training.gif"),
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

    def _draw(self, axes: Axes, snapshot: Snapshot, size: float = 3, alpha: float = 0.6) -> None:
        left, right, bottom, top = self.extent
        spread = float(np.abs(snapshot.surface - 0.5).max())  # late in training only a few hundredths
        axes.imshow(snapshot.surface, origin="lower", extent=self.extent, cmap=SURFACE,
                    vmin=0.5 - spread, vmax=0.5 + spread, interpolation="bilinear")  # fmt: skip
        axes.scatter(self.real[:, 0], self.real[:, 1], s=size, color=REAL, linewidths=0, label="real")
        axes.scatter(
            snapshot.points[:, 0],
            snapshot.points[:, 1],
            s=size,
            color=GENERATED,
            linewidths=0,
            alpha=alpha,
            label="generated",
        )
        axes.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[], aspect="equal")

    def _draw_final(self, final: Snapshot, file: Path) -> Path:
        figure = Figure(figsize=(6.4, 7), layout="constrained")
        axes = figure.subplots()
        self._draw(axes, final, size=7, alpha=0.25)
        axes.set_title(f"{len(final.points):,} generated points after {final.epoch:.4g} epochs")
        _legend(figure)
        figure.savefig(file, dpi=110)
        return file

    def _draw_training(self, snapshots: list[Snapshot], file: Path) -> Path:
        chosen = [snapshots[i] for i in sorted({round(i) for i in np.linspace(0, len(snapshots) - 1, PANELS)})]
        figure = Figure(figsize=(2.6 * len(chosen), 3.2), layout="constrained")
        for axes, snapshot in zip(figure.subplots(1, len(chosen), squeeze=False)[0], chosen, strict=True):
            self._draw(axes, snapshot)
            axes.set_title("before training" if snapshot.epoch == 0 else f"epoch {snapshot.epoch:.4g}", fontsize=10)
        _legend(figure)
        figure.savefig(file, dpi=110)
        return file

    def _animate(self, snapshots: list[Snapshot], file: Path) -> Path:
        figure = Figure(figsize=(4, 4.3), dpi=90, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        axes = figure.subplots()
        frames = []
        for snapshot in snapshots:
            axes.clear()
            self._draw(axes, snapshot)
            axes.set_title(f"epoch {snapshot.epoch:.4g}", fontsize=10)
            canvas.draw()
            frames.append(Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy()))
        return animation.save(frames, file)


def _legend(figure: Figure) -> None:
    kinds = {"real": REAL, "generated": GENERATED}
    sides = {"discriminator leans real": SURFACE(1.0), "discriminator leans fake": SURFACE(0.0)}
    dots = [Line2D([], [], color=colour, marker="o", linestyle="", label=label) for label, colour in kinds.items()]
    areas = [Patch(color=colour, label=label) for label, colour in sides.items()]
    figure.legend(
        handles=[*dots, *areas],
        loc="outside lower center",
        ncols=4 if figure.get_figwidth() > 6 else 2,
        frameon=False,
        fontsize=9,
    )
