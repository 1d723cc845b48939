"""Entropy of states: what is known by calculus, what the estimate is worth, and what it refuses to say."""

import math

import numpy as np
import pytest
import torch

from rnnlab.analysis import contraction, entropy
from rnnlab.analysis.entropy import nearest_neighbour_entropy
from rnnlab.autonomous import Driven, HeldInput, InputSet, freeze, wrap_torch
from rnnlab.cells import LSTM, Orthogonal
from rnnlab.maps import CatMap, Henon, Hopf, Linear, TanhMap
from tests.networks import held

LOG_2 = math.log(2)
GAUSSIAN = 0.5 * math.log(2 * math.pi * math.e)  # entropy of a standard normal number


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def uniform(*shape, seed=0):
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class Doubling:
    """x' = 2 x modulo 1: two to one."""

    def step(self, x):
        return 2 * x % 1

    def observe(self, x):
        return x


class Baker:
    """The square drawn to twice its width and half its height, cut and stacked: one to one, area is kept."""

    def step(self, x):
        a, b = x.unbind(-1)
        return torch.stack((2 * a % 1, (b + (a >= 0.5)) / 2), -1)

    def observe(self, x):
        return x


def test_linear_maps_of_gaussians():
    A = torch.tensor([[0.9, 2.0], [-0.3, 0.1]], dtype=torch.float64)
    found = entropy(Linear(A), normal(1000, 2), steps=5)
    t = np.arange(6)
    logdet = math.log(0.9 * 0.1 + 0.3 * 2.0)
    np.testing.assert_allclose(found.change, t * logdet, atol=1e-12)
    np.testing.assert_allclose(found.change_error, 0, atol=1e-12)
    truth = 2 * GAUSSIAN + t * logdet
    assert (abs(found.nearest - truth) < 3 * found.nearest_error).all()
    assert (found.nearest_error < 0.15).all()
    # what the estimate says of a linear map is exact, whatever it says of the start
    np.testing.assert_allclose(found.nearest - found.nearest[0], t * logdet, atol=1e-6)
    columns = (0.5 * (A**2).sum(0).log()).sum().item()
    rows = (0.5 * (A**2).sum(1).log()).sum().item()
    np.testing.assert_allclose(found.hadamard, t * min(columns, rows), atol=1e-12)


def test_entropy_may_fall_where_the_lipschitz_constant_is_above_one():
    # eq. 4 of Ribeiro et al. (2020) as it is printed, H_t + n log L <= H_{t+1}, fails here at every step
    found = entropy(Linear(torch.diag(torch.tensor([2.0, 0.1]))), normal(500, 2), steps=6)
    np.testing.assert_allclose(found.bound, np.arange(7) * 2 * LOG_2, rtol=1e-9)
    assert (found.nearest.diff("time") < -1.6).all()
    assert (found.change <= found.bound + 1e-12).all()


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.5])
def test_the_bound_is_reached_by_scaled_rotations(scale):
    turn = scale * torch.tensor([[0.6, 0.8], [-0.8, 0.6]], dtype=torch.float64)
    found = entropy(Linear(turn), normal(300, 2), steps=3)
    np.testing.assert_allclose(found.change, found.bound, atol=1e-9)


@pytest.mark.parametrize(("system", "size"), [(CatMap(), 2), (Baker(), 2)])
def test_maps_that_keep_area_keep_entropy(system, size):
    found = entropy(system, uniform(2000, size), steps=4)
    np.testing.assert_allclose(found.change, 0, atol=1e-12)
    assert (abs(found.nearest) < 3 * found.nearest_error).all()
    assert (found.nearest_error < 0.15).all()


def test_a_map_that_is_not_one_to_one_keeps_less_than_its_stretch():
    found = entropy(Doubling(), uniform(2000, 1), steps=4)
    np.testing.assert_allclose(found.change, np.arange(5) * LOG_2)
    assert (abs(found.nearest) < 3 * found.nearest_error).all()  # uniform for ever
    assert (found.nearest_error < 0.05).all()


def test_chaos_may_lose_entropy():
    found = entropy(Henon(1.4, 0.3), 0.2 * uniform(1500, 2) - 0.1, steps=12)
    np.testing.assert_allclose(found.change, np.arange(13) * math.log(0.3), rtol=1e-9)
    assert found.undecided.values[0] == ""
    start = 2 * math.log(0.2)
    told = (found.undecided == "").values
    assert told[:4].all()
    truth = start + found.change.values
    assert (abs(found.nearest.values - truth)[told] < 3 * found.nearest_error.values[told]).all()
    # the folds are soon finer than 1500 points can show: it says so and gives no number
    assert found.undecided.values[-1] == "thinner than its space"
    assert found.nearest[-1].isnull()


def test_a_contraction_goes_below_its_bound():
    found = entropy(TanhMap(0.5), 0.5 * normal(1000, 1), steps=5)
    x = 0.5 * normal(1000, 1)[:, 0]
    total = torch.zeros(1000, dtype=torch.float64)
    for t in range(5):
        total += (0.5 * (1 - torch.tanh(0.5 * x) ** 2)).log()
        x = torch.tanh(0.5 * x)
        np.testing.assert_allclose(found.change[t + 1], total.mean(), rtol=1e-10)
        np.testing.assert_allclose(found.change_error[t + 1], total.std() / 1000**0.5, rtol=1e-10)
    np.testing.assert_allclose(found.bound, -np.arange(6) * LOG_2, rtol=1e-9)
    assert (found.change[1:] < found.bound[1:]).all()
    fall = found.nearest - found.nearest[0]
    assert (abs(fall - found.change) < 3 * (found.nearest_error + found.change_error)).all()


def test_the_bound_holds_only_for_states_in_its_box():
    system = HeldInput(freeze(wrap_torch(torch.nn.RNN(1, 2))), torch.zeros(1))
    low, high = system.bounds()
    x0 = torch.lerp(low, high, uniform(300, 2))
    inside = entropy(system, x0, steps=2)
    assert (inside.change[1:] <= inside.bound[1:]).all()
    x0[7] = high + 0.1
    outside = entropy(system, x0, steps=2)
    assert outside.bound[0] == 0
    assert np.isnan(outside.bound[1:]).all()
    np.testing.assert_allclose(outside.hadamard, inside.hadamard, rtol=0.05)


def test_the_determinant_of_an_lstm_is_a_product_of_gates():
    cell = LSTM(1, 5)
    system = held(cell, 0.3)
    x = 0.5 * normal(20, 10)
    found = entropy(system, x, steps=1)
    W, b = system.model.cell.weight_hh, system.model.cell.bias_ih + system.model.cell.bias_hh
    pre = x[:, :5] @ W.T + 0.3 * system.model.cell.weight_ih[:, 0] + b
    i, f, g, o = pre.chunk(4, -1)
    i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
    c = f * x[:, 5:] + i * g
    truth = (f * c.tanh().abs() * o * (1 - o)).log().sum(-1) + torch.linalg.slogdet(W[15:])[1]
    np.testing.assert_allclose(found.change[1], truth.mean(), rtol=1e-9)
    # where the output gate's weights are singular two states are mapped to one, and nothing is left
    with torch.no_grad():
        W[15] = W[16] + W[17]
    assert entropy(system, x, steps=1).change[1] == -np.inf


def test_an_orthogonal_network_keeps_all_or_nothing():
    cell = Orthogonal(1, 6)
    with torch.no_grad():
        cell.b.fill_(0.0)
    kept = entropy(held(cell, 0.3), normal(300, 6), steps=4)
    np.testing.assert_allclose(kept.change, 0, atol=1e-9)
    np.testing.assert_allclose(kept.bound, 0, atol=1e-6)
    with torch.no_grad():
        cell.b.fill_(-0.2)
    system, x = held(cell, 0.3), normal(300, 6)
    cut = entropy(system, x, steps=4)
    first = (system.step(x) == 0).any(-1).double().mean().item()
    assert 0 < first < 1
    assert cut.singular[1].item() == pytest.approx(first)
    assert (cut.change[1:] == -np.inf).all()
    assert (cut.change_error == 0).all()


def test_small_is_not_singular_and_singular_is_not_small():
    def change(matrix):
        return entropy(Linear(torch.tensor(matrix)), normal(50, 2), steps=1).change[1].item()

    assert change([[2.0, 0.0], [0.0, 1e-30]]) == pytest.approx(math.log(2e-30), rel=1e-6)
    assert change([[1.0, 1e-20], [0.5, 3e-20]]) == pytest.approx(math.log(2.5e-20), rel=1e-6)
    assert change([[0.1, 0.3], [0.2, 0.6]]) == -math.inf  # the determinant comes out as 1e-17
    assert change([[0.0, 1.0], [0.0, 1.0]]) == -math.inf


def test_a_sequence_is_followed_with_a_bound_that_is_given():
    network = freeze(wrap_torch(torch.nn.RNN(1, 2)))
    inputs = normal(6, 1)
    every = InputSet(network, inputs.amin(0), inputs.amax(0))
    x0 = 0.5 * uniform(500, 2)
    L = contraction(every, x0[:3]).upper.min().item()
    found = entropy(Driven(network, inputs), x0, lipschitz=L)
    assert found.sizes["time"] == 7
    x, total = x0, torch.zeros(500, dtype=torch.float64)
    for u in inputs:
        total += torch.linalg.slogdet(
            torch.func.vmap(torch.func.jacrev(lambda x, u=u: network.step(x, u)))(x)
        )[1]
        x = network.step(x, u)
    np.testing.assert_allclose(found.change[-1], total.mean(), rtol=1e-9)
    np.testing.assert_allclose(found.bound, np.arange(7) * 2 * math.log(L))
    assert np.isposinf(entropy(Driven(network, inputs), x0).bound[1:]).all()


def test_probes_together_are_probes_one_by_one():
    network = freeze(wrap_torch(torch.nn.GRU(1, 2)))
    inputs, x0 = normal(3, 1), uniform(3, 300, 2)
    together = entropy(HeldInput(network, inputs[:, None]), x0, steps=2)
    for probe in range(3):
        alone = entropy(HeldInput(network, inputs[probe]), x0[probe], steps=2)
        for name in alone:
            a, b = alone[name].values, together[name].values[probe]
            assert (
                a.tolist() == b.tolist()
                if a.dtype.kind == "U"
                else np.allclose(a, b, rtol=1e-9, equal_nan=True)
            ), name


# the estimate


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("kind", ["normal", "uniform"])
def test_the_error_of_the_estimate_is_about_what_it_is_said_to_be(size, kind):
    draw, truth = (normal, size * GAUSSIAN) if kind == "normal" else (uniform, 0.0)
    found = np.array([nearest_neighbour_entropy(draw(400, size, seed=s))[:2] for s in range(12)])
    z = (found[:, 0] - truth) / found[:, 1]
    assert 0.2 < np.sqrt((z**2).mean()) < 1.6
    assert (abs(z) < 3).all()
    assert (found[:, 1] < (0.1, 0.2, 0.4)[size - 1]).all()


def test_the_estimate_moves_as_entropy_does_and_no_more():
    x = normal(500, 2)
    value, error, _ = nearest_neighbour_entropy(x)
    A = torch.tensor([[3.0, 1.0], [0.0, 1e-6]], dtype=torch.float64)
    moved, same, _ = nearest_neighbour_entropy(x @ A.T + 1.0)
    assert moved - value == pytest.approx(math.log(3e-6), abs=1e-5)
    assert same == pytest.approx(error, abs=1e-5)


def circle(count):
    angle = 2 * math.pi * uniform(count, 1)
    return torch.cat((angle.cos(), angle.sin()), -1)


@pytest.mark.parametrize(
    ("x", "reason"),
    [
        (normal(100, 2), "too few states"),
        (normal(500, 2).log(), "not finite"),
        (torch.zeros(500, 2).double(), "rounding"),  # a point mass: minus infinity, not zero
        (1 + 1e-14 * normal(500, 1), "rounding"),
        (normal(500, 1).expand(500, 2), "rounding"),  # a line
        (normal(500, 1)[torch.arange(500) % 20], "rounding"),  # twenty points
        (circle(1000), "thinner than its space"),
        (normal(1000, 12), "too many dimensions"),
        (normal(1000, 40), "too many dimensions"),
    ],
)
def test_no_number_where_none_can_be_trusted(x, reason):
    value, error, why = nearest_neighbour_entropy(x)
    assert why == reason
    assert math.isnan(value)
    assert math.isnan(error)


# what is refused


@pytest.mark.parametrize(
    ("system", "options", "error", "message"),
    [
        (Henon(), {"steps": 0}, ValueError, "steps=0"),
        (Henon(), {"neighbours": 2.5}, ValueError, "neighbours=2.5"),
        (Henon(), {"lipschitz": 0.0}, ValueError, "lipschitz=0.0"),
        (Hopf(1.0, 1.0), {}, TypeError, "give Flow"),
        (
            Driven(freeze(wrap_torch(torch.nn.RNN(1, 2))), normal(3, 1)),
            {"steps": 4},
            ValueError,
            "has 3 steps",
        ),
    ],
)
def test_what_cannot_be_used_is_refused(system, options, error, message):
    with pytest.raises(error, match=message) as caught:
        entropy(system, normal(10, 2), **options)
    assert "\n" not in str(caught.value)


def test_orbits_that_leave_the_finite_numbers_give_none():
    far = entropy(Henon(), 1e3 * normal(300, 2), steps=12)
    assert far.change[1:3].notnull().all()
    assert np.isnan(far.change[-1])
    assert far.undecided.values[-1] == "not finite"
