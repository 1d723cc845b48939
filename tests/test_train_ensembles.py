"""Ensembles from the command line: `ensemble=N` and all that comes after it."""

import json
import os
import signal
import time
import warnings

import numpy as np
import pytest
import torch
import xarray as xr
from omegaconf import OmegaConf

from rnnlab.ensemble import Ensemble
from rnnlab.model import RecurrentModel
from rnnlab.runs import open_run, open_sweep
from tests.test_docs import blocks
from tests.test_report import Page
from tests.test_train import LOOKS, PLAIN, SMALL, WATCHED, start, weights
from tests.test_train import cli as cli  # a fixture

PLANAR = ("task.num_sequences=6", "task.num_validation=3", "model.cell.hidden_size=2")
QUICK = (
    *LOOKS,
    "callbacks.fixed_points.every=2",
    "callbacks.fixed_points.samples=4",
    "callbacks.lyapunov.every=2",
    "callbacks.lyapunov.steps=30",
    "callbacks.lyapunov.discard=10",
    "callbacks.attractors.every=2",
    "callbacks.attractors.samples=3",
    "callbacks.attractors.max_burn_in=100",
    "callbacks.contraction.every=2",
    "callbacks.contraction.steps=10",
)
# each cell on a task of its own choice, so that all of both are seen
CASES = {
    "gru": ("task=ring_attractor", *PLANAR),
    "elman": ("task=line_attractor", *PLANAR),
    "lstm": ("task=fitzhugh_nagumo", *PLANAR),
    "slstm": ("task=sine", *SMALL),
    "ornn": ("task=sine", *SMALL),
}


def assert_same_results(one, other):
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert (one / "metrics.csv").read_text() == (other / "metrics.csv").read_text()
    for name in ("bifurcation", "members"):
        xr.testing.assert_identical(
            open_run(one).analysis(name).load(), open_run(other).analysis(name).load()
        )


@pytest.mark.parametrize("model", ["gru", "elman"])
def test_an_ensemble_is_the_runs_of_its_seeds(cli, tmp_path, model):
    arguments = (*PLAIN, f"model={model}", "optim=adam", "optim.optimizer.lr=0.01", "trainer.max_epochs=10")
    assert cli(*arguments, "ensemble=3", "seed=5", "run_dir=all")[0] == 0
    together = open_run(tmp_path / "all")
    assert isinstance(together.model, Ensemble)
    last = torch.load(tmp_path / "all" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    losses = []
    for member, seed in enumerate((5, 6, 7)):
        assert cli(*arguments, f"seed={seed}", f"run_dir={seed}")[0] == 0
        alone = open_run(tmp_path / str(seed))
        assert isinstance(alone.model, RecurrentModel)
        losses.append(alone.metrics["train/loss"].to_numpy())
        # 20 updates in float32: sums are rounded in another order, 1e-7 of the values, and Adam divides
        # by the size of the gradient, which lifts what is small; a wrong seed or a shared norm is off by 0.1
        for name, value in weights(tmp_path / str(seed)).items():
            ours = last["model.stacked." + name.removeprefix("model.")][member]
            torch.testing.assert_close(ours, value, rtol=1e-4, atol=1e-4)
        found = float(together.members.sel(epoch=10, quantity="train/loss")[member])
        assert found == pytest.approx(losses[-1][-1], rel=1e-4)
    assert together.best_member == int(np.argmin([line[-1] for line in losses]))
    medians = together.metrics["train/loss"].to_numpy()
    np.testing.assert_allclose(medians, np.median(losses, 0), rtol=1e-4)
    np.testing.assert_allclose(together.metrics["train/loss_min"], np.min(losses, 0), rtol=1e-4)


@pytest.mark.parametrize(
    "model", [m if m == "gru" else pytest.param(m, marks=pytest.mark.slow) for m in CASES]
)
def test_every_callback_shows_the_members_and_changes_nothing(cli, tmp_path, model):
    arguments = (*CASES[model], f"model={model}", "optim=adam", "trainer=cpu", "trainer.max_epochs=2")
    arguments += ("logger=none", "ensemble=3", "+optim.record_every=1")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        code, _, err = cli(*arguments, *QUICK, "callbacks=all", "run_dir=watched")
    assert code == 0, err
    assert not [w for w in said if "could not be" in str(w.message)]
    assert cli(*arguments, "callbacks=none", "run_dir=plain")[0] == 0
    ours, theirs = weights(tmp_path / "watched"), weights(tmp_path / "plain")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)

    run = open_run(tmp_path / "watched")
    pictures = {path.stem for path in (run.path / "figures").glob("*.png")}
    for name in ("attractors", "bifurcation", "contraction", "fixed_points", "lyapunov"):
        seen = run.analysis(name)
        assert seen.sizes["member"] == 3
        assert seen.epoch.values.tolist() == [0, 2]
        assert {name, f"{name}_members"} <= pictures
    page = (run.path / "report.html").read_text()
    assert "could not be shown" not in page
    assert "<dt>ensemble</dt><dd>3 members</dd>" in page
    assert "<dt>seed</dt><dd>1 to 3</dd>" in page
    assert f"<h3>Member {run.best_member} by itself, whose training loss is lowest</h3>" in page
    assert run.members.sizes == {"epoch": 2, "quantity": run.members.sizes["quantity"], "member": 3}


def test_the_guide_runs_as_it_stands(cli, tmp_path):
    arguments = (*SMALL, "logger=none", "trainer=cpu", "callbacks=fixed_points", "ensemble=2")
    code, _, err = cli(*arguments, "trainer.max_epochs=1", "run_dir=runs/mine")
    assert code == 0, err
    after, alone = blocks("docs/ensembles.md", "python")
    found = {}
    exec(after, found)
    assert found["run"].members.sel(quantity="train/loss").sizes == {"epoch": 1, "member": 2}
    exec(alone, found)
    assert found["found"].sizes["member"] == 8
    assert found["ensemble"].alive.all()


def test_going_on_equals_never_having_stopped(cli, tmp_path):
    arguments = (*WATCHED, "ensemble=3", "optim.scheduler.milestones=[2,5]", "+optim.record_every=2")
    assert cli(*arguments, "trainer.max_epochs=6", "run_dir=whole")[0] == 0
    assert cli(*arguments, "trainer.max_epochs=4", "run_dir=parts")[0] == 0
    code, _, err = cli("run_dir=parts", "ckpt_path=last", "trainer.max_epochs=6")
    assert code == 0, err
    assert_same_results(tmp_path / "whole", tmp_path / "parts")
    assert open_run("parts").members.epoch.values.tolist() == [2, 4, 6]


def test_numbers_that_are_no_longer_there_leave_gaps(cli, tmp_path):
    arguments = (*CASES["gru"], "model=gru", "optim=adam", "logger=none", "callbacks=none", "trainer=cpu")
    arguments += ("ensemble=2", "+optim.record_every=1")
    assert cli(*arguments, "trainer.max_epochs=2", "run_dir=run")[0] == 0
    code, _, err = cli(
        "run_dir=run", "ckpt_path=last", "trainer.max_epochs=3", "+trainer.limit_val_batches=0"
    )
    assert code == 0, err
    seen = open_run(tmp_path / "run").members.sel(quantity="val/loss")
    assert seen.isnull().all("member").values.tolist() == [False, False, True]
    rows = Page(tmp_path / "run" / "report.html").rows
    assert ["member", "train/loss", "val/loss", ""] in rows
    assert not any("nan" in row for row in rows)


@pytest.mark.slow
def test_a_killed_ensemble_resumes_to_the_same_result(tmp_path):
    arguments = (*WATCHED, "trainer.max_epochs=40", "ensemble=3", "+optim.record_every=3")
    whole = start(*arguments, "run_dir=whole", cwd=tmp_path)
    assert whole.wait(300) == 0, whole.stdout.read()
    metrics = tmp_path / "parts" / "metrics.csv"
    rng = np.random.default_rng(0)
    process = start(*arguments, "run_dir=parts", cwd=tmp_path, start_new_session=True)
    for rows in (6, 23):
        deadline = time.monotonic() + 120
        while not (metrics.exists() and metrics.read_text().count("\n") > rows):
            assert process.poll() is None, process.stdout.read()
            assert time.monotonic() < deadline
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.05))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process = start("run_dir=parts", "ckpt_path=last", cwd=tmp_path, start_new_session=True)
    assert process.wait(300) == 0, process.stdout.read()
    assert_same_results(tmp_path / "whole", tmp_path / "parts")


def test_a_run_of_before_there_were_ensembles_opens_and_goes_on(cli, tmp_path):
    assert cli(*PLAIN, "trainer.max_epochs=2", "run_dir=old")[0] == 0
    path = tmp_path / "old" / "config.yaml"
    config = OmegaConf.load(path)
    del config["ensemble"]
    OmegaConf.save(config, path)
    assert isinstance(open_run(tmp_path / "old").model, RecurrentModel)
    code, _, err = cli("run_dir=old", "ckpt_path=last", "trainer.max_epochs=3")
    assert code == 0, err
    assert open_run("old").metrics.index.tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match="no analysis 'members'"):
        _ = open_run("old").members


def test_another_number_of_members_is_refused(cli, tmp_path):
    assert cli(*PLAIN, "trainer.max_epochs=1", "run_dir=single")[0] == 0
    assert cli(*PLAIN, "trainer.max_epochs=1", "run_dir=both", "ensemble=2")[0] == 0
    for run_dir, given in (("single", "ensemble=2"), ("both", "ensemble=3"), ("both", "ensemble=null")):
        code, _, err = cli(*PLAIN, f"run_dir={run_dir}", "ckpt_path=last", given)
        assert code == 1
        assert "was started with another ensemble: leave ensemble out to go on with it" in err
        assert err.count("\n") == 1
    for run_dir, given in (("single", "ensemble=2"), ("both", "ensemble=3"), ("both", "ensemble=null")):
        code, _, err = cli(*PLAIN, given, "run_dir=new", f"ckpt_path={run_dir}/checkpoints/last.ckpt")
        assert code == 1
        assert "is of another network" in err
        assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("ensemble=0",), "ensemble=0 is not possible: give a whole number of at least 1, or null."),
        (("ensemble=-1",), "ensemble=-1 is not possible"),
        (("ensemble=many",), "ensemble=many is not possible"),
        (("ensemble=true",), "ensemble=True is not possible"),
        (("ensemble=2", "seed=4294967295"), "seed=4294967295 is not possible for 2 members"),
        (("ensemble=2", "trainer=ddp"), "ensemble=2 is not possible with several processes"),
        (("ensemble=2", "optim=adam_plateau"), "ReduceLROnPlateau is not possible for an ensemble"),
        (("ensemble=2", "+optim.record_every=0"), "record_every=0 is not possible"),
    ],
)
def test_what_is_not_possible_is_said_before_anything_is_written(cli, tmp_path, given, said):
    code, _, err = cli(*SMALL, "logger=none", "callbacks=none", "run_dir=new", *given)
    assert code == 1
    assert said in err
    assert err.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_a_sweep_over_sizes(cli, tmp_path):
    code, _, err = cli("-m", *PLAIN, "trainer.max_epochs=1", "ensemble=2,null", "hydra.sweep.dir=all")
    assert code == 0, err
    both, one = open_sweep("all").runs.values()
    assert len(both.model) == 2
    assert isinstance(one.model, RecurrentModel)


def test_a_member_that_stops_is_told_of_on_the_page(cli, tmp_path):
    assert cli(*WATCHED, "ensemble=3", "trainer.max_epochs=1", "run_dir=run")[0] == 0
    path = tmp_path / "run" / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["state_dict"]["model.stacked.readout.bias"][1] = 1e30  # its loss overflows
    torch.save(checkpoint, path)
    code, _, err = cli("run_dir=run", "ckpt_path=last", "trainer.max_epochs=3")
    assert code == 0, err
    run = open_run(tmp_path / "run")
    assert run.metrics["alive"].tolist()[-2:] == [2, 2]
    assert run.members.sel(quantity="alive")[-1].values.tolist() == [1, 0, 1]
    assert run.best_member != 1
    page = (run.path / "report.html").read_text()
    assert "2 of 3 members are training" in page
    assert "could not be shown" not in page
    assert json.loads((run.path / "status.json").read_text())["state"] == "finished"
