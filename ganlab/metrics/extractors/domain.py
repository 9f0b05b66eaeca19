"""The `domain` extractor: a classifier trained once on the dataset's own kind of images and cached beside the data."""

from __future__ import annotations

import hashlib
import io
import logging
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from filelock import FileLock
from torch import Tensor, nn

from ganlab.config.entries import check_structure
from ganlab.data.dataset import Dataset, Examples, labelled, load_held_out
from ganlab.data.folders import cache_folder
from ganlab.errors import CheckpointError, ConfigError, OperationalError
from ganlab.files import replace_file
from ganlab.metrics.extractors.classifier import Classifier, Recipe, accuracy, train
from ganlab.metrics.extractors.extractor import NetworkExtractor
from ganlab.metrics.extractors.weights import hash_of
from ganlab.runs import checkpoints

log = logging.getLogger(__name__)

ONE_IN = 10  # without a test set, every tenth image is held out
RECIPE = Recipe()


def make_domain(dataset: Dataset, device: torch.device, recipe: Recipe = RECIPE) -> NetworkExtractor:
    """Penultimate-layer features and class probabilities of a classifier, which is trained on first use.

    Images with a multiple of the classifier's channels, such as stacked MNIST, are split along the channels. If the
    dataset has a subset of the classifier's classes, for example two digits, the probabilities cover only that subset.

    Raises:
        ConfigError: the dataset has no classes, or too few images.
        OperationalError: the classifier cannot be stored.
    """
    domain = labelled(dataset)
    if len(domain.classes) < 2:
        raise ConfigError(
            f"metrics.extractor=domain: {domain.name} has no classes to train a classifier on; use one of "
            "pixels, random, inception, or the dotted name of your own network"
        )
    splits = split(domain)
    trained = load_or_train(domain, splits, recipe)
    network = PerChannels(trained.network, domain.shape[0], class_subset(dataset, domain))
    return NetworkExtractor(
        "domain",
        hash_of(network, "domain"),  # the class subset follows from the dataset, which has a hash of its own
        about(domain.name, splits, trained.accuracy),
        network,
        dataset.shape,
        device,
    )


def class_subset(dataset: Dataset, domain: Dataset) -> list[int] | None:
    """The classifier's classes that the dataset has; None: use all, because it has all, fewer than two, or others."""
    if not set(dataset.classes) < set(domain.classes) or len(dataset.classes) < 2:
        return None
    return [domain.classes.index(name) for name in dataset.classes]


class PerChannels(nn.Module):
    """Applies a classifier of C-channel images to each group of C channels of images with k C channels.

    k is usually 1. The features are concatenated, [N, 128 k]. The classes are all combinations, [N, K^k]: for stacked
    digits a, b, c, class 100 a + 10 b + c has the product of the three probabilities.

    Args:
        channels: number of channels C of the classifier.
        subset: indices of the classes to keep; None: all.
    """

    def __init__(self, classifier: Classifier, channels: int, subset: list[int] | None = None) -> None:
        super().__init__()
        self.classifier = classifier
        self.channels = channels
        self.subset = subset

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        num, _, height, width = images.shape
        parts = (images * 2 - 1).reshape(-1, self.channels, height, width)  # [N k, C, H, W]
        features, logits = self.classifier(parts.contiguous(memory_format=torch.channels_last))
        logits = logits if self.subset is None else logits[:, self.subset]
        joint, *others = logits.softmax(1).view(num, -1, logits.shape[1]).unbind(1)  # k of [N, K]
        for other in others:
            joint = (joint[:, :, None] * other[:, None, :]).flatten(1)
        return features.reshape(num, -1), joint


class Splits(NamedTuple):
    """Labelled images for training and testing a classifier.

    Attributes:
        has_test_set: True if `testing` is the dataset's own test set, False if it is a tenth of the only set.
    """

    training: Examples
    testing: Examples
    has_test_set: bool


def split(domain: Dataset) -> Splits:
    """Load the dataset and its test set; without a test set, hold out every tenth image instead.

    Raises:
        ConfigError: there are too few images.
    """
    examples = domain.load()
    test_set = load_held_out(domain)
    if test_set is not None:
        return Splits(examples, test_set, True)
    if len(examples) < 2 * ONE_IN:
        raise ConfigError(
            f"metrics.extractor=domain: {domain.name} has {len(examples)} images; a classifier needs at least "
            f"{2 * ONE_IN}"
        )
    held_out = torch.arange(len(examples)) % ONE_IN == ONE_IN - 1  # has all classes even if images are sorted by class
    return Splits(_subset(examples, ~held_out), _subset(examples, held_out), False)


def _subset(examples: Examples, mask: Tensor) -> Examples:
    return replace(examples, data=examples.data[mask], labels=examples.labels[mask])


def about(name: str, splits: Splits, accuracy: float) -> str:
    """One line about the training data and the accuracy of the classifier."""
    num_train, num_test, percent = len(splits.training), len(splits.testing), f"{100 * accuracy:.1f} %"
    source = splits.training.source
    if splits.has_test_set:
        return f"classifier of {name}, {num_train:,} images from {source}, test accuracy {percent}"
    return (
        f"classifier of {name}, {num_train:,} of the {num_train + num_test:,} images from {source}, accuracy {percent} "
        f"on the other {num_test:,}"
    )


class Trained(NamedTuple):
    network: Classifier
    accuracy: float


def load_or_train(domain: Dataset, splits: Splits, recipe: Recipe) -> Trained:
    """Load the cached classifier, or train one and cache it. Waits if another run is training the same one.

    Raises:
        OperationalError: the classifier cannot be stored.
    """
    folder = folder_for(domain)
    file = folder / f"domain-{_key(domain, splits, recipe)}.pt"
    try:
        with FileLock(file.with_suffix(".lock")):
            return _read(file, domain) or _train(file, domain, splits, recipe)
    except OSError as error:
        raise OperationalError(f"metrics.extractor=domain: {file}: {error.strerror or error}") from error


def folder_for(domain: Dataset) -> Path:
    """The folder for classifiers: beside the data or, if that is not writable, in the user's cache.

    Raises:
        OperationalError: neither is writable.
    """
    beside = [Path(root) for root in [getattr(domain, "root", None)] if root is not None and Path(root).is_dir()]
    reasons = []
    for place in (*beside, cache_folder()):
        folder = place / "extractors"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            reasons.append(f"{folder}: {error.strerror}")
        else:
            return folder
    raise OperationalError(f"metrics.extractor=domain: no writable folder for the classifier: {'; '.join(reasons)}")


def _key(domain: Dataset, splits: Splits, recipe: Recipe) -> str:
    """A hash of everything that the weights depend on."""
    torch_version = torch.__version__.split(".")[:2]
    data = [part.fingerprint for part in (splits.training, splits.testing)]
    inputs = (domain.shape, len(domain.classes), splits.training.flip, data, tuple(recipe), torch_version)
    return hashlib.sha256(repr(inputs).encode()).hexdigest()[:16]


def _read(file: Path, domain: Dataset) -> Trained | None:
    """Load the cached classifier; None: there is none, or its file is unusable."""
    if not file.is_file():
        return None
    with torch.device("meta"):  # avoids drawing initial weights from torch's global random number generator
        network = Classifier(domain.shape, len(domain.classes))
    expected = {"format": checkpoints.FORMAT, "accuracy": 1.0, "about": "", "network": network.state_dict()}
    try:
        content = checkpoints.read(file)
        check_structure(f"{file}: ", content, expected)
    except CheckpointError as error:
        log.warning("WARNING: the classifier is trained again, because its file is unusable: %s", error)
        return None
    checkpoints.restore_network(network.to_empty(device="cpu"), content["network"])
    return Trained(network.eval().to(memory_format=torch.channels_last), content["accuracy"])


def _train(file: Path, domain: Dataset, splits: Splits, recipe: Recipe) -> Trained:
    log.info("Training a classifier of %s; later runs will reuse it from %s", domain.name, file)
    network = train(splits.training, domain.shape, len(domain.classes), recipe)
    trained = Trained(network, accuracy(network, splits.testing))
    description = about(domain.name, splits, trained.accuracy)
    log.info("Trained the %s", description)
    content = {"format": checkpoints.FORMAT, "accuracy": trained.accuracy, "about": description}
    buffer = io.BytesIO()
    torch.save(content | {"network": network.state_dict()}, buffer)
    replace_file(file, buffer.getvalue())
    return trained
