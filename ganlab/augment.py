"""Augmentations of the discriminator's inputs, applied to real and fake examples alike."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor

from ganlab.config.ranges import Fraction
from ganlab.rng import StepRNG


class Augment(ABC):
    @abstractmethod
    def __call__(self, x: Tensor, rng: StepRNG) -> Tensor:
        """Augment each example of a batch [B, ...] independently; the result is differentiable with respect to `x`."""


class NoAugment(Augment):
    """No augmentation."""

    def __call__(self, x: Tensor, rng: StepRNG) -> Tensor:
        return x


class DiffAugment(Augment):
    """Differentiable augmentation of images (Zhao et al., 2020): colour, translation and cutout.

    Points are returned unchanged.

    Args:
        color: whether to change brightness, saturation and contrast.
        translation: maximum shift, as a fraction of the side; uncovered pixels become grey.
        cutout: side of the square set to grey, as a fraction of the image's side; 0 disables it.
    """

    def __init__(self, color: bool = True, translation: Fraction = 0.125, cutout: Fraction = 0.5) -> None:
        self.color, self.translation, self.cutout = color, translation, cutout

    def __call__(self, x: Tensor, rng: StepRNG) -> Tensor:
        if x.dim() != 4:
            return x
        if self.color:
            x = change_color(x, rng)
        if self.translation:
            x = translate(x, self.translation, rng)
        return cut_out(x, self.cutout, rng) if self.cutout else x


def change_color(x: Tensor, rng: StepRNG) -> Tensor:
    """Shift brightness by up to 1/2, scale saturation by up to 2 and contrast by a factor in [1/2, 3/2)."""
    brightness, saturation, contrast = (rng.uniform(len(x), 1, 1, 1) for _ in range(3))
    x = x + (brightness - 0.5)
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * (saturation * 2)
    mean = x.mean((1, 2, 3), keepdim=True)
    return mean + (x - mean) * (contrast + 0.5)


def translate(x: Tensor, fraction: float, rng: StepRNG) -> Tensor:
    """Shift each image by whole pixels, at most `fraction` of each side."""
    size = x.shape[2:]
    max_shift = [round(side * fraction) for side in size]
    shift = [rng.uniform(len(x)) for _ in size]
    rows, columns = (
        torch.arange(side, device=x.device) + torch.floor(s * (2 * limit + 1))[:, None].long()
        for side, limit, s in zip(size, max_shift, shift, strict=True)
    )  # [B, H], [B, W]: source row and column in the padded image
    padded = F.pad(x, (max_shift[1], max_shift[1], max_shift[0], max_shift[0]))
    image = torch.arange(len(x), device=x.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def cut_out(x: Tensor, fraction: float, rng: StepRNG) -> Tensor:
    """Set to 0 a square of each image whose centre is uniform over the image."""
    height, width = x.shape[2:]
    row, column = rng.uniform(len(x), 1), rng.uniform(len(x), 1)
    rows = (torch.arange(height, device=x.device) + 0.5 - row * height).abs() <= fraction * height / 2  # [B, H]
    columns = (torch.arange(width, device=x.device) + 0.5 - column * width).abs() <= fraction * width / 2
    return x * ~(rows[:, None, :, None] & columns[:, None, None, :])
