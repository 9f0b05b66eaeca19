"""A classifier of the dataset's own kind of images as an extractor: trained once, and kept beside the data."""

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

ONE_IN = 10  # images kept out of training where there is no test set
RECIPE = Recipe()


def make_domain(dataset: Dataset, device: torch.device, recipe: Recipe = RECIPE) -> NetworkExtractor:
    """The penultimate layer and the class probabilities of a classifier, trained the first time it is asked for.

    Images of several times the classifier's channels, as of stacked MNIST, are looked at channel by channel. Where the
    dataset has some of the classifier's classes, two digits say, the probabilities are of these alone.

    Raises:
        ConfigError: the dataset has no classes, or too few images.
        OperationalError: there is no place to keep it.
    """
    domain = labelled(dataset)
    if len(domain.classes) < 2:
        raise ConfigError(
            f"metrics.extractor=domain: {domain.name} has no classes that a classifier could learn; must be one of "
            "pixels, random, inception, or the dotted name of your own network"
        )
    splits = split(domain)
    trained = load_or_train(domain, splits, recipe)
    network = PerChannels(trained.network, domain.shape[0], classes_to_choose_among(dataset, domain))
    return NetworkExtractor(
        "domain",
        hash_of(network, "domain"),  # what is chosen among follows from the dataset, whose hash stands beside it
        about(domain.name, splits, trained.accuracy),
        network,
        dataset.shape,
        device,
    )


def classes_to_choose_among(dataset: Dataset, domain: Dataset) -> list[int] | None:
    """Which of the classifier's classes are the dataset's, as of two digits; None: all, or one, or others."""
    if not set(dataset.classes) < set(domain.classes) or len(dataset.classes) < 2:
        return None
    return [domain.classes.index(name) for name in dataset.classes]


class PerChannels(nn.Module):
    """A classifier applied to every C channels of images of k C channels, with k an integer, mostly 1.

    Features are laid side by side, [N, 128 k]. Classes are all combinations, [N, K^k]; of the digits a, b, c the
    probability at 100 a + 10 b + c is the product of theirs.

    Args:
        among: the classes to choose among; None: all.
    """

    def __init__(self, classifier: Classifier, channels: int, among: list[int] | None = None) -> None:
        super().__init__()
        self.classifier = classifier
        self.channels = channels
        self.among = among

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        num, _, height, width = images.shape
        parts = (images * 2 - 1).reshape(-1, self.channels, height, width)  # [N k, C, H, W]
        features, logits = self.classifier(parts.contiguous(memory_format=torch.channels_last))
        logits = logits if self.among is None else logits[:, self.among]
        joint, *others = logits.softmax(1).view(num, -1, logits.shape[1]).unbind(1)  # k of [N, K]
        for other in others:
            joint = (joint[:, :, None] * other[:, None, :]).flatten(1)
        return features.reshape(num, -1), joint


class Splits(NamedTuple):
    """Labelled images to train and to test a classifier on.

    Attributes:
        has_test_set: whether the second are the dataset's own test set; else they are a tenth of its only one.
    """

    training: Examples
    testing: Examples
    has_test_set: bool


def split(domain: Dataset) -> Splits:
    """The dataset and its test set; where that cannot be had, every tenth of its images is kept out instead.

    Raises:
        ConfigError: there are too few images for that.
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
    out = torch.arange(len(examples)) % ONE_IN == ONE_IN - 1  # an even share of each class where they are sorted
    return Splits(_some(examples, ~out), _some(examples, out), False)


def _some(examples: Examples, which: Tensor) -> Examples:
    return replace(examples, data=examples.data[which], labels=examples.labels[which])


def about(name: str, splits: Splits, accuracy: float) -> str:
    """One line for people on how far the classifier can be relied on."""
    learnt, tested, percent = len(splits.training), len(splits.testing), f"{100 * accuracy:.1f} %"
    source = splits.training.source
    if splits.has_test_set:
        return f"classifier of {name}, {learnt:,} images from {source}, test accuracy {percent}"
    return (
        f"classifier of {name}, {learnt:,} of the {learnt + tested:,} images from {source}, accuracy {percent} on the "
        f"other {tested:,}"
    )


class Trained(NamedTuple):
    network: Classifier
    accuracy: float


def load_or_train(domain: Dataset, splits: Splits, recipe: Recipe) -> Trained:
    """The classifier that is kept, or a new one, which then is; another run's training is waited for and used.

    Raises:
        OperationalError: there is no place to keep it.
    """
    folder = folder_for(domain)
    file = folder / f"domain-{_key(domain, splits, recipe)}.pt"
    try:
        with FileLock(file.with_suffix(".lock")):
            return _read(file, domain) or _train(file, domain, splits, recipe)
    except OSError as error:
        raise OperationalError(f"metrics.extractor=domain: {file}: {error.strerror or error}") from error


def folder_for(domain: Dataset) -> Path:
    """Where classifiers are kept: beside the data, or in the user's cache where that cannot be written.

    Raises:
        OperationalError: neither can be written.
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
    raise OperationalError(f"metrics.extractor=domain: no place to keep the classifier: {'; '.join(reasons)}")


def _key(domain: Dataset, splits: Splits, recipe: Recipe) -> str:
    """A hash of all that the weights depend on."""
    torch_version = torch.__version__.split(".")[:2]
    data = [part.fingerprint for part in (splits.training, splits.testing)]
    told = (domain.shape, len(domain.classes), splits.training.flip, data, tuple(recipe), torch_version)
    return hashlib.sha256(repr(told).encode()).hexdigest()[:16]


def _read(file: Path, domain: Dataset) -> Trained | None:
    """What is kept; None: nothing, or nothing that can be used."""
    if not file.is_file():
        return None
    with torch.device("meta"):  # where no initial weights are drawn, which would take from torch's global generator
        network = Classifier(domain.shape, len(domain.classes))
    expected = {"format": checkpoints.FORMAT, "accuracy": 1.0, "about": "", "network": network.state_dict()}
    try:
        content = checkpoints.read(file)
        check_structure(f"{file}: ", content, expected)
    except CheckpointError as error:
        log.warning("WARNING: the classifier is trained again, its file cannot be used: %s", error)
        return None
    checkpoints.restore_network(network.to_empty(device="cpu"), content["network"])
    return Trained(network.eval().to(memory_format=torch.channels_last), content["accuracy"])


def _train(file: Path, domain: Dataset, splits: Splits, recipe: Recipe) -> Trained:
    log.info("Training a classifier of %s, once; it will be kept in %s", domain.name, file)
    network = train(splits.training, domain.shape, len(domain.classes), recipe)
    trained = Trained(network, accuracy(network, splits.testing))
    told = about(domain.name, splits, trained.accuracy)
    log.info("Trained the %s", told)
    content = {"format": checkpoints.FORMAT, "accuracy": trained.accuracy, "about": told}
    buffer = io.BytesIO()
    torch.save(content | {"network": network.state_dict()}, buffer)
    replace_file(file, buffer.getvalue())
    return trained
