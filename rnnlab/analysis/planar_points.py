"""Of which type is each fixed point in the plane? Simple ones with proof, degenerate ones by normal forms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from rnnlab.analysis.degenerate import border_type, degenerate_point, poincare_index
from rnnlab.analysis.roots import Zeros
from rnnlab.analysis.stability import HYPERBOLIC
from rnnlab.systems import System, VectorField, is_flow, jacobian

TYPES = ("sink", "source", "saddle", "sink-saddle", "source-saddle", "codimension 2", "centre", "undecided")
INDEX = {"sink": 1, "source": 1, "saddle": -1, "sink-saddle": 0, "source-saddle": 0}
EXTENDED = 1e-2  # size of an undecided cluster, relative to the box, from which it is no point


class PlanarPoint(NamedTuple):
    """A fixed point.

    Attributes:
        point: Where, `(2,)`.
        type: One of `TYPES`.
        certified: Whether it is proved to be there, alone in a neighbourhood.
        index: Poincare index: the sign of det(-J), for a map det(I - J), where certified; else the winding
            number, 0 if that is not clear.
        degeneracy: See `degenerate.Degenerate` and `border_type`; "extended" for a cluster that is no point.
        defect: How far a degenerate point is from being exactly so, relative to the typical slope.
        eigenvalue: Of the Jacobian, `(2,)`, complex.
    """

    point: Tensor
    type: str
    certified: bool
    index: int
    degeneracy: str
    defect: float
    eigenvalue: np.ndarray


def planar_points(
    system: System | VectorField, found: xr.Dataset, size: float, slope: float, tolerance: float
) -> list[PlanarPoint]:
    """The points of a certificate by type, and what each undecided cluster is.

    Args:
        system: A planar map or field.
        found: Its `certified_fixed_points`.
        size: Of the box.
        slope: Typical norm of the derivative of f, or F(x) - x.
        tolerance: See `degenerate_point`.

    Returns:
        Sorted by type, in the order of `TYPES`, and by coordinates.
    """
    points = [_simple(system, found.isel(index=i)) for i in range(found.sizes["index"])]
    hulls = torch.from_numpy(np.stack((found.undecided_low.values, found.undecided_high.values), 1))
    known = [point.point for point in points] + [_middle(system, hull, size) for hull in hulls]
    for row, hull in enumerate(hulls, len(points)):
        apart = torch.stack([(x - known[row]).norm() for x in known])
        apart[row] = size
        points.append(_cluster(system, hull, known[row], float(apart.min()), size, slope, tolerance))
    return sorted(points, key=lambda p: (TYPES.index(p.type), *(p.point.numpy().round(6) + 0.0)))


def _simple(system: Any, row: xr.Dataset) -> PlanarPoint:
    x, values = torch.from_numpy(row.point.values), row.eigenvalue.values
    flow = is_flow(system)
    beyond = values.real if flow else np.abs(values) - 1
    kind, degeneracy = ("sink", "saddle", "source")[int((beyond > 0).sum())], ""
    if np.abs(beyond).min() < HYPERBOLIC:
        kind, degeneracy = border_type(system, x, values)
    index = int(row.sign) or int(np.sign(np.prod(values if flow else 1 - values).real))
    return PlanarPoint(x, kind, True, index, degeneracy, 0.0, values)


def _middle(system: Any, hull: Tensor, size: float) -> Tensor:
    """About where a cluster is; of one that is no point, one of its points."""
    low, high = hull
    if float((high - low).max()) <= EXTENDED * size:
        return (low + high) / 2
    zeros, x = Zeros(system), torch.stack((low[0], (low[1] + high[1]) / 2))
    for _ in range(50):
        matrix, value = zeros.slope(x[None])[0], zeros.value(x[None])[0]
        x = x - torch.linalg.lstsq(matrix, value[:, None], rcond=1e-8, driver="gelsd").solution[:, 0]
    return x


def _cluster(
    system: Any, hull: Tensor, x: Tensor, apart: float, size: float, slope: float, tolerance: float
) -> PlanarPoint:
    """What an undecided cluster is, the next point being `apart` from it."""
    index, kind, degeneracy, defect = None, "undecided", "extended", math.nan
    if float((hull[1] - hull[0]).max()) <= EXTENDED * size:
        x, kind, degeneracy, defect = degenerate_point(system, hull[0], hull[1], slope, tolerance)
        if apart > 4 * float((hull[1] - hull[0]).norm()):
            first, second = (poincare_index(system, x, part * apart) for part in (0.5, 0.25))
            index = first if first == second else None
        if index is not None and INDEX.get(kind, index) != index:
            kind = "undecided"
    values = np.linalg.eigvals(jacobian(system, x[None])[0].numpy()).astype(complex)
    return PlanarPoint(x, kind, False, index or 0, degeneracy, defect, values)


def nearly_degenerate(
    points: Sequence[PlanarPoint], *, flow: bool, slope: float, size: float, near: float
) -> tuple[list[str], list[float]]:
    """For each point the degenerate type that it nearly is, and the distance to what it may collide with.

    A simple point is nearly degenerate if both its eigenvalues are below `near` times `slope`
    ("codimension 2"); if the nearest point of opposite index is nearer than `near` times `size`, or one
    eigenvalue is that small ("sink-saddle" or "source-saddle"); or if it has a complex pair so near to the
    imaginary axis ("centre"). For maps the distance of multipliers from 1, or from the unit circle, counts.

    Returns:
        For each point the type, "" if it is none or degenerate itself, and the distance, NaN if there is no
        point of opposite index.
    """
    kinds, distances = [], []
    for p in points:
        rivals = [q for q in points if p.index and q.index == -p.index]
        apart = [float((p.point - q.point).norm()) for q in rivals]
        distances.append(min(apart, default=math.nan))
        rival = rivals[int(np.argmin(apart))] if rivals else p
        pair = {p.type, rival.type} - {"saddle"}
        gap = np.abs(p.eigenvalue if flow else p.eigenvalue - 1) / slope
        beyond = (np.real(p.eigenvalue) if flow else np.abs(p.eigenvalue) - 1) / slope
        kind = ""
        if p.certified and not p.degeneracy:
            if gap.max() < near:
                kind = "codimension 2"
            elif distances[-1] < near * size and pair in ({"sink"}, {"source"}):
                kind = f"{pair.pop()}-saddle"
            elif gap.min() < near:
                kind = "sink-saddle" if beyond[gap.argmax()] < 0 else "source-saddle"
            elif abs(p.eigenvalue[0].imag) > 0 and np.abs(beyond).min() < near:
                kind = "centre"
        kinds.append(kind)
    return kinds, distances
