"""Chains of networks whose bifurcations have their epochs in closed form."""

import math
import sys

import numpy as np
import pytest
import torch
from torch import nn

from rnnlab.analysis import continuation
from rnnlab.analysis.piecewise_continuation import piecewise_continuation
from rnnlab.autonomous import HeldInput, wrap_torch
from rnnlab.families import through
from rnnlab.maps import DelayedLogistic, TanhMap
from rnnlab.studies.chaotic_lstm import ORIGIN_LOSES_STABILITY, WEIGHTS

MODULE = sys.modules[piecewise_continuation.__module__]
FOLD = math.sqrt(2) - math.atanh(math.sqrt(0.5))  # |b| at which tanh(2 x + b) has a double fixed point


def double(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def network(module, recurrent, bias=0.0):
    """Of torch's module, with these recurrent weights, bias in all units and no input."""
    module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
        module.weight_hh_l0.copy_(torch.as_tensor(recurrent))
        module.bias_hh_l0.fill_(bias)
    return wrap_torch(module)


def chain(networks, epochs):
    path = through(networks, epochs)
    return [lambda epoch, piece=piece: HeldInput(piece(epoch), double(0.0)) for piece in path.pieces]


def rnn(recurrent, bias=0.0):
    recurrent = double(*recurrent)
    return network(nn.RNN(1, len(recurrent)), recurrent, bias)


def biased(*biases):
    return [rnn([[2.0]], bias) for bias in biases]


def rotation(r, angle=0.7):
    return [[r * math.cos(angle), -r * math.sin(angle)], [r * math.sin(angle), r * math.cos(angle)]]


class Map:
    def __init__(self, step):
        self.step = step

    def observe(self, x):
        return x


def listed(found, *names):
    return [tuple(found[name].values[i] for name in names) for i in range(found.sizes["bifurcation"])]


def test_points_die_and_are_born_in_folds_at_their_epochs():
    # the bias goes 0, 0.3, 0.9, -0.9: at FOLD the middle point and the lower one meet and part again, at
    # -FOLD the middle one and the upper one
    found = piecewise_continuation(
        chain(biased(0, 0.3, 0.9, -0.9), [0, 3, 6, 12]), [0, 3, 6, 12], double([0.0]), samples=9
    )
    expected = [3 + (FOLD - 0.3) / 0.2, 6 + (0.9 - FOLD) / 0.3, 6 + (0.9 + FOLD) / 0.3]
    assert found.bifurcation_type.values.tolist() == ["saddle-node"] * 3
    np.testing.assert_allclose(found.bifurcation_parameter, expected, atol=1e-8)
    np.testing.assert_allclose(found.bifurcation_y[:, 0, 0], np.sqrt(0.5) * np.array([-1, -1, 1]), atol=1e-6)
    assert listed(found, "unstable_before", "unstable_after") == [(0, -1), (-1, 0), (0, -1)]
    assert found.found.values.tolist() == [3, 3, 1, 1]
    assert found.index_sum.values.tolist() == [1, 1, 1, 1]
    # the upper point lives until the last fold and turns back there, through the middle one, to the second
    # fold and on to the lower point, which is there in the end; the first fold closes one more branch
    assert found.sizes["branch"] == 2
    assert set(found.began.values) == set(found.ended.values) == {"left the span"}
    assert found.sizes["lost"] == 0
    assert float(found.residual.max()) < 1e-12


def test_steps_tell_the_leading_eigenvalue():
    found = piecewise_continuation(chain(biased(0, 0.3, 0.9), [0, 3, 6]), [0, 3, 6], double([0.0]), samples=9)
    there = found.parameter.notnull()
    slope = 2 * (1 - found.point.isel(state=0) ** 2)
    np.testing.assert_allclose(found.modulus.where(there), slope.where(there), rtol=1e-9)
    ordinary = there & (abs(found.modulus - 1) > 1e-5)
    assert ((found.unstable == (found.modulus > 1)) | ~ordinary).all()
    assert (found.angle_leading.where(there, 0) == 0).all()
    # along a branch the parameter goes on from piece to piece without a gap
    assert float(abs(found.parameter.diff("step")).max()) <= 0.25 * 3 + 1e-6


def test_neimark_sacker_at_its_epoch_behind_a_bend():
    found = piecewise_continuation(
        chain([rnn(rotation(r)) for r in (0.5, 0.9, 1.4)], [0, 10, 25]), [0, 10, 25], double([0.1, 0.0])
    )
    assert found.bifurcation_type.item() == "Neimark-Sacker"
    assert found.bifurcation_parameter.item() == pytest.approx(13, abs=1e-9)
    assert found.angle.item() == pytest.approx(0.7, abs=1e-9)
    # tanh(w) = w - w |w|^2 / 4 + ..., other terms turn otherwise; |w|^2 = 2 |z|^2 for a unit eigenvector
    assert found.criticality.item() == "supercritical"
    assert found.coefficient.item() == pytest.approx(-0.5, abs=1e-9)
    assert listed(found, "unstable_before", "unstable_after") == [(0, 2)]
    assert found.bifurcation_residual.item() < 1e-12 > found.bifurcation_distance.item()
    first = found.isel(branch=0, step=0)
    assert first.modulus.item() == pytest.approx(0.5)
    assert first.angle_leading.item() == pytest.approx(0.7)


def test_a_pair_that_comes_back_and_stays():
    """Up through the circle, back, and up to just under it: two crossings, not three."""
    networks, epochs = [rnn(rotation(r)) for r in (0.8, 1.2, 0.6, 0.99)], [0, 4, 10, 20]
    found = piecewise_continuation(chain(networks, epochs), epochs, double([0.0, 0.0]))
    np.testing.assert_allclose(found.bifurcation_parameter, [2, 6], atol=1e-9)
    assert listed(found, "unstable_before", "unstable_after") == [(0, 2), (2, 0)]


def test_period_doubling_at_its_epoch():
    found = piecewise_continuation(
        chain([rnn([[w]]) for w in (-0.4, -0.8, -1.3)], [0, 10, 20]), [0, 10, 20], double([0.3])
    )
    assert found.bifurcation_type.item() == "period doubling"
    assert found.bifurcation_parameter.item() == pytest.approx(14, abs=1e-9)
    assert found.criticality.item() == "supercritical"
    assert found.coefficient.item() == pytest.approx(1 / 3, abs=1e-9)  # tanh(-x) = -x + x^3 / 3


def test_a_pitchfork_is_one_however_many_branches_pass_it():
    found = piecewise_continuation(
        chain([rnn([[w]]) for w in (0.5, 0.8, 1.3)], [0, 10, 20]), [0, 10, 20], double([0.0]), samples=9
    )
    assert found.bifurcation_type.item() == "pitchfork"
    assert found.bifurcation_parameter.item() == pytest.approx(14, abs=1e-7)
    assert found.criticality.item() == "supercritical"
    assert found.found.values.tolist() == [1, 1, 3]
    assert found.sizes["branch"] == 2


def test_an_lstm_of_two_units_at_its_epoch():
    scales, epochs = (0.5, 0.7, 1.0), [0, 20, 60]
    found = piecewise_continuation(
        chain([network(nn.LSTM(1, 2), s * WEIGHTS) for s in scales], epochs),
        epochs,
        torch.zeros(1, 4).double(),
    )
    assert found.attrs["derivative"] == "forward mode"
    crossing = found.where(abs(found.bifurcation_y).max(("phase", "observable")) < 1e-9, drop=True)
    assert crossing.bifurcation_type.item() == "Neimark-Sacker"
    expected = 20 + 40 * (ORIGIN_LOSES_STABILITY - 0.7) / 0.3
    assert crossing.bifurcation_parameter.item() == pytest.approx(expected, abs=1e-8)


def test_the_same_as_without_knots_where_there_is_no_bend():
    whole = continuation(DelayedLogistic, double([0.3, 0.3]), (1.5, 2.2))
    found = piecewise_continuation([DelayedLogistic] * 3, [1.5, 1.8, 2.05, 2.2], double([0.3, 0.3]))
    mine = found.isel(bifurcation=found.bifurcation_type.values == "Neimark-Sacker")
    assert whole.bifurcation_type.item() == "Neimark-Sacker"
    rough = piecewise_continuation([lambda s: DelayedLogistic(float(s))], [1.5, 2.2], double([0.3, 0.3]))
    assert rough.attrs["derivative"] == "central differences"
    np.testing.assert_allclose(rough.bifurcation_parameter, mine.bifurcation_parameter, atol=1e-6)
    assert mine.bifurcation_parameter.item() == pytest.approx(whole.bifurcation_parameter.item(), abs=1e-9)
    assert mine.coefficient.item() == pytest.approx(whole.coefficient.item(), rel=1e-6)


def test_nothing_happens():
    found = piecewise_continuation(
        chain(biased(0.1, 0.2, 0.15), [0, 1, 2]), [0, 1, 2], double([0.0]), samples=9
    )
    assert found.sizes["bifurcation"] == found.sizes["lost"] == 0
    assert found.sizes["branch"] == 3
    assert found.found.values.tolist() == [3, 3, 3]
    assert (found.unstable.max("step") == found.unstable.where(found.unstable >= 0).min("step")).all()


def test_what_is_found_late_gets_its_past():
    # from 0.9 the search finds the upper point alone, until that is gone
    knots = [0.0, 1.0, 2.0, 3.0]
    found = piecewise_continuation([lambda s: TanhMap(2.0, -0.3 * s)] * 3, knots, double([0.9]))
    assert found.bifurcation_parameter.item() == pytest.approx(FOLD / 0.3, abs=1e-8)
    assert found.found.values.tolist() == [3, 3, 1, 1]
    assert found.index_sum.values.tolist() == [1, 1, 1, 1]
    assert found.late.values.tolist()[0] > 0 == found.late.values[2]


def test_a_branch_that_lives_between_two_folds_is_closed():
    def family(s):
        return Map(lambda x: x + 0.1 * (x * x + (s - 5) ** 2 / 4 - 1))

    found = piecewise_continuation([family] * 5, [0, 2, 4, 6, 8, 10], double([0.8], [-0.8]))
    assert found.began.item() == found.ended.item() == "closed"
    np.testing.assert_allclose(found.bifurcation_parameter, [3, 7], atol=1e-8)
    assert listed(found, "unstable_before", "unstable_after") == [(-1, 0), (0, -1)]
    assert found.found.values.tolist() == [0, 0, 2, 2, 0, 0]
    there = found.parameter.notnull()
    assert float(abs(found.point[..., 0] ** 2 + (found.parameter - 5) ** 2 / 4 - 1).where(there).max()) < 1e-9


def test_a_branch_that_runs_to_infinity_is_lost():
    def family(s):
        return Map(lambda x: 0.5 * x + 1 / (1.5 - s))

    found = piecewise_continuation([family] * 2, [0, 1, 2], double([1.0]), max_steps=60)
    # beyond the pole there is another one, which runs away to the other side
    assert found.sizes["bifurcation"] == 0
    assert sorted(found.lost_y.values.ravel())[0] < -10 < 10 < sorted(found.lost_y.values.ravel())[-1]
    np.testing.assert_allclose(found.lost_parameter, 1.5, atol=0.2)
    assert sorted(zip(found.began.values, found.ended.values, strict=True)) == [
        ("left the span", "lost"),
        ("lost", "left the span"),
    ]
    assert set(found.lost_reason.values) <= {"max_steps", "step too small"}


def test_a_pitchfork_right_at_a_knot_is_not_passed_but_told(monkeypatch):
    monkeypatch.setattr(MODULE, "REFINEMENTS", 1)  # which are in vain here
    found = piecewise_continuation(
        [lambda s: TanhMap(0.5 + s), lambda s: TanhMap(1.5 - s)], [0.0, 0.5, 1.0], double([0.0])
    )
    np.testing.assert_allclose(found.lost_parameter, 0.5, atol=1e-6)
    assert set(found.lost_reason.values) == {"step too small", "no step off the knot"}
    assert found.found.values.tolist() == [1, 1, 1]
    assert math.isnan(found.index_sum.values[1])
    assert found.sizes["bifurcation"] == 0
    # and the branches that arise there end where it was passed already
    found = piecewise_continuation(
        [lambda s: TanhMap(0.5 + s)] * 2, [0.0, 0.5, 1.0], double([0.0], [0.9], [-0.9])
    )
    assert found.found.values.tolist() == [1, 1, 3]
    assert "met another branch" in found.lost_reason.values


@pytest.mark.parametrize("mended", [True, False])
def test_a_piece_is_followed_anew_where_branches_run_into_one(monkeypatch, mended):
    """A continuation that goes astray in the second piece, as it may by long steps."""

    def astray(family, x0, span, *, max_step, **options):
        if set(span) == {1, 2} and (max_step > 0.1 or not mended):
            x0 = 0.95 + 0 * x0
        return continuation(family, x0, span, max_step=max_step, **options)

    monkeypatch.setattr(MODULE, "continuation", astray)
    monkeypatch.setattr(MODULE, "REFINEMENTS", 2)
    found = piecewise_continuation(
        chain(biased(0.1, 0.2, 0.15), [0, 1, 2]), [0, 1, 2], double([0.0]), samples=9
    )
    assert found.found.values.tolist() == [3, 3, 3]
    if mended:
        assert found.refined.values.tolist() == [0, 1]
        assert (found.sizes["branch"], found.sizes["lost"]) == (3, 0)
    else:
        assert found.refined.values.tolist() == [0, 2]
        assert set(found.lost_reason.values) == {"met another branch"}


@pytest.mark.parametrize(
    ("pieces", "knots", "options", "message"),
    [
        (1, [0.0], {}, "1 pieces and 1 knots do not fit"),
        (0, [0.0], {}, "0 pieces and 1 knots do not fit"),
        (2, [0.0, 1.0, 1.0], {}, "knots 1, 1 are not possible"),
        (1, [0.0, math.inf], {}, "knots 0, inf are not possible"),
        (1, [0.0, 1.0], {"samples": -1}, "samples=-1 is not possible"),
        (1, [0.0, 1.0], {"max_step": 2.0}, "max_step=2.0 is not possible"),
        (1, [0.0, 1.0], {"max_steps": 0}, "max_steps=0 is not possible"),
    ],
)
def test_what_is_refused(pieces, knots, options, message):
    with pytest.raises(ValueError, match=message):
        piecewise_continuation([TanhMap] * pieces, knots, double([0.0]), **options)
    with pytest.raises(ValueError, match="x0"):
        piecewise_continuation([TanhMap], [0.0, 1.0], double([math.nan]))
