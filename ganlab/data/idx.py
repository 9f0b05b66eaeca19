"""The idx file format of MNIST, and the datasets FashionMNIST and KMNIST that use it."""

from __future__ import annotations

import copy
import gzip
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from torch import Tensor

from ganlab.config.effects import Fixed, NoEffect
from ganlab.config.ranges import Seconds
from ganlab.data.dataset import Examples
from ganlab.data.download import download, ensure, md5_of
from ganlab.data.folders import cache_folder, check_folder


class IdxFiles:
    """The image and label file of one split, in torchvision's layout: `root/<title>/raw/*-ubyte`.

    Args:
        title: name of the torchvision class, which provides the addresses and the MD5 of the archives.
        root: folder of the data; None: the user's cache.
        train: True for the training set, False for the test set.
        mirror: URL of a folder with the archives; None: torchvision's URLs.
        timeout: maximum time without data from a server, in seconds.
        md5: MD5 of the unpacked files by name. If None, the MD5 of a downloaded file is stored beside it, and any
            other file is accepted if its length matches its header.
    """

    def __init__(
        self,
        title: str,
        root: str | None,
        train: bool,
        mirror: str | None,
        timeout: float,
        md5: Mapping[str, str] | None = None,
    ) -> None:
        self.title = title
        self.root = Path(root).expanduser() if root else cache_folder()
        self.raw = self.root / title / "raw"
        self.train = train
        self.mirror = mirror
        self.timeout = timeout
        self.md5 = md5

    @property
    def names(self) -> list[str]:
        split = "train" if self.train else "t10k"
        return [f"{split}-images-idx3-ubyte", f"{split}-labels-idx1-ubyte"]

    def split(self, train: bool) -> IdxFiles:
        """A copy of this object for the training or the test set."""
        other = copy.copy(self)
        other.train = train
        return other

    def check(self) -> None:
        check_folder("dataset.root", self.root)

    def load(self) -> tuple[Tensor, Tensor]:
        """Load images, uint8 [N, 1, H, W], and labels, int64 [N]; download missing or damaged files first.

        Raises:
            ganlab.errors.DataError: the files cannot be downloaded.
        """
        from torchvision.datasets.mnist import read_image_file, read_label_file

        ensure(self.title, self.raw, self._damaged, self._fetch)
        images, labels = (str(self.raw / name) for name in self.names)
        return read_image_file(images)[:, None], read_label_file(labels)

    def _damaged(self, folder: Path) -> list[str]:
        return [name for name in self.names if not self._is_intact(folder / name)]

    def _is_intact(self, file: Path) -> bool:
        stored = md5_file(file)
        if self.md5:
            return md5_of(file) == self.md5[file.name]
        if stored.is_file():
            return md5_of(file) == stored.read_text().partition(" ")[0]
        return has_length_of_header(file)

    def _fetch(self, folder: Path, names: list[str]) -> None:
        published = self._published()
        mirrors = [self.mirror.rstrip("/") + "/"] if self.mirror else published.mirrors
        md5 = dict(published.resources)
        for name in names:
            file, packed = folder / name, folder / f"{name}.gz"
            download([mirror + packed.name for mirror in mirrors], packed, md5[packed.name], self.timeout)
            with gzip.open(packed) as content, file.open("wb") as out:
                shutil.copyfileobj(content, out)
            packed.unlink()
            if not self.md5:
                md5_file(file).write_text(f"{md5_of(file)}  {name}\n")

    def _published(self) -> Any:
        import torchvision

        return getattr(torchvision.datasets, self.title)


def md5_file(file: Path) -> Path:
    """The file that stores the MD5 of a downloaded file, in the format of `md5sum`."""
    return file.with_name(f"{file.name}.md5")


def has_length_of_header(file: Path) -> bool:
    """Whether an idx file of bytes exists and has the length given by its header."""
    if not file.is_file():
        return False
    num_dimensions = 3 if "idx3" in file.name else 1
    with file.open("rb") as content:
        magic, header = content.read(4), content.read(4 * num_dimensions)
    sizes = [int.from_bytes(header[i : i + 4], "big") for i in range(0, len(header), 4)]
    length = 4 + 4 * num_dimensions + math.prod(sizes)
    return magic == bytes([0, 0, 8, num_dimensions]) and file.stat().st_size == length


class LikeMNIST:
    """Base class of datasets with the file format and the image shape of MNIST.

    Args:
        flip: whether to mirror training images left to right at random.
    """

    shape = (1, 28, 28)
    num_examples = None

    def __init__(self, files: IdxFiles, flip: bool = False) -> None:
        self.files, self.root, self.flip = files, files.root, flip

    def held_out(self) -> Self | None:
        return self._split(train=False) if self.files.train else None

    def labelled(self) -> Self:
        return self._split(train=True)

    def _split(self, train: bool) -> Self:
        other = copy.copy(self)
        other.files = self.files.split(train)
        return other

    def check(self) -> None:
        self.files.check()

    def load(self) -> Examples:
        images, labels = self.files.load()
        return Examples(images, labels, "torchvision", flip=self.flip)


class FashionMNIST(LikeMNIST):
    """70,000 greyscale images of clothing, 28x28 pixels (Xiao, Rasul and Vollgraf, 2017, arXiv:1708.07747).

    Args:
        root: folder that contains or will contain `FashionMNIST/raw/*-ubyte`; None: the user's cache.
        train: True for the training set of 60,000 images, False for the test set of 10,000.
        mirror: URL of a folder with the four `.gz` files; None: torchvision's URLs.
        timeout: maximum time without data from a server, in seconds.
        flip: whether to mirror training images left to right at random.
    """

    name = "fashion_mnist"
    classes = (
        "T-shirt_top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle_boot",
    )

    def __init__(
        self,
        root: NoEffect[str | None] = None,
        train: Fixed[bool] = True,
        mirror: NoEffect[str | None] = None,
        timeout: NoEffect[Seconds] = 20.0,
        flip: Fixed[bool] = False,
    ) -> None:
        super().__init__(IdxFiles("FashionMNIST", root, train, mirror, timeout), flip)


class KMNIST(LikeMNIST):
    """70,000 images of cursive hiragana in ten classes, 28x28 pixels (Clanuwat et al., 2018, arXiv:1812.01718).

    Args:
        root: folder that contains or will contain `KMNIST/raw/*-ubyte`; None: the user's cache.
        train: True for the training set of 60,000 images, False for the test set of 10,000.
        mirror: URL of a folder with the four `.gz` files; None: torchvision's URLs.
        timeout: maximum time without data from a server, in seconds.
    """

    name = "kmnist"
    classes = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")

    def __init__(
        self,
        root: NoEffect[str | None] = None,
        train: Fixed[bool] = True,
        mirror: NoEffect[str | None] = None,
        timeout: NoEffect[Seconds] = 20.0,
    ) -> None:
        super().__init__(IdxFiles("KMNIST", root, train, mirror, timeout))
