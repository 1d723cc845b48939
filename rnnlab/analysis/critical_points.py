"""Equations that are regular where equilibria are not: saddle-nodes and Hopf points of vector fields."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from rnnlab.analysis.arclength import DIFFERENCE
from rnnlab.systems import VectorField, jacobian, law, tangent

Family = Callable[..., VectorField]
Kind = Literal["saddle-node", "Hopf"]


class Critical(NamedTuple):
    """An equilibrium with a vanishing eigenvalue, or with an imaginary pair.

    Attributes:
        x: The equilibrium, `(state,)`.
        parameter: Values of the parameters, `(parameter,)`.
        vector: The real null vector of A (saddle-node) or of A^2 + square (Hopf), `(state,)`.
        square: Square of the frequency, 0 for a saddle-node. Below zero the pair is real, with sum zero: a
            neutral saddle, which is no bifurcation.
    """

    x: Tensor
    parameter: Tensor
    vector: Tensor
    square: Tensor


@dataclass(eq=False)
class Equations:
    """f = 0 with A v = 0, or with (A^2 + square) v = 0, and v normalised: regular at generic points.

    The unknowns are z = (x, v, square for Hopf, parameters); with as many equations as unknowns for one
    parameter, one fewer for two. The derivative is exact, by forward mode through the field's own.

    Args:
        family: The vector field for values of the parameters, tensors without axes.
        kind: "saddle-node" or "Hopf".
        rows: Vectors that normalise v: rows[0] . v = 1 and, for Hopf, rows[1] . v = 0; of length one.

    References:
        Roose and Hlavacek, "A direct method for the computation of Hopf bifurcation points", SIAM J. Appl.
        Math. 45, 1985; Seydel, "Numerical computation of branch points in nonlinear equations", Numer. Math.
        33, 1979.
    """

    family: Family
    kind: Kind
    rows: Tensor

    def split(self, z: Tensor) -> Critical:
        n = self.rows.shape[-1]
        hopf = self.kind == "Hopf"
        return Critical(z[:n], z[2 * n + hopf :], z[n : 2 * n], z[2 * n] if hopf else z.new_zeros(()))

    def join(self, point: Critical) -> Tensor:
        square = point.square[None] if self.kind == "Hopf" else point.x[:0]
        return torch.cat((point.x, point.vector, square, point.parameter))

    def residual(self, z: Tensor) -> Tensor:
        x, parameter, v, square = self.split(z)
        system = self.family(*parameter.unbind())
        image = tangent(system, x, v[:, None])
        if self.kind == "Hopf":
            image = tangent(system, x, image) + square * v[:, None]
        ones = torch.eye(len(self.rows), dtype=z.dtype)[0]
        return torch.cat((law(system)(x), image[:, 0], self.rows @ v - ones))

    def __call__(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Residual and its derivative."""
        return self.residual(z), torch.func.jacfwd(self.residual)(z)


def check_differentiable(family: Family, x: Tensor, parameter: Tensor, sizes: Tensor) -> None:
    """Refuse a family through which no derivative by its parameters goes: `float(s)` drops it unseen.

    Args:
        family: The vector field for values of the parameters, tensors without axes.
        x: A state, `(state,)`.
        parameter: Where, `(parameter,)`.
        sizes: By how much they are to change, `(parameter,)`.

    Raises:
        ValueError: Forward mode and central differences disagree.
    """
    # at a special state, such as 0, the derivative may vanish whatever is dropped
    x = x + 0.1 * torch.arange(1, len(x) + 1, dtype=x.dtype).cos()
    moves = DIFFERENCE * torch.diag(sizes)

    def rule(p: Tensor) -> Tensor:
        return law(family(*p.unbind()))(x)

    rough = torch.stack([(rule(parameter + e) - rule(parameter - e)) / (2 * e.sum()) for e in moves], -1)
    try:
        exact = torch.func.jacfwd(rule)(parameter)
    except Exception:  # whatever a family does that knows numbers only
        exact = torch.full_like(rough, math.nan)
    if not bool(((exact - rough).abs() <= 1e-4 * (rough.abs().max() + 1e-9)).all()):
        raise ValueError(
            "the family is not differentiable in its parameters: let it compute in float64 with the tensors "
            "that it is given, without float(...)."
        )


def plane(A: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Orthonormal vectors `(2, state)` that span what two span, the one that A stretches most first.

    Where a pair of eigenvalues comes to zero the other one becomes the null vector, which must not be v: any
    frequency would do for it.
    """
    E = torch.linalg.qr(torch.stack((first, second), 1))[0]
    return torch.linalg.svd(A @ E)[2] @ E.T


def equations(family: Family, x: Tensor, parameter: Tensor, kind: Kind) -> tuple[Equations, Tensor] | None:
    """The equations with their guess from a state where an eigenvalue (a pair) is nearly critical.

    Returns:
        Equations normalised for this place, and z; None for "Hopf" where there is no complex pair.
    """
    A = jacobian(family(*parameter.unbind()), x)
    if kind == "saddle-node":
        v = torch.linalg.svd(A)[2][-1]
        rows, square = v[None], x.new_zeros(())
    else:
        values, vectors = torch.linalg.eig(A)
        values = torch.where(values.imag > 0, values, torch.full_like(values, math.inf))
        best = int(values.real.abs().argmin())
        if not bool(values[best].imag > 0):
            return None
        rows = plane(A, vectors[:, best].real, vectors[:, best].imag)
        v, square = rows[0], values[best].imag ** 2
    made = Equations(family, kind, rows)
    return made, made.join(Critical(x, parameter, v, square))


def critical_point(family: Family, x: Tensor, parameter: Tensor, kind: Kind) -> Critical | None:
    """Newton's method for the saddle-node or Hopf point of a family of one parameter near a guess.

    Args:
        family: The vector field for a value of the parameter, a tensor without axes.
        x: Guess, `(state,)`.
        parameter: Guess, `(1,)`.
        kind: "saddle-node" or "Hopf".

    Returns:
        The point; None if Newton's method does not converge, or to no bifurcation.

    Example:
        >>> from rnnlab.maps import Hopf
        >>> guess = torch.tensor([0.1, 0.0]).double(), torch.tensor([-0.2]).double()
        >>> found = critical_point(lambda mu: Hopf(mu, 3.0), *guess, "Hopf")
        >>> found.parameter.abs().round(decimals=9).item(), found.square.sqrt().round(decimals=9).item()
        (0.0, 3.0)
    """
    guess = equations(family, x, parameter, kind)
    if guess is None:
        return None
    made, z = guess
    for _ in range(20):
        G, DG = made(z)
        step: Any
        step, info = torch.linalg.solve_ex(DG, G)
        size = float(step.abs().max())
        if int(info) or not math.isfinite(size):
            return None
        z = z - step * min(1.0, 0.5 / max(size, 1e-300))
        if size <= 1e-10 * (1 + float(z.abs().max())):
            found = made.split(z)
            return found if kind == "saddle-node" or float(found.square) > 0 else None
    return None
