import copy
import math
from functools import partial

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.func import jacfwd, vmap

from rnnlab.analysis.contraction import contraction
from rnnlab.autonomous import HeldInput
from rnnlab.cells import StableLSTM
from rnnlab.cells.stable_lstm import level
from rnnlab.model import RecurrentModel

SEEDS = st.integers(0, 2**31)
SCALES = st.sampled_from([1e-3, 0.03, 0.3, 1.0, 10.0, 1e3, 1e6])
BOUNDS = st.sampled_from([0.0, 0.1, 1.0, 20.0])
NORMS = st.sampled_from([1, math.inf])
NAMES = ("weight_hh", "weight_ih", "bias_ih", "bias_hh")


def random_cell(
    seed, scale, input_bound=1.0, dtype=torch.float64, hidden_size=5, input_norm=math.inf, **options
):
    generator = torch.Generator().manual_seed(seed)
    cell = StableLSTM(3, hidden_size, **options).to(dtype)
    cell.input_bound, cell.input_norm = input_bound, input_norm
    for parameter in cell.parameters():
        # some rows much larger than others, so that inside and outside meet in one matrix
        rows = torch.rand(len(parameter), *[1] * (parameter.dim() - 1), generator=generator).to(dtype)
        parameter.data = scale * rows * torch.randn(parameter.shape, generator=generator).to(dtype)
    return cell


def one_unit(w=(0.0,) * 4, u=(0.0,) * 4, b=(0.0,) * 4, **options):
    """One unit with one input; entries in the gate order i, f, g, o."""
    cell = StableLSTM(1, 1, **options).double()
    cell.weight_hh.data = torch.tensor(w, dtype=torch.float64)[:, None]
    cell.weight_ih.data = torch.tensor(u, dtype=torch.float64)[:, None]
    cell.bias_ih.data = torch.tensor(b, dtype=torch.float64)
    cell.bias_hh.data = torch.zeros(4, dtype=torch.float64)
    return cell


def forget_rows(cell):
    n = cell.output_size
    return [getattr(cell, name).detach()[n : 2 * n].clone() for name in NAMES]


def forget_bound(cell):
    """Largest value a forget gate can take."""
    w, u, b, c = forget_rows(cell)
    # the largest of linear functions of the input, at a corner of its set
    drive = (corners(cell) @ u.mT).amax(0)
    return torch.sigmoid((w.abs().sum(1) + drive + b + c).max())


def corners(cell):
    """Of the set of inputs, a cube or its dual, `(corner, input)`."""
    n, like = cell.input_size, cell.weight_ih
    if cell.input_norm == 1:
        units = torch.cat([torch.eye(n), -torch.eye(n)])
    else:
        units = torch.cartesian_prod(*n * [torch.tensor([-1.0, 1.0])]).view(-1, n)
    return cell.input_bound * units.to(like)


def rates(cell, h, c, u):
    """How much one step stretches at each point, in the max norm of (dh, dc)."""
    jacobians = vmap(jacfwd(cell.step))(torch.cat([h, c], dim=-1), u)
    return jacobians.abs().sum(dim=-1).amax(dim=-1)


# level


@given(SEEDS, st.integers(1, 6), st.sampled_from([0.0, 2.0]))
@settings(deadline=None)
def test_level_is_the_root(seed, columns, slope):
    generator = torch.Generator().manual_seed(seed)
    draw = partial(torch.rand, generator=generator, dtype=torch.float64)
    a, weight = 10 ** (4 * draw(20, columns) - 2), 3 * draw(columns)
    bound, offset = 0.1 + draw(20), slope * (draw(20) - 0.5)
    if slope:
        bound = bound - 2

    def excess(t):
        return (weight * (a - weight * t[:, None]).clamp(min=0)).sum(1) + offset - slope * t - bound

    t = level(a, bound, weight=weight, offset=offset, slope=slope)
    low, high = torch.zeros(20, dtype=torch.float64), torch.full((20,), 1e9, dtype=torch.float64)
    for _ in range(120):
        middle = (low + high) / 2
        above = excess(middle) > 0
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    expected = torch.where(excess(torch.zeros_like(t)) <= 0, 0.0, high)
    torch.testing.assert_close(t, expected, rtol=1e-9, atol=1e-9)


# the projection


@given(SEEDS, SCALES, BOUNDS, NORMS, st.sampled_from([torch.float32, torch.float64]))
@settings(deadline=None)
def test_projection_certifies_and_is_idempotent(seed, scale, input_bound, input_norm, dtype):
    if dtype == torch.float32:
        scale = min(scale, 1e3)
    cell = random_cell(seed, scale, input_bound, dtype, input_norm=input_norm)
    cell.constrain()
    assert 0 < cell.certificates()["contraction"] <= 1 - cell.margin + 1e-4
    once = copy.deepcopy(cell.state_dict())
    cell.constrain()
    assert all(torch.equal(once[name], value) for name, value in cell.state_dict().items())


@given(SEEDS, st.floats(0.05, 0.95), st.sampled_from([1e-4, 0.01, 0.3]))
@settings(deadline=None)
def test_projection_with_other_options(seed, bound, margin):
    cell = random_cell(seed, 1.0, forget_bound=bound, margin=margin)
    cell.constrain()
    assert cell.certificates()["contraction"] <= 1 - margin + 1e-5
    assert forget_bound(cell) <= (1 - margin) * bound + 1e-5


def test_rows_inside_stay_as_they_are():
    cell = random_cell(0, 1.0, hidden_size=20)
    before = {name: value.clone() for name, value in cell.state_dict().items()}
    r, f = 1 - cell.margin, cell.forget_bound
    norms = before["weight_hh"].abs().sum(1).chunk(4)
    for gate, radius in ((0, 1 - f), (2, (1 - f) / 4), (3, 1 - f)):
        before["weight_hh"][20 * gate : 20 * gate + 5] *= 0.999 * r * radius / norms[gate].max()
    before["weight_hh"][20:25] *= 0.99 * r * (1 - f) ** 2 / norms[1].max()
    before["bias_hh"][20:25] = -100.0
    cell.load_state_dict(before)
    cell.constrain()
    after = cell.state_dict()
    for gate in range(4):
        rows = slice(20 * gate, 20 * gate + 5)
        assert all(torch.equal(after[name][rows], before[name][rows]) for name in before)
        assert not torch.equal(
            after["weight_hh"][rows.stop : rows.stop + 15], before["weight_hh"][rows.stop :][:15]
        )
    # only the recurrent rows of the other gates are bounded
    for name in ("weight_ih", "bias_ih", "bias_hh"):
        for gate in (0, 2, 3):
            assert torch.equal(after[name].chunk(4)[gate], before[name].chunk(4)[gate])


def ball_by_sorting(v, radius):
    """Nearest point of the l1 ball, one row, by sorting (Duchi et al. 2008)."""
    if v.abs().sum() <= radius:
        return v
    s = v.abs().sort(descending=True).values
    counts = torch.arange(1, len(s) + 1)
    thresholds = (s.cumsum(0) - radius) / counts
    t = thresholds[s > thresholds][-1]
    return v.sign() * (v.abs() - t).clamp(min=0)


@pytest.mark.parametrize("scale", [0.1, 1.0, 100.0])
def test_rows_go_to_the_nearest_point_of_the_ball(scale):
    cell = random_cell(1, scale, hidden_size=8)
    before = cell.weight_hh.detach().clone().chunk(4)
    cell.constrain()
    r, f = 1 - cell.margin, cell.forget_bound
    for gate, radius in ((0, r * (1 - f)), (2, r * (1 - f) / 4), (3, r * (1 - f))):
        expected = torch.stack([ball_by_sorting(row, radius) for row in before[gate]])
        torch.testing.assert_close(cell.weight_hh.detach().chunk(4)[gate], expected, rtol=1e-5, atol=1e-6)


@given(SEEDS, st.sampled_from([0.1, 1.0, 5.0]), st.sampled_from([0.3, 1.0, 3.0]), NORMS)
@settings(deadline=None, max_examples=80)
def test_forget_rows_go_to_the_nearest_point(seed, scale, input_bound, input_norm):
    """p is the nearest point of a convex set to x exactly if (x - p) . (y - p) <= 0 for all y of the set."""
    cell = random_cell(seed, scale, input_bound, input_norm=input_norm)
    before = torch.cat([part.view(5, -1) for part in forget_rows(cell)], dim=1)
    cell.constrain()
    nearest = torch.cat([part.view(5, -1) for part in forget_rows(cell)], dim=1)

    n, count = cell.output_size, 3000
    share, f = 1 - cell.margin, cell.forget_bound
    radius, bound = share * (1 - f) ** 2, torch.logit(torch.tensor(share * f, dtype=torch.float64))
    generator = torch.Generator().manual_seed(seed)
    draw = partial(torch.randn, generator=generator, dtype=torch.float64)
    size = 10 ** torch.linspace(-3, 2, count, dtype=torch.float64)[:, None]
    # sparse and dense points, on the boundary and inside, near the found point and far from it
    row = nearest[torch.arange(count) % n]
    far = torch.where(draw(count, row.shape[1]) > 0.5, 0.0, size * draw(count, row.shape[1]))
    y = torch.where(torch.arange(count)[:, None] % 2 == 0, row + 0.01 * far, far)
    w, u, b = y[:, :n], y[:, n : n + 3], y[:, n + 3 :]
    w = w * (radius / w.abs().sum(1, keepdim=True)).clamp(max=1.0)
    over = w.abs().sum(1) + (corners(cell) @ u.mT).amax(0) + b.sum(1) - bound
    on_boundary = torch.arange(count) % 3 > 0
    b = b - torch.where(on_boundary, over, over.clamp(min=0))[:, None] / 2
    y = torch.cat([w, u, b], dim=1)
    products = ((before - nearest)[:, None] * (y - nearest[:, None])).sum(-1)
    reach = 1 + (before - nearest).norm(dim=1)[:, None] * (y - nearest[:, None]).norm(dim=-1)
    assert (products <= 1e-5 * reach).all()


def test_model_is_certified_from_the_start_for_its_inputs():
    for bound in (0.3, 7.0):
        model = RecurrentModel(2, 1, partial(StableLSTM, hidden_size=30), num_layers=2, input_bound=bound)
        first, second = model.cell.certificates().values()
        assert first < 1
        assert second < 1
        u = model.cell.layers[0].weight_ih.detach().chunk(4)[1].abs().sum(1)
        assert bound * u.max() < 10
    options = {"num_layers": 2, "input_bound": 7.0, "input_norm": 1}
    first, second = RecurrentModel(2, 1, partial(StableLSTM, hidden_size=3), **options).cell.layers
    assert (first.input_bound, first.input_norm) == (7.0, 1)
    assert (second.input_bound, second.input_norm) == (1.0, math.inf)  # it sees h of the first


def test_one_hot_inputs_leave_more_room():
    def make(norm):
        torch.manual_seed(0)
        return RecurrentModel(8, 1, partial(StableLSTM, hidden_size=20), input_norm=norm).cell

    box, simplex = make(math.inf), make(1)
    start = StableLSTM(8, 20)
    moved = []
    for cell in (box, simplex):
        with torch.no_grad():
            for name, value in start.state_dict().items():
                getattr(cell, name).copy_(value)
        cell.constrain()
        assert cell.certificates()["contraction"] < 1
        pairs = zip(start.parameters(), cell.parameters(), strict=True)
        moved.append(sum((one - other).square().sum() for one, other in pairs).sqrt())
    assert moved[1] < moved[0]
    # what is in the larger set need not be in the smaller
    box.load_state_dict(simplex.state_dict())
    assert box.certificates()["contraction"] > 1


def test_interval_arithmetic_agrees_under_each_one_hot_input():
    torch.manual_seed(0)
    model = RecurrentModel(4, 1, partial(StableLSTM, hidden_size=6), input_norm=1).double()
    cell = model.cell
    with torch.no_grad():
        cell.weight_ih.mul_(5)
        cell.constrain()
    factor = cell.certificates()["contraction"]
    assert factor < 1
    for u in torch.eye(4, dtype=torch.float64):
        # from the box of states where orbits end, by intervals, without a word on the input's norm
        found = contraction(HeldInput(model, u), torch.zeros(1, 12, dtype=torch.float64))
        assert found.upper.sel(norm="inf").item() <= factor * (1 + 1e-9)
    # the four at once, any corner of the cube, are not covered
    cell.input_norm = math.inf
    assert cell.certificates()["contraction"] > 1


@pytest.mark.parametrize("norm", [0, 2, "l1", math.nan])
def test_other_norms_of_the_inputs_are_refused(norm):
    with pytest.raises(ValueError, match=r"input_norm=.* is not possible: give 1 or inf\."):
        RecurrentModel(1, 1, partial(StableLSTM, hidden_size=2), input_norm=norm)


def test_training_stays_where_all_orbits_meet():
    torch.manual_seed(3)
    cell = StableLSTM(1, 12).double()
    optimizer = torch.optim.Adam(cell.parameters(), lr=0.1)
    us = torch.rand(20, 4, 1, dtype=torch.float64) * 2 - 1
    for _ in range(15):
        optimizer.zero_grad()
        (-cell.scan(us, cell.initial_state(4))[1].square().sum()).backward()
        optimizer.step()
        broken = cell.certificates()["contraction"]
        cell.constrain()
    factor = cell.certificates()["contraction"]
    assert factor < 1 < broken  # the constraint had something to do
    x = 100 * torch.randn(50, 24, dtype=torch.float64)
    u = torch.full((1, 1), 0.7, dtype=torch.float64)
    spread = []
    with torch.no_grad():
        for _ in range(2000):
            x = cell.step(x, u)
            spread.append((x - x[0]).abs().max().item())
    start = next(n for n, size in enumerate(spread) if size < 1)  # by then |c| is within its bound
    steps = range(0, 200, 10)
    assert all(spread[start + n] <= 1.01 * factor**n + 1e-12 for n in steps)
    assert spread[-1] < 1e-12


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_constrain_ends_on_broken_weights(value):
    cell = StableLSTM(1, 6)
    with torch.no_grad():
        cell.weight_hh[0, 0] = cell.weight_hh[7, 2] = cell.weight_ih[8, 0] = value
    cell.constrain()
    assert not cell.certificates()["contraction"] < 1


# the certificate


@given(SEEDS, st.sampled_from([0.03, 0.2, 1.0, 3.0]), BOUNDS, NORMS, st.booleans())
@example(2274, 1.0, 20.0, math.inf, False)  # gates open to 1e-11
@settings(deadline=None, max_examples=100)
def test_no_step_stretches_more_than_the_certificate(seed, scale, input_bound, input_norm, projected):
    cell = random_cell(seed, scale, input_bound, input_norm=input_norm)
    if projected:
        cell.constrain()
    factor = cell.certificates()["contraction"]
    generator = torch.Generator().manual_seed(seed)
    draw = partial(torch.rand, generator=generator, dtype=torch.float64)
    count, n = 200, cell.output_size
    h, c, u = (2 * draw(count, size) - 1 for size in (n, n, 3))
    extreme = draw(count, 1) < 0.5
    h, c = (torch.where(extreme, part.sign(), part) for part in (h, c))
    shut = (1 - forget_bound(cell)).clamp(min=1e-12).item()
    c = c / shut
    rounding = 1 + 1e-12 + 1e-15 / shut  # of 1 - f, here and in the slope of a gate, f (1 - f)
    at = corners(cell)
    shares = (u @ torch.randn(3, len(at), generator=generator).double()).softmax(1)
    u = torch.where(extreme, at[torch.arange(count) % len(at)], shares @ at)
    assert (rates(cell, h, c, u) <= factor * rounding).all()
    x, other = torch.cat([h, c], 1), torch.cat([h, c], 1).roll(1, 0)
    with torch.no_grad():
        after = (cell.step(x, u) - cell.step(other, u)).abs().amax(1)
    assert (after <= factor * (x - other).abs().amax(1) * rounding).all()


@pytest.mark.parametrize(
    ("cell", "h", "c", "u"),
    [
        # one weight each, at the point where its term of the bound is attained or nearly so
        (one_unit(w=(3.0, 0, 0, 0), b=(0, 0, 20, 0)), 0.0, 0.0, 0.0),
        (one_unit(w=(0, 0.02, 0, 0)), 0.0, 1.98, 0.0),
        (one_unit(w=(0, 0, 3.0, 0), b=(20, 0, 0, 0)), 0.0, 0.0, 0.0),
        (one_unit(w=(0, 0, 0, 40.0), b=(20, 2, 20, 0)), 0.0, 8.0, 0.0),
        (one_unit(u=(0, 2.0, 0, 0)), 0.0, 0.0, 1.0),
        (one_unit(b=(0, 2.0, 0, 0)), 0.0, 0.0, 0.0),
    ],
    ids=["W_i", "W_f", "W_g", "W_o", "U_f", "b_f"],
)
def test_each_term_of_the_certificate_is_needed(cell, h, c, u):
    h, c, u = (torch.tensor([[value]], dtype=torch.float64) for value in (h, c, u))
    share = rates(cell, h, c, u).item() / cell.certificates()["contraction"]
    assert 0.9 < share <= 1


def test_certificate_by_hand():
    cell = one_unit(w=(0.1, -0.2, 0.3, 0.4), u=(9.0, -0.5, 9.0, 9.0), b=(9.0, 0.1, 9.0, 9.0))
    cell.bias_hh.data[1] = -0.3
    cell.input_bound = 2.0
    f = 1 / (1 + torch.exp(torch.tensor(-(0.2 + 2 * 0.5 + 0.1 - 0.3), dtype=torch.float64))).item()
    assert cell.certificates()["contraction"] == pytest.approx(
        f + (0.2 / (1 - f) + 0.1 + 4 * 0.3 + 0.4) / 4, rel=1e-14
    )
    # inputs of l1 norm 2: the largest entry of the row, here the only one, or of two the larger
    cell.input_norm = 1
    assert forget_bound(cell) == pytest.approx(f, rel=1e-14)
    wide = StableLSTM(2, 1).double()
    wide.input_bound, wide.input_norm = 2.0, 1
    wide.load_state_dict(
        {**cell.state_dict(), "weight_ih": cell.weight_ih @ torch.tensor([[0.2, -1.0]]).double()}
    )
    assert wide.certificates() == cell.certificates()
    # a gate that stays open for ever: a number, not 0 / 0, where the weights beside it are zero
    cell.weight_hh.data[1] = 0
    cell.bias_hh.data[1] = 1e9
    assert cell.certificates()["contraction"] == pytest.approx(1 + (0.1 + 4 * 0.3 + 0.4) / 4, rel=1e-14)


# the authors' rescaling


def test_rescaling_certifies_nothing():
    """A fixed point of the rescaling with two stable states, which the projection brings together."""
    weights = {"w": (0.395, 0.155, 0.099, 0.395), "u": (0.0, 0.25, 0.0, 0.0), "b": (5.0, 3.0, 0.0, 5.0)}
    cell = one_unit(**weights, constraint="rescale")
    before = copy.deepcopy(cell.state_dict())
    cell.constrain()
    for name, value in cell.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=1e-15, atol=0)
    assert cell.certificates()["contraction"] > 1

    u = torch.zeros(1, 1, dtype=torch.float64)
    starts = 10 * torch.randn(100, 2, dtype=torch.float64)

    def settle(cell):
        x = starts
        with torch.no_grad():
            for _ in range(3000):
                x = cell.step(x, u)
            assert (cell.step(x, u) - x).abs().max() < 1e-13
        return x

    states = settle(cell)[:, 1]
    upper = states > 0
    assert 0 < upper.sum() < len(states)
    torch.testing.assert_close(states[upper], torch.full_like(states[upper], 2.3394), rtol=0, atol=1e-4)
    torch.testing.assert_close(states[~upper], torch.full_like(states[~upper], -1.6583), rtol=0, atol=1e-4)

    cell = one_unit(**weights, constraint="projection")
    cell.constrain()
    assert cell.certificates()["contraction"] < 1
    states = settle(cell)
    torch.testing.assert_close(states, states[:1].expand_as(states), rtol=0, atol=1e-12)


def test_rescaling_scales_columns_and_leaves_columns_of_zeros():
    cell = random_cell(2, 1.0, constraint="rescale")
    before = copy.deepcopy(cell.state_dict())
    with torch.no_grad():
        cell.weight_hh[:5, 1] = 0
    cell.constrain()
    for gate, norm in enumerate((0.395, 0.155, 0.099, 0.395)):
        block = cell.weight_hh.detach().chunk(4)[gate]
        columns = [0, 2, 3, 4] if gate == 0 else range(5)
        torch.testing.assert_close(block.abs().sum(0)[columns], torch.full((len(columns),), norm).double())
        ratio = block[:, columns] / before["weight_hh"].chunk(4)[gate][:, columns]
        torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio))
    assert (cell.weight_hh[:5, 1] == 0).all()
    torch.testing.assert_close(
        cell.weight_ih.detach().chunk(4)[1].abs().sum(0), torch.full((3,), 0.25).double()
    )
    for gate in (0, 2, 3):
        assert torch.equal(cell.weight_ih.chunk(4)[gate], before["weight_ih"].chunk(4)[gate])
    assert all(torch.equal(getattr(cell, name), before[name]) for name in ("bias_ih", "bias_hh"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"constraint": "clip"}, "constraint='clip' is not possible: give 'projection' or 'rescale'"),
        ({"forget_bound": 1.0}, "forget_bound=1.0 is not possible"),
        ({"forget_bound": float("nan")}, "forget_bound=nan is not possible"),
        ({"margin": 0.0}, "margin=0.0 is not possible"),
        ({"margin": 1}, "margin=1 is not possible"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message) as error:
        StableLSTM(1, 1, **options)
    assert "\n" not in str(error.value)
