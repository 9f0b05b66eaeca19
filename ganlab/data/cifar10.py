"""CIFAR-10: through torchvision's addresses, its pickles opened only once their md5 is right."""

from __future__ import annotations

import copy
import hashlib
import pickle
import tarfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ganlab.config.ranges import Seconds
from ganlab.data.dataset import Examples
from ganlab.data.download import download, ensure, md5_of
from ganlab.data.folders import cache_folder, check_folder
from ganlab.errors import DataError


class CIFAR10:
    """60,000 photographs of ten kinds of things, 32x32 pixels in colour (Krizhevsky, 2009).

    Args:
        root: folder that holds or will hold `cifar-10-batches-py/`, as torchvision lays it out; None: the user's cache.
        train: the training set of 50,000, or the test set of 10,000.
        mirror: address of a folder with `cifar-10-python.tar.gz`; None: the one that torchvision knows.
        timeout: seconds that a server may stay silent.
        flip: whether batches may be mirrored left to right.
    """

    name = "cifar10"
    shape = (3, 32, 32)
    num_examples = None
    classes = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

    def __init__(
        self,
        root: str | None = None,
        train: bool = True,
        mirror: str | None = None,
        timeout: Seconds = 20.0,
        flip: bool = True,
    ) -> None:
        self.root = Path(root).expanduser() if root else cache_folder()
        self.train = train
        self.mirror = mirror
        self.timeout = timeout
        self.flip = flip

    def check(self) -> None:
        check_folder("dataset.root", self.root)

    def load(self) -> Examples:
        folder = self.root / _published().base_folder
        ensure("CIFAR-10", folder, self._damaged, self._bring)
        batches = [_read(folder / name, md5) for name, md5 in self._md5().items()]
        data = np.concatenate([batch["data"] for batch in batches]).reshape(-1, *self.shape)  # rows of 3,072 bytes
        labels = [label for batch in batches for label in batch["labels"]]
        return Examples(torch.from_numpy(data), torch.tensor(labels), "torchvision", flip=self.flip)

    def held_out(self) -> CIFAR10 | None:
        return self._split(train=False) if self.train else None

    def labelled(self) -> CIFAR10:
        return self._split(train=True)

    def _split(self, train: bool) -> CIFAR10:
        other = copy.copy(self)
        other.train = train
        return other

    def _md5(self) -> dict[str, str]:
        """Of the files of this split, by name."""
        published = _published()
        return dict(published.train_list if self.train else published.test_list)

    def _damaged(self, folder: Path) -> list[str]:
        return [name for name, md5 in self._md5().items() if md5_of(folder / name) != md5]

    def _bring(self, folder: Path, names: list[str]) -> None:
        published = _published()
        address = f"{self.mirror.rstrip('/')}/{published.filename}" if self.mirror else published.url
        packed = folder / published.filename
        download([address], packed, published.tgz_md5, self.timeout)
        with tarfile.open(packed) as archive:
            for name in dict((*published.train_list, *published.test_list)):  # both splits: they come together
                member = archive.getmember(f"{published.base_folder}/{name}")
                member.name = name
                archive.extract(member, folder, filter="data")
        packed.unlink()


def _published() -> Any:
    from torchvision.datasets import CIFAR10 as TorchvisionCIFAR10

    return TorchvisionCIFAR10


def _read(file: Path, md5: str) -> dict[str, Any]:
    """One batch. A pickle can run code, so what is unpickled are the very bytes whose md5 is right.

    Raises:
        DataError: they are not those that were published.
    """
    content = file.read_bytes()
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
        raise DataError(f"dataset.root: {file}: was altered while it was being read")
    with warnings.catch_warnings():  # it was written by a NumPy of 2009, in a way that today's warns of
        warnings.simplefilter("ignore")
        return pickle.loads(content, encoding="latin1")  # noqa: S301
