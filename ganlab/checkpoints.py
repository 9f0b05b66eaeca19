"""Checkpoints: one file with everything in it, written whole or not at all, and loaded as data, never as code."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from ganlab.errors import CheckpointError
from ganlab.ranges import Count
from ganlab.runs import replace_file

FORMAT = 3


class Stateful(Protocol):
    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Any) -> Any: ...


class Checkpoints:
    """The checkpoints of a run: `step_00001000.pt`, ..., of which `last.pt` is the latest and `best.pt` the best.

    An interrupted run leaves its last one without a number.

    Args:
        folder: where they lie.
        keep: how many of the latest numbered ones stay, besides the best and the one that `save` is told of; None: all.
    """

    def __init__(self, folder: Path, keep: Count | None = None) -> None:
        self.folder = folder
        self.keep = keep

    def save(
        self,
        step: int,
        state: Mapping[str, Stateful],
        facts: Mapping[str, Any],
        is_best: bool = False,
        good_step: int | None = None,
    ) -> None:
        """Write the state of every named object, and plain facts beside them.

        Args:
            is_best: whether this is the best one so far.
            good_step: the last numbered checkpoint at or before this step stays too; None: it need not.
        """
        file = self._numbered(step)
        replace_file(file, as_bytes(step, state, facts))
        for name in ("best.pt", "last.pt") if is_best else ("last.pt",):
            self._point(name, file)
        if self.keep is not None:
            good = None if good_step is None else self.latest(good_step)
            for old in self.steps()[: -self.keep]:
                if old != good:
                    self._numbered(old).unlink()

    def save_last(self, step: int, state: Mapping[str, Stateful], facts: Mapping[str, Any]) -> None:
        """Write the same as the last one alone, which the next one replaces."""
        replace_file(self.folder / "last.pt", as_bytes(step, state, facts))

    def _point(self, name: str, numbered: Path) -> None:
        """A second name for the same file, taken in one move and without a second copy where the disk can."""
        temporary = self.folder / f".{name}.tmp"
        temporary.unlink(missing_ok=True)
        try:
            os.link(numbered, temporary)
        except OSError:  # a file system without hard links
            replace_file(self.folder / name, numbered.read_bytes())
            return
        os.replace(temporary, self.folder / name)

    def steps(self) -> list[int]:
        """Of the numbered checkpoints, rising."""
        return sorted(int(file.stem.removeprefix("step_")) for file in self.folder.glob("step_*.pt"))

    def latest(self, until: int) -> int | None:
        """The last numbered step up to and with `until`; None: there is none."""
        return max((step for step in self.steps() if step <= until), default=None)

    def rewind(self, step: int) -> None:
        """Make a numbered checkpoint the last one; the later ones go, except the best."""
        self._point("last.pt", self._numbered(step))
        for later in self.steps():
            if later > step:
                self._numbered(later).unlink()

    def _numbered(self, step: int) -> Path:
        return self.folder / f"step_{step:08d}.pt"

    @property
    def best(self) -> Path | None:
        return self.folder / "best.pt" if self.has("best") else None

    def has(self, name: str) -> bool:
        return (self.folder / f"{name}.pt").is_file()

    def load(self, which: str = "last") -> dict[str, Any]:
        """A checkpoint's content, on the CPU.

        Args:
            which: `last`, `best`, or the number of a step.

        Raises:
            CheckpointError: it is missing, damaged, or not one of ours.
        """
        if which not in ("last", "best") and not which.isdecimal():
            raise CheckpointError(f"checkpoint={which}: must be last, best or the number of a step")
        path = self._numbered(int(which)) if which.isdecimal() else self.folder / f"{which}.pt"
        if not path.is_file():
            kept = [str(step) for step in self.steps()]
            named = [name for name in ("last", "best") if self.has(name)]
            raise CheckpointError(f"checkpoint={which}: {self.folder} has {', '.join(named + kept) or 'none'}")
        return read(path)


def as_bytes(step: int, state: Mapping[str, Stateful], facts: Mapping[str, Any]) -> bytes:
    """The content of a checkpoint file."""
    content = {
        "format": FORMAT,
        "step": step,
        **facts,
        **{name: part.state_dict() for name, part in state.items()},
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def read(path: Path) -> dict[str, Any]:
    """The content of a checkpoint file. torch.load accepts flipped bits; the CRC of the zip it lies in does not."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        content = None if damaged else torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise  # the disk's fault, not the file's
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{path}: damaged or not a checkpoint: {reason}") from error
    if content is None:
        raise CheckpointError(f"{path}: damaged, the check sum of {damaged} is wrong")
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not a checkpoint of this version of ganlab (format {FORMAT})")
    return content
