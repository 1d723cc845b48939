import math
import warnings

import numpy as np
import pytest
import torch
import xarray as xr
from scipy.optimize import brentq, root
from torch import nn

from rnnlab.analysis.fixed_points import fixed_points
from rnnlab.autonomous import HeldInput, Wrapped, freeze, wrap_torch
from rnnlab.cells import GRU, Elman
from rnnlab.maps import CubeRoots, DelayedLogistic, Henon, Hopf, Linear, Logistic, Lorenz, TanhMap
from rnnlab.systems import Flow, Iterated, Observed
from tests.networks import SEVEN_POINTS, held, planted_gru, planted_weights, seven_point_gru


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


def normal(*shape, seed=0, std=1.0):
    return std * torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class Map:
    """A map given by a function; without bounds, closed forms or a smaller system."""

    def __init__(self, function):
        self.step = function

    def observe(self, x):
        return x


class Field:
    def __init__(self, function):
        self.velocity = function


def bare(system):
    """The same map without anything it knows of itself."""
    return Map(system.step)


def kinds(found):
    return found.kind.values.tolist()


def naive_gru(cell, x):
    """The reset-before GRU under zero input, once more, in numpy: z, and what x moves towards."""
    u, b, n = cell.U.numpy(), cell.b.numpy(), len(x)
    r, z = (0.5 + 0.5 * np.tanh((u[rows] @ x + b[rows]) / 2) for rows in (slice(n), slice(n, 2 * n)))
    return z, np.tanh(u[2 * n :] @ (r * x) + b[2 * n :])


# networks of known dynamics


@pytest.mark.parametrize("wrap", [lambda system: system, bare])
def test_seven_points(wrap):
    system = seven_point_gru()
    found = fixed_points(wrap(system), normal(200, 2))
    assert found.sizes["index"] == 7
    for unstable, point in SEVEN_POINTS:
        (near,) = np.flatnonzero(np.abs(found.point.values - point).max(-1) < 1e-6)
        assert found.unstable[near] == unstable
        assert np.abs(naive_gru(system.model.cell, found.point.values[near])[1] - point).max() < 1e-6
    assert kinds(found) == 3 * ["stable node"] + 3 * ["saddle"] + ["unstable node"]
    assert found.index_sum == found.attrs["index_sum"] == 1
    assert found.not_converged == found.attrs["not_converged"] == 0
    assert found.starts == 200
    assert found.hits.sum() >= 200
    assert (found.residual < 1e-14).all()
    assert (found.correction < 1e-14).all()
    np.testing.assert_array_equal(found.y, found.point)


def test_a_missing_point_breaks_the_index_sum():
    found = fixed_points(seven_point_gru(), normal(200, 2))
    for missing in range(7):
        assert found.sign.drop_isel(index=missing).sum() != 1


def test_starts_can_be_sampled():
    none = torch.empty(0, 2).double()
    found = fixed_points(seven_point_gru(), none, samples=200)
    assert found.sizes["index"] == 7
    assert found.starts == 200
    again = fixed_points(seven_point_gru(), none, samples=200)
    xr.testing.assert_identical(again, found)
    assert not fixed_points(seven_point_gru(), none, samples=200, seed=1).hits.equals(found.hits)
    # where no box is known, [-1, 1]; beside given starts, and the same for every probe
    both = fixed_points(TanhMap(double([2.0], [0.5])), double(0.3).expand(2, 1, 1), samples=20)
    assert both.starts.values.tolist() == [21, 21]
    assert (both.unstable >= 0).sum("index").values.tolist() == [3, 1]


def test_too_few_starts_are_told():
    with pytest.warns(
        UserWarning, match=r"add up to -1, not 1: points are missing, give more starts\."
    ) as told:
        found = fixed_points(seven_point_gru(), double([0.0, 0.99]))
    assert told[0].filename == __file__
    assert found.index_sum == -1
    assert kinds(found) == ["saddle"]
    # where no box is known, nothing is claimed
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fixed_points(bare(seven_point_gru()), double([0.0, 0.99])).index_sum == -1


def test_degenerate_origin_is_called_so():
    with pytest.warns(UserWarning, match="degenerate"):
        found = fixed_points(seven_point_gru(gain=2.0), normal(200, 2))
    (origin,) = np.flatnonzero(np.abs(found.point.values).max(-1) < 1e-3)
    assert kinds(found)[origin] == "non-hyperbolic"
    assert np.isnan(found.sign[origin])
    assert found.margin[origin] < 1e-6


def test_planted_network_has_27_points_by_construction():
    """The proof that `planted_gru` sketches, in numbers."""
    weights = {name: values.numpy() for name, values in planted_weights().items()}
    m, feedback = weights["candidate"] / 2, weights["feedback"] / 2
    inside, outside = weights["inside"], weights["outside"]
    size = np.abs(feedback).sum(-1).max()  # no input e of a unit is larger: |x| <= 1
    lipschitz = []  # of x with respect to e, in the maximum norm
    for rows in inside.reshape(3, -1):
        assert not m[rows][:, np.setdiff1d(np.arange(200), rows)].any()
        block = m[np.ix_(rows, rows)]
        left, values, right = np.linalg.svd(block)
        np.testing.assert_allclose(values[1:], 0, atol=1e-12)  # rank one: block = a b^T, x = tanh(a s + e)
        a, b = values[0] * left[:, 0], right[0]
        assert (a * b > 0).all()

        def excess(s, a=a, b=b):
            return b @ np.tanh(a * s) - s

        # no |e| <= size moves the excess by more than size * sum |b|: its zeros stay in three intervals, and
        # there its slope keeps one sign under all e, so that each holds exactly one
        grid = np.linspace(-1.1, 1.1, 4001) * np.abs(b).sum()
        near = np.array([abs(excess(s)) for s in grid]) < 1.2 * size * np.abs(b).sum()
        assert (np.diff(near.astype(int)) == 1).sum() == 3
        high, low = (
            np.array([b @ (a / np.cosh(np.maximum(np.abs(a * s) + shift, 0)) ** 2) - 1 for s in grid[near]])
            for shift in (-size, size)
        )
        assert ((low > 0.5) | (high < -0.5)).all()
        lipschitz.append(1 + np.abs(a).max() * np.abs(b).sum() / 0.5)
    rest = np.abs(m[np.ix_(outside, outside)]).sum(-1).max()
    drive = np.abs(m[np.ix_(outside, inside)]).sum(-1).max()
    assert rest < 1
    whole = max(*lipschitz, (drive * max(lipschitz) + 1) / (1 - rest))
    assert size * whole < 1


def test_planted_network_is_found_whole_and_followed():
    system = planted_gru()
    found = fixed_points(system, normal(100, 200, seed=1))
    assert np.bincount(found.unstable.values).tolist() == [8, 12, 6, 1]
    assert (found.index_sum, found.not_converged) == (1, 0)
    state = torch.from_numpy(found.point.values)
    assert (system.step(state) - state).abs().max() < 1e-12

    system.model.cell.weight_hh.mul_(1 + normal(600, 200, std=0.01))
    again = fixed_points(system, torch.empty(0, 200).double(), known=found.point.values)
    assert np.bincount(again.unstable.values).tolist() == [8, 12, 6, 1]
    assert (again.hits == 1).all()
    assert (again.starts, again.index_sum, again.not_converged) == (27, 1, 0)
    assert np.isnan(again.unseen)
    bare_of_eigenvalues = fixed_points(
        system, torch.empty(0, 200).double(), known=found.point.values, eigenvalues=False
    )
    assert bare_of_eigenvalues.index_sum == 1
    assert (bare_of_eigenvalues.unstable == -1).all()
    assert kinds(bare_of_eigenvalues) == 27 * [""]
    both = (np.sort(look.point.values, 0) for look in (again, bare_of_eigenvalues))
    np.testing.assert_array_equal(*both)


def test_strong_chaos_is_not_taken_for_rest():
    cell = Elman(1, 200).double()
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.zero_()
        cell.weight_hh.copy_(normal(200, 200, std=6 / math.sqrt(200)))
    system = held(cell)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        found = fixed_points(system, normal(20, 200, seed=1), max_steps=40)
    assert found.not_converged > 0
    weights = system.model.cell.weight_hh.numpy()
    for point in found.point.values:
        assert np.abs(np.tanh(weights @ point) - point).max() < 1e-10
    assert int(found.not_converged) + int(found.slow_hits.sum()) <= 20
    for point in found.slow_point.values:
        assert np.abs(np.tanh(weights @ point) - point).max() > 1e-10


@pytest.mark.parametrize("seed", range(12))
def test_random_small_networks_against_a_grid(seed):
    cell = GRU(1, 2).double()
    with torch.no_grad():
        cell.U.copy_(normal(6, 2, seed=seed, std=4.0))
        cell.b.copy_(normal(6, seed=seed + 100, std=0.5))
    system = held(cell)
    frozen = system.model.cell
    # as z > 0, the points are those of x = h(x), which unlike x = z h(x) + (1 - z) x is nowhere flat
    truth = []
    for start in np.stack(np.meshgrid(*2 * [np.linspace(-1, 1, 21)]), -1).reshape(-1, 2):
        end = root(lambda x: naive_gru(frozen, x)[1] - x, start, tol=1e-13)
        if np.abs(end.fun).max() < 1e-12 and all(np.abs(end.x - other).max() > 1e-6 for other in truth):
            truth.append(end.x)
    found = fixed_points(system, normal(200, 2, seed=seed))
    assert found.index_sum == 1
    assert len(truth) == found.sizes["index"]
    for point in found.point.values:
        assert min(np.abs(point - other).max() for other in truth) < 1e-7


def loud_lstm(units, layers, seed, std=4.0):
    """An LSTM with weights so large that it rests in several places."""
    module = nn.LSTM(1, units, num_layers=layers).double()
    with torch.no_grad():
        for number, parameter in enumerate(module.parameters()):
            parameter.copy_(
                normal(*parameter.shape, seed=seed + number, std=std if parameter.ndim > 1 else 0.5)
            )
    return module


@pytest.mark.parametrize(("units", "layers", "seed"), [(3, 1, 8), (1, 2, 5)])
def test_lstm_with_and_without_its_cell_state(units, layers, seed):
    system = HeldInput(freeze(wrap_torch(loud_lstm(units, layers, seed))), double(0.0))
    x0 = normal(200, 2 * units * layers)
    small, whole = fixed_points(system, x0), fixed_points(bare(system), x0)
    assert small.index_sum == whole.index_sum == 1
    assert small.sizes["index"] == whole.sizes["index"] > 1
    for name in ("point", "eigenvalue", "margin", "sign", "unstable"):
        np.testing.assert_allclose(small[name], whole[name], atol=1e-8, err_msg=name)
    assert small.sizes["mode"] == 2 * units * layers
    assert (small.residual < 1e-13).all()


def test_two_layers_of_gru():
    torch.manual_seed(2)
    module = nn.GRU(1, 2, num_layers=2).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(8)
    found = fixed_points(HeldInput(freeze(wrap_torch(module)), double(0.0)), normal(300, 4))
    assert found.index_sum == 1
    for point in found.point.values:
        h = torch.from_numpy(point).view(2, 1, 2)
        with torch.no_grad():
            after = module(torch.zeros(1, 1, 1).double(), h)[1]
        np.testing.assert_allclose(after.flatten(), point, atol=1e-12)


# maps and fields known by hand


def test_logistic_as_one_batch():
    r = double(0.5, 2.0, 3.5)
    found = fixed_points(Logistic(r[:, None]), normal(3, 30, 1))
    assert found.point.dims == ("probe", "index", "state")
    for probe, value in enumerate(r.tolist()):
        truth = {0.0: value, 1 - 1 / value: 2 - value}
        points = found.point.values[probe, :, 0]
        for point, multiplier in truth.items():
            (row,) = np.flatnonzero(np.abs(points - point) < 1e-12)
            assert found.eigenvalue.values[probe, row, 0] == pytest.approx(multiplier, abs=1e-10)
            assert found.unstable.values[probe, row] == (abs(multiplier) > 1)
            assert found.margin.values[probe, row] == pytest.approx(abs(abs(multiplier) - 1), abs=1e-10)
            assert found.sign.values[probe, row] == np.sign(1 - multiplier)


def test_henon():
    a, b = 1.4, 0.3
    found = fixed_points(Henon(a, b), normal(50, 2))
    roots = np.roots([a, 1 - b, -1])
    assert found.sizes["index"] == 2
    for first in roots:
        (row,) = np.flatnonzero(np.abs(found.point.values[:, 0] - first) < 1e-12)
        assert found.point.values[row, 1] == pytest.approx(b * first, abs=1e-12)
        truth = np.linalg.eigvals([[-2 * a * first, 1], [b, 0]])
        np.testing.assert_allclose(np.sort(found.eigenvalue.values[row].real), np.sort(truth), atol=1e-10)
        assert found.kind[row] == "saddle"
    # past the saddle-node there is none
    none = fixed_points(Henon(-0.2, b), normal(50, 2))
    assert none.sizes["index"] == 0
    assert none.not_converged + none.slow_hits.sum() == 50


def test_cube_roots_are_superstable():
    found = fixed_points(CubeRoots(), normal(100, 2))
    angles = np.sort(np.arctan2(*found.point.values.T[::-1]))
    np.testing.assert_allclose(angles, [-2 * np.pi / 3, 0, 2 * np.pi / 3], atol=1e-12)
    assert kinds(found) == 3 * ["stable node"]
    np.testing.assert_allclose(found.eigenvalue, 0, atol=1e-6)


def test_delayed_logistic_at_its_neimark_sacker_bifurcation():
    found = fixed_points(DelayedLogistic(2.0), normal(50, 2))
    (row,) = np.flatnonzero(np.abs(found.point.values - 0.5).max(-1) < 1e-10)
    assert found.kind[row] == "non-hyperbolic"
    assert found.margin[row] < 1e-9
    assert found.sign[row] == 1  # an eigenvalue on the circle, but not at one: the index is known
    np.testing.assert_allclose(found.eigenvalue[row], np.exp([1j * np.pi / 3, -1j * np.pi / 3]), atol=1e-9)


def test_lorenz():
    sigma, rho, beta = 10.0, 28.0, 8 / 3
    found = fixed_points(Lorenz(sigma, rho, beta), normal(50, 3, std=10.0))
    s = math.sqrt(beta * (rho - 1))
    np.testing.assert_allclose(found.point, [[0, 0, 0], [-s, -s, rho - 1], [s, s, rho - 1]], atol=1e-10)
    assert found.unstable.values.tolist() == [1, 2, 2]
    assert found.sign.values.tolist() == [-1, 1, 1]
    assert found.index_sum == 1
    root = math.sqrt((sigma - 1) ** 2 + 4 * sigma * rho)
    truth = [(-sigma - 1 + root) / 2, -beta, (-sigma - 1 - root) / 2]
    np.testing.assert_allclose(found.eigenvalue[0], truth, atol=1e-10)
    wing = np.roots([1, sigma + beta + 1, beta * (rho + sigma), 2 * sigma * beta * (rho - 1)])
    np.testing.assert_allclose(np.sort_complex(found.eigenvalue.values[1]), np.sort_complex(wing), atol=1e-9)
    # as a map, the flow rests at the same places
    flow = fixed_points(Flow(Lorenz(), 0.05, substeps=10), normal(50, 3, std=10.0))
    np.testing.assert_allclose(flow.point, found.point, atol=1e-10)
    np.testing.assert_allclose(np.abs(flow.eigenvalue[0]), np.exp(0.05 * np.array(truth)), atol=1e-5)


@pytest.mark.parametrize(
    ("mu", "kind"), [(-0.5, "stable focus"), (0.0, "non-hyperbolic"), (0.5, "unstable focus")]
)
def test_hopf(mu, kind):
    found = fixed_points(Hopf(mu, 2.0), normal(50, 2))
    np.testing.assert_allclose(found.point, [[0, 0]], atol=1e-12)
    assert kinds(found) == [kind]
    assert found.margin[0] == pytest.approx(abs(mu), abs=1e-12)
    np.testing.assert_allclose(np.sort_complex(found.eigenvalue.values[0]), [mu - 2j, mu + 2j], atol=1e-12)
    assert found.index_sum == 1


def turn(modulus, angle):
    cos, sin = modulus * math.cos(angle), modulus * math.sin(angle)
    return double([cos, -sin], [sin, cos])


@pytest.mark.parametrize(
    ("block", "other", "kind", "unstable"),
    [
        (turn(0.9, 1.0), 0.2, "stable focus", 0),
        (turn(0.5, 1.0), 0.9, "stable node", 0),
        (turn(1.1, 1.0), 3.0, "unstable focus", 3),
        (turn(3.0, 1.0), -1.1, "unstable node", 3),
        (turn(1.1, 1.0), 0.5, "saddle", 2),
        (turn(0.5, 1.0), -1.5, "saddle", 1),
        (turn(1.0, 1.0), 0.5, "non-hyperbolic", 0),
        (turn(0.5, 1.0), -1.0 - 1e-7, "non-hyperbolic", 0),
        (turn(0.5, 1.0), -1.0 - 1e-4, "saddle", 1),
    ],
)
def test_kinds_of_linear_maps(block, other, kind, unstable):
    matrix = torch.block_diag(block, double([other]))
    change = torch.linalg.qr(normal(3, 3))[0] @ torch.diag(double(1.0, 2.0, 0.5))
    found = fixed_points(Linear(change @ matrix @ change.inverse()), normal(5, 3))
    np.testing.assert_allclose(found.point, [[0, 0, 0]], atol=1e-12)
    assert kinds(found) == [kind]
    assert found.unstable[0] == unstable
    assert found.sign[0] == math.copysign(1, 1 - other)
    assert found.hits[0] == 5


# what is near, degenerate, slow, or nowhere


def test_points_a_millionth_apart_stay_two():
    gap = 1e-6
    wave = Map(lambda x: x + 0.3 * gap * torch.sin(torch.pi * x / gap) / torch.pi)
    x0 = gap * torch.linspace(-2.3, 2.4, 40, dtype=torch.float64)[:, None]
    found = fixed_points(wave, x0, tolerance=1e-12, iterations=0)
    inner = found.point.values.ravel()
    inner = np.sort(inner[np.abs(inner) < 2.5 * gap])
    np.testing.assert_allclose(inner, gap * np.arange(-2, 3), atol=1e-12)


@pytest.mark.parametrize("power", [2, 3, 4])
def test_multiple_roots_are_one_degenerate_point(power):
    # x = 1 is a root of order `power`: Newton's method creeps, from either side
    system = Map(lambda x: x - 0.1 * (x - 1) ** power)
    found = fixed_points(system, double([0.5], [0.8], [1.3], [1.6], [1.0]))
    assert found.sizes["index"] == 1
    assert found.point[0, 0] == pytest.approx(1, abs=2e-3)
    assert kinds(found) == ["non-hyperbolic"]
    assert found.margin[0] < 1e-6
    assert np.isnan(found.sign[0])


def test_pitchfork_before_at_and_after():
    found = fixed_points(
        TanhMap(double(0.99, 1.0, 1.01)[:, None]), torch.linspace(-1, 1, 40).double().expand(3, -1)[..., None]
    )
    assert [[kind for kind in row if kind] for row in found.kind.values.tolist()] == [
        ["stable node"],
        ["non-hyperbolic"],
        ["stable node", "stable node", "unstable node"],
    ]
    outer = brentq(lambda x: math.tanh(1.01 * x) - x, 0.01, 1)
    np.testing.assert_allclose(found.point[2, :, 0], [-outer, outer, 0], atol=1e-11)
    assert found.unstable.values.tolist() == [[0, -1, -1], [0, -1, -1], [0, 0, 1]]
    assert found.hits.values[0].tolist() == [40, -1, -1]


def test_where_everything_rests_there_is_one_point():
    found = fixed_points(Map(lambda x: x.clone()), normal(20, 3))
    assert kinds(found) == ["non-hyperbolic"]
    assert found.hits[0] == 20


def test_where_nothing_rests_there_is_none():
    found = fixed_points(Map(lambda x: x + 1), normal(20, 3))
    assert (found.sizes["index"], found.sizes["slow"]) == (0, 0)
    assert found.attrs["not_converged"] == 20
    assert found.index_sum == 0


def test_what_is_merely_flat_is_no_point():
    # the speed exp(-x) falls below any tolerance, and there is no fixed point
    found = fixed_points(Map(lambda x: x + torch.exp(-x)), double([0.0], [10.0], [24.0]))
    assert found.sizes["index"] == 0


def test_the_ghost_of_a_saddle_node_is_a_slow_point():
    height = 1e-3
    system = Map(lambda x: torch.stack((x[..., 0] + height + x[..., 0] ** 2, 0.5 * x[..., 1]), -1))
    found = fixed_points(system, normal(20, 2, std=0.5))
    assert found.sizes["index"] == 0
    np.testing.assert_allclose(found.slow_point, [[0, 0]], atol=1e-3)
    np.testing.assert_allclose(found.slow_speed, [height], rtol=1e-3)
    assert found.slow_hits[0] + found.not_converged == 20
    assert found.slow_hits[0] >= 10


def test_slow_points_beside_fixed_ones():
    # the speed |0.1 (x + 1)(x^2 + 0.01)| has a minimum near 0, and Newton's method leaves for the root at -1
    system = Map(lambda x: x - 0.1 * (x + 1) * (x**2 + 0.01))
    x0 = torch.linspace(-0.5, 1, 30).double()[:, None]
    without, found = fixed_points(system, x0), fixed_points(system, x0, slow=True)
    for look in (without, found):
        np.testing.assert_allclose(look.point, [[-1]], atol=1e-12)
    assert without.sizes["slow"] == 0
    (minimum,) = [value.real for value in np.roots([3, 2, 0.01]) if abs(value) < 0.1]
    np.testing.assert_allclose(found.slow_point, [[minimum]], atol=1e-3)
    assert found.not_converged == 0


def test_a_start_that_diverges_disturbs_no_other():
    alone = fixed_points(Logistic(3.5), double([0.3], [0.6]))
    both = fixed_points(Logistic(3.5), double([0.3], [0.6], [1e200]))
    np.testing.assert_allclose(alone.point, both.point, atol=1e-14)
    assert both.starts == 3


def test_what_another_start_would_find():
    # one start alone finds the upper point, six the lower: of seven, one brought news
    upper = Map(lambda x: torch.where(x > 0, 0.5 * x + 0.5, 0.5 * x - 0.5))
    found = fixed_points(upper, double([0.3], [-0.1], [-0.2], [-0.3], [-0.4], [-0.5], [-0.6]))
    assert found.point.values.ravel().tolist() == [-1, 1]
    assert found.hits.values.tolist() == [6, 1]
    assert found.unseen == pytest.approx(1 / 7)
    # what was known is no news
    found = fixed_points(upper, double([0.3], [-0.1]), known=double([0.9], [math.nan]))
    assert found.starts == 3
    assert found.unseen == pytest.approx(1 / 2)
    assert found.hits.values.tolist() == [1, 2]


# the contract


def test_probes_at_once_and_one_by_one():
    inputs = double(-0.5, 0.0, 0.5)[:, None, None]
    network, x0 = freeze(wrap_torch(loud_lstm(2, 1, 6))), normal(3, 100, 4)
    together = fixed_points(HeldInput(network, inputs), x0)
    assert len(set((together.unstable >= 0).sum("index").values.tolist())) > 1
    for probe in range(3):
        alone = fixed_points(HeldInput(network, inputs[probe]), x0[probe])
        assert "probe" not in alone.dims
        same = together.isel(probe=probe, index=slice(alone.sizes["index"]))
        for name in set(alone.data_vars) - {"kind"}:
            np.testing.assert_allclose(same[name], alone[name], atol=1e-9, err_msg=name)
        assert same.kind.values.tolist() == kinds(alone)
        rest = together.isel(probe=probe, index=slice(alone.sizes["index"], None))
        assert rest.point.isnull().all()
        assert (rest.hits == -1).all()
        assert (rest.kind == "").all()


def test_many_units_are_searched_in_parts(monkeypatch):
    x0 = normal(2, 40, 2).expand(2, 40, 2)
    whole = fixed_points(seven_point_gru(), x0)
    monkeypatch.setattr("rnnlab.analysis.roots.ELEMENTS", 50)
    parts = fixed_points(seven_point_gru(), x0, progress=True)
    np.testing.assert_allclose(whole.point, parts.point, atol=1e-13)
    np.testing.assert_array_equal(whole.hits, parts.hits)


def test_known_points_of_some_probes():
    r = double(2.0, 3.5)
    known = double([[0.49], [math.nan]], [[math.nan], [math.nan]])
    found = fixed_points(Logistic(r[:, None]), torch.empty(2, 0, 1).double(), known=known)
    assert found.point.values[0, 0, 0] == pytest.approx(0.5)
    assert np.isnan(found.point.values[1]).all()
    assert found.starts.values.tolist() == [1, 0]
    assert found.attrs["not_converged"] == [0, 0]


def test_looking_changes_nothing():
    cell = GRU(1, 4).double()
    network = Wrapped(cell).train()
    system = HeldInput(network, double(0.2))
    before = [parameter.clone() for parameter in network.parameters()]
    state, python = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    x0 = normal(30, 4).requires_grad_()
    found = fixed_points(system, x0)
    assert found.index_sum == 1
    assert torch.equal(state, torch.get_rng_state())
    assert (python == np.random.get_state()[1]).all()  # noqa: NPY002
    assert network.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())
    assert all(map(torch.equal, before, network.parameters()))
    network.step(normal(3, 4), double(0.2)).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_what_is_observed():
    found = fixed_points(Observed(Henon(), lambda x: 2 * x[..., :1]), normal(20, 2))
    np.testing.assert_allclose(found.y, 2 * found.point.values[:, :1])
    assert found.y.dims == ("index", "observable")
    twice = fixed_points(Iterated(Henon(), 2), normal(50, 2))
    assert twice.sizes["index"] == 4  # both fixed points, and the one orbit of period 2


def nan_gru():
    cell = GRU(1, 2)
    with torch.no_grad():
        cell.U.fill_(math.nan)
    return held(cell)


@pytest.mark.parametrize(
    ("system", "x0", "options", "message"),
    [
        (seven_point_gru(), normal(5, 3), {}, "is 3 the size of its state"),
        (nan_gru(), normal(5, 2), {}, "parameters finite"),
        (Map(lambda x: x - x.mean(0)), normal(5, 2), {}, "not independent"),
        (Henon(), torch.empty(0, 2).double(), {}, "empty"),
        (Henon(), torch.empty(0, 2).double(), {"known": double([math.nan, 0.0])}, "no start"),
        (Henon(), normal(5, 2).float(), {}, "float64"),
        (Henon(), normal(5, 2).float(), {"known": normal(5, 2)}, "float64"),
        (Henon(), normal(5, 2), {"known": normal(5, 2).float()}, "known of type"),
        (Henon(), normal(5, 2), {"known": normal(1, 5, 2)}, "known of shape"),
        (Henon(), normal(5, 2), {"known": normal(5, 3)}, "known of shape"),
        (Henon(), double([0.0, math.inf]), {}, "not finite"),
        (Henon(), normal(5, 2), {"tolerance": 0.0}, "tolerance=0.0"),
        (Henon(), normal(5, 2), {"tolerance": math.nan}, "tolerance=nan"),
        (Henon(), normal(5, 2), {"max_step": -1.0}, "max_step=-1.0"),
        (Henon(), normal(5, 2), {"max_steps": 1.5}, "max_steps=1.5"),
        (Henon(), normal(5, 2), {"iterations": -1}, "iterations=-1"),
    ],
)
def test_bad_input_is_refused(system, x0, options, message):
    with pytest.raises(ValueError, match=message):
        fixed_points(system, x0, **options)


def test_what_is_no_system_is_refused():
    with pytest.raises(TypeError, match="no dynamical system"):
        fixed_points(object(), normal(5, 2))
    with pytest.raises(TypeError, match=r"torch\.Tensor"):
        fixed_points(Henon(), np.zeros((5, 2)))
