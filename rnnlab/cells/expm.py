"""The exponential of a skew-symmetric matrix: a map onto the rotations."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

# Degree of the diagonal Pade approximant, and the largest spectral norm at which its backward error is below
# the unit roundoff (Higham 2005, Table 2.3 and its text for single precision).
_DEGREES = {torch.float32: (7, 3.925724783138660), torch.float64: (13, 5.371920351148152)}


def expm_skew(a: Tensor) -> Tensor:
    """The exponential of a skew-symmetric matrix, by Pade approximation with scaling and squaring.

    With a = -a^T the approximant is q(a)^-1 q(a)^T, hence orthogonal whatever its degree; rounding alone
    bends it. And since a is normal, its spectral norm is at most the 1-norm of a^6 to the power 1/6, which
    asks for fewer squarings than the 1-norm of a itself. Plain differentiable operations throughout: the
    gradient is the exact adjoint of what was computed, of any order, in forward mode and under `vmap` over
    a function's other arguments.

    References:
        N. J. Higham, The scaling and squaring method for the matrix exponential revisited, SIAM J. Matrix
        Anal. Appl. 26 (2005).
        A. H. Al-Mohy and N. J. Higham, A new scaling and squaring algorithm for the matrix exponential,
        SIAM J. Matrix Anal. Appl. 31 (2009): norms of powers in place of powers of the norm.

    Args:
        a: Skew-symmetric matrices `(*batch, n, n)`, float32 or float64. That they are skew is not checked.

    Returns:
        Orthogonal matrices of the same shape, with determinant one.

    Raises:
        ValueError: The matrices are neither float32 nor float64.

    Example:
        >>> sixth_of_a_turn = expm_skew(torch.tensor([[0.0, 1.0], [-1.0, 0.0]]) * torch.pi / 3)
        >>> sixth_of_a_turn.round(decimals=4)
        tensor([[ 0.5000,  0.8660],
                [-0.8660,  0.5000]])
    """
    if a.dtype not in _DEGREES:
        raise ValueError(f"dtype {a.dtype} is not possible for a matrix exponential: use float32 or float64.")
    degree, largest = _DEGREES[a.dtype]
    with torch.autocast(a.device.type, enabled=False):
        eye = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
        a2 = a @ a
        a4 = a2 @ a2
        a6 = a4 @ a2
        squarings = _squarings(a6.detach(), largest)
        if squarings:
            a, a2, a4, a6 = (p / 2 ** (squarings * k) for p, k in ((a, 1), (a2, 2), (a4, 4), (a6, 6)))
        c = _coefficients(degree)
        even = c[0] * eye + c[2] * a2 + c[4] * a4 + c[6] * a6
        odd = c[1] * eye + c[3] * a2 + c[5] * a4 + c[7] * a6
        if degree == 13:
            even = even + a6 @ (c[8] * a2 + c[10] * a4 + c[12] * a6)
            odd = odd + a6 @ (c[9] * a2 + c[11] * a4 + c[13] * a6)
        odd = a @ odd
        # q^-1 p with p = q + 2 odd, so that rounding is relative to what differs from one
        rotation = eye + 2 * torch.linalg.solve(even - odd, odd)
        for _ in range(squarings):
            rotation = rotation @ rotation
        # one Newton step to the nearest orthogonal matrix takes back most of the rounding
        bent = rotation.detach()
        return rotation + bent @ (eye - bent.mT @ bent) / 2


def look(a: Tensor, see: Callable[[Tensor], None]) -> None:
    """Call `see` with the plain values of `a`, also inside transforms of torch.func.

    Under `vmap` it sees all members at once, on leading axes; what it keeps is still good when the transform
    is over.
    """
    _Look.apply(a, see)


class _Look(torch.autograd.Function):
    # torch.func hands a function of this kind the plain tensors below its own

    @staticmethod
    def forward(a, see):
        see(a)
        return a.new_empty(0)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.mark_non_differentiable(output)

    @staticmethod
    def vmap(info, in_dims, a, see):
        return _Look.apply(a.movedim(in_dims[0], 0), see), None


def _squarings(a6: Tensor, largest: float) -> int:
    """How often to halve the arguments until the largest of their spectral norms is at most `largest`."""
    norms = [0.0]

    def see(a6: Tensor) -> None:
        if a6.numel():
            norms.append(float(torch.linalg.matrix_norm(a6, 1).max()) ** (1 / 6))

    look(a6, see)
    # nan and infinity pass to the caller
    return max(0, math.ceil(math.log2(norms[-1] / largest))) if 0 < norms[-1] < math.inf else 0


def _coefficients(degree: int) -> list[float]:
    """Coefficients of the numerator of the diagonal Pade approximant, lowest power first."""
    c = [1.0]
    for k in range(1, degree + 1):
        c.append(c[-1] * (degree - k + 1) / (k * (2 * degree - k + 1)))
    return c
