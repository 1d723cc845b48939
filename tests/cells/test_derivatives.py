"""What cells know of their dynamics: derivatives, reductions, boxes and Lipschitz bounds."""

import copy

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from rnnlab.cells import GRU, LSTM, Cell, Elman, Orthogonal, StableLSTM, Stack, ranges
from rnnlab.cells.base import pushforward

INPUT, HIDDEN, BATCH = 2, 4, 3


class Softplus(Cell):
    """A cell of one's own, with an output that is no part of the state."""

    def __init__(self, input_size, hidden_size, output_size):
        super().__init__(input_size, hidden_size, output_size)
        self.weights = nn.Linear(input_size + hidden_size, hidden_size)
        self.show = nn.Linear(hidden_size, output_size)

    def step(self, x, u):
        u = u.expand(*torch.broadcast_shapes(x.shape[:-1], u.shape[:-1]), -1)
        return nn.functional.softplus(self.weights(torch.cat([x.expand(*u.shape[:-1], -1), u], -1)))

    def output(self, x):
        return self.show(x).sin()


CELLS = {
    "elman": lambda: Elman(INPUT, HIDDEN),
    "elman relu": lambda: Elman(INPUT, HIDDEN, nonlinearity="relu"),
    "gru": lambda: GRU(INPUT, HIDDEN),
    "gru after": lambda: GRU(INPUT, HIDDEN, reset="after"),
    "lstm": lambda: LSTM(INPUT, HIDDEN),
    "slstm": lambda: StableLSTM(INPUT, HIDDEN),
    "ornn": lambda: Orthogonal(INPUT, HIDDEN),
    "lstm on lstm": lambda: Stack([LSTM(INPUT, HIDDEN), LSTM(HIDDEN, 3)]),
    "three": lambda: Stack([LSTM(INPUT, 3), GRU(3, 2, reset="after"), LSTM(2, 3)]),
    "ornn on elman": lambda: Stack([Elman(INPUT, 3), Orthogonal(3, HIDDEN)]),
    "stack on stack": lambda: Stack([Stack([LSTM(INPUT, 2), GRU(2, 3)]), Stack([Elman(3, 2), LSTM(2, 2)])]),
    "own": lambda: Softplus(INPUT, HIDDEN, 3),
    "lstm on own on gru": lambda: Stack([GRU(INPUT, 2), Softplus(2, 3, 2), LSTM(2, 2)]),
}
SHAPES = {
    "one": ((), ()),
    "batch": ((BATCH,), (BATCH,)),
    "held": ((BATCH,), ()),
    "probes": ((5, BATCH), (5, 1)),
    "probes of one cloud": ((BATCH,), (5, 1)),
}


def generator(seed):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=generator(seed))


def make(name, seed=0, scale=1.0):
    """A cell with normal weights of standard deviation `scale`."""
    torch.manual_seed(seed)
    cell = CELLS[name]().double().requires_grad_(False)
    for parameter in cell.parameters():
        parameter.copy_(scale * torch.randn_like(parameter))
    cell.constrain()
    return cell


@pytest.fixture(params=CELLS)
def cell(request):
    return make(request.param)


def generic(cell, x, u, dx, du=None):
    """The twin: forward mode through the step, nothing else."""
    if du is None:
        return pushforward(lambda x: cell.step(x, u), (x,), (dx,))
    return pushforward(cell.step, (x, u), (dx, du))


def assert_close(actual, expected):
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype
    scale = max(1.0, float(expected.abs().max()))
    assert float((actual - expected).abs().max()) <= 1e-12 * scale


@pytest.mark.parametrize("shapes", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("driven", [False, True], ids=["", "du"])
def test_push_is_forward_mode(cell, shapes, driven):
    of_x, of_u = shapes
    x, u = draw(*of_x, cell.state_size, seed=1), draw(*of_u, INPUT, seed=2)
    dx = draw(*of_x, cell.state_size, 3, seed=3)
    du = draw(*of_u, INPUT, 3, seed=4) if driven else None
    got, expected = cell.push(x, u, dx, du), generic(cell, x, u, dx, du)
    for a, b in zip(got, expected, strict=True):
        assert_close(a, b)
    assert_close(got[0], cell.step(x, u))
    if of_x:
        aligned = dx.mT.contiguous().mT  # as linalg.qr gives it
        assert_close(cell.push(x, u, aligned, du)[1], expected[1])


@pytest.mark.parametrize("shapes", SHAPES.values(), ids=SHAPES)
def test_jacobian_is_forward_mode(cell, shapes):
    of_x, of_u = shapes
    x, u = draw(*of_x, cell.state_size, seed=1), draw(*of_u, INPUT, seed=2)
    eye = torch.eye(cell.state_size).double().expand(*of_x, -1, -1)
    assert_close(cell.jacobian(x, u), generic(cell, x, u, eye)[1])


def test_outputs_are_pushed(cell):
    x, dx = draw(BATCH, cell.state_size, seed=1), draw(BATCH, cell.state_size, 3, seed=2)
    for a, b in zip(cell.push_output(x, dx), pushforward(cell.output, (x,), (dx,)), strict=True):
        assert_close(a, b)


def test_far_states_have_derivatives_too(cell):
    x, u = 100 * draw(BATCH, cell.state_size, seed=1), 100 * draw(INPUT, seed=2)
    dx = draw(BATCH, cell.state_size, 3, seed=3)
    assert_close(cell.push(x, u, dx)[1], generic(cell, x, u, dx)[1])


def test_derivatives_where_nothing_is_smooth():
    """At the kinks the same side is taken as by torch."""
    for cell in (Elman(1, 2, nonlinearity="relu").double(), Orthogonal(1, 2).double()):
        with torch.no_grad():
            for parameter in cell.parameters():
                parameter.zero_()
        x, u, dx = torch.zeros(2).double(), torch.zeros(1).double(), torch.ones(2, 1).double()
        assert torch.equal(cell.push(x, u, dx)[1], generic(cell, x, u, dx)[1])
        assert torch.equal(cell.jacobian(x, u), torch.zeros(2, 2).double())


def test_pushes_leave_no_graph_and_weights_as_they_are(cell):
    cell = copy.deepcopy(cell).requires_grad_(True)
    before = {name: value.clone() for name, value in cell.state_dict().items()}
    x, u = draw(BATCH, cell.state_size), draw(INPUT)
    dx = draw(BATCH, cell.state_size, 2)
    with torch.no_grad():
        moved, pushed = cell.push(x, u, dx)
        matrix = cell.jacobian(x, u)
    assert not any(value.requires_grad for value in (moved, pushed, matrix))
    assert all(torch.equal(value, before[name]) for name, value in cell.state_dict().items())
    # inside a transform of torch.func, and with gradient
    rows = torch.func.vmap(cell.jacobian, in_dims=(0, None))(x, u)
    assert_close(rows.detach(), matrix)
    (column,) = torch.func.jvp(lambda x: cell.push(x, u, dx)[0], (x,), (dx[..., 0],))[1:]
    assert_close(column.detach(), pushed[..., 0])
    cell.push(x, u, dx)[1].square().sum().backward()
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in cell.parameters())


def test_gradient_of_a_push():
    for name in ("elman", "gru", "gru after", "lstm", "ornn"):
        cell = make(name).requires_grad_(True)
        x, u, dx, du = (
            draw(*s, seed=9).requires_grad_()
            for s in ((cell.state_size,), (INPUT,), (cell.state_size, 2), (INPUT, 2))
        )
        assert torch.autograd.gradcheck(lambda *args, cell=cell: cell.push(*args)[1], (x, u, dx, du))


def test_rotation_follows_its_parameter():
    cell = make("ornn")
    x, u, dx = draw(HIDDEN), draw(INPUT), draw(HIDDEN, 2)
    cell.push(x, u, dx)
    cell.A.mul_(0.5)
    assert_close(cell.push(x, u, dx)[1], generic(cell, x, u, dx)[1])
    assert_close(cell.jacobian(x, u), torch.autograd.functional.jacobian(lambda x: cell.step(x, u), x))


def test_another_step_is_not_given_the_old_derivative():
    class Leaky(LSTM):
        def step(self, x, u):
            return 0.5 * x + 0.5 * super().step(x, u)

    class Squared(LSTM):
        def output(self, x):
            return super().output(x) ** 2

    leaky = Leaky(INPUT, HIDDEN).double()
    x, u, dx = draw(BATCH, 8), draw(INPUT), draw(BATCH, 8, 2)
    assert_close(leaky.push(x, u, dx)[1].detach(), generic(leaky, x, u, dx)[1].detach())
    assert leaky.reduced(u) is leaky.bounds(u, u) is leaky.lipschitz(u, u) is None
    stack = Stack([Squared(INPUT, HIDDEN), Elman(HIDDEN, 2)]).double().requires_grad_(False)
    x, dx = draw(BATCH, 10), draw(BATCH, 10, 2)
    assert_close(stack.push(x, u, dx)[1], generic(stack, x, u, dx)[1])
    assert stack.reduced(u) is stack.bounds(u, u) is stack.lipschitz(u, u) is None


# reductions


def solve(step, jacobian, x):
    """Newton's method to the last bit; rows that do not get there are dropped."""
    eye = torch.eye(x.shape[-1]).double()
    for _ in range(100):
        move = torch.linalg.solve_ex(eye - jacobian(x), (step(x) - x).unsqueeze(-1))[0].squeeze(-1)
        x = x + move.clamp(-0.5, 0.5)
    return x[(step(x) - x).abs().amax(-1) < 1e-12]


def distinct(points):
    kept = []
    for point in points:
        if all((point - other).abs().max() > 1e-6 for other in kept):
            kept.append(point)
    return torch.stack(kept)


REDUCIBLE = {
    "lstm": 3,
    "slstm": 3,
    "lstm on lstm": 3,
    "three": 5,
    "stack on stack": 4,
    "lstm on own on gru": 3,
}


@pytest.mark.parametrize("name", REDUCIBLE)
def test_fixed_points_of_a_reduction_are_those_of_the_cell(name):
    cell, u = make(name, seed=REDUCIBLE[name]), draw(INPUT, seed=1)
    small = cell.reduced(u)
    full = distinct(
        solve(lambda x: cell.step(x, u), lambda x: cell.jacobian(x, u), draw(300, cell.state_size))
    )
    z = small.restrict(full)
    assert z.shape[-1] < cell.state_size
    torch.testing.assert_close(small.step(z), z, atol=1e-10, rtol=0)
    torch.testing.assert_close(small.lift(z), full, atol=1e-8, rtol=1e-8)
    found = distinct(solve(small.step, small.jacobian, draw(300, z.shape[-1])))
    lifted = small.lift(found)
    torch.testing.assert_close(cell.step(lifted, u), lifted, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(small.restrict(lifted), found)
    if len(full) < 10:  # one and the same list
        assert len(found) == len(full)
        assert all((z - point).abs().amax(-1).min() < 1e-8 for point in found)
    # the determinants differ by a factor above zero
    full_sign = torch.linalg.slogdet(torch.eye(cell.state_size) - cell.jacobian(full, u))[0]
    small_sign = torch.linalg.slogdet(torch.eye(z.shape[-1]) - small.jacobian(z))[0]
    assert torch.equal(full_sign, small_sign)


def test_a_reduction_finds_more_than_one_point():
    """The twin above would be poor with one point each: here there are three, and the signs alternate."""
    cell = LSTM(1, 1).double().requires_grad_(False)
    for parameter in cell.parameters():
        parameter.zero_()
    cell.weight_hh[2] = 6.0
    cell.bias_ih[[0, 1, 3]] = 2.0
    small = cell.reduced(torch.zeros(1).double())
    z = distinct(solve(small.step, small.jacobian, torch.linspace(-1, 1, 41).double()[:, None]))
    assert sorted(z.flatten().round(decimals=3).abs().tolist())[0] == 0
    assert len(z) == 3
    full = cell.jacobian(small.lift(z), torch.zeros(1).double())
    signs = torch.linalg.det(torch.eye(2) - full).sign()
    assert torch.equal(signs, torch.linalg.det(torch.eye(1) - small.jacobian(z)).sign())
    assert signs.sum() == 1


@pytest.mark.parametrize("name", REDUCIBLE)
@pytest.mark.parametrize("shapes", SHAPES.values(), ids=SHAPES)
def test_derivatives_of_a_reduction(name, shapes):
    of_x, of_u = shapes
    cell, u = make(name), draw(*of_u, INPUT, seed=2)
    small, size = cell.reduced(u), cell.reduction().state_size
    z, dz, du = draw(*of_x, size), draw(*of_x, size, 3, seed=1), draw(*of_u, INPUT, 3, seed=3)
    for a, b in zip(small.push(z, dz), pushforward(small.step, (z,), (dz,)), strict=True):
        assert_close(a, b)
    assert_close(
        small.jacobian(z), pushforward(small.step, (z,), (torch.eye(size).double().expand(*of_x, -1, -1),))[1]
    )
    assert_close(cell.reduction().push(z, u, dz, du)[1], generic(cell.reduction(), z, u, dz, du)[1])


def test_the_cell_state_of_an_open_forget_gate_is_finite():
    """1 - f in floating point is 0 from an argument of 37 on."""
    cell = LSTM(1, 1).double().requires_grad_(False)
    for parameter in cell.parameters():
        parameter.zero_()
    cell.bias_ih[:] = torch.tensor([0.0, 60.0, 1.0, 0.0])
    z, u = torch.full((1,), 0.5).double(), torch.zeros(1).double()
    small = cell.reduced(u)
    assert small.step(z).item() == pytest.approx(0.5)
    expected = 0.5 * torch.tensor(1.0).double().tanh().item() * (1 + torch.tensor(60.0).double().exp().item())
    assert small.lift(z)[1].item() == pytest.approx(expected)
    assert small.jacobian(z).isfinite().all()


@pytest.mark.parametrize("name", ["elman", "gru", "ornn", "own", "ornn on elman"])
def test_nothing_to_reduce(name):
    assert make(name).reduced(draw(INPUT)) is None


# boxes and Lipschitz bounds

BOXED = ("elman", "gru", "gru after", "lstm", "slstm", "lstm on lstm", "three", "stack on stack")
EVERYWHERE = ("elman relu", "ornn", "ornn on elman")
seeds = st.integers(0, 2**31)
scales = st.sampled_from([0.1, 0.5, 1.0, 2.0, 5.0, 20.0])
widths = st.sampled_from([0.0, 0.1, 1.0, 10.0])


def input_box(width, seed, probes=2):
    centre = draw(probes, INPUT, seed=seed)
    return centre - width, centre + width


def between(low, high, *shape, seed):
    """Uniform in a box, and many of its corners."""
    share = torch.rand(*shape, *low.shape, dtype=torch.float64, generator=generator(seed))
    corners = torch.rand(*shape, *[1] * low.ndim, dtype=torch.float64, generator=generator(seed + 1)) < 0.5
    share = torch.where(corners, share.round(), share)
    return torch.lerp(low, high, share).clamp(low, high)


@pytest.mark.parametrize("name", BOXED)
@settings(max_examples=15, deadline=None)
@given(seed=seeds, scale=scales, width=widths)
def test_no_orbit_leaves_the_box(name, seed, scale, width):
    cell = make(name, seed, scale)
    low, high = input_box(width, seed)
    below, above = cell.bounds(low, high)
    assert below.shape == above.shape == (2, cell.state_size)
    assert (below <= above).all()
    assume(ranges.largest((below, above)).max() < 1e100)
    x, u = between(below, above, 200, seed=seed), between(low, high, 200, seed=seed + 7)
    slack = 1e-15 * torch.maximum(below.abs(), above.abs())  # of the step's own rounding
    for _ in range(5):
        x = cell.step(x, u)
        assert (x >= below - slack).all()
        assert (x <= above + slack).all()


@pytest.mark.parametrize("name", BOXED)
@settings(max_examples=3, deadline=None)
@given(seed=seeds, scale=st.sampled_from([0.05, 0.3]), width=st.sampled_from([0.0, 1.0]))
def test_orbits_from_afar_end_in_the_box(name, seed, scale, width):
    cell = make(name, seed, scale)
    low, high = input_box(width, seed)
    below, above = cell.bounds(low, high)
    x, outside = 5 * draw(20, 2, cell.state_size, seed=seed), []
    for u in between(low, high, 300, 20, seed=seed):
        x = cell.step(x, u)
        outside.append(torch.maximum(below - x, x - above).clamp(min=0))
    # where a gate is all but shut a unit comes closer by next to nothing in a step, and keeps others from it
    last, before = outside[-1].amax(-1), outside[150].amax(-1)
    assert (last <= 1e-6 + torch.where(before > 2, before * (1 - 1e-12), 2)).all()
    assert (outside[-1] <= 1e-6).double().mean() > 0.9


def test_boxes_by_hand():
    one = torch.ones(1).double()
    elman = Elman(1, 1).double()
    lstm = LSTM(1, 1).double()
    gru = GRU(1, 1).double()
    with torch.no_grad():
        for parameter in (*elman.parameters(), *lstm.parameters(), *gru.parameters()):
            parameter.zero_()
        elman.weight_ih[:] = 2.0
        elman.bias_hh[:] = 1.0
        lstm.bias_ih[:] = torch.tensor([0.0, 0.0, 30.0, 0.0])
        gru.W[2] = 1.0
    low, high = elman.bounds(0 * one, one)
    assert (low.item(), high.item()) == pytest.approx((one.tanh().item(), (3 * one).tanh().item()), rel=1e-11)
    # i = f = o = 1/2 and g = 1: c = (1/2) / (1 - 1/2) = 1 and h = tanh(1) / 2
    low, high = lstm.bounds(one, one)
    for side in (low, high):
        assert side.tolist() == pytest.approx([0.5 * one.tanh().item(), 1.0], rel=1e-11)
    low, high = gru.bounds(-one, 2 * one)
    assert (low.item(), high.item()) == pytest.approx(
        (-one.tanh().item(), (2 * one).tanh().item()), rel=1e-11
    )
    assert Elman(1, 1, nonlinearity="relu").bounds(one, one) is None
    assert Orthogonal(1, 1).bounds(one, one) is None
    assert Stack([Orthogonal(1, 1), LSTM(1, 1)]).bounds(one, one) is None


def test_a_range_of_inputs_holds_its_parts():
    for name in BOXED:
        cell, centre = make(name, scale=0.7), draw(INPUT)
        low, high = cell.bounds(centre - 1, centre + 1)
        for u in (centre - 1, centre + 0.3):
            inner_low, inner_high = cell.bounds(u, u)
            assert (low <= inner_low + 1e-9).all()
            assert (inner_high <= high + 1e-9).all()
            assert cell.lipschitz(u, u) <= cell.lipschitz(centre - 1, centre + 1) * (1 + 1e-6)


@pytest.mark.parametrize("name", BOXED + EVERYWHERE)
@settings(max_examples=15, deadline=None)
@given(seed=seeds, scale=scales, width=widths)
def test_no_step_stretches_by_more_than_the_bound(name, seed, scale, width):
    cell = make(name, seed, scale)
    for part in cell.modules():
        if isinstance(part, Orthogonal):
            part.b.abs_().neg_()
    low, high = input_box(width, seed)
    box, upper = cell.bounds(low, high), cell.lipschitz(low, high)
    assert upper.shape == (2,)
    assert not upper.isnan().any()
    assume(box is None or ranges.largest(box).max() < 1e100)
    far = torch.full((2, cell.state_size), 10.0).double()
    x = between(*(box or (-far, far)), 100, seed=seed)
    u = between(low, high, 100, seed=seed + 7)
    stretch = torch.linalg.matrix_norm(cell.jacobian(x, u), 2).amax(0)
    assert (stretch <= upper).all()
    near = (between(*(box or (-far, far)), 100, seed=seed + 9), x + 1e-3 * draw(*x.shape, seed=seed))
    for other in near:
        other = other if box is None else other.clamp(*box)
        moved = torch.linalg.vector_norm(cell.step(x, u) - cell.step(other, u), dim=-1)
        apart = torch.linalg.vector_norm(x - other, dim=-1)
        rounding = 1e-14 * (1 + x.abs().amax(-1) + other.abs().amax(-1))
        assert (moved <= upper * apart + rounding).all()
    # and inputs
    by_input = cell.gains(low, high, box)[1]
    eye = torch.eye(INPUT).double().expand(*u.shape, INPUT)
    of_u = pushforward(lambda u: cell.step(x, u), (u,), (eye,))[1]
    assert (torch.linalg.matrix_norm(of_u, 2).amax(0) <= by_input).all()


def test_lipschitz_constants_by_hand():
    zero = torch.zeros(1).double()
    for w in (0.3, -1.0, 2.5):
        cell = Elman(1, 1).double()
        with torch.no_grad():
            for parameter in cell.parameters():
                parameter.zero_()
            cell.weight_hh[:] = w
        assert cell.lipschitz(zero, zero).item() == pytest.approx(abs(w), rel=1e-12, abs=0)
    # a rotation keeps distances; where b is above zero modReLU jumps
    cell = make("ornn")
    cell.b.abs_().neg_()
    u = draw(INPUT)
    assert cell.lipschitz(u, u).item() == pytest.approx(1, abs=2e-12)
    cell.b[1] = 0.1
    assert cell.lipschitz(u, u).item() == float("inf")
    # an LSTM without weights: the cell is halved, and h = tanh(c') / 2
    cell = LSTM(1, 1).double()
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.zero_()
    assert cell.lipschitz(zero, zero).item() == pytest.approx(0.5 * (1 + 0.25) ** 0.5, rel=1e-11)
    # a GRU without: the state is halved
    for reset in ("before", "after"):
        cell = GRU(1, 1, reset=reset).double()
        with torch.no_grad():
            for parameter in cell.parameters():
                parameter.zero_()
        assert cell.lipschitz(zero, zero).item() == pytest.approx(0.5, rel=1e-11)


def test_where_no_bound_is_known():
    u = draw(INPUT)
    assert make("own").lipschitz(u, u) is None
    assert make("lstm on own on gru").lipschitz(u, u) is None
    assert make("lstm on own on gru").bounds(u, u) is None
    # the orthogonal layer has no box, and without one the derivative of a GRU has no bound
    mixed = Stack([Orthogonal(INPUT, 3), GRU(3, 2)]).double()
    assert mixed.lipschitz(u, u) is None


def test_slopes_are_taken_where_they_are_steepest():
    box = torch.tensor([-3.0, 1.0, -2.0]).double(), torch.tensor([-1.0, 2.0, 5.0]).double()
    a = torch.linspace(0, 1, 1001).double()[:, None] * (box[1] - box[0]) + box[0]
    torch.testing.assert_close(ranges.tanh_slope(box), (1 - a.tanh() ** 2).amax(0), rtol=1e-5, atol=0)
    slope = a.sigmoid() * (1 - a.sigmoid())
    torch.testing.assert_close(ranges.sigmoid_slope(box), slope.amax(0), rtol=1e-5, atol=0)
    assert (ranges.sigmoid_slope(box) >= slope.amax(0)).all()
