"""Samples of a trained generator: `python -m ganlab.sample run=FOLDER num=36 seed=0 out=samples.png`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Le

from ganlab import command_line, config
from ganlab.errors import CheckpointError, ConfigError
from ganlab.ranges import Seed
from ganlab.runs import read_result
from ganlab.terminal import printable

if TYPE_CHECKING:
    import torch
    from omegaconf import DictConfig
    from torch import Tensor, nn

    from ganlab.data.units import Units
    from ganlab.game import Players, Sampler


class TrainedGenerator:
    """The generator of a run, ready to sample from.

    Attributes:
        network: maps latents [B, latent_dim], and labels [B] if it is told classes, to examples, images in [-1, 1].
        players: the run's, for what latents it takes.
        classes: the names of the classes it is told; (): none.
        units: of the points it makes.
        weights: `ema` or `raw`, which it has.
        step: of the checkpoint it is from.
    """

    def __init__(
        self,
        players: Players,
        classes: tuple[str, ...],
        units: Units,
        weights: str,
        step: int,
        device: torch.device,
    ) -> None:
        self.network, self.players, self.classes, self.units = players.generator, players, classes, units
        self.weights, self.step, self.device = weights, step, device

    @property
    def sampler(self) -> Sampler:
        from ganlab.game import Sampler

        return Sampler(self.network, self.players, self.units)

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
        return cls.build(config.load(folder, trust), folder, weights=weights, checkpoint=checkpoint, device=device)

    @classmethod
    def build(
        cls, cfg: DictConfig, folder: str | Path, *, weights: str | None, checkpoint: str, device: str
    ) -> TrainedGenerator:
        """The same of a config that `ganlab.config.load` has read from the folder and checked."""
        from ganlab import devices
        from ganlab.build import build_players
        from ganlab.checkpoints import Checkpoints, check_facts, read, restore_network
        from ganlab.data.dataset import Description
        from ganlab.entries import check_like

        path = Checkpoints(Path(folder) / "checkpoints").find(str(checkpoint))
        content = read(path)
        check_facts(path, content)
        refuse_mixed(Path(folder), cfg, path, content["config_hash"])
        kept = ("ema", "raw") if cfg.trainer.get("ema_half_life", "default") is not None else ("raw",)
        chosen = weights or kept[0]
        if chosen not in kept:
            raise CheckpointError(f"weights={chosen}: this run has {' and '.join(kept)}")
        name = {"ema": "ema", "raw": "generator"}[chosen]
        about = Description.read(content["data"])
        players = build_players(cfg, about)
        generator = players.generator
        used = {key: entry for key, entry in content.items() if key == name}
        check_like(f"{path}: ", used, {name: generator.state_dict()})
        restore_network(generator, content[name])
        where = devices.resolve(device)
        generator.to(where).eval().register_forward_hook(partial(refuse_infinite, path))
        classes = about.classes if players.num_classes else ()
        return cls(players, classes, about.units, chosen, content["step"], where)

    def sample(self, num: int, seed: int = 0, label: str | int | None = None) -> torch.Tensor:
        """`num` samples: images float32 [num, C, H, W] in [0, 1], or points [num, D] in the units of the data.

        Sample number i depends on the seed and i alone, not on how many are asked for.

        Args:
            label: name of the class to make, 5 being as good as "5"; None: of all classes, evenly, where the generator
                is told them.

        Raises:
            ConfigError: there is no such class.
        """
        import torch

        number = None
        if label is not None:
            if str(label) not in self.classes:
                allowed = (
                    f"one of {', '.join(self.classes)}" if self.classes else "left out: the run was told no classes"
                )
                raise ConfigError(f"label={label}: must be {allowed}")
            number = self.classes.index(str(label))
        return torch.cat([batch.x.cpu() for batch in self.sampler.batches(num, seed, number)])


def refuse_mixed(folder: Path, cfg: DictConfig, checkpoint: Path, checkpoint_hash: str) -> None:
    """Refuse a folder whose config, result and checkpoint are of different runs.

    The two hashes may differ: a resume may change the config, and `result.json` lists every one that the run has had.

    Raises:
        CheckpointError: the config or the checkpoint is of another run.
    """
    hashes = read_result(folder).get("config_hashes")
    known = hashes if isinstance(hashes, list) else [checkpoint_hash]
    for file, found in ((folder / ".hydra" / "config.yaml", config.config_hash(cfg)), (checkpoint, checkpoint_hash)):
        if found not in known:
            raise CheckpointError(f"{file}: config_hash {found} is not one of this run's, {', '.join(map(str, known))}")


def refuse_infinite(checkpoint: Path, generator: nn.Module, z: tuple[Tensor, ...], samples: Tensor) -> None:
    """Finite weights may overflow; clamped to [0, 1], the images of infinite numbers would pass for samples."""
    if not bool(samples.isfinite().all()):
        raise CheckpointError(f"{checkpoint}: the generator's samples are not finite numbers")


def sample(
    run: str,
    num: Annotated[int, Ge(1), Le(10_000_000)] = 36,
    seed: Seed = 0,
    out: str = "samples.png",
    weights: Literal["ema", "raw"] | None = None,
    checkpoint: str = "last",
    label: str | None = None,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    trust: Sequence[str] = (),
) -> None:
    """Samples of a trained generator.

    python -m ganlab.sample run=FOLDER [num=36] [seed=0] [out=samples.png] [weights=ema|raw] [checkpoint=last|STEP]
                            [label=CLASS] [device=auto|cpu|cuda|mps] ['trust=[my_module]']

    out      ends in .npy: float32, images [num, C, H, W] in [0, 1], points [num, D]; ends in .png: a grid of images or
             a scatter of points; anything else: a folder, into which every image is written as a PNG of its own.
    weights  the averaged ones (ema) where the run kept them, else the raw ones.
    label    the class to make, where the run was told classes (condition=); else samples are of all of them, evenly.
    trust    your own modules that the run's networks come from.
    """
    import numpy as np

    from ganlab.figures import images, points

    target = Path(out)
    is_folder = target.suffix == "" or target.is_dir() or out.endswith("/")
    if not is_folder and target.suffix not in (".npy", ".png"):
        raise ConfigError(f"out={out}: must end in .npy or .png, or be a folder")
    generator = TrainedGenerator.load(run, weights=weights, checkpoint=checkpoint, device=device, trust=tuple(trust))
    samples = generator.sample(num, seed, label)
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
    print(printable(f"{num} samples of step {generator.step}, {generator.weights} weights: {out}"))


def main() -> None:
    arguments = sys.argv[1:]
    sys.exit(command_line.run(lambda: command_line.call(sample, arguments), arguments))


if __name__ == "__main__":
    main()
