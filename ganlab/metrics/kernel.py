"""Maximum mean discrepancy (MMD): the distance between the kernel mean embeddings of two distributions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ganlab.config.ranges import PositiveInt
from ganlab.errors import DataError
from ganlab.metrics.distances import rows_per_block, squared_distances
from ganlab.metrics.features import checked_pair, cpu_rng

MEDIAN_SAMPLES = 1000  # number of samples used for the median distance

Kernel = Callable[[Tensor, Tensor], Tensor]  # [N, D], [M, D] -> [N, M]


class Estimate(NamedTuple):
    """A value and its standard error."""

    value: float
    error: float


def cubic(x: Tensor, y: Tensor) -> Tensor:
    """Cubic kernel (x y / D + 1)^3 (Binkowski et al., 2018, section 3.1)."""
    return torch.addmm(x.new_ones(1), x, y.T, alpha=1 / x.shape[1]).pow_(3)


def gaussian(x: Tensor, y: Tensor, bandwidth: float) -> Tensor:
    """Gaussian kernel exp(-|x - y|^2 / (2 bandwidth^2))."""
    return squared_distances(x, y).div_(-2 * bandwidth**2).exp_()


def own_means(x: Tensor, kernel: Kernel) -> Tensor:
    """Mean of k(x_i, x_j) over all j != i, [N]."""
    sums, size = x.new_zeros(len(x)), rows_per_block(x, len(x))
    for start in range(0, len(x), size):
        end = min(start + size, len(x))
        values = kernel(x[start:end], x[start:])  # symmetry gives the rest
        sums[start:end] += values.sum(1) - values.diagonal()
        sums[end:] += values[:, end - start :].sum(0)
    return sums / (len(x) - 1)


def cross_means(x: Tensor, y: Tensor, kernel: Kernel) -> tuple[Tensor, Tensor]:
    """Means of k(x_i, y_j) over j, [N], and over i, [M]."""
    of_x, of_y = [], y.new_zeros(len(y))
    for rows in x.split(rows_per_block(x, len(y))):
        values = kernel(rows, y)
        of_x.append(values.mean(1))
        of_y += values.sum(0)
    return torch.cat(of_x), of_y / len(x)


def contributions(x: Tensor, y: Tensor, kernel: Kernel) -> tuple[Tensor, Tensor]:
    """Contributions of each x, [N], and each y, [M], to the unbiased MMD^2 (Gretton et al., 2012, eq. 3).

    The sum of their two means is the unbiased MMD^2.
    """
    of_x, of_y = cross_means(x, y, kernel)
    return own_means(x, kernel) - of_x, own_means(y, kernel) - of_y


def kernel_distance(
    real: Tensor, fake: Tensor, subset_size: PositiveInt = 1000, num_subsets: PositiveInt = 100, seed: int = 0
) -> Estimate:
    """KID of features [N, D] and [M, D]: unbiased MMD^2 with a cubic kernel (Binkowski et al., 2018, section 4).

    The value can be negative. It is a mean over random subsets if these have fewer pairs than the full sets. Otherwise,
    by default for up to 10,000 samples, it uses the full sets, which estimates the same value with less noise.

    The standard error covers the sampling of the examples, estimated from the variance of their contributions, and
    the choice of subsets. For nearly identical distributions it is too large: 1.4 times for the full sets, more for
    small subsets.
    """
    real, fake = checked_pair(real, fake, at_least=2)
    parts = subset_contributions(real, fake, subset_size, num_subsets, seed)
    of_real, of_fake = zip(*parts, strict=True)
    value = torch.cat([*of_real]).mean() + torch.cat([*of_fake]).mean()
    variance = sampling_variance(of_real, len(real)) + sampling_variance(of_fake, len(fake))
    return Estimate(value.item(), variance**0.5)


def subset_contributions(real: Tensor, fake: Tensor, size: int, num: int, seed: int) -> list[tuple[Tensor, Tensor]]:
    """The `contributions` within each random subset, or within the full sets if that costs less."""
    if size >= min(len(real), len(fake)) or num * size**2 >= len(real) * len(fake):
        return [contributions(real, fake, cubic)]
    rng = cpu_rng(seed)

    def pick(x: Tensor) -> Tensor:
        return x[torch.randperm(len(x), generator=rng)[:size].to(x.device)]

    return [contributions(pick(real), pick(fake), cubic) for _ in range(num)]


def sampling_variance(parts: Sequence[Tensor], num: int) -> float:
    """Variance of the mean over subsets that is due to one set of `num` samples.

    The variance for one subset is four times that of the mean contribution (projection of a U-statistic: Hoeffding,
    1948). Averaging over subsets does not reduce the share `size / num`, the sampling error of the set itself.

    Args:
        parts: contributions of the samples in each subset.
    """
    size = len(parts[0])
    variance = 4 * torch.stack([part.var() for part in parts]).mean().item() / size
    own = size / num
    return variance * (own + (1 - own) / len(parts))


def median_distance(x: Tensor) -> float:
    """Median distance between pairs of rows of x [N, D]; at most 1,000 evenly spaced rows are used."""
    rows = torch.linspace(0, len(x) - 1, min(len(x), MEDIAN_SAMPLES), dtype=torch.float64).long()
    return torch.pdist(x[rows.to(x.device)]).quantile(0.5).item()


def mmd(a: Tensor, b: Tensor, bandwidth: float | None = None) -> float:
    """Unbiased MMD^2 of a [N, D] and b [M, D] with a Gaussian kernel (Gretton et al., 2012). It can be negative.

    Args:
        bandwidth: standard deviation of the kernel, in the units of the points; None: the median distance between
            points of the union of both sets (section 8 of the paper).

    Raises:
        DataError: the median distance is 0, points are not finite, or the sets differ in D.
    """
    a, b = checked_pair(a, b, at_least=2)
    both = torch.cat([a, b])
    bandwidth = median_distance(both) if bandwidth is None else bandwidth
    if bandwidth <= 0:
        raise DataError(f"bandwidth={bandwidth:g}: must be greater than 0; the default is the median distance")
    origin = both.mean(0)
    of_a, of_b = contributions(a - origin, b - origin, partial(gaussian, bandwidth=bandwidth))
    return (of_a.mean() + of_b.mean()).item()
