"""A small image classifier, trained deterministically on the CPU."""

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
from ganlab.metrics.extractors.weights import he_initialized
from ganlab.rng import make_rng

NUM_FEATURES = 128
MAX_SIDE = 64  # pixels; larger images are downsampled, because training would take hours
MAX_CHANNELS = 64


class Recipe(NamedTuple):
    """Training settings of a classifier. The number of steps does not depend on the number of images.

    Attributes:
        version: increased whenever a change of the code changes the weights.
        lr: peak learning rate, reached after a fifth of the steps.
        shift: maximum translation for augmentation, in pixels of a 28x28 image.
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
    """A CNN that halves the image until it is at most 4x4, followed by a feature layer and a logit layer.

    Args:
        shape: image shape (C, H, W).
    """

    def __init__(self, shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        channels, *size = shape
        small = [min(side, MAX_SIDE) for side in size]
        self.shrink = nn.Identity() if small == size else nn.AdaptiveAvgPool2d((small[0], small[1]))
        num_halvings = 0
        while max(small) > 4:
            small = [(side + 1) // 2 for side in small]
            num_halvings += 1
        num_layers = max(3, num_halvings)
        widths = [channels, *(min(32 * 2**layer, MAX_CHANNELS) for layer in range(num_layers))]
        layers: list[nn.Module] = []
        for layer, (before, after) in enumerate(pairwise(widths)):
            kernel, stride = 3 if layer else 5, 1 if layer < num_layers - num_halvings else 2
            convolution = nn.Conv2d(before, after, kernel, stride, padding=kernel // 2, bias=False)
            layers += [convolution, nn.BatchNorm2d(after), nn.ReLU()]
        last = nn.Linear(widths[-1] * small[0] * small[1], NUM_FEATURES, bias=False)
        self.features = nn.Sequential(*layers, nn.Flatten(), last, nn.BatchNorm1d(NUM_FEATURES), nn.ReLU())
        self.logits = nn.Linear(NUM_FEATURES, num_classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features [N, 128] and logits [N, K] of images [N, C, H, W] in [-1, 1]."""
        features = self.features(self.shrink(x))
        return features, self.logits(features)


def one_cycle(step: int, steps: int) -> float:
    """Factor of the peak learning rate: linear up over a fifth of the steps, then down to 0 (Smith, 2018)."""
    peak = max(1, steps // 5)
    return (step + 1) / peak if step < peak else (steps - step) / (steps - peak + 1)


def train(examples: Examples, shape: tuple[int, ...], num_classes: int, recipe: Recipe) -> Classifier:
    """Train a classifier of labelled uint8 images on the CPU.

    The weights depend only on the arguments, bit for bit on the same hardware.
    """
    rng = make_rng(recipe.seed, "classifier")
    with one_thread(), torch.inference_mode(False), torch.enable_grad():
        network = he_initialized(lambda: Classifier(shape, num_classes), rng).to(memory_format=torch.channels_last)
        batch_size = min(recipe.batch_size, len(examples))
        batches = Batches(examples.data, batch_size, recipe.seed, examples.labels, examples.flip)
        optimizer = torch.optim.SGD(
            network.parameters(), momentum=recipe.momentum, nesterov=True, weight_decay=recipe.weight_decay
        )
        max_shift = round(recipe.shift * min(shape[1:]) / 28)
        for step in tqdm(range(recipe.steps), desc="Training the classifier", unit="step", disable=None):
            for group in optimizer.param_groups:
                group["lr"] = recipe.lr * one_cycle(step, recipe.steps)
            x, label = batches(step)
            assert label is not None
            loss = F.cross_entropy(network(randomly_shifted(x, max_shift, rng))[1], label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network.eval()  # type: ignore[return-value]


def randomly_shifted(x: Tensor, max_shift: int, rng: torch.Generator) -> Tensor:
    """Translate each image by up to `max_shift` pixels along both axes, replicating its border."""
    num, _, height, width = x.shape
    down, right = torch.randint(-max_shift, max_shift + 1, (2, num, 1), generator=rng)
    rows = (torch.arange(height) + down).clamp(0, height - 1)  # [N, H]
    columns = (torch.arange(width) + right).clamp(0, width - 1)  # [N, W]
    moved = x.permute(0, 2, 3, 1)[torch.arange(num)[:, None, None], rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2)


@torch.no_grad()
def accuracy(network: Classifier, examples: Examples) -> float:
    """Share of examples whose most probable class is their label."""
    batches = zip(examples.data.split(500), examples.labels.split(500), strict=True)
    with one_thread():
        num_correct = sum(int((network(to_model_range(x))[1].argmax(1) == label).sum()) for x, label in batches)
    return num_correct / len(examples)


@contextmanager
def one_thread() -> Iterator[None]:
    """Run PyTorch with one thread: the number of threads changes the rounding of sums, and threads that wait for each
    other are slow on cores shared with other runs."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
