"""Where a result comes from: the code, the versions and the machine, as far as they decide its bits."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

import ganlab


def provenance(device: torch.device, folder: Path | None = None) -> dict[str, Any]:
    """What `result.json` records of it.

    Args:
        device: that the run computes on.
        folder: the user's, whose git checkout it is; None: the working directory.

    Returns:
        `commit` and `diff` (a hash of the changes to tracked files that are not committed; None where there are
        none), both None outside a checkout; the versions `python`, `torch` and `ganlab`; `threads` and `device`.
    """
    commit = git(folder, "rev-parse", "HEAD")
    diff = git(folder, "diff", "--no-ext-diff", "--no-color", "--binary", "HEAD") if commit else None
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "commit": commit.decode().strip() if commit else None,
        "diff": hashlib.sha256(diff).hexdigest()[:16] if diff else None,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "ganlab": ganlab.__version__,
        "threads": torch.get_num_threads(),
        "device": f"{device} ({name})",
    }


def git(folder: Path | None, *arguments: str) -> bytes | None:
    """What git prints there, or None where there is no git, no checkout, or no answer in time."""
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout
