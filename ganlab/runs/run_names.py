"""What a run is called in a list of runs, by what Hydra left in its folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ganlab.runs.hydra_record import choices, composition, is_of_a_run, setting, short_names
from ganlab.trackers import Title

LONGEST = 128  # characters; trackers take no more


def title(folder: Path) -> Title:
    """That of the run in a folder."""
    runtime, overrides = composition(folder)
    chosen = choices(runtime)
    tags = tuple(str(chosen[group]) for group in ("dataset", "model", "loss") if group in chosen)
    in_sweep = setting(runtime, "mode") == "MULTIRUN"
    group = "/".join(folder.resolve().parent.parts[-2:])  # by default the date and time
    return Title(short_name(overrides) or " ".join(tags[:2]) or None, group[-LONGEST:] if in_sweep else None, tags)


def short_name(overrides: Sequence[str]) -> str:
    """`optimizer.generator.lr=1e-4`, `seed=3` as `lr=1e-4 seed=3`, without what does not change the result."""
    keys = {override: override.partition("=")[0].lstrip("+~") for override in overrides}
    telling = [override for override, key in keys.items() if is_of_a_run(key)]
    short = short_names([keys[override] for override in telling])
    return " ".join(o.replace(keys[o], short[keys[o]], 1).lstrip("+") for o in telling)[:LONGEST]
