"""Jobs of a sweep are composed as by Hydra itself."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from ganlab.config.hydra_internals import initialize_hydra
from ganlab.sweeps.composition import SweepComposer

OVERRIDES = [  # a job takes one override of each line
    ("experiment=circle_tutorial", "experiment=ring8"),
    ("seed=0", "seed=7", "seed=null", "seed='1e3'"),
    ("optimizer.generator.lr=1e-3", "optimizer.generator.lr=2", "optimizer.generator={lr: 3}"),
    ("tracker.wandb.project=a", "tracker.wandb.project=${seed}", "~tracker.wandb", "+tracker.own={a: 1}"),
    ("hydra.job.num=3", "hydra.job.name=other", "penalty.r1.wait=1"),
]


@pytest.fixture
def loader() -> Iterator[ConfigLoader]:
    with initialize_hydra():
        yield GlobalHydra.instance().config_loader()


def sweep_of(loader: ConfigLoader) -> DictConfig:
    return loader.load_configuration("config", ["seed=1,2", "hydra.sweep.dir=x"], run_mode=RunMode.MULTIRUN)


def outcome(loader: Any, sweep: DictConfig, job: list[str]) -> Any:
    try:
        return OmegaConf.to_container(loader.load_sweep_config(sweep, list(job)))
    except HydraException as error:
        return str(error)


def test_jobs_are_composed_as_by_hydra(loader: ConfigLoader) -> None:
    sweep, composer = sweep_of(loader), SweepComposer(loader)
    jobs = [list(job) for job in itertools.product(*OVERRIDES)][::3]
    assert [outcome(composer, sweep, job) for job in jobs] == [outcome(loader, sweep, job) for job in jobs]


def test_jobs_with_other_values_are_composed_once(loader: ConfigLoader, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep, composer, composed = sweep_of(loader), SweepComposer(loader), []
    original = loader.load_sweep_config
    monkeypatch.setattr(loader, "load_sweep_config", lambda *a: composed.append(a) or original(*a))
    for model, seed in itertools.product(("mlp", "dcgan_small"), range(5)):
        composer.load_sweep_config(sweep, [f"seed={seed}", f"model={model}", "optimizer.generator.lr=0.1"])
    assert len(composed) == 2


def test_equal_jobs_have_configs_of_their_own(loader: ConfigLoader) -> None:
    sweep, composer = sweep_of(loader), SweepComposer(loader)
    configs = [composer.load_sweep_config(sweep, ["seed=1"]) for _ in range(4)]
    assert len({id(config) for config in configs}) == 4
