"""The weights of extractors: drawn without torch's global generator, and told apart by a hash."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import torch
from torch import nn


def drawn(build: Callable[[], nn.Module], random: torch.Generator) -> nn.Module:
    """A network on the CPU with normal weights by fan-in (He, Zhang, Ren and Sun, 2015, eq. 10) and zero biases."""
    with torch.device("meta"):  # where the layers' own initial weights cost no draws
        network = build()
    network.to_empty(device="cpu")
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, generator=random)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.reset_parameters()
    return network


def hash_of(network: nn.Module, *recipe: object) -> str:
    """16 hex digits that depend on all weights, and on what else makes the features what they are."""
    digest = hashlib.sha256(repr(recipe).encode())
    for name, tensor in network.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]
