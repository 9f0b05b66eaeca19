"""Adversarial losses of the two players, per example, as functions of logits.

A loss has two methods, `discriminator(real, fake)` and `generator(real, fake)`. Both map the logits [B] of paired real
and fake examples to losses [B]. `generator_sees_real` is whether `generator` uses `real`, which costs one more forward
pass of the discriminator. `boundary` is the decision boundary between fake and real logits, or None if only differences
of logits are meaningful. Below, x is a real example, G(z) a fake one, D(x) a logit and p(x) = sigmoid(D(x)).
"""

from __future__ import annotations

from typing import Annotated, Protocol, runtime_checkable

import torch.nn.functional as F
from annotated_types import Ge, Lt
from torch import Tensor

from ganlab.config.stackable import Stackable

Smoothing = Annotated[float, Ge(0), Lt(0.5)]


@runtime_checkable
class Loss(Protocol):
    generator_sees_real: bool
    boundary: float | None

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor: ...

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor: ...


class NonSaturating:
    """Binary cross-entropy; the generator maximises log p(G(z)) (Goodfellow et al., 2014, eq. 1 and section 3).

    -log p(x) - log(1 - p(G(z))) for the discriminator, -log p(G(z)) for the generator.

    Args:
        smoothing: the discriminator's target for real examples is 1 - smoothing (Salimans et al., 2016, 3.4).
    """

    generator_sees_real = False
    boundary = 0.0

    def __init__(self, smoothing: Stackable[Smoothing] = 0.0) -> None:
        self.smoothing = smoothing

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return F.softplus(-real) + self.smoothing * real + F.softplus(fake)  # -(1 - s) log p - s log(1 - p), with s

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        return F.softplus(-fake)


class Saturating(NonSaturating):
    """Minimax: the generator minimises log(1 - p(G(z))) (Goodfellow et al., 2014, eq. 1)."""

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        return -F.softplus(fake)


class LeastSquares:
    """1/2 (D(x) - 1)^2 + 1/2 D(G(z))^2, and 1/2 (D(G(z)) - 1)^2 (LSGAN: Mao et al., 2017, eq. 9)."""

    generator_sees_real = False
    boundary = 0.5

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return ((real - 1).square() + fake.square()) / 2

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        return (fake - 1).square() / 2


class Hinge:
    """max(0, 1 - D(x)) + max(0, 1 + D(G(z))), and -D(G(z)) (Lim and Ye, 2017; Miyato et al., 2018, eq. 16 and 17)."""

    generator_sees_real = False
    boundary = 0.0

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return F.relu(1 - real) + F.relu(1 + fake)

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        return -fake


class Wasserstein:
    """D(G(z)) - D(x), and -D(G(z)) (Arjovsky, Chintala and Bottou, 2017, eq. 2).

    The discriminator must be Lipschitz: use `penalty=gradient_penalty` or spectral normalisation.
    """

    generator_sees_real = False
    boundary = None

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return fake - real

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        return -fake


class Relativistic:
    """-log sigmoid(D(x) - D(G(z))) for the discriminator; the generator swaps the two logits.

    Called RSGAN in Jolicoeur-Martineau (2019), section 4, and RpGAN in Huang et al. (2024), eq. 2.
    """

    generator_sees_real = True
    boundary = None

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return F.softplus(fake - real)

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        assert real is not None
        return F.softplus(real - fake)


class RelativisticAverage:
    """Cross-entropy of each logit minus the mean logit of the other class, real or fake (RaSGAN).

    Jolicoeur-Martineau (2019), section 4; ESRGAN: Wang et al. (2018), eq. 1 and 2.
    """

    generator_sees_real = True
    boundary = None

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return F.softplus(fake.mean() - real) + F.softplus(fake - real.mean())

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        assert real is not None
        return self.discriminator(fake, real)
