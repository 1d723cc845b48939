import math
import warnings

import numpy as np
import pytest
import torch

from rnnlab.analysis import orbit
from rnnlab.maps import Henon, Linear, Logistic, NeimarkSacker, TanhMap
from rnnlab.systems import Observed

GOLDEN = 2 * math.pi * (math.sqrt(5) - 1) / 2


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


def random(*shape, seed=0):
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_logistic_diagram_as_one_batch():
    r = double(2.8, 3.2, 3.5, 3.55, 3.83, 3.9, 4.0)
    found = orbit(Logistic(r[:, None]), random(7, 5, 1))
    assert found.period.dims == ("probe", "sample")
    assert found.period.values.tolist() == [[p] * 5 for p in (1, 2, 4, 8, 3, 0, 0)]
    assert found.settled.values.tolist() == [[s] * 5 for s in (True,) * 5 + (False,) * 2]
    assert not found.diverged.any()


def test_points_of_period_two():
    r = 3.2
    root = math.sqrt((r - 3) * (r + 1))
    found = orbit(Logistic(r), double([0.3]), steps=10)
    low, high = np.sort(found.y.values.squeeze()).reshape(2, 5)
    np.testing.assert_allclose(low, (r + 1 - root) / (2 * r), atol=1e-7)
    np.testing.assert_allclose(high, (r + 1 + root) / (2 * r), atol=1e-7)


def test_henon_fixed_point_is_found_and_its_neighbour_runs_away():
    found = orbit(Henon(0.2, 0.3), double([0.0, 0.0], [-6.0, 0.0]))
    first = (-0.7 + math.sqrt(0.49 + 0.8)) / 0.4
    np.testing.assert_allclose(found.last_state[0], [first, 0.3 * first], atol=1e-6)
    assert found.settled.values.tolist() == [True, False]
    assert found.diverged.values.tolist() == [False, True]
    assert found.period[0] == 1


def test_a_diverging_orbit_disturbs_no_other():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        both = orbit(Logistic(3.5), double([0.3], [1.5]))
    alone = orbit(Logistic(3.5), double([0.3]))
    assert both.diverged.values.tolist() == [False, True]
    assert both.burn_in == alone.burn_in
    for name in ("y", "settled", "drift", "period"):
        np.testing.assert_array_equal(both[name][0], alone[name][0])
    assert both.period[1] == 0


def test_an_orbit_that_is_late_to_diverge():
    # 1.05^t overflows at t = 14548: not within the burn-in, but within the record
    found = orbit(Linear(double([1.05])), double([1.0]), burn_in=14400, steps=400)
    assert found.diverged.item()
    assert not found.settled.item()
    assert np.isfinite(found.y[0, :100]).all()


@pytest.mark.parametrize("mu", [0.05, 0.25])
@pytest.mark.parametrize("omega", [GOLDEN, 0.2, 2 * math.pi / 32 + 1e-3])
def test_a_turning_circle_settles_though_it_is_not_periodic(mu, omega):
    found = orbit(NeimarkSacker(mu, omega), double([0.1, 0.0], [0.0, 0.6]))
    assert found.settled.all()
    assert not found.period.any()
    np.testing.assert_allclose(np.hypot(*found.y.values.T), math.sqrt(mu), atol=1e-6)
    assert found.burn_in <= 1000


def test_a_turn_by_a_fifth_has_period_five():
    found = orbit(NeimarkSacker(0.1, 2 * math.pi / 5), double([0.1, 0.0]))
    assert found.settled.item()
    assert found.period.item() == 5


@pytest.mark.parametrize("multiplier", [0.5, -0.9, 0.99, -0.99, 0.999, -0.999])
def test_decay_is_called_settled_only_when_it_is(multiplier):
    # x = multiplier^t exactly
    found = orbit(Linear(double([multiplier])), double([1.0]), max_burn_in=100_000, tolerance=1e-7)
    assert found.settled.item()
    remainder = abs(multiplier) ** found.burn_in.item()
    assert remainder < 3e-7
    np.testing.assert_allclose(abs(found.y[0, 0, 0]), remainder, rtol=1e-9)
    # and it is seen before the time in which the deviation shrinks to the tolerance has passed twice
    assert found.burn_in <= max(40, 2 * math.log(1e-7) / math.log(abs(multiplier)))


@pytest.mark.parametrize("multiplier", [0.9999, -0.9999, 1.0001])
def test_slow_change_near_a_bifurcation_stays_undecided(multiplier):
    found = orbit(Linear(double([multiplier])), double([1e-3]))
    assert found.burn_in == 8000
    assert not found.settled.item()
    assert found.drift.item() > 1e-5


def test_a_slowly_shrinking_spiral_stays_undecided():
    turn = double([math.cos(1), -math.sin(1)], [math.sin(1), math.cos(1)])
    found = orbit(Linear(torch.stack((0.9999 * turn, 0.9 * turn))[:, None]), torch.ones(2, 1, 2).double())
    assert found.settled.values.tolist() == [[False], [True]]


def test_slow_convergence_to_a_cycle_is_seen():
    # near 1 the map is x - 2, near -1 it is 1 - m (x + 1): the deviations from the 2-cycle are as
    # 1, 1, -m, -m, m^2, ...
    m = 0.999

    class Flip:
        def step(self, x):
            return torch.where(x > 0, x - 2, 1 - m * (x + 1))

        def observe(self, x):
            return x

    assert not orbit(Flip(), double([1.1]), max_burn_in=4000).settled.item()
    found = orbit(Flip(), double([1.1]), max_burn_in=100_000)
    assert found.settled.item()
    assert 0.1 * m ** (found.burn_in.item() / 2) < math.sqrt(1e-7)
    assert found.period.item() == 2


def test_an_orbit_that_starts_on_a_fixed_point_is_recognised_at_once():
    found = orbit(Logistic(4.0), double([0.0], [0.75]))
    assert found.settled.all()
    assert found.burn_in < 32
    assert (found.y == double([0.0], [0.75]).numpy()[:, None]).all()


def test_a_jump_onto_a_fixed_point_is_recognised_at_once():
    # all deviations from the start are equal then, and their variance is nothing but rounding
    targets = random(100, 1)

    class Jump:
        def step(self, x):
            return targets.clone()

        def observe(self, x):
            return x

    found = orbit(Jump(), random(100, 1, seed=1))
    assert found.settled.all()
    assert found.burn_in < 32


def test_an_unstable_fixed_point_is_not_where_it_settles():
    # from 1e-6 beside the unstable 0 the orbit creeps, then goes to one of the two stable points
    found = orbit(TanhMap(1.05), double([1e-6], [-1e-6]))
    assert found.settled.all()
    assert np.sign(found.last_state.values).ravel().tolist() == [1, -1]
    x = found.last_state.values
    np.testing.assert_allclose(np.tanh(1.05 * x), x, atol=1e-7)
    assert abs(x).min() > 0.3


def test_two_attractors_are_found_from_different_samples():
    found = orbit(TanhMap(double(0.8, 2.0)[:, None]), double([[-0.5], [0.5]]).expand(2, 2, 1))
    assert found.settled.all()
    np.testing.assert_allclose(found.last_state[0], 0, atol=1e-6)
    upper = found.last_state[1, 1].item()
    assert upper > 0.9
    assert upper == pytest.approx(math.tanh(2 * upper), abs=1e-6)
    assert found.last_state[1, 0].item() == pytest.approx(-upper, abs=1e-12)


def test_states_far_outside_are_measured_relative_to_their_size():
    # the norm falls by a constant at each step, as in an orthogonal network started far outside
    class Shrink:
        def step(self, x):
            return x.sign() * (x.abs() - 0.44).clamp(min=1)

        def observe(self, x):
            return x

    found = orbit(Shrink(), double([1414.0]))
    assert found.settled.item()
    assert 3211 <= found.burn_in <= 8000
    assert found.y.values.ravel().tolist() == [1.0] * 400


def test_large_cycles_settle_as_small_ones_do():
    small = NeimarkSacker(0.25, 0.2)

    class Large:
        def step(self, x):
            return 1e6 * small.step(x / 1e6)

        def observe(self, x):
            return x

    x0 = double([0.1, 0.0])
    assert orbit(Large(), 1e6 * x0).settled.item()
    assert orbit(Large(), 1e6 * x0).burn_in == orbit(small, x0).burn_in


def test_what_is_observed_may_diverge_alone():
    # log(x - 0.6) is NaN at one of the two points of the cycle, 0.513
    found = orbit(Observed(Logistic(3.2), lambda x: (x - 0.6).log()), double([0.3]))
    assert found.diverged.item()
    assert not found.settled.item()
    assert np.isfinite(found.last_state).all()


def test_chaos_that_comes_by_again_is_not_settled():
    # of so many orbits several are within the tolerance of where they were at the look before
    x0 = random(200_000, 1)
    options = {"burn_in": 500, "steps": 1, "tolerance": 1e-5}
    found = orbit(Logistic(3.9), x0, **options)
    assert not found.settled.any()
    earlier = orbit(Logistic(3.9), x0, **options | {"burn_in": 354}).last_state
    assert (abs(found.last_state - earlier) < 1e-5).sum() > 3


def test_burn_in_is_taken_by_the_word():
    system, x = Logistic(3.9), double([0.3], [0.4])
    found = orbit(system, x, burn_in=37, steps=5)
    for _ in range(37):
        x = system.step(x)
    expected = []
    for _ in range(5):
        expected.append(x)
        x = system.step(x)
    np.testing.assert_array_equal(found.y, torch.stack(expected, -2))
    np.testing.assert_array_equal(found.last_state, expected[-1])
    assert found.burn_in == 37
    assert found.time.values.tolist() == [0, 1, 2, 3, 4]


def test_without_burn_in_the_record_starts_at_the_start():
    found = orbit(Logistic(4.0), double([0.75], [0.3]), burn_in=0, steps=2)
    np.testing.assert_allclose(found.y[..., 0], [[0.75, 0.75], [0.3, 0.84]])
    assert not found.settled.any()


def test_a_given_burn_in_is_judged_too():
    assert orbit(Logistic(3.5), double([0.3]), burn_in=500).settled.item()
    assert not orbit(Logistic(3.9), double([0.3]), burn_in=500).settled.item()


def test_period_wants_the_whole_record():
    # a turn by slightly more than a fifth returns after 5 steps, but drifts away from where it was
    nearly = NeimarkSacker(0.25, 2 * math.pi / 5 + 1e-5)
    assert orbit(nearly, double([0.5, 0.0]), steps=20).period.item() == 5
    assert orbit(nearly, double([0.5, 0.0]), steps=400).period.item() == 0


def test_periods_longer_than_asked_for_are_not_found():
    x = double([0.3])
    assert orbit(Logistic(3.55), x, max_period=8).period.item() == 8
    assert orbit(Logistic(3.55), x, max_period=7).period.item() == 0
    assert orbit(Logistic(3.55), x, steps=16).period.item() == 8
    assert orbit(Logistic(3.55), x, steps=15).period.item() == 0
    assert orbit(Logistic(3.55), x, steps=1).period.item() == 0


def test_period_is_that_of_the_state_not_of_the_view():
    blind = Observed(Logistic(double(2.8, 3.5)), lambda x: 0 * x)
    assert orbit(blind, double([0.3], [0.3])).period.values.tolist() == [1, 4]


@pytest.mark.parametrize(
    ("batch", "dims"),
    [
        ((), ()),
        ((3,), ("sample",)),
        ((2, 3), ("probe", "sample")),
        ((2, 3, 1), ("axis_0", "axis_1", "axis_2")),
    ],
)
def test_axes_have_names(batch, dims):
    found = orbit(Henon(0.2, 0.3), torch.zeros(*batch, 2).double(), steps=4)
    assert found.settled.dims == found.period.dims == found.diverged.dims == found.drift.dims == dims
    assert found.y.dims == (*dims, "time", "observable")
    assert found.y.shape == (*batch, 4, 2)
    assert found.last_state.dims == (*dims, "state")
    assert found.y.dtype == np.float64
    assert found.time.attrs["units"] == "time steps"
    assert found.attrs["tolerance"] == 1e-7


def test_rows_are_independent():
    together = orbit(Logistic(3.5), double([0.2], [0.3]), burn_in=300)
    for i, x in enumerate(double([[0.2]], [[0.3]])):
        alone = orbit(Logistic(3.5), x, burn_in=300)
        np.testing.assert_array_equal(together.y[i], alone.y[0])
        np.testing.assert_array_equal(together.drift[i], alone.drift[0])


def test_looking_leaves_no_trace():
    x0 = double([0.3]).requires_grad_()
    before, state = x0.detach().clone(), torch.get_rng_state()
    orbit(Logistic(3.5), x0)
    assert torch.equal(x0, before)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.is_grad_enabled()
    assert torch.get_default_dtype() == torch.float32


def test_single_precision_orbits_are_recorded_in_double():
    class Half:
        def step(self, x):
            return 0.5 * x

        def observe(self, x):
            return x

    found = orbit(Half(), torch.ones(3, 1), steps=2, burn_in=4)
    assert found.y.dtype == np.float64
    assert found.y[0].values.ravel().tolist() == [2**-4, 2**-5]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps=0 is not possible"),
        ({"burn_in": -1}, "burn_in=-1 is not possible"),
        ({"max_burn_in": 0}, "max_burn_in=0 is not possible"),
        ({"max_period": -1}, "max_period=-1 is not possible"),
        ({"tolerance": 0.0}, "tolerance=0.0 is not possible"),
        ({"steps": 2.5}, "steps=2.5 is not possible"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        orbit(Logistic(3.5), double([0.3]), **options)


def test_states_that_are_none_are_refused():
    with pytest.raises(ValueError, match="x0 of shape"):
        orbit(Logistic(3.5), torch.tensor([1]))
    with pytest.raises(ValueError, match="x0 of shape"):
        orbit(Logistic(3.5), torch.tensor(0.5))
    with pytest.raises(ValueError, match=r"of shape \(2, 1\) and type torch.float64 to shape \(5, 2, 1\)"):
        orbit(Logistic(torch.ones(5, 1)), double([0.3], [0.4]))
    with pytest.raises(ValueError, match=r"type torch.float32 to .* type torch.float64"):
        orbit(Logistic(3.5), torch.ones(2, 1))
