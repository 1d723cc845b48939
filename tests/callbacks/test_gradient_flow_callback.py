"""Gradients watched live: the numbers of the analysis, stored, drawn and logged, and training untouched."""

from functools import partial

import numpy as np
import pytorch_lightning as pl
import torch
import xarray as xr

from callbacks import GradientFlow
from datamodules import Sine
from rnnlab.analysis import gradient_flow
from rnnlab.autonomous import freeze
from rnnlab.cells import LSTM, Orthogonal
from rnnlab.ensemble import Ensemble, EnsembleLearner
from rnnlab.learner import SequenceLearner
from rnnlab.members import verdicts
from rnnlab.model import RecurrentModel
from rnnlab.report import write_report
from rnnlab.store import Store
from tests.trainers import quiet_trainer


def watch(**options):
    return GradientFlow(**{"every": 2, "sequences": 3, "max_lag": 4, "moments": 2, **options})


def fit(folder, callbacks, *, cell=LSTM, ckpt_path=None, epochs=4, save=None):
    pl.seed_everything(7, verbose=False)
    task = Sine(num_sequences=6, length=20, batch_size=2)
    model = RecurrentModel(1, 1, partial(cell, hidden_size=3), input_bound=task.input_bound)
    learner = SequenceLearner(
        model, task.objective, optimizer=partial(torch.optim.Adam, lr=3e-2), clip_norm=0.25
    )
    trainer = quiet_trainer(*callbacks, epochs=epochs, default_root_dir=folder)
    trainer.fit(learner, datamodule=task, ckpt_path=ckpt_path)
    if save is not None:
        trainer.save_checkpoint(save, weights_only=False)
    return learner


def looks(folder):
    return Store(folder / "analysis.zarr").read("gradient_flow").load()


def test_training_is_bit_equal_with_and_without_looking(tmp_path):
    for cell in (LSTM, Orthogonal):
        watched = fit(tmp_path / f"watched{cell.__name__}", [watch(every=1, draw=None)], cell=cell)
        state = torch.get_rng_state()
        plain = fit(tmp_path / f"plain{cell.__name__}", [], cell=cell)
        assert torch.equal(state, torch.get_rng_state())
        for ours, theirs in zip(watched.model.parameters(), plain.model.parameters(), strict=True):
            assert torch.equal(ours, theirs)
            assert torch.equal(ours.grad, theirs.grad)


def test_a_look_is_the_analysis_of_training_sequences(tmp_path):
    learner = fit(tmp_path, [watch()])
    seen = looks(tmp_path)
    assert seen.epoch.values.tolist() == [0, 2, 4]
    assert seen.sizes["sequence"] == 3
    task = Sine(num_sequences=6, length=20, batch_size=2)
    task.setup("fit")
    u, y = (
        torch.cat(parts, 1).double()[:, [0, 2, 5]] for parts in zip(*task.train_dataloader(), strict=True)
    )
    truth = gradient_flow(freeze(learner.model), u, y, task.objective, max_lag=4, moments=2)
    for name in truth:
        a, b = truth[name].values, seen[name].isel(epoch=-1).values
        if a.dtype.kind == "f":
            np.testing.assert_allclose(a, b, rtol=1e-10, err_msg=name)
        else:
            assert a.tolist() == b.tolist()
    figures = sorted(path.name for path in (tmp_path / "figures").glob("*.png"))
    assert figures == ["gradient_flow.png", "gradient_flow_parameters.png"]
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "nats per step back" in page
    assert "could not be shown" not in page


def test_a_resumed_run_sees_what_the_unbroken_one_saw(tmp_path):
    fit(tmp_path / "whole", [watch(draw=None)])
    checkpoint = tmp_path / "half.ckpt"
    fit(tmp_path / "broken", [watch(draw=None)], epochs=2, save=checkpoint)
    fit(tmp_path / "broken", [watch(draw=None)], ckpt_path=checkpoint)
    xr.testing.assert_identical(looks(tmp_path / "broken"), looks(tmp_path / "whole"))


def test_members_of_an_ensemble_are_looked_at_one_by_one(tmp_path):
    task = Sine(num_sequences=6, length=20, batch_size=2)
    ensemble = Ensemble.from_seeds(lambda: RecurrentModel(1, 1, partial(LSTM, hidden_size=3)), range(3))
    learner = EnsembleLearner(ensemble, task.objective, optimizer=partial(torch.optim.Adam, lr=3e-2))
    quiet_trainer(watch(), epochs=2, default_root_dir=tmp_path).fit(learner, datamodule=task)
    seen = looks(tmp_path)
    assert seen.rate.sizes == {"epoch": 2, "member": 3, "sequence": 3}
    kind = verdicts(seen).kind
    for epoch, member in np.ndindex(2, 3):
        fates = set(seen.fate.values[epoch, member])
        assert kind.values[epoch, member] == (fates.pop() if len(fates) == 1 else "differs between sequences")
    assert (tmp_path / "figures" / "gradient_flow_members.png").stat().st_size > 5000


def test_scalars_for_the_log():
    look = xr.Dataset(
        {
            "rate": ("sequence", [-0.5, 0.1, np.nan, 0.0]),
            "exponent": ("sequence", [-0.4, 0.2, 0.1, 0.1]),
            "fate": ("sequence", ["vanishing", "exploding", "undecided", "vanishing"]),
        }
    )
    said = watch().summary(look)
    assert (said["vanishing"], said["exploding"]) == (0.5, 0.25)
    np.testing.assert_allclose([said["rate"], said["exponent"]], [-0.4 / 3, 0.0], atol=1e-15)
