"""Where is it slow without resting? Local minima of the speed, and of what they are the ghosts."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rnnlab.analysis.normal_forms import derivative
from rnnlab.analysis.roots import Zeros
from rnnlab.systems import System, VectorField

STEPS = 40
REST = 1e-8  # speed, relative to that of the box, that is none
SAME = 1e-4  # distance, relative to the box, below which two minima are one
FLAT = 1e-8  # gradient of half the squared speed, relative to speed times slope, at a minimum
ISOLATED = 1e-8  # smallest curvature of the squared speed, relative to the largest, at a minimum of its own


class Slow(NamedTuple):
    """A local minimum of the speed that is no fixed point.

    Attributes:
        point: Where, `(state,)`.
        speed: Euclidean norm of f, or of F(x) - x, there.
        type: "sink-saddle" or "source-saddle": of which collision it is the ghost; "" where undecided.
        passage: Time that the bottleneck takes in the limit of small speed, pi / sqrt(mu a), with
            du/dt = mu + a u^2 along the direction that the derivative does not see; NaN where undecided.
    """

    point: Tensor
    speed: float
    type: str
    passage: float


def slow_points(
    system: System | VectorField, box: tuple[Tensor, Tensor], *, resolution: int = 24
) -> list[Slow]:
    """The local minima of the speed inside a box which are no fixed points, the slowest first.

    Newton's method with the full second derivative of q = |f|^2 / 2, made positive (so that it descends) and
    damped, from a grid of starts. A point counts if the gradient of q vanishes, its second derivative is
    positive definite and the speed is not zero. Minima with basins narrower than the grid may be missed; a
    curve of equal minima has no point of its own.

    Where f is not zero and J^T f = 0, J is singular: along its kernel du/dt = mu + a u^2 with mu and a of one
    sign is what a saddle-node leaves behind. If the other directions attract, a sink and a saddle have
    vanished there, if they repel a source and a saddle.

    Args:
        system: A map or field, of few dimensions: there are `resolution`^n starts.
        box: Corners, `(state,)` each.
        resolution: Starts along each axis.

    References:
        Sussillo and Barak, "Opening the black box", Neural Computation 25 (2013).
        Strogatz, "Nonlinear dynamics and chaos", section 4.3: bottlenecks.

    Example:
        >>> class Ghost:
        ...     velocity = staticmethod(lambda x: torch.stack((0.01 + x[..., 0] ** 2, -x[..., 1]), -1))
        >>> one = torch.ones(2).double()
        >>> [slow] = slow_points(Ghost(), (-one, one))
        >>> round(slow.speed, 6), slow.type, round(slow.passage, 3)
        (0.01, 'sink-saddle', 31.416)
    """
    zeros, (low, high) = Zeros(system), box
    ticks = [
        (torch.arange(resolution, dtype=low.dtype) + 0.5) / resolution * (b - a) + a
        for a, b in zip(low, high, strict=True)
    ]
    x = torch.cartesian_prod(*ticks).reshape(-1, len(low))
    typical = float(zeros.value(x).norm(dim=-1).median())
    slope = float(torch.linalg.matrix_norm(zeros.slope(x)).median())
    reach = float((high - low).max()) / resolution
    x = _descend(zeros, x, box, reach, REST * typical)

    value = zeros.value(x).norm(dim=-1)
    gradient, second = _derivatives(zeros, x)
    flat = gradient.norm(dim=-1) <= FLAT * value * slope
    curvature = torch.linalg.eigvalsh(second)
    valley = curvature[:, 0] > ISOLATED * curvature[:, -1]
    keep = flat & valley & (value > REST * typical)
    found: list[Slow] = []
    for point, speed in sorted(zip(x[keep], value[keep].tolist(), strict=True), key=lambda pair: pair[1]):
        if all(float((point - slow.point).norm()) > SAME * float((high - low).norm()) for slow in found):
            found.append(Slow(point, speed, *_ghost(zeros, point, slope)))
    return found


def _descend(zeros: Zeros, x: Tensor, box: tuple[Tensor, Tensor], reach: float, rest: float) -> Tensor:
    """Newton's method for minima of the squared speed, in the box, with steps of at most `reach`."""
    q = zeros.value(x).square().sum(-1)
    size = torch.full_like(q, reach)
    going = torch.ones_like(q, dtype=torch.bool)
    for _ in range(STEPS):
        part = x[going]
        gradient, second = _derivatives(zeros, part)
        values, vectors = torch.linalg.eigh(second)
        values = values.abs().clamp(min=1e-12 * values.abs().amax(-1, keepdim=True) + 1e-300)
        step = -(vectors @ ((vectors.mT @ gradient[..., None]) / values[..., None]))[..., 0]
        step = step * (size[going] / step.norm(dim=-1).clamp(min=1e-300)).clamp(max=1)[:, None]
        new = torch.minimum(torch.maximum(part + step, box[0]), box[1])
        after = zeros.value(new).square().sum(-1)
        better = after < q[going]
        x[going], q[going] = new.where(better[:, None], part), after.where(better, q[going])
        length = step.norm(dim=-1)
        size[going] = torch.where(better, (2 * size[going]).clamp(max=reach), length / 4)
        more = (length > 1e-10 * reach) & (size[going] > 1e-10 * reach) & (q[going] > rest**2)
        going[going.clone()] = more
        if not bool(going.any()):
            break
    return x


def _derivatives(zeros: Zeros, x: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient `(row, n)` and second derivative `(row, n, n)` of half the squared speed."""
    n = x.shape[-1]
    axes = torch.eye(n, dtype=x.dtype)
    value, matrix = zeros.value(x), zeros.slope(x)
    second = matrix.mT @ matrix
    for i, j in itertools.combinations_with_replacement(range(n), 2):
        bend = _along(_along(zeros.value, axes[i]), axes[j])(x)
        part = (value * bend).sum(-1)
        second[:, i, j] += part
        if i != j:
            second[:, j, i] += part
    return (matrix.mT @ value[..., None])[..., 0], second


def _along(rule, direction: Tensor):
    """The derivative of a function of rows along one direction, as a function of rows."""
    return lambda x: torch.func.jvp(rule, (x,), (direction.expand_as(x).contiguous(),))[1]


def _ghost(zeros: Zeros, x: Tensor, slope: float) -> tuple[str, float]:
    """Of which collision, and how long the passage takes."""
    matrix, value = zeros.slope(x), zeros.value(x)
    left, size, right = torch.linalg.svd(matrix)
    p, q = left[:, -1], right[-1]
    overlap = float(p @ q)
    others = np.linalg.eigvals(matrix.numpy())
    others = np.delete(others, np.abs(others).argmin())
    stable = others.real < 0 if zeros.flow else np.abs(1 + others) < 1
    if abs(overlap) < 1e-3 or float(size[-1]) > 1e-3 * slope:
        return "", math.nan
    mu = float(p @ value) / overlap
    a = float(p @ derivative(zeros.value, x, q, q)) / overlap / 2
    if mu * a <= 0:
        return "", math.nan
    return (
        "sink-saddle" if stable.all() else "source-saddle" if not stable.any() else "",
        math.pi / math.sqrt(mu * a),
    )
