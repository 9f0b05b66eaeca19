"""What is done to real and fake examples alike before the discriminator sees them."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor

from ganlab.config.ranges import Fraction
from ganlab.rng import StepRNG


class Augment(ABC):
    @abstractmethod
    def __call__(self, x: Tensor, draws: StepRNG) -> Tensor:
        """Examples [B, ...] changed at random, each in its own way, differentiable with respect to them."""


class Unchanged(Augment):
    """No augmentation."""

    def __call__(self, x: Tensor, draws: StepRNG) -> Tensor:
        return x


class DiffAugment(Augment):
    """Differentiable augmentation of images (Zhao et al., 2020): colour, translation and cutout.

    Points stay as they are.

    Args:
        color: whether brightness, saturation and contrast change.
        translation: the largest shift, as a share of the side; what is shifted in is grey.
        cutout: the side of a square set to grey, as a share of the image's side; 0: none.
    """

    def __init__(self, color: bool = True, translation: Fraction = 0.125, cutout: Fraction = 0.5) -> None:
        self.color, self.translation, self.cutout = color, translation, cutout

    def __call__(self, x: Tensor, draws: StepRNG) -> Tensor:
        if x.dim() != 4:
            return x
        if self.color:
            x = change_color(x, draws)
        if self.translation:
            x = translate(x, self.translation, draws)
        return cut_out(x, self.cutout, draws) if self.cutout else x


def change_color(x: Tensor, draws: StepRNG) -> Tensor:
    """Brightness by up to 1/2, saturation by a factor of up to 2, contrast by one between 1/2 and 3/2."""
    brightness, saturation, contrast = draws.uniform(3, len(x), 1, 1, 1)
    x = x + (brightness - 0.5)
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * (saturation * 2)
    mean = x.mean((1, 2, 3), keepdim=True)
    return mean + (x - mean) * (contrast + 0.5)


def translate(x: Tensor, share: float, draws: StepRNG) -> Tensor:
    """Each image shifted by whole pixels, at most that share of its sides."""
    size = x.shape[2:]
    reach = [round(side * share) for side in size]
    shift = draws.uniform(2, len(x))
    rows, columns = (
        torch.arange(side, device=x.device) + torch.floor(s * (2 * most + 1))[:, None].long()
        for side, most, s in zip(size, reach, shift, strict=True)
    )  # [B, H], [B, W]: where in the padded image each row and column is taken from
    padded = F.pad(x, (reach[1], reach[1], reach[0], reach[0]))
    image = torch.arange(len(x), device=x.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def cut_out(x: Tensor, share: float, draws: StepRNG) -> Tensor:
    """A square of each image, its centre anywhere in it, set to 0."""
    height, width = x.shape[2:]
    place = draws.uniform(2, len(x), 1)
    rows = (torch.arange(height, device=x.device) + 0.5 - place[0] * height).abs() <= share * height / 2  # [B, H]
    columns = (torch.arange(width, device=x.device) + 0.5 - place[1] * width).abs() <= share * width / 2
    return x * ~(rows[:, None, :, None] & columns[:, None, None, :])
