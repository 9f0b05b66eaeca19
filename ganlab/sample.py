"""Sample a trained generator: `python -m ganlab.sample run=FOLDER num=36 seed=0 out=samples.png`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Le

from ganlab.config import command_line
from ganlab.config.ranges import Seed
from ganlab.config.terminal import printable
from ganlab.errors import ConfigError


def sample(
    run: str,
    num: Annotated[int, Ge(1), Le(10_000_000)] = 36,
    seed: Seed = 0,
    out: str = "samples.png",
    weights: Literal["ema", "raw"] | None = None,
    checkpoint: str = "last",
    label: str | None = None,
    device: str = "auto",
    trust: Sequence[str] = (),
) -> None:
    """Sample a trained generator.

    python -m ganlab.sample run=FOLDER [num=36] [seed=0] [out=samples.png] [weights=ema|raw] [checkpoint=best|last|STEP]
                            [label=CLASS] [device=auto|cpu|cuda|cuda:N|mps] ['trust=[my_module]']

    out      .npy: float32, images [num, C, H, W] in [0, 1] or points [num, D]; .png: a grid of images or a scatter
             plot of points; anything else: a folder with one PNG per image.
    weights  ema: averaged weights, raw: weights of the last update; default: ema if the run has them.
    label    the class to generate, for conditional runs (condition=); default: all classes in equal shares.
    trust    your own modules that define networks of the run.
    """
    import numpy as np

    from ganlab.figures import images, points
    from ganlab.trained_generator import TrainedGenerator

    target = Path(out)
    is_folder = target.suffix == "" or target.is_dir() or out.endswith("/")
    if not is_folder and target.suffix not in (".npy", ".png"):
        raise ConfigError(f"out={out}: must end in .npy or .png, or be a folder")
    generator = TrainedGenerator.load(run, weights=weights, checkpoint=checkpoint, device=device, trust=tuple(trust))
    samples = generator.sample(num, seed, label)
    is_image = samples.dim() == 4
    if is_folder and not is_image:
        raise ConfigError(f"out={out}: is a folder, but this run generates points; use .npy or .png")
    target.parent.mkdir(parents=True, exist_ok=True)
    if is_folder:
        images.save_each(images.to_bytes(samples), target)
    elif target.suffix == ".npy":
        np.save(target, samples.numpy())
    elif is_image:
        images.grid(images.to_bytes(samples)).save(target)
    else:
        points.scatter(samples.numpy(), target)
    print(printable(f"{num} samples of step {generator.step}, {generator.weights} weights: {out}"))


def main() -> None:
    arguments = sys.argv[1:]
    sys.exit(command_line.run(lambda: command_line.call(sample, arguments), arguments))


if __name__ == "__main__":
    main()
