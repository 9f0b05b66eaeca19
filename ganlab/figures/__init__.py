"""Pictures of a run: while it trains, and what is drawn of it at its end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from torch import nn

REAL, GENERATED = "#2b5c8a", "#d9541e"  # told apart by colour-blind eyes and in print


class Pictures(Protocol):
    def snapshot(self, step: int, epoch: float, generator: nn.Module, discriminator: nn.Module) -> Path | None:
        """Keep samples of fixed noise, for the pictures at the end; the file of a picture if one is drawn now."""

    def finish(
        self, history: Sequence[dict[str, Any]], generator: nn.Module, discriminator: nn.Module
    ) -> dict[str, Path]:
        """Draw the final pictures: name -> file."""
        ...
