"""Checkpoint files with the complete state of a run, written atomically and loaded without executing code."""

from __future__ import annotations

import errno
import functools
import io
import itertools
import math
import os
import pickle
import pickletools
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Protocol

import torch
from pydantic import StringConstraints, with_config
from torch import Tensor, nn
from typing_extensions import TypedDict

from ganlab.config.entries import STRICT, check_type, entry_path, short_repr
from ganlab.config.ranges import PositiveInt
from ganlab.data.dataset import DescriptionEntry
from ganlab.errors import CheckpointError
from ganlab.files import replace_file
from ganlab.runs.progress import ProgressState

FORMAT = 4
ALLOWED_GLOBALS = (
    r"torch[. ]|collections (OrderedDict|Counter)$|__builtin__ (set|complex)$"  # imports that a pickle may contain
)
ZIP_DIRECTORY = 0x10  # file attribute of a directory
MAX_DEPTH = 50
MAX_VALUES = 10**5  # shared lists can expand to exponentially many values


@with_config(STRICT)
class Metadata(TypedDict):
    """The entries that checkpoints of all runs have. Others, such as `watchdog`, declare their own types."""

    progress: ProgressState
    config: dict[str, Any]
    config_hash: Annotated[str, StringConstraints(pattern="^[0-9a-f]{16}$")]
    data: DescriptionEntry


class Stateful(Protocol):
    def state_dict(self) -> Mapping[str, Any]: ...

    def load_state_dict(self, state: Any) -> Any: ...


class Checkpoints:
    """The checkpoints of a run: `step_00001000.pt`, ..., `last.pt` (the latest) and `best.pt` (the best score).

    An interrupted run saves only `last.pt`, without a number.

    Args:
        folder: folder of the checkpoint files.
        keep: number of latest numbered checkpoints to keep, besides the best and `good_step` of `save`; None keeps all.
        metadata: further entries of every checkpoint, as plain values.
    """

    def __init__(
        self, folder: Path, keep: PositiveInt | None = None, metadata: Mapping[str, Any] | None = None
    ) -> None:
        self.folder, self.keep, self.metadata = folder, keep, metadata or {}

    def save(
        self, step: int, state: Mapping[str, Stateful], is_best: bool = False, good_step: int | None = None
    ) -> None:
        """Save a numbered checkpoint with the state of every named object.

        Args:
            is_best: whether this is the best checkpoint so far.
            good_step: also keep the last numbered checkpoint at or before this step; None keeps no further one.
        """
        file = self._numbered(step)
        replace_file(file, as_bytes(self.metadata, state))
        for name in ("best.pt", "last.pt") if is_best else ("last.pt",):
            self._point(name, file)
        if self.keep is not None:
            good = None if good_step is None else self.latest(good_step)
            for old in self.steps()[: -self.keep]:
                if old != good:
                    self._numbered(old).unlink()

    def save_last(self, state: Mapping[str, Stateful]) -> None:
        """Save only `last.pt`, which the next checkpoint replaces."""
        replace_file(self.folder / "last.pt", as_bytes(self.metadata, state))

    def _point(self, name: str, numbered: Path) -> None:
        """Give the file a second name, atomically and, where the file system has hard links, without a copy."""
        temporary = self.folder / f".{name}.tmp"
        temporary.unlink(missing_ok=True)
        try:
            os.link(numbered, temporary)
        except OSError:  # a file system without hard links
            replace_file(self.folder / name, numbered.read_bytes())
            return
        os.replace(temporary, self.folder / name)

    def steps(self) -> list[int]:
        """Return the steps of the numbered checkpoints in ascending order."""
        numbers = (file.stem.removeprefix("step_") for file in self.folder.glob("step_*.pt"))
        return sorted(int(number) for number in numbers if re.fullmatch("[0-9]{8,15}", number))

    def latest(self, until: int) -> int | None:
        """Return the last numbered step at or before `until`; None if there is none."""
        return max((step for step in self.steps() if step <= until), default=None)

    def rewind(self, step: int) -> None:
        """Make a numbered checkpoint the last one, and delete later ones except `best.pt`."""
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

    def find(self, which: str) -> Path:
        """Return the file of a checkpoint.

        Args:
            which: `last`, `best`, or a step number.

        Raises:
            CheckpointError: there is no such file, or `which` has another form.
        """
        if which not in ("last", "best") and not re.fullmatch("[0-9]{1,15}", which):
            raise CheckpointError(f"checkpoint={which[:100]}: must be last, best or a step number")
        path = self._numbered(int(which)) if which.isdecimal() else self.folder / f"{which}.pt"
        if not path.is_file():
            kept = [str(step) for step in self.steps()]
            named = [name for name in ("last", "best") if self.has(name)]
            raise CheckpointError(f"checkpoint={which}: {self.folder} has {', '.join(named + kept) or 'none'}")
        return path


def as_bytes(metadata: Mapping[str, Any], state: Mapping[str, Stateful]) -> bytes:
    """Serialise a checkpoint."""
    content = {"format": FORMAT, **metadata, **{name: part.state_dict() for name, part in state.items()}}
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def read(path: Path) -> dict[str, Any]:
    """Read a checkpoint file as builtin types and CPU tensors, without validating the entries.

    Raises:
        CheckpointError: the file is damaged, or not a checkpoint.
    """
    with path.open("rb") as file:
        try:
            check_archive(file)
            file.seek(0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # unusual tensor types are refused later
                loaded = torch.load(file, map_location="cpu", weights_only=True)
            content = to_builtins(loaded)
        except pickle.UnpicklingError as error:
            raise CheckpointError(f"{path}: damaged, or contains more than tensors and plain values") from error
        except Exception as error:
            if isinstance(error, OSError) and error.errno != errno.EINVAL:
                raise  # a disk error, except EINVAL, which a wrong offset inside the file causes
            reason = (str(error).splitlines() or [""])[0] or type(error).__name__
            raise CheckpointError(f"{path}: damaged or not a checkpoint: {reason[:200]}") from error
    if not isinstance(content, dict) or type(content.get("format")) is not int or content["format"] != FORMAT:
        raise CheckpointError(f"{path}: not a checkpoint of this version of ganlab (format {FORMAT})")
    return content


def check_archive(file: BinaryIO) -> None:
    """Refuse a zip file that torch would not have written, before torch reads it.

    torch.load ignores checksums and decompresses members of any size.

    Raises:
        ValueError, zipfile.BadZipFile: a member is invalid; the message names it.
    """
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        size = file.seek(0, os.SEEK_END)
        for member in members:
            if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
                raise ValueError(f"{short_repr(member.filename)} is compressed or encrypted")
            if member.external_attr & ZIP_DIRECTORY or member.is_dir():  # torch would return uninitialised memory
                raise ValueError(f"{short_repr(member.filename)} is a directory")
        if len({member.filename for member in members}) < len(members):
            raise ValueError("two members have the same name")
        if sum(member.file_size for member in members) > size:
            raise ValueError("its members are larger than the archive")
        damaged = archive.testzip()
        if damaged:
            raise ValueError(f"the checksum of {short_repr(damaged)} is wrong")
        for member in members:
            if member.filename.endswith("/data.pkl"):
                check_pickle(archive.read(member))


def check_pickle(program: bytes) -> None:
    """Refuse a pickle that imports anything but torch's classes and builtin values.

    `weights_only=True` also allows `bytearray` and `_codecs.encode`, whose results can be far larger than the file.

    Raises:
        ValueError: the pickle has another import; the message names it.
    """
    for opcode, argument, _ in pickletools.genops(program):
        if opcode.name == "GLOBAL" and not re.match(ALLOWED_GLOBALS, str(argument)):
            raise ValueError(f"{short_repr(argument)} is neither a tensor nor a plain value")


def to_builtins(content: object) -> object:
    """Rebuild dictionaries and tensors without their attributes, as a file could use attributes to replace methods.

    Raises:
        ValueError: the content is nested too deeply, or has too many values.
    """
    count = itertools.count(1)

    def rebuild(value: object, *keys: object) -> object:
        if len(keys) > MAX_DEPTH or next(count) > MAX_VALUES:
            name = functools.reduce(entry_path, keys[:5], "")
            raise ValueError(f"{name} has more than {MAX_DEPTH} levels, or {MAX_VALUES:,} values")
        if type(value) is Tensor:
            return Tensor.detach(value)
        if isinstance(value, dict):
            return {key: rebuild(part, *keys, key) for key, part in dict.items(value)}
        if isinstance(value, list | tuple) and type(value) in (list, tuple):
            return type(value)([rebuild(part, *keys, index) for index, part in enumerate(value)])
        return value

    return rebuild(content)


def check_metadata(path: Path, content: Mapping[str, Any]) -> None:
    """Validate the entries that `Metadata` declares.

    Raises:
        CheckpointError: an entry is missing, has the wrong type or is out of range; the message names the first one.
    """
    where = f"{path}: "
    check_type(where, {name: content[name] for name in Metadata.__annotations__ if name in content}, Metadata)
    numbered, step = re.fullmatch("step_([0-9]+)", path.stem), content["progress"]["step"]
    if numbered and int(numbered[1]) != step:
        raise CheckpointError(f"{where}progress.step={step}: must be {int(numbered[1])}, the step in the file's name")
    shape, center = content["data"]["shape"], content["data"]["units"]["center"]
    if len(shape) not in (1, 3) or math.prod(shape) > 2**28:
        raise CheckpointError(f"{where}data.shape={shape}: must be [D] or [C, H, W], with at most 2^28 elements")
    if center and len(center) != shape[0]:
        raise CheckpointError(f"{where}data.units.center: length {len(center)}, expected {shape[0]}")


def restore_network(network: nn.Module, state: Mapping[str, Any]) -> None:
    """Load a validated state, keeping the network's own `_metadata` (the format versions of its layers)."""
    own = network.state_dict()
    own.update(state)
    network.load_state_dict(own)
