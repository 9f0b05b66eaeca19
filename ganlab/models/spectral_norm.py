"""Spectral normalisation (Miyato et al., 2018): a layer's weight divided by its largest singular value.

PyTorch's own implementation runs the power iteration inside the forward pass. Here the forward pass is a pure function,
as `torch.func` and CUDA graphs require, and `update` runs the power iteration after each optimizer step.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ganlab.models.conditional import Projection

LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, Projection)


class SpectralNorm(nn.Module):
    """weight / sigma, with sigma = u^T W v (eq. 8) and the gradient of eq. 12, which treats u and v as constants.

    Args:
        weight: weight of the layer.
        axis: output axis of the weight; it becomes the rows of W.
    """

    left: Tensor
    right: Tensor

    def __init__(self, weight: Tensor, axis: int = 0) -> None:
        super().__init__()
        self.axis = axis
        matrix = self._matrix(weight.detach())
        self.register_buffer("left", F.normalize(torch.randn(matrix.shape[0]), dim=0))  #   u in the paper
        self.register_buffer("right", F.normalize(torch.randn(matrix.shape[1]), dim=0))  #  v

    def _matrix(self, weight: Tensor) -> Tensor:
        return weight.movedim(self.axis, 0).flatten(1)

    def forward(self, weight: Tensor) -> Tensor:
        sigma = self.left @ self._matrix(weight) @ self.right
        return weight / sigma

    def iterate(self, weight: Tensor) -> None:
        """Run one power iteration."""
        left, right = self.iterated(weight, self.left)
        self.left.copy_(left)
        self.right.copy_(right)

    def iterated(self, weight: Tensor, left: Tensor) -> tuple[Tensor, Tensor]:
        """Return the singular vectors after one power iteration (eq. 18 and 19)."""
        matrix = self._matrix(weight)
        right = F.normalize(left @ matrix, dim=0)
        return F.normalize(matrix @ right, dim=0), right


def normalise(network: nn.Module) -> None:
    """Apply spectral normalisation to all convolutions, linear layers and projections of a network."""
    for layer in [module for module in network.modules() if isinstance(module, LAYERS)]:
        norm = SpectralNorm(layer.weight, axis=1 if isinstance(layer, nn.ConvTranspose2d) else 0)
        parametrize.register_parametrization(layer, "weight", norm)
    update(network, num_iterations=15)


@torch.no_grad()
def update(network: nn.Module, num_iterations: int = 1) -> None:
    """Update the singular vectors by power iteration, after the weights have changed."""
    for norm, weight in _norms(network):
        for _ in range(num_iterations):
            norm.iterate(weight)


def named_norms(network: nn.Module) -> dict[str, SpectralNorm]:
    """Return the spectral norms of a network by the name of their parametrization, `layer.parametrizations.weight`."""
    return {
        name: module[0]
        for name, module in network.named_modules()
        if isinstance(module, parametrize.ParametrizationList) and isinstance(module[0], SpectralNorm)
    }


def update_after_each_step(network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Make each optimizer step update the singular vectors of the network, if it has any."""
    if _norms(network):
        optimizer.register_step_post_hook(lambda *_: update(network))


def _norms(network: nn.Module) -> list[tuple[SpectralNorm, Tensor]]:
    """Return each spectral norm of a network with its unnormalised weight."""
    return [
        (module[0], module.original)
        for module in network.modules()
        if isinstance(module, parametrize.ParametrizationList) and isinstance(module[0], SpectralNorm)
    ]
