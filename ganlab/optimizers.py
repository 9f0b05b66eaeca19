"""PyTorch's optimizers with validated hyperparameters, and their state in checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from annotated_types import Len
from torch import Tensor, nn

from ganlab.config.entries import check_keys, check_structure, entry_path
from ganlab.config.ranges import Fraction, Momentum, Positive, Weight
from ganlab.config.stackable import Stackable
from ganlab.errors import CheckpointError, ConfigError

Betas = Annotated[Sequence[Momentum], Len(2, 2)]
Parameters = Iterable[nn.Parameter]
OptimizerFactory = Callable[[Parameters], torch.optim.Optimizer]
SECOND_MOMENTS = {"exp_avg_sq", "max_exp_avg_sq", "square_avg", "acc_delta"}  # state keys of torch's optimizers


@dataclass(frozen=True)
class Optimizers:
    """Factories of the two players' optimizers, called with the parameters to optimize."""

    generator: OptimizerFactory
    discriminator: OptimizerFactory


def adam(
    parameters: Parameters,
    lr: Stackable[Positive] = 1e-3,
    betas: Stackable[Betas] = (0.0, 0.99),
    eps: Stackable[Positive] = 1e-8,
    weight_decay: Stackable[Weight] = 0.0,
) -> torch.optim.Adam:
    """Adam (Kingma and Ba, 2015); beta1 defaults to 0, since momentum makes the two players oscillate."""
    beta1, beta2 = map(float, betas)  # YAML parses 0 as an int, which torch refuses
    return torch.optim.Adam(parameters, lr=lr, betas=(beta1, beta2), eps=eps, weight_decay=weight_decay, fused=True)


def adamw(
    parameters: Parameters,
    lr: Stackable[Positive] = 1e-3,
    betas: Stackable[Betas] = (0.0, 0.99),
    eps: Stackable[Positive] = 1e-8,
    weight_decay: Stackable[Weight] = 0.01,
) -> torch.optim.AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019)."""
    beta1, beta2 = map(float, betas)
    return torch.optim.AdamW(parameters, lr=lr, betas=(beta1, beta2), eps=eps, weight_decay=weight_decay, fused=True)


def sgd(
    parameters: Parameters,
    lr: Stackable[Positive] = 1e-2,
    momentum: Momentum = 0.0,
    nesterov: bool = False,
    weight_decay: Stackable[Weight] = 0.0,
) -> torch.optim.SGD:
    """Stochastic gradient descent, optionally with Nesterov momentum.

    Raises:
        ConfigError: `nesterov` is set without momentum.
    """
    if nesterov and not momentum:
        raise ConfigError("optimizer: nesterov=true: momentum must be above 0")
    return torch.optim.SGD(
        parameters, lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay, foreach=True
    )


def rmsprop(
    parameters: Parameters,
    lr: Stackable[Positive] = 1e-3,
    alpha: Stackable[Fraction] = 0.99,
    eps: Stackable[Positive] = 1e-8,
    momentum: Momentum = 0.0,
    weight_decay: Stackable[Weight] = 0.0,
) -> torch.optim.RMSprop:
    """RMSprop (Hinton, 2012)."""
    return torch.optim.RMSprop(
        parameters, lr=lr, alpha=alpha, eps=eps, momentum=momentum, weight_decay=weight_decay, foreach=True
    )


def check_optimizer_state(
    where: str, entry: object, make: OptimizerFactory, network: nn.Module, weights: Mapping[str, Tensor]
) -> dict[str, Any]:
    """Check the state of an optimizer in a checkpoint against that of a new optimizer after one step.

    Args:
        where: path of the entry, for the error message.
        make: constructs the optimizer from parameters.
        network: the network whose parameters it updates.
        weights: state of the network in the same checkpoint, already checked.

    Returns:
        A template with the same keys, shapes and memory layouts, which `restore_optimizer` fills in.

    Raises:
        CheckpointError: names the first entry that does not fit.
    """
    zeros = {name: nn.Parameter(torch.zeros_like(parameter)) for name, parameter in network.named_parameters()}
    for zero in zeros.values():
        zero.grad = torch.zeros_like(zero)
    optimizer = make(list(zeros.values()))
    optimizer.step()
    expected = optimizer.state_dict()
    given = check_keys(where, entry, expected)
    state = given["state"]
    names = {id(zero): name for name, zero in zeros.items()}
    updated = [names[id(zero)] for group in optimizer.param_groups for zero in group["params"]]
    for index, name in enumerate(updated):
        is_unused = (
            isinstance(state, dict)
            and index not in state
            and torch.equal(weights[name], network.get_parameter(name).detach().cpu())
        )
        if is_unused:  # no gradient has reached this parameter, so it still has its initial value
            expected["state"].pop(index, None)
    del expected["param_groups"]  # hyperparameters come from the current config
    for key, part in expected.items():
        check_structure(entry_path(where, key), given[key], part)
    _check_second_moments(entry_path(where, "state"), state)
    return expected


def _check_second_moments(where: str, state: Mapping[int, Any]) -> None:
    """Refuse negative second moments, since the next step takes their square root and would produce NaN parameters."""
    for index, moments in state.items():
        for name in SECOND_MOMENTS & set(moments):
            if bool(torch.as_tensor(moments[name] < 0).any()):
                raise CheckpointError(f"{entry_path(entry_path(where, index), name)}: must not be negative")


def check_num_updates(where: str, optimizer: torch.optim.Optimizer, state: Mapping[int, Any], num_updates: int) -> None:
    """Check the step counters of one of torch's own optimizers against the number of updates in the run.

    A parameter that does not contribute to every loss may have fewer updates.

    Raises:
        CheckpointError: a counter is too large or not an integer, or none has the expected value.
    """
    if not type(optimizer).__module__.startswith("torch.optim"):
        return
    steps = {index: float(moments["step"]) for index, moments in state.items() if "step" in moments}
    expected = min(num_updates, 2**24)  # float32 counters saturate there
    for index, step in steps.items():
        if not 0 <= step <= expected or step % 1:
            name = f"{where}.state[{index}].step"
            raise CheckpointError(f"{name}={step:g}: must be an integer, at most {expected} in this run")
    if steps and max(steps.values()) != expected:
        raise CheckpointError(f"{where}.state: the largest step is {max(steps.values()):g}, expected {expected}")


def restore_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any], template: Mapping[str, Any]) -> None:
    """Load a checked state, but keep the current hyperparameters: torch would restore the old learning rate.

    Args:
        template: result of `check_optimizer_state`. Values are copied into its tensors, since fused optimizers read
            moments in memory order and tensors from a file may share memory.
    """
    filled = _copy_into(template, state)
    optimizer.load_state_dict({**filled, "param_groups": optimizer.state_dict()["param_groups"]})


def _copy_into(template: Any, value: Any) -> Any:
    if isinstance(template, Tensor):
        return template.copy_(value)
    if isinstance(template, Mapping):
        return {key: _copy_into(part, value[key]) for key, part in template.items()}
    return value
