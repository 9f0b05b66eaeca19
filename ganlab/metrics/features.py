"""Checks of the feature tensors that metrics receive."""

from __future__ import annotations

import torch
from torch import Tensor

from ganlab.errors import DataError


def checked(features: Tensor, name: str = "features", at_least: int = 1) -> Tensor:
    """Check features [N, ...] and return them as float64 [N, D].

    They stay on their device, except that MPS tensors move to the CPU because MPS has no float64.

    Raises:
        DataError: there are fewer than `at_least` rows, or some rows are not finite.
    """
    if features.dim() < 2:
        raise DataError(f"{name}: shape must be [samples, dimensions], not {list(features.shape)}")
    if len(features) < at_least:
        raise DataError(f"{name}: at least {at_least:,} samples are needed, there are {len(features):,}")
    features = features.detach().flatten(1)
    broken = int((~features.isfinite()).any(1).sum())
    if broken:
        raise DataError(f"{name}: {broken:,} of {len(features):,} rows are not finite")
    return (features.cpu() if features.device.type == "mps" else features).double()


def same_dimensions(**features: Tensor) -> None:
    """Raise DataError if the sets [N, D] differ in D; the message uses the keyword names."""
    dimensions = {name: values.shape[1] for name, values in features.items()}
    if len(set(dimensions.values())) > 1:
        raise DataError("features differ in dimensions: " + ", ".join(f"{n} {d:,}" for n, d in dimensions.items()))


def checked_pair(real: Tensor, fake: Tensor, at_least: int = 1) -> tuple[Tensor, Tensor]:
    """Apply `checked` to both sets and check that they have the same D."""
    real, fake = checked(real, "real features", at_least), checked(fake, "fake features", at_least)
    same_dimensions(real=real, fake=fake)
    return real, fake


def cpu_rng(seed: int) -> torch.Generator:
    """A random number generator on the CPU, so that a seed gives the same numbers for every device."""
    return torch.Generator().manual_seed(seed)
