"""The device a run computes on, and what the process is told before it does."""

from __future__ import annotations

import ctypes
import sys

import torch

from ganlab.errors import ConfigError


def resolve(name: str) -> torch.device:
    """The device that `auto`, `cpu`, `cuda` or `mps` stands for on this machine.

    Raises:
        ConfigError: this machine has none of that kind.
    """
    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, available in here.items() if available)
    if not here[name]:
        allowed = ", ".join(kind for kind, available in here.items() if available)
        raise ConfigError(f"device={name}: this machine has none; must be auto or one of {allowed}")
    return torch.device(name)


def keep_freed_memory() -> None:
    """Tell glibc to reuse freed memory rather than give it back to the system and ask for it again.

    Otherwise every activation of more than 128 kB is a fresh mmap whose pages fault one by one: a third of the
    time of a step of a small convolutional network on the CPU. Elsewhere than on glibc nothing is done.
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
