import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnlab.analysis import orbit
from rnnlab.analysis.rotation import rotation_number
from rnnlab.maps import DelayedLogistic, Henon, Hopf, Logistic, NeimarkSacker
from rnnlab.systems import Flow

GOLDEN = (math.sqrt(5) - 1) / 2


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


def settled(system, x0, steps=1000):
    return torch.from_numpy(orbit(system, x0, steps=steps).y.values)


def fold(turn):
    """In a plane without a sign of its own: from 0 to 1/2."""
    return abs(turn - round(turn))


def circle(turn, steps=1000):
    angle = 2 * math.pi * turn * torch.arange(steps).double()
    return torch.stack((angle.cos(), angle.sin()), -1)[None]


@pytest.mark.parametrize(
    "turn", [GOLDEN, GOLDEN / 12, math.sqrt(2) / 10, 1.234 / (2 * math.pi), -0.3 - 1e-3 / math.pi]
)
@pytest.mark.parametrize("components", [1, 2])
def test_torus_of_the_normal_form(turn, components):
    found = rotation_number(
        settled(NeimarkSacker(0.2, 2 * math.pi * turn), double([0.3, 0.1]))[..., :components]
    )
    assert found.kind.item() == "torus"
    assert found.period == 0
    assert abs(found.rotation.item() - fold(turn)) <= max(found.error.item(), 1e-12)
    assert found.error < 1e-6


@pytest.mark.parametrize("turn", [GOLDEN, GOLDEN / 12])
def test_more_steps_are_far_better(turn):
    y = settled(NeimarkSacker(0.2, 2 * math.pi * turn), double([0.3, 0.1]), steps=4000)
    found = rotation_number(y)
    assert abs(found.rotation.item() - fold(turn)) < 1e-13
    assert found.error < 1e-8


@pytest.mark.parametrize(("p", "q"), [(1, 5), (2, 5), (1, 7), (3, 7), (1, 2), (1, 32)])
def test_a_circle_turned_by_a_fraction_is_periodic(p, q):
    found = rotation_number(settled(NeimarkSacker(0.2, 2 * math.pi * p / q), double([0.3, 0.1])))
    assert (found.kind.item(), found.period.item()) == ("periodic", q)
    assert found.rotation.item() == pytest.approx(p / q, abs=1e-9)


def test_a_torus_that_nearly_closes():
    # after five steps the orbit is back within 6e-6 of its radius, but it is no cycle
    nearly = circle(0.2 + 1e-6)
    assert (nearly[0, 5:] - nearly[0, :-5]).abs().max() < 1e-4
    found = rotation_number(nearly)
    assert found.kind.item() == "torus"
    assert found.rotation.item() == pytest.approx(0.2 + 1e-6, abs=1e-10)
    assert rotation_number(circle(0.2)).kind.item() == "periodic"


def test_largest_period():
    fine = circle(1 / 40)
    assert rotation_number(fine, max_period=40).period == 40
    assert rotation_number(fine, max_period=39).kind.item() == "torus"


@settings(max_examples=40)
@given(st.floats(0.02, 0.48), st.floats(0.3, 3.0), st.floats(0.0, 0.4), st.integers(0, 1000))
def test_a_bent_curve_keeps_its_rotation_number(turn, stretch, bend, seed):
    # a conjugacy: any smooth image of the circle is passed at the same mean rate
    matrix = torch.randn(2, 5, generator=torch.Generator().manual_seed(seed)).double()
    y = circle(turn, 2000)
    warped = torch.stack((y[..., 0] + bend * y[..., 1] ** 2, stretch * y[..., 1]), -1) @ matrix
    found = rotation_number(warped)
    if not math.isnan(found.rotation.item()):
        assert abs(found.rotation.item() - turn) <= 2 * found.error.item() + 1e-10
        assert found.error < 1e-4


@pytest.mark.parametrize(("r", "period"), [(2.8, 1), (3.2, 2), (3.5, 4), (3.55, 8), (3.83, 3)])
def test_cycles_of_one_component(r, period):
    found = rotation_number(settled(Logistic(r), double([0.3])))
    assert (found.kind.item(), found.period.item()) == ("periodic", period)


@pytest.mark.parametrize(
    ("system", "x0"),
    [
        (Logistic(4.0), double([0.3])),
        (Logistic(3.6), double([0.3])),  # two bands: it turns by exactly 1/2 but never returns
        (Henon(), double([0.1, 0.1])),
        (Henon(1.2, 0.3), double([0.1, 0.1])),
    ],
)
def test_chaos_is_undecided(system, x0):
    assert rotation_number(settled(system, x0, 2000)).kind.item() == "undecided"


def test_delayed_logistic_torus_and_its_locking():
    free = rotation_number(settled(DelayedLogistic(2.1), double([0.5, 0.52]), 4000))
    assert free.kind.item() == "torus"
    # just past the bifurcation at r = 2 it turns by nearly the sixth of the eigenvalue there
    near = rotation_number(settled(DelayedLogistic(2.02), double([0.5, 0.52]), 4000))
    assert near.rotation.item() == pytest.approx(1 / 6, abs=0.003)
    locked = rotation_number(settled(DelayedLogistic(2.2), double([0.5, 0.52]), 4000))
    assert (locked.kind.item(), locked.period.item()) == ("periodic", 7)


def test_limit_cycle_of_a_flow():
    y = settled(Flow(Hopf(1.0, 2.0), 0.05), double([1.0, 0.0]), 4000)
    assert rotation_number(y).rotation.item() == pytest.approx(2 * 0.05 / (2 * math.pi), abs=1e-6)


def test_an_angle_that_runs_back_for_a_while():
    theta = 2 * math.pi * GOLDEN / 12 * torch.arange(4000).double()
    phi = theta + 1.5 * theta.sin()
    assert (phi.diff() < 0).any()
    found = rotation_number(torch.stack((phi.cos(), phi.sin()), -1)[None])
    assert found.kind.item() == "torus"
    assert found.rotation.item() == pytest.approx(GOLDEN / 12, abs=1e-9)


def test_a_cycle_longer_than_what_is_looked_for_is_undecided_where_its_turn_is_a_fraction():
    # at r = 3.5698 the period is 64, and every second step is half a turn away
    y = settled(Logistic(3.5698), double([0.3]))
    assert rotation_number(y, max_period=16).kind.item() == "undecided"
    assert rotation_number(y, max_period=16).rotation.item() == pytest.approx(0.5, abs=1e-9)


def test_batches_and_rest_and_runaways():
    still = torch.full_like(circle(0.1), 0.7)
    lost = circle(0.1)
    lost[0, 3, 0] = math.inf
    found = rotation_number(torch.stack((circle(0.4), circle(GOLDEN), still, lost)))
    assert found.rotation.dims == ("probe", "sample")
    assert found.kind.values[:, 0].tolist() == ["periodic", "torus", "periodic", "undecided"]
    assert found.period.values[:, 0].tolist() == [5, 0, 1, 0]
    np.testing.assert_allclose(found.rotation[:3, 0], [0.4, 1 - GOLDEN, 0.0], atol=1e-10)
    assert np.isnan(found.rotation[3, 0])


def test_too_short_a_record_is_undecided():
    found = rotation_number(circle(0.013, 100))
    assert found.kind.item() == "undecided"


@pytest.mark.parametrize(
    ("options", "message"), [({"max_period": 0}, "max_period=0"), ({"tolerance": 0.0}, "tolerance=0.0")]
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=f"{message} is not possible"):
        rotation_number(circle(0.1), **options)


@pytest.mark.parametrize("y", [torch.zeros(5), torch.zeros(1, 50, 2), torch.zeros(1, 7, 2).double(), "y"])
def test_bad_records_are_refused(y):
    with pytest.raises(ValueError, match="is not possible"):
        rotation_number(y)
