import math

import pytest
import torch

from rnnlab.analysis import lyapunov_spectrum
from rnnlab.analysis.states import check_states
from rnnlab.maps import (
    CatMap,
    DelayedLogistic,
    Henon,
    Hopf,
    Linear,
    Logistic,
    Lorenz,
    NeimarkSacker,
    TanhMap,
)
from rnnlab.systems import (
    ContinuousTime,
    Flow,
    Iterated,
    Observed,
    System,
    is_flow,
    jacobian,
    law,
    observe,
    push,
    tangent,
)


def random(*shape, seed=0):
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


def rows(*entries):
    """A matrix from rows of entries that are tensors or numbers, batch axes first."""
    entries = [[torch.as_tensor(e, dtype=torch.float64) for e in row] for row in entries]
    shape = torch.broadcast_shapes(*(e.shape for row in entries for e in row))
    return torch.stack([torch.stack([e.expand(shape) for e in row], -1) for row in entries], -2)


def neimark_sacker(x, mu=0.2, omega=1.0):
    p, q = x.unbind(-1)
    turn = double([math.cos(omega), -math.sin(omega)], [math.sin(omega), math.cos(omega)])
    gain = 1 + mu - p * p - q * q
    return turn @ rows((gain - 2 * p * p, -2 * p * q), (-2 * p * q, gain - 2 * q * q))


A = double([0.5, 2.0], [-1.0, 0.3])
# every map with its Jacobian by hand
BY_HAND = {
    "linear": (Linear(A), 2, lambda x: A.expand(*x.shape, 2)),
    "logistic": (Logistic(3.7), 1, lambda x: 3.7 * (1 - 2 * x).unsqueeze(-1)),
    "henon": (Henon(1.4, 0.3), 2, lambda x: rows((-2.8 * x[..., 0], 1), (0.3, 0))),
    "cat": (CatMap(), 2, lambda x: rows((2, 1), (1, 1)).expand(*x.shape, 2)),
    "tanh": (TanhMap(2.0, 0.1), 3, lambda x: torch.diag_embed(2 / (2 * x + 0.1).cosh() ** 2)),
    "neimark_sacker": (NeimarkSacker(0.2, 1.0), 2, neimark_sacker),
    "delayed_logistic": (
        DelayedLogistic(2.1),
        2,
        lambda x: rows((2.1 * (1 - x[..., 1]), -2.1 * x[..., 0]), (1, 0)),
    ),
    "iterated": (
        Iterated(Logistic(3.7), 2),
        1,
        lambda x: (3.7**2 * (1 - 2 * x) * (1 - 2 * 3.7 * x * (1 - x))).unsqueeze(-1),
    ),
}


@pytest.fixture(params=BY_HAND)
def known(request):
    return BY_HAND[request.param]


def test_a_map_is_a_system(known):
    assert isinstance(known[0], System)
    assert not isinstance(object(), System)


@pytest.mark.parametrize("batch", [(), (5,), (2, 3), (2, 1, 4)])
def test_jacobian_is_that_by_hand(known, batch):
    system, size, by_hand = known
    x = random(*batch, size)
    torch.testing.assert_close(jacobian(system, x), by_hand(x))


def test_tangent_is_a_difference_quotient(known):
    system, size, _ = known
    x, frame, h = random(4, size) / 4, random(4, size, 3, seed=1), 1e-6
    moved = [(system.step(x + h * v) - system.step(x - h * v)) / (2 * h) for v in frame.unbind(-1)]
    torch.testing.assert_close(tangent(system, x, frame), torch.stack(moved, -1), atol=1e-8, rtol=0)


def test_rows_are_independent(known):
    system, size, _ = known
    x, frame = random(2, 3, size), random(2, 3, size, 2, seed=1)
    together = tangent(system, x, frame)
    for i in range(2):
        for j in range(3):
            torch.testing.assert_close(together[i, j], tangent(system, x[i, j], frame[i, j]))


def test_parameters_may_differ_by_row():
    r = double(2.5, 3.5)[:, None]
    x = random(2, 3, 1)
    torch.testing.assert_close(jacobian(Logistic(r), x)[..., 0], r[..., None] * (1 - 2 * x))


def test_jacobian_can_be_differentiated():
    x = random(4, 1).requires_grad_()
    jacobian(Logistic(3.7), x).sum().backward()
    torch.testing.assert_close(x.grad, double(-2 * 3.7).expand(4, 1))


def test_a_system_may_give_its_own_derivative():
    class Own:
        def step(self, x):
            raise AssertionError("not needed")

        observe = step

        def push(self, x, frame):
            return x + 1, 7 * frame

    assert torch.equal(jacobian(Own(), torch.zeros(3, 2)), 7 * torch.eye(2).expand(3, 2, 2))
    Own.jacobian = lambda self, x: 5 * torch.eye(2).expand(*x.shape, 2)
    assert torch.equal(jacobian(Own(), torch.zeros(3, 2)), 5 * torch.eye(2).expand(3, 2, 2))
    assert torch.equal(jacobian(Observed(Own(), lambda x: x), torch.zeros(2)), 5 * torch.eye(2))


@pytest.mark.parametrize("shape", [(3,), (3, 2), (4, 2, 1), (3, 3, 1)])
def test_a_frame_that_does_not_fit_is_refused(shape):
    with pytest.raises(ValueError, match="does not fit states of shape"):
        tangent(CatMap(), torch.zeros(3, 2), torch.zeros(shape))


def test_observed_changes_the_view_only():
    seen = Observed(Henon(), lambda x: x.sum(-1, keepdim=True))
    x = random(5, 2)
    assert torch.equal(seen.step(x), Henon().step(x))
    assert torch.equal(seen.observe(x), x.sum(-1, keepdim=True))
    torch.testing.assert_close(jacobian(seen, x), jacobian(Henon(), x))


def test_iterate_of_a_linear_map_is_a_power():
    third = Iterated(Linear(A), 3)
    x = random(5, 2)
    torch.testing.assert_close(third.step(x), x @ (A @ A @ A).mT)
    torch.testing.assert_close(jacobian(third, x), (A @ A @ A).expand(5, 2, 2))
    assert torch.equal(third.observe(x), x)


def test_points_of_period_two_are_fixed_under_the_second_iterate():
    r = 3.2
    root = math.sqrt((r - 3) * (r + 1))
    x = double([r + 1 + root], [r + 1 - root]) / (2 * r)
    second = Iterated(Logistic(r), 2)
    torch.testing.assert_close(second.step(x), x)
    multiplier = double(4 + 2 * r - r * r).expand(2, 1, 1)
    torch.testing.assert_close(jacobian(second, x), multiplier)


@pytest.mark.parametrize("n", [0, -1, 1.5, True])
def test_iterates_are_counted_by_whole_numbers(n):
    with pytest.raises(ValueError, match="whole number of at least 1"):
        Iterated(CatMap(), n)


def test_a_vector_field_is_known_by_its_velocity():
    x = double([1.0, 2.0, 3.0], [0.0, 1.0, -1.0])
    assert is_flow(Lorenz())
    assert not is_flow(Flow(Lorenz(), 0.1))
    assert torch.equal(law(Lorenz())(x)[0], double(10.0, 23.0, -6.0))
    first, second, third = x.unbind(-1)
    by_hand = rows((-10, 10, 0), (28 - third, -1, -first), (second, first, -8 / 3))
    torch.testing.assert_close(jacobian(Lorenz(), x), by_hand)
    with pytest.raises(TypeError, match="no dynamical system"):
        law(object())


def test_what_is_not_shown_is_the_state():
    class Blind:
        def velocity(self, x):
            return -x

    assert torch.equal(observe(Blind(), double(1.0)), double(1.0))
    assert torch.equal(observe(Observed(CatMap(), lambda x: x[..., :1]), double(1.0, 2.0)), double(1.0))


def test_flow_is_of_order_four():
    # on its limit cycle the normal form turns by omega
    x, errors = double(0.6, 0.8), []
    for substeps in (4, 8, 16):
        end = Flow(Hopf(1.0, 3.0), 0.5, substeps).step(x)
        turn = double([math.cos(1.5), -math.sin(1.5)], [math.sin(1.5), math.cos(1.5)])
        errors.append((end - turn @ x).norm())
    assert 12 < errors[0] / errors[1] < 20
    assert 12 < errors[1] / errors[2] < 20


def test_flow_gives_the_derivative_of_its_own_step():
    flow, x = Flow(Lorenz(), 0.05, 3), random(4, 3)
    image, matrix = push(flow, x, torch.eye(3).double().expand(4, 3, 3))
    assert torch.equal(image, flow.step(x))
    for row, found in zip(x, matrix, strict=True):
        torch.testing.assert_close(found, torch.autograd.functional.jacobian(flow.step, row))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"dt": 0.0}, "dt=0.0"), ({"dt": math.inf}, "dt=inf"), ({"dt": 0.1, "substeps": 0}, "substeps=0")],
)
def test_flow_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        Flow(Lorenz(), **options)
    with pytest.raises(TypeError, match="no vector field"):
        Flow(Logistic(3.0), 0.1)


def test_an_adaptive_flow_is_as_exact_as_its_tolerance():
    # off its limit cycle the radius of the normal form is known, and the derivative by the start with it
    mu, omega, t = 0.7, 3.0, 2.0
    for tolerance in (1e-6, 1e-12):
        flow = Flow(Hopf(mu, omega), t, tolerance=tolerance)
        r = double(0.2, 0.9)
        x = torch.stack([r, 0 * r], -1)
        fade = math.exp(-2 * mu * t)
        radius = torch.sqrt(mu / (1 + (mu / r**2 - 1) * fade))
        along = radius**3 * fade / r**3  # d radius / d r
        direction = double(math.cos(omega * t), math.sin(omega * t))
        image, pushed = push(flow, x, torch.tensor([[1.0], [0.0]]).double().expand(2, 2, 1))
        for found, exact in (
            (flow.step(x), radius[:, None] * direction),
            (image, radius[:, None] * direction),
            (pushed[..., 0], along[:, None] * direction),
        ):
            assert (found - exact).abs().max() < 30 * tolerance
    backward = Flow(Hopf(mu, omega), -t, tolerance=1e-12)
    torch.testing.assert_close(backward.step(flow.step(x)), x, rtol=0, atol=1e-8)


def test_an_adaptive_flow_carries_tangent_vectors_of_any_size():
    flow, x = Flow(Lorenz(), 0.2, tolerance=1e-10), random(4, 3)
    frame = random(4, 3, 3, seed=1)
    exact = push(Flow(Lorenz(), 0.2, 50), x, frame)[1]
    size = double(1e-12, 1.0, 1e9)
    found = push(flow, x, frame * size)[1] / size
    torch.testing.assert_close(found, exact, rtol=1e-6, atol=1e-6)
    assert push(flow, x, torch.zeros(4, 3, 1).double())[1].eq(0).all()
    torch.testing.assert_close(jacobian(flow, x[0]) @ frame[0], exact[0], rtol=1e-6, atol=1e-6)


def test_rows_of_an_adaptive_flow_are_independent_enough_for_all_analyses():
    x0 = 10 * random(300, 3) - 5
    flow = Flow(Lorenz(), 0.1, tolerance=1e-11)
    check_states(flow, x0)
    torch.testing.assert_close(flow.step(x0)[3], flow.step(x0[3]), rtol=1e-9, atol=1e-9)


def test_exponents_of_an_adaptive_flow_know_their_error():
    x0 = double([math.sqrt(0.5), 0.0])  # on the cycle
    found = lyapunov_spectrum(Flow(Hopf(0.5, 1.0), 4.0, tolerance=1e-8), x0, steps=3, discard=4)
    assert found.exponent.values == pytest.approx([0.0, -1.0], abs=1e-6)
    assert (found.integration_error.values < 1e-7).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tolerance": 0.0}, "tolerance=0.0 is not possible: give a number from 3e-14 to 1"),
        ({"tolerance": 1.0}, "tolerance=1.0"),
        ({"tolerance": math.nan}, "tolerance=nan"),
        ({"tolerance": 1e-9, "substeps": 4}, "substeps=4 is not possible with a tolerance"),
    ],
)
def test_an_adaptive_flow_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        Flow(Lorenz(), 0.1, **options)


def test_the_field_of_a_map_has_its_fixed_points_and_its_derivative():
    field = ContinuousTime(Henon(1.4, 0.3))
    x, frame = random(4, 2), random(4, 2, 3, seed=1)
    torch.testing.assert_close(field.velocity(x), Henon(1.4, 0.3).step(x) - x)
    torch.testing.assert_close(jacobian(field, x), jacobian(Henon(1.4, 0.3), x) - torch.eye(2).double())
    value, pushed = push(field, x, frame)
    torch.testing.assert_close(value, field.velocity(x))
    torch.testing.assert_close(pushed, jacobian(field, x) @ frame)
    root = (-0.7 + math.sqrt(0.49 + 5.6)) / 2.8
    assert field.velocity(double(root, 0.3 * root)).abs().max() < 1e-15
    assert is_flow(field)
    assert torch.equal(field.observe(x), Henon(1.4, 0.3).observe(x))
    # an Euler step of length one is the map again
    torch.testing.assert_close(x + field.velocity(x), Henon(1.4, 0.3).step(x))
