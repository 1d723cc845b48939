"""Kinds of fixed points, by hand."""

import cmath

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnnlab.analysis.stability import classify, leading_first

MAPS = [
    ([0.5, -0.9], 0, "stable node", 0.1),
    ([0.9j, -0.9j, 0.1], 0, "stable focus", 0.1),
    ([0.9, 0.1j, -0.1j], 0, "stable node", 0.1),  # the slowest direction decides
    ([2.0, 0.5], 1, "saddle", 0.5),
    ([1.5, -1.25], 2, "unstable node", 0.25),
    ([1.25j, -1.25j, 3.0], 3, "unstable focus", 0.25),
    ([cmath.exp(1j), cmath.exp(-1j), 0.2], 0, "non-hyperbolic", 0.0),
    ([-1.0, 2.0], 1, "non-hyperbolic", 0.0),
    ([0.0], 0, "stable node", 1.0),
]
FLOWS = [
    ([-0.5, -2.0], 0, "stable node", 0.5),
    ([-0.5 + 2j, -0.5 - 2j], 0, "stable focus", 0.5),
    ([0.5, -2.0], 1, "saddle", 0.5),
    ([1 + 1j, 1 - 1j], 2, "unstable focus", 1.0),
    ([1j, -1j], 0, "non-hyperbolic", 0.0),
]


@pytest.mark.parametrize(
    ("values", "unstable", "kind", "margin", "flow"),
    [(*case, False) for case in MAPS] + [(*case, True) for case in FLOWS],
)
def test_kinds(values, unstable, kind, margin, flow):
    found = classify(np.array(values, complex), flow=flow)
    assert (found.unstable, found.kind) == (unstable, kind)
    assert found.margin == pytest.approx(margin, abs=1e-15)


def test_what_is_not_known_says_so():
    found = classify(np.array([[np.nan, np.nan], [0.5, 0.1]], complex))
    assert found.unstable.tolist() == [-1, 0]
    assert found.kind.tolist() == ["", "stable node"]
    assert np.isnan(found.margin).tolist() == [True, False]


def test_none_is_fine():
    assert classify(np.empty((0, 3), complex)).kind.shape == (0,)


@given(st.lists(st.integers(-8, 8), min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_order_comes_from_the_values_alone(quarters, random):
    reals = [quarter / 4 for quarter in quarters]
    values = np.array([part for real in reals for part in (complex(real, 0.5), complex(real, -0.5))])
    shuffled = values.copy()
    random.shuffle(shuffled)
    for flow in (False, True):
        assert leading_first(shuffled, flow=flow).tolist() == leading_first(values, flow=flow).tolist()
        size = leading_first(values, flow=flow).real if flow else np.abs(leading_first(values))
        assert (np.diff(size) <= 1e-9).all()
