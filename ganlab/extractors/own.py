"""The user's own network as an extractor, by its dotted name."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Sequence

import torch
from torch import nn

from ganlab.data.dataset import Dataset
from ganlab.errors import ConfigError
from ganlab.extractors.extractor import NetworkExtractor
from ganlab.extractors.weights import hash_of
from ganlab.randomness import seeded


def make_own(name: str, dataset: Dataset, device: torch.device, trust: Sequence[str]) -> NetworkExtractor:
    """The network that a function or class of a trusted module makes for the shape of an image.

    Weights that it draws rather than loads are the same each time. Its hash is of its weights and its module's code.

    Raises:
        ConfigError: the module is not trusted, has nothing of that name, or that makes no network.
    """
    key = f"metrics.extractor={name}"
    if not any(name.startswith(f"{module}.") for module in trust):
        raise ConfigError(f"{key}: not a part of ganlab; name its module in trust= if it is yours")
    module_name, _, attribute = name.rpartition(".")
    try:
        module = importlib.import_module(module_name)
        make = getattr(module, attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{key}: cannot be imported: {' '.join(str(error).split())}") from error
    with seeded(0, "extractor"):
        network = make(dataset.shape) if callable(make) else make
    if not isinstance(network, nn.Module):
        raise ConfigError(f"{key}: must make a torch.nn.Module of a shape, not {type(network).__name__}")
    return NetworkExtractor(
        name, hash_of(network, inspect.getsource(module)), f"your own {attribute}", network, dataset.shape, device
    )
