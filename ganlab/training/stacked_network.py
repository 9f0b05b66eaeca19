"""Networks of one architecture as one, for a population."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from ganlab.models import spectral_norm


class StackedNetwork:
    """Networks of one architecture with their parameters and buffers stacked; those of each network become views.

    Attributes:
        flat: parameters of all networks [M, P].
        parameters: the same as views [M, ...] by name, leaves of the autograd graph.
        buffers: stacked buffers [M, ...] by name.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        self.template = copy.deepcopy(networks[0])
        named = [dict(network.named_parameters()) for network in networks]
        self.shapes = {name: parameter.shape for name, parameter in named[0].items()}
        self.flat = torch.stack([torch.cat([p.detach().reshape(-1) for p in each.values()]) for each in named])
        self.parameters = {name: part.requires_grad_() for name, part in self.split(self.flat).items()}
        buffers = [dict(network.named_buffers()) for network in networks]
        self.buffers = {name: torch.stack([each[name] for each in buffers]) for name in buffers[0]}
        for index, network in enumerate(networks):
            for name, parameter in network.named_parameters():
                parameter.data = self.parameters[name].detach()[index]
            for name, buffer in network.named_buffers():
                buffer.data = self.buffers[name][index]
        self.gradients = torch.zeros_like(self.flat)  # of the last update, after clipping
        for name, gradients in self.split(self.gradients).items():
            for gradient, each in zip(gradients, named, strict=True):
                each[name].grad = gradient
        self.norms = spectral_norm.named_norms(self.template)

    @property
    def state(self) -> dict[str, Tensor]:
        return self.parameters | self.buffers

    def split(self, flat: Tensor) -> dict[str, Tensor]:
        """Return views [M, ...] of a tensor [M, P] by the names of the parameters."""
        sizes = [shape.numel() for shape in self.shapes.values()]
        parts = zip(self.shapes.items(), flat.split(sizes, dim=1), strict=True)
        return {name: part.view(len(flat), *shape) for (name, shape), part in parts}

    def call(self, state: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
        """Call one network, given its slices of `parameters` and `buffers`."""
        output: Tensor = functional_call(self.template, dict(state), inputs)
        return output

    def gradient(self, losses: Tensor) -> Tensor:
        """Return the gradient [M, P] of the losses [M] with respect to the parameters."""
        gradients = torch.autograd.grad(losses.sum(), list(self.parameters.values()))
        return torch.cat([gradient.flatten(1) for gradient in gradients], 1)

    @torch.no_grad()
    def follow(self, source: StackedNetwork, decay: Tensor) -> None:
        """Update averages of other networks, as `AveragedGenerator.update` does; `decay` is [M, 1]."""
        self.flat.lerp_(source.flat, 1 - decay)
        for name, buffer in self.buffers.items():
            if name.rpartition(".")[0].removesuffix(".0") not in self.norms:
                buffer.copy_(source.buffers[name])
        self.update_spectral_norms()

    @torch.no_grad()
    def update_spectral_norms(self) -> None:
        """Update the singular vectors of spectral normalisation by one power iteration."""
        for name, norm in self.norms.items():
            vectors = [self.buffers[f"{name}.0.{side}"] for side in ("left", "right")]
            updated = vmap(norm.iterated)(self.parameters[f"{name}.original"], vectors[0])
            for vector, value in zip(vectors, updated, strict=True):
                vector.copy_(value)
