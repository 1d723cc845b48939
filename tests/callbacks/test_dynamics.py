"""Fixed points, exponents, attractors and contraction, watched live: right, warm, and without a trace."""

from functools import partial

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import xarray as xr
from torch import nn

from callbacks import Attractors, Contraction, FixedPoints, Lyapunov, PhasePortrait
from datamodules import Sine
from rnnlab.analysis import contraction, fixed_points, lyapunov_spectrum
from rnnlab.autonomous import HeldInput, freeze, wrap_torch
from rnnlab.cells import GRU, LSTM
from rnnlab.learner import SequenceLearner
from rnnlab.model import RecurrentModel
from rnnlab.store import Store
from rnnlab.task import Probes
from tests.trainers import quiet_trainer

KINDS = {
    "fixed_points": partial(FixedPoints, samples=4),
    "lyapunov": partial(Lyapunov, samples=2, steps=40, discard=20, count=3),
    "attractors": partial(Attractors, samples=3, max_burn_in=200),
    "contraction": partial(Contraction, samples=2, steps=10),
    "phase_portrait": partial(PhasePortrait, samples=2, steps=10, resolution=4),
}


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def fit(tmp_path, callbacks, *, cell=LSTM, epochs=4, ckpt_path=None, save=None):
    pl.seed_everything(7, verbose=False)
    task = Sine(num_sequences=4, length=10, batch_size=2, num_probes=3)
    model = RecurrentModel(1, 1, partial(cell, hidden_size=3), input_bound=task.input_bound)
    learner = SequenceLearner(
        model, task.objective, optimizer=partial(torch.optim.Adam, lr=3e-2), clip_norm=0.25
    )
    trainer = quiet_trainer(*callbacks, epochs=epochs, default_root_dir=tmp_path)
    trainer.fit(learner, datamodule=task, ckpt_path=ckpt_path)
    if save is not None:
        trainer.save_checkpoint(save, weights_only=False)
    return learner


def looks(tmp_path, name):
    return Store(tmp_path / "analysis.zarr").read(name).load()


def test_training_is_bit_equal_with_and_without_looking(tmp_path):
    torch.manual_seed(3)
    watched = fit(tmp_path / "watched", [make(every=1, draw=None) for make in KINDS.values()])
    states = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    plain = fit(tmp_path / "plain", [])
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1] == np.random.get_state()[1].tolist()  # noqa: NPY002
    for (name, ours), theirs in zip(watched.model.named_parameters(), plain.model.parameters(), strict=True):
        assert torch.equal(ours, theirs), name
        assert ours.requires_grad
        assert torch.equal(ours.grad, theirs.grad)
    assert watched.training == plain.training


def test_every_look_is_stored_with_its_figures(tmp_path, kind):
    fit(tmp_path, [KINDS[kind](every=2)])
    seen = looks(tmp_path, kind)
    assert seen.epoch.values.tolist() == [0, 2, 4]
    assert seen.probe.values.tolist() == ["ω = 0.196", "ω = 0.295", "ω = 0.393"]
    pictures = sorted(path.name for path in (tmp_path / "figures").glob("*.png"))
    assert f"{kind}.png" in pictures
    assert all((tmp_path / "figures" / name).stat().st_size > 5000 for name in pictures)


def test_a_resumed_run_sees_what_the_unbroken_one_saw(tmp_path, kind):
    fit(tmp_path / "whole", [KINDS[kind](every=1, draw=None)])
    checkpoint = tmp_path / "half.ckpt"
    fit(tmp_path / "broken", [KINDS[kind](every=1, draw=None)], epochs=2, save=checkpoint)
    fit(tmp_path / "broken", [KINDS[kind](every=1, draw=None)], ckpt_path=checkpoint)
    xr.testing.assert_identical(looks(tmp_path / "broken", kind), looks(tmp_path / "whole", kind))


def test_summaries_are_numbers(tmp_path, kind):
    callback = KINDS[kind](every=4, draw=None)
    fit(tmp_path, [callback])
    scalars = callback.summary(looks(tmp_path, kind).isel(epoch=-1))
    assert scalars
    assert all(isinstance(value, float) and np.isfinite(value) for value in scalars.values()), scalars


def last_system(learner):
    task = Sine(num_sequences=4, length=10, batch_size=2, num_probes=3)
    return HeldInput(freeze(learner.model), task.probes().inputs.double()[:, None])


def test_the_stored_points_are_fixed_points_of_the_network(tmp_path):
    learner = fit(tmp_path, [FixedPoints(every=2, samples=6)], cell=GRU)
    seen = looks(tmp_path, "fixed_points").sel(epoch=4)
    system = last_system(learner)
    points = torch.as_tensor(seen.point.values)
    there = torch.as_tensor(seen.unstable.values >= 0)
    assert there.any(-1).all()
    moved = (system.step(points.nan_to_num()) - points).abs().amax(-1)
    assert (moved[there] < 1e-10).all()
    assert points[~there].isnan().all()
    by_hand = fixed_points(system, FixedPoints(samples=40).initial_states(3).expand(3, -1, -1))
    assert seen.index_sum.values.tolist() == by_hand.index_sum.values.tolist() == [1, 1, 1]


def test_a_warm_look_finds_the_branch_that_cold_starts_miss(tmp_path):
    # starts far from all but one point: only what the look before knew leads to the rest
    class Cubes(torch.nn.Module):
        """x' = tanh(3 x): -p, 0 and p, of which 0 is unstable."""

        state_size = 1

        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.tensor(3.0))

        def step(self, x, u):
            return torch.tanh(self.w * x) + 0 * u

        def read(self, x):
            return x

    callback = FixedPoints(samples=1, std=0.0)  # one start, at the unstable point
    system = HeldInput(freeze(Cubes()), torch.zeros(1, 1, 1).double())
    everywhere = torch.linspace(-1, 1, 9).double()[None, :, None]
    known = callback.warm(callback.analysis(system, everywhere))
    cold = callback.analysis(system, callback.initial_states(1)[None])
    warm = callback.analysis(system, callback.initial_states(1)[None], **known)
    assert (cold.unstable >= 0).sum() == 1
    assert (warm.unstable >= 0).sum() == 3


def test_exponents_are_those_of_the_network(tmp_path):
    callback = Lyapunov(every=4, samples=2, steps=300, discard=200, count=9)
    learner = fit(tmp_path, [callback], cell=GRU)
    seen = looks(tmp_path, "lyapunov").sel(epoch=4)
    assert seen.sizes["mode"] == 3  # no more than the state has
    x0 = callback.initial_states(3).expand(3, -1, -1)
    by_hand = lyapunov_spectrum(last_system(learner), x0, steps=300, discard=200)
    np.testing.assert_allclose(seen.exponent.values, by_hand.exponent.values, atol=1e-12)


def test_bounds_are_those_of_the_network(tmp_path):
    callback = Contraction(every=4, samples=2, steps=10)
    learner = fit(tmp_path, [callback], cell=GRU)
    seen = looks(tmp_path, "contraction").sel(epoch=4)
    by_hand = contraction(last_system(learner), callback.initial_states(3).expand(3, -1, -1), steps=10)
    np.testing.assert_allclose(seen.upper.values, by_hand.upper.values)
    assert (seen.upper >= seen.sampled).all()


class Theirs(pl.LightningModule):
    """A module of somebody who knows nothing of rnnlab."""

    def __init__(self, kind=nn.GRU, layers=1):
        super().__init__()
        self.save_hyperparameters({"layers": layers})
        self.rnn = kind(2, 3, num_layers=layers)
        self.readout = nn.Linear(3, 1)

    def training_step(self, batch, _):
        return self.readout(self.rnn(batch)[0]).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize(("kind", "layers"), [(nn.GRU, 1), (nn.LSTM, 2), (nn.RNN, 2)])
def test_networks_of_others_are_watched_in_their_own_trainer(tmp_path, kind, layers):
    probes = Probes(torch.tensor([[0.0, 0.0], [1.0, -1.0]]), ("silence", "both"))
    options = {"probes": probes, "model": lambda module: wrap_torch(module.rnn, module.readout), "draw": None}
    watch = [make(every=1, **options) for make in KINDS.values()]
    module = Theirs(kind, layers)
    data = torch.utils.data.DataLoader([torch.randn(5, 4, 2) for _ in range(2)], batch_size=None)
    trainer = quiet_trainer(*watch, epochs=2, default_root_dir=tmp_path)
    trainer.fit(module, data)
    assert Store(tmp_path / "analysis.zarr").names == tuple(sorted(KINDS))
    for name in KINDS:
        seen = looks(tmp_path, name)
        assert seen.epoch.values.tolist() == [0, 1, 2]
        assert seen.probe.values.tolist() == ["silence", "both"]
    # after training, from a checkpoint, the same is seen
    trainer.save_checkpoint(tmp_path / "theirs.ckpt")
    again = Theirs.load_from_checkpoint(tmp_path / "theirs.ckpt", weights_only=True, kind=kind, layers=layers)
    network = freeze(wrap_torch(again.rnn, again.readout))
    x0 = watch[1].initial_states(network.state_size)
    for probe, u in enumerate(probes.inputs):
        found = lyapunov_spectrum(HeldInput(network, u), x0, count=3, steps=40, discard=20)
        stored = looks(tmp_path, "lyapunov").isel(epoch=-1, probe=probe)
        np.testing.assert_allclose(found.exponent.values, stored.exponent.values, atol=1e-9)
