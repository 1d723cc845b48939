"""The learned field beside the target's: right where the truth is known, and without a trace on training."""

import math
from functools import partial

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import xarray as xr
from torch import nn

from callbacks import PhasePortrait
from callbacks.phase_portrait import portrait, target
from datamodules import FitzHughNagumo, Planar
from rnnlab.autonomous import HeldInput, freeze, wrap_torch
from rnnlab.cells import GRU
from rnnlab.ensemble import Ensemble, EnsembleLearner
from rnnlab.labelled import concatenate
from rnnlab.learner import SequenceLearner
from rnnlab.maps import Hopf
from rnnlab.model import RecurrentModel
from rnnlab.store import Store
from rnnlab.systems import law
from rnnlab.task import Probes
from tests.trainers import quiet_trainer

WEIGHT = torch.tensor([[2.0, 1.0], [-0.5, 1.5]], dtype=torch.float64)
SILENCE = torch.zeros(2, dtype=torch.float64)


class Told:
    """A network whose state after an observation is the one that it reads as that observation."""

    state_size = 2

    def __init__(self, rule, weight=WEIGHT, offset=0.0):
        self.rule, self.weight, self.offset = rule, weight, offset

    def step(self, x, u):
        return self.rule(x) + u @ torch.linalg.pinv(WEIGHT).mT

    def read(self, x):
        return x @ self.weight.mT + self.offset


class Linear(nn.Module):
    """x' = M x, of any size, read as it is."""

    def __init__(self, matrix):
        super().__init__()
        self.matrix = torch.as_tensor(matrix, dtype=torch.float64)
        self.state_size = len(self.matrix)

    def step(self, x, u):
        return x @ self.matrix.mT + 0 * u.sum()

    def read(self, x):
        return x


def look(model, **options):
    x0 = torch.tensor([[0.5, 0.2], [-0.1, 0.3]], dtype=torch.float64)
    return portrait(HeldInput(model, SILENCE), x0, **{"steps": 20, "resolution": 5} | options)


def rotation(angle, factor=1.0):
    c, s = factor * math.cos(angle), factor * math.sin(angle)
    return [[c, -s], [s, c]]


@pytest.mark.parametrize(
    ("matrix", "as_map", "as_flow"),
    [
        ([[-1.5, 0.0], [0.0, -2.0]], "source", "sink"),
        ([[-2.0, 0.0], [0.0, 0.5]], "saddle", "sink"),
        (rotation(1.3, 1.1), "source", "sink"),  # real part 0.29
        (rotation(0.1, 1.1), "source", "source"),
        ([[1.2, 0.0], [0.0, 0.5]], "saddle", "saddle"),
        (rotation(0.7, 1.0), "undecided", "sink"),
    ],
)
def test_points_have_one_type_for_the_map_and_one_for_the_flow(matrix, as_map, as_flow):
    seen = look(Linear(matrix))
    assert seen.type.values.tolist() == [as_map]
    assert seen.flow_type.values.tolist() == [as_flow]
    assert seen.certified.all()
    assert seen.signature.item().startswith(f"1 {as_map}")
    assert seen.flow_signature.item() == f"1 {as_flow}"
    np.testing.assert_allclose(
        np.sort_complex(seen.eigenvalue.values[0]), np.sort_complex(np.linalg.eigvals(matrix)), atol=1e-12
    )


def test_field_and_forecast_of_two_units_are_those_of_the_map():
    matrix = np.array(rotation(0.3, 0.9))
    seen = look(Linear(matrix))
    first, second = (np.linspace(seen.box_low.values[k], seen.box_high.values[k], 5) for k in range(2))
    grid = np.stack(np.meshgrid(first, second), -1)
    np.testing.assert_allclose(seen.velocity, grid @ (matrix - np.eye(2)).T, atol=1e-14)
    for series, start in enumerate(([0.5, 0.2], [-0.1, 0.3])):
        for k in (0, 1, 19):
            expected = np.linalg.matrix_power(matrix, k) @ start
            np.testing.assert_allclose(seen.trajectory[series, k], expected, atol=1e-14)
            np.testing.assert_allclose(seen.forecast[series, k], expected, atol=1e-14)
    inside = (seen.trajectory >= seen.box_low) & (seen.trajectory <= seen.box_high)
    assert inside.all()
    # straight lines through the origin, which the curves name by their component
    for which, curve in zip(seen.nullcline_of.values, seen.nullcline.values, strict=True):
        moved = curve @ (matrix - np.eye(2)).T
        assert np.nanmax(np.abs(moved[:, which])) < 1e-12
    assert set(seen.nullcline_of.values) == {0, 1}


def turning(x, h=0.3):
    """An Euler step of Hopf's normal form: an attracting circle, run through by asin(h) a step."""
    return x + h * Hopf(mu=1.0, omega=1.0).velocity(x)


RADIUS = math.sqrt(1 + (1 - math.sqrt(1 - 0.3**2)) / 0.3)


def test_a_cycle_is_found_with_its_period_where_it_is():
    seen = look(Told(turning), steps=300)
    assert seen.signature.item() == "1 source, 1 stable cycle"
    assert (seen.cycles.item(), seen.cycle_type.values.tolist()) == (1, ["stable"])
    assert seen.cycle_period.item() == pytest.approx(2 * math.pi / math.asin(0.3), rel=1e-6)
    np.testing.assert_allclose(np.linalg.norm(seen.cycle_point[0], axis=-1), RADIUS, atol=1e-9)
    np.testing.assert_allclose(seen.cycle_y[0], seen.cycle_point[0].values @ WEIGHT.numpy().T, atol=1e-12)
    # in the order of the phase: once round, with small steps
    angle = np.unwrap(np.arctan2(*seen.cycle_point[0].values.T))
    assert abs(abs(angle[-1] - angle[0]) - 2 * np.pi) < 0.2
    assert np.abs(np.diff(angle)).max() < 0.2


@pytest.mark.parametrize(
    "matrix",
    [
        rotation(0.7, 0.9),  # rests
        rotation(0.7, 0.99),  # does not yet
        rotation(0.7, 0.9999),  # hardly comes nearer
        rotation(0.7, 1.0),  # goes round, and attracts nothing
        [[-1.0, 0.0], [0.0, 0.5]],  # to and fro, anywhere on a line
    ],
)
def test_what_is_no_stable_cycle_is_not_called_one(matrix):
    assert look(Linear(matrix), steps=300).cycles.item() == 0


def test_a_curve_that_is_filled_slowly_is_one():
    # starts that return every twelve steps to almost where they were: each has twelve clouds of its own
    x0 = torch.randn(10, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    turn = torch.tensor(rotation(math.pi / 6 + 2e-4), dtype=torch.float64)
    model = Told(lambda x: (x @ turn.mT) * (1.2 - 0.2 * (x * x).sum(-1, keepdim=True)))
    seen = portrait(HeldInput(model, SILENCE), x0.clamp(-1, 1), steps=300, resolution=5)
    assert seen.cycle_period.values.tolist() == pytest.approx([2 * math.pi / (math.pi / 6 + 2e-4)], rel=1e-4)


def test_a_cycle_of_whole_steps_has_its_period():
    # -x / |x| in both components: from a side to the other and back
    seen = look(Told(lambda x: torch.tanh(-3 * x)))
    assert seen.cycle_period.values.tolist() == pytest.approx([2.0] * len(seen.cycle_period))
    assert len(seen.cycle_period) >= 1


class Spiral:
    """dx/dt = A x."""

    matrix = torch.tensor([[-0.2, 1.0], [-2.0, -0.1]], dtype=torch.float64)

    def velocity(self, x):
        return x @ self.matrix.mT

    def after(self, x, time):
        return x @ torch.linalg.matrix_exp(time * self.matrix).mT


TASK = Planar(Spiral(), dt=0.2, low=(-1.0, -2.0), high=(2.0, 1.0), substeps=5, num_sequences=6)
GRID = torch.from_numpy(np.stack(np.meshgrid(np.linspace(-1, 2, 4), np.linspace(-2, 1, 4)), -1))


@pytest.fixture(scope="module")
def goal():
    return target(TASK, samples=2, steps=12, resolution=4)


def test_the_target_is_the_field_of_the_task_and_where_it_leads(goal):
    np.testing.assert_allclose(goal.target_velocity, GRID @ Spiral.matrix.mT, atol=1e-12)
    shown = TASK.series["val"].observed[0, :2].float().double()
    np.testing.assert_allclose(goal.shown, shown)
    for k in range(12):
        expected = Spiral().after(shown, 0.2 * (k + 1))
        np.testing.assert_allclose(goal.target_series[:, k], expected, atol=1e-6)
    np.testing.assert_allclose(goal.target_end, Spiral().after(GRID, 2.4), atol=1e-6)
    assert goal.trained_steps == 29


def test_the_learned_field_is_seen_in_the_coordinates_of_the_predictions(goal):
    # a network that has learned the task, but for one step more to begin with: in other coordinates
    inverse = torch.linalg.inv(WEIGHT)
    matrix = inverse @ torch.linalg.matrix_exp(0.2 * Spiral.matrix) @ WEIGHT
    seen = look(Told(lambda x: x @ matrix.mT), steps=12, target=goal, dt=0.2)
    moved = (Spiral().after(GRID, 0.2) - GRID) / 0.2
    np.testing.assert_allclose(seen.predicted_velocity, moved, atol=1e-10)
    np.testing.assert_allclose(seen.forecast[:, 0], goal.shown, atol=1e-12)
    np.testing.assert_allclose(seen.forecast[:, 1:], goal.target_series[:, :-1], atol=1e-6)
    np.testing.assert_allclose(seen.predicted_end, Spiral().after(GRID, 2.2), atol=1e-10)
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    box = np.where(corners, seen.box_high, seen.box_low)
    np.testing.assert_allclose(seen.predicted_corner, box @ WEIGHT.numpy().T, atol=1e-12)
    assert seen.signature.item() == "1 sink"


@pytest.mark.parametrize(
    "weight", [torch.zeros(2, 2).double(), torch.tensor([[1.0, 2.0], [2.0, 4.0]]).double()]
)
def test_without_an_inverse_there_is_no_such_field(goal, weight):
    seen = look(Told(turning, weight), steps=12, target=goal, dt=0.2)
    assert seen.predicted_velocity.isnull().all()
    assert seen.predicted_corner.isnull().all()
    assert seen.velocity.notnull().all()


def test_a_readout_that_bends_is_not_inverted(goal):
    class Bent(Told):
        def read(self, x):
            return torch.sinh(super().read(x))

    assert look(Bent(turning), steps=12, target=goal).predicted_velocity.isnull().all()


def test_more_units_are_seen_on_a_plane_that_says_so():
    # the third unit is read and dies out at once: what is visited lies in the plane of the others
    matrix = np.zeros((3, 3))
    matrix[1:, 1:] = rotation(0.5, 0.99)
    model = Linear(matrix)
    x0 = torch.tensor([[0.0, 0.3, 0.1], [0.0, -0.2, 0.4], [0.0, 0.1, 0.1]], dtype=torch.float64)
    seen = portrait(HeldInput(model, SILENCE), x0, steps=40, resolution=5)
    assert seen.attrs["projection"] == "principal components"
    assert seen.sizes["curve"] == 0
    assert seen.type.values.tolist() == ["sink"]
    assert not seen.certified.any()
    # an isometry of the plane: distances from the fixed point are those in the state space
    radius = np.linalg.norm(seen.trajectory - seen.point[0], axis=-1)
    np.testing.assert_allclose(radius, np.linalg.norm(seen.forecast, axis=-1), atol=1e-9)


def test_a_degenerate_point_is_counted_as_undecided():
    seen = look(Told(lambda x: x - 0.5 * x**3))
    assert len(seen.type) == 0
    assert seen.undecided.item() == 1
    assert (seen.signature.item(), seen.flow_signature.item()) == ("1 undecided", "1 undecided")


def test_forecasts_may_be_short():
    assert look(Told(turning), steps=4).forecast.shape == (2, 4, 2)


def test_states_that_run_away_do_no_harm():
    matrix = 1e30 * np.eye(3)
    x0 = torch.ones(1, 3, dtype=torch.float64)
    seen = portrait(HeldInput(Linear(matrix), SILENCE), x0, steps=30, resolution=4)
    assert seen.cycles.item() == 0
    assert not np.isfinite(seen.forecast[:, -1]).any()


def test_operations_that_intervals_do_not_know_leave_points_unproved():
    seen = look(Told(lambda x: torch.erf(2 * x)))
    assert len(seen.type)
    assert not seen.certified.any()


def test_one_unit_has_no_portrait():
    with pytest.raises(ValueError, match="of 1 unit is not possible: train two or more"):
        portrait(HeldInput(Linear([[0.5]]), SILENCE), torch.ones(1, 1).double(), steps=5, resolution=5)


@pytest.mark.parametrize("option", ["steps", "resolution"])
@pytest.mark.parametrize("value", [3, 4.5, True])
def test_bad_options_are_refused(option, value):
    with pytest.raises(ValueError, match=f"{option}={value} is not possible"):
        PhasePortrait(**{option: value})


# while training


def fit(tmp_path, *callbacks, epochs=4, members=0, ckpt_path=None, save=None):
    pl.seed_everything(7, verbose=False)
    task = FitzHughNagumo(num_sequences=8, num_validation=4, length=6)
    make = partial(RecurrentModel, 2, 2, partial(GRU, hidden_size=2, reset="before"))
    options = {"optimizer": partial(torch.optim.Adam, lr=3e-2)}
    learner = (
        EnsembleLearner(Ensemble.from_seeds(make, range(members)), task.objective, **options)
        if members
        else SequenceLearner(make(), task.objective, **options)
    )
    trainer = quiet_trainer(*callbacks, epochs=epochs, default_root_dir=tmp_path)
    trainer.fit(learner, datamodule=task, ckpt_path=ckpt_path)
    if save is not None:
        trainer.save_checkpoint(save, weights_only=False)
    return learner


def watch(**options):
    return PhasePortrait(**{"every": 2, "samples": 2, "steps": 8, "resolution": 4, "draw": None} | options)


def looks(tmp_path):
    return Store(tmp_path / "analysis.zarr").read("phase_portrait").load()


@pytest.mark.parametrize("members", [0, 2])
def test_training_is_bit_equal_and_looks_are_those_of_the_network(tmp_path, members):
    callback = watch()
    watched = fit(tmp_path / "watched", callback, members=members)
    plain = fit(tmp_path / "plain", members=members)
    for ours, theirs in zip(watched.model.parameters(), plain.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
        assert ours.requires_grad
    seen = looks(tmp_path / "watched")
    assert seen.epoch.values.tolist() == [0, 2, 4]
    assert seen.probe.values.tolist() == ["silence"]
    assert seen.sizes.get("member", 0) == members
    assert "probe" not in seen.target_velocity.dims
    models = watched.model.unstack() if members else [watched.model]
    for i, model in enumerate(models):
        system = HeldInput(freeze(model), SILENCE)
        last = seen.isel(epoch=-1, probe=0)
        last = last.isel(member=i) if members else last
        there = last.type.values != ""
        assert there.any()
        points = torch.from_numpy(last.point.values[there])
        assert (system.step(points) - points).abs().max() < 1e-12
        # as in training: the observation first, nothing from then on
        inputs = torch.zeros(8, 2, 2, dtype=torch.float64)
        inputs[0] = torch.from_numpy(last.shown.values)
        outputs, _ = freeze(model)(inputs)
        np.testing.assert_allclose(last.forecast.values, outputs.movedim(0, 1), atol=1e-12)
    scalars = callback.summary(seen.isel(epoch=-1))
    assert scalars["fixed_points"] >= 1
    assert scalars["fixed_points"] == sum(
        scalars[name] for name in ("sinks", "saddles", "sources", "undecided")
    )


def test_a_resumed_run_sees_what_the_unbroken_one_saw(tmp_path):
    fit(tmp_path / "whole", watch(every=1), epochs=2)
    checkpoint = tmp_path / "half.ckpt"
    fit(tmp_path / "broken", watch(every=1), epochs=1, save=checkpoint)
    fit(tmp_path / "broken", watch(every=1), epochs=2, ckpt_path=checkpoint)
    xr.testing.assert_identical(looks(tmp_path / "broken"), looks(tmp_path / "whole"))


def test_parts_of_several_processes_go_together(tmp_path):
    # what each process has of a look, put together along the probes as rank zero does
    inputs = torch.tensor([[0.0, 0.0], [1.0, -1.0]], dtype=torch.float64)
    both, parts = None, []
    for which in (slice(None), slice(0, 1), slice(1, 2)):
        callback = watch(probes=Probes(inputs[which], ("silence", "both")[which]))
        fit(tmp_path / str(which.start) / str(which.stop), callback, epochs=1)
        found = looks(tmp_path / str(which.start) / str(which.stop))
        both, parts = (found, parts) if which == slice(None) else (both, [*parts, found])
    xr.testing.assert_identical(concatenate(parts, "probe"), both)
    assert both.signature.dims == ("epoch", "probe")


def test_networks_of_others_are_seen_from_random_states(tmp_path):
    callback = watch(
        probes=Probes(torch.zeros(1, 1), ("silence",)),
        model=lambda module: wrap_torch(module.rnn, module.readout),
        store=tmp_path / "analysis.zarr",
    )
    module = pl.LightningModule()
    module.rnn, module.readout = nn.GRU(1, 2), nn.Linear(2, 1)
    trainer = pl.Trainer(logger=False, accelerator="cpu")
    callback.look(trainer, module, 0)
    seen = looks(tmp_path)
    assert "target_velocity" not in seen
    system = HeldInput(freeze(wrap_torch(module.rnn, module.readout)), torch.zeros(1).double())
    x = callback.initial_states(2)
    for k in range(8):
        with torch.no_grad():
            np.testing.assert_allclose(seen.forecast[0, 0, :, k], system.observe(x), atol=1e-12)
            x = law(system)(x)


def test_the_picture_is_drawn_while_training(tmp_path):
    fit(tmp_path, watch(draw=PhasePortrait().draw), members=2, epochs=2)
    assert (tmp_path / "figures" / "phase_portrait.png").stat().st_size > 20_000
