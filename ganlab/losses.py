"""What the two players minimise, per example, as functions of logits.

A loss has two methods, both mapping logits [B] of paired real and fake examples to losses [B]:
`discriminator(real, fake)` and `generator(real, fake)`. `generator_sees_real` says whether the latter reads `real`,
which then costs one more pass of the discriminator. `boundary` is the logit of a discriminator that cannot decide, or
None where only differences of logits mean anything. Below, D(x) is the logit, p(x) = sigmoid(D(x)), x a real and
G(z) a fake example.
"""

from __future__ import annotations

from typing import Annotated, Protocol, runtime_checkable

import torch.nn.functional as F
from annotated_types import Ge, Lt
from torch import Tensor

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

    def __init__(self, smoothing: Smoothing = 0.0) -> None:
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

    The discriminator has to be kept Lipschitz: by `penalty=gradient_penalty`, or by spectral norms.
    """

    generator_sees_real = False
    boundary = None

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return fake - real

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        return -fake


class Relativistic:
    """-log sigmoid(D(x) - D(G(z))), and the same with the two exchanged, each fake being paired with a real example.

    Jolicoeur-Martineau (2019), section 4, there called RSGAN; RpGAN in Huang et al. (2024), eq. 2.
    """

    generator_sees_real = True
    boundary = None

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return F.softplus(fake - real)

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        assert real is not None
        return F.softplus(real - fake)


class RelativisticAverage:
    """As cross-entropy, each logit being taken against the mean logit of the other kind (RaSGAN).

    Jolicoeur-Martineau (2019), section 4; ESRGAN: Wang et al. (2018), eq. 1 and 2.
    """

    generator_sees_real = True
    boundary = None

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return F.softplus(fake.mean() - real) + F.softplus(fake - real.mean())

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        assert real is not None
        return self.discriminator(fake, real)
