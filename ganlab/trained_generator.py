"""The generator of a run, read from its folder."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ganlab.config import run_config
from ganlab.errors import CheckpointError, ConfigError
from ganlab.runs.folder import read_result

if TYPE_CHECKING:
    import torch
    from omegaconf import DictConfig
    from torch import Tensor, nn

    from ganlab.data.units import AffineUnits
    from ganlab.game import Players
    from ganlab.sampling import Sampler


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
        units: AffineUnits,
        weights: str,
        step: int,
        device: torch.device,
    ) -> None:
        self.network, self.players, self.classes, self.units = players.generator, players, classes, units
        self.weights, self.step, self.device = weights, step, device

    @property
    def sampler(self) -> Sampler:
        from ganlab.sampling import Sampler

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
        return cls.build(run_config.load(folder, trust), folder, weights=weights, checkpoint=checkpoint, device=device)

    @classmethod
    def build(
        cls, cfg: DictConfig, folder: str | Path, *, weights: str | None, checkpoint: str, device: str
    ) -> TrainedGenerator:
        """From a run's folder, given its config as `ganlab.config.run_config.load` returns it."""
        from ganlab.build import build_players
        from ganlab.config.entries import check_structure
        from ganlab.data.dataset import Description
        from ganlab.runs.checkpoints import Checkpoints, check_metadata, read, restore_network
        from ganlab.training import devices

        path = Checkpoints(Path(folder) / "checkpoints").find(str(checkpoint))
        content = read(path)
        check_metadata(path, content)
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
        check_structure(f"{path}: ", used, {name: generator.state_dict()})
        restore_network(generator, content[name])
        where = devices.resolve(device)
        generator.to(where).eval().register_forward_hook(partial(refuse_nonfinite, path))
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
    config_file = folder / ".hydra" / "config.yaml"
    for file, found in ((config_file, run_config.config_hash(cfg)), (checkpoint, checkpoint_hash)):
        if found not in known:
            raise CheckpointError(f"{file}: config_hash {found} is not one of this run's, {', '.join(map(str, known))}")


def refuse_nonfinite(checkpoint: Path, generator: nn.Module, z: tuple[Tensor, ...], samples: Tensor) -> None:
    """Finite weights may overflow, and clamping to [0, 1] would turn infinities into valid pixels."""
    if not bool(samples.isfinite().all()):
        raise CheckpointError(f"{checkpoint}: the generator's samples are not finite")
