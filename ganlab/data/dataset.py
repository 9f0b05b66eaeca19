"""The interface of datasets, and the examples that they load."""

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
from ganlab.data.units import NO_UNITS, AffineUnits
from ganlab.errors import DataError

log = logging.getLogger(__name__)


class Samples(NamedTuple):
    """Images [B, C, H, W] in [0, 1] or points [B, D] in data units, and the labels [B] they were generated for."""

    x: Tensor
    label: Tensor | None


@dataclass(frozen=True)
class Examples:
    """The loaded examples of a dataset.

    Attributes:
        data: images, uint8 [N, C, H, W]; or points, float32 [N, D] in [-1, 1].
        labels: class indices from 0, int64 [N].
        source: origin of the examples, for messages and records.
        units: the original units of points.
        flip: whether to mirror training images left to right at random.
    """

    data: Tensor
    labels: Tensor
    source: str
    units: AffineUnits = NO_UNITS
    flip: bool = False

    @classmethod
    def of_points(cls, points: Tensor, labels: Tensor, source: str, units: AffineUnits = NO_UNITS) -> Examples:
        """Create examples from points [N, D] in the given units."""
        return cls(units.inside(points).float(), labels, source, units)

    def __len__(self) -> int:
        return len(self.data)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the data, units and labels; it distinguishes datasets with the same name."""
        # Images have no units. Leaving these out keeps older classifiers and scores valid.
        header = (tuple(self.data.shape), self.data.dtype, *([] if self.units == NO_UNITS else [self.units]))
        digest = hashlib.sha256(str(header).encode())
        for tensor in (self.data, self.labels):  # hashed in place, because a copy would double the memory
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
    """The properties of a dataset that the networks depend on, stored in checkpoints.

    They make a checkpoint usable without the data.

    Attributes:
        name, shape, classes: those of the `Dataset`.
        units: those of its `Examples`.
    """

    name: str
    shape: tuple[int, ...]
    classes: tuple[str, ...]
    units: AffineUnits

    def plain(self) -> DescriptionEntry:
        """Convert to lists and numbers, for a file."""
        units: UnitsEntry = {"center": list(self.units.center), "scale": self.units.scale}
        return {"name": self.name, "shape": list(self.shape), "classes": list(self.classes), "units": units}

    @classmethod
    def read(cls, entry: DescriptionEntry) -> Description:
        units = AffineUnits(tuple(entry["units"]["center"]), entry["units"]["scale"])
        return cls(entry["name"], tuple(entry["shape"]), tuple(entry["classes"]), units)


@runtime_checkable
class Dataset(Protocol):
    """A dataset: properties that are known before any data are read, and a method that loads the examples."""

    name: str
    shape: tuple[int, ...]  # shape of one example: (C, H, W) for images, (D,) for points
    num_examples: int | None  # None: unknown before loading
    classes: tuple[str, ...]  # class names in the order of the labels; empty: no classes, all labels are 0

    def check(self) -> None:
        """Check the settings and folders without reading or downloading any data.

        Raises:
            ganlab.errors.ConfigError: `load` would fail; the message names the key, its value and what is allowed.
        """

    def load(self) -> Examples:
        """Load the examples, downloading them first if needed.

        Raises:
            ganlab.errors.DataError: the examples cannot be read or downloaded.
        """
        ...


@runtime_checkable
class HasHeldOut(Protocol):
    """A dataset with held-out examples of the same kind, which are never used for training."""

    def held_out(self) -> Dataset | None: ...


@runtime_checkable
class HasFresh(Protocol):
    """A dataset whose distribution is known, so that new examples can be sampled."""

    def fresh(self, num: int, seed: int) -> Examples:
        """Sample `num` new examples, independent of the dataset and its held-out set."""
        ...


@runtime_checkable
class HasLabelled(Protocol):
    """A dataset derived from a larger labelled one, which is better for training a classifier."""

    def labelled(self) -> Dataset: ...


def held_out(dataset: Dataset) -> Dataset | None:
    """The dataset of held-out examples: the test set, or points drawn with another seed. None: there is none.

    Missing files of a held-out set are only noticed when it is loaded.
    """
    return dataset.held_out() if isinstance(dataset, HasHeldOut) else None


def load_held_out(dataset: Dataset) -> Examples | None:
    """Load the held-out examples; None: there are none, or they cannot be loaded."""
    other = held_out(dataset)
    try:
        return None if other is None else other.load()
    except DataError as error:
        log.info("The held-out set of %s is not available: %s", dataset.name, error)
        return None


def labelled(dataset: Dataset) -> Dataset:
    """The dataset to train a classifier on for this kind of data; for the fives of MNIST, this is all of MNIST."""
    return dataset.labelled() if isinstance(dataset, HasLabelled) else dataset
