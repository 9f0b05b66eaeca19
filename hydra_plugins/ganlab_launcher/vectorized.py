"""Registers the launcher `vectorized`, which Hydra finds in `hydra_plugins`; see ganlab.sweeps.populations."""

from __future__ import annotations

from typing import Any

from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from hydra_plugins.ganlab_launcher.processes import Processes


class Vectorized(Processes):
    """Trains the jobs of a sweep as populations; see `conf/hydra/launcher/vectorized.yaml`."""

    def __init__(self, max_population: int = 512, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.max_population = max_population

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        from ganlab.sweeps.populations import VectorizedSweep

        halving = {"halving": self.halving, "rungs": self.rungs, "metric": self.metric}
        self.sweep = VectorizedSweep(
            *(hydra_context, task_function, config, self.jobs, self.cores),
            **halving,
            max_population=self.max_population,
        )
