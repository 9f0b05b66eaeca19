"""Selection of the device."""

from __future__ import annotations

import torch

from ganlab.errors import ConfigError


def resolve(name: str) -> torch.device:
    """Return the device for `auto`, `cpu`, `cuda` or `mps`; `auto` prefers a GPU.

    Raises:
        ConfigError: this machine has no such device.
    """
    is_available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, available in is_available.items() if available)
    if not is_available[name]:
        allowed = " or ".join(f"device={kind}" for kind, available in is_available.items() if available)
        raise ConfigError(f"device={name}: no {name.upper()} device found; use {allowed}")
    return torch.device(name)
