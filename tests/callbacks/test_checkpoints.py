"""The best and the last checkpoint are what their names say."""

import os
from functools import partial

import pytest
import pytorch_lightning as pl
import torch

from callbacks import Checkpoints
from datamodules import Sine
from rnnlab.cells import Elman
from rnnlab.checkpoints import AtomicCheckpointIO, load_checkpoint
from rnnlab.learner import SequenceLearner
from rnnlab.model import RecurrentModel
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
