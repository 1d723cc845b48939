"""Curves of solutions in the space of states and parameter: Newton's method across them, and their points."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rnnlab.analysis.states import to_numpy
from rnnlab.systems import Iterated, System, VectorField, jacobian, law

Family = Callable[[Any], System | VectorField]

NEUTRAL = 1e-10  # distance from the unit circle (imaginary axis) up to which nothing counts as unstable
RESIDUAL = 1e-9  # of a solution, relative to the size of its state where that is above one
DIFFERENCE = 6e-6  # of a central difference, near the cube root of the rounding error


@dataclass(eq=False)
class Curve:
    """G(z) = 0 for the points of one period, in coordinates z = (x / sqrt(state), (s - start) / length).

    A step of size one is then the whole span, or a move of all components by one.
    """

    family: Family
    start: float
    length: float
    size: int
    period: int
    exact: bool
    flow: bool

    @property
    def scale(self) -> float:
        return math.sqrt(self.size)

    def split(self, z: Tensor) -> tuple[Tensor, float]:
        """State and parameter of a point."""
        return z[:-1] * self.scale, self.start + self.length * float(z[-1])

    def join(self, x: Tensor, part: float) -> Tensor:
        return torch.cat((x / self.scale, x.new_tensor([part])))

    def system(self, s: Any) -> Any:
        made = self.family(s)
        return made if self.period == 1 else Iterated(made, self.period)  # type: ignore[arg-type]

    def at(self, z: Tensor) -> Any:
        """The system there."""
        s = self.split(z)[1]
        return self.system(z.new_tensor(s) if self.exact else s)

    def __call__(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """G `(state,)` and its derivative `(state, state + 1)`."""
        x, s = self.split(z)
        system = self.at(z)
        G, A = law(system)(x), jacobian(system, x)
        if not self.flow:
            G, A = G - x, A - torch.eye(self.size, dtype=A.dtype)
        if self.exact:
            s = z.new_tensor(s)
            along = torch.func.jvp(lambda s: law(self.system(s))(x), (s,), (torch.ones_like(s),))[1]
        else:
            h = DIFFERENCE * self.length
            along = (law(self.system(s + h))(x) - law(self.system(s - h))(x)) / (2 * h)
        return G, torch.cat((A * self.scale, along[:, None] * self.length), 1)

    def correct(self, guess: Tensor, normal: Tensor, offset: float) -> Tensor | None:
        """Newton's method on the plane normal . z = offset; None if it does not converge."""
        return correct(self, guess, normal, offset)

    def point(self, z: Tensor, forward: Tensor, *, singular: bool = False) -> Point | None:
        """What is to be known at a solution; None if it is none, or at a `singular` point if not allowed.

        The tangent looks the way of `forward`, which takes its place where there is no single one.
        """
        G, DG = self(z)
        unit = torch.zeros_like(z)
        unit[-1] = 1
        tangent, info = torch.linalg.solve_ex(torch.cat((DG, forward[None])), unit)
        residual = float(G.abs().max())
        if not residual <= RESIDUAL * (1 + float(z[:-1].abs().max()) * self.scale):
            return None
        if int(info) or not bool(tangent.isfinite().all()):
            if not singular or not bool(DG.isfinite().all()):
                return None
            tangent = forward
        tangent = tangent / tangent.norm()
        A = DG[:, :-1] / self.scale
        values: Any = to_numpy(torch.linalg.eigvals(A)) + (0 if self.flow else 1)
        growth = values.real if self.flow else np.abs(values) - 1
        order = np.lexsort((values.imag, values.real, -growth))
        values, growth = values[order], growth[order]
        side = torch.linalg.slogdet(torch.cat((DG, tangent[None])))[0]
        return Point(z, tangent, values, growth, float(side), residual)


class Point(NamedTuple):
    z: Tensor
    tangent: Tensor
    eigenvalue: Any  # numpy array `(state,)`, those that grow fastest first
    growth: Any  # |eigenvalue| - 1, or its real part
    side: float  # orientation of derivative and tangent: changes at branch points, not at folds
    residual: float

    @property
    def unstable(self) -> int:
        return int((self.growth > NEUTRAL).sum())

    def parity(self) -> tuple[int, int]:
        """Whether the numbers of growing eigenvalues on the positive and negative real axis are odd."""
        real = (self.growth > NEUTRAL) & (self.eigenvalue.imag == 0)
        positive, negative = real & (self.eigenvalue.real > 0), real & (self.eigenvalue.real < 0)
        return int(positive.sum() % 2), int(negative.sum() % 2)


def correct(
    equations: Callable[[Tensor], tuple[Tensor, Tensor]], guess: Tensor, normal: Tensor, offset: float
) -> Tensor | None:
    """Newton's method for G(z) = 0 on the plane normal . z = offset; None if it does not converge.

    Args:
        equations: G `(n,)` and its derivative `(n, n + 1)` at z.
        guess: Where to start, `(n + 1,)`.
        normal: Direction across which to move, `(n + 1,)`.
        offset: Which of the planes.
    """
    z = guess
    for _ in range(10):
        G, DG = equations(z)
        right = torch.cat((G, (normal @ z - offset)[None]))
        step, info = torch.linalg.solve_ex(torch.cat((DG, normal[None])), right)
        size = float(step.abs().max())
        if int(info) or not math.isfinite(size) or size > 1:
            return None
        z = z - step
        if size <= 1e-9 * (1 + float(z.abs().max())):
            return z
    return None


def differentiable(family: Family, x: Tensor, start: float, stop: float) -> bool:
    """Whether forward mode goes through the family: `float(s)` inside would drop the derivative unseen."""
    s = torch.tensor(start + 0.37 * (stop - start), dtype=x.dtype)
    h = DIFFERENCE * (stop - start)
    # at a special state, such as 0, the derivative may vanish whatever is dropped
    x = x + 0.1 * torch.arange(1, len(x) + 1, dtype=x.dtype).cos()

    def rule(s: Any) -> Tensor:
        return law(family(s))(x)

    try:
        exact = torch.func.jvp(rule, (s,), (torch.ones_like(s),))[1]
    except Exception:
        return False
    rough = (rule(float(s) + h) - rule(float(s) - h)) / (2 * h)
    return bool(((exact - rough).abs() <= 1e-4 * (rough.abs().max() + 1e-9)).all())


def branch_point(curve: Curve, z: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
    """Newton's method for G(z) = 0 where DG(z), `(n, n + 1)`, has rank n - 1.

    With p0 and the columns of K near the left and right kernels, the bordered equations DG^T p + K g = 0,
    p0 . p = 1 define g, which is zero where the rank drops; its derivative along w is -p . D^2 G[w, K]. The
    unknowns are z and b in G(z) + b p0 = 0.

    Returns:
        The point, its kernel `(n + 1, 2)` and p . D^2 G on it `(2, 2)`; None if it does not converge.
    """
    n = curve.size
    U, _, V = torch.linalg.svd(curve(z)[1])
    p0, K = U[:, -1], V[-2:].T
    b = z.new_zeros(())
    for _ in range(12):
        G, DG = curve(z)
        border = torch.cat((torch.cat((DG, p0[:, None]), 1), torch.cat((K.T, K.new_zeros(2, 1)), 1)))
        right = torch.zeros(n + 2, 2, dtype=z.dtype)
        right[n:] = torch.eye(2, dtype=z.dtype)
        kernel = torch.linalg.solve(border, right)[:-1]
        left = torch.linalg.solve(border.T, torch.eye(n + 2, dtype=z.dtype)[-1])
        p, g = left[:n], left[n:]
        second = torch.stack([p @ _difference(curve, z, way) for way in kernel.T])
        rows = torch.cat((-second, second.new_zeros(2, 1)), 1)
        system = torch.cat((border[:n], rows))
        step, info = torch.linalg.solve_ex(system, torch.cat((G + b * p0, g)))
        size = float(step.abs().max())
        if int(info) or not math.isfinite(size) or size > 1:
            return None
        z, b = z - step[:-1], b - step[-1]
        if size <= 1e-10:
            return (z, kernel, second @ kernel) if abs(float(b)) <= 1e-9 else None
    return None


def _difference(curve: Curve, z: Tensor, way: Tensor) -> Tensor:
    """D^2 G[way], `(n, n + 1)`; it steers Newton's method only, whose root is that of exact equations."""
    h = 1e-5 / float(way.norm())
    return (curve(z + h * way)[1] - curve(z - h * way)[1]) / (2 * h)
