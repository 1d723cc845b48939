"""Periodic orbits of maps, from close returns of trajectories, by multiple shooting."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from rnnlab.analysis.shooting import first_phase, multipliers, newton_step, rounding
from rnnlab.analysis.states import to_numpy
from rnnlab.systems import bounds, jacobian

Known = tuple[Tensor, np.ndarray]

# an orbit whose error estimate is larger, relative to its size, is not determined by its equations
DEGENERATE = 1e-6
# entries of the Jacobians that are held at once
ENTRIES = 2**23


class Orbit(NamedTuple):
    """One orbit of a map, or one cycle of a flow, of one probe."""

    point: np.ndarray
    period: float
    residual: float
    correction: float
    hits: int
    multiplier: np.ndarray = np.empty(0)
    period_error: float = 0.0


def find_orbits(
    system: Any,
    x0: Tensor,
    *,
    periods: set[int],
    steps: int,
    candidates: int,
    known: Known | None,
    tolerance: float,
    max_iterations: int,
    progress: bool,
) -> tuple[list[list[Orbit]], dict[str, np.ndarray]]:
    """Orbits of a map, each once, with its prime period; see `periodic_orbits`, whose options these are.

    Args:
        system: The map.
        x0: Initial states, `(sample, state)` or `(probe, sample, state)`.
        periods: Periods to look for.
        steps: Time steps in which returns are sought.
        candidates: Returns that are tried at each period. With 0 only known orbits are followed.
        known: Orbits to start from, `(*probe, orbit, phase, state)`, and their periods `(*probe, orbit)`.
        tolerance: Largest residual, relative to the size of the state.
        max_iterations: Newton steps.
        progress: Show a bar.

    Returns:
        The orbits of each probe, and of each probe how many candidates started, did not converge, and
        converged to what is no isolated orbit.
    """
    search = _Search(system, x0, tolerance, max_iterations)
    trail = _trail(system, x0, steps + max(periods)) if candidates else None
    every = set(periods) if candidates else set()
    if known is not None:
        every |= {int(p) for p in np.unique(known[1]) if p > 0}
    divisors = {d for p in every for d in _divisors(p)}
    for p in tqdm(sorted(divisors, reverse=True), "periodic orbits", disable=not progress):
        near = _returns(trail, p, steps, candidates) if trail is not None and p in periods else None
        search.at(p, near, _of_period(known, p))
    return search.found, search.counts


def _divisors(p: int) -> list[int]:
    return [d for d in range(1, p + 1) if p % d == 0]


def _of_period(known: Known | None, p: int) -> list[Tensor]:
    """Known orbits of period p of each probe, `(orbit, p, state)`."""
    if known is None:
        return []
    points = known[0].reshape(-1, *known[0].shape[-3:])
    chosen = torch.from_numpy(known[1] == p).to(points.device).reshape(len(points), -1)
    return [x[rows][:, :p] for x, rows in zip(points, chosen, strict=True)]


def _trail(system: Any, x0: Tensor, steps: int) -> Tensor:
    """Trajectories `(probe, sample, time, state)`, from `x0` on."""
    x, states = x0, [x0]
    for _ in range(steps):
        x = system.step(x)
        states.append(x)
    trail = torch.stack(states, -2)
    return trail if x0.ndim == 3 else trail.unsqueeze(0)


def _returns(trail: Tensor, p: int, steps: int, number: int) -> tuple[Tensor, Tensor]:
    """The candidates at period p: `(probe, candidate, p, state)`, and which of them are padding."""
    probes, samples, length, n = trail.shape
    gap = (trail[..., p : p + steps, :] - trail[..., :steps, :]).norm(dim=-1)
    # what does not change along an orbit: means of three components and of their squares
    mixed = trail
    if n > 3:
        mix = torch.randn(n, 3, dtype=trail.dtype, generator=torch.Generator().manual_seed(0)) / math.sqrt(n)
        mixed = trail @ mix.to(trail.device)
    mixed = torch.cat((mixed, mixed**2), -1)[..., : steps + p, :]
    total = torch.cat((torch.zeros_like(mixed[..., :1, :]), mixed.cumsum(-2)), -2)
    mean = (total[..., p : p + steps, :] - total[..., :steps, :]) / p
    usable = gap.isfinite() & mean.isfinite().all(-1)
    gap, mean = to_numpy(gap.where(usable, math.inf)), to_numpy(mean)
    rows = []
    for distance, sign in zip(
        gap.reshape(probes, -1), mean.reshape(probes, samples * steps, -1), strict=True
    ):
        order = np.argsort(distance, kind="stable")
        order = order[np.isfinite(distance[order])]
        typical = sign[order[: len(order) // 2 + 1]]
        cell = 0.01 / p * (typical.std(0) + 1e-3 * np.abs(typical).max(0) + 1e-30) if len(order) else 1.0
        _, first = np.unique(np.round(sign[order] / cell), axis=0, return_index=True)
        near = order[np.sort(first)[:number]]
        starts = np.arange(min(samples, max(number // 4, 1))) * steps
        rows.append(np.concatenate((near, np.setdiff1d(starts, near))))
    width = max(map(len, rows))
    index = np.stack([np.pad(row, (0, width - len(row)), mode="edge") for row in rows])
    real = np.arange(width) < np.array([len(row) for row in rows])[:, None]
    first = index // steps * length + index % steps
    flat = torch.from_numpy(first[..., None] + np.arange(p)).to(trail.device)
    states = trail.reshape(probes, samples * length, 1, n)
    take = flat.reshape(probes, -1, 1, 1).expand(-1, -1, 1, n)
    x = states.gather(1, take).reshape(probes, width, p, n)
    # a trajectory that ran away: stay where it started
    x = torch.where(x.isfinite().all(-1, keepdim=True), x, x[..., :1, :])
    return x, torch.from_numpy(real).to(trail.device)


class _Search:
    """What was found so far, at falling periods: orbits that repeat themselves wait for their prime one."""

    def __init__(self, system: Any, x0: Tensor, tolerance: float, iterations: int) -> None:
        self.system, self.tolerance, self.iterations = system, tolerance, iterations
        self.lead = x0.shape[:-2]
        probes = self.lead.numel()
        self.cap = x0.abs().amax((-1, -2)).clamp(min=1).reshape(probes, 1)
        self.found: list[list[Orbit]] = [[] for _ in range(probes)]
        self.waiting: list[dict[int, list[Orbit]]] = [defaultdict(list) for _ in range(probes)]
        self.counts = {name: np.zeros(probes, int) for name in ("starts", "not_converged", "degenerate")}

    def at(self, p: int, near: tuple[Tensor, Tensor] | None, known: list[Tensor]) -> None:
        """Search orbits of period p from returns, those known and those waiting."""
        x, hits, waited = self._starts(p, near, known)
        if not x.shape[1]:
            return
        size = max(1, ENTRIES // (len(x) * p * x.shape[-1] ** 2))
        parts = [self._newton(part) for part in x.split(size, 1)]
        x, residual, correction = (torch.cat(part, 1) for part in zip(*parts, strict=True))
        scale = _scale(x)
        solved = (residual <= self.tolerance * scale) & (hits > 0)
        sure = solved & (correction <= DEGENERATE * scale)
        # those that waited were counted when they started
        self.counts["starts"] += to_numpy((hits * ~waited).sum(-1))
        self.counts["not_converged"] += to_numpy((hits * ~solved).sum(-1))
        self.counts["degenerate"] += to_numpy((hits * (solved & ~sure)).sum(-1))
        primes = []
        for probe, rows in enumerate(sure):
            prime: list[Orbit] = []
            for orbit in _merge(*(to_numpy(part[probe][rows]) for part in (x, residual, correction, hits))):
                d = _prime(orbit)
                room = prime if d == p else self.waiting[probe][d]
                room.append(orbit._replace(point=orbit.point[:d], period=d))
            primes.append(prime)
        for found, new in zip(self.found, self._with_multipliers(primes), strict=True):
            found += new

    def _starts(
        self, p: int, near: tuple[Tensor, Tensor] | None, known: list[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """First guesses `(probe, candidate, p, state)`, for how many each stands, and whether it waited."""
        rows = []
        for probe, waiting in enumerate(self.waiting):
            late = waiting.pop(p, [])
            x = [torch.from_numpy(orbit.point).to(self.cap.device) for orbit in late]
            hits = [orbit.hits for orbit in late]
            old = list(known[probe]) if known else []
            new = [] if near is None else list(near[0][probe][near[1][probe]])
            rows.append((x + old + new, hits + [1] * (len(old) + len(new)), len(late)))
        width = max(len(x) for x, _, _ in rows)
        if not width:
            return torch.empty(len(rows), 0), torch.empty(0), torch.empty(0)
        # rows of a batch have one length: repeat a guess, standing for nobody
        spare = next(x[0] for x, _, _ in rows if x)
        x = torch.stack(
            [torch.stack((x or [spare]) + (x or [spare])[:1] * (width - max(len(x), 1))) for x, _, _ in rows]
        )
        hits = torch.tensor([hits + [0] * (width - len(hits)) for _, hits, _ in rows])
        waited = torch.arange(width) < torch.tensor([late for _, _, late in rows])[:, None]
        return x, hits.to(x.device), waited.to(x.device)

    def _segments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Misses F(x_i) - x_{i+1} and Jacobians along guesses `(probe, candidate, p, state)`."""
        flat = x.reshape(*self.lead, -1, x.shape[-1])
        miss = self.system.step(flat).reshape(x.shape) - x.roll(-1, -2)
        return miss, jacobian(self.system, flat).reshape(*x.shape, x.shape[-1])

    def _newton(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Points, residuals and error estimates `(probe, candidate)` when no step gets shorter any more."""
        residual = torch.full_like(x[..., 0, 0], math.inf)
        correction = residual.clone()
        done = torch.zeros_like(residual, dtype=torch.bool)
        box = bounds(self.system)
        for left in reversed(range(self.iterations + 1)):
            # the candidates at work, of each probe as many as of the busiest
            width = int((~done).sum(-1).max())
            if not width:
                break
            at = done.int().argsort(dim=-1, stable=True)[:, :width]
            wide = at[..., None, None].expand(-1, -1, *x.shape[2:])
            here = x.gather(1, wide)
            miss, J = self._segments(here)
            step, _ = newton_step(J, miss)
            new = miss.norm(dim=-1).amax(-1).nan_to_num(math.inf)
            size = step.norm(dim=-1).amax(-1).nan_to_num(math.inf)
            scale = _scale(here)
            # at a multiple root steps get shorter by a half or a third
            short = (size > 0.75 * correction.gather(1, at)) | (size <= 1e-15 * scale)
            stop = done.gather(1, at) | (new <= self.tolerance * scale) & short | ~size.isfinite()
            residual.scatter_(1, at, new)
            correction.scatter_(1, at, size)
            done.scatter_(1, at, stop)
            factor = (self.cap / size).clamp(max=1)[..., None, None]
            move = ~stop[..., None, None] & (left > 0)
            x = x.scatter(1, wide, torch.where(move, self._inside(here + factor * step, box), here))
        return x, residual, torch.maximum(correction, rounding(self._segments(x)[1], _scale(x)))

    def _inside(self, x: Tensor, box: tuple[Tensor, Tensor] | None) -> Tensor:
        if box is None:
            return x
        return x.reshape(*self.lead, -1, x.shape[-1]).clamp(*box).reshape(x.shape)

    def _with_multipliers(self, orbits: list[list[Orbit]]) -> list[list[Orbit]]:
        width = max(map(len, orbits))
        if not width:
            return orbits
        spare = next(rows[0] for rows in orbits if rows)
        padded = [(rows or [spare]) + (rows or [spare])[:1] * (width - max(len(rows), 1)) for rows in orbits]
        x = torch.from_numpy(np.stack([[orbit.point for orbit in rows] for rows in padded]))
        size = max(1, ENTRIES // (len(x) * x.shape[-2] * x.shape[-1] ** 2))
        parts = x.to(self.cap.device).split(size, 1)
        values = np.concatenate([multipliers(self._segments(part)[1]) for part in parts], 1)
        return [
            [orbit._replace(multiplier=value) for orbit, value in zip(rows, found, strict=False)]
            for rows, found in zip(orbits, values, strict=True)
        ]


def _scale(x: Tensor) -> Tensor:
    """Largest state component along each orbit, `(*batch)`, or one."""
    return x.abs().amax((-1, -2)).clamp(min=1)


def _merge(x: np.ndarray, residual: np.ndarray, correction: np.ndarray, hits: np.ndarray) -> list[Orbit]:
    """Distinct orbits among `(candidate, phase, state)`, the best known of each, in a canonical phase."""
    orbits, p = [], x.shape[1]
    error = 10 * correction + 1e-10 * np.maximum(np.abs(x).max((1, 2), initial=0.0), 1)
    left = np.argsort(error, kind="stable")
    while len(left):
        best = left[0]
        # which phase of the best one is next to the first phase of the others
        shift = np.linalg.norm(x[left, :1] - x[best], axis=-1).argmin(-1)
        turned = x[best][(shift[:, None] + np.arange(p)) % p]
        same = np.abs(x[left] - turned).max((1, 2)) <= error[left] + error[best]
        point = np.roll(x[best], -first_phase(x[best], error[best]), 0)
        orbits.append(
            Orbit(point, p, float(residual[best]), float(correction[best]), int(hits[left[same]].sum()))
        )
        left = left[~same]
    return orbits


def _prime(orbit: Orbit) -> int:
    p, point = len(orbit.point), orbit.point
    error = 20 * orbit.correction + 2e-10 * max(np.abs(point).max(), 1)
    return next(d for d in _divisors(p) if np.abs(point - np.roll(point, d, 0)).max() <= error)
