"""Ensembles against separate runs, and their analyses against those of single members."""

import copy
import math
from functools import partial

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.optim.lr_scheduler import MultiStepLR, ReduceLROnPlateau

from datamodules import Adding, CopyMemory, FlipFlop, Sine, Symbols, TeacherForced
from rnnlab.analysis.contraction import contraction
from rnnlab.analysis.fixed_points import fixed_points
from rnnlab.analysis.lyapunov import lyapunov_spectrum
from rnnlab.analysis.orbit import orbit
from rnnlab.autonomous import ClosedLoop, HeldInput, InputSet, freeze
from rnnlab.cells import GRU, LSTM, Cell, Elman, Orthogonal, StableLSTM
from rnnlab.ensemble import Ensemble, EnsembleLearner
from rnnlab.learner import DivergedError, SequenceLearner
from rnnlab.model import RecurrentModel
from rnnlab.objectives import MeanSquaredError
from rnnlab.systems import bounds, jacobian, push, reduced
from tests.trainers import quiet_trainer

MEMBERS, LENGTH, BATCH = 4, 7, 5


class Foreign(Cell):
    """Not of the house: a leaky unit without a scan, push or anything else of its own."""

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size, hidden_size)
        self.inner = nn.Linear(input_size + hidden_size, hidden_size)
        self.register_buffer("leak", torch.rand(hidden_size))

    def step(self, x, u):
        u = u.expand(*x.shape[:-1], u.shape[-1])
        return torch.lerp(x, self.inner(torch.cat([u, x], -1)).sin(), self.leak)


CELLS = {
    "gru before": GRU,
    "gru after": partial(GRU, reset="after"),
    "elman": Elman,
    "elman relu": partial(Elman, nonlinearity="relu"),
    "lstm": LSTM,
    "slstm": StableLSTM,
    "slstm rescale": partial(StableLSTM, constraint="rescale"),
    "ornn": Orthogonal,
    "foreign": Foreign,
}
LAYERS = [(name, layers) for name in CELLS for layers in (1, 2) if layers == 1 or name in ("lstm", "slstm")]
LAYERS.append(("gru before", 2))


def maker(name="gru before", *, hidden=3, inputs=2, outputs=2, **options):
    def make():
        model = RecurrentModel(inputs, outputs, partial(CELLS[name], hidden_size=hidden), **options)
        return model.double()

    return make


def series(inputs=2, outputs=2, epochs=1, seed=5):
    generator = torch.Generator().manual_seed(seed)
    shape = (epochs, LENGTH, BATCH)
    us = torch.randn(*shape, inputs, generator=generator, dtype=torch.float64)
    us[:, 2:4] = 0.0  # steps without input have a path of their own
    return us, torch.randn(*shape, outputs, generator=generator, dtype=torch.float64)


def train_alone(model, batches, *, clip_norm, lr=0.05, optimizer=torch.optim.Adam):
    """One run as `SequenceLearner` does it, whose test has this loop; ends where the loss is not finite."""
    optimizer = optimizer(model.parameters(), lr=lr)
    losses, norms = [], []
    for inputs, targets in zip(*batches, strict=True):
        loss = MeanSquaredError()(model(inputs)[0], targets)["loss"]
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            break
        optimizer.zero_grad()
        loss.backward()
        norms.append(nn.utils.clip_grad_norm_(model.parameters(), clip_norm or math.inf).item())
        optimizer.step()
        model.constrain()
    return losses, norms


def train_together(ensemble, batches, *, clip_norm, lr=0.05, optimizer=torch.optim.Adam):
    optimizer = optimizer(ensemble.parameters(), lr=lr)
    losses, norms = [], []
    for inputs, targets in zip(*batches, strict=True):
        loss = ensemble.evaluate(MeanSquaredError(), ensemble(inputs)[0], targets)["loss"]
        losses.append(loss.detach())
        optimizer.zero_grad()
        loss.sum().backward()
        norms.append(ensemble.update(optimizer, loss, clip_norm))
    return torch.stack(losses), torch.stack(norms)


def assert_same(one, other, rtol=1e-9, atol=1e-10):
    for (name, ours), theirs in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(
            ours, theirs, rtol=rtol, atol=atol, msg=lambda m, name=name: f"{name}: {m}"
        )


@pytest.mark.parametrize(("name", "layers"), LAYERS)
def test_equals_separate_runs(name, layers):
    make = maker(name, num_layers=layers)
    ensemble = Ensemble.from_seeds(make, range(10, 10 + MEMBERS))
    batches = series(epochs=6)
    alone = []
    for seed in range(10, 10 + MEMBERS):
        torch.manual_seed(seed)
        alone.append(make())
    runs = [train_alone(model, batches, clip_norm=0.8) for model in alone]
    losses, norms = train_together(ensemble, batches, clip_norm=0.8)
    assert (norms > 0.8).any()
    assert (norms < 0.8).any()
    torch.testing.assert_close(
        losses, torch.tensor([run[0] for run in runs], dtype=torch.float64).mT, rtol=1e-9, atol=0
    )
    torch.testing.assert_close(
        norms, torch.tensor([run[1] for run in runs], dtype=torch.float64).mT, rtol=1e-8, atol=0
    )
    for number, model in enumerate(alone):
        assert_same(ensemble.member(number), model)
    for name, values in ensemble.certificates().items():
        assert values.tolist() == pytest.approx([model.cell.certificates()[name] for model in alone])


@pytest.mark.parametrize("name", CELLS)
def test_members_of_float32_are_the_runs_to_its_rounding(name):
    make = maker(name)
    alone = [make().float() for _ in range(MEMBERS)]
    ensemble = Ensemble(alone)
    batches = tuple(part.float() for part in series(epochs=1))
    losses, _ = train_together(ensemble, batches, clip_norm=None, optimizer=torch.optim.SGD)
    runs = [train_alone(model, batches, clip_norm=None, optimizer=torch.optim.SGD) for model in alone]
    torch.testing.assert_close(losses[0], torch.tensor([run[0][0] for run in runs]))
    for number, model in enumerate(alone):
        assert_same(ensemble.member(number), model, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("shared", [True, False])
def test_states_go_in_and_come_out_with_gradients(name, shared):
    ensemble = Ensemble([maker(name, bias=False)() for _ in range(MEMBERS)])
    inputs, _ = series()
    shape = (BATCH, ensemble.state_size) if shared else (MEMBERS, BATCH, ensemble.state_size)
    x0 = (0.5 * torch.randn(shape, dtype=torch.float64)).requires_grad_()
    outputs, last = ensemble(inputs[0], x0)
    assert outputs.shape == (LENGTH, MEMBERS, BATCH, 2)
    weights = torch.randn_like(outputs), torch.randn_like(last)
    found = torch.autograd.grad((outputs * weights[0]).sum() + (last * weights[1]).sum(), x0)[0]
    expected = torch.zeros_like(x0)
    for number, model in enumerate(ensemble.unstack()):
        mine = (x0 if shared else x0[number]).detach().requires_grad_()
        y, x = model(inputs[0], mine)
        torch.testing.assert_close(outputs[:, number], y)
        torch.testing.assert_close(last[number], x)
        scalar = (y * weights[0][:, number]).sum() + (x * weights[1][number]).sum()
        (expected if shared else expected[number]).add_(torch.autograd.grad(scalar, mine)[0])
    torch.testing.assert_close(found, expected)


def test_gradients_by_the_inputs():
    ensemble = Ensemble([maker()() for _ in range(MEMBERS)])
    inputs = series()[0][0].requires_grad_()
    found = torch.autograd.grad(ensemble(inputs)[0].square().sum(), inputs)[0]
    expected = sum(
        torch.autograd.grad(model(inputs)[0].square().sum(), inputs)[0] for model in ensemble.unstack()
    )
    torch.testing.assert_close(found, expected)


def test_an_encoder_belongs_to_each_member():
    make = maker(inputs=3, encoder=None)

    def with_encoder():
        model = make()
        model.encoder = nn.Embedding(6, 3).double()
        return model

    ensemble = Ensemble.from_seeds(with_encoder, range(MEMBERS))
    symbols = torch.randint(6, (LENGTH, BATCH))
    outputs, _ = ensemble(symbols)
    x = torch.randn(MEMBERS, BATCH, 3).double()
    following = ensemble.step(x, symbols[0])
    with torch.no_grad():
        torch.testing.assert_close(ensemble(symbols)[0], outputs)
    for number, model in enumerate(ensemble.unstack()):
        torch.testing.assert_close(outputs[:, number], model(symbols)[0])
        torch.testing.assert_close(following[number], model.step(x[number], symbols[0]))


@pytest.mark.parametrize("name", CELLS)
def test_a_member_that_diverges_stops_and_touches_no_other(name):
    make = maker(name)
    batches = series(epochs=4)
    sick = Ensemble.from_seeds(make, range(MEMBERS))
    with torch.no_grad():
        sick.stacked.readout.bias[1] = math.nan
    well = Ensemble.from_seeds(make, range(MEMBERS))
    before = sick.member(1)
    losses, _ = train_together(sick, batches, clip_norm=0.5)
    expected, _ = train_together(well, batches, clip_norm=0.5)
    assert sick.alive.tolist() == [True, False, True, True]
    assert well.alive.all()
    others = [0, 2, 3]
    torch.testing.assert_close(losses[:, others], expected[:, others], rtol=1e-12, atol=0)
    for number in others:
        assert_same(sick.member(number), well.member(number), rtol=1e-12, atol=1e-13)
    before.readout.bias.data.fill_(0.0)
    after = sick.member(1)
    after.readout.bias.data.fill_(0.0)
    assert_same(after, before, rtol=0, atol=0)


def test_a_member_that_diverges_late_keeps_its_last_finite_parameters():
    batches = series(epochs=5)
    batches[1][3] = 1e200  # the loss, not the parameters, overflows
    ensemble = Ensemble.from_seeds(maker(), range(2))
    with torch.no_grad():
        ensemble.stacked.readout.weight[0] = 0.0
    model = ensemble.member(1)
    train_together(ensemble, batches, clip_norm=0.5)
    losses, _ = train_alone(model, batches, clip_norm=0.5)
    assert len(losses) == 4
    assert not ensemble.alive.any()
    assert_same(ensemble.member(1), model)


def test_making_an_ensemble_leaves_torchs_generator_and_the_models_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    Ensemble.from_seeds(maker(), range(3))
    assert torch.equal(torch.rand(2), expected)
    models = [maker()() for _ in range(3)]
    before = copy.deepcopy(models)
    train_together(Ensemble(models), series(epochs=2), clip_norm=None)
    for model, old in zip(models, before, strict=True):
        assert_same(model, old, rtol=0, atol=0)


def test_state_is_saved_and_loaded_with_weights_only(tmp_path):
    ensemble = Ensemble.from_seeds(maker("slstm"), range(MEMBERS))
    train_together(ensemble, series(epochs=2), clip_norm=None)
    ensemble.alive[2] = False
    torch.save(ensemble.state_dict(), tmp_path / "state.pt")
    other = Ensemble.from_seeds(maker("slstm"), range(90, 90 + MEMBERS))
    other.member(0)  # what was handed out before must not stay
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert_same(other, ensemble, rtol=0, atol=0)
    assert_same(other.member(3), ensemble.member(3), rtol=0, atol=0)
    assert set(other.state_dict()) == {
        "alive",
        *(f"stacked.{name}" for name in ensemble.member(0).state_dict()),
    }


def test_members_follow_what_becomes_of_the_ensemble():
    ensemble = Ensemble([maker("slstm")().float() for _ in range(3)])
    first = ensemble.member(1)
    assert isinstance(first, RecurrentModel)
    with torch.no_grad():
        first.cell.weight_hh.zero_()  # a copy
    assert ensemble.stacked.cell.weight_hh[1].any()
    twin = freeze(ensemble)
    with torch.no_grad():
        ensemble.stacked.cell.weight_hh[1] += 10.0
    torch.testing.assert_close(ensemble.member(1).cell.weight_hh, ensemble.stacked.cell.weight_hh[1])
    assert twin.member(1).cell.weight_hh.dtype == torch.float64
    assert not twin.member(1).cell.weight_hh.requires_grad
    assert twin.member(1).cell.weight_hh.abs().max() < 5
    ensemble.constrain()
    assert max(model.cell.certificates()["contraction"] for model in ensemble.unstack()) < 1
    assert max(ensemble.double().certificates()["contraction"].tolist()) < 1
    assert not ensemble.eval().member(0).training


def test_any_readout_will_do():
    def deep():
        model = maker()()
        model.readout = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
        return model

    ensemble = Ensemble.from_seeds(deep, range(MEMBERS))
    inputs, _ = series()
    outputs, last = ensemble(inputs[0])
    for number, model in enumerate(ensemble.unstack()):
        torch.testing.assert_close(outputs[:, number], model(inputs[0])[0])
        torch.testing.assert_close(last[number], model(inputs[0])[1])


def test_refusals():
    with pytest.raises(ValueError, match="at least one member"):
        Ensemble([])
    with pytest.raises(ValueError, match="member 1 is of another make than member 0"):
        Ensemble([maker()(), maker(hidden=4)()])
    with pytest.raises(ValueError, match="member 2 is of another make than member 0"):
        Ensemble([maker()(), maker()(), maker("gru after")()])
    with pytest.raises(ValueError, match="member 1 is of another make"):
        Ensemble([maker()(), maker()().float()])

    class Backwards(RecurrentModel):
        def forward(self, inputs, x0=None):
            return super().forward(inputs.flip(0), x0)

    with pytest.raises(ValueError, match="a Backwards with a forward of its own is not possible"):
        Ensemble([Backwards(1, 1, partial(GRU, hidden_size=2))])
    tied = maker()()
    tied.readout.bias = tied.readout.weight
    with pytest.raises(ValueError, match="in two places"):
        Ensemble([tied])
    with pytest.raises(IndexError, match="member 2 is not there: there are 2"):
        Ensemble([maker()(), maker()()]).member(2)
    with pytest.raises(ValueError, match=r"shape \(3, 5, 3\) is not possible for 2 members"):
        Ensemble([maker()(), maker()()]).step(torch.zeros(3, 5, 3), torch.zeros(2))


# analyses


def held(name, **options):
    """The members held at an input that is not zero, together and one by one."""
    ensemble = freeze(Ensemble.from_seeds(maker(name, **options), range(MEMBERS)))
    u = torch.tensor([0.3, -0.2], dtype=torch.float64)
    return HeldInput(ensemble, u), [HeldInput(model, u) for model in ensemble.unstack()]


@pytest.mark.parametrize(("name", "layers"), LAYERS)
def test_as_a_system_it_is_its_members(name, layers):
    together, alone = held(name, num_layers=layers)
    size = together.model.state_size
    x = torch.randn(MEMBERS, 5, size, dtype=torch.float64)
    frame = torch.randn(MEMBERS, 5, size, 2, dtype=torch.float64)
    both = push(together, x, frame)
    loop = ClosedLoop(together.model)
    looped = push(loop, loop.start(x), torch.eye(size + 2).double().expand(MEMBERS, 5, -1, -1))
    for number, system in enumerate(alone):
        mine = x[number]
        torch.testing.assert_close(together.step(x)[number], system.step(mine))
        torch.testing.assert_close(together.observe(x)[number], system.observe(mine))
        torch.testing.assert_close(together.step(x[0])[number], system.step(x[0]))
        for ours, theirs in zip(both, push(system, mine, frame[number]), strict=True):
            torch.testing.assert_close(ours[number], theirs)
        torch.testing.assert_close(jacobian(together, x)[number], jacobian(system, mine))
        single = ClosedLoop(system.model)
        eye = torch.eye(size + 2).double().expand(5, -1, -1)
        for ours, theirs in zip(looped, push(single, single.start(mine), eye), strict=True):
            torch.testing.assert_close(ours[number], theirs)


@pytest.mark.parametrize(("name", "layers"), LAYERS)
def test_what_members_know_of_themselves(name, layers):
    together, alone = held(name, num_layers=layers)
    small, box, lipschitz = reduced(together), bounds(together), together.lipschitz()
    every = InputSet(together.model, -torch.ones(2).double(), torch.ones(2).double()).bounds()
    x = torch.randn(MEMBERS, 5, together.model.state_size, dtype=torch.float64)
    for number, system in enumerate(alone):
        theirs = reduced(system)
        assert (small is None) == (theirs is None)
        if small is not None:
            z = small.restrict(x)
            torch.testing.assert_close(z[number], theirs.restrict(x[number]))
            torch.testing.assert_close(small.step(z)[number], theirs.step(z[number]))
            torch.testing.assert_close(small.lift(z)[number], theirs.lift(z[number]))
            torch.testing.assert_close(jacobian(small, z)[number], jacobian(theirs, z[number]))
            frame = torch.randn(*z.shape, 2, dtype=torch.float64)
            for ours, single in zip(
                push(small, z, frame), push(theirs, z[number], frame[number]), strict=True
            ):
                torch.testing.assert_close(ours[number], single)
        assert (box is None) == (bounds(system) is None)
        if box is not None:
            for ours, single in zip(box, bounds(system), strict=True):
                torch.testing.assert_close(ours[number, 0], single)
            wide = InputSet(system.model, -torch.ones(2).double(), torch.ones(2).double()).bounds()
            torch.testing.assert_close(every[1][number, 0], wide[1])
        assert (lipschitz is None) == (system.lipschitz() is None)
        if lipschitz is not None:
            torch.testing.assert_close(lipschitz[number, 0], system.lipschitz())


@pytest.mark.parametrize("name", ["gru before", "lstm", "ornn"])
def test_analyses_see_members_as_probes(name):
    together, alone = held(name)
    x0 = torch.randn(6, together.model.state_size, dtype=torch.float64)
    starts = x0.expand(MEMBERS, -1, -1)
    orbits = orbit(together, starts, steps=20, burn_in=50)
    exponents = lyapunov_spectrum(together, starts, steps=200, discard=50)
    points = fixed_points(together, starts)
    for number, system in enumerate(alone):
        torch.testing.assert_close(
            torch.tensor(orbits.y.values[number]),
            torch.tensor(orbit(system, x0, steps=20, burn_in=50).y.values),
            rtol=1e-6,
            atol=1e-9,
        )
        single = lyapunov_spectrum(system, x0, steps=200, discard=50)
        assert exponents.exponent.values[number] == pytest.approx(single.exponent.values, abs=1e-6)
        single = fixed_points(system, x0)
        found = points.point.values[number]
        assert found[: single.sizes["index"]] == pytest.approx(single.point.values, abs=1e-8)
        assert (points["unstable"].values[number] >= 0).sum() == single.sizes["index"]
        assert points["index_sum"].values[number] == single.index_sum.item()


@pytest.mark.parametrize(("name", "layers"), LAYERS)
def test_contraction_of_each_member_is_certified(name, layers):
    together, alone = held(name, num_layers=layers)
    x0 = torch.randn(3, together.model.state_size, dtype=torch.float64)
    found = contraction(together, x0.expand(MEMBERS, -1, -1), steps=10, burn_in=5)
    for number, system in enumerate(alone):
        single = contraction(system, x0, steps=10, burn_in=5)
        for key in ("upper", "sampled", "rate", "low", "high"):
            np.testing.assert_allclose(found[key][number], single[key], rtol=1e-9, atol=1e-12)
        assert found["best"][number] == single["best"]
        assert found.attrs["unknown"] == single.attrs["unknown"]


def test_inputs_and_members_make_a_grid():
    together, alone = held("gru before")
    inputs = torch.randn(3, 1, 1, 2, dtype=torch.float64)
    x = torch.randn(3, MEMBERS, 5, 3, dtype=torch.float64)
    following = HeldInput(together.model, inputs).step(x)
    for probe in range(3):
        for number, system in enumerate(alone):
            one = HeldInput(system.model, inputs[probe, 0, 0]).step(x[probe, number])
            torch.testing.assert_close(following[probe, number], one)


# under Lightning


class Rows(pl.loggers.logger.DummyLogger):
    """Keeps the rows it is given."""

    def __init__(self):
        super().__init__()
        self.rows = []

    def log_metrics(self, metrics, step=None):
        self.rows.append(dict(metrics))


def sine():
    return Sine(num_sequences=6, length=20, batch_size=4)


def fit(make, model, *callbacks, epochs=3, task=sine, **options):
    task = task()
    learner = make(model, task.objective, **{"optimizer": partial(torch.optim.Adam, lr=0.02), **options})
    logger = Rows()
    quiet_trainer(*callbacks, epochs=epochs, logger=logger).fit(learner, datamodule=task)
    return learner, logger.rows


@pytest.mark.parametrize("name", ["gru before", "slstm"])
def test_learner_equals_separate_learners(name):
    options = {"clip_norm": 0.25, "scheduler": partial(MultiStepLR, milestones=[2], gamma=0.1)}
    make = maker(name, inputs=1, outputs=1)

    def single():
        return make().float()

    seen = []

    class Watch(pl.Callback):
        def on_train_epoch_start(self, trainer, module):
            seen.append(module.members)

        def on_train_end(self, trainer, module):
            seen.append(module.members)

    learner, rows = fit(EnsembleLearner, Ensemble.from_seeds(single, range(3)), Watch(), **options)
    runs = []
    for seed in range(3):
        torch.manual_seed(seed)
        runs.append(fit(SequenceLearner, single(), **options))
        assert_same(learner.model.member(seed), runs[-1][0].model, rtol=1e-4, atol=1e-5)
    for epoch, row in enumerate(rows):
        theirs = [run[1][epoch] for run in runs]
        assert row["alive"] == 3
        assert row["train/loss_min"] == pytest.approx(min(r["train/loss"] for r in theirs), rel=1e-4)
        for key in ("train/loss", "train/mse", "grad_norm", "clipped", "lr", "epoch"):
            assert row[key] == pytest.approx(sorted(r[key] for r in theirs)[1], rel=1e-4)
        for key, values in seen[epoch + 1].items():
            key = key.removeprefix("updates/")
            assert values.tolist() == pytest.approx([r[key] for r in theirs], rel=1e-4)
    assert rows[0]["lr"] > rows[2]["lr"]


SIZES = {"num_sequences": 8, "num_validation": 5, "batch_size": 4}
TASKS = {
    "symbols": lambda: Symbols(**SIZES, length=14, first=(2, 4), second=(7, 9)),
    "adding": lambda: Adding(**SIZES, length=12),
    "copy memory": lambda: CopyMemory(**SIZES, symbols=2, delay=5, alphabet=3),
    "flip-flop": lambda: FlipFlop(**SIZES, length=12),
    "told numbers": lambda: TeacherForced(FlipFlop(**SIZES, length=12)),
    "told classes": lambda: TeacherForced(CopyMemory(**SIZES, symbols=2, delay=5), mode="instead"),
}


# all of both are seen; all pairs where there is time
PAIRS = [
    pytest.param(task, cell, marks=() if (i - j) % 3 == 0 else pytest.mark.slow)
    for i, task in enumerate(TASKS)
    for j, cell in enumerate(("slstm", "ornn", "lstm"))
]


@pytest.mark.parametrize(("task", "cell"), PAIRS)
def test_on_every_task_members_learn_as_runs_do(task, cell):
    task = TASKS[task]
    kind = task()

    def single():
        make = maker(cell, inputs=kind.input_size, outputs=kind.output_size, input_norm=kind.input_norm)
        return make().float()

    options = {"task": task, "epochs": 2, "clip_norm": 1.0}
    learner, _ = fit(EnsembleLearner, Ensemble.from_seeds(single, range(2)), **options)
    for seed in range(2):
        torch.manual_seed(seed)
        alone, rows = fit(SequenceLearner, single(), **options)
        assert_same(learner.model.member(seed), alone.model, rtol=1e-4, atol=1e-4)
        for key, values in learner.members.items():
            assert values[seed].item() == pytest.approx(rows[-1][key.removeprefix("updates/")], rel=1e-4)


def test_learner_goes_on_until_no_member_is_left():
    make = maker(inputs=1, outputs=1)
    sick = Ensemble.from_seeds(lambda: make().float(), range(3))
    with torch.no_grad():
        sick.stacked.readout.bias[1] = math.nan
    _, rows = fit(EnsembleLearner, sick, epochs=2)
    assert rows[-1]["alive"] == 2
    assert all(math.isfinite(value) for value in rows[-1].values())
    with torch.no_grad():
        sick.stacked.readout.bias[:] = math.nan
    with pytest.raises(DivergedError, match=r"batch 1, the last of 3 members"):
        fit(EnsembleLearner, sick)


def test_learner_refuses_a_schedule_that_members_cannot_share():
    make = maker(inputs=1, outputs=1)
    with pytest.raises(ValueError, match="ReduceLROnPlateau is not possible for an ensemble"):
        fit(EnsembleLearner, Ensemble([make().float()]), scheduler=ReduceLROnPlateau)
