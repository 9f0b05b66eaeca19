"""Folders for data: the default location, access checks and locks."""

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
    """The default folder for data and caches."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ganlab"


def check_folder(key: str, folder: Path) -> None:
    """Check that a folder can be read, or created if it does not exist.

    Raises:
        ConfigError: it cannot; the message names the key, the folder and the reason.
    """
    existing = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    try:
        if existing == folder:
            next(existing.iterdir(), None)
        else:
            tempfile.TemporaryFile(dir=existing).close()
    except OSError as error:
        wanted = "a folder this user can read" if existing == folder else "a folder this user can create"
        raise ConfigError(f"{key}={folder}: must be {wanted}: {existing}: {error.strerror}") from error


@contextmanager
def locked(file: Path, task: str, timeout: float = -1) -> Iterator[None]:
    """Hold an exclusive lock on a file; log a message if another process holds it.

    Args:
        task: what the holder of the lock does, for the message.
        timeout: maximum time to wait, in seconds; -1: no limit.

    Raises:
        filelock.Timeout: the lock was not released in time.
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
