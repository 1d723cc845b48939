"""What is a point that linear stability can't tell? Degenerate fixed points in the plane, by normal forms."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rnnlab.analysis.normal_forms import flip, fold, hopf, neimark_sacker, pitchfork
from rnnlab.analysis.roots import Zeros
from rnnlab.systems import System, VectorField

STEPS = 12  # of Gauss and Newton's method, which converges fast or not at all
SETTLED = 1e-11  # length of a step after which the next is rounding
FINEST = 2**14  # angles on a circle, at most
TURN = 1.0  # radians that the field may turn from one angle to the next


class Degenerate(NamedTuple):
    """One degenerate point and what it is.

    Attributes:
        point: Where, `(2,)`.
        type: "sink", "source" or "saddle", where terms of third order decide so; "sink-saddle",
            "source-saddle", "codimension 2" or "undecided".
        degeneracy: Which: "saddle-node" (one eigenvalue 0), "cubic" (so too the quadratic term), "nilpotent"
            or "zero" (both eigenvalues 0, the matrix itself in the second case); "" where undecided.
        defect: How far it is from being exactly so: the largest of the equations that say so, relative to the
            field's slope.
    """

    point: Tensor
    type: str
    degeneracy: str
    defect: float


def poincare_index(system: System | VectorField, center: Tensor, radius: float) -> int | None:
    """How many times f, or F(x) - x, turns along a circle: the sum of the indices of the zeros inside.

    The circle is divided until the field turns by less than one radian from angle to angle. That is no proof,
    but for a field that turns back and forth in between.

    Args:
        system: A planar map or field.
        center: `(2,)`.
        radius: Of the circle, on which nothing rests.

    Returns:
        The winding number; None where it does not become clear, as with zeros on the circle.

    Example:
        >>> from rnnlab.maps import Linear
        >>> poincare_index(Linear(torch.diag(torch.tensor([0.5, 2.0]))), torch.zeros(2).double(), 0.1)
        -1
    """
    zeros, count = Zeros(system), 64
    while count <= FINEST:
        angle = 2 * math.pi * torch.arange(count + 1, dtype=torch.float64) / count
        value = zeros.value(center + radius * torch.stack((angle.cos(), angle.sin()), -1))
        size = value.norm(dim=-1)
        if not bool((size > 0).all() & size.isfinite().all()):
            return None
        turn = np.angle(np.exp(1j * np.diff(torch.atan2(value[:, 1], value[:, 0]).numpy())))
        if np.abs(turn).max() < TURN:
            return round(turn.sum() / (2 * math.pi))
        count *= 2
    return None


def degenerate_point(
    system: System | VectorField, low: Tensor, high: Tensor, slope: float, tolerance: float = 1e-6
) -> Degenerate:
    """Locate and classify the degenerate zero that a small box is around.

    The point is the solution of the equations that make it degenerate: f = 0 together with A = 0, with A the
    derivative, or else det A = 0, or else that and its derivative along the kernel of A. They are regular
    where f = 0 alone is not, so that Gauss and Newton's method converges fast. They have to hold within
    `tolerance`, near the box; the coefficients of normal forms decide between them.

    - One eigenvalue 0 and a quadratic term on the centre manifold: a saddle-node. By the other eigenvalue it
      is a "sink-saddle" or a "source-saddle".
    - One eigenvalue 0, no quadratic term: by the signs of the cubic term and of the other eigenvalue it is
      topologically a "sink", a "source" or a "saddle".
    - Both eigenvalues 0: "codimension 2" (Jordan et al. 2019: the fusion of a sink, a source and two saddles;
      `poincare_index` tells that, of index 0, from others).

    Args:
        system: A planar map (eigenvalue 1 in the place of 0) or field.
        low, high: Corners of the box, `(2,)`.
        slope: Typical size of the field's derivative, which `tolerance` is relative to.
        tolerance: Largest violation of the equations.

    Returns:
        The point, its type and its defect. Type "undecided" where no kind holds.

    Example:
        >>> class Fold:
        ...     velocity = staticmethod(lambda x: torch.stack((x[..., 0] ** 2, -x[..., 1]), -1))
        >>> corner = torch.full((2,), 1e-8).double()
        >>> degenerate_point(Fold(), -2 * corner, corner, slope=1.0).type
        'sink-saddle'
    """
    zeros = Zeros(system)
    start, reach = (low + high) / 2, 10 * float((high - low).norm()) + tolerance

    def matrix(x: Tensor) -> Tensor:
        return torch.func.jacfwd(zeros.value)(x)

    def determinant(x: Tensor) -> Tensor:
        a = matrix(x)
        return (a[0, 0] * a[1, 1] - a[0, 1] * a[1, 0]) / slope

    def bend(x: Tensor, kernel: Tensor) -> Tensor:
        return torch.func.jvp(determinant, (x,), (kernel,))[1]

    def flat(x: Tensor) -> Tensor:
        return torch.cat((zeros.value(x), matrix(x).flatten()))

    def saddle_node(x: Tensor) -> Tensor:
        return torch.cat((zeros.value(x), determinant(x)[None]))

    x = _solve(flat, start)
    if (defect := _defect(flat, x, start, reach, slope)) <= tolerance:
        return Degenerate(x, "codimension 2", "zero", defect)
    x = _solve(saddle_node, start)
    defect = _defect(saddle_node, x, start, reach, slope)
    if not defect <= tolerance:
        best = _solve(zeros.value, start)
        best = best if bool(((best - start).norm() <= reach).all()) else start
        return Degenerate(best, "undecided", "", defect)
    other = float(matrix(x).trace())
    if abs(other) <= tolerance * slope:
        return Degenerate(x, "codimension 2", "nilpotent", defect)
    # of a map: a multiplier below -1 repels too
    stable, neutral = (other < 0, False) if zeros.flow else (-2 < other < 0, abs(other + 2) <= tolerance)
    if neutral:
        return Degenerate(x, "undecided", "", defect)
    if fold(system, x).criticality == "":
        return Degenerate(x, "sink-saddle" if stable else "source-saddle", "saddle-node", defect)
    kernel = torch.linalg.svd(matrix(x))[2][-1]

    def cubic(y: Tensor) -> Tensor:
        return torch.cat((saddle_node(y), bend(y, kernel)[None]))

    x = _solve(cubic, x)
    defect, form = _defect(cubic, x, start, reach, slope), pitchfork(system, x)
    inward = {"supercritical": True, "subcritical": False}.get(form.criticality)
    if inward is None or not defect <= tolerance or abs(form.coefficient) <= tolerance * slope:
        return Degenerate(x, "undecided", "", defect)
    return Degenerate(x, {2: "sink", 1: "saddle", 0: "source"}[stable + inward], "cubic", defect)


def border_type(system: System | VectorField, x: Tensor, eigenvalue: np.ndarray) -> tuple[str, str]:
    """Type and degeneracy of a simple zero whose eigenvalues lie on the border of stability.

    An imaginary pair ("hopf"; a pair on the unit circle, "neimark-sacker") attracts or repels by the
    first Lyapunov coefficient, and is a "centre" where that vanishes. A multiplier -1 of a map ("flip")
    attracts or repels by its cubic term.

    Args:
        system: A planar map or field.
        x: The zero, `(2,)`.
        eigenvalue: Of its Jacobian, `(2,)`, complex.
    """
    field = Zeros(system).flow
    if abs(eigenvalue[0].imag) > 0:
        form = hopf(system, x) if field else neimark_sacker(system, x)  # pyright: ignore[reportArgumentType]
        types = {"supercritical": "sink", "subcritical": "source"}
        return types.get(form.criticality, "centre"), "hopf" if field else "neimark-sacker"
    near = np.abs(np.real(eigenvalue) + 1)
    if field or near.min() > 1e-3 or near.max() < 1e-3:
        return "undecided", ""
    inward = {"supercritical": True, "subcritical": False}.get(flip(system, x).criticality)  # pyright: ignore[reportArgumentType]
    other = bool(abs(eigenvalue[near.argmax()]) < 1)
    if inward is None:
        return "undecided", "flip"
    return {2: "sink", 1: "saddle", 0: "source"}[inward + other], "flip"


def _solve(equations: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Gauss and Newton's method for more equations than unknowns."""
    for _ in range(STEPS):
        step = torch.linalg.lstsq(
            torch.func.jacfwd(equations)(x), -equations(x)[:, None], driver="gelsd"
        ).solution
        x = x + step[:, 0]
        if not bool(step.isfinite().all()) or float(step.norm()) <= SETTLED:
            break
    return x


def _defect(
    equations: Callable[[Tensor], Tensor], x: Tensor, start: Tensor, reach: float, slope: float
) -> float:
    if not float((x - start).norm()) <= reach:
        return math.inf
    return float(equations(x).abs().max()) / slope
