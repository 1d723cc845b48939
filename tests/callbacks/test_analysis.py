"""Watching changes nothing, and what is stored is what the network does."""

import copy
import random
from functools import partial

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import xarray as xr

from callbacks import AnalysisCallback, Bifurcation, FixedPoints
from datamodules import Sine, Symbols
from rnnlab.autonomous import HeldInput, freeze
from rnnlab.cells import GRU, LSTM, Elman, Orthogonal, StableLSTM
from rnnlab.ensemble import Ensemble, EnsembleLearner
from rnnlab.figures import style
from rnnlab.learner import SequenceLearner
from rnnlab.model import RecurrentModel
from rnnlab.store import Store
from rnnlab.task import Probes
from tests.trainers import quiet_trainer

CELLS = {"elman": Elman, "gru": GRU, "lstm": LSTM, "slstm": StableLSTM, "ornn": Orthogonal}


class Noise(pl.Callback):
    """Uses every random stream while training, so that a disturbed one would show."""

    def __init__(self):
        self.drawn = []

    def on_train_batch_start(self, *_):
        self.drawn.append((torch.rand(1).item(), np.random.rand(), random.random()))  # noqa: NPY002


class Disturb(AnalysisCallback):
    """An analysis with bad manners: draws random numbers."""

    def __init__(self):
        super().__init__("noise", self.make_noise, every=1, samples=2)

    @staticmethod
    def make_noise(system, x0):
        torch.rand(7), np.random.rand(7), random.random()  # noqa: NPY002
        return xr.Dataset({"mean": ("probe", system.step(x0).mean((1, 2)).numpy())})


def fit(tmp_path, cell, callbacks, epochs=4):
    pl.seed_everything(7, verbose=False)
    task = Sine(num_sequences=4, length=10, batch_size=2, num_probes=3)
    model = RecurrentModel(1, 1, partial(cell, hidden_size=4), input_bound=task.input_bound)
    learner = SequenceLearner(
        model, task.objective, optimizer=partial(torch.optim.Adam, lr=1e-2), clip_norm=0.25
    )
    noise = Noise()
    trainer = quiet_trainer(*callbacks, noise, epochs=epochs, default_root_dir=tmp_path)
    trainer.fit(learner, datamodule=task)
    return learner, noise.drawn, trainer


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_training_is_bit_equal_with_and_without_looking(tmp_path, cell):
    plain, drawn, bare = fit(tmp_path / "plain", cell, [])
    looks = [Bifurcation(every=1, samples=2, std=2.0, steps=20, max_burn_in=100), Disturb()]
    watched, drawn_while_watched, trainer = fit(tmp_path / "watched", cell, looks)
    assert all(look.looks == 5 for look in looks)
    for (name, ours), theirs in zip(watched.model.named_parameters(), plain.model.parameters(), strict=True):
        assert torch.equal(ours, theirs), name
        assert ours.requires_grad == theirs.requires_grad
        assert torch.equal(ours.grad, theirs.grad)
    assert watched.training == plain.training
    assert drawn == drawn_while_watched
    for ours, theirs in zip(
        trainer.optimizers[0].state.values(), bare.optimizers[0].state.values(), strict=True
    ):
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_backward_works_right_after_a_look(tmp_path):
    learner, _, trainer = fit(tmp_path, LSTM, [], epochs=1)
    inputs, targets = Sine(num_sequences=4, length=10, batch_size=2).sequences()
    loss = learner.objective(learner.model(inputs)[0], targets)["loss"]
    callback = Bifurcation(samples=2, steps=5, max_burn_in=50, store=tmp_path / "one.zarr")
    callback.probes = Probes(torch.tensor([[0.2], [0.3]], dtype=torch.float64), ("a", "b"))
    learner.train()
    threads, grad = torch.get_num_threads(), torch.is_grad_enabled()
    callback.look(trainer, learner, 1)
    loss.backward()
    assert learner.training
    assert (threads, grad) == (torch.get_num_threads(), torch.is_grad_enabled())
    assert all(p.grad is not None for p in learner.model.parameters())


def test_store_holds_what_the_network_does(tmp_path):
    callback = Bifurcation(every=3, samples=2, std=0.5, steps=7, burn_in=5)
    learner, _, _ = fit(tmp_path, LSTM, [callback])
    seen = Store(tmp_path / "analysis.zarr").read("bifurcation")
    assert seen.epoch.values.tolist() == [0, 3, 4]
    assert seen.probe.values.tolist() == ["ω = 0.196", "ω = 0.295", "ω = 0.393"]
    model = freeze(learner.model)
    for probe, omega in enumerate(torch.linspace(torch.pi / 16, torch.pi / 8, 3, dtype=torch.float64)):
        system = HeldInput(model, omega[None])
        for sample, x in enumerate(callback.initial_states(model.state_size)):
            outputs = []
            for _ in range(5 + 7):
                x = system.step(x)
                outputs.append(system.observe(x).item())
            stored = seen.y.sel(epoch=4).isel(probe=probe, sample=sample, observable=0).values
            # whether the first kept output is that of step 5 or 6 is the orbit's own convention
            assert np.allclose(stored, outputs[5:], atol=1e-12) or np.allclose(
                stored, outputs[4:-1], atol=1e-12
            )


def test_initial_states_are_the_same_at_every_look_and_differ_by_seed():
    first, again, other = (Bifurcation(seed=seed, std=3.0) for seed in (0, 0, 1))
    assert torch.equal(first.initial_states(6), again.initial_states(6))
    assert not torch.equal(first.initial_states(6), other.initial_states(6))
    assert torch.equal(first.initial_states(6, epoch=3), first.initial_states(6))
    fresh = AnalysisCallback("x", lambda *_: xr.Dataset(), fresh=True)
    assert torch.equal(fresh.initial_states(6, epoch=3), fresh.initial_states(6, epoch=3))
    assert not torch.equal(fresh.initial_states(6, epoch=3), fresh.initial_states(6, epoch=4))
    many = AnalysisCallback("x", lambda *_: xr.Dataset(), samples=4000, std=3.0).initial_states(5)
    assert many.std().item() == pytest.approx(3.0, rel=0.03)


def test_works_on_any_network_with_step_and_read(tmp_path):
    class Mine(pl.LightningModule):
        """x' = w x + u: its fixed point is u / (1 - w), whatever training makes of w."""

        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.tensor(0.5))
            self.state_size = 1

        def step(self, x, u):
            return self.w * x + u

        def read(self, x):
            return x

        def training_step(self, batch, _):
            return (self.w - 0.25).square()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    callback = Bifurcation(
        every=1,
        model=lambda module: module,
        probes=Probes(torch.tensor([[1.0], [2.0]], dtype=torch.float64), ("one", "two")),
    )
    mine = Mine()
    trainer = quiet_trainer(callback, epochs=3, default_root_dir=tmp_path)
    trainer.fit(mine, [torch.zeros(1)])
    seen = Store(tmp_path / "analysis.zarr").read("bifurcation")
    w = 0.5
    for epoch in range(4):
        expected = np.array([1.0, 2.0]) / (1 - w)
        assert np.allclose(seen.y.sel(epoch=epoch).isel(sample=0, time=0, observable=0), expected, rtol=1e-6)
        w -= 0.1 * 2 * (w - 0.25)
    assert bool((seen.period == 1).all())
    assert bool(seen.settled.all())


def test_without_probes_the_error_says_what_to_give(tmp_path):
    class Bare(Sine):
        probes = None

    task = Bare(num_sequences=2, length=3, batch_size=1)
    model = RecurrentModel(1, 1, partial(LSTM, hidden_size=2))
    learner = SequenceLearner(model, task.objective, optimizer=torch.optim.Adam)
    trainer = quiet_trainer(Bifurcation(), default_root_dir=tmp_path)
    with pytest.raises(ValueError, match="Bifurcation knows no inputs to hold: pass probes=Probes"):
        trainer.fit(learner, datamodule=task)


def test_a_picture_that_fails_is_said_and_costs_nothing(tmp_path):
    def broken(looks):
        raise RuntimeError("no ink")

    callback = Bifurcation(every=2, samples=1, steps=5, max_burn_in=20, draw=broken)
    with pytest.warns(UserWarning, match="bifurcation figure could not be drawn .RuntimeError: no ink"):
        fit(tmp_path, LSTM, [callback])
    assert callback.looks == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 0}, "every=0 is not possible"),
        ({"samples": 0}, "samples=0 is not possible"),
        ({"std": -1.0}, "std=-1.0 is not possible"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Bifurcation(**options)


def test_a_look_leaves_caches_of_the_cell_alone():
    model = RecurrentModel(1, 1, partial(Orthogonal, hidden_size=4))
    outputs, _ = model(torch.zeros(3, 2, 1))
    frozen = freeze(model)
    state = copy.deepcopy(model.state_dict())
    frozen.step(torch.zeros(2, 4, dtype=torch.float64), torch.zeros(2, 1, dtype=torch.float64))
    outputs.sum().backward()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def fit_together(tmp_path, callback, members=3, **options):
    """An ensemble whose member 1 is the best: its readout stands at the target."""
    task = Sine(num_sequences=4, length=10, batch_size=4, num_probes=2)
    ensemble = Ensemble.from_seeds(lambda: RecurrentModel(1, 1, partial(GRU, hidden_size=2)), range(members))
    with torch.no_grad():
        ensemble.stacked.readout.bias += torch.tensor([[9.0], [0.0], [-9.0]])
    learner = EnsembleLearner(ensemble, task.objective, optimizer=partial(torch.optim.SGD, lr=0.0), **options)
    quiet_trainer(callback, epochs=3, default_root_dir=tmp_path).fit(learner, datamodule=task)
    return ensemble


def fit_symbols(tmp_path, *callbacks, ensemble=None):
    task = Symbols(num_sequences=4, num_validation=2, length=60, batch_size=4)
    make = partial(RecurrentModel, task.input_size, task.output_size, partial(GRU, hidden_size=2))
    optimizer = partial(torch.optim.SGD, lr=0.1)
    if ensemble is None:
        learner = SequenceLearner(make(), task.objective, optimizer=optimizer)
    else:
        members = Ensemble.from_seeds(make, range(ensemble))
        learner = EnsembleLearner(members, task.objective, optimizer=optimizer)
    quiet_trainer(*callbacks, epochs=1, default_root_dir=tmp_path).fit(learner, datamodule=task)
    return Store(tmp_path / "analysis.zarr")


@pytest.mark.parametrize("ensemble", [None, 2])
def test_outputs_have_the_names_that_the_task_gives(tmp_path, ensemble):
    looks = [Bifurcation(samples=2, steps=6, max_burn_in=30), FixedPoints(samples=2, draw=None)]
    store = fit_symbols(tmp_path, *looks, ensemble=ensemble)
    for name in ("bifurcation", "fixed_points"):
        assert store.read(name).observable.values.tolist() == ["pp", "pq", "qp", "qq"]
        assert store.read(name).probe.values.tolist() == list("pqabcd")
    assert (tmp_path / "figures" / "bifurcation_pairs.png").is_file()


def test_names_that_are_not_those_of_what_is_seen_are_not_given(tmp_path):
    def other(system, x0):
        return xr.Dataset({"y": (("probe", "observable"), x0.sum(1).numpy())})  # two states, four outputs

    assert "observable" not in fit_symbols(tmp_path, AnalysisCallback("other", other)).read("other").coords


def test_a_single_output_has_no_pairs(tmp_path):
    fit(tmp_path, LSTM, [Bifurcation(samples=1, steps=5, max_burn_in=20)], epochs=1)
    assert not (tmp_path / "figures" / "bifurcation_pairs.png").exists()
    assert (tmp_path / "figures" / "bifurcation.png").is_file()


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("recorded", [False, True])
def test_of_an_ensemble_all_are_kept_and_the_best_is_drawn(tmp_path, alone, recorded):
    def outputs(system, x0):
        axes = ("sample",) if alone else ("probe", "sample")
        return xr.Dataset({"y": (axes, system.observe(x0)[..., 0].numpy())}).assign(
            first=lambda d: d.y[..., 0]
        )

    drawn = []

    def draw(looks):
        drawn.append(looks.load())
        return {"seen": style.new_figure(2.0, 2.0)}

    callback = AnalysisCallback("seen", outputs, every=1, samples=4, alone=alone, draw=draw)
    record = {"record": Store(tmp_path / "analysis.zarr"), "record_every": 1} if recorded else {}
    ensemble = fit_together(tmp_path, callback, **record)
    seen = Store(tmp_path / "analysis.zarr").read("seen")
    assert seen.y.sizes == {"epoch": 4, "probe": 2, "member": 3, "sample": 4}
    states = callback.initial_states(2)
    for number, member in enumerate(freeze(ensemble).unstack()):
        np.testing.assert_allclose(seen.y.isel(epoch=-1, probe=1, member=number), member.read(states)[:, 0])
    assert "member" not in drawn[-1].dims
    xr.testing.assert_identical(drawn[-1], seen.isel(member=1 if recorded else 0).load())
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == ["seen.png", "seen_members.png"]


def test_a_drawing_of_all_members_gets_them_all(tmp_path):
    drawn = []

    def draw(looks):
        drawn.append(dict(looks.sizes))
        return {}

    callback = AnalysisCallback(
        "seen",
        lambda system, x0: xr.Dataset({"y": ("probe", system.observe(x0)[:, 0, 0].numpy())}),
        draw=draw,
        draws_members=True,
    )
    fit_together(tmp_path, callback)
    assert drawn[-1] == {"epoch": 2, "probe": 2, "member": 3}
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["seen_members.png"]
