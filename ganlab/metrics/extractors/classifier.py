"""A small classifier of images, trained on the CPU so that the same images give the same bits each time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from ganlab.data.batches import Batches, to_model_range
from ganlab.data.dataset import Examples
from ganlab.metrics.extractors.weights import drawn
from ganlab.rng import generator

NUM_FEATURES = 128
LARGEST = 64  # pixels of a side; images with more are brought down to it, or training would take hours
WIDEST = 64  # channels


class Recipe(NamedTuple):
    """How a classifier is trained: as many steps whatever the number of images, so that few are seen more often.

    Attributes:
        version: changes whenever the code does in a way that changes the weights.
        lr: the highest learning rate, reached after a fifth of the steps.
        shift: pixels of 28 that images are moved by at most.
    """

    version: int = 1
    steps: int = 2000
    batch_size: int = 128
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    shift: float = 2.0
    seed: int = 0


class Classifier(nn.Module):
    """Convolutions that halve the image until it is at most 4x4, then a layer of features and one of logits.

    Args:
        shape: of an image, (C, H, W).
    """

    def __init__(self, shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        channels, *size = shape
        small = [min(side, LARGEST) for side in size]
        self.shrink = nn.Identity() if small == size else nn.AdaptiveAvgPool2d((small[0], small[1]))
        num_halvings = 0
        while max(small) > 4:
            small = [(side + 1) // 2 for side in small]
            num_halvings += 1
        num_layers = max(3, num_halvings)
        widths = [channels, *(min(32 * 2**layer, WIDEST) for layer in range(num_layers))]
        layers: list[nn.Module] = []
        for layer, (before, after) in enumerate(pairwise(widths)):
            kernel, stride = 3 if layer else 5, 1 if layer < num_layers - num_halvings else 2
            convolution = nn.Conv2d(before, after, kernel, stride, padding=kernel // 2, bias=False)
            layers += [convolution, nn.BatchNorm2d(after), nn.ReLU()]
        last = nn.Linear(widths[-1] * small[0] * small[1], NUM_FEATURES, bias=False)
        self.features = nn.Sequential(*layers, nn.Flatten(), last, nn.BatchNorm1d(NUM_FEATURES), nn.ReLU())
        self.logits = nn.Linear(NUM_FEATURES, num_classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features [N, 128] and logits [N, K] of images in [-1, 1]."""
        features = self.features(self.shrink(x))
        return features, self.logits(features)


def one_cycle(step: int, steps: int) -> float:
    """The share of the highest learning rate: up to it in a fifth of the steps, then down to 0 (Smith, 2018)."""
    peak = max(1, steps // 5)
    return (step + 1) / peak if step < peak else (steps - step) / (steps - peak + 1)


def train(examples: Examples, shape: tuple[int, ...], num_classes: int, recipe: Recipe) -> Classifier:
    """A classifier of labelled images, uint8, on the CPU.

    The weights are a function of the arguments alone, to the bit on machines of one kind.
    """
    random = generator(recipe.seed, "classifier")
    with one_thread(), torch.inference_mode(False), torch.enable_grad():
        network = drawn(lambda: Classifier(shape, num_classes), random).to(memory_format=torch.channels_last)
        batch_size = min(recipe.batch_size, len(examples))
        batches = Batches(examples.data, batch_size, recipe.seed, examples.labels, examples.flip)
        optimizer = torch.optim.SGD(
            network.parameters(), momentum=recipe.momentum, nesterov=True, weight_decay=recipe.weight_decay
        )
        most = round(recipe.shift * min(shape[1:]) / 28)
        for step in tqdm(range(recipe.steps), desc="Training the classifier", unit="step", disable=None):
            for group in optimizer.param_groups:
                group["lr"] = recipe.lr * one_cycle(step, recipe.steps)
            x, label = batches(step)
            assert label is not None
            loss = F.cross_entropy(network(shifted(x, most, random))[1], label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network.eval()  # type: ignore[return-value]


def shifted(x: Tensor, most: int, random: torch.Generator) -> Tensor:
    """Each image moved by up to `most` pixels in both directions; its border is repeated where it leaves a gap."""
    num, _, height, width = x.shape
    down, right = torch.randint(-most, most + 1, (2, num, 1), generator=random)
    rows = (torch.arange(height) + down).clamp(0, height - 1)  # [N, H]
    columns = (torch.arange(width) + right).clamp(0, width - 1)  # [N, W]
    moved = x.permute(0, 2, 3, 1)[torch.arange(num)[:, None, None], rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2)


@torch.no_grad()
def accuracy(network: Classifier, examples: Examples) -> float:
    """The share of examples whose most likely class is theirs."""
    batches = zip(examples.data.split(500), examples.labels.split(500), strict=True)
    with one_thread():
        right = sum(int((network(to_model_range(x))[1].argmax(1) == label).sum()) for x, label in batches)
    return right / len(examples)


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums come out in other bits with another number of threads; and two that wait for each other crawl where other
    runs share the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
