"""ganlab: GAN experiments, composed by Hydra, trained in plain PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ganlab.trained_generator import TrainedGenerator

__version__ = "0.1.0"


def load_run(
    folder: str | Path, *, weights: str | None = None, checkpoint: str = "last", trust: tuple[str, ...] = ()
) -> TrainedGenerator:
    """The trained generator of a run: `load_run("outputs/...").sample(36)`.

    Args:
        folder: the run's folder.
        weights: `ema`, `raw`, or None for the averaged weights if the run has them.
        checkpoint: `last`, `best`, or the number of a step whose checkpoint was kept.
        trust: names of your own modules, from which the run's config may build objects.

    Raises:
        ganlab.errors.CheckpointError: there is no such checkpoint, or it is damaged.
    """
    from ganlab.trained_generator import TrainedGenerator  # imported late: torch takes seconds, `--help` must not

    return TrainedGenerator.load(folder, weights=weights, checkpoint=checkpoint, trust=trust)
