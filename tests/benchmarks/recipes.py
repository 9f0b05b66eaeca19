"""Scores of the recipes over seeds, and warnings of the watchdog.

    python tests/benchmarks/recipes.py NAME [seeds] [overrides]

Trains `experiment=NAME` (`none`: only the overrides) for seeds 0, 1, ... one after the other, on one thread. Prints the
scores of 2,500 samples of the averaged generator (for mixtures PacGAN's protocol, for images the last evaluation of the
run), the warnings of the watchdog, and the means over seeds.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from ganlab import load_run
from ganlab.build import instantiate
from ganlab.config import run_config
from ganlab.data.dataset import Dataset
from ganlab.metrics.plane import circle_quality, mixture_quality
from ganlab.runs.folder import RESULT
from ganlab.train import train

SAMPLES = 2500


def scores(name: str, seed: int, overrides: Sequence[str]) -> tuple[dict[str, float], str]:
    """Train once; return the scores of the samples, and the warning of the watchdog."""
    quick = ["tracker=none", "trainer.sample_every=null", "trainer.checkpoint_every=null"]
    experiment = [] if name == "none" else [f"experiment={name}"]
    cfg = run_config.compose([*experiment, f"seed={seed}", *quick, *overrides])
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "run"
        (folder / ".hydra").mkdir(parents=True)
        cfg.save(folder)
        train(cfg, folder)
        seconds = time.perf_counter() - started
        samples = load_run(folder).sample(SAMPLES, seed=1000 + seed)
        result = json.loads((folder / RESULT).read_text())
    dataset = instantiate(cfg, "dataset", Dataset)
    if hasattr(dataset, "modes"):
        quality = mixture_quality(samples, dataset.modes, dataset.sigma)._asdict()
    elif hasattr(dataset, "radius"):
        quality = circle_quality(samples, dataset.radius)._asdict()
    else:
        quality = {metric: score["value"] for metric, score in result["scores"].items()}
    return {**quality, "seconds": seconds}, result.get("collapsed") or "silent"


def main(arguments: Sequence[str]) -> None:
    torch.set_num_threads(1)
    name, seeds = arguments[0], int(arguments[1]) if len(arguments) > 1 else 5
    rows = []
    for seed in range(seeds):
        row, said = scores(name, seed, arguments[2:])
        rows.append(row)
        numbers = "".join(f"  {key} {value:.4g}" for key, value in row.items())
        print(f"{name} seed {seed}{numbers}  watchdog {said}", flush=True)
    means = {key: statistics.mean(row[key] for row in rows) for key in rows[0]}
    print(f"{name} mean  " + "".join(f"  {key} {value:.4g}" for key, value in means.items()))


if __name__ == "__main__":
    main(sys.argv[1:])
