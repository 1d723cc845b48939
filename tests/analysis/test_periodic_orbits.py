import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from rnnlab.analysis import shooting
from rnnlab.analysis.periodic_orbits import periodic_orbits
from rnnlab.analysis.shooting import multipliers, newton_step
from rnnlab.autonomous import HeldInput, freeze, wrap_torch
from rnnlab.maps import CatMap, Henon, Hopf, Linear, Logistic, Lorenz, NeimarkSacker, TanhMap
from rnnlab.systems import jacobian

GOLDEN = 2 * math.pi * (math.sqrt(5) - 1) / 2


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def uniform(*shape, seed=0):
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def check_orbits(system, found):
    """Every orbit one by one: it closes after its prime period, not before, with these multipliers."""
    for i, p in enumerate(found.period.values):
        points = torch.from_numpy(found.point.values[i, :p])
        image = torch.stack([system.step(x[None])[0] for x in points])
        assert (image - points.roll(-1, 0)).norm(dim=-1).max() < 1e-10
        assert found.residual[i] < 1e-10
        assert np.isnan(found.point.values[i, p:]).all()
        for d in range(1, p):
            assert (points.roll(d, 0) - points).abs().max() > 1e-6
        product = np.eye(points.shape[-1])
        for x in points:
            product = (
                torch.autograd.functional.jacobian(lambda z: system.step(z[None])[0], x).numpy() @ product
            )
        ours = found.multiplier.values[i]
        for value in np.linalg.eigvals(product):
            assert np.abs(ours - value).min() < 1e-8 * max(np.abs(product).max(), 1)


def moebius_counts(longest):
    """Prime orbits of the full shift on two symbols."""
    points = {p: 2**p for p in range(1, longest + 1)}
    prime = {}
    for p in points:
        prime[p] = points[p] - sum(prime[d] for d in range(1, p) if p % d == 0)
    return [prime[p] // p for p in points]


def counts(found, longest):
    return [int((found.period == p).sum()) for p in range(1, longest + 1)]


def test_prime_orbits_of_the_henon_attractor():
    # counts proved by interval arithmetic (Galias 2001); the fixed point at x = -1.13 is off the attractor
    found = periodic_orbits(Henon(), 0.2 * uniform(64, 2), max_period=12, candidates=1024)
    assert counts(found, 12) == [1, 1, 0, 1, 0, 2, 4, 7, 6, 10, 14, 19]
    np.testing.assert_allclose(found.point[0, 0], [0.631354, 0.189406], atol=1e-6)
    check_orbits(Henon(), found)
    # the determinant is -b everywhere: the small multipliers are right to many digits too
    product = found.multiplier.prod("mode").values
    np.testing.assert_allclose(product, (-0.3) ** found.period.values, rtol=1e-12)
    assert (found.kind == "saddle").all()
    assert (found.unstable == 1).all()
    assert found.unseen < 1e-3
    assert found.correction.max() < 1e-13


def test_prime_orbits_of_the_full_logistic_map():
    found = periodic_orbits(Logistic(4.0), uniform(16, 1), max_period=7)
    assert counts(found, 7) == moebius_counts(7) == [2, 1, 2, 3, 6, 9, 18]
    for i, p in enumerate(found.period.values):
        expected = 4.0 if found.point[i, 0, 0] < 1e-9 else 2.0**p
        np.testing.assert_allclose(np.abs(found.multiplier[i, 0]), expected, rtol=1e-9)
    assert (found.kind == "unstable node").all()
    # a canonical phase: the smallest point first
    assert (found.point[:, 0, 0] == found.point.min(("phase", "state"))).all()


@pytest.mark.parametrize(("r", "p"), [(2.8, 1), (3.2, 2), (3.5, 4), (3.55, 8), (3.83, 3)])
def test_stable_cycles_of_the_logistic_map(r, p):
    found = periodic_orbits(Logistic(r), uniform(8, 1))
    stable = found.isel(orbit=np.flatnonzero(found.unstable == 0))
    assert stable.period.values.tolist() == [p]
    assert stable.kind.values.tolist() == ["stable node"]
    # with it all cycles it came from
    if p in (2, 4, 8):
        assert counts(found, 8) == [2] + [int(q in (2, 4, 8) and q <= p) for q in range(2, 9)]
        two = found.multiplier.values[found.period.values == 2]
        np.testing.assert_allclose(two, [[4 + 2 * r - r * r]], rtol=1e-9)
    fixed = np.sort(found.multiplier.values[found.period.values == 1, 0])
    np.testing.assert_allclose(fixed, [2 - r, r], rtol=1e-9)


def test_a_sweep_is_one_batch():
    r = double(2.8, 3.2, 3.5, 3.83, 4.0)
    x0 = uniform(4, 1).expand(5, 4, 1)
    found = periodic_orbits(Logistic(r[:, None]), x0, max_period=4)
    assert found.point.dims == ("probe", "orbit", "phase", "state")
    for i, one in enumerate(r):
        alone = periodic_orbits(Logistic(one), x0[i], max_period=4)
        number, phases = alone.sizes["orbit"], alone.sizes["phase"]
        for name in ("period", "kind", "unstable", "hits"):
            np.testing.assert_array_equal(found[name][i, :number], alone[name])
        np.testing.assert_allclose(found.point[i, :number, :phases], alone.point, atol=1e-12)
        assert (found.period[i, number:] == -1).all()
        assert (found.kind[i, number:] == "").all()
        assert found.multiplier[i, number:].isnull().all()
        assert found.starts[i] == alone.starts


def test_a_box_of_its_own_for_every_probe():
    class Boxed(TanhMap):
        def bounds(self):
            return -torch.ones(2, 1, 1).double(), torch.ones(2, 1, 1).double()

    found = periodic_orbits(Boxed(double(2.0, -2.0)[:, None]), normal(2, 6, 1), max_period=2)
    assert [sorted(p) for p in found.period.values.tolist()] == [[1, 1, 1], [-1, 1, 2]]


def test_orbits_of_the_cat_map():
    # f^2 has |det(A^2 - I)| = 5 fixed points: the origin, and four that the seam of the torus does not touch
    found = periodic_orbits(CatMap(), uniform(16, 2), max_period=2)
    assert counts(found, 2)[1] == 2
    golden = (3 + math.sqrt(5)) / 2
    for p, multiplier in zip(found.period.values, found.multiplier.values, strict=True):
        np.testing.assert_allclose(multiplier, [golden**p, golden**-p], rtol=1e-9)


@pytest.mark.parametrize("omega", [GOLDEN, 2 * math.pi / 5 + 1e-5, 1.0])
def test_no_false_orbits_on_a_torus(omega):
    found = periodic_orbits(NeimarkSacker(0.1, omega), 0.3 * normal(4, 2), max_period=8)
    assert found.period.values.tolist() == [1]
    np.testing.assert_allclose(found.point, 0, atol=1e-12)
    np.testing.assert_allclose(np.abs(found.multiplier), 1.1, rtol=1e-12)
    assert found.kind.values.tolist() == ["unstable focus"]
    assert found.not_converged > 0


def test_a_continuum_of_orbits_is_called_degenerate():
    found = periodic_orbits(NeimarkSacker(0.1, 2 * math.pi / 5), 0.3 * normal(4, 2), periods=[5])
    assert found.period.values.tolist() in ([], [1])
    assert found.degenerate > 0
    turn = Linear(double([0.0, -1.0], [1.0, 0.0]))
    found = periodic_orbits(turn, normal(3, 2), max_period=4)
    assert found.period.values.tolist() == [1]
    assert found.kind.values.tolist() == ["non-hyperbolic"]
    assert found.degenerate > 0


def test_nothing_to_find():
    class Drift:
        def step(self, x):
            return x + 1

        def observe(self, x):
            return x[..., :1]

    found = periodic_orbits(Drift(), normal(3, 2), max_period=3)
    assert found.sizes["orbit"] == 0
    assert found.y.sizes["observable"] == 1
    assert found.not_converged == found.starts > 0
    assert found.unseen == 1


def test_orbits_at_a_bifurcation():
    # at the birth of period 3 its two orbits are one, which is a double root
    found = periodic_orbits(Logistic(1 + math.sqrt(8)), uniform(8, 1), periods=[3])
    three = found.isel(orbit=np.flatnonzero(found.period == 3))
    assert three.sizes["orbit"] == 1
    assert (three.kind == "non-hyperbolic").all()
    assert (np.abs(three.multiplier - 1) < 1e-5).all()
    # at a period doubling the fixed point is a simple root still
    found = periodic_orbits(Logistic(3.0), double([0.4], [0.01]), max_period=2)
    assert found.period.values.tolist() == [1, 1]
    assert found.kind.values.tolist() == ["non-hyperbolic", "unstable node"]


def test_two_orbits_that_nearly_agree_are_two():
    # just past the period doubling, r = 3 + e, the points of period 2 are sqrt(e) / 3 from the fixed point
    found = periodic_orbits(Logistic(3 + 1e-8), double([2 / 3 + 1e-4]), max_period=2, duration=20)
    assert found.period.values.tolist() == [1, 2]


def test_fixed_points_that_nearly_agree_are_three():
    # just past the pitchfork: 0 and +-sqrt(3 e)
    x0 = double([1e-4], [-1e-4], [1e-6])
    found = periodic_orbits(TanhMap(1 + 1e-9), x0, periods=[1], duration=5)
    np.testing.assert_allclose(np.sort(found.point.values.ravel()), [-(3e-9**0.5), 0, 3e-9**0.5], atol=1e-6)
    assert found.sizes["orbit"] == 3


def test_known_orbits_converge_in_few_steps():
    x0 = 0.2 * uniform(16, 2)
    old = periodic_orbits(Henon(), x0, max_period=8)
    known, period = torch.from_numpy(old.point.values), torch.from_numpy(old.period.values)
    calls = 0

    class Counted(Henon):
        def step(self, x):
            nonlocal calls
            calls += 1
            return super().step(x)

        def jacobian(self, x):
            return jacobian(Henon(1.4001), x)

    new = periodic_orbits(Henon(1.402), x0, candidates=0, known=known, known_period=period)
    assert new.period.values.tolist() == old.period.values.tolist()
    assert (new.hits == 1).all()
    check_orbits(Henon(1.402), new)
    # periods follow from the padding; five evaluations at most for each period, those of the result included
    periodic_orbits(Counted(1.4001), x0, candidates=0, known=known, max_iterations=4)
    assert calls < 10 * len(np.unique(period))
    # and beside a search they are no more than hints
    both = periodic_orbits(Henon(), x0, max_period=8, known=known)
    np.testing.assert_allclose(both.point, old.point, atol=1e-12)
    assert (both.hits == old.hits + 1).all()


def test_periods_that_were_not_asked_for_but_divide():
    found = periodic_orbits(Henon(), 0.2 * uniform(32, 2), periods=[6])
    assert counts(found, 6) == [1, 1, 0, 0, 0, 2]


def test_a_long_orbit_of_a_strongly_unstable_map():
    # x -> 3 x mod 1 on points k / (3^40 - 1) x: the multiplier 3^40 times the rounding error is 2700
    p = 40

    class Triple:
        def step(self, x):
            return 3 * x - torch.floor(3 * x)

        def observe(self, x):
            return x

    digits = [int(d) for d in uniform(p, seed=3) * 3]
    word = np.array([sum(digits[(i + j) % p] * 3.0 ** -(j + 1) for j in range(p)) for i in range(p)])
    word /= 1 - 3.0**-p
    known = torch.from_numpy(word)[None, :, None] + 1e-6 * normal(1, p, 1)
    found = periodic_orbits(Triple(), double([0.3]), candidates=0, known=known)
    assert found.period.values.tolist() == [p]
    np.testing.assert_allclose(found.multiplier, 3.0**p, rtol=1e-12)
    np.testing.assert_allclose(np.sort(found.point.values.ravel()), np.sort(word), atol=1e-14)


def naive_step(J, r):
    p, n = r.shape
    A = np.zeros((p * n, p * n))
    for i in range(p):
        A[i * n : (i + 1) * n, i * n : (i + 1) * n] = J[i]
        j = (i + 1) % p
        A[i * n : (i + 1) * n, j * n : (j + 1) * n] -= np.eye(n)
    return np.linalg.solve(A, -r.ravel()).reshape(p, n)


@pytest.mark.parametrize("p", [1, 2, 3, 5, 8, 13])
@pytest.mark.parametrize("bordered", [False, True])
def test_both_solvers_against_a_dense_one(p, bordered):
    n = 3
    J, r, c, w = normal(4, p, n, n), normal(4, p, n, seed=1), normal(4, p, n, seed=2), normal(4, n, seed=3)
    columns = torch.stack((r, c), -1) if bordered else r[..., None]
    results = [
        solve(J, columns, w if bordered else None) for solve in (shooting._condensed, shooting._reduced)
    ]
    results.append(newton_step(J, r, (c, w) if bordered else None))
    for d, s in results:
        for k in range(4):
            rest = r[k] + s[k] * c[k] * bordered
            np.testing.assert_allclose(d[k], naive_step(J[k].numpy(), rest.numpy()), rtol=1e-7, atol=1e-9)
            if bordered:
                assert abs(w[k] @ d[k, 0]) < 1e-9


def test_the_newton_step_of_a_chain_that_condensing_cannot_solve():
    # multipliers 1e30 and 1e-30, turned at each phase
    turns = torch.linalg.qr(normal(60, 2, 2)).Q
    J = turns.roll(-1, 0) @ torch.diag(double(10**0.5, 10**-0.5)) @ turns.mT
    r = normal(60, 2)
    d, _ = newton_step(J[None], r[None])
    np.testing.assert_allclose(d[0], naive_step(J.numpy(), r.numpy()), rtol=1e-9, atol=1e-9)
    found = multipliers(J[None])[0]
    np.testing.assert_allclose(found.real, [1e30, 1e-30], rtol=1e-9)


def test_multipliers_of_equal_modulus():
    turn = double([math.cos(1), -math.sin(1)], [math.sin(1), math.cos(1)])
    frame = normal(3, 4, 4)
    block = torch.block_diag(1.5 * turn, 1e-4 * turn)
    J = frame.roll(-1, 0) @ block @ torch.linalg.inv(frame)
    e = np.exp(3j)
    expected = [1.5**3 * e, 1.5**3 / e, 1e-12 * e, 1e-12 / e]
    np.testing.assert_allclose(multipliers(J), expected, rtol=1e-6)


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 10**6))
def test_multipliers_do_not_depend_on_coordinates(seed):
    P = normal(2, 2, seed=seed) + 2 * torch.eye(2)
    if abs(torch.linalg.det(P)) < 0.3:
        return

    class Conjugate(Henon):
        def step(self, x):
            return super().step(x @ torch.linalg.inv(P).T) @ P.T

    x0 = 0.2 * uniform(16, 2)
    plain = periodic_orbits(Henon(), x0, max_period=4, duration=300, candidates=64)
    bent = periodic_orbits(Conjugate(), x0 @ P.T, max_period=4, duration=300, candidates=64)
    assert plain.period.values.tolist() == bent.period.values.tolist() == [1, 2, 4]
    np.testing.assert_allclose(plain.multiplier, bent.multiplier, rtol=1e-8)
    back = torch.from_numpy(bent.point.values) @ torch.linalg.inv(P).T
    for a, b in zip(plain.point.values, back.numpy(), strict=True):
        there = np.isfinite(a[:, 0])
        np.testing.assert_allclose(np.sort(a[there], 0), np.sort(b[there], 0), atol=1e-9)


class ChaoticLSTM:
    """Two units without input, all weights scaled by s (AISTATS 2020)."""

    def __init__(self, s):
        self.i = s * double([-1, -4], [-3, -2])
        self.f = s * double([-2, 6], [0, -6])
        self.g = s * double([-1, -6], [6, -9])
        self.o = s * double([4, 1], [-9, -7])

    def step(self, x):
        h, c = x.split(2, -1)
        i, f, o = (torch.sigmoid(h @ W.T) for W in (self.i, self.f, self.o))
        c = f * c + i * torch.tanh(h @ self.g.T)
        return torch.cat((o * torch.tanh(c), c), -1)

    def observe(self, x):
        return x[..., :2]


def test_the_cycle_of_an_lstm():
    system = ChaoticLSTM(1.5)
    x = double([0.5, 0.5, 0.5, 0.5])
    found = periodic_orbits(system, x, max_period=4)
    check_orbits(system, found)
    stable = found.isel(orbit=np.flatnonzero(found.unstable == 0))
    assert stable.period.values.tolist() == [4]
    # its exponent, published
    assert abs(math.log(abs(stable.multiplier[0, 0].item())) / 4 + 0.485091) < 1e-6
    for _ in range(2000):
        x = system.step(x)
    assert np.abs(stable.point.values[0] - x.numpy()).max(-1).min() < 1e-12
    np.testing.assert_array_equal(stable.y, stable.point[..., :2])


def test_the_cycle_of_a_torch_gru():
    torch.manual_seed(0)
    with torch.random.fork_rng():
        network = nn.GRU(1, 3)
    with torch.no_grad():
        # a candidate that each unit hands on to the next, turned over once: period 6, if the gates are open
        network.weight_hh_l0.zero_()
        network.weight_hh_l0[6:] = 4 * torch.tensor([[0.0, 0, -1], [1, 0, 0], [0, 1, 0]])
        network.weight_hh_l0[6:] += 0.1 * torch.randn(3, 3, generator=torch.Generator().manual_seed(1))
        network.bias_ih_l0[:3], network.bias_ih_l0[3:6] = 4.0, -4.0
    system = HeldInput(freeze(wrap_torch(network)), torch.zeros(1))
    x = double([0.5, 0.1, -0.3])
    found = periodic_orbits(system, x, periods=[6])
    check_orbits(system, found)
    stable = found.isel(orbit=np.flatnonzero((found.unstable == 0) & (found.period == 6)))
    assert stable.sizes["orbit"] >= 1
    for _ in range(500):
        x = system.step(x)
    assert min(np.abs(orbit - x.numpy()).max(-1).min() for orbit in stable.point.values) < 1e-10


def test_a_cycle_of_two_hundred_units():
    # a ring of 24 units that hand on tanh(3 x), loosely coupled to 176 others
    n, p = 200, 24
    W = 0.3 * normal(n, n) / math.sqrt(n)
    W[:p, :p] += 3 * torch.eye(p).double().roll(1, 0)

    class Ring:
        def step(self, x):
            return torch.tanh(x @ W.T)

        def observe(self, x):
            return x[..., :1]

        def jacobian(self, x):
            return (1 - self.step(x) ** 2).unsqueeze(-1) * W

    x = torch.zeros(1, n).double()
    x[0, :p] = double(*[1.0] * 5, *[-1.0] * 19)
    found = periodic_orbits(Ring(), x, periods=[p], duration=60, candidates=4)
    stable = found.isel(orbit=np.flatnonzero(found.kind != "saddle"))
    assert stable.period.values.tolist() == [p]
    assert stable.residual < 1e-10
    assert (np.abs(stable.multiplier) < 1).all()
    for _ in range(480):
        x = Ring().step(x)
    assert np.abs(stable.point.values[0] - x.numpy()).max(-1).min() < 1e-10


# limit cycles


class VanDerPol:
    def __init__(self, mu):
        self.mu = torch.as_tensor(mu).double()

    def velocity(self, x):
        a, b = x.unbind(-1)
        return torch.stack((b, self.mu * (1 - a * a) * b - a), -1)


class Reversed:
    def __init__(self, field):
        self.field = field

    def velocity(self, x):
        return -self.field.velocity(x)


class TurningGRU:
    """Update and reset gates at one half, Uh = 3 R(angle) (2019)."""

    def __init__(self, angle):
        cos, sin = math.cos(angle), math.sin(angle)
        self.U = 3 * double([cos, -sin], [sin, cos])

    def velocity(self, x):
        return -0.5 * (x - torch.tanh(x / 2 @ self.U.T))


@pytest.mark.parametrize(("mu", "omega"), [(0.3, 1.7), (0.02, 0.9)])
def test_the_cycle_of_a_hopf_bifurcation(mu, omega):
    found = periodic_orbits(Hopf(mu, omega), double([0.5, 0.2], [-0.1, 0.3]), max_period=10.0)
    assert found.kind.values.tolist() == ["stable node"]
    np.testing.assert_allclose(found.period, 2 * math.pi / omega, rtol=1e-10)
    np.testing.assert_allclose(np.hypot(*found.point.values[0].T), math.sqrt(mu), rtol=1e-9)
    expected = [1, math.exp(-4 * math.pi * mu / omega)]
    np.testing.assert_allclose(found.multiplier[0], expected, atol=1e-8)
    assert found.trivial < 1e-9
    assert found.residual < 1e-10
    # equally apart in time, from where the first component is largest
    angle = 2 * math.pi * np.arange(64) / 64
    circle = math.sqrt(mu) * np.stack((np.cos(angle), np.sin(angle)), -1)
    np.testing.assert_allclose(found.point[0], circle, atol=1e-9)


def test_cycles_of_probes():
    found = periodic_orbits(
        Hopf(double(0.1, 0.3, -0.1)[:, None], double(1.0, 2.0, 1.0)[:, None]),
        double([[0.5, 0.1]]).expand(3, 1, 2),
        max_period=10.0,
    )
    assert found.sizes["probe"] == 3
    np.testing.assert_allclose(found.period[:, 0], [2 * math.pi, math.pi, math.nan], rtol=1e-9)
    assert found.kind.values[:, 0].tolist() == ["stable node", "stable node", ""]
    np.testing.assert_allclose(found.multiplier[1, 0, 1], math.exp(-4 * math.pi * 0.3 / 2), atol=1e-8)


def test_van_der_pol():
    found = periodic_orbits(VanDerPol(1.0), double([1.0, 0.0], [0.1, 3.0]), max_period=15.0)
    np.testing.assert_allclose(found.period, [6.6632868593231301897], rtol=1e-11)
    # Liouville: the other multiplier is the exponential of the divergence, added up
    x = found.point.values[0]
    np.testing.assert_allclose(
        found.multiplier[0, 1], math.exp(found.period[0] * (1 - x[:, 0] ** 2).mean()), rtol=1e-9
    )
    assert found.period_error < 1e-9


def test_an_unstable_cycle():
    field = Reversed(VanDerPol(1.0))
    found = periodic_orbits(field, double([1.0, 0.0], [0.5, 0.5]), max_period=15.0)
    np.testing.assert_allclose(found.period, [6.6632868593231301897], rtol=1e-11)
    assert found.kind.values.tolist() == ["unstable node"]
    assert found.unstable.values.tolist() == [1]
    forward = periodic_orbits(VanDerPol(1.0), double([1.0, 0.0]), max_period=15.0)
    np.testing.assert_allclose(found.multiplier[0, 0].item(), 1 / forward.multiplier[0, 1].item(), rtol=1e-7)


@pytest.mark.parametrize(("part", "period"), [(5, 17.457965), (4, 12.573706)])
def test_the_cycle_of_a_continuous_gru(part, period):
    found = periodic_orbits(TurningGRU(math.pi / part), double([0.3, -0.1]), max_period=20.0)
    assert found.kind.values.tolist() == ["stable node"]
    np.testing.assert_allclose(found.period, [period], atol=1e-4)


def test_lorenz_has_no_stable_cycle():
    found = periodic_orbits(
        Lorenz(), double([1.0, 2.0, 20.0], [-5.0, 3.0, 25.0]), max_period=4.0, duration=20.0, candidates=24
    )
    assert found.sizes["orbit"] > 0
    assert (found.kind == "saddle").all()
    assert (found.residual < 1e-10 * 50).all()
    assert (found.trivial < 1e-6).all()
    large = found.multiplier.values.real.max(-1)
    growth = np.log(large) / found.period.values
    assert (growth > 0.5).all()
    assert (growth < 1.5).all()
    # the shortest one, once around either wing (Viswanath 2003: 1.5586522107)
    shortest = found.period.values.min()
    if shortest < 2:
        np.testing.assert_allclose(shortest, 1.5586522107, atol=1e-9)


def test_known_cycles_are_followed():
    x0 = double([0.3, -0.1])
    old = periodic_orbits(TurningGRU(math.pi / 4.5), x0, max_period=20.0)
    new = periodic_orbits(
        TurningGRU(math.pi / 5),
        x0,
        candidates=0,
        known=torch.from_numpy(old.point.values),
        known_period=torch.from_numpy(old.period.values),
    )
    np.testing.assert_allclose(new.period, [17.457965], atol=1e-4)
    assert new.starts == 1


def test_a_centre_is_a_continuum_of_cycles():
    class Oscillator:
        def velocity(self, x):
            return torch.stack((x[..., 1], -x[..., 0]), -1)

    found = periodic_orbits(Oscillator(), double([1.0, 0.0], [0.3, 0.0]), max_period=10.0)
    assert found.sizes["orbit"] == 0
    assert found.degenerate + found.not_converged == found.starts > 0


def test_an_equilibrium_is_no_cycle():
    found = periodic_orbits(Hopf(-0.05, 1.0), double([1.0, 0.0]), max_period=10.0)
    assert found.sizes["orbit"] == 0
    assert found.not_converged == found.starts


def test_looking_changes_nothing():
    network = nn.LSTM(1, 4).double()
    network.train()
    wrapped = wrap_torch(network)
    system = HeldInput(wrapped, torch.ones(1))
    before = {name: value.clone() for name, value in wrapped.state_dict().items()}
    state = torch.get_rng_state()
    x0 = normal(4, 8)
    kept = x0.clone()
    found = periodic_orbits(system, x0, max_period=3, duration=50, candidates=8)
    again = periodic_orbits(system, x0, max_period=3, duration=50, candidates=8)
    assert found.identical(again)
    assert torch.equal(x0, kept)
    assert torch.equal(state, torch.get_rng_state())
    assert wrapped.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in wrapped.parameters())
    assert all(torch.equal(before[name], value) for name, value in wrapped.state_dict().items())
    system.step(x0).sum().backward()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_period": 0}, "max_period=0"),
        ({"max_period": 2.5}, "max_period=2.5"),
        ({"periods": [0]}, "periods with 0"),
        ({"periods": []}, "periods is empty"),
        ({"periods": [2], "max_period": 4}, "together"),
        ({"duration": 0}, "duration=0"),
        ({"candidates": -1}, "candidates=-1"),
        ({"candidates": 0}, "nothing to try"),
        ({"max_iterations": 0}, "max_iterations=0"),
        ({"tolerance": 0.0}, r"tolerance=0\.0"),
        ({"known": torch.zeros(2, 3)}, r"known of shape \(2, 3\)"),
        ({"known_period": torch.ones(2)}, "without known"),
        ({"known": torch.zeros(2, 3, 2), "known_period": torch.ones(3)}, r"known_period of shape \(3,\)"),
        ({"known": torch.zeros(2, 3, 2), "known_period": torch.tensor([1, 4])}, "fewer points"),
    ],
)
def test_impossible_options(options, message):
    with pytest.raises(ValueError, match=message):
        periodic_orbits(Henon(), torch.zeros(1, 2).double(), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_period": 0.0}, r"max_period=0\.0"),
        ({"duration": -1.0}, r"duration=-1\.0"),
        ({"periods": [1]}, "for maps"),
        ({"known": torch.zeros(1, 64, 2)}, "need known_period"),
    ],
)
def test_impossible_options_for_flows(options, message):
    with pytest.raises(ValueError, match=message):
        periodic_orbits(Hopf(0.1, 1.0), torch.ones(1, 2).double(), **options)


def test_impossible_states():
    with pytest.raises(ValueError, match="float64"):
        periodic_orbits(Henon(), torch.zeros(1, 2))
    with pytest.raises(ValueError, match="size of its state"):
        periodic_orbits(Henon(), torch.zeros(1, 3).double())
    with pytest.raises(TypeError, match="no dynamical system"):
        periodic_orbits(object(), torch.zeros(1, 2).double())
