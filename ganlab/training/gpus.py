"""The NVIDIA GPUs of this machine, found without importing torch."""

from __future__ import annotations

import glob
import os

GPU_FILES = "/dev/nvidia[0-9]*"  # one for each GPU whose driver is loaded


def gpu_files() -> list[str]:
    return sorted(glob.glob(GPU_FILES))


def visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return [str(number) for number in range(len(gpu_files()))]
    return [name.strip() for name in chosen.split(",") if name.strip() not in ("", "-1")]
