"""Attracting cycles and closed curves of planar maps, the discrete kin of limit cycles."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from rnnlab.analysis.attractors import attractors
from rnnlab.analysis.rotation import rotation_number
from rnnlab.systems import System

RECORD = 4000  # steps of an orbit from which a closed curve is drawn
PHASES = 64
MOST = 16  # starts that are looked into


def closed_curves(
    system: System, x0: Tensor, sinks: Tensor, steps: int
) -> tuple[list[tuple[np.ndarray, float, str]], int]:
    """Periodic orbits and invariant closed curves that starts settle on.

    Starts that a sink has taken after `steps` steps are done with; the others go through `attractors`. A
    periodic orbit is given by its points. A closed curve (a torus of the map) is drawn through the points of
    one orbit in the order of their phases, and its period is the mean number of steps once round, one over
    the rotation number. What repels is not found, nor is chaos.

    Args:
        system: A planar map.
        x0: Starts, `(start, 2)`.
        sinks: Its sinks, `(sink, 2)`.
        steps: For how long starts are followed.

    Returns:
        Curves `(phase, 2)` with period and type, which is "stable"; and how many of the starts that no sink
        has taken were not decided.
    """
    x = x0
    for _ in range(steps):
        x = system.step(x)
    free = x.isfinite().all(-1)
    if len(sinks):
        free &= torch.cdist(x.nan_to_num(), sinks).amin(-1) > 1e-6
    if not bool(free.any()):
        return [], 0
    found = attractors(system, x[free][:MOST])
    curves = []
    for i in np.flatnonzero(np.isin(found.attractor_kind.values, ("periodic orbit", "torus"))):
        orbit = [torch.from_numpy(found.point.values[i])]
        for _ in range(RECORD - 1):
            orbit.append(system.step(orbit[-1][None])[0])
        path = torch.stack(orbit)
        if found.attractor_kind[i] == "periodic orbit":
            period = int(found.period[i])
            curves.append((path[:period].numpy(), float(period), "stable"))
            continue
        turn = float(rotation_number(path).rotation)
        if turn > 0:
            phase = np.arange(RECORD) * turn % 1
            curve = [
                np.interp(np.arange(PHASES) / PHASES, phase, values, period=1) for values in path.numpy().T
            ]
            curves.append((np.stack(curve, -1), 1 / turn, "stable"))
    return sorted(curves, key=lambda row: row[1]), int(found.undecided)
