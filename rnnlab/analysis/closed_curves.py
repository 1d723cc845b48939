"""Attracting cycles and closed curves of planar maps, the discrete kin of limit cycles."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from rnnlab.analysis.attractors import attractors
from rnnlab.analysis.rotation import rotation_number
from rnnlab.systems import System, jacobian

RECORD = 4000  # steps of an orbit from which a closed curve is drawn
PHASES = 64
MOST = 16  # starts that are looked into
REST = 1e-2  # step, relative to the radius of the discs around points, from which nothing rests there
NEUTRAL = 1e-6  # rate at which areas shrink, per step, below which a closed curve is not told from neutral


def closed_curves(
    system: System, x0: Tensor, points: Tensor, radius: Tensor, steps: int
) -> tuple[list[tuple[np.ndarray, float, str]], int]:
    """Attracting periodic orbits and invariant closed curves that starts settle on.

    Starts that are at rest near a known point after `steps` steps are done with; the others go through
    `attractors`. A periodic orbit is given by its points. A closed curve (a torus of the map) is drawn
    through the points of one orbit in the order of their phases, and its period is the mean number of steps
    once round, one over the rotation number; it must attract: along it areas shrink, on average. What repels
    is not found, nor is chaos.

    Args:
        system: A planar map.
        x0: Starts, `(start, 2)`.
        points: Its fixed points, `(point, 2)`.
        radius: Of the disc around each that counts as near, `(point)`.
        steps: For how long starts are followed.

    Returns:
        Curves `(phase, 2)` with period and type, which is "stable"; and how many starts ended on none of
        them, nor at a point.
    """
    x = x0
    for _ in range(steps):
        x = system.step(x)
    x = x[x.isfinite().all(-1)]
    if len(points) and len(x):
        near = (torch.cdist(x, points) <= radius).any(-1)
        x = x[~near | ((system.step(x) - x).norm(dim=-1) > REST * float(radius.max()))]
    if not len(x):
        return [], 0
    x = x[:: -(-len(x) // MOST)]
    found = attractors(system, x)
    kinds, curves, taken = found.attractor_kind.values, [], 0
    for i in np.flatnonzero(np.isin(kinds, ("fixed point", "periodic orbit", "torus"))):
        path = _orbit(system, torch.from_numpy(found.point.values[i]))
        if kinds[i] == "torus":
            turn = float(rotation_number(path).rotation)
            if not turn > 0 or float(jacobian(system, path).det().abs().log().mean()) > -NEUTRAL:
                continue
            phase = np.arange(len(path)) * turn % 1
            at = np.arange(PHASES) / PHASES
            curve = np.stack([np.interp(at, phase, row, period=1) for row in path.numpy().T], -1)
            curves.append((curve, 1 / turn, "stable"))
        elif kinds[i] == "periodic orbit":
            if not str(found.stability.values[i]).startswith("stable"):
                continue
            period = int(found.period[i])
            curves.append((path[:period].numpy(), float(period), "stable"))
        taken += int(found.hits[i])
    diverged = int(found.diverged)
    return sorted(curves, key=lambda row: row[1]), len(x) - taken - diverged


def _orbit(system: System, x: Tensor) -> Tensor:
    """`RECORD` states from `x`, `(time, 2)`."""
    states = [x[None]]
    for _ in range(RECORD - 1):
        states.append(system.step(states[-1]))
    return torch.cat(states)
