"""Laws of the orthogonal network beyond those of every cell."""

import copy
import io
import math
import pickle

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck
from torch.func import functional_call, grad, jacfwd, jvp, vmap

from rnnlab.cells import Orthogonal
from rnnlab.cells import orthogonal as module


def draw(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def expected_matrix(cell):
    """exp(A - A^T) from the strict upper triangle, by torch's own exponential in float64."""
    upper = cell.A.detach().double().triu(1)
    return torch.matrix_exp(upper - upper.mT)


def mod_relu(z, b):
    """The formula for single numbers."""
    if z == 0 or abs(z) + b <= 0:
        return 0.0
    return math.copysign(abs(z) + b, z)


def make(input_size=2, hidden_size=6, **options):
    torch.manual_seed(4)
    return Orthogonal(input_size, hidden_size, **options).double()


# What training starts from


@pytest.mark.parametrize("init", ["henaff", "cayley"])
@pytest.mark.parametrize("n", [1, 2, 7, 8])
def test_initial_matrix_rotates_pairs_of_units(init, n):
    cell = make(hidden_size=n, init=init)
    rotation = cell.recurrent_matrix()
    expected = torch.eye(n, dtype=torch.float64)
    for i in range(0, n - 1, 2):
        angle = cell.A[i, i + 1].item()
        block = [[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]
        expected[i : i + 2, i : i + 2] = torch.tensor(block, dtype=torch.float64)
    torch.testing.assert_close(rotation.detach(), expected, rtol=0, atol=1e-14)


def test_henaff_angles_are_uniform_on_the_circle():
    angles = Orthogonal(1, 20_000 // 10, init="henaff").A.diagonal(1)[::2].sort().values
    assert angles.abs().max() <= math.pi
    # the largest gap between the distribution of 1000 draws and the uniform one: above 0.062 one time in 1000
    ranks = torch.arange(1, len(angles) + 1) / len(angles)
    assert (ranks - (angles + math.pi) / (2 * math.pi)).abs().max() < 0.062


def test_cayley_angles_are_those_of_a_cayley_transform_of_a_quarter_turn():
    cell = Orthogonal(1, 2000, init="cayley")
    entries = cell.A.detach().double().diagonal(1)[::2]
    # (1 + s J) / (1 - s J) turns by 2 atan s
    turns = (-2 * torch.atan(entries)).sort().values
    assert turns.min() >= 0
    assert turns.max() <= math.pi / 2
    ranks = torch.arange(1, len(turns) + 1) / len(turns)
    assert (ranks - turns / (math.pi / 2)).abs().max() < 0.062


def test_initial_input_weights_and_thresholds():
    torch.manual_seed(0)
    cell = Orthogonal(8, 5000, init="cayley")
    assert cell.W.shape == (5000, 8)
    assert cell.W.std().item() == pytest.approx(math.sqrt(2 / 8), rel=0.02)
    assert 0.0099 < cell.b.abs().max() <= 0.01
    assert abs(cell.b.mean()) < 0.0003


def test_unknown_init_is_refused():
    with pytest.raises(ValueError, match="init='random' is not possible: give 'henaff' or 'cayley'"):
        Orthogonal(1, 2, init="random")


# What stays true


@pytest.mark.parametrize("n", [1, 5, 8])
def test_matrix_is_orthogonal_after_training(n):
    cell = make(hidden_size=n)
    start = cell.A.detach().clone()
    optimizer = torch.optim.Adam(cell.parameters(), lr=0.1)
    us, target = draw(6, 10, 2), draw(6, 10, n)
    for _ in range(30):
        optimizer.zero_grad()
        (cell.scan(us, cell.initial_state(10))[0] - target).square().sum().backward()
        optimizer.step()
    b = cell.recurrent_matrix().detach()
    torch.testing.assert_close(b.mT @ b, torch.eye(n, dtype=torch.float64), rtol=0, atol=1e-13)
    moduli = torch.linalg.eigvals(b).abs()
    torch.testing.assert_close(moduli, torch.ones_like(moduli), rtol=0, atol=1e-12)
    torch.testing.assert_close(b, expected_matrix(cell), rtol=0, atol=1e-12)
    assert n == 1 or (cell.A - start).abs().max() > 0.5
    assert torch.equal(cell.A.tril(), torch.zeros(n, n, dtype=torch.float64))


@torch.no_grad()
def test_length_of_the_state_is_kept_without_input_and_threshold():
    cell = make(hidden_size=7)
    cell.A.copy_(draw(7, 7))
    cell.b.zero_()
    x = draw(4, 7)
    outputs, _ = cell.scan(torch.zeros(300, 4, 2, dtype=torch.float64), x)
    torch.testing.assert_close(outputs.norm(dim=-1), x.norm(dim=-1).expand(300, 4), rtol=1e-12, atol=0)


@torch.no_grad()
def test_all_exponents_of_the_linear_map_are_zero():
    cell = make(hidden_size=6)
    cell.A.copy_(draw(6, 6))
    cell.b.zero_()
    x, u, frame, stretched = draw(6), torch.zeros(2, dtype=torch.float64), draw(6, 6), torch.zeros(6).double()
    frame = torch.linalg.qr(frame).Q
    for _ in range(100):
        jacobian = jacfwd(lambda x: cell.step(x, u))(x)
        frame, r = torch.linalg.qr(jacobian @ frame)
        stretched += r.diagonal().abs().log()
        x = cell.step(x, u)
    torch.testing.assert_close(stretched / 100, torch.zeros(6).double(), rtol=0, atol=1e-14)


# The nonlinearity


@torch.no_grad()
@pytest.mark.parametrize("b", [-0.5, 0.0, 0.5])
def test_nonlinearity_is_the_formula(b):
    cell = make(input_size=1, hidden_size=1)
    cell.W.fill_(1.0)
    cell.b.fill_(b)
    z = torch.tensor([-2.0, -0.5, -0.3, -1e-300, 0.0, 1e-300, 0.3, 0.5, 2.0], dtype=torch.float64)[:, None]
    zero = torch.zeros_like(z)
    expected = [mod_relu(value, b) for value in z[:, 0].tolist()]
    assert cell.step(zero, z)[:, 0].tolist() == expected
    assert cell.scan(z[None], zero)[1][:, 0].tolist() == expected


@pytest.mark.parametrize("b", [-0.5, 0.5])
def test_derivative_of_the_nonlinearity_away_from_its_kinks(b):
    cell = make(input_size=1, hidden_size=1)
    z = torch.tensor([-2.0, -0.3, 0.3, 2.0], dtype=torch.float64)[:, None].requires_grad_()
    zero = torch.zeros(4, 1, dtype=torch.float64)

    def value(z, w, b):
        return functional_call(Scanned(cell), {"cell.W": w, "cell.b": b}, (z[None], zero))

    w = torch.ones(1, 1, dtype=torch.float64, requires_grad=True)
    threshold = torch.full((1,), b, dtype=torch.float64, requires_grad=True)
    assert gradcheck(value, (z, w, threshold))
    slope = torch.autograd.grad(value(z, w, threshold).sum(), z)[0][:, 0].tolist()
    assert slope == ([1, 0, 0, 1] if b < 0 else [1, 1, 1, 1])


class Scanned(nn.Module):
    def __init__(self, cell):
        super().__init__()
        self.cell = cell

    def forward(self, us, x0):
        return self.cell.scan(us, x0)[0]


def test_on_the_kinks_scan_and_step_choose_the_same_derivative():
    cell = make(input_size=1, hidden_size=1)
    us = torch.tensor([-0.5, 0.0, 0.5], dtype=torch.float64)[None, :, None].requires_grad_()
    zero = torch.zeros(3, 1, dtype=torch.float64)
    for b in (-0.5, 0.0, 0.5):
        with torch.no_grad():
            cell.W.fill_(1.0)
            cell.b.fill_(b)
        leaves = [us, cell.W, cell.b]
        fast = torch.autograd.grad(cell.scan(us, zero)[0].sum(), leaves)
        slow = torch.autograd.grad(cell.step(zero, us[0]).sum(), leaves)
        torch.testing.assert_close(fast, slow, rtol=0, atol=0)


def test_gradients_are_those_of_the_formula_written_out():
    cell = make(hidden_size=40)
    with torch.no_grad():
        cell.b.copy_(draw(40) / 2)  # both signs, and states that are cut to zero
    # small: the backward pass of torch.matrix_exp rounds the worse the larger the gradient that comes in
    us, x, weight = draw(60, 5, 2), draw(5, 40), 1e-4 * draw(60, 5, 40)
    leaves = [us.requires_grad_(), x.requires_grad_(), cell.A, cell.W, cell.b]
    ours = torch.autograd.grad((weight * cell.scan(us, x)[0]).sum(), leaves)
    upper = cell.A.triu(1)
    rotation, total = torch.matrix_exp(upper - upper.mT), torch.zeros(())
    for u, w in zip(us, weight, strict=True):
        z = u @ cell.W.mT + x @ rotation
        x = torch.sign(z) * torch.relu(z.abs() + cell.b)
        total = total + (w * x).sum()
    assert 0.05 < (x == 0).double().mean() < 0.95
    for found, expected in zip(ours, torch.autograd.grad(total, leaves), strict=True):
        assert (found - expected).abs().max() < 1e-10 * expected.abs().max()


def test_a_second_derivative_through_scan_is_refused():
    cell = make()
    (gradient,) = torch.autograd.grad(
        cell.scan(draw(3, 4, 2), draw(4, 6))[0].square().sum(), cell.A, create_graph=True
    )
    with pytest.raises(RuntimeError, match="differentiate twice"):
        gradient.sum().backward()


# The matrix that is kept


def adam(cell, **options):
    optimizer = torch.optim.Adam(cell.parameters(), lr=0.1, **options)
    with torch.enable_grad():
        cell.scan(draw(3, 4, 2), draw(4, 6))[0].square().sum().backward()
    optimizer.step()


def other_parameter(cell):
    for _ in range(3):  # the second may get the address of the first
        cell.A = nn.Parameter(draw(6, 6))
        cell.step(draw(6), draw(2))
    cell.A = nn.Parameter(draw(6, 6))


def other_data(cell):
    for _ in range(3):
        cell.A.data = draw(6, 6)
        cell.step(draw(6), draw(2))
    cell.A.data = draw(6, 6)


def other_parameter_in_the_same_memory(cell):
    cell.A.add_(draw(6, 6))
    cell.recurrent_matrix()
    version = cell.A._version
    cell.A = nn.Parameter(cell.A.data)
    while cell.A._version < version:
        cell.A.mul_(0.7)


CHANGES = {
    "copy_": lambda cell: cell.A.copy_(draw(6, 6)),
    "one entry": lambda cell: cell.A[0].__setitem__(3, 0.7),
    "through a view": lambda cell: cell.A.detach().view(-1).mul_(0.5),
    "nn.init": lambda cell: nn.init.normal_(cell.A),
    "adam": lambda cell: adam(cell, foreach=False),
    "adam foreach": lambda cell: adam(cell, foreach=True),
    "adam fused": lambda cell: adam(cell, fused=True),
    "load_state_dict": lambda cell: cell.load_state_dict(Orthogonal(2, 6, init="cayley").state_dict()),
    "load_state_dict assign": lambda cell: cell.load_state_dict(
        Orthogonal(2, 6, init="cayley").double().state_dict(), assign=True
    ),
    "vector_to_parameters": lambda cell: nn.utils.vector_to_parameters(
        nn.utils.parameters_to_vector(cell.parameters()) * 0.5, cell.parameters()
    ),
    "other parameter": other_parameter,
    "other parameter in the same memory": other_parameter_in_the_same_memory,
    "other data": other_data,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_kept_matrix_is_never_stale(change):
    cell = make()
    with torch.no_grad():
        before = cell.recurrent_matrix().clone()
        change(cell)
        after = cell.recurrent_matrix()
        assert (after - before).abs().max() > 1e-3
        torch.testing.assert_close(after, expected_matrix(cell), rtol=0, atol=1e-13)


@torch.no_grad()
def test_kept_matrix_follows_the_type():
    cell = make().float()
    single = cell.recurrent_matrix()
    assert single.dtype == torch.float32
    double = cell.double().recurrent_matrix()
    assert double.dtype == torch.float64
    torch.testing.assert_close(double, expected_matrix(cell), rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda cell: pickle.loads(pickle.dumps(cell))], ids=["deepcopy", "pickle"]
)
def test_copies_have_their_own(duplicate):
    cell = make()
    cell.scan(draw(3, 4, 2), draw(4, 6))
    with torch.no_grad():
        before = cell.recurrent_matrix().clone()
        twin = duplicate(cell)
        twin.A.copy_(draw(6, 6))
        torch.testing.assert_close(twin.recurrent_matrix(), expected_matrix(twin), rtol=0, atol=1e-13)
        assert torch.equal(cell.recurrent_matrix(), before)


def test_state_dict_holds_parameters_only():
    cell = make()
    with torch.no_grad():
        cell.recurrent_matrix()
    assert set(cell.state_dict()) == {"A", "W", "b"}
    torch.save(cell.state_dict(), io.BytesIO())


@pytest.fixture
def count(monkeypatch):
    """How many exponentials were computed since the test began."""
    calls = []
    original = module.expm_skew
    monkeypatch.setattr(module, "expm_skew", lambda a: calls.append(a) or original(a))
    return lambda: len(calls)


@pytest.mark.parametrize(
    "first",
    [
        lambda f, x: f(x),
        lambda f, x: jvp(f, (x,), (x,)),
        lambda f, x: vmap(f)(x),
        lambda f, x: vmap(lambda v: jvp(f, (x,), (v,))[1])(torch.stack([x, x])),
        lambda f, x: vmap(jacfwd(f))(x),
    ],
    ids=["plain", "jvp", "vmap", "vmap of jvp", "vmap of jacfwd"],
)
def test_without_gradient_it_is_computed_once(first, count):
    cell, u = make(), draw(2)
    x = draw(3, 6)

    def step(x):
        return cell.step(x, u)

    with torch.no_grad():
        first(step, x)
        for _ in range(5):
            x = step(x)
            jvp(step, (x,), (x,))
            vmap(jacfwd(step))(x)
        cell.scan(draw(3, 4, 2), draw(4, 6))
        assert count() == 1
        # what was kept inside a transform is a plain tensor, with memory of its own
        assert cell.recurrent_matrix().data_ptr() != 0
        torch.testing.assert_close(cell.recurrent_matrix(), expected_matrix(cell), rtol=0, atol=1e-13)


def test_derivatives_by_reverse_mode_transforms_hold_too():
    cell, x, u = make(), draw(6), draw(2)
    hessian = jacfwd(grad(lambda x: cell.step(x, u).square().sum()))
    with torch.no_grad():
        found = hessian(x), hessian(x)
    expected = torch.autograd.functional.hessian(lambda x: cell.step(x, u).square().sum(), x)
    torch.testing.assert_close(found, (expected, expected), rtol=1e-12, atol=1e-12)


def test_constrain_makes_it_anew_for_optimisers_that_torch_does_not_count():
    cell = make()
    with torch.no_grad():
        cell.recurrent_matrix()
        cell.A.data.mul_(0.5)
        cell.constrain()
        torch.testing.assert_close(cell.recurrent_matrix(), expected_matrix(cell), rtol=0, atol=1e-13)


def test_without_trainable_matrix_it_is_computed_once(count):
    cell = make().requires_grad_(False)
    for _ in range(5):
        x = draw(3, 6).requires_grad_()
        cell.step(x, draw(2)).sum().backward()
        assert x.grad is not None
    assert count() == 1


def test_a_matrix_kept_without_gradient_does_not_stop_training():
    cell = make()
    with torch.no_grad():
        cell.step(draw(6), draw(2))
    for _ in range(2):  # a second backward pass needs a graph of its own
        cell.scan(draw(3, 4, 2), draw(4, 6))[0].square().sum().backward()
    assert cell.A.grad is not None
    assert cell.A.grad.abs().max() > 0


def test_a_matrix_kept_in_inference_mode_serves_elsewhere():
    cell = make().requires_grad_(False)
    with torch.inference_mode():
        cell.step(draw(6), draw(2))
    x = draw(6).requires_grad_()
    cell.step(x, draw(2)).sum().backward()
    assert x.grad is not None
    with torch.inference_mode():
        born_there = make()
        born_there.step(draw(6), draw(2))
        born_there.A.mul_(0.5)
        torch.testing.assert_close(
            born_there.recurrent_matrix(), expected_matrix(born_there), rtol=0, atol=1e-13
        )


@torch.no_grad()
def test_other_values_in_place_of_the_parameter_are_heard():
    cell = make()
    x, u = draw(6), draw(2)
    cell.step(x, u)
    others = [draw(6, 6) for _ in range(3)]
    twin = copy.deepcopy(cell)
    for other in others:
        twin.A.copy_(other)
        found = called(cell, other, x, u)
        torch.testing.assert_close(found, twin.step(x, u), rtol=0, atol=1e-13)
    together = vmap(lambda a: called(cell, a, x, u))(torch.stack(others))
    torch.testing.assert_close(together[-1], twin.step(x, u), rtol=0, atol=1e-13)
    torch.testing.assert_close(cell.recurrent_matrix(), expected_matrix(cell), rtol=0, atol=1e-13)


class Stepped(nn.Module):
    def __init__(self, cell):
        super().__init__()
        self.cell = cell

    def forward(self, x, u):
        return self.cell.step(x, u)


def called(cell, a, x, u):
    return functional_call(Stepped(cell), {"cell.A": a}, (x, u))


def test_scan_keeps_its_precision_under_autocast():
    cell, us = make().float(), torch.randn(4, 5, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs, _ = cell.scan(us, cell.initial_state(5))
    assert torch.equal(outputs, cell.scan(us, cell.initial_state(5))[0])
