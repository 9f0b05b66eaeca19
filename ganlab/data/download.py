"""Downloads of dataset files: atomic, and safe for several runs that share a folder."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import zlib
from collections.abc import Callable, Sequence
from http.client import HTTPException
from pathlib import Path
from tarfile import TarError
from urllib.request import Request, urlopen

from filelock import Timeout
from tqdm import tqdm

from ganlab.data.folders import locked
from ganlab.errors import DataError

log = logging.getLogger(__name__)

MAX_WAIT = 600.0  # seconds to wait for another run that downloads the same files
BLOCK = 1 << 16  # bytes
FAILURES = (OSError, HTTPException, ValueError, EOFError, zlib.error, TarError)  # errors of downloading and unpacking


def md5_of(file: Path) -> str | None:
    """The MD5 of a file's content; None: there is no such file."""
    return digest_of(file, "md5")


def digest_of(file: Path, algorithm: str) -> str | None:
    """The digest of a file's content; None: there is no such file.

    Args:
        algorithm: name of a hashlib algorithm.
    """
    try:
        with file.open("rb") as content:
            return hashlib.file_digest(content, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()
    except FileNotFoundError:
        return None


def download(addresses: Sequence[str], file: Path, digest: str, timeout: float, algorithm: str = "md5") -> None:
    """Download a file from the first address that provides it intact.

    Args:
        digest: expected digest of the content.
        timeout: maximum time without data from a server, in seconds.
        algorithm: hashlib algorithm of the digest.

    Raises:
        OSError: all addresses failed; the message gives the reason for each.
    """
    reasons = []
    for address in addresses:
        try:
            request = Request(address, headers={"User-Agent": "ganlab"})
            with (
                urlopen(request, timeout=timeout) as response,
                file.open("wb") as out,
                tqdm(desc=file.name, total=response.length, unit="B", unit_scale=True, disable=None) as bar,
            ):
                while block := response.read(BLOCK):
                    out.write(block)
                    bar.update(len(block))
        except FAILURES as error:
            reasons.append(f"{address}: {_one_line(error)}")
        else:
            if digest_of(file, algorithm) == digest:
                return
            reasons.append(f"{address}: wrong checksum")
    raise OSError("; ".join(reasons))


def ensure(
    title: str,
    folder: Path,
    damaged: Callable[[Path], list[str]],
    fetch: Callable[[Path, list[str]], None],
) -> None:
    """Ensure that a folder contains the intact files of a dataset; download missing or damaged ones.

    Args:
        title: name of the dataset, for messages.
        damaged: returns the names of the files that are missing, truncated or altered in a folder.
        fetch: downloads the named files into a temporary folder, from which only intact files are moved.

    Raises:
        DataError: the files cannot be downloaded, or the folder is not writable.
    """
    try:
        if not damaged(folder):
            return
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / ".lock", f"fetching {title} into {folder}", MAX_WAIT):
            names = damaged(folder)  # checked again, because another run may have fetched them in the meantime
            if names:
                log.info("Fetching %s into %s (%s)", title, folder, ", ".join(names))
                with tempfile.TemporaryDirectory(dir=folder, prefix=".fetching-") as temporary:
                    _fetch_intact(title, folder, Path(temporary), names, damaged, fetch)
                    for file in sorted(Path(temporary).iterdir()):
                        os.replace(file, folder / file.name)
    except Timeout as error:
        raise DataError(
            f"dataset.root: timed out while another run fetches {title} into {folder}; try again later"
        ) from error
    except OSError as error:
        raise DataError(f"dataset.root: {error}") from error


def _fetch_intact(
    title: str,
    folder: Path,
    temporary: Path,
    names: list[str],
    damaged: Callable[[Path], list[str]],
    fetch: Callable[[Path, list[str]], None],
) -> None:
    advice = f"Run once with network access, or put the unpacked files into {folder}"
    try:
        fetch(temporary, names)
    except FAILURES as error:
        raise DataError(f"{title} could not be fetched: {_one_line(error)}. {advice}") from error
    wrong = [name for name in damaged(temporary) if name in names]
    if wrong:
        raise DataError(f"{title} could not be fetched: {', '.join(wrong)}: wrong checksum. {advice}")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
