"""Image folders of the user, decoded once into a memory-mapped cache on disk."""

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

from ganlab.config.effects import Fixed, NoEffect
from ganlab.config.ranges import Side
from ganlab.data.dataset import Examples
from ganlab.data.folders import cache_folder, check_folder, locked
from ganlab.errors import ConfigError, DataError

log = logging.getLogger(__name__)

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
FILTERS = {"lanczos": Image.Resampling.LANCZOS, "box": Image.Resampling.BOX}
# Exceptions that Pillow raises for damaged files
UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, IndexError, struct.error, Image.DecompressionBombError)
CHUNK = 256  # images decoded in parallel before they are written
MAX_LISTED = 10  # corrupt files that a message names
FORMAT = 1  # version of the cache format and of decoding; a change invalidates all cache entries


class Recipe(NamedTuple):
    """How images are decoded; the arguments of `ImageFolder` with the same names."""

    size: int
    channels: Literal[1, 3]
    crop: bool
    resample: Literal["lanczos", "box"]


class ImageFolder:
    """The images of one folder, or of one folder per class.

    Images are rotated according to their EXIF data, composited on white if transparent, and converted to one size and
    number of channels. The result is cached. The cache is used as long as the names, sizes and modification times of
    the files and the arguments below are the same; otherwise the folder is decoded again.

    Args:
        path: folder that contains either images, or one folder of images per class. Deeper folders are ignored.
        size: width and height in pixels.
        channels: 1 for greyscale, 3 for colour.
        crop: True: crop to the largest central square; False: squeeze the whole image into a square.
        resample: resampling filter; `box` averages the pixels, `lanczos` is sharper.
        on_corrupt: whether to refuse the folder or to skip files that cannot be decoded.
        cache: folder for the decoded images, size^2 * channels bytes each; None: the user's cache.
        flip: whether to mirror training images left to right at random.
    """

    name = "image_folder"

    def __init__(
        self,
        path: Fixed[str],
        size: Fixed[Side] = 64,
        channels: Fixed[Literal[1, 3]] = 3,
        crop: Fixed[bool] = True,
        resample: Fixed[Literal["lanczos", "box"]] = "lanczos",
        on_corrupt: Fixed[Literal["refuse", "skip"]] = "refuse",
        cache: NoEffect[str | None] = None,
        flip: Fixed[bool] = True,
    ) -> None:
        self.path = Path(path).expanduser()
        self.on_corrupt = on_corrupt
        self.cache = Path(cache).expanduser() if cache else cache_folder() / "image_folder"
        self.flip = flip
        self.shape = (channels, size, size)
        self.recipe = Recipe(size, channels, crop, resample)
        folders = _folders(self.path)
        self.classes = tuple(folders) if len(folders) > 1 else ()
        self.files = [(file, label) for label, name in enumerate(folders or ["."]) for file in _images(self.path, name)]
        self.num_examples = len(self.files) if on_corrupt == "refuse" and self.files else None

    def check(self) -> None:
        if not self.path.is_dir():
            raise ConfigError(
                f"dataset.path={self.path}: no such folder; must contain images, or one folder of images per class"
            )
        folders, loose = _folders(self.path), _images(self.path, ".")
        suffixes = ", ".join(SUFFIXES)
        if folders and loose:
            raise ConfigError(
                f"dataset.path={self.path}: must contain either images or folders of images, not both; it has "
                f"images ({loose[0]}, ...) and folders ({folders[0]}, ...)"
            )
        if not self.files:
            raise ConfigError(
                f"dataset.path={self.path}: contains no images; must contain {suffixes}, or one folder per class"
            )
        empty = [name for name in folders if not _images(self.path, name)]
        if empty:
            raise ConfigError(
                f"dataset.path={self.path}: folder {empty[0]} contains no images; must contain {suffixes}"
            )
        check_folder("dataset.cache", self.cache)

    def load(self) -> Examples:
        try:
            entry = self.cache / f"{self._key()}-{self._state()}"
            self.cache.mkdir(parents=True, exist_ok=True)
            with locked(self.cache / f"{self._key()}.lock", f"decoding {self.path}"):
                decoded = read_entry(entry) or self._decode_all(entry)
                self._remove_all_but(entry)
        except OSError as error:
            raise DataError(f"dataset.path={self.path}, dataset.cache={self.cache}: {error}") from error
        if decoded.corrupt:
            log.warning("WARNING: dataset.path=%s: skipped %s", self.path, _listed(decoded.corrupt))
        images, labels = torch.from_numpy(decoded.images), torch.from_numpy(decoded.labels)
        return Examples(images, labels, str(self.path), flip=self.flip)

    def _key(self) -> str:
        """Hash of the folder's path and the decoding arguments."""
        return _hash([FORMAT, str(self.path.absolute()), self.recipe, self.on_corrupt])

    def _state(self) -> str:
        """Hash of the names, sizes and modification times of the files."""
        stats = [(self.path / name).stat() for name, _ in self.files]
        return _hash([self.files, [(s.st_size, s.st_mtime_ns) for s in stats]])

    def _remove_all_but(self, entry: Path) -> None:
        """Remove outdated cache entries of the same key.

        On Linux, a run that has mapped an entry can use it until it ends. If the system refuses removal, it is kept.
        """
        for old in self.cache.glob(f"{self._key()}-*"):
            if old != entry:
                shutil.rmtree(old, ignore_errors=True)

    def _decode_all(self, entry: Path) -> Decoded:
        """Decode all files into a new cache entry, atomically."""
        with tempfile.TemporaryDirectory(dir=self.cache, prefix=".decoding-") as temporary:
            made = Path(temporary) / "entry"
            made.mkdir()
            labels, corrupt = self._write_images(made / "images.npy")
            if corrupt and self.on_corrupt == "refuse":
                raise DataError(
                    f"dataset.path={self.path}: {_listed(corrupt)}; repair or remove them, or set "
                    "dataset.on_corrupt=skip"
                )
            if not labels:
                raise DataError(f"dataset.path={self.path}: none of the {len(corrupt)} images can be decoded")
            np.save(made / "labels.npy", np.array(labels, dtype=np.int64))
            (made / "corrupt.json").write_text(json.dumps(corrupt))
            shutil.rmtree(entry, ignore_errors=True)  # an unreadable entry
            os.rename(made, entry)
        decoded = read_entry(entry)
        if decoded is None:
            raise OSError(f"{entry}: cannot be read back")
        return decoded

    def _write_images(self, file: Path) -> tuple[list[int], list[str]]:
        """Write all decodable images; return their labels, and the reasons for the others.

        The file is written sequentially: with a memory map, a full disk would raise a signal instead of an error.
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
            out.write(_npy_header(len(labels), self.shape))  # same length, because NumPy pads the header
        return labels, corrupt

    def _decoded(self) -> Iterator[np.ndarray | str]:
        """Yield each image in order, or the reason why it cannot be decoded.

        Threads suffice, because Pillow releases the GIL while decoding.
        """
        with (
            ThreadPoolExecutor(os.cpu_count()) as pool,
            tqdm(desc="Decoding", total=len(self.files), unit="image", disable=None) as bar,
        ):
            for start in range(0, len(self.files), CHUNK):
                paths = [self.path / name for name, _ in self.files[start : start + CHUNK]]
                for image in pool.map(partial(_decode_or_reason, recipe=self.recipe), paths):
                    bar.update()
                    yield image


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


class Decoded(NamedTuple):
    """A cache entry.

    Attributes:
        images: memory-mapped, uint8 [N, C, H, W].
        labels: int64 [N].
        corrupt: names of the skipped files, with reasons.
    """

    images: np.ndarray
    labels: np.ndarray
    corrupt: list[str]


def read_entry(entry: Path) -> Decoded | None:
    """Read a cache entry; None: it is missing or unreadable."""
    try:
        # "c" is copy-on-write: torch requires writable memory
        images = np.load(entry / "images.npy", mmap_mode="c")
        return Decoded(images, np.load(entry / "labels.npy"), json.loads((entry / "corrupt.json").read_text()))
    except (OSError, ValueError, EOFError):
        return None


def decode(file: Path, recipe: Recipe) -> np.ndarray:
    """Decode one image to uint8 [channels, size, size]."""
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
    """Convert an image of any mode to 8-bit greyscale (1) or RGB (3).

    The image is rotated according to its EXIF data and composited on white if it is transparent.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16-bit greyscale, which Pillow would clip to 8 bits instead of scaling
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
    """Sorted names of the subfolders that are not hidden; empty if `path` is not a folder."""
    return sorted(e.name for e in _entries(path) if e.is_dir())


def _images(path: Path, folder: str) -> list[str]:
    """Sorted paths, relative to `path`, of the images in one of its folders that are not hidden."""
    found = [e.name for e in _entries(path / folder) if e.name.lower().endswith(SUFFIXES) and e.is_file()]
    return [(Path(folder) / name).as_posix() for name in sorted(found)]


def _entries(path: Path) -> list[os.DirEntry[str]]:
    if not path.is_dir():
        return []
    with os.scandir(path) as entries:
        return [entry for entry in entries if not entry.name.startswith(".")]


def _listed(corrupt: list[str]) -> str:
    more = f", and {len(corrupt) - MAX_LISTED} more" if len(corrupt) > MAX_LISTED else ""
    files = "file" if len(corrupt) == 1 else "files"
    return f"{len(corrupt)} {files} that cannot be decoded: {', '.join(corrupt[:MAX_LISTED])}{more}"


def _npy_header(num_images: int, shape: tuple[int, ...]) -> bytes:
    header = BytesIO()
    fields = {"descr": "|u1", "fortran_order": False, "shape": (num_images, *shape)}
    np.lib.format.write_array_header_1_0(header, fields)
    return header.getvalue()
