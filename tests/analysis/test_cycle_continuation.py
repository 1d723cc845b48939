"""Branches of cycles whose periods, multipliers, bifurcations and ends are known in closed form."""

import json
import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from scipy.optimize import brentq, minimize_scalar

from rnnlab.analysis import cycle_continuation, cycle_from_hopf
from rnnlab.analysis.cycle_curve import loop_of
from rnnlab.autonomous import gru_flow
from rnnlab.maps import Hopf, Logistic

TURN = 2 * math.pi * torch.arange(32).double() / 32
CIRCLE = torch.stack((TURN.cos(), TURN.sin()), -1)
LIFTED = torch.stack((TURN.cos(), TURN.sin(), 0 * TURN), -1)


class Field:
    def __init__(self, velocity):
        self.velocity = velocity


def hopf(mu):
    return Hopf(mu, 2.0)


def bent(mu):
    """dr/dt = mu r + r^3 - r^5: subcritical Hopf at 0, fold of cycles at -1/4."""

    def velocity(x):
        p, q = x.unbind(-1)
        r2 = p * p + q * q
        growth = mu + r2 - r2 * r2
        return torch.stack((growth * p - 2 * q, growth * q + 2 * p), -1)

    return Field(velocity)


def van_der_pol(mu):
    def velocity(x):
        p, q = x.unbind(-1)
        return torch.stack((q, mu * (1 - p * p) * q - p), -1)

    return Field(velocity)


def on_circle(a):
    """dr/dt = r (1 - r^2), dtheta/dt = a - cos theta: period 2 pi / sqrt(a^2 - 1), saddle-node at a = 1."""

    def velocity(x):
        p, q = x.unbind(-1)
        r2 = p * p + q * q
        turn = a - p / r2.sqrt()
        return torch.stack((p * (1 - r2) - turn * q, q * (1 - r2) + turn * p), -1)

    return Field(velocity)


def energy(potential):
    """The curve of energy mu is a cycle: dx/dt = y, dy/dt = -V'(x) + (mu - H) y with H = y^2 / 2 + V(x)."""
    V, slope = potential

    def family(mu):
        def velocity(x):
            p, q = x.unbind(-1)
            return torch.stack((q, -slope(p) + (mu - q * q / 2 - V(p)) * q), -1)

        return Field(velocity)

    return family


SADDLE = (lambda x: -x * x / 2 + x**3 / 3, lambda x: -x + x * x)  # at 0, with energy 0, around (1, 0)
SADDLES = (lambda x: x * x / 2 - x**4 / 4, lambda x: x - x**3)  # at +-1, with energy 1/4, around 0


def beside(rows):
    """A cycle r = 1 of period 2 pi in three dimensions; `rows` gives d(r - 1)/dt and dz/dt."""

    def family(mu):
        def velocity(x):
            p, q, z = x.unbind(-1)
            r = (p * p + q * q).sqrt()
            c, s = p / r, q / r
            out, up = rows(mu, r - 1, z, c, s)
            return torch.stack((out * c - q, out * s + p, up), -1)

        return Field(velocity)

    return family


def half_twist(mu, rho, z, c, s):
    """In a frame (w, v) that makes half a turn on the way: dw/dt = mu w - w^3, dv/dt = -v."""
    along, across = ((1 + c) * rho + s * z) / 2, (s * rho + (1 - c) * z) / 2
    growth = mu + 1 - (rho * along + z * across)
    return growth * along - rho - z / 2, growth * across - z + rho / 2


def fork(mu, rho, z, c, s):
    return -rho, mu * z - z**3


def torus(mu):
    """A cycle of period 2 pi beside a focus with eigenvalues mu +- i sqrt 2."""

    def velocity(x):
        p, q, r, s = x.unbind(-1)
        growth, other, omega = 1 - p * p - q * q, mu - r * r - s * s, math.sqrt(2)
        return torch.stack((growth * p - q, growth * q + p, other * r - omega * s, other * s + omega * r), -1)

    return Field(velocity)


def ring(mu):
    """Cycles r^2 = 1 +- sqrt(0.04 - mu^2): a closed branch."""

    def velocity(x):
        p, q = x.unbind(-1)
        growth = 0.04 - mu * mu - (p * p + q * q - 1) ** 2
        return torch.stack((growth * p - q, growth * q + p), -1)

    return Field(velocity)


def rotation(a):
    a = torch.as_tensor(a, dtype=torch.float64)
    return gru_flow(Uh=3 * torch.stack((torch.stack((a.cos(), -a.sin())), torch.stack((a.sin(), a.cos())))))


def test_a_cycle_from_its_birth_on():
    x, period, mu = cycle_from_hopf(hopf, torch.full((2,), 0.05).double(), 0.03, amplitude=0.02)
    assert x.norm(dim=-1).tolist() == pytest.approx([math.sqrt(mu)] * 32, rel=1e-7)
    assert mu == pytest.approx(2 * 0.02**2, rel=1e-6)
    found = cycle_continuation(hopf, x, period, (-0.5, 1.0), at=mu, name="mu", max_step=0.05)
    assert found.ended.values.tolist() == ["Hopf", "left the span"]
    assert found.ended_parameter.values.tolist() == pytest.approx([0, 1], abs=1e-12)
    np.testing.assert_allclose(found.ended_point[0], 0, atol=1e-12)
    mu = found.parameter.values
    assert (np.diff(mu) > 0).all()
    assert mu[-1] == 1.0
    radius = found.point.values[..., 0] ** 2 + found.point.values[..., 1] ** 2
    np.testing.assert_allclose(radius, np.repeat(mu[:, None], radius.shape[1], 1), atol=1e-5)
    np.testing.assert_allclose(found.period, math.pi, rtol=1e-9)
    np.testing.assert_allclose(found.multiplier[:, 0], 1, atol=1e-7)
    np.testing.assert_allclose(found.multiplier[:, 1], np.exp(-2 * math.pi * mu), rtol=1e-6)
    np.testing.assert_allclose(found.least_speed, 2 * np.sqrt(mu), rtol=1e-6)
    assert (found.unstable.values == 0).all()
    assert float(found.residual.max()) < 1e-9
    assert float(found.period_error.max()) < 1e-8
    np.testing.assert_array_equal(found.y, found.point)
    json.dumps(found.attrs)


def test_an_unstable_cycle_turns_round_at_a_fold():
    x, period, mu = cycle_from_hopf(bent, torch.zeros(2).double(), 0.0)
    found = cycle_continuation(bent, x, period, (-0.5, 0.5), at=mu, max_step=0.05)
    # against the direction of the span first: it turns there
    assert found.ended.values.tolist() == ["left the span", "Hopf"]
    assert found.ended_parameter.values[1] == pytest.approx(0, abs=1e-12)
    assert found.bifurcation_type.values.tolist() == ["fold of cycles"]
    assert found.bifurcation_parameter.item() == pytest.approx(-0.25, abs=1e-9)
    place = found.bifurcation_step.item()
    assert found.parameter.values[place] == found.bifurcation_parameter.item()
    upper = np.arange(found.sizes["step"]) < place
    mu = found.parameter.values
    square = (1 + np.where(upper, 1, -1) * np.sqrt(np.maximum(1 + 4 * mu, 0))) / 2
    radius = np.hypot(found.point.values[..., 0], found.point.values[..., 1])
    np.testing.assert_allclose(radius.max(-1), np.sqrt(square), atol=1e-5)
    np.testing.assert_allclose(
        found.multiplier[:, 1], np.exp(math.pi * (2 * square - 4 * square**2)), rtol=1e-5
    )
    np.testing.assert_array_equal(found.unstable.values > 0, ~upper & (np.arange(len(upper)) > place))


def test_the_period_of_van_der_pol():
    found = cycle_continuation(van_der_pol, 2 * CIRCLE.flip(-1), 6.3, (0.02, 2.0), max_step=0.1)
    mu, period = found.parameter.values, found.period.values
    near = mu < 0.2
    # Andersen and Geer 1982: the next term is of order mu^6
    series = 2 * math.pi * (1 + mu**2 / 16 - 5 * mu**4 / 3072)
    assert near.sum() >= 3
    np.testing.assert_allclose(period[near], series[near], atol=2 * 0.2**6)

    def there(t, x):
        return [x[1], 2 * (1 - x[0] ** 2) * x[1] - x[0]]

    def top(t, x):
        return x[1]

    top.direction = -1
    settled = solve_ivp(there, (0, 100), [2.0, 0.0], rtol=1e-12, atol=1e-12, events=top).t_events[0]
    assert mu[-1] == 2.0
    assert period[-1] == pytest.approx(np.diff(settled)[-1], rel=1e-9)
    assert found.unstable.values.max() == 0


@pytest.mark.parametrize(
    ("family", "start", "kind", "angle", "unstable"),
    [
        (beside(half_twist), LIFTED, "period doubling", math.pi, 1),
        (beside(fork), LIFTED, "branch point", 0.0, 1),
        (torus, torch.cat((CIRCLE, 0 * CIRCLE), -1), "Neimark-Sacker", 2 * math.pi * (math.sqrt(2) - 1), 2),
    ],
)
def test_multipliers_that_cross(family, start, kind, angle, unstable):
    found = cycle_continuation(family, start, 6.0, (-0.1, 0.2), max_step=0.1)
    assert found.bifurcation_type.values.tolist() == [kind]
    assert found.bifurcation_parameter.item() == pytest.approx(0, abs=1e-9)
    assert found.bifurcation_period.item() == pytest.approx(2 * math.pi)
    assert found.bifurcation_angle.item() == pytest.approx(min(angle, 2 * math.pi - angle), abs=1e-6)
    assert found.bifurcation_distance.item() < 1e-6
    assert found.unstable.values[[0, -1]].tolist() == [0, unstable]
    assert found.ended.values.tolist() == ["left the span"] * 2
    np.testing.assert_allclose(
        np.abs(found.multiplier[:, 1]), np.exp(2 * math.pi * found.parameter), rtol=1e-6
    )


def test_a_cycle_of_double_period_ends_where_it_was_born():
    turns, w = torch.cat((TURN, TURN + 2 * math.pi)), math.sqrt(0.1)
    out, up = w * (turns / 2).cos(), w * (turns / 2).sin()
    start = torch.stack(((1 + out) * turns.cos(), (1 + out) * turns.sin(), up), -1)
    found = cycle_continuation(beside(half_twist), start, 4 * math.pi, (0.1, -0.1), max_step=0.05)
    assert found.ended.values.tolist() == ["left the span", "period halved"]
    assert found.bifurcation_type.values.tolist() == ["period doubling"]
    assert found.bifurcation_parameter.item() == pytest.approx(0, abs=1e-5)
    np.testing.assert_allclose(found.period, 4 * math.pi, rtol=1e-8)
    np.testing.assert_allclose(found.multiplier[0, 1], math.exp(-8 * math.pi * 0.1), rtol=1e-6)


def test_a_closed_branch_is_followed_once():
    found = cycle_continuation(ring, 1.09 * CIRCLE, 6.3, (-1.0, 1.0), at=0.0, max_step=0.05)
    assert found.ended.values.tolist() == ["closed", "closed"]
    assert sorted(found.bifurcation_parameter.values) == pytest.approx([-0.2, 0.2], abs=1e-8)
    assert set(found.bifurcation_type.values) == {"fold of cycles"}


def test_a_saddle_node_on_the_cycle():
    found = cycle_continuation(
        on_circle, CIRCLE, 2.2, (3.0, 0.5), max_period=1000.0, max_step=0.05, accuracy=1e-7
    )
    assert found.ended.values.tolist() == ["left the span", "saddle-node on the cycle"]
    assert found.ended_parameter.values[1] == pytest.approx(1, abs=1e-10)
    np.testing.assert_allclose(found.ended_point[1], [1, 0], atol=1e-9)
    assert found.ended_rate.values[1] == pytest.approx(-0.5, abs=0.01)
    a = found.parameter.values
    # the distance a - 1 is known to 1e-16 / 1e-5 at the end
    np.testing.assert_allclose(found.period, 2 * math.pi / np.sqrt(a * a - 1), rtol=1e-5)
    np.testing.assert_allclose(found.least_speed, a - 1, rtol=1e-3)


@pytest.mark.parametrize(
    ("potential", "centre", "birth", "end", "kind", "rate"),
    [
        (SADDLE, [1.0, 0.0], -1 / 6, 0.0, "homoclinic", 1.0),
        (SADDLES, [0.0, 0.0], 0.0, 0.25, "heteroclinic", math.sqrt(2) / 2),
    ],
)
def test_orbits_to_saddles(potential, centre, birth, end, kind, rate):
    family = energy(potential)
    x, period, mu = cycle_from_hopf(family, torch.tensor(centre).double(), birth)
    found = cycle_continuation(
        family, x, period, (birth - 0.1, end + 0.1), at=mu, max_period=25.0, max_step=0.05
    )
    assert found.ended.values.tolist() == ["Hopf", kind]
    assert found.ended_parameter.values == pytest.approx([birth, end], abs=1e-6)
    assert found.ended_rate.values[1] == pytest.approx(rate, rel=0.05)
    i = found.sizes["step"] // 2
    mu = found.parameter.values[i]
    np.testing.assert_allclose(
        found.point[i, :, 1] ** 2 / 2 + potential[0](found.point[i, :, 0]), mu, atol=1e-5
    )


def test_an_end_without_a_name():
    found = cycle_continuation(on_circle, CIRCLE, 2.2, (3.0, 0.5), max_period=4.0, max_step=0.1)
    assert found.ended.values.tolist() == ["left the span", "max_period"]
    assert np.isnan(found.ended_rate.values).all()
    found = cycle_continuation(on_circle, CIRCLE, 2.2, (3.0, 0.5), max_steps=3)
    assert found.ended.values.tolist() == ["left the span", "max_steps"]
    assert found.sizes["step"] == 3


def widest_angle():
    """The largest angle between h and artanh h where |artanh h| = 3/2 |h|.

    There are equilibria h = tanh(3/2 R(a) h) up to that a, whose fold ends the cycles.
    """

    def angle(direction):
        unit = np.array([math.cos(direction), math.sin(direction)])
        far = 1 / unit.max()
        size = brentq(lambda r: np.linalg.norm(np.arctanh(r * unit)) - 1.5 * r, 0.3, far - 1e-12, xtol=1e-15)
        return math.atan2(*np.arctanh(size * unit)[::-1]) - direction

    return -minimize_scalar(angle, bounds=(0.1, 0.7), method="bounded", options={"xatol": 1e-9}).fun


@pytest.mark.slow
def test_the_cycle_of_the_gru_of_two_units_from_birth_to_death():
    x, period, a = cycle_from_hopf(rotation, torch.zeros(2).double(), 0.85)
    found = cycle_continuation(rotation, x, period, (1.0, 0.0), at=a, max_step=0.05, accuracy=1e-7)
    assert found.ended.values.tolist() == ["Hopf", "saddle-node on the cycle"]
    assert found.ended_parameter.values == pytest.approx([math.acos(2 / 3), widest_angle()], abs=1e-9)
    assert found.ended_rate.values[1] == pytest.approx(-0.5, abs=0.03)
    assert (found.unstable.values == 0).all()
    assert found.sizes["bifurcation"] == 0


@pytest.mark.parametrize(("a", "period"), [(math.pi / 5, 17.457965), (math.pi / 4, 12.573706)])
def test_periods_of_the_gru_of_two_units(a, period):
    x, first, at = cycle_from_hopf(rotation, torch.zeros(2).double(), 0.85, amplitude=0.1)
    found = cycle_continuation(rotation, x, first, (at, a), max_step=0.1)
    assert found.parameter.values[-1] == a
    assert found.period.values[-1] == pytest.approx(period, abs=1e-6)


def test_polynomials_keep_what_they_can():
    mesh = torch.tensor([0.0, 0.1, 0.4, 0.5, 1.0]).double()

    def wave(t):
        return torch.stack((torch.cos(2 * math.pi * t), torch.sin(2 * math.pi * t)), -1)

    loop = loop_of(wave, mesh, 2.0, 0.5)
    assert loop.period == pytest.approx(2.0)
    np.testing.assert_allclose(loop.center(), 0, atol=1e-3)
    t = torch.linspace(-1, 1, 101).double()
    np.testing.assert_allclose(loop.at(t), wave(t), atol=3e-3)
    fine = loop.on(loop.spread(40))
    assert fine.mesh[[0, -1]].tolist() == [0, 1]
    assert (fine.mesh.diff() > 0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"span": (1.0, 1.0)}, "span="),
        ({"at": 5.0}, "at=5.0"),
        ({"period": -1.0}, "period=-1.0"),
        ({"max_period": math.inf}, "max_period=inf"),
        ({"max_steps": 0}, "max_steps=0"),
        ({"max_step": 0.0}, "max_step=0.0"),
        ({"accuracy": 1.0}, "accuracy=1.0"),
        ({"x0": CIRCLE[:3]}, r"give \(phase, state\)"),
        ({"x0": CIRCLE.float()}, "float64"),
        ({"x0": 0.9 + 0 * CIRCLE}, "leads to no cycle"),
        ({"family": lambda mu: Hopf(float(mu), 2.0)}, "differentiable"),
        ({"family": Logistic, "x0": CIRCLE[:, :1]}, "maps"),
    ],
)
def test_bad_input(change, message):
    given = {"family": hopf, "x0": CIRCLE, "period": 3.0, "span": (1.0, 2.0), **change}
    places = [given.pop(name) for name in ("family", "x0", "period", "span")]
    with pytest.raises(ValueError, match=message):
        cycle_continuation(*places, **given)


def test_no_birth():
    with pytest.raises(ValueError, match="no Hopf bifurcation"):
        cycle_from_hopf(lambda mu: Field(lambda x: -x * mu), torch.zeros(2).double(), 1.0)
    with pytest.raises(ValueError, match="amplitude=50"):
        cycle_from_hopf(bent, torch.zeros(2).double(), 0.0, amplitude=50.0)
