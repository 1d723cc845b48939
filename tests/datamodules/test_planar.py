"""The planar tasks are what section 5 of Jordan et al. (2019) says, held against independent integrations."""

import math
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_module
from hydra.utils import instantiate
from omegaconf import OmegaConf
from scipy.integrate import solve_ivp

from datamodules import FitzHughNagumo, LineAttractor, Planar, RingAttractor
from rnnlab.cells import GRU
from rnnlab.learner import SequenceLearner
from rnnlab.maps import Hopf
from rnnlab.model import RecurrentModel
from rnnlab.systems import Flow, VectorField, jacobian
from tests.trainers import quiet_trainer

TASKS = (FitzHughNagumo, LineAttractor, RingAttractor)
CLOSED = (LineAttractor, RingAttractor)
every_task = pytest.mark.parametrize("kind", TASKS)
every_closed = pytest.mark.parametrize("kind", CLOSED)

# the paper's equations, written down once more
EQUATIONS = {
    FitzHughNagumo: lambda t, w, current=0.7: (
        w[0] - w[0] ** 3 / 3 - w[1] + current,
        (w[0] + 0.7 - 0.8 * w[1]) / 12.5,
    ),
    LineAttractor: lambda t, w: (-w[0], 0.0),
    RingAttractor: lambda t, w: (
        -(w[0] ** 2 + w[1] ** 2 - 1) * w[0],
        -(w[0] ** 2 + w[1] ** 2 - 1) * w[1],
    ),
}
accurate = partial(solve_ivp, method="DOP853", rtol=1e-12, atol=1e-12)


def plane(count=200, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 4 * torch.rand(count, 2, generator=generator, dtype=torch.float64) - 2


# the fields


@every_task
def test_fields_are_the_paper_s_equations(kind):
    x = plane()
    field = kind().field
    assert isinstance(field, VectorField)
    assert not hasattr(field, "step")
    assert np.allclose(field.velocity(x).T, np.stack(np.broadcast_arrays(*EQUATIONS[kind](0, x.T.numpy()))))


@every_closed
def test_the_closed_form_solves_the_equation(kind):
    field = kind().field
    for x in plane(10):
        truth = accurate(EQUATIONS[kind], (0, 0.7), x.numpy()).y[:, -1]
        assert np.allclose(field.solution(x, 0.7), truth, atol=1e-10)
    x = plane()
    assert torch.allclose(field.solution(field.solution(x, 0.3), 0.4), field.solution(x, 0.7), atol=1e-14)


@every_closed
def test_the_integrator_meets_the_closed_form_with_order_four(kind):
    x, field = plane() / 2, kind().field
    errors = [
        (Flow(field, 0.5, substeps).step(x) - field.solution(x, 0.5)).abs().max().item()
        for substeps in (8, 16, 32)
    ]
    for coarse, fine in pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(4, abs=0.3)


@every_closed
def test_twenty_substeps_are_as_good_as_the_closed_form(kind):
    exact, integrated = (kind(substeps=substeps).series["train"].states for substeps in (None, 20))
    assert 0 < (exact - integrated).abs().max() < 1e-8


def test_the_line_draws_straight_and_its_points_stay():
    x, field = plane(), LineAttractor().field
    later = field.solution(x, 50.0)
    assert later[:, 0].abs().max() < 1e-20
    assert torch.equal(later[:, 1], x[:, 1])
    assert torch.equal(field.velocity(later * torch.tensor([0.0, 1.0])), torch.zeros_like(x))
    assert torch.equal(jacobian(field, x[0]), torch.diag(torch.tensor([-1.0, 0.0], dtype=torch.float64)))


def test_the_ring_has_radius_one_and_its_points_stay():
    x, field = plane(), RingAttractor().field
    later = field.solution(x, 30.0)
    assert torch.allclose(later.norm(dim=-1), torch.ones(len(x)).double(), atol=1e-12)
    assert torch.allclose(later, x / x.norm(dim=-1, keepdim=True), atol=1e-12)  # the angle is kept
    assert field.velocity(later).abs().max() < 1e-12
    origin = torch.zeros(2, dtype=torch.float64)
    assert torch.equal(field.solution(origin, 3.0), origin)
    assert torch.equal(jacobian(field, origin), torch.eye(2).double())
    rates = torch.linalg.eigvals(jacobian(field, later[0])).real.sort().values
    assert rates.tolist() == pytest.approx([-2, 0], abs=1e-10)


def period(velocity, start):
    """Time between two upward passages of x = 0, by scipy, after the orbit has come to its cycle."""

    def passage(t, w):
        return w[0]

    passage.direction = 1
    times = accurate(velocity, (0, 400), start, events=passage).t_events[0]
    return times[-1] - times[-2]


def test_fitzhugh_nagumo_has_one_cycle_around_an_unstable_node():
    field = FitzHughNagumo().field
    ours = period(lambda t, w: field.velocity(torch.from_numpy(w)).numpy(), (1.0, 0.0))
    for start in ((0.0, 0.3), (2.4, 2.4)):  # from within and from outside
        assert period(EQUATIONS[FitzHughNagumo], start) == pytest.approx(ours, abs=1e-6)
    assert ours == pytest.approx(36.98, abs=0.005)  # the docstring's
    # equilibria: y = (x + a) / b in x - x^3 / 3 - y + I = 0
    roots = np.roots([-1 / 3, 0, 1 - 1 / 0.8, 0.7 - 0.7 / 0.8])
    (x,) = roots[abs(roots.imag) < 1e-9].real
    point = torch.tensor([x, (x + 0.7) / 0.8], dtype=torch.float64)
    assert field.velocity(point).abs().max() < 1e-12
    rates = torch.linalg.eigvals(jacobian(field, point))
    assert (rates.real > 0).all()
    # the trace and the determinant by hand; the paper calls the point a spiral
    trace, determinant = 1 - x**2 - 0.8 / 12.5, (1 - 0.8 * (1 - x**2)) / 12.5
    assert trace**2 > 4 * determinant
    assert rates.sum().item() == pytest.approx(trace)
    assert rates.prod().item() == pytest.approx(determinant)


# the series


@every_task
def test_one_observation_and_then_silence(kind):
    task = kind()
    inputs, targets = task.sequences()
    observed = task.series["train"].observed
    assert inputs.shape == targets.shape == (29, 667, 2)
    assert inputs.dtype == targets.dtype == torch.float32
    assert torch.equal(inputs[0], observed[0].float())
    assert not inputs[1:].any()
    assert torch.equal(targets, observed[1:].float())
    assert task.sequences("val")[0].shape == (29, 333, 2)


@every_task
def test_starts_fill_the_box(kind):
    task = kind(num_sequences=5000)
    starts = task.series["train"].states[0]
    assert (starts >= task.low).all()
    assert (starts <= task.high).all()
    middle, width = (task.low + task.high) / 2, task.high - task.low
    assert ((starts.mean(0) - middle).abs() < 5 * width / math.sqrt(12 * 5000)).all()
    assert torch.allclose(starts.var(0), width**2 / 12, rtol=0.1)


@every_closed
def test_states_follow_the_field_from_start_to_end(kind):
    task = kind(num_sequences=4, dt=0.3)
    states = task.series["train"].states
    for number in range(4):
        truth = accurate(EQUATIONS[kind], (0, 29 * 0.3), states[0, number], t_eval=np.arange(30) * 0.3).y.T
        assert np.allclose(states[:, number], truth, atol=1e-9)


def test_the_current_is_new_at_each_step_and_held_within_it(monkeypatch):
    drawn = []
    forced = FitzHughNagumo.forced

    def remember(self, count, generator):
        drawn.append(forced(self, count, generator))
        return drawn[-1]

    monkeypatch.setattr(FitzHughNagumo, "forced", remember)
    task = FitzHughNagumo(num_sequences=3, num_validation=1, length=5, current=0.5, current_variance=0.3)
    states = task.series["train"].states
    for step in range(5):
        currents = drawn[step].current.tolist()
        assert len(set(currents)) == 3
        assert currents != drawn[step - 1].current.tolist()
        for number, current in enumerate(currents):
            held = partial(EQUATIONS[FitzHughNagumo], current=current)
            truth = accurate(held, (0, 1), states[step, number]).y[:, -1]
            assert np.allclose(states[step + 1, number], truth, atol=1e-6)  # what 20 substeps can do
    assert task.field.current == 0.5  # the field that is shown is that of the mean


def test_moments_of_the_current():
    task, generator = FitzHughNagumo(), torch.Generator().manual_seed(3)
    currents = torch.stack([task.forced(20_000, generator).current for _ in range(2)])
    assert currents.mean().item() == pytest.approx(0.7, abs=5 * 0.2 / math.sqrt(40_000))
    assert currents.var().item() == pytest.approx(0.04, rel=5 * math.sqrt(2 / 40_000))
    assert abs(torch.corrcoef(currents)[0, 1].item()) < 5 / math.sqrt(20_000)


def test_without_variance_the_current_is_its_mean():
    task = FitzHughNagumo(num_sequences=2, current_variance=0.0)
    states = task.series["train"].states
    truth = accurate(EQUATIONS[FitzHughNagumo], (0, 29), states[0, 0], t_eval=np.arange(30)).y.T
    assert np.allclose(states[:, 0], truth, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "variance"), [(LineAttractor, 0.1), (RingAttractor, 0.1), (LineAttractor, 2.0)]
)
def test_noise_is_white_and_on_every_observation(kind, variance):
    options = {} if variance == 0.1 else {"noise_variance": variance}
    states, observed = kind(num_sequences=4000, **options).series["train"]
    noise = (observed - states).permute(0, 2, 1).flatten(0, 1)  # (sample, series), w(0) included
    assert noise.shape == (60, 4000)
    assert (noise.mean(1).abs() < 5 * math.sqrt(variance / 4000)).all()
    assert ((noise.var(1) / variance - 1).abs() < 5 * math.sqrt(2 / 4000)).all()
    others = torch.corrcoef(noise) - torch.eye(60)
    assert others.abs().max() < 5.5 / math.sqrt(4000)
    assert ((noise**4).mean() / variance**2).item() == pytest.approx(3, rel=0.05)  # normal


def test_fitzhugh_nagumo_is_observed_without_noise():
    states, observed = FitzHughNagumo().series["train"]
    assert torch.equal(states, observed)


@every_task
def test_data_come_from_the_seed_alone(kind):
    before = torch.get_rng_state()
    one, again, other = kind(seed=4), kind(seed=4), kind(seed=5)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(7)
    parts = [task.series[part].observed for task in (one, other) for part in ("train", "val")]
    assert torch.equal(one.series["train"].observed, again.series["train"].observed)
    assert torch.equal(one.series["val"].observed, again.series["val"].observed)
    starts = {tuple(part[0, 0].tolist()) for part in parts}
    assert len(starts) == 4  # no stream is used twice


@every_task
def test_what_is_not_concerned_stays_the_same(kind):
    base = kind(num_validation=5)
    assert torch.equal(kind(num_validation=9).series["train"].observed, base.series["train"].observed)
    assert torch.equal(
        kind(num_sequences=3, num_validation=5).series["val"].observed, base.series["val"].observed
    )
    assert torch.equal(kind(noise_variance=0.5).series["train"].states, base.series["train"].states)


@every_task
def test_the_whole_set_is_one_batch(kind):
    task = kind()
    for part, loader in (("train", task.train_dataloader()), ("val", task.val_dataloader())):
        ((inputs, targets),) = loader
        assert torch.equal(inputs, task.sequences(part)[0])
        assert torch.equal(targets, task.sequences(part)[1])
    sizes = [inputs.shape[1] for inputs, _ in kind(batch_size=300, shuffle=True).train_dataloader()]
    assert sizes == [300, 300, 67]


@every_task
def test_two_processes_share_the_same_data(kind, monkeypatch):
    options = {"num_sequences": 40, "num_validation": 10, "batch_size": 20}

    def parts(rank, world_size):
        task = kind(**options)
        monkeypatch.setattr(kind, "share", (rank, world_size))
        return [list(loader) for loader in (task.train_dataloader(), task.val_dataloader())]

    alone, first, second = parts(0, 1), parts(0, 2), parts(1, 2)
    for whole, *shared in zip(alone, first, second, strict=True):
        for batch, *pieces in zip(whole, *shared, strict=True):
            for which in (0, 1):
                put = torch.stack([piece[which] for piece in pieces], dim=2).flatten(1, 2)
                assert torch.equal(put, batch[which])


@every_task
def test_baseline_is_the_best_constant(kind):
    task = kind()
    targets = task.sequences()[1].double()
    best = targets.mean((0, 1))
    score = task.objective(best.expand_as(targets), targets)["loss"].item()
    assert task.baselines["train/mse"] == pytest.approx(score, rel=1e-6)
    for shift in ([0.01, 0.0], [-0.01, 0.0], [0.0, 0.01], [0.0, -0.01]):
        other = (best + torch.tensor(shift)).expand_as(targets)
        assert task.objective(other, targets)["loss"].item() > score


@every_task
def test_the_loss_is_eq_14(kind):
    task = kind(num_sequences=7)
    targets = task.sequences()[1].double().numpy()
    forecast = np.random.default_rng(0).normal(size=targets.shape)
    total = 0.0
    for i in range(7):
        for k in range(29):
            total += np.linalg.norm(forecast[k, i] - targets[k, i]) ** 2
    loss = task.objective(torch.from_numpy(forecast), torch.from_numpy(targets))["loss"].item()
    assert loss == pytest.approx(total / (7 * 29), rel=1e-12)


def test_silence_is_the_probe_and_inputs_are_bounded():
    task = RingAttractor()
    inputs, names = task.probes()
    assert names == ("silence",)
    assert inputs.tolist() == [[0.0, 0.0]]
    for part in ("train", "val"):
        assert task.sequences(part)[0].abs().max() <= task.input_bound * (1 + 1e-6)
    assert task.input_bound < 4


# the best forecast


@pytest.mark.parametrize("half", [2.0, 0.3])  # wider than the noise and narrower
def test_the_floor_of_the_line_is_an_integral(half):
    # y stays: its error is the variance of a uniform start given w(0), beside the noise; x shrinks by e^-t
    task = LineAttractor(num_sequences=4000, low=[-half, -half], high=[half, half])
    std = math.sqrt(0.1)
    grid = np.linspace(-half, half, 2001)
    weight = np.exp(-((task.series["train"].observed[0].numpy()[..., None] - grid) ** 2) / (2 * std**2))
    weight /= weight.sum(-1, keepdims=True)
    spread = ((weight * grid**2).sum(-1) - (weight * grid).sum(-1) ** 2).mean(0)
    shrink = np.exp(-2 * 0.1 * np.arange(1, 30)).mean()
    assert task.floor() == pytest.approx(0.2 + spread[0] * shrink + spread[1], rel=0.01)


def test_without_noise_of_observation_the_floor_is_that_of_the_forces():
    assert LineAttractor(noise_variance=0.0).floor() == pytest.approx(0, abs=1e-12)
    assert FitzHughNagumo(current_variance=0.0, num_sequences=20).floor(2) == pytest.approx(0, abs=1e-12)
    # after one step the current I has moved x by I - 0.7, up to what the field bends within it
    task = FitzHughNagumo(length=1, dt=0.01, current_variance=4.0, num_sequences=2000)
    assert task.floor() == pytest.approx(4.0 * 0.01**2, rel=0.03)


def test_the_floor_of_fitzhugh_nagumo():
    # the field's own forecast from w(0) is nearly the best one, never better
    task = FitzHughNagumo(num_sequences=2000)
    mean = FitzHughNagumo(num_sequences=2000, current_variance=0.0)
    states = task.series["train"].states
    assert torch.equal(states[0], mean.series["train"].states[0])
    own = (states - mean.series["train"].states)[1:].square().sum(-1).mean().item()
    floor = task.floor(32)
    assert floor == pytest.approx(0.29, abs=0.01)
    assert floor < own < 1.4 * floor


# a field of one's own, bad input, training


def test_any_planar_field_will_do():
    task = Planar(Hopf(mu=1.0, omega=2.0), dt=0.2, low=[-1, -1], high=[1, 1], substeps=20, noise_variance=0)
    states = task.series["train"].states
    angle = torch.atan2(states[..., 1], states[..., 0])
    turned = torch.remainder(angle[1:] - angle[:-1], 2 * math.pi)
    assert torch.allclose(turned, torch.full_like(turned, 0.4), atol=1e-6)


BAD = [
    *(({key: value}, f"{key}={value}") for key in ("num_sequences", "num_validation", "length", "batch_size")
      for value in (0, -1, 2.5)),
    ({"batch_size": 668}, "batch_size=668 is not possible: there are 667 sequences"),
    ({"substeps": 0}, "substeps=0"),
    ({"dt": 0.0}, r"dt=0\.0 is not possible: give a positive"),
    ({"dt": math.inf}, "dt=inf"),
    ({"noise_variance": -0.1}, r"noise_variance=-0\.1 is not possible"),
    ({"noise_variance": math.nan}, "noise_variance=nan"),
    ({"low": [0.0]}, r"low=\[0\.0\], high=.* is no box: give two finite numbers each"),
    ({"low": 3}, "low=3, high=.* is no box"),
    ({"seed": 1.5}, r"seed=1\.5 is not possible"),
    ({"low": [-math.inf, 0.0]}, "is no box: give two finite numbers"),
    ({"low": [1.0, 9.0]}, "low has to be below high"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "message"), BAD)
@every_task
def test_bad_values_are_refused(kind, options, message):
    with pytest.raises(ValueError, match=message):
        kind(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tau": 0.0}, r"tau=0\.0 is not possible: give a positive"),
        ({"b": math.nan}, "b=nan is not possible: give a finite number"),
        ({"current": math.inf}, "current=inf"),
        ({"current_variance": -1.0}, r"current_variance=-1\.0 is not possible: a variance"),
        ({"substeps": None}, r"has no closed form solution\(x, t\)"),
        (
            {"dt": 50.0, "substeps": 1},
            r"dt=50\.0, low=\[-2\.5, -1\.5\].* runs to infinity. Give a smaller dt",
        ),
    ],
)
def test_bad_values_of_fitzhugh_nagumo_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        FitzHughNagumo(**options)


def test_what_is_no_planar_field_is_refused():
    box = {"dt": 0.1, "low": (-1, -1), "high": (1, 1), "substeps": 1}
    with pytest.raises(TypeError, match="a str is no vector field"):
        Planar("ring", **box)

    class Half:
        def velocity(self, x):
            return x[..., :1]

    with pytest.raises(ValueError, match=r"a Half is no planar field: .* has the shape \(1, 1\)"):
        Planar(Half(), **box)
    with pytest.raises(TypeError, match="tempo"):
        RingAttractor(tempo=3)


@pytest.mark.parametrize("futures", [1, 2.0])
def test_a_spread_needs_two_futures(futures):
    with pytest.raises(ValueError, match=f"futures={futures} is not possible"):
        LineAttractor().floor(futures)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("fitzhugh_nagumo", FitzHughNagumo),
        ("line_attractor", LineAttractor),
        ("ring_attractor", RingAttractor),
    ],
)
def test_yaml_and_constructor_agree(name, kind):
    with initialize_config_module("conf", version_base="1.3"):
        cfg = compose("train", overrides=[f"experiment=jordan2019/{name}", "seed=9"])
    task, default = instantiate(cfg.task), kind()
    assert type(task) is kind
    for part in ("train", "val"):
        assert torch.equal(task.series[part].observed, default.series[part].observed)
    assert vars(task).keys() == vars(default).keys()
    cell = OmegaConf.to_container(cfg.model.cell)
    assert (cell["hidden_size"], cell["reset"]) == (2, "before")
    assert cfg.optim.clip_norm is None
    assert (cfg.optim.optimizer.lr, cfg.trainer.max_epochs) == (1e-2, 4000)


@every_task
def test_two_units_learn_more_than_the_constant(kind):
    torch.manual_seed(0)
    task = kind(num_sequences=100, num_validation=20)
    model = RecurrentModel(2, 2, partial(GRU, hidden_size=2), input_bound=task.input_bound)
    learner = SequenceLearner(model, task.objective, optimizer=partial(torch.optim.Adam, lr=0.05))
    trainer = quiet_trainer(epochs=120)
    trainer.fit(learner, datamodule=task)
    for part in ("train", "val"):
        assert trainer.callback_metrics[f"{part}/mse"] < 0.8 * task.baselines[f"{part}/mse"]
