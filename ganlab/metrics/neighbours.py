"""Precision, recall, density and coverage, which compare two sets by their k-nearest-neighbour balls."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ganlab.config.ranges import PositiveInt
from ganlab.metrics.distances import blocks, exact_squared, rounding_error, rows_per_block, squared_distances
from ganlab.metrics.features import checked_pair

SPARE = 3  # extra candidate neighbours, so that approximate distances miss none
LARGE = 1e15  # features below this limit have squared norms that fit in float32
GROUP = 16  # distances per group; `smallest` first compares only the group minima


class NeighbourQuality(NamedTuple):
    """Metrics based on balls around the examples, whose radius is the distance to the k-th nearest neighbour.

    Attributes:
        precision: share of fake samples inside the ball of any real example (Kynkaanniemi et al., 2019, eq. 2).
        recall: share of real examples inside the ball of any fake sample.
        density: mean number of real balls that contain a fake sample, divided by k. About 1 for a perfect generator,
            but it can be greater (Naeem et al., 2020, eq. 6).
        coverage: share of real examples with a fake sample inside their ball (Naeem et al., 2020, eq. 7).
    """

    precision: float
    recall: float
    density: float
    coverage: float


def squared_radii(x: Tensor, centred: Tensor, k: int) -> Tensor:
    """Squared distance [N] from each row of x [N, D] to its k-th nearest other row.

    Args:
        centred: x minus a constant point, used only for approximate distances. The subtraction rounds, so equal
            distances, as on a lattice, would differ; the final comparison uses x.
    """
    rough = for_screening(centred)
    own = rough.square().sum(1)
    error, radii = rounding_error(rough, rough), []
    for rows, distances in blocks(rough, rough):
        radius, reach = kth_nearest(x[rows], x, distances, k)
        unproven = radius + error >= reach + own[rows]  # a row outside the candidates might be nearer
        if unproven.any():
            again = squared_distances(centred[rows][unproven], centred)
            radius[unproven], _ = kth_nearest(x[rows][unproven], x, again, k)
        radii.append(radius)
    return torch.cat(radii)


def kth_nearest(x: Tensor, y: Tensor, distances: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Exact squared distance [n] from x [n, D] to the k-th nearest of y [N, D], not counting x itself.

    The k-th nearest is chosen among slightly more candidates, the nearest by `distances`. The second result [n] is
    the largest of the given distances among the candidates.

    Args:
        distances: approximate squared distances [n, N], shifted as in `blocks` or not.
    """
    values, indices = smallest(distances, min(k + 1 + SPARE, len(y)))
    found = exact_squared(x[:, None], y[indices])  # the nearest is x itself, at 0
    return found.topk(k + 1, largest=False, sorted=False).values.amax(1), values.amax(1)


def smallest(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The smallest values of each row of `values` [n, N] and their indices, both [n, count].

    Same result as `topk` in three quarters of the time: only groups with the smallest minima are searched.
    """
    rows, width = values.shape
    num_groups = width // GROUP
    if num_groups < count:
        return values.topk(count, largest=False, sorted=False)
    minima = values[:, : num_groups * GROUP].view(rows, GROUP, num_groups).amin(1)
    best = minima.topk(count, largest=False, sorted=False).indices
    first = torch.arange(GROUP, device=values.device)[:, None] * num_groups
    rest = torch.arange(num_groups * GROUP, width, device=values.device).expand(rows, -1)
    candidates = torch.cat([(best[:, None] + first).flatten(1), rest], 1)
    found = values.gather(1, candidates).topk(count, largest=False, sorted=False)
    return found.values, candidates.gather(1, found.indices)


def pairs_inside(
    x: Tensor, y: Tensor, shifted: Tensor, own: Tensor, radii: Tensor, error: float
) -> tuple[Tensor, Tensor]:
    """Index pairs (i, j) for which y[j] is inside the ball around x[i].

    Exact distances are computed only where the approximate ones leave the answer open.

    Args:
        x, y: points [n, D] and [M, D].
        shifted: approximate squared distances [n, M] minus `own`, with an error of at most `error`.
        own: the shift of each row [n], usually |x|^2.
        radii: squared radii [n].
    """
    i, j = (shifted <= (radii - own + error).to(shifted.dtype)[:, None]).nonzero(as_tuple=True)
    sure = shifted[i, j] < (radii - own - error).to(shifted.dtype)[i]
    doubtful = (~sure).nonzero().squeeze(1)
    for part in doubtful.split(rows_per_block(x, x.shape[1])):
        sure[part] = exact_squared(x[i[part]], y[j[part]]) < radii[i[part]]
    return i[sure], j[sure]


def inside_any(x: Tensor, y: Tensor, shifted: Tensor, own: Tensor, radii: Tensor, error: float) -> Tensor:
    """For each x [n, D], whether it is inside the ball around any y [M, D], [n].

    The arguments are those of `pairs_inside`, except that `radii` [M] are the squared radii of y. Overwrites
    `shifted`, because allocating another block takes longer than filling it.
    """
    height = shifted.sub_(radii.to(shifted.dtype)).amin(1) + own  # min over y of squared distance minus squared radius
    inside, doubtful = height < -error, (height.abs() <= error).nonzero().squeeze(1)
    heights = (shifted[doubtful] + own[doubtful, None]).T  # [M, n']
    _, found = pairs_inside(y, x[doubtful], heights, radii, radii, error)  # the shift is the radii
    inside[doubtful[found]] = True
    return inside


def for_screening(x: Tensor) -> Tensor:
    """x in the dtype for approximate distances: float32, twice as fast, if its matrix product has full precision."""
    full = x.device.type == "cpu" and torch.get_float32_matmul_precision() == "highest"
    return x.float() if full and x.abs().max() < LARGE else x


def neighbour_quality(real: Tensor, fake: Tensor, k: PositiveInt = 5) -> NeighbourQuality:
    """Compute the metrics from features [N, D] and [M, D].

    A point on the surface of a ball is outside, as in prdc, the package of Naeem et al.

    Raises:
        DataError: there are fewer than k + 1 samples, or the features are not finite or differ in D.
    """
    real, fake = checked_pair(real, fake, at_least=k + 1)
    origin = real.mean(0)  # centring reduces the rounding error
    centred, others = real - origin, fake - origin  # only for approximate distances
    real_radii, fake_radii = squared_radii(real, centred, k), squared_radii(fake, others, k)  # [N], [M]
    rough, others = for_screening(centred), for_screening(others)
    own, error = rough.square().sum(1), rounding_error(rough, others)
    balls = torch.zeros(len(fake), dtype=torch.long, device=fake.device)  # number of real balls around each fake
    recalled = covered = 0
    for rows, shifted in blocks(rough, others):
        i, j = pairs_inside(real[rows], fake, shifted, own[rows], real_radii[rows], error)
        balls += torch.bincount(j, minlength=len(fake))
        covered += len(i.unique())
        recalled += int(inside_any(real[rows], fake, shifted, own[rows], fake_radii, error).sum())
    return NeighbourQuality(
        precision=(balls > 0).double().mean().item(),
        recall=recalled / len(real),
        density=balls.double().mean().item() / k,
        coverage=covered / len(real),
    )
