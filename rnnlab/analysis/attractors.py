"""Where does it all end? The attractors that a cloud of initial states settles on, and their basins."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr
from scipy.spatial import KDTree
from scipy.special import betaincinv
from torch import Tensor

from rnnlab.analysis.lyapunov import lyapunov_spectrum
from rnnlab.analysis.orbit import orbit
from rnnlab.analysis.periodic_orbits import periodic_orbits
from rnnlab.analysis.rotation import rotation_number
from rnnlab.analysis.states import batch_axes, check_states, to_numpy
from rnnlab.shares import join_rows, shared
from rnnlab.systems import Flow, Observed, System, VectorField, is_flow, observe

KINDS = ("fixed point", "periodic orbit", "torus", "chaos")
GROWTH = 5.0  # nats: an exponent that added up to less, over the run, is not told from zero
PHASES = 256  # of a flow's limit cycle


class _Found(NamedTuple):
    """What is known of one attractor of one probe, or of the orbit from one start."""

    kind: str
    point: np.ndarray
    period: float = -1
    stability: str = ""
    residual: float = math.nan
    exponent: float = math.nan
    error: float = math.nan
    rotation: float = math.nan


@torch.no_grad()
def attractors(
    system: System | VectorField,
    x0: Tensor,
    *,
    known: Tensor | np.ndarray | None = None,
    record: int = 1000,
    max_burn_in: int = 8000,
    max_period: int = 32,
    tolerance: float = 1e-7,
    steps: int = 1000,
    dt: float = 0.1,
    confidence: float = 0.95,
    seed: int = 0,
    progress: bool = False,
) -> xr.Dataset:
    """Find what initial states settle on, and which fraction of them on what.

    Every start is followed until it has settled (see `orbit`) and then recorded. What it has come to is

    - "fixed point" or "periodic orbit", if it returns after p steps and Newton's method finds an orbit of
      period p where it is (see `periodic_orbits`, whose residual and kind are given); or, where the cycle is
      one of a continuum and Newton's method has nothing to converge to, if it closes by its rotation number;
    - "torus", quasi-periodic, if it does not return, though it has settled or its rotation number is known
      and no fraction (see `rotation_number`), and its leading exponent adds up to less than 5 nats over the
      run;
    - "chaos", if it stays finite with a leading exponent that adds up to more than that and is more than
      three standard errors above zero. A long chaotic transient looks the same;
    - "diverged", if it leaves the finite numbers;
    - "undecided" otherwise: too slow, of a period above `max_period`, too weakly chaotic.

    **Flows** are looked at every `dt`. Their limit cycles are "periodic orbit", with the period in units of
    time, verified by following the cycle once; a "torus" is one that does not close.

    **One attractor or two?** Fixed points and cycles are the same if Newton's method ends in the same orbit,
    up to its phase; before it, cycles within sqrt(`tolerance`) are taken together. Limit cycles of flows are
    the same if a point of one lies on the other. Tori and chaotic sets are the same if their records visit
    the same places: 95 % of the points of each have a point of the other as near, within a factor 3, as the
    second half of a record has points of its first half. Near a resonance a torus is visited unevenly; two
    are the same also if averages along them agree, those of 32 random waves, within 1e-3 and what they change
    from half a record to the whole. A torus may still count as several where one beat of the resonance takes
    longer than a record. In more than three dimensions all this is judged in three random projections.

    **Basin fractions** are those of the distribution that the starts were drawn from, with the interval of
    Clopper and Pearson, which holds the truth with at least the probability `confidence`, for each attractor
    by itself. A start on an unstable point stays there and shows as an attractor; `stability` tells.

    Args:
        system: A map, or a vector field.
        x0: Initial states, `(sample, state)` or `(probe, sample, state)`, float64: independent draws.
        known: Fixed points `(index, state)`, or cycles `(orbit, phase, state)`, with a leading probe axis if
            `x0` has one, padded by NaN, as `fixed_points` and `periodic_orbits` return them. Fixed points and
            cycles found here are looked up there.
        record: Time steps to record.
        max_burn_in: Bound on the time steps before.
        max_period: Longest period to look for, in time steps.
        tolerance: What counts as no change, see `orbit`.
        steps: Time steps over which the exponent of what is neither at rest nor periodic is averaged.
        dt: For a vector field only: the time of one step, in four of the integrator. A turn should take more
            than two of them, and `record` some tens of turns. Give a `Flow` for any other division.
        confidence: Of the intervals.
        seed: Of the projections and of the first deviation.
        progress: Show bars.

    Returns:
        A dataset (no `probe` axis where `x0` has none). Attractors are sorted by falling fraction, then kind
        and period. Rows of probes that have fewer are padded by NaN, -1 or "".

        - `label` `(probe, sample)`: its attractor, -1 where undecided or diverged;
        - `kind` `(probe, sample)`;
        - `attractor_kind` `(probe, attractor)`, `stability`: "stable node", ..., where Newton's method tells;
        - `period` `(probe, attractor)`: time steps, 1 for fixed points; for flows units of time, 0 for fixed
          points;
        - `hits`, `fraction`, `fraction_low`, `fraction_high` `(probe, attractor)`;
        - `leading_exponent`, `exponent_error` `(probe, attractor)`: nats per time step, or unit of time for
          flows; from the multipliers, then with error 0, or with its standard error;
        - `rotation` `(probe, attractor)`: of tori, and limit cycles of flows, in turns per time step;
        - `point` `(probe, attractor, state)`: one state of it;
        - `residual` `(probe, attractor)`: how well fixed points and cycles close;
        - `y_mean`, `y_min`, `y_max` `(probe, attractor, observable)`: over the records;
        - `known_index` `(probe, attractor)`: which of `known` it is, -1 for none;
        - `settled` `(probe, sample)`, `undecided`, `diverged` `(probe)`: numbers of starts, `burn_in`.

    Raises:
        TypeError, ValueError: An option is out of range, or the system or the states are refused (see
            `states.check_states`).

    References:
        Clopper, Pearson, "The use of confidence or fiducial limits", Biometrika 26, 1934.
        Menck, Heitzig, Marwan, Kurths, "How basin stability complements the linear-stability paradigm",
        Nature Physics 9, 2013: fractions of basins by sampling.

    Example:
        >>> import torch
        >>> from rnnlab.maps import TanhMap
        >>> found = attractors(TanhMap(2.0), torch.linspace(-1, 0.5, 30).double()[:, None])
        >>> found.attractor_kind.values.tolist(), found.fraction.values.round(2).tolist()
        (['fixed point', 'fixed point'], [0.67, 0.33])
        >>> found.point.values.ravel().round(4).tolist()
        [-0.9575, 0.9575]
    """
    for name, value, least in (
        ("record", record, 8),
        ("max_burn_in", max_burn_in, 1),
        ("max_period", max_period, 1),
        ("steps", steps, 2),
    ):
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ValueError(f"{name}={value!r} is not possible: give a whole number of at least {least}.")
    for name, value, most in (("tolerance", tolerance, math.inf), ("confidence", confidence, 1.0)):
        if not 0 < value < most:
            limit = "above 0" if most == math.inf else "between 0 and 1"
            raise ValueError(f"{name}={value} is not possible: give a number {limit}.")
    if isinstance(system, VectorField) and is_flow(system):
        system = Flow(system, dt, substeps=4)
    check_states(system, x0)
    cycles = _known_cycles(known, x0)
    search = _Search(system, x0, record, max_burn_in, max_period, tolerance, seed)  # pyright: ignore[reportArgumentType]
    search.close_cycles()
    search.judge_the_rest(steps, seed, progress)
    return search.dataset(cycles, confidence).assign_attrs(
        analysis="attractors",
        record=record,
        max_burn_in=max_burn_in,
        max_period=max_period,
        tolerance=tolerance,
        steps=steps,
        confidence=confidence,
        seed=seed,
    )


class _Search:
    """The starts, how far they have come, and what has been found: rows are (probe, sample)."""

    def __init__(
        self,
        system: System,
        x0: Tensor,
        record: int,
        max_burn_in: int,
        max_period: int,
        tolerance: float,
        seed: int,
    ) -> None:
        self.system, self.x0, self.max_period = system, x0, max_period
        self.flow = system if isinstance(system, Flow) else None
        self.unit = 1.0 if self.flow is None else abs(self.flow.dt)
        self.near = math.sqrt(tolerance)
        size = x0.shape[-1]
        self.rows = (x0.shape[:-2].numel(), x0.shape[-2])
        directions = torch.eye(size, dtype=x0.dtype)
        if size > 3:
            generator = torch.Generator().manual_seed(seed)
            directions = torch.linalg.qr(torch.randn(size, 3, dtype=x0.dtype, generator=generator))[0]
        directions = directions.to(x0.device)
        seen = Observed(system, lambda x: torch.cat((observe(system, x), x @ directions), -1))

        def settle(rows: slice) -> xr.Dataset:
            return orbit(
                seen,
                x0[..., rows, :],
                steps=record,
                max_burn_in=max_burn_in,
                tolerance=tolerance,
                max_period=max_period,
            )

        found = join_rows(shared(settle, self.rows[1], in_step=True), "sample")
        y = found.y.values.reshape(*self.rows, record, -1)
        self.y, self.trail = y[..., : -directions.shape[1]], y[..., -directions.shape[1] :]
        self.burn_in = int(found.burn_in)
        self.diverged, self.settled, self.period = (
            found[name].values.reshape(self.rows) for name in ("diverged", "settled", "period")
        )
        last = torch.from_numpy(found.last_state.values).to(x0.device)
        self.last = torch.where(last.isfinite().all(-1, keepdim=True), last, x0)
        self.label = np.full(self.rows, -1)
        self.found: list[list[_Found]] = [[] for _ in range(self.rows[0])]

    def states(self, x: Tensor) -> np.ndarray:
        """States of all rows, `(probe, sample, state)`."""
        return to_numpy(x).reshape(*self.rows, -1)

    def close_cycles(self) -> None:
        """Fixed points and cycles: one Newton's method for all starts that came to the same one."""
        closed = self.settled & (self.period == 1 if self.flow is not None else self.period > 0)
        if not closed.any():
            return
        x, trail = self.last, [self.last]
        for _ in range(1, int(self.period[closed].max())):
            x = self.system.step(x)
            trail.append(x)
        cycles = np.stack([self.states(x) for x in trail], -2)
        leaders: list[list[np.ndarray]] = []
        for probe in range(self.rows[0]):
            members = [cycles[probe, s, : self.period[probe, s]] for s in np.flatnonzero(closed[probe])]
            firsts: list[np.ndarray] = []
            for cycle in members:
                if all(_cycle_gap(cycle, first) > self.near for first in firsts):
                    firsts.append(cycle)
            leaders.append(firsts)
        known = np.full((len(leaders), max(map(len, leaders)), len(trail), x.shape[-1]), np.nan)
        period = np.zeros(known.shape[:2], dtype=int)
        for probe, firsts in enumerate(leaders):
            for i, cycle in enumerate(firsts):
                known[probe, i, : len(cycle)], period[probe, i] = cycle, len(cycle)
        for probe, (orbits, unstable) in enumerate(self._polish(known, period)):
            for s in np.flatnonzero(closed[probe]):
                cycle = cycles[probe, s, : self.period[probe, s]]
                gaps = np.array([_cycle_gap(cycle, points) for points in orbits])
                # where an unstable cycle is near, the stable one that split off it may be what was meant
                gaps[gaps > np.where(unstable, 10 * self.near**2, 2 * self.near)] = math.inf
                if np.isfinite(gaps).any():
                    self.label[probe, s] = int(np.argmin(gaps))

    def _polish(self, known: np.ndarray, period: np.ndarray) -> Iterator[tuple[list[np.ndarray], np.ndarray]]:
        """Newton's method from cycles `(probe, orbit, phase, state)`: of each probe what it ends in."""
        lead = self.x0.shape[:-2]
        polished = periodic_orbits(
            self.system,
            self.last[..., :1, :],
            candidates=0,
            known=torch.from_numpy(known.reshape(*lead, *known.shape[1:])).to(self.x0.device),
            known_period=torch.from_numpy(period.reshape(*lead, -1)),
        )
        for probe, found in enumerate(self.found):
            here = polished.isel(probe=probe) if lead else polished
            here = here.isel(orbit=np.flatnonzero(here.period.values > 0))
            periods = here.period.values.astype(int).tolist()
            cycles = [points[:p] for points, p in zip(here.point.values, periods, strict=True)]
            with np.errstate(divide="ignore"):
                growth = np.log(np.abs(here.multiplier.values).max(-1, initial=0.0))
            for i, p in enumerate(periods):
                found.append(
                    _Found(
                        KINDS[int(p > 1)],
                        cycles[i][0],
                        p if self.flow is None else 0,
                        str(here.kind.values[i]),
                        float(here.residual[i]),
                        growth[i] / p / self.unit,
                        0.0,
                    )
                )
            yield cycles, here.unstable.values > 0

    def judge_the_rest(self, steps: int, seed: int, progress: bool) -> None:
        """Tori, chaos, cycles of flows and cycles that are not isolated, by rotation number and exponent."""
        rest = (self.label < 0) & ~self.diverged
        if not rest.any():
            return
        # as many rows of every probe as the probe that has most of them: repeated where there are fewer
        order = np.argsort(~rest, axis=-1, kind="stable")[:, : rest.sum(-1).max()]
        take = torch.from_numpy(order).to(self.x0.device).reshape(*self.x0.shape[:-2], -1)
        starts = self.last.gather(-2, take[..., None].expand(*take.shape, self.x0.shape[-1]))

        def part_ways(rows: slice) -> xr.Dataset:
            discard = min(steps, 200)
            return lyapunov_spectrum(
                self.system,
                starts[..., rows, :],
                count=1,
                steps=steps,
                discard=discard,
                seed=seed,
                progress=progress,
            )

        spectrum = join_rows(shared(part_ways, starts.shape[-2]), "sample")
        exponent, error = np.full(self.rows, np.nan), np.full(self.rows, np.nan)
        for values, name in ((exponent, "sample_exponent"), (error, "sample_error")):
            np.put_along_axis(values, order, spectrum[name].values.reshape(order.shape), -1)
        self.diverged |= rest & np.isnan(exponent)
        rest &= ~self.diverged
        bound = np.maximum(3 * error, GROWTH / (steps * self.unit))
        turning = rotation_number(torch.from_numpy(self.trail), max_period=self.max_period)
        rotation, turn = turning.rotation.values, turning.kind.values
        neutral = rest & (np.abs(exponent) <= GROWTH / (steps * self.unit))

        kind = np.full(self.rows, "undecided", dtype="<U14")
        kind[rest & ~self.settled & (exponent > bound)] = "chaos"
        kind[neutral & ((turn == "torus") | self.settled)] = "torus"
        kind[neutral & self.settled & (turn == "periodic")] = "periodic orbit"
        period = np.where(kind == "periodic orbit", turning.period.values, -1).astype(float)
        residual, curves = np.full(self.rows, np.nan), None
        if self.flow is not None:
            may = neutral & (turn != "undecided") & (rotation > 0)
            period, residual, curves = self._follow(self.flow, may, rotation)
            kind[kind == "periodic orbit"] = "undecided"
            kind[period > 0] = "periodic orbit"
        states = self.states(self.last)

        def alike(probe: int, s: int, first: int) -> bool:
            """Whether two starts of a probe that came to the same kind came to the same attractor."""
            if kind[probe, s] != "periodic orbit":
                records = self.trail[probe, s], self.trail[probe, first]
                return _same_set(*records) or (kind[probe, s] == "torus" and _same_measure(*records))
            if curves is None:
                p, q = (int(period[probe, i]) for i in (s, first))
                cycles = (self.trail[probe, i, :p] for i in (s, first))
                return p == q and _cycle_gap(*cycles) <= self.near
            curve = curves[probe, first]
            gap = np.linalg.norm(curve - np.roll(curve, 1, 0), axis=-1).max()
            as_long = abs(period[probe, s] / period[probe, first] - 1) < 1e-3
            return as_long and np.linalg.norm(curve - states[probe, s], axis=-1).min() <= gap

        for probe in range(self.rows[0]):
            groups: list[list[int]] = []
            for s in np.flatnonzero(rest[probe] & (kind[probe] != "undecided")).tolist():
                fits = (g for g in groups if kind[probe, g[0]] == kind[probe, s] and alike(probe, s, g[0]))
                group = next(fits, None)
                if group is None:
                    groups.append([s])
                else:
                    group.append(s)
            for group in groups:
                first = group[0]
                name, p = str(kind[probe, first]), period[probe, first]
                if name == "periodic orbit" and self.flow is None:
                    trail = self.trail[probe, first]
                    residual[probe, first] = np.abs(trail[int(p)] - trail[0]).max()
                    name = KINDS[int(p > 1)]
                self.label[probe, group] = len(self.found[probe])
                self.found[probe].append(
                    _Found(
                        name,
                        states[probe, first],
                        p,
                        "non-hyperbolic" if self.flow is None and p > 0 else "",
                        residual[probe, first],
                        exponent[probe, group].mean(),
                        float(np.sqrt((error[probe, group] ** 2).sum())) / len(group),
                        rotation[probe, group].mean() if name in ("torus", "periodic orbit") else math.nan,
                    )
                )

    def _follow(self, flow: Flow, may: np.ndarray, rotation: np.ndarray) -> tuple[np.ndarray, ...]:
        """Limit cycles by their return: periods (-1 for none), residuals, and points equally apart in time.

        A harmonic may have set the rotation number: the first four multiples of its time are tried.
        """
        period, residual = np.full(self.rows, -1.0), np.full(self.rows, np.nan)
        curves = np.full((*self.rows, PHASES, self.x0.shape[-1]), np.nan)
        for multiple in range(1, 5):
            open_ = may & (period < 0)
            if not open_.any():
                break
            time = np.where(open_, multiple * self.unit / np.where(open_, rotation, 1.0), 0.0)
            substeps = math.ceil(time.max() / PHASES / (self.unit / flow.substeps))
            speed = torch.from_numpy(math.copysign(1.0, flow.dt) * time).to(self.x0.device)
            scaled = _Scaled(flow.field, speed.reshape(*self.x0.shape[:-1], 1))
            once = Flow(scaled, 1 / PHASES, substeps)
            x, points = self.last, []
            for _ in range(PHASES):
                points.append(self.states(x))
                x = once.step(x)
            curve = np.stack(points, -2)
            size = np.ptp(curve, -2).max(-1)
            gap = np.abs(self.states(x) - points[0]).max(-1)
            good = open_ & (gap <= self.near * size)
            period[good], residual[good], curves[good] = time[good], gap[good], curve[good]
        return period, residual, curves

    def dataset(self, known: np.ndarray | None, confidence: float) -> xr.Dataset:
        probes, samples = self.rows
        hits = [
            np.bincount(self.label[p][self.label[p] >= 0], minlength=len(self.found[p]))
            for p in range(probes)
        ]
        order = []
        for found, number in zip(self.found, hits, strict=True):
            rank = {
                i: (-number[i], KINDS.index(each.kind), each.period, *each.point.round(6))
                for i, each in enumerate(found)
                if number[i]
            }
            order.append(sorted(rank, key=lambda i: rank[i]))
        width = max(map(len, order))
        number = np.full((probes, width), -1)
        table = {
            "attractor_kind": np.full((probes, width), "", dtype="<U14"),
            "stability": np.full((probes, width), "", dtype="<U14"),
            "period": np.full((probes, width), -1, dtype=int if self.flow is None else float),
            **{
                name: np.full((probes, width), np.nan)
                for name in ("residual", "leading_exponent", "exponent_error", "rotation")
            },
        }
        point = np.full((probes, width, self.x0.shape[-1]), np.nan)
        y = np.full((3, probes, width, self.y.shape[-1]), np.nan)
        label = np.full(self.rows, -1)
        for probe, rows in enumerate(order):
            for i, old in enumerate(rows):
                each, members = self.found[probe][old], self.label[probe] == old
                values = (each.kind, each.stability, each.period, each.residual)
                values += (each.exponent, each.error, each.rotation)
                for column, value in zip(table.values(), values, strict=True):
                    column[probe, i] = value
                point[probe, i], number[probe, i] = each.point, members.sum()
                seen = self.y[probe][members].reshape(-1, self.y.shape[-1])
                y[:, probe, i] = seen.mean(0), seen.min(0), seen.max(0)
                label[probe, members] = i
        if self.flow is not None:
            table["period"][table["period"] < 0] = np.nan
        kind = np.where(self.diverged, "diverged", "undecided").astype("<U14")
        for probe in range(probes):
            there = label[probe] >= 0
            kind[probe, there] = table["attractor_kind"][probe, label[probe, there]]

        there = number > 0
        low, high = interval(np.where(there, number, 0), samples, confidence)
        fractions = {"fraction": number / samples, "fraction_low": low, "fraction_high": high}
        probe = batch_axes(self.x0)[:-1]
        lead = self.x0.shape[:-2]
        step = "time steps" if self.flow is None else "units of time of the flow"
        units = {"period": {"units": step}, "rotation": {"units": "turns per time step"}}
        for name in ("leading_exponent", "exponent_error"):
            units[name] = {"units": "nats per time step" if self.flow is None else "nats per unit time"}

        def variable(values: np.ndarray, *axes: str, name: str = "") -> tuple:
            return (*probe, *axes), np.reshape(values, (*lead, *values.shape[1:])), units.get(name, {})

        columns = {**table, **{name: np.where(there, value, np.nan) for name, value in fractions.items()}}
        return xr.Dataset(
            {
                "label": variable(label, "sample"),
                "kind": variable(kind, "sample"),
                "settled": variable(self.settled, "sample"),
                "undecided": variable((kind == "undecided").sum(-1)),
                "diverged": variable((kind == "diverged").sum(-1)),
                "hits": variable(number, "attractor"),
                **{name: variable(values, "attractor", name=name) for name, values in columns.items()},
                "point": variable(point, "attractor", "state"),
                **{
                    f"y_{name}": variable(values, "attractor", "observable")
                    for name, values in zip(("mean", "min", "max"), y, strict=True)
                },
                "known_index": variable(self._look_up(known, point, columns["attractor_kind"]), "attractor"),
                "burn_in": ((), self.burn_in, {"units": "time steps"}),
            }
        )

    def _look_up(self, known: np.ndarray | None, point: np.ndarray, kind: np.ndarray) -> np.ndarray:
        """Which known cycle goes through each point, -1 for none."""
        index = np.full(point.shape[:2], -1)
        if known is None:
            return index
        for probe, i in np.argwhere((kind == KINDS[0]) | (kind == KINDS[1])):
            for k, cycle in enumerate(known[probe]):
                cycle = cycle[~np.isnan(cycle).any(-1)]
                if not len(cycle):
                    continue
                radius = 1e-6 * max(1.0, np.abs(cycle).max())
                if self.flow is not None:  # between two phases
                    radius += np.linalg.norm(cycle - np.roll(cycle, 1, 0), axis=-1).max()
                if np.linalg.norm(cycle - point[probe, i], axis=-1).min() <= radius:
                    index[probe, i] = k
                    break
        return index


def _known_cycles(known: Any, x0: Tensor) -> np.ndarray | None:
    """Known points and cycles alike, `(probe, orbit, phase, state)`."""
    if known is None:
        return None
    known, lead = np.asarray(known, dtype=float), x0.shape[:-2]
    fits = known.ndim - len(lead) in (2, 3) and known.shape[: len(lead)] == lead
    if not fits or known.shape[-1] != x0.shape[-1]:
        raise ValueError(
            f"known of shape {known.shape} does not fit x0 of shape {tuple(x0.shape)}: give "
            "(index, state) or (orbit, phase, state), with the probes first if x0 has them."
        )
    known = known if known.ndim == len(lead) + 3 else known[..., None, :]
    return known.reshape(lead.numel(), *known.shape[len(lead) :])


class _Scaled:
    """A vector field in other units of time: of each row its own."""

    def __init__(self, field: VectorField, speed: Tensor) -> None:
        self.field, self.speed = field, speed

    def velocity(self, x: Tensor) -> Tensor:
        return self.speed * self.field.velocity(x)


def interval(hits: np.ndarray, number: int, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """Clopper and Pearson's interval of the probability of what happened `hits` times in `number`."""
    tail = (1 - confidence) / 2
    low = np.where(hits > 0, betaincinv(np.maximum(hits, 1), number - hits + 1, tail), 0.0)
    high = np.where(hits < number, betaincinv(hits + 1, np.maximum(number - hits, 1), 1 - tail), 1.0)
    return low, high


def _cycle_gap(a: np.ndarray, b: np.ndarray) -> float:
    """Largest distance, relative to their size, of two cycles `(phase, state)`, at the best shift."""
    if len(a) < len(b):
        a, b = b, a
    if len(a) % len(b):
        return math.inf
    b = np.tile(b, (len(a) // len(b), 1))
    gap = min(np.abs(a - np.roll(b, shift, 0)).max() for shift in range(len(a)))
    return gap / max(1.0, np.abs(a).max())


def _same_measure(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two quasi-periodic records `(time, component)` have the same averages.

    Those of random waves tell any two distributions apart. Weighted, they converge fast on tori, and they do
    not depend on the phase, which decides what a record of a torus near a resonance visits.
    """
    generator = np.random.default_rng(0)
    scale = np.maximum(a.std(0), b.std(0)).max() or 1.0
    waves = generator.standard_normal((a.shape[1], 32)) / scale
    phases = generator.uniform(0, 2 * np.pi, 32)

    def averages(record: np.ndarray) -> np.ndarray:
        time = np.arange(1, len(record) + 1) / (len(record) + 1)
        weight = np.exp(-1 / (time * (1 - time)))
        return weight / weight.sum() @ np.cos((record - a.mean(0)) @ waves + phases)

    # how far they have converged shows in the halves of each record
    error = max(
        np.abs(averages(half) - averages(record)).max()
        for record in (a, b)
        for half in np.array_split(record, 2)
    )
    return bool(np.abs(averages(a) - averages(b)).max() <= 1e-3 + error)


def _same_set(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two records `(time, component)` visit the same places."""

    def reach(to: np.ndarray, of: np.ndarray) -> float:
        return float(np.quantile(KDTree(of).query(to)[0], 0.95))

    spacing = max(reach(*np.array_split(record, 2)) for record in (a, b))
    return max(reach(a, b), reach(b, a)) <= 3 * spacing
