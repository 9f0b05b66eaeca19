"""What the two players minimise, per example, as functions of logits.

A loss has two methods, both mapping logits [B] of paired real and fake examples to losses [B]:
`discriminator(real, fake)` and `generator(real, fake)`. `generator_sees_real` says whether the latter reads `real`,
which then costs one more pass of the discriminator.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch.nn.functional as F
from torch import Tensor


@runtime_checkable
class Loss(Protocol):
    generator_sees_real: bool

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor: ...

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor: ...


class BCE:
    """Binary cross-entropy with the non-saturating generator loss (Goodfellow et al., 2014, eq. 1 and section 3).

    With D = sigmoid(logit): -log D(x) - log(1 - D(G(z))) for the discriminator, -log D(G(z)) for the generator.
    """

    generator_sees_real = False

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return F.softplus(-real) + F.softplus(fake)

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        return F.softplus(-fake)
