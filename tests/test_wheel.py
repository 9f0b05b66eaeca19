"""The wheel finds its configs when unpacked elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

from conftest import ROOT

BUILD = "import hatchling.build, sys; print(hatchling.build.build_wheel(sys.argv[1]))"
SCRIPT = """
import sys
from ganlab.__main__ import main
from ganlab.config.conf_files import conf_dir

print(conf_dir(), flush=True)
sys.argv = ["ganlab", "--cfg", "job"]
main()
"""


def test_wheel_runs_away_from_the_checkout(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-c", BUILD, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    installed = tmp_path / "installed"
    with zipfile.ZipFile(tmp_path / built.stdout.split()[-1]) as wheel:
        wheel.extractall(installed)
    (tmp_path / "work").mkdir()

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"PYTHONPATH": str(installed)}
        command = [sys.executable, "-P", *arguments]
        return subprocess.run(command, cwd=tmp_path / "work", env=env, capture_output=True, text=True, check=False)

    script = run("-c", SCRIPT)
    assert script.stdout.startswith(f"{installed / 'ganlab' / 'conf'}\n")
    assert "batch_size" in script.stdout
    assert (installed / "hydra_plugins" / "ganlab_launcher" / "processes.py").is_file()
    done = run("-m", "ganlab", "tracker=none", "trainer=smoke")
    assert done.returncode == 0, done.stderr
    sweep = run("-m", "ganlab", "-m", "seed=0,1", "tracker=none", "trainer=smoke", "hydra.sweep.dir=sweep")
    assert sweep.returncode == 0, sweep.stderr
    page = (tmp_path / "work" / "sweep" / "leaderboard.html").read_text()
    assert "<style>" in page, "the page's own files are in the wheel"
