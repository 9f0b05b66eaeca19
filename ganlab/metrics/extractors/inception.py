"""The Inception network of 2015, the standard for published FIDs, from the optional package torch-fidelity."""

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
TIMEOUT = 20.0  # seconds without data from the server


def make_inception(dataset: Dataset, device: torch.device) -> NetworkExtractor:
    """Features of the last pooling layer, [N, 2048], and the 1,008 class probabilities of the Inception score.

    Raises:
        ConfigError: torch-fidelity is not installed, or the images do not have 1 or 3 channels.
        OperationalError: the weights cannot be downloaded.
    """
    if importlib.util.find_spec("torch_fidelity") is None:
        raise ConfigError("metrics.extractor=inception: requires torch-fidelity; pip install torch-fidelity")
    if dataset.shape[0] not in (1, 3):
        raise ConfigError(f"metrics.extractor=inception: requires images with 1 or 3 channels, not {dataset.shape[0]}")
    network = Inception(fetch_weights())
    about = "Inception (2015) from torch-fidelity, 2,048 features"
    return NetworkExtractor("inception", SHA256[:16], about, network, dataset.shape, device, batch_size=50)


class Inception(nn.Module):
    """The network of torch-fidelity, which resizes images to 299x299 like TensorFlow 1."""

    def __init__(self, weights: Path) -> None:
        super().__init__()
        # The package unpickles the file, which could run code; loading it here first refuses such a file
        torch.load(weights, map_location="cpu", weights_only=True)
        module = importlib.import_module("torch_fidelity.feature_extractor_inceptionv3")
        with torch.random.fork_rng(devices=[]):  # building the layers draws random initial weights
            self.network = module.FeatureExtractorInceptionV3(
                "inception", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(weights)
            )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features, logits = self.network(to_bytes(images).expand(-1, 3, -1, -1))
        return features, logits.softmax(1)


def to_bytes(images: Tensor) -> Tensor:
    """Round images in [0, 1] to bytes; this recovers the exact bytes of images that were made from bytes."""
    return (images * 255).round().to(torch.uint8)


def fetch_weights() -> Path:
    """Download the weights if needed and return their path, in the folder that torch-fidelity and torchmetrics use.

    Raises:
        OperationalError: the weights cannot be downloaded.
    """
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    try:
        ensure("Inception weights", folder, _damaged, _fetch)
    except DataError as error:
        raise OperationalError(
            f"metrics.extractor=inception: {str(error).removeprefix('dataset.root: ')}; or choose another extractor"
        ) from error
    return folder / NAME


def _damaged(folder: Path) -> list[str]:
    return [NAME] if digest_of(folder / NAME, "sha256") != SHA256 else []


def _fetch(folder: Path, names: list[str]) -> None:
    for name in names:
        download([ADDRESS + name], folder / name, SHA256, TIMEOUT, algorithm="sha256")
