"""The certified enumeration: counts known by algebra, by other proofs, or by an independent dense search."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnlab import maps
from rnnlab.analysis.certified import certified_fixed_points
from rnnlab.autonomous import HeldInput, freeze
from rnnlab.cells import GRU, LSTM, Elman, Orthogonal
from rnnlab.gru_flow import gru_flow
from rnnlab.model import RecurrentModel
from rnnlab.systems import Flow, Iterated, jacobian


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def cube(size: int, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    ends = torch.full((n,), float(size), dtype=torch.float64)
    return -ends, ends


def gated(gain: float) -> HeldInput:
    """The two-unit GRU of the house's list of checked numbers."""
    model = RecurrentModel(1, 1, partial(GRU, hidden_size=2, reset="before"))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.cell.U[:2] = torch.tensor([[5.0, 8.0], [8.0, 5.0]])
        model.cell.U[4:] = gain * torch.eye(2)
    return HeldInput(freeze(model), torch.zeros(1, dtype=torch.float64))


def network(cell, size: int, gain: float, **options) -> HeldInput:
    model = RecurrentModel(1, 1, partial(cell, hidden_size=size, **options))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, gain)
    return HeldInput(freeze(model), torch.zeros(1, dtype=torch.float64))


class Field:
    """dx/dt = (tanh(Uh (r x) + bh) - x) / 2, r = sigmoid(Ur x + br): a GRU in continuous time, Uz = bz = 0.

    Parameters as in the tables of Jordan, Sokol and Park (2019).
    """

    def __init__(self, Uh, Ur=(0, 0, 0, 0), bh=(0, 0), br=(0, 0)) -> None:
        self.Uh, self.Ur = tensor(*Uh).view(2, 2), tensor(*Ur).view(2, 2)
        self.bh, self.br = tensor(*bh), tensor(*br)

    def velocity(self, x):
        r = torch.sigmoid(x @ self.Ur.mT + self.br)
        return -0.5 * (x - torch.tanh((r * x) @ self.Uh.mT + self.bh))


def newton_everywhere(rule, low, high, starts=3000, steps=60) -> np.ndarray:
    """Zeros of `rule` in a box: Newton's method from random starts, plain numpy, nothing shared."""
    generator = np.random.default_rng(0)
    n, rows = len(low), starts
    x = generator.uniform(low, high, (rows, n))
    for _ in range(steps):
        point = torch.from_numpy(x)
        value = rule(point).numpy()
        slope = torch.func.vmap(torch.func.jacfwd(rule))(point).numpy()
        with np.errstate(all="ignore"):
            step = np.stack([np.linalg.lstsq(a, b, rcond=None)[0] for a, b in zip(slope, value, strict=True)])
        x = np.clip(x - np.clip(step, -1, 1), low - 1, high + 1)
    good = np.abs(rule(torch.from_numpy(x)).numpy()).max(-1) < 1e-13
    good &= ((x >= low - 1e-12) & (x <= high + 1e-12)).all(-1)
    found: list[np.ndarray] = []
    for row in x[good]:
        if all(np.abs(row - other).max() > 1e-6 for other in found):
            found.append(row)
    return np.array(found).reshape(-1, n)


def test_the_gated_network_has_exactly_seven_points():
    found = certified_fixed_points(gated(3.0))
    assert (found.certified, found.undecided, found.complete, found.index_sum) == (7, 0, True, 1)
    truth = [
        [-0.136741, 0],
        [0, -0.136741],
        [0.994901, 0.994901],
        [-0.053210, -0.053210],
        [0, 0.994682],
        [0.994682, 0],
        [0, 0],
    ]
    np.testing.assert_allclose(found.point, truth, atol=1e-6)
    assert found.kind.values.tolist() == ["stable node"] * 3 + ["saddle"] * 3 + ["unstable node"]
    assert found.unstable.values.tolist() == [0, 0, 0, 1, 1, 1, 2]
    assert found.sign.values.tolist() == [1, 1, 1, -1, -1, -1, 1]
    assert float(found.radius.max()) < 1e-13
    assert float(found.residual.max()) < 1e-14
    values = torch.linalg.eigvals(jacobian(gated(3.0), torch.from_numpy(found.point.values))).abs()
    np.testing.assert_allclose(np.abs(found.eigenvalue), values.sort(descending=True).values)


def test_a_degenerate_point_is_undecided_and_the_others_are_found():
    found = certified_fixed_points(gated(2.0))
    assert found.undecided == 1
    assert not found.complete
    assert (found.undecided_low.values < 0).all()
    assert (found.undecided_high.values > 0).all()
    assert float(abs(found.undecided_low).max()) < 1e-6
    assert 0 < found.undecided_volume < 1e-12
    assert found.certified == 3
    assert not (abs(found.point) < 0.1).all("state").any()


@pytest.mark.parametrize(
    ("system", "box", "points"),
    [
        (maps.Henon(1.4, 0.3), cube(2, 2), [[-1.131354, -0.339406], [0.631354, 0.189406]]),
        (maps.Henon(-0.2, 0.3), cube(10, 2), []),  # before the saddle-node
        (maps.Logistic(3.2), (tensor(0.0), tensor(1.0)), [[0.0], [1 - 1 / 3.2]]),
        (maps.TanhMap(0.9), None, [[0.0]]),
        (maps.TanhMap(-3.0), None, [[0.0]]),
        (maps.DelayedLogistic(2.5), cube(1, 2), [[0, 0], [0.6, 0.6]]),
        (maps.NeimarkSacker(0.5, 1.0), None, [[0, 0]]),
        (maps.Hopf(0.5, 1.0), None, [[0, 0]]),
        (maps.Linear(torch.tensor([[0.0, -2.0], [2.0, 0.0]])), cube(1, 2), [[0, 0]]),
        (
            maps.Lorenz(),
            (tensor(-30.0, -30.0, -10.0), tensor(30.0, 30.0, 60.0)),
            [[0, 0, 0], [-math.sqrt(72), -math.sqrt(72), 27], [math.sqrt(72), math.sqrt(72), 27]],
        ),
        (
            maps.CubeRoots(),
            (tensor(-1.3, -1.0), tensor(-0.2, 1.0)),
            [[-0.5, -math.sqrt(0.75)], [-0.5, math.sqrt(0.75)]],
        ),
    ],
)
def test_systems_known_by_hand(system, box, points):
    found = certified_fixed_points(system, box)
    assert (found.certified, found.undecided) == (len(points), 0)
    assert found.complete
    if points:
        np.testing.assert_allclose(sorted(found.point.values.tolist()), sorted(points), atol=1e-6)
        assert float(found.radius.max()) < 1e-9


def test_the_tanh_map_has_three_points_and_they_lie_in_their_enclosures():
    mpmath = pytest.importorskip("mpmath")
    found = certified_fixed_points(maps.TanhMap(2.0))
    assert found.point.shape == (3, 1)
    with mpmath.workdps(50):
        root = mpmath.findroot(lambda x: mpmath.tanh(2 * x) - x, 0.95)
        for truth in (-root, 0, root):
            inside = abs(mpmath.mpf(1) * found.point.values[:, 0] - truth) <= found.radius.values[:, 0]
            assert int(np.sum(inside)) == 1
    assert float(found.radius.max()) < 1e-13
    assert found.kind.values.tolist() == ["stable node", "stable node", "unstable node"]


def test_enclosures_hold_the_true_points():
    found = certified_fixed_points(maps.Lorenz(), (tensor(-30, -30, -10), tensor(30, 30, 60)))
    mpmath = pytest.importorskip("mpmath")
    with mpmath.workdps(50):
        s = mpmath.sqrt(mpmath.mpf(8 / 3) * 27)  # 8/3 as float64 has it
        truth = {0: (0, 0, 0), 1: (-s, -s, 27), 2: (s, s, 27)}
        for k, exact in truth.items():
            for x, value, radius in zip(exact, found.point.values[k], found.radius.values[k], strict=True):
                assert abs(x - mpmath.mpf(float(value))) <= float(radius)


@pytest.mark.parametrize("period", range(1, 6))
def test_the_iterated_logistic_map_has_all_its_points(period):
    # 2^n points of f^n at r = 4: sin^2(pi k / (2^n - 1)) and sin^2(pi k / (2^n + 1)), multipliers +-2^n
    system = Iterated(maps.Logistic(4.0), period)
    found = certified_fixed_points(system, (tensor(0.0), tensor(1.0)))
    assert (found.certified, found.undecided) == (2**period, 0)
    angles = [
        k / (2**period + sign) for sign in (-1, 1) for k in range(2 ** (period - 1) + sign * (sign > 0))
    ]
    truth = np.sin(np.pi * np.array(angles)) ** 2
    for point in found.point.values[:, 0]:
        assert np.abs(truth - point).min() < 1e-9
    sizes = np.abs(found.eigenvalue.values[:, 0])
    np.testing.assert_allclose(np.sort(sizes), [2.0**period] * (2**period - 1) + [4.0**period], rtol=1e-6)


@pytest.mark.parametrize(("period", "count"), [(1, 2), (2, 4), (3, 2), (4, 8), (5, 2), (6, 16)])
def test_henon_has_as_many_periodic_points_as_galias_proved(period, count):
    # 1, 1, 0, 1, 0, 2 prime orbits of periods 1 to 6 on the attractor, and one fixed point off it
    found = certified_fixed_points(Iterated(maps.Henon(), period), cube(2, 2))
    assert (found.certified, found.undecided) == (count, 0)


@pytest.mark.parametrize(
    ("field", "counts"),
    [
        (Field((3, 0, 0, 3)), (4, 1, 4)),  # figure 2
        (Field((2, 0, 0, 2), (5, 8, 8, 5), br=(5, 5)), (5, 1, 5)),  # figure 3a
        (Field((2, 2, 2, 2)), (2, 0, 1)),  # table 3, ii
        (Field((3, 3, 0, 3)), (2, 1, 2)),  # ix
        (Field((3, 0, 0, 3), (6, 9, 9, 6), (0.3, 0.3), (3.75, 3.75)), (5, 0, 4)),  # xxxiii
    ],
)
def test_the_published_portraits_of_the_gated_field(field, counts):
    found = certified_fixed_points(field)
    unstable = found.unstable.values
    assert found.complete
    assert found.index_sum == 1
    assert ((unstable == 0).sum(), (unstable == 2).sum(), (unstable == 1).sum()) == counts
    if counts == (4, 1, 4):
        np.testing.assert_allclose(np.abs(found.point[:4]), 0.858559636640, atol=1e-11)


@pytest.mark.parametrize(
    ("field", "undecided", "certified"),
    [
        (
            Field((2, 0, 0, 2), (-1, 0, 0, -1)),
            3,
            1,
        ),  # table 3, iv: (0, 0), (0, a), (a, 0) degenerate, (a, a) not
        (Field((2, 0, 0, 2), (1, -1, 1, 1)), 1, 3),  # v
        (Field((2, 0, 0, 2), (5, 9, 5, 9)), 1, 4),  # figure 4a: the Jacobian at the origin is zero
        (Field((2, 0, 0, 2), (5, 9, 9, 5)), 1, 3),  # figure 4b: the same
    ],
)
def test_the_published_degenerate_portraits_are_undecided(field, undecided, certified):
    found = certified_fixed_points(field)
    assert not found.complete
    assert (found.undecided, found.certified) == (undecided, certified)
    holds_origin = (found.undecided_low <= 0) & (found.undecided_high >= 0)
    assert int(holds_origin.all("state").sum()) == 1
    assert not (abs(found.point) < 1e-3).all("state").any()


def test_a_curve_of_fixed_points_spends_the_budget():
    class Circle:
        """Every point of the unit circle is at rest."""

        def velocity(self, x):
            return x * (1 - (x * x).sum(-1, keepdim=True))

    found = certified_fixed_points(Circle(), cube(2, 2), max_boxes=3000)
    assert found.certified == 1  # the origin
    assert found.boxes == 3000
    assert found.undecided == 1
    assert found.undecided_boxes > 100
    assert (found.undecided_low.values < -0.99).all()
    assert (found.undecided_high.values > 0.99).all()


def test_a_double_root_is_undecided_and_two_close_ones_are_told_apart():
    class Pair:
        def __init__(self, gap):
            self.gap = gap

        def velocity(self, x):
            return (x - 0.3) ** 2 - self.gap**2

    assert certified_fixed_points(Pair(0.0)).undecided == 1
    for gap in (1e-2, 1e-4, 1e-6):
        found = certified_fixed_points(Pair(gap))
        assert (found.certified, found.undecided, found.index_sum) == (2, 0, 0)
        np.testing.assert_allclose(np.diff(np.sort(found.point.values[:, 0])), 2 * gap, rtol=1e-3)


@pytest.mark.parametrize("shift", [-1e-3, -1e-12, 0.0, 1e-12, 1e-3])
def test_roots_at_the_edge_of_the_box(shift):
    class Shifted:
        def velocity(self, x):
            return (x - 1 - shift) * (x + 0.5)

    found = certified_fixed_points(Shifted(), (tensor(-1.0), tensor(1.0)))
    assert found.undecided == 0
    assert found.certified == (2 if shift <= 0 else 1)


def test_jumps_are_never_certified():
    class Jump:
        def velocity(self, x):
            return torch.sign(x) + 0.5 * x  # changes sign at 0, without a zero but there

    found = certified_fixed_points(Jump())
    assert (found.certified, found.undecided) == (0, 1)
    # x' = x + 0.1 mod 1 has no fixed point, and jumps through one
    wrapped = type("Wrapped", (), {"step": lambda self, x: (x + 0.1) % 1, "observe": lambda self, x: x})()
    assert certified_fixed_points(wrapped, (tensor(0.0), tensor(0.99))).certified == 0


def test_kinks_are_certified():
    class Kink:
        def step(self, x):
            return torch.relu(2 * x) - 0.5

        def observe(self, x):
            return x

    found = certified_fixed_points(Kink())
    np.testing.assert_allclose(np.sort(found.point.values[:, 0]), [-0.5, 0.5], atol=1e-12)
    assert found.undecided == 0


def test_the_orthogonal_cell():
    system = network(Orthogonal, 2, 1.0)
    found = certified_fixed_points(system, cube(8, 2))
    truth = newton_everywhere(lambda x: system.step(x) - x, np.full(2, -8.0), np.full(2, 8.0), starts=500)
    assert found.certified == len(truth)


CELLS = {
    "elman": partial(network, Elman),
    "gru before": partial(network, GRU, reset="before"),
    "gru after": partial(network, GRU, reset="after"),
}


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_random_networks_have_as_many_points_as_a_dense_search_finds(name, size, seed):
    torch.manual_seed(seed)
    system = CELLS[name](size, 3.0 if size == 2 else 2.0)
    found = certified_fixed_points(system)
    truth = newton_everywhere(lambda x: system.step(x) - x, np.full(size, -1.0), np.full(size, 1.0), 400)
    assert found.undecided == 0
    assert found.index_sum == 1
    assert found.certified == len(truth)
    for point in truth:
        assert (np.abs(found.point.values - point).max(-1) < 1e-9).any()


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_an_lstm_is_enumerated_without_its_cell_state(size, seed):
    torch.manual_seed(seed)
    system = network(LSTM, size, 2.0)
    found = certified_fixed_points(system)
    assert found.point.shape[1] == 2 * size
    assert len(found.box_low) == size
    assert found.undecided == 0
    assert found.index_sum == 1
    small = system.reduced()
    truth = newton_everywhere(lambda h: small.step(h) - h, np.full(size, -1.0), np.full(size, 1.0), 400)
    assert found.certified == len(truth)
    assert float(found.residual.max()) < 1e-9
    # the enclosures hold the lifted points too
    lifted = system.reduced().lift(torch.from_numpy(found.point.values[:, :size])).numpy()
    assert (np.abs(lifted - found.point) <= found.radius + 1e-12).all()
    # the index is that of the full map
    matrices = torch.eye(2 * size) - jacobian(system, torch.from_numpy(found.point.values))
    assert found.sign.values.tolist() == torch.linalg.det(matrices).sign().tolist()


@settings(max_examples=15)
@given(st.lists(st.floats(-4, 4), min_size=4, max_size=4), st.lists(st.floats(-1, 1), min_size=2, max_size=2))
def test_the_index_of_a_two_unit_network_is_one(weights, bias):
    class Net:
        def step(self, x):
            return torch.tanh(x @ tensor(*weights).view(2, 2) + tensor(*bias))

        def observe(self, x):
            return x

    found = certified_fixed_points(Net(), max_boxes=20_000)
    if found.complete:
        assert found.index_sum == 1
        assert (found.sign != 0).all()
    assert found.certified >= 1 or found.undecided >= 1


def test_the_count_does_not_depend_on_the_box():
    boxes = [cube(1, 2), cube(3, 2), (tensor(-1.1, -1.3), tensor(1.2, 1.05))]
    points = [certified_fixed_points(gated(3.0), box).point.values for box in boxes]
    for other in points[1:]:
        np.testing.assert_allclose(points[0], other, atol=1e-12)
    part = certified_fixed_points(gated(3.0), (tensor(-1, -1), tensor(0.5, 0.5)))
    assert part.certified == 4
    assert part.box_high == [0.5, 0.5]


@pytest.mark.parametrize("seed", range(12))
def test_only_what_is_in_the_box_is_counted(seed):
    # the nine equilibria of figure 2: each coordinate is one of the three roots of x = tanh(3 x / 2)
    root = 0.858559636640
    generator = np.random.default_rng(seed)
    low, high = np.sort(generator.uniform(-1, 1, (2, 2)), axis=0)
    low, high = np.minimum(low, high - 0.05), high
    found = certified_fixed_points(Field((3, 0, 0, 3)), (tensor(*low), tensor(*high)))
    inside = [sum(a <= x <= b for x in (-root, 0, root)) for a, b in zip(low, high, strict=True)]
    assert (found.certified, found.undecided) == (math.prod(inside), 0)


def test_looking_changes_nothing_and_repeats_itself():
    system = gated(3.0)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first, second = (certified_fixed_points(system) for _ in range(2))
    assert first.identical(second)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.get_num_threads() == 1


def test_trained_weights_may_want_gradients():
    model = RecurrentModel(1, 1, partial(Elman, hidden_size=2)).double()
    found = certified_fixed_points(HeldInput(model, torch.zeros(1).double()))
    assert found.certified >= 1
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_flow_map_has_the_equilibria_of_its_field():
    found = certified_fixed_points(Flow(maps.Hopf(0.5, 1.0), 0.1), cube(1, 2))
    assert (found.certified, found.undecided) == (1, 0)
    assert found.kind.values.tolist() == ["unstable focus"]


class Erf:
    def step(self, x):
        return torch.erf(2 * x)

    def observe(self, x):
        return x


def test_an_unknown_operation_is_refused_by_name():
    with pytest.raises(TypeError, match=r"^torch\.erf is not known to interval arithmetic"):
        certified_fixed_points(Erf())


@pytest.mark.parametrize(
    ("system", "box", "options", "message"),
    [
        (maps.Henon(), (tensor(0, 0), tensor(1, math.inf)), {}, "give finite low < high"),
        (maps.Henon(), (tensor(0, 1), tensor(1, 1)), {}, "give finite low < high"),
        (maps.Henon(), (tensor(0, math.nan), tensor(1, 1)), {}, "give finite low < high"),
        (maps.Henon(), (tensor(0), tensor(1)), {}, r"does not map states \(2, 1\)"),
        (maps.Henon(), (tensor(0, 0, 0), tensor(1, 1, 1)), {}, r"does not map states \(2, 3\)"),
        (maps.Henon(), (tensor(0, 0), tensor(1)), {}, r"shapes \(2,\) and \(1,\)"),
        (maps.Linear(torch.eye(4) / 2), cube(1, 4), {}, "4 dimensions are too many"),
        (maps.Linear(torch.eye(4) / 2), None, {}, "in none of 1, 2 and 3 dimensions"),
        (maps.Henon(torch.full((5, 1), 1.4)), cube(1, 2), {}, "of a system with several probes one"),
        (maps.Henon(), None, {"resolution": 0.0}, "resolution=0.0 is not possible"),
        (maps.Henon(), None, {"max_boxes": 0}, "max_boxes=0 is not possible"),
    ],
)
def test_refusals(system, box, options, message):
    with pytest.raises(ValueError, match=message) as error:
        certified_fixed_points(system, box, **options)
    assert "\n" not in str(error.value)


def test_several_held_inputs_are_refused():
    model = freeze(RecurrentModel(1, 1, partial(Elman, hidden_size=2)))
    with pytest.raises(ValueError, match="several probes"):
        certified_fixed_points(HeldInput(model, torch.zeros(3, 1, 1).double()))


def test_what_is_no_system_is_refused():
    with pytest.raises(TypeError, match="no dynamical system"):
        certified_fixed_points(object())  # pyright: ignore


def test_an_absorbing_box_without_width_is_searched():
    still = gru_flow(Uh=[[0.0, 0.0], [0.0, 3.0]])  # its first unit is drawn to 0 from everywhere
    found = certified_fixed_points(still)
    assert found.complete
    assert found.point[:, 0].values == pytest.approx([0, 0, 0], abs=1e-12)
