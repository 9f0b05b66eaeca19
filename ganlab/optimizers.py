"""How each player is updated: torch's optimizers, with the range of each setting in the signature."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from annotated_types import Len
from torch import nn

from ganlab.errors import ConfigError
from ganlab.ranges import Fraction, Momentum, Positive, Weight

Parameters = Iterable[nn.Parameter]


@dataclass(frozen=True)
class Optimizers:
    """The optimizers of both players, called with their parameters."""

    generator: Callable[[Parameters], torch.optim.Optimizer]
    discriminator: Callable[[Parameters], torch.optim.Optimizer]


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


def restore_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Its moments as they were, its settings as they are now: torch would bring back the old learning rate."""
    settings = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, now in zip(optimizer.param_groups, settings, strict=True):
        group.update(now)
