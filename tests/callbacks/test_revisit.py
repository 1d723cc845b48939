"""Looks at a run afterwards are the looks that would have been taken while it trained."""

import pytest
import torch
import xarray as xr

from callbacks import Bifurcation
from rnnlab.runs import open_run
from rnnlab.store import Store
from tests.test_train import cli as cli  # a fixture

RUN = (
    *("task=sine", "model=lstm", "model.cell.hidden_size=3", "task.length=6", "task.num_sequences=4"),
    *("task.batch_size=4", "task.num_probes=2", "logger=none", "trainer=cpu", "run_dir=here"),
    *("trainer.max_epochs=4", "checkpoint.keep=2"),
)
LOOK = {"steps": 8, "max_burn_in": 32, "samples": 2, "every": 2}


def test_a_run_looked_at_afterwards_is_what_it_was(cli, tmp_path):
    looks = [f"callbacks.bifurcation.{key}={value}" for key, value in LOOK.items()]
    code, _, err = cli(*RUN, "callbacks=bifurcation", *looks)
    assert code == 0, err
    run = open_run(tmp_path / "here")
    random = torch.get_rng_state()
    again = Bifurcation(**LOOK, store=tmp_path / "again.zarr").revisit(run, progress=False)
    assert torch.equal(random, torch.get_rng_state())
    assert again["epoch"].values.tolist() == [0, 2, 4]
    xr.testing.assert_identical(again.load(), run.analysis("bifurcation").load())
    xr.testing.assert_identical(again, Store(tmp_path / "again.zarr").read("bifurcation").load())


def test_looks_and_pictures_go_into_the_run(cli, tmp_path):
    code, _, err = cli(*RUN, "callbacks=none")
    assert code == 0, err
    run = open_run(tmp_path / "here")
    Bifurcation(**LOOK).revisit(run, progress=False)
    assert run.analysis("bifurcation").sizes["epoch"] == 3
    assert (tmp_path / "here" / "figures" / "bifurcation.png").stat().st_size > 1000
    with pytest.raises(ValueError, match=r"here has looks of the name 'bifurcation': read them by"):
        Bifurcation(**LOOK).revisit(run, progress=False)


def test_a_run_without_checkpoints_is_refused(cli, tmp_path):
    code, _, err = cli(*RUN, "callbacks=none", "checkpoint.keep=null")
    assert code == 0, err
    with pytest.raises(ValueError, match=r"here kept no checkpoints to look at: train with checkpoint\.keep"):
        Bifurcation(**LOOK).revisit(open_run(tmp_path / "here"))
