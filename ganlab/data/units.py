"""What examples are measured in outside the networks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class AffineUnits:
    """What points are measured in outside: inside * scale + center. Inside they lie within [-1, 1].

    Attributes:
        center: one number per coordinate; (): zeros.
    """

    center: tuple[float, ...] = ()
    scale: float = 1.0

    def outside(self, x: Tensor) -> Tensor:
        """Images [N, C, H, W] from [-1, 1] to [0, 1], points [N, D] to the units of their data."""
        if x.dim() == 4:
            return x.add(1).div(2).clamp(0, 1)
        return x * self.scale + self._center(x)

    def inside(self, points: Tensor) -> Tensor:
        """Points [N, D] as the networks see them."""
        return (points - self._center(points)) / self.scale

    def _center(self, like: Tensor) -> Tensor:
        return torch.tensor(self.center or 0.0, dtype=like.dtype, device=like.device)


AS_INSIDE = AffineUnits()
