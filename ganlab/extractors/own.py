"""The user's own network as an extractor, by its dotted name."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Sequence

import torch
from torch import nn

from ganlab.data.dataset import Dataset
from ganlab.errors import ConfigError
from ganlab.extractors.extractor import NetworkExtractor
from ganlab.extractors.weights import hash_of
from ganlab.randomness import seeded


def make_own(name: str, dataset: Dataset, device: torch.device, trust: Sequence[str]) -> NetworkExtractor:
    """A network of a trusted module, or what a class or function there makes, for the shape of an image if it takes it.

    Weights that it draws rather than loads are the same each time. Its hash is of its weights and its module's code.

    Raises:
        ConfigError: the module is not trusted, has nothing of that name, or that makes no network for such images.
    """
    key = f"metrics.extractor={name}"
    if not any(name.startswith(f"{module}.") for module in trust):
        raise ConfigError(f"{key}: not a part of ganlab; name its module in trust= if it is yours")
    module_name, _, attribute = name.rpartition(".")
    try:
        module = importlib.import_module(module_name)
        made = getattr(module, attribute)
        code = inspect.getsource(module)
    except (ImportError, AttributeError, TypeError, OSError) as error:
        raise ConfigError(f"{key}: cannot be imported: {_line(error)}") from error
    try:
        with seeded(0, "extractor"):
            network = made if isinstance(made, nn.Module) else _made_by(made, dataset.shape)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"{key}: cannot be made for images [{_sizes(dataset.shape)}]: {_line(error)}") from error
    if not isinstance(network, nn.Module):
        raise ConfigError(f"{key}: must be or make a torch.nn.Module, not {type(network).__name__}")
    extractor = NetworkExtractor(name, hash_of(network, code), f"your own {attribute}", network, dataset.shape, device)
    try:
        extractor(torch.zeros(2, *dataset.shape))
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"{key}: cannot be given images [2, {_sizes(dataset.shape)}]: {_line(error)}") from error
    return extractor


def _made_by(make: Callable[..., object], shape: tuple[int, ...]) -> object:
    """What a class or function makes of the shape, or of nothing where it takes nothing."""
    try:
        inspect.signature(make).bind(shape)
    except TypeError:
        return make()
    return make(shape)


def _sizes(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
