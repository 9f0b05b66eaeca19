"""The Weights & Biases tracker."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import MaxLen, MinLen
from pydantic import StringConstraints

from ganlab.config.environment import environment
from ganlab.config.ranges import Seconds
from ganlab.errors import ConfigError
from ganlab.trackers import RunInfo, one_line, summary

log = logging.getLogger(__name__)

# Limits of W&B, checked before the run, as W&B would refuse only after the start
Project = Annotated[str, StringConstraints(max_length=128, pattern=r"^[^/\\#?%:]*$")]
Name = Annotated[str, MaxLen(128)]
Tag = Annotated[str, MinLen(1), MaxLen(64)]


class Wandb:
    """Copies each run to a run of Weights & Biases, with pictures, exit status and, online, the best checkpoint.

    Args:
        project, entity, job_type, notes: passed to `wandb.init`.
        name: name of the run; None uses its overrides with short keys.
        group: group of the run; None uses the name of its sweep, if any.
        tags: further tags, in addition to dataset, model and loss.
        mode: `offline` writes into the run's folder, and so does `online` if the server does not answer.
        start_timeout: seconds that the run waits for W&B at the start.
        finish_timeout: seconds that the run waits for W&B at the end; online, this includes uploading the checkpoint.
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

    def start(self, run: RunInfo) -> None:
        reporting = os.environ.get("WANDB_ERROR_REPORTING", "false")  # W&B's error reports would delay the exit
        with environment(WANDB_ERROR_REPORTING=reporting):
            self._start(run, deadline=time.monotonic() + self.start_timeout)

    def _start(self, run: RunInfo, deadline: float) -> None:
        import wandb

        try:
            if self.mode == "online" and not has_api_key():
                raise ConfigError("no API key; run `wandb login`")  # a prompt would block the run
            left = deadline - time.monotonic()
            self.run = self._begin(run, self.mode, seconds=0.6 * left)  # the rest is for starting offline
        except Exception as error:
            if self.mode != "online":
                raise
            reason, place = one_line(error), run.folder / "wandb"
            log.warning("W&B cannot start this run online (%s); it is tracked offline in %s", reason, place)
            wandb.teardown()  # otherwise its service keeps the run's id
            self.run = self._begin(run, "offline", seconds=deadline - time.monotonic())

    def _begin(self, run: RunInfo, mode: str, seconds: float) -> Any:
        import wandb

        settings = wandb.Settings(
            init_timeout=max(seconds, 0.1),
            finish_timeout=0.8 * self.finish_timeout,
            silent=True,
            console="off",
        )
        return wandb.init(
            **self.about,
            name=self.name or run.names.name,
            group=self.group or run.names.group,
            tags=list(dict.fromkeys([*self.tags, *run.names.tags])),
            dir=str(run.folder),
            id=previous_id(run.folder / "wandb") or run.id,
            config=dict(run.config),
            mode=mode,  # type: ignore[arg-type]  # checked against the same Literal in __init__
            resume="allow" if mode == "online" else None,
            reinit="create_new",
            settings=settings,
        )

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        self.run.log(dict(metrics), step=step)

    def picture(self, name: str, file: Path, step: int) -> None:
        import wandb
        from PIL import Image

        if file.suffix == ".gif":
            self.run.log({name: wandb.Video(str(file), format="gif")}, step=step)
        else:  # as pixels: since 0.29, W&B converts float tensors to black images
            self.run.log({name: wandb.Image(Image.open(file).convert("RGB"))}, step=step)

    def rewind(self, step: int) -> None:
        """Do nothing: steps of W&B only increase, so the discarded records stay."""

    def finish(self, exit_code: int, result: Mapping[str, Any], best: Path | None) -> None:
        if self.run is None:
            return
        self.run.summary.update(summary(result))
        try:
            if best and result["status"] == "done" and not self.run.offline:  # not at each rung of a halved sweep
                self._keep(best, result["best"])
        finally:
            self.run.finish(exit_code=exit_code)

    def _keep(self, checkpoint: Path, score: Mapping[str, Any]) -> None:
        """Upload the best checkpoint, with its score as metadata."""
        import wandb

        artifact = wandb.Artifact(f"best-{self.run.id}", type="model", metadata=dict(score))
        artifact.add_file(str(checkpoint), name="best.pt", policy="immutable", skip_cache=True)
        self.run.log_artifact(artifact, aliases=["best", f"step-{score['step']}"])


def has_api_key() -> bool:
    """Whether W&B has an API key, checked without a prompt."""
    import wandb

    with environment(WANDB_MODE=None):  # with offline mode set, login always succeeds
        return bool(wandb.login(prompt=False, verify=False))


def previous_id(folder: Path) -> str | None:
    """Return the W&B id of a resumed run, which differs from ours if a W&B agent chose it; None for a new run."""
    earlier = sorted(folder.glob("*run-*-*"))  # run-<date>_<time>-<id>, or offline-run-...
    return earlier[-1].name.rpartition("-")[2] if earlier else None
