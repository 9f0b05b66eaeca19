"""The Inception network of 2015 that published FIDs are measured by, through torch-fidelity, an optional package."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path

import torch
from torch import Tensor, nn

from ganlab.data.dataset import Dataset
from ganlab.data.download import digest_of, download, ensure
from ganlab.errors import ConfigError, DataError, OperationalError
from ganlab.metrics.extractors.extractor import NetworkExtractor

ADDRESS = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
NAME = "weights-inception-2015-12-05-6726825d.pth"
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
SECONDS = 20.0  # that the server may stay silent


def make_inception(dataset: Dataset, device: torch.device) -> NetworkExtractor:
    """Features of the last pooling, [N, 2048], and the odds of 1,008 classes that the Inception score is made of.

    Raises:
        ConfigError: torch-fidelity is not installed, or the images have neither 1 nor 3 channels.
        OperationalError: the weights cannot be fetched.
    """
    if importlib.util.find_spec("torch_fidelity") is None:
        raise ConfigError("metrics.extractor=inception: needs a package: pip install torch-fidelity")
    if dataset.shape[0] not in (1, 3):
        raise ConfigError(f"metrics.extractor=inception: is for images of 1 or 3 channels, not {dataset.shape[0]}")
    network = Inception(fetch_weights())
    about = "Inception of 2015 by torch-fidelity, 2,048 features"
    return NetworkExtractor("inception", SHA256[:16], about, network, dataset.shape, device, at_a_time=50)


class Inception(nn.Module):
    """torch-fidelity's network, which resizes to 299x299 as TensorFlow 1 did."""

    def __init__(self, weights: Path) -> None:
        super().__init__()
        # The package opens the file as a pickle, which may hold code; this refuses one that does
        torch.load(weights, map_location="cpu", weights_only=True)
        module = importlib.import_module("torch_fidelity.feature_extractor_inceptionv3")
        with torch.random.fork_rng(devices=[]):  # layers draw initial weights before these replace them
            self.network = module.FeatureExtractorInceptionV3(
                "inception", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(weights)
            )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features, logits = self.network(to_bytes(images).expand(-1, 3, -1, -1))
        return features, logits.softmax(1)


def to_bytes(images: Tensor) -> Tensor:
    """Images in [0, 1] as the nearest bytes: those that were made from bytes become what they were."""
    return (images * 255).round().to(torch.uint8)


def fetch_weights() -> Path:
    """Where the weights lie: torch hub's folder, where torch-fidelity and torchmetrics keep them too.

    Raises:
        OperationalError: they cannot be had.
    """
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    try:
        ensure("Inception's weights", folder, _damaged, _bring)
    except DataError as error:
        raise OperationalError(
            f"metrics.extractor=inception: {str(error).removeprefix('dataset.root: ')}; or choose another extractor"
        ) from error
    return folder / NAME


def _damaged(folder: Path) -> list[str]:
    return [NAME] if digest_of(folder / NAME, "sha256") != SHA256 else []


def _bring(folder: Path, names: list[str]) -> None:
    for name in names:
        download([ADDRESS + name], folder / name, SHA256, SECONDS, algorithm="sha256")
