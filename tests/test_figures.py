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

from ganlab.data.digits import Digits
from ganlab.data.points import Circle
from ganlab.figures import GENERATED, REAL, curves, images, points, report
from ganlab.runs.folder import RunFolder, read_result


@pytest.fixture(scope="module")
def circle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("circle") / "run"
    return make_run(folder, "trainer.epochs=4", "trainer.sample_every=1")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits") / "run"
    return make_run(folder, "dataset=digits", "model=dcgan_small", "trainer.epochs=3", "trainer.sample_every=1")


def pixels(picture: Image.Image, top: float = 0.0, bottom: float = 1.0) -> np.ndarray:
    """RGB values [H, W, 3] between two fractions of the height, which leave out a title and a legend."""
    rows = slice(int(top * picture.height), int(bottom * picture.height))
    return np.asarray(picture.convert("RGB")).astype(int)[rows]


def near(picture: np.ndarray, colour: str) -> np.ndarray:
    """Positions [N, 2] (row, column) of the pixels of about this colour."""
    rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return np.argwhere(np.abs(picture - rgb).max(2) < 40)


def find_circle(picture: np.ndarray) -> tuple[np.ndarray, float]:
    """Centre (row, column) and radius of the real points; fails if they are not drawn as a circle."""
    real = near(picture, REAL)
    centre = (real.max(0) + real.min(0)) / 2
    offsets = real - centre
    distance, angle = np.hypot(*offsets.T), np.arctan2(*offsets.T)
    radius = float(np.median(distance))
    on_circle = np.abs(distance - radius) < 0.05 * radius
    assert on_circle.mean() > 0.75  # dark dots may pass for real points
    assert len(np.unique(angle[on_circle] // (np.pi / 18))) >= 36
    return centre, radius


def positions(picture: np.ndarray, generated: np.ndarray) -> np.ndarray:
    """Positions [N, 2] (row, column) where generated points in view belong, relative to the circle of the real ones."""
    centre, radius = find_circle(picture)
    in_view = generated[(np.abs(generated) < 1).all(1)]
    assert len(in_view) > 100
    return (centre + radius / Circle().radius * in_view[:, ::-1] * (-1, 1)).round().astype(int)


def assert_shows(picture: np.ndarray, generated: np.ndarray) -> None:
    dots = picture[..., 1] < 190  # the decision surface is lighter everywhere
    assert dots[*positions(picture, generated).T].mean() > 0.95  # small dots may be a pixel off
    assert dots.mean() < 0.3


def snapshots(run: Path) -> list[dict[str, np.ndarray]]:
    return [dict(np.load(file)) for file in sorted((run / "samples").glob("*.npz"))]


def test_each_panel_shows_the_real_points_and_the_generated_ones_of_its_epoch(circle: Path) -> None:
    with Image.open(circle / "figures" / "training.png") as picture:
        panels = np.split(pixels(picture, 0.1, 0.88)[:, : picture.width // 5 * 5], 5, axis=1)
    for panel, snapshot in zip(panels, snapshots(circle), strict=True):
        assert_shows(panel, snapshot["points"])


def test_each_frame_shows_the_points_of_its_epoch(circle: Path) -> None:
    with Image.open(circle / "figures" / "training.gif") as animation:
        for number, snapshot in enumerate(snapshots(circle)):
            animation.seek(number)
            assert_shows(pixels(animation, 0.1), snapshot["points"])


def test_a_plot_keeps_nothing_of_the_snapshot_before() -> None:
    rng = np.random.default_rng(0)
    real, *generated = rng.uniform(-1, 1, (3, 50, 2)).astype(np.float32)
    surfaces = rng.uniform(0.4, 0.6, (2, 9, 9)).astype(np.float32) ** [[[1]], [[0.5]]]
    first, second = (points.Snapshot(0, *arrays) for arrays in zip(generated, surfaces, strict=True))
    used, new = (points.Plot(real, (-1, 1, -1, 1), side=1, size=3, alpha=0.6) for _ in range(2))
    before = np.asarray(used.draw(first, "before"))
    after = np.asarray(used.draw(second, "after"))
    assert (before != after).any(axis=2).mean() > 0.5
    np.testing.assert_array_equal(after, np.asarray(new.draw(second, "after")))
    assert (after != np.asarray(new.draw(second, "another title"))).any()


def test_the_final_figure_of_points_shows_the_samples_of_the_last_step(circle: Path) -> None:
    with Image.open(circle / "figures" / "final.png") as picture:
        plot = pixels(picture, 0.05, 0.93)
    green = plot[..., 1]
    contrasts = [
        np.median(green[row - 6 : row + 7, column - 6 : column + 7]) - green[row, column]
        for row, column in positions(plot, snapshots(circle)[-1]["points"])  # the first 1,000 of the 5,000
    ]
    assert np.mean(np.array(contrasts) > 15) > 0.9


def test_the_final_figure_of_images_is_the_grid_of_the_last_samples(digits: Path) -> None:
    with (
        Image.open(digits / "figures" / "final.png") as final,
        Image.open(digits / "samples" / "step_00000168.png") as last,
    ):
        np.testing.assert_array_equal(pixels(final), pixels(last))


def test_the_animation_of_images_shows_the_grid_of_each_epoch(digits: Path) -> None:
    with Image.open(digits / "figures" / "training.gif") as animation:
        for number, snapshot in enumerate(snapshots(digits)):
            animation.seek(number)
            expected = pixels(images.grid(snapshot["images"]))
            shown = pixels(animation)[-len(expected) :]  # below the caption
            assert np.abs(shown - expected).mean() < 3  # a GIF has 256 colours


def test_before_training_shows_a_real_and_a_generated_image(digits: Path) -> None:
    with Image.open(digits / "figures" / "before.png") as picture:
        halves = np.split(pixels(picture)[:, : picture.width // 2 * 2, 0], 2, axis=1)
    with Image.open(digits / "figures" / "real.png") as grid:
        cell = round(images.SIDE / 8)
        real = np.asarray(grid)[images.GAP :, images.GAP :][: 8 * cell : cell, : 8 * cell : cell]
    for half, image in zip(halves, (real, snapshots(digits)[0]["images"][0, ..., 0]), strict=True):
        dark = half < 200
        left, right = np.flatnonzero(dark[len(dark) // 2])[[0, -1]]
        (bottom,) = np.flatnonzero(dark.any(1))[[-1]]
        side = right - left + 1
        centres = ((np.arange(8) + 0.5) * side / 8).astype(int)
        shown = half[bottom + 1 - side :, left:][np.ix_(centres, centres)]
        assert np.abs(shown - image.astype(int)).max() < 3


def test_curves_rise_and_fall_with_their_values(tmp_path: Path) -> None:
    history = [
        {"epoch": epoch, "loss_discriminator": float(epoch), "loss_generator": 11.0 - epoch, "accuracy": 0.5}
        for epoch in range(1, 11)
    ]
    with Image.open(curves.draw(history, {"main_metric": None}, tmp_path / "curves.png")) as picture:
        losses = pixels(picture)[:, : picture.width // 2]
    for colour, slope in ((REAL, -1), (GENERATED, 1)):  # rows are counted from the top
        row, column = near(losses, colour).T
        ends = [np.median(row[column == at]) for at in (column.min(), column.max())]
        assert (ends[1] - ends[0]) * slope > 0.7 * np.ptp(row)


@pytest.mark.parametrize("scale", [1e-7, 0.00123, -0.0123, -0.123, -99.5, 1234.5, -9876.5, -1e6])
def test_labels_of_the_curves_fit_for_values_of_any_size(scale: float, tmp_path: Path) -> None:
    history = [
        {"epoch": epoch, "loss_discriminator": scale * epoch, "loss_generator": scale, "accuracy": 0.5}
        for epoch in range(1, 5)
    ]
    with Image.open(curves.draw(history, {"main_metric": None}, tmp_path / "curves.png")) as picture:
        border = pixels(picture)[:, [0, 1, 2, -3, -2, -1]]
    assert border.min() == 255


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


def test_only_the_main_metric_is_plotted(tmp_path: Path) -> None:
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
def test_the_animation_has_one_different_frame_per_snapshot(run: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(run)
    with Image.open(folder / "figures" / "training.gif") as animation:
        assert animation.n_frames == len(list((folder / "samples").glob("*.npz"))) >= 4
        first = np.asarray(animation.convert("RGB")).astype(int)
        animation.seek(animation.n_frames - 1)
        assert np.abs(np.asarray(animation.convert("RGB")).astype(int) - first).max() > 50


def test_real_png_shows_real_images(digits: Path) -> None:
    with Image.open(digits / "figures" / "real.png") as picture:
        grid = np.asarray(picture)
    scale = round(images.SIDE / 8)
    shown = grid[images.GAP : images.GAP + 8 * scale : scale, images.GAP : images.GAP + 8 * scale : scale]
    everything = Digits().load().data[:, 0].numpy()
    assert (np.abs(everything.astype(int) - shown).max(axis=(1, 2)) <= 1).any()


def test_the_grid_is_filled_row_by_row() -> None:
    black_to_white = (np.arange(5, dtype=np.uint8) * 60)[:, None, None, None] * np.ones((5, 4, 4, 1), np.uint8)
    grid = np.asarray(images.grid(black_to_white, columns=3))
    cell = 4 * round(images.SIDE / 4) + images.GAP
    centres = [grid[cell // 2 + row * cell, cell // 2 + column * cell] for row in (0, 1) for column in (0, 1, 2)]
    assert centres == [0, 60, 120, 180, 240, images.BACKGROUND]


def test_colour_images_keep_their_colours() -> None:
    red = torch.zeros(1, 3, 2, 2)
    red[:, 0] = 1
    assert images.grid(images.to_bytes(red)).getpixel((images.GAP + 1, images.GAP + 1)) == (255, 0, 0)


def test_the_report_is_self_contained(circle: Path, digits: Path) -> None:
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
    return report.write(run).read_text()


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


def test_the_policy_of_a_report_allows_no_code_and_no_loading(scored: Path) -> None:
    hostile.assert_policy_allows_own_code_alone(report_of(scored))


def test_a_report_escapes_and_shows_malformed_results(scored: Path) -> None:
    result = read_result(scored)
    result["scores"] = {"<b>": {"value": "much\x1b", "better": ["<script>"]}}
    (scored / "result.json").write_text(json.dumps(result | {"dataset": 5, "best": {"value": "<i>", "metric": "fid"}}))
    page = report_of(scored)
    assert "<th>&lt;b&gt;</th><td>much\\x1b</td><td>-</td><td>[&#34;&lt;script&gt;&#34;]</td><td>-</td>" in page
    assert "<td>fid &lt;i&gt; at step -</td>" in page
    assert "The measurement details cannot be read: score ?: missing metric" in page
