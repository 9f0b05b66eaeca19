"""How each player is updated: torch's optimizers, with the range of each setting in the signature."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from annotated_types import Len
from torch import Tensor, nn

from ganlab.entries import check_like, check_names, child
from ganlab.errors import CheckpointError, ConfigError
from ganlab.ranges import Fraction, Momentum, Positive, Weight

Parameters = Iterable[nn.Parameter]
MakeOptimizer = Callable[[Parameters], torch.optim.Optimizer]
MEANS_OF_SQUARES = {"exp_avg_sq", "max_exp_avg_sq", "square_avg", "acc_delta"}  # in the state of torch's optimizers


@dataclass(frozen=True)
class Optimizers:
    """The optimizers of both players, called with their parameters."""

    generator: MakeOptimizer
    discriminator: MakeOptimizer


def adam(
    parameters: Parameters,
    lr: Positive = 1e-3,
    betas: Annotated[Sequence[Momentum], Len(2, 2)] = (0.0, 0.99),
    eps: Positive = 1e-8,
    weight_decay: Weight = 0.0,
) -> torch.optim.Adam:
    """Adam (Kingma and Ba, 2015); beta1 is 0, as a momentum makes the two players circle each other."""
    beta1, beta2 = map(float, betas)  # torch refuses the int that YAML makes of 0
    return torch.optim.Adam(parameters, lr=lr, betas=(beta1, beta2), eps=eps, weight_decay=weight_decay, fused=True)


def adamw(
    parameters: Parameters,
    lr: Positive = 1e-3,
    betas: Annotated[Sequence[Momentum], Len(2, 2)] = (0.0, 0.99),
    eps: Positive = 1e-8,
    weight_decay: Weight = 0.01,
) -> torch.optim.AdamW:
    """Adam with a weight decay that its moments do not see (Loshchilov and Hutter, 2019)."""
    beta1, beta2 = map(float, betas)
    return torch.optim.AdamW(parameters, lr=lr, betas=(beta1, beta2), eps=eps, weight_decay=weight_decay, fused=True)


def sgd(
    parameters: Parameters,
    lr: Positive = 1e-2,
    momentum: Momentum = 0.0,
    nesterov: bool = False,
    weight_decay: Weight = 0.0,
) -> torch.optim.SGD:
    """Stochastic gradient descent, with Nesterov's momentum where `nesterov` says so.

    Raises:
        ConfigError: Nesterov's without a momentum.
    """
    if nesterov and not momentum:
        raise ConfigError("optimizer: nesterov=true needs a momentum above 0")
    return torch.optim.SGD(
        parameters, lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay, foreach=True
    )


def rmsprop(
    parameters: Parameters,
    lr: Positive = 1e-3,
    alpha: Fraction = 0.99,
    eps: Positive = 1e-8,
    momentum: Momentum = 0.0,
    weight_decay: Weight = 0.0,
) -> torch.optim.RMSprop:
    """RMSprop (Hinton, 2012)."""
    return torch.optim.RMSprop(
        parameters, lr=lr, alpha=alpha, eps=eps, momentum=momentum, weight_decay=weight_decay, foreach=True
    )


def fitting_state(
    where: str, entry: object, make: MakeOptimizer, network: nn.Module, weights: Mapping[str, Tensor]
) -> dict[str, Any]:
    """Check an optimizer's entry of a checkpoint against the state that such an optimizer has after one step.

    Args:
        make: makes the optimizer.
        network: whose parameters it updates; `weights` is what the checkpoint has of it, checked already.

    Returns:
        A state of the same names, shapes and memory layouts, for `restore_optimizer` to fill in.

    Raises:
        CheckpointError: the first part of the entry that does not fit.
    """
    zeros = {name: nn.Parameter(torch.zeros_like(parameter)) for name, parameter in network.named_parameters()}
    for zero in zeros.values():
        zero.grad = torch.zeros_like(zero)
    optimizer = make(list(zeros.values()))
    optimizer.step()
    expected = optimizer.state_dict()
    given = check_names(where, entry, expected)
    state = given["state"]
    names = {id(zero): name for name, zero in zeros.items()}
    updated = [names[id(zero)] for group in optimizer.param_groups for zero in group["params"]]
    for index, name in enumerate(updated):
        is_unused = (
            isinstance(state, dict)
            and index not in state
            and torch.equal(weights[name], network.get_parameter(name).detach().cpu())
        )
        if is_unused:  # no gradient has reached this parameter, which is as it was made
            expected["state"].pop(index, None)
    del expected["param_groups"]  # the settings are those of now
    for key, part in expected.items():
        check_like(child(where, key), given[key], part)
    _check_signs(child(where, "state"), state)
    return expected


def _check_signs(where: str, state: Mapping[int, Any]) -> None:
    """Refuse a negative mean of squares: its root would make the next step's parameters NaN."""
    for index, moments in state.items():
        for name in MEANS_OF_SQUARES & set(moments):
            if bool(torch.as_tensor(moments[name] < 0).any()):
                raise CheckpointError(f"{child(child(where, index), name)}: has negative values")


def check_num_updates(where: str, optimizer: torch.optim.Optimizer, state: Mapping[int, Any], num_updates: int) -> None:
    """Compare the updates that one of torch's optimizers has counted with those that the run has made.

    A parameter may have had fewer, where it has no part in some of the losses.

    Raises:
        CheckpointError: it has counted others.
    """
    if not type(optimizer).__module__.startswith("torch.optim"):
        return
    steps = {index: float(moments["step"]) for index, moments in state.items() if "step" in moments}
    expected = min(num_updates, 2**24)  # where a count in float32 ends
    for index, step in steps.items():
        if not 0 <= step <= expected or step % 1:
            name = f"{where}.state[{index}].step"
            raise CheckpointError(f"{name}={step:g}: must be a whole number, and at most {expected} in this run")
    if steps and max(steps.values()) != expected:
        raise CheckpointError(f"{where}.state: the largest step is {max(steps.values()):g}, expected {expected}")


def restore_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any], like: Mapping[str, Any]) -> None:
    """Load a checked state, its settings staying as they are now: torch would bring back the old learning rate.

    Args:
        like: see `fitting_state`. Tensors are copied into those here, as a fused optimizer reads moments in memory
            order, and tensors in the file may share their memory.
    """
    settings = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({**{name: _filled(like[name], state[name]) for name in like}, "param_groups": settings})


def _filled(like: Any, value: Any) -> Any:
    if isinstance(like, Tensor):
        return like.copy_(value)
    if isinstance(like, Mapping):
        return {key: _filled(part, value[key]) for key, part in like.items()}
    return value
