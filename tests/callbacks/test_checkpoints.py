"""The best and the last checkpoint are what their names say."""

import os
from functools import partial

import pytest
import pytorch_lightning as pl
import torch

from callbacks import Bifurcation, Checkpoints
from datamodules import Sine
from rnnlab.autonomous import freeze
from rnnlab.cells import Elman
from rnnlab.checkpoints import AtomicCheckpointIO, epochs_kept, kept, load_checkpoint
from rnnlab.learner import SequenceLearner
from rnnlab.model import RecurrentModel
from rnnlab.runs import open_run
from tests.test_train import cli as cli  # a fixture
from tests.trainers import quiet_trainer


def fit(folder, *, lrs, **options):
    """One epoch at each rate; rate 0 learns nothing, a huge one does harm. Gives the weights after each."""
    task = Sine(num_sequences=4, length=5, batch_size=4, num_probes=2)
    torch.manual_seed(0)
    model = RecurrentModel(1, 1, partial(Elman, hidden_size=2))
    schedule = partial(torch.optim.lr_scheduler.LambdaLR, lr_lambda=lambda epoch: ([*lrs, 0.0])[epoch])
    learner = SequenceLearner(
        model, task.objective, optimizer=partial(torch.optim.SGD, lr=1.0), scheduler=schedule
    )
    seen = []

    class Watch(pl.Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            seen.append({k: v.clone() for k, v in pl_module.state_dict().items()})

    trainer = quiet_trainer(
        Watch(),
        Checkpoints(folder, **options),
        epochs=len(lrs),
        plugins=[AtomicCheckpointIO()],
        enable_checkpointing=True,
    )
    trainer.fit(learner, datamodule=task)
    return seen


def same(path, weights):
    return all(torch.equal(value, weights[k]) for k, value in load_checkpoint(path)["state_dict"].items())


@pytest.mark.parametrize("links", [True, False])
def test_best_stays_when_it_gets_worse(tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError("no links here")))
    # the loss of an epoch is that before its update: epoch 3 is the best, and the update in it does harm
    seen = fit(tmp_path, lrs=[0.05, 0.05, 50.0, 0.0, 0.0])
    assert same(tmp_path / "best.ckpt", seen[2])
    assert same(tmp_path / "last.ckpt", seen[4])
    assert not torch.equal(seen[2]["model.readout.weight"], seen[1]["model.readout.weight"])
    assert load_checkpoint(tmp_path / "last.ckpt")["epoch"] == 4
    assert sorted(p.name for p in tmp_path.iterdir()) == ["best.ckpt", "last.ckpt"]


def test_saved_every_so_many_epochs_and_after_the_last(tmp_path):
    seen = fit(tmp_path, lrs=[0.05] * 5, every=3)
    assert load_checkpoint(tmp_path / "last.ckpt")["epoch"] == 4
    assert same(tmp_path / "last.ckpt", seen[4])


def test_what_is_not_logged_cannot_be_monitored(tmp_path):
    with pytest.raises(
        ValueError, match=r"checkpoint\.monitor=val/loss is not logged: choose one of .*train/loss"
    ):
        fit(tmp_path, lrs=[0.1], monitor="val/loss")


def test_mode_is_checked(tmp_path):
    with pytest.raises(ValueError, match=r"checkpoint\.mode='least' is not possible: choose min or max"):
        Checkpoints(tmp_path, mode="least")


def test_some_are_kept_for_good_beginning_with_the_untrained_network(tmp_path):
    seen = fit(tmp_path, lrs=[0.05] * 5, keep=2)
    assert epochs_kept(tmp_path) == [0, 2, 4]
    names = {p.name for p in tmp_path.iterdir()}
    assert names == {"best.ckpt", "last.ckpt", *(f"epoch_00000{epoch}.ckpt" for epoch in (0, 2, 4))}
    untrained = load_checkpoint(kept(tmp_path, 0))["state_dict"]
    torch.manual_seed(0)
    model = RecurrentModel(1, 1, partial(Elman, hidden_size=2))
    assert all(torch.equal(untrained[f"model.{name}"], value) for name, value in model.state_dict().items())
    for epoch in (2, 4):
        assert same(kept(tmp_path, epoch), seen[epoch - 1])
        assert load_checkpoint(kept(tmp_path, epoch))["epoch"] == epoch - 1
    assert not same(kept(tmp_path, 2), seen[3])


def test_what_is_kept_need_not_be_when_the_others_are_saved(tmp_path):
    """An epoch that is kept is saved, so that what goes on from the last starts nowhere before it."""
    seen = fit(tmp_path, lrs=[0.05] * 4, every=4, keep=3)
    assert epochs_kept(tmp_path) == [0, 3]
    assert same(kept(tmp_path, 3), seen[2])
    assert same(tmp_path / "last.ckpt", seen[3])


@pytest.mark.parametrize("links", [True, False])
def test_what_is_kept_stays_what_it_was(tmp_path, monkeypatch, links):
    """It shares its file with the last checkpoint, which is only ever replaced."""
    if not links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError("no links here")))
    seen = fit(tmp_path, lrs=[0.05, 50.0, 0.05, 0.05], keep=1)
    for epoch in range(1, 5):
        assert same(kept(tmp_path, epoch), seen[epoch - 1])


@pytest.mark.parametrize("key", ["every", "keep"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "often"])
def test_a_number_of_epochs_is_whole(tmp_path, key, value):
    with pytest.raises(
        ValueError, match=rf"^checkpoint\.{key}={value!r} is not possible: give a whole number"
    ):
        Checkpoints(tmp_path, **{key: value})
    if key == "every":
        with pytest.raises(ValueError, match=r"^checkpoint\.every=None is not possible"):
            Checkpoints(tmp_path, every=None)


WATCHED = (
    *("task=sine", "model=elman", "model.cell.hidden_size=2", "task.length=6", "task.num_sequences=4"),
    *("task.batch_size=4", "task.num_probes=2", "logger=none", "trainer=cpu", "run_dir=here"),
)
LOOK = (
    *("callbacks=bifurcation", "callbacks.bifurcation.steps=8", "callbacks.bifurcation.max_burn_in=32"),
    *("callbacks.bifurcation.samples=1", "callbacks.bifurcation.every=3"),
)


def test_kept_networks_are_opened_by_their_epoch(cli, tmp_path):
    code, _, err = cli(*WATCHED, "callbacks=none", "checkpoint.keep=2", "trainer.max_epochs=4")
    assert code == 0, err
    run = open_run(tmp_path / "here")
    assert run.epochs_kept == [0, 2, 4]
    for epoch in (0, 2, 4):
        expected = load_checkpoint(kept(tmp_path / "here" / "checkpoints", epoch))["state_dict"]
        loaded = run.load(epoch).state_dict()
        assert all(torch.equal(value, expected[f"model.{name}"]) for name, value in loaded.items())
    assert not torch.equal(run.load(0).readout.weight, run.load(4).readout.weight)
    assert not run.load(2).training
    message = r"^epoch 3 of .*here was not kept: there is 0, 2, 4\.$"
    with pytest.raises(FileNotFoundError, match=message):
        run.load(3)


def test_a_run_that_kept_none_says_how_to(cli, tmp_path):
    code, _, err = cli(*WATCHED, "callbacks=none", "trainer.max_epochs=1")
    assert code == 0, err
    run = open_run(tmp_path / "here")
    assert run.epochs_kept == []
    with pytest.raises(FileNotFoundError, match=r"was not kept: there is none; checkpoint\.keep=10 keeps"):
        run.load(1)


def test_a_resumed_run_keeps_what_the_unbroken_one_keeps(cli, tmp_path):
    whole = [argument for argument in WATCHED if not argument.startswith("run_dir")] + ["run_dir=whole"]
    options = ("callbacks=none", "checkpoint.keep=2")
    for arguments in (
        (*whole, *options, "trainer.max_epochs=6"),
        (*WATCHED, *options, "trainer.max_epochs=3"),
        ("run_dir=here", "ckpt_path=last", "trainer.max_epochs=6"),
    ):
        code, _, err = cli(*arguments)
        assert code == 0, err
    ours, theirs = (open_run(tmp_path / name) for name in ("here", "whole"))
    assert ours.epochs_kept == theirs.epochs_kept == [0, 2, 4, 6]
    for epoch in ours.epochs_kept:
        pair = [run.load(epoch).state_dict() for run in (ours, theirs)]
        assert all(torch.equal(pair[0][name], pair[1][name]) for name in pair[0])


@pytest.mark.parametrize("mode", ["", "_generation"])
def test_where_training_is_stopped_early_the_last_is_saved_and_looked_at(cli, tmp_path, mode):
    """At epoch 2, where neither a checkpoint nor a look was due."""
    told = [
        "task=teacher_forced",
        "+callbacks.again={_target_: callbacks.Bifurcation, generation: true, every: 3}",
    ]
    arguments = [
        argument.replace("task.", "task.task.") if mode else argument
        for argument in WATCHED
        if not (mode and argument == "task=sine")
    ]
    stop = (
        "+callbacks.stop={_target_: pytorch_lightning.callbacks.EarlyStopping, monitor: train/loss, mode: max"
    )
    stop += ", stopping_threshold: -1, patience: 9, check_on_train_epoch_end: true}"
    limit = ["checkpoint.every=3", "trainer.max_epochs=50", "+trainer.min_epochs=2"]
    code, _, err = cli(*arguments, *LOOK, *(told if mode else ()), stop, *limit)
    assert code == 0, err
    run = open_run(tmp_path / "here")
    assert run.metrics.index.tolist() == [0, 1, 2]
    assert load_checkpoint(tmp_path / "here" / "checkpoints" / "last.ckpt")["epoch"] == 1
    for name in {"bifurcation", f"bifurcation{mode}"}:
        seen = run.analysis(name)
        assert seen.epoch.values.tolist() == [0, 2]
        settled = run.metrics[f"{name}/settled"]
        assert settled[2] == float(seen.settled.isel(epoch=-1).mean())
        assert settled.notna().tolist() == [True, False, True]
        assert (tmp_path / "here" / "figures" / f"{name}.png").is_file()
    # what is looked at is what is saved
    model, probes = freeze(run.load("last")), run.task.probes()
    x = Bifurcation(samples=1).initial_states(model.state_size)
    burn_in = int(run.analysis("bifurcation").burn_in[-1, 0, 0])
    for _ in range(burn_in):
        x = model.step(x, probes.inputs[0].double())
    y = run.analysis("bifurcation").y.isel(epoch=-1, probe=0, sample=0, time=0)
    assert y.item() == pytest.approx(model.read(x).item(), abs=1e-9)
