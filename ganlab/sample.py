"""Samples of a trained generator: `python -m ganlab.sample run=<run folder> num=36 seed=0 out=<file or folder>`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Le

from ganlab import command_line, config
from ganlab.errors import CheckpointError, ConfigError
from ganlab.ranges import Seed

if TYPE_CHECKING:
    import torch
    from torch import nn


class TrainedGenerator:
    """The generator of a run, ready to sample from.

    Attributes:
        network: maps latents [B, latent_dim] to examples, images in [-1, 1].
        latent_dim: numbers per latent.
        weights: `ema` or `raw`, which it has.
        step: of the checkpoint it is from.
    """

    def __init__(self, network: nn.Module, latent_dim: int, weights: str, step: int, device: torch.device) -> None:
        self.network, self.latent_dim, self.weights, self.step, self.device = (
            network,
            latent_dim,
            weights,
            step,
            device,
        )

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        weights: str | None = None,
        checkpoint: str = "last",
        device: str = "auto",
        trust: tuple[str, ...] = (),
    ) -> TrainedGenerator:
        """From a run's folder; the arguments are those of `ganlab.load_run`."""
        from ganlab import devices
        from ganlab.build import build_networks, instantiate
        from ganlab.checkpoints import Checkpoints
        from ganlab.data.dataset import Dataset

        cfg = config.load(folder, trust)
        content = Checkpoints(Path(folder) / "checkpoints").load(str(checkpoint))
        chosen = weights or ("ema" if "ema" in content else "raw")
        name = {"ema": "ema", "raw": "generator"}.get(chosen)
        if name not in content:
            kept = ", ".join(w for w, n in (("ema", "ema"), ("raw", "generator")) if n in content)
            raise CheckpointError(f"weights={chosen}: this checkpoint has {kept}")
        networks = build_networks(cfg, instantiate(cfg, "dataset", Dataset))
        try:
            networks.generator.load_state_dict(content[name])
        except RuntimeError as error:
            raise CheckpointError(f"{folder}: checkpoint and config differ: {error}") from error
        where = devices.resolve(device)
        return cls(networks.generator.to(where).eval(), networks.latent_dim, chosen, content["step"], where)

    def sample(self, num: int, seed: int = 0) -> torch.Tensor:
        """`num` samples: images float32 [num, C, H, W] in [0, 1], or points [num, D].

        Sample number i depends on the seed and i alone, not on how many are asked for.
        """
        import torch

        from ganlab import game
        from ganlab.randomness import BLOCK, generator

        blocks = range(-(-num // BLOCK))
        z = [torch.randn(BLOCK, self.latent_dim, generator=generator(seed, "sample", index)) for index in blocks]
        return game.sample(self.network, torch.cat(z)[:num].to(self.device)).cpu()


def sample(
    run: str,
    num: Annotated[int, Ge(1), Le(10_000_000)] = 36,
    seed: Seed = 0,
    out: str = "samples.png",
    weights: Literal["ema", "raw"] | None = None,
    checkpoint: str = "last",
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    trust: Sequence[str] = (),
) -> None:
    """Samples of a trained generator.

    python -m ganlab.sample run=FOLDER [num=36] [seed=0] [out=samples.png] [weights=ema|raw] [checkpoint=last|STEP]
                            [device=auto|cpu|cuda|mps] [trust=[my_module]]

    out      ends in .npy: float32, images [num, C, H, W] in [0, 1], points [num, D]; ends in .png: a grid of images or
             a scatter of points; anything else: a folder, into which every image is written as a PNG of its own.
    weights  the averaged ones (ema) where the run kept them, else the raw ones.
    trust    your own modules that the run's networks come from.
    """
    import numpy as np

    from ganlab.figures import images, points

    target = Path(out)
    is_folder = target.suffix == "" or target.is_dir() or out.endswith("/")
    if not is_folder and target.suffix not in (".npy", ".png"):
        raise ConfigError(f"out={out}: must end in .npy or .png, or be a folder")
    generator = TrainedGenerator.load(run, weights=weights, checkpoint=checkpoint, device=device, trust=tuple(trust))
    samples = generator.sample(num, seed)
    is_image = samples.dim() == 4
    if is_folder and not is_image:
        raise ConfigError(f"out={out}: a folder is for images, and this run makes points; use .npy or .png")
    target.parent.mkdir(parents=True, exist_ok=True)
    if is_folder:
        images.save_each(images.to_bytes(samples), target)
    elif target.suffix == ".npy":
        np.save(target, samples.numpy())
    elif is_image:
        images.grid(images.to_bytes(samples)).save(target)
    else:
        points.scatter(samples.numpy(), target)
    print(f"{num} samples of step {generator.step}, {generator.weights} weights: {out}")


def main() -> None:
    arguments = sys.argv[1:]
    sys.exit(command_line.run(lambda: command_line.call(sample, arguments), arguments))


if __name__ == "__main__":
    main()
