"""DiffAugment: translation, cutout and colour change what they should, and gradients flow through them."""

from __future__ import annotations

import torch
from torch import Tensor

from ganlab.augment import DiffAugment, NoAugment, change_color, cut_out, translate
from ganlab.rng import StepRNG


def draws(index: int = 0) -> StepRNG:
    return StepRNG(0, "test", index, torch.device("cpu"))


def images(num: int = 64, channels: int = 3, height: int = 16, width: int = 24) -> Tensor:
    return torch.rand(num, channels, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_translation_moves_whole_images_and_fills_with_grey() -> None:
    x = images()
    moved = translate(x, 0.125, draws())  # by at most 2 rows and 3 columns
    seen = set()
    for before, after in zip(x, moved, strict=True):
        padded = torch.nn.functional.pad(before, (3, 3, 2, 2))
        shifts = [
            (down, right)
            for down in range(5)
            for right in range(7)
            if torch.equal(padded[:, down : down + 16, right : right + 24], after)
        ]
        assert len(shifts) == 1
        seen.add(shifts[0])
    assert {row for row, _ in seen} == set(range(5))
    assert {column for _, column in seen} == set(range(7))


def test_cutout_sets_one_square_of_each_image_to_grey() -> None:
    x = torch.ones(200, 1, 16, 16)
    cut = cut_out(x, 0.5, draws())
    for mask in 1 - cut[:, 0]:
        rows, columns = mask.any(1), mask.any(0)
        assert torch.equal(mask.bool(), rows[:, None] & columns[None, :])  # a rectangle,
        assert 1 <= int(rows.sum()) <= 9  # a square, except where the image's border cuts it
        assert 1 <= int(columns.sum()) <= 9
    assert 0.1 < (1 - cut).mean().item() < 0.25  # a quarter of the image, minus the part beyond the border


def test_colour_keeps_the_order_of_grey_pixels_and_changes_each_image_its_own_way() -> None:
    x = images(channels=1)
    changed = change_color(x, draws())
    for before, after in zip(x.flatten(1), changed.flatten(1), strict=True):
        assert torch.equal(before.argsort(), after.argsort())
    shift = changed.mean((1, 2, 3)) - x.mean((1, 2, 3))
    assert -0.5 <= shift.min() < -0.3
    assert 0.3 < shift.max() <= 0.5
    contrast = changed.std((1, 2, 3)) / x.std((1, 2, 3))
    assert 0.5 <= contrast.min() < 0.7
    assert 1.3 < contrast.max() <= 1.5


def test_gradients_come_through_and_points_are_left_alone() -> None:
    x = images().requires_grad_()
    DiffAugment()(x, draws()).square().sum().backward()
    assert x.grad is not None
    assert (x.grad != 0).float().mean().item() > 0.5
    points = torch.randn(5, 2)
    assert DiffAugment()(points, draws()) is points
    assert NoAugment()(x, draws()) is x


def test_what_is_drawn_is_a_function_of_the_step() -> None:
    x = images()
    assert torch.equal(DiffAugment()(x, draws(3)), DiffAugment()(x, draws(3)))
    assert not torch.equal(DiffAugment()(x, draws(3)), DiffAugment()(x, draws(4)))
