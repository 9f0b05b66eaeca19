"""The user's own images: decoded once, as displayed; corrupt ones are refused or skipped."""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image

from ganlab.data import image_folder
from ganlab.data.dataset import Dataset, Examples
from ganlab.data.image_folder import ImageFolder, Recipe, decode
from ganlab.errors import ConfigError, DataError


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Five valid images of different kinds, and one that is truncated."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.fromarray(noise(8, 8, 3)).save(folder / "a_colour.png")
    Image.fromarray(noise(8, 8)).save(folder / "b_grey.PNG")
    Image.fromarray(noise(8, 8, 4)).save(folder / "c_transparent.png")
    Image.fromarray(noise(13, 29, 3)).save(folder / "d_odd.png")
    content = (folder / "a_colour.png").read_bytes()
    (folder / "e_corrupt.png").write_bytes(content[: len(content) // 2])
    Image.fromarray(noise(40, 31, 3)).save(folder / "f.jpeg")
    (folder / "notes.txt").write_text("no picture")
    (folder / "._a_colour.png").write_text("what some systems leave beside a picture")
    return folder


def dataset(folder: Path, **keys: Any) -> ImageFolder:
    keys = {"size": 8, "on_corrupt": "skip", "cache": str(folder.parent / "cache")} | keys
    made = ImageFolder(str(folder), **keys)
    made.check()
    return made


def load(folder: Path, **keys: Any) -> Examples:
    return dataset(folder, **keys).load()


def test_pictures_are_decoded_in_the_order_of_their_names(pictures: Path) -> None:
    made = dataset(pictures)
    assert isinstance(made, Dataset)
    assert (made.shape, made.classes, made.num_examples) == ((3, 8, 8), (), None)
    assert dataset(pictures, on_corrupt="refuse").num_examples == 6
    examples = made.load()
    assert (examples.data.shape, examples.data.dtype) == ((5, 3, 8, 8), torch.uint8)
    assert (examples.labels.tolist(), examples.labels.dtype, examples.flip) == ([0] * 5, torch.int64, True)
    assert np.array_equal(
        examples.data[0], noise(8, 8, 3).transpose(2, 0, 1)
    )  # of the right size, so its bytes are unchanged
    assert np.array_equal(examples.data[1], np.stack([noise(8, 8)] * 3))
    transparent = noise(8, 8, 4).astype(float)
    alpha = transparent[..., 3:] / 255
    on_white = transparent[..., :3] * alpha + 255 * (1 - alpha)
    np.testing.assert_allclose(examples.data[2], on_white.transpose(2, 0, 1), atol=1)


def test_one_channel_is_the_luma_of_three(pictures: Path) -> None:
    examples = load(pictures, channels=1, flip=False)
    assert (examples.data.shape, examples.flip) == ((5, 1, 8, 8), False)
    np.testing.assert_allclose(examples.data[0, 0], noise(8, 8, 3) @ [0.299, 0.587, 0.114], atol=1)
    assert np.array_equal(examples.data[1, 0], noise(8, 8))


def test_the_middle_square_is_cropped_or_all_of_it_squeezed(tmp_path: Path) -> None:
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, :10, 0], wide[:, 10:20, 1], wide[:, 20:, 2] = 255, 255, 255  # red, green, blue
    Image.fromarray(wide).save(tmp_path / "wide.png")
    green = torch.tensor([0, 255, 0]).expand(5, 5, 3)
    cropped = decode(tmp_path / "wide.png", Recipe(5, 3, True, "box"))
    assert torch.equal(torch.from_numpy(cropped).permute(1, 2, 0), green)
    squeezed = decode(tmp_path / "wide.png", Recipe(3, 3, False, "box"))
    assert squeezed.tolist() == [[[255 * (x == c) for x in range(3)]] * 3 for c in range(3)]


def test_downscaling_averages_pixels(tmp_path: Path) -> None:
    Image.fromarray(np.indices((32, 32)).sum(axis=0).astype(np.uint8) % 2 * 255).save(tmp_path / "chequered.png")
    for resample in ("box", "lanczos"):
        small = decode(tmp_path / "chequered.png", Recipe(4, 1, True, resample))
        np.testing.assert_allclose(small, 127.5, atol=3)


def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 257], [32896, 65535]], np.uint16)).save(tmp_path / "deep.png")
    assert decode(tmp_path / "deep.png", Recipe(2, 1, True, "box")).tolist() == [[[0, 1], [128, 255]]]


def test_palettes_masks_and_transparent_greys_are_decoded_as_displayed(tmp_path: Path) -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.putdata([0, 1])
    palette.save(tmp_path / "palette.png", transparency=1)
    mask = Image.new("1", (2, 1))
    mask.putpixel((1, 0), 1)
    mask.save(tmp_path / "mask.png")
    Image.fromarray(np.array([[[0, 255], [0, 0]]], np.uint8)).save(tmp_path / "grey.png")
    recipe = Recipe(2, 3, False, "box")
    assert decode(tmp_path / "palette.png", recipe)[:, 0].T.tolist() == [[255, 0, 0], [255, 255, 255]]
    assert decode(tmp_path / "mask.png", recipe)[0, 0].tolist() == [0, 255]
    assert decode(tmp_path / "grey.png", recipe)[0, 0].tolist() == [0, 255]


def test_the_orientation_of_a_photograph_is_applied(tmp_path: Path) -> None:
    upright = noise(8, 8, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # EXIF orientation: rotate clockwise for display
    Image.fromarray(np.rot90(upright).copy()).save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(decode(tmp_path / "turned.png", Recipe(8, 3, True, "box")), upright.transpose(2, 0, 1))


def test_folders_are_classes(tmp_path: Path) -> None:
    for number, name in enumerate(["dogs", "cats", "Birds"]):
        (tmp_path / "pets" / name / "deeper").mkdir(parents=True)
        for index in range(number + 1):
            Image.new("L", (4, 4), 10 * number + index).save(tmp_path / "pets" / name / f"{index}.bmp")
    (tmp_path / "pets" / ".hidden").mkdir()
    made = dataset(tmp_path / "pets", channels=1)
    assert made.classes == ("Birds", "cats", "dogs")
    examples = made.load()
    assert examples.labels.tolist() == [0, 0, 0, 1, 1, 2]
    assert examples.data[:, 0, 0, 0].tolist() == [20, 21, 22, 10, 11, 0]


def test_a_single_subfolder_is_not_a_class(tmp_path: Path) -> None:
    (tmp_path / "faces" / "all").mkdir(parents=True)
    Image.new("L", (4, 4)).save(tmp_path / "faces" / "all" / "0.webp")
    made = dataset(tmp_path / "faces")
    assert made.classes == ()
    assert made.load().labels.tolist() == [0]


# The cache --------------------------------------------------------------------------------------------------


def test_the_second_load_opens_no_picture(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(pictures)
    monkeypatch.setattr(Image, "open", lambda *_: pytest.fail("a picture was opened"))
    again = load(pictures)
    assert again.fingerprint == first.fingerprint
    assert torch.equal(again.labels, first.labels)


def test_examples_are_mapped_and_writing_to_them_leaves_the_cache_alone(pictures: Path) -> None:
    examples = load(pictures)
    before = examples.fingerprint
    assert isinstance(image_folder.read_entry(entry(pictures)).images, np.memmap)
    examples.data.zero_()
    assert not examples.data.any()
    assert load(pictures).fingerprint == before


def entry(pictures: Path) -> Path:
    (folder,) = (e for e in (pictures.parent / "cache").iterdir() if e.is_dir())
    return folder


def test_a_changed_picture_or_key_is_decoded_again(pictures: Path) -> None:
    first = load(pictures)
    assert load(pictures, size=4).data.shape == (5, 3, 4, 4)
    assert load(pictures, crop=False).fingerprint != first.fingerprint
    Image.new("RGB", (8, 8), "red").save(pictures / "a_colour.png")
    assert load(pictures).data[0, :, 0, 0].tolist() == [255, 0, 0]
    os.remove(pictures / "a_colour.png")
    assert len(load(pictures)) == 4


def test_a_damaged_cache_is_made_again(pictures: Path) -> None:
    before = load(pictures).fingerprint
    file = entry(pictures) / "images.npy"
    file.write_bytes(file.read_bytes()[:300])
    assert load(pictures).fingerprint == before


def test_runs_that_start_together_decode_once(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[Path] = []

    def slowly(file: Path, recipe: Recipe) -> np.ndarray:
        decoded.append(file)
        time.sleep(0.05)  # so that all have started before the first finishes
        return decode(file, recipe)

    monkeypatch.setattr(image_folder, "decode", slowly)
    threads = [threading.Thread(target=load, args=[pictures]) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(decoded) == 6
    assert not [file for file in (pictures.parent / "cache").iterdir() if file.name.startswith(".decoding")]


def test_waiting_for_another_run_to_decode_is_logged_once(pictures: Path, caplog: pytest.LogCaptureFixture) -> None:
    load(pictures)
    (lock,) = (pictures.parent / "cache").glob("*.lock")
    with caplog.at_level(logging.INFO):
        load(pictures, on_corrupt="skip")
        assert "Waiting" not in caplog.text
        with FileLock(lock):
            waiting = threading.Thread(target=load, args=[pictures])
            waiting.start()
            for _ in range(1000):
                if "Waiting" in caplog.text:
                    break
                time.sleep(0.01)
        waiting.join()
    assert caplog.text.count(f"Waiting for another run that is decoding {pictures}") == 1


def test_only_outdated_caches_of_a_folder_are_removed(pictures: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    before = load(pictures)
    known = before.fingerprint
    old = entry(pictures)
    shutil.copytree(pictures, tmp_path / "others")
    load(tmp_path / "others")
    load(pictures, size=4)
    kept = {folder for folder in cache.iterdir() if folder.is_dir() and folder != old}
    assert len(kept) == 2
    os.remove(pictures / "a_colour.png")
    assert len(load(pictures)) == 4
    entries = {folder for folder in cache.iterdir() if folder.is_dir()}
    assert not old.exists()
    assert kept < entries
    assert len(entries) == 3
    assert before.fingerprint == known  # a run that has mapped the old file can still read it


def test_interrupted_decoding_leaves_no_file(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(image_folder, "decode", stop)
        with pytest.raises(KeyboardInterrupt):
            load(pictures)
    assert all(file.suffix == ".lock" for file in (pictures.parent / "cache").iterdir())
    assert len(load(pictures)) == 5


# What is refused --------------------------------------------------------------------------------------------


def test_corrupt_pictures_are_refused_by_name(pictures: Path) -> None:
    with pytest.raises(DataError, match=r"1 file that cannot be decoded: e_corrupt\.png \(.+on_corrupt=skip"):
        load(pictures, on_corrupt="refuse")
    for number in range(12):
        (pictures / f"g{number:02}.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"13 files.*e_corrupt\.png.*g08\.png.*, and 3 more;") as refusal:
        load(pictures, on_corrupt="refuse")
    assert "g09" not in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_flipped_byte_within_a_picture_is_found(pictures: Path) -> None:
    content = bytearray((pictures / "d_odd.png").read_bytes())
    content[len(content) // 2] ^= 255
    (pictures / "d_odd.png").write_bytes(content)
    with pytest.raises(DataError, match="2 files that cannot be decoded: d_odd"):
        load(pictures, on_corrupt="refuse")


def test_skipped_pictures_are_reported_on_every_load(pictures: Path, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            load(pictures)
        assert len(caplog.records) == 1
        assert "skipped 1 file that cannot be decoded: e_corrupt.png" in caplog.text


def test_a_folder_of_corrupt_pictures_only_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match="none of the 1 images can be decoded"):
        load(tmp_path / "bad")


def test_an_invalid_folder_is_refused_before_any_picture_is_read(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere: no such folder"):
        dataset(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"notes\.txt: no such folder"):
        dataset(pictures / "notes.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"empty: contains no images; must contain \.png"):
        dataset(tmp_path / "empty")
    (pictures / "class").mkdir()
    with pytest.raises(ConfigError, match=r"images \(a_colour\.png, \.\.\.\) and folders \(class, \.\.\.\)"):
        dataset(pictures)
    with pytest.raises(ConfigError, match="folder cats contains no images"):
        (tmp_path / "pets" / "cats").mkdir(parents=True)
        (tmp_path / "pets" / "dogs").mkdir()
        Image.new("L", (4, 4)).save(tmp_path / "pets" / "dogs" / "0.png")
        dataset(tmp_path / "pets")
    with pytest.raises(ConfigError, match=r"dataset\.cache=/dev/null: must be a folder"):
        dataset(tmp_path / "pets" / "dogs", cache="/dev/null")
