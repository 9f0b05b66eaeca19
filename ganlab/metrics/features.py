"""What every metric asks of the features that it is given."""

from __future__ import annotations

import torch
from torch import Tensor

from ganlab.errors import DataError


def checked(features: Tensor, name: str = "features", at_least: int = 1) -> Tensor:
    """Features [N, ...] as [N, D] in float64, on their own device, or on the CPU where that has no float64.

    Raises:
        DataError: they are fewer than needed, or not all finite.
    """
    if features.dim() < 2:
        raise DataError(f"{name}: the shape must be [samples, dimensions], not {list(features.shape)}")
    if len(features) < at_least:
        raise DataError(f"{name}: at least {at_least:,} samples are needed, there are {len(features):,}")
    features = features.detach().flatten(1)
    broken = int((~features.isfinite()).any(1).sum())
    if broken:
        raise DataError(f"{name}: {broken:,} of {len(features):,} rows are not finite")
    return (features.cpu() if features.device.type == "mps" else features).double()


def same_dimensions(**features: Tensor) -> None:
    """Refuses sets [N, D] whose D differ; the name of each is used in the message."""
    dimensions = {name: values.shape[1] for name, values in features.items()}
    if len(set(dimensions.values())) > 1:
        raise DataError("features differ in dimensions: " + ", ".join(f"{n} {d:,}" for n, d in dimensions.items()))


def checked_pair(real: Tensor, fake: Tensor, at_least: int = 1) -> tuple[Tensor, Tensor]:
    """Both sets as `checked` returns them, of the same D."""
    real, fake = checked(real, "real features", at_least), checked(fake, "fake features", at_least)
    same_dimensions(real=real, fake=fake)
    return real, fake


def draws(seed: int) -> torch.Generator:
    """A generator on the CPU, so that a seed means the same on every device."""
    return torch.Generator().manual_seed(seed)
