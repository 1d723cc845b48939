"""How do limit cycles change along a parameter, and how do they end? Branches of cycles, past folds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr
from scipy.optimize import brentq
from torch import Tensor
from tqdm import tqdm

from rnnlab.analysis.critical_points import Critical, Family, check_differentiable, critical_point
from rnnlab.analysis.cycle_curve import CycleCurve, CyclePoint, Loop, loop_of
from rnnlab.analysis.cycle_limits import CycleLimit, cycle_limit
from rnnlab.analysis.limit_cycles import resampled
from rnnlab.analysis.normal_forms import critical_vectors
from rnnlab.analysis.states import check_states, one_thread, to_numpy
from rnnlab.systems import is_flow, jacobian, law, observe

MIN_STEP = 1e-7  # of the arclength, at which a branch is given up
FEWEST, MOST = 20, 640  # intervals of the mesh
NEUTRAL = 1e-7  # |multiplier| - 1 up to which nothing counts as unstable
CRITICAL = 1e-4  # the same of a multiplier at its bifurcation
TWICE = 1e-3  # part of its size by which a curve that runs round twice differs from one that runs round once
EDGE = 1e-9  # distance from an end of the span, in spans, at which it counts as reached
PHASES = 64


@torch.no_grad()
def cycle_continuation(
    family: Family,
    x0: Tensor,
    period: float,
    span: tuple[float, float],
    *,
    at: float | None = None,
    name: str = "parameter",
    max_period: float | None = None,
    max_steps: int = 500,
    max_step: float = 0.02,
    accuracy: float = 1e-8,
    progress: bool = False,
) -> xr.Dataset:
    """Follow a limit cycle of a vector field along a parameter, stable or not, past folds to both its ends.

    The curve of cycles (x(t), period, parameter) is followed by its arclength, by an Euler step along the
    tangent and Newton's method across it. Each cycle is solved as a whole, by collocation at the four Gauss
    points of the intervals of a mesh, which is spread anew at every step so that the error is the same in
    all intervals; their number doubles where the period is less accurate than asked for. Where a multiplier
    crosses the unit circle between two steps the place is located by Brent's method along the arclength:

    - at 1, where the branch turns round: a fold of cycles; else a branch point;
    - at -1: a period doubling;
    - as a complex pair: a Neimark-Sacker bifurcation, to a torus.

    Args:
        family: The vector field for a value of the parameter, a tensor without axes in which it must be
            differentiable. It is asked slightly outside the span, too.
        x0: A cycle to start from, roughly: states `(phase, state)`, equally apart in time, in their order;
            such as `point` of `periodic_orbits`, or from `cycle_from_hopf`.
        period: Time once around, roughly.
        span: First and last value of the parameter; may fall.
        at: Value at which `x0` is a cycle, in the span. From there the branch is followed both ways, first
            against the direction of the span, then along it. Default: `span[0]`.
        name: Name of the parameter.
        max_period: Period at which a branch that runs to infinite period ends. Default: 100 times that of
            the first cycle.
        max_steps: Most steps, either way.
        max_step: Longest step: a root mean square of x, in sizes of the state (or 1, if they are smaller);
            a change of the parameter, in spans; a change of the period, in parts of five times itself.
        accuracy: Largest relative change of the period on halving the intervals of the mesh.
        progress: Show a progress bar.

    Returns:
        A dataset over `step`, from one end of the branch to the other, bifurcations among the steps:

        - `parameter`, `period`, `period_error` `(step)`: the last on halving the intervals;
        - `point` `(step, phase, state)`, at shares `time` `(step, phase)` of the period, which are chosen
          denser where the cycle is fast; `y` `(step, phase, observable)`: what is observed there;
        - `multiplier` `(step, mode)`: Floquet multipliers, first the trivial one, which would be 1 but for
          rounding; `unstable` `(step)`: how many others lie outside the unit circle;
        - `least_speed` `(step)`: smallest |dx/dt| on the cycle;
        - `residual` `(step)` of the collocation equations, and `intervals` `(step)`, their number;

        over `bifurcation`: `bifurcation_step`, the index of its step, `bifurcation_parameter`,
        `bifurcation_period`, `bifurcation_point` `(.., phase, state)`, `bifurcation_y`,
        `bifurcation_angle` of the multiplier (radians),
        `bifurcation_distance` of the multiplier from the unit circle, and `bifurcation_type`: "fold of
        cycles", "branch point", "period doubling", "Neimark-Sacker", or "unclassified";

        and over `end`, at the first and last step: `ended`, `ended_parameter`, where known that of the
        limit itself, `ended_point` `(end, state)`, the equilibrium there, and `ended_rate`, as measured
        (see `cycle_limits`); else NaN. The ends are

        - "left the span";
        - "Hopf": the amplitude goes to zero at an equilibrium; the limit is solved for;
        - "saddle-node on the cycle": the period grows as distance^(-1/2) from a saddle-node, solved for;
        - "homoclinic": the period grows as -log distance / rate, at a saddle, solved for;
        - "heteroclinic": the same, at several saddles;
        - "max_period": the period is too long, and none of these was recognised;
        - "closed": the branch came back to its start;
        - "period halved": at a period doubling, of which it is the branch of double period, and which is
          located less exactly from here than on the other branch;
        - "step too small", "max_steps".

    Raises:
        TypeError: A member of the family is no dynamical system.
        ValueError: An option is out of range, `x0` cannot be used, the family is one of maps or not
            differentiable in its parameter, or the start leads to no cycle.

    References:
        E. J. Doedel, H. B. Keller and J. P. Kernevez, Numerical analysis and control of bifurcation problems
        (II), Int. J. Bifurcation and Chaos 1, 1991.
        Y. A. Kuznetsov, "Elements of Applied Bifurcation Theory", 3rd ed., Springer 2004, ch. 5, 6 and 10.

    Example:
        >>> import math, torch
        >>> from rnnlab.maps import Hopf
        >>> turn = 2 * math.pi * torch.arange(16).double() / 16
        >>> circle = torch.stack((turn.cos(), turn.sin()), -1)  # mu = 1, period 2 pi / omega = pi
        >>> found = cycle_continuation(lambda mu: Hopf(mu, 2.0), circle, 3.1, (1.0, -1.0))
        >>> found.ended.values.tolist(), found.ended_parameter.values.round(9).tolist()
        (['left the span', 'Hopf'], [1.0, 0.0])
    """
    start, stop, first = _check(family, x0, period, span, at, max_period, max_steps, max_step, accuracy)
    with one_thread(), tqdm(disable=not progress, desc=f"cycles over {name}", unit=" steps") as bar:
        size = float((x0 - x0.mean(0)).square().mean().sqrt())
        curve = CycleCurve(family, start, stop - start, max(size, 1.0))
        search = _Search(curve, max_steps, max_step, accuracy, math.inf, bar)
        begin = search.begin(x0, period, (first - start) / (stop - start))
        if begin is None:
            raise ValueError(
                f"x0 with period={period} leads to no cycle at {name}={first}: give points of a cycle in "
                "their order, equally apart in time, as `periodic_orbits` finds them."
            )
        search.max_period = 100 * begin.point.loop.period if max_period is None else max_period
        back = search.follow(begin, -1)
        ahead = _Branch([begin], "closed") if back.ended == "closed" else search.follow(begin, 1)
        data = _dataset(curve, back, ahead)
    return data.assign_attrs(
        analysis="cycle_continuation",
        name=name,
        span=[start, stop],
        at=first,
        max_period=search.max_period,
        max_steps=max_steps,
        max_step=max_step,
        accuracy=accuracy,
    )


@torch.no_grad()
def cycle_from_hopf(
    family: Family, point: Tensor, parameter: float, *, amplitude: float = 0.01, phases: int = 32
) -> tuple[Tensor, float, float]:
    """A small limit cycle near a Hopf bifurcation, with which to start `cycle_continuation`.

    Args:
        family: As there.
        point: The equilibrium, `(state,)`; it and the parameter are corrected.
        parameter: Where the bifurcation is.
        amplitude: Of the cycle: root mean square over time and components.
        phases: How many states to give.

    Returns:
        States `(phase, state)` equally apart in time, the period, and the value of the parameter.

    Raises:
        ValueError: There is no Hopf bifurcation, or no cycle of that amplitude near it.

    Example:
        >>> import torch
        >>> from rnnlab.maps import Hopf
        >>> x, period, mu = cycle_from_hopf(lambda mu: Hopf(mu, 2.0), torch.zeros(2).double(), 0.0)
        >>> round(mu, 9), round(period, 9)  # amplitude^2 = mu / 2
        (0.0002, 3.141592654)
    """
    s = torch.tensor([parameter], dtype=torch.float64)
    found = critical_point(family, point, s, "Hopf")
    if found is None:
        raise ValueError(f"there is no Hopf bifurcation at {parameter}: give one that `continuation` found.")
    start, omega = float(found.parameter), float(found.square.sqrt())
    q, _ = critical_vectors(jacobian(family(found.parameter[0]), found.x), 1j * omega)
    mesh = torch.linspace(0, 1, FEWEST + 1, dtype=torch.float64)
    curve = CycleCurve(family, start, 1.0, 1.0)

    def wave(share: Tensor) -> Tensor:
        return (q * torch.exp(2j * torch.pi * share)[..., None]).real

    way = loop_of(wave, mesh, 0.0, 0.0)
    way = way._replace(u=0 * way.u)
    way = way.scaled(1 / curve.norm(way))
    guess = loop_of(lambda share: found.x.expand(*share.shape, -1), mesh, 2 * math.pi / omega, 0.0)
    guess = guess.moved(way, amplitude)
    with one_thread():
        loop = curve.correct(guess, curve.phase(guess), way)
    if loop is None:
        raise ValueError(f"amplitude={amplitude} leads to no cycle: give a smaller one.")
    shares = torch.arange(phases, dtype=torch.float64) / phases
    return loop.at(shares), loop.period, float(curve.parameter(loop))


def _check(
    family: Family,
    x0: Tensor,
    period: float,
    span: tuple[float, float],
    at: float | None,
    max_period: float | None,
    max_steps: int,
    max_step: float,
    accuracy: float,
) -> tuple[float, float, float]:
    if not isinstance(max_steps, int) or isinstance(max_steps, bool) or max_steps < 1:
        raise ValueError(f"max_steps={max_steps!r} is not possible: give a whole number of at least 1.")
    if not MIN_STEP < max_step <= 1:
        raise ValueError(f"max_step={max_step} is not possible: give a number above {MIN_STEP}, at most 1.")
    if not 1e-13 <= accuracy <= 1e-2:
        raise ValueError(f"accuracy={accuracy} is not possible: give a number from 1e-13 to 0.01.")
    for option, value in {"period": period, "max_period": max_period}.items():
        if value is not None and not (math.isfinite(value) and value > 0):
            raise ValueError(f"{option}={value} is not possible: give a finite time above zero.")
    start, stop = (float(value) for value in span)
    if not (math.isfinite(start) and math.isfinite(stop)) or start == stop:
        raise ValueError(f"span={span} is not possible: give two different finite numbers.")
    first = start if at is None else float(at)
    if not min(start, stop) <= first <= max(start, stop):
        raise ValueError(f"at={at} is not possible: give a value in the span {span}.")
    system = family(torch.tensor(first, dtype=torch.float64))
    check_states(system, x0)
    if x0.ndim != 2 or len(x0) < 4:
        raise ValueError(f"x0 of shape {tuple(x0.shape)} is not possible: give (phase, state), 4 at least.")
    if not is_flow(system):
        raise ValueError("the family is one of maps: `continuation` follows their cycles.")
    check_differentiable(family, x0[0], x0.new_tensor([first]), x0.new_tensor([stop - start]))
    return start, stop, first


class _Step(NamedTuple):
    point: CyclePoint
    error: float
    event: str = ""
    critical: complex = complex(math.nan, math.nan)


@dataclass(eq=False)
class _Branch:
    steps: list[_Step]
    ended: str = ""
    limit: CycleLimit | None = None


class _LostError(Exception):
    """Newton's method left the branch."""


@dataclass(eq=False)
class _Search:
    curve: CycleCurve
    max_steps: int
    max_step: float
    accuracy: float
    max_period: float
    bar: Any
    intervals: int = field(default=FEWEST)

    def begin(self, x0: Tensor, period: float, part: float) -> _Step | None:
        """The cycle that the start leads to."""
        points = to_numpy(x0)
        for m in (FEWEST, 4 * FEWEST, 16 * FEWEST):
            mesh = torch.linspace(0, 1, m + 1, dtype=torch.float64)
            loop = loop_of(lambda t: torch.from_numpy(resampled(points, to_numpy(t))), mesh, period, part)
            found = self.curve.correct(loop, self.curve.phase(loop), self.curve.fixed(loop), 20)
            if found is None or _radius(found) < 1e-6 * self.curve.scale:
                continue
            point = self.curve.point(found, self.curve.fixed(found))
            step = None if point is None else self.refined(point)
            if step is not None:
                return step
        return None

    def refined(self, point: CyclePoint) -> _Step | None:
        """The same cycle on a mesh that suits it."""
        m = self.intervals
        while True:
            loop = point.loop.on(point.loop.spread(m))
            tangent = point.tangent.on(loop.mesh)
            # at an end of the span the parameter stays as it is
            normal = (
                self.curve.fixed(loop) if min(abs(float(loop.s)), abs(float(loop.s) - 1)) < EDGE else tangent
            )
            found = self.curve.correct(loop, self.curve.phase(loop), normal)
            better = None if found is None else self.curve.point(found, tangent)
            if better is not None:
                error = self.curve.period_error(better.loop, better.tangent)
                if error <= self.accuracy or 2 * m > MOST:
                    # of order eight: half as many intervals would do
                    self.intervals = max(m // 2, FEWEST) if error < 1e-4 * self.accuracy else m
                    return _Step(better, error)
            elif 2 * m > MOST:
                return None
            m *= 2

    def follow(self, begin: _Step, sign: int) -> _Branch:
        """Follow the branch one way to its end."""
        first = begin.point._replace(tangent=begin.point.tangent.scaled(sign))
        branch, here, step = _Branch([begin._replace(point=first)]), first, self.max_step / 3
        while not branch.ended:
            if len(branch.steps) >= self.max_steps:
                branch.ended = "max_steps"
            elif here.loop.period > self.max_period:
                branch.limit = cycle_limit(self.curve, [s.point.loop for s in branch.steps])
                branch.ended = branch.limit.kind
            elif _outward(here):
                branch.ended = "left the span"
            else:
                there, hopf = self.advance(here, step)
                if hopf is not None:
                    branch.ended, branch.limit = "Hopf", CycleLimit("Hopf", hopf)
                    break
                events = None if there is None else self.events(here, there, step)
                after = None if events is None or there is None else self.refined(there)
                if events is None or there is None or after is None:
                    step /= 2
                    branch.ended = "step too small" if step < MIN_STEP else ""
                    continue
                self.bar.update()
                if self.curve.dot(here.tangent, there.tangent) > 0.995:
                    step = min(self.max_step, step * 1.37)
                if events and _runs_twice(events[-1].point.loop):
                    events[-1] = events[-1]._replace(event="period doubling", critical=complex(-1))
                    branch.ended = "period halved"
                branch.steps += events
                if branch.ended:
                    break
                branch.steps.append(after)
                if len(branch.steps) > 3 and self.closed(first, here, after.point):
                    branch.ended = "closed"
                here = after.point
        return branch

    def advance(self, here: CyclePoint, step: float) -> tuple[CyclePoint | None, Critical | None]:
        """The next cycle, or the Hopf bifurcation on the way; neither if the step is too long."""
        curve, phase = self.curve, self.curve.phase(here.loop)
        loop = curve.correct(here.loop.moved(here.tangent, step), phase, here.tangent)
        small = _radius(here.loop) < 4 * step * curve.scale or step < 2 * MIN_STEP
        # a cycle that shrank to nothing, or grows again with the opposite phase
        if small and (loop is None or _along(loop, here.loop) < 0.02):
            return None, self.hopf(here.loop, step)
        if loop is None:
            return None, None
        part = float(loop.s)
        if not 0 <= part <= 1:
            edge = 0.0 if part < 0 else 1.0
            way = (edge - float(here.loop.s)) / (part - float(here.loop.s))
            loop = here.loop.moved(loop.minus(here.loop), way)
            loop = curve.correct(loop._replace(s=torch.full_like(loop.s, edge)), phase, curve.fixed(loop))
            if loop is None or curve.norm(loop.minus(here.loop)) > 2 * step:
                return None, None
        there = curve.point(loop, here.tangent)
        if there is None or curve.dot(here.tangent, there.tangent) < 0.95:
            return None, None
        return there, None

    def hopf(self, loop: Loop, step: float) -> Critical | None:
        """The Hopf bifurcation that a small cycle was born at."""
        center = loop.center()
        found = critical_point(self.curve.family, center, self.curve.parameter(loop)[None], "Hopf")
        if found is None:
            return None
        near = 4 * max(step, _radius(loop) / self.curve.scale)
        part = float(found.parameter - self.curve.parameter(loop)) / self.curve.length
        moved = float((found.x - center).abs().max()) / self.curve.scale
        turn = 2 * math.pi / float(found.square.sqrt()) / loop.period
        return found if abs(part) < near and moved < near and abs(math.log(turn)) < 0.5 else None

    def events(self, here: CyclePoint, there: CyclePoint, step: float) -> list[_Step] | None:
        """The bifurcations between two neighbours on one mesh, in order; None if the step is too long."""
        secant = there.loop.minus(here.loop)
        end = self.curve.dot(here.tangent, secant)
        if end <= 0:
            return None
        phase = self.curve.phase(here.loop)

        def at(way: float) -> CyclePoint:
            loop = self.curve.correct(here.loop.moved(secant, way / end), phase, here.tangent)
            point = None if loop is None else self.curve.point(loop, here.tangent)
            if point is None:
                raise _LostError
            return point

        def root(function: Callable[[CyclePoint], float]) -> float:
            values = function(here), function(there)
            if values[0] * values[1] >= 0:
                return 0.0 if abs(values[0]) <= abs(values[1]) else end
            found: Any = brentq(lambda way: function(at(way)), 0.0, end, xtol=1e-13)
            return float(found)

        low, high = sorted((_unstable(here), _unstable(there)))
        turned = float(here.tangent.s) * float(there.tangent.s) < 0
        if high - low > 2 and step > 1e-4:
            return None
        met: list[tuple[float, _Step]] = []
        try:
            if turned:
                way = root(lambda point: float(point.tangent.s))
                met.append((way, _Step(at(way), math.nan, "fold of cycles", complex(1))))
            while high > low:
                way = root(lambda point, k=high - 1: float(point.growth[k]))
                point = at(way)
                critical = point.multiplier[1:][np.abs(point.growth) < CRITICAL]
                one = len(critical) == 1 and critical[0].imag == 0
                pair = len(critical) == 2 and critical[0].imag and critical[0] == critical[1].conj()
                high -= max(len(critical), 1)
                if one and critical[0].real > 0 and turned:
                    continue
                kind = "Neimark-Sacker" if pair else "unclassified"
                if one:
                    kind = "branch point" if critical[0].real > 0 else "period doubling"
                value = critical[0] if len(critical) else complex(math.nan, math.nan)
                met.append((way, _Step(point, math.nan, kind, value)))
        except _LostError:
            return None
        return [event for _, event in sorted(met, key=lambda pair: pair[0])]

    def closed(self, first: CyclePoint, here: CyclePoint, there: CyclePoint) -> bool:
        """Whether the branch came back to the cycle that it set out from."""
        before, after = (float(p.loop.s - first.loop.s) for p in (here, there))
        if before * after > 0 or before == after or float(first.tangent.s * there.tangent.s) <= 0:
            return False
        loop = there.loop._replace(s=first.loop.s)
        back = self.curve.correct(loop, self.curve.phase(loop), self.curve.fixed(loop))
        if back is None or abs(float(back.u - first.loop.u)) > 1e-6:
            return False
        apart = torch.cdist(first.loop.x, back.at(torch.linspace(0, 1, 1001, dtype=torch.float64)))
        return float(apart.amin(1).max()) < 0.01 * _radius(first.loop)


def _unstable(point: CyclePoint) -> int:
    return int((point.growth > NEUTRAL).sum())


def _radius(loop: Loop) -> float:
    """Root mean square of the distances from the centre, over time and components."""
    return math.sqrt(_overlap(loop, loop))


def _overlap(a: Loop, b: Loop) -> float:
    weight = (a.mesh.diff() + a.mesh.diff().roll(1)) / 2
    return float(weight @ ((a.x - a.center()) * (b.x - b.center())).mean(-1))


def _along(loop: Loop, other: Loop) -> float:
    """How large it is along another, 1 if equal."""
    return _overlap(loop, other) / max(_overlap(other, other), 1e-300)


def _runs_twice(loop: Loop) -> bool:
    half = loop.at(loop.mesh[:-1] + 0.5)
    return float((half - loop.x).square().mean().sqrt()) < TWICE * _radius(loop)


def _outward(here: CyclePoint) -> bool:
    part, way = float(here.loop.s), float(here.tangent.s)
    return (part <= EDGE and way < 0) or (part >= 1 - EDGE and way > 0)


def _shown(loop: Loop) -> Tensor:
    """Shares of the period to show a cycle at: halfway between even in time and even along the curve."""
    fine = torch.linspace(0, 1, 20 * PHASES + 1, dtype=torch.float64)
    x = loop.at(fine)
    way = torch.cat((fine[:1], x.diff(dim=0).norm(dim=-1).cumsum(0)))
    even = np.linspace(0, 1, PHASES, endpoint=False)
    return torch.from_numpy(np.interp(even, to_numpy(fine + way / way[-1]) / 2, to_numpy(fine)))


def _dataset(curve: CycleCurve, back: _Branch, ahead: _Branch) -> xr.Dataset:
    steps = back.steps[:0:-1] + ahead.steps
    loops = [step.point.loop for step in steps]
    systems = [curve.system(loop) for loop in loops]
    shares = [_shown(loop) for loop in loops]
    points = [loop.at(share) for loop, share in zip(loops, shares, strict=True)]
    y = [to_numpy(observe(system, x)) for system, x in zip(systems, points, strict=True)]
    pairs = list(zip(systems, loops, strict=True))
    slow = [float(law(f)(torch.cat((k.x, k.X.flatten(0, 1)))).norm(dim=-1).min()) for f, k in pairs]
    met = [i for i, step in enumerate(steps) if step.event]
    parameter = np.array([float(curve.parameter(loop)) for loop in loops])
    period = np.array([loop.period for loop in loops])
    multiplier = np.stack([step.point.multiplier for step in steps])
    point, seen = np.stack([to_numpy(x) for x in points]), np.stack(y)
    n = point.shape[-1]
    ends = [(branch, parameter[i]) for branch, i in ((back, 0), (ahead, -1))]
    limits = [branch.limit or CycleLimit(branch.ended) for branch, _ in ends]
    places = [(limit.point, last) for limit, (_, last) in zip(limits, ends, strict=True)]
    critical = np.array([steps[i].critical for i in met], dtype=complex)
    on, at, cycle = ("step",), ("bifurcation",), ("phase", "state")
    return xr.Dataset(
        {
            "parameter": (on, parameter),
            "period": (on, period, {"units": "time units"}),
            "period_error": (on, np.array([step.error for step in steps])),
            "time": ((*on, "phase"), np.stack([to_numpy(share) for share in shares])),
            "point": ((*on, *cycle), point),
            "y": ((*on, "phase", "observable"), seen),
            "multiplier": ((*on, "mode"), multiplier),
            "unstable": (on, np.array([_unstable(step.point) for step in steps])),
            "least_speed": (on, np.array(slow)),
            "residual": (on, np.array([step.point.residual for step in steps])),
            "intervals": (on, np.array([len(loop.x) for loop in loops])),
            "bifurcation_step": (at, np.array(met, dtype=int)),
            "bifurcation_parameter": (at, parameter[met]),
            "bifurcation_period": (at, period[met]),
            "bifurcation_point": ((*at, *cycle), point[met]),
            "bifurcation_y": ((*at, "phase", "observable"), seen[met]),
            "bifurcation_type": (at, np.array([steps[i].event for i in met], dtype=str)),
            "bifurcation_angle": (at, np.abs(np.angle(critical))),
            "bifurcation_distance": (at, np.abs(np.abs(critical) - 1)),
            "ended": (("end",), np.array([branch.ended for branch, _ in ends], dtype=str)),
            "ended_parameter": (
                ("end",),
                np.array([last if place is None else float(place.parameter[0]) for place, last in places]),
            ),
            "ended_point": (
                ("end", "state"),
                np.stack([np.full(n, np.nan) if p is None else to_numpy(p.x) for p, _ in places]),
            ),
            "ended_rate": (("end",), np.array([limit.rate for limit in limits])),
        }
    )
