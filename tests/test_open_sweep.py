"""Sweeps opened as labelled arrays, from directories written by hand whose numbers are known."""

from __future__ import annotations

import itertools
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import yaml

from rnnlab import glance as glances
from rnnlab.glance import glance
from rnnlab.ledger import Ledger
from rnnlab.runs import Run, open_sweep
from rnnlab.stacking import spread, stack
from rnnlab.store import Store
from rnnlab.sweeps import find_runs, read_sweep
from rnnlab.traces import Record
from tests.test_sweeps import make_ensemble, make_job

GRID = list(itertools.product(("LSTM", "Orthogonal"), (50, 100, 200), (1, 2, 3)))


def make_grid(root: Path, jobs: int = len(GRID)) -> Path:
    """The first jobs of a grid; the accuracy of epoch t of job i is i + t / 100."""
    for i, (cell, length, seed) in enumerate(GRID[:jobs]):
        if not (root / f"job{i}").exists():
            make_job(root / f"job{i}", [i + 0.01, i + 0.02], cell=cell, length=length, seed=seed)
    return root


def test_a_grid_has_an_axis_for_each_parameter_and_for_seeds(tmp_path: Path) -> None:
    sweep = open_sweep(make_grid(tmp_path))
    assert sweep.axes == ("model", "length", "seed")
    accuracy = sweep.metrics["val/accuracy"]
    assert accuracy.dims == ("model", "length", "seed", "epoch")
    assert accuracy.epoch.values.tolist() == [0, 1, 2]
    for i, (cell, length, seed) in enumerate(GRID):
        one = accuracy.sel(model=cell, length=length, seed=seed)
        assert one.values[1:].tolist() == [i + 0.01, i + 0.02]
        assert math.isnan(one.values[0])
        assert (one.job.item(), one.run.item(), one.state.item(), one.member.item()) == (
            f"job{i}",
            i,
            "finished",
            -1,
        )
    assert accuracy.sel(model="LSTM", length=100, epoch=2).mean("seed").item() == pytest.approx(4.02)
    assert set(sweep.metrics.data_vars) == {"val/accuracy", "train/accuracy", "lr"}
    assert len(sweep.summary) == 6
    assert sweep.summary["mean"].tolist() == pytest.approx([1.02, 4.02, 7.02, 10.02, 13.02, 16.02])
    assert repr(sweep) == "<sweep of 18 runs (18 finished) over model (2), length (3), seed (3)>"


def test_a_grid_that_is_filled_in_order_is_one_at_any_moment(tmp_path: Path) -> None:
    for jobs in range(1, len(GRID) + 1):
        sweep = open_sweep(make_grid(tmp_path, jobs))
        assert sweep.axes != ("run",)
        there = sweep.metrics["val/accuracy"].sel(epoch=2)
        assert np.isfinite(there).sum() == jobs
        assert sorted(there.values[np.isfinite(there.values)].tolist()) == [i + 0.02 for i in range(jobs)]
        assert (there.run == -1).sum() == there.size - jobs
        assert set(there.job.values[there.run.values == -1].tolist()) <= {""}


def make_search(root: Path, runs: int, draws: int) -> Path:
    """A random search: run i has `draws` rates of its own, of which the first is i + 0.5."""
    for i, rates in enumerate(np.random.default_rng(0).random((runs, draws)).tolist()):
        optim = {"optimizer": {"_target_": "torch.optim.Adam", "lr": i + 0.5}}
        other = {f"rate_{k}": rate for k, rate in enumerate(rates[1:])}
        make_job(root / str(i), [0.25 + i], optim=optim, other=other, seed=i % 2)
    return root


def test_what_is_no_grid_has_one_axis_of_runs(tmp_path: Path) -> None:
    sweep = open_sweep(make_search(tmp_path, 5, 2))
    assert sweep.axes == ("run",)
    metrics = sweep.metrics
    assert metrics["val/accuracy"].dims == ("run", "epoch")
    assert metrics.lr.values.tolist() == [0.5, 1.5, 2.5, 3.5, 4.5]  # the parameter
    assert metrics["lr_"].dims == ("run", "epoch")  # what the optimizer had at each epoch
    assert metrics["lr_"].sel(epoch=1).values.tolist() == [0.01] * 5
    assert metrics.rate_0.values.tolist() == sweep.table["other.rate_0"].tolist()
    assert metrics.seed.values.tolist() == [0, 1, 0, 1, 0]
    assert metrics.job.values.tolist() == ["0", "1", "2", "3", "4"]
    assert metrics["val/accuracy"].sel(run=3, epoch=1).item() == 3.25
    full = open_sweep(tmp_path, grid=True)
    assert full.axes == ("lr", "rate_0", "seed")
    assert np.isfinite(full.metrics["val/accuracy"].sel(epoch=1)).sum() == 5


def test_a_grid_is_one_axis_of_runs_where_that_is_asked_for(tmp_path: Path) -> None:
    metrics = open_sweep(make_grid(tmp_path), grid=False).metrics
    assert metrics["val/accuracy"].dims == ("run", "epoch")
    labels = zip(metrics.model.values, metrics.length.values, metrics.seed.values, strict=True)
    assert [(str(m), int(n), int(s)) for m, n, s in labels] == GRID


@pytest.mark.parametrize(("runs", "grid"), [(2, True), (3, False)])
def test_a_grid_is_at_least_half_full(runs: int, grid: bool, tmp_path: Path) -> None:
    """Pairs of values that are all different fill 2 cells of 4, and 3 of 9."""
    for i in range(runs):
        optim = {"optimizer": {"_target_": "torch.optim.Adam", "lr": i / 10}}
        make_job(tmp_path / str(i), [0.5], optim=optim, length=[7, 5, 6][i])
    assert set(open_sweep(tmp_path).axes) == ({"length", "lr", "seed"} if grid else {"run"})


def test_why_there_is_no_grid_is_said_in_one_line(tmp_path: Path) -> None:
    many = make_search(tmp_path / "many", 8, 9)
    with pytest.raises(ValueError, match=r"^grid=True is not possible: 8 runs would be in 268435456 cells"):
        open_sweep(many, grid=True)
    twice = make_grid(tmp_path / "twice", 4)
    make_job(twice / "again", [0.5], cell="LSTM", length=50, seed=2)
    assert open_sweep(twice).axes == ("run",)
    with pytest.raises(ValueError, match="again and job1 have the same parameters and seed; give"):
        open_sweep(twice, grid=True)
    with pytest.raises(FileNotFoundError, match="nowhere is not there"):
        open_sweep(tmp_path / "nowhere")


def test_a_seed_that_goes_with_another_is_no_axis(tmp_path: Path) -> None:
    def task(seed: int) -> dict[str, object]:
        return {"_target_": "datamodules.Symbols", "seed": seed}

    for i, (seed, drawn) in enumerate([(1, 11), (2, 12)]):
        make_job(tmp_path / "one" / str(i), [0.5], seed=seed, task=task(drawn))
    assert open_sweep(tmp_path / "one").axes == ("seed",)
    for i, (seed, drawn) in enumerate([(1, 11), (1, 12), (2, 11), (2, 12)]):
        make_job(tmp_path / "two" / str(i), [0.5 + i], seed=seed, task=task(drawn))
    sweep = open_sweep(tmp_path / "two")
    assert sweep.axes == ("seed", "task.seed")
    assert sweep.metrics["val/accuracy"].sel({"seed": 2, "task.seed": 11, "epoch": 1}).item() == 2.5


def test_what_failed_runs_or_was_killed_is_there_with_its_state(tmp_path: Path) -> None:
    root = make_grid(tmp_path, 3)
    states = {"job0": "failed", "job1": "stopped", "job2": "running"}
    for job, state in states.items():
        (root / job / "status.json").write_text(json.dumps({"state": state}))
    (root / "job0" / "metrics.csv").unlink()
    sweep = open_sweep(root)
    assert sweep.table["state"].tolist() == ["failed", "stopped", "running"]
    accuracy = sweep.metrics["val/accuracy"].sel(epoch=2)
    assert accuracy.state.values.tolist() == ["failed", "stopped", "running"]
    np.testing.assert_array_equal(accuracy, [np.nan, 1.02, 2.02])


def test_a_sweep_that_has_just_begun_opens(tmp_path: Path) -> None:
    make_job(tmp_path / "0", None, state="running")
    sweep = open_sweep(tmp_path)
    assert sweep.metrics.state.values.tolist() == ["running"]
    assert not sweep.metrics.data_vars
    assert sweep.analyses == {}
    with pytest.raises(ValueError, match="no analysis 'lyapunov' in these runs: there is none"):
        sweep.analysis("lyapunov")


# analyses


def look(probes: list[str], points: int, value: float) -> xr.Dataset:
    """The same in all cells but the probe's number, of as many points as one likes."""
    rows = np.arange(len(probes), dtype=float)[:, None] + np.full(points, value)
    return xr.Dataset(
        {
            "x": (("probe", "point"), rows),
            "count": ("probe", np.full(len(probes), points)),
            "kind": (("probe", "point"), np.full(rows.shape, "saddle")),
        },
        coords={"probe": probes, "frequency": ("probe", [ord(name[0]) / 2 for name in probes])},
    )


def test_analyses_of_runs_are_aligned_by_their_labels(tmp_path: Path) -> None:
    root = make_grid(tmp_path, 6)
    seen = {0: (["a", "b"], 2, [10, 20]), 1: (["b", "c", "a"], 3, [10, 30]), 4: (["a"], 1, [20])}
    for job, (probes, points, epochs) in seen.items():
        store = Store(root / f"job{job}" / "analysis.zarr")
        for epoch in epochs:
            store.append("points", look(probes, points, 100 * job + epoch), epoch=epoch)
    sweep = open_sweep(root)
    assert sweep.analyses == {"points": 3}
    last = sweep.analysis("points")
    assert last["x"].dims == ("length", "seed", "probe", "point")
    assert last.probe.values.tolist() == ["a", "b", "c"]
    assert last.epoch.values.tolist() == [[20, 30, -1], [-1, 20, -1]]
    assert last.frequency.values.tolist() == [ord(name) / 2 for name in "abc"]  # the same in all runs
    every = sweep.analysis("points", looks="all")
    assert every.epoch.values.tolist() == [10, 20, 30]
    for job, (_, length, seed) in enumerate(GRID[:6]):
        one = last.sel(length=length, seed=seed)
        for i, probe in enumerate("abc"):
            probes, points, epochs = seen.get(job, ([], 0, []))
            there = probe in probes
            row = [100.0 * job + max(epochs) + probes.index(probe)] * points if there else []
            np.testing.assert_array_equal(one["x"].sel(probe=probe), row + [np.nan] * (3 - len(row)))
            assert one["count"].values[i] == (points if there else -1)
            assert one["kind"].values[i].tolist() == ["saddle"] * len(row) + [""] * (3 - len(row))
            for epoch in (10, 20, 30):
                value = every["x"].sel(length=length, seed=seed, epoch=epoch, probe=probe).values[0]
                expected = 100.0 * job + epoch + probes.index(probe) if there and epoch in epochs else np.nan
                np.testing.assert_array_equal(value, expected)
    some = sweep.analysis("points", only="count")
    assert set(some.data_vars) == {"count"}
    xr.testing.assert_equal(some["count"], last["count"])
    with pytest.raises(ValueError, match="'points' has no variable y"):
        sweep.analysis("points", only=["x", "y"])
    with pytest.raises(ValueError, match="no analysis 'point' in these runs: there is points"):
        sweep.analysis("point")
    with pytest.raises(ValueError, match="looks='first' is not possible: give 'last' or 'all'"):
        sweep.analysis("points", looks="first")  # type: ignore[arg-type]


def test_an_analysis_yields_the_names_of_parameters(tmp_path: Path) -> None:
    root = make_grid(tmp_path, 9)
    own = xr.Dataset({"seed": 5.0, "y": (("length",), [1.0, 2.0])}, coords={"length": [7, 8]})
    Store(root / "job4" / "analysis.zarr").append("words", own, epoch=1)
    found = open_sweep(root).analysis("words")
    assert found["y"].dims == ("length", "seed", "length_")
    assert found["y"].sel(length=100, seed=2, length_=8).item() == 2.0
    assert found["seed_"].sel(length=100, seed=2).item() == 5.0


def test_runs_that_were_looked_at_in_different_ways_have_no_common_array(tmp_path: Path) -> None:
    root = make_grid(tmp_path, 2)
    Store(root / "job0" / "analysis.zarr").append("odd", xr.Dataset({"y": ("a", [1.0])}), epoch=1)
    Store(root / "job1" / "analysis.zarr").append("odd", xr.Dataset({"y": ("b", [1.0])}), epoch=1)
    with pytest.raises(ValueError, match=r"'y' has the axes \('b',\) in one run and \('a',\) in another"):
        open_sweep(root).analysis("odd")


def test_a_damaged_analysis_is_told_of_and_the_others_are_there(tmp_path: Path) -> None:
    root = make_grid(tmp_path, 3)
    for job in range(3):
        Store(root / f"job{job}" / "analysis.zarr").append("points", look(["a"], 1, job), epoch=1)
    (root / "job1" / "analysis.zarr" / "points" / "x" / "zarr.json").write_text("{")
    sweep = open_sweep(root)
    with pytest.warns(
        UserWarning, match="points of 1 runs is missing: job1: the analysis store .* is damaged"
    ):
        found = sweep.analysis("points")
    np.testing.assert_array_equal(found["x"].values.ravel(), [0, np.nan, 2])
    assert [line.split(":")[0] for line in sweep.problems] == ["job1"]
    (root / "job2" / "analysis.zarr" / "points" / "zarr.json").write_text("{")
    with pytest.warns(UserWarning, match="points of 2 runs is missing: job1: "):
        found = sweep.analysis("points")
    np.testing.assert_array_equal(found["x"].values.ravel(), [0, np.nan, np.nan])
    assert [line.split(":")[0] for line in sweep.problems] == ["job1", "job2"]


def test_each_member_of_an_ensemble_is_an_entry_with_its_seed(tmp_path: Path) -> None:
    losses = np.array([[3.0, 4.0, 1.0], [2.0, 5.0, np.nan]])
    folder = make_ensemble(tmp_path / "s" / "0", losses, np.array([[1, 1, 1], [1, 1, 0]]))
    alike = make_job(tmp_path / "s" / "1", [1.9], seed=7, checkpoint=("train/loss", "min"))
    seen = xr.Dataset(
        {"exponent": (("member", "mode"), [[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]]), "samples": 8},
    )
    Store(folder / "analysis.zarr").append("lyapunov", seen, epoch=20)
    alone = xr.Dataset({"exponent": ("mode", [4.0, 0.0]), "samples": 9})
    Store(alike / "analysis.zarr").append("lyapunov", alone, epoch=5)
    sweep = open_sweep(tmp_path / "s")
    assert sweep.axes == ("seed",)
    metrics = sweep.metrics
    assert metrics.seed.values.tolist() == [3, 4, 5, 7]
    assert metrics.member.values.tolist() == [0, 1, 2, -1]
    assert metrics.state.values.tolist() == ["finished", "finished", "diverged", "finished"]
    np.testing.assert_array_equal(metrics["train/loss"].sel(epoch=[10, 20], seed=[3, 4, 5]), losses.T)
    assert metrics["val/accuracy"].sel(seed=7, epoch=1).item() == 1.9
    found = sweep.analysis("lyapunov")
    assert found["exponent"].dims == ("seed", "mode")
    assert found["exponent"].isel(mode=0).values.tolist() == [1.0, 2.0, 3.0, 4.0]
    assert found["samples"].values.tolist() == [8, 8, 8, 9]
    assert found.epoch.values.tolist() == [20, 20, 20, 5]


def test_runs_are_opened_by_their_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_grid(tmp_path / "s", 2)
    monkeypatch.chdir(tmp_path)
    sweep = open_sweep("s")
    monkeypatch.chdir("s")
    runs = sweep.runs
    assert list(runs) == ["job0", "job1"]
    assert all(isinstance(run, Run) for run in runs.values())
    assert runs["job1"].config.seed == 2


# what is read


def dataset(rng: np.random.Generator, probes: int, points: int) -> xr.Dataset:
    shape = (probes, points)
    return xr.Dataset(
        {
            "x": (("probe", "point"), rng.normal(size=shape)),
            "single": (("point",), rng.normal(size=points).astype(np.float32)),
            "z": (("probe", "point"), rng.normal(size=shape) + 1j * rng.normal(size=shape)),
            "n": (("probe",), rng.integers(-5, 5, probes)),
            "small": (("probe",), rng.integers(0, 5, probes).astype(np.uint8)),
            "flag": (("probe", "point"), rng.random(shape) < 0.5),
            "nothing": (("probe",), np.full(probes, np.nan)),
            "word": (("point",), rng.choice(["", "ω", "saddle", "stable focus"], points)),
            "scalar": rng.normal(),
            "when": np.datetime64("2030-01-01", "ns"),
        },
        coords={"probe": [f"p{i}" for i in range(probes)], "side": ("probe", np.arange(probes) / 3)},
        attrs={"a": 1},
    )


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("dates", [True, False])
def test_a_glance_sees_what_the_store_reads(
    seed: int, dates: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Axes grow and shrink from look to look, so that a look is of several chunks, some of them missing."""
    rng = np.random.default_rng(seed)
    store = Store(tmp_path / "s")
    for epoch in range(1, 1 + int(rng.integers(1, 6))):
        seen = dataset(rng, 3, int(rng.integers(0, 7)))
        store.append("points", seen if dates else seen.drop_vars("when"), epoch=5 * epoch)
    if rng.random() < 0.5:
        store.truncate(10)
    whole = store.read("points").load()
    if not dates:  # with them zarr is asked, as times are stored as Store only knows
        monkeypatch.setattr(glances, "Store", None)
    for last, expected in ((True, whole.isel(epoch=-1)), (False, whole)):
        for only in (None, ["n"], ["scalar"], ["x", "word"], ["nobody"]):
            wanted = expected
            if only is not None:
                wanted = expected[[name for name in only if name in expected]].assign_coords(
                    epoch=expected.epoch
                )
            variables, coordinates = glance(store.path, "points", last=last, only=only)
            found = xr.Dataset(variables).set_coords(coordinates)
            xr.testing.assert_identical(found, wanted.drop_attrs(deep=False))
            assert {name: v.dtype for name, v in found.variables.items()} == {
                name: v.dtype for name, v in wanted.variables.items()
            }


def test_what_is_stored_in_another_way_is_left_to_zarr(tmp_path: Path) -> None:
    store = Store(tmp_path / "s")
    store.append("points", xr.Dataset({"y": ("a", [1.0, 2.0])}), epoch=1)
    path = store.path / "points" / "y" / "zarr.json"
    array = json.loads(path.read_text())
    array["codecs"] = [{"name": "bytes", "configuration": {"endian": "big"}}]
    path.write_text(json.dumps(array))
    (store.path / "points" / "y" / "c" / "0" / "0").write_bytes(np.array([3.0, 4.0], ">f8").tobytes())
    assert glance(store.path, "points")[0]["y"].values.tolist() == [3.0, 4.0]
    with pytest.raises(ValueError, match="no analysis 'orbits'"):
        glance(store.path, "orbits")


@pytest.mark.parametrize(
    "text",
    [
        "epoch,a,b\n1,0.5,\n2,,1e-3\n",
        "epoch,a\n2,1\n1,2\n2,3\n2,\n",  # one epoch in several rows
        "epoch,a\n3,1\n1,2\n",
        "epoch,a\n1,0.5\n2,0.2",  # a row that is cut off
        'epoch,"a, or b",c\n1,inf,nan\n2,-inf,x\n',
        "epoch,a,b\n1,2,3\n2,5\n4,5,6,7\n\n,7,8\nx,1,2\n3,9,9\n",
        "epoch,a\n",
        "a,epoch\n0.5,0\n0.25,1\n",
    ],
)
def test_metrics_are_what_pandas_reads(text: str, tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text(text)
    whole = text.rpartition("\n")[0] + "\n"
    (tmp_path / "whole.csv").write_text(whole)
    frame = pd.read_csv(tmp_path / "whole.csv", on_bad_lines="skip").apply(pd.to_numeric, errors="coerce")
    expected = frame.dropna(subset=["epoch"]).groupby("epoch").last()
    found = Record(tmp_path).metrics
    pd.testing.assert_frame_equal(found, expected, check_dtype=False, check_index_type=False)


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "\n"])
def test_metrics_without_epochs_are_a_problem(text: str, tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text(text)
    record = Record(tmp_path)
    assert record.metrics.empty
    assert record.problems == ["metrics.csv could not be read: it has no column epoch"]


def test_jobs_of_the_ledger_that_left_nothing_are_named(tmp_path: Path) -> None:
    root = make_grid(tmp_path / "s", 2)
    ledger = Ledger(root)
    ledger.write(0, run="job0", state="finished", overrides=["seed=1"], error=None)
    ledger.write(1, run="job1", state="skipped", overrides=["seed=2"], error=None)
    ledger.write(2, run=None, state="failed", overrides=["seed=3", "x=1"], error="x is not known")
    ledger.write(3, run="gone", state="running", overrides=["seed=4"], error=None)
    assert open_sweep(root).problems == [
        "job 2 (seed=3 x=1) has left nothing, failed: x is not known",
        "job 3 (seed=4) has left nothing, running",
    ]
    overrides = {"task": ["seed=1,2,3,4,5,6", "x=1"]}
    (root / "multirun.yaml").write_text(yaml.safe_dump({"hydra": {"overrides": overrides}}))
    assert read_sweep(root).problems[-1] == "2 of 6 jobs have not begun: 4, 5"
    for job in range(4, 30):
        ledger.write(job, run=None, state="failed", overrides=[f"seed={job}"], error="no")
    problems = open_sweep(root).problems
    assert len(problems) == 11
    assert problems[-1] == "18 more jobs have left nothing"


def test_runs_are_in_the_order_of_the_command(tmp_path: Path) -> None:
    """Directories are named by hashes; values that are texts come in the order in which they were given."""
    for number, (name, cell) in enumerate([("b", "Orthogonal"), ("a", "LSTM"), ("c", "Orthogonal")]):
        make_job(tmp_path / "s" / name, [0.5], cell=cell, seed=number)
        Ledger(tmp_path / "s").write(number, run=name, state="finished")
    make_job(tmp_path / "s" / "9", [0.5], seed=9)  # of a command before
    sweep = open_sweep(tmp_path / "s")
    assert sweep.table["job"].tolist() == ["b", "a", "c", "9"]
    assert sweep.parameters["model"].cat.categories.tolist() == ["Orthogonal", "LSTM"]


def test_runs_beside_sweeps_are_found(tmp_path: Path) -> None:
    make_job(tmp_path / "alone", [0.5])
    make_job(tmp_path / "sweep" / "2", [0.5])
    make_job(tmp_path / "sweep" / "10", [0.5])
    make_job(tmp_path / "alone" / "copy", [0.5])  # within a run: not a run of its own
    found = [path.relative_to(tmp_path).as_posix() for path in find_runs(tmp_path)]
    assert found == ["alone", "sweep/2", "sweep/10"]


def test_no_network_and_no_checkpoint_is_needed(tmp_path: Path) -> None:
    Store(make_grid(tmp_path, 2) / "job0" / "analysis.zarr").append("points", look(["a"], 1, 1.0), epoch=1)
    program = (
        "import sys; from rnnlab.runs import open_sweep; sweep = open_sweep(sys.argv[1]);"
        "sweep.summary, sweep.metrics, sweep.analysis('points'), sweep.runs;"
        "print(*({'torch', 'hydra', 'pytorch_lightning'} & set(sys.modules)), 'done')"
    )
    root = Path(__file__).parents[1]
    command = [sys.executable, "-c", program, str(tmp_path)]
    output = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True, timeout=60)
    assert output.stdout.split() == ["done"]


# arrays put together


def test_stacking_labelled_floats_is_xarrays_outer_join() -> None:
    rng = np.random.default_rng(0)
    parts = []
    for _ in range(7):
        a, b = (np.sort(rng.choice(9, int(rng.integers(1, 6)), replace=False)) for _ in range(2))
        parts.append(xr.Dataset({"y": (("a", "b"), rng.normal(size=(len(a), len(b))))}, {"a": a, "b": b}))
    expected = xr.concat(parts, "run", join="outer")
    xr.testing.assert_identical(stack([part.variables for part in parts], "run"), expected)  # type: ignore[arg-type]


def test_labels_that_occur_twice_are_two() -> None:
    one = {"word": xr.Variable("word", ["the", "the", "a"]), "y": xr.Variable("word", [1.0, 2.0, 3.0])}
    other = {"word": xr.Variable("word", ["a", "the"]), "y": xr.Variable("word", [4.0, 5.0])}
    both = stack([one, other], "run")
    assert both.word.values.tolist() == ["the", "the", "a"]
    np.testing.assert_array_equal(both["y"], [[1, 2, 3], [5, np.nan, 4]])


def test_coordinates_that_differ_get_the_axis_of_runs() -> None:
    parts = [{"y": xr.Variable("a", [1.0]), "at": xr.Variable("a", [value])} for value in (1.0, 2.0, 1.0)]
    assert stack(parts, "run", ["at"]).at.dims == ("run", "a")
    assert stack(parts[::2], "run", ["at"]).at.dims == ("a",)
    assert stack([None, None], "run").sizes == {}


def test_spreading_is_xarrays_unstacking() -> None:
    rng = np.random.default_rng(0)
    pairs = [(a, seed) for a in "xyz" for seed in (1, 2, 4)]
    chosen = [pairs[i] for i in rng.permutation(len(pairs))[:6]]
    data = xr.Dataset({"y": (("run", "t"), rng.normal(size=(6, 2))), "t": [5, 6]})
    index = pd.MultiIndex.from_tuples(chosen, names=["a", "seed"])
    expected = data.assign_coords(xr.Coordinates.from_pandas_multiindex(index, "run")).unstack("run")
    expected = expected.reindex(a=list("xyz"), seed=[1, 2, 4])
    axes = {"a": np.array(list("xyz")), "seed": np.array([1, 2, 4])}
    found = spread(data, "run", axes, np.array([pairs.index(pair) for pair in chosen]))
    xr.testing.assert_equal(found["y"], expected["y"].transpose("a", "seed", "t"))
