"""The orthogonal recurrent network: expRNN."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from rnnlab.cells.base import Cell
from rnnlab.cells.expm import expm_skew


class Orthogonal(Cell):
    """A recurrent network with an orthogonal recurrent matrix, the exponential of a skew-symmetric one.

    x' = modReLU(W u + x B), B = exp(A - A^T), modReLU(z) = sign(z) relu(|z| + b)

    Of `A` only the strict upper triangle counts; the rest stays zero and gets no gradient.

    References:
        M. Lezcano-Casado and D. Martinez-Rubio, Cheap orthogonal constraints in neural networks: a simple
        parametrization of the orthogonal and unitary group, ICML 2019.
        M. Henaff, A. Szlam and Y. LeCun, Recurrent orthogonal networks and long-memory tasks, ICML 2016.
        K. Helfrich, D. Willmott and Q. Ye, Orthogonal recurrent neural networks with scaled Cayley
        transform, ICML 2018.

    Args:
        input_size: Length of one input vector.
        hidden_size: Length of the state; any whole number, odd ones included.
        init: Angles of the rotation by 2 x 2 blocks from which training starts: `henaff`, uniform in
            [-pi, pi], or `cayley`, -tan(t / 2) with t uniform in [0, pi/2].

    Raises:
        ValueError: A size is below 1, or `init` is neither of the two.

    Example:
        >>> cell = Orthogonal(input_size=1, hidden_size=4)
        >>> b = cell.recurrent_matrix()
        >>> torch.allclose(b.mT @ b, torch.eye(4), atol=1e-6)
        True
    """

    def __init__(
        self, input_size: int, hidden_size: int, *, init: Literal["henaff", "cayley"] = "henaff"
    ) -> None:
        super().__init__(input_size, hidden_size, hidden_size)
        angles = torch.empty(hidden_size // 2)
        if init == "henaff":
            angles.uniform_(-math.pi, math.pi)
        elif init == "cayley":
            angles.uniform_(0, math.pi / 2).div_(2).tan_().neg_()
        else:
            raise ValueError(f"init={init!r} is not possible: choose 'henaff' or 'cayley'.")
        a = torch.zeros(hidden_size, hidden_size)
        even = 2 * torch.arange(hidden_size // 2)
        a[even, even + 1] = angles
        self.A = nn.Parameter(a)
        self.W = nn.Parameter(nn.init.kaiming_normal_(torch.empty(hidden_size, input_size)))
        self.b = nn.Parameter(torch.empty(hidden_size).uniform_(-0.01, 0.01))
        self._cache = _Cache()

    def recurrent_matrix(self) -> Tensor:
        """The orthogonal matrix B, `(state, state)`: on the graph if one is asked for, else kept until A changes."""
        if torch.is_grad_enabled() and self.A.requires_grad or not isinstance(self.A, nn.Parameter):
            return _rotation(self.A)
        return self._cache.rotation(self.A)

    def step(self, x: Tensor, u: Tensor) -> Tensor:
        z = u @ self.W.mT + x @ self.recurrent_matrix()
        return torch.sign(z) * torch.relu(torch.abs(z) + self.b)

    def scan(self, us: Tensor, x0: Tensor) -> tuple[Tensor, Tensor]:
        return _Scan.apply(us, x0, self.W, self.recurrent_matrix(), self.b)  # pyright: ignore[reportReturnType]


def _rotation(a: Tensor) -> Tensor:
    upper = a.triu(1)
    return expm_skew(upper - upper.mT)


class _Cache:
    """Remembers the rotation of a parameter for as long as the parameter stays the same."""

    def __init__(self) -> None:
        self._key: tuple[object, ...] | None = None
        self._value = torch.empty(0)

    def rotation(self, a: Tensor) -> Tensor:
        # data_ptr: `.double()`, `.to()` and `param.data = ...` give the same parameter other data
        key = (id(a), a._version, a.data_ptr(), a.dtype, a.device)
        if key != self._key:
            with torch.no_grad():
                self._value = _rotation(a)
            self._key = key
        return self._value

    def __deepcopy__(self, memo: dict[int, object]) -> _Cache:
        return _Cache()

    def __reduce__(self) -> tuple[type[_Cache], tuple[()]]:
        return _Cache, ()


class _Scan(torch.autograd.Function):
    """The whole recurrence as one node of the graph; every product that can wait is taken at once.

    In the backward pass the slope of modReLU is 1 where the new state is not zero and else 0, and its
    derivative with respect to b is the sign of the new state: the states alone need be kept.
    """

    @staticmethod
    def forward(ctx, us, x0, w, rotation, b):
        time, batch, _ = us.shape
        xs = us.new_empty(time + 1, batch, x0.shape[-1])
        xs[0] = x0
        torch.mm(us.reshape(time * batch, -1), w.mT, out=xs[1:].view(time * batch, -1))
        below, above = b.clamp(max=0), b.clamp(min=0)
        beyond = -below
        cut, sign = torch.empty_like(x0), torch.empty_like(x0)
        x, *rest = xs.unbind()
        for z in rest:
            z.addmm_(x, rotation)
            # sign(z) relu(|z| + b) in one expression for both signs of b
            torch.clamp(z, below, beyond, out=cut)
            torch.sign(z, out=sign)
            x = z.sub_(cut).addcmul_(sign, above)
        ctx.save_for_backward(us, w, rotation, xs)
        ctx.set_materialize_grads(False)
        return xs[1:], x.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_outputs, grad_last):
        us, w, rotation, xs = ctx.saved_tensors
        time, batch, size = xs[1:].shape
        back = rotation.mT
        deltas = torch.empty_like(xs[1:])
        grad_b = xs.new_zeros(batch, size)
        grad = xs.new_zeros(batch, size) if grad_last is None else grad_last.clone()
        sign, signed = torch.empty_like(grad), torch.empty_like(grad)
        for t in range(time - 1, -1, -1):
            if grad_outputs is not None:
                grad += grad_outputs[t]
            torch.sign(xs[t + 1], out=sign)
            torch.mul(grad, sign, out=signed)
            grad_b += signed
            delta = torch.mul(signed, sign, out=deltas[t])
            torch.mm(delta, back, out=grad)
        deltas = deltas.view(time * batch, size)
        needs = ctx.needs_input_grad
        return (
            (deltas @ w).view_as(us) if needs[0] else None,
            grad if needs[1] else None,
            deltas.mT @ us.reshape(time * batch, -1) if needs[2] else None,
            xs[:-1].view(time * batch, size).mT @ deltas if needs[3] else None,
            grad_b.sum(0) if needs[4] else None,
        )
