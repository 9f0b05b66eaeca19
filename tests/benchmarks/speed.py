"""The speed of ganlab in one table, each figure a ratio of two speeds measured alternately.

    python tests/benchmarks/speed.py [steps] [commands] [images] [start]

Without arguments all four parts run, in about 15 minutes on two idle cores; other load on the machine changes even the
ratios. The tutorial's loops run in processes of their own, see `tutorial_speed`. A bar is the target for the ratio.

    steps     training steps alone: of one run, eager and compiled, and of populations
    commands  whole sweeps as populations, from the command line to the leaderboard
    images    mnist5_tutorial against the tutorial's loop, and against a bare loop of the same steps
    start     cost of a step late in a run against early on, start of the command line, memory
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import Pipe, get_context
from pathlib import Path

import torch
import torch.nn.functional as F
from tutorial_speed import serve

from ganlab.build import build
from ganlab.config import run_config
from ganlab.config.run_config import ResolvedConfig
from ganlab.runs.folder import RunFolder
from ganlab.training.memory import keep_freed_memory
from ganlab.training.population import Population
from ganlab.training.step import TrainingStep

ROUNDS, SECONDS = 7, 1.0  # turns of each side, and the length of one
STEPS = 25_000  # of a run of circle_tutorial
Speed = Callable[[], float]  # the steps per second of the next turn


def training_step(*overrides: str, seed: int = 0) -> TrainingStep:
    cfg = run_config.compose(["tracker=none", "metrics=none", *overrides])
    tree = {**cfg.plain(), "seed": seed}
    return build(ResolvedConfig(tree).validate(), RunFolder(tempfile.mkdtemp())).training_step


def turns(step: Callable[[int], object], runs: int = 1) -> Speed:
    """Return the speed of a step in run-steps per second, over turns of about `SECONDS`."""
    done = 0

    def go(number: int) -> float:
        nonlocal done
        began = time.perf_counter()
        for _ in range(number):
            step(done)
            done += 1
        return number * runs / (time.perf_counter() - began)

    go(3)  # a warm-up, in which compiled steps are compiled
    length = max(1, round(go(10) / runs * SECONDS))
    return lambda: go(length)


@contextmanager
def tutorial(which: str) -> Iterator[Speed]:
    here, there = Pipe()
    process = get_context("spawn").Process(target=serve, args=(which, there), daemon=True)
    process.start()

    def speed() -> float:
        here.send(True)
        return float(here.recv())

    speed()
    yield speed
    here.send(False)
    process.join()


def compare(name: str, mine: Speed, theirs: Speed, bar: float | None = None) -> None:
    pairs = [(mine(), theirs()) for _ in range(ROUNDS)]
    show(name, *(statistics.median(column) for column in (*zip(*pairs, strict=True), [a / b for a, b in pairs])), bar)


def show(name: str, mine: float, theirs: float, ratio: float, bar: float | None = None) -> None:
    asked = "" if bar is None else f"  bar {bar:g}"
    print(f"{name:58s} {mine:12,.1f} {theirs:10,.1f}  ratio {ratio:8.2f}{asked}", flush=True)


# The parts ---------------------------------------------------------------------------------------------------


def steps() -> None:
    with tutorial("circle") as theirs:
        compare("circle_tutorial, eager / tutorial", turns(training_step("experiment=circle_tutorial")), theirs)
        for runs, bar in ((64, 60), (512, 200)):
            members = [training_step("experiment=circle_tutorial", seed=seed) for seed in range(runs)]
            population = Population(members)
            population.compile()
            compare(f"{runs} runs of circle_tutorial together / tutorial", turns(population, runs), theirs, bar)
    for name, bar in (("circle_tutorial", 4.5), ("ring8", 1.5)):
        eager, compiled = (
            turns(training_step(f"experiment={name}", f"trainer.compile={choice}")) for choice in ("false", "true")
        )
        compare(f"{name}, compiled / eager", compiled, eager, bar)


def commands() -> None:
    lrs = "optimizer.generator.lr=1e-4,3e-4,1e-3,3e-3"
    with tutorial("circle") as theirs:
        for runs, bar in ((64, 20), (512, 60)):
            before = [theirs() for _ in range(3)]
            with tempfile.TemporaryDirectory() as folder:
                sweep = ("-m", "hydra/launcher=vectorized", "experiment=circle_tutorial", "tracker=none")
                seconds = run_command(folder, *sweep, f"seed=range({runs // 4})", lrs)
            speed = statistics.median([*before, *(theirs() for _ in range(3))])
            mine = runs * STEPS / seconds
            show(f"{runs} runs, whole command of {seconds:.0f} s / tutorial", mine, speed, mine / speed, bar)


def run_command(folder: str, *arguments: str) -> float:
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root}
    began = time.perf_counter()
    command = [sys.executable, "-m", "ganlab", *arguments]
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def images() -> None:
    keep_freed_memory()
    overrides = "experiment=mnist5_tutorial"
    mine = turns(training_step(overrides))
    with tutorial("mnist5") as theirs:
        compare("mnist5_tutorial, steps / tutorial", mine, theirs, 2)
    compare("mnist5_tutorial, steps / bare loop of the same step", mine, turns(bare(training_step(overrides))), 0.97)


def bare(step: TrainingStep) -> Callable[[int], object]:
    """The step of mnist5_tutorial as one would write it by hand: same networks, optimizers, batches and noise."""
    generator, discriminator = step.generator, step.discriminator
    ones = torch.ones(step.batches.batch_size)

    def advance(number: int) -> None:
        real, noise = step.batches(number).x, step.noise(number)
        fake = generator(noise)
        step.discriminator_optimizer.zero_grad()
        on_real, on_fake = discriminator(real), discriminator(fake.detach())
        bce = F.binary_cross_entropy_with_logits
        (bce(on_real, ones) + bce(on_fake, 1 - ones)).backward()
        step.discriminator_optimizer.step()
        step.generator_optimizer.zero_grad()
        discriminator.requires_grad_(False)
        bce(discriminator(fake), ones).backward()
        discriminator.requires_grad_(True)
        step.generator_optimizer.step()

    return advance


def start() -> None:
    early, late = turns(training_step("experiment=circle_tutorial")), training_step("experiment=circle_tutorial")
    for number in range(20 * STEPS // 100, 60 * STEPS // 100):
        late(number)
    compare("circle_tutorial, step 15,000 / step 0", turns(lambda n: late(15_000 + n)), early, 0.97)
    with tempfile.TemporaryDirectory() as folder:
        for arguments in (("--help",), ("--cfg", "job")):
            seconds = statistics.median(run_command(folder, *arguments) for _ in range(ROUNDS))
            print(f"python -m ganlab {' '.join(arguments)}: {seconds:.2f} s")
        run_command(folder, "experiment=circle_tutorial", "tracker=none", "trainer.epochs=2")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"memory of a run of circle_tutorial: {peak:.0f} MiB")


PARTS = {part.__name__: part for part in (steps, commands, images, start)}

if __name__ == "__main__":
    for chosen in sys.argv[1:] or PARTS:
        PARTS[chosen]()
