"""The gated recurrent unit, in both its forms."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from rnnlab.cells import ranges
from rnnlab.cells.base import Cell, check_sizes, product
from rnnlab.cells.cudnn import flatten_weights

# elements of a state buffer that stay in a core's cache, with the dozen others of their kind
CACHED = 2**15
sigmoid_backward, tanh_backward = torch.ops.aten.sigmoid_backward, torch.ops.aten.tanh_backward


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
        check_sizes(input_size=input_size, hidden_size=hidden_size)
        super().__init__(input_size, hidden_size, hidden_size)
        if reset not in ("before", "after"):
            raise ValueError(f"reset={reset!r} is not possible: give 'before' or 'after'.")
        self.reset = reset
        rows = 3 * hidden_size
        if reset == "before":
            self.W = nn.Parameter(torch.empty(rows, input_size))
            self.U = nn.Parameter(torch.empty(rows, hidden_size))
            self.b = nn.Parameter(torch.empty(rows))
        else:
            self.weight_ih = nn.Parameter(torch.empty(rows, input_size))
            self.weight_hh = nn.Parameter(torch.empty(rows, hidden_size))
            self.bias_ih = nn.Parameter(torch.empty(rows))
            self.bias_hh = nn.Parameter(torch.empty(rows))
            flatten_weights("GRU", *self._weights())
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(hidden_size**-0.5), hidden_size**-0.5)

    def _weights(self) -> tuple[nn.Parameter, ...]:
        return self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh

    def _apply(self, fn, recurse: bool = True):
        super()._apply(fn, recurse)
        if self.reset == "after":
            flatten_weights("GRU", *self._weights())
        return self

    def step(self, x: Tensor, u: Tensor) -> Tensor:
        n = self.state_size
        if self.reset == "before":
            gates, drive = F.linear(u, self.W, self.b).split((2 * n, n), -1)
            r, z = torch.sigmoid(gates + F.linear(x, self.U[: 2 * n])).chunk(2, -1)
            return z * torch.tanh(drive + F.linear(r * x, self.U[2 * n :])) + (1 - z) * x
        gates, drive = F.linear(u, self.weight_ih, self.bias_ih).split((2 * n, n), -1)
        gates_x, drive_x = F.linear(x, self.weight_hh, self.bias_hh).split((2 * n, n), -1)
        r, z = torch.sigmoid(gates + gates_x).chunk(2, -1)
        return (1 - z) * torch.tanh(drive + r * drive_x) + z * x

    def _matrices(self) -> tuple[Tensor, Tensor]:
        """Those of the inputs and of the states, the rows of r, z and the candidate one below the other."""
        return (self.W, self.U) if self.reset == "before" else (self.weight_ih, self.weight_hh)

    def push(self, x: Tensor, u: Tensor, dx: Tensor, du: Tensor | None = None) -> tuple[Tensor, Tensor]:
        n = self.state_size
        w_input, w_state = self._matrices()
        new, keep, slopes, r, outer = self._linearised(x, u)
        drive = driven = None
        if self.reset == "before":
            gates = product(w_state[: 2 * n], dx)
        else:
            gates, drive = product(w_state, dx).split((2 * n, n), dim=-2)
        if du is not None:
            gates_u, driven = product(w_input, du).split((2 * n, n), dim=-2)
            gates = gates + gates_u
        of_r, of_z = (slopes.unsqueeze(-1) * gates).chunk(2, dim=-2)
        inner = torch.addcmul(of_r, r.unsqueeze(-1), dx if drive is None else drive)
        if drive is None:
            inner = product(w_state[2 * n :], inner)
        if driven is not None:
            inner = inner + driven
        kept = torch.addcmul(of_z, keep.unsqueeze(-1), dx)
        return new, torch.addcmul(kept, outer.unsqueeze(-1), inner)

    def jacobian(self, x: Tensor, u: Tensor) -> Tensor:
        n = self.state_size
        w_state = self._matrices()[1]
        _, keep, slopes, r, outer = self._linearised(x, u)
        of_r, of_z = (slopes.unsqueeze(-1) * w_state[: 2 * n]).chunk(2, dim=-2)
        if self.reset == "before":
            inner = product(w_state[2 * n :], of_r + r.diag_embed())
        else:
            inner = torch.addcmul(of_r, r.unsqueeze(-1), w_state[2 * n :])
        return torch.addcmul(of_z, outer.unsqueeze(-1), inner) + keep.diag_embed()

    def _linearised(self, x: Tensor, u: Tensor) -> tuple[Tensor, ...]:
        """One step, and what makes its derivative.

        Returns:
            The next states; their derivatives by the old ones at fixed gates; those of what is reset by the
            argument of r, and of x' by that of z, `(*batch, 2 state)`; r; the derivatives of x' by the
            argument of tanh.
        """
        n = self.state_size
        w_input, w_state = self._matrices()
        if self.reset == "before":
            gates, drive = F.linear(u, w_input, self.b).split((2 * n, n), -1)
            r, z = torch.sigmoid(gates + F.linear(x, w_state[: 2 * n])).chunk(2, -1)
            reset = x
            h = torch.tanh(drive + F.linear(r * x, w_state[2 * n :]))
            new, keep = z, 1 - z
        else:
            gates, drive = F.linear(u, w_input, self.bias_ih).split((2 * n, n), -1)
            gates_x, reset = F.linear(x, w_state, self.bias_hh).split((2 * n, n), -1)
            r, z = torch.sigmoid(gates + gates_x).chunk(2, -1)
            h = torch.tanh(drive + r * reset)
            new, keep = 1 - z, z
        away = h - x if self.reset == "before" else x - h
        slopes = torch.cat([reset * r * (1 - r), away * z * (1 - z)], dim=-1)
        return new * h + keep * x, keep, slopes, r, new * (1 - h * h)

    @torch.no_grad()
    def bounds(self, low: Tensor, high: Tensor) -> ranges.Box:
        """Where tanh takes the units: the new state lies between it and the old one, from which it leads."""
        inputs = low.double(), high.double()
        ones = torch.ones(*low.shape[:-1], self.state_size, dtype=torch.float64, device=low.device)
        return ranges.settle(lambda box: ranges.tanh(self._ranges(inputs, box)[3]), (-ones, ones))

    def _ranges(self, inputs: ranges.Box, box: ranges.Box) -> tuple[ranges.Box, ...]:
        """Ranges of the arguments of r and z, of what is reset, and of the argument of tanh."""
        n = self.state_size
        w_input, w_state = (m.double() for m in self._matrices())
        if self.reset == "before":
            bias = self.b.double()
            gates = ranges.affine((w_input[: 2 * n], inputs), (w_state[: 2 * n], box), bias=bias[: 2 * n])
            r, z = zip(*(side.chunk(2, -1) for side in gates), strict=True)
            reset = ranges.times(ranges.sigmoid(r), box)
            drive = ranges.affine((w_input[2 * n :], inputs), (w_state[2 * n :], reset), bias=bias[2 * n :])
            return r, z, box, drive
        bias_input, bias_state = self.bias_ih.double(), self.bias_hh.double()
        gates = ranges.affine(
            (w_input[: 2 * n], inputs),
            (w_state[: 2 * n], box),
            bias=bias_input[: 2 * n] + bias_state[: 2 * n],
        )
        r, z = zip(*(side.chunk(2, -1) for side in gates), strict=True)
        reset = ranges.affine((w_state[2 * n :], box), bias=bias_state[2 * n :])
        ones = torch.eye(n, dtype=torch.float64, device=box[0].device)
        drive = ranges.affine(
            (w_input[2 * n :], inputs),
            (ones, ranges.times(ranges.sigmoid(r), reset)),
            bias=bias_input[2 * n :],
        )
        return r, z, reset, drive

    @torch.no_grad()
    def gains(self, low: Tensor, high: Tensor, box: ranges.Box | None) -> tuple[Tensor, Tensor] | None:
        """Norms of the terms of the derivative, each from per-unit bounds of its gates and slopes.

        None on the whole space, where the derivative by the update gate, (h - x) z (1 - z), has no bound.
        """
        if box is None:
            return None
        r, z, reset, drive = self._ranges((low.double(), high.double()), box)
        (w_r, w_z, w_h), (u_r, u_z, u_h) = (matrix.chunk(3) for matrix in self._matrices())
        h = ranges.tanh(drive)
        of_z = ranges.sigmoid_slope(z) * torch.maximum(h[1] - box[0], box[1] - h[0])
        of_r = ranges.sigmoid_slope(r) * ranges.largest(reset)
        most_r = ranges.sigmoid(r)[1]
        on, off = ranges.sigmoid(z)[1], ranges.sigmoid((-z[1], -z[0]))[1]
        new, keep = (on, off) if self.reset == "before" else (off, on)
        outer = new * ranges.tanh_slope(drive)
        if self.reset == "before":
            inner = ranges.norm(u_h, outer)
            state = ranges.norm(u_h, outer, most_r) + inner * ranges.norm(u_r, of_r)
            inputs = inner * ranges.norm(w_r, of_r)
        else:
            state = ranges.norm(u_h, outer * most_r) + ranges.norm(u_r, outer * of_r)
            inputs = ranges.norm(w_r, outer * of_r)
        state = keep.amax(-1) + state + ranges.norm(u_z, of_z)
        return state, inputs + ranges.norm(w_h, outer) + ranges.norm(w_z, of_z)

    def scan(self, us: Tensor, x0: Tensor) -> tuple[Tensor, Tensor]:
        if self.reset == "before":
            return _Scan.apply(us, x0, self.W, self.U, self.b)  # pyright: ignore[reportReturnType]
        # only cuDNN minds the flag `train`: without it there is no way back
        outputs, x = torch.gru(
            us, x0.contiguous()[None], self._weights(), True, 1, 0.0, torch.is_grad_enabled(), False, False
        )
        return outputs, x[0]

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.output_size}, reset={self.reset!r}"


class _Scan(torch.autograd.Function):
    """The recurrence of the reset-before form as one node of the graph.

    With few units the time goes into starting operations, with many into memory. So a step is seven
    operations forward and seven backward, each on contiguous memory, and what need not wait for its
    neighbour in time is done for a block of steps at once: as many as stay in the cache.
    """

    @staticmethod
    def forward(ctx, us, x0, w, u, b):
        (time, batch, _), n = us.shape, x0.shape[-1]
        gates = us.new_empty(3, time, batch, n)  # r, z and h; the arguments first, then their values
        for gate, w_gate, b_gate in zip(gates, w.chunk(3), b.chunk(3), strict=True):
            torch.addmm(b_gate, us.flatten(0, 1), w_gate.mT, out=gate.flatten(0, 1))
        xs = us.new_empty(time + 1, batch, n)
        xs[0] = x0
        u_r, u_z, u_h = (part.mT for part in u.chunk(3))
        rx = torch.empty_like(xs[0])
        x, *news = xs.unbind()
        for rz, r, z, h, new in zip(
            gates[:2].unbind(1), *(gate.unbind() for gate in gates), news, strict=True
        ):
            r.addmm_(x, u_r)
            z.addmm_(x, u_z)
            rz.sigmoid_()
            torch.mul(r, x, out=rx)
            h.addmm_(rx, u_h).tanh_()
            x = torch.lerp(x, h, z, out=new)
        ctx.save_for_backward(us, w, u, gates, xs)
        ctx.set_materialize_grads(False)
        return xs[1:], x.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_outputs, grad_last):
        us, w, u, gates, xs = ctx.saved_tensors
        _, time, batch, n = gates.shape
        w, u = w.view(3, n, -1), u.view(3, n, n)
        u_r, u_z, u_h = u
        grad_us = torch.empty_like(us) if ctx.needs_input_grad[0] else None
        grad_w, grad_u, grad_b = torch.zeros_like(w), torch.zeros_like(u), w.new_zeros(3, n)

        zero = xs.new_zeros(batch, n)
        # what comes from outside to the states before each step, and to the last
        outside = [zero, *(time * [zero] if grad_outputs is None else grad_outputs.unbind())]
        grad = outside.pop() + (zero if grad_last is None else grad_last)
        grad_rx, spare = torch.empty_like(zero), torch.empty_like(zero)
        block = max(1, CACHED // zero.numel())
        for start in reversed(range(0, time, block)):
            steps = slice(start, start + block)
            old, (r, z, h) = xs[:-1][steps], gates[:, steps]
            # slopes: what the gradient at r * x, or at the new state, is to be multiplied by
            deltas = torch.stack(
                [sigmoid_backward(old, r), sigmoid_backward(h - old, z), tanh_backward(z, h)]
            )
            rest = 1 - z
            for delta_zh, delta_r, delta_z, delta_h, r_t, rest_t in reversed(
                list(zip(deltas[1:].unbind(1), *map(torch.unbind, (*deltas, r, rest)), strict=True))
            ):
                delta_zh.mul_(grad)
                torch.mm(delta_h, u_h, out=grad_rx)
                delta_r.mul_(grad_rx)
                torch.addcmul(outside.pop(), grad, rest_t, out=spare).addcmul_(grad_rx, r_t)
                spare.addmm_(delta_r, u_r).addmm_(delta_z, u_z)
                grad, spare = spare, grad
            deltas = deltas.flatten(1, 2)
            inputs = us[steps].flatten(0, 1)
            seen = torch.stack([old, old, r * old]).flatten(1, 2)
            grad_w.baddbmm_(deltas.mT, inputs.expand(3, -1, -1))
            grad_u.baddbmm_(deltas.mT, seen)
            grad_b += deltas.sum(1)
            if grad_us is not None:
                grad_us[steps] = torch.bmm(deltas, w).sum(0).view_as(us[steps])
        return grad_us, grad, grad_w.flatten(0, 1), grad_u.flatten(0, 1), grad_b.flatten()
