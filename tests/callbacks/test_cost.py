"""A look at the cost sees some training sequences, always the same, and leaves no trace."""

from functools import partial
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
import xarray as xr
from torch.func import functional_call, grad
from torch.utils.data import DataLoader

from callbacks import CostCallback
from datamodules import Sine, Symbols, TeacherForced
from rnnlab.autonomous import freeze
from rnnlab.cells import LSTM
from rnnlab.ensemble import Ensemble, EnsembleLearner
from rnnlab.learner import SequenceLearner
from rnnlab.model import RecurrentModel
from rnnlab.store import Store
from tests.trainers import quiet_trainer


class Noise(pl.Callback):
    """Draws numbers and keeps the batches, so that a disturbed stream or another order would show."""

    def __init__(self):
        self.seen = []

    def on_train_batch_start(self, trainer, module, batch, *_):
        self.seen.append((torch.rand(1).item(), batch[0].double().sum().item()))


class Given:
    """An analysis that keeps what it was given."""

    def __init__(self):
        self.calls = []

    def __call__(self, network, inputs, targets, objective):
        torch.rand(5)  # bad manners
        self.calls.append((network, inputs, targets, objective))
        cost = objective(network(inputs)[0], targets)["loss"]
        return xr.Dataset({"cost": float(cost), "norm": ("sequence", inputs.abs().sum((0, 2)).numpy())})


def fit(tmp_path, task, *callbacks, epochs=2, ensemble=None, ckpt_path=None):
    pl.seed_everything(5, verbose=False)
    make = partial(RecurrentModel, task.input_size, task.output_size, partial(LSTM, hidden_size=3))
    if ensemble is None:
        learner = SequenceLearner(make(), task.objective, optimizer=partial(torch.optim.Adam, lr=0.05))
    else:
        members = Ensemble.from_seeds(make, range(ensemble))
        learner = EnsembleLearner(members, task.objective, optimizer=partial(torch.optim.Adam, lr=0.05))
    trainer = quiet_trainer(*callbacks, epochs=epochs, default_root_dir=tmp_path)
    trainer.fit(learner, datamodule=task, ckpt_path=ckpt_path)
    return learner, trainer


def sine(**options):
    return Sine(**{"num_sequences": 12, "length": 7, "batch_size": 3} | options)


def watch(given, **options):
    return CostCallback("cost", given, **{"every": 1, "sequences": 4} | options)


def test_sequences_are_spread_evenly_over_the_training_set_and_stay_the_same(tmp_path):
    given, task = Given(), sine()
    learner, _ = fit(tmp_path, task, watch(given, sequences=4))
    inputs, targets = task.sequences()
    chosen = [0, 4, 7, 11]  # 0, 11/3, 22/3 and 11, rounded
    assert len(given.calls) == 3
    for _, us, ys, objective in given.calls:
        assert us.dtype == ys.dtype == torch.float64
        assert torch.equal(us, inputs[:, chosen].double())
        assert torch.equal(ys, targets[:, chosen].double())
        assert objective is learner.objective
    seen = Store(tmp_path / "analysis.zarr").read("cost")
    assert seen.epoch.values.tolist() == [0, 1, 2]
    assert seen.cost.sizes == {"epoch": 3}
    model = freeze(learner.model)
    expected = task.objective(model(inputs[:, chosen].double())[0], targets[:, chosen].double())["loss"]
    assert float(seen.cost[-1]) == pytest.approx(float(expected), rel=1e-12)
    assert float(seen.cost[0]) != float(seen.cost[-1])


def test_classes_stay_whole_numbers(tmp_path):
    given, task = Given(), Symbols(num_sequences=8, num_validation=2, length=60, batch_size=4)
    fit(tmp_path, task, watch(given, sequences=3), epochs=1)
    _, _, targets, _ = given.calls[0]
    assert not targets.is_floating_point()
    assert torch.equal(targets, task.sequences("train")[1][:, [0, 4, 7]])


@pytest.mark.parametrize("make", [sine, lambda **o: TeacherForced(sine(**o))], ids=["plain", "told"])
def test_training_is_bit_equal_with_and_without_looking(tmp_path, make):
    noises = Noise(), Noise()
    given = Given()
    watched, _ = fit(tmp_path / "watched", make(shuffle=True), watch(given), noises[0], epochs=3)
    plain, _ = fit(tmp_path / "plain", make(shuffle=True), noises[1], epochs=3)
    assert noises[0].seen == noises[1].seen
    assert len(noises[0].seen) == 3 * 4
    for (name, ours), theirs in zip(watched.model.named_parameters(), plain.model.parameters(), strict=True):
        assert torch.equal(ours, theirs), name
        assert ours.requires_grad
    assert all(torch.equal(us, given.calls[0][1]) for _, us, _, _ in given.calls)


def test_parameters_may_be_differentiated_by(tmp_path):
    def slope(network, inputs, targets, objective):
        weights = {name: value.detach().clone() for name, value in network.named_parameters()}

        def cost(weights):
            return objective(functional_call(network, weights, (inputs,))[0], targets)["loss"]

        forward = grad(cost)(weights)["readout.bias"]
        leaves = {name: value.requires_grad_() for name, value in weights.items()}
        (backward,) = torch.autograd.grad(cost(leaves), [leaves["readout.bias"]])
        return xr.Dataset({"forward": float(forward), "backward": float(backward)})

    task = sine()
    learner, _ = fit(tmp_path, task, watch(slope))
    seen = Store(tmp_path / "analysis.zarr").read("cost").isel(epoch=-1)
    inputs, targets = (values[:, [0, 4, 7, 11]].double() for values in task.sequences())
    # mean squared error: twice the mean error
    outputs = freeze(learner.model)(inputs)[0]
    expected = 2 * float((outputs - targets).mean())
    assert float(seen.forward) == pytest.approx(expected, rel=1e-9)
    assert float(seen.backward) == pytest.approx(expected, rel=1e-9)


def test_members_of_an_ensemble_have_an_axis(tmp_path):
    given, task = Given(), sine()
    learner, _ = fit(tmp_path, task, watch(given), ensemble=3)
    seen = Store(tmp_path / "analysis.zarr").read("cost")
    assert seen.cost.sizes == {"epoch": 3, "member": 3}
    inputs, targets = (values[:, [0, 4, 7, 11]].double() for values in task.sequences())
    for number, model in enumerate(freeze(learner.model).unstack()):
        expected = float(task.objective(model(inputs)[0], targets)["loss"])
        assert float(seen.cost.isel(epoch=-1, member=number)) == pytest.approx(expected, rel=1e-12)
    assert len({float(value) for value in seen.cost[-1]}) == 3


def test_a_resumed_run_sees_the_same_sequences(tmp_path):
    first, second = Given(), Given()
    _, trainer = fit(tmp_path, sine(shuffle=True), watch(first), epochs=2)
    trainer.save_checkpoint(tmp_path / "half.ckpt", weights_only=False)
    fit(tmp_path, sine(shuffle=True), watch(second), epochs=3, ckpt_path=tmp_path / "half.ckpt")
    (_, inputs, _, _), *rest = second.calls
    assert not rest
    assert torch.equal(inputs, first.calls[0][1])


class Shuffled(Sine):
    """Draws the order of its batches from torch's own generator, as a DataLoader does."""

    def train_dataloader(self):
        pairs = [
            (u[:, None], y[:, None]) for u, y in zip(*(v[:, :, 0].mT for v in self.sequences()), strict=True)
        ]
        collate = lambda batch: tuple(torch.stack(part, 1) for part in zip(*batch, strict=True))  # noqa: E731
        return DataLoader(pairs, batch_size=3, shuffle=True, collate_fn=collate)


def test_what_a_loader_of_ones_own_draws_is_not_missed_in_training(tmp_path):
    noises, given = (Noise(), Noise()), Given()
    fit(tmp_path / "watched", Shuffled(num_sequences=12, length=7, batch_size=3), watch(given), noises[0])
    fit(tmp_path / "plain", Shuffled(num_sequences=12, length=7, batch_size=3), noises[1])
    assert noises[0].seen == noises[1].seen
    assert given.calls[0][1].shape == (7, 4, 1)


def test_each_process_takes_from_all_sequences():
    """Not from the half of each batch that it trains on."""
    task, callback = sine(batch_size=4), watch(Given(), sequences=12)
    task.trainer = owner = SimpleNamespace(global_rank=1, world_size=2)
    assert next(iter(task.train_dataloader()))[0].shape[1] == 2
    inputs, targets = callback._take(SimpleNamespace(datamodule=task))
    assert torch.equal(inputs, task.sequences()[0])
    assert torch.equal(targets, task.sequences()[1])
    assert task.trainer is owner


def test_what_is_shared_is_one_dataset(tmp_path):
    for shared in (False, True):
        fit(tmp_path / str(shared), sine(), watch(Given(), shared=shared), epochs=1)
    seen = [Store(tmp_path / name / "analysis.zarr").read("cost").load() for name in ("True", "False")]
    xr.testing.assert_identical(*seen)
    assert seen[0].norm.sizes == {"epoch": 2, "sequence": 4}


def test_more_sequences_than_there_are_is_one_clear_line(tmp_path):
    with pytest.raises(ValueError, match=r"^sequences=13 is not possible: there are 12 to look at\.$"):
        fit(tmp_path, sine(), watch(Given(), sequences=13))


@pytest.mark.parametrize("value", [0, -1, 2.0, True])
def test_a_number_of_sequences_is_whole(value):
    with pytest.raises(ValueError, match=f"^sequences={value!r} is not possible: give a whole number"):
        CostCallback("cost", Given(), sequences=value)


def test_without_a_datamodule_one_line_says_so(tmp_path):
    task = sine()
    model = RecurrentModel(1, 1, partial(LSTM, hidden_size=3))
    learner = SequenceLearner(model, task.objective, optimizer=torch.optim.Adam)
    trainer = quiet_trainer(watch(Given()), default_root_dir=tmp_path)
    with pytest.raises(ValueError, match=r"^CostCallback knows no sequences: train with a datamodule"):
        trainer.fit(learner, task.train_dataloader())
