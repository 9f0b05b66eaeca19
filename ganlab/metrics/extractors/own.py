"""Extractors that are networks of the user, given by their dotted names."""

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
    """Import a network, or a class or function that builds one, from a trusted module.

    A class or function is called with the image shape (C, H, W) if it has a required argument; random initial weights
    are the same each time. A network is moved to the device and frozen in place. The hash covers the weights and the
    source code of the module.

    Args:
        trust: names of the modules that may be imported.

    Raises:
        ConfigError: the module is not trusted, has no such attribute, or provides no network for images of this shape.
    """
    key = f"metrics.extractor={name}"
    if not any(name.startswith(f"{module}.") for module in trust):
        raise ConfigError(f"{key}: not part of ganlab; if the module is yours, name its module in trust=")
    module_name, _, attribute = name.rpartition(".")
    try:
        module = importlib.import_module(module_name)
        found = getattr(module, attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{key}: cannot be imported: {_one_line(error)}") from error
    try:
        code = inspect.getsource(module)
    except (TypeError, OSError) as error:
        raise ConfigError(f"{key}: must have source code, which identifies its scores: {_one_line(error)}") from error
    try:
        with seeded(0, "extractor"):
            network = found if isinstance(found, nn.Module) else _build(found, dataset.shape)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"{key}: cannot be built for images {list(dataset.shape)}: {_one_line(error)}") from error
    if not isinstance(network, nn.Module):
        raise ConfigError(f"{key}: must be or return a torch.nn.Module, not {type(network).__name__}")
    images = torch.zeros(2, *dataset.shape)
    try:
        with torch.no_grad(), seeded(0, "extractor"):
            network.eval()(images)  # before hashing, because lazy layers have no weights until then
        code_and_weights = hash_of(network, code)
        extractor = NetworkExtractor(name, code_and_weights, f"your own {attribute}", network, dataset.shape, device)
        extractor(images)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"{key}: fails for images {[2, *dataset.shape]}: {_one_line(error)}") from error
    return extractor


def _build(build: Callable[..., object], shape: tuple[int, ...]) -> object:
    """Call a class or function with the shape if it has a required argument, else without arguments."""
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(build).parameters.values()
    needs_shape = any(p.kind in positional and p.default is inspect.Parameter.empty for p in parameters)
    return build(shape) if needs_shape else build()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
