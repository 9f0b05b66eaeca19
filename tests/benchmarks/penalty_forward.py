"""Speed-up of a training step whose R1 and R2 penalties share the discriminator's forward pass with the loss.

    OMP_NUM_THREADS=1 python tests/benchmarks/penalty_forward.py [rounds]

Both ways take turns of equal numbers of whole steps, in one process, on random data. Prints the median milliseconds of
a step with a separate forward pass for the penalty and with a shared one, and the median ratio of the turns. On a busy
machine, set OMP_WAIT_POLICY=PASSIVE for more than one thread.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from unittest.mock import patch

from ganlab.build import build
from ganlab.config import run_config
from ganlab.penalties import R1, R2
from ganlab.runs.folder import RunFolder
from ganlab.training.memory import keep_freed_memory
from ganlab.training.step import TrainingStep

RING8, DCGAN = ("experiment=ring8",), ("dataset=digits", "model=dcgan_small")
SETUPS = {
    "ring8 r1": (*RING8, "penalty=r1"),
    "ring8 r1 r2": (*RING8, "penalty=r1_r2"),
    "ring8 as shipped (r1 r2, every 8th)": RING8,
    "dcgan_small r1": (*DCGAN, "penalty=r1"),
    "dcgan_small r1 r2": (*DCGAN, "penalty=r1_r2"),
    "dcgan_small as shipped (r1, every 4th)": DCGAN,
}
TURN = 1.0  # seconds


def milliseconds(training_step: TrainingStep, first: int, num: int) -> float:
    began = time.perf_counter()
    for step in range(first, first + num):
        training_step(step)
    return 1000 * (time.perf_counter() - began) / num


def separate(training_step: TrainingStep, first: int, num: int) -> float:
    with patch.object(R1, "takes_gradient_of", ()), patch.object(R2, "takes_gradient_of", ()):
        return milliseconds(training_step, first, num)


def measure(overrides: tuple[str, ...], rounds: int) -> tuple[float, float, float]:
    with tempfile.TemporaryDirectory() as folder:
        cfg = run_config.compose([*overrides, "tracker=none", "metrics=none", "trainer.steps=1000000"])
        training_step = build(cfg, RunFolder(folder)).training_step
    num = 8 * max(1, round(TURN * 1000 / milliseconds(training_step, 0, 16) / 8))
    turns = [
        (separate(training_step, 2 * turn * num, num), milliseconds(training_step, (2 * turn + 1) * num, num))
        for turn in range(rounds)
    ]
    apart, shared = zip(*turns, strict=True)
    return statistics.median(apart), statistics.median(shared), statistics.median(a / s for a, s in turns)


def main() -> None:
    keep_freed_memory()
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    print(f"{'':40s} separate  shared  ratio")
    for name, overrides in SETUPS.items():
        apart, shared, ratio = measure(overrides, rounds)
        print(f"{name:40s} {apart:5.1f} ms {shared:5.1f} ms  {ratio:.2f}")


if __name__ == "__main__":
    main()
