"""From a config to objects, in the order in which they need each other. The only room that calls `instantiate`.

What comes out holds no config: every object was handed what it uses.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple, TypeVar

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate as hydra_instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

from ganlab import config, devices
from ganlab.data.batches import check_batch_size
from ganlab.data.dataset import Dataset
from ganlab.errors import ConfigError, GanlabError
from ganlab.figures.images import ImagePictures
from ganlab.figures.points import PointPictures
from ganlab.game import Game
from ganlab.losses import Loss
from ganlab.models import Model, ShapeError
from ganlab.optimizers import Optimizers
from ganlab.penalties import Penalty
from ganlab.randomness import seeded
from ganlab.runs import RunFolder
from ganlab.trackers import Tracker, Unfailing
from ganlab.trainer import Trainer

Kind = TypeVar("Kind")


class Networks(NamedTuple):
    generator: nn.Module
    discriminator: nn.Module
    latent_dim: int


def instantiate(cfg: DictConfig, key: str, kind: type[Kind]) -> Kind:
    """The object that a node of the config describes.

    Raises:
        ConfigError: its constructor refused the values, or it is not of that kind.
    """
    node = OmegaConf.select(cfg, key)
    try:
        made = hydra_instantiate(node, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, GanlabError):
            raise error.__cause__ from error
        raise ConfigError(f"{key}: {' '.join(str(error).split())}") from error
    if not isinstance(made, kind):
        raise ConfigError(f"{key}._target_={node._target_}: does not make a {kind.__name__}")
    return made


def check(cfg: DictConfig) -> None:
    """Refuse a config that cannot be run, before any data are read or a device is touched.

    Raises:
        ConfigError: with the key, its value and what is allowed.
    """
    config.check(cfg)
    dataset = instantiate(cfg, "dataset", Dataset)
    dataset.check()
    if dataset.num_examples is not None:
        check_batch_size(cfg.trainer.batch_size, dataset.num_examples)
    build_networks(cfg, dataset)
    build_game(cfg)
    instantiate(cfg, "optimizer", Optimizers)
    instantiate(cfg, "tracker", Tracker)
    devices.resolve(cfg.device)


def build_game(cfg: DictConfig) -> Game:
    penalties = {name: instantiate(cfg, f"penalty.{name}", Penalty) for name in map(str, cfg.penalty)}
    return Game(instantiate(cfg, "loss", Loss), penalties)


def build_networks(cfg: DictConfig, dataset: Dataset) -> Networks:
    """Both players, sized by the dataset's shape, with initial weights that depend on the seed alone.

    Raises:
        ConfigError: they cannot make or judge examples of that shape.
    """
    model = instantiate(cfg, "model", Model)
    misfit = f"model does not fit dataset {dataset.name} with examples of shape {list(dataset.shape)}"
    with seeded(cfg.seed, "weights"):
        try:
            generator = model.generator(latent_dim=model.latent_dim, shape=tuple(dataset.shape))
            discriminator = model.discriminator(shape=tuple(dataset.shape))
            with torch.no_grad():
                fake = generator.eval()(torch.zeros(2, model.latent_dim))
                logit = discriminator.eval()(torch.zeros(2, *dataset.shape))
        except (ShapeError, RuntimeError, ValueError, TypeError) as error:
            raise ConfigError(f"{misfit}: {' '.join(str(error).split())}") from error
    if fake.shape != (2, *dataset.shape):
        raise ConfigError(f"{misfit}: the generator makes {list(fake.shape[1:])}")
    if logit.shape != (2,):
        raise ConfigError(f"{misfit}: the discriminator must give one logit an example, [2], not {list(logit.shape)}")
    return Networks(generator.train(), discriminator.train(), model.latent_dim)


def build(cfg: DictConfig, run: RunFolder, *, resume: bool = False) -> Trainer:
    """All of a run, ready to train; `run` is opened, or reopened to `resume`.

    Raises:
        ConfigError: something does not fit.
        ganlab.errors.DataError: the data cannot be had.
        ganlab.errors.CheckpointError: there is nothing to resume, or it does not fit.
    """
    config.check(cfg)
    device = devices.resolve(cfg.device)
    devices.keep_freed_memory()

    dataset = instantiate(cfg, "dataset", Dataset)
    dataset.check()
    networks = build_networks(cfg, dataset)
    is_image = len(dataset.shape) == 3
    for network in (networks.generator, networks.discriminator):
        network.to(device)
        if is_image:  # on the CPU a third faster than channels first
            network.to(memory_format=torch.channels_last)

    examples = dataset.load()
    data = examples.data.to(device)
    facts = {"config": config.plain(cfg), "config_hash": config.config_hash(cfg)}
    about_data = {
        "name": dataset.name,
        "source": examples.source,
        "num_examples": len(examples),
        "hash": examples.fingerprint(),
    }
    if resume:
        run.reopen()
        if run.result["dataset"] != about_data:
            raise ConfigError(f"dataset: the run was trained on {run.result['dataset']}, and here is {about_data}")

    tracker = Unfailing(instantiate(cfg, "tracker", Tracker))
    draw = ImagePictures if is_image else PointPictures
    make_trainer = instantiate(cfg, "trainer", partial)
    trainer: Trainer = make_trainer(
        generator=networks.generator,
        discriminator=networks.discriminator,
        latent_dim=networks.latent_dim,
        game=build_game(cfg),
        optimizers=instantiate(cfg, "optimizer", Optimizers),
        data=data,
        seed=cfg.seed,
        run=run,
        tracker=tracker,
        pictures=draw(run, data, networks.latent_dim, cfg.seed, device),
        facts=facts,
    )
    if resume:
        trainer.restore()
        run.update(config_hash=facts["config_hash"], status="running", error=None)
    else:
        run.start({"seed": cfg.seed, "config_hash": facts["config_hash"], "dataset": about_data})
    return trainer
