"""The gated recurrent unit, in both its forms."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from rnnlab.cells.base import Cell


class GRU(Cell):
    """A gated recurrent unit.

    `reset="before"`: the reset gate acts before the recurrent product, as in Jordan et al. (2019), eq. 2-4:

        z = sigmoid(Wz u + Uz x + bz),  r = sigmoid(Wr u + Ur x + br)
        x' = z * tanh(Wh u + Uh (r * x) + bh) + (1 - z) * x

    with the bias outside the product, as their eq. 7 has it. The parameters `W` (3 state, input),
    `U` (3 state, state) and `b` (3 state) hold the rows of r, z and h, in this order.

    `reset="after"`: the cell of `torch.nn.GRU`, whose z is the 1 - z above; its parameters have the names
    (without the `_l0`), shapes and gate order r, z, n that they have there, so that weights can be moved:

        r = sigmoid(Wir u + bir + Whr x + bhr),  z = sigmoid(Wiz u + biz + Whz x + bhz)
        x' = (1 - z) * tanh(Win u + bin + r * (Whn x + bhn)) + z * x

    All parameters start uniform in +-1 / sqrt(hidden_size), as torch has it.

    References:
        I. D. Jordan, P. A. Sokol and I. M. Park, Gated recurrent units viewed through the lens of
        continuous time dynamical systems (2019).

    Args:
        input_size: Length of one input vector.
        hidden_size: Length of the state.
        reset: Where the reset gate stands.

    Raises:
        ValueError: A size is below 1, or `reset` is neither of the two.

    Example:
        >>> cell = GRU(input_size=1, hidden_size=2)
        >>> cell.scan(torch.zeros(5, 3, 1), cell.initial_state(3))[0].shape
        torch.Size([5, 3, 2])
    """

    def __init__(
        self, input_size: int, hidden_size: int, *, reset: Literal["before", "after"] = "before"
    ) -> None:
        super().__init__(input_size, hidden_size, hidden_size)
        rows = 3 * hidden_size
        if reset == "before":
            shapes = {"W": (rows, input_size), "U": (rows, hidden_size), "b": (rows,)}
        elif reset == "after":
            shapes = {
                "weight_ih": (rows, input_size),
                "weight_hh": (rows, hidden_size),
                "bias_ih": (rows,),
                "bias_hh": (rows,),
            }
        else:
            raise ValueError(f"reset={reset!r} is not possible: choose 'before' or 'after'.")
        self.reset = reset
        bound = 1 / math.sqrt(hidden_size)
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.empty(shape).uniform_(-bound, bound)))

    def step(self, x: Tensor, u: Tensor) -> Tensor:
        n = self.state_size
        if self.reset == "before":
            gates, drive = (u @ self.W.mT + self.b).split((2 * n, n), -1)
            r, z = torch.sigmoid(gates + x @ self.U[: 2 * n].mT).chunk(2, -1)
            return z * torch.tanh(drive + (r * x) @ self.U[2 * n :].mT) + (1 - z) * x
        gates, drive = (u @ self.weight_ih.mT + self.bias_ih).split((2 * n, n), -1)
        gates_x, drive_x = (x @ self.weight_hh.mT + self.bias_hh).split((2 * n, n), -1)
        r, z = torch.sigmoid(gates + gates_x).chunk(2, -1)
        return (1 - z) * torch.tanh(drive + r * drive_x) + z * x

    def scan(self, us: Tensor, x0: Tensor) -> tuple[Tensor, Tensor]:
        if self.reset == "before":
            return _Scan.apply(us, x0, self.W, self.U, self.b)  # pyright: ignore[reportReturnType]
        weights = [self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh]
        outputs, x = torch.gru(us, x0[None], weights, True, 1, 0.0, self.training, False, False)
        return outputs, x[0]


class _Scan(torch.autograd.Function):
    """The recurrence of the reset-before form as one node of the graph.

    For few units the time goes into starting operations, not into arithmetic, so that a step is six of them
    forward and six backward, on buffers `(time, gate, batch)` whose parts are contiguous. What does not need
    the step before is done for all steps at once.
    """

    @staticmethod
    def forward(ctx, us, x0, w, u, b):
        n, batch = x0.shape[-1], x0.shape[0]
        gates = torch.matmul(w, us.mT).add_(b[:, None])  # (time, 3 state, batch), in place: r, z, h
        xs = us.new_empty(len(us) + 1, n, batch)
        xs[0] = x0.mT
        u_rz, u_h = u[: 2 * n], u[2 * n :]
        rx = torch.empty_like(xs[0])
        x, *rest = xs.unbind()
        for rz, r, z, h, new in zip(
            gates[:, : 2 * n].unbind(),
            gates[:, :n].unbind(),
            gates[:, n : 2 * n].unbind(),
            gates[:, 2 * n :].unbind(),
            rest,
            strict=True,
        ):
            rz.addmm_(u_rz, x).sigmoid_()
            torch.mul(r, x, out=rx)
            h.addmm_(u_h, rx).tanh_()
            x = torch.lerp(x, h, z, out=new)
        ctx.save_for_backward(us, w, u, gates, xs)
        ctx.set_materialize_grads(False)
        return xs[1:].mT, x.mT.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_outputs, grad_last):
        us, w, u, gates, xs = ctx.saved_tensors
        n = xs.shape[1]
        u_rz, u_h = u[: 2 * n].mT, u[2 * n :].mT
        old = xs[:-1]
        r, z, h = gates.chunk(3, 1)
        # slopes by which the gradient at the new state (z, h) or at r * x (r) becomes that at the arguments
        slope_r = old * r * (1 - r)
        slopes = torch.stack([(h - old) * z * (1 - z), z * (1 - h * h)], 1)
        keep = 1 - z
        deltas = torch.empty_like(gates)
        grad = torch.zeros_like(xs)
        if grad_outputs is not None:
            grad[1:] = grad_outputs.mT
        if grad_last is not None:
            grad[-1] += grad_last.mT
        grad_rx = torch.empty_like(xs[0])
        for t in range(len(us) - 1, -1, -1):
            delta = deltas[t]
            torch.mul(grad[t + 1], slopes[t], out=delta[n:].view(2, n, -1))
            torch.mm(u_h, delta[2 * n :], out=grad_rx)
            torch.mul(grad_rx, slope_r[t], out=delta[:n])
            grad[t].addcmul_(grad[t + 1], keep[t]).addcmul_(grad_rx, r[t]).addmm_(u_rz, delta[: 2 * n])
        flat = deltas.transpose(0, 1).reshape(3 * n, -1)
        needs = ctx.needs_input_grad
        grad_u = None
        if needs[3]:
            grad_u = torch.cat([
                flat[: 2 * n] @ old.transpose(0, 1).reshape(n, -1).mT,
                flat[2 * n :] @ (r * old).transpose(0, 1).reshape(n, -1).mT,
            ])
        return (
            torch.matmul(deltas.mT, w) if needs[0] else None,
            grad[0].mT if needs[1] else None,
            flat @ us.reshape(-1, us.shape[-1]) if needs[2] else None,
            grad_u,
            flat.sum(1) if needs[4] else None,
        )
