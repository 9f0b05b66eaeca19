"""Loads the generator of a run from its folder."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ganlab.config import run_config
from ganlab.errors import CheckpointError, ConfigError
from ganlab.runs.folder import check_same_run, read_result

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from ganlab.config.run_config import RunConfig
    from ganlab.data.units import AffineUnits
    from ganlab.game import Players
    from ganlab.sampling import Sampler


class TrainedGenerator:
    """The generator of a run, ready to sample from.

    Attributes:
        network: maps latents [B, latent_dim], and labels [B] if conditional, to examples; images are in [-1, 1].
        players: the run's networks, which define the distribution of latents.
        classes: names of the classes it is conditional on; () if unconditional.
        units: units of the points it generates.
        weights: `ema` for averaged weights, `raw` for those of the last update.
        step: step of the checkpoint.
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

        return Sampler(self.network, self.players, self.units, self.weights)

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
        """Load from a run's folder; takes the arguments of `ganlab.load_run`."""
        return cls.build(run_config.load(folder, trust), folder, weights=weights, checkpoint=checkpoint, device=device)

    @classmethod
    def build(
        cls, cfg: RunConfig, folder: str | Path, *, weights: str | None, checkpoint: str, device: str
    ) -> TrainedGenerator:
        """Load from a run's folder, given its config from `ganlab.config.run_config.load`."""
        from ganlab.build import build_players
        from ganlab.config.entries import check_structure
        from ganlab.data.dataset import Description
        from ganlab.runs.checkpoints import Checkpoints, check_metadata, read, restore_network
        from ganlab.training import devices

        path = Checkpoints(Path(folder) / "checkpoints").find(str(checkpoint))
        content = read(path)
        check_metadata(path, content)
        hashes = read_result(Path(folder)).get("config_hashes")
        known = hashes if isinstance(hashes, list) else [content["config_hash"]]
        check_same_run(Path(folder) / ".hydra" / "config.yaml", cfg.hash, known)
        check_same_run(path, content["config_hash"], known)
        available = ("ema", "raw") if cfg.select("trainer.ema_half_life", "default") is not None else ("raw",)
        chosen = weights or available[0]
        if chosen not in available:
            raise CheckpointError(f"weights={chosen}: must be {' or '.join(available)} for this run")
        name = {"ema": "ema", "raw": "generator"}[chosen]
        description = Description.read(content["data"])
        players = build_players(cfg, description)
        generator = players.generator
        entries = {key: entry for key, entry in content.items() if key == name}
        check_structure(f"{path}: ", entries, {name: generator.state_dict()})
        restore_network(generator, content[name])
        torch_device = devices.resolve(device)
        devices.warn_of_broken_cuda(device, torch_device)
        generator.to(torch_device).eval().register_forward_hook(partial(refuse_nonfinite, path))
        classes = description.classes if players.num_classes else ()
        return cls(players, classes, description.units, chosen, content["progress"]["step"], torch_device)

    def sample(self, num: int, seed: int = 0, label: str | int | None = None) -> torch.Tensor:
        """Generate `num` samples: float32 images [num, C, H, W] in [0, 1], or points [num, D] in the units of the data.

        Sample number i depends only on the seed and i, not on `num`.

        Args:
            label: name of the class to generate; 5 is the same as "5". None samples classes uniformly if the generator
                is conditional.

        Raises:
            ConfigError: the generator has no such class.
        """
        import torch

        number = None
        if label is not None:
            if str(label) not in self.classes:
                allowed = f"must be one of {', '.join(self.classes)}"
                unconditional = "this run is unconditional; drop label="
                raise ConfigError(f"label={label}: {allowed if self.classes else unconditional}")
            number = self.classes.index(str(label))
        return torch.cat([batch.x.cpu() for batch in self.sampler.batches(num, seed, number)])


def refuse_nonfinite(checkpoint: Path, generator: nn.Module, z: tuple[Tensor, ...], samples: Tensor) -> None:
    """Refuse non-finite samples: finite weights can overflow, and clamping would turn infinities into valid pixels."""
    if not bool(samples.isfinite().all()):
        raise CheckpointError(f"{checkpoint}: the generator's samples are not finite")
