"""The user's own network as an extractor, by its dotted name."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Sequence

import torch
from torch import nn

from ganlab.data.dataset import Dataset
from ganlab.errors import ConfigError
from ganlab.metrics.extractors.extractor import NetworkExtractor
from ganlab.metrics.extractors.weights import hash_of
from ganlab.rng import seeded


def make_own(name: str, dataset: Dataset, device: torch.device, trust: Sequence[str]) -> NetworkExtractor:
    """A network that a trusted module holds, or that a class or function there makes, of (C, H, W) if it needs that.

    Weights that a class or function draws rather than loads are the same each time. One that is ready made is itself
    moved to the device and frozen. The hash is of the weights and the module's code.

    Raises:
        ConfigError: the module is not trusted, has nothing of that name, or that makes no network for such images.
    """
    key = f"metrics.extractor={name}"
    if not any(name.startswith(f"{module}.") for module in trust):
        raise ConfigError(f"{key}: not a part of ganlab; name its module in trust= if it is yours")
    module_name, _, attribute = name.rpartition(".")
    try:
        module = importlib.import_module(module_name)
        found = getattr(module, attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{key}: cannot be imported: {_line(error)}") from error
    try:
        code = inspect.getsource(module)
    except (TypeError, OSError) as error:
        raise ConfigError(f"{key}: has no source that could tell its scores apart: {_line(error)}") from error
    try:
        with seeded(0, "extractor"):
            network = found if isinstance(found, nn.Module) else _made_by(found, dataset.shape)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"{key}: cannot be made for images {list(dataset.shape)}: {_line(error)}") from error
    if not isinstance(network, nn.Module):
        raise ConfigError(f"{key}: must be or make a torch.nn.Module, not {type(network).__name__}")
    images = torch.zeros(2, *dataset.shape)
    try:
        with torch.no_grad(), seeded(0, "extractor"):
            network.eval()(images)  # before it is hashed: lazy layers have no weights until then
        code_and_weights = hash_of(network, code)
        extractor = NetworkExtractor(name, code_and_weights, f"your own {attribute}", network, dataset.shape, device)
        extractor(images)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"{key}: cannot be given images {[2, *dataset.shape]}: {_line(error)}") from error
    return extractor


def _made_by(make: Callable[..., object], shape: tuple[int, ...]) -> object:
    """What a class or function makes of the shape, or of nothing where it needs nothing."""
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(make).parameters.values()
    needs_one = any(p.kind in positional and p.default is inspect.Parameter.empty for p in parameters)
    return make(shape) if needs_one else make()


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
