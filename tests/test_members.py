"""What is kept of an ensemble's members, and what looks say of each."""

import math

import numpy as np
import pytest
import torch
import xarray as xr

from datamodules import Sine
from rnnlab import members
from rnnlab.ensemble import Ensemble, EnsembleLearner
from rnnlab.store import Store
from tests.figures.looks import gains, lipschitz, pitchforks, settling, spectra
from tests.figures.orbits import growing_circle
from tests.test_ensemble import maker
from tests.trainers import quiet_trainer

EPOCHS = np.array([0, 400, 600, 1000])


def as_members(dataset):
    """The probes of a dataset as the members of an ensemble that was looked at under two probes."""
    one = dataset.rename(probe="member").drop_vars("member")
    return xr.concat([one, one.isel(member=slice(None, None, -1))], "probe").assign_coords(probe=["a", "b"])


def kinds(dataset):
    found = members.verdicts(as_members(dataset))
    return found, found["kind"].transpose("epoch", "probe", "member").values


def test_rows_come_back_as_they_were(tmp_path):
    store = Store(tmp_path / "store")
    names = ["train/loss", "alive", "val/loss"]
    store.append(
        members.NAME, members.row({"train/loss": [3.0, 1.0, 2.0], "alive": [1, 1, 1]}, names), epoch=1
    )
    validated = {"train/loss": [2.0, np.nan, 1.5], "alive": [1, 0, 1], "val/loss": [4.0, 5.0, 6.0]}
    store.append(members.NAME, members.row(validated, names), epoch=2)
    seen = store.read(members.NAME)
    found = members.numbers(seen)
    assert list(found) == names
    np.testing.assert_array_equal(found["train/loss"], [[3, 1, 2], [2, np.nan, 1.5]])
    np.testing.assert_array_equal(found["val/loss"], [[np.nan] * 3, [4, 5, 6]])
    assert members.ranking(seen) == [2, 0, 1]
    assert members.ranking(seen.isel(epoch=[0])) == [1, 2, 0]
    assert "val/loss" not in members.numbers(seen.isel(epoch=[0]))


def test_a_member_that_stopped_is_never_the_best():
    row = members.row({"train/loss": [0.1, 0.5, np.nan], "alive": [0, 1, 1]}, ["train/loss", "alive"])
    assert members.ranking(row.expand_dims(epoch=[1])) == [1, 2, 0]


def test_the_same_numbers_are_said_once_and_only_scores():
    found = {
        "train/loss": np.array([[1.0, np.nan]]),
        "train/mse": np.array([[1.0, np.nan]]),
        "val/loss": np.array([[1.0, 2.0]]),
        "grad_norm": np.array([[3.0, 4.0]]),
    }
    assert members.scored(found) == ["train/loss", "val/loss"]
    dataset = members.row({k: v[0] for k, v in found.items()} | {"alive": [1, 0]}, [*found, "alive"])
    verdicts = members.verdicts(dataset.expand_dims(epoch=[7]))
    assert set(verdicts.data_vars) == {"train/loss", "val/loss", "kind"}
    assert verdicts["kind"].values.tolist() == [["trains", "stopped"]]
    assert verdicts["epoch"].values.tolist() == [7]


def test_fixed_points_are_counted_by_kind():
    found, words = kinds(pitchforks(EPOCHS, state=2))
    w = gains(EPOCHS, 3)
    expected = np.where(w > 1, "4 stable, 4 saddles, 1 unstable", "1 stable")
    assert words[:, 0].tolist() == expected.tolist()
    assert words[:, 1].tolist() == expected[:, ::-1].tolist()
    count = found["fixed points"].transpose("epoch", "probe", "member").values
    assert count[:, 0].tolist() == np.where(w > 1, 9, 1).tolist()
    assert found["stable ones"].sel(probe="b").values.tolist() == np.where(w > 1, 4, 1)[:, ::-1].tolist()


def test_attractors_are_counted_by_kind():
    _, words = kinds(settling(EPOCHS))
    w = gains(EPOCHS, 3)
    late = np.where(w < 1.5, "2 fixed points", "1 fixed point, 1 periodic orbit, 1 chaotic attractor")
    assert words[:, 0].tolist() == np.where(w < 1, "1 fixed point", late).tolist()


def test_the_sign_of_an_exponent_is_known_beyond_three_errors():
    dataset = spectra(EPOCHS)
    found, words = kinds(dataset)
    leading = 0.2 * (gains(EPOCHS, 3) - 1.2)
    expected = np.where(leading > 0.03, "chaos", np.where(leading < -0.03, "orbits come together", "neither"))
    assert len(np.unique(expected)) == 3
    assert words[:, 0].tolist() == expected.tolist()
    np.testing.assert_allclose(found["leading exponent"].sel(probe="a"), leading)
    lost = members.verdicts(as_members(dataset.where(dataset["epoch"] < 500)))
    assert (lost["kind"].sel(epoch=1000) == "diverged").all()


def test_contraction_is_certain_in_the_norm_that_serves_best():
    found, words = kinds(lipschitz(EPOCHS))
    w = gains(EPOCHS, 3)
    unknown = np.where(0.95 * 0.97 * w >= 1, "not contracting in any norm", "not known")
    assert words[:, 0].tolist() == np.where(0.97 * w < 1, "contracting for certain", unknown).tolist()
    np.testing.assert_allclose(found["certified bound"].sel(probe="a"), 0.97 * w)


def test_orbits_are_at_rest_or_move():
    orbits = growing_circle(EPOCHS)
    orbits["settled"][0, 1, 0] = False
    orbits["y"][1, 2, 1] = np.nan
    found, words = kinds(orbits)
    rest, moving = "fixed point", "oscillation"
    assert words[:, 0].tolist() == [
        [rest, "fixed point and not settled", rest],
        [rest, rest, "fixed point and diverges"],
        [moving] * 3,
        [moving] * 3,
    ]
    reach = found["peak to peak of y"].sel(probe="a", epoch=1000)
    np.testing.assert_allclose(reach, 2 * math.sqrt(0.5), rtol=2e-2)


def test_any_other_analysis_says_what_it_has_for_each():
    axes = ("epoch", "probe", "member")
    dataset = xr.Dataset(
        {
            "note": (axes, [[["x", "y"]]]),
            "signature": (axes, [[["1 sink", "2 sinks, 1 saddle"]]]),
            "sinks": (axes, [[[1, 2]]]),
            "point": ((*axes, "index"), np.zeros((1, 1, 2, 5))),
            "epoch_cost": ("epoch", [3.0]),
        }
    )
    found = members.verdicts(dataset)
    assert set(found.data_vars) == {"kind", "sinks"}
    assert found["kind"].values.tolist() == [[["1 sink", "2 sinks, 1 saddle"]]]
    assert not members.verdicts(dataset[["point"]])


def learn(store, epochs, ckpt_path=None, save=None, **options):
    task = Sine(num_sequences=4, length=6, batch_size=4)
    single = maker(inputs=1, outputs=1)
    ensemble = Ensemble.from_seeds(lambda: single().float(), range(3))
    learner = EnsembleLearner(ensemble, task.objective, optimizer=torch.optim.Adam, record=store, **options)
    trainer = quiet_trainer(epochs=epochs)
    trainer.fit(learner, datamodule=task, ckpt_path=ckpt_path)
    if save:
        trainer.save_checkpoint(save, weights_only=False)
    return learner


def test_the_learner_keeps_rows_and_forgets_those_after_its_checkpoint(tmp_path):
    store, checkpoint = Store(tmp_path / "store"), tmp_path / "two.ckpt"
    whole = learn(Store(tmp_path / "whole"), 5, record_every=2)
    learn(store, 2, record_every=2, save=checkpoint)
    learn(store, 4, record_every=3, ckpt_path=checkpoint)  # went on, and was killed
    learner = learn(store, 5, record_every=2, ckpt_path=checkpoint)
    seen = store.read(members.NAME).load()
    assert seen.epoch.values.tolist() == [2, 4, 5]
    xr.testing.assert_identical(seen, Store(tmp_path / "whole").read(members.NAME).load())
    last = members.numbers(seen)
    assert last["train/loss"][-1].tolist() == learner.members["train/loss"].tolist()
    assert last["train/loss"][-1].tolist() == whole.members["train/loss"].tolist()
    assert last["alive"].tolist() == [[1.0] * 3] * 3
    assert not any(name.startswith("updates/") for name in last)


@pytest.mark.parametrize("every", [0, -1, 1.5])
def test_rows_are_kept_every_whole_number_of_epochs(every):
    with pytest.raises(ValueError, match=f"record_every={every} is not possible"):
        learn(None, 1, record_every=every)
