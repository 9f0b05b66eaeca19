"""The memory settings of a process that trains or evaluates, and the memory that is available."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")  # the limits of a container


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


def available_memory() -> int:
    """Bytes that can be allocated without swapping.

    On systems other than Linux: half of the physical memory, or 4 GiB if it is unknown.
    """
    try:
        kilobytes = re.search(r"MemAvailable:\s*(\d+) kB", Path("/proc/meminfo").read_text())
    except OSError:
        kilobytes = None
    if kilobytes is None:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2 if hasattr(os, "sysconf") else 2**32
    available = int(kilobytes[1]) * 1024
    try:
        limit, used = ((CGROUP / f"memory.{name}").read_text().strip() for name in ("max", "current"))
    except OSError:
        return available
    return available if limit == "max" else min(available, int(limit) - int(used))
