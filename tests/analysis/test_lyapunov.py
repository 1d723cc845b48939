import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnlab.analysis.lyapunov import lyapunov_spectrum
from rnnlab.autonomous import ClosedLoop, HeldInput, Wrapped, freeze, wrap_torch
from rnnlab.cells import GRU, LSTM, Orthogonal
from rnnlab.maps import CatMap, Henon, Hopf, Linear, Logistic, Lorenz, NeimarkSacker, TanhMap
from rnnlab.systems import Flow, jacobian


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


def random(*shape, seed=0):
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def held(cell, value=0.0):
    return HeldInput(freeze(Wrapped(cell)), torch.tensor([value], dtype=torch.float64))


def agrees(found, truth, slack=1e-9):
    """Every exponent within three standard errors of the truth, and the error small enough to mean it."""
    assert (np.abs(found.exponent - truth) <= 3 * found.standard_error + slack).all(), found.exponent.values
    assert (found.standard_error < 0.02 * (1 + np.abs(truth))).all(), found.standard_error.values


def two_trajectories(step, x, steps, discard, distance=1e-7):
    """Benettin's estimate of the leading exponent, from pairs of orbits and no derivative."""
    near = x + distance * torch.nn.functional.normalize(torch.ones_like(x), dim=-1)
    rates = []
    for _ in range(discard + steps):
        x, near = step(x), step(near)
        apart = near - x
        length = torch.linalg.vector_norm(apart, dim=-1, keepdim=True)
        rates.append((length / distance).log())
        near = x + apart * (distance / length)
    return torch.stack(rates[discard:]).mean(0).squeeze(-1)


# --- known exponents -------------------------------------------------------------------------------------


def test_linear_map_with_jordan_like_and_complex_part():
    # eigenvalues 0.9 e^(+-i), 1.5, 0.2 behind a triangular coupling: far from normal
    a = torch.zeros(4, 4).double()
    a[0, 0], a[3, 3] = 1.5, 0.2
    a[1:3, 1:3] = 0.9 * double([math.cos(1), -math.sin(1)], [math.sin(1), math.cos(1)])
    a += 3 * torch.ones(4, 4).double().triu(1) * double([0, 1, 1, 1], [0, 0, 0, 1], [0, 0, 0, 1], [0] * 4)
    truth = np.log([1.5, 0.9, 0.9, 0.2])
    found = lyapunov_spectrum(Linear(a), torch.zeros(1, 4).double(), steps=2000)
    agrees(found, truth, slack=1e-3)
    np.testing.assert_allclose(found.exponent.sum(), truth.sum(), atol=1e-12)
    assert found.kaplan_yorke == pytest.approx(3 + truth[:3].sum() / -truth[3], abs=2e-3)


@settings(max_examples=25)
@given(
    st.lists(st.floats(-2.0, 1.0), min_size=1, max_size=5),
    st.integers(0, 2**16),
)
def test_any_linear_map_with_separate_real_eigenvalues(logs, seed):
    logs = np.cumsum(-0.3 - np.abs(logs)) + 1.0
    basis = torch.eye(len(logs)).double() + 0.5 * random(len(logs), len(logs), seed=seed).tril(-1)
    a = basis @ torch.diag(torch.as_tensor(logs).exp()) @ torch.linalg.inv(basis)
    found = lyapunov_spectrum(
        Linear(a), torch.zeros(1, len(logs)).double(), steps=100, discard=150, seed=seed
    )
    np.testing.assert_allclose(found.exponent, logs, atol=1e-8)


def test_logistic_chaos_and_cycle_as_probes():
    found = lyapunov_spectrum(Logistic(double(4.0, 3.2)[:, None]), random(2, 60, 1), steps=1500)
    assert found.exponent.dims == ("probe", "mode")
    agrees(found, [[math.log(2)], [0.5 * math.log(abs(4 + 2 * 3.2 - 3.2**2))]])
    assert found.exponent[1].item() == pytest.approx(-0.916291, abs=1e-3)
    assert found.kaplan_yorke.values.tolist() == [1.0, 0.0]


def test_henon():
    found = lyapunov_spectrum(Henon(), 0.1 * random(200, 2), steps=1200)
    agrees(found, [0.41922, -1.62319])
    assert found.standard_error.max() < 2e-3
    np.testing.assert_allclose(found.sample_exponent.sum("mode"), math.log(0.3), atol=1e-10)
    # the sum is known at every step count
    np.testing.assert_allclose(found.running.sum("mode"), math.log(0.3), atol=1e-10)
    assert found.kaplan_yorke.item() == pytest.approx(1.258, abs=0.003)


def test_cat_map_is_exact():
    found = lyapunov_spectrum(CatMap(), random(3, 2))
    truth = math.log((3 + math.sqrt(5)) / 2)
    np.testing.assert_allclose(found.exponent, [truth, -truth], atol=1e-12)
    np.testing.assert_allclose(found.sample_exponent, 3 * [[truth, -truth]], atol=1e-12)
    assert found.kaplan_yorke.item() == pytest.approx(2.0)
    assert (found.standard_error < 1e-12).all()


def test_lorenz_as_field_and_as_flow():
    x0 = 10 + random(100, 3)
    found = lyapunov_spectrum(Lorenz(), x0, steps=1500, discard=500, dt=0.02)
    truth = np.array([0.9056, 0.0, -14.5723])
    assert (abs(found.exponent - truth) <= 3 * found.standard_error + found.integration_error).all()
    assert (found.standard_error < 0.06).all()
    assert found.exponent.units == "nats per unit time"
    assert float(found.time[-1]) == pytest.approx(30.0)
    # the divergence is constant: only the integrator is to blame, and knows how much
    gap = abs(found.exponent.sum() + 41 / 3)
    assert gap <= 1.5 * found.integration_error.sum()
    assert found.integration_error.max() < 5e-3
    assert found.kaplan_yorke.item() == pytest.approx(2.062, abs=0.01)
    same = lyapunov_spectrum(Flow(Lorenz(), 0.02), x0[:2], steps=50, discard=5)
    field = lyapunov_spectrum(Lorenz(), x0[:2], steps=50, discard=5, dt=0.02)
    np.testing.assert_array_equal(same.exponent, field.exponent)


def test_integration_error_is_of_fourth_order_and_tells_the_truth():
    # the attracting circle of radius 1: exponents 0 and -2 for the true flow
    coarse, fine = (
        lyapunov_spectrum(
            Hopf(1.0, 3.0), double([1.0, 0.0]), steps=round(12 / dt), discard=round(8 / dt), dt=dt
        )
        for dt in (0.1, 0.05)
    )
    for found in (coarse, fine):
        gap = abs(found.exponent - [0.0, -2.0])
        assert (gap <= 2 * found.integration_error + 1e-9).all()
        assert gap[1] >= 0.3 * found.integration_error[1]
    assert 10 < coarse.integration_error[1] / fine.integration_error[1] < 24


@pytest.mark.parametrize("mu", [0.05, 0.2])
def test_neimark_sacker_torus(mu):
    found = lyapunov_spectrum(NeimarkSacker(mu, 1.234), double([0.3, 0.1], [0.0, 0.6]), discard=500)
    np.testing.assert_allclose(found.exponent, [0.0, math.log(1 - 2 * mu)], atol=1e-9)
    assert found.kaplan_yorke.item() == 1.0


def test_fixed_points_of_the_one_unit_network():
    found = lyapunov_spectrum(TanhMap(0.5), double([0.0], [1.0]))
    np.testing.assert_allclose(found.exponent, math.log(0.5), atol=1e-9)
    assert found.kaplan_yorke == 0


# --- networks --------------------------------------------------------------------------------------------


def chaotic_lstm(scale):
    cell = LSTM(1, 2)
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.zero_()
        gates = [[[-1, -4], [-3, -2]], [[-2, 6], [0, -6]], [[-1, -6], [6, -9]], [[4, 1], [-9, -7]]]
        cell.weight_hh.copy_(scale * torch.tensor(gates, dtype=torch.float64).reshape(8, 2))
    return held(cell)


@pytest.mark.parametrize(
    ("scale", "truth", "tolerance"),
    [(0.5, -0.557180, 1e-4), (0.7, -0.141762, 1e-4), (1.5, -0.485091, 1e-4), (0.92, 0.2054, 1e-4)],
)
def test_leading_exponent_of_the_two_unit_lstm(scale, truth, tolerance):
    x0 = 0.5 + 1e-6 * random(40, 4)
    found = lyapunov_spectrum(chaotic_lstm(scale), x0, count=1, steps=1500, discard=500)
    assert abs(found.exponent - truth).item() <= 3 * found.standard_error.item() + tolerance
    assert found.standard_error < 0.005


def test_full_spectrum_of_the_chaotic_two_unit_lstm():
    system = chaotic_lstm(1.0)
    x0 = 0.5 + 1e-6 * random(60, 4)
    found = lyapunov_spectrum(system, x0, steps=1500, discard=300)
    truth = np.array([0.1696, -0.385, -1.677, -4.62])
    assert (abs(found.exponent - truth) <= 3 * found.standard_error + [2e-4, 1e-3, 1e-3, 1e-2]).all()
    assert found.standard_error[0] < 0.003
    naive = two_trajectories(system.step, x0, 1500, 300)
    spread = naive.std().item() / math.sqrt(60)
    assert abs(naive.mean().item() - found.exponent[0]) <= 3 * math.hypot(spread, found.standard_error[0])


def test_random_chaotic_lstm_against_two_trajectories():
    cell = LSTM(1, 30).double()
    with torch.no_grad():
        cell.weight_hh.mul_(12)
    system = held(cell)
    x0 = random(20, 60, seed=3)
    found = lyapunov_spectrum(system, x0, count=3, steps=600)
    naive = two_trajectories(system.step, x0, 600, 200)
    spread = naive.std().item() / math.sqrt(20)
    assert found.exponent[0] > 5 * found.standard_error[0]  # chaos
    assert abs(naive.mean().item() - found.exponent[0]) <= 3 * math.hypot(spread, found.standard_error[0])


def eigenvalue_logs(hidden, steps):
    torch.manual_seed(5)
    system = held(LSTM(1, hidden).double(), 0.3)
    x = torch.zeros(1, 2 * hidden).double()
    for _ in range(2000):
        x = system.step(x)
    dense = torch.func.jacrev(system.step)(x[0])
    truth = torch.linalg.eigvals(dense).abs().log().sort(descending=True).values.numpy()
    found = lyapunov_spectrum(system, x, steps=steps, discard=steps)
    # each exponent carries a remainder of order 1/steps from the eigenvectors' angles; their sum none
    np.testing.assert_allclose(found.exponent, truth, atol=4 / steps)
    np.testing.assert_allclose(found.exponent.sum(), truth.sum(), atol=1e-8)
    assert found.exponent.sizes == {"mode": 2 * hidden}


def test_spectrum_at_a_fixed_point_of_an_lstm():
    eigenvalue_logs(10, 3000)


@pytest.mark.slow
def test_spectrum_at_a_fixed_point_of_an_lstm_of_200_units():
    eigenvalue_logs(200, 500)


def test_full_sum_is_the_mean_log_determinant():
    cell = GRU(1, 6).double()
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.mul_(4)
    system = held(cell, 0.5)
    x = x0 = random(3, 6)
    found = lyapunov_spectrum(system, x0, steps=100, discard=20)
    logs = []
    for _ in range(120):
        logs.append(torch.func.vmap(torch.func.jacrev(system.step))(x).slogdet()[1])
        x = system.step(x)
    np.testing.assert_allclose(
        found.sample_exponent.sum("mode"), torch.stack(logs[20:]).mean(0), atol=1e-8, rtol=0
    )


def test_linear_orthogonal_network_neither_grows_nor_shrinks():
    cell = Orthogonal(1, 20).double()
    with torch.no_grad():
        cell.b.zero_()
    found = lyapunov_spectrum(held(cell, 0.7), random(2, 20))
    np.testing.assert_allclose(found.exponent, 0.0, atol=1e-12)


def test_leading_exponents_are_those_of_the_full_spectrum():
    system = chaotic_lstm(0.7)
    full, leading = (lyapunov_spectrum(system, double([0.5] * 4), count=k, discard=800) for k in (4, 2))
    np.testing.assert_allclose(leading.exponent, full.exponent[:2], atol=1e-3)
    assert np.isnan(lyapunov_spectrum(CatMap(), random(1, 2), count=1).kaplan_yorke)


def test_probes_are_what_they_are_alone():
    system, x0 = GRU(1, 4).double(), random(3, 2, 4)
    model = freeze(Wrapped(system))
    inputs = double([-1.0], [0.0], [2.0])
    together = lyapunov_spectrum(HeldInput(model, inputs[:, None]), x0)
    for probe in range(3):
        alone = lyapunov_spectrum(HeldInput(model, inputs[probe]), x0[probe])
        for name in ("exponent", "standard_error", "sample_exponent", "running", "kaplan_yorke", "diverged"):
            np.testing.assert_allclose(together[name][probe], alone[name], atol=1e-9, err_msg=name)
    assert together.sample_exponent.dims == ("probe", "sample", "mode")
    assert together.running.dims == ("probe", "time", "mode")


def test_closed_loop():
    model = freeze(Wrapped(GRU(1, 5), torch.nn.Linear(5, 1)))
    loop = ClosedLoop(model)
    x = x0 = loop.start(random(2, 5))
    found = lyapunov_spectrum(loop, x0)
    # y is read off x: one direction of (x, y) is destroyed at every step
    assert found.exponent[5] == -math.inf
    assert not any(found[name].isnull().any() for name in found)
    for _ in range(2000):
        x = loop.step(x)
    reduced = torch.linalg.eigvals(jacobian(loop, x[0])).abs().log().sort(descending=True).values
    np.testing.assert_allclose(found.exponent[:5], reduced[:5], atol=5e-3)


# --- driven by inputs ------------------------------------------------------------------------------------


class Driven:
    """A network and its inputs, `(time, *input)`."""

    def __init__(self, model, inputs):
        self.model, self.inputs = model, inputs

    def at(self, time):
        return HeldInput(self.model, self.inputs[time])

    def __len__(self):
        return len(self.inputs)


def test_driven_network_against_the_product_of_its_jacobians():
    model = freeze(wrap_torch(torch.nn.GRU(1, 3)))
    sequence = Driven(model, random(24, 1, seed=2))
    x, x0 = random(2, 3), random(2, 3)
    found = lyapunov_spectrum(sequence, x0, discard=0)
    assert found.steps == 24
    product = torch.eye(3).double().expand(2, 3, 3)
    for time in range(24):
        step = sequence.at(time).step
        product = torch.func.vmap(torch.func.jacrev(step))(x) @ product
        x = step(x)
    np.testing.assert_allclose(24 * found.sample_exponent.sum("mode"), product.slogdet()[1], atol=1e-8)
    # the volume spanned by the first vectors of the frame is known as well
    first = torch.linalg.qr(
        torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    )[0][:, :1]
    growth = torch.linalg.vector_norm(product @ first, dim=-2).log()
    np.testing.assert_allclose(24 * found.sample_exponent[:, :1], growth, atol=1e-8)


def test_driven_network_begins_at_its_first_input():
    class Stretch:
        def at(self, time):
            return Linear(torch.full((1, 1), 2.0 if time < 10 else 3.0).double())

        def __len__(self):
            return 30

    zero = torch.zeros(1, 1).double()
    found = lyapunov_spectrum(Stretch(), zero, discard=5, steps=10)
    assert found.exponent.item() == pytest.approx(0.5 * math.log(6))
    assert lyapunov_spectrum(Stretch(), zero, discard=10).exponent.item() == pytest.approx(math.log(3))


# --- errors, zeros, runaways -----------------------------------------------------------------------------


def test_destroyed_directions_are_minus_infinity_not_nan():
    superstable = lyapunov_spectrum(Logistic(2.0), double([0.5], [0.5]))
    assert superstable.exponent.item() == -math.inf
    assert superstable.standard_error.item() == 0
    assert superstable.kaplan_yorke == 0
    rank_one = double([2.0, 4.0, 0.0], [0.1, 0.2, 0.0], [1.0, 5.0, 0.0])
    found = lyapunov_spectrum(Linear(rank_one), torch.zeros(1, 3).double())
    eigenvalues = np.abs(np.linalg.eigvals(rank_one.numpy()))
    np.testing.assert_allclose(found.exponent[0], math.log(max(eigenvalues)), atol=1e-9)
    assert (found.exponent[1:] == -math.inf).all()
    assert not any(found[name].isnull().any() for name in found)
    assert found.kaplan_yorke == 1  # a line that grows, the rest gone


def test_a_diverging_sample_disturbs_no_other():
    both = lyapunov_spectrum(Logistic(3.5), double([0.3], [1.5], [0.4]), steps=300)
    alone = lyapunov_spectrum(Logistic(3.5), double([0.3], [0.4]), steps=300)
    assert both.diverged == 1
    assert np.isnan(both.sample_exponent[1]).all()
    for name in ("exponent", "standard_error", "running"):
        np.testing.assert_allclose(both[name], alone[name], atol=1e-12)
    none = lyapunov_spectrum(Logistic(3.5), double([1.5]), steps=300)
    assert none.diverged == 1
    assert np.isnan([none.exponent.item(), none.standard_error.item(), none.kaplan_yorke.item()]).all()


def test_a_sample_that_comes_back_from_infinity_is_lost():
    class Inverse:
        def step(self, x):
            return 1 / x

        def observe(self, x):
            return x

    found = lyapunov_spectrum(Inverse(), double([0.0], [2.0]), steps=20, discard=0)
    assert found.diverged == 1
    assert abs(found.exponent.item()) < 1e-12


def test_standard_error_covers_the_truth():
    # 60 runs of each kind: an honest error covers the truth in nearly all, and is not far too large
    many = Logistic(torch.full((60, 1), 3.9).double())
    found = lyapunov_spectrum(many, random(60, 10, 1), steps=300)
    truth = lyapunov_spectrum(Logistic(3.9), random(400, 1, seed=9), steps=3000).exponent.item()
    ratio = np.abs(found.exponent - truth) / found.standard_error
    assert (ratio < 2.5).mean() > 0.9
    assert ratio.mean() > 0.3
    single = lyapunov_spectrum(many, random(60, 1, 1, seed=4), steps=2000)
    ratio = np.abs(single.exponent - truth) / single.standard_error
    assert (ratio < 2.5).mean() > 0.9
    assert ratio.mean() > 0.3


def test_blocks_see_correlations():
    class Blinking:
        """A slow clock that switches the growth rate now and then: x is (growth, noise)."""

        def step(self, x):
            clock = (3.99 * x[..., 1] * (1 - x[..., 1])).clamp(0, 1)
            kept = torch.where(clock < 0.02, 1 - x[..., 2], x[..., 2])
            return torch.stack((x[..., 0] * torch.where(kept > 0.5, 0.5, 0.25), clock, kept), -1)

        def observe(self, x):
            return x

    x0 = torch.cat((torch.zeros(40, 1, 1).double(), random(40, 1, 1), torch.ones(40, 1, 1).double()), -1)
    found = lyapunov_spectrum(Blinking(), x0, steps=4000)
    slow = np.sort(found.exponent, axis=-1)[:, 0]
    error = np.take_along_axis(
        found.standard_error.values, np.argsort(found.exponent.values, -1)[:, :1], -1
    ).squeeze()
    assert (np.abs(slow - 1.5 * math.log(0.5)) < 3 * error).mean() > 0.9


def test_convergence_curve():
    found = lyapunov_spectrum(Logistic(4.0), random(5, 1), steps=1000)
    assert found.running.sizes == {"time": 64, "mode": 1}
    np.testing.assert_allclose(found.running[-1], found.exponent, atol=1e-12)
    assert found.time[-1] == 1000
    short = lyapunov_spectrum(Logistic(4.0), random(5, 1), steps=round(float(found.time[9])))
    np.testing.assert_allclose(found.running[9], short.exponent, atol=1e-9)
    single = lyapunov_spectrum(Logistic(4.0), random(5, 1), steps=1)
    assert np.isfinite(single.exponent).all()
    assert np.isnan(single.standard_error).all()
    assert lyapunov_spectrum(Logistic(4.0), random(5, 1), steps=7).time.values.tolist() == list(range(1, 8))


def test_looking_changes_nothing():
    cell = GRU(1, 4)
    state = torch.get_rng_state()
    before = {name: value.clone() for name, value in cell.state_dict().items()}
    x0 = random(2, 4)
    x, y = (lyapunov_spectrum(held(cell), x0, steps=20, seed=s) for s in (0, 0))
    np.testing.assert_array_equal(x.exponent, y.exponent)
    assert not np.array_equal(x.exponent, lyapunov_spectrum(held(cell), x0, steps=20, seed=1).exponent)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], value) for name, value in cell.state_dict().items())
    assert cell.training
    assert all(parameter.requires_grad for parameter in cell.parameters())
    np.testing.assert_array_equal(x0, random(2, 4))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "count=0 is not possible"),
        ({"count": 3}, "count=3 is not possible.*from 1 to 2"),
        ({"steps": 0}, "steps=0 is not possible"),
        ({"steps": 2.5}, "steps=2.5 is not possible"),
        ({"discard": -1}, "discard=-1 is not possible"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        lyapunov_spectrum(CatMap(), random(1, 2), **options)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="float64"):
        lyapunov_spectrum(CatMap(), torch.zeros(1, 2))
    with pytest.raises(TypeError, match="no dynamical system"):
        lyapunov_spectrum(object(), random(1, 2))
    with pytest.raises(ValueError, match="dt=0"):
        lyapunov_spectrum(Lorenz(), random(1, 3), dt=0.0)
    sequence = Driven(freeze(wrap_torch(torch.nn.GRU(1, 3))), random(24, 1))
    with pytest.raises(ValueError, match="discard=20 and steps=5 are not possible: the sequence has 24"):
        lyapunov_spectrum(sequence, random(1, 3), discard=20, steps=5)
    with pytest.raises(ValueError, match="discard=24 is not possible: the sequence has 24"):
        lyapunov_spectrum(sequence, random(1, 3), discard=24)
