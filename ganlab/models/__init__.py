"""Networks: generators map latents [B, latent_dim] to examples, discriminators map examples to logits [B].

A network that can be conditional has a parameter `num_classes`, 0 if unconditional, and takes labels [B] in `forward`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from ganlab.config.ranges import SmallCount, Width


class ShapeError(ValueError):
    """A network does not support the shape of the dataset's examples."""


@dataclass(frozen=True)
class Model:
    """Factories of the two networks, called once the shape of the data is known.

    Attributes:
        latent_dim: dimension of the latents.
        generator: called as `generator(latent_dim=, shape=)`, and with `num_classes=` if it has such a parameter.
        discriminator: called as `discriminator(shape=)`, and likewise with `num_classes=`.
        pack: number of examples concatenated into one discriminator input (Lin et al., 2018, PacGAN).
    """

    latent_dim: Width
    generator: Callable[..., nn.Module]
    discriminator: Callable[..., nn.Module]
    pack: SmallCount = 1
