"""Selection of the device, and memory settings of the process."""

from __future__ import annotations

import ctypes
import sys

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


def keep_freed_memory() -> None:
    """Make glibc keep freed memory instead of returning it to the system; no effect on other C libraries.

    By default every activation above 128 kB is a new mmap, whose page faults take a third of a step of a small
    convolutional network on the CPU.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    m_trim_threshold, m_mmap_threshold = -1, -3
    for option in (m_trim_threshold, m_mmap_threshold):
        mallopt(option, 2**30)
