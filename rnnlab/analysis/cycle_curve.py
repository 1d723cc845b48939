"""Limit cycles as the points of a curve: collocation on a mesh that adapts, and Newton's method across it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.polynomial import polynomial
from scipy.sparse import coo_array
from scipy.sparse.linalg import splu
from torch import Tensor

from rnnlab.analysis.critical_points import Family
from rnnlab.analysis.limit_cycles import STAGES, gauss
from rnnlab.analysis.shooting import multipliers
from rnnlab.systems import jacobian, law

PERIOD_WEIGHT = 0.2  # of the period's logarithm in the arclength: a step of 0.02 may change it by a tenth
CONVERGED = 1e-9  # length of the last Newton step, relative to the size of the state
NEWTON = 10


class Loop(NamedTuple):
    """A closed curve over shares of its period; also a change of one, or the direction of a branch.

    Attributes:
        mesh: Where the intervals begin and the last one ends, `(interval + 1,)`, from 0 to 1.
        x: States at the beginnings, `(interval, state)`.
        X: States at the Gauss points, `(interval, stage, state)`.
        u: Logarithm of the period.
        s: The parameter, in parts of the span from its start.
    """

    mesh: Tensor
    x: Tensor
    X: Tensor
    u: Tensor
    s: Tensor

    @property
    def period(self) -> float:
        return math.exp(float(self.u))

    def moved(self, way: Loop, by: float) -> Loop:
        return self._replace(
            x=self.x + by * way.x, X=self.X + by * way.X, u=self.u + by * way.u, s=self.s + by * way.s
        )

    def minus(self, other: Loop) -> Loop:
        """Change from another, on the same mesh."""
        return self.moved(other, -1.0)

    def scaled(self, by: float) -> Loop:
        return self._replace(x=by * self.x, X=by * self.X, u=by * self.u, s=by * self.s)

    def center(self) -> Tensor:
        """Mean over time, `(state,)`."""
        return torch.einsum("i,j,ija->a", self.mesh.diff(), _B, self.X)

    def at(self, share: Tensor) -> Tensor:
        """States at shares of the period, `(many, state)`, by the polynomials of the intervals."""
        share = share % 1
        i = (torch.searchsorted(self.mesh, share, right=True) - 1).clamp(0, len(self.x) - 1)
        within = (share - self.mesh[i]) / (self.mesh[i + 1] - self.mesh[i])
        return torch.einsum("tk,tka->ta", _powers(within) @ _LAGRANGE, self._nodes()[i])

    def on(self, mesh: Tensor) -> Loop:
        """The same curve on another mesh."""
        inner = mesh[:-1, None] + mesh.diff()[:, None] * _STAGE
        X = self.at(inner.flatten()).view(*inner.shape, -1)
        return self._replace(mesh=mesh, x=self.at(mesh[:-1]), X=X)

    def spread(self, intervals: int) -> Tensor:
        """A mesh with that many intervals, denser where the polynomials are less exact."""
        bend = torch.einsum("k,ika->ia", _LAGRANGE[-1], self._nodes()).norm(dim=-1) ** (1 / (STAGES + 1))
        # half of them evenly in time: near an equilibrium, where little bends, all the time goes by
        bend = bend / bend.sum().clamp(min=1e-300) + self.mesh.diff()
        mass = np.concatenate(([0.0], np.cumsum(bend.numpy())))
        even = np.linspace(0, mass[-1], intervals + 1)
        return torch.from_numpy(np.interp(even, mass, self.mesh.numpy()))

    def _nodes(self) -> Tensor:
        """Values at the beginning, Gauss points and end of each interval, `(interval, stage + 2, state)`."""
        return torch.cat((self.x[:, None], self.X, self.x.roll(-1, 0)[:, None]), 1)


_A, _B, _C = gauss()
_STAGE = torch.from_numpy(_C)


def _lagrange() -> Tensor:
    """Coefficients `(power, node)` of the polynomials that are one at one node of [0, C, 1] and zero else."""
    nodes = np.concatenate(([0.0], _C, [1.0]))
    columns = []
    for k, node in enumerate(nodes):
        others = np.delete(nodes, k)
        columns.append(polynomial.polyfromroots(others) / np.prod(node - others))
    return torch.from_numpy(np.stack(columns, 1))


def _powers(within: Tensor) -> Tensor:
    return within[:, None] ** torch.arange(STAGES + 2)


_LAGRANGE = _lagrange()


def loop_of(curve: Callable[[Tensor], Tensor], mesh: Tensor, period: float, s: float) -> Loop:
    """The loop of a function from shares `(*many)` of the period to states `(*many, state)`."""
    u = math.log(period) if period else 0.0
    inner = mesh[:-1, None] + mesh.diff()[:, None] * _STAGE
    return Loop(mesh, curve(mesh[:-1]), curve(inner), mesh.new_tensor(u), mesh.new_tensor(s))


class Linear(NamedTuple):
    """The equations of a loop, linearised."""

    residual: float  # largest component
    inner: Tensor  # steps of X from those of x, u, s and the residual, `(interval, stage, state, state + 3)`
    A: Tensor  # derivative over each interval, `(interval, state, state)`
    columns: Tensor  # of u, s and the residual, `(interval, state, 3)`


class CyclePoint(NamedTuple):
    """What is to be known of a cycle on a branch."""

    loop: Loop
    tangent: Loop
    multiplier: Any  # numpy array `(state,)`, the trivial one first, then by falling modulus
    residual: float

    @property
    def growth(self) -> Any:
        """|multiplier| - 1 of the multipliers across the flow, falling."""
        return np.abs(self.multiplier[1:]) - 1


@dataclass(eq=False)
class CycleCurve:
    """Cycles of a family of vector fields: x(t) with dx/dt = T f(x, s), x(1) = x(0).

    Collocation at the four Gauss points of each interval of a mesh, as in `limit_cycles`, is of order 8 at
    the ends of the intervals. The curve of cycles lies in the space of x(t), log T and s, whose norm
    is the root mean square over time and components of x / `scale`, with 0.2 log T and s in spans.

    Args:
        family: The vector field for a value of the parameter, a tensor without axes.
        start, length: Beginning of the span, and its length, negative where it falls.
        scale: Size of the state.
    """

    family: Family
    start: float
    length: float
    scale: float

    def parameter(self, loop: Loop) -> Tensor:
        return self.start + self.length * loop.s

    def system(self, loop: Loop) -> Any:
        return self.family(self.parameter(loop))

    def velocity(self, loop: Loop) -> Tensor:
        """dx/dt at `loop.x`, t in shares of the period."""
        return loop.period * law(self.system(loop))(loop.x)

    def linear(self, loop: Loop) -> Linear:
        m, n = loop.x.shape
        flat, s = loop.X.reshape(-1, n), self.parameter(loop)
        f, fs = torch.func.jvp(  # type: ignore[misc]
            lambda s: law(self.family(s))(flat), (s,), (torch.full_like(s, self.length),)
        )
        J = jacobian(self.family(s), flat).view(m, STAGES, n, n)
        h = (loop.period * loop.mesh.diff())[:, None, None]
        f, fs = h * f.view(m, STAGES, n), h * fs.view(m, STAGES, n)
        J = h[..., None] * J
        inner = loop.x[:, None] + _A @ f - loop.X
        outer = loop.x + (_B @ f) - loop.x.roll(-1, 0)
        S = torch.eye(STAGES * n, dtype=J.dtype) - torch.einsum("jk,ikab->ijakb", _A, J).reshape(
            m, STAGES * n, STAGES * n
        )
        eye = torch.eye(n, dtype=J.dtype).expand(m, STAGES, n, n)
        right = torch.cat((eye, (_A @ f)[..., None], (_A @ fs)[..., None], inner[..., None]), -1)
        Y = torch.linalg.solve_ex(S, right.reshape(m, STAGES * n, n + 3))[0].view(m, STAGES, n, n + 3)
        W = torch.einsum("j,ijab,ijbc->iac", _B, J, Y)
        columns = W[..., n:] + torch.stack((_B @ f, _B @ fs, outer), -1)
        residual = max(float(inner.abs().max()), float(outer.abs().max()))
        return Linear(residual, Y, W[..., :n] + torch.eye(n, dtype=J.dtype), columns)

    def solve(
        self, linear: Linear, mesh: Tensor, rows: list[Loop], right: list[float], source: float
    ) -> Loop:
        """The step with rows . step = right that solves the equations for `source` times the residual."""
        m, n = linear.A.shape[:2]
        size = m * n + 2
        weights = torch.stack([self._row(row) for row in rows])
        block = torch.arange(m * n).view(m, n)
        after = block.roll(-1, 0)
        ends = torch.tensor([m * n, m * n + 1])
        parts = [
            (block[:, :, None].expand(m, n, n), block[:, None, :].expand(m, n, n), -linear.A),
            (block, after, torch.ones(m, n, dtype=torch.float64)),
            (block[..., None].expand(m, n, 2), ends.expand(m, n, 2), -linear.columns[..., :2]),
            (ends[:, None].expand(2, size), torch.arange(size).expand(2, size), weights),
        ]
        i, j, values = (torch.cat([part[k].flatten() for part in parts]).numpy() for k in range(3))
        known = np.concatenate((source * linear.columns[..., 2].flatten().numpy(), right))
        if not (np.isfinite(values).all() and np.isfinite(known).all()):
            raise FloatingPointError("the field is not finite along the cycle.")
        solution = torch.from_numpy(
            splu(coo_array((values, (i, j)), shape=(size, size)).tocsc()).solve(known)
        )
        x, u, s = solution[:-2].view(m, n), solution[-2], solution[-1]
        all_ = torch.cat((x, u.expand(m, 1), s.expand(m, 1), torch.full((m, 1), source, dtype=x.dtype)), 1)
        return Loop(mesh, x, torch.einsum("ijac,ic->ija", linear.inner, all_), u, s)

    def _row(self, loop: Loop) -> Tensor:
        """Entries of the inner product with a loop, for x, u and s."""
        weight = (loop.mesh.diff() + loop.mesh.diff().roll(1)) / (2 * loop.x.shape[1] * self.scale**2)
        return torch.cat(
            ((weight[:, None] * loop.x).flatten(), (PERIOD_WEIGHT**2 * loop.u)[None], loop.s[None])
        )

    def dot(self, a: Loop, b: Loop) -> float:
        return float(self._row(a) @ torch.cat((b.x.flatten(), b.u[None], b.s[None])))

    def norm(self, a: Loop) -> float:
        return math.sqrt(self.dot(a, a))

    def phase(self, loop: Loop) -> Loop:
        """The direction of a shift in time, to which steps are perpendicular."""
        v = self.velocity(loop)
        return Loop(loop.mesh, v / v.norm(), loop.X, 0 * loop.u, 0 * loop.s)

    def correct(self, guess: Loop, phase: Loop, normal: Loop, steps: int = NEWTON) -> Loop | None:
        """Newton's method from the guess, perpendicular to `phase` and `normal`; None if it fails."""
        loop = guess
        for _ in range(steps):
            try:
                step = self.solve(self.linear(loop), loop.mesh, [phase, normal], [0.0, 0.0], 1.0)
            except (RuntimeError, FloatingPointError):
                return None
            size = float(step.x.abs().max()) / self.scale
            if not math.isfinite(size) or size > 1 or abs(float(step.u)) > 1 or abs(float(step.s)) > 1:
                return None
            loop = loop.moved(step, 1.0)
            if max(size, abs(float(step.u)), abs(float(step.s))) <= CONVERGED:
                return loop
        return None

    def fixed(self, loop: Loop) -> Loop:
        """The normal of a move at a fixed parameter."""
        return Loop(loop.mesh, 0 * loop.x, loop.X, 0 * loop.u, torch.ones_like(loop.s))

    def point(self, loop: Loop, forward: Loop) -> CyclePoint | None:
        """Tangent, looking the way of `forward`, and multipliers; None where there is no single tangent."""
        try:
            linear = self.linear(loop)
            tangent = self.solve(linear, loop.mesh, [self.phase(loop), forward], [0.0, 1.0], 0.0)
        except (RuntimeError, FloatingPointError):
            return None
        length = self.norm(tangent)
        if not math.isfinite(length):
            return None
        values = multipliers(linear.A)
        trivial = int(np.abs(values - 1).argmin())
        values = np.concatenate((values[trivial, None], np.delete(values, trivial)))
        return CyclePoint(loop, tangent.scaled(1 / length), values, linear.residual)

    def period_error(self, loop: Loop, normal: Loop) -> float:
        """How much the period changes, relatively, on halving the intervals."""
        middle = (loop.mesh[:-1] + loop.mesh[1:]) / 2
        half = torch.cat((torch.stack((loop.mesh[:-1], middle), 1).flatten(), loop.mesh[-1:]))
        fine = loop.on(half)
        better = self.correct(fine, self.phase(fine), normal.on(half))
        return math.inf if better is None else abs(math.expm1(float(better.u - loop.u)))
