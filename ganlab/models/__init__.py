"""The networks: generators map latents [B, latent_dim] to data, discriminators map data to logits [B].

Those that can be conditional take `num_classes`, 0 for none, and then a label [B] for each latent or example.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from ganlab.config.ranges import SmallCount, Width


class ShapeError(ValueError):
    """The examples of the dataset are of a shape that a network cannot make or judge."""


@dataclass(frozen=True)
class Model:
    """The two players, still to be sized by the data.

    Attributes:
        latent_dim: numbers per latent.
        generator: called as `generator(latent_dim=, shape=)`, and with `num_classes=` if it has such a parameter.
        discriminator: called as `discriminator(shape=)`, and likewise.
        pack: examples that the discriminator judges at a time, joined to one (Lin et al., 2018, PacGAN).
    """

    latent_dim: Width
    generator: Callable[..., nn.Module]
    discriminator: Callable[..., nn.Module]
    pack: SmallCount = 1
