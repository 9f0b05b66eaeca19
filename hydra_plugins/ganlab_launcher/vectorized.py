"""Registers the launcher `vectorized`, which Hydra finds in `hydra_plugins`; see ganlab.sweeps.populations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hydra_plugins.ganlab_launcher.processes import Processes

if TYPE_CHECKING:
    from ganlab.sweeps.populations import VectorizedSweep


class Vectorized(Processes):
    """Trains the jobs of a sweep as populations; see `conf/hydra/launcher/vectorized.yaml`."""

    def __init__(self, max_population: int | None = None, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.max_population = max_population

    def create_sweep(self, *arguments: Any, **keywords: Any) -> VectorizedSweep:
        from ganlab.sweeps.populations import VectorizedSweep

        return VectorizedSweep(*arguments, **keywords, max_population=self.max_population)
