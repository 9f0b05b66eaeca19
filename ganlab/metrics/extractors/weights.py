"""Initialisation and hashing of the weights of extractors."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import torch
from torch import nn


def he_initialized(build: Callable[[], nn.Module], rng: torch.Generator) -> nn.Module:
    """Build a network on the CPU with He-normal weights (He, Zhang, Ren and Sun, 2015, eq. 10) and zero biases.

    Torch's global random number generator is not used.
    """
    with torch.device("meta"):  # here the layers' default initialisation draws no random numbers
        network = build()
    network.to_empty(device="cpu")
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, generator=rng)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.reset_parameters()
    return network


def hash_of(network: nn.Module, *recipe: object) -> str:
    """16 hex digits of a hash over all weights and `recipe`, everything else that determines the features."""
    digest = hashlib.sha256(repr(recipe).encode())
    for name, tensor in network.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]
