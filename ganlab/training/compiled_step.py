"""A training step that runs as one function of `torch.compile`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from ganlab.errors import ConfigError
from ganlab.game import Players
from ganlab.training.step import TrainingStep

if TYPE_CHECKING:
    from ganlab.training.population import Population

log = logging.getLogger(__name__)

STEPS_TO_COMPILE_ONE, STEPS_TO_COMPILE_MANY = 40_000, 2_000  # that make up for the time of compilation


class CompiledStep(TrainingStep):
    """A training step that is compiled with its losses, gradients and optimizers, as a population of one.

    Without a compiler, or with parts that a population cannot have, it warns and runs as `TrainingStep`.
    """

    _population: Population | None = None
    _cannot_compile = False

    def __call__(self, step: int, lr_factor: float = 1.0) -> dict[str, Tensor]:
        if self._population is None and not self._cannot_compile:
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
            self._cannot_compile = True
        else:
            self._population.compile()


def should_compile(
    setting: bool | Literal["auto"],
    players: Players,
    device: torch.device,
    last_step: int,
    *,
    num_runs: int = 1,
    num_processes: int = 1,
) -> bool:
    """Whether the training step of a run, or of several together, becomes a compiled function.

    Args:
        setting: `trainer.compile`. "auto" compiles where this saves more time than it takes. On a CPU, it speeds up
            small networks but not convolutions.

    Raises:
        ConfigError: the setting is true, and the device is not a CPU, or several processes train the run.
    """
    if setting is True and device.type != "cpu":
        raise ConfigError(f"trainer.compile=true: needs device=cpu, not {device.type}; use trainer.compile=auto")
    if setting is True and num_processes > 1:
        raise ConfigError(f"trainer.compile=true: needs one process, not {num_processes}; use trainer.compile=auto")
    if setting == "auto":
        enough = STEPS_TO_COMPILE_ONE if num_runs == 1 else STEPS_TO_COMPILE_MANY
        is_possible = device.type == "cpu" and num_processes == 1 and not has_convolutions(players)
        return is_possible and last_step >= enough
    return setting


def has_convolutions(players: Players) -> bool:
    modules = (*players.generator.modules(), *players.discriminator.modules())
    return any(isinstance(module, nn.Conv2d | nn.ConvTranspose2d) for module in modules)
