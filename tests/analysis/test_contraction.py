"""Bounds on the stretch of the state map: constants known by algebra, and the chain that always holds."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnlab import maps
from rnnlab.analysis.contraction import _non_negative_norm, _norm, _stretch, _weights, contraction
from rnnlab.analysis.lyapunov import lyapunov_spectrum
from rnnlab.autonomous import HeldInput, InputSet, freeze
from rnnlab.cells import GRU, LSTM, Elman, Orthogonal, StableLSTM
from rnnlab.model import RecurrentModel
from rnnlab.systems import Flow, Iterated, bounds, jacobian

CELLS = {
    "elman": Elman,
    "relu": partial(Elman, nonlinearity="relu"),
    "gru before": partial(GRU, reset="before"),
    "gru after": partial(GRU, reset="after"),
    "lstm": LSTM,
    "stable lstm": StableLSTM,
    "orthogonal": Orthogonal,
}


def network(cell, size: int, gain: float = 1.0, layers: int = 1) -> RecurrentModel:
    model = RecurrentModel(2, 1, partial(cell, hidden_size=size), num_layers=layers)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(gain)
    model.constrain()
    return freeze(model)


def states(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def chain_holds(found) -> bool:
    upper, sampled, rate = (found[name].values for name in ("upper", "sampled", "rate"))
    return bool(((upper >= sampled) & ~(rate > sampled)).all())


@pytest.mark.parametrize("w", [-1.7, -0.5, 0.3, 1.0, 2.5])
def test_the_tanh_map_has_the_constant_w(w):
    found = contraction(maps.TanhMap(w), torch.zeros(1, 1, dtype=torch.float64))
    np.testing.assert_allclose(found.upper, abs(w), rtol=1e-12)
    np.testing.assert_allclose(found.sampled, abs(w), rtol=1e-12)  # at 0, where the orbit rests
    np.testing.assert_allclose(found.rate, abs(w), rtol=1e-12)
    assert (found.upper >= abs(w)).all()
    assert found.contracting.item() == (abs(w) < 1)
    assert chain_holds(found)


def test_a_linear_map_has_the_norms_of_its_matrix():
    A = states(4, 4)
    found = contraction(maps.Linear(A), states(3, 4))
    truth = [torch.linalg.matrix_norm(A, 2), torch.linalg.matrix_norm(A, math.inf)]
    truth.append(torch.linalg.eigvals(A.abs()).abs().max())
    for values in (found.upper, found.sampled):
        np.testing.assert_allclose(values, truth, rtol=1e-6)
    np.testing.assert_allclose(found.upper[:2], truth[:2], rtol=1e-11)
    assert (found.upper.values[:2] >= np.array(truth[:2])).all()
    np.testing.assert_allclose(found.rate, torch.linalg.eigvals(A).abs().max(), rtol=0.1)
    assert chain_holds(found)


def test_weights_make_a_triangular_map_contract():
    A = torch.tensor([[0.5, 100.0], [0.0, 0.5]]).double()
    found = contraction(maps.Linear(A), states(3, 2))
    assert found.contracting.item()
    assert found.best.item() == "weighted"
    assert found.upper.sel(norm="inf") == pytest.approx(100.5)
    assert 0.5 <= found.upper.sel(norm="weighted").item() < 0.51
    w = found.weights.values
    assert ((np.abs(A.numpy()) @ w / w).max() <= found.upper.sel(norm="weighted")).all()


def test_a_nilpotent_map_forgets_everything():
    A = torch.tensor([[0.0, 3.0, 1.0], [0.0, 0.0, 2.0], [0.0, 0.0, 0.0]]).double()
    found = contraction(maps.Linear(A), states(3, 3))
    assert found.contracting.item()
    assert found.rate.values.tolist() == [0, 0, 0]
    assert chain_holds(found)


@settings(max_examples=40)
@given(st.integers(1, 6), st.integers(0, 10**6), st.floats(-6, 6))
def test_norms_of_matrices_are_bounded_from_above_and_closely(size, seed, scale):
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(size, size, dtype=torch.float64, generator=generator) * 10**scale
    matrix[torch.rand(size, size, generator=generator) < 0.3] = 0
    mpmath = pytest.importorskip("mpmath")
    with mpmath.workdps(40):
        exact = max(mpmath.svd_r(mpmath.matrix(matrix.tolist()), compute_uv=False))
        assert exact <= _norm(matrix) <= exact * (1 + mpmath.mpf(10) ** -12)
        exact = max(mpmath.svd_r(mpmath.matrix(matrix.abs().tolist()), compute_uv=False))
        assert exact <= _non_negative_norm(matrix.abs())
        weights = _weights(matrix.abs())
        rows = matrix.abs().tolist()
        products = [
            mpmath.fdot(zip(row, weights.tolist(), strict=True)) / w
            for row, w in zip(rows, weights.tolist(), strict=True)
        ]
        assert max(products) <= _stretch(matrix.abs(), weights)
    radius = float(torch.linalg.eigvals(matrix.abs()).abs().max())
    assert radius * (1 - 1e-5) <= _stretch(matrix.abs(), weights)
    largest = float(matrix.abs().sum(-1).max())
    assert _stretch(matrix.abs(), weights) <= max(radius, 1e-6 * largest) * (1 + 1e-5)


def test_norms_are_bounded_however_bad_the_eigenvectors(monkeypatch):
    matrix = states(5, 5)
    truth = [float(torch.linalg.matrix_norm(part, 2)) for part in (matrix, matrix.abs())]

    def bad(a):
        return a.diagonal(), torch.eye(5).double()

    monkeypatch.setattr(torch.linalg, "eigh", bad)
    assert truth[0] <= _norm(matrix) < 3 * truth[0]
    assert truth[1] <= _non_negative_norm(matrix.abs()) < 3 * truth[1]


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("gain", [0.5, 1.0, 3.0])
def test_the_chain_holds_for_every_cell(name, gain):
    model = network(CELLS[name], 3, gain)
    size = model.state_size
    held = contraction(HeldInput(model, torch.rand(2, 1, 2).double()), states(2, 3, size), steps=50)
    assert held.upper.dims == ("probe", "norm")
    assert chain_holds(held)
    inputs = InputSet(model, -torch.ones(2), torch.ones(2))
    every = contraction(inputs, states(3, size), steps=50)
    assert every.upper.dims == ("norm",)
    assert chain_holds(every)
    # what holds for all inputs holds for each
    assert (every.upper.max() >= held.sampled.min("norm")).all()
    if name != "orthogonal":
        assert np.isfinite(held.upper).all()


@settings(max_examples=25)
@given(
    st.sampled_from(["tanh", "linear", "henon", "logistic", "twice", "iterate", "network", "flow"]),
    st.integers(0, 10**6),
    st.floats(0.1, 3.0),
)
def test_the_chain_holds_for_every_system(name, seed, gain):
    torch.manual_seed(seed)
    weight, bias = gain * states(3, 3), states(3)

    class Net:
        def step(self, x):
            return torch.tanh(x @ weight.mT + bias)

        def observe(self, x):
            return x

    class Boxed(Net):
        def bounds(self):
            return -torch.ones(3).double(), torch.ones(3).double()

    system, size = {
        "tanh": (maps.TanhMap(gain, 0.3), 2),
        "linear": (maps.Linear(weight), 3),
        "henon": (maps.Henon(gain), 2),
        "logistic": (maps.Logistic(gain + 1), 1),
        "twice": (Iterated(maps.TanhMap(gain), 2), 1),
        "iterate": (Iterated(Net(), 2), 3),
        "network": (Boxed(), 3),
        "flow": (Flow(maps.Hopf(0.5, 1.0), 0.1), 2),
    }[name]
    found = contraction(system, torch.rand(3, size).double(), steps=30, burn_in=10, states=10, seed=seed)
    assert chain_holds(found)


def test_the_bound_is_that_of_all_states_of_the_box():
    model = network(partial(GRU, reset="after"), 3, 3.0)
    system = HeldInput(model, torch.rand(2).double())
    found = contraction(system, states(2, 3))
    low, high = bounds(system)
    x = torch.lerp(low, high, torch.rand(20_000, 3).double())
    matrices = jacobian(system, x)
    w = torch.from_numpy(found.weights.values)
    assert torch.linalg.matrix_norm(matrices, 2).max() <= found.upper.sel(norm="2").item()
    assert torch.linalg.matrix_norm(matrices, math.inf).max() <= found.upper.sel(norm="inf").item()
    assert ((matrices.abs() @ w) / w).max() <= found.upper.sel(norm="weighted").item()
    np.testing.assert_allclose(found.low, low)
    np.testing.assert_allclose(found.high, high)


@pytest.mark.parametrize("gain", [1.0, 4.0])
def test_the_stable_lstm_contracts_under_any_input(gain):
    model = network(StableLSTM, 5, gain)
    certificate = model.cell.certificates()["contraction"]
    assert certificate < 1
    for system in (InputSet(model, -torch.ones(2), torch.ones(2)), HeldInput(model, torch.rand(2).double())):
        found = contraction(system, states(4, 10))
        assert found.contracting.item()
        assert found.upper.sel(norm="inf") < 1
        assert found.upper.sel(norm="inf") <= certificate * 1.01
        assert found.rate.sel(norm="inf") <= found.upper.min()
    leading = lyapunov_spectrum(system, states(4, 10), count=1, steps=200)
    assert leading.exponent[0] <= math.log(found.upper.min()) < 0
    np.testing.assert_allclose(np.log(found.rate), leading.exponent[0], atol=0.02)


def test_the_system_s_own_certificate_counts_in_the_euclidean_norm():
    class Rotation:
        """Turns the plane: each entry of the derivative is known, but they never are largest together."""

        def step(self, x):
            angle = 10 * x.sum(-1)
            first, second = torch.cos(angle), torch.sin(angle)
            return 0.01 * torch.stack((first, second), -1)

        def observe(self, x):
            return x

        def bounds(self):
            return torch.full((2,), -1.0).double(), torch.full((2,), 1.0).double()

    class Certified(Rotation):
        def lipschitz(self):
            return torch.tensor(0.1 * math.sqrt(2) * (1 + 1e-12), dtype=torch.float64)

    class Worse(Rotation):
        def lipschitz(self):
            return torch.tensor(5.0)

    plain, own, worse = (contraction(system(), states(3, 2)) for system in (Rotation, Certified, Worse))
    assert plain.upper.sel(norm="2") == pytest.approx(0.2)
    assert own.upper.sel(norm="2") == pytest.approx(0.1 * math.sqrt(2))
    assert worse.upper.sel(norm="2") == pytest.approx(0.2)
    assert own.upper.sel(norm="inf") == pytest.approx(0.2)
    assert all(chain_holds(found) for found in (plain, own, worse))


def test_what_cannot_be_proved_is_infinite():
    class Erf:
        def step(self, x):
            return torch.erf(0.3 * x)

        def observe(self, x):
            return x

    found = contraction(Erf(), states(3, 1))
    assert np.isinf(found.upper).all()
    assert not found.contracting.item()
    assert found.best.item() == ""
    assert found.attrs["unknown"] == "torch.erf"
    np.testing.assert_allclose(found.rate, 0.6 / math.sqrt(math.pi), rtol=1e-3)
    found = contraction(maps.Henon(), states(3, 2) / 10)  # without a box the slope has no bound
    assert np.isinf(found.upper).all()
    assert found.attrs["unknown"] == ""


def test_orbits_that_diverge_say_nothing():
    found = contraction(maps.Henon(), torch.full((2, 2), 10.0).double())
    assert np.isnan(found.rate).all()
    mixed = contraction(maps.Logistic(3.5), torch.tensor([[0.3], [7.0]]).double())
    assert (mixed.rate < 1).all()


def test_probes_are_bounded_one_by_one():
    model = network(Elman, 3, 2.0)
    u, x0 = torch.randn(3, 1, 2).double(), states(3, 2, 3)
    together = contraction(HeldInput(model, u), x0)
    for k in range(3):
        alone = contraction(HeldInput(model, u[k]), x0[k])
        np.testing.assert_allclose(together.upper[k], alone.upper, rtol=1e-12)
        np.testing.assert_allclose(together.weights[k], alone.weights, rtol=1e-6)
        assert together.best[k].item() == alone.best.item()
    assert together.contracting.dims == ("probe",)
    assert together.low.shape == (3, 3)


def test_a_large_network_takes_seconds():
    model = network(partial(GRU, reset="before"), 150)
    found = contraction(HeldInput(model, torch.zeros(2).double()), states(2, 150), steps=20, states=4)
    assert np.isfinite(found.upper).all()
    assert chain_holds(found)


def test_looking_changes_nothing_and_repeats_itself():
    model = RecurrentModel(2, 1, partial(LSTM, hidden_size=2)).double()
    system, x0 = HeldInput(model, torch.zeros(2).double()), states(2, 4)
    copy, before = x0.clone(), torch.get_rng_state()
    first, second = (contraction(system, x0) for _ in range(2))
    assert first.identical(second)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(copy, x0)
    assert all(parameter.requires_grad for parameter in model.parameters())
    model.read(system.step(x0)).sum().backward()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps=0 is not possible"),
        ({"burn_in": -1}, "burn_in=-1 is not possible"),
        ({"states": 1.5}, "states=1.5 is not possible"),
    ],
)
def test_refused_options(options, message):
    with pytest.raises(ValueError, match=message):
        contraction(maps.TanhMap(0.5), torch.zeros(1, 1).double(), **options)


def test_other_refusals():
    with pytest.raises(TypeError, match="give Flow"):
        contraction(maps.Lorenz(), states(2, 3))
    with pytest.raises(ValueError, match="float64"):
        contraction(maps.TanhMap(0.5), torch.zeros(1, 1))
    model = network(Elman, 3)
    with pytest.raises(ValueError, match=r"give inputs \(probe, 1, input\)|does not take x0|rows"):
        contraction(HeldInput(model, torch.zeros(3, 1, 2).double()), states(2, 3))

    class Lying(maps.TanhMap):
        def bounds(self):
            return torch.tensor([-0.1]).double(), torch.tensor([0.1]).double()

    with pytest.raises(ValueError, match="an orbit leaves the box"):
        contraction(Lying(3.0), torch.ones(1, 1).double())
