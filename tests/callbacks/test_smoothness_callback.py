"""Watching the smoothness of the cost changes nothing, and what is stored is that of the network."""

from functools import partial

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from callbacks import Smoothness
from datamodules import Sine
from rnnlab.analysis import smoothness
from rnnlab.autonomous import freeze
from rnnlab.cells import LSTM, Orthogonal, StableLSTM
from rnnlab.ensemble import Ensemble, EnsembleLearner
from rnnlab.learner import SequenceLearner
from rnnlab.model import RecurrentModel
from rnnlab.objectives import MeanSquaredError
from rnnlab.store import Store
from tests.trainers import quiet_trainer

CELLS = {"lstm": LSTM, "slstm": StableLSTM, "ornn": Orthogonal}
TASK = {"num_sequences": 6, "length": 9, "batch_size": 3, "shuffle": True}


def fit(folder, cell, *callbacks, epochs=2):
    pl.seed_everything(7, verbose=False)
    task = Sine(**TASK, objective=MeanSquaredError(reduction="sum"))
    model = RecurrentModel(1, 1, partial(cell, hidden_size=3), input_bound=task.input_bound)
    learner = SequenceLearner(
        model, task.objective, optimizer=partial(torch.optim.Adam, lr=1e-2), clip_norm=0.25
    )
    trainer = quiet_trainer(*callbacks, epochs=epochs, default_root_dir=folder)
    trainer.fit(learner, datamodule=task)
    return learner, torch.rand(1).item()


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_training_is_bit_equal_with_and_without_looking(tmp_path, cell):
    plain, drawn = fit(tmp_path / "plain", cell)
    look = Smoothness(every=1, sequences=2, rays=1, points=1, draw=None)
    watched, drawn_while_watched = fit(tmp_path / "watched", cell, look)
    assert look.looks == 3
    assert drawn == drawn_while_watched
    for ours, theirs in zip(watched.model.parameters(), plain.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
        assert torch.equal(ours.grad, theirs.grad)
        assert ours.requires_grad == theirs.requires_grad


def test_what_is_stored_drawn_and_logged_is_that_of_the_network(tmp_path):
    look = Smoothness(every=2, sequences=2, horizons=[3, 4, 6, 9], rays=1, points=3, seed=3)
    learner, _ = fit(tmp_path, LSTM, look, epochs=3)
    seen = Store(tmp_path / "analysis.zarr").read("smoothness")
    assert seen.epoch.values.tolist() == [0, 2, 3]
    assert seen.horizon.values.tolist() == [3, 4, 6, 9]
    inputs, targets = Sine(**TASK).sequences()
    chosen = look._batch[0][:, :, 0].mT  # which sequences were drawn depends on the order of the epoch
    rows = [int((inputs[..., 0].mT == u).all(1).nonzero()) for u in chosen]
    again = smoothness(
        freeze(learner.model), inputs[:, rows].double(), targets[:, rows].double(), MeanSquaredError(),
        horizons=[3, 4, 6, 9], rays=1, points=3, seed=3,
    )  # fmt: skip
    last = seen.sel(epoch=3)
    for name in ("cost", "gradient", "lipschitz", "rate", "stretch"):
        np.testing.assert_allclose(last[name], again[name], rtol=1e-9, err_msg=name)
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {
        "smoothness.png",
        "smoothness_epochs.png",
    }
    said = look.summary(last)
    assert said["lipschitz"] == last.lipschitz.values[0, -1]
    assert said["gradient_lipschitz"] == last.lipschitz.values[1, -1]
    assert (said["power"], said["gradient_power"]) == tuple(last.rate.values[:, 0])


def test_members_of_an_ensemble_are_looked_at_one_by_one(tmp_path):
    pl.seed_everything(7, verbose=False)
    task = Sine(**TASK)
    ensemble = Ensemble([RecurrentModel(1, 1, partial(LSTM, hidden_size=3)) for _ in range(2)])
    learner = EnsembleLearner(ensemble, task.objective, optimizer=partial(torch.optim.Adam, lr=1e-2))
    look = Smoothness(every=1, sequences=2, points=1)
    quiet_trainer(look, epochs=1, default_root_dir=tmp_path).fit(learner, datamodule=task)
    seen = Store(tmp_path / "analysis.zarr").read("smoothness")
    assert seen.sizes["member"] == 2
    cost = seen.cost.isel(epoch=0, horizon=-1).values
    assert cost[0] != cost[1]
    assert (tmp_path / "figures" / "smoothness.png").exists()


def test_too_many_sequences_are_said(tmp_path):
    with pytest.raises(ValueError, match="sequences=7 is not possible: there are 6"):
        fit(tmp_path, LSTM, Smoothness(sequences=7))
