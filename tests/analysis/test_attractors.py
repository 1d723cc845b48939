import math

import numpy as np
import pytest
import torch
from scipy import optimize, stats

from rnnlab.analysis.attractors import attractors, interval
from rnnlab.analysis.fixed_points import fixed_points
from rnnlab.analysis.periodic_orbits import periodic_orbits
from rnnlab.autonomous import HeldInput, Wrapped, freeze
from rnnlab.cells import GRU, LSTM
from rnnlab.maps import CubeRoots, DelayedLogistic, Henon, Hopf, Logistic, Lorenz, NeimarkSacker, TanhMap
from rnnlab.systems import Flow, Observed


class Cubic:
    """x' = a x (1 - x^2), odd. Truth: below a = 3 sqrt(3) / 2 neither half of the line is ever left."""

    def __init__(self, a):
        self.a = torch.as_tensor(a, dtype=torch.float64)

    def step(self, x):
        return self.a.unsqueeze(-1) * x * (1 - x * x)

    def observe(self, x):
        return x


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


def random(*shape, seed=0):
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def kinds(found):
    """For each probe the kinds and periods that are there."""
    rows = zip(np.atleast_2d(found.attractor_kind.values), np.atleast_2d(found.period.values), strict=True)
    return [[(str(k), p) for k, p in zip(*row, strict=True) if k] for row in rows]


# --- basins ----------------------------------------------------------------------------------------------


def test_basin_fractions_of_the_bistable_network_are_inside_their_intervals():
    w, b = 2.0, 0.1
    unstable = optimize.brentq(lambda x: math.tanh(w * x + b) - x, -0.5, 0.5)
    found = attractors(TanhMap(w, b), 2 * random(60, 50, 1) - 1, record=100)
    upper = found.point[..., 0].values > 0
    low, high = (found[f"fraction_{end}"].values[upper] for end in ("low", "high"))
    assert upper.sum(-1).tolist() == [1] * 60
    truth = (1 - unstable) / 2
    inside = (low <= truth) & (truth <= high)
    # 57 of 60 expected at least: the interval is conservative
    assert inside.sum() >= 54
    assert (high - low).max() < 0.3
    np.testing.assert_allclose(found.fraction.sum("attractor"), 1.0)
    assert (found.fraction[:, 0] >= found.fraction[:, 1]).all()


def test_interval_covers_exactly_as_promised():
    number = 20
    hits = np.arange(number + 1)
    low, high = interval(hits, number, 0.9)
    for p in np.linspace(0, 1, 101):
        covered = stats.binom.pmf(hits, number, p)[(low <= p) & (p <= high)].sum()
        assert covered >= 0.9 - 1e-12
    # the ends are those of the binomial test: 5 % on either side
    np.testing.assert_allclose(stats.binom.sf(hits[1:] - 1, number, low[1:]), 0.05)
    np.testing.assert_allclose(stats.binom.cdf(hits[:-1], number, high[:-1]), 0.05)
    assert (low[0], high[-1]) == (0, 1)


def test_thirds_of_the_cube_roots():
    angle, radius = 2 * math.pi * random(300), random(300, seed=1).sqrt()
    x0 = torch.stack((radius * angle.cos(), radius * angle.sin()), -1)
    found = attractors(CubeRoots(), x0, record=100)
    assert kinds(found) == [[("fixed point", 1)] * 3]
    assert ((found.fraction_low <= 1 / 3) & (found.fraction_high >= 1 / 3)).all()
    roots = np.exp(2j * math.pi * np.arange(3) / 3)
    here = found.point.values @ [1, 1j]
    np.testing.assert_allclose(sorted(here, key=np.angle), sorted(roots, key=np.angle), atol=1e-9)
    # every start is labelled by the root that Newton's method leads to
    z = x0.numpy() @ np.array([1, 1j])
    for _ in range(200):
        z = z - (z**3 - 1) / (3 * z**2)
    np.testing.assert_allclose(here[found.label.values], z, atol=1e-9)
    assert (found.leading_exponent < -20).all()


def test_two_chaotic_attractors_and_their_merger():
    found = attractors(
        Cubic(double(2.1, 2.5, 2.62)[:, None]), 2 * random(3, 40, 1) - 1, record=600, max_burn_in=1000
    )
    assert kinds(found) == [[("periodic orbit", 2)] * 2, [("chaos", -1)] * 2, [("chaos", -1)]]
    halves = found.isel(probe=slice(0, 2))
    assert ((halves.fraction_low <= 0.5) & (halves.fraction_high >= 0.5)).all()
    np.testing.assert_allclose(halves.fraction.sum("attractor"), 1.0)
    assert (halves.y_min * halves.y_max > 0).all()
    assert found.y_min[2, 0] * found.y_max[2, 0] < 0
    assert found.hits[2].values.tolist() == [40, -1]


# --- kinds -----------------------------------------------------------------------------------------------


def test_logistic_kinds_as_probes():
    r = double(2.8, 3.2, 3.5, 4.0)
    found = attractors(Logistic(r[:, None]), random(4, 10, 1), max_burn_in=1000)
    assert kinds(found) == [
        [("fixed point", 1)],
        [("periodic orbit", 2)],
        [("periodic orbit", 4)],
        [("chaos", -1)],
    ]
    assert found.kind.dims == ("probe", "sample")
    assert (found.kind == found.attractor_kind[:, :1].rename(attractor="sample").values).all()
    assert found.stability[:, 0].values.tolist() == ["stable node"] * 3 + [""]
    truth = [math.log(0.8), 0.5 * math.log(0.16)]
    np.testing.assert_allclose(found.leading_exponent[:2, 0], truth, atol=1e-9)
    assert abs(found.leading_exponent[3, 0] - math.log(2)) <= 3 * found.exponent_error[3, 0]
    assert (found.residual[:3] < 1e-12).all()
    np.testing.assert_allclose(found.point[0, 0, 0], 1 - 1 / 2.8, atol=1e-12)
    root = math.sqrt(0.2 * 4.2)
    np.testing.assert_allclose(found.y_min[1, 0, 0], (4.2 - root) / 6.4, atol=1e-6)
    np.testing.assert_allclose(found.y_max[1, 0, 0], (4.2 + root) / 6.4, atol=1e-6)
    np.testing.assert_allclose(found.y_mean[1, 0, 0], 4.2 / 6.4, atol=1e-6)


def test_tori_and_locking():
    found = attractors(DelayedLogistic(double(1.9, 2.1, 2.2)[:, None]), 0.45 + 0.1 * random(3, 6, 2))
    assert kinds(found) == [[("fixed point", 1)], [("torus", -1)], [("periodic orbit", 7)]]
    assert (found.fraction[:, 0] == 1).all()
    assert found.stability[0, 0] == "stable focus"


def test_torus_of_the_normal_form():
    found = attractors(NeimarkSacker(0.2, 1.234), random(6, 2) - 0.5)
    assert kinds(found) == [[("torus", -1)]]
    assert abs(found.leading_exponent.item()) < 1e-9
    np.testing.assert_allclose(found.rotation, 1.234 / (2 * math.pi), atol=1e-8)
    np.testing.assert_allclose(found.y_max, math.sqrt(0.2), atol=1e-3)


def test_cycles_of_a_continuum_are_periodic_each_by_itself():
    # turned by a fifth, every orbit of the circle closes, and none attracts its neighbours
    found = attractors(NeimarkSacker(0.2, 2 * math.pi / 5), double([0.3, 0.1], [0.1, 0.3], [0.3, 0.1]))
    assert kinds(found) == [[("periodic orbit", 5)] * 2]
    assert found.hits.values.tolist() == [2, 1]
    assert (found.stability == "non-hyperbolic").all()
    assert (found.residual < 1e-6).all()


def test_a_line_of_fixed_points():
    class Line:
        """x' = x, y' = y / 2: the memory of a network with a line attractor."""

        def step(self, x):
            return x * double(1.0, 0.5)

        def observe(self, x):
            return x

    found = attractors(Line(), double([0.3, 1.0], [-0.2, 0.5], [0.3, -0.7]), record=100)
    assert kinds(found) == [[("fixed point", 1)] * 2]
    assert found.hits.values.tolist() == [2, 1]
    assert (found.stability == "non-hyperbolic").all()
    np.testing.assert_allclose(found.point, [[0.3, 0.0], [-0.2, 0.0]], atol=1e-6)


@pytest.mark.parametrize("rotation", [1 / 3 + 7e-4, 1 / 3 + 2e-4, 2 / 7 + 1e-3, 0.2 + 2e-4])
def test_one_torus_near_a_resonance_is_one(rotation):
    generator = torch.Generator().manual_seed(1)
    x0 = 0.3 * torch.randn(16, 2, dtype=torch.float64, generator=generator)
    found = attractors(NeimarkSacker(0.2, 2 * math.pi * rotation), x0)
    assert kinds(found) == [[("torus", -1)]]


def test_two_tori_are_two():
    class Rings:
        """A turn by a golden part of a circle, of radius 1 or 2; a disc of radius 1.5 is the basin of one."""

        def step(self, x):
            radius = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
            aim = torch.where(radius < 1.5, 1.0, 2.0)
            turned = torch.stack((0.6 * x[..., 0] - 0.8 * x[..., 1], 0.8 * x[..., 0] + 0.6 * x[..., 1]), -1)
            return turned / radius * (aim + 0.5 * (radius - aim))

        def observe(self, x):
            return x

    found = attractors(Rings(), double([1.4, 0.0], [0.0, 0.5], [1.6, 0.0], [-1.2, 0.1], [3.0, 1.0]))
    assert kinds(found) == [[("torus", -1)] * 2]
    assert found.label.values.tolist() == [0, 0, 1, 0, 1]
    np.testing.assert_allclose(found.y_max[:, 0], [1, 2], atol=1e-3)


def test_henon_chaos_and_what_runs_away():
    found = attractors(Henon(), double([0.1, 0.1], [-6.0, 0.0], [0.3, 0.2]), max_burn_in=1000)
    assert kinds(found) == [[("chaos", -1)]]
    assert found.kind.values.tolist() == ["chaos", "diverged", "chaos"]
    assert found.label.values.tolist() == [0, -1, 0]
    assert (found.diverged, found.undecided) == (1, 0)
    assert found.fraction.item() == pytest.approx(2 / 3)
    nothing = attractors(Henon(), double([-6.0, 0.0]), max_burn_in=100)
    assert nothing.sizes["attractor"] == 0
    assert nothing.diverged == 1


def test_too_slow_or_too_long_is_undecided():
    # a neutral fixed point: 1/sqrt(t); and a cycle of 64 where only 32 are looked for
    slow = attractors(TanhMap(1.0), double([0.9]), max_burn_in=300, record=100)
    assert slow.kind.values.tolist() == ["undecided"]
    assert slow.undecided == 1
    long = attractors(Logistic(3.5698), double([0.3]), max_period=32)
    assert long.kind.item() == "undecided"
    assert attractors(Logistic(3.5698), double([0.3]), max_period=64).period.item() == 64


def test_an_unstable_cycle_nearby_is_not_mistaken_for_the_stable_one_that_split_off_it():
    # period 512, whose points lie in pairs closer than the tolerance to the unstable cycle of 256
    found = attractors(
        Logistic(3.5699442), double([0.3]), record=520, max_burn_in=4000, max_period=256, steps=500
    )
    assert found.kind.item() == "undecided"


def test_a_start_on_an_unstable_point_stays_and_is_told():
    found = attractors(TanhMap(2.0), double([0.0], [0.5], [0.7]), record=100)
    assert found.stability.values.tolist() == ["stable node", "unstable node"]
    assert found.hits.values.tolist() == [2, 1]


# --- flows -----------------------------------------------------------------------------------------------


def test_limit_cycle_of_a_flow():
    omega = 2.1
    x0 = random(2, 2, 2) + 0.1
    found = attractors(Hopf(double(1.0, -1.0)[:, None], omega), x0, record=400, steps=50)
    assert kinds(found) == [[("periodic orbit", found.period[0, 0])], [("fixed point", 0.0)]]
    assert found.period[0, 0].item() == pytest.approx(2 * math.pi / omega, rel=1e-6)
    assert (found.label == 0).all()
    assert found.leading_exponent[0, 0].item() == pytest.approx(0.0, abs=1e-6)
    assert found.leading_exponent[1, 0].item() == pytest.approx(-1.0, abs=1e-6)
    assert found.period.units == "units of time of the flow"


def test_limit_cycle_whose_period_is_a_whole_number_of_steps():
    system = Flow(Hopf(1.0, 2 * math.pi / 2.0), 0.2, 4)
    found = attractors(system, random(4, 2) + 0.1, record=400, steps=50)
    assert kinds(found) == [[("periodic orbit", found.period[0])]]
    assert found.period.item() == pytest.approx(2.0, rel=1e-5)


def test_torus_of_a_flow_does_not_close():
    class TwoClocks:
        """Two circles, of radius 1 and 1/2, passed at rates whose ratio is golden."""

        def velocity(self, x):
            slow = Hopf(1.0, 1.0).velocity(x[..., :2])
            return torch.cat((slow, 0.5 * Hopf(1.0, (1 + math.sqrt(5)) / 2).velocity(2 * x[..., 2:])), -1)

        def observe(self, x):
            return x

    found = attractors(Flow(TwoClocks(), 0.3, 2), random(2, 4) + 0.1, record=800, steps=40)
    assert set(found.kind.values) == {"torus"}
    assert np.isnan(found.period).all()


def test_lorenz_equilibria_and_chaos():
    x0 = 20 * random(2, 3, 3) - 10
    found = attractors(
        Flow(Lorenz(rho=double(10.0, 28.0)[:, None]), 0.05), x0, record=400, max_burn_in=1000, steps=1000
    )
    (low, high) = kinds(found)
    assert set(low) == {("fixed point", 0.0)}
    s = math.sqrt(8 / 3 * 9)
    for point in found.point[0].values[: len(low)]:
        np.testing.assert_allclose(np.abs(point), [s, s, 9], atol=1e-9)
    assert [kind for kind, _ in high] == ["chaos"]
    assert abs(found.leading_exponent[1, 0] - 0.9056) <= 3 * found.exponent_error[1, 0] + 0.05


# --- networks and the rest -------------------------------------------------------------------------------


def held(cell):
    return HeldInput(freeze(Wrapped(cell)), torch.zeros(1).double())


@pytest.mark.parametrize(("scale", "kind", "period"), [(1.5, "periodic orbit", 4), (1.0, "chaos", -1)])
def test_two_unit_lstm(scale, kind, period):
    cell = LSTM(1, 2)
    gates = [[[-1, -4], [-3, -2]], [[-2, 6], [0, -6]], [[-1, -6], [6, -9]], [[4, 1], [-9, -7]]]
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.zero_()
        cell.weight_hh.copy_(scale * torch.tensor(gates, dtype=torch.float64).reshape(8, 2))
    found = attractors(held(cell), 0.5 + 0.01 * random(5, 4), max_burn_in=2000)
    assert kinds(found) == [[(kind, period)]]
    if scale == 1.5:
        assert found.leading_exponent.item() == pytest.approx(-0.485091, abs=1e-6)


def test_looking_changes_nothing():
    cell = GRU(1, 4)
    state, before = torch.get_rng_state(), [value.clone() for value in cell.parameters()]
    first, second = (attractors(held(cell), random(5, 4), record=100) for _ in range(2))
    assert first.identical(second)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(before, cell.parameters(), strict=True))
    assert cell.training
    assert all(parameter.requires_grad for parameter in cell.parameters())


def test_the_order_of_the_starts_does_not_matter():
    x0 = 2 * random(30, 1) - 1
    one, other = attractors(TanhMap(3.0), x0, record=100), attractors(TanhMap(3.0), x0.flip(0), record=100)
    np.testing.assert_array_equal(one.label, other.label[::-1])
    np.testing.assert_allclose(one.point, other.point, atol=1e-12)
    np.testing.assert_array_equal(one.hits, other.hits)


def test_what_is_seen_is_reported():
    seen = Observed(TanhMap(2.0), lambda x: torch.cat((x**2, -x, x), -1))
    found = attractors(seen, double([0.5], [0.6]), record=100)
    np.testing.assert_allclose(found.y_mean, [[0.9575041**2, -0.9575041, 0.9575041]], atol=1e-6)


def test_known_points_and_cycles_are_named():
    system, x0 = TanhMap(2.0), 2 * random(20, 1) - 1
    points = fixed_points(system, x0).point.values
    found = attractors(system, x0, known=points, record=100)
    np.testing.assert_allclose(points[found.known_index.values], found.point, atol=1e-9)
    logistic = Logistic(double(3.2, 3.5)[:, None])
    x0 = random(2, 8, 1)
    cycles = periodic_orbits(logistic, x0, max_period=4)
    found = attractors(logistic, x0, known=cycles.point.values, record=100)
    index = found.known_index.values[:, 0]
    assert [int(cycles.period[p, index[p]]) for p in (0, 1)] == [2, 4]
    assert (attractors(logistic, x0, known=np.full((2, 1, 1), 0.123), record=100).known_index == -1).all()
    assert (attractors(logistic, x0, record=100).known_index == -1).all()
    with pytest.raises(ValueError, match=r"known of shape \(3, 2\) does not fit"):
        attractors(logistic, x0, known=np.zeros((3, 2)), record=100)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"record": 7}, "record=7"),
        ({"max_burn_in": 0}, "max_burn_in=0"),
        ({"max_period": 1.5}, "max_period=1.5"),
        ({"steps": 1}, "steps=1"),
        ({"tolerance": 0.0}, "tolerance=0.0"),
        ({"confidence": 1.0}, "confidence=1.0"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=f"{message} is not possible"):
        attractors(TanhMap(2.0), random(2, 1), **options)


def test_bad_states_are_refused():
    with pytest.raises(ValueError, match="float64"):
        attractors(TanhMap(2.0), torch.zeros(2, 1))
    with pytest.raises(TypeError, match="no dynamical system"):
        attractors(object(), random(2, 1))
