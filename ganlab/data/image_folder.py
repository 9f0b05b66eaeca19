"""Pictures of the user's own: decoded once into a cache on disk, and read from there as if they were in memory."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import struct
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from tqdm import tqdm

from ganlab.config.ranges import Side
from ganlab.data.dataset import Examples
from ganlab.data.folders import cache_folder, check_folder, locked
from ganlab.errors import ConfigError, DataError

log = logging.getLogger(__name__)

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
FILTERS = {"lanczos": Image.Resampling.LANCZOS, "box": Image.Resampling.BOX}
# What Pillow raises on a damaged file, of whatever format
UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, IndexError, struct.error, Image.DecompressionBombError)
AT_A_TIME = 256  # pictures decoded ahead of the file they are written to
NAMED = 10  # corrupt files that a message lists by name
FORMAT = 1  # of the cache and of how pictures are decoded: a change of either makes all of them anew


class Recipe(NamedTuple):
    """What a picture is made into; the keys of `ImageFolder`."""

    size: int
    channels: Literal[1, 3]
    crop: bool
    resample: Literal["lanczos", "box"]


class ImageFolder:
    """The pictures of one folder, or of one folder per class.

    They are turned as their EXIF data say, transparent ones laid on white, and brought to one size and number of
    channels. The result is kept, by the names, sizes and times of the files and the keys below, until the folder has
    changed and is decoded again with the same keys.

    Args:
        path: holds either pictures, or folders of pictures, whose names are the classes; deeper ones are not looked at.
        size: pixels, of both sides.
        channels: 1 for grey, 3 for colour.
        crop: True: the largest square about the middle; False: all of the picture, squeezed into a square.
        resample: the filter; `box` takes the mean of the pixels that fall into one, `lanczos` is sharper.
        on_corrupt: what to do about files that cannot be decoded.
        cache: folder for the decoded pictures, size^2 * channels bytes each; None: the user's cache.
        flip: whether batches may be mirrored left to right.
    """

    name = "image_folder"

    def __init__(
        self,
        path: str,
        size: Side = 64,
        channels: Literal[1, 3] = 3,
        crop: bool = True,
        resample: Literal["lanczos", "box"] = "lanczos",
        on_corrupt: Literal["refuse", "skip"] = "refuse",
        cache: str | None = None,
        flip: bool = True,
    ) -> None:
        self.path = Path(path).expanduser()
        self.on_corrupt = on_corrupt
        self.cache = Path(cache).expanduser() if cache else cache_folder() / "image_folder"
        self.flip = flip
        self.shape = (channels, size, size)
        self.recipe = Recipe(size, channels, crop, resample)
        folders = _folders(self.path)
        self.classes = tuple(folders) if len(folders) > 1 else ()
        self.files = [
            (file, label) for label, name in enumerate(folders or ["."]) for file in _pictures(self.path, name)
        ]
        self.num_examples = len(self.files) if on_corrupt == "refuse" and self.files else None

    def check(self) -> None:
        if not self.path.is_dir():
            raise ConfigError(f"dataset.path={self.path}: no such folder; must hold pictures, or a folder a class")
        folders, loose = _folders(self.path), _pictures(self.path, ".")
        kinds = ", ".join(SUFFIXES)
        if folders and loose:
            raise ConfigError(
                f"dataset.path={self.path}: must hold either pictures or folders of pictures; it has {len(loose)} "
                f"pictures ({loose[0]}, ...) and {len(folders)} folders ({folders[0]}, ...)"
            )
        if not self.files:
            raise ConfigError(f"dataset.path={self.path}: no pictures there; must hold {kinds}, or a folder a class")
        empty = [name for name in folders if not _pictures(self.path, name)]
        if empty:
            raise ConfigError(f"dataset.path={self.path}: folder {empty[0]} has no pictures; must hold {kinds}")
        check_folder("dataset.cache", self.cache)

    def load(self) -> Examples:
        try:
            entry = self.cache / f"{self._key()}-{self._state()}"
            self.cache.mkdir(parents=True, exist_ok=True)
            with locked(self.cache / f"{self._key()}.lock", f"decoding {self.path}"):  # whose result is then used
                decoded = read_entry(entry) or self._decode_all(entry)
                self._remove_all_but(entry)
        except OSError as error:
            raise DataError(f"dataset.path={self.path}, dataset.cache={self.cache}: {error}") from error
        if decoded.corrupt:
            log.warning("WARNING: dataset.path=%s: skipped %s", self.path, _listed(decoded.corrupt))
        images, labels = torch.from_numpy(decoded.images), torch.from_numpy(decoded.labels)
        return Examples(images, labels, str(self.path), flip=self.flip)

    def _key(self) -> str:
        """A hash of the folder's name and of what is made of it."""
        return _hash([FORMAT, str(self.path.absolute()), self.recipe, self.on_corrupt])

    def _state(self) -> str:
        """A hash of what the folder holds."""
        stats = [(self.path / name).stat() for name, _ in self.files]
        return _hash([self.files, [(s.st_size, s.st_mtime_ns) for s in stats]])

    def _remove_all_but(self, entry: Path) -> None:
        """Remove what the same key made of the folder before it changed.

        A run that has it mapped keeps it until it ends, as Linux does; where a system refuses, it stays.
        """
        for old in self.cache.glob(f"{self._key()}-*"):
            if old != entry:
                shutil.rmtree(old, ignore_errors=True)

    def _decode_all(self, entry: Path) -> Decoded:
        """Decode every file into a new entry of the cache, which appears whole or not at all."""
        with tempfile.TemporaryDirectory(dir=self.cache, prefix=".decoding-") as temporary:
            made = Path(temporary) / "entry"
            made.mkdir()
            labels, corrupt = self._write_images(made / "images.npy")
            if corrupt and self.on_corrupt == "refuse":
                raise DataError(
                    f"dataset.path={self.path}: {_listed(corrupt)}; mend or remove them, or set dataset.on_corrupt=skip"
                )
            if not labels:
                raise DataError(f"dataset.path={self.path}: not one of {len(corrupt)} pictures can be decoded")
            np.save(made / "labels.npy", np.array(labels, dtype=np.int64))
            (made / "corrupt.json").write_text(json.dumps(corrupt))
            shutil.rmtree(entry, ignore_errors=True)  # one that cannot be read
            os.rename(made, entry)
        decoded = read_entry(entry)
        if decoded is None:
            raise OSError(f"{entry}: cannot be read back")
        return decoded

    def _write_images(self, file: Path) -> tuple[list[int], list[str]]:
        """Write all that can be decoded; returns their labels, and what is wrong with the others.

        Written in sequence, not through a memory map, which a full disk would end by a signal instead of an error.
        """
        labels, corrupt = [], []
        with file.open("wb") as out:
            out.write(_npy_header(len(self.files), self.shape))
            for (name, label), image in zip(self.files, self._decoded(), strict=True):
                if isinstance(image, str):
                    corrupt.append(f"{name} ({image})")
                else:
                    labels.append(label)
                    out.write(image.tobytes())
            out.seek(0)
            out.write(_npy_header(len(labels), self.shape))  # of the same length: NumPy leaves room for the number
        return labels, corrupt

    def _decoded(self) -> Iterator[np.ndarray | str]:
        """Each picture in order, or why it cannot be decoded. Pillow decodes outside Python's lock, hence threads."""
        with (
            ThreadPoolExecutor(os.cpu_count()) as pool,
            tqdm(desc="Decoding", total=len(self.files), unit="picture", disable=None) as bar,
        ):
            for start in range(0, len(self.files), AT_A_TIME):
                paths = [self.path / name for name, _ in self.files[start : start + AT_A_TIME]]
                for image in pool.map(partial(_decode_or_reason, recipe=self.recipe), paths):
                    bar.update()
                    yield image


def _hash(facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


class Decoded(NamedTuple):
    """An entry of the cache: images uint8 [N, C, H, W], mapped; labels int64 [N]; what was wrong with other files."""

    images: np.ndarray
    labels: np.ndarray
    corrupt: list[str]


def read_entry(entry: Path) -> Decoded | None:
    """What the cache holds; None: nothing, or nothing that can be read."""
    try:
        # "c": pages that somebody writes to become private, so that torch can be given memory that it may write
        images = np.load(entry / "images.npy", mmap_mode="c")
        return Decoded(images, np.load(entry / "labels.npy"), json.loads((entry / "corrupt.json").read_text()))
    except (OSError, ValueError, EOFError):
        return None


def decode(file: Path, recipe: Recipe) -> np.ndarray:
    """One picture as uint8 [channels, size, size]."""
    size, channels, crop, resample = recipe
    with Image.open(file) as opened:
        image = to_channels(opened, channels)
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, left + side, top + side) if crop else (0, 0, width, height)
    pixels = np.asarray(image.resize((size, size), FILTERS[resample], box=box))  # [size, size] or [size, size, 3]
    return np.ascontiguousarray(pixels.reshape(size, size, channels).transpose(2, 0, 1))


def to_channels(image: Image.Image, channels: int) -> Image.Image:
    """A picture of any mode, turned as its EXIF data say, in 8-bit grey (1) or colour, on white where transparent."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # grey of 16 bits, which Pillow would clip to 8 instead of scaling
        image = Image.fromarray((np.asarray(image, dtype=np.float64) / 257).round().clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("L" if channels == 1 else "RGB")


def _decode_or_reason(file: Path, recipe: Recipe) -> np.ndarray | str:
    try:
        return decode(file, recipe)
    except UNREADABLE as error:
        return " ".join(str(error).replace(str(file), file.name).split()) or type(error).__name__


def _folders(path: Path) -> list[str]:
    """The names of the folders in a folder, sorted, without hidden ones; of none where it cannot be read."""
    return sorted(e.name for e in _entries(path) if e.is_dir())


def _pictures(path: Path, folder: str) -> list[str]:
    """The names of the pictures in a folder of `path`, sorted and relative to `path`, without hidden ones."""
    found = [e.name for e in _entries(path / folder) if e.name.lower().endswith(SUFFIXES) and e.is_file()]
    return [(Path(folder) / name).as_posix() for name in sorted(found)]


def _entries(path: Path) -> list[os.DirEntry[str]]:
    if not path.is_dir():
        return []
    with os.scandir(path) as entries:
        return [entry for entry in entries if not entry.name.startswith(".")]


def _listed(corrupt: list[str]) -> str:
    more = f", and {len(corrupt) - NAMED} more" if len(corrupt) > NAMED else ""
    files = "file" if len(corrupt) == 1 else "files"
    return f"{len(corrupt)} {files} that cannot be decoded: {', '.join(corrupt[:NAMED])}{more}"


def _npy_header(num_images: int, shape: tuple[int, ...]) -> bytes:
    header = BytesIO()
    facts = {"descr": "|u1", "fortran_order": False, "shape": (num_images, *shape)}
    np.lib.format.write_array_header_1_0(header, facts)
    return header.getvalue()
