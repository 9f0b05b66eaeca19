"""The optimizers of a population: torch's formulas over stacked parameters, with hyperparameters for each member."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ganlab.errors import ConfigError

UNSUPPORTED = ("amsgrad", "maximize", "centered", "dampening")  # options of torch's optimizers
Moments = Mapping[str, Tensor]


class StackedOptimizer:
    """Optimizers of one class over stacked parameters.

    Their moments are stacked too, and the state of each optimizer becomes views of them, so that a checkpoint of a
    member is that of its own optimizer.

    Args:
        optimizers: one for each member, each with a single group of parameters.
        split: returns views by parameter of a tensor [M, P].

    Raises:
        ConfigError: the optimizers differ in class, or cannot be stacked.
    """

    def __init__(
        self, optimizers: Sequence[torch.optim.Optimizer], split: Callable[[Tensor], Mapping[str, Tensor]]
    ) -> None:
        kind, groups = type(optimizers[0]), [optimizer.param_groups[0] for optimizer in optimizers]
        if any(type(optimizer) is not kind for optimizer in optimizers):
            raise ConfigError("optimizer: must be of the same class for all members")
        if kind not in UPDATES or any(len(optimizer.param_groups) > 1 for optimizer in optimizers):
            raise ConfigError(f"optimizer: {kind.__name__} cannot be stacked")
        unsupported = next((option for option in UNSUPPORTED for group in groups if group.get(option)), None)
        if unsupported:
            raise ConfigError(f"optimizer: {kind.__name__} cannot be stacked with {unsupported}")
        self.formula, moments_of = UPDATES[kind]
        like = groups[0]["params"][0]
        self.hyperparameters = {
            name: _stacked([group[name] for group in groups], like)
            for name in groups[0]
            if name in ("betas", "eps", "weight_decay", "decoupled_weight_decay", "alpha", "momentum", "nesterov")
        }
        zeros = like.new_zeros(len(optimizers), sum(parameter.numel() for parameter in groups[0]["params"]))
        names = {name for group in groups for name in moments_of(group)}
        self.moments = {name: torch.zeros_like(zeros) for name in sorted(names)}
        self.num_updates = torch.zeros(len(optimizers))
        self._share(optimizers, split)

    def _share(
        self, optimizers: Sequence[torch.optim.Optimizer], split: Callable[[Tensor], Mapping[str, Tensor]]
    ) -> None:
        """Copy the state of each optimizer into the stack, and replace it by views."""
        for index, optimizer in enumerate(optimizers):
            parameters = optimizer.param_groups[0]["params"]
            for name, moments in self.moments.items():
                for parameter, view in zip(parameters, split(moments).values(), strict=True):
                    if name in optimizer.state[parameter]:
                        view[index].copy_(optimizer.state[parameter][name])
                    optimizer.state[parameter][name] = view[index]
            for parameter in parameters:
                if not isinstance(optimizer, torch.optim.SGD):  # which counts no updates
                    self.num_updates[index] = float(optimizer.state[parameter].get("step", 0))
                    optimizer.state[parameter]["step"] = self.num_updates[index]

    @torch.no_grad()
    def step(self, flat: Tensor, gradient: Tensor, lr: Tensor, number: Tensor) -> None:
        """Update stacked parameters [M, P] in place.

        Args:
            lr: learning rates [M, 1].
            number: number of this update, counted from 1; [M, 1].
        """
        self.formula(flat, gradient, self.moments, number, lr, self.hyperparameters)


def _stacked(values: Sequence[Any], like: Tensor) -> Any:
    """Return one value if all are equal, else a tensor [M, 1], or a tuple of these for tuples."""
    if all(value == values[0] for value in values):
        return values[0]
    if isinstance(values[0], tuple):
        return tuple(_stacked(column, like) for column in zip(*values, strict=True))
    return like.new_tensor(values)[:, None]


def adam(p: Tensor, g: Tensor, m: Moments, t: Tensor, lr: Tensor, h: Mapping[str, Any]) -> None:
    """Adam and AdamW (Kingma and Ba, 2015; Loshchilov and Hutter, 2019), as `torch.optim.Adam`."""
    (beta1, beta2), decay = h["betas"], h["weight_decay"]
    if h["decoupled_weight_decay"]:
        p.mul_(1 - lr * decay)
    else:
        g = g + decay * p
    m["exp_avg"].mul_(beta1).add_((1 - beta1) * g)
    m["exp_avg_sq"].mul_(beta2).add_((1 - beta2) * g.square())
    denominator = (m["exp_avg_sq"] / (1 - beta2**t)).sqrt() + h["eps"]
    p.sub_(lr / (1 - beta1**t) * m["exp_avg"] / denominator)


def rmsprop(p: Tensor, g: Tensor, m: Moments, t: Tensor, lr: Tensor, h: Mapping[str, Any]) -> None:
    """RMSprop (Hinton, 2012), as `torch.optim.RMSprop`."""
    g = g + h["weight_decay"] * p
    m["square_avg"].mul_(h["alpha"]).add_((1 - h["alpha"]) * g.square())
    g = g / (m["square_avg"].sqrt() + h["eps"])
    if "momentum_buffer" in m:
        g = m["momentum_buffer"].mul_(h["momentum"]).add_(g)
    p.sub_(lr * g)


def sgd(p: Tensor, g: Tensor, m: Moments, t: Tensor, lr: Tensor, h: Mapping[str, Any]) -> None:
    """Stochastic gradient descent, as `torch.optim.SGD`."""
    g = g + h["weight_decay"] * p
    if "momentum_buffer" in m:
        momentum = m["momentum_buffer"].mul_(h["momentum"]).add_(g)
        g = g + h["momentum"] * momentum if h["nesterov"] else momentum
    p.sub_(lr * g)


def _momentum(group: Mapping[str, Any]) -> list[str]:
    return ["momentum_buffer"] if group["momentum"] > 0 else []


# Class -> formula, and the names of its moments for a group of parameters
UPDATES: dict[type[torch.optim.Optimizer], tuple[Callable[..., None], Callable[[Mapping[str, Any]], list[str]]]] = {
    torch.optim.Adam: (adam, lambda group: ["exp_avg", "exp_avg_sq"]),
    torch.optim.AdamW: (adam, lambda group: ["exp_avg", "exp_avg_sq"]),
    torch.optim.RMSprop: (rmsprop, lambda group: ["square_avg", *_momentum(group)]),
    torch.optim.SGD: (sgd, _momentum),
}
