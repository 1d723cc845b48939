"""Limit cycles of vector fields, stable and unstable: periods, points and Floquet multipliers."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.polynomial import legendre
from scipy.integrate import solve_ivp
from torch import Tensor

from rnnlab.analysis.shooting import first_phase, multipliers, newton_step, rounding
from rnnlab.analysis.states import one_thread, to_numpy
from rnnlab.systems import VectorField, jacobian

STAGES = 4
FEWEST, MOST = 32, 2048
# change on halving the intervals, relative to the size of the state: aimed at, and the most that is accepted
ACCURATE, ACCEPTED = 1e-10, 1e-6
# entries of the stage equations that are held at once
ENTRIES = 2**23


def gauss() -> tuple[Tensor, Tensor, np.ndarray]:
    """Butcher's tableau (a, b, c) of the Gauss method with `STAGES` stages, of order twice that."""
    nodes, weights = legendre.leggauss(STAGES)
    c, k = (nodes + 1) / 2, np.arange(1, STAGES + 1)
    a = (c[:, None] ** k / k) @ np.linalg.inv(c[:, None] ** (k - 1))
    return torch.from_numpy(a), torch.from_numpy(weights / 2), c


class Cycle(NamedTuple):
    """A closed curve: states `(interval, state)` equally apart in time, and the time once around."""

    x: np.ndarray
    period: float
    residual: float = math.inf
    correction: float = math.inf
    period_error: float = math.inf
    settled: bool = False
    multiplier: np.ndarray = np.empty(0)


def find_cycles(
    field: VectorField,
    x0: Tensor,
    *,
    max_period: float,
    duration: float,
    candidates: int,
    known: list[list[Cycle]],
    tolerance: float,
    max_iterations: int,
) -> tuple[list[list[Cycle]], list[int], np.ndarray]:
    """Limit cycles of every probe from the recurrences of trajectories, forward and backward in time.

    Where a trajectory comes back to the plane through one of its states across the flow, near that state, it
    shadows a cycle. Newton's method solves for the whole curve and its period at once, by collocation at the
    Gauss points of equal intervals, which is multiple shooting with an implicit Runge-Kutta method of order
    8. The intervals are halved until nothing changes any more.

    Args:
        field: The vector field.
        x0: Initial states, `(sample, state)` or `(probe, sample, state)`.
        max_period: Longest time of return.
        duration: How long trajectories are followed, in either direction of time.
        candidates: How many returns are tried for each probe.
        known: Cycles to start from besides, for each probe.
        tolerance: Largest residual of the collocation equations, relative to the size of the state.
        max_iterations: Newton steps.

    Returns:
        For each probe the cycles that converged, which may be the same again and again, each turned to begin
        where the first component is largest; how many candidates there were; and how many failed.

    References:
        Doedel, Keller, Kernevez, "Numerical analysis and control of bifurcation problems (II)", Int. J.
        Bifurcation and Chaos 1, 1991: collocation for cycles.
        Ascher, Mattheij, Russell, "Numerical Solution of Boundary Value Problems", 1988.
    """
    guesses = [list(rows) for rows in known]
    step = math.inf
    if candidates:
        paths = [_trajectory(field, x0, sign * duration) for sign in (1, -1)]
        step = min(mean for _, _, mean in paths)
        future, past = (_recurrences(x, dt, max_period) for x, dt, _ in paths)
        for rows, ahead, behind in zip(guesses, future, past, strict=True):
            # those of the past run backwards
            turned = [(rank, Cycle(np.roll(c.x[::-1], 1, 0), c.period)) for rank, c in behind]
            ranked = sorted(_distinct(ahead) + _distinct(turned), key=lambda pair: pair[0])
            rows += [cycle for _, cycle in ranked[:candidates]]
    starts = [len(rows) for rows in guesses]
    if not any(starts):
        return guesses, starts, np.zeros(len(guesses), int)
    solver = _Collocation(field, x0, tolerance, max_iterations)
    done: list[list[Cycle]] = [[] for _ in guesses]
    open_: list[list[Cycle]] = [[] for _ in guesses]
    m = FEWEST
    while m <= MOST:
        finer = solver(open_, m)
        for probe, rows in enumerate(finer):
            done[probe] += [cycle for cycle in rows if cycle.settled]
        # beside those that go on come the guesses that ask for as many intervals as this
        fresh = [[cycle for cycle in rows if _intervals(cycle, step) == m] for rows in guesses]
        # a curve that runs through a cycle several times is followed once
        fresh = solver([[_once(cycle) for cycle in rows] for rows in solver(fresh, m)], m)
        open_ = [[c for c in rows if not c.settled] + new for rows, new in zip(finer, fresh, strict=True)]
        m *= 2
    # turned on their own intervals, each size by itself
    final: list[list[Cycle]] = [[] for _ in done]
    for m in sorted({len(cycle.x) for rows in done for cycle in rows}):
        turned = solver([[_turned(cycle) for cycle in rows if len(cycle.x) == m] for rows in done], m)
        for rows, more in zip(final, solver.with_multipliers(turned, m), strict=True):
            rows += more
    failed = np.array(starts) - np.array([len(rows) for rows in final])
    return final, starts, failed


def _intervals(cycle: Cycle, step: float) -> int:
    """With how many intervals to begin, where the integrator made steps of this mean length."""
    needed = cycle.period / step if math.isfinite(step) else len(cycle.x)
    return min(max(2 ** math.ceil(math.log2(max(needed, 1))), FEWEST), MOST // 2)


def _trajectory(field: VectorField, x0: Tensor, duration: float) -> tuple[np.ndarray, float, float]:
    """States `(probe, sample, time, state)`, their spacing in time, and the mean step of the integrator.

    A state that runs away is held where it left: backward in time most do.
    """
    limit = 100 * (1 + x0.abs().amax())
    sign = math.copysign(1.0, duration)

    def slope(_: float, flat: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(flat.reshape(x0.shape)).to(x0.device)
        v = sign * field.velocity(x)
        inside = (x.abs().amax(-1, keepdim=True) < limit) & v.isfinite().all(-1, keepdim=True)
        return to_numpy(torch.where(inside, v, 0.0)).ravel()

    path = solve_ivp(
        slope,
        (0, abs(duration)),
        to_numpy(x0).ravel(),
        method="DOP853",
        rtol=1e-6,
        atol=1e-8,
        dense_output=True,
    )
    end = path.t[-1]
    number = int(min(8 * len(path.t), max(4e7 / x0.numel(), 100)))
    x = path.sol(np.linspace(0, end, number)) if end > 0 else np.empty((x0.numel(), 0))
    n = x0.shape[-1]
    x = x.reshape(-1, *x0.shape[-2:], x.shape[-1]).swapaxes(-1, -2)
    return x.reshape(-1, x0.shape[-2], x.shape[-2], n), end / max(number - 1, 1), end / len(path.t)


def _recurrences(x: np.ndarray, dt: float, max_period: float) -> list[list[tuple[float, Cycle]]]:
    """Returns to sections across the flow, for each probe, with how far they miss: the smaller the better."""
    found: list[list[tuple[float, tuple[int, int, float, np.ndarray]]]] = [[] for _ in x]
    length = x.shape[2]
    for start in range(0, length - 2, max(length // 64, 1)):
        far = min(start + int(max_period / dt) + 2, length)
        away = x[:, :, start:far] - x[:, :, start, None]
        along = (away * (x[:, :, start + 1] - x[:, :, start])[:, :, None]).sum(-1)
        crossing = (along[..., :-1] < 0) & (along[..., 1:] >= 0)
        reach = np.maximum.accumulate(np.abs(away).max(-1), -1)
        for probe, sample, lag in np.argwhere(crossing):
            before, after = along[probe, sample, lag : lag + 2]
            part = before / (before - after)
            gap = (1 - part) * away[probe, sample, lag] + part * away[probe, sample, lag + 1]
            miss = np.abs(gap).max() / reach[probe, sample, lag]
            period = (lag + part) * dt
            if not miss < 0.3:
                continue
            # half as long and twice as far are worth the same; what misses by 1e-3 is near enough
            found[probe].append(((miss + 1e-3) * period, (sample, start, lag + part, gap)))
    cycles = []
    for probe, rows in enumerate(found):
        cycles.append([])
        for rank, (sample, start, lag, gap) in sorted(rows, key=lambda row: row[0])[:256]:
            share = np.arange(8 * FEWEST) / (8 * FEWEST)
            at = start + lag * share
            low = np.minimum(at.astype(int), length - 2)
            path = x[probe, sample]
            curve = path[low] + (at - low)[:, None] * (path[low + 1] - path[low])
            cycles[-1].append((rank, Cycle(curve - share[:, None] * gap, lag * dt)))
    return cycles


def _distinct(ranked: list[tuple[float, Cycle]]) -> list[tuple[float, Cycle]]:
    """One guess, the best, of those through about the same region."""
    seen, kept = set(), []
    for rank, cycle in ranked:
        size = np.ptp(cycle.x, 0).max()
        mark = tuple(np.round(np.concatenate((cycle.x.mean(0), cycle.x.std(0))) / (0.05 * size)))
        if mark not in seen:
            seen.add(mark)
            kept.append((rank, cycle))
    return kept


def resampled(x: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The trigonometric interpolant of points equally apart, at shares `(*many)` of the period."""
    m = len(x)
    wave = np.arange(m // 2 + 1)
    weight = np.where((wave == 0) | (2 * wave == m), 1.0, 2.0)[:, None] / m
    phase = 2j * np.pi * at[..., None] * wave
    return (np.exp(phase) @ (weight * np.fft.rfft(x, axis=0))).real


def _once(cycle: Cycle) -> Cycle:
    """The part of the curve after which it repeats itself."""
    m = len(cycle.x)
    for k in range(16, 1, -1):
        shifted = resampled(cycle.x, np.arange(m) / m + 1 / k)
        if np.abs(shifted - cycle.x).max() <= 1e-4 * np.ptp(cycle.x, 0).max():
            return Cycle(resampled(cycle.x, np.arange(m) / (m * k)), cycle.period / k)
    return cycle


def _turned(cycle: Cycle) -> Cycle:
    """The same curve from where its first component (then the second, ...) is largest."""
    m = len(cycle.x)
    at = np.arange(8 * m) / (8 * m)
    first = resampled(cycle.x[:, :1], at)[:, 0]
    top = (first >= np.roll(first, 1)) & (first > np.roll(first, -1))
    if not top.any():
        return cycle
    at = at[top]
    coefficients = np.fft.rfft(cycle.x[:, 0]) * 2j * np.pi * np.arange(m // 2 + 1)
    slope = np.fft.irfft(coefficients, m)
    curvature = np.fft.irfft(coefficients * 2j * np.pi * np.arange(m // 2 + 1), m)
    for _ in range(4):
        bend = resampled(curvature[:, None], at)[:, 0]
        move = -resampled(slope[:, None], at)[:, 0] / np.where(bend == 0, -1, bend)
        at = at + np.clip(np.nan_to_num(move), -1 / (8 * m), 1 / (8 * m))
    tops = resampled(cycle.x, at)
    start = at[first_phase(-tops, 1e-6 * np.ptp(cycle.x, 0).max())]
    return cycle._replace(x=resampled(cycle.x, start + np.arange(m) / m))


class _Collocation:
    """Newton's method on x_{i+1} = x_i + h sum_j b_j f(X_ij), X_ij = x_i + h sum_k a_jk f(X_ik), h = T/m."""

    def __init__(self, field: VectorField, x0: Tensor, tolerance: float, iterations: int) -> None:
        self.field, self.tolerance, self.iterations = field, tolerance, iterations
        self.lead, self.device = x0.shape[:-2], x0.device
        self.cap = x0.abs().amax((-1, -2)).clamp(min=1).reshape(self.lead.numel(), 1)
        a, b, self.c = gauss()
        self.a, self.b = a.to(x0.device), b.to(x0.device)

    def __call__(self, guesses: list[list[Cycle]], m: int) -> list[list[Cycle]]:
        """The cycles with `m` intervals that the guesses lead to; those that lead nowhere are dropped."""
        found: list[list[Cycle]] = [[] for _ in guesses]
        for batch in self._batches(guesses, m):
            x, X, T = self._guess(batch, m)
            x, T, residual, correction = (to_numpy(part) for part in self._newton(x, X, T))
            for probe, rows in enumerate(batch):
                for i, old in enumerate(rows):
                    new = old._replace(x=x[probe, i], period=float(T[probe, i]), residual=residual[probe, i])
                    size = _size(new)
                    # where nothing moves any time is a period
                    moves = np.ptp(new.x, 0).max() > 1e-6 * size
                    if not (
                        new.residual <= self.tolerance * size
                        and correction[probe, i] <= 1e-6 * size
                        and moves
                    ):
                        continue
                    if m == 2 * len(old.x):
                        new = _compared(old, new, correction[probe, i])
                    found[probe].append(new)
        return found

    def with_multipliers(self, cycles: list[list[Cycle]], m: int) -> list[list[Cycle]]:
        """The same with their multipliers, and with rounding in their error estimates."""
        found: list[list[Cycle]] = [[] for _ in cycles]
        for batch in self._batches(cycles, m):
            x, X, T = self._guess(batch, m)
            _, _, A, c, _ = self._equations(x, X, T)
            scale = x.abs().amax((-1, -2)).clamp(min=1)
            errors = to_numpy(rounding(A, scale, (c, self._across(x))))
            for new, rows, values, error in zip(found, batch, multipliers(A), errors, strict=True):
                new += [
                    cycle._replace(multiplier=value, correction=max(cycle.correction, float(least)))
                    for cycle, value, least in zip(rows, values, error, strict=False)
                ]
        return found

    def _across(self, x: Tensor) -> Tensor:
        """Direction of the flow at the first points `(probe, cycle, state)`, to which steps are normal."""
        first = x[..., 0, :]
        v = self.field.velocity(first.reshape(*self.lead, -1, first.shape[-1])).reshape(first.shape)
        return v / v.norm(dim=-1, keepdim=True)

    def _batches(self, cycles: list[list[Cycle]], m: int) -> list[list[list[Cycle]]]:
        width = max(map(len, cycles), default=0)
        n = next((cycle.x.shape[1] for rows in cycles for cycle in rows), 1)
        size = max(1, ENTRIES // (len(cycles) * m * (STAGES * n) ** 2))
        return [[rows[i : i + size] for rows in cycles] for i in range(0, width, size)]

    def _guess(self, batch: list[list[Cycle]], m: int) -> tuple[Tensor, Tensor, Tensor]:
        """x `(probe, cycle, m, state)`, X `(probe, cycle, m, stage, state)` and T `(probe, cycle)`."""
        width = max(map(len, batch))
        spare = next(rows[0] for rows in batch if rows)
        full = [(rows or [spare]) + (rows or [spare])[:1] * (width - max(len(rows), 1)) for rows in batch]
        at = np.arange(m)[:, None] / m + np.concatenate(([0.0], self.c)) / m
        curves = torch.from_numpy(np.array([[resampled(cycle.x, at) for cycle in rows] for rows in full]))
        T = torch.tensor([[cycle.period for cycle in rows] for rows in full], dtype=curves.dtype)
        curves = curves.to(self.device)
        return curves[..., 0, :], curves[..., 1:, :], T.to(self.device)

    def _equations(self, x: Tensor, X: Tensor, T: Tensor) -> tuple[Tensor, ...]:
        """Residuals; steps of X from those of x and T; A, c and r of every interval, for `newton_step`."""
        n, m = x.shape[-1], x.shape[-2]
        flat = X.reshape(*self.lead, -1, n)
        f = self.field.velocity(flat).reshape(X.shape)
        J = jacobian(self.field, flat).reshape(*X.shape, n)
        h = (T / m)[..., None, None]
        inner = x.unsqueeze(-2) + h.unsqueeze(-1) * (self.a @ f) - X
        outer = x + h * (self.b @ f) - x.roll(-1, -2)
        S = -h[..., None, None, None] * torch.einsum("jk,...kab->...jakb", self.a, J)
        S = S.flatten(-2).flatten(-3, -2)
        S = S + torch.eye(S.shape[-1], dtype=S.dtype, device=S.device)
        eye = torch.eye(n, dtype=S.dtype, device=S.device).repeat(STAGES, 1).expand(*S.shape[:-1], n)
        columns = [eye, (self.a @ f).flatten(-2).unsqueeze(-1) / m, inner.flatten(-2).unsqueeze(-1)]
        with one_thread():
            Y = torch.linalg.solve_ex(S, torch.cat(columns, -1))[0]
        Y = Y.unflatten(-2, (STAGES, n))
        W = h.unsqueeze(-1) * torch.einsum("j,...jab,...jbc->...ac", self.b, J, Y)
        A = W[..., :n] + torch.eye(n, dtype=S.dtype, device=S.device)
        c, r = W[..., n] + (self.b @ f) / m, W[..., n + 1] + outer
        residual = torch.maximum(inner.norm(dim=-1).amax((-1, -2)), outer.norm(dim=-1).amax(-1))
        return residual, Y, A, c, r

    def _newton(self, x: Tensor, X: Tensor, T: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        residual = torch.full_like(T, math.inf)
        correction = residual.clone()
        done = torch.zeros_like(T, dtype=torch.bool)
        for left in reversed(range(self.iterations + 1)):
            new, Y, A, c, r = self._equations(x, X, T)
            d, s = newton_step(A, r, (c, self._across(x)))
            size = d.norm(dim=-1).amax(-1).nan_to_num(math.inf)
            scale = x.abs().amax((-1, -2)).clamp(min=1)
            short = (size > 0.75 * correction) | (size <= 1e-15 * scale)
            residual = torch.where(done, residual, new.nan_to_num(math.inf))
            correction = torch.where(done, correction, size)
            done = done | (residual <= self.tolerance * scale) & short | ~size.isfinite()
            if not left or bool(done.all()):
                break
            factor = torch.minimum(self.cap / size, 0.3 * T / s.abs()).clamp(max=1)
            steps = torch.cat((d, s[..., None, None].expand_as(d[..., :1]), torch.ones_like(d[..., :1])), -1)
            D = torch.einsum("...jab,...b->...ja", Y, steps)
            x = torch.where(done[..., None, None], x, x + factor[..., None, None] * d)
            X = torch.where(done[..., None, None, None], X, X + factor[..., None, None, None] * D)
            T = torch.where(done, T, T + factor * s)
        return x, T, residual, correction


def _size(cycle: Cycle) -> float:
    return max(float(np.abs(cycle.x).max()), 1.0)


def _compared(old: Cycle, new: Cycle, correction: float) -> Cycle:
    """What changed on halving the intervals is the error estimate."""
    change = max(float(np.abs(new.x[::2] - old.x).max()), correction)
    settled = change <= ACCURATE * _size(new)
    # rounding is reached: it does not get better any more
    settled |= change <= ACCEPTED * _size(new) and change > old.correction / 4
    settled |= change <= ACCEPTED * _size(new) and len(new.x) >= MOST
    return new._replace(correction=change, period_error=abs(new.period - old.period), settled=settled)
