"""Laws of the two gated recurrent units beyond those of every cell."""

import math

import pytest
import torch
from torch import nn

from rnnlab.cells import GRU
from rnnlab.cells import gru as module


def draw(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def written_out(cell, x, u):
    """Eq. 2-4 of Jordan et al. for one state, number by number, with the bias outside the product."""
    n = len(x)
    wr, wz, wh = (part.tolist() for part in cell.W.detach().split(n))
    ur, uz, uh = (part.tolist() for part in cell.U.detach().split(n))
    br, bz, bh = (part.tolist() for part in cell.b.detach().split(n))

    def affine(w, u_matrix, b, state):
        return [
            sum(a * v for a, v in zip(w[i], u, strict=True))
            + sum(a * v for a, v in zip(u_matrix[i], state, strict=True))
            + b[i]
            for i in range(n)
        ]

    z = [sigmoid(value) for value in affine(wz, uz, bz, x)]
    r = [sigmoid(value) for value in affine(wr, ur, br, x)]
    candidate = [math.tanh(v) for v in affine(wh, uh, bh, [a * b for a, b in zip(r, x, strict=True)])]
    return [z[i] * candidate[i] + (1 - z[i]) * x[i] for i in range(n)]


def test_reset_before_is_the_paper_written_out():
    torch.manual_seed(0)
    cell = GRU(2, 3).double()
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.mul_(3)
    x, us = draw(3), draw(6, 2)
    expected, state = [], x.tolist()
    for u in us.tolist():
        state = written_out(cell, state, u)
        expected.append(state)
    with torch.no_grad():
        outputs, last = cell.scan(us[:, None], x[None])
        torch.testing.assert_close(outputs[:, 0].tolist(), expected, rtol=0, atol=1e-14)
        torch.testing.assert_close(last[0].tolist(), expected[-1], rtol=0, atol=1e-14)
        torch.testing.assert_close(cell.step(x, us[0]).tolist(), expected[0], rtol=0, atol=1e-14)


@torch.no_grad()
def test_the_update_gate_of_the_paper_opens_towards_the_new():
    cell = GRU(1, 4).double()
    x, u = draw(5, 4), draw(5, 1)
    cell.b[4:8] = -100.0
    torch.testing.assert_close(cell.step(x, u), x, rtol=0, atol=1e-15)
    cell.b[4:8], cell.U[8:] = 100.0, 0.0
    memoryless = torch.tanh(u @ cell.W[8:].T + cell.b[8:])
    torch.testing.assert_close(cell.step(x, u), memoryless, rtol=0, atol=1e-15)


@torch.no_grad()
@pytest.mark.parametrize(("bh", "count"), [(-1.0, 3), (-0.71, 3), (-0.70, 1), (-0.5, 1)])
def test_fixed_points_of_one_unit_beside_its_saddle_node(bh, count):
    # with Uh, Ur, br = -60, 80, 40 and a half-open update gate two fixed points vanish at bh = -0.70313
    cell = GRU(1, 1).double()
    cell.W.zero_()
    cell.U.copy_(torch.tensor([[80.0], [0.0], [-60.0]]))
    cell.b.copy_(torch.tensor([40.0, 0.0, bh]))
    x = torch.linspace(-1, 1, 200_001, dtype=torch.float64)[:, None]
    change = cell.step(x, torch.zeros(1, dtype=torch.float64)) - x
    assert int((change[1:].sign() != change[:-1].sign()).sum()) == count


def test_reset_after_has_the_gradients_of_torch():
    torch.manual_seed(1)
    cell, twin = GRU(2, 3, reset="after").double(), nn.GRU(2, 3).double()
    twin.load_state_dict({f"{name}_l0": value for name, value in cell.state_dict().items()})
    us, x0, weight = draw(5, 4, 2), draw(4, 3), draw(5, 4, 3)
    ours = torch.autograd.grad(cell.scan(us, x0)[0], list(cell.parameters()), weight)
    theirs = torch.autograd.grad(twin(us, x0[None])[0], list(twin.parameters()), weight)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-13)


@pytest.mark.parametrize("cached", [1, 12, 36, 10**6])
def test_gradients_do_not_depend_on_the_blocks_of_the_backward_pass(cached, monkeypatch):
    # 12 numbers a state: blocks of 1, 1, 3 (of which the first is shorter) and 7 steps
    monkeypatch.setattr(module, "CACHED", cached)
    torch.manual_seed(2)
    cell = GRU(2, 3).double()
    us, x0, weight = draw(7, 4, 2).requires_grad_(), draw(4, 3).requires_grad_(), draw(7, 4, 3)
    leaves = [us, x0, *cell.parameters()]
    fast = torch.autograd.grad(cell.scan(us, x0)[0], leaves, weight)
    slow = torch.autograd.grad(super(GRU, cell).scan(us, x0)[0], leaves, weight)
    torch.testing.assert_close(fast, slow, rtol=1e-12, atol=1e-12)


def test_a_second_derivative_of_the_scan_is_refused_not_wrong():
    cell = GRU(1, 2).double()
    outputs, _ = cell.scan(draw(3, 2, 1), draw(2, 2))
    (gradient,) = torch.autograd.grad(outputs.square().sum(), cell.U, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_scan_keeps_its_precision_under_autocast():
    cell, us = GRU(2, 3), torch.randn(4, 5, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs, _ = cell.scan(us, cell.initial_state(5))
    assert torch.equal(outputs, cell.scan(us, cell.initial_state(5))[0])


def test_unknown_reset_is_refused():
    with pytest.raises(ValueError, match="reset='never' is not possible: give 'before' or 'after'"):
        GRU(1, 1, reset="never")
