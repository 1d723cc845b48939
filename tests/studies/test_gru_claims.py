"""What docs/papers/gru_2019.md says about the claims of Jordan et al. (2019), checked."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from datamodules.fitzhugh_nagumo import FitzHughNagumoField
from rnnlab.analysis import certified_fixed_points, lyapunov_spectrum
from rnnlab.analysis.slow_points import slow_points
from rnnlab.cells import GRU
from rnnlab.gru_flow import gru_flow
from rnnlab.integrate import integrate
from rnnlab.studies.gru_atlas.cases import cases, portraits
from rnnlab.studies.gru_one_unit.fixed_points import fixed_points, saddle_nodes
from rnnlab.systems import Iterated, jacobian


def double(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


class Discrete:
    """The discrete unit of eq. 2-4, of which the flow is the limit: h' = h + velocity(h)."""

    def __init__(self, field):
        self.field = field

    def step(self, x):
        return x + self.field.velocity(x)

    def observe(self, x):
        return x


def rotation(angle):
    """Eq. 8 with the factor of Table 1."""
    c, s = math.cos(angle), math.sin(angle)
    return gru_flow(Uh=[[3 * c, -3 * s], [3 * s, 3 * c]])


# section 2


def test_the_cell_steps_along_the_field():
    cell = GRU(1, 2).double()
    with torch.no_grad():
        r, z, h = cell.U.split(2)
        rb, zb, hb = cell.b.split(2)
        field = gru_flow(Uh=h, Ur=r, Uz=z, bh=hb, br=rb, bz=zb)
        x = torch.randn(50, 2).double()
        torch.testing.assert_close(cell.step(x, torch.zeros(50, 1).double()), Discrete(field).step(x))


def test_states_end_in_the_box_without_input():
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        Uh, Ur, Uz = torch.randn(3, 2, 2, generator=generator).double()
        bh, br, bz = torch.randn(3, 2, generator=generator).double()
        system = Discrete(gru_flow(Uh=9 * Uh, Ur=9 * Ur, Uz=Uz / 3, bh=bh, br=br, bz=bz))
        x = 3 * torch.randn(100, 2, generator=generator).double()
        reach = [x.abs().amax(1)]
        for _ in range(400):
            x = system.step(x)
            reach.append(x.abs().amax(1))
        path = torch.stack(reach)
        assert (path[0] > 1).sum() > 50
        assert (path.diff(dim=0)[path[:-1] > 1] < 0).all()
        assert (path[-1] <= 1).all()


def test_but_not_under_every_input():
    """An input that shuts the update gate ever more leaves the state where it was."""
    cell = GRU(1, 1).double()
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.zero_()
        cell.W[1] = -1.0
        x = double([5.0])
        for t in range(200):
            x = cell.step(x, double([float(t + 3)]))
    assert 4.5 < x.item() < 5


def test_the_update_gate_keeps_fixed_points_and_not_their_stability():
    """Uh = [[3, -4], [4, -1]]: the origin is a sink at z = 1/2; a faster first unit makes it a source."""
    plain, gated = (gru_flow(Uh=[[3.0, -4], [4, -1]], bz=bz) for bz in (None, [3.0, -3.0]))
    found = [certified_fixed_points(field) for field in (plain, gated)]
    assert [(part.certified, part.undecided) for part in found] == [(1, 0), (1, 0)]
    assert [part.kind.item() for part in found] == ["stable focus", "unstable focus"]
    # nothing leaves the box and nothing rests: by Poincare and Bendixson there is a cycle
    start = double([0.01, 0.0], [1.0, 1.0], [-1.0, 0.5])
    times = torch.arange(200.0, 240.0, 0.5).double()
    assert integrate(plain, start, times).norm(dim=-1).max() < 1e-7
    assert integrate(gated, start, times).norm(dim=-1).min() > 0.2


def test_one_discrete_unit_oscillates_and_is_chaotic():
    """Period three implies chaos (Li and Yorke 1975); the flow of the same unit has one stable node."""
    field = gru_flow(Uh=-14.0, Ur=14.0, bh=-0.4, br=1.0)
    unit, box = Discrete(field), (double(-1.0), double(1.0))
    once, thrice = (certified_fixed_points(part, box) for part in (unit, Iterated(unit, 3)))
    assert (once.certified, once.undecided, thrice.certified, thrice.undecided) == (1, 0, 7, 0)
    assert certified_fixed_points(field).kind.values.tolist() == ["stable node"]
    assert once.kind.item().startswith("unstable")
    exponent = lyapunov_spectrum(unit, torch.linspace(-0.9, 0.9, 64).double()[:, None], steps=200)
    assert exponent.exponent.item() == pytest.approx(0.52, abs=0.03)


def test_the_papers_own_stable_points_are_unstable_in_the_discrete_network():
    # Lemma 3's example: the slope of the candidate at the stable node near 0
    slope = fixed_points(-60.0, 80.0, -1.0, 40.0).slope[2]
    assert (slope - 1) / 2 + 1 == pytest.approx(-29.49, abs=0.01)
    # Fig. 5A: a stable spiral of the flow
    field = portraits()["5a"].field()
    origin = torch.zeros(2).double()
    flow, steps = (torch.linalg.eigvals(jacobian(part, origin)) for part in (field, Discrete(field)))
    np.testing.assert_allclose(flow.real, -0.125, atol=1e-12)
    np.testing.assert_allclose(steps.abs(), 1.0897, atol=1e-4)


def test_the_bias_stands_outside_of_the_product():
    """Case xxxiii has nine points; with tanh(Uh (r h + bh)), as eq. 4 has it, five."""
    field = cases()["xxxiii"].field()
    inside = gru_flow(Uh=field.Uh, Ur=field.Ur, bh=field.Uh @ field.bh, br=field.br)
    counts = [certified_fixed_points(part) for part in (field, inside)]
    assert [(part.certified, part.undecided) for part in counts] == [(9, 0), (5, 0)]


# section 3 and appendix B


def test_lemma_3_runs_the_other_way():
    nodes = saddle_nodes(-60.0, 80.0, 40.0).bh
    np.testing.assert_allclose(nodes, [-27.0659481210, -0.7031308373], atol=1e-9)
    counts = fixed_points(-60.0, 80.0, [0.0, -0.5, -1.0, -10.0, -27.0, -27.1], 40.0).count
    assert counts.tolist() == [1, 1, 3, 3, 3, 1]


def test_one_turning_point_does_not_make_three_fixed_points():
    """The gap in the paper's proof: this argument of tanh rises throughout, and there are seven points."""
    h = np.linspace(-0.999, 0.999, 20_000)
    argument = np.arctanh(h) + 0.05 * np.sin(12 * h)
    assert (np.diff(argument) > 0).all()
    assert np.count_nonzero(np.diff(np.sign(np.tanh(argument) - h))) == 7


def test_one_unit_has_a_slow_point_only_beside_a_single_fixed_point():
    generator = np.random.default_rng(0)

    def wide(low, high):
        return generator.choice([-1, 1], (2000, 1)) * 10 ** generator.uniform(low, high, (2000, 1))

    Uh, Ur, bh, br = wide(-0.3, 1.5), wide(-0.3, 1.7), wide(-2, 1), wide(-1, 1.3)
    h = np.linspace(-1, 1, 8001)
    velocity = np.tanh(Uh * h / (1 + np.exp(-Ur * h - br)) + bh) - h
    speed, side = abs(velocity), np.sign(velocity)
    least = (speed[:, 1:-1] < speed[:, 2:]) & (speed[:, 1:-1] <= speed[:, :-2])
    slow = (least & (side[:, :-2] == side[:, 2:]) & (speed[:, 1:-1] > 1e-6)).sum(1)
    points = fixed_points(Uh[:, 0], Ur[:, 0], bh[:, 0], br[:, 0]).count
    assert slow[points == 1].max() == 1
    assert slow[points == 3].max() == 0
    assert (slow > 0).sum() > 100


# section 4


def test_four_of_the_nine_points_of_fig_2_are_stable_and_their_basins_are_the_quadrants():
    field = portraits()["2"].field()
    found = certified_fixed_points(field)
    assert (found.certified, found.undecided) == (9, 0)
    assert (found.unstable == 0).sum() == 4
    axis = torch.linspace(-1.4, 1.4, 8).double()
    start = torch.cartesian_prod(axis, axis)
    end = integrate(field, start, double(60.0))[0]
    torch.testing.assert_close(end, 0.858559636640 * start.sign(), atol=1e-7, rtol=0)


@pytest.mark.parametrize("name", ["3b", "4a", "4b"])
def test_the_point_called_of_codimension_two_has_codimension_four(name):
    """Six equations, f = 0 and Df = 0, that are independent in the state and the twelve parameters."""

    def equations(unknown):
        x, Uh, Ur, bh, br = unknown.split((2, 4, 4, 2, 2))
        field = lambda x: torch.tanh(Uh.view(2, 2) @ (torch.sigmoid(Ur.view(2, 2) @ x + br) * x) + bh) - x  # noqa: E731
        return torch.cat((field(x), torch.func.jacrev(field)(x).flatten()))

    at = torch.cat((torch.zeros(2).double(), torch.from_numpy(portraits()[name].parameters)))
    assert equations(at).abs().max() == 0
    slope = torch.func.jacrev(equations)(at)
    assert torch.linalg.svdvals(slope)[-1] > 0.4  # rank 6: 6 - 2 coordinates = 4 conditions
    # two if the axes stay invariant: Uh diagonal, bh = 0
    kept = [2, 5, 6, 7, 8, 9, 12, 13]
    assert (slope[[0, 1, 3, 4]][:, kept] == 0).all()
    assert torch.linalg.matrix_rank(slope[[2, 5]][:, kept]) == 2


def test_homoclinic_orbits_of_fig_4():
    """From (0.3, -0.3) the orbits of 4B come back both ways in time, that of 4A only forward."""
    times = torch.linspace(0.5, 250, 500).double()

    def nearest(name, start, sign):
        path = integrate(portraits()[name].field(), double(*start), sign * times)
        return path.norm(dim=-1).min().item()

    for start in ((0.3, -0.3), (-0.3, 0.3)):  # the two regions
        assert max(nearest("4b", start, sign) for sign in (1, -1)) < 4e-3
    assert max(nearest("4a", (0.35, -0.05), sign) for sign in (1, -1)) < 0.02  # the one region
    assert nearest("4a", (0.3, -0.3), 1) < 6e-3
    assert nearest("4a", (0.3, -0.3), -1) > 0.4


def test_the_hopf_bifurcation():
    """3/2 cos a = 1 at a = arccos(2/3) = pi / 3.735; the factor 3/2 of eq. 8 would never get there."""
    angle = math.acos(2 / 3)
    assert math.pi / angle == pytest.approx(3.7352, abs=1e-4)
    values = torch.linalg.eigvals(jacobian(rotation(angle), torch.zeros(2).double()))
    np.testing.assert_allclose(values.real, 0, atol=1e-15)
    np.testing.assert_allclose(values.imag.abs(), math.sqrt(5) / 4, atol=1e-15)
    for name, part in (("5a", 3), ("5b", 5), ("5c", 21)):
        torch.testing.assert_close(
            portraits()[name].field().Uh, rotation(math.pi / part).Uh, atol=1e-4, rtol=0
        )
    # the discrete network with the same weights gives way at cos a = 1/4
    values = torch.linalg.eigvals(jacobian(Discrete(rotation(math.acos(0.25))), torch.zeros(2).double()))
    np.testing.assert_allclose(values.abs(), 1, atol=1e-15)


def test_a_pseudo_line_attractor_may_be_curved():
    """Uh = [[2, 0], [600, 0]], Ur = 0, seen through the readout (100 x, y): y = tanh(3 s), -1 < s < 1."""
    field = gru_flow(Uh=[[2.0, 0], [600.0, 0]])
    s = torch.linspace(-1, 1, 41).double()
    start = torch.stack((0.01 * s, torch.zeros_like(s)), -1)
    early, late = integrate(field, start, double(20.0, 120.0)).unbind()
    for x in (early, late):  # on the curve
        assert (x[:, 1] - torch.tanh(300 * x[:, 0])).abs().max() < 1e-4
    assert ((late - early)[:, 0] / 0.01).abs().max() < 2e-3  # in a hundred units of time
    y = np.tanh(3 * np.linspace(-1, 1, 2001))
    slope = 3 * (1 - y**2)
    curvature = 6 * abs(y) * slope / (1 + slope**2) ** 1.5
    assert curvature.max() == pytest.approx(2.035, abs=1e-3)


def test_the_parameters_printed_for_fig_6_have_no_line():
    """The only point attracts from all sides at rates 0.41 and 0.57: nothing is slow."""
    found = certified_fixed_points(portraits()["6a"].field())
    assert (found.certified, found.undecided) == (1, 0)
    np.testing.assert_allclose(found.eigenvalue.values.real, [[-0.4075, -0.5675]], atol=1e-4)


def test_slow_points():
    """Four in Fig. 5C, one in Fig. 7. A minimum of the speed off rest is where the Jacobian is singular."""
    corner = torch.full((2,), 1.2).double()
    for name, number, speed in (("5c", 4, 8.795e-4), ("7a", 1, 2.632e-3)):
        field = portraits()[name].field()
        found = slow_points(field, (-corner, corner))
        assert len(found) == number
        for slow in found:
            assert slow.speed == pytest.approx(speed, rel=1e-3)
            assert abs(torch.linalg.det(jacobian(field, slow.point))) < 1e-9


def test_below_the_diagonal_fig_7_passes_the_slow_point():
    field = portraits()["7a"].field()
    axis = torch.linspace(-1.4, 1.4, 15).double()
    start = torch.cartesian_prod(axis, axis)
    start = start[start.sum(-1) < -1e-9]
    path = integrate(field, start, torch.linspace(0.25, 60, 240).double())
    assert path.norm(dim=-1).amin(0).max() < 0.03
    sink = certified_fixed_points(field).point.values[0]
    np.testing.assert_allclose(path[-1], np.broadcast_to(sink, path[-1].shape), atol=1e-6)


# section 5


def test_the_oscillator_has_a_node_and_not_always_an_unstable_one():
    box = (double(-3.0, -3.0), double(3.0, 3.0))
    found = certified_fixed_points(FitzHughNagumoField(), box)
    assert found.kind.values.tolist() == ["unstable node"]
    np.testing.assert_allclose(found.eigenvalue.values[0].real, [0.615624, 0.053712], atol=1e-6)

    def current(v2):
        """Current at which the equilibrium has v = -sqrt(v2)."""
        v = -math.sqrt(v2)
        return (v + 0.7) / 0.8 - v + v**3 / 3

    hopf, node = current(1 - 0.064), current(1.064 - math.sqrt(0.32))
    assert (hopf, node) == pytest.approx((0.3313, 0.5813), abs=1e-4)
    for value, kind in ((hopf - 1e-3, "stable focus"), (hopf + 1e-3, "unstable focus")):
        assert certified_fixed_points(FitzHughNagumoField(current=value), box).kind.item() == kind
    for value, kind in ((node - 1e-3, "unstable focus"), (node + 1e-3, "unstable node")):
        assert certified_fixed_points(FitzHughNagumoField(current=value), box).kind.item() == kind
    # the current is drawn with mean 0.7 and variance 0.04
    quiet, spiral = norm.cdf([(hopf - 0.7) / 0.2, (node - 0.7) / 0.2])
    assert (quiet, spiral - quiet) == pytest.approx((0.033, 0.244), abs=1e-3)
