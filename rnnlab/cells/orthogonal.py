"""The orthogonal recurrent network: expRNN."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from rnnlab.cells import ranges
from rnnlab.cells.base import Cell, check_sizes, product
from rnnlab.cells.expm import expm_skew, look


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
        check_sizes(input_size=input_size, hidden_size=hidden_size)
        super().__init__(input_size, hidden_size, hidden_size)
        angles = torch.empty(hidden_size // 2)
        if init == "henaff":
            angles.uniform_(-math.pi, math.pi)
        elif init == "cayley":
            angles.uniform_(0, math.pi / 2).div_(2).tan_().neg_()
        else:
            raise ValueError(f"init={init!r} is not possible: give 'henaff' or 'cayley'.")
        a = torch.zeros(hidden_size, hidden_size)
        even = 2 * torch.arange(hidden_size // 2)
        a[even, even + 1] = angles
        self.A = nn.Parameter(a)
        self.W = nn.Parameter(nn.init.kaiming_normal_(torch.empty(hidden_size, input_size)))
        self.b = nn.Parameter(torch.empty(hidden_size).uniform_(-0.01, 0.01))
        self._cache = _Cache()

    def recurrent_matrix(self) -> Tensor:
        """The orthogonal matrix B, `(state, state)`.

        With gradient it is computed anew, a part of the graph. Without, it is kept until `A` changes, by what
        torch counts as a change; writing through `A.data` is none.
        """
        if self.A.requires_grad and torch.is_grad_enabled():
            self._cache.forget()
            return _rotation(self.A)
        return self._cache.rotation(self.A)

    def constrain(self) -> None:
        """Nothing to put back, but fused optimisers write without torch's counting it as a change."""
        self._cache.forget()

    def step(self, x: Tensor, u: Tensor) -> Tensor:
        return self._move(x, u)[0]

    def _move(self, x: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """The next states, and the rotation that led there."""
        rotation = self.recurrent_matrix()
        z = F.linear(u, self.W) + x @ rotation
        return torch.sign(z) * torch.relu(torch.abs(z) + self.b), rotation

    def push(self, x: Tensor, u: Tensor, dx: Tensor, du: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x, rotation = self._move(x, u)
        pushed = product(rotation.mT, dx)
        if du is not None:
            pushed = pushed + product(self.W, du)
        return x, torch.where(x.unsqueeze(-1) != 0, pushed, 0.0)

    def jacobian(self, x: Tensor, u: Tensor) -> Tensor:
        x, rotation = self._move(x, u)
        return torch.where(x.unsqueeze(-1) != 0, rotation.mT, 0.0)

    @torch.no_grad()
    def gains(self, low: Tensor, high: Tensor, box: ranges.Box | None) -> tuple[Tensor, Tensor]:
        """1 and ||W|| if no b is above zero: then the slope of modReLU is 0 or 1, and B is orthogonal.

        Infinity if one is: modReLU jumps by 2 b there, at z = 0.
        """
        smooth = (self.b <= 0).all()
        ones = torch.ones(low.shape[:-1], dtype=torch.float64, device=low.device)
        state, inputs = (torch.where(smooth, g, torch.inf) for g in (self.recurrent_matrix(), self.W))
        return ones * ranges.norm(state), ones * ranges.norm(inputs)

    def scan(self, us: Tensor, x0: Tensor) -> tuple[Tensor, Tensor]:
        """As in `Cell`. One node of the graph, differentiable once; `step` is as often as one likes."""
        return _Scan.apply(us, x0, self.W, self.recurrent_matrix(), self.b)  # pyright: ignore[reportReturnType]

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.output_size}"


def _rotation(a: Tensor) -> Tensor:
    upper = a.triu(1)
    return expm_skew(upper - upper.mT)


class _Cache:
    """Remembers the rotation of a parameter for as long as the parameter stays the same.

    A copy or a pickle of it is empty.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self._owner: Callable[[], Tensor | None] = lambda: None
        self._version = -1
        self._data = self._rotation = torch.empty(0)

    def rotation(self, a: Tensor) -> Tensor:
        """The rotation of `a`, without gradient."""
        # only what torch.func has put in a parameter's place is no parameter
        if not isinstance(a, nn.Parameter) or a.is_inference():
            return _rotation(a)
        same = self._owner() is a and self._version == a._version
        # `.double()`, `.to(device)` and `a.data = other` give the same parameter other memory
        if not (same and self._data.data_ptr() == a.data_ptr()):
            # inside a transform of torch.func, what is kept must outlive it
            look(a, self.remember)
        return self._rotation

    def remember(self, a: Tensor) -> None:
        """Compute the rotation of `a` and keep it."""
        with torch.inference_mode(False), torch.no_grad():
            # while `_data` holds the memory, no other tensor can get its address
            self._data, self._rotation = a.detach(), _rotation(a)
        self._owner, self._version = weakref.ref(a), a._version

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
        torch.mm(us.flatten(0, 1), w.mT, out=xs[1:].view(time * batch, -1))
        # |z| + b > 0 ? z + b sign(z) : 0, without branches, for both signs of b and for z = 0
        below, above = b.clamp(max=0), b.clamp(min=0)
        beyond = -below
        cut, sign = torch.empty_like(xs[0]), torch.empty_like(xs[0])
        x, *news = xs.unbind()
        for z in news:
            z.addmm_(x, rotation)
            torch.clamp(z, below, beyond, out=cut)
            torch.sign(z, out=sign)
            x = z.sub_(cut).addcmul_(sign, above)
        ctx.save_for_backward(us, w, rotation, xs)
        return xs[1:], x.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_outputs, grad_last):
        us, w, rotation, xs = ctx.saved_tensors
        # the gradients of the states become those of z, each in its place
        deltas = grad_outputs.clone(memory_format=torch.contiguous_format)
        deltas[-1] += grad_last
        grad, grad_b, sign = (torch.zeros_like(xs[0]) for _ in range(3))
        back = rotation.mT
        before = [grad, *deltas[:-1]]
        for x, delta in zip(reversed(xs[1:].unbind()), reversed(deltas.unbind()), strict=True):
            torch.sign(x, out=sign)
            grad_b += delta.mul_(sign)
            before.pop().addmm_(delta.mul_(sign), back)
        deltas = deltas.flatten(0, 1)
        return (
            (deltas @ w).view_as(us) if ctx.needs_input_grad[0] else None,
            grad,
            deltas.mT @ us.flatten(0, 1),
            xs[:-1].flatten(0, 1).mT @ deltas,
            grad_b.sum(0),
        )
