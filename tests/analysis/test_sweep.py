from functools import partial

import numpy as np
import pytest
import torch
import xarray as xr

from rnnlab.analysis import orbit, sweep
from rnnlab.maps import Henon, Logistic, TanhMap


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_logistic_diagram():
    values = [2.8, 3.2, 3.5, 3.55, 3.83, 4.0]
    found = sweep(Logistic, values, double([0.3], [0.6]), name="r")
    assert found.period.dims == ("r", "sample")
    assert found.r.values.tolist() == values
    assert found.period.values.tolist() == [[p, p] for p in (1, 2, 4, 8, 3, 0)]
    assert found.settled.values.tolist() == [[s, s] for s in (True,) * 5 + (False,)]
    assert found.y.dims == ("r", "sample", "time", "observable")
    assert found.attrs["tolerance"] == 1e-7


def test_a_sweep_equals_one_batch():
    r = double(2.8, 3.5, 3.9)
    look = partial(orbit, burn_in=300, steps=50)
    x0 = double([0.3], [0.6])
    one_by_one = sweep(Logistic, r.tolist(), x0, look)
    at_once = look(Logistic(r[:, None]), x0.expand(3, 2, 1))
    np.testing.assert_array_equal(one_by_one.y, at_once.y)
    np.testing.assert_array_equal(one_by_one.period, at_once.period)
    assert one_by_one.burn_in.values.tolist() == [300, 300, 300]


def test_following_keeps_to_a_branch():
    # x' = tanh(3x + b) has two stable points for small |b|: continuation from below stays on the lower one
    # until it vanishes, a cold start at +1 is on the upper one as soon as there is one
    values = np.linspace(-2, 2, 41)
    family = partial(TanhMap, 3.0)
    cold = sweep(family, values, double([1.0]), name="b").last_state.squeeze()
    warm = sweep(family, values, double([1.0]), name="b", follow=True).last_state.squeeze()
    back = sweep(family, values[::-1], double([1.0]), name="b", follow=True).last_state.squeeze()
    # the folds: 3 (1 - x^2) = 1, b = artanh x - 3x
    fold = 3 * np.sqrt(2 / 3) - np.arctanh(np.sqrt(2 / 3))
    away = abs(abs(values) - fold) > 1e-9
    assert np.array_equal((warm > 0).values[away], (values > fold)[away])
    assert np.array_equal((cold > 0).values[away], (values > -fold)[away])
    assert np.array_equal((back > 0).values[away], (values[::-1] > -fold)[away])


def test_following_starts_again_where_the_orbit_diverged():
    # without a fixed point at a = -0.5 every orbit diverges
    found = sweep(lambda a: Henon(a, 0.3), [-0.5, 0.2], double([0.0, 0.0]), follow=True)
    assert found.diverged.values.tolist() == [[True], [False]]
    assert found.settled.values.tolist() == [[False], [True]]


def test_any_analysis_will_do():
    def first_step(system, x0):
        return xr.Dataset({"x": ("state", system.step(x0).numpy())})

    found = sweep(Logistic, [1.0, 2.0], double(0.5), first_step, name="r")
    assert found.x.values.tolist() == [[0.25], [0.5]]
    with pytest.raises(ValueError, match="follow=True needs an analysis that returns last_state"):
        sweep(Logistic, [1.0, 2.0], double(0.5), first_step, follow=True)


def test_progress_is_shown_only_when_asked_for(capsys):
    look = partial(orbit, burn_in=1, steps=1)
    sweep(Logistic, [2.0, 3.0], double(0.5), look, name="r")
    assert capsys.readouterr().err == ""
    sweep(Logistic, [2.0, 3.0], double(0.5), look, name="r", progress=True)
    assert "2/2" in capsys.readouterr().err


def test_an_empty_sweep_is_refused():
    with pytest.raises(ValueError, match="values is empty"):
        sweep(Logistic, [], double([0.3]))
