"""Memory settings of a process that trains or evaluates."""

from __future__ import annotations

import ctypes
import sys


def keep_freed_memory() -> None:
    """Make glibc keep freed memory instead of returning it to the system; no effect on other C libraries.

    By default every activation above 128 kB is a new mmap, whose page faults take a third of a step of a small
    convolutional network on the CPU. The setting cannot be undone, so only commands call this, for their own process.
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
