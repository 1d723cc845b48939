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
REST = 1e-5  # way in a quarter of the time, relative to the box, that is none
FAILURES = 2  # candidates for cycles that lead to none, after which no more are looked into
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
        # what runs away must not do so in finite time
        outside = 100 * beyond.square().sum(-1) * (1 + v.norm(dim=-1))
        brake = (square / (square + self.square)).prod(-1) / (1 + outside)
        return self.sign * brake[..., None] * v


def fates(
    field: VectorField,
    x0: Tensor,
    points: Tensor,
    holds: Tensor,
    radius: Tensor,
    box: tuple[Tensor, Tensor],
    duration: float,
) -> tuple[np.ndarray, Tensor]:
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

    Returns:
        For each start the row of its point; -1 if it came to none, -2 if it is outside of the box, -3 if it
        rests where no point is known, on a continuum of them; and where it is at the end, `(start, 2)`.
    """
    held = _Held(field, points[holds], radius[holds], *box, sign=1 if duration > 0 else -1)
    size = float((box[1] - box[0]).max())
    label, end = torch.full_like(x0[:, 0], -1, dtype=torch.int64), x0.clone()
    for part in ROUNDS:
        rows = label == -1
        if not bool(rows.any()):
            break
        times = part * abs(duration) * torch.tensor([0.5, 0.75, 1.0], dtype=x0.dtype)
        path = integrate(held, end[rows], times, tolerance=TOLERANCE)
        # what has not come to stay may only be passing by
        near = (torch.cdist(path, points) <= radius).all(0) & (holds | (part == ROUNDS[-1]))
        inside = ((path[-1] >= box[0]) & (path[-1] <= box[1])).all(-1)
        rests = (path[-1] - path[-2]).norm(dim=-1) <= REST * size
        free = torch.where(inside, torch.where(rests & (part == ROUNDS[-1]), -3, -1), -2)
        come = near.to(torch.int8).argmax(-1) if len(points) else free
        label[rows], end[rows] = torch.where(near.any(-1), come, free), path[-1]
    return label.numpy(), end


def cycles(
    field: VectorField, ends: list[tuple[int, Tensor]], box: tuple[Tensor, Tensor], duration: float
) -> tuple[list[tuple[np.ndarray, float, str]], int]:
    """The limit cycles on which trajectories have ended.

    Args:
        field: A planar vector field.
        ends: States that came to no point, `(start, 2)`, with the direction of time in which they did not.
        box: Corners, `(2,)` each.
        duration: How long each is followed in search of a return: no cycle has a longer period.

    Returns:
        Curves `(phase, 2)` with period and type, "stable", "unstable" or "non-hyperbolic"; and how many of
        the states lie on none of them.
    """
    none = torch.zeros(0, 2, dtype=torch.float64)
    found: list[tuple[np.ndarray, float, str]] = []
    lost, failures = 0, 0
    for sign, states in ends:
        for x in states:
            if any(_on(curve, x) for curve, _, _ in found):
                continue
            held = _Held(field, none, none[:, 0], *box, sign=sign)
            loop = _loop(held, x, duration) if failures < FAILURES else None
            if loop is None:
                lost, failures = lost + 1, failures + 1
                continue
            curve, period = loop
            # backward in time it is run through the other way
            curve = curve if sign > 0 else np.roll(curve[::-1], 1, 0)
            orbits = periodic_orbits(
                field,
                x[None],
                candidates=0,
                known=torch.from_numpy(curve)[None],
                known_period=torch.tensor([period], dtype=torch.float64),
            )
            new = [
                (orbits.point.values[i], float(orbits.period[i]), _stability(str(orbits.kind.values[i])))
                for i in range(orbits.sizes["orbit"])
            ]
            known = [curve for curve, _, _ in found]
            found += [row for row in new if not any(_on(old, torch.from_numpy(row[0][0])) for old in known)]
            if not any(_on(curve, x) for curve, _, _ in found):
                lost, failures = lost + 1, failures + 1
    return sorted(found, key=lambda row: row[1]), lost


def _stability(kind: str) -> str:
    return kind.split()[0] if kind != "non-hyperbolic" else kind


def _on(curve: np.ndarray, x: Tensor) -> bool:
    """Whether a state lies on a closed curve, of which 64 points are known."""
    gap = np.linalg.norm(curve - np.roll(curve, 1, 0), axis=-1).max()
    return bool(np.linalg.norm(curve - x.numpy(), axis=-1).min() <= gap)


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
