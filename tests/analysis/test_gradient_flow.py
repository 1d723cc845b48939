"""What vanishes and explodes: closed forms, an explicit loop differentiated by torch, and what is refused."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from rnnlab.analysis import gradient_flow
from rnnlab.autonomous import freeze, wrap_torch
from rnnlab.cells import LSTM, Orthogonal
from rnnlab.model import RecurrentModel
from rnnlab.objectives import CrossEntropy, LastStep, MeanSquaredError


def draw(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class Linear(nn.Module):
    """x' = A x + u, y = x."""

    def __init__(self, A):
        super().__init__()
        self.A = nn.Parameter(A)
        self.state_size = len(A)

    def step(self, x, u):
        return x @ self.A.T + u

    def read(self, x):
        return x


def twin(model, u, y, objective):
    """All gradients of one sequence's cost by torch: an explicit loop, parameters apart at each step."""
    names = [name for name, _ in model.named_parameters()]
    copies = [
        {k: v.detach().clone().requires_grad_() for k, v in model.named_parameters()} for _ in range(len(u))
    ]
    x = torch.zeros(1, model.state_size, dtype=torch.float64, requires_grad=True)
    states, outputs = [x], []
    for t in range(len(u)):
        x = torch.func.functional_call(
            Call(model), {f"model.{k}": v for k, v in copies[t].items()}, (x, u[t])
        )
        x, output = x
        states.append(x)
        outputs.append(output)
    outputs = torch.stack(outputs)
    cost = objective(outputs, y)["loss"]
    by_state = torch.autograd.grad(cost, states, retain_graph=True, allow_unused=True)
    by_output = torch.autograd.grad(cost, outputs, retain_graph=True)[0][-1]
    last = torch.autograd.grad(outputs[-1], states, by_output, retain_graph=True)
    parts = [torch.autograd.grad(cost, [c[k] for k in names], retain_graph=True) for c in copies]
    return cost, by_state, last, np.array([[float(p.norm()) for p in part] for part in parts])


class Call(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x, u):
        x = self.model.step(x, u)
        return x, self.model.read(x)


NETWORKS = {
    "lstm": lambda: RecurrentModel(1, 2, partial(LSTM, hidden_size=5)),
    "orthogonal": lambda: RecurrentModel(1, 2, partial(Orthogonal, hidden_size=6)),
    "two layers": lambda: RecurrentModel(1, 2, partial(LSTM, hidden_size=3), num_layers=2),
    "torch": lambda: wrap_torch(nn.GRU(1, 4), nn.Linear(4, 2)),
}
OBJECTIVES = {
    "mean": (MeanSquaredError(), lambda: draw(12, 2, 2, seed=2)),
    "sum": (MeanSquaredError(reduction="sum"), lambda: draw(12, 2, 2, seed=2)),
    "last": (LastStep(CrossEntropy()), lambda: torch.tensor([[0, 1]])),
}


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_gradients_are_those_of_torch_through_an_explicit_loop(network, objective):
    model = NETWORKS[network]().double()
    cost, targets = OBJECTIVES[objective]
    u, y = draw(12, 2, 1, seed=1), targets()
    found = gradient_flow(freeze(model), u, y, cost, moments=12, max_lag=1)
    assert found.attrs["end"] == 12
    assert found.parameter.values.tolist() == [name for name, _ in model.named_parameters()]
    for i in range(2):
        value, states, last, parts = twin(model, u[:, i : i + 1], y[:, i : i + 1], cost)
        one = found.isel(sequence=i)
        np.testing.assert_allclose(one.cost, value.item())
        np.testing.assert_allclose(one.gradient, [float(g.norm()) for g in states], rtol=1e-9)
        np.testing.assert_allclose(one.last_gradient, [float(g.norm()) for g in last], rtol=1e-9)
        np.testing.assert_allclose(one.contribution, parts, rtol=1e-9, atol=1e-15)


def test_norms_are_largest_singular_values_of_the_products():
    model = freeze(RecurrentModel(1, 1, partial(LSTM, hidden_size=10)))  # 20 states: more than are carried
    u = draw(30, 2, 1)
    found = gradient_flow(model, u, u, MeanSquaredError(), max_lag=16)
    assert found.lag.values.tolist() == [1, 2, 4, 8, 16]
    for i in range(2):
        xs = [torch.zeros(20, dtype=torch.float64)]
        for t in range(30):
            xs.append(model.step(xs[-1], u[t, i]))
        for lag, norm in zip(found.lag.values, found.norm.values[i], strict=True):
            product = torch.eye(20, dtype=torch.float64)
            for t in range(30 - lag, 30):
                product = torch.func.jacrev(lambda x, t=t, i=i: model.step(x, u[t, i]))(xs[t]) @ product
            truth = float(torch.linalg.matrix_norm(product, 2))
            assert truth * (1 - 3e-3) < norm < truth * (1 + 1e-9)
    assert (found.norm_change < 1e-3).all()


@pytest.mark.parametrize(
    ("a", "fate"), [(0.9, "vanishing"), (1.1, "exploding"), (-1.0, "steady"), (1.0, "steady")]
)
def test_one_linear_unit(a, fate):
    u = draw(64, 2, 1)
    found = gradient_flow(
        Linear(torch.tensor([[a]], dtype=torch.float64)), u, u, MeanSquaredError(reduction="sum")
    )
    back = 64 - found.time.values
    np.testing.assert_allclose(
        found.last_gradient / found.last_gradient[:, -1:].values, [abs(a) ** back] * 2, rtol=1e-9
    )
    np.testing.assert_allclose(found.norm[0], abs(a) ** found.lag.values, rtol=1e-9)
    np.testing.assert_allclose(found.rate, np.log(abs(a)), atol=1e-12)
    np.testing.assert_allclose(found.exponent, np.log(abs(a)), atol=1e-12)
    np.testing.assert_allclose(found.rate_error, 0, atol=1e-12)
    assert found.fate.values.tolist() == [fate] * 2


def test_an_orthogonal_network_keeps_all_gradients_while_no_unit_is_cut():
    model = freeze(RecurrentModel(1, 1, partial(Orthogonal, hidden_size=12)))
    with torch.no_grad():
        model.cell.b.fill_(0.0)  # never cut
    u = draw(64, 2, 1)
    found = gradient_flow(model, u, u, MeanSquaredError(), max_lag=10)
    np.testing.assert_allclose(found.norm, 1, rtol=1e-12)
    np.testing.assert_allclose(found.rate, 0, atol=1e-12)
    assert found.fate.values.tolist() == ["steady"] * 2
    with torch.no_grad():
        model.cell.b.fill_(-0.3)  # cut where it is small
    cut = gradient_flow(model, u, u, MeanSquaredError(), max_lag=10)
    assert (cut.norm <= 1 + 1e-12).all()
    assert (cut.rate < 0).all()


def test_rate_and_exponent_agree_where_they_are_the_same_by_theory():
    # rotation by an angle and stretch, not normal: the norm of gradients wobbles around the line
    c, s = np.cos(0.4), np.sin(0.4)
    turn = 0.97 * np.diag([1.0, 5.0]) @ np.array([[c, -s], [s, c]]) @ np.diag([1.0, 0.2])
    u = draw(200, 2, 2)
    found = gradient_flow(Linear(torch.as_tensor(turn)), u, u, MeanSquaredError(), max_lag=1)
    truth = np.log(0.97)
    assert (abs(found.rate - truth) < 3 * found.rate_error + 1e-12).all()
    assert (found.rate_error < 2e-3).all()
    assert found.fate.values.tolist() == ["vanishing"] * 2
    assert (found.last_gradient[:, :-1].values < 5 * found.last_gradient[:, -1:].values).all()


@pytest.mark.parametrize(
    ("total", "fate"), [(-0.9, "steady"), (-1.1, "vanishing"), (0.9, "steady"), (1.1, "exploding")]
)
def test_steady_is_less_than_a_factor_e_over_all_steps(total, fate):
    u = draw(50, 1, 1)
    a = torch.tensor([[np.exp(total / 50)]])
    found = gradient_flow(Linear(a), u, u, MeanSquaredError(), max_lag=1)
    np.testing.assert_allclose(found.last_gradient[0, 0] / found.last_gradient[0, -1], np.exp(total))
    assert found.fate.item() == fate


def test_the_rate_is_that_of_what_persists():
    class Mixed(Linear):
        def read(self, x):  # sees what is forgotten fast a thousand times better
            return x @ torch.tensor([[1e3], [1.0]], dtype=torch.float64)

    u = draw(200, 1, 2)
    slow = Mixed(torch.diag(torch.tensor([0.4, 0.99], dtype=torch.float64)))
    found = gradient_flow(slow, u, u[..., :1], MeanSquaredError(), max_lag=1)
    np.testing.assert_allclose(found.rate, np.log(0.99), rtol=1e-6)


def test_nothing_is_lost_to_underflow_before_it_is_zero():
    u = draw(120, 1, 2)
    steep = gradient_flow(Linear(1e-3 * torch.eye(2).double()), u, u, MeanSquaredError(), max_lag=1)
    assert steep.last_gradient[0, 0] == 0  # 1e-360
    np.testing.assert_allclose(steep.rate, np.log(1e-3), rtol=1e-12)
    nilpotent = torch.tensor([[0.0, 1.0], [0.0, 0.0]]).double()
    gone = gradient_flow(Linear(nilpotent), u, u, MeanSquaredError(), max_lag=8)
    assert gone.rate.item() == -np.inf
    assert gone.fate.item() == "vanishing"
    assert gone.norm.values[0].tolist() == [1.0, 0.0, 0.0, 0.0]


def test_what_cannot_be_told_is_undecided():
    u = draw(64, 1, 1)
    model = Linear(0.9 * torch.eye(1).double())
    short = gradient_flow(model, u[:10], u[:10], MeanSquaredError())
    assert short.fate.item() == "undecided"
    assert np.isnan(short.rate.item())
    # a perfect fit: no gradient at all
    at_rest = gradient_flow(model, 0 * u, 0 * u, MeanSquaredError(), max_lag=1)
    assert at_rest.fate.item() == "undecided"
    assert (at_rest.gradient == 0).all()
    # one sequence leaves the finite numbers; the other is told as if it were alone
    wild = draw(64, 2, 1)
    wild[3, 0] = torch.inf
    both = gradient_flow(model, wild, torch.zeros(64, 2, 1).double(), MeanSquaredError())
    alone = gradient_flow(model, wild[:, 1:], torch.zeros(64, 1, 1).double(), MeanSquaredError())
    assert both.fate.values.tolist() == ["undecided", "vanishing"]
    assert np.isnan(both.norm[0]).all()
    np.testing.assert_allclose(both.gradient[1], alone.gradient[0], rtol=1e-12)


def test_the_last_output_that_counts_is_where_gradients_start():
    class Tenth:
        reduction = "mean"

        def __call__(self, outputs, targets):
            return {"loss": (outputs[9] - targets[9]).square().sum()}

    u = draw(40, 2, 1)
    found = gradient_flow(Linear(0.5 * torch.eye(1).double()), u, u, Tenth())
    assert found.attrs["end"] == 10
    assert (found.gradient[:, 11:] == 0).all()
    assert np.isnan(found.last_gradient[:, 11:]).all()
    np.testing.assert_allclose(found.last_gradient[:, :11], found.gradient[:, :11])
    assert found.lag.values.max() == 10


def test_symbols_are_inputs_and_sequences_do_not_see_each_other():
    model = freeze(RecurrentModel(4, 3, partial(LSTM, hidden_size=4), encoder=nn.Embedding(6, 4)))
    u = torch.randint(0, 6, (20, 3), generator=torch.Generator().manual_seed(0))
    y = torch.tensor([[0, 2, 1]])
    together = gradient_flow(model, u, y, LastStep(CrossEntropy()), moments=3, max_lag=3)
    assert "encoder.weight" in together.parameter
    for i in range(3):
        alone = gradient_flow(
            model, u[:, i : i + 1], y[:, i : i + 1], LastStep(CrossEntropy()), moments=3, max_lag=3
        )
        for name in alone:
            a, b = alone[name].values[0], together[name].values[i]
            if a.dtype.kind == "f":
                np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12, err_msg=name)
            else:
                assert a.tolist() == b.tolist()


def test_the_network_is_left_as_it_is():
    model = RecurrentModel(1, 1, partial(LSTM, hidden_size=3)).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    u = draw(20, 2, 1)
    with torch.no_grad():  # as callbacks may call it
        gradient_flow(model, u, u, MeanSquaredError())
    assert all(p.grad is None and p.requires_grad and p.dtype == torch.float32 for p in model.parameters())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert model.training


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"inputs": draw(20, 2, 1).float()}, ValueError, "inputs of type torch.float32"),
        ({"inputs": draw(20)}, ValueError, "give \\(time, sequence"),
        ({"inputs": [0.0]}, TypeError, "give a torch.Tensor"),
        ({"targets": draw(20, 3, 1)}, ValueError, "give the same sequences"),
        ({"x0": draw(2, 2)}, ValueError, "x0 of shape \\(2, 2\\)"),
        ({"max_lag": 0}, ValueError, "max_lag=0"),
        ({"moments": -1}, ValueError, "moments=-1"),
        ({"moments": 1.5}, ValueError, "moments=1.5"),
        ({"network": nn.Linear(1, 1)}, TypeError, "lacks step, read, state_size"),
    ],
)
def test_what_cannot_be_used_is_refused(change, error, message):
    u = draw(20, 2, 1)
    given = {
        "network": Linear(torch.eye(1).double()),
        "inputs": u,
        "targets": u,
        "objective": MeanSquaredError(),
    }
    with pytest.raises(error, match=message) as caught:
        gradient_flow(**given | change)
    assert "\n" not in str(caught.value)
