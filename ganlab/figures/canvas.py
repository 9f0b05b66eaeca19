"""Pictures from matplotlib figures, and pictures next to each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

DPI = 110
WHITE = (255, 255, 255)


def render(figure: Figure) -> Image.Image:
    """Draw a figure, which may be changed and drawn again.

    Unlike `Figure.savefig`, it draws a figure with a layout engine only once, and saves no alpha channel.
    """
    figure.set_dpi(DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])


def row(pictures: Sequence[Image.Image]) -> Image.Image:
    """Place pictures next to each other, from left to right."""
    whole = Image.new("RGB", (sum(each.width for each in pictures), max(each.height for each in pictures)), WHITE)
    left = 0
    for picture in pictures:
        whole.paste(picture, (left, 0))
        left += picture.width
    return whole


def column(pictures: Sequence[Image.Image]) -> Image.Image:
    """Place pictures below each other, centred."""
    whole = Image.new("RGB", (max(each.width for each in pictures), sum(each.height for each in pictures)), WHITE)
    top = 0
    for picture in pictures:
        whole.paste(picture, ((whole.width - picture.width) // 2, top))
        top += picture.height
    return whole
