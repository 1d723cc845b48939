"""`python -m rnnlab.runs`, over directories written by hand."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from rnnlab.ledger import Ledger
from rnnlab.plaintext import facts, layout
from rnnlab.store import Store
from rnnlab.terminal import main, reproduce
from tests.test_sweeps import make_ensemble, make_job

ROOT = Path(__file__).parents[1]


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Two models, two lengths, two seeds; the accuracy of job i is i / 10, in its second epoch."""
    root = tmp_path / "sweep"
    jobs = [
        (cell, length, seed) for cell in ("LSTM", "Orthogonal") for length in (50, 100) for seed in (1, 2)
    ]
    for i, (cell, length, seed) in enumerate(jobs):
        job = make_job(root / f"job{7 - i}", [0.0, i / 10], cell=cell, length=length, seed=seed)
        status = json.loads((job / "status.json").read_text())
        overrides = [f"model={cell.lower()}", f"task.length={length}", f"seed={seed}", "launcher=joblib"]
        status |= {"command": "train.py -m x=1,2 hydra.sweep.dir=s", "overrides": overrides, "job": i}
        if i == 3:
            status |= {"state": "failed", "error": "ValueError: lr=-1 is not possible\nmore"}
            (job / "log.txt").write_text("...")
        (job / "status.json").write_text(json.dumps(status))
        Ledger(root).write(i, run=job.name, state="finished", overrides=overrides)
    return root


def run(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> str:
    assert main([str(argument) for argument in arguments]) == code
    captured = capsys.readouterr()
    if code:
        assert captured.out == ""
        assert captured.err.count("\n") == 1
        return captured.err
    assert captured.err == ""
    return captured.out


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_ls_has_a_line_for_each_run_in_the_order_of_parameters(
    sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = rows(run(capsys, "ls", sweep))
    assert lines[0] == ["job", "model", "length", "seed", "state", "best", "at", "epochs", "time"]
    assert [line[0] for line in lines[1:]] == [f"job{i}" for i in range(7, -1, -1)]
    assert lines[4] == ["job4", "LSTM", "100", "2", "failed", "0.3", "2", "2", "1m05s"]


def test_ls_sorts(sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def jobs(*arguments: object) -> list[str]:
        return [line[0] for line in rows(run(capsys, "ls", *arguments))[1:]]

    up = [f"job{i}" for i in range(8)]
    assert jobs(sweep, "--sort", "best") == up  # the highest first: it is to be maximised
    assert jobs(sweep, "--sort", "best", "--reverse") == up[::-1]
    reached = ["--monitor", "train/accuracy", "--mode", "min"]  # 0.1 in the first epoch of all
    assert jobs(sweep, "--sort", "best", *reached) == up[::-1]  # equal: in the order of parameters
    assert jobs(sweep, "--sort", "job") == up
    assert jobs(sweep, "--sort", "seed")[:4] == ["job7", "job5", "job3", "job1"]
    empty = make_job(tmp_path / "other", None, length=50, seed=9)
    assert jobs(sweep, empty, "--sort", "best")[-1].endswith("other")  # what has no value comes last


def test_ls_filters(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def jobs(*conditions: str) -> set[str]:
        given = [word for condition in conditions for word in ("--where", condition)]
        return {line[0] for line in rows(run(capsys, "ls", sweep, *given))[1:]}

    assert jobs("model=lstm") == {"job7", "job6", "job5", "job4"}
    assert jobs("model=LSTM", "seed=2") == {"job6", "job4"}
    assert jobs("task.length=1e2") == {"job5", "job4", "job1", "job0"}
    assert jobs("seed=1,2", "state=failed") == {"job4"}
    assert "none of 8 runs has seed=3" in run(capsys, "ls", sweep, "--where", "seed=3", code=1)
    said = run(capsys, "ls", sweep, "--where", "lenght=3", code=1)
    assert said == "error: lenght is not known of these runs: there is length.\n"
    assert "give KEY=VALUE" in run(capsys, "ls", sweep, "--where", "seed", code=1)


def test_json_says_the_same(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(run(capsys, "ls", sweep, "--json", "--where", "seed=1"))
    assert [entry["job"] for entry in found] == ["job7", "job5", "job3", "job1"]
    assert found[1] == {
        "job": "job5",
        "model": "LSTM",
        "length": 100,
        "seed": 1,
        "state": "finished",
        "best": 0.2,
        "best_epoch": 2.0,
        "epochs": 2.0,
        "seconds": 65.0,
        "path": str(sweep / "job5"),
        "error": None,
    }
    (sweep / "job5" / "metrics.csv").unlink()
    (missing,) = json.loads(run(capsys, "ls", sweep, "--json", "--where", "job=job5"))
    assert missing["best"] is None


def test_best_is_the_best_and_how_to_make_it_again(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = run(capsys, "best", sweep)
    said = dict(line.split(maxsplit=1) for line in text.splitlines())
    assert (said["job"], said["best"], said["at"], said["model"]) == ("job0", "0.7", "2", "Orthogonal")
    assert said["path"] == str(sweep / "job0")
    assert said["again"] == "python train.py model=orthogonal task.length=100 seed=2"
    both = run(capsys, "best", sweep, "--by", "model")
    assert [line[0] for line in rows(both)[1:3]] == ["job4", "job0"]
    assert f"{sweep / 'job4'}\n  python train.py model=lstm task.length=100 seed=2" in both
    every = json.loads(run(capsys, "best", sweep, "--by", "all", "--json"))
    assert {(entry["model"], entry["length"], entry["best"]) for entry in every} == {
        ("LSTM", 50, 0.1),
        ("LSTM", 100, 0.3),
        ("Orthogonal", 50, 0.5),
        ("Orthogonal", 100, 0.7),
    }
    assert "size is not known" in run(capsys, "best", sweep, "--by", "size", code=1)


def test_the_best_of_what_is_minimised_is_the_lowest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i, values in enumerate([[0.5, 0.2], [0.4, 0.125], [0.9]]):
        make_job(tmp_path / str(i), values, checkpoint=("val/accuracy", "min"), seed=i)
    (best,) = json.loads(run(capsys, "best", tmp_path, "--json"))
    assert (best["job"], best["best"]) == ("1", 0.125)


def test_runs_that_monitor_different_numbers_are_listed_and_not_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_job(tmp_path / "0", [0.5])
    make_job(tmp_path / "1", [0.5], checkpoint=("train/accuracy", "min"))
    assert "monitor" in rows(run(capsys, "ls", tmp_path))[0]
    said = run(capsys, "best", tmp_path, code=1)
    assert "0 val/accuracy (max), 1 train/accuracy (min)" in said
    assert "give --monitor NAME" in said
    make_job(tmp_path / "s" / "0", None)
    assert "none of 1 runs has a value" in run(capsys, "best", tmp_path / "s", code=1)


def test_show_tells_what_is_known_of_a_run(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = sweep / "job4"
    store = Store(folder / "analysis.zarr")
    for epoch in (10, 30):
        store.append("lyapunov", xr.Dataset({"y": ("mode", [1.0])}), epoch=epoch)
    (folder / "checkpoints").mkdir()
    for name in ("best", "last", "epoch_000010"):
        (folder / "checkpoints" / f"{name}.ckpt").touch()
    text = run(capsys, "show", folder)
    for fact in (
        "state        failed",
        "error        ValueError: lr=-1 is not possible\n",
        "monitor      val/accuracy (max)",
        "best         0.3",
        "timings      training: 1m00s\n             page: 5.0s",
        "analyses     lyapunov: 2 looks, the last at epoch 30",
        "checkpoints  best, epoch_000010, last",
        f"log          {folder / 'log.txt'}",
        "again        python train.py model=lstm task.length=100 seed=2",
    ):
        assert fact in text
    found = json.loads(run(capsys, "show", folder, "--json"))
    assert (found["best"], found["epochs"], found["problems"]) == (0.3, 2, [])


def test_show_tells_what_is_known_of_a_sweep(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Store(sweep / "job4" / "analysis.zarr").append("lyapunov", xr.Dataset({"y": 1.0}), epoch=1)
    (sweep / "job9").mkdir()
    (sweep / "job9" / "config.yaml").write_text("a: [")
    text = run(capsys, "show", sweep)
    for fact in (
        "runs        8",
        "states      finished: 7\n            failed: 1",
        "monitor     val/accuracy (max)",
        "parameters  model: LSTM, Orthogonal\n            length: 50, 100",
        "seed        1, 2",
        "time        8m40s",
        "analyses    lyapunov: 1 runs",
        f"errors      ValueError: lr=-1 is not possible: job4\nlogs        {sweep / 'job4' / 'log.txt'}",
        "problems    job9: config.yaml could not be read",
    ):
        assert fact in text
    table = rows(text.split("\n\n")[1])
    assert table[0][:7] == ["model", "length", "mean", "sd", "min", "max", "seeds"]
    assert table[1][:3] == ["LSTM", "50", "0.05"]
    found = json.loads(run(capsys, "show", sweep, "--json"))
    assert found["summary"][3]["mean"] == pytest.approx(0.65)
    assert "problem: job9: config.yaml could not be read" in run(capsys, "ls", sweep)


def test_members_have_lines_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_ensemble(
        tmp_path / "s" / "0", np.array([[3.0, 4.0], [2.0, np.nan]]), np.array([[1, 1], [1, 0]])
    )
    lines = rows(run(capsys, "ls", folder.parent))
    assert [line[1:5] for line in lines] == [
        ["member", "seed", "state", "best"],
        ["0", "3", "finished", "2"],
        ["1", "4", "diverged", "4"],
    ]
    assert "best      2, 4" in run(capsys, "show", folder)


def test_a_table_is_as_wide_as_the_screen(
    sweep: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    wide = run(capsys, "ls", sweep)
    for i in range(8):
        (sweep / f"job{i}").rename(sweep / f"a_very_long_name_of_a_directory_{i}")
        Ledger(sweep).write(7 - i, run=f"a_very_long_name_of_a_directory_{i}")
    for columns in (100, 80, 60, 40, 20):
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
        lines = run(capsys, "ls", sweep).splitlines()
        assert max(map(len, lines)) <= columns
        if columns >= 60:
            assert [line.split()[0][-2:] for line in lines[1:9]] == [f"_{i}" for i in range(7, -1, -1)]
    assert max(map(len, wide.splitlines())) < 100


def test_columns_that_are_left_out_are_named() -> None:
    frame = pd.DataFrame({"job": ["abcdefghij"], "a": [1.5], "b": ["long text"], "best": [0.25]})
    assert layout(frame, None).splitlines() == [
        "job           a  b          best",
        "abcdefghij  1.5  long text  0.25",
    ]
    assert layout(frame, 28).splitlines()[1] == "abc~hij  1.5  long~ext  0.25"  # as wide as that
    narrow = ["job          a  best", "abcd~ghij  1.5  0.25", "not shown: b"]
    assert layout(frame, 20, spare=["a", "b"]).splitlines() == narrow
    assert layout(frame, 15, spare=["a", "b"]).splitlines()[-1] == "not shown: a, b"


def test_long_lists_are_cut() -> None:
    line = facts({"lr": list(range(50))})
    assert line == f"lr  {', '.join(map(str, range(20)))}, 30 more"


def test_piped_it_is_plain_ascii(tmp_path: Path) -> None:
    for i, word in enumerate(("ω", "omega")):
        make_job(tmp_path / str(i), [0.5], other={"word": word})
    command = [sys.executable, "-m", "rnnlab.runs", "ls", str(tmp_path)]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, timeout=60).stdout
    assert output.isascii()
    assert b" ? " in output


def test_a_reader_that_leaves_is_no_error(sweep: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as closed:
        command = [sys.executable, "-m", "rnnlab.runs", "ls", str(sweep)]
        done = subprocess.run(
            command, cwd=ROOT, stdout=closed, stderr=subprocess.PIPE, timeout=60, check=False
        )
    assert (done.returncode, done.stderr) == (1, b"")


def test_errors_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("ls", "best", "show"):
        assert "nowhere is not there" in run(capsys, command, tmp_path / "nowhere", code=1)
        assert "holds no run and no sweep" in run(capsys, command, tmp_path, code=1)
    make_job(tmp_path / "0", [0.5])
    assert "give both" in run(capsys, "ls", tmp_path, "--monitor", "x", code=1)
    assert "monitor=x is not possible" in run(
        capsys, "ls", tmp_path, "--monitor", "x", "--mode", "min", code=1
    )


@pytest.mark.parametrize(
    ("status", "command"),
    [
        ({"command": "train.py model=lstm seed=2 run_dir=runs/x"}, "python train.py model=lstm seed=2"),
        (
            {"command": "/usr/bin/rnnlab-train 'task.first=[1, 2]'"},
            "/usr/bin/rnnlab-train 'task.first=[1, 2]'",
        ),
        ({"command": "train.py run_dir=runs/x ckpt_path=last"}, None),
        ({"command": "train.py -m seed=1,2"}, None),  # which of them is not on record
        ({}, None),
        ({"overrides": ["x=a b", "hydra.sweep.dir=d"], "command": "/p/my.py -m"}, "python /p/my.py 'x=a b'"),
        ({"overrides": ["x=1"], "command": "-m x=1"}, "python train.py x=1"),  # a worker's own
    ],
)
def test_the_command_that_makes_a_run_again(status: dict[str, object], command: str | None) -> None:
    found = reproduce(status)
    assert found == command
    assert found is None or shlex.split(found)


def test_a_list_loads_neither_torch_nor_hydra_nor_zarr(sweep: Path) -> None:
    program = (
        "import sys; from rnnlab.terminal import main; main(['ls', sys.argv[1]]);"
        "main(['best', sys.argv[1]]);"
        "print(*({'torch', 'hydra', 'pytorch_lightning', 'zarr', 'matplotlib'} & set(sys.modules)), 'done')"
    )
    command = [sys.executable, "-c", program, str(sweep)]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert output.stdout.splitlines()[-1] == "done"
