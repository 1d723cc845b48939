"""The cells once more, in columns (member, unit, batch), for many small networks side by side.

Products with small matrices then have long rows. A law makes, of a cell and its stacked parameters, the
matrix and bias of the inputs, and the step: from states, what the cell shows first, and what the inputs
drive to new states.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from rnnlab.cells.base import Cell
from rnnlab.cells.elman import Elman
from rnnlab.cells.gru import GRU
from rnnlab.cells.lstm import LSTM
from rnnlab.cells.orthogonal import Orthogonal
from rnnlab.cells.orthogonal import _rotation as rotation
from rnnlab.cells.stable_lstm import StableLSTM

sigmoid_backward, tanh_backward = torch.ops.aten.sigmoid_backward, torch.ops.aten.tanh_backward

Columns = tuple[Tensor, ...]
Law = tuple[Tensor, Tensor, Callable[[Columns, Tensor], Columns]]


def affine(weight: Tensor, x: Tensor, bias: Tensor) -> Tensor:
    """weight @ x + bias, `(member, rows, size)` by `([member,] size, batch)`."""
    return torch.baddbmm(bias.unsqueeze(-1), weight, x.expand(len(weight), -1, -1))


def _tanh(a: Tensor) -> Tensor:
    return 2 * torch.sigmoid(2 * a) - 1  # a fifth of the price, and as exact as states of size one need


def _elman(cell: Elman, p: Any) -> Law:
    phi = _tanh if cell.nonlinearity == "tanh" else torch.relu

    def step(x: Columns, drive: Tensor) -> Columns:
        return (phi(torch.baddbmm(drive, p.weight_hh, x[0])),)

    return p.weight_ih, p.bias_ih + p.bias_hh, step


def _gru(cell: GRU, p: Any) -> Law:
    sizes = 2 * cell.state_size, cell.state_size
    before = cell.reset == "before"
    u_rz, u_h = (p.U if before else p.weight_hh).split(sizes, 1)

    def step_before(x: Columns, drive: Tensor) -> Columns:
        gates, drive = drive.split(sizes, 1)
        r, z = torch.baddbmm(gates, u_rz, x[0]).sigmoid().chunk(2, 1)
        return (torch.lerp(x[0], _tanh(torch.baddbmm(drive, u_h, r * x[0])), z),)

    if before:
        return p.W, p.b, step_before
    b_rz, b_h = p.bias_hh.split(sizes, 1)

    def step_after(x: Columns, drive: Tensor) -> Columns:
        gates, drive = drive.split(sizes, 1)
        r, z = torch.baddbmm(gates, u_rz, x[0]).sigmoid().chunk(2, 1)
        return (torch.lerp(_tanh(torch.addcmul(drive, r, affine(u_h, x[0], b_h))), x[0], z),)

    return p.weight_ih, p.bias_ih + torch.cat([b_rz, torch.zeros_like(b_h)], 1), step_after


def _lstm(cell: LSTM, p: Any) -> Law:
    def step(x: Columns, drive: Tensor) -> Columns:
        i, f, g, o = torch.baddbmm(drive, p.weight_hh, x[0]).chunk(4, 1)
        c = torch.addcmul(f.sigmoid() * x[1], i.sigmoid(), _tanh(g))
        return o.sigmoid() * _tanh(c), c

    return p.weight_ih, p.bias_ih + p.bias_hh, step


def _orthogonal(cell: Orthogonal, p: Any) -> Law:
    recurrent = rotation(p.A).mT
    bias = p.b.unsqueeze(-1)

    def step(x: Columns, drive: Tensor) -> Columns:
        z = torch.baddbmm(drive, recurrent, x[0])
        return (torch.sign(z) * torch.relu(torch.abs(z) + bias),)

    return p.W, torch.zeros_like(p.b), step


LAWS: dict[type[Cell], Callable[[Any, Any], Law]] = {
    Elman: _elman,
    GRU: _gru,
    LSTM: _lstm,
    StableLSTM: _lstm,
    Orthogonal: _orthogonal,
}


def scan(
    cell: Cell, weights: nn.Module, us: Sequence[Tensor | None], x0: Tensor
) -> tuple[list[Tensor], Tensor]:
    """One layer over columns `([member,] input, batch)`, None for zero.

    Returns:
        What it shows at each step, and the last states.
    """
    weight, bias, step = LAWS[type(cell)](cell, weights)
    x, outputs = x0.split(cell.output_size, 1), []
    still = bias.unsqueeze(-1).expand(-1, -1, x0.shape[-1])
    for u in us:
        x = step(x, still if u is None else affine(weight, u, bias))
        outputs.append(x[0])
    return outputs, torch.cat(x, 1)


class GRUScan(torch.autograd.Function):
    """The recurrence of reset-before units and the readout, all members in one node of the graph.

    States are columns `(member, unit, batch)`: products with small matrices then have long rows, and what is
    done element by element runs over one piece of memory. tanh is 2 sigmoid(2 a) - 1, a fifth of its
    price and as exact as states of size one need. A step without input spares its products.
    """

    @staticmethod
    def forward(ctx, us, x0, w, u, b, w_out, b_out):
        (time, _, batch), (member, n, _) = us.shape, x0.shape
        gates, candidates = x0.new_empty(time, member, 2 * n, batch), x0.new_empty(time, member, n, batch)
        xs, outputs = x0.new_empty(time + 1, member, n, batch), x0.new_empty(time, *w_out.shape[:2], batch)
        xs[0] = x0
        # torch has fast batched products for contiguous results alone; twice the argument for tanh
        w_rz, w_h = w[:, : 2 * n].flatten(0, 1), 2 * w[:, 2 * n :].flatten(0, 1)
        u_rz, u_h = u[:, : 2 * n].contiguous(), 2 * u[:, 2 * n :]
        b_rz, b_h, b_out = b[:, : 2 * n, None], 2 * b[:, 2 * n :, None], b_out[..., None]
        driven = us.flatten(1).any(1).tolist()
        minus, rx = -x0.new_ones(()), torch.empty_like(xs[0])
        x, *news = xs.unbind()
        for drive, given, rz, h, new, y in zip(
            us, driven, gates.unbind(), candidates.unbind(), news, outputs.unbind(), strict=True
        ):
            torch.baddbmm(b_rz, u_rz, x, out=rz)
            if given:
                rz.view(-1, batch).addmm_(w_rz, drive)
            rz.sigmoid_()
            torch.mul(rz[:, :n], x, out=rx)
            torch.baddbmm(b_h, u_h, rx, out=h)
            if given:
                h.view(-1, batch).addmm_(w_h, drive)
            torch.add(minus, h.sigmoid_(), alpha=2, out=h)
            x = torch.lerp(x, h, rz[:, n:], out=new)
            torch.baddbmm(b_out, w_out, x, out=y)
        ctx.save_for_backward(us, w, u, w_out, gates, candidates, xs)
        ctx.driven = driven
        return outputs, x.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_outputs, grad_last):
        us, w, u, w_out, gates, candidates, xs = ctx.saved_tensors
        time, n = len(us), candidates.shape[2]
        grad_w, grad_b = torch.zeros_like(w), w.new_zeros(w.shape[:2])
        u_rz, u_h = u[:, : 2 * n].mT.contiguous(), u[:, 2 * n :].mT.contiguous()
        of_rz, of_h, of_out = torch.zeros_like(u[:, : 2 * n]), torch.zeros_like(u_h), torch.zeros_like(w_out)
        grad = grad_last.contiguous().clone()
        grad_rx, spare, delta_h = torch.empty_like(grad), torch.empty_like(grad), torch.empty_like(grad)
        delta_rz = torch.empty_like(gates[0])
        delta_r, delta_z = delta_rz.split(n, 1)
        columns = grad_outputs.contiguous()
        for t in reversed(range(time)):
            x, (r, z), h = xs[t], gates[t].split(n, 1), candidates[t]
            grad.baddbmm_(w_out.mT, columns[t])
            of_out.baddbmm_(columns[t], xs[t + 1].mT)
            torch.sub(h, x, out=spare).mul_(grad)
            sigmoid_backward(spare, z, grad_input=delta_z)
            torch.mul(grad, z, out=spare)
            tanh_backward(spare, h, grad_input=delta_h)
            grad.sub_(spare)
            torch.bmm(u_h, delta_h, out=grad_rx)
            torch.mul(grad_rx, x, out=spare)
            sigmoid_backward(spare, r, grad_input=delta_r)
            grad.addcmul_(grad_rx, r).baddbmm_(u_rz, delta_rz)
            of_rz.baddbmm_(delta_rz, x.mT)
            of_h.baddbmm_(delta_h, torch.mul(r, x, out=spare).mT)
            grad_b[:, : 2 * n] += delta_rz.sum(-1)
            grad_b[:, 2 * n :] += delta_h.sum(-1)
            if ctx.driven[t]:
                grad_w[:, : 2 * n] += delta_rz @ us[t].mT
                grad_w[:, 2 * n :] += delta_h @ us[t].mT
        return None, grad, grad_w, torch.cat([of_rz, of_h], 1), grad_b, of_out, columns.sum((0, 3))
