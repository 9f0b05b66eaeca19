"""Extractors by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch

from ganlab.data.dataset import Dataset
from ganlab.errors import ConfigError
from ganlab.metrics.extractors.domain import make_domain
from ganlab.metrics.extractors.extractor import Extractor
from ganlab.metrics.extractors.fixed import Coordinates, make_pixels, make_random
from ganlab.metrics.extractors.inception import make_inception
from ganlab.metrics.extractors.own import make_own

EXTRACTORS: Mapping[str, Callable[[Dataset, torch.device], Extractor]] = {
    "domain": make_domain,
    "pixels": make_pixels,
    "random": make_random,
    "inception": make_inception,
}


def make_extractor(name: str, dataset: Dataset, device: torch.device, trust: Sequence[str] = ()) -> Extractor:
    """Create the named extractor for the images of a dataset.

    Args:
        name: one of `EXTRACTORS`, or the dotted name of the user's own network, or of a class or function that returns
            one and accepts the image shape (C, H, W) or no argument. The network maps images [N, C, H, W] in [0, 1] to
            features [N, D], or to a pair of features and class probabilities [N, K]. If K is the number of classes of
            the dataset, the classes are assumed to be the same.
        trust: modules from which networks of the user may be imported.

    Raises:
        ConfigError: there is no such extractor, or it does not suit the dataset.
        OperationalError: its weights cannot be downloaded or stored.
    """
    if len(dataset.shape) != 3:
        raise ConfigError(
            f"metrics.extractor={name}: requires images, but {dataset.name} has points of shape {dataset.shape}"
        )
    if "." in name:
        return make_own(name, dataset, device, trust)
    if name not in EXTRACTORS:
        allowed = ", ".join(EXTRACTORS)
        raise ConfigError(f"metrics.extractor={name}: must be one of {allowed}, or the dotted name of your own network")
    return EXTRACTORS[name](dataset, device)


def extractor_of(name: str, dataset: Dataset, device: torch.device, trust: Sequence[str] = ()) -> Extractor:
    """Like `make_extractor`, but also accepts `auto`, and datasets of points.

    `auto` selects `domain` for images with classes, `random` for images without, and `Coordinates` for points.

    Raises:
        ConfigError: there is no such extractor, or it does not suit the dataset.
    """
    if len(dataset.shape) != 3:
        if name not in ("auto", Coordinates.name):
            raise ConfigError(f"metrics.extractor={name}: requires images, but {dataset.name} has points; use auto")
        return Coordinates()
    if name == "auto":
        name = "domain" if dataset.classes else "random"
    return make_extractor(name, dataset, device, trust)
