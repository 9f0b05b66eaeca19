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
    """The extractor of a name for the images of a dataset.

    Args:
        name: one of `EXTRACTORS`, or the dotted name of the user's own: a network, or a class or function that makes
            one, of the shape (C, H, W) if it needs an argument. It gets images [N, C, H, W] in [0, 1] and returns
            features [N, D], or a pair of them and the probabilities of classes [N, K], which are taken to be those of
            the dataset where there are as many.
        trust: the modules that the user's own may come from.

    Raises:
        ConfigError: no such extractor, or not for this dataset.
        OperationalError: what it needs cannot be fetched or kept.
    """
    if len(dataset.shape) != 3:
        raise ConfigError(
            f"metrics.extractor={name}: is for images; {dataset.name} has points of shape {dataset.shape}"
        )
    if "." in name:
        return make_own(name, dataset, device, trust)
    if name not in EXTRACTORS:
        allowed = ", ".join(EXTRACTORS)
        raise ConfigError(f"metrics.extractor={name}: must be one of {allowed}, or the dotted name of your own network")
    return EXTRACTORS[name](dataset, device)


def extractor_of(name: str, dataset: Dataset, device: torch.device, trust: Sequence[str] = ()) -> Extractor:
    """The extractor of that name; `auto`: the domain's classifier where there are classes, else random features.

    Raises:
        ConfigError: there is none, or it does not suit the data.
    """
    if len(dataset.shape) != 3:
        if name not in ("auto", Coordinates.name):
            raise ConfigError(f"metrics.extractor={name}: is for images, and {dataset.name} has points; use auto")
        return Coordinates()
    if name == "auto":
        name = "domain" if dataset.classes else "random"
    return make_extractor(name, dataset, device, trust)
