"""Names a run for trackers, after its overrides and options."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ganlab.runs.hydra_record import choices, hydra_setting, identifies_run, read_hydra_record, short_names
from ganlab.trackers import RunNames

MAX_CHARACTERS = 128  # limit of the trackers


def run_names(folder: Path) -> RunNames:
    """Return the names of the run in a folder."""
    runtime, overrides = read_hydra_record(folder)
    chosen = choices(runtime)
    tags = tuple(str(chosen[group]) for group in ("dataset", "model", "loss") if group in chosen)
    in_sweep = hydra_setting(runtime, "mode") == "MULTIRUN"
    group = "/".join(folder.resolve().parent.parts[-2:])  # date and time by default
    return RunNames(
        short_name(overrides) or " ".join(tags[:2]) or None, group[-MAX_CHARACTERS:] if in_sweep else None, tags
    )


def short_name(overrides: Sequence[str]) -> str:
    """Join the overrides that can change the result, with short keys: `lr=1e-4 seed=3`."""
    keys = {override: override.partition("=")[0].lstrip("+~") for override in overrides}
    telling = [override for override, key in keys.items() if identifies_run(key)]
    short = short_names([keys[override] for override in telling])
    return " ".join(o.replace(keys[o], short[keys[o]], 1).lstrip("+") for o in telling)[:MAX_CHARACTERS]
