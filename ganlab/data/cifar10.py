"""CIFAR-10, downloaded from torchvision's URL. Its pickles are opened only after an MD5 check."""

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

from ganlab.config.effects import Fixed, NoEffect
from ganlab.config.ranges import Seconds
from ganlab.data.dataset import Examples
from ganlab.data.download import download, ensure, md5_of
from ganlab.data.folders import cache_folder, check_folder
from ganlab.errors import DataError


class CIFAR10:
    """60,000 colour photographs of 32x32 pixels in ten classes (Krizhevsky, 2009).

    Args:
        root: folder that contains or will contain `cifar-10-batches-py/`, in torchvision's layout; None: the user's
            cache.
        train: True for the training set of 50,000 images, False for the test set of 10,000.
        mirror: URL of a folder with `cifar-10-python.tar.gz`; None: torchvision's URL.
        timeout: maximum time without data from a server, in seconds.
        flip: whether to mirror training images left to right at random.
    """

    name = "cifar10"
    shape = (3, 32, 32)
    num_examples = None
    classes = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

    def __init__(
        self,
        root: NoEffect[str | None] = None,
        train: Fixed[bool] = True,
        mirror: NoEffect[str | None] = None,
        timeout: NoEffect[Seconds] = 20.0,
        flip: Fixed[bool] = True,
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
        ensure("CIFAR-10", folder, self._damaged, self._fetch)
        batches = [_read(folder / name, md5) for name, md5 in self._md5().items()]
        data = np.concatenate([batch["data"] for batch in batches]).reshape(-1, *self.shape)  # from rows of 3,072 bytes
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
        """File name -> MD5 for the files of this split."""
        published = _published()
        return dict(published.train_list if self.train else published.test_list)

    def _damaged(self, folder: Path) -> list[str]:
        return [name for name, md5 in self._md5().items() if md5_of(folder / name) != md5]

    def _fetch(self, folder: Path, names: list[str]) -> None:
        published = _published()
        address = f"{self.mirror.rstrip('/')}/{published.filename}" if self.mirror else published.url
        packed = folder / published.filename
        download([address], packed, published.tgz_md5, self.timeout)
        with tarfile.open(packed) as archive:
            for name in dict((*published.train_list, *published.test_list)):  # one archive contains both splits
                member = archive.getmember(f"{published.base_folder}/{name}")
                member.name = name
                archive.extract(member, folder, filter="data")
        packed.unlink()


def _published() -> Any:
    from torchvision.datasets import CIFAR10 as TorchvisionCIFAR10

    return TorchvisionCIFAR10


def _read(file: Path, md5: str) -> dict[str, Any]:
    """Read one batch file. A pickle can run code, so the MD5 of the exact bytes is checked before unpickling.

    Raises:
        DataError: the bytes are not those that were published.
    """
    content = file.read_bytes()
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
        raise DataError(f"dataset.root: {file}: changed while it was being read")
    with warnings.catch_warnings():  # NumPy warns about the 2009 format of these pickles
        warnings.simplefilter("ignore")
        return pickle.loads(content, encoding="latin1")  # noqa: S301
