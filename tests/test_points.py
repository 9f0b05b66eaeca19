"""Datasets in the plane have the shapes and moments that define them; the user's own points keep theirs."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ganlab.data.dataset import Dataset, Examples
from ganlab.data.mixtures import Grid25, Mixture, Ring8
from ganlab.data.point_file import PointFile
from ganlab.data.points import Checkerboard, Moons, Spiral, SwissRoll
from ganlab.data.units import AffineUnits
from ganlab.errors import ConfigError, DataError

DRAWN = (Ring8, Grid25, Moons, SwissRoll, Spiral, Checkerboard)


def outside(examples: Examples) -> Tensor:
    """Return the points in data units."""
    return examples.units.outside(examples.data)


@pytest.mark.parametrize("kind", DRAWN)
def test_what_is_drawn_is_a_function_of_its_own_seed_alone(kind: type[Dataset]) -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = kind(num_examples=1000, seed=3).load()
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    again, other = kind(num_examples=1000, seed=3).load(), kind(num_examples=1000, seed=4).load()
    assert torch.equal(first.data, again.data)
    assert torch.equal(first.labels, again.labels)
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert first.units == other.units


@pytest.mark.parametrize("kind", DRAWN)
def test_what_is_drawn_lies_inside_and_fills_its_classes(kind: type[Dataset]) -> None:
    dataset = kind()
    examples = dataset.load()
    assert examples.data.shape == (dataset.num_examples, *dataset.shape) == (100_000, 2)
    assert examples.data.dtype == torch.float32
    assert examples.data.abs().max() <= 1
    assert examples.data.abs().max() > 0.9
    assert examples.labels.dtype == torch.int64
    counts = examples.labels.bincount()
    assert len(counts) == max(len(dataset.classes), 1)
    even = 100_000 / len(counts)
    assert (counts - even).abs().max() <= 5 * math.sqrt(even)


@pytest.mark.parametrize("kind", [Ring8, Grid25])
def test_mixture_has_its_means_its_sigma_and_the_share_within_three(kind: type[Mixture]) -> None:
    dataset = kind()
    examples = dataset.load()
    offset = outside(examples) - dataset.modes[examples.labels]
    num_per_mode = 100_000 / len(dataset.modes)
    for mode in range(len(dataset.modes)):
        mean = offset[examples.labels == mode].mean(dim=0)
        assert mean.abs().max() < 5 * dataset.sigma / math.sqrt(num_per_mode)
    assert offset.std(dim=0).tolist() == pytest.approx([dataset.sigma] * 2, rel=0.01)
    within_three = (offset.norm(dim=1) <= 3 * dataset.sigma).float().mean().item()
    assert within_three == pytest.approx(1 - math.exp(-4.5), abs=0.002)  # 98.9 %, the Rayleigh distribution
    assert torch.equal(torch.cdist(outside(examples), dataset.modes).argmin(dim=1), examples.labels)


def test_modes_are_those_of_the_protocol() -> None:
    assert Ring8.modes.norm(dim=1).tolist() == pytest.approx([1.0] * 8)
    assert (Ring8.modes[0].tolist(), Ring8.sigma) == ([1.0, 0.0], 0.01)
    steps = (-4, -2, 0, 2, 4)
    assert {tuple(mode) for mode in Grid25.modes.tolist()} == {(x, y) for x in steps for y in steps}
    assert Grid25.sigma == 0.05
    assert Ring8().load().units.scale == pytest.approx(1.05)
    assert Grid25().load().units.scale == pytest.approx(4.25)


def test_moons_without_noise_are_two_half_circles() -> None:
    examples = Moons(noise=0.0).load()
    x, y = outside(examples).unbind(dim=1)
    upper = examples.labels == 0
    torch.testing.assert_close((x**2 + y**2)[upper], torch.ones(int(upper.sum())))
    torch.testing.assert_close(((x - 1) ** 2 + (y - 0.5) ** 2)[~upper], torch.ones(int((~upper).sum())))
    assert y[upper].min() >= -1e-5
    assert y[~upper].max() <= 0.5 + 1e-5


def test_swiss_roll_without_noise_is_an_archimedean_spiral() -> None:
    x, y = outside(SwissRoll(noise=0.0).load()).unbind(dim=1)
    radius = torch.hypot(x, y)  # equal to the angle up to whole turns
    torch.testing.assert_close(x, radius * radius.cos(), atol=1e-4, rtol=0)
    torch.testing.assert_close(y, radius * radius.sin(), atol=1e-4, rtol=0)
    assert 1.5 * math.pi - 1e-3 <= radius.min() <= radius.max() <= 4.5 * math.pi + 1e-3


@pytest.mark.parametrize("arms", [1, 3])
def test_spiral_without_noise_turns_with_its_radius(arms: int) -> None:
    dataset = Spiral(arms=arms, turns=2.0, noise=0.0)
    examples = dataset.load()
    x, y = outside(examples).unbind(dim=1)
    radius = torch.hypot(x, y)
    angle = 2 * math.pi * (2 * radius + examples.labels / arms)
    torch.testing.assert_close(x, radius * angle.cos(), atol=1e-4, rtol=0)
    torch.testing.assert_close(y, radius * angle.sin(), atol=1e-4, rtol=0)
    assert dataset.classes == (("0", "1", "2") if arms == 3 else ())


def test_checkerboard_fills_squares_of_one_colour() -> None:
    examples = Checkerboard().load()
    square = ((examples.data + 1) * 2).long()  # [N, 2], column and row
    assert (square.sum(dim=1) % 2 == 0).all()
    for label in range(8):
        assert len(square[examples.labels == label].unique(dim=0)) == 1
    within = ((examples.data + 1) * 2) % 1
    assert within.mean(dim=0).tolist() == pytest.approx([0.5, 0.5], abs=0.005)


# The user's own ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "0,10,5\n4,10,5\n2,11,7\n",
        "x,y,z\n0,10,5\n4,10,5\n2,11,7\n",
        "\ufeffx, y, z\r\n0, 10, 5\r\n\r\n4, 10, 5\r\n2, 11, 7",
        "\ufeff0,10,5\n4,10,5\n2,11,7\n",
        "0 10 5\n4\t10  5\n 2 11 7\n",
        "a b c\n0 10 5\n4 10 5\n2 11 7\n",
    ],
)
def test_points_of_a_csv_keep_their_shape(text: str, tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text(text, encoding="utf-8")
    dataset = PointFile(str(tmp_path / "p.csv"))
    assert isinstance(dataset, Dataset)
    assert (dataset.shape, dataset.classes) == ((3,), ())
    examples = dataset.load()
    assert examples.data.tolist() == [[-1, -0.25, -0.5], [1, -0.25, -0.5], [0, 0.25, 0.5]]
    assert (examples.units, examples.source) == (AffineUnits((2, 10.5, 6), 2), "p.csv")


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int32", "uint8", ">f4"])
def test_points_of_an_npy_come_back_outside_as_they_were(dtype: str, tmp_path: Path) -> None:
    points = (np.random.default_rng(0).random((50, 4)) * 200).astype(dtype)
    np.save(tmp_path / "p.npy", points)
    dataset = PointFile(str(tmp_path / "p.npy"))
    assert (dataset.shape, dataset.num_examples) == ((4,), 50)
    examples = dataset.load()
    assert examples.data.dtype == torch.float32
    assert examples.data.abs().max() == 1
    np.testing.assert_allclose(outside(examples).numpy(), points.astype(np.float64), atol=2e-5)


def test_the_largest_floats_do_not_overflow(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("1.7e308\n-1.7e308\n")
    assert PointFile(str(tmp_path / "p.csv")).load().data.tolist() == [[1], [-1]]


BAD_CSV = {
    "empty": ("", "is empty"),
    "names only": ("x,y\n", "at least 2 points, not 0"),
    "one point": ("1,2\n", "at least 2 points, not 1"),
    "all equal": ("1,2\n1,2\n1,2\n", "all 3 are equal"),
    "text in a cell": ("x,y\n1,2\n3,abc\n", "line 3 must have numbers only, not 'abc'"),
    "text in the first line": ("1,abc\n3,4\n", "line 1 must have numbers only, not 'abc'"),
    "two lines of names": ("x,y\nm,m\n3,4\n", "line 2 must have numbers only, not 'm'"),
    "an empty cell": ("1,2\n3,\n", "line 2 must have numbers only, not ''"),
    "a longer line": ("1,2\n3,4,5\n", "line 2 must have 2 numbers, not 3"),
    "NaN": ("1,2\n3,nan\n", r"1 points have NaN or infinity, the first is point 2: \[3.0, nan\]"),
    "infinity": ("1,2\n-inf,4\n", "NaN or infinity"),
}


@pytest.mark.parametrize("kind", BAD_CSV)
def test_bad_csv_is_refused(kind: str, tmp_path: Path) -> None:
    text, message = BAD_CSV[kind]
    file = tmp_path / "p.csv"
    file.write_text(text)
    with pytest.raises((ConfigError, DataError), match=message) as refusal:
        PointFile(str(file)).load()
    assert str(refusal.value).startswith(f"dataset.path={file}: ")


def test_bad_npy_is_refused_before_it_is_read(tmp_path: Path) -> None:
    file = tmp_path / "p.npy"
    for array in (np.zeros(5), np.zeros((5, 2, 2)), np.zeros((5, 0)), np.zeros((5, 2), complex), np.array([["a"]])):
        np.save(file, array)
        with pytest.raises(ConfigError, match=r"must contain numbers of shape \[N, D\], not "):
            PointFile(str(file))
    np.save(file, np.array([[{}]]), allow_pickle=True)
    with pytest.raises(ConfigError, match="cannot be read"):
        PointFile(str(file))
    for content in (b"", b"nonsense", b"\x93NUMPY"):
        file.write_bytes(content)
        with pytest.raises(ConfigError, match="cannot be read"):
            PointFile(str(file))


def test_a_csv_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(ConfigError, match="cannot be read"):
        PointFile(str(tmp_path / "p.csv"))
