"""What does a bifurcation give birth to? Coefficients of the normal forms, for maps and vector fields.

On the centre manifold of a critical fixed point the dynamics reduce to a polynomial in one coordinate, whose
first coefficient that does not vanish decides whether what is born is stable. It follows from the
derivatives B = D^2 F and C = D^3 F, applied to critical vectors q and p, with A q = mu q, A^T conj(p) = mu
conj(p), <p, q> = 1 and |q| = 1. The derivatives are exact, by forward mode within forward mode.

References:
    Kuznetsov, "Elements of Applied Bifurcation Theory", 3rd ed., Springer 2004, ch. 5 and 8 to 10.
"""

from __future__ import annotations

import cmath
import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from rnnlab.systems import System, VectorField, is_flow, jacobian, law

VANISHES = 1e-6  # part of its summands below which a coefficient counts as zero
RESONANT = 1e-3  # distance of exp(i k angle) from 1, k up to 4, at which the cubic term does not decide


class NormalForm(NamedTuple):
    """First coefficient of a normal form, and what it says.

    Attributes:
        coefficient: Its value; its sign is free of coordinates, its size depends on their scale.
        scale: Sum of the sizes of the summands it was made of, which judges how near it is to zero.
        criticality: "supercritical" where what is born is stable on the centre manifold, "subcritical" where
            unstable, "degenerate" where the coefficient vanishes; "" where the word has no meaning.
        angle: Argument of the critical multiplier (radians), for vector fields its frequency; else NaN.
    """

    coefficient: float
    scale: float
    criticality: str
    angle: float = math.nan


def derivative(rule: Callable[[Tensor], Tensor], x: Tensor, *vectors: Tensor) -> Tensor:
    """The k-th derivative of a function at `x`, applied to k vectors.

    Args:
        rule: Differentiable, `(state,)` to `(state,)`, real.
        x: Where, `(state,)`.
        vectors: Real or complex directions, `(state,)`; complex ones by linearity in each.

    Returns:
        D^k rule(x)[v1, ..., vk], `(state,)`.

    Example:
        >>> import torch
        >>> x = torch.tensor([2.0]).double()
        >>> derivative(lambda x: x**3, x, torch.ones(1).double(), 1j * torch.ones(1).double())
        tensor([0.+12.j], dtype=torch.complex128)
    """
    parts = [torch.view_as_real(v.resolve_conj()).unbind(-1) if v.is_complex() else (v,) for v in vectors]
    choices = list(itertools.product(*(range(len(part)) for part in parts)))
    chosen = [torch.stack([part[c[i]] for c in choices]) for i, part in enumerate(parts)]

    def along(*directions: Tensor) -> Tensor:
        inner = rule
        for direction in directions:
            inner = _slope(inner, direction)
        return inner(x)

    values = torch.func.vmap(along)(*chosen)
    if len(choices) == 1:
        return values[0]
    return torch.tensor([1j ** sum(c) for c in choices], dtype=torch.complex128) @ values.to(torch.complex128)


def _slope(rule: Callable[[Tensor], Tensor], direction: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda y: torch.func.jvp(rule, (y,), (direction,))[1]


def critical_vectors(A: Tensor, value: complex) -> tuple[Tensor, Tensor]:
    """Eigenvectors q of `A` and p of its adjoint for an eigenvalue nearest `value`: |q| = 1, <p, q> = 1.

    Real where `value` is. The entry of q that is largest in size is positive.
    """
    shifted = A - value * torch.eye(len(A), dtype=torch.complex128 if isinstance(value, complex) else A.dtype)
    left, _, right = torch.linalg.svd(shifted)
    q, p = right[-1].conj().resolve_conj(), left[:, -1]
    largest = q[q.abs().argmax()]
    q = q * (largest.conj() / largest.abs())
    # <p, q> = sum conj(p) q is linear in q
    return q, p / torch.vdot(p, q).conj()


def fold(system: System | VectorField, x: Tensor) -> NormalForm:
    """u' = u + a u^2 (du/dt = a u^2) at a saddle-node or transcritical bifurcation: a = <p, B(q, q)> / 2.

    The sign of a is that of the direction q, in which the largest entry is positive.

    Example:
        >>> import torch
        >>> from rnnlab.maps import Logistic
        >>> round(fold(Logistic(1.0), torch.zeros(1).double()).coefficient, 9)
        -1.0
    """
    rule, q, p, _ = _at_one(system, x)
    bend = derivative(rule, x, q, q)
    # how much a changes over a distance like that of the state is what a small a is to be held against
    reach = (1 + float(x.norm())) * derivative(rule, x, q, q, q).norm()
    scale = float(p.norm() * (bend.norm() + reach)) / 2
    a = float(p @ bend) / 2
    return NormalForm(a, scale, "degenerate" if abs(a) <= VANISHES * scale else "")


def pitchfork(system: System | VectorField, x: Tensor) -> NormalForm:
    """u' = u + c u^3 (du/dt = c u^3), where a vanishes; supercritical if c < 0.

    c = <p, C(q, q, q) + 3 B(q, h)> / 6 with (I - A) h = B(q, q), for vector fields -A h = B(q, q).

    Example:
        >>> import torch
        >>> from rnnlab.maps import TanhMap
        >>> round(pitchfork(TanhMap(1.0), torch.zeros(1).double()).coefficient, 9)
        -0.333333333
    """
    rule, q, p, singular = _at_one(system, x)
    bend = derivative(rule, x, q, q)
    right = torch.cat((bend - (p @ bend) * q, torch.zeros_like(x[:1])))
    h = torch.linalg.solve(_bordered(-singular, p, q), right)[:-1]
    return _cubic([p @ derivative(rule, x, q, q, q) / 6, p @ derivative(rule, x, q, h) / 2], stable=-1)


def flip(system: System, x: Tensor) -> NormalForm:
    """u' = -u + c u^3 at a period doubling; supercritical if c > 0.

    c = <p, C(q, q, q) + 3 B(q, (I - A)^-1 B(q, q))> / 6.

    Example:
        >>> import torch
        >>> from rnnlab.maps import Logistic
        >>> round(flip(Logistic(3.0), torch.ones(1).double() * 2 / 3).coefficient, 9)
        9.0
    """
    rule, A = law(system), jacobian(system, x)
    q, p = critical_vectors(A, -1.0)
    h = torch.linalg.solve(_eye(A) - A, derivative(rule, x, q, q))
    return _cubic([p @ derivative(rule, x, q, q, q) / 6, p @ derivative(rule, x, q, h) / 2], stable=1)


def neimark_sacker(system: System, x: Tensor) -> NormalForm:
    """z' = e^(i angle) z (1 + d |z|^2) at a pair of multipliers on the unit circle.

    It is supercritical if Re d < 0. The coefficient is Re d, with d = e^(-i angle) <p, C(q, q, qc) +
    2 B(q, (I - A)^-1 B(q, qc)) + B(qc, (e^(2 i angle) I - A)^-1 B(q, q))> / 2 and qc the conjugate of q. At
    the strong resonances e^(i k angle) = 1, k up to 4, it does not decide: degenerate.

    Example:
        >>> import torch
        >>> from rnnlab.maps import NeimarkSacker
        >>> round(neimark_sacker(NeimarkSacker(0.0, 1.0), torch.zeros(2).double()).coefficient, 9)
        -2.0
    """
    rule, A = law(system), jacobian(system, x)
    values = torch.linalg.eigvals(A)
    values = values[values.imag > 0]
    if not len(values):
        raise ValueError("there is no complex pair of multipliers: a Neimark-Sacker bifurcation needs one.")
    value = complex(values[(values.abs() - 1).abs().argmin()])
    angle, turn = cmath.phase(value), value / abs(value)
    q, p = critical_vectors(A, turn)
    qc, A, one = q.conj().resolve_conj(), A.to(q.dtype), _eye(A)
    mean = torch.linalg.solve(one - A, derivative(rule, x, q, qc))
    double = torch.linalg.solve(turn**2 * one - A, derivative(rule, x, q, q))
    terms = (
        derivative(rule, x, q, q, qc) / 2,
        derivative(rule, x, q, mean),
        derivative(rule, x, qc, double) / 2,
    )
    form = _cubic([torch.vdot(p, term) / turn for term in terms], stable=-1, angle=angle)
    resonant = any(abs(turn**k - 1) < RESONANT for k in (1, 2, 3, 4))
    return form._replace(criticality="degenerate") if resonant else form


def hopf(field: VectorField, x: Tensor) -> NormalForm:
    """dz/dt = i omega z + ... at a pair of imaginary eigenvalues; supercritical if Lyapunov's l1 < 0.

    l1 = Re <p, C(q, q, qc) - 2 B(q, A^-1 B(q, qc)) + B(qc, (2 i omega I - A)^-1 B(q, q))> / 2 omega, with qc
    the conjugate of q.

    Example:
        >>> import torch
        >>> from rnnlab.maps import Hopf
        >>> round(hopf(Hopf(0.0, 0.5), torch.zeros(2).double()).coefficient, 9)
        -4.0
    """
    rule, A = law(field), jacobian(field, x)
    values = torch.linalg.eigvals(A)
    values = values[values.imag > 0]
    if not len(values):
        raise ValueError("there is no complex pair of eigenvalues: a Hopf bifurcation needs one.")
    omega = float(values[values.real.abs().argmin()].imag)
    q, p = critical_vectors(A, 1j * omega)
    qc, A, one = q.conj().resolve_conj(), A.to(q.dtype), _eye(A)
    mean = torch.linalg.solve(-A, derivative(rule, x, q, qc))
    double = torch.linalg.solve(2j * omega * one - A, derivative(rule, x, q, q))
    terms = (
        derivative(rule, x, q, q, qc),
        2 * derivative(rule, x, q, mean),
        derivative(rule, x, qc, double),
    )
    return _cubic([torch.vdot(p, term) / (2 * omega) for term in terms], stable=-1, angle=omega)


def _at_one(system: System | VectorField, x: Tensor) -> tuple[Callable, Tensor, Tensor, Tensor]:
    """Law, q, p and the singular matrix (A - I, or A for a vector field) at a multiplier of one."""
    A = jacobian(system, x)
    singular = A if is_flow(system) else A - _eye(A)
    return law(system), *critical_vectors(singular, 0.0), singular


def _eye(A: Tensor) -> Tensor:
    return torch.eye(len(A), dtype=A.dtype)


def _bordered(matrix: Tensor, column: Tensor, row: Tensor) -> Tensor:
    top = torch.cat((matrix, column[:, None]), 1)
    return torch.cat((top, torch.cat((row, torch.zeros_like(row[:1])))[None]), 0)


def _cubic(terms: list[Tensor], stable: int, angle: float = math.nan) -> NormalForm:
    """Sum up the real parts; `stable` is the sign for which what is born is stable."""
    value, scale = sum(float(term.real) for term in terms), sum(float(term.abs()) for term in terms)
    if abs(value) <= VANISHES * scale:
        return NormalForm(value, scale, "degenerate", angle)
    return NormalForm(value, scale, "supercritical" if value * stable > 0 else "subcritical", angle)
