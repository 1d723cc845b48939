"""Where does it return to? Periodic orbits, stable and unstable, with their multipliers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from rnnlab.analysis.limit_cycles import Cycle, find_cycles
from rnnlab.analysis.map_orbits import DEGENERATE, Orbit, find_orbits
from rnnlab.analysis.stability import Stability, classify
from rnnlab.analysis.states import check_states, to_numpy
from rnnlab.systems import System, VectorField, is_flow, observe

# points of a cycle of a flow that are reported
PHASES = 64


@torch.no_grad()
def periodic_orbits(
    system: System | VectorField,
    x0: Tensor,
    *,
    max_period: float | None = None,
    periods: Iterable[int] | None = None,
    duration: float | None = None,
    candidates: int | None = None,
    known: Tensor | None = None,
    known_period: Tensor | None = None,
    tolerance: float = 1e-10,
    max_iterations: int = 20,
    progress: bool = False,
) -> xr.Dataset:
    """Find the periodic orbits, stable and unstable, that trajectories from `x0` pass by.

    **Maps.** A trajectory that nearly returns after p steps shadows an orbit of a period that divides p. For
    every p the nearest returns, one for each region of the state space, are the candidates; so are the first
    p states of trajectories from `x0`. Newton's method then solves for all p points at once,
    x_{i+1} = F(x_i), which converges to unstable orbits as well as to stable ones. An orbit that repeats
    itself within p steps is counted under its prime period. Orbits that agree up to their phase within ten
    times their error bounds are one. Nothing proves that all orbits were found: `unseen` estimates it.

    **Flows.** Limit cycles, of which the period is unknown too, from returns to sections across the flow,
    forward and backward in time. The curve is the solution of collocation equations (of order 8), whose
    intervals are halved until nothing changes by more than 1e-10 or rounding is reached.

    Quasi-periodic motion has no orbits to converge to and yields none.

    Args:
        system: The map or the vector field.
        x0: Initial states, `(sample, state)` or `(probe, sample, state)`.
        max_period: Longest period to look for: time steps of a map (default 8), units of time of a flow
            (default 50).
        periods: For maps, the periods to look for instead. Orbits of periods that divide them are found
            on the way and reported.
        duration: How long trajectories are followed in search of returns, in time steps (default 1000) or
            units of time (default twice `max_period`, forward and backward).
        candidates: How many returns are tried at each period of a map, or in all for a flow. With 0 only
            known orbits are followed. Default: 2048 divided by the number of state components, at least 16
            and at most 256; 16 for flows.
        known: Orbits to start from besides, as `point` of an earlier look: `(orbit, phase, state)` or
            `(probe, orbit, phase, state)`, padded by NaN.
        known_period: Their periods, `(orbit)` or `(probe, orbit)`, without which those of maps follow from
            the padding. Values that are not above zero are padding.
        tolerance: Largest residual of an orbit, relative to its largest state component where that is above
            one.
        max_iterations: Newton steps for each candidate.
        progress: Show a bar over the periods of a map.

    Returns:
        A dataset over (probe,) orbit, phase, state, mode and observable. Orbits are sorted by period, number
        of unstable directions, and first point. What varies in length is padded by NaN, -1 or "".

        - `point` `(orbit, phase, state)`: for a map one phase a time step, beginning where the first
          component (then the second, ...) is smallest; for a flow phases equally apart in time, beginning
          where the first component is largest;
        - `y` `(orbit, phase, observable)`: what is observed there;
        - `period` `(orbit)`: the prime period, an integer for maps;
        - `residual` `(orbit)`: largest norm of F(x_i) - x_{i+1}, all phases considered;
        - `correction` `(orbit)`: error estimate of `point`: the largest norm of the last Newton correction,
          of what one rounding error in every equation does, and for a flow of the change on halving the
          intervals;
        - `multiplier` `(orbit, mode)`: eigenvalues of the derivative around the orbit, by falling modulus;
        - `unstable` `(orbit)`: how many of them lie outside the unit circle;
        - `margin` `(orbit)`: distance of the nearest one to the unit circle. The multiplier along a flow,
          which is 1, counts in none of `unstable`, `margin` and `kind`;
        - `trivial` `(orbit)`, `period_error` `(orbit)`, for flows: how far that multiplier comes out from 1,
          and how much the period changed on halving the intervals;
        - `kind` `(orbit)`: "stable node", "stable focus", "unstable node", "unstable focus", "saddle", or
          "non-hyperbolic" where `margin` is below 1e-6; focus if the multiplier nearest to the unit circle is
          complex;
        - `hits` `(orbit)`: how many candidates led there;
        - `starts`, `not_converged`, `degenerate`: numbers of candidates: all; those that led to no orbit;
          those which satisfy the equations, but so that the orbit is not determined (a continuum of orbits);
        - `unseen`: estimated probability that one more candidate would lead to a new orbit.

    Raises:
        TypeError: `system` is no dynamical system or `x0` no tensor.
        ValueError: An option is out of range, the states are not possible (see `check_states`), or `known`
            does not fit them.

    References:
        Auerbach, Cvitanovic, Eckmann, Gunaratne, Procaccia, "Exploring chaotic motion through periodic
        orbits", Phys. Rev. Lett. 58, 1987: close returns.
        Good, "The population frequencies of species", Biometrika 40, 1953: `unseen`.

    Example:
        >>> import torch
        >>> from rnnlab.maps import Logistic
        >>> found = periodic_orbits(Logistic(3.2), torch.tensor([[0.3]]).double(), max_period=2)
        >>> found.period.values, found.multiplier.real.values.ravel().round(6)
        (array([1, 1, 2]), array([ 3.2 , -1.2 ,  0.16]))
    """
    flow = is_flow(system)
    whole = {"candidates": (candidates, 0), "max_iterations": (max_iterations, 1)}
    times = {"max_period": max_period, "duration": duration}
    if flow:
        for name, value in times.items():
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name}={value!r} is not possible: give a time above 0.")
    else:
        whole |= {name: (value, 1) for name, value in times.items()}
    for name, (value, low) in whole.items():
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < low):
            raise ValueError(f"{name}={value!r} is not possible: give a whole number of at least {low}.")
    wanted = _wanted(flow, max_period, periods)
    if not 0 < tolerance < 1:
        raise ValueError(f"tolerance={tolerance} is not possible: give a number between 0 and 1.")
    check_states(system, x0)
    old = _known(x0, known, known_period, flow)
    if candidates == 0 and old is None:
        raise ValueError("candidates=0 leaves nothing to try: give some, or known orbits to follow.")
    if isinstance(system, VectorField) and flow:
        return _cycles(system, x0, max_period, duration, candidates, old, tolerance, max_iterations)
    number = min(max(2048 // x0.shape[-1], 16), 256) if candidates is None else candidates
    steps = 1000 if duration is None else int(duration)

    found, counted = find_orbits(
        system,
        x0,
        periods=wanted,
        steps=steps,
        candidates=number,
        known=old,
        tolerance=tolerance,
        max_iterations=max_iterations,
        progress=progress,
    )
    data = _assemble(found, counted, x0, system)
    return data.assign_attrs(
        analysis="periodic_orbits",
        periods=sorted(wanted),
        duration=steps,
        candidates=number,
        tolerance=tolerance,
        max_iterations=max_iterations,
    )


def _wanted(flow: bool, max_period: float | None, periods: Iterable[int] | None) -> set[int]:
    if flow:
        if periods is not None:
            raise ValueError("periods is for maps: the periods of a flow are any numbers, give max_period.")
        return set()
    if periods is None:
        return set(range(1, (8 if max_period is None else int(max_period)) + 1))
    if max_period is not None:
        raise ValueError(
            f"max_period={max_period} and periods={periods} together are not possible: give one."
        )
    wanted: set[int] = set()
    for p in periods:
        if not isinstance(p, int | np.integer) or isinstance(p, bool) or p < 1:
            raise ValueError(f"periods with {p!r} are not possible: give whole numbers of at least 1.")
        wanted.add(int(p))
    if not wanted:
        raise ValueError("periods is empty: give at least one, or candidates=0 to follow known orbits only.")
    return wanted


def _cycles(
    field: VectorField,
    x0: Tensor,
    max_period: float | None,
    duration: float | None,
    candidates: int | None,
    old: tuple[Tensor, np.ndarray] | None,
    tolerance: float,
    max_iterations: int,
) -> xr.Dataset:
    longest = 50.0 if max_period is None else float(max_period)
    options = {
        "max_period": longest,
        "duration": 2 * longest if duration is None else float(duration),
        "candidates": 16 if candidates is None else candidates,
        "tolerance": tolerance,
        "max_iterations": max_iterations,
    }
    known = [[] for _ in range(x0.shape[:-2].numel())]
    if old is not None:
        points = to_numpy(old[0]).reshape(len(known), *old[0].shape[-3:])
        for probe, i in np.argwhere(old[1].reshape(len(known), -1) > 0):
            curve = points[probe, i]
            period = float(old[1].reshape(len(known), -1)[probe, i])
            known[probe].append(Cycle(curve[np.isfinite(curve).all(-1)], period))
    found, starts, failed = find_cycles(field, x0, known=known, **options)
    sure = [
        [cycle for cycle in rows if cycle.correction <= DEGENERATE * max(np.abs(cycle.x).max(), 1)]
        for rows in found
    ]
    degenerate = [len(rows) - len(kept) for rows, kept in zip(found, sure, strict=True)]
    counted = {"starts": starts, "not_converged": failed, "degenerate": degenerate}
    data = _assemble([_distinct(rows) for rows in sure], counted, x0, field)
    return data.assign_attrs(analysis="periodic_orbits", **options)


def _distinct(cycles: list[Cycle]) -> list[Orbit]:
    """Cycles that agree within their error estimates are one; at 64 phases each."""
    orbits: list[Orbit] = []
    for cycle in sorted(cycles, key=lambda cycle: (cycle.correction, cycle.period)):
        point = cycle.x[:: len(cycle.x) // PHASES]
        error = 1e-7 * max(np.abs(point).max(), 1)
        for i, orbit in enumerate(orbits):
            near = error + 10 * (cycle.correction + orbit.correction)
            if (
                np.abs(orbit.point - point).max() <= near
                and abs(orbit.period - cycle.period) <= near * cycle.period
            ):
                orbits[i] = orbit._replace(hits=orbit.hits + 1)
                break
        else:
            orbits.append(
                Orbit(
                    point,
                    cycle.period,
                    cycle.residual,
                    cycle.correction,
                    1,
                    cycle.multiplier,
                    cycle.period_error,
                )
            )
    return orbits


def _known(
    x0: Tensor, known: Tensor | None, period: Tensor | None, flow: bool
) -> tuple[Tensor, np.ndarray] | None:
    """Known orbits `(*probe, orbit, phase, state)` and their periods `(*probe, orbit)`."""
    if known is None:
        if period is not None:
            raise ValueError("known_period without known orbits is not possible: give both.")
        return None
    known = torch.as_tensor(known, dtype=x0.dtype, device=x0.device)
    if known.ndim != x0.ndim + 1 or (*known.shape[:-3], known.shape[-1]) != (*x0.shape[:-2], x0.shape[-1]):
        raise ValueError(
            f"known of shape {tuple(known.shape)} does not fit x0 of shape {tuple(x0.shape)}: "
            "give (orbit, phase, state), or (probe, orbit, phase, state)."
        )
    there = known.isfinite().all(-1)
    if period is None:
        if flow:
            raise ValueError("known cycles of a flow need known_period.")
        period = there.sum(-1)
    period = torch.as_tensor(period)
    if period.shape != known.shape[:-2]:
        raise ValueError(
            f"known_period of shape {tuple(period.shape)} does not fit known of shape {tuple(known.shape)}."
        )
    if not flow:
        first = torch.arange(known.shape[-2], device=known.device) < period.unsqueeze(-1)
        if bool((first & ~there).any()) or bool((period > known.shape[-2]).any()):
            raise ValueError("known holds fewer points of an orbit than known_period says.")
    return known, to_numpy(period)


def _assemble(
    found: list[list[Orbit]],
    counted: Mapping[str, Sequence[int] | np.ndarray],
    x0: Tensor,
    system: System | VectorField,
) -> xr.Dataset:
    """The dataset of the orbits found of each probe."""
    flow = is_flow(system)
    kinds = [
        [classify(_transversal(orbit.multiplier) if flow else orbit.multiplier) for orbit in rows]
        for rows in found
    ]
    table = [
        sorted(zip(rows, names, strict=True), key=lambda row: _rank(*row))
        for rows, names in zip(found, kinds, strict=True)
    ]
    number = max(map(len, table))
    phases = max((len(orbit.point) for rows in found for orbit in rows), default=0)
    n = x0.shape[-1]
    shape = (len(table), number)

    point = np.full((*shape, phases, n), np.nan)
    multiplier = np.full((*shape, n), complex(np.nan, np.nan))
    names = ("residual", "correction", "margin") + ("period_error", "trivial") * flow
    real = {name: np.full(shape, np.nan) for name in names}
    whole = {name: np.full(shape, -1) for name in ("unstable", "hits")}
    period = np.full(shape, np.nan) if flow else np.full(shape, -1)
    name = np.full(shape, "", dtype="<U14")
    for probe, rows in enumerate(table):
        for i, (orbit, (unstable, what, margin)) in enumerate(rows):
            at = probe, i
            point[probe, i, : len(orbit.point)] = orbit.point
            multiplier[at], period[at], name[at] = orbit.multiplier, orbit.period, what
            real["residual"][at], real["correction"][at] = orbit.residual, orbit.correction
            if flow:
                real["period_error"][at] = orbit.period_error
                real["trivial"][at] = np.abs(orbit.multiplier - 1).min()
            real["margin"][at], whole["unstable"][at], whole["hits"][at] = margin, unstable, orbit.hits

    there = np.isfinite(point[..., 0])
    states = torch.from_numpy(np.where(there[..., None], point, 0.0)).to(x0.device)
    # an orbit of zeros more, so that there is something to observe
    rows = torch.cat((states.flatten(1, 2), states.new_zeros(len(table), 1, n)), 1)
    y = to_numpy(observe(system, rows.reshape(*x0.shape[:-2], -1, n)).double())
    y = y.reshape(len(table), -1, y.shape[-1])[:, :-1].reshape(*there.shape, y.shape[-1])
    y = np.where(there[..., None], y, np.nan)
    singles = np.array([sum(orbit.hits == 1 for orbit in rows) for rows in found])
    hits = np.array([sum(orbit.hits for orbit in rows) for rows in found])
    orbit = ("probe", "orbit") if x0.ndim == 3 else ("orbit",)

    def shaped(values: np.ndarray) -> np.ndarray:
        return values if x0.ndim == 3 else values[0]

    units = {"units": "time units" if flow else "time steps"}
    return xr.Dataset(
        {
            "point": ((*orbit, "phase", "state"), shaped(point)),
            "y": ((*orbit, "phase", "observable"), shaped(y)),
            "period": (orbit, shaped(period), units),
            **{key: (orbit, shaped(values)) for key, values in {**real, **whole}.items()},
            "kind": (orbit, shaped(name)),
            "multiplier": ((*orbit, "mode"), shaped(multiplier)),
            **{key: (orbit[:-1], shaped(np.array(count))) for key, count in counted.items()},
            "unseen": (orbit[:-1], shaped(np.where(hits > 0, singles / np.maximum(hits, 1), 1.0))),
        }
    )


def _transversal(multiplier: np.ndarray) -> np.ndarray:
    """Without the multiplier along the flow, which is 1."""
    return np.delete(multiplier, np.argmin(np.abs(multiplier - 1)))


def _rank(orbit: Orbit, stability: Stability) -> tuple[Any, ...]:
    return round(orbit.period, 6), int(stability.unstable), tuple(orbit.point[0].round(6) + 0.0)
