"""A sweep that is broken off, however, and started again is the sweep that was never broken off."""

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pandas as pd
import pytest
import xarray as xr
from omegaconf import OmegaConf

from callbacks.analysis import AnalysisCallback
from rnnlab.runs import open_run
from tests.test_train import LOOKS, SMALL, cli, start, weights  # noqa: F401

COMMON = (*SMALL, "trainer=cpu", "logger=none", "trainer.enable_progress_bar=false")
PLAIN = ("-m", *COMMON, "callbacks=none", "trainer.max_epochs=2")
# looks, checkpoints that lag behind them, and an early end
BROKEN = (
    "-m",
    *COMMON,
    *LOOKS,
    "callbacks=bifurcation",
    "checkpoint.every=2",
    "trainer.max_epochs=7",
    "model=lstm,ornn",
    "seed=1,2",
)
STOP = (
    "+callbacks.stop._target_=pytorch_lightning.callbacks.EarlyStopping",
    "+callbacks.stop.monitor=train/loss",
    "+callbacks.stop.mode=max",  # which it is not for long
    "+callbacks.stop.patience=3",
)


def jobs(sweep: Path) -> dict[str, Path]:
    """The jobs that have left a config, by what their directory is called."""
    return {path.parent.name: path.parent for path in sorted(sweep.glob("*/config.yaml"))}


def status(job: Path) -> dict:
    return json.loads((job / "status.json").read_text())


def ledger(sweep: Path) -> dict[int, str]:
    entries = [json.loads(path.read_text()) for path in (sweep / "jobs").glob("*.json")]
    return {entry["job"]: entry["state"] for entry in entries}


def results(sweep: Path) -> dict:
    """All that a sweep has found, in comparable form."""
    found: dict = {"table": (sweep / "table.csv").read_text()}
    for name, job in jobs(sweep).items():
        run = open_run(job)
        looks = {analysis: run.analysis(analysis).load() for analysis in run.store.names}
        figures = sorted(path.name for path in (job / "figures").glob("*.png"))
        found[name] = (
            (job / "metrics.csv").read_text(),
            status(job)["best"],
            figures,
            looks,
            {key: value.tolist() for key, value in weights(job).items()},
        )
    return found


def assert_equal(ours: Path, theirs: Path) -> None:
    one, other = results(ours), results(theirs)
    assert one.keys() == other.keys()
    assert one.pop("table") == other.pop("table")
    for name in one:
        *numbers, looks, values = one[name]
        *their_numbers, their_looks, their_values = other[name]
        assert numbers == their_numbers, name
        assert values == their_values, name
        assert looks.keys() == their_looks.keys()
        for analysis in looks:
            xr.testing.assert_identical(looks[analysis], their_looks[analysis])


def finish(*arguments: str, cwd: Path) -> str:
    process = start(*arguments, cwd=cwd)
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    return output


def kill(process: subprocess.Popen) -> str:
    os.killpg(process.pid, signal.SIGKILL)
    return process.communicate(timeout=60)[0]


def wait_for(condition, process: subprocess.Popen, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("unbroken")
    finish(*BROKEN, *STOP, "hydra.sweep.dir=whole", cwd=place)
    return place / "whole"


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_a_sweep_killed_at_random_moments_ends_as_an_unbroken_one(tmp_path, unbroken, launcher):
    engine = (f"launcher={launcher}", *(("hydra.launcher.n_jobs=2",) if launcher == "joblib" else ()))
    command = (*BROKEN, *STOP, *engine, "hydra.sweep.dir=parts")
    parts = tmp_path / "parts"
    chance = random.Random(launcher)
    kills = 0
    for part in range(5):
        process = start(*command, cwd=tmp_path, start_new_session=True)
        if part == 0:  # as soon as there is anything of a job's own, which no checkpoint covers yet
            wait_for(lambda: any(parts.glob("*/metrics.csv")), process)
            assert not any(parts.glob("*/checkpoints/last.ckpt"))
        else:
            wait_for(lambda: "running" in ledger(parts).values(), process)
            time.sleep(chance.uniform(0, 2.5))
        kills += process.poll() is None
        kill(process)
    assert kills >= 2
    finish(*command, cwd=tmp_path)
    assert_equal(unbroken, parts)
    assert {status(job)["state"] for job in jobs(parts).values()} == {"finished"}


def test_the_unbroken_one_has_looks_and_jobs_that_end_early(tmp_path, cli, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    command = (*BROKEN, *STOP, "seed=1", "model=lstm")
    assert cli(*command, "hydra.sweep.dir=whole")[0] == 0
    (job,) = jobs(tmp_path / "whole").values()
    assert len(pd.read_csv(job / "metrics.csv")) == 5  # epoch zero, the first, and three that were no better
    # killed where training has been stopped, but not yet looked at
    look = AnalysisCallback.on_train_end

    def killed(*_):
        raise SystemExit(137)

    monkeypatch.setattr(AnalysisCallback, "on_train_end", killed)
    assert cli(*command, "hydra.sweep.dir=parts")[0] == 137
    monkeypatch.setattr(AnalysisCallback, "on_train_end", look)
    assert cli(*command, "hydra.sweep.dir=parts")[0] == 0
    assert_equal(tmp_path / "whole", tmp_path / "parts")


def test_the_same_command_again_does_nothing_twice(cli, tmp_path):  # noqa: F811
    command = (*PLAIN, "model=lstm,ornn")
    assert cli(*command, "seed=1")[0] == 0
    (sweep,) = (tmp_path / "sweeps").iterdir()
    first = jobs(sweep)
    before = {path: path.read_bytes() for job in first.values() for path in job.rglob("*") if path.is_file()}
    code, _, err = cli(
        "-m", "model=lstm,ornn", "seed=1", *PLAIN[1:], "threads=2", "logger=none", "launcher=basic"
    )
    assert code == 0, err
    assert "2 of 2 jobs done, 2 done before" in err
    assert [*(tmp_path / "sweeps").iterdir()] == [sweep]
    after = {path: path.read_bytes() for job in first.values() for path in job.rglob("*") if path.is_file()}
    assert after.keys() == before.keys()
    assert {path.name for path in after if after[path] != before[path]} == {"log.txt"}


def test_a_sweep_can_be_made_larger(cli, tmp_path):  # noqa: F811
    assert cli(*PLAIN, "model=lstm", "seed=1,2", "hydra.sweep.dir=all")[0] == 0
    first = {name: status(job)["started"] for name, job in jobs(tmp_path / "all").items()}
    code, _, err = cli(*PLAIN, "seed=3,2,1", "model=ornn,lstm", "hydra.sweep.dir=all")
    assert code == 0, err
    now = jobs(tmp_path / "all")
    assert len(now) == 6
    assert {name: status(now[name])["started"] for name in first} == first
    assert sorted(ledger(tmp_path / "all").values()) == ["finished"] * 4 + ["skipped"] * 2


def test_what_failed_is_tried_again(cli, tmp_path):  # noqa: F811
    command = (*PLAIN, "optim.clip_norm=0.25,0", "hydra.sweep.dir=all")
    for _ in range(2):
        code, _, err = cli(*command)
        assert code == 1
        assert err.splitlines()[-1].startswith("error: job 1 (optim.clip_norm=0): ")
        assert ledger(tmp_path / "all")[1] == "failed"
    states = {
        OmegaConf.load(job / "config.yaml").optim.clip_norm: job for job in jobs(tmp_path / "all").values()
    }
    assert status(states[0])["state"] == "failed"
    assert "clip_norm=0 is not possible" in status(states[0])["error"]
    assert status(states[0])["overrides"][-1] == "optim.clip_norm=0"
    assert status(states[0.25])["state"] == "finished"


def test_half_a_status_is_none(cli, tmp_path):  # noqa: F811
    command = (*PLAIN, "seed=1,2", "hydra.sweep.dir=all")
    assert cli(*command)[0] == 0
    one, two = jobs(tmp_path / "all").values()
    whole = (tmp_path / "all" / "table.csv").read_text(), (one / "metrics.csv").read_text()
    text = (one / "status.json").read_text()
    (one / "status.json").write_text(text[: len(text) // 2])
    (two / "report.html").unlink()  # killed between its last number and its page
    code, _, err = cli(*command)
    assert code == 0, err
    assert ledger(tmp_path / "all") == {0: "finished", 1: "skipped"}
    assert ((tmp_path / "all" / "table.csv").read_text(), (one / "metrics.csv").read_text()) == whole
    assert status(one)["best"] is not None
    assert (two / "report.html").is_file()


@pytest.mark.parametrize("subdir", [(), ("hydra.sweep.subdir=${hydra:job.num}",)], ids=["hash", "number"])
def test_another_run_in_the_place_of_a_job_is_left_alone(cli, tmp_path, subdir):  # noqa: F811
    command = (*PLAIN, *subdir, "hydra.sweep.dir=all")
    assert cli(*command, "seed=1")[0] == 0
    (job,) = jobs(tmp_path / "all").values()
    config = OmegaConf.load(job / "config.yaml")
    config.optim.clip_norm = 7.0
    OmegaConf.save(config, job / "config.yaml")
    before = {path: path.read_bytes() for path in job.rglob("*") if path.is_file() and path.name != "log.txt"}
    code, _, err = cli(*command, "seed=1,2")
    assert code == 1
    assert f"run_dir={job} holds another run: give another run_dir" in err
    after = {path: path.read_bytes() for path in job.rglob("*") if path.is_file() and path.name != "log.txt"}
    assert after == before
    assert len(jobs(tmp_path / "all")) == 2


def test_two_starts_from_other_checkpoints_are_two_jobs(cli, tmp_path):  # noqa: F811
    for seed in (1, 2):
        arguments = ("callbacks=none", "trainer.max_epochs=1", f"run_dir=r{seed}", f"seed={seed}")
        assert cli(*COMMON, *arguments)[0] == 0
    command = (*PLAIN, "ckpt_path=r1/checkpoints/last.ckpt,r2/checkpoints/last.ckpt", "hydra.sweep.dir=all")
    assert cli(*command)[0] == 0
    assert ledger(tmp_path / "all") == {0: "finished", 1: "finished"}
    assert len({status(job)["best"] for job in jobs(tmp_path / "all").values()}) == 2
    assert cli(*command)[0] == 0
    assert ledger(tmp_path / "all") == {0: "skipped", 1: "skipped"}


@pytest.mark.slow
def test_a_second_command_at_the_same_sweep_is_refused_and_harms_nothing(tmp_path):
    command = (*PLAIN, "trainer.max_epochs=60", "seed=1,2", "hydra.sweep.dir=all")
    first = start(*command, cwd=tmp_path)
    wait_for(lambda: "running" in ledger(tmp_path / "all").values(), first)
    second = start(*command, "model=ornn", cwd=tmp_path)
    said = second.communicate(timeout=300)[0]
    assert second.returncode == 1
    assert said.startswith("error: all is being worked at by another command (process ")
    assert said.count("\n") == 1
    output = first.communicate(timeout=300)[0]
    assert first.returncode == 0, output
    assert ledger(tmp_path / "all") == {0: "finished", 1: "finished"}
    assert len(jobs(tmp_path / "all")) == 2


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", "joblib"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_sweep_that_is_told_to_stop_leaves_no_process_and_says_how_to_go_on(tmp_path, launcher, number):
    command = (
        *PLAIN,
        "trainer.max_epochs=100000",
        "seed=1,2,3",
        f"launcher={launcher}",
        "hydra.sweep.dir=all",
    )
    process = start(*command, cwd=tmp_path, start_new_session=True)
    wait_for(lambda: any((tmp_path / "all").glob("*/checkpoints/last.ckpt")), process)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does
    else:
        process.send_signal(number)
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 128 + number, output
    assert "the sweep has not ended; the same command goes on with it" in output
    assert "Traceback" not in output
    assert "stopped" in {status(job)["state"] for job in jobs(tmp_path / "all").values()}
    assert living(process.pid) == []


def living(session: int) -> list[int]:
    """Processes of a session that are no zombies, after a moment to end."""
    for _ in range(50):
        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                state, _, _, its = path.read_text().rpartition(")")[2].split()[:4]
            except OSError:
                continue
            if int(its) == session and state != "Z":
                found.append(int(path.parent.name))
        if not found:
            break
        time.sleep(0.1)
    return found
