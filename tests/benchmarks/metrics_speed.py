"""Speed and memory of the metrics at 10,000 x 128 features.

    python tests/benchmarks/metrics_speed.py [repeats] [threads]

Prints the times of FID and KID from features, and the speed of precision, recall, density and coverage relative to the
authors' package prdc. All are medians over alternating runs, in wall-clock and CPU seconds of all threads. Peak memory
above that of the features is measured in a separate process. Set OMP_NUM_THREADS to the same number of threads, for
NumPy. On a busy machine, also set OMP_WAIT_POLICY=PASSIVE: threads that spin while they wait take four times as long.
"""

from __future__ import annotations

import contextlib
import io
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ganlab.metrics.frechet import Moments, frechet_distance
from ganlab.metrics.kernel import kernel_distance
from ganlab.metrics.neighbours import neighbour_quality

SAMPLES, DIMENSIONS, K = 10_000, 128, 5


def features() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(SAMPLES, DIMENSIONS, generator=generator)
    return real, 0.95 * torch.randn(SAMPLES, DIMENSIONS, generator=generator) + 0.02


def fid(real: Tensor, fake: Tensor) -> float:
    return frechet_distance(Moments().add(real), Moments().add(fake))


def prdc(real: Tensor, fake: Tensor) -> dict[str, float]:
    from prdc import compute_prdc

    with contextlib.redirect_stdout(io.StringIO()):  # it prints
        return {name: float(value) for name, value in compute_prdc(real.numpy(), fake.numpy(), K).items()}


def seconds(score: Callable[[Tensor, Tensor], object], real: Tensor, fake: Tensor) -> tuple[float, float]:
    """Return wall-clock and CPU seconds."""
    started, cpu = time.perf_counter(), time.process_time()
    score(real, fake)
    return time.perf_counter() - started, time.process_time() - cpu


def peak_megabytes() -> float:
    """Return the peak memory of this process. `ru_maxrss` would include that of its parent before the fork."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 1024


def memory(threads: int) -> float:
    """Return the peak memory of neighbour_quality above that of the features, in megabytes, in this process."""
    torch.set_num_threads(threads)
    real, fake = features()
    neighbour_quality(real[:500], fake[:500])  # the libraries' own buffers
    before = peak_megabytes()
    neighbour_quality(real, fake)
    return peak_megabytes() - before


def main(arguments: Sequence[str]) -> None:
    repeats, threads = (int(arguments[i]) if len(arguments) > i else default for i, default in enumerate((3, 2)))
    torch.set_num_threads(threads)
    real, fake = features()
    print(neighbour_quality(real, fake, K), prdc(real, fake), kernel_distance(real, fake))
    scores = {"neighbour_quality": neighbour_quality, "prdc": prdc, "FID": fid, "KID": kernel_distance}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in scores}
    for _ in range(repeats):
        for name, score in scores.items():
            times[name].append(seconds(score, real, fake))
    medians = {name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in times.items()}
    child = [sys.executable, __file__, "--memory", str(threads)]
    megabytes = float(subprocess.run(child, capture_output=True, text=True, check=True).stdout)
    print(f"{SAMPLES:,} x {DIMENSIONS}, {threads} threads, medians of {repeats}")
    for name, (clock, cpu) in medians.items():
        print(f"{name:<20}{clock:7.2f} s  processor {cpu:7.2f} s")
    clock, cpu = (theirs / ours for theirs, ours in zip(medians["prdc"], medians["neighbour_quality"], strict=True))
    print(f"prdc / neighbour_quality: {clock:.1f} by the clock, {cpu:.1f} by the processor")
    print(f"neighbour_quality takes {megabytes:.0f} MB above the features at its peak")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--memory"]:
        print(memory(int(sys.argv[2])))
    else:
        main(sys.argv[1:])
