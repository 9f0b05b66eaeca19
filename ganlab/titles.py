"""What a run is called in a list of runs, by what Hydra left in its folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ganlab.sweeps import trials
from ganlab.sweeps.configurations import is_of_a_run, short_names

MOST = 128  # characters; trackers take no more


@dataclass(frozen=True)
class Title:
    """
    Attributes:
        name: its overrides, keys in short; of a run without any, the dataset and model; None: Hydra did not start it.
        group: of a sweep's job, the sweep; None: it is a single run.
        tags: its dataset, model and loss.
    """

    name: str | None = None
    group: str | None = None
    tags: tuple[str, ...] = ()


def title(folder: Path) -> Title:
    """That of the run in a folder."""
    runtime, overrides = trials.composition(folder)
    choices = trials.choices(runtime)
    tags = tuple(str(choices[group]) for group in ("dataset", "model", "loss") if group in choices)
    in_sweep = runtime.get("hydra", {}).get("mode") == "MULTIRUN"
    group = "/".join(folder.resolve().parent.parts[-2:])  # by default the date and time
    return Title(name(overrides) or " ".join(tags[:2]) or None, group[-MOST:] if in_sweep else None, tags)


def name(overrides: Sequence[str]) -> str:
    """`optimizer.generator.lr=1e-4`, `seed=3` as `lr=1e-4 seed=3`, without what does not change the result."""
    keys = {override: override.partition("=")[0].lstrip("+~") for override in overrides}
    telling = [override for override, key in keys.items() if is_of_a_run(key)]
    short = short_names([keys[override] for override in telling])
    return " ".join(o.replace(keys[o], short[keys[o]], 1).lstrip("+") for o in telling)[:MOST]
