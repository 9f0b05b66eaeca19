"""A training step that runs as one function of `torch.compile`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from ganlab.errors import ConfigError
from ganlab.training.step import TrainingStep

if TYPE_CHECKING:
    from ganlab.training.population import Population

log = logging.getLogger(__name__)

# Steps from which compiling saves more time than it takes, for one run and for several together
STEPS_TO_COMPILE_ONE, STEPS_TO_COMPILE_MANY = 40_000, 2_000
MAX_PRODUCTS = 16_000_000  # see `is_small`


class CompiledStep(TrainingStep):
    """A training step that is compiled with its losses, gradients and optimizers, as a population of one.

    Without a compiler, it warns and runs as a population of one that is not compiled. With parts that a population
    cannot have, it warns and runs as `TrainingStep`.

    Attributes:
        is_compiled: whether to compile; see `should_compile`.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.is_compiled = should_compile(self)
        self._population: Population | None = None

    def __call__(self, step: int, lr_factor: float = 1.0) -> dict[str, Tensor]:
        if self._population is None and self.is_compiled:
            self._compile()
        if self._population is None:
            return super().__call__(step, lr_factor)
        return {name: value[0] for name, value in self._population(step, lr_factor).items()}

    def restore(self, content: Mapping[str, Any], templates: Mapping[str, Any]) -> None:
        super().restore(content, templates)
        self._population = None  # its tensors are no longer those of the optimizers

    def _compile(self) -> None:
        from ganlab.training.population import Population  # torch's compiler takes seconds to import

        try:
            self._population = Population([self])
        except ConfigError as error:
            log.warning("WARNING: the training step is not compiled: %s", error)
            self.is_compiled = False
        else:
            self._population.compile()


def should_compile(step: TrainingStep, num_runs: int = 1) -> bool:
    """Whether a training step becomes a compiled function, by its `compile`, which is `trainer.compile`.

    "auto" compiles the steps of small networks on a CPU, in runs that are so long that this saves time.

    Args:
        num_runs: number of runs that train together.

    Raises:
        ConfigError: the setting is true, and the device is not a CPU, or several processes train the run.
    """
    num_processes = step.parallel.num_processes
    if step.compile is True and step.device.type != "cpu":
        raise ConfigError(f"trainer.compile=true: needs device=cpu, not {step.device.type}; use trainer.compile=auto")
    if step.compile is True and num_processes > 1:
        raise ConfigError(f"trainer.compile=true: needs one process, not {num_processes}; use trainer.compile=auto")
    if step.compile == "auto":
        enough = STEPS_TO_COMPILE_ONE if num_runs == 1 else STEPS_TO_COMPILE_MANY
        return step.device.type == "cpu" and num_processes == 1 and step.last_step >= enough and is_small(step)
    return step.compile


def is_small(step: TrainingStep) -> bool:
    """Whether the networks are so small that a step on a CPU becomes faster when it is compiled or stacked.

    The overhead of each operation must be a large part of the step. The batch size times the number of parameters is at
    most `MAX_PRODUCTS`. Measured for batches of 256: compiled steps are 1.4 times as fast with 34,000 parameters, 1.1
    times with 135,000, and slower with 2 million. Convolutions become slower too.
    """
    parameters = step.generator_parameters + step.discriminator_parameters
    has_convolutions = any(
        isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
        for network in (step.generator, step.discriminator)
        for module in network.modules()
    )
    products = step.batches.batch_size * sum(parameter.numel() for parameter in parameters)
    return products <= MAX_PRODUCTS and not has_convolutions
