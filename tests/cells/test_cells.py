"""What holds for every cell. A new cell is one line in the table."""

import copy

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call, jvp, vmap

from rnnlab.cells import GRU, LSTM, Elman, Orthogonal, StableLSTM, Stack

INPUT, HIDDEN, BATCH = 2, 4, 3

CELLS = {
    "elman": lambda: Elman(INPUT, HIDDEN),
    "elman relu": lambda: Elman(INPUT, HIDDEN, nonlinearity="relu"),
    "gru": lambda: GRU(INPUT, HIDDEN, reset="before"),
    "gru after": lambda: GRU(INPUT, HIDDEN, reset="after"),
    "lstm": lambda: LSTM(INPUT, HIDDEN),
    "slstm": lambda: StableLSTM(INPUT, HIDDEN, constraint="projection"),
    "slstm rescale": lambda: StableLSTM(INPUT, HIDDEN, constraint="rescale"),
    "ornn henaff": lambda: Orthogonal(INPUT, HIDDEN, init="henaff"),
    "ornn cayley": lambda: Orthogonal(INPUT, HIDDEN + 1, init="cayley"),
    "one unit": lambda: LSTM(1, 1),
    "lstm on lstm": lambda: Stack([LSTM(INPUT, HIDDEN), LSTM(HIDDEN, 3)]),
    "gru on slstm": lambda: Stack([StableLSTM(INPUT, 3), GRU(3, HIDDEN)]),
    "ornn on elman": lambda: Stack([Elman(INPUT, 3), Orthogonal(3, HIDDEN)]),
}
SIZED = {
    "elman": Elman,
    "gru": GRU,
    "lstm": LSTM,
    "slstm": StableLSTM,
    "ornn": Orthogonal,
}


@pytest.fixture(params=CELLS)
def cell(request):
    torch.manual_seed(7)
    cell = CELLS[request.param]()
    cell.constrain()
    return cell.double()


class Call(nn.Module):
    """A method of a cell as a function of its parameters too."""

    def __init__(self, cell, method):
        super().__init__()
        self.cell = cell
        self.method = method

    def forward(self, *args):
        return getattr(self.cell, self.method)(*args)


def with_parameters(cell, method):
    names = [f"cell.{name}" for name, _ in cell.named_parameters()]

    def function(x, u, *parameters):
        args = (x, u) if method == "step" else (u, x)
        return functional_call(Call(cell, method), dict(zip(names, parameters, strict=True)), args)

    return function


def naive_scan(cell, us, x):
    outputs = []
    for u in us:
        x = cell.step(x, u)
        outputs.append(cell.output(x))
    return torch.stack(outputs), x


def draw(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def leaves(cell, us, x0):
    return [us, x0, *cell.parameters()]


def gradients(cell, scan, us, x0):
    """Gradients of one number in which every output and last state has its own weight."""
    us, x0 = us.clone().requires_grad_(), x0.clone().requires_grad_()
    outputs, x = scan(us, x0)
    generator = torch.Generator().manual_seed(3)
    total = 0.0
    for value in (outputs, x):
        weight = torch.randn(value.shape, generator=generator, dtype=torch.float64)
        total = total + (value * weight.to(value.dtype)).sum()
    return torch.autograd.grad(total, leaves(cell, us, x0))


def points(cell, *shape, inputs):
    """Random arguments (x, u, *parameters) for checks of derivatives."""
    arguments = [draw(*shape, cell.state_size), draw(*inputs, cell.input_size)]
    arguments += [parameter.detach().clone() for parameter in cell.parameters()]
    return [argument.requires_grad_() for argument in arguments]


@pytest.mark.parametrize("time", [1, 7])
def test_scan_is_step_repeated(cell, time):
    us, x0 = draw(time, BATCH, cell.input_size), draw(BATCH, cell.state_size)
    outputs, x = cell.scan(us, x0)
    assert outputs.shape == (time, BATCH, cell.output_size)
    assert x.shape == (BATCH, cell.state_size)
    expected = naive_scan(cell, us, x0)
    torch.testing.assert_close((outputs, x), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(
        gradients(cell, cell.scan, us, x0),
        gradients(cell, lambda us, x0: naive_scan(cell, us, x0), us, x0),
        rtol=1e-10,
        atol=1e-10,
    )


def test_scan_of_views_without_gradient_and_in_eval_mode(cell):
    us, x0 = draw(BATCH, 5, cell.input_size), draw(cell.state_size, BATCH)
    expected = naive_scan(cell, us.transpose(0, 1), x0.T)
    torch.testing.assert_close(cell.scan(us.transpose(0, 1), x0.T), expected, rtol=0, atol=1e-12)
    with torch.no_grad():
        torch.testing.assert_close(cell.scan(us.transpose(0, 1), x0.T), expected, rtol=0, atol=1e-12)
    training = gradients(cell, cell.scan, us.transpose(0, 1), x0.T)
    cell.eval()
    torch.testing.assert_close(gradients(cell, cell.scan, us.transpose(0, 1), x0.T), training)


def test_scan_where_only_one_result_is_used(cell):
    us, x0 = draw(4, BATCH, cell.input_size).requires_grad_(), draw(BATCH, cell.state_size).requires_grad_()
    for result in (0, 1):
        fast = torch.autograd.grad(cell.scan(us, x0)[result].square().sum(), leaves(cell, us, x0))
        slow = torch.autograd.grad(naive_scan(cell, us, x0)[result].square().sum(), leaves(cell, us, x0))
        torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-10)


def test_derivatives_of_step(cell):
    arguments = points(cell, 2, inputs=(2,))
    assert gradcheck(with_parameters(cell, "step"), arguments)
    assert gradgradcheck(with_parameters(cell, "step"), arguments)


def test_derivatives_of_scan(cell):
    assert gradcheck(with_parameters(cell, "scan"), points(cell, 2, inputs=(3, 2)))


def test_float32_is_close_to_float64(cell):
    us, x0 = draw(10, BATCH, cell.input_size), draw(BATCH, cell.state_size)
    single = copy.deepcopy(cell).float()
    outputs, x = single.scan(us.float(), x0.float())
    assert outputs.dtype == x.dtype == torch.float32
    expected = cell.scan(us, x0)
    torch.testing.assert_close((outputs.double(), x.double()), expected, rtol=1e-4, atol=1e-5)
    for narrow, wide in zip(
        gradients(single, single.scan, us.float(), x0.float()),
        gradients(cell, cell.scan, us, x0),
        strict=True,
    ):
        torch.testing.assert_close(narrow.double(), wide, rtol=1e-3, atol=1e-4)


def test_step_takes_any_leading_axes(cell):
    x, u = draw(2, 3, cell.state_size), draw(2, 1, cell.input_size)
    y = cell.step(x, u)
    assert y.shape == x.shape
    assert cell.output(y).shape == (2, 3, cell.output_size)
    for probe in range(2):
        for sample in range(3):
            alone = cell.step(x[probe, sample], u[probe, 0])
            torch.testing.assert_close(y[probe, sample], alone, rtol=0, atol=1e-14)
    grid = cell.step(x[:, :1], draw(3, cell.input_size))
    assert grid.shape == x.shape
    assert cell.initial_state(2, 3).shape == x.shape


def test_rows_are_independent(cell):
    x, u = draw(4, cell.state_size), draw(4, cell.input_size)
    us = draw(3, 4, cell.input_size)
    step, (outputs, last) = cell.step(x, u), cell.scan(us, x)
    x[1], u[1], us[:, 1] = torch.nan, torch.nan, torch.nan
    others = [0, 2, 3]
    torch.testing.assert_close(cell.step(x, u)[others], step[others], rtol=0, atol=1e-14)
    changed = cell.scan(us, x)
    torch.testing.assert_close(changed[0][:, others], outputs[:, others], rtol=0, atol=1e-14)
    torch.testing.assert_close(changed[1][others], last[others], rtol=0, atol=1e-14)


def test_nothing_is_mutated(cell):
    x, us = draw(BATCH, cell.state_size), draw(3, BATCH, cell.input_size)
    arguments = [x, us, *(parameter.detach() for parameter in cell.parameters())]
    before = [argument.clone() for argument in arguments]
    cell.step(x, us[0])
    cell.scan(us, x)
    assert all(map(torch.equal, arguments, before))


def test_forward_derivative_is_that_of_autograd(cell):
    x, v, u = draw(cell.state_size), draw(cell.state_size), draw(cell.input_size)
    value, tangent = jvp(lambda x: cell.step(x, u), (x,), (v,))
    torch.testing.assert_close(value, cell.step(x, u))
    matrix = torch.autograd.functional.jacobian(lambda x: cell.step(x, u), x)
    torch.testing.assert_close(tangent, matrix @ v, rtol=1e-12, atol=1e-12)


def test_step_under_vmap(cell):
    x, u = draw(5, cell.state_size), draw(5, cell.input_size)
    torch.testing.assert_close(vmap(cell.step)(x, u), cell.step(x, u), rtol=0, atol=1e-13)


def test_members_with_their_own_parameters(cell):
    other = copy.deepcopy(cell)
    for parameter in other.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    x, u = draw(BATCH, cell.state_size), draw(BATCH, cell.input_size)
    both = [torch.stack(pair) for pair in zip(cell.parameters(), other.parameters(), strict=True)]
    function = with_parameters(cell, "step")
    together = vmap(lambda *parameters: function(x, u, *parameters))(*both)
    other.load_state_dict(other.state_dict())  # `.data` above is no change that torch counts
    expected = torch.stack([cell.step(x, u), other.step(x, u)])
    torch.testing.assert_close(together, expected, rtol=1e-12, atol=1e-12)


def test_state_dict_round_trip(cell):
    other = copy.deepcopy(cell)
    x, u = draw(BATCH, cell.state_size), draw(BATCH, cell.input_size)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(0.5).add_(0.01)
        assert not torch.equal(other.step(x, u), cell.step(x, u))
        other.load_state_dict(cell.state_dict())
        assert torch.equal(other.step(x, u), cell.step(x, u))


def test_a_copy_leaves_the_original_alone(cell):
    cell.float()
    x, us = torch.randn(BATCH, cell.state_size), torch.randn(3, BATCH, cell.input_size)
    with torch.no_grad():
        before = cell.step(x, us[0]), *cell.scan(us, x)
        twin = copy.deepcopy(cell).double()
        for parameter in twin.parameters():
            assert parameter.dtype == torch.float64
            parameter.add_(0.3)
        twin.constrain()
        assert twin.step(x.double(), us[0].double()).dtype == torch.float64
        after = cell.step(x, us[0]), *cell.scan(us, x)
    assert all(parameter.dtype == torch.float32 for parameter in cell.parameters())
    assert all(map(torch.equal, before, after))


def test_initial_state_is_zero_and_like_the_parameters(cell):
    x = cell.initial_state(BATCH)
    assert x.dtype == torch.float64
    assert torch.equal(x, torch.zeros(BATCH, cell.state_size, dtype=torch.float64))


def test_constrain_keeps_what_torch_knows_of_the_parameters(cell):
    before = [(id(parameter), parameter.requires_grad) for parameter in cell.parameters()]
    cell.constrain()
    assert before == [(id(parameter), parameter.requires_grad) for parameter in cell.parameters()]
    assert all(parameter.is_leaf and parameter.requires_grad for parameter in cell.parameters())


@pytest.mark.parametrize("size", [0, -1, 1.5, True, "8", None])
@pytest.mark.parametrize("name", ["input_size", "hidden_size"])
@pytest.mark.parametrize("make", SIZED.values(), ids=SIZED.keys())
def test_sizes_below_one_are_refused(make, name, size):
    with pytest.raises(ValueError, match=rf"^{name}={size!r} is not possible: .*$") as error:
        make(**{"input_size": 1, "hidden_size": 1, name: size})
    assert "\n" not in str(error.value)


def test_unknown_nonlinearity_is_refused():
    with pytest.raises(ValueError, match="nonlinearity='sin' is not possible: give 'tanh' or 'relu'"):
        Elman(1, 1, nonlinearity="sin")


TWINS = {
    "lstm": (lambda: LSTM(INPUT, HIDDEN), lambda: nn.LSTM(INPUT, HIDDEN)),
    "gru": (lambda: GRU(INPUT, HIDDEN, reset="after"), lambda: nn.GRU(INPUT, HIDDEN)),
    "tanh": (lambda: Elman(INPUT, HIDDEN), lambda: nn.RNN(INPUT, HIDDEN)),
    "relu": (
        lambda: Elman(INPUT, HIDDEN, nonlinearity="relu"),
        lambda: nn.RNN(INPUT, HIDDEN, nonlinearity="relu"),
    ),
    "two layers": (
        lambda: Stack([LSTM(INPUT, HIDDEN), LSTM(HIDDEN, HIDDEN)]),
        lambda: nn.LSTM(INPUT, HIDDEN, num_layers=2),
    ),
}


@pytest.mark.parametrize("pair", TWINS.values(), ids=TWINS.keys())
def test_weights_can_be_exchanged_with_torch(pair):
    cell, network = (make().double() for make in pair)
    weights = dict(network.named_parameters())
    with torch.no_grad():
        for name, parameter in cell.named_parameters():
            _, number, kind = name.split(".") if "." in name else ("", "0", name)
            parameter.copy_(weights[f"{kind}_l{number}"])
    us, x0 = draw(6, BATCH, INPUT), draw(BATCH, cell.state_size)
    layers = network.num_layers
    if isinstance(network, nn.LSTM):
        parts = x0.view(BATCH, layers, 2, HIDDEN).permute(2, 1, 0, 3).contiguous()
        outputs, last = network(us, (parts[0], parts[1]))
        last = torch.stack(last).permute(2, 1, 0, 3).reshape(BATCH, -1)
    else:
        outputs, last = network(us, x0[None])
        last = last[0]
    torch.testing.assert_close(cell.scan(us, x0), (outputs, last), rtol=0, atol=1e-14)
    torch.testing.assert_close(naive_scan(cell, us, x0), (outputs, last), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("make", "twin"),
    [(LSTM, nn.LSTMCell), (Elman, nn.RNNCell), (lambda i, n: GRU(i, n, reset="after"), nn.GRUCell)],
)
def test_initial_weights_are_those_of_torch(make, twin):
    torch.manual_seed(5)
    cell = make(INPUT, HIDDEN)
    torch.manual_seed(5)
    twin = twin(INPUT, HIDDEN)
    assert all(torch.equal(weight, twin.state_dict()[name]) for name, weight in cell.state_dict().items())
    twin.load_state_dict(cell.state_dict())


def test_stack_sees_the_output_below_at_the_same_time():
    below, above = LSTM(INPUT, 3).double(), Elman(3, 2).double()
    stack = Stack([below, above])
    assert (stack.input_size, stack.state_size, stack.output_size) == (INPUT, 8, 2)
    x, u = draw(5, 8), draw(5, INPUT)
    lower = below.step(x[:, :6], u)
    upper = above.step(x[:, 6:], lower[:, :3])
    assert torch.equal(stack.step(x, u), torch.cat([lower, upper], dim=1))
    assert torch.equal(stack.output(x), x[:, 6:])


def test_stack_constrains_and_certifies_each_layer():
    stack = Stack([StableLSTM(1, 5), Elman(5, 5), StableLSTM(5, 5)])
    stack.constrain()
    values = stack.certificates()
    assert list(values) == ["layers.0.contraction", "layers.2.contraction"]
    assert all(value < 1 for value in values.values())


def test_stack_refuses_layers_that_do_not_fit():
    with pytest.raises(ValueError, match=r"layers\[1\] takes inputs of size 4 .* input_size=3"):
        Stack([LSTM(1, 3), LSTM(4, 2)])
    with pytest.raises(ValueError, match="at least one"):
        Stack([])


@pytest.mark.gpu
def test_scan_on_a_gpu(cell, recwarn):
    us, x0 = draw(7, BATCH, cell.input_size), draw(BATCH, cell.state_size)
    expected = cell.scan(us, x0)
    wanted = gradients(cell, cell.scan, us, x0)
    cell.cuda()
    values = cell.scan(us.cuda(), x0.cuda())
    torch.testing.assert_close(tuple(value.cpu() for value in values), expected, rtol=0, atol=1e-10)
    cell.eval()
    found = gradients(cell, lambda us, x0: [y.cpu() for y in cell.scan(us, x0)], us.cuda(), x0.cuda())
    torch.testing.assert_close([gradient.cpu() for gradient in found], list(wanted), rtol=1e-8, atol=1e-8)
    assert not [warning for warning in recwarn if "contiguous" in str(warning.message)]
