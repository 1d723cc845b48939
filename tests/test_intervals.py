"""Interval arithmetic holds what it promises: exact arithmetic and high precision are the judges."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import partial

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from rnnlab import maps
from rnnlab.autonomous import HeldInput, freeze
from rnnlab.cells import GRU, LSTM, Elman, Orthogonal, Stack
from rnnlab.intervals import ULPS, UNIT, Interval, as_interval, differentiate
from rnnlab.model import RecurrentModel
from rnnlab.systems import Flow, Iterated, law

numbers = st.one_of(
    st.floats(-1e6, 1e6),
    st.integers(-5, 5).map(float),
    st.floats(-1e-300, 1e-300),  # subnormal numbers and underflow
    st.sampled_from([0.1, 1 / 3, 2.0**-53, 1 + 2.0**-52]),
)
pairs = st.tuples(numbers, numbers).map(sorted)


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def interval(ends) -> Interval:
    return Interval(tensor(ends[0]), tensor(ends[1]))


def inside(exact: Fraction, found: Interval) -> bool:
    low, high = found.low.item(), found.high.item()
    return (low == -math.inf or Fraction(low) <= exact) and (high == math.inf or exact <= Fraction(high))


def corners(*ends):
    """Exact points of a box: the corners and the middle."""
    points = [[]]
    for low, high in ends:
        low, high = Fraction(low), Fraction(high)
        points = [[*point, value] for point in points for value in (low, high, (low + high) / 2)]
    return points


@given(pairs, pairs)
def test_arithmetic_holds_the_exact_results(first, second):
    a, b = interval(first), interval(second)
    quotient = a / b
    for x, y in corners(first, second):
        assert inside(x + y, a + b)
        assert inside(x - y, a - b)
        assert inside(x * y, a * b)
        assert inside(-x, -a)
        assert inside(abs(x), abs(a))
        assert inside(max(x, y), torch.maximum(a, b))
        assert inside(min(x, y), torch.minimum(a, b))
        if second[0] > 1e-300 or second[1] < -1e-300:  # else 1 / y may overflow, and nothing is said
            assert inside(x / y, quotient)
    if second[0] <= 0 <= second[1]:  # nothing is said
        assert math.isnan(quotient.low.item())
        assert math.isnan(quotient.high.item())


@given(pairs, numbers)
def test_arithmetic_with_numbers_and_tensors_on_either_side(ends, number):
    a, exact = interval(ends), Fraction(number)
    for x in map(Fraction, ends):
        for other in (number, tensor(number)):
            assert inside(x + exact, a + other)
            assert inside(exact + x, other + a)
            assert inside(x - exact, a - other)
            assert inside(exact - x, other - a)
            assert inside(x * exact, a * other)
            assert inside(exact * x, other * a)
            assert inside(x + (exact - x) / 4, torch.lerp(a, as_interval(tensor(number)), 0.25))
            if abs(number) > 1e-300:
                assert inside(x / exact, a / other)
            if ends[0] > 1e-300 or ends[1] < -1e-300:
                assert inside(exact / x, other / a)


@given(st.tuples(st.floats(-50, 50), st.floats(-50, 50)).map(sorted), st.integers(1, 6))
def test_powers_hold_the_exact_results_and_are_tight(ends, n):
    found = interval(ends) ** n
    exact = [Fraction(end) ** n for end in ends] + [Fraction(0)] * (ends[0] <= 0 <= ends[1])
    assert all(inside(value, found) for value in exact)
    slack = 1e-14 * max(map(abs, exact)) + Fraction(1, 10**300)
    assert Fraction(found.low.item()) >= min(exact) - slack
    assert Fraction(found.high.item()) <= max(exact) + slack
    if ends[0] > 1e-3:
        inverse = interval(ends) ** -n
        assert all(inside(1 / Fraction(end) ** n, inverse) for end in ends)


@given(st.lists(pairs, min_size=3, max_size=3), st.lists(numbers, min_size=6, max_size=6))
def test_products_with_weights_hold_the_exact_results(ends, entries):
    low, high = tensor(*(end[0] for end in ends)), tensor(*(end[1] for end in ends))
    x, weight = Interval(low, high), tensor(*entries).view(2, 3)
    rows = [[Fraction(value) for value in row] for row in weight.tolist()]
    for found in (
        F.linear(x, weight),
        weight @ x,
        x @ weight.mT,
        (weight @ x.unsqueeze(-1)).squeeze(-1),
        (weight * x).sum(-1),
    ):
        assert found.shape == (2,)
        for point in corners(*ends):
            for k, row in enumerate(rows):
                exact = sum(w * v for w, v in zip(row, point, strict=True))
                assert Fraction(found[k].low.item()) <= exact <= Fraction(found[k].high.item())


def test_products_that_underflow_are_not_lost():
    found = F.linear(Interval(tensor(0.0), tensor(1e-301)), tensor(1e-138)[None])
    assert found.high.item() > 0
    tiny = Interval(tensor(1e-200), tensor(1e-200))
    for found in (tiny * tiny, tiny**2, F.linear(tiny, tensor(1e-200)[None])):
        assert found.low.item() <= 0 < found.high.item()


def test_products_with_weights_are_tight():
    weight = torch.randn(5, 4, dtype=torch.float64)
    low = torch.randn(7, 4, dtype=torch.float64)
    high = low + torch.rand(7, 4, dtype=torch.float64)
    found = F.linear(Interval(low, high), weight)
    best = torch.where(weight > 0, low[:, None], high[:, None]).mul(weight).sum(-1)
    assert torch.allclose(found.low, best, rtol=0, atol=1e-13)


def logistic(mp, x):
    return 1 / (1 + mp.exp(-x))


FUNCTIONS = {  # torch's function, the truth and its derivative in high precision, a range
    "sigmoid": (torch.sigmoid, logistic, lambda mp, x: logistic(mp, x) * logistic(mp, -x), (-600, 600)),
    "tanh": (torch.tanh, lambda mp, x: mp.tanh(x), lambda mp, x: 1 / mp.cosh(x) ** 2, (-30, 30)),
    "exp": (torch.exp, lambda mp, x: mp.exp(x), lambda mp, x: mp.exp(x), (-600, 600)),
    "log": (torch.log, lambda mp, x: mp.log(x), lambda mp, x: 1 / x, (1e-12, 1e6)),
    "sin": (torch.sin, lambda mp, x: mp.sin(x), lambda mp, x: mp.cos(x), (-1e4, 1e4)),
    "cos": (torch.cos, lambda mp, x: mp.cos(x), lambda mp, x: -mp.sin(x), (-1e4, 1e4)),
    "sqrt": (torch.sqrt, lambda mp, x: mp.sqrt(x), lambda mp, x: 1 / (2 * mp.sqrt(x)), (1e-12, 1e6)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e-9])
def test_elementary_functions_of_torch_are_as_accurate_as_is_assumed(name, scale):
    mpmath = pytest.importorskip("mpmath")
    function, truth, _, (low, high) = FUNCTIONS[name]
    x = low * scale + (high - low) * scale * torch.rand(2000, dtype=torch.float64)
    # vectorised code treats the last entries, those beyond a multiple of its width, in another way
    for values in (x, x[:3]):
        found = function(values)
        with mpmath.workdps(60):
            for point, value in zip(values.tolist(), found.tolist(), strict=True):
                exact = truth(mpmath, mpmath.mpf(point))
                assert abs(value - exact) <= 4 * UNIT * abs(exact)  # half of what it is widened by
    assert ULPS == 8 * UNIT


@pytest.mark.parametrize("name", FUNCTIONS)
def test_elementary_functions_hold_the_exact_results(name):
    mpmath = pytest.importorskip("mpmath")
    function, truth, derivative, limits = FUNCTIONS[name]
    low = limits[0] + (limits[1] - limits[0]) * torch.rand(300, dtype=torch.float64)
    low[:100] *= 0.01
    low = low.clamp(min=limits[0])
    width = 10.0 ** (8 * torch.rand(300, dtype=torch.float64) - 7)
    value, slope = differentiate(function, low[:, None], (low + width)[:, None])
    for share in (0.0, 0.3, 0.7, 1.0):
        points = torch.minimum(low + share * width, low + width)
        with mpmath.workdps(60):
            for k, point in enumerate(points.tolist()):
                point = mpmath.mpf(point)
                assert value.low[k].item() <= truth(mpmath, point) <= value.high[k].item()
                assert slope.low[k].item() <= derivative(mpmath, point) <= slope.high[k].item()


def test_waves_know_their_crests():
    found = torch.sin(Interval(tensor(1.0, 4.0, 7.0, 0.0), tensor(2.0, 5.0, 7.5, 100.0)))
    assert found.high.tolist()[0] == 1
    assert found.low.tolist()[1] == -1
    assert found.high[2] < 0.95
    assert (found.low[3], found.high[3]) == (-1, 1)
    found = torch.cos(Interval(tensor(-1.0, 3.0), tensor(1.0, 3.5)))
    assert found.high[0] == 1
    assert found.low[1] == -1
    assert found.high[1] < -0.9


def smooth(x):
    first, second = x.unbind(-1)
    return torch.stack(
        (
            torch.tanh(2 * first - second) * torch.sigmoid(second),
            torch.sin(first * second) / (1 + first**2),
            torch.exp(-(second**2)) + first**3,
            torch.sqrt(2 + torch.cos(first)) - torch.log(3 + second * second),
        ),
        -1,
    )


def bent(x):
    first, second = x.unbind(-1)
    return torch.stack(
        (
            torch.relu(first - second) * second,
            torch.abs(first) * torch.clamp(second, -0.5, 0.5),
            torch.maximum(first, second) - torch.minimum(2 * first, second.abs()),
        ),
        -1,
    )


small = st.tuples(st.floats(-2, 2), st.floats(0, 1.5)).map(lambda t: (t[0], t[0] + t[1]))
shares = st.floats(0, 1)


@given(small, small, shares, shares, shares, shares)
def test_values_and_mean_slopes_lie_within(first, second, s, t, u, v):
    low, high = tensor(first[0], second[0]), tensor(first[1], second[1])
    p = torch.lerp(low, high, tensor(s, t)).clamp(low, high)
    q = torch.lerp(low, high, tensor(u, v)).clamp(low, high)
    for function in (smooth, bent):
        value, slope = differentiate(function, low, high)
        f, g = function(p), function(q)
        assert bool(((value.low <= f + 1e-14) & (f - 1e-14 <= value.high)).all())
        # the mean value theorem, kinks included: f(p) - f(q) is in the slopes times p - q
        change = (slope * (p - q)).sum(-1)
        assert bool(((change.low <= f - g + 1e-13) & (f - g - 1e-13 <= change.high)).all())


@given(small, small, shares, shares)
def test_derivatives_lie_within(first, second, s, t):
    low, high = tensor(first[0], second[0]), tensor(first[1], second[1])
    point = torch.lerp(low, high, tensor(s, t)).clamp(low, high)
    slope = differentiate(smooth, low, high)[1]
    exact = torch.func.jacrev(smooth)(point)
    assert bool(((slope.low <= exact + 1e-13) & (exact - 1e-13 <= slope.high)).all())


@given(small, small, shares, shares)
def test_smaller_boxes_have_smaller_images(first, second, s, t):
    low, high = tensor(first[0], second[0]), tensor(first[1], second[1])
    inner = torch.lerp(low, high, tensor(s, t) / 2).clamp(low, high)
    for function in (smooth, bent):
        outer, part = differentiate(function, low, high), differentiate(function, inner, high)
        for whole, some in zip(outer, part, strict=True):
            assert bool(((whole.low <= some.low + 1e-14) & (some.high <= whole.high + 1e-14)).all())


@pytest.mark.parametrize("width", [1e-2, 1e-4, 1e-8])
def test_the_excess_shrinks_with_the_box(width):
    center = torch.rand(50, 2, dtype=torch.float64)
    value, slope = differentiate(smooth, center - width, center + width)
    assert float((value.high - value.low).max()) < 60 * width
    assert float((slope.high - slope.low).max()) < 300 * width


def network(cell, size: int) -> HeldInput:
    model = RecurrentModel(2, 1, partial(cell, hidden_size=size))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    return HeldInput(freeze(model), torch.randn(2, dtype=torch.float64))


def stack() -> HeldInput:
    model = RecurrentModel(2, 1, partial(GRU, hidden_size=2), num_layers=1)
    model.cell = Stack([GRU(2, 2), LSTM(2, 2), Elman(2, 1)])
    return HeldInput(freeze(model), torch.randn(2, dtype=torch.float64))


SYSTEMS = {
    "elman": (lambda: network(Elman, 3), 3),
    "relu": (lambda: network(partial(Elman, nonlinearity="relu"), 3), 3),
    "gru before": (lambda: network(partial(GRU, reset="before"), 3), 3),
    "gru after": (lambda: network(partial(GRU, reset="after"), 3), 3),
    "lstm": (lambda: network(LSTM, 2), 4),
    "lstm reduced": (lambda: network(LSTM, 3).reduced(), 3),
    "orthogonal": (lambda: network(Orthogonal, 3), 3),
    "stack": (stack, 7),
    "linear": (lambda: maps.Linear(torch.randn(3, 3)), 3),
    "logistic": (lambda: maps.Logistic(3.9), 1),
    "henon": (maps.Henon, 2),
    "twice henon": (lambda: Iterated(maps.Henon(), 2), 2),
    "cat": (maps.CatMap, 2),
    "tanh": (lambda: maps.TanhMap(2.0, 0.1), 1),
    "neimark-sacker": (lambda: maps.NeimarkSacker(0.1, 1.0), 2),
    "delayed logistic": (lambda: maps.DelayedLogistic(2.1), 2),
    "cube roots": (maps.CubeRoots, 2),
    "lorenz": (maps.Lorenz, 3),
    "lorenz flow": (lambda: Flow(maps.Lorenz(), 0.01), 3),
    "hopf": (lambda: maps.Hopf(0.5, 1.0), 2),
}


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize("width", [0.0, 1e-3, 0.2])
def test_it_runs_on_the_code_of_every_system(name, width):
    make, size = SYSTEMS[name]
    rule = law(make())
    low = 0.1 + torch.rand(40, size, dtype=torch.float64)
    value, slope = differentiate(rule, low, low + width)
    assert value.shape == (40, size)
    assert slope.shape == (40, size, size)
    for share in (0.0, 0.5, 1.0):
        point = low + share * width * torch.rand_like(low)
        exact = rule(point)
        derivative = torch.func.vmap(torch.func.jacrev(rule))(point)
        room = 1e-14 * (1 + exact.abs())
        assert bool((value.low <= exact + room).all() & (exact - room <= value.high).all())
        room = 1e-13 * (1 + derivative.abs())
        # NaN means that nothing is known, here at the jump of the orthogonal cell
        assert not bool((slope.low > derivative + room).any() | (derivative - room > slope.high).any())
    if name != "orthogonal":
        assert not bool(slope.low.isnan().any())
    if not width:
        assert float((value.high - value.low).max()) < 1e-12


def test_derivatives_come_in_portions_too():
    rule = SYSTEMS["stack"][0]().step
    low = torch.rand(3, 7, dtype=torch.float64)
    whole, part = (differentiate(rule, low, low + 0.1, columns=n) for n in (None, 2))
    assert torch.equal(whole[1].low, part[1].low)
    assert torch.equal(whole[0].high, part[0].high)
    constant = differentiate(lambda x: torch.ones_like(x), low, low)
    assert torch.equal(constant[1].high, torch.zeros(3, 7, 7, dtype=torch.float64))


ARRANGEMENTS = [
    lambda x: x.chunk(2, -1)[1],
    lambda x: x.split([1, 3], dim=1)[1],
    lambda x: x.unbind(0)[2],
    lambda x: torch.stack((x, x), 0),
    lambda x: torch.stack(
        (x, 2 * torch.ones_like(x.low)) if isinstance(x, Interval) else (x, 2 * torch.ones_like(x)), -1
    ),
    lambda x: torch.cat((x, x[:, :1]), 1),
    lambda x: x.reshape(2, 6),
    lambda x: x.flatten(),
    lambda x: x.unflatten(-1, (2, 2)),
    lambda x: x[None].expand(5, 3, 4),
    lambda x: x.unsqueeze(1).squeeze(1),
    lambda x: x[..., 1:3],
    lambda x: x[:, [2, 0]],
    lambda x: x[[2, 0], :, None],
    lambda x: x.transpose(0, 1),
    lambda x: x.mT,
    lambda x: x.permute(1, 0),
    lambda x: torch.movedim(x, 0, -1),
    lambda x: x.flip(0).roll(1, -1),
    lambda x: x.sum(0, keepdim=True),
    lambda x: x.sum(),
    lambda x: x.mean((0, 1)),
    lambda x: x[0] * x,
    lambda x: x[:, :1] + x[0],
    lambda x: x @ torch.arange(8.0).double().view(4, 2),
    lambda x: torch.arange(6.0).double().view(2, 3) @ x,
    lambda x: torch.arange(3.0).double() @ x,
    lambda x: torch.arange(24.0).double().view(2, 4, 3) @ x,
]


@pytest.mark.parametrize("number", range(len(ARRANGEMENTS)))
def test_entries_are_moved_about_as_torch_does(number):
    arrange = ARRANGEMENTS[number]
    low = torch.randn(3, 4, dtype=torch.float64)
    seeds = torch.randn(5, 3, 4, dtype=torch.float64)
    found = arrange(Interval(low, low, Interval(seeds, seeds)))
    exact = arrange(low)
    assert found.shape == exact.shape
    assert torch.allclose(found.low, exact)
    assert torch.allclose(found.high, exact)
    for k, seed in enumerate(seeds):
        derivative = torch.func.jvp(arrange, (low,), (seed,))[1]
        assert torch.allclose(found.slope.low[k], derivative)
        assert torch.allclose(found.slope.high[k], derivative)


def test_kinks_have_the_slopes_of_both_sides_and_jumps_none():
    low, high = tensor(-1.0, 1.0, -2.0)[:, None], tensor(1.0, 2.0, -1.0)[:, None]

    def slopes(function):
        found = differentiate(function, low, high)[1]
        ends = torch.cat((found.low, found.high), -1)[:, 0]
        return [tuple(pair) for pair in ends.round(decimals=12).tolist()]

    assert slopes(torch.relu) == [(0, 1), (1, 1), (0, 0)]
    assert slopes(torch.abs) == [(-1, 1), (1, 1), (-1, -1)]
    assert slopes(lambda x: x.clamp(-1.5, 0.5)) == [(0, 1), (0, 0), (0, 1)]
    jump = slopes(torch.sign)
    assert jump[1:] == [(0, 0), (0, 0)]
    assert not any(map(math.isfinite, jump[0]))
    assert not math.isfinite(slopes(lambda x: x % 1)[0][1])


def test_what_is_not_defined_is_never_certain():
    x = Interval(tensor(-1.0, 0.0), tensor(1.0, 1.0))
    for found in (torch.log(x)[0], torch.sqrt(x)[0], torch.tanh(torch.log(x))[0]):
        assert found.low.isnan()
        assert found.high.isnan()
    assert (1 / x).low.isnan().all()
    assert (0 / x).high.isnan().all()
    lost = torch.sign(x) * 0.0  # zero times a jump is nothing; zero times nothing known is not known
    assert lost.low.tolist() == [0, 0]
    assert (torch.log(x)[0] * 0.0).low.isnan()


def test_the_whole_space_is_a_box():
    weight = torch.tensor([[1.0, -2.0], [0.0, 3.0]]).double()
    ends = torch.full((2,), math.inf, dtype=torch.float64)
    value, slope = differentiate(lambda x: torch.tanh(F.linear(x, weight)), -ends, ends)
    assert value.low.tolist() == [-1, -1]
    assert value.high.tolist() == [1, 1]
    assert torch.allclose(slope.high, weight.clamp(min=0))
    assert torch.allclose(slope.low, weight.clamp(max=0))
    assert slope.high[1, 0].abs() < 1e-200


@pytest.mark.parametrize(
    ("name", "use"),
    [
        ("erf", torch.erf),
        ("erf", lambda x: x.erf()),
        ("gelu", F.gelu),
        ("add_", lambda x: x.add_(1)),
        ("gt", lambda x: x > 0),
        ("where", lambda x: torch.where(torch.tensor([True]), x, x)),
        ("amax", lambda x: x.amax(-1)),
    ],
)
def test_what_it_does_not_know_is_refused_by_name(name, use):
    with pytest.raises(
        TypeError, match=rf"^torch\.{name} is not known to interval arithmetic: known are abs,"
    ) as error:
        use(interval((0.0, 1.0)))
    assert "\n" not in str(error.value)


def test_other_refusals():
    x = interval((0.0, 1.0))
    with pytest.raises(TypeError, match="neither true nor false"):
        bool(x)
    with pytest.raises(TypeError, match=r"float64 alone, not in torch\.float32"):
        x.to(torch.float32)
    with pytest.raises(TypeError, match="two interval matrices"):
        x @ x
    with pytest.raises(TypeError, match=r"a power of 0\.5"):
        x**0.5
    with pytest.raises(TypeError, match="a remainder by -1"):
        x % -1
    with pytest.raises(ValueError, match=r"float64 of one shape"):
        Interval(torch.zeros(2), torch.zeros(2))
    with pytest.raises(ValueError, match=r"shapes \(1,\), \(2,\)"):
        Interval(tensor(0.0), tensor(0.0, 0.0))


def test_weights_that_want_gradients_are_left_alone():
    layer = nn.Linear(2, 2).double()
    found = layer(Interval(torch.zeros(2).double(), torch.ones(2).double()))
    assert not found.low.requires_grad
    assert layer.weight.requires_grad
    assert layer.weight.grad is None


@given(numbers, numbers)
def test_rounding_goes_outward(a, b):
    exact = Fraction(a) + Fraction(b)
    found = as_interval(tensor(a)) + b
    assume(exact != Fraction(a + b))
    # the bounds are apart and the exact sum is strictly between
    assert Fraction(found.low.item()) < exact < Fraction(found.high.item())
