"""Figures of a run: snapshots during training and figures at its end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from torch import nn

REAL, GENERATED = "#2b5c8a", "#d9541e"  # distinguishable for colour-blind readers and in print


class Pictures(Protocol):
    """Draws the figures of a run."""

    def snapshot(self, step: int, epoch: float, generator: nn.Module, discriminator: nn.Module) -> Path | None:
        """Save samples of fixed latents for the final figures; return the file of a figure if one is drawn now."""

    def finish(
        self, history: Sequence[dict[str, Any]], generator: nn.Module, discriminator: nn.Module
    ) -> dict[str, Path]:
        """Draw the final figures and return their files by name."""
        ...


class NoPictures:
    """Draws nothing."""

    def snapshot(self, step: int, epoch: float, generator: nn.Module, discriminator: nn.Module) -> None:
        return None

    def finish(
        self, history: Sequence[dict[str, Any]], generator: nn.Module, discriminator: nn.Module
    ) -> dict[str, Path]:
        return {}
