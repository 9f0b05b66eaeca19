"""Extractors without training: coordinates, pixels and a random network."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ganlab.data.dataset import Dataset
from ganlab.metrics.extractors.extractor import Features, NetworkExtractor
from ganlab.metrics.extractors.weights import hash_of, he_initialized
from ganlab.rng import make_rng

NUM_RANDOM = 128


def make_pixels(dataset: Dataset, device: torch.device) -> NetworkExtractor:
    network = nn.Flatten()
    about = f"raw values of the {math.prod(dataset.shape):,} pixels"
    return NetworkExtractor("pixels", hash_of(network, "pixels"), about, network, dataset.shape, device)


def make_random(dataset: Dataset, device: torch.device) -> NetworkExtractor:
    """Random features, for images unlike those of any trained network (Naeem et al., 2020, section 4.3)."""
    network = he_initialized(lambda: RandomNetwork(dataset.shape[0]), make_rng(0, "random extractor"))
    about = f"random convolutional network, {NUM_RANDOM} features"
    return NetworkExtractor("random", hash_of(network, "random"), about, network, dataset.shape, device)


class RandomNetwork(nn.Module):
    """Two convolutions, pooling to 4x4 and a projection; for images of 8x8 pixels or larger."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(64 * 4 * 4, NUM_RANDOM),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images * 2 - 1)


class Coordinates:
    """The extractor for points: their features are their coordinates."""

    name, hash, about = "coordinates", "", "coordinates of the points"

    def __call__(self, images: Tensor) -> Features:
        return Features(images, None)
