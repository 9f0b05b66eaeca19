"""Animated GIFs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

SECONDS, LAST_FRAME_SECONDS = 6.0, 2.0


def save(frames: Sequence[Image.Image], file: Path) -> Path:
    """Save frames as a looping GIF of about six seconds that pauses on the last frame."""
    duration = max(60, min(500, int(1000 * SECONDS / len(frames))))
    durations = [duration] * (len(frames) - 1) + [int(1000 * LAST_FRAME_SECONDS)]
    paletted = [frame.convert("RGB").quantize(colors=128) for frame in frames]
    paletted[0].save(file, save_all=True, append_images=paletted[1:], duration=durations, loop=0)
    return file
