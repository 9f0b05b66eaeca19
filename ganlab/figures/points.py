"""Pictures of points in the plane: real and generated together, the discriminator's decision surface behind them."""

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

SHOWN, FINAL = 1000, 5000  # generated points in a snapshot and in the final picture
RESOLUTION = 80  # of the decision surface, along each side
PANELS = 5
SURFACE = LinearSegmentedColormap.from_list("surface", ["#f6c9b0", "#ffffff", "#b9d3ea"])  # fake, undecided, real

Array = NDArray[np.float32]


class Snapshot(NamedTuple):
    """One moment of training.

    Attributes:
        points: generated ones [N, 2].
        surface: sigmoid of the discriminator's logits, [RESOLUTION, RESOLUTION], rows from below; each less the mean
            of what it gives real and generated points, as in some losses only differences of logits mean anything.
    """

    epoch: float
    points: Array
    surface: Array


def scatter(points: Array, file: Path) -> Path:
    """Generated points [N, 2] alone."""
    figure = Figure(figsize=(6, 6), layout="constrained")
    axes = figure.subplots()
    size = max(2.0, min(20.0, 5000 / len(points)))
    axes.scatter(points[:, 0], points[:, 1], s=size, color=GENERATED, linewidths=0, alpha=0.6)
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_title(f"{len(points):,} generated points")
    figure.savefig(file, dpi=110)
    return file


def on_plane(points: Tensor) -> Array:
    """Points [N, D] by their first two coordinates, [N, 2]; those of a line beside zeros."""
    shown = points[:, :2].cpu().numpy()
    return shown if shown.shape[1] == 2 else np.pad(shown, ((0, 0), (0, 1)))


class PointPictures:
    """Pictures of a run on points, in the units of the data; of more than two coordinates the first two.

    Args:
        real: all real points [N, 2].
    """

    def __init__(self, run: RunFolder, real: Tensor, players: Players, units: AffineUnits, seed: int) -> None:
        self.run, self.players, self.units = run, players, units
        self.inside = real[:FINAL]
        self.real = on_plane(units.outside(self.inside))
        z, label = players.draw(FINAL, seed, "pictures")
        self.z, self.label = z.to(real.device), None if label is None else label.to(real.device)
        middle = (self.real.max(0) + self.real.min(0)) / 2
        reach = 0.7 * float(np.ptp(self.real, axis=0).max())
        left, bottom = (float(m) - reach for m in middle)
        self.extent = (left, left + 2 * reach, bottom, bottom + 2 * reach)
        x, y = (np.linspace(start, start + 2 * reach, RESOLUTION) for start in (left, bottom))
        plane = torch.tensor(np.stack(np.meshgrid(x, y), 2).reshape(-1, 2), dtype=torch.float32)  # x the faster
        self.plane = units.inside(plane).to(real.device) if real.shape[1] == 2 else None  # [RESOLUTION^2, 2]

    def snapshot(self, step: int, epoch: float, generator: nn.Module, discriminator: nn.Module) -> Path | None:
        now = self._look(epoch, generator, SHOWN)
        np.savez_compressed(self.run.samples / f"step_{step:08d}.npz", **now._asdict())
        return None

    def finish(
        self, history: Sequence[dict[str, Any]], generator: nn.Module, discriminator: nn.Module
    ) -> dict[str, Path]:
        snapshots = [self._read(file) for file in sorted(self.run.samples.glob("step_*.npz"))]
        final = self._look(snapshots[-1].epoch, generator, FINAL)
        figures = self.run.figures
        return {
            "final": self._draw_final(final, figures / "final.png"),
            "training": self._draw_training(snapshots, figures / "training.png"),
            "animation": self._animate(snapshots, figures / "training.gif"),
            "curves": curves.draw(history, self.run.result, figures / "curves.png"),
        }

    def _look(self, epoch: float, generator: nn.Module, count: int) -> Snapshot:
        label = None if self.label is None else self.label[:count]
        generated = sample(generator, self.z[:count], label, self.units)
        points = on_plane(generated)
        if self.plane is None:  # the discriminator judges more than can be drawn
            return Snapshot(epoch, points, np.full((RESOLUTION, RESOLUTION), 0.5, dtype=np.float32))
        seen = (self.inside, self.units.inside(generated))
        middle = torch.stack([class_averaged_logits(self.players, x).mean() for x in seen]).mean()
        surface = (class_averaged_logits(self.players, self.plane) - middle).sigmoid()
        return Snapshot(epoch, points, surface.view(RESOLUTION, RESOLUTION).cpu().numpy())

    @staticmethod
    def _read(file: Path) -> Snapshot:
        with np.load(file) as arrays:
            return Snapshot(float(arrays["epoch"]), arrays["points"], arrays["surface"])

    def _draw(self, axes: Axes, moment: Snapshot, size: float = 3, alpha: float = 0.6) -> None:
        left, right, bottom, top = self.extent
        lean = float(np.abs(moment.surface - 0.5).max())  # near the end it is a few hundredths, yet all that matters
        axes.imshow(moment.surface, origin="lower", extent=self.extent, cmap=SURFACE,
                    vmin=0.5 - lean, vmax=0.5 + lean, interpolation="bilinear")  # fmt: skip
        axes.scatter(self.real[:, 0], self.real[:, 1], s=size, color=REAL, linewidths=0, label="real")
        axes.scatter(
            moment.points[:, 0],
            moment.points[:, 1],
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
        for axes, moment in zip(figure.subplots(1, len(chosen), squeeze=False)[0], chosen, strict=True):
            self._draw(axes, moment)
            axes.set_title("before training" if moment.epoch == 0 else f"epoch {moment.epoch:.4g}", fontsize=10)
        _legend(figure)
        figure.savefig(file, dpi=110)
        return file

    def _animate(self, snapshots: list[Snapshot], file: Path) -> Path:
        figure = Figure(figsize=(4, 4.3), dpi=90, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        axes = figure.subplots()
        frames = []
        for moment in snapshots:
            axes.clear()
            self._draw(axes, moment)
            axes.set_title(f"epoch {moment.epoch:.4g}", fontsize=10)
            canvas.draw()
            frames.append(Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy()))
        return animation.save(frames, file)


def _legend(figure: Figure) -> None:
    kinds = {"real": REAL, "generated": GENERATED}
    sides = {"judged rather real": SURFACE(1.0), "judged rather generated": SURFACE(0.0)}
    dots = [Line2D([], [], color=colour, marker="o", linestyle="", label=label) for label, colour in kinds.items()]
    areas = [Patch(color=colour, label=label) for label, colour in sides.items()]
    figure.legend(
        handles=[*dots, *areas],
        loc="outside lower center",
        ncols=4 if figure.get_figwidth() > 6 else 2,
        frameon=False,
        fontsize=9,
    )
