"""Figures of image runs: grids of samples of fixed latents and of real images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from ganlab.data.batches import to_model_range
from ganlab.data.units import AffineUnits
from ganlab.figures import animation, canvas, curves
from ganlab.game import Players
from ganlab.rng import make_rng
from ganlab.runs.folder import RunFolder
from ganlab.sampling import sample

COLUMNS = ROWS = 6
SIDE = 84  # pixels; approximate side of a small image in a grid of samples
GAP, BACKGROUND = 3, 110

Bytes = NDArray[np.uint8]


def to_bytes(images: Tensor) -> Bytes:
    """Convert images [N, C, H, W] in [0, 1] to bytes [N, H, W, C]."""
    return (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


def grid(images: Bytes, columns: int = COLUMNS, side: int = SIDE) -> Image.Image:
    """Arrange images [N, H, W, C] in a grid; those smaller than `side` are enlarged without smoothing."""
    count, height, width, channels = images.shape
    scale = max(1, round(side / max(height, width)))
    images = images.repeat(scale, axis=1).repeat(scale, axis=2)
    height, width = height * scale + GAP, width * scale + GAP
    rows = -(-count // columns)
    pixels = np.full((rows * height + GAP, min(columns, count) * width + GAP, channels), BACKGROUND, dtype=np.uint8)
    for index, image in enumerate(images):
        top, left = index // columns * height + GAP, index % columns * width + GAP
        pixels[top : top + height - GAP, left : left + width - GAP] = image
    return Image.fromarray(pixels[..., 0] if channels == 1 else pixels)


def save_each(images: Bytes, folder: Path) -> None:
    """Save each image [N, H, W, C] as a PNG at its original size: `000000.png`, ..."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, image in enumerate(images):
        Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(folder / f"{index:06d}.png")


class ImagePictures:
    """Draws the figures of a run on images.

    If the generator is conditional, each column shows one class, for at most the first ten classes.

    Args:
        real: all real images, uint8 [N, C, H, W].
    """

    def __init__(self, run: RunFolder, real: Tensor, players: Players, units: AffineUnits, seed: int) -> None:
        self.run = run
        self.columns = min(players.num_classes, 10) or COLUMNS
        num = ROWS * self.columns
        z, label = players.draw(num, seed, "pictures")
        self.z = z.to(real.device)
        self.label = None if label is None else torch.arange(num, device=real.device) % self.columns
        shown = torch.randperm(len(real), generator=make_rng(seed, "pictures", 1))[: ROWS * COLUMNS]
        self.real = to_bytes(units.outside(to_model_range(real[shown.to(real.device)])))

    def snapshot(self, step: int, epoch: float, generator: nn.Module, discriminator: nn.Module) -> Path | None:
        images = to_bytes(sample(generator, self.z, self.label))
        np.savez_compressed(self.run.samples / f"step_{step:08d}.npz", epoch=epoch, images=images)
        if step == 0:
            self._draw_before(images[0], self.run.figures / "before.png")
        file = self.run.samples / f"step_{step:08d}.png"
        grid(images, self.columns).save(file)
        return file

    def finish(
        self, history: Sequence[dict[str, Any]], generator: nn.Module, discriminator: nn.Module
    ) -> dict[str, Path]:
        figures = self.run.figures
        grid(self.real).save(figures / "real.png")
        grid(to_bytes(sample(generator, self.z, self.label)), self.columns).save(figures / "final.png")
        before = figures / "before.png"  # missing if the run is drawn only at its end
        return {
            "final": figures / "final.png",
            "real": figures / "real.png",
            **({"before": before} if before.is_file() else {}),
            "animation": self._animate(figures / "training.gif"),
            "curves": curves.draw(history, self.run.result, figures / "curves.png"),
        }

    def _draw_before(self, generated: Bytes, file: Path) -> None:
        titles = {"real image": self.real[0], "untrained generator": generated}
        canvas.row([_captioned(grid(image[None], side=3 * SIDE), title) for title, image in titles.items()]).save(file)

    def _animate(self, file: Path) -> Path:
        frames = []
        for snapshot in sorted(self.run.samples.glob("step_*.npz")):
            with np.load(snapshot) as arrays:
                frames.append(_captioned(grid(arrays["images"], self.columns), f"epoch {float(arrays['epoch']):g}"))
        return animation.save(frames, file)


def _captioned(picture: Image.Image, caption: str) -> Image.Image:
    framed = Image.new("RGB", (picture.width, picture.height + 26), (255, 255, 255))
    framed.paste(picture.convert("RGB"), (0, 26))
    ImageDraw.Draw(framed).text((6, 4), caption, fill=(0, 0, 0), font=ImageFont.load_default(16))
    return framed
