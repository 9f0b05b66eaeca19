"""Files from the network: whole or not at all, in a folder that several runs may share."""

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

SECONDS_FOR_ANOTHER = 600.0  # that another run may take to fetch the same files
BLOCK = 1 << 16  # bytes
FAILURES = (OSError, HTTPException, ValueError, EOFError, zlib.error, TarError)  # of a transfer and its unpacking


def md5_of(file: Path) -> str | None:
    """The md5 of a file's content; None: there is no such file."""
    return digest_of(file, "md5")


def digest_of(file: Path, algorithm: str) -> str | None:
    """The digest of a file's content by an algorithm that hashlib knows; None: there is no such file."""
    try:
        with file.open("rb") as content:
            return hashlib.file_digest(content, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()
    except FileNotFoundError:
        return None


def download(addresses: Sequence[str], file: Path, digest: str, timeout: float, algorithm: str = "md5") -> None:
    """Bring a file from the first address that has it whole.

    Args:
        digest: of what must arrive, by `algorithm`.
        timeout: seconds that a server may stay silent.

    Raises:
        OSError: no address has it; the message names the reason of each.
    """
    reasons = []
    for address in addresses:
        try:
            request = Request(address, headers={"User-Agent": "ganlab"})
            with (
                urlopen(request, timeout=timeout) as answer,
                file.open("wb") as out,
                tqdm(desc=file.name, total=answer.length, unit="B", unit_scale=True, disable=None) as bar,
            ):
                while block := answer.read(BLOCK):
                    out.write(block)
                    bar.update(len(block))
        except FAILURES as error:
            reasons.append(f"{address}: {_one_line(error)}")
        else:
            if digest_of(file, algorithm) == digest:
                return
            reasons.append(f"{address}: arrived altered")
    raise OSError("; ".join(reasons))


def ensure(
    title: str,
    folder: Path,
    damaged: Callable[[Path], list[str]],
    bring: Callable[[Path, list[str]], None],
) -> None:
    """Make sure that the files of a data set lie in a folder and are whole, fetching those that are not.

    Args:
        title: of the data set, for messages.
        damaged: names the files that are missing, truncated or altered in a folder.
        bring: puts the files of these names into a temporary folder; only files that are whole leave it.

    Raises:
        DataError: they cannot be had, or the folder cannot be written.
    """
    try:
        if not damaged(folder):
            return
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / ".lock", f"fetching {title} into {folder}", SECONDS_FOR_ANOTHER):
            names = damaged(folder)  # again: another run may have fetched them meanwhile
            if names:
                log.info("Fetching %s into %s (%s)", title, folder, ", ".join(names))
                with tempfile.TemporaryDirectory(dir=folder, prefix=".fetching-") as temporary:
                    _bring_whole(title, folder, Path(temporary), names, damaged, bring)
                    for file in sorted(Path(temporary).iterdir()):
                        os.replace(file, folder / file.name)
    except Timeout as error:
        raise DataError(f"dataset.root: another run has been fetching {title} into {folder} for too long") from error
    except OSError as error:
        raise DataError(f"dataset.root: {error}") from error


def _bring_whole(
    title: str,
    folder: Path,
    temporary: Path,
    names: list[str],
    damaged: Callable[[Path], list[str]],
    bring: Callable[[Path, list[str]], None],
) -> None:
    advice = f"Run once with network access, or put its unpacked files into {folder}"
    try:
        bring(temporary, names)
    except FAILURES as error:
        raise DataError(f"{title} could not be fetched: {_one_line(error)}. {advice}") from error
    wrong = [name for name in damaged(temporary) if name in names]
    if wrong:
        raise DataError(f"{title} could not be fetched: {', '.join(wrong)} arrived altered. {advice}")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
