"""Images and labels in MNIST's file format, which several data sets share, and two of these."""

from __future__ import annotations

import copy
import gzip
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from torch import Tensor

from ganlab.config.ranges import Seconds
from ganlab.data.dataset import Examples
from ganlab.data.download import download, ensure, md5_of
from ganlab.data.folders import cache_folder, check_folder


class IdxFiles:
    """The two files of one split, as torchvision lays them out: `root/<title>/raw/*-ubyte`.

    Args:
        title: the name of torchvision's class, which knows the addresses and the archives' md5.
        root: None: the user's cache.
        md5: of the unpacked files. Where it is not known, that of a fetched file is written beside it, and a file that
            somebody else put there is believed if it is as long as its header says.
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
        """The files of one split, wherever these lie."""
        other = copy.copy(self)
        other.train = train
        return other

    def check(self) -> None:
        check_folder("dataset.root", self.root)

    def load(self) -> tuple[Tensor, Tensor]:
        """Images, uint8 [N, 1, H, W], and labels, int64 [N], fetched where they are missing or damaged.

        Raises:
            ganlab.errors.DataError: they cannot be had.
        """
        from torchvision.datasets.mnist import read_image_file, read_label_file

        ensure(self.title, self.raw, self._damaged, self._bring)
        images, labels = (str(self.raw / name) for name in self.names)
        return read_image_file(images)[:, None], read_label_file(labels)

    def _damaged(self, folder: Path) -> list[str]:
        return [name for name in self.names if not self._is_whole(folder / name)]

    def _is_whole(self, file: Path) -> bool:
        note = md5_note(file)
        if self.md5:
            return md5_of(file) == self.md5[file.name]
        if note.is_file():
            return md5_of(file) == note.read_text().partition(" ")[0]
        return is_as_long_as_its_header_says(file)

    def _bring(self, folder: Path, names: list[str]) -> None:
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
                md5_note(file).write_text(f"{md5_of(file)}  {name}\n")

    def _published(self) -> Any:
        import torchvision

        return getattr(torchvision.datasets, self.title)


def md5_note(file: Path) -> Path:
    """Where the md5 of a file stands that this package fetched, in the format of `md5sum`."""
    return file.with_name(f"{file.name}.md5")


def is_as_long_as_its_header_says(file: Path) -> bool:
    """Whether a file of bytes in the idx format is there and not truncated."""
    if not file.is_file():
        return False
    num_dimensions = 3 if "idx3" in file.name else 1
    with file.open("rb") as content:
        magic, header = content.read(4), content.read(4 * num_dimensions)
    sizes = [int.from_bytes(header[i : i + 4], "big") for i in range(0, len(header), 4)]
    length = 4 + 4 * num_dimensions + math.prod(sizes)
    return magic == bytes([0, 0, 8, num_dimensions]) and file.stat().st_size == length


class LikeMNIST:
    """What the datasets share that come in the files, and the shape, of MNIST.

    Args:
        flip: whether batches may be mirrored left to right.
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
    """70,000 articles of clothing in grey, 28x28 pixels (Xiao, Rasul and Vollgraf, 2017, arXiv:1708.07747).

    Args:
        root: folder that holds or will hold `FashionMNIST/raw/*-ubyte`; None: the user's cache.
        train: the training set of 60,000, or the test set of 10,000.
        mirror: address of a folder with the four `.gz` files; None: those that torchvision knows.
        timeout: seconds that a server may stay silent.
        flip: whether batches may be mirrored left to right.
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
        root: str | None = None,
        train: bool = True,
        mirror: str | None = None,
        timeout: Seconds = 20.0,
        flip: bool = False,
    ) -> None:
        super().__init__(IdxFiles("FashionMNIST", root, train, mirror, timeout), flip)


class KMNIST(LikeMNIST):
    """70,000 cursive hiragana of ten kinds, 28x28 pixels (Clanuwat et al., 2018, arXiv:1812.01718).

    Args:
        root: folder that holds or will hold `KMNIST/raw/*-ubyte`; None: the user's cache.
        train: the training set of 60,000, or the test set of 10,000.
        mirror: address of a folder with the four `.gz` files; None: those that torchvision knows.
        timeout: seconds that a server may stay silent.
    """

    name = "kmnist"
    classes = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")

    def __init__(
        self, root: str | None = None, train: bool = True, mirror: str | None = None, timeout: Seconds = 20.0
    ) -> None:
        super().__init__(IdxFiles("KMNIST", root, train, mirror, timeout))
