"""What every dataset offers, and what it holds once loaded."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, NamedTuple, Protocol, runtime_checkable

from annotated_types import Ge, Le
from pydantic import with_config
from torch import Tensor
from typing_extensions import TypedDict

from ganlab.config.entries import STRICT
from ganlab.config.ranges import Positive
from ganlab.data.units import AS_INSIDE, AffineUnits
from ganlab.errors import DataError

log = logging.getLogger(__name__)


class Samples(NamedTuple):
    """Examples as they look outside, images in [0, 1] [B, C, H, W] or points [B, D], and the classes [B] asked for."""

    x: Tensor
    label: Tensor | None


@dataclass(frozen=True)
class Examples:
    """The examples of a dataset, loaded.

    Attributes:
        data: images, uint8 [N, C, H, W]; or points, float32 [N, D] in [-1, 1].
        labels: int64 [N], numbered from 0.
        source: where they came from.
        units: that the points came in.
        flip: whether batches may be mirrored left to right.
    """

    data: Tensor
    labels: Tensor
    source: str
    units: AffineUnits = AS_INSIDE
    flip: bool = False

    @classmethod
    def of_points(cls, points: Tensor, labels: Tensor, source: str, units: AffineUnits = AS_INSIDE) -> Examples:
        """The examples of points [N, D] in units of their own."""
        return cls(units.inside(points).float(), labels, source, units)

    def __len__(self) -> int:
        return len(self.data)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the data, their units and labels, to tell two datasets of one name apart."""
        # Without units where there are none, so that classifiers and scores of images that were kept stay valid
        told = (tuple(self.data.shape), self.data.dtype, *([] if self.units == AS_INSIDE else [self.units]))
        digest = hashlib.sha256(str(told).encode())
        for tensor in (self.data, self.labels):  # read where they lie: a copy would take their memory once more
            digest.update(tensor.contiguous().numpy().data)
        return digest.hexdigest()[:16]


@with_config(STRICT)
class UnitsEntry(TypedDict):
    center: list[float]
    scale: Positive


@with_config(STRICT)
class DescriptionEntry(TypedDict):
    """The result of `Description.plain`."""

    name: str
    shape: list[Annotated[int, Ge(1), Le(2**24)]]
    classes: list[str]
    units: UnitsEntry


@dataclass(frozen=True)
class Description:
    """What the networks were sized by, as a checkpoint keeps it; the data themselves may have gone.

    Attributes:
        name, shape, classes: the dataset's.
        units: the examples'.
    """

    name: str
    shape: tuple[int, ...]
    classes: tuple[str, ...]
    units: AffineUnits

    def plain(self) -> DescriptionEntry:
        """As lists and numbers, for a file."""
        units: UnitsEntry = {"center": list(self.units.center), "scale": self.units.scale}
        return {"name": self.name, "shape": list(self.shape), "classes": list(self.classes), "units": units}

    @classmethod
    def read(cls, entry: DescriptionEntry) -> Description:
        units = AffineUnits(tuple(entry["units"]["center"]), entry["units"]["scale"])
        return cls(entry["name"], tuple(entry["shape"]), tuple(entry["classes"]), units)


@runtime_checkable
class Dataset(Protocol):
    """Facts that are known before any data are read, and the reading."""

    name: str
    shape: tuple[int, ...]  # of one example: (C, H, W) for images, (D,) for points
    num_examples: int | None  # where it is known beforehand
    classes: tuple[str, ...]  # their names in the order of the labels; empty: the labels mean nothing

    def check(self) -> None:
        """Look for what would keep `load` from working, without reading or fetching any data.

        Raises:
            ganlab.errors.ConfigError: with the key, its value and what is allowed.
        """

    def load(self) -> Examples:
        """Read the examples, fetching them first where that is needed.

        Raises:
            ganlab.errors.DataError: they cannot be had.
        """
        ...


@runtime_checkable
class HasHeldOut(Protocol):
    """A dataset with examples of the same kind that no run of it learns from."""

    def held_out(self) -> Dataset | None: ...


@runtime_checkable
class HasFresh(Protocol):
    """A dataset whose distribution is known, so that new examples can be drawn."""

    def fresh(self, num: int, seed: int) -> Examples:
        """`num` new examples from the distribution, independent of the dataset and its held-out set."""
        ...


@runtime_checkable
class HasLabelled(Protocol):
    """A dataset that is part of, or made from, one that a classifier is better trained on."""

    def labelled(self) -> Dataset: ...


def held_out(dataset: Dataset) -> Dataset | None:
    """Other examples of the same kind: the test set, or points drawn by another seed. None: there are none.

    Where they lie in files, those may turn out to be missing only when it is loaded.
    """
    return dataset.held_out() if isinstance(dataset, HasHeldOut) else None


def load_held_out(dataset: Dataset) -> Examples | None:
    """The held-out examples, loaded; None: there are none, or none that can be had here."""
    other = held_out(dataset)
    try:
        return None if other is None else other.load()
    except DataError as error:
        log.info("There is no held-out set of %s here: %s", dataset.name, error)
        return None


def labelled(dataset: Dataset) -> Dataset:
    """The training images and classes of a classifier that knows this kind of data: of MNIST's fives, all of MNIST."""
    return dataset.labelled() if isinstance(dataset, HasLabelled) else dataset
