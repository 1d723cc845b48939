"""Where do trajectories in a box of the plane come from and go to? Points, cycles, or out."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from rnnlab.analysis.periodic_orbits import periodic_orbits
from rnnlab.integrate import integrate
from rnnlab.systems import VectorField

ROUNDS = (1 / 8, 1 / 4, 1.0)  # parts of the duration after which what has come to an end is done with
TOLERANCE = 1e-6  # of trajectories that only have to tell where they end
CLOSED = 0.1  # miss of a return, relative to the size of the loop, from which a cycle is looked for
EDGE = 1e-3  # distance from the box, relative to it, that is not outside: sinks may lie on its edge
REST = 1e-5  # way in a quarter of the time, relative to the box, that is none
FAILURES = 2  # trajectories that lead to no cycle, after which no more are looked into
SAMPLES = 4000  # of a trajectory in which returns are looked for


class _Held:
    """The field, forward or backward, slowed down to rest at given points and far outside of the box."""

    def __init__(
        self, field: VectorField, points: Tensor, radius: Tensor, low: Tensor, high: Tensor, sign: int
    ) -> None:
        self.field, self.points, self.square, self.sign = field, points, radius**2, sign
        self.low, self.high = low, high

    def velocity(self, x: Tensor) -> Tensor:
        square = (x[..., None, :] - self.points).square().sum(-1)
        beyond = torch.maximum(self.low - x, x - self.high).clamp(min=0) / (self.high - self.low)
        v = self.field.velocity(x)
        # what runs away must not do so in finite time; smooth, or else the steps would be short
        outside = 100 * beyond.square().sum(-1).square() * (1 + v.norm(dim=-1))
        brake = (square / (square + self.square)).prod(-1) / (1 + outside)
        return self.sign * brake[..., None] * v


class Cycles:
    """The limit cycles that trajectories have come to, each found once.

    Args:
        field: A planar vector field.
        box: Corners, `(2,)` each.
        duration: How long a trajectory is followed in search of a return: no cycle has a longer period.

    Attributes:
        found: Curves `(phase, 2)` with period and type, "stable", "unstable" or "non-hyperbolic".
    """

    def __init__(self, field: VectorField, box: tuple[Tensor, Tensor], duration: float) -> None:
        self.field, self.box, self.duration = field, box, duration
        self.found: list[tuple[np.ndarray, float, str]] = []
        self.failures = 0

    def hold(self, states: Tensor, sign: int) -> Tensor:
        """Which states, reached forward (1) or backward (-1) in time, lie on a cycle, known or now found."""
        none = torch.zeros(0, 2, dtype=torch.float64)
        held = _Held(self.field, none, none[:, 0], *self.box, sign=sign)
        misses = 0
        for x in states:
            if misses == FAILURES or self.failures == FAILURES:
                break
            if self._on(x):
                continue
            loop = _loop(held, x, self.duration)
            if loop is None:
                misses += 1
                continue
            curve, period = loop
            # backward in time it is run through the other way
            self._solve(curve if sign > 0 else np.roll(curve[::-1], 1, 0), period)
            self.failures += not self._on(x)
        return torch.tensor([self._on(x) for x in states], dtype=torch.bool)

    def _on(self, x: Tensor) -> bool:
        """Whether a state lies on a cycle, of which 64 points are known."""
        for curve, _, _ in self.found:
            gap = np.linalg.norm(curve - np.roll(curve, 1, 0), axis=-1).max()
            if np.linalg.norm(curve - x.numpy(), axis=-1).min() <= gap:
                return True
        return False

    def _solve(self, curve: np.ndarray, period: float) -> None:
        orbits = periodic_orbits(
            self.field,
            torch.from_numpy(curve[:1].copy()),
            candidates=0,
            known=torch.from_numpy(curve.copy())[None],
            known_period=torch.tensor([period], dtype=torch.float64),
        )
        for i in range(orbits.sizes["orbit"]):
            new, kind = orbits.point.values[i], str(orbits.kind.values[i])
            if not self._on(torch.from_numpy(new[0])):
                stability = kind if kind == "non-hyperbolic" else kind.split()[0]
                self.found.append((new, float(orbits.period[i]), stability))


def fates(
    field: VectorField,
    x0: Tensor,
    points: Tensor,
    holds: Tensor,
    radius: Tensor,
    box: tuple[Tensor, Tensor],
    duration: float,
    cycles: Cycles | None = None,
) -> np.ndarray:
    """Which of some points trajectories tend to.

    A trajectory has come to a point if it is within its radius for the second half of the time. Near points
    that hold for good what comes near (sinks, or sources backward in time) time runs slower and slower, so
    that they do not limit the steps of the others.

    Args:
        field: A planar vector field.
        x0: Starts, `(start, 2)`.
        points: Fixed points, `(point, 2)`.
        holds: Which of them hold what comes near, in this direction of time, `(point)`.
        radius: Of each point, `(point)`.
        box: Corners, `(2,)` each.
        duration: How long; negative for backward in time.
        cycles: Where limit cycles are collected. Without, none are looked for.

    Returns:
        For each start the row of its point; -1 if it came to nothing, -2 if it is outside of the box, -3 if
        it rests where no point is known, on a continuum of them, and -4 if it is on a limit cycle.
    """
    sign, size = 1 if duration > 0 else -1, float((box[1] - box[0]).max())
    held = _Held(field, points[holds], radius[holds], *box, sign=sign)
    label, end = torch.full_like(x0[:, 0], -1, dtype=torch.int64), x0.clone()
    for part in ROUNDS:
        rows, last = (label == -1).nonzero()[:, 0], part == ROUNDS[-1]
        if not len(rows):
            break
        times = part * abs(duration) * torch.tensor([0.5, 0.75, 1.0], dtype=x0.dtype)
        path = integrate(held, end[rows], times, tolerance=TOLERANCE)
        # what has not come to stay may only be passing by
        near = (torch.cdist(path, points) <= radius).all(0) & (holds | last)
        inside = ((path[-1] >= box[0] - EDGE * size) & (path[-1] <= box[1] + EDGE * size)).all(-1)
        rests = (path[-1] - path[-2]).norm(dim=-1) <= REST * size
        free = torch.where(inside, torch.where(rests & last, -3, -1), -2)
        come = near.to(torch.int8).argmax(-1) if len(points) else free
        label[rows], end[rows] = torch.where(near.any(-1), come, free), path[-1]
        if cycles is not None and part != ROUNDS[0]:
            rows = (label == -1).nonzero()[:, 0]
            label[rows[cycles.hold(end[rows], sign)]] = -4
    return label.numpy()


def _loop(field: _Held, x: Tensor, duration: float) -> tuple[np.ndarray, float] | None:
    """A closed curve near the trajectory from `x`, equally spaced in time, and its period."""
    normal = field.velocity(x[None])[0].numpy()
    for time in (duration / 64, duration / 8, duration):
        times = torch.linspace(0, time, SAMPLES, dtype=x.dtype)
        path = integrate(field, x[None], times, tolerance=1e-8)[:, 0].numpy()
        along = (path - path[0]) @ normal
        reach = np.maximum.accumulate(np.linalg.norm(path - path[0], axis=-1))
        for i in np.flatnonzero((along[:-1] < 0) & (along[1:] >= 0)):
            part = along[i] / (along[i] - along[i + 1])
            miss = (1 - part) * path[i] + part * path[i + 1] - path[0]
            if np.linalg.norm(miss) > CLOSED * reach[i]:
                continue
            share = np.arange(512) / 512
            at = (i + part) * share
            curve = np.stack([np.interp(at, np.arange(len(path)), row) for row in path.T], -1)
            return curve - share[:, None] * miss, float((i + part) * time / (SAMPLES - 1))
    return None
