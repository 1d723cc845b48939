"""Coefficients against those worked out by hand, and against the planar formulas of the textbook."""

import cmath
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnlab.analysis import normal_forms
from rnnlab.analysis.normal_forms import derivative, flip, fold, hopf, neimark_sacker, pitchfork
from rnnlab.maps import DelayedLogistic, Henon, Hopf, Linear, Logistic, Lorenz, NeimarkSacker, TanhMap

sizes = st.floats(0.1, 3).flatmap(lambda size: st.sampled_from([size, -size]))
few = settings(max_examples=10, deadline=None)


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


class Map:
    def __init__(self, step):
        self.step = step


class Field:
    def __init__(self, velocity):
        self.velocity = velocity


class Planar:
    """w' = value w + g20 w^2/2 + g11 w wc + g02 wc^2/2 + g21 w^2 wc/2, with w = x + iy and wc = x - iy."""

    def __init__(self, value, g20, g11, g02, g21):
        self.coefficients = [complex(c) for c in (value, g20 / 2, g11, g02 / 2, g21 / 2)]

    def __call__(self, x):
        a, b = x.unbind(-1)
        squares = (a * a - b * b, 2 * a * b)
        norm = a * a + b * b
        terms = ((a, b), squares, (norm, 0 * a), (squares[0], -squares[1]), (norm * a, norm * b))
        pairs = list(zip(self.coefficients, terms, strict=True))
        real = sum(c.real * u - c.imag * v for c, (u, v) in pairs)
        imag = sum(c.real * v + c.imag * u for c, (u, v) in pairs)
        return torch.stack((real, imag), -1)


complexes = st.builds(complex, sizes, sizes)


@few
@given(sizes, sizes)
def test_flip_of_a_cubic(a, b):
    # x' = -x + a x^2 + b x^3: the second iterate is x - 2 (a^2 + b) x^3 + ..., by expansion
    form = flip(Map(lambda x: -x + a * x**2 + b * x**3), double(0.0))
    assert form.coefficient == pytest.approx(a * a + b, rel=1e-9, abs=1e-9)
    if abs(a * a + b) > 1e-3:
        assert form.criticality == ("supercritical" if a * a + b > 0 else "subcritical")


@few
@given(sizes, sizes)
def test_fold_and_pitchfork_of_a_cubic(a, c):
    assert fold(Map(lambda x: x + a * x**2 + c * x**3), double(0.0)).coefficient == pytest.approx(a)
    assert fold(Field(lambda x: a * x**2 + c * x**3), double(0.0)).coefficient == pytest.approx(a)
    for system in (Map(lambda x: x + c * x**3), Field(lambda x: c * x**3)):
        assert fold(system, double(0.0)).criticality == "degenerate"
        form = pitchfork(system, double(0.0))
        assert form.coefficient == pytest.approx(c)
        assert form.criticality == ("supercritical" if c < 0 else "subcritical")


@few
@given(sizes, sizes, st.floats(-0.9, 0.9))
def test_a_pitchfork_through_a_second_direction(k, n, m):
    # on the centre manifold y = n x^2 / (1 - m), for the field (eigenvalue m - 1) alike
    def step(x):
        return torch.stack((x[..., 0] + k * x[..., 0] * x[..., 1], m * x[..., 1] + n * x[..., 0] ** 2), -1)

    for system in (Map(step), Field(lambda x: step(x) - x)):
        assert pitchfork(system, double(0.0, 0.0)).coefficient == pytest.approx(k * n / (1 - m))


def test_known_systems():
    assert flip(Logistic(3.0), double(2 / 3)).coefficient == pytest.approx(9)
    assert fold(Logistic(1.0), double(0.0)).coefficient == pytest.approx(-1)
    form = pitchfork(TanhMap(1.0), double(0.0))
    assert (form.coefficient, form.criticality) == (pytest.approx(-1 / 3), "supercritical")
    form = flip(TanhMap(-1.0), double(0.0))
    assert (form.coefficient, form.criticality) == (pytest.approx(1 / 3), "supercritical")
    # z' = e^(i omega) z (1 - |z|^2) with z = sqrt(2) times the coordinate along a unit vector q
    form = neimark_sacker(NeimarkSacker(0.0, 1.0), double(0.0, 0.0))
    assert form[:1] + form[2:] == (pytest.approx(-2), "supercritical", pytest.approx(1.0))
    form = hopf(Hopf(0.0, 0.5), double(0.0, 0.0))
    assert form[:1] + form[2:] == (pytest.approx(-2 / 0.5), "supercritical", pytest.approx(0.5))
    # x = y = u / sqrt 2, z = u^2 / 2 beta; p = (1, sigma, 0) sqrt 2 / (1 + sigma)
    form = pitchfork(Lorenz(rho=1.0), double(0.0, 0.0, 0.0))
    assert form.coefficient == pytest.approx(-10 / (2 * 8 / 3 * 11))


@few
@given(st.floats(0.3, 1.4), complexes, complexes, complexes, complexes)
def test_neimark_sacker_in_the_plane(angle, g20, g11, g02, g21):
    turn = cmath.exp(1j * angle)
    # Kuznetsov (4.20): the planar formula, from successive near-identity transformations
    truth = (
        (g21 / turn / 2).real
        - ((1 - 2 * turn) / turn**2 / (2 * (1 - turn)) * g20 * g11).real
        - abs(g11) ** 2 / 2
        - abs(g02) ** 2 / 4
    )
    form = neimark_sacker(Map(Planar(turn, g20, g11, g02, g21)), double(0.0, 0.0))
    assert form.coefficient == pytest.approx(2 * truth, rel=1e-8, abs=1e-8)  # w = sqrt(2) z
    assert form.angle == pytest.approx(angle)


@few
@given(st.floats(0.3, 3), complexes, complexes, complexes, complexes)
def test_hopf_in_the_plane(omega, g20, g11, g02, g21):
    truth = (1j * g20 * g11 + omega * g21).real / (2 * omega**2)  # Kuznetsov (3.18)
    form = hopf(Field(Planar(1j * omega, g20, g11, g02, g21)), double(0.0, 0.0))
    assert form.coefficient == pytest.approx(2 * truth, rel=1e-8, abs=1e-8)
    assert form.angle == pytest.approx(omega)


@few
@given(st.lists(sizes, min_size=4, max_size=4))
def test_signs_do_not_depend_on_coordinates(entries):
    change = double(*entries).view(2, 2)
    singular = torch.linalg.svdvals(change)
    if singular[1] < 0.05 * singular[0]:
        return
    back = torch.linalg.inv(change)
    cases = [
        (flip, Henon(0.3675, 0.3), double(0.7 / 0.735, 0.21 / 0.735)),
        (neimark_sacker, DelayedLogistic(2.0), double(0.5, 0.5)),
    ]
    for form, system, x in cases:
        moved = Map(lambda z, step=system.step: step(z @ back.T) @ change.T)
        before, after = form(system, x), form(moved, change @ x)
        assert after.criticality == before.criticality == "supercritical"
        assert after.angle == pytest.approx(before.angle, nan_ok=True)
    # a rotation keeps lengths, hence the value
    turn = double([math.cos(1), -math.sin(1)], [math.sin(1), math.cos(1)])
    moved = Map(lambda z: DelayedLogistic(2.0).step(z @ turn) @ turn.T)
    expected = neimark_sacker(DelayedLogistic(2.0), double(0.5, 0.5)).coefficient
    assert neimark_sacker(moved, turn @ double(0.5, 0.5)).coefficient == pytest.approx(expected)


def test_what_does_not_decide_is_degenerate():
    rotation = double([math.cos(1), -math.sin(1)], [math.sin(1), math.cos(1)])
    assert neimark_sacker(Linear(rotation), double(0.0, 0.0)).criticality == "degenerate"
    assert flip(Map(lambda x: -x + x**2 - x**3), double(0.0)).criticality == "degenerate"
    assert flip(Map(lambda x: -x + x**2 - 1.001 * x**3), double(0.0)).criticality == "subcritical"
    for angle in (math.pi / 2, 2 * math.pi / 3):
        assert neimark_sacker(NeimarkSacker(0.0, angle), double(0.0, 0.0)).criticality == "degenerate"


def test_no_pair_is_refused():
    with pytest.raises(ValueError, match="no complex pair"):
        neimark_sacker(Henon(1.4, 0.3), double(0.6, 0.2))
    with pytest.raises(ValueError, match="no complex pair"):
        hopf(Lorenz(), double(0.0, 0.0, 0.0))


def test_derivatives_are_symmetric_and_linear_in_complex_vectors():
    generator = torch.Generator().manual_seed(0)

    def rule(x):
        return torch.tanh(x @ weights.T)

    weights, x, u, v, w = (
        torch.randn(*shape, generator=generator).double() for shape in ((3, 3), (3,), (3,), (3,), (3,))
    )
    # tanh' = 1 - t^2, tanh'' = -2 t (1 - t^2), tanh''' = (1 - t^2)(6 t^2 - 2)
    t = rule(x)
    bend = -2 * t * (1 - t**2) * (weights @ u) * (weights @ v)
    third = (1 - t**2) * (6 * t**2 - 2) * (weights @ u) * (weights @ v) * (weights @ w)
    torch.testing.assert_close(derivative(rule, x, u, v), bend)
    torch.testing.assert_close(derivative(rule, x, v, w, u), third)
    combined = derivative(rule, x, torch.complex(u, v), w, torch.complex(v, -u))
    direct = (1 - t**2) * (6 * t**2 - 2) * (weights @ w) * (weights @ u + 1j * (weights @ v))
    torch.testing.assert_close(combined, direct * (weights @ v - 1j * (weights @ u)))


def test_critical_vectors_are_a_dual_pair():
    A = torch.randn(5, 5, generator=torch.Generator().manual_seed(1)).double()
    for value in torch.linalg.eigvals(A).tolist():
        q, p = normal_forms.critical_vectors(A, value)
        assert float((A.to(q.dtype) @ q - value * q).norm()) < 1e-12
        assert float((A.mT.to(p.dtype) @ p - value.conjugate() * p).norm()) < 1e-11
        assert abs(complex(torch.vdot(p, q)) - 1) < 1e-12
        assert float(q.norm()) == pytest.approx(1)
