"""The exponential of a skew-symmetric matrix: a map onto the rotations."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

# The largest spectral norm at which the backward error of the Taylor polynomial of degree 12, the series of
# log(exp(-x) T(x)) / x with all its terms made positive, is at most the unit roundoff.
_LARGEST = {torch.float32: 1.4616, torch.float64: 0.29961}

# T(a) = p + (q + s) s with s = r + t^2, where p, q, r and t are these combinations of 1, a, a^2 and a^3. They
# are those of the paper, moved a little (1e-14) so that p and t have no constant, and carried to more digits.
_TAYLOR = (
    (0.0, 0.46932117595418786, -0.20099424927047156, -0.046239461340630845),
    (5.3159789575987081, 1.1992679041713244, 0.01179296240992981, 0.011088445285191647),
    (0.18188869982170465, 0.05502798439930793, 0.09351590770536269, 0.0061070052889834188),
    (0.0, -0.13181061013830184, -0.020278555405892591, -0.006759518468630864),
)


def expm_skew(a: Tensor) -> Tensor:
    """The exponential of a skew-symmetric matrix, by a Taylor polynomial with scaling and squaring.

    Products of matrices are all it takes: four for degree 12, one for each squaring, and two that bring the
    result back to the nearest orthogonal matrix. And since a is normal, its spectral norm is at most the
    1-norm of a^3 to the power 1/3, which asks for fewer squarings than the 1-norm of a itself. Plain
    differentiable operations throughout: the gradient is the exact adjoint of what was computed, of any
    order, in forward mode and under `vmap`.

    References:
        P. Bader, S. Blanes and F. Casas, Computing the matrix exponential with an optimized Taylor polynomial
        approximation, Mathematics 7 (2019).
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
    if a.dtype not in _LARGEST:
        raise ValueError(f"dtype {a.dtype} is not possible for a matrix exponential: use float32 or float64.")
    with torch.autocast(a.device.type, enabled=False):
        eye = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
        a2 = a @ a
        a3 = a2 @ a
        squarings = _squarings(a3.detach(), _LARGEST[a.dtype])
        scaled = a.new_tensor(_TAYLOR) * a.new_tensor([2.0 ** (-squarings * k) for k in range(4)])
        p, q, r, t = torch.tensordot(scaled, torch.stack((eye.expand_as(a), a, a2, a3)), 1)
        s = r + t @ t
        rotation = p + (q + s) @ s
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


def _squarings(a3: Tensor, largest: float) -> int:
    """How often to halve the arguments until the largest of their spectral norms is at most `largest`."""
    norms = [0.0]

    def see(a3: Tensor) -> None:
        if a3.numel():
            norms.append(float(torch.linalg.matrix_norm(a3, 1).max()) ** (1 / 3))

    look(a3, see)
    # nan and infinity pass to the caller
    return max(0, math.ceil(math.log2(norms[-1] / largest))) if 0 < norms[-1] < math.inf else 0
