"""What a target field asks for, and how well a system keeps still or turns: pure functions."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats.qmc import Halton
from torch import Tensor

from rnnlab.analysis import periodic_orbits, rotation_number
from rnnlab.integrate import integrate
from rnnlab.systems import System, VectorField

STARTS = 256  # spread over the box of the task
LONG = 200.0  # units of the field's time after which it is where it ends
REST = 1e-6  # speed below which it rests there
MERGED = 1e-3  # ends nearer to each other count as one point


class Target(NamedTuple):
    """What the solutions of a planar field end on.

    Attributes:
        kind: "cycle", "continuum" (of equilibria) or "points".
        ends: Where solutions from the box end, `(start, 2)`.
        curve: Points along the cycle, `(phase, 2)`; else the ends.
        period: Of the cycle, in the field's time; else NaN.
        amplitude: Half of its extent in each component, `(2,)`; else NaN.
    """

    kind: str
    ends: Tensor
    curve: Tensor
    period: float
    amplitude: Tensor


@torch.no_grad()
def target_of(field: VectorField, low: Tensor, high: Tensor) -> Target:
    """Find what a planar field's solutions from a box end on.

    They are followed over 200 units of time from 256 of Halton's points in the box. If none moves any more
    and most of the ends are points of their own, there is a continuum of equilibria.

    Args:
        field: The field.
        low, high: Corners of the box, `(2,)`.

    Raises:
        ValueError: Solutions run to infinity, or move for ever but not on one stable cycle.

    Example:
        >>> from rnnlab.maps import Hopf
        >>> corner = torch.ones(2, dtype=torch.float64)
        >>> found = target_of(Hopf(mu=1.0, omega=2.0), -corner, corner)
        >>> found.kind, round(found.period, 6), found.amplitude.round(decimals=6).tolist()
        ('cycle', 3.141593, [1.0, 1.0])
    """
    share = torch.from_numpy(Halton(2, scramble=False).random(STARTS + 1)[1:])
    starts = low + (high - low) * share
    ends = integrate(field, starts, torch.tensor([LONG], dtype=torch.float64))[0]
    if not bool(ends.isfinite().all()):
        raise ValueError(
            f"solutions from the box {low.tolist()} to {high.tolist()} run to infinity: "
            "give a field whose solutions stay finite there."
        )
    unknown = torch.full((2,), math.nan, dtype=torch.float64)
    if bool((field.velocity(ends).norm(dim=-1) < REST).all()):
        near = torch.cdist(ends, ends) < MERGED
        first = ~near.tril(-1).any(-1)
        kind = "continuum" if int(first.sum()) > STARTS // 2 else "points"
        return Target(kind, ends, ends, math.nan, unknown)
    path = integrate(field, ends[0], torch.linspace(0, LONG, 2001, dtype=torch.float64))
    turn = max(float(rotation_number(path).rotation), 2 / len(path))  # half a turn in each time step at most
    cycles = periodic_orbits(field, ends[:1], max_period=1.5 * LONG / 2000 / turn)
    stable = np.flatnonzero(cycles.unstable.values == 0)
    if len(stable) != 1:
        raise ValueError(
            f"solutions go on moving, on {len(stable)} stable cycles of a period up to {LONG / 2:g}: "
            "give a field with one."
        )
    start, period = torch.from_numpy(cycles.point.values[stable[0], 0]), float(cycles.period[stable[0]])
    curve = integrate(field, start, torch.linspace(0, period, 2001, dtype=torch.float64))
    return Target("cycle", ends, curve, period, (curve.amax(0) - curve.amin(0)) / 2)


@torch.no_grad()
def keeping(
    system: System, x: Tensor, *, settle: int = 29, steps: int = 10_000, near: float = 0.1
) -> dict[str, np.ndarray]:
    """How well a system keeps what it holds: drift and retention, in what is observed.

    On a continuum of fixed points nothing moves. States are followed for `settle` steps, in which fast
    motion dies, and how they go on from there is measured: how far in one step, and for how long each stays
    within `near` of the place.

    Args:
        system: The map.
        x: States to begin with, `(*batch, sample, state)`.
        settle: Steps before anything is measured.
        steps: Steps for which states are followed from there.
        near: What counts as still there, a distance.

    Returns:
        Over the samples, each `(*batch)`: `drift_median`, `drift_largest` of the distances moved in the one
        step after `settle`; `retention_shortest`, `retention_median` of the steps until states are further
        than `near` from where they were, infinite for those that never are within `steps`; `kept`: the
        fraction of those.

    Example:
        >>> class Slide:  # everything moves to the right by 0.03
        ...     def step(self, x): return x + torch.tensor([0.03, 0.0])
        ...     def observe(self, x): return x
        >>> keeping(Slide(), torch.zeros(3, 2).double())["retention_median"].item()
        4.0
    """
    for _ in range(settle):
        x = system.step(x)
    place = system.observe(x)
    left = x.new_full(x.shape[:-1], math.inf)
    drift = left
    for time in range(1, steps + 1):
        x = system.step(x)
        distance = (system.observe(x) - place).norm(dim=-1)
        drift = distance if time == 1 else drift
        left = torch.where((distance > near) & left.isinf(), float(time), left)
        if not bool(left.isinf().any()):
            break
    return {
        "drift_median": np.median(drift.numpy(), -1),
        "drift_largest": drift.amax(-1).numpy(),
        "retention_shortest": left.amin(-1).numpy(),
        "retention_median": np.quantile(left.numpy(), 0.5, -1, method="lower"),
        "kept": left.isinf().double().mean(-1).numpy(),
    }


@torch.no_grad()
def turning(
    system: System, x: Tensor, *, burn_in: int = 8000, record: int = 4000, tolerance: float = 1e-6
) -> dict[str, np.ndarray]:
    """Whether states of a map end on a closed curve, how long a turn takes, and how large the curve is.

    Args:
        system: The map.
        x: States to begin with, `(*batch, sample, state)`.
        burn_in: Steps before anything is measured.
        record: Steps that are.
        tolerance: Largest error of a rotation number that is known, and smallest extent of a curve.

    Returns:
        Over the samples, each `(*batch)`: `oscillates`, the fraction that end in a turning motion whose
        rotation number is known; `rests`, the fraction that move no more; the others are undecided. Of the
        first sample that oscillates: `motion` ("torus", "periodic", or "undecided" where the orbit neither
        returns nor fills the curve within the record), `period`, the mean number of steps of a turn, 1 over
        the rotation number, with `period_error`, and `amplitude_1`, `amplitude_2`, half of the extent of each
        observed component. NaN and "" where none does.

    Example:
        >>> class Turn:  # the unit circle attracts, and turns by 0.17
        ...     def step(self, x):
        ...         angle = torch.atan2(x[..., 1], x[..., 0]) + 0.17
        ...         size = (1 + x.norm(dim=-1, keepdim=True)) / 2
        ...         return size * torch.stack((angle.cos(), angle.sin()), -1)
        ...     def observe(self, x): return x
        >>> found = turning(Turn(), torch.tensor([[0.3, 0.0]]).double(), burn_in=100)
        >>> found["motion"].item(), found["period"].round(6).item(), found["amplitude_1"].round(4).item()
        ('torus', 36.959914, 1.0)
    """
    for _ in range(burn_in):
        x = system.step(x)
    path = []
    for _ in range(record):
        x = system.step(x)
        path.append(system.observe(x))
    y = torch.stack(path, -2)
    extent = ((y.amax(-2) - y.amin(-2)) / 2).numpy()
    rests = extent.max(-1) < tolerance
    found = rotation_number(y, max_period=64, tolerance=tolerance)
    turn, error = found.rotation.values, found.error.values
    turns = ~rests & (error < tolerance) & (turn * record > 10)
    first = turns.argmax(-1)[..., None]
    some = turns.any(-1)

    def of_first(values: np.ndarray) -> np.ndarray:
        return np.where(some, np.take_along_axis(values, first, -1)[..., 0], np.nan)

    turn, motion = np.where(turns, turn, np.nan), np.take_along_axis(found.kind.values, first, -1)[..., 0]
    return {
        "oscillates": turns.mean(-1),
        "rests": rests.mean(-1),
        "motion": np.where(some, motion, ""),
        "period": of_first(1 / turn),
        "period_error": of_first(error / turn**2),
        "amplitude_1": of_first(extent[..., 0]),
        "amplitude_2": of_first(extent[..., 1]),
    }
