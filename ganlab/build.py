"""Builds the objects of a run from its config. Only this module calls `instantiate`.

The objects receive the values they use, never the config.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import torch
from hydra.errors import InstantiationException
from torch import nn

from ganlab.augment import Augment
from ganlab.config.hydra_internals import instantiate_checked
from ganlab.config.run_config import RunConfig
from ganlab.data.batches import Batches, check_batch_size
from ganlab.data.dataset import Dataset, Description, Examples
from ganlab.errors import ConfigError, GanlabError
from ganlab.figures.images import ImagePictures
from ganlab.figures.points import PointPictures
from ganlab.game import Game, Players, bind_label, packed
from ganlab.losses import Loss
from ganlab.metrics.evaluator import Metrics
from ganlab.models import Model, ShapeError, spectral_norm
from ganlab.models.conditioning import Conditioning
from ganlab.models.inits import Init
from ganlab.models.latents import Latent
from ganlab.optimizers import Optimizers
from ganlab.penalties import Penalty
from ganlab.rng import seeded
from ganlab.runs.checkpoints import Checkpoints
from ganlab.runs.folder import RunFolder
from ganlab.runs.provenance import provenance
from ganlab.sampling import Sampler, evaluating
from ganlab.schedules import Schedule
from ganlab.trackers import Tracker, Trackers
from ganlab.training import data_parallel, devices
from ganlab.training.arguments import TrainingArguments
from ganlab.training.cadence import Cadence
from ganlab.training.compiled_step import CompiledStep
from ganlab.training.data_parallel import SINGLE_PROCESS, TrainingProcess
from ganlab.training.diagnostics import Diagnostics
from ganlab.training.ema import AveragedGenerator
from ganlab.training.noise import Noise
from ganlab.training.recorder import Recorder
from ganlab.training.step import TrainingStep
from ganlab.training.trainer import Trainer
from ganlab.watchdog import Watchdog

Kind = TypeVar("Kind")


def instantiate(cfg: RunConfig, key: str, kind: type[Kind]) -> Kind:
    """Create the object that a node of the config describes.

    Raises:
        ConfigError: the constructor refused the values, or the object is not a `kind`.
    """
    node = cfg.select(key)
    try:
        instance = instantiate_checked(node)
    except InstantiationException as error:
        if isinstance(error.__cause__, GanlabError):
            raise error.__cause__ from error
        raise ConfigError(f"{key}: {' '.join(str(error).split())}") from error
    if not isinstance(instance, kind):
        raise ConfigError(f"{key}._target_={node['_target_']}: must create a {kind.__name__}")
    return instance


def check(cfg: RunConfig) -> None:
    """Check that every object of a run can be built and fits the others, without reading data or using a device.

    Raises:
        ConfigError: names the key, its value and what is allowed.
    """
    dataset = instantiate(cfg, "dataset", Dataset)
    dataset.check()
    if dataset.num_examples is not None:
        check_batch_size(cfg.select("trainer.batch_size"), dataset.num_examples)
    players = build_players(cfg, dataset)
    data_parallel.current().check_batch_size(cfg.select("trainer.batch_size"), players.pack)
    check_batch_norm(players.discriminator, build_game(cfg, players.pack).penalties)
    instantiate(cfg, "schedule", Schedule)
    instantiate(cfg, "metrics", Metrics).check()
    instantiate(cfg, "watchdog", Watchdog)
    build_trackers(cfg)
    devices.resolve(cfg.device)
    check_optimizers(cfg)  # last, since PyTorch's first optimizer imports for seconds


def check_optimizers(cfg: RunConfig) -> None:
    """Construct both optimizers for one dummy parameter, since PyTorch checks hyperparameters on construction."""
    optimizers = instantiate(cfg, "optimizer", Optimizers)
    for player in ("generator", "discriminator"):
        try:
            getattr(optimizers, player)([torch.nn.Parameter(torch.zeros(1))])
        except (ValueError, TypeError, RuntimeError) as error:
            raise ConfigError(f"optimizer.{player}: {' '.join(str(error).split())}") from error


def build_game(cfg: RunConfig, pack: int = 1, parallel: TrainingProcess = SINGLE_PROCESS) -> Game:
    penalties = {name: instantiate(cfg, f"penalty.{name}", Penalty) for name in cfg.select("penalty")}
    return Game(instantiate(cfg, "loss", Loss), penalties, instantiate(cfg, "augment", Augment), pack, parallel.gather)


def check_batch_norm(discriminator: nn.Module, penalties: Mapping[str, Penalty]) -> None:
    """Refuse a gradient penalty on a discriminator with batch normalisation.

    There the gradient at one example depends on the others of its batch, so the penalty is not the one that its paper
    defines (Gulrajani et al., 2017, section 4, "No critic batch normalization").

    Raises:
        ConfigError: names the layer, and what to use instead.
    """
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    layer = next((name for name, module in discriminator.named_modules() if isinstance(module, kinds)), None)
    for name in penalties if layer is not None else ():
        raise ConfigError(
            f"penalty.{name}: the discriminator has batch normalization ({layer}), which makes the gradient at an "
            "example depend on its batch; use spectral, layer or instance normalization, or penalty=none"
        )


def build_trackers(cfg: RunConfig) -> Trackers:
    return Trackers({name: instantiate(cfg, f"tracker.{name}", Tracker) for name in cfg.select("tracker")})


def build_players(cfg: RunConfig, dataset: Dataset | Description) -> Players:
    """Build both networks for the shape and classes of a dataset, with initial weights that depend only on the seed.

    Raises:
        ConfigError: the networks do not fit the shape or the classes.
    """
    model, condition = instantiate(cfg, "model", Model), instantiate(cfg, "condition", Conditioning)
    num_classes = len(dataset.classes) if condition.uses_classes else 0
    if condition.uses_classes:
        check_classes(num_classes, dataset.name, cfg.select("condition._target_"))
    check_pack(model.pack, num_classes, cfg.select("trainer.batch_size"))
    initialise, latent = instantiate(cfg, "init", Init), instantiate(cfg, "latent", Latent)
    shape = tuple(dataset.shape)
    prefix = f"model does not fit dataset {dataset.name} with examples of shape {list(shape)}"
    with seeded(cfg.seed, "weights"):
        try:
            generator = condition.generator(model, shape, num_classes)
            discriminator = condition.discriminator(model, (model.pack * shape[0], *shape[1:]), num_classes)
            for network in (generator, discriminator):
                initialise(network)
                spectral_norm.update(network, num_iterations=15)
            players = Players(generator, discriminator, model.latent_dim, latent, num_classes, model.pack)
            example_shape, logit_shape = output_shapes(players, shape)
        except (ShapeError, RuntimeError, ValueError, TypeError) as error:
            raise ConfigError(f"{prefix}: {' '.join(str(error).split())}") from error
    if example_shape != (2, *shape):
        raise ConfigError(f"{prefix}: the generator returns shape {list(example_shape[1:])}")
    if logit_shape != (2,):
        raise ConfigError(
            f"{prefix}: the discriminator must return one logit per example, [2], not {list(logit_shape)}"
        )
    return players


def check_classes(num_classes: int, dataset: str, condition: str) -> None:
    """Refuse to condition on the classes of a dataset that has fewer than two.

    Args:
        condition: `_target_` of the condition, for the error message.
    """
    if num_classes < 2:
        raise ConfigError(
            f"condition._target_={condition}: dataset {dataset} has no classes, or only one; use condition=none"
        )


def check_pack(pack: int, num_classes: int, batch_size: int) -> None:
    """Refuse packs for conditional networks, or of a size that does not divide the batch."""
    if num_classes and pack > 1:
        raise ConfigError(f"model.pack={pack}: must be 1 for conditional networks; use model.pack=1 or condition=none")
    if batch_size % pack:
        raise ConfigError(f"model.pack={pack}: must divide trainer.batch_size={batch_size}")


@torch.no_grad()
def output_shapes(players: Players, shape: tuple[int, ...]) -> tuple[torch.Size, torch.Size]:
    """Return the shapes of two generated examples and of the discriminator's logits for two examples."""
    label = torch.zeros(2, dtype=torch.int64) if players.num_classes else None
    with evaluating(players.generator) as generator, evaluating(players.discriminator) as discriminator:
        examples = bind_label(generator, label)(torch.zeros(2, players.latent_dim))
        logits = bind_label(discriminator, label)(packed(torch.zeros(2 * players.pack, *shape), players.pack))
    return examples.shape, logits.shape


class Shared:
    """What runs of one process share if their configs agree: data, evaluators, the provenance."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def get(self, key: object, make: Callable[[], Kind]) -> Kind:
        """Return what `make` returned when it was first called for a key of plain values."""
        name = json.dumps(key, sort_keys=True)
        if name not in self._made:
            self._made[name] = make()
        made: Kind = self._made[name]
        return made


class Replica(NamedTuple):
    """What each process of a run builds: the data and the training step."""

    dataset: Dataset
    examples: Examples
    arguments: TrainingArguments
    cadence: Cadence
    training_step: TrainingStep


def build_replica(cfg: RunConfig, shared: Shared) -> Replica:
    """Build what each process of a run needs, without a run folder."""
    parallel = data_parallel.current()
    device = devices.resolve(cfg.device)
    devices.warn_of_broken_cuda(cfg.device, device)
    dataset = instantiate(cfg, "dataset", Dataset)
    dataset.check()
    players = build_players(cfg, dataset)
    game = build_game(cfg, players.pack, parallel)
    check_batch_norm(players.discriminator, game.penalties)
    for network in (players.generator, players.discriminator):
        network.to(device)
        if len(dataset.shape) == 3:  # a third faster than channels first on the CPU
            network.to(memory_format=torch.channels_last)

    examples = shared.get(["examples", cfg.select("dataset")], dataset.load)
    arguments = instantiate(cfg, "trainer", TrainingArguments)
    parallel.check_batch_size(arguments.batch_size, players.pack)
    labels = examples.labels.to(device) if players.num_classes else None
    batches = Batches(examples.data.to(device), arguments.batch_size, cfg.seed, labels, examples.flip)
    cadence = arguments.cadence(batches.per_epoch)
    training_step = build_training_step(cfg, arguments, players, game, batches, cadence.last_step, parallel)
    return Replica(dataset, examples, arguments, cadence, training_step)


def build(cfg: RunConfig, run: RunFolder, *, resume: bool = False, shared: Shared | None = None) -> Trainer:
    """Build the trainer of a run, and start or resume the record in its folder.

    Args:
        shared: shared with other runs that this process trains at the same time.

    Raises:
        ConfigError: the config does not fit the data.
        ganlab.errors.DataError: the data are missing or unreadable.
        ganlab.errors.CheckpointError: there is no checkpoint to resume from, or it does not fit.
    """
    shared = shared or Shared()
    dataset, examples, arguments, cadence, training_step = build_replica(cfg, shared)
    players, batches, device = training_step.players, training_step.batches, training_step.device
    origin = {
        "name": dataset.name,
        "source": examples.source,
        "num_examples": len(examples),
        "hash": examples.fingerprint,
    }
    if resume:
        run.reopen()
        if run.result["dataset"] != origin:
            raise ConfigError(f"dataset: must be {run.result['dataset']} as before, not {origin}")
    data_parallel.warn_of_batch_statistics(training_step)
    training_step.parallel.send_build(
        {"config": cfg.plain(), "data": examples.fingerprint, "folder": str(run.path.absolute())}
    )

    average = training_step.average
    sampled, weights = (average.module, "ema") if average else (players.generator, "raw")

    metrics = instantiate(cfg, "metrics", Metrics)
    evaluator = shared.get(
        ["evaluator", cfg.select("dataset"), cfg.select("metrics"), players.num_classes],
        lambda: metrics.evaluator(dataset, examples, players.num_classes, device),
    )
    main_metric = metrics.best or (evaluator.main_metric if evaluator else None)
    pictures = ImagePictures if len(dataset.shape) == 3 else PointPictures
    recorder = Recorder(
        run=run,
        trackers=build_trackers(cfg),
        pictures=pictures(run, batches.data, players, examples.units, cfg.seed),
        evaluator=evaluator,
        diagnostics=Diagnostics(players, batches.data, cfg.seed),
        sampler=Sampler(sampled, players, examples.units, weights),
        cadence=cadence,
        main_metric=main_metric,
    )
    metadata = {
        "config": cfg.plain(),
        "config_hash": cfg.hash,
        "data": Description(dataset.name, tuple(dataset.shape), tuple(dataset.classes), examples.units).plain(),
    }
    checkpoints = Checkpoints(run.checkpoints, arguments.keep_checkpoints, metadata)
    trainer = Trainer(training_step, cadence, recorder, checkpoints, instantiate(cfg, "watchdog", Watchdog))

    plan = {"last_step": cadence.last_step, "evaluate_every": cadence.evaluate.steps, "main_metric": main_metric}
    if resume:
        trainer.restore()
        run.resume(cfg.hash, plan)
    else:
        run.start(
            {
                **cfg.identity,
                "provenance": shared.get("provenance", lambda: provenance(device))
                | {"processes": training_step.parallel.num_processes},
                "dataset": origin,
                **plan,
            }
        )
    if evaluator:
        trainer.progress.evaluation_seconds += evaluator.preparation
    return trainer


def build_training_step(
    cfg: RunConfig,
    arguments: TrainingArguments,
    players: Players,
    game: Game,
    batches: Batches,
    last_step: int,
    parallel: TrainingProcess,
) -> TrainingStep:
    average = None
    if arguments.ema_half_life:
        images_per_step = arguments.batch_size * arguments.discriminator_steps
        average = AveragedGenerator(players.generator, arguments.ema_half_life, images_per_step, arguments.ema_ramp)
    return (CompiledStep if arguments.compile else TrainingStep)(
        players=players,
        game=game,
        optimizers=instantiate(cfg, "optimizer", Optimizers),
        parallel=parallel,
        schedule=instantiate(cfg, "schedule", Schedule),
        batches=batches,
        noise=Noise(players.latent, players.latent_dim, arguments.batch_size, cfg.seed, batches.data.device),
        average=average,
        seed=cfg.seed,
        last_step=last_step,
        discriminator_steps=arguments.discriminator_steps,
        clip_gradient=arguments.clip_gradient,
        compile=arguments.compile,
    )
