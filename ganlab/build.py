"""From a config to objects, in the order in which they need each other. The only room that calls `instantiate`.

What comes out holds no config: every object was handed what it uses.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate as hydra_instantiate
from omegaconf import DictConfig
from torch import nn

from ganlab import config, devices
from ganlab.data.batches import check_batch_size
from ganlab.data.dataset import Dataset
from ganlab.errors import ConfigError, GanlabError
from ganlab.figures.images import ImagePictures
from ganlab.figures.points import PointPictures
from ganlab.game import Game
from ganlab.models import Model, ShapeError
from ganlab.randomness import seeded
from ganlab.runs import RunFolder
from ganlab.trackers import Unfailing
from ganlab.trainer import Trainer


class Networks(NamedTuple):
    generator: nn.Module
    discriminator: nn.Module
    latent_dim: int


def instantiate(node: DictConfig) -> Any:
    """The object that a node of the config describes.

    Raises:
        ConfigError: its constructor refused the values.
    """
    try:
        return hydra_instantiate(node, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, GanlabError):
            raise error.__cause__ from error
        raise ConfigError(" ".join(str(error).split())) from error


def check(cfg: DictConfig) -> None:
    """Refuse a config that cannot be run, before any data are read or a device is touched.

    Raises:
        ConfigError: with the key, its value and what is allowed.
    """
    config.check(cfg)
    dataset: Dataset = instantiate(cfg.dataset)
    dataset.check()
    if dataset.num_examples is not None:
        check_batch_size(cfg.trainer.batch_size, dataset.num_examples)
    build_networks(cfg, dataset)
    devices.resolve(cfg.device)


def build_networks(cfg: DictConfig, dataset: Dataset) -> Networks:
    """Both players, sized by the dataset's shape, with initial weights that depend on the seed alone.

    Raises:
        ConfigError: they cannot make or judge examples of that shape.
    """
    model: Model = instantiate(cfg.model)
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

    dataset: Dataset = instantiate(cfg.dataset)
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

    tracker = Unfailing(instantiate(cfg.tracker))
    draw = ImagePictures if is_image else PointPictures
    trainer: Trainer = instantiate(cfg.trainer)(
        generator=networks.generator,
        discriminator=networks.discriminator,
        latent_dim=networks.latent_dim,
        game=Game(instantiate(cfg.loss), instantiate(cfg.penalty)),
        optimizers=instantiate(cfg.optimizer),
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
