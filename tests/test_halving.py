"""Successive halving: decisions, their records in the folders, and real sweeps whose survivors equal single runs."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import make_run, results, save_config, wait_for_jobs
from fork_server import Forked
from omegaconf import OmegaConf
from test_compare import score

from ganlab.config import run_config
from ganlab.errors import CheckpointError, ConfigError, DataError
from ganlab.leaderboard.table import duration
from ganlab.runs.folder import read_result
from ganlab.sweeps.halving import Halving, Standing, rank
from ganlab.sweeps.plan import PlannedJob
from ganlab.sweeps.rungs import Rungs

Command = Callable[..., "subprocess.CompletedProcess[str]"]
Start = Callable[..., Forked | subprocess.Popen[str]]


# Decisions --------------------------------------------------------------------------------------------------


def test_configurations_rank_by_mean_score_and_ties_by_position() -> None:
    standings = [Standing((3.0, 1.0)), Standing((1.0, 1.0)), Standing((2.0,)), Standing((1.0,))]
    assert rank(standings, "lower") == [1, 3, 0, 2]
    assert rank(standings, "higher") == [0, 2, 1, 3]


def test_configurations_with_lost_seeds_rank_last() -> None:
    standings = [Standing((), 2), Standing((0.1,), 1), Standing((9.0, 9.0)), Standing((0.2, 0.2)), Standing((0.2,), 1)]
    assert rank(standings, "lower") == [3, 2, 1, 4, 0]
    assert rank(standings, "higher") == [2, 3, 4, 1, 0]


@pytest.mark.parametrize(("num", "factor", "expected"), [(9, 3, 3), (10, 3, 4), (1, 3, 1), (4, 2, 2), (5, 2.5, 2)])
def test_the_number_of_kept_configurations_is_rounded_up(num: int, factor: float, expected: int) -> None:
    assert Halving(factor, (0.5,), None).num_kept(num) == expected


def test_default_rungs_are_powers_of_the_factor() -> None:
    halving = Halving.read(4, None, None)
    assert halving is not None
    assert halving.rungs == (1 / 16, 1 / 4)
    assert Halving.read(None, None, None) is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((1, None, None), "hydra.launcher.halving=1: must be greater than or equal to 2 or null"),
        ((3, [0.3, 0.3], None), r"hydra.launcher.rungs=\[0.3, 0.3\]: must be in ascending order"),
        ((3, [0.5, 1.0], None), r"hydra.launcher.rungs\[1\]=1.0: must be less than 1"),
        ((3, [0.0], None), r"hydra.launcher.rungs\[0\]=0.0: must be greater than 0"),
        ((3, [], None), "hydra.launcher.rungs=.*: must have at least 1 item"),
        ((None, [0.5], None), "hydra.launcher.rungs=.*: needs halving; add hydra.launcher.halving="),
        ((None, None, "fid"), "hydra.launcher.metric=fid: needs halving; add hydra.launcher.halving="),
    ],
)
def test_invalid_halving_options_are_refused(given: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Halving.read(*given)


@pytest.mark.parametrize(("seconds", "expected"), [(7.46, "7.5 s"), (90, "1.5 min"), (9000, "2.5 h"), (0, "0.0 s")])
def test_durations_are_formatted_in_a_suitable_unit(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


# Decisions from folders -------------------------------------------------------------------------------------


class Sweep:
    """The folders of jobs: two seeds of each configuration, by default evaluated every 10 of 90 steps."""

    def __init__(self, folder: Path, num: int, *overrides: str) -> None:
        self.planned = []
        for job in range(2 * num):
            cfg = run_config.compose(
                ["tracker=none", f"seed={job % 2}", f"model.latent_dim={job // 2 + 1}", *overrides]
            )
            self.planned.append(PlannedJob(cfg, OmegaConf.create(), [], folder / str(job), "new"))

    def come(
        self,
        job: int,
        *curve: float,
        status: str = "stopped",
        every: int | None = 10,
        rungs: Sequence[dict[str, Any]] = (),
        **changes: Any,
    ) -> None:
        """Write a job's folder as after the evaluations in `curve`, keeping earlier decisions."""
        folder = self.planned[job].folder
        if not folder.exists():
            save_config(self.planned[job].config, folder)
        step = 90 if status == "done" else 10 * len(curve)
        records = [{"step": 10 * (i + 1), "epoch": 1.0, "fid": value} for i, value in enumerate(curve)]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        described = score(curve[-1]) | changes if curve else None
        facts = {"last_step": 90, "evaluate_every": every, "steps_per_second": 10.0, "id": "a", "seed": job % 2}
        facts |= {"config_hash": "a", "config_hashes": ["a"]}
        facts["rungs"] = list(rungs) or read_result(folder).get("rungs", [])
        facts |= {"status": status, "error": None, "dataset": None, "main_metric": "fid"}
        result = {"step": step, "best": described, **facts}
        (folder / "result.json").write_text(json.dumps(result | {"scores": {"fid": described} if curve else {}}))

    def halted(self) -> dict[int, str]:
        results = {int(p.folder.name): json.loads((p.folder / "result.json").read_text()) for p in self.planned}
        return {job: result["halted"] for job, result in results.items() if result.get("halted")}


def numbers(jobs: list[PlannedJob]) -> list[int]:
    return [int(job.folder.name) for job in jobs]


def test_a_sweep_goes_from_rung_to_rung(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sweep = Sweep(tmp_path, 4)
    rungs = Rungs(Halving(2, (0.1, 0.3), None), sweep.planned)
    rounds = rungs.rounds()
    jobs, until = next(rounds)
    assert (numbers(jobs), until) == (list(range(8)), 0.1)
    for job, value in enumerate([5.0, 5.0, 1.0, 2.0, 3.0, 3.0]):
        sweep.come(job, value)
    sweep.come(6, 0.5)
    sweep.come(7, status="diverged")  # the other seed is the best of all
    with caplog.at_level(logging.INFO):
        jobs, until = next(rounds)
    assert (numbers(jobs), until) == ([2, 3, 4, 5], 0.3)
    assert sweep.halted() == {
        **dict.fromkeys((0, 1), "after step 10 of 90, place 3 of 4 by fid"),
        6: "after step 10 of 90, place 4 of 4 by fid",
    }
    assert "2 of 4 configurations continue, 2 halted; best fid 1.5, at the cut 3" in caplog.text
    sweep.come(2, 1.0, 9.0, 9.0)
    sweep.come(3, 2.0, 9.0, 9.0)  # worse now, but ranked by its best score
    sweep.come(4, 3.0, 3.0, 2.0)
    sweep.come(5, 3.0, 3.0, 2.0)
    jobs, until = next(rounds)
    assert (numbers(jobs), until) == ([2, 3], None)
    assert sweep.halted()[4] == "after step 30 of 90, place 2 of 2 by fid"
    sweep.come(2, *[1.0] * 9, status="done")
    sweep.come(3, *[1.0] * 9, status="done")
    assert next(rounds, None) is None
    assert rungs.savings() == (
        "Halving: 5 of 8 runs halted; 360 of 720 steps not run (50 %), about 36.0 s of training at their speed"
    )


def test_an_interrupted_sweep_continues_at_its_rung(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, 2)
    for job, curve in enumerate([(1.0, 9.0), (1.0,), (2.0, 0.1), (2.0,)]):
        sweep.come(job, *curve)
    sweep.come(1, 1.0, status="running")  # was killed: it must resume before it can be scored
    rounds = Rungs(Halving(2, (0.1, 0.3), None), sweep.planned).rounds()
    assert numbers(next(rounds)[0]) == [1]
    sweep.come(1, 1.0)
    assert numbers(next(rounds)[0]) == [0, 1]  # ranked by the scores at the rung, not by later ones
    assert sorted(sweep.halted()) == [2, 3]
    sweep.come(0, 1.0, 9.0, status="diverged")  # decides nothing again, as the rung has been passed
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    again = Rungs(Halving(2, (0.1, 0.3), None), sweep.planned).rounds()
    assert [numbers(next(again)[0]) for _ in range(2)] == [[], [1]]
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")} == before


def test_a_run_that_diverges_at_its_rung_is_lost(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, 2)
    rounds = Rungs(Halving(2, (0.1,), None), sweep.planned).rounds()
    next(rounds)
    for job, value in enumerate([1.0, 1.0, 2.0, 2.0]):
        sweep.come(job, value, status="diverged" if job == 0 else "stopped")
    assert numbers(next(rounds)[0]) == [2, 3]
    assert sorted(sweep.halted()) == [1]


def test_recorded_decisions_outlive_later_changes_of_the_runs(tmp_path: Path) -> None:
    sweep, halving = Sweep(tmp_path, 2), Halving(2, (0.1, 0.5), None)
    for job, value in enumerate([1.0, 1.0, 2.0, 2.0]):
        sweep.come(job, value)
    rounds = Rungs(halving, sweep.planned).rounds()
    assert [numbers(next(rounds)[0]) for _ in range(2)] == [[], [0, 1]]
    verdicts = [read_result(p.folder)["rungs"] for p in sweep.planned]
    for job in (0, 1):  # rolled back, and rewrote its records
        sweep.come(job, 9.0, 9.0, 9.0, rungs=verdicts[job])
    again = Rungs(halving, sweep.planned).rounds()
    assert [numbers(next(again)[0]) for _ in range(2)] == [[], [0, 1]]
    assert sorted(sweep.halted()) == [2, 3]


@pytest.mark.parametrize(("status", "reason"), [("running", "another process is training it"), ("stopped", "stopped")])
def test_a_job_that_has_not_reached_its_rung_is_an_error(status: str, reason: str, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, 2)
    for job in range(4):
        sweep.come(job, 1.0)
    sweep.come(0, status=status)
    rounds = Rungs(Halving(2, (0.1,), None), sweep.planned).rounds()
    next(rounds)
    with pytest.raises(CheckpointError, match=f"/0: has not reached rung 0.1: .*{reason}"):
        next(rounds)
    assert not sweep.halted()


def test_ranking_a_whole_run_against_partial_ones_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sweep = Sweep(tmp_path, 2)
    for job in range(4):
        sweep.come(job, 1.0, status="done" if job == 0 else "stopped", every=None if job == 0 else 10)
    with caplog.at_level(logging.INFO):
        list(Rungs(Halving(2, (0.1,), None), sweep.planned).rounds())
    assert "rung 0.1: some runs are not evaluated between this rung and their end" in caplog.text
    assert "Rung 1 of 1, 0.111 to 1 of each run" in caplog.text


def test_incomparable_scores_are_refused_naming_both_runs(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, 2)
    for job in range(4):
        sweep.come(job, 1.0, num_fake=2000 if job < 3 else 500)
    rounds = Rungs(Halving(2, (0.1,), None), sweep.planned).rounds()
    next(rounds)
    with pytest.raises(DataError, match=r"num_fake is 2000 in one and 500 in another \(.*/0 and .*/3\)"):
        next(rounds)


def test_a_rung_without_scores_is_refused(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, 2)
    for job in range(4):
        sweep.come(job, 1.0)
    rounds = Rungs(Halving(2, (0.1,), "near"), sweep.planned).rounds()
    next(rounds)
    with pytest.raises(DataError, match=r"no run has a score of near at rung 0\.1"):
        next(rounds)


def test_a_rung_at_the_same_evaluation_as_the_one_before_is_skipped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sweep = Sweep(tmp_path, 4)
    for job in range(8):
        sweep.come(job, float(job))
    rounds = Rungs(Halving(2, (0.05, 0.1), None), sweep.planned).rounds()
    assert [numbers(jobs) for jobs, _ in rounds] == [[], [], [0, 1, 2, 3]]
    assert caplog.text.count("rung 0.1 is skipped") == 1


def test_a_rung_without_an_evaluation_before_the_end_halts_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sweep = Sweep(tmp_path, 2)
    rounds = Rungs(Halving(2, (0.5,), None), sweep.planned).rounds()
    next(rounds)
    for job in range(4):
        sweep.come(job, 1.0, status="done", every=None)
    assert [numbers(jobs) for jobs, _ in rounds] == [[]]
    assert "rung 0.5: some runs are not evaluated between this rung and their end" in caplog.text
    assert not sweep.halted()


def test_one_configuration_is_not_halved(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sweep = Sweep(tmp_path, 1)
    assert [(numbers(jobs), until) for jobs, until in Rungs(Halving(2, (0.5,), None), sweep.planned).rounds()] == [
        ([0, 1], None)
    ]
    assert "halving needs at least two" in caplog.text


@pytest.mark.parametrize(
    ("overrides", "metric", "message"),
    [
        (["metrics=none"], None, "hydra.launcher.halving=2: needs scores"),
        ([], "fid", "hydra.launcher.metric=fid: must be one of sliced_wasserstein, near"),
        (["metrics.names=[near]"], "distance", "hydra.launcher.metric=distance: must be one of near"),
        (["metrics.names=[near]"], None, "hydra.launcher.metric=null: must be one of near; no main metric"),
        (["dataset=ring8"], "near", "hydra.launcher.metric=near: must be one of sliced_wasserstein, modes"),
        (["dataset=digits", "model=dcgan_small"], "inception_score", None),
    ],
)
def test_an_unmeasured_metric_is_refused(
    overrides: list[str], metric: str | None, message: str | None, tmp_path: Path
) -> None:
    sweep = Sweep(tmp_path, 1, *overrides)
    if message is None:
        Rungs(Halving(2, (0.5,), metric), sweep.planned)
        return
    with pytest.raises(ConfigError, match=message):
        Rungs(Halving(2, (0.5,), metric), sweep.planned)


# Real sweeps ------------------------------------------------------------------------------------------------

RUN = (  # evaluated every 10 of 90 steps
    *("trainer.steps=90", "trainer.evaluate_every=0.16", "trainer.log_every=0.08", "trainer.sample_every=null"),
    *("trainer.checkpoint_every=null", "metrics=default", "metrics.num=50", "metrics.num_real=50"),
)


def by_number(sweep: Path) -> dict[int, dict[str, Any]]:
    return {int(job): result for job, result in results(sweep).items()}


def ends(sweep: Path) -> dict[int, tuple[str, int]]:
    return {job: (result["status"], result["step"]) for job, result in by_number(sweep).items()}


def records(sweep: Path) -> dict[int, bytes]:
    return {int(file.parent.name): file.read_bytes() for file in sorted(sweep.glob("*/metrics.jsonl"))}


WILD = """
from hydra.core.hydra_config import HydraConfig
from ganlab.losses import NonSaturating

class Wild(NonSaturating):
    def generator(self, real, fake):
        wild = {"optimizer.generator.lr=1e-05", "seed=1"} <= set(HydraConfig.get().overrides.task)
        return super().generator(real, fake) * (float("inf") if wild else 1)
"""


def test_survivors_equal_single_runs_and_halted_runs_can_continue(ganlab: Command, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(WILD)
    lrs = ("1e-9", "1e-2", "1e-3", "1e-5")
    grid = (f"optimizer.generator.lr={','.join(lrs)}", "seed=0,1", "loss._target_=own.Wild")
    command = ("-m", "tracker=none", *RUN, *grid, "sweep_dir=sweep", "hydra.launcher.jobs=2")
    halved = (*command, "hydra.launcher.halving=2", "hydra.launcher.rungs=[0.1,0.4]")
    done, sweep = ganlab(*halved), tmp_path / "sweep"
    assert done.returncode == 3, done.stderr  # the exit code of the diverged job, which is listed
    assert [line.split()[2] for line in done.stderr.splitlines() if line.startswith("ganlab: job")] == ["7"]
    *kept, halted = order(sweep, (0, 1, 2), until=10)
    best = order(sweep, kept, until=40)[0]
    fate = dict.fromkeys(range(6), ("stopped", 40)) | {6: ("stopped", 10), 7: ends(sweep)[7]}
    fate |= {2 * halted + seed: ("stopped", 10) for seed in (0, 1)} | {2 * best + seed: ("done", 90) for seed in (0, 1)}
    assert ends(sweep) == fate
    assert by_number(sweep)[2 * halted]["halted"] == "after step 10 of 90, place 3 of 4 by sliced_wasserstein"
    assert len(re.findall("2 of 4 configurations continue|1 of 2 configurations continue", done.stdout)) == 2
    assert re.search(r"5 of 8 runs halted; 340 of 720 steps not run \(47 %\), about [0-9.]+ s", done.stdout)
    assert "5 runs halted early: not ranked" in done.stdout
    alone = make_run(tmp_path / "alone", *RUN, f"optimizer.generator.lr={lrs[best]}", "seed=1")
    assert records(sweep)[2 * best + 1] == (alone / "metrics.jsonl").read_bytes()

    before = records(sweep)
    again = ganlab(*halved)
    assert "0 new, 0 interrupted, 2 done, 5 halted, 1 diverged" in again.stdout
    assert not re.search(r"#\d+ \w+, ", again.stdout)  # nothing was run
    assert (records(sweep), again.returncode) == (before, 3)

    ganlab(*command)
    assert {job: end for job, end in ends(sweep).items() if job < 6} == dict.fromkeys(range(6), ("done", 90))
    assert not any(result["halted"] for result in results(sweep).values())
    alone = make_run(tmp_path / "halted", *RUN, f"optimizer.generator.lr={lrs[halted]}", "seed=1")
    assert records(sweep)[2 * halted + 1] == (alone / "metrics.jsonl").read_bytes()


def order(sweep: Path, configurations: Sequence[int], until: int) -> list[int]:
    """Return configurations of two seeds, sorted by the mean of their best scores so far."""
    scores = {
        job: [
            r["sliced_wasserstein"]
            for r in map(json.loads, lines.splitlines())
            if r["step"] in range(10, until + 1, 10)
        ]
        for job, lines in records(sweep).items()
    }
    return sorted(configurations, key=lambda number: min(scores[2 * number]) + min(scores[2 * number + 1]))


def test_a_killed_sweep_makes_the_same_decisions_when_continued(ganlab: Command, start: Start, tmp_path: Path) -> None:
    run = (*RUN, "trainer.steps=300", "trainer.evaluate_every=0.5")  # every 31 steps
    grid = ("optimizer.generator.lr=1e-2,1e-3,1e-9", "seed=0,1", "hydra.launcher.halving=2")
    command = ("-m", "tracker=none", *run, *grid, "hydra.launcher.rungs=[0.1,0.3]")
    whole = ganlab(*command, "sweep_dir=whole", "hydra.launcher.jobs=2")
    assert whole.returncode == 0, whole.stderr

    sweep = tmp_path / "sweep"
    for step in (10, 50):  # before the first rung, and after it
        process = start(*command, "sweep_dir=sweep")
        while not any(result.get("step", 0) >= step for result in results(sweep).values()):
            assert process.poll() is None
            time.sleep(0.02)
        process.kill()  # only the launcher: its job notices, saves and stops
        process.communicate(timeout=60)
        wait_for_jobs(sweep)
    done = ganlab(*command, "sweep_dir=sweep")
    assert (done.returncode, done.stderr) == (0, "")
    assert (ends(sweep), records(sweep)) == (ends(tmp_path / "whole"), records(tmp_path / "whole"))
    mine, theirs = (results(folder).values() for folder in (sweep, tmp_path / "whole"))
    assert [r["halted"] for r in mine] == [r["halted"] for r in theirs]
    assert done.stdout.splitlines()[-1].startswith("lost: ")


def test_halving_is_refused_before_any_job(ganlab: Command, tmp_path: Path) -> None:
    for arguments, message in {
        ("hydra.launcher.halving=1",): "hydra.launcher.halving=1: must be greater than or equal to 2 or null",
        (
            "hydra.launcher.halving=3",
            "hydra.launcher.rungs=0.5",
        ): "hydra.launcher.rungs=0.5: must be a list, like [0.5] or null",
        ("hydra.launcher.halving=3", "metrics=none"): "hydra.launcher.halving=3: needs scores to rank by",
        ("hydra/launcher=basic", "hydra.launcher.halving=3"): "hydra.launcher.halving=3: no such key",
    }.items():
        done = ganlab("-m", "tracker=none", "trainer.steps=2", "model.latent_dim=2,3", *arguments, "sweep_dir=sweep")
        assert (done.returncode, message in done.stderr, done.stderr.count("\n")) == (2, True, 1)
        assert not list(tmp_path.glob("sweep/*/"))


def test_optuna_receives_the_best_score_of_a_halted_run(ganlab: Command, tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    optuna = ("hydra/sweeper=optuna", "hydra.sweeper.n_trials=3", "hydra.sweeper.n_jobs=3")
    lr = "optimizer.generator.lr=interval(1e-9,1e-2)"
    done = ganlab("-m", "tracker=none", *RUN, lr, *optuna, "hydra.launcher.halving=3", "sweep_dir=sweep")
    assert done.returncode == 0, done.stderr
    assert sorted(ends(tmp_path / "sweep").values()) == [("done", 90), ("stopped", 10), ("stopped", 10)]
