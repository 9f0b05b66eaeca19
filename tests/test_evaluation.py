"""Scores during training and from the evaluate command: their content, their agreement, and refusals."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_run
from PIL import Image
from torch import Tensor

from ganlab import load_run
from ganlab.build import check
from ganlab.config import run_config
from ganlab.config.command_line import call
from ganlab.data.dataset import Samples
from ganlab.data.mixtures import Grid25, Ring8
from ganlab.data.points import Circle
from ganlab.data.sample_files import open_samples
from ganlab.errors import CheckpointError, ConfigError, DataError, GanlabError
from ganlab.evaluate import GROUPS, evaluate
from ganlab.leaderboard import run_record
from ganlab.metrics.catalogue import METRICS, measure
from ganlab.metrics.evaluator import Evaluator
from ganlab.metrics.extractors import Coordinates
from ganlab.metrics.sample_pair import DatasetInfo, FeatureSet, SamplePair
from ganlab.metrics.transport import sliced_wasserstein
from ganlab.runs.checkpoints import read
from ganlab.runs.folder import RunFolder
from ganlab.runs.scores import Score
from ganlab.train import train

CIRCLE = ("metrics=default", "trainer.epochs=4", "trainer.evaluate_every=1", "metrics.num=200")
DIGITS = ("dataset=digits", "model=dcgan_small", "metrics=default", "metrics.extractor=random", "metrics.num=200")


def result(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "result.json").read_text())


@pytest.fixture(scope="module")
def circle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("circle") / "run", *CIRCLE)


def test_a_run_records_its_scores(circle: Path) -> None:
    history = RunFolder(circle).history()
    assert [record["step"] for record in history] == [62, 124, 186, 248]
    names = {"sliced_wasserstein", "near", "distance", "curve_coverage"}
    assert all(names <= set(record) for record in history)
    scores = {name: Score.read(score) for name, score in result(circle)["scores"].items()}
    assert set(scores) == names
    score = scores["near"]
    assert (score.num_fake, score.num_real, score.weights, score.step, score.split) == (200, 1000, "ema", 248, "train")
    assert score.value == history[-1]["near"]
    assert scores["near"].floor == 1.0  # all the data lie on the circle
    assert scores["sliced_wasserstein"].floor < 0.1 < scores["sliced_wasserstein"].value


def test_the_best_checkpoint_has_the_best_score(circle: Path) -> None:
    history = RunFolder(circle).history()
    best = min(history, key=lambda record: record["sliced_wasserstein"])
    assert result(circle)["best"]["step"] == best["step"]
    steps = {name: read(circle / "checkpoints" / f"{name}.pt")["progress"]["step"] for name in ("best", "last")}
    assert steps == {"best": best["step"], "last": 248}
    assert load_run(circle, checkpoint="best").step == best["step"]


def test_the_command_finds_the_score_that_training_found(circle: Path, tmp_path: Path) -> None:
    evaluate(run=str(circle), num=200, out=str(tmp_path / "scores.json"))
    found = {score["metric"]: score["value"] for score in json.loads((tmp_path / "scores.json").read_text())}
    history = RunFolder(circle).history()[-1]
    for name in ("sliced_wasserstein", "near", "distance", "curve_coverage"):
        assert found[name] == pytest.approx(history[name], rel=1e-5)
    assert {"wasserstein", "mmd"} <= set(found)  # too expensive to measure during training


def test_several_seeds_give_a_mean_and_a_deviation(circle: Path, tmp_path: Path) -> None:
    values = []
    for seeds in (1, 2):
        evaluate(run=str(circle), num=100, seeds=seeds, metrics=["distance"], out=str(tmp_path / "s.json"))
        (score,) = json.loads((tmp_path / "s.json").read_text())
        values.append(score)
    assert values[0]["error"] is None
    assert values[1]["seeds"] == [0, 1]
    second = 2 * values[1]["value"] - values[0]["value"]
    assert second != pytest.approx(values[0]["value"], rel=1e-6)
    assert values[1]["error"] == pytest.approx(abs(second - values[0]["value"]) / 2**0.5)


@pytest.mark.parametrize("choices", [("trainer.epochs=4",), ("dataset=digits", "model=dcgan_small")])
def test_evaluation_changes_nothing_in_training(choices: tuple[str, ...], tmp_path: Path) -> None:
    choices = (*choices, "trainer.steps=6", "trainer.log_every=0.04")
    scored = make_run(
        tmp_path / "scored", *choices, "metrics=default", "metrics.extractor=auto", "metrics.num=200",
        "trainer.evaluate_every=0.04", *(["metrics.extractor=random"] if "dataset=digits" in choices else []),
    )  # fmt: skip
    plain = make_run(tmp_path / "plain", *choices)
    ours, theirs = (read(folder / "checkpoints" / "last.pt") for folder in (scored, plain))
    for part in ("generator", "discriminator", "ema"):
        torch.testing.assert_close(ours[part], theirs[part], rtol=0, atol=0)
    assert result(scored)["config_hash"] == result(plain)["config_hash"]


def test_a_resumed_run_has_the_scores_of_an_uninterrupted_run(circle: Path, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", *CIRCLE, "trainer.epochs=2", "schedule=constant")
    cost = result(folder)["evaluation_seconds"]
    cfg = run_config.load(folder).override(["trainer.epochs=4"])
    train(cfg, folder, resume=True)
    assert RunFolder(folder).history() == RunFolder(circle).history()
    assert result(folder)["best"] == result(circle)["best"]
    assert result(folder)["evaluation_seconds"] > cost > 0  # of both parts


def test_scores_of_another_protocol_are_not_mixed_after_a_resume(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = make_run(tmp_path / "run", *CIRCLE, "trainer.epochs=2")
    cfg = run_config.load(folder).override(["trainer.epochs=4", "metrics.num=300"])
    train(cfg, folder, resume=True)
    assert caplog.text.count("the search for the best score starts again: scores cannot be ranked") == 1
    assert [("near" in record, "accuracy" in record) for record in RunFolder(folder).history()] == [
        (False, True), (False, True), (True, True), (True, True)]  # fmt: skip
    assert result(folder)["status"] == "done"
    trial = run_record.read(folder)
    assert [step for step, _ in trial.curve("near")] == [186, 248]
    assert trial.best.num_fake == 300
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        assert "near" in json.loads(line)  # nothing is lost
    run = RunFolder(folder)
    run.reopen()
    run.rewind(150)  # as after a crash before the next checkpoint
    run.log({"step": 160, "epoch": 2.58, "near": 0.5})  # and then evaluated earlier than before it
    assert run.history()[-1]["near"] == 0.5
    run.close()


def test_a_metric_measured_differently_after_an_omission_restarts_its_curve(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = make_run(tmp_path / "run", *CIRCLE, "trainer.epochs=1")
    for epochs, names, num in ((2, "[distance]", 200), (3, "[near]", 300)):
        cfg = run_config.load(folder).override(
            [f"trainer.epochs={epochs}", f"metrics.names={names}", f"metrics.num={num}"]
        )
        train(cfg, folder, resume=True)
    assert "the curves of near start again: scores cannot be ranked together: num_fake is 200" in caplog.text
    assert [("near" in record, "distance" in record) for record in RunFolder(folder).history()] == [
        (False, True), (False, True), (True, False)]  # fmt: skip
    scores = result(folder)["scores"]
    assert (scores["near"]["step"], scores["distance"]["step"], result(folder)["main_metric"]) == (186, 124, None)


def test_changed_data_of_a_run_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    points = np.random.default_rng(0).normal(size=(100, 2)).astype(np.float32)
    np.save(tmp_path / "points.npy", points)
    choices = ("dataset=points", f"dataset.path={tmp_path}/points.npy", "trainer.steps=2", "trainer.batch_size=50")
    options: dict[str, Any] = {"run": str(make_run(tmp_path / "run", *choices)), "num": 50}
    evaluate(**options, metrics=["sliced_wasserstein"])
    assert "was trained on other data" not in caplog.text
    np.save(tmp_path / "points.npy", 2 * points)
    evaluate(**options, metrics=["sliced_wasserstein"])
    assert "was trained on other data" in caplog.text


def test_the_log_reports_the_time_of_evaluation(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        make_run(tmp_path / "run", *CIRCLE, "trainer.steps=4", "metrics.num=40000")  # almost only evaluation
    [(seconds, share)] = re.findall(r"Evaluation took ([\d.]+) s, (\d+) % of the run", caplog.text)
    assert float(seconds) > 0
    assert 0 < int(share) <= 100


def test_a_score_that_is_not_finite_is_refused() -> None:
    features = torch.randn(100, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    seen = FeatureSet(features, torch.eye(2)[torch.arange(100) % 2].double())
    facts = DatasetInfo(is_image=True, is_classified=True, shares=torch.tensor([1.0, 0.0], dtype=torch.float64))
    with pytest.raises(DataError, match="the real examples lack 1 of the classes that samples have"):
        measure("class_kl", SamplePair(seen, seen, facts))
    far, other = (FeatureSet(torch.full((10, 2), limit, dtype=torch.float64)) for limit in (-1.7e308, 1.7e308))
    with pytest.raises(DataError, match=r"is (inf|nan), must be a finite number"):
        measure("sliced_wasserstein", SamplePair(far, other, facts))


class Points:
    """A generator of these points."""

    def __init__(self, points: Tensor) -> None:
        self.points = points

    def batches(self, num: int, seed: int) -> Iterator[Samples]:
        yield Samples(self.points[:num], None)


@pytest.fixture
def remembering() -> Callable[..., Evaluator]:
    """Return a function that makes evaluators of memorisation."""

    def make(num_held_out: int = 2000, num_real: int = 500) -> Evaluator:
        dataset, others = Ring8(num_examples=2000), Ring8(num_examples=num_held_out, seed=1)
        memory = (dataset.load(), others.load())
        return Evaluator(
            dataset, memory[0], Coordinates(), ["memorisation"], num=500, num_real=num_real, quick=False, memory=memory
        )

    return make


def test_memorisation_distinguishes_copies_of_training_examples_from_new_ones(
    remembering: Callable[..., Evaluator],
) -> None:
    evaluator, examples = remembering(), [Ring8(num_examples=2000, seed=seed).load() for seed in (0, 9)]
    copies, new = (evaluator.evaluate(Points(e.units.outside(e.data)))["memorisation"] for e in examples)
    assert copies.value == 0
    assert new.value == pytest.approx(1.0, abs=0.15)
    assert new.floor == pytest.approx(1.0, abs=0.15)
    assert new.floor != 1  # of some of the held-out examples beside the others


def test_memorisation_records_its_reference_set(remembering: Callable[..., Evaluator]) -> None:
    examples = Ring8(num_examples=2000, seed=9).load()
    source = Points(examples.units.outside(examples.data))
    one, fewer, other = (remembering(*sizes).evaluate(source)["memorisation"] for sizes in ((), (2000, 100), (1000,)))
    assert (one.split, one.num_real, one.num_fake) == ("train", 2000, 500)
    assert fewer == one  # num_real= applies to the other metrics
    assert other.num_fake == 500  # half of the held-out examples: the floor uses the other half in place of samples
    with pytest.raises(DataError, match="dataset_hash"):
        other.beats(one)


def test_what_is_judged_by_class_is_judged_within_each() -> None:
    features = torch.randn(400, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    label = torch.arange(400) % 2
    features[label == 1] += 100
    facts = DatasetInfo(is_image=True, num_classes=2, shares=torch.tensor([0.5, 0.5]))
    real, right, swapped = (
        FeatureSet(features, torch.eye(2)[label].double(), asked) for asked in (label, label, 1 - label)
    )
    for fake, accuracy, coverage in ((right, 1.0, 1.0), (swapped, 0.0, 0.0)):
        evidence = SamplePair(real, fake, facts)
        assert measure("label_accuracy", evidence).value == accuracy
        assert measure("intra_coverage", evidence).value == coverage
        assert measure("coverage", evidence).value == 1.0


def test_samples_do_not_depend_on_the_size_of_a_batch(tmp_path: Path) -> None:
    choices = ("dataset=digits", "model=dcgan_small", "condition=projection", "trainer=smoke")
    sampler = load_run(make_run(tmp_path / "run", *choices)).sampler
    whole, *rest = sampler.batches(40, seed=3, size=40)
    parts = list(sampler.batches(40, seed=3, size=7))
    assert not rest
    assert whole.label is not None
    assert torch.equal(torch.cat([part.label for part in parts]), whole.label)
    torch.testing.assert_close(torch.cat([part.x for part in parts]), whole.x)


# Samples of another program -----------------------------------------------------------------------------------


def scores_of(samples: np.ndarray | Path, dataset: str, folder: Path, **options: Any) -> dict[str, dict[str, Any]]:
    file = samples if isinstance(samples, Path) else folder / "samples.npy"
    if not isinstance(samples, Path):
        np.save(file, samples)
    evaluate(data=str(file), dataset=dataset, out=str(folder / "scores.json"), **options)
    return {score["metric"]: score for score in json.loads((folder / "scores.json").read_text())}


def points_of(dataset: Ring8 | Grid25 | Circle) -> np.ndarray:
    examples = dataset.load()
    return examples.units.outside(examples.data).numpy()


def test_a_perfect_sampler_scores_at_the_floor(tmp_path: Path) -> None:
    scores = scores_of(points_of(Ring8(num_examples=2500, seed=7)), "ring8", tmp_path)
    assert scores["modes"]["value"] == 8
    assert scores["high_quality"]["value"] == pytest.approx(1 - np.exp(-4.5), abs=0.01)
    for name in ("sliced_wasserstein", "wasserstein"):
        assert scores[name]["value"] < 2 * scores[name]["floor"] < 0.2
    assert scores["reverse_kl"]["value"] < 0.01
    assert (scores["modes"]["weights"], scores["modes"]["step"]) == (None, None)


def test_a_metric_of_only_so_many_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METRICS, "wasserstein", METRICS["wasserstein"]._replace(at_most=100))
    points = points_of(Ring8(num_examples=300, seed=7))
    scores = scores_of(points, "ring8", tmp_path, metrics=["wasserstein", "modes"], num_real=200)
    numbers = [(scores[name]["num_real"], scores[name]["num_fake"]) for name in ("wasserstein", "modes")]
    assert numbers == [(100, 100), (200, 300)]
    assert scores["wasserstein"]["floor"] / 2 < scores["wasserstein"]["value"] < 2 * scores["wasserstein"]["floor"]


def test_half_of_the_modes_are_counted_as_half(tmp_path: Path) -> None:
    points = points_of(Ring8(num_examples=5000, seed=7))
    scores = scores_of(points[points[:, 1] > 0.01][:2000], "ring8", tmp_path, metrics=["modes", "reverse_kl"])
    assert set(scores) == {"modes", "reverse_kl"}
    assert scores["modes"]["value"] in (3, 4, 5)
    assert scores["reverse_kl"]["value"] > 0.6


def test_a_generator_of_one_image_has_no_recall(tmp_path: Path) -> None:
    images = np.repeat(np.random.default_rng(0).random((1, 1, 8, 8), dtype=np.float32), 400, 0)
    scores = scores_of(images, "digits", tmp_path, extractor="random", metrics=["recall", "coverage", "vendi"])
    assert scores["recall"]["value"] < 0.02
    assert scores["coverage"]["value"] < 0.02
    assert scores["vendi"]["value"] == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("num_classes", [5, 10])
def test_any_classifier_gives_an_inception_score(
    num_classes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_classifier.py").write_text(
        "import torch\n"
        "def make(shape):\n"
        "    class Net(torch.nn.Module):\n"
        "        def forward(self, images):\n"
        f"            return images.flatten(1), images.flatten(1)[:, 20:{20 + num_classes}].mul(9).softmax(1)\n"
        "    return Net()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_classifier", raising=False)
    images = np.random.default_rng(0).random((300, 1, 8, 8), dtype=np.float32)
    p = torch.from_numpy(images).flatten(1)[:, 20 : 20 + num_classes].mul(9).softmax(1).double()
    expected = (p * (p.log() - p.mean(0).log())).sum(1).mean().exp().item()
    scores = scores_of(images, "digits", tmp_path, extractor="my_classifier.make")
    assert scores["inception_score"]["value"] == pytest.approx(expected, rel=1e-5)
    assert ("class_kl" in scores) == (num_classes == 10)  # the dataset's own classes


def saved_as_pictures(images: Iterable[np.ndarray], folder: Path) -> Path:
    folder.mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number:03}.png")
    return folder


@pytest.mark.parametrize(
    ("size", "layouts"),
    [
        ((8, 8), {"NCHW": lambda x: x[:, None], "NHWC": lambda x: x[..., None], "NHW": lambda x: x}),
        ((32, 32, 3), {"NCHW": lambda x: x.transpose(0, 3, 1, 2), "NHWC": lambda x: x}),
    ],
)
def test_samples_are_the_same_in_any_file(
    size: tuple[int, ...], layouts: dict[str, Callable[[np.ndarray], np.ndarray]], tmp_path: Path
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (60, *size), dtype=np.uint8)
    expected = torch.from_numpy(layouts["NCHW"](images)).float() / 255
    files = [saved_as_pictures(images, tmp_path / "folder")]
    for layout, arranged in layouts.items():
        for kind in ("uint8", "float32", "float64"):
            array = arranged(images) if kind == "uint8" else (arranged(images) / 255).astype(kind)
            np.save(tmp_path / f"{layout}-{kind}.npy", array)
            files.append(tmp_path / f"{layout}-{kind}.npy")
    np.savez(
        tmp_path / "adm.npz", layouts["NHWC"](images), np.arange(60)
    )  # in the format of guided diffusion, with labels
    for file in [*files, tmp_path / "adm.npz"]:
        samples = open_samples(str(file), tuple(expected.shape[1:]))
        assert samples.num == 60
        assert samples.read(range(60)).dtype == torch.float32
        torch.testing.assert_close(samples.read(range(60)), expected)
        torch.testing.assert_close(samples.read([20, 3]), expected[[20, 3]])


def test_a_picture_is_the_same_in_any_kind_of_file(tmp_path: Path) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    transparent = np.stack([np.zeros_like(grey)] * 3 + [255 - grey], -1)  # transparent black on white
    deep = grey.astype(np.uint16) * 257
    folder = saved_as_pictures([grey, transparent, deep], tmp_path / "folder")
    exif = Image.Exif()
    exif[0x0112] = 6  # EXIF orientation: rotate clockwise for display
    Image.fromarray(np.rot90(grey).copy()).save(folder / "turned.png", exif=exif)
    for picture in open_samples(str(folder), (1, 8, 8)).read(range(4)):
        assert (picture * 255).round()[0].byte().numpy() == pytest.approx(grey, abs=1)


def test_some_of_the_samples_of_a_file_are_a_choice_from_all_of_it(tmp_path: Path) -> None:
    np.save(tmp_path / "sorted.npy", np.arange(4000, dtype=np.float32).reshape(2000, 2))
    samples = open_samples(str(tmp_path / "sorted.npy"), (2,))
    chosen, again, other = (torch.cat([batch.x for batch in samples.batches(1000, seed)]) for seed in (0, 0, 1))
    assert torch.equal(chosen, again)
    assert not torch.equal(chosen, other)
    assert len(chosen.unique(dim=0)) == 1000
    assert chosen.mean().item() == pytest.approx(2000, abs=100)


def test_what_cannot_be_told_of_some_samples_does_not_hide_the_rest(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    black = np.zeros((400, 1, 8, 8), np.float32)
    scores = scores_of(black, "digits", tmp_path, extractor="pixels", metrics=["vendi", "recall"])
    assert [*scores] == ["recall"]
    assert scores["recall"]["value"] == 0
    assert "vendi is not measured: features: 400 of 400 rows are zero" in caplog.text
    with pytest.raises(DataError, match="vendi: features: 400 of 400 rows are zero"):
        scores_of(black, "digits", tmp_path, extractor="pixels", metrics=["vendi"])


def test_a_folder_of_images_is_scored_as_the_same_array(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
    options: dict[str, Any] = {"extractor": "pixels", "metrics": ["precision", "coverage", "vendi"]}
    one = scores_of(saved_as_pictures(images, tmp_path / "folder"), "digits", tmp_path, **options)
    other = scores_of(images, "digits", tmp_path, **options)
    assert {name: score["value"] for name, score in one.items()} == pytest.approx(
        {name: score["value"] for name, score in other.items()}
    )


def image_of(size: int) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        folder.mkdir()
        for number in range(20):
            Image.new("L", (size, size)).save(folder / f"{number}.png")

    return make


def array_of(values: np.ndarray) -> Callable[[Path], None]:
    def make(file: Path) -> None:
        with file.open("wb") as opened:
            np.save(opened, values)

    return make


def arrays_of(*values: np.ndarray) -> Callable[[Path], None]:
    def make(file: Path) -> None:
        with file.open("wb") as opened:
            np.savez(opened, *values)

    return make


def zipped_text(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("read.me", "no array")


@pytest.mark.parametrize(
    ("make", "dataset", "message"),
    [
        (lambda folder: folder.mkdir(), "digits", "contains no images"),
        (image_of(9), "digits", "must have 8x8 pixels, has 9x9"),
        (image_of(8), "circle", "is a folder, but the dataset has points"),
        (lambda folder: None, "digits", "must be a .npy, a .npz or a folder of images"),
        (lambda file: file.write_text("no array"), "digits", "must be a .npy, a .npz or a folder of images"),
        (lambda file: file.write_bytes(b""), "digits", "must be a .npy, a .npz or a folder of images"),
        (
            lambda file: file.write_bytes(b"PK\x03\x04 cut off"),
            "digits",
            "must be a .npy, a .npz or a folder of images",
        ),
        (arrays_of(), "digits", "must be a .npy, a .npz or a folder of images"),
        (zipped_text, "digits", "or a folder of images: its first file is not an array"),
        (array_of(np.zeros((20, 1, 9, 8), np.float32)), "digits", r"\[N, 8, 8\], contains float32 \[20, 1, 9, 8\]"),
        (array_of(np.zeros((20, 8, 8), np.int64)), "digits", r"must contain float16 .* or uint8 .*, contains int64"),
        (array_of(np.zeros((20, 2), np.uint8)), "circle", r"or float64 \[N, 2\], contains uint8 \[20, 2\]"),
        (array_of(np.float32(1)), "circle", r"contains float32 \[\]"),
        (array_of(np.zeros((0, 2), np.float32)), "circle", "contains no samples"),
        (array_of(np.full((20, 1, 8, 8), 2, np.float32)), "digits", r"must be in \[0, 1\], these are in \[2, 2\]"),
        (array_of(np.full((20, 1, 8, 8), np.nan, np.float32)), "digits", r"must be in \[0, 1\]"),
        (array_of(np.full((20, 2), np.nan, np.float32)), "circle", "not finite"),
    ],
)
def test_unusable_samples_are_refused(make: Callable[[Path], None], dataset: str, message: str, tmp_path: Path) -> None:
    make(tmp_path / "given")
    with pytest.raises(DataError, match=message):
        evaluate(data=str(tmp_path / "given"), dataset=dataset, extractor="random" if dataset == "digits" else "auto")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": ["fid"]}, "fid does not suit this dataset; must be one of sliced_wasserstein"),
        ({"extractor": "domain"}, "metrics.extractor=domain: requires images"),
        ({"split": "held_out"}, "has no held-out set"),
        ({"dataset": "ring8"}, "dataset=NAME: must be given with data="),
        ({"metrics": []}, "no metrics are measured; name them"),
    ],
)
def test_unsuitable_arguments_for_a_run_are_refused(options: dict[str, Any], message: str, circle: Path) -> None:
    with pytest.raises(GanlabError, match=message):
        evaluate(**{"run": str(circle), **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num": 21}, "num=21: must be at most 20, the number of samples in data="),
        ({"seeds": 3}, "seeds=: allowed only with run="),
        ({"weights": "raw"}, "allowed only with run="),
        ({"checkpoint": "best"}, "allowed only with run="),
    ],
)
def test_unsuitable_arguments_for_a_file_are_refused(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(GanlabError, match=message):
        scores_of(np.zeros((20, 2), np.float32), "circle", tmp_path, **options)


def test_samples_are_scored_against_a_dataset_with_keys_of_its_own(tmp_path: Path) -> None:
    points = np.random.default_rng(0).normal(size=(300, 2)).astype(np.float32)
    for name, values in (("data", points[:200]), ("samples", points[200:])):
        np.save(tmp_path / f"{name}.npy", values)
    out = tmp_path / "scores.json"
    arguments = [f"data={tmp_path}/samples.npy", "dataset=points", "metrics=[sliced_wasserstein]", f"out={out}"]
    call(evaluate, [*arguments, f"dataset.path={tmp_path}/data.npy"], GROUPS)
    [score] = json.loads(out.read_text())
    assert (score["num_real"], score["num_fake"]) == (100, 100)  # the other half of the data is for the floor
    call(evaluate, [*arguments, f"dataset.path={tmp_path}/data.npy", "num_real=200"], GROUPS)
    [score] = json.loads(out.read_text())
    assert (score["num_real"], score["num_fake"]) == (200, 100)
    assert score["value"] == pytest.approx(sliced_wasserstein(*map(torch.from_numpy, (points[:200], points[200:]))))
    with pytest.raises(ConfigError, match=r"model.latent_dim=2: must be key=value with key one of"):
        call(evaluate, [*arguments, "model.latent_dim=2"], GROUPS)
    with pytest.raises(ConfigError, match=r"dataset.path=x: allowed only with data="):
        call(evaluate, [f"run={tmp_path}", "dataset.path=x"], GROUPS)
    with pytest.raises(ConfigError, match=r"dataset.num_examples=-4: must be greater"):
        call(evaluate, [arguments[0], "dataset=ring8", "dataset.num_examples=-4"], GROUPS)
    with pytest.raises(ConfigError, match="datset=points: must be key=value with key one of"):
        call(evaluate, ["datset=points"], GROUPS)


def test_more_samples_than_the_default_are_taken_where_asked(circle: Path, tmp_path: Path) -> None:
    evaluate(run=str(circle), num=10_500, metrics=["near"], out=str(tmp_path / "scores.json"))
    assert json.loads((tmp_path / "scores.json").read_text())[0]["num_fake"] == 10_500


def test_too_few_samples_for_a_covariance(tmp_path: Path) -> None:
    images = np.random.default_rng(0).random((30, 1, 8, 8), dtype=np.float32)
    with pytest.raises(DataError, match=r"fid: the covariance of 64 features needs at least 65 samples, has 30"):
        scores_of(images, "digits", tmp_path, extractor="pixels", metrics=["fid"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["metrics.names=[fidd]"], "metrics.names: fidd: must be one of fid, kid"),
        (["metrics.best=fidd"], "metrics.best: fidd: must be one of"),
        (["metrics.names=[near]", "metrics.best=distance"], "must be one of metrics.names, near"),
        (["metrics.names=[fid,memorisation]"], "memorisation: not available during training; use"),
        (["metrics.names=fid"], r"metrics.names=fid: must be a list, like \[fid\] or null"),
        (["metrics.num=5"], "metrics.num=5: must be greater than or equal to 10"),
        (["watchdog.patience=0"], "watchdog.patience=0"),
        (["trainer.evaluate_every=0"], "trainer.evaluate_every=0"),
    ],
)
def test_bad_overrides_are_refused_before_any_data_are_read(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check(run_config.compose(overrides))


def test_a_run_from_somebody_else_names_no_extractor_of_its_own(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", "trainer.steps=2", *CIRCLE)
    file = folder / ".hydra" / "config.yaml"
    file.write_text(file.read_text().replace("extractor: auto", "extractor: json.dumps"))
    with pytest.raises(CheckpointError, match="trust="):
        run_config.load(folder)
    run_config.load(folder, trust=["json"])


def test_a_metric_that_is_not_a_list_is_refused_with_the_syntax() -> None:
    with pytest.raises(ConfigError, match=r"metrics=near: must be a list, like \[near\] or null"):
        call(evaluate, ["run=anywhere", "metrics=near"])


def test_the_command_prints_a_table(ganlab: Callable[..., subprocess.CompletedProcess[str]], circle: Path) -> None:
    done = ganlab(f"run={circle}", "num=100", "metrics=[near,distance]", "out=s.json", module="ganlab.evaluate")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["metric", "value", "+-", "floor", "better"]
    assert [line.split()[0] for line in lines[1:3]] == ["near", "distance"]
    assert "100 samples of step 248, ema weights" in lines[3]
