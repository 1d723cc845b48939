"""The gated recurrent unit in continuous time against the cell that it is the limit of."""

import math

import pytest
import torch

from rnnlab.analysis import fixed_points
from rnnlab.autonomous import HeldInput, Wrapped, freeze
from rnnlab.cells import GRU
from rnnlab.gru_flow import gru_flow
from rnnlab.integrate import integrate
from rnnlab.systems import ContinuousTime, is_flow, jacobian, push
from tests.networks import seven_point_gru


def random(*shape, seed=0, scale=1.0):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cell_and_flow(size, seed=0):
    """A cell with random parameters without input, and the flow with the same."""
    given = {f"U{k}": random(size, size, seed=seed + i, scale=2.0) for i, k in enumerate("zrh")}
    given |= {f"b{k}": random(size, seed=seed + 10 + i) for i, k in enumerate("zrh")}
    cell = GRU(1, size, reset="before").double()
    with torch.no_grad():
        cell.W.zero_()
        cell.U.copy_(torch.cat([_gate(cell, given, "U", i) for i in range(3)]))
        cell.b.copy_(torch.cat([_gate(cell, given, "b", i) for i in range(3)]))
    return HeldInput(freeze(Wrapped(cell)), torch.zeros(1).double()), gru_flow(**given)


def _gate(cell, given, kind, place):
    """The blocks of the cell stand in the order reset, update, candidate."""
    return given[f"{kind}{'rzh'[place]}"]


@pytest.mark.parametrize("size", [1, 2, 5])
def test_velocity_is_the_displacement_of_the_cell(size):
    system, flow = cell_and_flow(size)
    x = random(7, size, seed=3)
    gap = system.step(x) - x
    torch.testing.assert_close(flow.velocity(x), gap, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(ContinuousTime(system).velocity(x), gap)
    assert is_flow(flow)
    assert torch.equal(flow.observe(x), x)
    assert flow.state_size == size


@pytest.mark.parametrize("size", [1, 2, 5])
def test_jacobian_is_that_of_autograd(size):
    system, flow = cell_and_flow(size)
    x, frame = random(3, 4, size, seed=3), random(3, 4, size, 2, seed=4)
    found = jacobian(flow, x)
    torch.testing.assert_close(jacobian(ContinuousTime(system), x), found)
    value, pushed = push(flow, x, frame)
    assert torch.equal(value, flow.velocity(x))
    torch.testing.assert_close(pushed, found @ frame)
    for i in range(3):
        for j in range(4):
            exact = torch.autograd.functional.jacobian(flow.velocity, x[i, j])
            torch.testing.assert_close(found[i, j], exact)


@pytest.mark.parametrize("seed", range(5))
def test_trajectories_enter_the_box_and_stay(seed):
    _, flow = cell_and_flow(3, seed=20 * seed)
    low, high = flow.bounds()
    assert (low < high).all()
    assert (low >= -1).all()
    assert (high <= 1).all()
    inside = low + (high - low) * torch.rand(200, 3, dtype=torch.float64)
    times = torch.tensor([0.1, 1.0, 5.0], dtype=torch.float64)
    path = integrate(flow, inside, times)
    assert ((path >= low - 1e-9) & (path <= high + 1e-9)).all()
    # on each face the field points inwards, wherever one stands on it
    for unit in range(3):
        for end, sign in ((low, 1), (high, -1)):
            face = inside.clone()
            face[:, unit] = end[unit]
            assert (sign * flow.velocity(face)[:, unit] > -1e-12).all()
    # from outside every unit comes nearer, be its gate all but shut
    far = random(50, 3, scale=5.0)
    beyond = far.abs() > 1
    assert (flow.velocity(far).sign() == -far.sign())[beyond].all()


def test_map_and_flow_share_their_fixed_points_and_not_their_stability():
    # one unit, no reset: h' = h + z (tanh(u h) - h). At h = 0 the map has the multiplier 1 + (u - 1) / 2,
    # for u = -4 it is -1.5: unstable, by turning over; the flow's eigenvalue there is -2.5: stable
    flow = gru_flow(Uh=-8.0)
    cell = GRU(1, 1, reset="before").double()
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.zero_()
        cell.U[2] = -8.0
    system = HeldInput(freeze(Wrapped(cell)), torch.zeros(1).double())
    origin = torch.zeros(1, dtype=torch.float64)
    assert jacobian(flow, origin).item() == pytest.approx(-2.5, abs=1e-14)
    assert jacobian(system, origin).item() == pytest.approx(-1.5, abs=1e-14)
    starts = torch.linspace(-1, 1, 9, dtype=torch.float64)[:, None]
    for found, kind, unstable in (
        (fixed_points(flow, starts), "stable node", 0),
        (fixed_points(system, starts), "unstable node", 1),
    ):
        assert found.sizes["index"] == 1
        assert abs(found.point.item()) < 1e-10
        assert found["unstable"].item() == unstable
        assert found["kind"].item() == kind


def test_the_seven_points_are_those_of_the_flow():
    system = seven_point_gru()
    starts = 2 * torch.rand(200, 2, dtype=torch.float64) - 1
    ours, theirs = (fixed_points(each, starts) for each in (ContinuousTime(system), system))
    assert ours.sizes["index"] == theirs.sizes["index"] == 7
    found, expected = (sorted(map(tuple, each.point.values.tolist())) for each in (ours, theirs))
    for a, b in zip(found, expected, strict=True):
        assert a == pytest.approx(b, abs=1e-9)


def test_numbers_will_do_for_one_unit_and_what_is_not_given_is_zero():
    flow = gru_flow(Uh=3.0, bh=0.1)
    h = torch.tensor([[0.4]], dtype=torch.float64)
    exact = 0.5 * (math.tanh(3.0 * 0.5 * 0.4 + 0.1) - 0.4)
    assert flow.velocity(h).item() == pytest.approx(exact, rel=1e-15)
    assert flow.velocity(h).dtype == torch.float64


def test_parameters_carry_derivatives():
    gain = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    gru_flow(Uh=gain * torch.eye(2).double()).velocity(torch.full((2,), 0.3).double()).sum().backward()
    exact = 2 * 0.5 * 0.15 / math.cosh(3.0 * 0.15) ** 2
    assert gain.grad.item() == pytest.approx(exact)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"Uh": [[1.0, 2.0]]}, r"Uh of shape \(1, 2\) is not possible beside Uh of shape \(1, 2\): give"),
        ({"Uh": torch.eye(2), "bh": [1.0]}, r"bh of shape \(1,\) is not possible .*: give \(2,\)"),
        ({"Uh": torch.eye(2), "Ur": 1.0}, r"Ur of shape \(\) is not possible"),
        ({"Uh": torch.eye(2), "Uz": torch.eye(3)}, r"Uz of shape \(3, 3\) is not possible"),
        ({"Uh": math.inf}, r"Uh=.*inf.* is not possible: give finite numbers"),
        ({"Uh": 1.0, "bz": math.nan}, r"bz=.*nan.* is not possible: give finite numbers"),
        ({"Uh": torch.eye(2), "Ur": [[0.0, -math.inf], [0.0, 0.0]]}, "Ur=.*-inf.* is not possible"),
    ],
)
def test_parameters_that_make_no_field_are_refused(given, message):
    with pytest.raises(ValueError, match=message) as error:
        gru_flow(**given)
    assert "\n" not in str(error.value)
