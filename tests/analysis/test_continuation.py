"""Bifurcations whose place, type and criticality are known, and curves that are hard to follow."""

import json
import math

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from torch import nn

from rnnlab.analysis.arclength import Curve
from rnnlab.analysis.continuation import continuation
from rnnlab.autonomous import HeldInput, wrap_torch
from rnnlab.families import between
from rnnlab.maps import DelayedLogistic, Henon, Hopf, Linear, Logistic, Lorenz, NeimarkSacker, TanhMap
from rnnlab.systems import Iterated, jacobian


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


class Map:
    def __init__(self, step):
        self.step = step

    def observe(self, x):
        return x


class Field:
    def __init__(self, velocity):
        self.velocity = velocity


def gru_of_one(bias):
    def velocity(h):
        r = torch.sigmoid(80 * h + 40)
        return -(h - torch.tanh(-60 * r * h + bias)) / 2

    return Field(velocity)


def gru_of_two(angle):
    angle = torch.as_tensor(angle, dtype=torch.float64)
    rows = torch.stack((angle.cos(), -angle.sin())), torch.stack((angle.sin(), angle.cos()))
    recurrent = 3 * torch.stack(rows)
    return Field(lambda h: -(h - torch.tanh(h / 2 @ recurrent.T)) / 2)


def subcritical_hopf(mu):
    def velocity(x):
        a, b = x.unbind(-1)
        growth = mu + a * a + b * b
        return torch.stack((growth * a - 2 * b, growth * b + 2 * a), -1)

    return Field(velocity)


NONE = ""
UP, DOWN = "supercritical", "subcritical"
# family, starts, span, period, then type, parameter and criticality of all there is in the span
KNOWN = {
    "logistic": (Logistic, [[0.0]], (0.8, 1.15), 1, "transcritical", 1.0, NONE),
    "logistic doubles": (Logistic, [[0.6]], (2.8, 3.15), 1, "period doubling", 3.0, UP),
    "logistic doubles again": (Logistic, [[0.5]], (3.4, 3.5), 2, "period doubling", 1 + math.sqrt(6), UP),
    "logistic period 3": (Logistic, [[0.1561]], (3.84, 3.8), 3, "saddle-node", 1 + math.sqrt(8), NONE),
    "Henon folds": (Henon, [[4.2, 1.2], [2.1, 0.6]], (-0.11, -0.15), 1, "saddle-node", -0.1225, NONE),
    "Henon doubles": (Henon, [[1.0, 0.3]], (0.3, 0.4), 1, "period doubling", 0.3675, UP),
    "tanh": (TanhMap, [[0.0]], (0.75, 1.2), 1, "pitchfork", 1.0, UP),
    "tanh from aside": (TanhMap, [[0.5]], (1.1, 0.9), 1, "pitchfork", 1.0, UP),
    "tanh doubles": (TanhMap, [[0.0]], (-0.75, -1.2), 1, "period doubling", -1.0, UP),
    "delayed logistic": (DelayedLogistic, [[0.5, 0.4]], (1.9, 2.1), 1, "Neimark-Sacker", 2.0, UP),
    "circle": (lambda mu: NeimarkSacker(mu, 1.0), [[0.0, 0.0]], (-0.1, 0.2), 1, "Neimark-Sacker", 0.0, UP),
    "Hopf": (lambda mu: Hopf(mu, 1.0), [[0.0, 0.0]], (-0.1, 0.2), 1, "Hopf", 0.0, UP),
    "hard Hopf": (subcritical_hopf, [[0.0, 0.0]], (-0.1, 0.2), 1, "Hopf", 0.0, DOWN),
    "Lorenz": (lambda r: Lorenz(rho=r), [[0.0, 0.0, 0.0]], (0.5, 1.7), 1, "pitchfork", 1.0, UP),
    "Lorenz turns": (lambda r: Lorenz(rho=r), [[7.9, 7.9, 23.5]], (24.5, 25), 1, "Hopf", 470 / 19, DOWN),
    "field folds": (lambda s: Field(lambda x: s - x * x), [[1.0]], (0.1, -0.1), 1, "saddle-node", 0.0, NONE),
    "fields cross": (
        lambda s: Field(lambda x: s * x - x**2),
        [[0.0]],
        (-0.1, 0.2),
        1,
        "transcritical",
        0.0,
        NONE,
    ),
    "hard fork": (lambda s: Field(lambda x: s * x + x**3), [[0.0]], (-0.1, 0.2), 1, "pitchfork", 0.0, DOWN),
    "hard doubling": (
        lambda s: Map(lambda x: -s * x - x**3),
        [[0.0]],
        (0.9, 1.15),
        1,
        "period doubling",
        1.0,
        DOWN,
    ),
    "GRU of one unit": (gru_of_one, [[-0.99]], (-0.75, -0.65), 1, "saddle-node", -0.7031308373, NONE),
    "GRU of two units": (gru_of_two, [[0.0, 0.0]], (0.9, 0.8), 1, "Hopf", math.acos(2 / 3), UP),
}


@pytest.mark.parametrize("known", KNOWN)
def test_known_bifurcations(known):
    family, starts, span, period, kind, parameter, criticality = KNOWN[known]
    found = continuation(family, double(*starts), span, period=period)
    assert found.bifurcation_type.values.tolist() == [kind]
    assert found.bifurcation_parameter.item() == pytest.approx(parameter, abs=1e-9)
    assert found.criticality.item() == criticality
    assert found.ended.values.tolist() == ["left the span"]
    assert found.bifurcation_residual.item() < 1e-12
    assert found.bifurcation_distance.item() < 1e-10
    assert float(found.residual.max()) < 1e-9
    assert found.derivative == "forward mode"
    json.dumps(found.attrs)


def test_coefficients_and_angles_go_with_the_bifurcation():
    found = continuation(DelayedLogistic, double([0.5, 0.4]), (1.9, 2.1))
    assert found.angle.item() == pytest.approx(math.pi / 3, abs=1e-9)
    found = continuation(gru_of_two, double([0.0, 0.0]), (0.9, 0.8))
    assert found.angle.item() == pytest.approx(math.sqrt(5) / 4, abs=1e-9)
    # only C is not zero: l1 = -1.5^3 cos(a) / 4 omega, with q = (1, -i) / sqrt 2
    assert found.coefficient.item() == pytest.approx(-(1.5**3) * (2 / 3) / math.sqrt(5), abs=1e-9)
    found = continuation(Logistic, double([0.6]), (2.8, 3.15))
    assert found.coefficient.item() == pytest.approx(9)
    assert np.isnan(found.angle.item())


def test_numbers_along_a_branch():
    found = continuation(Logistic, double([0.6]), (2.7, 3.2)).isel(branch=0)
    r, x = found.parameter.values, found.point.values[:, 0]
    assert (r[0], r[-1]) == (2.7, 3.2)
    np.testing.assert_allclose(x, 1 - 1 / r, rtol=1e-13)
    np.testing.assert_allclose(found.eigenvalue[:, 0], 2 - r, rtol=1e-11)
    # the bifurcation is a step itself; nothing is unstable there yet
    np.testing.assert_array_equal(found.unstable, r > 3 + 1e-9)
    assert (np.abs(r - 3) < 1e-12).any()
    assert (np.diff(r) <= 0.02 * 0.5).all()


def test_both_sides_of_a_fold_are_one_branch():
    found = continuation(Henon, double([4.2, 1.2], [2.1, 0.6], [2.0, 0.5]), (-0.11, -0.15))
    assert found.sizes["branch"] == 1
    assert (found.starts, found.duplicates) == (3, 2)
    a, x = found.parameter.values[0], found.point.values[0, :, 0]
    np.testing.assert_allclose(1 - a * x * x + 0.3 * x, x, atol=1e-12)
    ends = [(-0.7 + sign * math.sqrt(0.49 - 0.44)) / -0.22 for sign in (1, -1)]
    np.testing.assert_allclose(sorted(x[[0, -1]]), sorted(ends), rtol=1e-10)
    # J = [[-2 a x, 1], [b, 0]]: the upper part is a saddle
    larger = np.abs(-a * x) + np.sqrt((a * x) ** 2 + 0.3) > 1 + 1e-9
    np.testing.assert_array_equal(found.unstable[0], larger)


def test_a_broken_pitchfork_is_a_fold():
    # x = tanh(w x + b) with w (1 - x^2) = 1: b = atanh(x) - x / (1 - x^2)
    x = brentq(lambda x: math.atanh(x) - x / (1 - x * x) - 1e-3, -0.9, -1e-9)
    found = continuation(lambda w: TanhMap(w, 1e-3), double([-0.5]), (1.2, 0.8))
    assert found.bifurcation_type.values.tolist() == ["saddle-node"]
    assert found.bifurcation_parameter.item() == pytest.approx(1 / (1 - x * x), abs=1e-9)
    assert found.ended.item() == "left the span"


def test_a_cycle_is_followed_by_any_of_its_points():
    found = continuation(Logistic, double([0.513], [0.8], [0.7]), (3.2, 3.3), period=2)
    assert (found.duplicates, found.shorter_period, found.sizes["branch"]) == (1, 1, 1)
    r = found.parameter.values[0]
    root = np.sqrt((r - 3) * (r + 1))
    expected = np.stack([(r + 1 - root) / (2 * r), (r + 1 + root) / (2 * r)], -1)
    np.testing.assert_allclose(np.sort(found.y[0, :, :, 0]), expected, rtol=1e-11)
    np.testing.assert_allclose(found.eigenvalue[0, :, 0], 4 + 2 * r - r * r, rtol=1e-9)


def test_a_cycle_that_shrinks_to_a_point_met_a_period_doubling():
    found = continuation(Logistic, double([0.55]), (3.1, 2.9), period=2)
    assert found.ended.values.tolist() == ["period halved"]
    assert found.bifurcation_type.values.tolist() == ["period doubling"]
    assert found.bifurcation_period.item() == 1
    assert found.bifurcation_parameter.item() == pytest.approx(3.0, abs=1e-9)
    assert found.coefficient.item() == pytest.approx(9)


def test_the_tree_of_the_logistic_map():
    found = continuation(Logistic, double([0.0]), (0.9, 3.5), switch=True, max_step=0.05)
    assert found.period.values.tolist() == [1, 1, 1, 2, 4]
    assert found.bifurcation_type.values.tolist() == ["transcritical"] + 2 * ["period doubling"]
    np.testing.assert_allclose(found.bifurcation_parameter, [1, 3, 1 + math.sqrt(6)], atol=1e-9)
    assert found.bifurcation_period.values.tolist() == [1, 1, 2]
    assert set(found.ended.values) == {"left the span"}
    assert (found.unfollowed, found.sizes["phase"]) == (0, 4)
    r = found.parameter[2].values
    np.testing.assert_allclose(found.point[2, :, 0], 1 - 1 / r, atol=1e-10)
    # the cycle of four at the end of the span, by iteration
    x = torch.full((1, 1), 0.3).double()
    x = Iterated(Logistic(3.5), 4000).step(x)
    last = int(found.parameter[4].count()) - 1
    expected = [float(Iterated(Logistic(3.5), n).step(x)) for n in (1, 2, 3, 4)]
    np.testing.assert_allclose(np.sort(found.y[4, last, :, 0]), np.sort(expected), atol=1e-9)
    few = continuation(Logistic, double([0.0]), (0.9, 1.2), switch=True, max_branches=1)
    assert (few.sizes["branch"], few.unfollowed) == (2, 1)


def test_a_loop_between_two_pitchforks_is_followed_once():
    found = continuation(
        lambda s: TanhMap(1.2 - s * s), double([0.0]), (-1.0, 1.1), switch=True, max_step=0.05
    )
    assert found.ended.values.tolist() == ["left the span", "closed"]
    assert found.bifurcation_type.values.tolist() == ["pitchfork", "pitchfork"]
    np.testing.assert_allclose(found.bifurcation_parameter, [-math.sqrt(0.2), math.sqrt(0.2)], atol=1e-9)
    loop = found.point[1].dropna("step").values
    assert loop.min() == pytest.approx(-loop.max(), rel=1e-3)


def test_a_loop_of_cycles_of_two_ends_where_the_period_halves():
    found = continuation(
        lambda s: TanhMap(s * s - 1.2), double([0.0]), (-1.0, 1.1), switch=True, max_step=0.05
    )
    assert found.ended.values.tolist() == ["left the span", "period halved"]
    assert found.bifurcation_type.values.tolist() == ["period doubling", "period doubling"]


def test_neutral_saddles_and_colliding_eigenvalues_are_no_bifurcations():
    def neutral(s):  # multipliers 2 + s and 1/2
        return Linear(torch.diag(torch.stack((2 + s, torch.as_tensor(0.5).double()))))

    def collide(s):  # 1.5 +- sqrt s: a real pair becomes a complex one outside the circle
        s = torch.as_tensor(s, dtype=torch.float64)
        c = torch.ones_like(s)
        return Linear(torch.stack((torch.stack((1.5 * c, c)), torch.stack((s, 1.5 * c)))))

    for family in (neutral, collide):
        found = continuation(lambda s, f=family: f(torch.as_tensor(s)), double([0.0, 0.0]), (0.1, -0.1))
        assert found.sizes["bifurcation"] == 0
        assert found.ended.item() == "left the span"


def test_two_that_cross_at_once_are_not_given_a_name():
    found = continuation(TanhMap, double([0.0, 0.0]), (0.8, 1.2))
    assert found.bifurcation_type.values.tolist() == ["unclassified"]
    assert found.bifurcation_parameter.item() == pytest.approx(1.0, abs=1e-9)
    assert found.criticality.item() == ""
    assert np.isnan(found.coefficient.item())


def test_several_bifurcations_on_the_way_keep_their_order():
    def family(s):  # a pitchfork at 1, a period doubling at 1.01
        s = torch.as_tensor(s, dtype=torch.float64)
        gains = torch.stack((s, -s / 1.01))
        return Map(lambda x: torch.tanh(gains * x))

    found = continuation(family, double([0.0, 0.0]), (0.8, 1.2))
    assert found.bifurcation_type.values.tolist() == ["pitchfork", "period doubling"]
    np.testing.assert_allclose(found.bifurcation_parameter, [1, 1.01], atol=1e-9)
    assert found.unstable[0, [0, -1]].values.tolist() == [0, 2]


def test_crossings_that_cancel_within_a_step_are_seen():
    def family(s):  # one direction loses its stability at 1, the other gains it at 1.001
        s = torch.as_tensor(s, dtype=torch.float64)
        gains = torch.stack((s, s - 2.001))
        return Map(lambda x: torch.tanh(gains * x))

    found = continuation(family, double([0.0, 0.0]), (0.8, 1.2))
    assert found.bifurcation_type.values.tolist() == ["pitchfork", "period doubling"]
    np.testing.assert_allclose(found.bifurcation_parameter, [1, 1.001], atol=1e-9)
    assert found.unstable[0, [0, -1]].values.tolist() == [1, 1]


def test_degenerate_forms_are_called_so():
    found = continuation(lambda s: Linear(-s * torch.eye(1).double()), double([0.0]), (0.9, 1.1))
    assert found.bifurcation_type.item() == "period doubling"
    assert found.criticality.item() == "degenerate"
    found = continuation(lambda s: NeimarkSacker(s, 2 * math.pi / 3), double([0.0, 0.0]), (-0.1, 0.1))
    assert found.criticality.item() == "degenerate"


def test_a_family_that_takes_numbers_only():
    found = continuation(lambda r: Logistic(float(r)), double([0.0], [0.5]), (0.8, 1.2), switch=True)
    assert found.derivative == "central differences"
    assert found.bifurcation_parameter.item() == pytest.approx(1.0, abs=1e-8)
    assert found.bifurcation_type.item() == "transcritical"
    found = continuation(lambda a: Henon(float(a)), double([4.2, 1.2]), (-0.11, -0.15))
    assert found.bifurcation_parameter.item() == pytest.approx(-0.1225, abs=1e-8)
    # float() drops the derivative without a word; the start is a point where it is zero anyway
    found = continuation(lambda w: TanhMap(float(w)), double([0.0]), (0.8, 1.2))
    assert (found.derivative, found.bifurcation_type.item()) == ("central differences", "pitchfork")


def test_no_solution_is_a_result():
    found = continuation(lambda s: Map(lambda x: x + 1 + 0 * s), double([0.0], [1.0]), (0.0, 1.0))
    assert (found.sizes["branch"], found.sizes["bifurcation"]) == (0, 0)
    assert (found.starts, found.not_converged) == (2, 2)


def test_ends():
    found = continuation(Logistic, double([0.6]), (2.5, 2.9), max_steps=5)
    assert (found.ended.item(), found.sizes["step"]) == ("max_steps", 5)
    # x = sqrt(-s) has no other side: the law ends at s = 0
    found = continuation(lambda s: Map(lambda x: torch.sqrt(-s + 0 * x)), double([0.7]), (-0.5, 0.5))
    assert found.ended.item() == "step too small"
    assert float(found.parameter.max()) == pytest.approx(0, abs=1e-4)


def settle(system, x, steps=3000):
    for _ in range(steps):
        x = system.step(x)
    return x


@pytest.mark.parametrize(("kind", "layers"), [(nn.GRU, 1), (nn.LSTM, 1)])
def test_between_two_networks(kind, layers):
    networks = []
    for seed in (0, 1):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            networks.append(wrap_torch(kind(1, 4, num_layers=layers), nn.Linear(4, 1)))
    line, u = between(*networks), double(0.5)

    def family(s):
        return HeldInput(line(s), u)

    before = torch.get_rng_state()
    found = continuation(family, torch.zeros(1, line(0.0).state_size).double(), (0.0, 1.0)).isel(branch=0)
    assert torch.equal(before, torch.get_rng_state())
    assert all(p.requires_grad and p.dtype == torch.float32 for n in networks for p in n.parameters())
    assert found.derivative == "forward mode"
    assert found.y.shape[-1] == 1
    for step, network in ((0, networks[0]), (-1, networks[1])):
        assert found.parameter[step] == (0.0, 1.0)[step]
        system = HeldInput(network.double(), u)
        with torch.no_grad():
            expected = settle(system, torch.zeros(1, network.state_size).double())[0]
            np.testing.assert_allclose(found.point[step], expected, atol=1e-10)
            np.testing.assert_allclose(found.y[step, 0], system.observe(expected), atol=1e-10)
            eigenvalues = torch.linalg.eigvals(jacobian(system, expected)).abs().sort(descending=True)[0]
        np.testing.assert_allclose(np.abs(found.eigenvalue[step]), eigenvalues, atol=1e-8)


@pytest.mark.slow
def test_a_network_of_200_units_loses_its_stability():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.GRU(1, 200)
    first, last = wrap_torch(module), wrap_torch(module)
    with torch.no_grad():
        last.cell.weight_hh.mul_(4)
    line, u = between(first, last), double(0.3)
    found = continuation(lambda s: HeldInput(line(s), u), torch.zeros(1, 200).double(), (0.0, 1.0))
    assert set(found.bifurcation_type.values) == {"Neimark-Sacker"}
    assert found.unstable[0, 0] == 0
    assert found.unstable.max() == 2 * found.sizes["bifurcation"]
    assert float(found.bifurcation_residual.max()) < 1e-12
    for met in range(found.sizes["bifurcation"]):
        system = HeldInput(line(found.bifurcation_parameter[met].item()), u)
        x = torch.from_numpy(found.bifurcation_point[met].values)
        with torch.no_grad():
            values = torch.linalg.eigvals(jacobian(system, x))
        critical = values[((values.abs() - 1).abs() < 1e-9)]
        assert len(critical) == 2
        assert critical.angle().abs().tolist() == pytest.approx([found.angle[met].item()] * 2)


def test_looking_changes_nothing():
    network = wrap_torch(nn.GRU(1, 3)).double()
    line = between(network, network)
    x0 = torch.zeros(1, 3).double()
    kept, state = x0.clone(), torch.get_rng_state()
    found = continuation(lambda s: HeldInput(line(s), double(0.1)), x0, (0.0, 1.0), progress=True)
    assert torch.equal(x0, kept)
    assert torch.equal(state, torch.get_rng_state())
    # nothing depends on s
    np.testing.assert_allclose(np.ptp(found.point.values, axis=1), 0, atol=1e-12)
    network.step(x0, double(0.1)).sum().backward()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"span": (1.0, 1.0)}, "span"),
        ({"span": (0.0, math.inf)}, "span"),
        ({"period": 0}, "period=0"),
        ({"max_steps": 0}, "max_steps=0"),
        ({"max_branches": 2.0}, "max_branches=2.0"),
        ({"max_step": 0.0}, "max_step=0.0"),
        ({"x0": torch.zeros(1, 1)}, "float64"),
        ({"x0": torch.zeros(1, 1, 1).double()}, r"give \(sample, state\)"),
        ({"x0": torch.zeros(0, 1).double()}, "empty"),
        ({"family": lambda s: Hopf(s, 1.0), "x0": torch.zeros(1, 2).double(), "period": 2}, "vector field"),
    ],
)
def test_bad_input(change, message):
    given = {"family": Logistic, "x0": double([0.5]), "span": (2.5, 3.0), **change}
    with pytest.raises(ValueError, match=message):
        continuation(given.pop("family"), given.pop("x0"), given.pop("span"), **given)


def test_the_cascade_accumulates_where_it_should():
    x0 = torch.full((1, 1), 0.6, dtype=torch.float64)
    found = continuation(Logistic, x0, (2.9, 3.569), name="r", switch=True)
    assert set(found.bifurcation_type.values) == {"period doubling"}
    assert found.bifurcation_period.values.tolist() == [1, 2, 4, 8, 16]
    doublings = found.bifurcation_parameter.values
    assert doublings[:2] == pytest.approx([3, 1 + math.sqrt(6)], abs=1e-9)
    # the distances shrink by Feigenbaum's constant: what is left is a geometric series
    rest = (doublings[-1] - doublings[-2]) / (4.669201609103 - 1)
    assert doublings[-1] + rest == pytest.approx(3.569946, abs=1e-6)


def test_what_is_no_solution_is_no_point_of_a_branch():
    curve = Curve(Logistic, start=2.5, length=1.0, size=1, period=1, exact=True, flow=False)
    ahead = torch.tensor([0.0, 1.0], dtype=torch.float64)
    solution = torch.tensor([1 - 1 / 2.5, 0.0], dtype=torch.float64)
    on = curve.point(solution, ahead)
    assert on.eigenvalue.real.tolist() == pytest.approx([-0.5])
    assert curve.point(solution + 1e-6, ahead) is None
