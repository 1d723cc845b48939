"""The learner against training written out by hand."""

import math
from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from torch.optim.lr_scheduler import MultiStepLR, ReduceLROnPlateau

from datamodules import Sine
from rnnlab.cells import GRU, LSTM, StableLSTM
from rnnlab.learner import DivergedError, SequenceLearner
from rnnlab.model import RecurrentModel
from rnnlab.objectives import MeanSquaredError
from tests.trainers import quiet_trainer

ADAM = partial(torch.optim.Adam, lr=1e-2)


class Rows(pl.loggers.logger.DummyLogger):
    """Keeps the rows it is given."""

    def __init__(self):
        super().__init__()
        self.rows = []

    def log_metrics(self, metrics, step=None):
        self.rows.append(dict(metrics))


def fit(model, *, epochs, reduction="sum", task=None, callbacks=(), **options):
    task = task or Sine(
        num_sequences=6, length=20, batch_size=4, objective=MeanSquaredError(reduction=reduction)
    )
    learner = SequenceLearner(model, task.objective, **{"optimizer": ADAM, **options})
    logger = Rows()
    trainer = quiet_trainer(*callbacks, epochs=epochs, logger=logger)
    trainer.fit(learner, datamodule=task)
    return learner, logger.rows


def network(cell=LSTM, **options):
    torch.manual_seed(3)
    return RecurrentModel(1, 1, partial(cell, hidden_size=5, **options))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_equals_training_by_hand(reduction):
    learner, rows = fit(
        network(),
        epochs=4,
        reduction=reduction,
        clip_norm=0.25,
        scheduler=partial(MultiStepLR, milestones=[2], gamma=0.1),
    )

    model = network()
    optimizer = ADAM(model.parameters())
    inputs, targets = Sine(num_sequences=6, length=20, batch_size=4).sequences()
    by_hand = []
    for epoch in range(4):
        if epoch == 2:
            optimizer.param_groups[0]["lr"] *= 0.1
        losses, errors, norms = [], [], []
        for part in (slice(0, 4), slice(4, 6)):
            squared = (model(inputs[:, part])[0] - targets[:, part]).square()
            loss = squared.sum() if reduction == "sum" else squared.mean()
            optimizer.zero_grad()
            loss.backward()
            norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), 0.25)))
            optimizer.step()
            weight = part.stop - part.start
            losses.append(loss.item() * weight)
            errors.append(squared.mean().item() * weight)
        by_hand.append(
            (
                sum(losses) / 6,
                sum(errors) / 6,
                optimizer.param_groups[0]["lr"],
                sum(norms) / 2,
                sum(n > 0.25 for n in norms) / 2,
            )
        )
    for ours, theirs in zip(learner.model.parameters(), model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    for row, expected in zip(rows, by_hand, strict=True):
        found = (row["train/loss"], row["train/mse"], row["lr"], row["grad_norm"], row["clipped"])
        assert found == pytest.approx(expected, rel=1e-5)


def test_without_clipping_nothing_is_clipped():
    _, rows = fit(network(), epochs=1, clip_norm=None)
    assert rows[0]["clipped"] == 0
    assert rows[0]["grad_norm"] > 0.25


def test_plateau_schedule_watches_the_named_number():
    # a rate of zero learns nothing: after `patience` epochs without improvement the schedule must act
    _, rows = fit(
        network(),
        epochs=4,
        optimizer=partial(torch.optim.SGD, lr=1e-30),
        monitor="train/mse",
        scheduler=partial(ReduceLROnPlateau, patience=0, factor=0.5, eps=0.0),
    )
    assert rows[-1]["lr"] < rows[0]["lr"]
    with pytest.raises(ValueError, match="monitor='val/loss' is not logged: choose one of train/loss"):
        fit(network(), epochs=1, monitor="val/loss", scheduler=ReduceLROnPlateau)


def test_constraint_holds_after_every_update():
    model = network(StableLSTM)
    seen = []

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, *_):
            seen.append(pl_module.model.cell.certificates()["contraction"])

    _, rows = fit(model, epochs=3, callbacks=[Watch()], optimizer=partial(torch.optim.Adam, lr=0.5))
    assert len(seen) == 6
    assert max(seen) < 1
    assert rows[-1]["certificate/contraction"] == seen[-1]


def test_validation_and_test_numbers_are_averages_over_sequences():
    class WithTest(Sine):
        def val_dataloader(self):
            return self.train_dataloader()

        def test_dataloader(self):
            return self.train_dataloader()

    task = WithTest(num_sequences=6, length=20, batch_size=4)
    assert task.has_test_data
    assert not Sine().has_test_data
    learner, rows = fit(network(), epochs=1, task=task)
    logger = Rows()
    quiet_trainer(logger=logger).test(learner, datamodule=task, verbose=False)
    inputs, targets = task.sequences()
    with torch.no_grad():
        expected = (learner.model(inputs)[0] - targets).square().mean().item()
    assert rows[0]["val/mse"] == pytest.approx(expected, rel=1e-6)
    assert logger.rows[-1]["test/mse"] == pytest.approx(expected, rel=1e-6)


def test_divergence_is_one_clear_error():
    model = network(GRU)
    with torch.no_grad():
        model.readout.weight.fill_(math.nan)
    with pytest.raises(
        DivergedError, match=r"became nan in epoch 1 \(batch 1\); the last good checkpoint is kept"
    ):
        fit(model, epochs=2)


@pytest.mark.parametrize("clip_norm", [0.0, -1.0, math.nan])
def test_clip_norm_is_checked(clip_norm):
    with pytest.raises(ValueError, match="clip_norm"):
        SequenceLearner(network(), MeanSquaredError(), optimizer=ADAM, clip_norm=clip_norm)
