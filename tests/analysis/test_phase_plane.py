"""Phase planes whose nullclines, manifolds, cycles and basins are known by hand."""

import math

import numpy as np
import pytest
import torch
import xarray as xr
from scipy.optimize import brentq

from rnnlab.analysis import phase_plane
from rnnlab.analysis.nullclines import zero_curves
from rnnlab.analysis.planes import Plane, pca_plane, readout_plane
from rnnlab.gru_flow import gru_flow
from rnnlab.labelled import concatenate
from rnnlab.maps import Henon, Hopf, Linear, Lorenz

BOX = ([-1.5, -1.5], [1.5, 1.5])
SINE = np.linspace(-1.5, 1.5, 2001)


class Field:
    """A vector field given by two formulas."""

    def __init__(self, *parts):
        self.parts = parts

    def velocity(self, x):
        return torch.stack([part(*x.unbind(-1)) for part in self.parts], -1)


class Map(Field):
    def step(self, x):
        return Field.velocity(self, x)

    velocity = None


def known(values):
    return values[np.isfinite(values).all(-1)]


def distance(points, curve):
    """Of points `(n, 2)` from a polyline."""
    start, chord = curve[:-1], np.diff(curve, axis=0)
    part = ((points[:, None] - start) * chord).sum(-1) / np.maximum((chord**2).sum(-1), 1e-300)
    nearest = start + part.clip(0, 1)[..., None] * chord
    return np.linalg.norm(points[:, None] - nearest, axis=-1).min(-1)


def length(curve):
    return np.linalg.norm(np.diff(curve, axis=0), axis=1).sum()


def wave(x):
    return x[:, 0] - 0.3 * np.sin(3 * x[:, 1]) - 0.01


def circle(radius):
    angle = np.linspace(0, 2 * np.pi, 3001)
    return radius * np.stack((np.cos(angle), np.sin(angle)), 1)


ON_WAVE = np.stack((0.3 * np.sin(3 * SINE) + 0.01, SINE), 1)
UPRIGHT, FLAT = np.stack((0 * SINE, SINE), 1), np.stack((SINE, 0 * SINE), 1)
CENTER = np.array([0.123, 0.0567])  # inside a triangle of the mesh
CURVES = {
    "a line on the mesh": (lambda x: x[:, 0], [UPRIGHT], 1),
    "two lines that cross on the mesh": (lambda x: x[:, 0] * x[:, 1], [UPRIGHT, FLAT], 2),
    "two lines that cross beside it": (
        lambda x: (x[:, 0] - 0.01234) * (x[:, 1] + 0.02345),
        [UPRIGHT + [0.01234, 0], FLAT - [0, 0.02345]],
        2,
    ),
    "a line three times": (lambda x: x[:, 1] ** 3, [FLAT], 1),
    "a line twice, on the mesh": (lambda x: x[:, 0] ** 2, [UPRIGHT], 2),
    "a line twice, negative": (lambda x: -(x[:, 0] ** 2), [UPRIGHT], 2),
    "a curve twice, beside the mesh": (lambda x: wave(x) ** 2, [ON_WAVE], 2),
    "branches 2e-5 apart": (lambda x: wave(x) ** 2 - 1e-10, [ON_WAVE - [1e-5, 0], ON_WAVE + [1e-5, 0]], 2),
    "a ring of width 1e-3": (
        lambda x: ((x**2).sum(-1) - 1) ** 2 - 1e-6,
        [circle(math.sqrt(1 - 1e-3)), circle(math.sqrt(1 + 1e-3))],
        2,
    ),
    "a circle": (lambda x: (x**2).sum(-1) - 1, [circle(1)], 1),
    "a circle of radius 0.03": (lambda x: ((x - CENTER) ** 2).sum(-1) - 9e-4, [circle(0.03) + CENTER], 1),
    "a circle of radius 1e-4": (lambda x: ((x - CENTER) ** 2).sum(-1) - 1e-8, [circle(1e-4) + CENTER], 1),
    "an eight": (
        lambda x: x[:, 1] ** 2 / 2 - x[:, 0] ** 2 / 2 + x[:, 0] ** 4 / 2,
        [circle(1) * np.stack((np.ones(3001), circle(1)[:, 0]), 1)],  # (cos t, cos t sin t)
        None,
    ),
}


@pytest.mark.parametrize("name", CURVES)
def test_no_branch_is_lost(name):
    function, truth, count = CURVES[name]
    curves = zero_curves(function, np.full(2, -1.5), np.full(2, 1.5))
    assert count is None or len(curves) == count
    for curve in curves:
        # at rounding: nearer to a zero than floats are apart, whatever the slope
        nudged = [function(curve + 4e-16 * np.eye(2)[k] * (1 + np.abs(curve))) for k in range(2)]
        room = sum(np.abs(value - function(curve)) for value in nudged) + 1e-15
        assert (np.abs(function(curve)) <= room).all()
    apart = np.min([distance(points, curve) for curve in curves for points in [np.concatenate(truth)]], 0)
    # a crossing is cut off within one cell at most, all else is as near as promised
    crosses = "cross" in name or "eight" in name
    assert apart.max() < (3 / 160 if crosses else 1.1e-4 * math.sqrt(18))
    assert sum(map(length, curves)) == pytest.approx(
        (count or len(truth)) / len(truth) * sum(map(length, truth)), rel=0.02
    )


def test_what_has_no_zero_curve_has_none():
    low, high = np.full(2, -1.5), np.full(2, 1.5)
    assert zero_curves(lambda x: x[:, 0] ** 2 + 1e-6, low, high) == []
    assert zero_curves(lambda x: 0 * x[:, 0], low, high) == []
    assert zero_curves(lambda x: (x**2).sum(-1), low, high) == []  # a point is no curve


def test_the_nullclines_of_figure_2_are_three_vertical_and_three_horizontal_lines():
    seen = phase_plane(gru_flow(Uh=[[3.0, 0.0], [0.0, 3.0]]), BOX, starts=0)
    root = brentq(lambda x: math.tanh(1.5 * x) - x, 0.5, 1, xtol=1e-15)
    for which in range(2):
        lines = [known(line) for line in seen.nullcline.values[seen.nullcline_of.values == which]]
        assert sorted(float(line[:, which].mean()) for line in lines) == pytest.approx(
            [-root, 0, root], abs=1e-14
        )
        for line in lines:
            assert np.ptp(line[:, which]) < 1e-14
            assert sorted(line[:, 1 - which]) == pytest.approx([-1.5, 1.5])
    assert seen.nullcline_residual.max() < 1e-15
    assert [(seen.type == kind).sum().item() for kind in ("sink", "source", "saddle")] == [4, 1, 4]
    assert np.abs(seen.point.values[seen.type == "sink"]) == pytest.approx(np.full((4, 2), root), abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_a_line_crosses_as_many_branches_as_it_has_changes_of_sign(seed):
    draw = np.random.default_rng(seed)
    field = gru_flow(
        **{
            name: draw.normal(0, 5, size).tolist()
            for name, size in {"Uh": (2, 2), "Ur": (2, 2), "bh": 2, "br": 2}.items()
        }
    )
    seen = phase_plane(
        field,
        BOX,
        starts=0,
        manifolds=False,
        found=xr.Dataset(
            {"point": (("index", "state"), np.zeros((0, 2))), "type": ("index", np.zeros(0, "<U9"))}
        ),
    )
    for at in draw.uniform(-1.5, 1.5, 20):
        line = torch.stack((torch.linspace(-1.5, 1.5, 20001).double(), torch.full((20001,), at).double()), 1)
        for which in range(2):
            signs = field.velocity(line)[:, which].sign()
            changes = line[1:, 0][signs[1:] != signs[:-1]].numpy()
            crossed = []
            for curve in seen.nullcline.values[seen.nullcline_of.values == which]:
                a, b = known(curve)[:-1], known(curve)[1:]
                over = (a[:, 1] > at) != (b[:, 1] > at)
                part = (at - a[over, 1]) / (b[over, 1] - a[over, 1])
                crossed += list(a[over, 0] + part * (b[over, 0] - a[over, 0]))
            # chords are 4e-4 from the curve, which may be steep there
            assert len(crossed) == len(changes)
            assert sorted(crossed) == pytest.approx(sorted(changes), abs=0.03)


def test_velocity_and_speed_stand_at_their_places():
    field = Field(lambda x, y: x + 2 * y, lambda x, y: x * y)
    seen = phase_plane(field, ([0, 1], [1, 3]), resolution=5, starts=0, manifolds=False)
    assert seen.velocity.sizes == {"row": 5, "column": 5, "axis": 2}
    x, y = seen.first.values, seen.second.values
    assert x.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert y.tolist() == [1, 1.5, 2, 2.5, 3]
    for row in range(5):
        for column in range(5):
            v = x[column] + 2 * y[row], x[column] * y[row]
            assert seen.velocity.values[row, column] == pytest.approx(v, abs=1e-15)
            assert seen.speed.values[row, column] == pytest.approx(math.hypot(*v), rel=1e-14)


def test_of_a_map_the_displacement_is_shown():
    seen = phase_plane(Henon(1.4, 0.3), BOX, resolution=3, starts=2, duration=3, manifolds=False)
    assert seen.velocity.values[1, 2] == pytest.approx([1 - 1.4 * 1.5**2 - 1.5, 0.45], abs=1e-14)
    assert seen.attrs["time"] == "discrete"
    # where x stays: y = x - 1 + 1.4 x^2; where y stays: y = 0.3 x
    for which, y in ((0, lambda x: x - 1 + 1.4 * x**2), (1, lambda x: 0.3 * x)):
        (line,) = seen.nullcline.values[seen.nullcline_of.values == which]
        assert known(line)[:, 1] == pytest.approx(y(known(line)[:, 0]), abs=1e-14)
    x = torch.tensor([[-1.5, -1.5]]).double()
    path = known(seen.trajectory.values[0])
    assert path == pytest.approx(torch.cat((x, Henon(1.4, 0.3).step(x)))[: len(path)].numpy())
    assert len(path) == 1  # it leaves the box by more than the margin at once


def test_a_component_that_is_zero_everywhere_has_no_nullcline_and_says_so():
    seen = phase_plane(Field(lambda x, y: -y, lambda x, y: 0 * y), BOX, starts=2, found=nothing())
    assert seen.vanishes.values.tolist() == [False, True]
    assert seen.nullcline_of.values.tolist() == [0]


def nothing():
    return xr.Dataset(
        {"point": (("index", "state"), np.zeros((0, 2))), "kind": ("index", np.zeros(0, "<U9"))}
    )


def branches(seen, *, stable):
    return [known(curve) for curve in seen.manifold.values[seen.manifold_stable.values == stable]]


def test_the_manifolds_of_a_decoupled_saddle_are_the_axes():
    seen = phase_plane(Field(lambda x, y: x - x**3, lambda x, y: -y), BOX, starts=0)
    assert seen.type.values.tolist() == ["sink", "sink", "saddle"]
    out, back = branches(seen, stable=False), branches(seen, stable=True)
    assert sorted(curve[-1, 0] for curve in out) == pytest.approx([-1, 1], abs=1e-12)
    assert all(np.abs(curve[:, 1]).max() < 1e-12 for curve in out)
    assert all(np.abs(curve[:, 0]).max() < 1e-12 for curve in back)
    assert sorted(np.sign(curve[-1, 1]) for curve in back) == [-1, 1]
    assert all(1.5 < np.abs(curve[-1, 1]) < 3 for curve in back)
    assert seen.manifold_end.values[~seen.manifold_stable.values].tolist() == ["fixed point"] * 2
    assert seen.manifold_end.values[seen.manifold_stable.values].tolist() == ["box"] * 2
    assert seen.manifold_from.values.tolist() == [2] * 4


def test_curved_manifolds_are_where_the_formula_says():
    # y = x^2 / 3 is invariant: d/dt (x^2 / 3) = 2 x^2 / 3 = -x^2 / 3 + x^2
    seen = phase_plane(Field(lambda x, y: x, lambda x, y: x * x - y), BOX, starts=0)
    for curve in branches(seen, stable=False):
        assert curve[:, 1] == pytest.approx(curve[:, 0] ** 2 / 3, abs=1e-8)
        assert np.abs(curve[-1, 0]) > 1.5
    # by which the start differs from the eigenvector: the parabola at 1e-4 of the diagonal
    assert seen.manifold_error.values.max() == pytest.approx((1e-4 * math.sqrt(18)) ** 2 / 3, rel=1e-3)


def test_duffing_s_saddle_is_joined_to_itself_by_level_sets():
    seen = phase_plane(Field(lambda x, y: y, lambda x, y: x - x**3), BOX, starts=0)
    for curve in branches(seen, stable=False) + branches(seen, stable=True):
        x, y = curve.T
        assert np.abs(y**2 / 2 - x**2 / 2 + x**4 / 4).max() < 1e-7
        assert np.abs(x).max() == pytest.approx(math.sqrt(2), abs=2e-3)
    assert seen.manifold_end.values.tolist() == ["fixed point"] * 4


@pytest.mark.parametrize("sign", [1, -1])
def test_manifolds_of_a_map(sign):
    # y = c x^2 is invariant under (2 s x, s y / 2 + x^2) where 4 c = s c / 2 + 1
    system = Map(lambda x, y: 2 * sign * x, lambda x, y: sign * y / 2 + x * x)
    seen = phase_plane(system, BOX, starts=0)
    assert seen.type.values.tolist() == ["saddle"]
    for curve in branches(seen, stable=False):
        assert curve[:, 1] == pytest.approx(curve[:, 0] ** 2 / (4 - sign / 2), abs=1e-9)
        # on one side of the saddle, also where the map swaps them, and with no gap
        assert len(set(np.sign(curve[1:, 0]))) == 1
        x = np.linspace(0, curve[-1, 0], 500)
        assert distance(np.stack((x, x * x / (4 - sign / 2)), 1), curve).max() < 1e-3
        assert np.abs(curve[-1, 0]) > 1.5
    sides = branches(seen, stable=True)
    assert sorted(np.sign(curve[-1, 1]) for curve in sides) == [-1, 1]
    assert all(np.abs(curve[:, 0]).max() < 1e-9 and np.abs(curve[-1, 1]) > 1.5 for curve in sides)
    assert all(len(set(np.sign(curve[1:, 1]))) == 1 for curve in sides)


def test_a_stable_manifold_stops_where_the_map_cannot_be_inverted():
    # y / 2 - y^2 is at most 1 / 16
    seen = phase_plane(Map(lambda x, y: 2 * x, lambda x, y: y / 2 - y * y), BOX, starts=0)
    i = int(np.flatnonzero((seen.point.values == 0).all(-1))[0])
    own = (seen.manifold_from.values == i) & seen.manifold_stable.values
    ends = {np.sign(known(seen.manifold.values[k])[1, 1]): k for k in np.flatnonzero(own)}
    assert seen.manifold_end.values[ends[1]] == "not invertible"
    assert 1 / 32 < known(seen.manifold.values[ends[1]])[:, 1].max() <= 1 / 4
    assert seen.manifold_end.values[ends[-1]] == "fixed point"
    # and there is none where a multiplier is zero
    flat = phase_plane(Map(lambda x, y: 2 * x, lambda x, y: 0 * y), BOX, starts=0)
    assert flat.manifold_stable.values.tolist() == [False, False]


def test_cycles_are_found_or_taken_over():
    seen = phase_plane(Hopf(1.0, 2.0), BOX, cycles=True, starts=0)
    assert seen.cycle_type.values.tolist() == ["stable"]
    assert seen.cycle_period.values == pytest.approx([math.pi], rel=1e-8)
    assert np.linalg.norm(seen.cycle_point.values, axis=-1) == pytest.approx(np.ones((1, 64)), abs=1e-8)
    given = xr.Dataset(
        {
            "point": (("index", "state"), [[0.0, 0.0], [np.nan, np.nan]]),
            "type": ("index", ["source", ""]),
            "cycle_point": (("cycle", "phase", "state"), np.ones((1, 3, 2))),
            "cycle_type": ("cycle", ["unstable"]),
            "cycle_period": ("cycle", [2.0]),
        }
    )
    seen = phase_plane(Hopf(1.0, 2.0), BOX, found=given, starts=0)
    assert seen.type.values.tolist() == ["source"]
    assert seen.cycle_type.values.tolist() == ["unstable"]


def test_trajectories_are_those_of_the_field():
    seen = phase_plane(
        Field(lambda x, y: -y, lambda x, y: x), BOX, duration=2 * math.pi, frames=9, found=nothing()
    )
    assert seen.trajectory.sizes == {"start": 64, "time": 9, "axis": 2}
    side = np.linspace(-1.5, 1.5, 8)
    begin = seen.trajectory.values[:, 0]
    assert begin == pytest.approx(np.array([(x, y) for x in side for y in side]), abs=1e-14)
    for i, time in enumerate(seen.trajectory_time.values):
        turn = np.array([[math.cos(time), math.sin(time)], [-math.sin(time), math.cos(time)]])
        # corners leave the box by no more than the margin
        assert np.nanmax(np.abs(seen.trajectory.values[:, i] - begin @ turn)) < 1e-6
    assert np.isfinite(seen.trajectory.values).all()


def test_what_runs_away_is_cut_and_its_neighbours_are_not():
    starts = torch.tensor([[1.0, 0.0], [-1.0, 0.0]]).double()
    seen = phase_plane(
        Field(lambda x, y: x * x, lambda x, y: -y),
        BOX,
        starts=starts,
        duration=3.0,
        frames=301,
        found=nothing(),
    )
    away, home = seen.trajectory.values
    time = seen.trajectory_time.values
    gone = 1 - 1 / 2.25  # x = 1 / (1 - t) is at 1.5 and a quarter of 3 then
    assert np.isfinite(away[:, 0]).sum() == (time < gone).sum()
    assert away[time < gone, 0] == pytest.approx(1 / (1 - time[time < gone]), rel=1e-5)
    assert home[:, 0] == pytest.approx(-1 / (1 + time), abs=1e-6)


def test_basins_are_the_halves_of_the_plane():
    seen = phase_plane(
        Field(lambda x, y: x - x**3, lambda x, y: -y),
        ([-1.4, -1.5], [1.6, 1.5]),
        basins=True,
        resolution=21,
        starts=0,
    )
    assert seen.attractor_point.values.tolist() == [0, 1]
    assert seen.attractor_cycle.values.tolist() == [-1, -1]
    right = seen.point.values[seen.attractor_point.values[seen.basin.values], 0] > 0
    assert (right == np.broadcast_to(seen.first.values > 0, right.shape)).all()
    assert (seen.basin.values >= 0).all()


def test_basins_of_cycles_and_what_belongs_to_none():
    # a sink within an unstable circle within a stable one
    def growth(x, y):
        return -(x * x + y * y - 0.25) * (x * x + y * y - 1)

    field = Field(lambda x, y: growth(x, y) * x - 2 * y, lambda x, y: growth(x, y) * y + 2 * x)
    seen = phase_plane(field, BOX, cycles=True, basins=True, resolution=12, starts=0)
    assert sorted(seen.cycle_type.values) == ["stable", "unstable"]
    stable = seen.cycle_type.values.tolist().index("stable")
    assert (seen.attractor_point.values.tolist(), seen.attractor_cycle.values.tolist()) == (
        [0, -1],
        [-1, stable],
    )
    assert (seen.basin.values == (np.hypot(*np.meshgrid(seen.first, seen.second)) > 0.5)).all()
    away = phase_plane(Linear(torch.diag(torch.tensor([2.0, 0.5]))), BOX, basins=True, resolution=5, starts=0)
    assert (away.basin.values == -1).all()
    half = phase_plane(Linear(torch.eye(2) / 2), BOX, basins=True, resolution=5, starts=0)
    assert (half.basin.values == 0).all()


def test_a_projection_shows_the_velocity_in_the_plane():
    axes = torch.tensor([[1.0, 0, 0], [0, 0.6, 0.8]], dtype=torch.float64)
    plane = Plane(
        torch.tensor([0.0, 0.0, 1.0]).double(), axes, box=(torch.tensor([-1.0, -1]), torch.tensor([1.0, 1]))
    )
    found = xr.Dataset({"point": (("index", "state"), [[1.0, 2.0, 3.0]]), "kind": ("index", ["saddle"])})
    seen = phase_plane(Lorenz(), plane=plane, found=found, starts=2, resolution=3, duration=0.01, frames=3)
    x = torch.tensor([1.0, 0.6, 1.8], dtype=torch.float64)  # at (1, 1)
    assert seen.velocity.values[2, 2] == pytest.approx((axes @ Lorenz().velocity(x)).numpy(), rel=1e-13)
    assert seen.point.values[0] == pytest.approx([1.0, 0.6 * 2 + 0.8 * 2])
    assert seen.attrs["projection"] == "plane"
    assert not seen.sizes["curve"]
    assert not seen.sizes["branch"]
    assert np.allclose(seen.trajectory.values[:, 0], [[-1, -1], [-1, 1], [1, -1], [1, 1]])


def test_planes_of_states_and_of_a_readout():
    torch.manual_seed(0)
    states = torch.randn(50, 2).double() @ torch.randn(2, 6).double() + torch.randn(6).double()
    plane = pca_plane(states)
    assert plane.lift(plane.project(states)).numpy() == pytest.approx(states.numpy(), abs=1e-12)
    assert (plane.axes @ plane.axes.mT).numpy() == pytest.approx(np.eye(2), abs=1e-12)
    assert bool((plane.project(states) > plane.box[0]).all() and (plane.project(states) < plane.box[1]).all())
    weight, bias = torch.randn(2, 6).double(), torch.randn(2).double()
    seen = readout_plane(weight, bias)
    h = torch.randn(7, 6).double()
    assert seen.project(h).numpy() == pytest.approx((h @ weight.mT + bias).numpy(), abs=1e-12)
    y = torch.randn(7, 2).double()
    assert (seen.lift(y) @ weight.mT + bias).numpy() == pytest.approx(y.numpy(), abs=1e-12)
    with pytest.raises(ValueError, match="rank 2"):
        readout_plane(torch.ones(2, 6).double())
    with pytest.raises(ValueError, match=r"weight of shape \(3, 6\)"):
        readout_plane(torch.ones(3, 6).double())
    with pytest.raises(ValueError, match="at least three"):
        pca_plane(torch.ones(2, 6).double())


def test_the_box_is_that_of_the_system_and_a_tenth_around():
    seen = phase_plane(gru_flow(Uh=[[0.5, 0.0], [0.0, 0.5]], bh=[1.0, 0.0]), starts=0, manifolds=False)
    low, high = gru_flow(Uh=[[0.5, 0.0], [0.0, 0.5]], bh=[1.0, 0.0]).bounds()
    assert seen.box_low.values == pytest.approx((low - (high - low) / 10).numpy())
    assert seen.box_high.values == pytest.approx((high + (high - low) / 10).numpy())


def test_systems_side_by_side_keep_what_differs():
    one = phase_plane(gru_flow(Uh=[[3.0, 0.0], [0.0, 3.0]]), BOX, starts=2)
    other = phase_plane(Hopf(1.0, 2.0), ([-2, -2], [2, 2]), starts=2)
    both = concatenate([part.expand_dims("probe") for part in (one, other)], "probe")
    for part, probe in ((one, 0), (other, 1)):
        again = both.isel(probe=probe)
        for name in part.data_vars:
            kept = again[name].isel({dim: slice(size) for dim, size in part[name].sizes.items()})
            assert kept.equals(part[name].drop_vars(["first", "second"], errors="ignore")) or np.array_equal(
                kept.values, part[name].values, equal_nan=part[name].dtype.kind == "f"
            ), name
    assert both.type.values[1, 1:].tolist() == [""] * 8


@pytest.mark.parametrize(
    ("system", "options", "message"),
    [
        (Lorenz(), {"box": BOX}, "give plane="),
        (Lorenz(), {"box": ([-1] * 3, [1] * 3)}, r"corners of shapes \(3,\) and \(3,\)"),
        (Lorenz(), {}, "where to look is not known"),
        (gru_flow(Uh=3.0), {}, "1 state components has no phase plane"),
        (Hopf(1.0, 1.0), {"box": ([0, 0], [0, 1])}, "finite low < high"),
        (Hopf(1.0, 1.0), {"box": ([0, 0], [1, math.inf])}, "finite low < high"),
        (Hopf(1.0, 1.0), {"box": BOX, "resolution": 2}, "resolution=2 .* at least 3"),
        (Hopf(1.0, 1.0), {"box": BOX, "frames": 1}, "frames=1 .* at least 2"),
        (Hopf(1.0, 1.0), {"box": BOX, "duration": -1.0}, "duration=-1.0"),
        (Henon(), {"box": BOX, "duration": 1.5}, "duration=1.5"),
        (Hopf(1.0, 1.0), {"box": BOX, "starts": -1}, "starts=-1"),
        (Hopf(1.0, 1.0), {"box": BOX, "starts": torch.zeros(3)}, r"starts of shape \(3,\)"),
        (Hopf(1.0, 1.0), {"box": BOX, "found": xr.Dataset()}, "found has no point"),
        (Field(lambda x, y: x.log(), lambda x, y: y), {"box": BOX}, "not finite at 820 of 1681 grid points"),
        (
            Lorenz(),
            {"plane": Plane(torch.zeros(3), torch.eye(3)[:2]), "box": BOX, "basins": True},
            "projection",
        ),
        (object(), {"box": BOX}, "no dynamical system"),
    ],
)
def test_what_is_not_possible_is_said_in_one_line(system, options, message):
    options = dict(options)
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        phase_plane(system, options.pop("box", None), **options)
    assert "\n" not in str(caught.value)
