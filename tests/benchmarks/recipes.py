"""Scores of the recipes over seeds.

    python tests/benchmarks/recipes.py circle|ring8|grid25 [seeds] [overrides]

Trains `experiment=NAME` for seeds 0, 1, ... in processes of one thread each, one after the other, and prints the scores
of 2,500 samples (PacGAN's protocol for the mixtures) of the averaged generator, then their means.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from omegaconf import OmegaConf

from ganlab import config, load_run
from ganlab.__main__ import train
from ganlab.build import instantiate
from ganlab.data.dataset import Dataset
from ganlab.metrics.plane import circle_quality, mixture_quality

SAMPLES = 2500


def scores(name: str, seed: int, overrides: Sequence[str]) -> dict[str, float]:
    """Train once and score the samples."""
    quick = ["tracker=none", "metrics=none", "trainer.sample_every=null", "trainer.checkpoint_every=null"]
    cfg = config.compose([f"experiment={name}", f"seed={seed}", *quick, *overrides])
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "run"
        (folder / ".hydra").mkdir(parents=True)
        OmegaConf.save(cfg, folder / ".hydra" / "config.yaml")
        train(cfg, folder)
        seconds = time.perf_counter() - started
        samples = load_run(folder).sample(SAMPLES, seed=1000 + seed)
    dataset = instantiate(cfg, "dataset", Dataset)
    if hasattr(dataset, "modes"):
        quality = mixture_quality(samples, dataset.modes, dataset.sigma)._asdict()
    else:
        quality = circle_quality(samples, dataset.radius)._asdict()
    return {**quality, "seconds": seconds}


def main(arguments: Sequence[str]) -> None:
    torch.set_num_threads(1)
    name, seeds = arguments[0], int(arguments[1]) if len(arguments) > 1 else 5
    rows = []
    for seed in range(seeds):
        rows.append(scores(name, seed, arguments[2:]))
        print(f"{name} seed {seed}" + "".join(f"  {key} {value:.4g}" for key, value in rows[-1].items()), flush=True)
    means = {key: statistics.mean(row[key] for row in rows) for key in rows[0]}
    print(f"{name} mean  " + "".join(f"  {key} {value:.4g}" for key, value in means.items()))


if __name__ == "__main__":
    main(sys.argv[1:])
