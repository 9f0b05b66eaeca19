"""Registers the launcher `processes`, which Hydra finds in `hydra_plugins`; see ganlab.sweeps.processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

if TYPE_CHECKING:
    from ganlab.sweeps.processes import Sweep


class Processes(Launcher):
    """Runs each job of a sweep in a process of its own; see `conf/hydra/launcher/processes.yaml`."""

    continues_folder = True  # see ganlab.hydra_callbacks

    def __init__(
        self,
        jobs: int = 1,
        cores: int | None = None,
        halving: float | None = None,
        rungs: Sequence[float] | None = None,
        metric: str | None = None,
    ) -> None:
        self.jobs, self.cores = jobs, cores
        self.halving, self.metric = halving, metric
        self.rungs = OmegaConf.to_container(rungs) if OmegaConf.is_config(rungs) else rungs  # validated by Sweep

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        from ganlab.sweeps.composition import SweepComposer

        hydra_context.config_loader = SweepComposer(hydra_context.config_loader)  # the sweeper uses it too
        halving = {"halving": self.halving, "rungs": self.rungs, "metric": self.metric}
        self.sweep = self.create_sweep(hydra_context, task_function, config, self.jobs, self.cores, **halving)

    def create_sweep(self, *arguments: Any, **keywords: Any) -> Sweep:
        from ganlab.sweeps.processes import Sweep

        return Sweep(*arguments, **keywords)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        return self.sweep.launch(job_overrides)
