"""A run's config as one object, the declared effect of each of its keys, and what it needs of Hydra."""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import pytest
from annotated_types import Ge
from hydra._internal.core_plugins.basic_sweeper import BasicSweeperConf
from hydra.core.plugins import Plugins
from hydra.types import RunMode
from omegaconf import OmegaConf

import ganlab
from ganlab import hydra_callbacks
from ganlab.config import run_config
from ganlab.config.allow_list import constructors
from ganlab.config.effects import Adjustable, Effect, Fixed, NoEffect, effect_in
from ganlab.config.hydra_internals import is_basic_sweeper
from ganlab.config.key_effects import declared_effects, effect_of
from ganlab.config.run_config import ResolvedConfig, RunConfig
from ganlab.config.schema import GROUPS, KEYS
from ganlab.config.signatures import check_value, locate, parameters_of
from ganlab.errors import ConfigError
from ganlab.hydra_callbacks import RefuseBadConfig, continues_folder


def undeclared(constructor: Callable, other_than_group: frozenset[str] = frozenset()) -> list[str]:
    """The keys of a constructor that declare no effect although they must.

    All must if one does. A key must whose effect in another constructor is not that of the group.
    """
    keys = {name: effect_in(p.annotation) for name, p in parameters_of(constructor).items() if p.default is not p.empty}
    is_silent = not any(keys.values())
    return [name for name, effect in keys.items() if effect is None and (not is_silent or name in other_than_group)]


def test_every_key_at_the_top_level_declares_its_effect() -> None:
    assert [key for key, annotation in KEYS.items() if effect_in(annotation) is None] == []
    assert set(run_config.compose([]).plain()) == set(KEYS)


@pytest.mark.parametrize("group", GROUPS)
def test_every_key_of_a_group_has_one_declared_effect(group: str) -> None:
    """A constructor declares the effects of all its keys, or leaves all to its group."""
    prefix, of_group = f"{group}.", effect_of(group)
    effects = {key.removeprefix(prefix): effect for key, effect in declared_effects().items() if key.startswith(prefix)}
    others = frozenset(key for key, effect in effects.items() if effect is not of_group)
    for target in constructors().get(group, constructors().get(f"{group}.*", ())):
        constructor = locate(group, target)
        assert undeclared(constructor, others) == [], target
        for name, parameter in parameters_of(constructor).items():
            assert effect_in(parameter.annotation) in (None, effect_of(f"{group}.{name}")), target


def test_a_key_that_declares_no_effect_is_found() -> None:
    class Mixed:
        def __init__(self, root: NoEffect[str | None] = None, seed: Fixed[int] = 0, workers: int = 1) -> None: ...

    def silent(root: str | None = None, seed: int = 0) -> None: ...

    assert undeclared(Mixed) == ["workers"]
    assert undeclared(silent) == []
    assert undeclared(silent, frozenset({"root"})) == ["root"]


@pytest.mark.parametrize(
    ("key", "effect"),
    [
        ("seed", Effect.FIXED),
        ("dataset.num_examples", Effect.FIXED),
        ("dataset.root", Effect.NONE),
        ("model.generator.width", Effect.FIXED),
        ("trainer.batch_size", Effect.FIXED),
        ("trainer.epochs", Effect.ADJUSTABLE),
        ("trainer.log_every", Effect.NONE),
        ("optimizer.generator.lr", Effect.ADJUSTABLE),
        ("penalty.r1.weight", Effect.ADJUSTABLE),
        ("tracker.wandb.mode", Effect.NONE),
        ("unknown.key", Effect.FIXED),
    ],
)
def test_the_effect_of_a_key_is_its_own_or_its_group_s(key: str, effect: Effect) -> None:
    assert effect_of(key) is effect


def test_annotations_keep_their_range_beside_the_effect() -> None:
    for effect in (Fixed, Adjustable, NoEffect):
        assert effect_in(effect[int]) is not None
    for override, message in (
        ("trainer.steps=0", r"trainer\.steps=0: must be greater than or equal to 1 or null"),
        ("trainer.log_every=x", r"trainer\.log_every=x: must be a valid number or null"),
    ):
        with pytest.raises(ConfigError, match=message):
            run_config.compose([override])


# The object -------------------------------------------------------------------------------------------------


def test_a_config_does_not_change() -> None:
    config = run_config.compose([])
    before = copy.deepcopy(config.plain())
    config.plain()["trainer"]["epochs"] = 1
    config.select("trainer")["epochs"] = 1
    changed = config.override(["trainer.epochs=1"])
    assert config.plain() == before
    assert (changed.select("trainer.epochs"), changed.hash == config.hash) == (1, False)


def test_a_config_is_resolved_before_it_is_hashed_and_validated(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an interpolation refers to may change."""
    cfg = OmegaConf.create(run_config.compose([]).plain())
    cfg.seed = "${oc.decode:${oc.env:SEED_OF_A_TEST}}"
    monkeypatch.setenv("SEED_OF_A_TEST", "1")
    resolved = ResolvedConfig.of(cfg)
    monkeypatch.setenv("SEED_OF_A_TEST", "2")
    assert resolved.validate().seed == resolved.select("seed") == 1
    assert resolved.hash == resolved.validate().hash == run_config.compose(["seed=1"]).hash


def test_only_a_valid_config_becomes_a_run_config() -> None:
    tree = {**run_config.compose([]).plain(), "seed": -1}
    with pytest.raises(ConfigError, match="seed=-1"):
        ResolvedConfig(tree).validate()
    assert not isinstance(ResolvedConfig(tree), RunConfig)
    assert ResolvedConfig(tree).identity["seed"] == -1  # recorded for a job that was refused


def test_a_single_run_trains_the_object_that_was_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained, checked = [], run_config.compose([])
    hydra_cfg = OmegaConf.create({"runtime": {"output_dir": str(tmp_path)}})
    hydra_cfg.mode = RunMode.RUN
    monkeypatch.setattr(hydra_callbacks.HydraConfig, "get", lambda: hydra_cfg)
    monkeypatch.setattr(hydra_callbacks, "train", lambda config, folder: trained.append(config))
    monkeypatch.setattr(RefuseBadConfig, "config", checked)
    assert hydra_callbacks.task(OmegaConf.create()) == 0
    assert trained == [checked]


# Hydra ------------------------------------------------------------------------------------------------------


def test_only_one_file_imports_what_hydra_does_not_export() -> None:
    found = set()
    for file in Path(ganlab.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found |= {file.name for name in names if name.startswith("hydra._")}
    assert found == {"hydra_internals.py"}


def test_a_sweeper_or_launcher_is_known_by_its_class_whatever_its_path() -> None:
    Plugins.instance()  # searches for plugins, which replaces the classes of Hydra's own
    hydra_s = OmegaConf.structured(BasicSweeperConf)
    assert is_basic_sweeper(hydra_s)
    assert not is_basic_sweeper(OmegaConf.create({"_target_": "test_run_config.BasicSweeper"}))
    assert continues_folder(OmegaConf.create({"hydra": {"launcher": {"_target_": "test_run_config.MyLauncher"}}}))
    assert not continues_folder(OmegaConf.create({"hydra": {"launcher": {"_target_": "test_run_config.BasicSweeper"}}}))


class BasicSweeper:
    """A sweeper of the user's own with the name of Hydra's."""


class MyLauncher:
    continues_folder = True


def test_values_are_checked_against_annotations_that_cannot_be_hashed() -> None:
    for _ in range(2):
        check_value("key", 3, Annotated[int, Ge(1), ["a list"]])
        with pytest.raises(ConfigError, match="key=0: must be greater than or equal to 1"):
            check_value("key", 0, Annotated[int, Ge(1), ["a list"]])
