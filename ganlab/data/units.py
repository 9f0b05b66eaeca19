"""Conversion between the range of the networks and the units of the data."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class AffineUnits:
    """Units of points: data units = model range * scale + center. The model range is [-1, 1].

    Attributes:
        center: one number per coordinate; (): zeros.
    """

    center: tuple[float, ...] = ()
    scale: float = 1.0

    def outside(self, x: Tensor) -> Tensor:
        """Convert from the model range: images [N, C, H, W] to [0, 1], points [N, D] to data units."""
        if x.dim() == 4:
            return x.add(1).div(2).clamp(0, 1)
        return x * self.scale + self._center(x)

    def inside(self, points: Tensor) -> Tensor:
        """Convert points [N, D] from data units to the model range."""
        return (points - self._center(points)) / self.scale

    def _center(self, like: Tensor) -> Tensor:
        return torch.tensor(self.center or 0.0, dtype=like.dtype, device=like.device)


NO_UNITS = AffineUnits()  # data units equal the model range
