"""Where is it slow along a curve? Pseudo-line attractors: valleys of the speed that attract across."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rnnlab.analysis.roots import Zeros
from rnnlab.systems import System, VectorField

STEP = 5e-3  # length of an edge, relative to the box
MOST = 4000  # vertices in one direction
CORRECTIONS = 4
FINEST = 1e-3  # steps are halved at corners and at the end, down to this part of them
BEND = 0.5  # cosine of the largest turn from edge to edge
SLENDER = 5.0  # length over width, at least


class Line(NamedTuple):
    """A curve along which the speed stays under a bound.

    Attributes:
        points: Vertices, `(vertex, state)`; the first once more at the end where it is closed.
        speed: Largest speed on it.
        length: Sum of its edges.
        curvature: Largest, 1 / radius.
        closed: Whether it is a ring.
    """

    points: np.ndarray
    speed: float
    length: float
    curvature: float
    closed: bool


def slow_lines(
    system: System | VectorField,
    seeds: Tensor,
    box: tuple[Tensor, Tensor],
    bound: float,
    *,
    least: float,
) -> list[Line]:
    """Follow the valleys of the speed through `seeds` as far as the speed stays under a bound.

    A valley runs along the direction that the derivative J stretches least; across it the speed is least
    where f is normal to J w, w the normal of that direction. From each seed the valley is followed both ways
    by short steps along and Gauss and Newton's steps across, until the speed exceeds the bound, the box ends,
    or the curve closes. Every set on which the speed is under the bound holds a minimum of the speed, unless
    it touches the border of the box: fixed points and slow points are the seeds that find all valleys inside.

    A curve counts as pseudo-line attractor if it is long enough, five times as long as the strip around it
    where the speed is under the bound is wide, and attracts across: w^T J w < 0 all along (for a map
    1 + w^T J w lies in (-1, 1), J the derivative of F(x) - x).

    Args:
        system: A planar map or field.
        seeds: Minima of the speed, `(seed, 2)`.
        box: Corners, `(2,)` each.
        bound: On the speed.
        least: Length, at least.

    Returns:
        Lines, the longest first.

    Example:
        >>> class Axis:
        ...     velocity = staticmethod(lambda x: torch.stack((-x[..., 0], 0 * x[..., 1]), -1))
        >>> one = torch.ones(2).double()
        >>> [line] = slow_lines(Axis(), torch.zeros(1, 2).double(), (-one, one), 1e-3, least=0.1)
        >>> round(line.length, 2), line.curvature, line.closed
        (2.0, 0.0, False)
    """
    zeros, found = Zeros(system), []
    step = STEP * float((box[1] - box[0]).max())
    for seed in seeds:
        if any(_covers(line.points, seed, step) for line in found):
            continue
        matrix = zeros.slope(seed[None])[0]
        _, size, right = torch.linalg.svd(matrix)
        if not float(zeros.value(seed[None]).norm()) <= bound or float(size[0]) * step <= 1e-12:
            continue
        ahead, closed = _follow(zeros, seed, right[-1], step, box, bound)
        behind = [] if closed else _follow(zeros, seed, -right[-1], step, box, bound)[0]
        points = torch.stack([*behind[::-1], seed, *ahead, *([seed] if closed else [])])
        line = _line(points, zeros, bound, closed)
        if line is not None and line.length >= least:
            found.append(line)
    return sorted(found, key=lambda line: -line.length)


def _covers(curve: np.ndarray, x: Tensor, step: float) -> bool:
    return bool(np.linalg.norm(curve - x.numpy(), axis=-1).min() <= step)


def _follow(
    zeros: Zeros, x: Tensor, along: Tensor, step: float, box: tuple[Tensor, Tensor], bound: float
) -> tuple[list[Tensor], bool]:
    """Vertices after the first, and whether the curve has come back to it."""
    start, points, reach = x, [], step
    while len(points) < MOST and reach > FINEST * step:
        new = x + reach * along
        for _ in range(CORRECTIONS):
            value, matrix = zeros.value(new[None])[0], zeros.slope(new[None])[0]
            right = torch.linalg.svd(matrix)[2]
            across = matrix @ right[0]
            new = new - right[0] * (across @ value) / (across @ across)
        edge = new - x
        length = float(edge.norm())
        if len(points) > 2 and float((new - start).norm()) < 0.75 * step:
            return points, True
        if (
            not bool(((new >= box[0]) & (new <= box[1])).all())
            or not float(zeros.value(new[None]).norm()) <= bound
            or not 0.5 * reach < length < 2 * reach
            or float(edge @ along) < BEND * length
        ):
            reach = reach / 2
            continue
        along, x, reach = edge / length, new, min(2 * reach, step)
        points.append(x)
    return points, False


def _line(points: Tensor, zeros: Zeros, bound: float, closed: bool) -> Line | None:
    """The curve with its properties; None where it is too broad or does not attract across."""
    if len(points) < 3:
        return None
    matrices, speed = zeros.slope(points), zeros.value(points).norm(dim=-1)
    normal = torch.linalg.svd(matrices)[2][:, 0]
    pull = torch.einsum("vi,vij,vj->v", normal, matrices, normal)
    attracts = bool((pull < 0).all()) and (zeros.flow or bool((pull > -2).all()))
    width = 2 * bound / float((matrices @ normal[..., None]).norm(dim=(-2, -1)).min())
    edges = points.diff(dim=0).norm(dim=-1)
    length = float(edges.sum())
    if not attracts or length < SLENDER * width:
        return None
    curve = points.numpy()
    bends = curve if not closed else np.concatenate((curve, curve[1:2]))
    return Line(curve, float(speed.max()), length, _curvature(bends), closed)


def _curvature(points: np.ndarray) -> float:
    """Largest curvature of a polygon: of the circles through three vertices each."""
    before, after = points[1:-1] - points[:-2], points[2:] - points[1:-1]
    area = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    sides = [np.linalg.norm(side, axis=-1) for side in (before, after, before + after)]
    return float(np.max(2 * np.abs(area) / np.prod(sides, 0), initial=0.0))
