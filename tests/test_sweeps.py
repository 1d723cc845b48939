"""Sweeps as tables and pages, from directories written by hand whose means and spreads are known."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from rnnlab import members
from rnnlab.report import main, write_sweep_report
from rnnlab.store import Store
from rnnlab.sweeps import RESULTS, find_runs, read_sweep, summarise, varied
from tests.test_docs import blocks
from tests.test_report import EVIL, Page
from tests.test_train import SMALL
from tests.test_train import cli as cli  # a fixture

CELLS = {
    "LSTM": {"_target_": "rnnlab.cells.LSTM", "hidden_size": 8},
    "Orthogonal": {"_target_": "rnnlab.cells.Orthogonal", "hidden_size": 8, "init": "henaff"},
}


def make_job(
    folder: Path,
    values: list[float] | None = None,
    *,
    cell: str = "LSTM",
    length: int = 50,
    seed: int = 1,
    state: str | None = "finished",
    checkpoint: tuple[str, str] = ("val/accuracy", "max"),
    **more: object,
) -> Path:
    """A run as `train.py` leaves it; the training accuracy is that of the validation and a tenth."""
    folder.mkdir(parents=True)
    config = {
        "task": {"_target_": "datamodules.Symbols", "length": length, "first": [10, 18], "seed": 0},
        "model": {"_target_": "rnnlab.model.RecurrentModel", "cell": CELLS[cell]},
        "optim": {"optimizer": {"_target_": "torch.optim.Adam", "lr": 0.01}},
        "callbacks": {"page": {"_target_": "callbacks.Page", "interval": float(seed)}},
        "logger": {},
        "seed": seed,
        "run_dir": str(folder),
        "threads": seed,
        "checkpoint": {"monitor": checkpoint[0], "mode": checkpoint[1]},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config | more))
    if values is not None:
        rows = [f"{i},{value},{value + 0.1},0.01" for i, value in enumerate(values, 1)]
        head = "epoch,val/accuracy,train/accuracy,lr"
        (folder / "metrics.csv").write_text("\n".join([head, "0,,,", *rows]) + "\n")
    if state is not None:
        status = {
            "state": state,
            "timings": {"training": 60.0, "page": 5.0},
            "baselines": {"val/accuracy": 0.25},
            "git": {"commit": "0123456789abcdef", "dirty": False},
        }
        (folder / "status.json").write_text(json.dumps(status))
    return folder


@pytest.fixture
def table_1(tmp_path: Path) -> Path:
    """Two models, two lengths, three seeds; the LSTM of length 100 is in trouble."""
    root = tmp_path / "sweep"
    best = {
        ("LSTM", 50): [[0.25, 0.5, 0.5], [0.25, 0.6], [0.7]],
        ("LSTM", 100): [[0.3], [0.25, math.nan, math.inf, 0.5], None],
        ("Orthogonal", 50): [[0.25, 1.0]] * 3,
        ("Orthogonal", 100): [[0.9], [1.0], [0.8]],
    }
    jobs = [(*key, seed, values) for key, runs in best.items() for seed, values in enumerate(runs, 1)]
    states = {3: "stopped", 4: "failed", 5: "failed"}
    for i, (cell, length, seed, values) in enumerate(jobs):
        make_job(root / str(i), values, cell=cell, length=length, seed=seed, state=states.get(i, "finished"))
    return root


def test_means_spreads_and_epochs_are_those_of_the_numbers(table_1: Path) -> None:
    sweep = read_sweep(table_1)
    assert tuple(sweep.table.columns[: len(RESULTS)]) == RESULTS
    assert len(sweep.table) == 12
    summary = summarise(sweep.table, varied(sweep.table).values).set_index(["model", "length"])
    assert summary.index.tolist() == [
        ("LSTM", 50),
        ("LSTM", 100),
        ("Orthogonal", 50),
        ("Orthogonal", 100),
    ]
    one = summary.loc[("LSTM", 50)]
    assert one["mean"] == pytest.approx(0.6)
    assert one["sd"] == pytest.approx(0.1)
    assert (one["min"], one["max"], one["seeds"], one["runs"]) == (0.5, 0.7, 3, 3)
    # the first of two epochs with 0.5, then 2, then 1
    assert (one["best_epoch"], one["best_epoch_min"], one["best_epoch_max"], one["epochs"]) == (2, 1, 2, 2)
    assert one["remarks"] == ""
    two = summary.loc[("LSTM", 100)]
    assert two["mean"] == pytest.approx(0.4)  # of 0.3 and 0.5: neither infinity nor the missing one
    assert two["sd"] == pytest.approx(math.sqrt(0.02))
    assert (two["seeds"], two["runs"], two["best_epoch_max"]) == (2, 3, 4)
    assert two["remarks"] == "2 failed, 1 stopped, 1 without a value"
    assert summary.loc[("Orthogonal", 50), "sd"] == 0


def test_the_best_is_the_smallest_where_it_is_minimised(tmp_path: Path) -> None:
    make_job(tmp_path / "s" / "0", [0.5, 0.125, 0.25], checkpoint=("train/accuracy", "min"))
    (row,) = read_sweep(tmp_path / "s").table.to_dict("records")
    assert (row["best"], row["best_epoch"], row["epochs"]) == (0.225, 2, 3)
    assert (row["seconds"], row["commit"]) == (65.0, "0123456789abcdef")
    (row,) = read_sweep(tmp_path / "s", monitor="val/accuracy", mode="max").table.to_dict("records")
    assert (row["best"], row["best_epoch"]) == (0.5, 1)


def test_a_killed_run_counts_as_far_as_its_whole_rows(tmp_path: Path) -> None:
    job = make_job(tmp_path / "s" / "0", [0.25, 0.5], state="running")
    with (job / "metrics.csv").open("a") as file:
        file.write("3,0.9")  # of 0.91
    assert read_sweep(tmp_path / "s").table["state"].item() == "running"
    for file in job.iterdir():
        os.utime(file, (1e9, 1e9))
    (row,) = read_sweep(tmp_path / "s").table.to_dict("records")
    assert (row["state"], row["best"], row["epochs"]) == ("unfinished", 0.5, 2)


def test_no_job_is_dropped_in_silence(tmp_path: Path) -> None:
    root = tmp_path / "s"
    make_job(root / "0", [0.25])
    make_job(root / "2", None, state=None)
    (make_job(root / "3", [0.25]) / "config.yaml").write_text("a: [")
    (make_job(root / "4", [0.25]) / "config.yaml").write_text("")
    overrides = {"task": ["model=lstm,ornn", "seed=1,2,3", "task.length=50"]}
    (root / "multirun.yaml").write_text(yaml.safe_dump({"hydra": {"overrides": overrides}}))
    sweep = read_sweep(root)
    assert sweep.table["job"].tolist() == ["0", "2"]
    assert sweep.table["best"].isna().tolist() == [False, True]
    assert [line.split(":")[0] for line in sweep.problems] == [
        "2 of 6 jobs have left nothing, not begun or failed before training",
        "3",
        "4",
    ]
    assert sweep.problems[0].endswith(": 1, 5")
    # what cannot be counted, such as range(1,3), is not guessed: the numbers alone tell
    overrides["task"] = ["seed=range(1,30)"]
    (root / "multirun.yaml").write_text(yaml.safe_dump({"hydra": {"overrides": overrides}}))
    assert read_sweep(root).problems[0].startswith("1 of 5 jobs has left nothing")


def test_jobs_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for n in (10, 9, 1):
        make_job(tmp_path / "s" / str(n), [0.5])
    assert [path.name for path in find_runs(tmp_path / "s")] == ["1", "9", "10"]
    assert [path.name for path in find_runs(tmp_path)] == ["1", "9", "10"]  # a level above
    assert find_runs(tmp_path / "s" / "9") == [tmp_path / "s" / "9"]


def test_jobs_may_be_links_to_runs_that_are_elsewhere(tmp_path: Path) -> None:
    chosen = tmp_path / "chosen"
    chosen.mkdir()
    for seed in (1, 2):
        (chosen / f"{seed}").symlink_to(make_job(tmp_path / "runs" / f"run_{seed}", [0.5 * seed], seed=seed))
    assert read_sweep(chosen).table["job"].tolist() == ["1", "2"]


def configs(**columns: list[object]) -> pd.DataFrame:
    return pd.DataFrame({key.replace("__", "."): values for key, values in columns.items()})


def test_classes_are_parameters_and_their_own_options_go_with_them() -> None:
    found = varied(
        configs(
            model__cell___target_=["rnnlab.cells.LSTM", "rnnlab.cells.Orthogonal"] * 2,
            model__cell__init=[None, "henaff"] * 2,
            optim__lr=[0.01, 0.001] * 2,
            task__length=[100, 100, 50, 50],
            task__steps=[100, 100, 50, 50],
            task__seed=[1, 2, 3, 4],
            seed=[1, 1, 2, 2],
            threads=[1, 2, 1, 2],
            checkpoint__keep=[None, 10, 20, 30],
        )
    )
    assert found.keys == {"model": "model.cell._target_", "length": "task.length"}
    assert found.values["model"].tolist() == ["LSTM", "Orthogonal"] * 2
    assert found.values["length"].cat.categories.tolist() == [50, 100]
    assert found.follows == {
        "model.cell.init": "model",
        "optim.lr": "model",
        "task.steps": "length",
    }


def test_a_number_explains_no_other_number() -> None:
    """In a random search each rate occurs once; the sizes drawn with them are no consequence."""
    found = varied(configs(optim__lr=[0.1, 0.2, 0.3], model__cell__hidden_size=[4, 8, 4]))
    assert list(found.values) == ["lr", "hidden_size"]
    assert found.follows == {}


def test_parameters_have_names_that_tell_them_apart() -> None:
    found = varied(
        configs(
            a__lr=[1, 2, 1, 2],
            b__lr=[1, 2, 2, 1],
            optim__optimizer___target_=["x.A", "x.A", "x.A", "y.A"],
            optim__scheduler___target_=["x.S", "x.S", None, None],
        )
    )
    assert set(found.values) == {"a.lr", "b.lr", "optim.optimizer", "optim.scheduler"}
    assert found.values["optim.optimizer"].tolist() == ["x.A"] * 3 + ["y.A"]  # two classes of one name
    assert found.values["optim.scheduler"].tolist() == ["S", "S", "none", "none"]


def test_equal_runs_are_one_group() -> None:
    table = configs(seed=[1, 2, 2], best=[1.0, 2.0, 6.0], best_epoch=[1, 1, 1], epochs=[1, 1, 1]).assign(
        state="finished"
    )
    found = varied(table)
    assert found.values.shape == (3, 0)
    (row,) = summarise(table, found.values).to_dict("records")
    assert (row["mean"], row["seeds"], row["runs"]) == (3.0, 2, 3)


def make_ensemble(folder: Path, losses: np.ndarray, alive: np.ndarray) -> Path:
    """Members' losses `(epoch, member)` at epochs 10, 20, ..."""
    make_job(folder, [0.5], ensemble=losses.shape[1], seed=3, checkpoint=("train/loss", "min"))
    store = Store(folder / "analysis.zarr")
    for i, (loss, there) in enumerate(zip(losses, alive, strict=True)):
        store.append(
            members.NAME,
            members.row({"train/loss": loss, "alive": there}, ["train/loss", "alive"]),
            epoch=10 * i + 10,
        )
    return folder


def test_members_count_as_seeds(tmp_path: Path) -> None:
    losses = np.array([[3.0, 4.0, 1.0], [2.0, 5.0, np.nan]])
    make_ensemble(tmp_path / "s" / "0", losses, np.array([[1, 1, 1], [1, 1, 0]]))
    make_job(tmp_path / "s" / "1", [1.9], seed=4, checkpoint=("train/loss", "min"))
    sweep = read_sweep(tmp_path / "s")
    assert sweep.table["member"].tolist() == [0, 1, 2, -1]
    assert sweep.table["seed"].tolist() == [3, 4, 5, 4]
    assert sweep.table["best"].tolist()[:3] == [2.0, 4.0, 1.0]
    assert sweep.table["best_epoch"].tolist()[:3] == [20, 10, 10]
    assert sweep.table["state"].tolist() == ["finished", "finished", "diverged", "finished"]
    (row,) = summarise(sweep.table, varied(sweep.table).values).to_dict("records")
    assert row["mean"] == pytest.approx(7 / 3)
    assert row["remarks"] == "1 diverged, 1 without a value"
    page = Page(write_sweep_report(tmp_path / "s"))
    shown = next(row for row in page.rows if row[0] == "0")
    assert shown[1:4] == ["3 to 5", "2 finished, 1 diverged", "1 to 4"]
    assert "2 finished" in page.text
    assert "Each member of an ensemble counts as a seed" in page.text


def test_an_ensemble_without_its_members_says_so(tmp_path: Path) -> None:
    make_job(tmp_path / "s" / "0", [0.5], ensemble=2)
    sweep = read_sweep(tmp_path / "s")
    assert sweep.table["best"].isna().all()  # not the median in metrics.csv, which is no seed's
    assert len(sweep.table) == 2
    assert sweep.problems == ["0: the numbers of its members could not be read"]


def test_the_page_crosses_two_parameters_as_a_paper_does(table_1: Path) -> None:
    path = write_sweep_report(table_1)
    assert path == table_1 / "report.html"
    page = Page(path)
    assert page.rows[:3] == [
        ["length", "LSTM", "Orthogonal"],
        ["50", "0.6 ± 0.10.5 to 0.7, 3 seedsepoch 2 (1 to 2)", "1 ± 01 to 1, 3 seedsepoch 2"],
        [
            "100",
            "0.4 ± 0.140.3 to 0.5, 2 of 3 seedsepoch 2.5 (1 to 4)2 failed, 1 stopped, 1 without a value",
            "0.9 ± 0.10.8 to 1, 3 seedsepoch 1",
        ],
    ]
    assert "With model differ as well: model.cell.init" in page.text
    assert "9 finished" in page.text
    row = next(row for row in page.rows if row[0] == "4")
    assert row == ["4", "LSTM", "100", "2", "failed", "0.5", "4", "4", "1 min 5 s", "0123456"]
    saved = pd.read_csv(table_1 / "table.csv")
    assert list(saved)[:4] == ["model.cell._target_", "task.length", "mean", "sd"]
    assert saved["mean"].tolist() == pytest.approx([0.6, 0.4, 1.0, 0.9])
    assert {p.name for p in (table_1 / "figures").iterdir()} == {
        "history_accuracy.png",
        "history_accuracy_seeds.png",
    }
    html = path.read_text(encoding="utf-8")
    assert html.count("Plotly.newPlot(") == 2  # all runs at a glance, and their histories
    assert "baseline 0.25" in html
    assert not page.all("link")
    assert all("src" not in script for script in page.all("script"))


def test_links_go_to_the_pages_that_are_there(table_1: Path, tmp_path: Path) -> None:
    (table_1 / "0" / "report.html").write_text("")
    odd = make_job(tmp_path / "a & b #1", [0.5], seed=9)
    (odd / "report.html").write_text("")
    page = Page(write_sweep_report(table_1, odd, out=tmp_path / "deep" / "out"))
    links = list(dict.fromkeys(a["href"] for a in page.all("a")))
    assert links == ["table.csv", "../../sweep/0/report.html", "../../a%20%26%20b%20%231/report.html"]
    assert {"sweep/0", "a & b #1"} <= {row[0] for row in page.rows}


@pytest.mark.parametrize("lengths", [(50, 50), (50, 100)])
def test_other_numbers_of_parameters_are_a_plain_table(tmp_path: Path, lengths: tuple[int, int]) -> None:
    """None, one and three of them."""
    for i, length in enumerate(lengths):
        make_job(tmp_path / "s" / str(i), [0.5, 0.1 * i], length=length, seed=i)
    page = Page(write_sweep_report(tmp_path / "s"))
    names = ["length"] if lengths[0] != lengths[1] else []
    heads = ["mean ± sd", "min to max", "seeds", "at epoch", "epochs", "remarks"]
    assert page.rows[0] == [*names, *heads]
    if names:
        assert page.rows[1] == ["50", "0.5", "", "1", "1", "2", ""]
    more = {"optim": {"optimizer": {"_target_": "torch.optim.Adam", "lr": 0.1}}}
    make_job(tmp_path / "s" / "2", [0.5], length=200, cell="Orthogonal")
    make_job(tmp_path / "s" / "3", [0.5], length=200, **more)
    page = Page(write_sweep_report(tmp_path / "s"))
    assert page.rows[0] == ["model", "lr", "length", *heads]


def test_what_the_reader_should_know_is_said(tmp_path: Path) -> None:
    make_job(tmp_path / "s" / "0", [0.5])
    again = make_job(tmp_path / "s" / "1", [0.5])
    status = json.loads((again / "status.json").read_text())
    status |= {"git": {"commit": "fedcba98", "dirty": True}, "error": EVIL, "state": "failed"}
    (again / "status.json").write_text(json.dumps(status))
    page = Page(write_sweep_report(tmp_path / "s"))
    assert "1 of the runs have the same parameters and seed as another" in page.text
    assert "The runs are of 2 commits: 0123456, fedcba9 with changes" in page.text
    assert f"failed: {EVIL}" in page.text


def test_a_sweep_that_has_just_begun_has_a_page(tmp_path: Path) -> None:
    make_job(tmp_path / "s" / "0", None, state="running")
    page = Page(write_sweep_report(tmp_path / "s"))
    assert "No epoch has ended yet" in page.text
    assert page.rows[1][0] == ""
    assert page.rows[1][2] == "0 of 1"


def test_names_are_escaped(tmp_path: Path) -> None:
    for i, init in enumerate((EVIL, "b")):
        cell = {"_target_": "rnnlab.cells.LSTM", "init": init}
        make_job(tmp_path / "s" / str(i), [0.5], model={"cell": cell})
    page = Page(write_sweep_report(tmp_path / "s"))
    assert page.text.count(EVIL) >= 3
    assert len(page.all("script")) == 4  # plotly, its two pictures, and that of the tables
    assert "<script>alert" not in (tmp_path / "s" / "report.html").read_text(encoding="utf-8")


def test_errors_are_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = make_job(tmp_path / "s" / "0", [0.5])
    other = make_job(tmp_path / "s" / "1", [0.5], checkpoint=("train/loss", "min"))
    (tmp_path / "empty").mkdir()
    broken = make_job(tmp_path / "b" / "0", [0.5])
    (broken / "config.yaml").write_text("a: [")
    out = str(tmp_path / "out")
    for arguments, said in (
        ([str(tmp_path / "nowhere")], "nowhere is not there: give the directory of a run or of a sweep"),
        ([str(tmp_path / "empty")], "empty holds no run and no sweep"),
        ([str(tmp_path / "s")], "0 monitors val/accuracy (max), 1 monitors train/loss (min)"),
        ([str(one), str(other)], "2 directories need one for their page: give --out DIR"),
        ([str(one), "--out", str(other)], "1 is that of a run, whose own page it holds"),
        ([str(one), "--out", out, "--monitor", "x", "--mode", "max"], "monitor=x is not possible: no run"),
        ([str(one), "--out", out, "--monitor", "x"], "monitor=x, mode=None is not possible: give both"),
        ([str(one), "--out", out, "--monitor", "x", "--mode", "best"], "give both, and mode as min or max"),
        ([str(tmp_path / "b")], "none of 1 runs can be read: 0: config.yaml could not be read"),
    ):
        assert main(arguments) == 1
        captured = capsys.readouterr()
        assert said in captured.err
        assert captured.err.count("\n") == 1
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "s" / "report.html").exists()
    with pytest.raises(ValueError, match="no directory is given"):
        read_sweep()
    both = ["--out", out, "--monitor", "val/accuracy", "--mode", "max"]
    assert main([str(one), str(other), *both]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'out' / 'report.html'}\n"


def test_neither_torch_nor_hydra_is_loaded(tmp_path: Path) -> None:
    make_job(tmp_path / "s" / "0", [0.5, 0.6])
    program = (
        "import sys; from rnnlab.report import main; main(sys.argv[1:]);"
        "print(*({'torch', 'hydra', 'pytorch_lightning'} & set(sys.modules)), 'done')"
    )
    output = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "s")],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    assert output.stdout.split() == [str(tmp_path / "s" / "report.html"), "done"]


def test_a_sweep_of_the_command_line_is_reported(cli, tmp_path: Path) -> None:
    code, _, err = cli(
        "-m",
        *(word for word in SMALL if "hidden_size" not in word),
        "model=lstm,ornn",
        "model.cell.hidden_size=4,0",
        "seed=1,2",
        "trainer.max_epochs=2",
        "trainer.enable_progress_bar=false",
        "callbacks=none",
        "logger=none",
        "trainer=cpu",
        "hydra.sweep.dir=sweeps/mine",
    )
    assert code == 1
    assert "hidden_size=0 is not possible" in err
    root = tmp_path / "sweeps" / "mine"
    assert main([str(root)]) == 0
    page = Page(root / "report.html")
    assert "8 have begun, 4 finished, 4 failed." in page.text
    assert "4 runs before the first epoch: hidden_size=0 is not possible" in page.text
    found: dict[str, Any] = {}
    (guide,) = blocks("docs/sweeps.md", "python")
    exec(guide, found)
    table = found["sweep"].table
    assert table["state"].value_counts().to_dict() == {"finished": 4, "failed": 4}
    saved = pd.read_csv(root / "table.csv")
    np.testing.assert_array_equal(saved["mean"], found["summary"]["mean"])
    keys = ["model.cell._target_", "model.cell.hidden_size"]
    assert saved[keys].values.tolist() == [["LSTM", 0], ["LSTM", 4], ["Orthogonal", 0], ["Orthogonal", 4]]
    for row in saved.to_dict("records"):
        ends = table[keys[0]].str.endswith(row[keys[0]])
        own = table[ends & (table[keys[1]] == row[keys[1]])]
        if row[keys[1]] == 0:
            assert (row["seeds"], row["runs"]) == (0, 2)
            continue
        losses = [pd.read_csv(root / job / "metrics.csv")["train/loss"].min() for job in own["job"]]
        assert row["mean"] == pytest.approx(np.mean(losses), rel=1e-12)
        assert row["sd"] == pytest.approx(abs(losses[0] - losses[1]) / math.sqrt(2), rel=1e-9)
        assert row["seeds"] == 2
    trained = table.loc[table["state"] == "finished", "job"]
    logs = {f"{job}/log.txt" for job in table["job"]}
    links = {str(a["href"]) for a in page.all("a")}
    assert links == {"table.csv", *logs, *(f"{job}/report.html" for job in trained)}
    assert all((root / link).is_file() for link in links)
