"""Records the provenance of a result: the commit, package versions and hardware that determine it bit for bit."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

import ganlab


def provenance(device: torch.device, folder: Path | None = None) -> dict[str, Any]:
    """Return the provenance entries of `result.json`.

    Args:
        device: device of the run.
        folder: folder in the git checkout to record; None uses the working directory.

    Returns:
        `commit` and `diff` (a hash of the uncommitted changes to tracked files, None if there are none), both None
        outside a checkout; the versions `python`, `torch` and `ganlab`; `threads` and `device`.
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
    """Return the output of git in a folder; None if git is missing, fails or times out."""
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout
