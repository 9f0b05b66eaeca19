"""Precision, recall, density and coverage: who lies among the nearest neighbours of whom."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ganlab.config.ranges import PositiveInt
from ganlab.metrics.distances import blocks, exact, rounding_error, rows_at_a_time, squared_distances
from ganlab.metrics.features import checked_pair

SPARE = 3  # more neighbours than needed, so that rough distances miss none
LARGE = 1e15  # features whose squares float32 still holds, with all their dimensions
SHARE = 16  # distances of which only the smallest is looked at, at first


class NeighbourQuality(NamedTuple):
    """How well the balls about the samples, each as large as the distance to its k-th neighbour, cover the others.

    Attributes:
        precision: share of fakes inside the ball of any real (Kynkaanniemi et al., 2019, eq. 2).
        recall: share of reals inside the ball of any fake.
        density: balls of reals that a fake is in, in the mean, over k; about 1 for a perfect generator, and it can be
            more (Naeem et al., 2020, eq. 6).
        coverage: share of reals with a fake inside their ball (Naeem et al., 2020, eq. 7).
    """

    precision: float
    recall: float
    density: float
    coverage: float


def squared_radii(x: Tensor, centred: Tensor, k: int) -> Tensor:
    """Squared distance of each of x [N, D] to its k-th nearest other, [N].

    Args:
        centred: x less any one point, for rough distances alone: to subtract rounds, so that equal distances, as on a
            lattice, would differ; what decides is taken of x.
    """
    rough = screening(centred)
    own = rough.square().sum(1)
    error, radii = rounding_error(rough, rough), []
    for rows, distances in blocks(rough, rough):
        radius, reach = kth_nearest(x[rows], x, distances, k)
        unproven = radius + error >= reach + own[rows]  # one that is not among the nearest found may be nearer
        if unproven.any():
            again = squared_distances(centred[rows][unproven], centred)
            radius[unproven], _ = kth_nearest(x[rows][unproven], x, again, k)
        radii.append(radius)
    return torch.cat(radii)


def kth_nearest(x: Tensor, y: Tensor, distances: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The exact squared distance [n] of x [n, D] to the k-th nearest of y [N, D], x itself not counted.

    It is chosen among a few more, the nearest by the distances [n, N] that are given, lowered or not; also returned is
    how far those reach [n].
    """
    values, indices = smallest(distances, min(k + 1 + SPARE, len(y)))
    found = exact(x[:, None], y[indices])  # the nearest is x itself, at 0
    return found.topk(k + 1, largest=False, sorted=False).values.amax(1), values.amax(1)


def smallest(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The smallest of each row of values [n, N] and where they are, both [n, count].

    As `topk`, in three quarters of its time: they lie in the shares of a row that have the smallest minima.
    """
    rows, width = values.shape
    shares = width // SHARE
    if shares < count:
        return values.topk(count, largest=False, sorted=False)
    minima = values[:, : shares * SHARE].view(rows, SHARE, shares).amin(1)
    best = minima.topk(count, largest=False, sorted=False).indices
    first = torch.arange(SHARE, device=values.device)[:, None] * shares
    rest = torch.arange(shares * SHARE, width, device=values.device).expand(rows, -1)
    candidates = torch.cat([(best[:, None] + first).flatten(1), rest], 1)
    found = values.gather(1, candidates).topk(count, largest=False, sorted=False)
    return found.values, candidates.gather(1, found.indices)


def pairs_inside(
    x: Tensor, y: Tensor, lowered: Tensor, own: Tensor, radii: Tensor, error: float
) -> tuple[Tensor, Tensor]:
    """Which y [M, D] are inside the ball of which x [n, D], of squared radii [n]: the indices of both.

    Decided by the lowered distances [n, M], which may be wrong by `error`, and exactly where those do not decide.

    Args:
        own: what was subtracted from each row's distances, [n]; |x|^2 as a rule.
    """
    i, j = (lowered <= (radii - own + error).to(lowered.dtype)[:, None]).nonzero(as_tuple=True)
    sure = lowered[i, j] < (radii - own - error).to(lowered.dtype)[i]
    doubtful = (~sure).nonzero().squeeze(1)
    for part in doubtful.split(rows_at_a_time(x, x.shape[1])):
        sure[part] = exact(x[i[part]], y[j[part]]) < radii[i[part]]
    return i[sure], j[sure]


def inside_any(x: Tensor, y: Tensor, lowered: Tensor, own: Tensor, radii: Tensor, error: float) -> Tensor:
    """Whether each x [n, D] is inside the ball of any y, of squared radii [M]: [n]. As by `pairs_inside`.

    It overwrites `lowered` [n, M], as another block of memory takes longer to get than to fill.
    """
    height = lowered.sub_(radii.to(lowered.dtype)).amin(1) + own  # above the surface of the ball it is deepest in
    answer, doubtful = height < -error, (height.abs() <= error).nonzero().squeeze(1)
    heights = (lowered[doubtful] + own[doubtful, None]).T  # [M, n']
    _, found = pairs_inside(y, x[doubtful], heights, radii, radii, error)  # lowered by the radii: so these are both
    answer[doubtful[found]] = True
    return answer


def screening(x: Tensor) -> Tensor:
    """What rough distances are computed of: in float32, twice as fast, where its multiplication is not rougher yet."""
    full = x.device.type == "cpu" and torch.get_float32_matmul_precision() == "highest"
    return x.float() if full and x.abs().max() < LARGE else x


def neighbour_quality(real: Tensor, fake: Tensor, k: PositiveInt = 5) -> NeighbourQuality:
    """Of features [N, D] and [M, D]. A point on the surface of a ball is not inside, as in the authors' prdc.

    Raises:
        DataError: fewer than k + 1 samples, or features that are not finite or differ in D.
    """
    real, fake = checked_pair(real, fake, at_least=k + 1)
    origin = real.mean(0)  # where the rounding error is small
    centred, others = real - origin, fake - origin  # for rough distances alone
    real_radii, fake_radii = squared_radii(real, centred, k), squared_radii(fake, others, k)  # [N], [M]
    rough, others = screening(centred), screening(others)
    own, error = rough.square().sum(1), rounding_error(rough, others)
    balls = torch.zeros(len(fake), dtype=torch.long, device=fake.device)  # of reals, that each fake is in
    recalled = covered = 0
    for rows, lowered in blocks(rough, others):
        i, j = pairs_inside(real[rows], fake, lowered, own[rows], real_radii[rows], error)
        balls += torch.bincount(j, minlength=len(fake))
        covered += len(i.unique())
        recalled += int(inside_any(real[rows], fake, lowered, own[rows], fake_radii, error).sum())
    return NeighbourQuality(
        precision=(balls > 0).double().mean().item(),
        recall=recalled / len(real),
        density=balls.double().mean().item() / k,
        coverage=covered / len(real),
    )
