from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from rnnlab import systems
from rnnlab.analysis import orbit
from rnnlab.autonomous import (
    ClosedLoop,
    Driven,
    HeldInput,
    InputSet,
    Network,
    freeze,
    input_jacobian,
    wrap_torch,
)
from rnnlab.cells import GRU, LSTM, Elman, Orthogonal, StableLSTM
from rnnlab.model import RecurrentModel
from rnnlab.systems import Sequence, System, jacobian, tangent

CELLS = {
    "elman": Elman,
    "gru": GRU,
    "gru_after": partial(GRU, reset="after"),
    "lstm": LSTM,
    "slstm": StableLSTM,
    "ornn": Orthogonal,
}


def random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def model_of(cell=LSTM, hidden_size=4, num_layers=1, input_size=2, output_size=3):
    torch.manual_seed(0)
    return RecurrentModel(
        input_size, output_size, partial(cell, hidden_size=hidden_size), num_layers=num_layers
    )


@pytest.fixture(params=CELLS)
def model(request):
    return model_of(CELLS[request.param], num_layers=2)


def test_freeze_leaves_the_network_untouched(model):
    optimizer = torch.optim.Adam(model.parameters())
    inputs = torch.randn(6, 5, 2)

    def update():
        optimizer.zero_grad()
        model(inputs)[0].square().sum().backward()
        optimizer.step()

    update()
    model.train()
    model.readout.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    grads = [p.grad.clone() for p in model.parameters()]
    generator = torch.get_rng_state()
    frozen = freeze(model)
    orbit(
        HeldInput(frozen, torch.zeros(2)), torch.ones(3, model.state_size).double(), max_burn_in=20, steps=3
    )

    assert torch.equal(torch.get_rng_state(), generator)
    assert model.training
    assert not model.readout.training
    assert all(p.requires_grad and p.dtype == torch.float32 for p in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(torch.equal(p.grad, grad) for p, grad in zip(model.parameters(), grads, strict=True))
    update()
    assert not torch.equal(model.state_dict()["readout.weight"], before["readout.weight"])
    # the copy does not move with the original, asks for no gradient and is in double
    assert not any(module.training for module in frozen.modules())
    for name, parameter in frozen.named_parameters():
        assert parameter.dtype == torch.float64
        assert not parameter.requires_grad
        assert parameter.grad is None
        assert torch.equal(parameter.float(), before[name])


def test_held_input_is_a_scan_over_a_constant_input(model):
    frozen = freeze(model)
    u, x = random(2), random(5, model.state_size, seed=1)
    system = HeldInput(frozen, u)
    outputs, last = frozen(u.expand(7, 5, 2), x)
    seen = []
    for _ in range(7):
        x = system.step(x)
        seen.append(system.observe(x))
    assert isinstance(system, System)
    assert isinstance(frozen, Network)
    torch.testing.assert_close(torch.stack(seen), outputs)
    torch.testing.assert_close(x, last)


def test_jacobian_of_a_network(model):
    system = HeldInput(freeze(model), random(2))
    x = random(3, model.state_size, seed=1)
    for row, matrix in zip(x, jacobian(system, x), strict=True):
        torch.testing.assert_close(matrix, torch.autograd.functional.jacobian(system.step, row))


def test_probes_stand_beside_samples():
    frozen = freeze(model_of())
    inputs, x = random(3, 2), random(3, 4, 8, seed=1)
    frame = random(3, 4, 8, 2, seed=2)
    together = HeldInput(frozen, inputs[:, None])
    for i in range(3):
        one = HeldInput(frozen, inputs[i])
        torch.testing.assert_close(together.step(x)[i], one.step(x[i]))
        torch.testing.assert_close(tangent(together, x, frame)[i], tangent(one, x[i], frame[i]))
    found = orbit(together, x)
    assert found.y.dims == ("probe", "sample", "time", "observable")
    assert found.settled.all()
    for i in range(3):
        alone = orbit(HeldInput(frozen, inputs[i]), x[i], burn_in=found.burn_in.item())
        np.testing.assert_allclose(found.y[i], alone.y, atol=1e-12)


def test_inputs_take_the_type_of_the_states():
    frozen = freeze(model_of())
    x = random(5, 8)
    single, double = torch.full((2,), 0.5), torch.full((2,), 0.5).double()
    assert torch.equal(HeldInput(frozen, single).step(x), HeldInput(frozen, double).step(x))


def test_symbols_are_held_as_they_are():
    torch.manual_seed(0)
    model = RecurrentModel(3, 2, partial(LSTM, hidden_size=4), encoder=nn.Embedding(5, 3))
    frozen = freeze(model)
    words, x = torch.tensor([4, 1]), random(2, 3, 8)
    system = HeldInput(frozen, words[:, None])
    for i, word in enumerate(words):
        expected = frozen.cell.step(x[i], frozen.encoder.weight[word].expand(3, 3))
        torch.testing.assert_close(system.step(x)[i], expected)


def test_a_foreign_network_will_do():
    class Mine:
        state_size = 2

        def step(self, x, u):
            return 0.5 * x + u

        def read(self, x):
            return x.sum(-1, keepdim=True)

    # x = u / (1 - 0.5)
    found = orbit(HeldInput(Mine(), torch.tensor([[[1.0, 2.0]], [[0.0, 0.5]]])), random(2, 3, 2))
    np.testing.assert_allclose(found.y[:, :, -1, 0], [[6.0] * 3, [1.0] * 3], atol=1e-6)


@pytest.mark.parametrize("start_from", ["output", "given"])
def test_closed_loop_is_a_loop_by_hand(start_from):
    frozen = freeze(model_of(input_size=2, output_size=3))
    x, y = random(5, 8), random(5, 3, seed=1)
    loop = ClosedLoop(frozen, lambda y: y[..., :2].tanh())
    if start_from == "output":
        state, y = loop.start(x), frozen.read(x)
    else:
        state = loop.start(x, y)
    for _ in range(6):
        torch.testing.assert_close(loop.observe(state), y)
        x = frozen.step(x, y[..., :2].tanh())
        y = frozen.read(x)
        state = loop.step(state)
    torch.testing.assert_close(state, torch.cat((x, y), -1))


def test_closed_loop_feeds_back_the_output_itself():
    frozen = freeze(model_of(input_size=3, output_size=3))
    loop = ClosedLoop(frozen)
    x, y = random(8), random(3, seed=1)
    assert torch.equal(loop.step(loop.start(x, y))[..., :8], frozen.step(x, y))
    # DF of (x, y): the old y drives the new x, and the new y depends on both through it
    matrix = jacobian(loop, loop.start(x, y))
    torch.testing.assert_close(matrix[8:, :8], frozen.readout.weight @ matrix[:4, :8])
    assert matrix[:8, 8:].abs().max() > 1e-3


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize(
    "kind",
    [nn.LSTM, nn.GRU, nn.RNN, partial(nn.RNN, nonlinearity="relu")],
    ids=["lstm", "gru", "rnn", "relu"],
)
def test_torch_modules_are_wrapped(kind, num_layers, bias):
    torch.manual_seed(0)
    module = kind(2, 4, num_layers=num_layers, bias=bias).double()
    readout = nn.Linear(4, 1).double()
    network = wrap_torch(module, readout)
    states = random(num_layers, 5, network.state_size // num_layers)
    us = random(6, 5, 2, seed=1)
    x, seen = torch.cat(tuple(states), -1), []
    for u in us:
        x = network.step(x, u)
        seen.append(network.read(x))
    given = states if states.shape[-1] == 4 else tuple(part.contiguous() for part in states.chunk(2, -1))
    outputs, last = module(us, given)
    last = torch.cat(last, -1) if isinstance(last, tuple) else last
    torch.testing.assert_close(torch.stack(seen), readout(outputs))
    torch.testing.assert_close(x, torch.cat(tuple(last), -1))
    assert isinstance(network, Network)


def test_a_wrapped_module_is_a_copy():
    module = nn.GRU(1, 4)
    network = wrap_torch(module)
    x, u = torch.ones(4), torch.ones(1)
    before = network.step(x, u)
    nn.init.zeros_(module.weight_hh_l0)
    assert torch.equal(network.step(x, u), before)
    assert torch.equal(network.read(x), x)
    assert freeze(network).step(x.double(), u.double()).dtype == torch.float64


def test_modules_that_are_no_dynamical_system_are_refused():
    with pytest.raises(ValueError, match="bidirectional=True is not possible"):
        wrap_torch(nn.LSTM(1, 4, bidirectional=True))
    with pytest.raises(ValueError, match="proj_size=2 is not possible"):
        wrap_torch(nn.LSTM(1, 4, proj_size=2))
    with pytest.raises(TypeError, match=r"Linear is not possible: give nn\.LSTM"):
        wrap_torch(nn.Linear(1, 4))


class Plain:
    """The same dynamics, without anything a network may know of them."""

    def __init__(self, of):
        self.step = of.step
        self.observe = getattr(of, "observe", None)


class Foreign:
    state_size = 2

    def step(self, x, u):
        return (x.flip(-1) + u).sin()

    def read(self, x):
        return x


def networks():
    torch.manual_seed(0)
    encoded = RecurrentModel(
        3, 2, partial(GRU, hidden_size=4), encoder=nn.Sequential(nn.Linear(2, 3), nn.Tanh())
    )
    wrapped = wrap_torch(nn.LSTM(2, 3, num_layers=2), nn.Linear(3, 2))
    return {"own": model_of(output_size=2, num_layers=2), "encoded": encoded, "wrapped": wrapped}


@pytest.mark.parametrize("name", ["own", "encoded", "wrapped", "foreign"])
def test_networks_hand_on_their_derivatives(name):
    network = Foreign() if name == "foreign" else freeze(networks()[name])
    size = network.state_size
    x, u, frame = random(3, 4, size), random(3, 1, 2, seed=1), random(3, 4, size, 5, seed=2)
    for system in (HeldInput(network, u), HeldInput(network, u.float())):
        for a, b in zip(systems.push(system, x, frame), systems.push(Plain(system), x, frame), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(jacobian(system, x), jacobian(Plain(system), x), rtol=1e-12, atol=1e-12)
    loop = ClosedLoop(network, lambda y: y.tanh())
    state, frame = random(4, size + 2, seed=3), random(4, size + 2, 5, seed=4)
    for a, b in zip(systems.push(loop, state, frame), systems.push(Plain(loop), state, frame), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    by_input = input_jacobian(network, x, u)
    assert by_input.shape == (3, 4, size, 2)
    row = torch.autograd.functional.jacobian(lambda u: network.step(x[1, 2], u), u[1, 0])
    torch.testing.assert_close(by_input[1, 2], row)


def test_states_that_share_memory_have_derivatives():
    """As `x.expand(probes, -1, -1)` gives them to a callback."""
    x, u = random(4, 2).expand(3, 4, 2), random(2)
    for system in (HeldInput(Foreign(), u), Plain(HeldInput(Foreign(), u))):
        assert torch.equal(jacobian(system, x)[2], jacobian(system, x.clone())[2])


def test_a_network_with_another_step_is_not_given_the_old_derivative():
    class Leaky(RecurrentModel):
        def step(self, x, u):
            return 0.5 * x + 0.5 * super().step(x, u)

    network = freeze(Leaky(2, 3, partial(LSTM, hidden_size=4)))
    x, u = random(3, 8), random(2, seed=1)
    system = HeldInput(network, u)
    torch.testing.assert_close(jacobian(system, x), jacobian(Plain(system), x))
    torch.testing.assert_close(tangent(system, x, x[..., None]), tangent(Plain(system), x, x[..., None]))
    assert system.reduced() is system.bounds() is system.lipschitz() is None
    # nor is one whose step was replaced by hand
    network = freeze(model_of())
    network.step = lambda x, u: x.sin()
    torch.testing.assert_close(jacobian(HeldInput(network, u), x), x.cos().diag_embed())


def test_held_inputs_know_what_their_network_knows():
    u = random(3, 1, 2)
    system = HeldInput(freeze(model_of(num_layers=2)), u.float())
    small, (low, high) = systems.reduced(system), systems.bounds(system)
    assert low.shape == high.shape == (3, 1, 16)
    assert system.lipschitz().shape == (3, 1)
    x = torch.zeros(3, 5, 16).double()
    for _ in range(3000):
        x = system.step(x)
    torch.testing.assert_close(small.lift(small.restrict(x)), x)
    assert ((low <= x) & (x <= high)).all()
    assert systems.bounds(HeldInput(Foreign(), u)) is systems.reduced(HeldInput(Foreign(), u)) is None
    assert HeldInput(Foreign(), u).lipschitz() is None
    words = RecurrentModel(3, 2, partial(LSTM, hidden_size=4), encoder=nn.Embedding(5, 3))
    held = HeldInput(freeze(words), torch.tensor([4, 1]))
    assert held.bounds()[0].shape == held.reduced().lift(torch.zeros(2, 4).double()).shape == (2, 8)
    with pytest.raises(ValueError, match=r"torch.int64 have no derivative"):
        input_jacobian(held.model, torch.zeros(8).double(), torch.tensor(4))


def test_input_sets_hold_every_input_of_the_box():
    network = freeze(model_of())
    every = InputSet(network, -torch.ones(2), torch.ones(2))
    low, high = every.bounds()
    drawn = every.sample(torch.Generator().manual_seed(0), 20)
    again = every.sample(torch.Generator().manual_seed(0), 20)
    assert all(torch.equal(a.u, b.u) for a, b in zip(drawn, again, strict=True))
    inputs = torch.stack([system.u for system in drawn])
    assert inputs.shape == (20, 2)
    assert inputs.abs().max() <= 1
    assert inputs.std() == pytest.approx(3**-0.5, rel=0.2)
    for system in drawn:
        assert system.lipschitz() <= every.lipschitz()
        inner_low, inner_high = system.bounds()
        assert ((low <= inner_low + 1e-9) & (inner_high <= high + 1e-9)).all()
    with pytest.raises(ValueError, match="is no box"):
        InputSet(network, torch.ones(2), -torch.ones(2))
    with pytest.raises(ValueError, match="no box of inputs"):
        InputSet(network, torch.ones(2), torch.ones(3))
    words = freeze(networks()["encoded"])
    with pytest.raises(ValueError, match="with a Sequential as encoder"):
        InputSet(words, -torch.ones(2), torch.ones(2)).bounds()


def test_driven_networks_are_sequences():
    network = freeze(model_of())
    inputs, x = random(7, 5, 2), random(5, 8, seed=1)
    driven = Driven(network, inputs)
    assert isinstance(driven, Sequence)
    assert len(driven) == 7
    _, last = network(inputs, x)
    for time in range(len(driven)):
        x = driven.at(time).step(x)
    torch.testing.assert_close(x, last)
    for time in (-1, 7):
        with pytest.raises(IndexError, match=f"time {time} has no input"):
            driven.at(time)
