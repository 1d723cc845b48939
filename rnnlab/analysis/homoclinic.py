"""From where do trajectories come back to where they came from? Homoclinic regions of degenerate points."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from rnnlab.analysis.fates import TOLERANCE, fates
from rnnlab.integrate import integrate
from rnnlab.systems import VectorField

LEAST = 1e-3  # share of the box below which a region is not told from errors of the limits


class Region(NamedTuple):
    """Starts whose trajectories tend to one point in both directions of time.

    Attributes:
        share: Of the box.
        start: The start deepest inside, `(2,)`.
    """

    share: float
    start: Tensor


def homoclinic_regions(
    field: VectorField,
    point: int,
    points: Tensor,
    sinks: Tensor,
    sources: Tensor,
    radius: Tensor,
    box: tuple[Tensor, Tensor],
    duration: float,
    *,
    resolution: int = 40,
) -> list[Region]:
    """Regions of the box from which trajectories tend to a point forward and backward in time.

    A hyperbolic point has none: what tends to it forward and backward are curves, without area. Starts on a
    grid are followed both ways; connected sets of those that come and go, and enclose an area in the same
    sense of rotation, are regions: two that share a border turn against one another. What passes the point
    so slowly that it does not leave within `duration` is taken for what tends to it; regions smaller than a
    thousandth of the box are left out therefore.

    Args:
        field: A planar vector field.
        point: Row of the point in `points`.
        points: Fixed points, `(point, 2)`.
        sinks, sources: Which of them are, `(point)`.
        radius: Of the disc around each within which a trajectory has come to it, `(point)`.
        box: Corners, `(2,)` each.
        duration: How long, in either direction.
        resolution: Starts along each axis, an even number, so that none lies in the middle.

    Returns:
        The regions, the largest first.
    """
    ticks = [
        (torch.arange(resolution).double() + 0.5) / resolution * (b - a) + a
        for a, b in zip(*box, strict=True)
    ]
    x0 = torch.cartesian_prod(*ticks)
    sense = np.zeros(len(x0))
    onward = fates(field, x0, points, sinks, radius, box, duration)
    rows = np.flatnonzero(onward == point)
    if len(rows):
        back = fates(field, x0[torch.from_numpy(rows)], points, sources, radius, box, -duration)
        rows = rows[back == point]
    if len(rows):
        sense[rows] = _sense(field, x0[torch.from_numpy(rows)], points[point], duration)
    regions = []
    for side in (1, -1):
        # of cells that touch at a corner only each is a region: such is the point itself between two of them
        labels, count = ndimage.label((sense == side).reshape(resolution, resolution))  # pyright: ignore[reportGeneralTypeIssues]
        for label in range(1, count + 1):
            inside = labels == label
            depth = np.asarray(ndimage.distance_transform_edt(np.pad(inside, 1)))[1:-1, 1:-1]
            regions.append(Region(float(inside.mean()), x0[int(depth.argmax())]))
    return sorted((r for r in regions if r.share >= LEAST), key=lambda r: (-r.share, *r.start.tolist()))


def _sense(field: VectorField, x: Tensor, center: Tensor, duration: float) -> np.ndarray:
    """In which sense, 1 or -1, trajectories run around the area that they enclose with the point."""
    times = duration * torch.logspace(-4, 0, 200, dtype=x.dtype)
    past, future = (integrate(field, x, sign * times, tolerance=TOLERANCE) for sign in (-1, 1))
    path = torch.cat((past.flip(0), x[None], future)) - center
    first, second = path[:-1], path[1:]
    area = (first[..., 0] * second[..., 1] - first[..., 1] * second[..., 0]).sum(0)
    return area.sign().numpy()
