"""Resources of the launcher in a long sweep: file descriptors, threads and memory must not grow with the jobs.

    python tests/benchmarks/sweep_resources.py [jobs] [overrides]

Runs a sweep of short jobs (default 300), two at a time, and prints the three numbers from /proc after 1, 100, 200, ...
jobs and after the last one, before the leaderboard is written.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

SHORT = (
    "tracker=none",
    "metrics=none",
    "trainer.steps=2",
    "trainer.sample_every=null",
    "trainer.checkpoint_every=null",
)


def resources(pid: int) -> str:
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    descriptors = len(os.listdir(f"/proc/{pid}/fd"))
    return f"{descriptors:12d}{int(status['Threads']):9d}{int(status['VmRSS'].split()[0]) / 1024:12.1f}"


def main(num_jobs: int, overrides: Sequence[str]) -> None:
    sweep = ("-m", *SHORT, "hydra.launcher.jobs=2", f"seed=range({num_jobs})", "hydra.sweep.dir=sweep", *overrides)
    print(f"{'jobs':>5}{'descriptors':>12}{'threads':>9}{'VmRSS, MiB':>12}{'seconds':>10}")
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "ganlab", *sweep]
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
        assert process.stdout
        for line in process.stdout:
            ended = re.search(rf"\((\d+) of {num_jobs}\)", line)
            if ended and (ended[1] in ("1", str(num_jobs)) or ended[1].endswith("00")):
                print(f"{ended[1]:>5}{resources(process.pid)}{time.monotonic() - started:10.0f}", flush=True)
        sys.exit(process.wait())


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300, sys.argv[2:])
