"""The maximum mean discrepancy: the squared distance between two distributions' means in a kernel's feature space."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ganlab.config.ranges import PositiveInt
from ganlab.errors import DataError
from ganlab.metrics.distances import rows_at_a_time, squared_distances
from ganlab.metrics.features import checked_pair, draws

MEDIAN_OF = 1000  # samples whose distances give the median

Kernel = Callable[[Tensor, Tensor], Tensor]  # [N, D], [M, D] -> [N, M]


class Estimate(NamedTuple):
    """A value and its standard error."""

    value: float
    error: float


def cubic(x: Tensor, y: Tensor) -> Tensor:
    """(x y / D + 1)^3 (Binkowski et al., 2018, section 3.1)."""
    return torch.addmm(x.new_ones(1), x, y.T, alpha=1 / x.shape[1]).pow_(3)


def gaussian(x: Tensor, y: Tensor, bandwidth: float) -> Tensor:
    """exp(-|x - y|^2 / (2 bandwidth^2))."""
    return squared_distances(x, y).div_(-2 * bandwidth**2).exp_()


def own_means(x: Tensor, kernel: Kernel) -> Tensor:
    """The mean of k(x_i, x_j) over j other than i, [N]."""
    sums, size = x.new_zeros(len(x)), rows_at_a_time(x, len(x))
    for start in range(0, len(x), size):
        end = min(start + size, len(x))
        values = kernel(x[start:end], x[start:])  # the rest is known by symmetry
        sums[start:end] += values.sum(1) - values.diagonal()
        sums[end:] += values[:, end - start :].sum(0)
    return sums / (len(x) - 1)


def cross_means(x: Tensor, y: Tensor, kernel: Kernel) -> tuple[Tensor, Tensor]:
    """The means of k(x_i, y_j) over j, [N], and over i, [M]."""
    of_x, of_y = [], y.new_zeros(len(y))
    for rows in x.split(rows_at_a_time(x, len(y))):
        values = kernel(rows, y)
        of_x.append(values.mean(1))
        of_y += values.sum(0)
    return torch.cat(of_x), of_y / len(x)


def contributions(x: Tensor, y: Tensor, kernel: Kernel) -> tuple[Tensor, Tensor]:
    """What each x adds [N] and each y [M]; their means add up to the unbiased MMD^2 (Gretton et al., 2012, eq. 3)."""
    of_x, of_y = cross_means(x, y, kernel)
    return own_means(x, kernel) - of_x, own_means(y, kernel) - of_y


def kernel_distance(
    real: Tensor, fake: Tensor, subset_size: PositiveInt = 1000, num_subsets: PositiveInt = 100, seed: int = 0
) -> Estimate:
    """KID of features [N, D] and [M, D]: the unbiased MMD^2 with a cubic kernel (Binkowski et al., 2018, section 4).

    It may be negative. The mean of random subsets is taken where they have fewer pairs than the whole. Else, as for up
    to 10,000 samples by default, the whole is: it estimates the same with less noise. The error is that of drawing the
    samples, from the variance of what each contributes, and the subsets; it is too large, not too small, between sets
    that are nearly alike (1.4 times for the whole, more for small subsets).
    """
    real, fake = checked_pair(real, fake, at_least=2)
    parts = subset_contributions(real, fake, subset_size, num_subsets, seed)
    of_real, of_fake = zip(*parts, strict=True)
    value = torch.cat([*of_real]).mean() + torch.cat([*of_fake]).mean()
    variance = sampling_variance(of_real, len(real)) + sampling_variance(of_fake, len(fake))
    return Estimate(value.item(), variance**0.5)


def subset_contributions(real: Tensor, fake: Tensor, size: int, num: int, seed: int) -> list[tuple[Tensor, Tensor]]:
    """The `contributions` within each subset, or within the whole where that is less work."""
    if size >= min(len(real), len(fake)) or num * size**2 >= len(real) * len(fake):
        return [contributions(real, fake, cubic)]
    generator = draws(seed)

    def pick(x: Tensor) -> Tensor:
        return x[torch.randperm(len(x), generator=generator)[:size].to(x.device)]

    return [contributions(pick(real), pick(fake), cubic) for _ in range(num)]


def sampling_variance(parts: Sequence[Tensor], num: int) -> float:
    """What one of the sets, of `num` samples, adds to the variance of the mean over subsets of it.

    The variance within one subset is four times that of the mean contribution (the projection of a U-statistic:
    Hoeffding, 1948). The share of it that is the whole set's own error stays; only the rest is averaged away.
    """
    size = len(parts[0])
    variance = 4 * torch.stack([part.var() for part in parts]).mean().item() / size
    own = size / num
    return variance * (own + (1 - own) / len(parts))


def median_distance(x: Tensor) -> float:
    """Between pairs of x [N, D], or of 1,000 evenly spaced rows where it has more."""
    rows = torch.linspace(0, len(x) - 1, min(len(x), MEDIAN_OF), dtype=torch.float64).long()
    return torch.pdist(x[rows.to(x.device)]).quantile(0.5).item()


def mmd(a: Tensor, b: Tensor, bandwidth: float | None = None) -> float:
    """The unbiased MMD^2 of a [N, D] and b [M, D] with a Gaussian kernel, which may be negative (Gretton et al., 2012).

    Args:
        bandwidth: standard deviation of the kernel, in the units of the points; None: the median distance within both
            sets together (section 8 there).

    Raises:
        DataError: that median is 0, or the points are not finite or differ in D.
    """
    a, b = checked_pair(a, b, at_least=2)
    both = torch.cat([a, b])
    bandwidth = median_distance(both) if bandwidth is None else bandwidth
    if bandwidth <= 0:
        raise DataError(f"the bandwidth must be more than 0, is {bandwidth:g} (None: the median distance)")
    origin = both.mean(0)
    of_a, of_b = contributions(a - origin, b - origin, partial(gaussian, bandwidth=bandwidth))
    return (of_a.mean() + of_b.mean()).item()
