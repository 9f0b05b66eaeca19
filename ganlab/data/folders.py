"""Where data lie, and whether that place can be used."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ganlab.errors import ConfigError

log = logging.getLogger(__name__)


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


@contextmanager
def locked(file: Path, task: str, timeout: float = -1) -> Iterator[None]:
    """Be the only process that has this file locked, and say so where another one is waited for.

    Args:
        task: what they are at, for the message.
        timeout: seconds to wait; -1: as long as it takes.

    Raises:
        filelock.Timeout: the other one takes longer.
    """
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("Waiting for another run that is %s", task)
        lock.acquire(timeout=timeout)
    try:
        yield
    finally:
        lock.release()
