"""Where does each point of a grid end?"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from rnnlab.analysis.planes import Confined, Region
from rnnlab.analysis.states import to_numpy
from rnnlab.integrate import integrate
from rnnlab.systems import is_flow

CLOSE = 1e-3  # of the diagonal: what comes so near to an attractor has reached it
CHUNKS, CROSSINGS = 10, 4.0  # looks, the first after so many crossings of the box, each a quarter later
STEPS = 100


def basins_of(
    system: Any,
    grid: Tensor,
    point: Tensor,
    kind: list[str],
    cycle: np.ndarray,
    cycle_type: np.ndarray,
    region: Region,
    tolerance: float,
) -> dict[str, Any]:
    """Follow all points of a grid at once until each is near an attractor.

    Attractors are the sinks, then the stable cycles. Near a sink is nearer than 1e-3 of the diagonal and a
    tenth of the distance of the next fixed point. Points that leave the box by more than its margin are
    not followed; what is near none after a long time stays undecided, -1.
    """
    sinks = [i for i, name in enumerate(kind) if name == "sink"]
    loops = [i for i, name in enumerate(cycle_type) if name == "stable"]
    x = grid.reshape(-1, 2)
    label = torch.full((len(x),), -1)
    radius = torch.full((len(sinks),), CLOSE * region.diagonal, dtype=x.dtype)
    for a, i in enumerate(sinks):
        others = torch.cat((point[:i], point[i + 1 :]))
        if len(others):
            radius[a] = min(radius[a], 0.1 * torch.linalg.vector_norm(others - point[i], dim=-1).min())
    typical = 1.0
    if is_flow(system):
        typical = float(torch.linalg.vector_norm(system.velocity(x), dim=-1).median()) or 1.0
    time = CROSSINGS * region.diagonal / typical
    rows, confined = torch.arange(len(x)), Confined(system, region)
    for _ in range(CHUNKS if sinks or loops else 0):
        for a, i in enumerate(sinks):
            near = torch.linalg.vector_norm(x - point[i], dim=-1) < radius[a]
            label[rows[near]] = a
        for a, i in enumerate(loops):
            curve = torch.from_numpy(cycle[i][np.isfinite(cycle[i]).all(-1)])
            label[rows[_from_curve(x, curve, is_flow(system)) < CLOSE * region.diagonal]] = len(sinks) + a
        left = (label[rows] < 0) & region.holds(x)
        rows, x = rows[left], x[left]
        if not len(rows):
            break
        if is_flow(system):
            x = integrate(confined, x, torch.tensor([time]).double(), tolerance=tolerance)[0]
            time *= 1.25
        else:
            for _ in range(STEPS):
                x = system.step(x)
    size = len(sinks) + len(loops)
    return {
        "basin": (("row", "column"), to_numpy(label.view(grid.shape[:-1]))),
        "attractor_point": ("attractor", np.array(sinks + [-1] * len(loops), int).reshape(size)),
        "attractor_cycle": ("attractor", np.array([-1] * len(sinks) + loops, int).reshape(size)),
    }


def _from_curve(x: Tensor, curve: Tensor, closed: bool) -> Tensor:
    """Distance of points from a closed polyline, or from the points of a map's cycle."""
    if not closed:
        return torch.cdist(x, curve).amin(-1)
    chord = curve.roll(-1, 0) - curve
    part = ((x[:, None] - curve) * chord).sum(-1) / (chord * chord).sum(-1).clamp_min(1e-300)
    nearest = curve + part.clamp(0, 1).unsqueeze(-1) * chord
    return torch.linalg.vector_norm(x[:, None] - nearest, dim=-1).amin(-1)
