"""What becomes of a cycle whose period grows without bound: a saddle-node on it, or a homoclinic orbit."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rnnlab.analysis.critical_points import Critical, critical_point
from rnnlab.analysis.cycle_curve import CycleCurve, Loop
from rnnlab.systems import jacobian, law

NEAR = 0.1  # distance of the limiting equilibrium from the slowest point, in sizes of the cycle
ROOT_LAW = (-0.6, -0.4)  # exponents that count as -1/2
LOG_LAW = (0.75, 1.33)  # measured over expected rate that counts as 1


class CycleLimit(NamedTuple):
    """How a branch of cycles ends.

    Attributes:
        kind: "saddle-node on the cycle", "homoclinic", "heteroclinic", "max_period" where none of these is
            recognised, or the name of any other end.
        point: The equilibrium with the parameter of the limit, where known.
        rate: For a saddle-node the exponent p in period ~ distance^p, measured, -1/2 in theory; for
            homoclinic orbits the r in distance ~ exp(-r period), measured.
    """

    kind: str
    point: Critical | None = None
    rate: float = math.nan


def cycle_limit(curve: CycleCurve, loops: list[Loop]) -> CycleLimit:
    """Tell the ends of infinite period apart, by what is near the slowest point and how the period grows.

    Args:
        curve: The curve of cycles.
        loops: The cycles of the branch, in order; the last one has a long period.

    Returns:
        The end. At a saddle-node its place is solved for, at saddles the place is that of the last cycle.
    """
    last = loops[-1]
    slow = _slowest(curve, last)
    size = float((last.x.amax(0) - last.x.amin(0)).max())
    s = np.array([float(curve.parameter(loop)) for loop in loops])
    period = np.array([loop.period for loop in loops])
    late = period > period[-1] / 4
    fold = critical_point(curve.family, slow[0], curve.parameter(last)[None], "saddle-node")
    if fold is not None and float((fold.x - slow[0]).norm()) < NEAR * size:
        away = np.abs(s - float(fold.parameter[0]))
        exponent = _slope(np.log(away[late & (away > 0)]), np.log(period[late & (away > 0)]))
        if ROOT_LAW[0] < exponent < ROOT_LAW[1]:
            return CycleLimit("saddle-node on the cycle", fold, exponent)
    saddles = [_equilibrium(curve, last, x) for x in slow]
    if any(saddle is None for saddle in saddles):
        return CycleLimit("max_period")
    found = torch.stack([saddle for saddle in saddles if saddle is not None])
    if float((found - slow).norm(dim=-1).max()) > NEAR * size:
        return CycleLimit("max_period")
    values = torch.linalg.eigvals(jacobian(curve.system(last), found)).real
    if not bool(((values > 0).any(-1) & (values < 0).any(-1)).all()):
        return CycleLimit("max_period")
    # the time near each saddle is -log(distance) over the rate of its slower escape or approach
    expected = 1 / float((1 / values.abs().amin(-1)).sum())
    away = np.abs(s - s[-1])
    there = late & (away > 1e3 * np.finfo(float).eps * max(abs(s[-1]), abs(curve.length)))
    rate = -_slope(period[there], np.log(away[there]))
    if not LOG_LAW[0] < rate / expected < LOG_LAW[1]:
        return CycleLimit("max_period")
    one = float(torch.cdist(found, found).max()) < 1e-6 * size
    place = Critical(found[0], curve.parameter(last)[None], 0 * found[0], 0 * found[0, 0])
    return CycleLimit("homoclinic" if one and len(found) == 1 else "heteroclinic", place, rate)


def _slope(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.polyfit(x, y, 1)[0]) if len(x) >= 4 and np.ptp(x) > 0 else math.nan


def _slowest(curve: CycleCurve, loop: Loop) -> Tensor:
    """Where the speed on the cycle has minima of at most a tenth of its mean, the slowest first."""
    x = loop.at(loop.spread(8 * len(loop.x))[:-1])
    speed = law(curve.system(loop))(x).norm(dim=-1)
    least = (speed <= speed.roll(1)) & (speed < speed.roll(-1)) & (speed <= speed.mean() / 10)
    least |= torch.arange(len(x)) == speed.argmin()
    return x[least][speed[least].argsort()]


def _equilibrium(curve: CycleCurve, loop: Loop, x: Tensor) -> Tensor | None:
    """Newton's method for the equilibrium near a state."""
    system = curve.system(loop)
    for _ in range(20):
        step, info = torch.linalg.solve_ex(jacobian(system, x), law(system)(x))
        if int(info) or not bool(step.isfinite().all()):
            return None
        x = x - step
        if float(step.abs().max()) <= 1e-10 * (1 + float(x.abs().max())):
            return x
    return None
