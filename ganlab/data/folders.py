"""Where data lie, and whether that place can be used."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from ganlab.errors import ConfigError


def cache_folder() -> Path:
    """Where data lie that the user gave no folder for."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ganlab"


def check_folder(key: str, folder: Path) -> None:
    """Refuse a folder that can be neither read nor made.

    Raises:
        ConfigError: with the key, the folder and what is in the way.
    """
    existing = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    try:
        if existing == folder:
            next(existing.iterdir(), None)
        else:
            tempfile.TemporaryFile(dir=existing).close()
    except OSError as error:
        wanted = "a folder this user can read" if existing == folder else "a folder this user can make"
        raise ConfigError(f"{key}={folder}: must be {wanted}: {existing}: {error.strerror}") from error
