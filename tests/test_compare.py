"""The leaderboard: rows, order, counts, and its page in a browser."""

from __future__ import annotations

import csv
import html
import json
import math
import shutil
import statistics
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import hostile
import numpy as np
import pytest
import yaml
from conftest import make_run
from PIL import Image

from ganlab.errors import ConfigError, DataError, GanlabError
from ganlab.leaderboard import ranking, run_record, table, write
from ganlab.leaderboard.ranking import paired_difference, rank
from ganlab.leaderboard.svg import GOOD, Scale, colour, ink
from ganlab.runs.hydra_record import short_names
from ganlab.sweeps.jobs import objective

Command = Callable[..., "subprocess.CompletedProcess[str]"]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None)


def score(value: float, metric: str = "fid", **protocol: Any) -> dict[str, Any]:
    counts = {"num_real": 5000, "num_fake": 2000, "seeds": [0], "step": 100}
    names = {"extractor": "digits", "extractor_hash": "ab12", "dataset_hash": "cd34", "split": "train"}
    fixed = {"error": None, "floor": 1.25, "better": "lower", "weights": "ema"}
    return {"metric": metric, "value": value, **fixed, **names, **counts} | protocol


def trial(
    folder: Path,
    values: Mapping[str, Any],
    seed: int,
    curve: Sequence[float] = (),
    status: str = "done",
    choices: Mapping[str, str] | None = None,
    **protocol: Any,
) -> Path:
    """Write the folder of a run; `curve` has the FID of its evaluations, which are 100 steps apart."""
    settings = {"model": {"latent_dim": 8, "name": "mlp"}, "optimizer": {"generator": {"lr": 1e-3}}}
    config = {**settings, "dataset": {"root": str(folder)}, "tracker": {"name": str(folder)}, "seed": seed}
    leaves = {f"{group}.option": option for group, option in (choices or {}).items()}
    for key, value in {**leaves, **values}.items():
        *groups, name = key.split(".")
        node: Any = config
        for group in groups:
            node = node.setdefault(group, {})
        node[name] = value
    overrides = [f"{key}={value}" for key, value in {**(choices or {}), **values}.items()] + [f"seed={seed}"]
    runtime = {"hydra": {"runtime": {"choices": {"dataset": "circle", "hydra/help": "ganlab", **(choices or {})}}}}
    (folder / ".hydra").mkdir(parents=True)
    for name, content in (("config", config), ("overrides", overrides), ("hydra", runtime)):
        (folder / ".hydra" / f"{name}.yaml").write_text(yaml.safe_dump(content))
    if status == "missing":
        return folder
    records = [{"step": 100 * (i + 1), "epoch": i + 1.0, "fid": value} for i, value in enumerate(curve)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    best = score(min(curve), **protocol) if curve else None
    scores = {"fid": score(curve[-1], **protocol)} if curve else {}
    error = None if status == "done" else f"{status} at <step> 100 & later"
    main = {"main_metric": "fid" if curve else None}
    result = {"status": status, "error": error, "seed": seed, "steps_per_second": 50.0 + seed, **main}
    (folder / "result.json").write_text(json.dumps(result | {"scores": scores, "best": best}))
    (folder / "figures").mkdir()
    noise = np.random.default_rng(seed).integers(0, 255, (120, 160, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "figures" / "final.png")
    return folder


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Three seeds of four configurations; one run is failed, one diverged, one running and one damaged."""
    grid = [(lr, dim) for lr in (1e-3, 1e-2) for dim in (8, 32)]
    for number, (lr, dim) in enumerate(grid):
        values = {"optimizer.generator.lr": lr, "model.latent_dim": dim}
        for seed in range(3):
            base = 10.0 * (number + 1) + seed
            trial(tmp_path / str(3 * number + seed), values, seed, [base + 9, base, base + 2])
    for job, status in ((2, "failed"), (4, "diverged"), (8, "running")):
        result = json.loads((tmp_path / str(job) / "result.json").read_text())
        (tmp_path / str(job) / "result.json").write_text(json.dumps(result | {"status": status, "error": status}))
    (tmp_path / "11" / "result.json").write_text('{"status": "do')
    return tmp_path


def test_a_row_has_the_mean_and_deviation_over_the_seeds_of_a_configuration(sweep: Path) -> None:
    board = rank(sweep)
    assert board.keys == ("optimizer.generator.lr", "model.latent_dim")
    assert [row.values for row in board.rows] == [(1e-3, 8), (1e-3, 32), (1e-2, 8), (1e-2, 32)]
    last = board.rows[-1]
    assert (last.best, last.last) == ({0: 40.0, 1: 41.0}, {0: 42.0, 1: 43.0})
    assert board.rows[0].best_mean == 10.5
    assert board.rows[0].steps_per_second == 51.0
    assert ranking.deviation(last.best) == pytest.approx(statistics.stdev([40, 41]))


def test_failed_and_diverged_runs_are_counted_and_listed(sweep: Path) -> None:
    board = rank(sweep)
    counts = [(row.failed, row.counts["diverged"], row.unfinished) for row in board.rows]
    assert counts == [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 0)]
    assert [run.status for run in board.lost] == ["failed", "diverged", "running", "damaged"]
    text = table.terminal(board)
    assert "4 runs not done" in text
    assert all(f"{status}  {job}" in text for job, status in ((2, "failed"), (4, "diverged"), (11, "damaged")))


def test_a_configuration_with_failures_only_ranks_last_without_a_score(tmp_path: Path) -> None:
    trial(tmp_path / "0", {"model.latent_dim": 4}, 0, status="missing")
    trial(tmp_path / "1", {"model.latent_dim": 8}, 0, [3.0])
    trial(tmp_path / "2", {"model.latent_dim": 16}, 0, [1.0], status="diverged")
    board = rank(tmp_path)
    assert [row.values for row in board.rows] == [(8,), (4,), (16,)]
    assert [row.best_mean for row in board.rows] == [3.0, None, None]
    assert "no result.json" in str(board.lost[0].error)


def test_a_collapsed_run_that_finished_is_counted_beside_the_score(tmp_path: Path) -> None:
    for seed in range(2):
        trial(tmp_path / str(seed), {}, seed, [3.0])
    file = tmp_path / "1" / "result.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"collapsed": "only 3 of 8 modes are left"}))
    (row,) = rank(tmp_path).rows
    assert (row.counts["collapsed"], len(row.best)) == (1, 2)
    assert "1C" in write(tmp_path)
    assert "only 3 of 8 modes are left" in (tmp_path / "leaderboard.html").read_text()


def test_a_halted_configuration_is_counted_and_not_ranked(tmp_path: Path) -> None:
    for job, dim in enumerate((8, 16, 32)):
        for seed in range(2):
            trial(tmp_path / str(2 * job + seed), {"model.latent_dim": dim}, seed, [3.0 + job])
    for job in (0, 1, 4):
        file = tmp_path / str(job) / "result.json"
        changed = {"status": "stopped", "error": None, "halted": "after step 100 of 900, place 2 of 3 by fid"}
        file.write_text(json.dumps(json.loads(file.read_text()) | changed))
    text = write(tmp_path)
    board = rank(tmp_path)
    assert [(row.values, row.best) for row in board.rows] == [((16,), {0: 4.0, 1: 4.0}), ((32,), {1: 5.0}), ((8,), {})]
    assert [(row.counts["halted"], row.unfinished, row.failed) for row in board.rows] == [
        (0, 0, 0),
        (1, 0, 0),
        (2, 0, 0),
    ]
    assert "3 runs halted early" in text
    assert "2H" in text
    assert "not done" not in text
    halted = [row["halted"] for row in csv.DictReader((tmp_path / "leaderboard.csv").read_text().splitlines())]
    assert halted == ["0", "1", "2"]
    page = (tmp_path / "leaderboard.html").read_text()
    assert page.count("after step 100 of 900, place 2 of 3 by fid") == 3


def test_the_best_score_until_a_step_ignores_later_scores(tmp_path: Path) -> None:
    read = run_record.read(trial(tmp_path / "0", {}, 0, [5.0, 4.0, 6.0, 1.0]))
    assert [read.best_until(step) for step in (50, 99)] == [None, None]
    found = [read.best_until(step, "fid") for step in (100, 299, 300, 400)]
    assert [(s.value, s.step) for s in found if s] == [(5.0, 100), (4.0, 200), (4.0, 200), (1.0, 400)]
    assert read.best_until(400, "recall") is None


def test_metrics_where_higher_is_better_rank_in_reverse(tmp_path: Path) -> None:
    for job, value in enumerate((0.2, 0.9, 0.5)):
        trial(tmp_path / str(job), {"model.latent_dim": job}, 0, [value], better="higher")
    assert [row.values[0] for row in rank(tmp_path).rows] == [1, 2, 0]


def test_paths_and_trackers_do_not_distinguish_configurations(tmp_path: Path) -> None:
    for seed in range(3):
        trial(tmp_path / str(seed), {}, seed, [2.0 + seed])  # each run has its own dataset.root and tracker
    (row,) = rank(tmp_path).rows
    assert row.best == {0: 2.0, 1: 3.0, 2: 4.0}


def test_a_repeated_seed_counts_once(tmp_path: Path) -> None:
    trial(tmp_path / "0", {}, 0, [2.0])
    trial(tmp_path / "1", {}, 1, [4.0])
    trial(tmp_path / "2", {}, 1, [4.0], status="failed")
    board = rank(tmp_path)
    assert (board.rows[0].best, board.rows[0].failed, board.repeated) == ({0: 2.0, 1: 4.0}, 0, 1)


def test_a_swept_config_group_is_one_column(tmp_path: Path) -> None:
    nets = {"mlp": {"model.name": "mlp", "model.depth": 2}, "cnn": {"model.name": "cnn", "model.kernel": 3}}
    for job, (name, values) in enumerate(nets.items()):
        folder = trial(tmp_path / str(job), values, 0, [1.0 + job], choices={"model": name})
        (folder / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump([f"model={name}", "seed=0"]))
    board = rank(tmp_path)
    assert (board.keys, [row.values for row in board.rows]) == (("model",), [("mlp",), ("cnn",)])


def test_defaults_are_columns_only_where_rows_would_be_equal(tmp_path: Path) -> None:
    for job, depth in enumerate((2, 2, 4)):
        folder = trial(tmp_path / str(job), {"model.depth": depth, "model.width": depth}, job, [1.0 + job])
        (folder / ".hydra" / "overrides.yaml").unlink()
    assert rank(tmp_path).keys == ("model.depth",)


def test_incomparable_scores_are_refused_naming_the_field_and_both_runs(tmp_path: Path) -> None:
    trial(tmp_path / "0", {}, 0, [2.0])
    trial(tmp_path / "1", {}, 1, [2.0], num_fake=500)
    with pytest.raises(DataError, match=r"num_fake is 2000 in one and 500 in another .*/0 and .*/1\)"):
        rank(tmp_path)


def test_a_run_without_its_main_score_is_not_ranked_by_another(tmp_path: Path) -> None:
    trial(tmp_path / "a", {"lr": 1}, 0, [3.0])
    unscored = trial(tmp_path / "b", {"lr": 2}, 0, [1.0])
    result = json.loads((unscored / "result.json").read_text())
    other = {"scores": {"inception_score": score(9.0, "inception_score", better="higher")}, "best": None}
    (unscored / "result.json").write_text(json.dumps(result | other | {"main_metric": "fid"}))
    board = rank(tmp_path)
    assert board.score.metric == "fid"
    assert [len(row.best) for row in board.rows] == [1, 0]
    assert objective(unscored) == math.inf


def test_another_metric_takes_its_best_from_the_history(tmp_path: Path) -> None:
    folder = trial(tmp_path / "0", {}, 0, [5.0, 3.0, 4.0])
    result = json.loads((folder / "result.json").read_text())
    result["scores"]["recall"] = score(0.6, "recall", better="higher")
    (folder / "result.json").write_text(json.dumps(result))
    records = [{"step": 100, "epoch": 1, "recall": 0.8}, {"step": 200, "epoch": 2, "recall": 0.6}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (row,) = rank(tmp_path, "recall").rows
    assert (row.best, row.last) == ({0: 0.8}, {0: 0.6})


@pytest.mark.parametrize("value", [math.nan, math.inf, None])
def test_a_score_that_is_not_finite_is_ignored(tmp_path: Path, value: float | None) -> None:
    trial(tmp_path / "0", {}, 0, [2.0])
    folder = trial(tmp_path / "1", {}, 1, [1.0])
    result = json.loads((folder / "result.json").read_text())
    result["scores"]["fid"]["value"] = result["best"]["value"] = value
    (folder / "result.json").write_text(json.dumps(result))
    (row,) = rank(tmp_path).rows
    assert row.best == {0: 2.0}


def test_equal_differences_have_an_interval_of_zero_width_in_any_order() -> None:
    reference = {seed: float(seed**2) for seed in range(5)}
    shifted = {seed: value + 2 for seed, value in reference.items()}
    found = paired_difference(shifted, reference)
    assert found is not None
    assert (found.mean, found.low, found.high, found.excludes_zero) == (2.0, 2.0, 2.0, True)
    same = paired_difference(reference, reference)
    assert same is not None
    assert (same.mean, same.excludes_zero) == (0.0, False)


def test_the_interval_equals_the_one_of_scipy() -> None:
    from scipy import stats

    rng = np.random.default_rng(3)
    differences = rng.normal(1.0, 2.0, 40)
    found = paired_difference(dict(enumerate(differences)), dict.fromkeys(range(40), 0.0))
    oracle = stats.bootstrap((differences,), np.mean, method="percentile", n_resamples=20_000, rng=rng)
    assert found is not None
    assert (found.low, found.high) == pytest.approx(tuple(oracle.confidence_interval), abs=0.03)


def test_only_common_seeds_are_compared_and_one_gives_no_interval() -> None:
    assert paired_difference({0: 1.0}, {1: 1.0}) is None
    found = paired_difference({0: 5.0, 1: 9.0}, {1: 8.0, 2: 0.0})
    assert found is not None
    assert (found.mean, found.low, found.num_seeds, found.excludes_zero) == (1.0, None, 1, None)


@pytest.mark.parametrize(("num_seeds", "starred"), [(1, False), (2, False), (4, False), (5, True)])
def test_fewer_than_five_seeds_show_no_difference(num_seeds: int, starred: bool, tmp_path: Path) -> None:
    for job, dim in enumerate((8, 32)):
        for seed in range(num_seeds):
            trial(tmp_path / f"{job}{seed}", {"model.latent_dim": dim}, seed, [10.0 * job + seed + 1])
    text = write(tmp_path)
    assert ("10.0] *" in text) == starred
    last = [*csv.DictReader((tmp_path / "leaderboard.csv").read_text().splitlines())][-1]
    assert last["excludes_zero"] == ("True" if starred else "")
    page = (tmp_path / "leaderboard.html").read_text()
    assert ('data-value="yes"' in page) == starred
    assert 'data-value="no"' not in page
    note = "fewer than 5 common seeds: the interval is too narrow to show a difference"
    assert (note in text) == (note in page) == (num_seeds in (2, 4))


def test_runs_without_a_main_metric_are_ranked_by_the_given_metric(tmp_path: Path) -> None:
    folder = trial(tmp_path / "0", {}, 0, [2.0])
    result = json.loads((folder / "result.json").read_text())
    (folder / "result.json").write_text(json.dumps(result | {"main_metric": None, "best": None}))
    assert "none of them scored by a main metric; use metric= with one of fid" in write(tmp_path)
    assert "1 run of 1 configuration by fid" in write(tmp_path, "fid")


def test_csv_has_every_number_in_full(sweep: Path, tmp_path: Path) -> None:
    for job in (0, 1):
        result = json.loads((sweep / str(job) / "result.json").read_text())
        result["best"]["value"] = 1 / 3 + job
        (sweep / str(job) / "result.json").write_text(json.dumps(result))
    write(sweep, out=tmp_path / "new")
    first, *_, last = csv.DictReader((tmp_path / "new" / "leaderboard.csv").read_text().splitlines())
    assert float(first["best_mean"]) == statistics.fmean([1 / 3, 1 / 3 + 1])
    assert (first["rank"], first["optimizer.generator.lr"], first["difference"]) == ("1", "0.001", "")
    assert (last["seeds"], last["scored"], last["failed"], last["common_seeds"]) == ("3", "2", "1", "2")


def test_the_terminal_table_fits_100_columns(tmp_path: Path) -> None:
    for job, path in enumerate(("a" * 90, "a" * 89 + "b")):
        for seed in range(2):
            values = {"model.latent_dim": job, "optimizer.generator.lr": 0.1 / (job + 3), "init.path": path}
            trial(tmp_path / str(2 * job + seed), values, seed, [2.0 + job + seed / 3])
    lines = table.terminal(rank(tmp_path)).splitlines()
    assert max(map(len, lines)) <= 100
    assert any("…" in line and "aab" in line for line in lines)


def test_short_names_are_unambiguous() -> None:
    keys = ["optimizer.generator.lr", "model.latent_dim", "loss"]
    names = short_names(keys, ["optimizer.discriminator.lr", "penalty.loss"])
    assert names == {keys[0]: "generator.lr", keys[1]: "latent_dim", "loss": "loss"}


def test_ticks_are_round_and_within() -> None:
    assert Scale([0.0, 1.0], 0, 100).ticks() == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert Scale([2.0, 2000.0], 0, 100).ticks() == pytest.approx([10, 100, 1000])
    assert Scale([1.0, 100.0], 0, 100)(10.0) == pytest.approx(50)
    assert 0 <= Scale([3.0, 3.0], 0, 100)(3.0) <= 100


def test_text_has_enough_contrast_on_every_cell_colour() -> None:
    def luminance(shade: str) -> float:
        channels = [int(shade[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    assert colour(0) == "#{:02x}{:02x}{:02x}".format(*GOOD)
    for share in np.linspace(0, 1, 101):
        text = {"black": 0.0, "white": 1.0}[ink(colour(share))]
        bright, dark = sorted((luminance(colour(share)), text), reverse=True)
        assert (bright + 0.05) / (dark + 0.05) >= 4.5


# The command -----------------------------------------------------------------------------------------------


def test_bad_input_is_one_line_and_exit_2(ganlab: Command, sweep: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    cases = {
        (): "folder: missing",
        ("nowhere",): "nowhere: no such folder",
        ("empty",): "empty: no runs at or below it",
        (str(sweep), "metric=recall"): "metric=recall: no run below",
        (str(sweep), "metrics=fid"): "must be key=value with key one of folder, metric, out, seeds_key",
    }
    for arguments, message in cases.items():
        done = ganlab(*arguments, module="ganlab.compare")
        assert (done.returncode, done.stdout) == (2, "")
        assert message in done.stderr
        assert done.stderr.count("\n") == 1


def test_a_folder_with_an_equals_sign_is_compared(cold_ganlab: Command, sweep: Path) -> None:
    shutil.copytree(sweep / "0", sweep / "lr=1" / "0")
    done = cold_ganlab("lr=1", module="ganlab.compare")
    assert done.returncode == 0, done.stderr
    assert "1 run of 1 configuration by fid" in done.stdout
    assert (sweep / "lr=1" / "leaderboard.html").is_file()


def test_metric_named_where_nothing_was_scored(tmp_path: Path) -> None:
    trial(tmp_path / "0", {}, 0)
    assert "none of them scored" in write(tmp_path)
    with pytest.raises(ConfigError, match="drop metric="):
        write(tmp_path, "fid")


def test_real_runs(tmp_path: Path) -> None:
    for job, (width, seed) in enumerate((w, s) for w in (4, 8) for s in (0, 1)):
        overrides = [f"model.generator.width={width}", f"seed={seed}"]
        folder = make_run(tmp_path / str(job), "trainer.steps=20", "trainer.sample_every=null", *overrides)
        (folder / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(overrides))
    text = write(tmp_path)
    board = rank(tmp_path)
    assert text.startswith("4 runs of 2 configurations")
    assert sorted((row.values, len(row.runs)) for row in board.rows) == [((4,), 2), ((8,), 2)]
    assert not board.lost
    assert (tmp_path / "leaderboard.html").read_text().count("data:image/jpeg") == 2


# The page --------------------------------------------------------------------------------------------------

HARNESS = """<!doctype html><body><iframe id="page" src="{page}" style="width:1300px;height:900px"></iframe><pre></pre>
<script>
const frame = document.getElementById("page"), told = document.querySelector("pre");
frame.addEventListener("load", () => {{
  const page = frame.contentDocument, board = page.getElementById("board"), head = board.tHead.rows[0];
  const column = () => [...board.tBodies[0].rows].map((row) => row.cells[{column}].textContent);
  const pictures = [...page.images];
  const out = {{ before: column(), pictures: pictures.map((picture) => picture.naturalWidth) }};
  const button = head.cells[{column}].querySelector("button");
  button.click();
  Object.assign(out, {{ up: column(), sorted: head.cells[{column}].ariaSort, first: head.cells[0].ariaSort }});
  button.click();
  out.down = column();
  button.focus();
  out.focused = page.activeElement === button;
  const search = page.getElementById("search");
  search.value = "{search}";
  search.dispatchEvent(new Event("input"));
  const seen = (part) => part.offsetParent !== null;
  out.found = [...board.tBodies[0].rows].filter(seen).length;
  out.figures = [...page.querySelectorAll(".pictures figure")].filter(seen).length;
  search.value = "";
  search.dispatchEvent(new Event("input"));
  out.cut = [...page.querySelectorAll("svg[role=img]")].flatMap((svg) => {{
    const [width, height] = [svg.width.baseVal.value, svg.height.baseVal.value];
    return [...svg.querySelectorAll("text")].filter((text) => {{
      const box = text.getBBox();
      return box.x < -1 || box.y < -1 || box.x + box.width > width + 1 || box.y + box.height > height + 1;
    }}).map((text) => text.textContent);
  }});
  told.textContent = JSON.stringify(out);
}});
</script></body>"""


def browse(folder: Path, column: int, search: str) -> dict[str, Any]:
    """Open the page in a browser, sort by a column in both directions, search, and return what is visible."""
    harness = folder / "harness.html"
    harness.write_text(HARNESS.format(page="leaderboard.html", column=column, search=search))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
             "--disable-background-networking", "--disable-component-update", "--allow-file-access-from-files",
             f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=5000", "--enable-logging=stderr",
             "--dump-dom"]  # fmt: skip
    done = subprocess.run([str(CHROMIUM), *flags, harness.as_uri()], capture_output=True, text=True, timeout=120,
                          check=True)  # fmt: skip
    assert ":CONSOLE" not in done.stderr  # the browser's error log
    answer = done.stdout.split("<pre>")[1].split("</pre>")[0]
    assert answer, done.stderr
    found: dict[str, Any] = json.loads(html.unescape(answer))
    assert not found["cut"]
    return found


@pytest.mark.skipif(CHROMIUM is None, reason="no browser")
def test_the_page_in_a_browser_sorts_searches_and_shows_its_pictures(sweep: Path) -> None:
    write(sweep)
    found = browse(sweep, column=2, search="latent_dim=32")
    assert found["pictures"] == [160] * 4
    assert found["before"] == ["8", "32", "8", "32"]
    assert (found["up"], found["sorted"], found["first"]) == (["8", "8", "32", "32"], "ascending", "none")
    assert found["down"] == ["32", "32", "8", "8"]
    assert found["focused"]
    assert (found["found"], found["figures"]) == (2, 2)


@pytest.mark.skipif(CHROMIUM is None, reason="no browser")
@pytest.mark.parametrize("num", [1, 3, 60])
def test_no_label_is_cut_off_for_any_number_of_configurations(tmp_path: Path, num: int) -> None:
    name = "model.generator.a_rather_long_name_of_a_key_as_some_have"
    for job in range(num):
        values = {name: ["plain", "a value that is longer than its axis is wide"][job % 2], "model.latent_dim": job}
        shown = values if num != 3 else {"model.latent_dim": job}
        trial(tmp_path / str(job), shown, 0, [1000.0 / (job + 1), 900.0 / (job + 1)])
    trial(tmp_path / "lost", {"model.latent_dim": 999}, 0, status="failed")
    write(tmp_path)
    found = browse(tmp_path, column=1, search="")
    assert len(found["pictures"]) == num + 1
    assert all(found["pictures"])


def test_the_page_loads_nothing_and_escapes_text_of_runs(sweep: Path) -> None:
    trial(sweep / "12", {"init.name": "<script>alert(1)</script>"}, 0, [99.0], status="failed")
    write(sweep)
    page = (sweep / "leaderboard.html").read_text()
    assert "default-src 'none'" in html.unescape(page)
    assert "<script>alert" not in page
    assert "failed at &lt;step&gt; 100 &amp; later" in page
    assert not [part for part in ('src="http', 'href="http', "@import", "url(") if part in page]


@pytest.fixture
def small_sweep(tmp_path: Path) -> Path:
    """Finished runs and a failed run, with tiny pictures."""
    folder = tmp_path / "sweep"
    for job, (lr, dim, seed, status) in enumerate(
        [(1e-3, 8, 0, "done"), (1e-3, 8, 1, "done"), (1e-2, 8, 0, "done"), (1e-2, 16, 0, "failed")]
    ):
        values = {"optimizer.generator.lr": lr, "model.latent_dim": dim}
        trial(folder / str(job), values, seed, [job + 3.0, job + 2.0], status, choices={"loss": ["bce", "hinge"][seed]})
        Image.new("L", (8, 8)).save(folder / str(job) / "figures" / "final.png")
    result = hostile.read(folder / "1" / "result.json")
    hostile.replace(folder / "1" / "result.json", result | {"collapsed": "3 modes are left", "main_metric": "fid"})
    return folder


def page_and_table(folder: Path) -> tuple[str, str]:
    text = write(folder)
    return (folder / "leaderboard.html").read_text(), text


@pytest.mark.parametrize(
    "name", ["result.json", "metrics.jsonl", *(f".hydra/{name}.yaml" for name in ("config", "overrides", "hydra"))]
)
def test_text_of_a_run_is_escaped_in_the_page_and_the_table(small_sweep: Path, name: str) -> None:
    file = small_sweep / "1" / name
    original, words = hostile.read(file), "words that are more than there is room for in a cell"
    pages = []
    for changed in hostile.variants(original, words, words):
        hostile.replace(file, changed)
        with suppress(GanlabError):  # scores that must not be ranked together
            pages.append(page_and_table(small_sweep)[0])
    harmless = hostile.Page(*pages)
    for changed in hostile.all_variants(original):
        hostile.replace(file, changed)
        with suppress(GanlabError):
            page, text = page_and_table(small_sweep)
            hostile.assert_same_markup(page, harmless)
            hostile.assert_printable(text)


def test_the_error_of_a_failed_run_is_escaped_in_the_page_and_the_table(small_sweep: Path) -> None:
    harmless, file = hostile.Page(page_and_table(small_sweep)[0]), small_sweep / "3" / "result.json"
    hostile.replace(file, hostile.read(file) | {"error": hostile.TEXT})
    page, text = page_and_table(small_sweep)
    hostile.assert_same_markup(page, harmless)
    hostile.assert_printable(text)
    assert r"\x1b[31m" in text


def test_names_of_folders_are_escaped_in_the_page_and_the_table(small_sweep: Path) -> None:
    harmless = hostile.Page(page_and_table(small_sweep)[0])
    for text in (hostile.TEXT, *hostile.PARTS.values()):
        small_sweep = small_sweep.rename(small_sweep.parent / f"sweep{text.replace('/', '')}")
        for job in small_sweep.glob("*/"):
            job.rename(small_sweep / f"{job.name[0]}{text.replace('/', '')}")
        page, text = page_and_table(small_sweep)
        hostile.assert_same_markup(page, harmless)
        hostile.assert_printable(text)


def test_the_policy_of_the_page_allows_only_its_own_code(small_sweep: Path) -> None:
    hostile.assert_policy_allows_own_code_alone(page_and_table(small_sweep)[0])


def test_embedded_pictures_stay_within_the_size_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ganlab.leaderboard import page

    for job in range(5):
        trial(tmp_path / str(job), {"model.latent_dim": job}, 0, [1.0 + job])
    monkeypatch.setattr(page, "BUDGET", 40_000)
    text = page.html_text(rank(tmp_path))
    assert 1 <= text.count("data:image/jpeg") < 5
    assert "are omitted to keep the page small" in text
