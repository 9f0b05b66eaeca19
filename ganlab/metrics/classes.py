"""Metrics of the class probabilities that a classifier assigns to samples."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ganlab.errors import DataError
from ganlab.metrics.features import checked

SUM_TOLERANCE = 1e-3  # allowed deviation of a row sum from 1; a softmax in half precision stays below it


class Modes(NamedTuple):
    """Class coverage of the samples (Lin et al., 2018, PacGAN, section 4.2).

    Attributes:
        modes: number of classes with at least one sample.
        kl: KL divergence of the samples' class shares from those of the data, in nats.
    """

    modes: int
    kl: float


def inception_score(probabilities: Tensor) -> float:
    """Inception score exp(E KL(p(y | x) || p(y))), from 1 to K (Salimans et al., 2016, section 4).

    The score uses all samples at once; the paper averages over ten splits. Few samples bias it upwards.

    Args:
        probabilities: class probabilities [N, K] of any classifier.
    """
    p = checked(probabilities, "probabilities")
    wrong = int((((p.sum(1) - 1).abs() > SUM_TOLERANCE) | (p < 0).any(1)).sum())
    if wrong:
        raise DataError(f"probabilities: {wrong:,} of {len(p):,} rows are negative or do not sum to 1")
    marginal = p.mean(0)
    information = (torch.special.xlogy(p, p) - torch.special.xlogy(p, marginal)).sum(1).mean()
    return math.exp(information.item())


def class_shares(predicted: Tensor, num_classes: int) -> Tensor:
    """Share of each class, float64 [K], among the predicted class indices [N]."""
    if predicted.numel() == 0:
        raise DataError("predicted classes: at least 1 sample is needed, there are 0")
    if int(predicted.min()) < 0 or int(predicted.max()) >= num_classes:
        span = f"{int(predicted.min())} to {int(predicted.max())}"
        raise DataError(f"predicted classes: {span} is outside 0 to {num_classes - 1}")
    return torch.bincount(predicted.flatten().cpu(), minlength=num_classes).double() / predicted.numel()


def kl_divergence(p: Tensor, q: Tensor) -> float:
    """KL divergence sum p log(p / q) of shares [K], in nats; infinite if q is 0 where p is not."""
    if p.shape != q.shape:
        raise DataError(f"shares have different numbers of classes: {p.numel():,} and {q.numel():,}")
    p, q = p.cpu().double(), q.cpu().double()
    return (torch.special.xlogy(p, p) - torch.special.xlogy(p, q)).sum().item()


def jensen_shannon(p: Tensor, q: Tensor) -> float:
    """Jensen-Shannon divergence of shares [K], in nats, from 0 to log 2 (Lin, 1991, eq. 4.1)."""
    mean = (p + q) / 2
    return (kl_divergence(p, mean) + kl_divergence(q, mean)) / 2


def modes_captured(predicted: Tensor, num_classes: int, shares: Tensor | None = None) -> Modes:
    """Compare the predicted classes [N] of samples with the class shares [K] of the data.

    Args:
        shares: None: all classes have equal shares.
    """
    found = class_shares(predicted, num_classes)
    expected = torch.full_like(found, 1 / num_classes) if shares is None else shares
    return Modes(int((found > 0).sum()), kl_divergence(found, expected))
