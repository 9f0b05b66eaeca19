"""Every config file composes, resolves and binds to the signatures it names."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import config_of
from hydra import compose
from omegaconf import DictConfig, OmegaConf
from PIL import Image

import ganlab
from ganlab import build
from ganlab.config import run_config, schema, signatures
from ganlab.config.allow_list import constructors, refuse_disallowed
from ganlab.config.conf_files import conf_dir
from ganlab.config.hydra_internals import initialize_hydra
from ganlab.errors import CheckpointError, ConfigError
from ganlab.files import values_in

CONF = conf_dir()
GROUPS = (*schema.GROUPS, "experiment", "sweep")
OPTIONS = [f"{group}={file.stem}" for group in GROUPS for file in sorted((CONF / group).glob("*.yaml"))]
IMAGE_MODELS = [option for option in OPTIONS if option.startswith("model=") and option != "model=mlp"]
EXPERIMENTS = [option for option in OPTIONS if option.startswith("experiment=")]


def overrides_for(option: str, tmp_path: Path) -> list[str]:
    """Return the overrides that make an option run: a partner that fits, and user data if it needs some."""
    if option in ("dataset=points", "dataset=image_folder"):
        return [option, f"dataset.path={own_data(option, tmp_path)}", "trainer.batch_size=2"]
    if option in ("condition=concatenation", "condition=projection"):
        return [option, "dataset=digits"]
    return [option, "dataset=mnist5"] if option in IMAGE_MODELS else [option]


def own_data(option: str, folder: Path) -> Path:
    """Write two points to a file, or two pictures to a folder."""
    if option == "dataset=points":
        (folder / "points.csv").write_text("0,1\n1,0\n")
        return folder / "points.csv"
    for name in ("a.png", "b.png"):
        Image.new("RGB", (4, 4)).save(folder / name)
    return folder


@pytest.mark.parametrize("option", OPTIONS)
def test_option_composes_and_binds(option: str, tmp_path: Path) -> None:
    build.check(config_of(*overrides_for(option, tmp_path)))


def test_no_config_file_is_left_untested() -> None:
    tested = {CONF / f"{option.replace('=', '/')}.yaml" for option in OPTIONS} | {CONF / "config.yaml"}
    tested.add(CONF / "wandb_sweep.yaml")  # in test_trackers.py
    assert {file for file in CONF.rglob("*.yaml") if "hydra" not in file.parts} == tested


@pytest.mark.parametrize("model", ["mlp", "tutorial_cnn", "dcgan_small", "resnet", "r3gan_small"])
@pytest.mark.parametrize("dataset", ["mnist5", "mnist", "digits"])
def test_every_network_fits_every_image_dataset(dataset: str, model: str) -> None:
    build.check(run_config.compose([f"dataset={dataset}", f"model={model}"]))


def test_all_keys_of_a_signature_stand_in_its_config() -> None:
    """A key that is only in the signature would need `+` on the command line and would be missing from `--help`."""
    paths = ("dataset=points", "dataset=image_folder")  # parameters without a default
    datasets = [[o, *["dataset.path=x"] * (o in paths)] for o in OPTIONS if o.startswith("dataset=")]
    for overrides in ([], *datasets, ["dataset=digits", "model=dcgan_small"], ["optimizer=rmsprop"]):
        cfg = run_config.compose(overrides).plain()
        for node in (cfg["dataset"], cfg["trainer"], cfg["tracker"]["wandb"], cfg["optimizer"]["generator"]):
            parameters = inspect.signature(signatures.locate("", node["_target_"])).parameters.values()
            with_default = {p.name for p in parameters if p.default is not p.empty}
            assert with_default == set(node) - signatures.HYDRA_KEYS - {"path"}


@pytest.mark.parametrize("model", [option for option in OPTIONS if option.startswith("model=")])
def test_all_keys_of_a_network_stand_in_its_config(model: str, tmp_path: Path) -> None:
    for node in config_of(*overrides_for(model, tmp_path)).plain()["model"].values():
        if isinstance(node, dict):
            parameters = inspect.signature(signatures.locate("", node["_target_"])).parameters.values()
            assert {p.name for p in parameters if p.default is not p.empty} == set(node) - signatures.HYDRA_KEYS


def composed(overrides: list[str]) -> DictConfig:
    """A validated config whose values can be read as attributes."""
    return OmegaConf.create(run_config.compose(overrides).plain())


def test_a_discriminator_follows_its_generator_where_both_have_the_same_choice() -> None:
    mlp = composed(["model.generator.width=5", "model.generator.activation=silu"]).model.discriminator
    assert (mlp.width, mlp.activation) == (5, "silu")
    r3gan = composed(["model=r3gan_small", "dataset=digits", "model.generator.blocks=2"]).model.discriminator
    assert r3gan.blocks == 2
    resnet = composed(["model=resnet", "dataset=digits", "model.generator.width=8"]).model
    assert (resnet.generator.max_width, resnet.discriminator.width) == (8, 64)


def test_run_and_sweep_folders_resolve_and_differ_by_microseconds() -> None:
    with initialize_hydra():
        cfg = compose("config", overrides=["hydra.job.num=3"], return_hydra_config=True)
    assert Path(cfg.hydra.run.dir).parts[0] == "outputs"
    assert len(Path(cfg.hydra.run.dir).name.split("-")[-1]) == 6
    assert Path(cfg.hydra.sweep.dir).parts[0] == "outputs"
    assert cfg.hydra.sweep.subdir == "3"


def test_the_command_line_stands_above_a_model_s_recipe() -> None:
    assert composed(["dataset=mnist5", "model=dcgan_small"]).penalty.r1.weight > 0
    cfg = composed(["model=dcgan_small", "dataset=mnist5", "penalty=none", "optimizer=rmsprop", "trainer.epochs=3"])
    assert cfg.penalty == {}
    assert "rmsprop" in cfg.optimizer.generator._target_
    assert cfg.trainer.epochs == 3


def test_the_discriminator_follows_the_generator_until_it_is_set() -> None:
    for optimizer in ("adam", "rmsprop"):
        both = composed([f"optimizer={optimizer}", "model=tutorial_cnn", "optimizer.generator.lr=0.5"])
        assert both.optimizer.discriminator.lr == 0.5
        one = composed([f"optimizer={optimizer}", "optimizer.discriminator.lr=0.5"])
        assert one.optimizer.generator.lr != 0.5


def test_tutorial_experiments_have_the_tutorial_s_parameters() -> None:
    circle = composed(["experiment=circle_tutorial"])
    assert (circle.trainer.batch_size, circle.trainer.epochs, circle.model.latent_dim) == (4, 100, 2)
    assert (circle.optimizer.generator.lr, circle.optimizer.discriminator.lr) == (0.001, 0.005)
    fives = composed(["experiment=mnist5_tutorial"])
    assert (fives.trainer.batch_size, fives.trainer.epochs, fives.model.latent_dim) == (64, 26, 32)
    assert (fives.optimizer.generator.lr, fives.optimizer.discriminator.lr) == (0.005, 0.001)
    for cfg in (circle, fives):
        assert "rmsprop" in cfg.optimizer.generator._target_
        assert cfg.penalty == {}
        assert cfg.trainer.ema_half_life is None


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_the_penalties_of_a_recipe_can_be_replaced(experiment: str) -> None:
    cfg = composed([experiment, "penalty=gradient_penalty"])
    assert list(cfg.penalty) == ["gradient_penalty"]


def test_config_hash_knows_what_decides_the_result() -> None:
    def hash_with(*overrides: str) -> str:
        return run_config.compose(["dataset=mnist5", *overrides]).hash

    assert hash_with("tracker=none", "dataset.root=/elsewhere") == hash_with()
    assert hash_with("trainer.log_every=7") == hash_with()
    assert hash_with("seed=1") != hash_with()
    assert hash_with("optimizer.generator.lr=0.5") != hash_with()


BAD = {
    "model=dcgann": ("model=dcgann", "dcgan, dcgan_small, mlp, r3gan_small, resnet, tutorial_cnn"),
    "nonsense=1": ("nonsense=1", "the config has"),
    "optimizer.generator.lrr=1": ("optimizer.generator.lrr=1", "did you mean lr?"),
    "optimizer.generator.lr=abc": ("optimizer.generator.lr=abc", "number"),
    "optimizer.generator.lr=-1": ("optimizer.generator.lr=-1", "greater than 0"),
    "optimizer.generator.lr=inf": ("optimizer.generator.lr=", "must be a finite number"),
    "optimizer.generator.betas=[0.5]": ("optimizer.generator.betas=[0.5]", "2 items"),
    "optimizer.generator.betas=[0.5,1.5]": ("optimizer.generator.betas[1]=1.5", "less than 1"),
    "trainer.batch_size=-4": ("trainer.batch_size=-4", "must be greater than or equal to 1"),
    "trainer.batch_size=2000": ("trainer.batch_size=2000", "1000"),
    "trainer.epochs=1.5": ("trainer.epochs=1.5", "integer"),
    "trainer.epochs=???": ("trainer.epochs", "Missing"),
    "trainer.epochs=${nope}": ("trainer.epochs", "nope"),
    "model.latent_dim=seven": ("model.latent_dim=seven", "integer"),
    "model.latent_dim=null": ("model.latent_dim=null", "integer"),
    "model.generator=null": ("model.discriminator.width", "generator"),
    "~loss": ("loss: missing", "must be one of bce, hinge"),
    "~condition": ("condition: missing", "must be one of concatenation, none, projection"),
    "~penalty": ("penalty: missing", "must be one of dragan"),
    "penalty=[]": ("penalty=[]", "penalty=none"),
    "+trainer.seed=5": ("trainer.seed=5", "no such key"),
    "+model.generator.latent_dim=9": ("model.generator.latent_dim=9", "width, depth"),
    "model.generator._target_=ganlab.nope.X": (
        "model.generator._target_=ganlab.nope.X",
        "cannot be imported",
    ),
    "model=dcgan_small": ("circle with examples of shape [2]", "[C, H, W]"),
    "model.generator.activation=selu": ("model.generator.activation=selu", "'tanh', 'relu'"),
    "dataset=digits model=dcgan": ("digits with examples of shape [1, 8, 8]", "even sides of 28 to 128"),
    "dataset=mnist model=dcgan model.generator.attention=8": ("attention=8", "height of a feature map: 14, 7"),
    "dataset=mnist model=r3gan_small model.generator.group_size=24": ("group_size=24", "twice the channels"),
    "+model.generator.num_classes=3": ("model.generator.num_classes=3", "width, depth"),
    "penalty=r1 penalty.r1.weight=-2": ("penalty.r1.weight=-2", "must be greater than or equal to 0"),
    "loss=5": ("loss=5", "must be one of bce, hinge"),
    "loss=hinge loss._target_=ganlab.schedules.Constant": (
        "loss._target_=ganlab.schedules.Constant",
        "must create a Loss",
    ),
    "loss._target_=ganlab.data.mnist.MD5": ("loss._target_=ganlab.data.mnist.MD5", "must be a function or class"),
    "+penalty.x=5": ("penalty.x=5", "must have a _target_"),
    "penalty=r1 penalty.r1=5": ("penalty.r1=5", "~penalty.r1 removes it"),
    "+trainer.epochs=5": ("+trainer.epochs=5", "already exists; remove the +"),
    "~trainer.epoch": ("~trainer.epoch", "did you mean epochs?"),
    "trainer.epochs.x=1": ("trainer.epochs.x=1", "no such key; trainer has batch_size"),
    "loss=null": ("loss=null", "must be one of bce, hinge"),
    "+dataset.seed=1 +trainer.steps=5 nonsense=1": ("nonsense=1", "the config has"),
    "+trainr.epochs=5": ("trainr", "no such key; the config has dataset"),
    "~seed": ("seed: missing", "must be given a value"),
    "seed=null": ("seed=null", "integer"),
    "trainer.log_every=1e308": ("trainer.log_every=1e+308", "less than or equal to"),
    "model.latent_dim=[": ("model.latent_dim=[", "parsed"),
    "seed=-1": ("seed=-1", "must be greater than or equal to 0"),
    "device=gpu": ("device=gpu", "'cuda'"),
    "tracker.wandb.mode=sometimes": ("tracker.wandb.mode=sometimes", "'offline'"),
    "dataset=mnist dataset.digits=[3,12]": ("dataset.digits[1]=12", "9"),
    "dataset=mnist dataset.digits=[3,3]": ("dataset.digits=[3, 3]", "without duplicates"),
    "dataset=mnist dataset.digits=[]": ("dataset.digits=[]", "non-empty"),
    "dataset=mnist dataset.source=web": ("dataset.source=web", "'torchvision'"),
    "dataset=mnist5 dataset.root=/dev/null": ("dataset.root=/dev/null", "folder"),
    "dataset=cifar10 dataset.root=/dev/null": ("dataset.root=/dev/null", "folder"),
    "dataset=points": ("dataset.path", "issing"),
    "dataset=points dataset.path=/nowhere.csv": ("dataset.path=/nowhere.csv", "no such file"),
    "dataset=points dataset.path=/points.txt": ("dataset.path=/points.txt", ".csv or .npy"),
    "dataset=image_folder dataset.path=/nowhere": ("dataset.path=/nowhere", "no such folder"),
    "dataset=image_folder dataset.path=/nowhere dataset.channels=2": ("dataset.channels=2", "1 or 3"),
    "dataset=ring8 dataset.num_examples=0": ("dataset.num_examples=0", "greater than or equal to 1"),
    "dataset=moons dataset.noise=-1": ("dataset.noise=-1", "greater than or equal to 0"),
    "+optimizer.generator.foo=1": ("optimizer.generator.foo=1", "lr, betas, eps, weight_decay"),
    "condition=projection": ("condition._target_=ganlab.models.conditioning.Projection", "circle has no classes"),
    "dataset=digits model=tutorial_cnn condition=projection": ("condition=projection", "condition=concatenation"),
    "dataset=digits condition=concatenation model.pack=2": ("model.pack=2", "condition=none"),
    "model.pack=3": ("model.pack=3", "must divide trainer.batch_size=16"),
    "loss=hinge +loss.smoothing=0.1": ("loss.smoothing=0.1", "takes none"),
    "loss.smoothing=0.5": ("loss.smoothing=0.5", "less than 0.5"),
    "penalty=r1 penalty.r1.interval=0": ("penalty.r1.interval=0", "greater than or equal to 1"),
    "penalty=[r1,nope]": ("penalty=nope", "gradient_penalty"),
    "optimizer=sgd optimizer.generator.nesterov=true": ("nesterov=true", "momentum"),
    **{
        f"{key}._target_={target}": (f"{key}._target_={target}", f"must create a {kind}")
        for key, target, kind in (
            ("schedule", "ganlab.augment.NoAugment", "Schedule"),
            ("augment", "ganlab.schedules.Constant", "Augment"),
            ("latent", "ganlab.augment.NoAugment", "Latent"),
            ("init", "ganlab.schedules.Constant", "Init"),
        )
    },
    "penalty=r1 penalty.r1.schedule._target_=ganlab.losses.Wasserstein": (
        "penalty.r1.schedule._target_=ganlab.losses.Wasserstein",
        "must create a Schedule",
    ),
    "dataset=ring8 dataset.num_examples=99999999999": ("dataset.num_examples=99999999999", "less than or equal to"),
    "loss=[hinge,bce]": ("loss=[hinge,bce]", "must be one of bce"),
    "condition=[projection,concatenation] dataset=digits": ("condition=[projection,concatenation]", "must be one of"),
    "latent=truncated latent.bound=0": ("latent.bound=0", "greater than 0"),
    "trainer.discriminator_steps=0": ("trainer.discriminator_steps=0", "greater than or equal to 1"),
    "trainer.clip_gradient=-1": ("trainer.clip_gradient=-1", "or null"),
    "+trainer.foo=1": ("trainer.foo=1", "batch_size"),
    # Absurdly large values: refused before memory runs out or numbers overflow
    **{
        override: (override.split(" ")[-1], "less than or equal to")
        for override in (
            *("model.latent_dim=1000000000", "model.generator.width=1000000000", "model.generator.depth=1000000000"),
            *("model.pack=1000000000", "dataset=ring8 dataset.num_examples=1000000000"),
            "dataset=digits condition=concatenation condition.embedding_dim=1000000000",
            *("dataset=spiral dataset.arms=1000000000", "dataset=spiral dataset.turns=1e+30"),
            *("dataset=moons dataset.noise=1e+30", "penalty=dragan penalty.dragan.noise=1e+30"),
            *("penalty=r1 penalty.r1.weight=1e+30", "init=orthogonal init.gain=1e+30", "init=normal init.std=1e+30"),
            *("latent=truncated latent.bound=1e+30", "optimizer=adamw optimizer.generator.weight_decay=1e+30"),
            *("dataset=mnist dataset.timeout=1e+30", "tracker.wandb.start_timeout=1e+30"),
            *(
                f"dataset=digits model={model} model.{player}.width=1000000000"
                for model in ("dcgan_small", "resnet", "r3gan_small")
                for player in ("generator", "discriminator")
            ),
        )
    },
}


@pytest.mark.parametrize("overrides", BAD)
def test_bad_override_is_refused_with_key_value_and_what_is_allowed(overrides: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        build.check(run_config.compose(overrides.split(" ")))
    message = str(refusal.value)
    assert "\n" not in message
    for part in BAD[overrides]:
        assert part in message


def callables() -> Iterator[str]:
    """Return the dotted names of all functions and classes that modules of ganlab define or import."""
    for module in pkgutil.walk_packages(ganlab.__path__, "ganlab."):
        for name, found in vars(importlib.import_module(module.name)).items():
            if callable(found):
                yield f"{module.name}.{name}"


def test_of_all_that_the_package_has_only_the_listed_constructors_may_stand_in_a_run_folder(tmp_path: Path) -> None:
    names, listed = set(callables()), constructors()
    assert {name for allowed in listed.values() for name in allowed} < names
    assert len(names) > 1000
    composed = (config_of(*overrides_for(option, tmp_path)).plain() for option in OPTIONS)
    keys = {key.replace("[", ".[") for tree in composed for key, _ in values_in(tree)}
    parents = {".".join(key.split(".")[:end]) for key in keys for end in range(1, key.count(".") + 1)}
    deeper = {f"{key}.deep" for key in (*parents, *keys)} | {f"{key}.deep.deeper" for key in parents}
    allowed = set()
    for key in keys | parents | deeper | {"penalty.mine", "penalty.mine.schedule", "tracker.mine", "new"}:
        for name in names:
            try:
                refuse_disallowed(tree_with(key.split("."), {"_target_": name}), tmp_path)
            except CheckpointError:
                continue
            allowed.add((key, name))
    assert allowed == {
        (key, name)
        for key in {key for key, _ in allowed}
        for name in listed[re.sub(r"^(penalty|tracker)\.[^.]+", r"\1.*", key)]
    }
    assert {name for _, name in allowed} == {name for names in listed.values() for name in names}


def tree_with(path: list[str], node: Any) -> Any:
    """Return a tree with nothing but this node, below keys and in lists."""
    for part in reversed(path):
        node = [node] if part.startswith("[") else {part: node}
    return node


def test_values_of_a_finished_run_can_be_changed_but_not_what_it_is() -> None:
    cfg = run_config.compose([])
    changed = cfg.override(["trainer.steps=5", "optimizer.generator.lr=1e-4"])
    assert (changed.select("trainer.steps"), changed.select("optimizer.generator.lr")) == (5, 1e-4)
    assert cfg.select("trainer.steps") is None
    with pytest.raises(ConfigError, match=r"trainer\.step=5: no such key.*trainer\.steps"):
        cfg.override(["trainer.step=5"])
    for kept in (
        *("seed=5", "trainer.batch_size=8", "model=mlp", "model.latent_dim=3", "optimizer=adam"),
        *("trainer.ema_half_life=9", "trainer.ema_ramp=0.1", "trainer.discriminator_steps=2"),
    ):
        with pytest.raises(ConfigError, match=f"{kept}: cannot change "):
            cfg.override([kept])
