"""Curves and patterns in the plane."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from typing import Self

import torch
from torch import Tensor

from ganlab.config.ranges import Factor, Noise, NumExamples, Seed, SmallCount
from ganlab.config.stackable import Stackable
from ganlab.data.dataset import Examples
from ganlab.data.units import AffineUnits
from ganlab.rng import make_rng

MAX_SIGMAS = 5  # scale bound of noise in standard deviations; one coordinate in two million exceeds it
MIN_TOLERANCE = 0.05  # for curves without noise; with noise, the tolerance is 3 standard deviations
NUM_MANIFOLD_POINTS = 1000  # points that represent a curve


class Circle:
    """Evenly spaced points on a circle centred on the origin: the inner one of scikit-learn's `make_circles`.

    Fresh examples are sampled uniformly on the circle.

    Attributes:
        manifold: points [M, 2] along the curve that the data lie on; other datasets of curves have it too.
        tolerance: distance from the curve up to which a sample counts as near.
    """

    name = "circle"
    shape = (2,)
    classes = ()
    radius = 0.8
    tolerance = MIN_TOLERANCE

    @property
    def manifold(self) -> Tensor:
        return _polar(self.radius, torch.linspace(0, 2 * math.pi, NUM_MANIFOLD_POINTS))

    def __init__(self, num_examples: NumExamples = 1000) -> None:
        self.num_examples = num_examples

    def check(self) -> None:
        pass

    def load(self) -> Examples:
        from sklearn.datasets import make_circles  # slow to import; config errors should not wait for it

        points, circle = make_circles((0, self.num_examples), factor=self.radius, shuffle=False)
        data = torch.tensor(points[circle == 1], dtype=torch.float32)
        return Examples(data, torch.zeros(len(data), dtype=torch.int64), source="scikit-learn")

    def fresh(self, num: int, seed: int) -> Examples:
        angle = 2 * math.pi * torch.rand(num, generator=make_rng(seed, "fresh"))
        return Examples(_polar(self.radius, angle), torch.zeros(num, dtype=torch.int64), source="drawn")


class RandomPoints(ABC):
    """Base class of random points in the plane. Subclasses define `draw`.

    Args:
        num_examples: number of examples to draw.
        seed: seed of the dataset, independent of the seed of the run.
    """

    shape = (2,)
    classes: tuple[str, ...] = ()

    def __init__(self, num_examples: NumExamples = 100_000, seed: Stackable[Seed] = 0) -> None:
        self.num_examples = num_examples
        self.seed = seed

    def held_out(self) -> Self:
        """The same number of points, sampled with the next seed."""
        other = copy.copy(self)
        other.seed = self.seed + 1
        return other

    def check(self) -> None:  # noqa: B027 - there is nothing to check
        pass

    def load(self) -> Examples:
        return self.draw(self.num_examples, make_rng(self.seed, "dataset"))

    def fresh(self, num: int, seed: int) -> Examples:
        return self.draw(num, make_rng(seed, "fresh"))

    @abstractmethod
    def draw(self, num: int, rng: torch.Generator) -> Examples:
        """Sample `num` examples from the distribution."""


class Moons(RandomPoints):
    """Two interleaving half circles of radius 1, one class each, as in scikit-learn's `make_moons`.

    Args:
        noise: standard deviation of the Gaussian noise in both coordinates.
    """

    name = "moons"
    classes = ("0", "1")

    def __init__(self, num_examples: NumExamples = 100_000, noise: Noise = 0.05, seed: Stackable[Seed] = 0) -> None:
        super().__init__(num_examples, seed)
        self.noise = noise
        self.tolerance = max(3 * noise, MIN_TOLERANCE)

    @property
    def manifold(self) -> Tensor:
        upper = _polar(1, torch.linspace(0, math.pi, NUM_MANIFOLD_POINTS // 2))
        return torch.cat([upper, torch.tensor([1.0, 0.5]) - upper])

    def draw(self, num: int, rng: torch.Generator) -> Examples:
        moon = torch.randint(2, (num,), generator=rng)
        angle = math.pi * torch.rand(num, generator=rng)
        upper = _polar(1, angle)
        points = torch.where(moon[:, None] == 0, upper, torch.tensor([1.0, 0.5]) - upper)
        points += self.noise * torch.randn(points.shape, generator=rng)
        # Without noise the points fill [-1, 2] x [-0.5, 1]
        return Examples.of_points(points, moon, "drawn", AffineUnits((0.5, 0.25), 1.5 + MAX_SIGMAS * self.noise))


class SwissRoll(RandomPoints):
    """A spiral of one and a half turns, denser inside: scikit-learn's `make_swiss_roll` without its second axis.

    Args:
        noise: standard deviation of the Gaussian noise in both coordinates; the turns are 2 pi apart.
    """

    name = "swiss_roll"

    def __init__(self, num_examples: NumExamples = 100_000, noise: Noise = 0.25, seed: Stackable[Seed] = 0) -> None:
        super().__init__(num_examples, seed)
        self.noise = noise
        self.tolerance = max(3 * noise, MIN_TOLERANCE)

    @property
    def manifold(self) -> Tensor:
        angle = torch.linspace(1.5 * math.pi, 4.5 * math.pi, NUM_MANIFOLD_POINTS)
        return _polar(angle, angle)

    def draw(self, num: int, rng: torch.Generator) -> Examples:
        angle = 1.5 * math.pi * (1 + 2 * torch.rand(num, generator=rng))
        points = _polar(angle, angle) + self.noise * torch.randn(num, 2, generator=rng)
        labels = torch.zeros(num, dtype=torch.int64)
        outer_end = 4.5 * math.pi
        return Examples.of_points(points, labels, "drawn", AffineUnits(scale=outer_end + MAX_SIGMAS * self.noise))


class Spiral(RandomPoints):
    """Archimedean spirals that start at the origin, rotated by equal angles, one class each.

    Args:
        arms: number of spirals; a single spiral has no classes.
        turns: number of turns of each spiral; all end at radius 1.
        noise: standard deviation of the Gaussian noise in both coordinates.
    """

    name = "spiral"

    def __init__(
        self,
        num_examples: NumExamples = 100_000,
        arms: SmallCount = 2,
        turns: Factor = 1.5,
        noise: Noise = 0.02,
        seed: Stackable[Seed] = 0,
    ) -> None:
        super().__init__(num_examples, seed)
        self.arms = arms
        self.turns = turns
        self.noise = noise
        self.tolerance = max(3 * noise, MIN_TOLERANCE)
        self.classes = tuple(map(str, range(arms))) if arms > 1 else ()

    @property
    def manifold(self) -> Tensor:
        radius = torch.linspace(0, 1, NUM_MANIFOLD_POINTS // self.arms + 1)
        turn = [self.turns * radius + arm / self.arms for arm in range(self.arms)]
        return torch.cat([_polar(radius, 2 * math.pi * each) for each in turn])

    def draw(self, num: int, rng: torch.Generator) -> Examples:
        arm = torch.randint(self.arms, (num,), generator=rng)
        radius = torch.rand(num, generator=rng).sqrt()  # nearly uniform along the arm, except at its inner end
        points = _polar(radius, 2 * math.pi * (self.turns * radius + arm / self.arms))
        points += self.noise * torch.randn(points.shape, generator=rng)
        return Examples.of_points(points, arm, "drawn", AffineUnits(scale=1 + MAX_SIGMAS * self.noise))


class Checkerboard(RandomPoints):
    """Uniform on every other square of a 4x4 checkerboard on [-1, 1]^2, one class per square."""

    name = "checkerboard"
    classes = tuple(map(str, range(8)))

    def draw(self, num: int, rng: torch.Generator) -> Examples:
        square = torch.randint(8, (num,), generator=rng)
        row = square // 2
        column = 2 * (square % 2) + row % 2
        corner = torch.stack([column, row], dim=1)  # lower left corner in units of squares, [num, 2]
        data = (corner + torch.rand(corner.shape, generator=rng)) / 2 - 1
        return Examples.of_points(data, square, "drawn")


def _polar(radius: Tensor | float, angle: Tensor) -> Tensor:
    """Points [N, 2] from polar coordinates."""
    return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)
