"""Figures exist, are not blank, and show the right content."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import hostile
import numpy as np
import pytest
import torch
from conftest import make_run
from PIL import Image

from ganlab.figures import curves, images, report
from ganlab.runs.folder import RunFolder, read_result


@pytest.fixture(scope="module")
def circle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("circle") / "run"
    return make_run(folder, "trainer.epochs=4", "trainer.sample_every=1")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits") / "run"
    return make_run(folder, "dataset=digits", "model=dcgan_small", "trainer.epochs=3", "trainer.sample_every=1")


def colours(file: Path) -> int:
    """Return the number of different colours of a picture; 1 if it is blank."""
    with Image.open(file) as picture:
        return len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0))


@pytest.mark.parametrize("name", ["final.png", "training.png", "curves.png", "training.gif"])
def test_pictures_of_points_are_not_blank(circle: Path, name: str) -> None:
    assert colours(circle / "figures" / name) > 50


@pytest.mark.parametrize("name", ["before.png", "real.png", "final.png", "curves.png", "training.gif"])
def test_pictures_of_images_are_not_blank(digits: Path, name: str) -> None:
    assert colours(digits / "figures" / name) > 15


def test_the_score_is_drawn_above_its_floor(tmp_path: Path) -> None:
    history = [
        {"epoch": epoch, "loss_discriminator": 1.0, "loss_generator": 1.0, "accuracy": 0.5, "kid": 4.0 / epoch}
        for epoch in range(1, 5)
    ]
    drawn = {}
    for floor in (None, 0.5, 3.0):
        result = {"main_metric": "kid", "scores": {"kid": {"floor": floor}}}
        with Image.open(curves.draw(history, result, tmp_path / "curves.png")) as picture:
            drawn[floor] = np.asarray(picture.convert("RGB"))
    changed = [np.flatnonzero((drawn[floor] != drawn[None]).any(axis=(1, 2))) for floor in (0.5, 3.0)]
    assert changed[0].max() > changed[1].max() + 50  # rows are counted from the top


def test_the_curve_is_of_the_main_metric_alone(tmp_path: Path) -> None:
    records = [{"epoch": epoch, "precision": 1.0, "kid": 0.1 / epoch - 0.03} for epoch in range(1, 5)]
    history = [{**record, "loss_discriminator": 1.0, "loss_generator": 1.0, "accuracy": 0.5} for record in records]
    widths = {}
    for main in ("kid", None):
        result = {"main_metric": main, "scores": {"kid": {"floor": -0.01}, "precision": {"floor": 1.0}}}
        with Image.open(curves.draw(history, result, tmp_path / f"{main}.png")) as picture:
            widths[main] = picture.width
    assert widths["kid"] > 1.3 * widths[None]


def test_a_grid_of_samples_is_drawn_every_epoch(digits: Path) -> None:
    grids = sorted(file.name for file in (digits / "samples").glob("*.png"))
    assert grids == [f"step_{step:08d}.png" for step in (0, 56, 112, 168)]


@pytest.mark.parametrize("run", ["circle", "digits"])
def test_the_animation_has_a_frame_per_snapshot_and_they_differ(run: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(run)
    with Image.open(folder / "figures" / "training.gif") as animation:
        assert animation.n_frames == len(list((folder / "samples").glob("*.npz"))) >= 4
        first = np.asarray(animation.convert("RGB")).astype(int)
        animation.seek(animation.n_frames - 1)
        assert np.abs(np.asarray(animation.convert("RGB")).astype(int) - first).max() > 50


def test_the_real_picture_shows_real_images(digits: Path) -> None:
    from ganlab.data.digits import Digits

    with Image.open(digits / "figures" / "real.png") as picture:
        grid = np.asarray(picture)
    scale = round(images.SIDE / 8)
    shown = grid[images.GAP : images.GAP + 8 * scale : scale, images.GAP : images.GAP + 8 * scale : scale]
    everything = Digits().load().data[:, 0].numpy()
    assert (np.abs(everything.astype(int) - shown).max(axis=(1, 2)) <= 1).any()


def test_the_grid_puts_every_image_where_it_belongs() -> None:
    black_to_white = (np.arange(5, dtype=np.uint8) * 60)[:, None, None, None] * np.ones((5, 4, 4, 1), np.uint8)
    grid = np.asarray(images.grid(black_to_white, columns=3))
    cell = 4 * round(images.SIDE / 4) + images.GAP
    centres = [grid[cell // 2 + row * cell, cell // 2 + column * cell] for row in (0, 1) for column in (0, 1, 2)]
    assert centres == [0, 60, 120, 180, 240, images.BACKGROUND]


def test_colour_images_keep_their_colours() -> None:
    red = torch.zeros(1, 3, 2, 2)
    red[:, 0] = 1
    assert images.grid(images.to_bytes(red)).getpixel((images.GAP + 1, images.GAP + 1)) == (255, 0, 0)


def test_the_report_stands_alone(circle: Path, digits: Path) -> None:
    for folder in (circle, digits):
        page = (folder / "report.html").read_text()
        assert "<th>status</th><td>done</td>" in page
        assert page.count("data:image/png;base64,") >= 3
        assert page.count("data:image/gif;base64,") == 1
        assert "http:" not in page
        assert "https:" not in page
        assert "src=" in page
        assert 'src="data:' in page


def report_of(folder: Path) -> str:
    """Write the report of a run's folder and return its HTML."""
    run = RunFolder(folder)
    run.result = read_result(folder)
    return report.write(run, hostile.read(folder / ".hydra" / "config.yaml")).read_text()


@pytest.fixture
def scored(circle: Path, tmp_path: Path) -> Path:
    """A run with scores, an error and a collapse, but without pictures, which are slow to write."""
    from test_compare import score

    folder = tmp_path / "run"
    shutil.copytree(circle, folder, ignore=shutil.ignore_patterns("figures", "samples", "checkpoints"))
    (folder / "figures").mkdir()
    Image.new("L", (8, 8)).save(folder / "figures" / "final.png")
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text("".join(lines[-2:]))
    result = read_result(folder) | {
        "scores": {"fid": score(1.5)},
        "best": score(1.0),
        "error": "none",
        "collapsed": "no",
    }
    (folder / "result.json").write_text(json.dumps(result))
    return folder


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("result.json", hostile.VALUES),
        ("metrics.jsonl", hostile.VALUES),
        (".hydra/config.yaml", hostile.VALUES[:1]),  # shown unchanged, whatever the types of its values
    ],
)
def test_nothing_in_a_runs_files_becomes_markup_of_its_report(scored: Path, name: str, values: tuple) -> None:
    harmless, original = hostile.Page(report_of(scored)), hostile.read(scored / name)
    for changed in hostile.all_variants(original, values):
        hostile.replace(scored / name, changed)
        hostile.assert_same_markup(report_of(scored), harmless)


def test_the_name_of_a_runs_folder_does_not_become_markup_of_its_report(scored: Path) -> None:
    harmless = hostile.Page(report_of(scored))
    for text in (hostile.TEXT, *hostile.PARTS.values()):
        scored = scored.rename(scored.parent / f"run{text.replace('/', '')}")
        hostile.assert_same_markup(report_of(scored), harmless)


def test_a_report_runs_no_code_and_loads_nothing(scored: Path) -> None:
    hostile.assert_policy_allows_own_code_alone(report_of(scored))


def test_a_report_shows_what_it_cannot_format(scored: Path) -> None:
    result = read_result(scored)
    result["scores"] = {"<b>": {"value": "much\x1b", "better": ["<script>"]}}
    (scored / "result.json").write_text(json.dumps(result | {"dataset": 5, "best": {"value": "<i>", "metric": "fid"}}))
    page = report_of(scored)
    assert "<th>&lt;b&gt;</th><td>much\\x1b</td><td>-</td><td>[&#34;&lt;script&gt;&#34;]</td><td>-</td>" in page
    assert "<td>fid &lt;i&gt; at step -</td>" in page
    assert "The measurement details cannot be read: score ?: missing metric" in page
