import math

import pytest
import torch

from rnnlab.maps import (
    CatMap,
    CubeRoots,
    DelayedLogistic,
    Henon,
    Hopf,
    Linear,
    Logistic,
    Lorenz,
    NeimarkSacker,
    TanhMap,
)
from rnnlab.systems import Flow, jacobian


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


def iterate(system, x, n):
    for _ in range(n):
        x = system.step(x)
    return x


def test_linear_map_is_a_matrix_power():
    A = double([0.5, 2.0], [-1.0, 0.3])
    x = double([1.0, 2.0], [0.0, -1.0])
    torch.testing.assert_close(iterate(Linear(A), x, 7), x @ torch.linalg.matrix_power(A, 7).mT)


def test_linear_map_wants_a_square_matrix():
    with pytest.raises(ValueError, match="give \\(\\*batch, state, state\\)"):
        Linear(torch.zeros(2, 3))


def test_logistic_at_four_doubles_the_angle():
    # x = sin^2(t) goes to sin^2(2t)
    t = torch.linspace(0, 1, 20, dtype=torch.float64)[:, None]
    torch.testing.assert_close(iterate(Logistic(4.0), t.sin() ** 2, 5), (32 * t).sin() ** 2)


@pytest.mark.parametrize("r", [2.8, 3.2, 3.9])
def test_logistic_fixed_points_and_multipliers(r):
    x = double([0.0], [1 - 1 / r])
    torch.testing.assert_close(Logistic(r).step(x), x)
    torch.testing.assert_close(jacobian(Logistic(r), x).flatten(), double(r, 2 - r))


@pytest.mark.parametrize(("a", "b"), [(1.4, 0.3), (0.2, -0.5)])
def test_henon_fixed_points_and_area(a, b):
    root = math.sqrt((1 - b) ** 2 + 4 * a)
    first = double(-(1 - b) + root, -(1 - b) - root) / (2 * a)
    x = torch.stack((first, b * first), -1)
    torch.testing.assert_close(Henon(a, b).step(x), x)
    torch.testing.assert_close(torch.linalg.det(jacobian(Henon(a, b), x)), double(-b, -b))


def test_henon_bifurcates_where_it_should():
    b = 0.3
    for a, multiplier in ((-((1 - b) ** 2) / 4, 1.0), (3 * (1 - b) ** 2 / 4, -1.0)):
        first = (-(1 - b) + math.sqrt(max(0.0, (1 - b) ** 2 + 4 * a))) / (2 * a)
        eigenvalues = torch.linalg.eigvals(jacobian(Henon(a, b), double(first, b * first)))
        assert (eigenvalues - multiplier).abs().min() < 1e-7


def test_cat_map_permutes_the_points_of_a_lattice():
    # points i/5 have period 2 or 10, as the matrix has in the integers modulo 5
    x = torch.cartesian_prod(torch.arange(5), torch.arange(5)).double() / 5
    matrix = torch.tensor([[2, 1], [1, 1]])
    expected = (x * 5).round().long() @ torch.linalg.matrix_power(matrix.double(), 10).long().mT % 5
    assert torch.equal((iterate(CatMap(), x, 10) * 5).round().long() % 5, expected)
    assert torch.equal(expected, (x * 5).round().long())
    wild = CatMap().step(torch.tensor([[0.9, 0.8]]).double())
    assert ((wild >= 0) & (wild < 1)).all()
    values = torch.linalg.eigvalsh(jacobian(CatMap(), x[7]))
    torch.testing.assert_close(values.log(), double(-1, 1) * math.log((3 + math.sqrt(5)) / 2))


def test_tanh_map_has_a_pitchfork():
    x = double([-1.0], [1e-3], [1.0])
    below, above = iterate(TanhMap(0.9), x, 500), iterate(TanhMap(2.0), x, 500)
    assert below.abs().max() < 1e-12
    # x* = tanh(2 x*), by bisection
    low, high = 0.5, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if math.tanh(2 * middle) > middle else (low, middle)
    torch.testing.assert_close(above, double([-low], [low], [low]))
    torch.testing.assert_close(TanhMap(1.0, 0.3).step(x), (x + 0.3).tanh())


def test_neimark_sacker_circle_is_invariant_and_turned():
    mu, omega = 0.3, 1.1
    angle = torch.linspace(0, 6, 13, dtype=torch.float64)
    x = math.sqrt(mu) * torch.stack((angle.cos(), angle.sin()), -1)
    turned = math.sqrt(mu) * torch.stack(((angle + omega).cos(), (angle + omega).sin()), -1)
    system = NeimarkSacker(mu, omega)
    torch.testing.assert_close(system.step(x), turned)
    # exponents 0 and ln(1 - 2 mu): J = turn * diag(1 - 2 mu, 1) in radial and tangential directions
    singular = torch.linalg.svdvals(jacobian(system, x))
    torch.testing.assert_close(singular, double(1.0, 1 - 2 * mu).expand(13, 2))


@pytest.mark.parametrize(
    ("family", "size"),
    [(Logistic, 1), (TanhMap, 2), (lambda p: Henon(p, 0.3), 2), (lambda p: NeimarkSacker(p, 2 * p), 2)],
)
def test_a_parameter_axis_equals_one_map_after_another(family, size):
    values = double(0.1, 0.7, 1.3)
    x = torch.rand(3, 4, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    together = family(values[:, None]).step(x)
    for value, before, after in zip(values, x, together, strict=True):
        torch.testing.assert_close(after, family(value.item()).step(before))
    assert torch.equal(family(values[:, None]).observe(x), x)


def test_parameters_are_held_in_double():
    assert Logistic(3.2).r.item() == 3.2
    assert Henon(1.4, 0.3).step(double(0.0, 0.0)).dtype == torch.float64
    assert Logistic(torch.tensor(3.25)).r.dtype == torch.float64


def test_delayed_logistic_loses_its_fixed_point_to_a_circle():
    x = double(0.5, 0.5)
    torch.testing.assert_close(DelayedLogistic(2.0).step(x), x)
    eigenvalues = torch.linalg.eigvals(jacobian(DelayedLogistic(2.0), x))
    torch.testing.assert_close(eigenvalues.abs(), double(1.0, 1.0))
    torch.testing.assert_close(eigenvalues.angle().abs(), double(math.pi / 3, math.pi / 3))


def test_cube_roots_is_newtons_method_and_has_a_threefold_symmetry():
    x = torch.rand(20, 2, dtype=torch.float64) + 0.1
    z = torch.view_as_complex(x)
    torch.testing.assert_close(CubeRoots().step(x), torch.view_as_real(z - (z**3 - 1) / (3 * z**2)))
    turn = torch.polar(double(1.0), double(2 * math.pi / 3))
    turned = torch.view_as_real(z * turn)
    torch.testing.assert_close(
        CubeRoots().step(turned), torch.view_as_real(torch.view_as_complex(CubeRoots().step(x)) * turn)
    )
    roots = torch.view_as_real(turn ** torch.arange(3))
    torch.testing.assert_close(CubeRoots().step(roots), roots)
    assert jacobian(CubeRoots(), roots).abs().max() < 1e-14


def test_lorenz_equilibria_and_divergence():
    s = math.sqrt(8 / 3 * 27)
    assert Lorenz().velocity(double([0, 0, 0], [s, s, 27], [-s, -s, 27])).abs().max() < 1e-13
    trace = jacobian(Lorenz(), torch.rand(4, 3, dtype=torch.float64)).diagonal(0, -2, -1).sum(-1)
    torch.testing.assert_close(trace, double(-41 / 3).expand(4))


def test_hopf_has_the_cycle_and_multiplier_it_says():
    mu, omega = 0.09, 2.0
    period = 2 * math.pi / omega
    flow, x = Flow(Hopf(mu, omega), period, 400), double(0.3, 0.0)
    torch.testing.assert_close(flow.step(x), x, atol=1e-9, rtol=0)
    multipliers = torch.linalg.eigvals(jacobian(flow, x)).real.sort().values
    torch.testing.assert_close(multipliers, double(math.exp(-2 * mu * period), 1.0), atol=1e-8, rtol=0)
