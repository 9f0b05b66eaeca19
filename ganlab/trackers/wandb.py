"""Weights & Biases."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import MaxLen, MinLen
from pydantic import StringConstraints

from ganlab.config.ranges import Seconds
from ganlab.errors import ConfigError
from ganlab.trackers import Watched, one_line, summary

log = logging.getLogger(__name__)

# What W&B itself takes, which it would tell only when the run has begun, and then the run had no copy
Project = Annotated[str, StringConstraints(max_length=128, pattern=r"^[^/\\#?%:]*$")]
Name = Annotated[str, MaxLen(128)]
Tag = Annotated[str, MinLen(1), MaxLen(64)]


class Wandb:
    """A run of Weights & Biases for each run, failed where it failed, with pictures and, online, the best checkpoint.

    Args:
        project, entity, job_type, notes: as W&B shows them.
        name: None: the run's overrides, in short.
        group: None: of a sweep's job, its sweep.
        tags: beside dataset, model and loss, which are always there.
        mode: `offline` writes into the run's folder; `online` does so too where the server does not answer.
        start_timeout: seconds that W&B may hold up the run at the start.
        finish_timeout: likewise at the end; online, it includes uploading the checkpoint.
    """

    def __init__(
        self,
        project: Project = "ganlab",
        entity: str | None = None,
        name: Name | None = None,
        group: Name | None = None,
        job_type: Name | None = None,
        tags: list[Tag] | None = None,
        notes: str | None = None,
        mode: Literal["online", "offline", "disabled"] = "offline",
        start_timeout: Seconds = 10.0,
        finish_timeout: Seconds = 10.0,
    ) -> None:
        self.mode = mode
        self.start_timeout, self.finish_timeout = start_timeout, finish_timeout
        self.name, self.group, self.tags = name, group, tags or []
        self.about: dict[str, Any] = {"project": project, "entity": entity, "job_type": job_type, "notes": notes}
        self.run: Any = None

    def start(self, run: Watched) -> None:
        deadline = time.monotonic() + self.start_timeout
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # its reports on itself would hold up the exit
        import wandb

        try:
            if self.mode == "online" and not has_key():
                raise ConfigError("no API key; `wandb login` keeps one")  # asking for it would hold up the run
            left = deadline - time.monotonic()
            self.run = self._begin(run, self.mode, seconds=0.6 * left)  # the rest is for starting offline
        except Exception as error:
            if self.mode != "online":
                raise
            reason, place = one_line(error), run.folder / "wandb"
            log.warning("W&B does not take this run (%s); it is tracked offline, in %s", reason, place)
            wandb.teardown()  # its service would not let go of the run's id
            self.run = self._begin(run, "offline", seconds=deadline - time.monotonic())

    def _begin(self, run: Watched, mode: str, seconds: float) -> Any:
        import wandb

        settings = wandb.Settings(
            init_timeout=max(seconds, 0.1),
            finish_timeout=0.8 * self.finish_timeout,
            silent=True,
            console="off",
        )
        return wandb.init(
            **self.about,
            name=self.name or run.title.name,
            group=self.group or run.title.group,
            tags=list(dict.fromkeys([*self.tags, *run.title.tags])),
            dir=str(run.folder),
            id=known_id(run.folder / "wandb") or run.id,
            config=dict(run.config),
            mode=mode,  # type: ignore[arg-type]  # checked against the same Literal in __init__
            resume="allow" if mode == "online" else None,
            reinit="finish_previous",
            settings=settings,
        )

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        self.run.log(dict(metrics), step=step)

    def picture(self, name: str, file: Path, step: int) -> None:
        import wandb
        from PIL import Image

        if file.suffix == ".gif":
            self.run.log({name: wandb.Video(str(file), format="gif")}, step=step)
        else:  # from its pixels: W&B's own conversion of a float tensor is black since 0.29
            self.run.log({name: wandb.Image(Image.open(file).convert("RGB"))}, step=step)

    def rewind(self, step: int) -> None:
        """Nothing: W&B's steps only grow. What is undone stays there, until the run comes past it."""

    def finish(self, exit_code: int, result: Mapping[str, Any], best: Path | None) -> None:
        if self.run is None:
            return
        self.run.summary.update(summary(result))
        try:
            if best and result["status"] == "done" and not self.run.offline:  # not at each pause of a halved sweep
                self._keep(best, result["best"])
        finally:
            self.run.finish(exit_code=exit_code)

    def _keep(self, checkpoint: Path, score: Mapping[str, Any]) -> None:
        """Upload the best checkpoint, with its score beside it."""
        import wandb

        artifact = wandb.Artifact(f"best-{self.run.id}", type="model", metadata=dict(score))
        artifact.add_file(str(checkpoint), name="best.pt", policy="immutable", skip_cache=True)
        self.run.log_artifact(artifact, aliases=["best", f"step-{score['step']}"])


def has_key() -> bool:
    """Whether W&B knows an API key, without asking for it."""
    import wandb

    before = os.environ.pop("WANDB_MODE", None)  # login believes it, and knows every key of an offline run
    try:
        return bool(wandb.login(prompt=False, verify=False))
    finally:
        if before is not None:
            os.environ["WANDB_MODE"] = before


def known_id(folder: Path) -> str | None:
    """The id under which W&B knows a run that is resumed: not ours if an agent of a sweep gave it one."""
    earlier = sorted(folder.glob("*run-*-*"))  # run-<date>_<time>-<id>, or offline-run-...
    return earlier[-1].name.rpartition("-")[2] if earlier else None
