"""Where do the dynamics change? Fixed points and cycles followed along a curve of systems, past folds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr
from scipy.optimize import brentq
from torch import Tensor
from tqdm import tqdm

from rnnlab.analysis import normal_forms
from rnnlab.analysis.arclength import Curve, Family, Point, branch_point, differentiable
from rnnlab.analysis.states import check_states, one_thread, to_numpy
from rnnlab.systems import is_flow, jacobian, observe

MIN_STEP = 1e-7  # of the arclength, at which a branch is given up
CRITICAL = 1e-5  # distance of an eigenvalue from the unit circle (imaginary axis) at its bifurcation
PARALLEL = 1 - 1e-6  # cosine between directions that are one
SAME = 1e-5  # distance below which two points are one, relative to their size


@torch.no_grad()
def continuation(
    family: Family,
    x0: Tensor,
    span: tuple[float, float],
    *,
    period: int = 1,
    name: str = "parameter",
    switch: bool = False,
    max_branches: int = 8,
    max_steps: int = 1000,
    max_step: float = 0.02,
    progress: bool = False,
) -> xr.Dataset:
    """Follow fixed points, or cycles of a map, along a parameter, and name the bifurcations on the way.

    A branch is a curve of solutions of F(x, s) = x (of f(x, s) = 0 for a vector field; F is the iterate over
    a period) in the space of states and parameter. It is followed by its arclength, by an Euler step along
    the tangent and Newton's method across it, so that it passes folds. The step adapts to the curve's bends.
    Between two steps with different numbers of unstable directions, the crossing of the eigenvalue is
    located by Brent's method along the arclength; branch points are then polished by Newton's method on
    a system of equations that is regular there (the derivative by x and s drops in rank). Eigenvalues that
    cross make

    - at 1 (0): a saddle-node, where the branch turns round; else a branch point: a pitchfork if the
      second-order coefficient vanishes, a transcritical bifurcation if not;
    - at -1: a period doubling;
    - as a complex pair: a Neimark-Sacker (Hopf) bifurcation; real pairs with product 1 are none;
    - several at once, by symmetry: "unclassified".

    Crossings in opposite directions within one step can stay unseen; `max_step` bounds how far.

    Args:
        family: The system (map or vector field) for a value of the parameter. Where it takes a tensor without
            axes and is differentiable in it, derivatives by the parameter are exact, else they are central
            differences; attribute `derivative` says which. It is asked slightly outside the span, too.
        x0: Guesses at `span[0]`, `(sample, state)`, corrected by Newton's method; one branch each. Those that
            lead to the same branch are merged, those that lead nowhere or to a shorter period counted.
        span: First and last value of the parameter; may fall.
        period: Length of the cycles to follow, in steps of the map. Limit cycles of vector fields are not
            followed: those of `Flow`'s map are no fixed points of it.
        name: Name of the parameter.
        switch: Follow also the branches that arise at branch points and period doublings.
        max_branches: Most branches to follow by switching.
        max_steps: Most steps on a branch.
        max_step: Longest step, in parts of the span and in root mean square of the state's components.
        progress: Show a progress bar.

    Returns:
        A dataset over `branch` and `step` (padded by NaN, -1), bifurcations among the steps:

        - `parameter` `(branch, step)`, `point` `(branch, step, state)`;
        - `y` `(branch, step, phase, observable)`: what is observed, all along the cycle;
        - `eigenvalue` `(branch, step, mode)`: of the Jacobian; for cycles the multipliers;
        - `unstable` `(branch, step)`: how many lie outside the unit circle (right of the imaginary axis);
        - `residual` `(branch, step)`: largest component of F(x) - x (of the velocity);
        - `period` `(branch,)` and `ended` `(branch,)`: "left the span", "closed", "step too small",
          "max_steps" or "period halved" (a cycle that shrank to one of half its period);

        and over `bifurcation`, each listed once, with the branch on which it was met first:

        - `bifurcation_parameter`, `bifurcation_point` `(.., state)`, `bifurcation_branch`,
          `bifurcation_y` `(.., phase, observable)`, `bifurcation_period` (for a period doubling, before it);
        - `bifurcation_type`: "saddle-node", "transcritical", "pitchfork", "period doubling",
          "Neimark-Sacker", "Hopf" or "unclassified";
        - `criticality`: "supercritical", "subcritical" or "degenerate", on the centre manifold, whatever
          other directions are unstable; "" where it has no meaning;
        - `coefficient` of the normal form (see `normal_forms`), `angle` of the multiplier (radians),
          for Hopf the frequency;
        - `bifurcation_residual` and `bifurcation_distance`, the distance of the critical eigenvalue from the
          unit circle (imaginary axis): how well it is located.

        Attributes count the starts: `starts`, `not_converged`, `shorter_period`, `duplicates`; and
        `unfollowed` branches, left out because of `max_branches`.

    Raises:
        TypeError: A member of the family is no dynamical system.
        ValueError: An option is out of range, or `x0` cannot be used (see `states.check_states`).

    References:
        Keller, "Numerical solution of bifurcation and nonlinear eigenvalue problems", 1977: arclength.
        Kuznetsov, "Elements of Applied Bifurcation Theory", 3rd ed., Springer 2004, ch. 10.
        Griewank and Reddien, "Characterization and computation of generalized turning points", SIAM J. Numer.
        Anal. 21, 1984: bordered systems for a drop in rank.

    Example:
        >>> import torch
        >>> from rnnlab.maps import Logistic
        >>> found = continuation(Logistic, torch.full((1, 1), 0.6).double(), (2.5, 3.5), name="r")
        >>> found.bifurcation_type.item(), round(found.bifurcation_parameter.item(), 8)
        ('period doubling', 3.0)
        >>> found.criticality.item(), found.ended.item()
        ('supercritical', 'left the span')
    """
    start, stop = _check(span, period, max_branches, max_steps, max_step)
    first = family(start)
    if x0.ndim == 3:
        raise ValueError(f"x0 of shape {tuple(x0.shape)} is not possible: give (sample, state).")
    check_states(first, x0)
    if period > 1 and is_flow(first):
        raise ValueError(
            f"period={period} is not possible for a vector field: only its equilibria are followed."
        )
    with one_thread(), tqdm(disable=not progress, desc=f"continuation over {name}", unit=" steps") as bar:
        exact = differentiable(family, x0[0], start, stop)
        curve = Curve(family, start, stop - start, x0.shape[-1], period, exact, is_flow(first))
        beginnings, counts = _begin(curve, x0)
        search = _Search(switch, max_steps, max_step, bar)
        queue = [_Beginning(curve, z) for z in beginnings]
        while queue and len(search.branches) < len(beginnings) + max_branches:
            queue += search.follow(queue.pop(0))
        unfollowed = sum(not search.known(beginning) for beginning in queue)
        data = _dataset(search, x0.shape[-1])
    return data.assign_attrs(
        analysis="continuation",
        name=name,
        span=[start, stop],
        period=period,
        switch=switch,
        max_branches=max_branches,
        max_steps=max_steps,
        max_step=max_step,
        derivative="forward mode" if exact else "central differences",
        **{**counts, "duplicates": counts["duplicates"] + search.repeated},
        unfollowed=unfollowed,
    )


def _check(
    span: tuple[float, float], period: int, max_branches: int, max_steps: int, max_step: float
) -> tuple[float, float]:
    for option, value in {"period": period, "max_branches": max_branches, "max_steps": max_steps}.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{option}={value!r} is not possible: give a whole number of at least 1.")
    if not MIN_STEP < max_step <= 1:
        raise ValueError(f"max_step={max_step} is not possible: give a number above {MIN_STEP}, at most 1.")
    start, stop = (float(value) for value in span)
    if not (math.isfinite(start) and math.isfinite(stop)) or start == stop:
        raise ValueError(f"span={span} is not possible: give two different finite numbers.")
    return start, stop


def _begin(curve: Curve, x0: Tensor) -> tuple[list[Tensor], dict[str, int]]:
    """Distinct solutions at the start of the span, one for each cycle, and what became of the guesses."""
    unit = _unit(curve.join(x0[0], 0.0))
    counts = {"starts": len(x0), "not_converged": 0, "shorter_period": 0, "duplicates": 0}
    found: list[Tensor] = []
    base = curve.family(curve.start)
    for x in x0:
        z = curve.correct(_descend(curve, curve.join(x, 0.0)), unit, 0.0)
        if z is None or curve.point(z, unit, singular=True) is None:
            counts["not_converged"] += 1
        elif _prime(base, curve.split(z)[0], curve.period) < curve.period:
            counts["shorter_period"] += 1
        elif any(_same(base, curve.split(z)[0], curve.split(other)[0], curve.period) for other in found):
            counts["duplicates"] += 1
        else:
            found.append(z)
    return found, counts


def _unit(z: Tensor) -> Tensor:
    """The direction of the parameter."""
    unit = torch.zeros_like(z)
    unit[-1] = 1
    return unit


def _descend(curve: Curve, z: Tensor) -> Tensor:
    """Newton's method at a fixed parameter, its steps halved until the residual falls."""
    G, DG = curve(z)
    for _ in range(50):
        step, info = torch.linalg.solve_ex(DG[:, :-1], G)
        if int(info) or not bool(step.isfinite().all()) or float(step.abs().max()) < 1e-3:
            break
        step = torch.cat((step / max(1.0, float(step.abs().max())), torch.zeros_like(step[:1])))
        for halvings in range(8):
            there = z - step / 2**halvings
            G_there, DG_there = curve(there)
            if float(G_there.norm()) < float(G.norm()):
                break
        z, G, DG = there, G_there, DG_there
    return z


def _orbit(system: Any, x: Tensor, length: int) -> Tensor:
    """The states `(length, state)` from x on; x alone for a vector field."""
    states = [x]
    for _ in range(length - 1):
        states.append(system.step(states[-1]))
    return torch.stack(states)


def _near(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).abs().amax(-1) <= SAME * (1 + b.abs().amax(-1))


def _same(system: Any, x: Tensor, other: Tensor, period: int) -> bool:
    """Whether two states are on one cycle."""
    return bool(_near(_orbit(system, x, period), other).any())


def _prime(system: Any, x: Tensor, period: int) -> int:
    """The smallest divisor of the period after which x returns."""
    orbit = _orbit(system, x, period)
    return next(n for n in range(1, period + 1) if period % n == 0 and (n == period or _near(orbit[n], x)))


class _Beginning(NamedTuple):
    """Where to start a branch; at a bifurcation, `direction` is that of the new branch."""

    curve: Curve
    z: Tensor
    direction: Tensor | None = None
    origin: _Bifurcation | None = None


@dataclass(eq=False)
class _Bifurcation:
    curve: Curve
    point: Point
    type: str
    form: normal_forms.NormalForm
    branch: int = -1
    passed: list[tuple[int, Tensor]] = field(default_factory=list)  # periods and directions followed through
    other: Tensor | None = None  # direction of the other branch


@dataclass(eq=False)
class _Branch:
    curve: Curve
    points: list[Point]
    ended: str = "max_steps"


@dataclass(eq=False)
class _Search:
    """The branches and bifurcations found so far."""

    switch: bool
    max_steps: int
    max_step: float
    bar: Any
    branches: list[_Branch] = field(default_factory=list)
    bifurcations: list[_Bifurcation] = field(default_factory=list)
    repeated: int = 0

    def known(self, beginning: _Beginning) -> bool:
        """Whether a branch was followed through this beginning already."""
        curve, z, direction, origin = beginning
        if direction is not None and origin is not None:
            return any(p == curve.period and float(t @ direction) > PARALLEL for p, t in origin.passed)
        x, base = curve.split(z)[0], curve.family(curve.start)
        ends = [b.points[-1].z for b in self.branches if b.curve.period == curve.period]
        return any(abs(float(e[-1])) < 1e-9 and _same(base, x, curve.split(e)[0], curve.period) for e in ends)

    def follow(self, beginning: _Beginning) -> list[_Beginning]:
        """Follow one branch to its end: the new branches to follow."""
        if self.known(beginning):
            self.repeated += beginning.direction is None
            return []
        curve, z, direction, origin = beginning
        forward = _unit(z) if direction is None else direction
        point = curve.point(z, forward, singular=True)
        if point is None:
            return []
        branch = _Branch(curve, [point if direction is None else point._replace(tangent=direction)])
        self.branches.append(branch)
        if origin is not None:
            origin.passed.append((curve.period, forward))
        fresh: list[_Bifurcation] = []
        step, last = self.max_step / 3, ""
        while not last:
            if len(branch.points) >= self.max_steps:
                last = "max_steps"
                break
            here = branch.points[-1]
            move = self._advance(branch, step)
            # the bifurcation that a branch was born at is no event on it
            born = origin is not None and (len(branch.points) == 1 or (move and move[1] == "closed"))
            crossings = [] if born else move and _crossings(curve, here, move[0])
            if move is None or crossings is None:
                step /= 2
                last = "step too small" if step < MIN_STEP else ""
                continue
            self.bar.update()
            there, last = move
            for met in crossings:
                new, halved = self._meet(branch, met)
                fresh += [new] if new else []
                if halved:
                    last = "period halved"
                    break
            else:
                branch.points.append(there)
            if float(here.tangent @ there.tangent) > 0.995:
                # never a round number, which might hit a bifurcation exactly
                step = min(self.max_step, step * 1.37)
        branch.ended = last
        if origin is not None and last == "closed":
            origin.passed.append((curve.period, -forward))
        return [start for met in fresh for start in _beginnings(met)] if self.switch else []

    def _advance(self, branch: _Branch, step: float) -> tuple[Point, str] | None:
        """The next point and why it is the last, "" if it is not; None if the step is too long."""
        curve, here = branch.curve, branch.points[-1]
        z = curve.correct(here.z + step * here.tangent, here.tangent, float(here.tangent @ here.z) + step)
        if z is None:
            return None
        last, part = "", float(z[-1])
        if not 0 <= part <= 1 and abs(part - float(here.z[-1])) > 0:
            edge = 0.0 if part < 0 else 1.0
            way = (edge - float(here.z[-1])) / (part - float(here.z[-1]))
            z = curve.correct(here.z + way * (z - here.z), _unit(z), edge)
            if z is None or float((z - here.z).norm()) > 2 * step:
                return None
            last = "left the span"
        there = curve.point(z, here.tangent)
        if there is None or float(here.tangent @ there.tangent) < 0.95:
            return None
        if len(branch.points) > 2 and not last:
            first = branch.points[0]
            before, after = (float(first.tangent @ (p.z - first.z)) for p in (here, there))
            around = before < 0 <= after and float(first.tangent @ there.tangent) > 0.9
            if around and float((there.z - first.z).norm()) <= step:
                there, last = first._replace(side=there.side), "closed"
        return there, last

    def _meet(self, branch: _Branch, met: _Bifurcation) -> tuple[_Bifurcation | None, bool]:
        """Put a bifurcation on record: itself if it is new, and whether the branch ends there."""
        curve, period = met.curve, met.curve.period
        x, s = curve.split(met.point.z)
        branch.points.append(met.point)
        met.branch = len(self.branches) - 1
        base = curve.family(s)
        halved = period % 2 == 0 and met.other is not None and _prime(base, x, period) <= period // 2
        if halved:
            half = replace(curve, period=period // 2)
            point = half.point(met.point.z, met.point.tangent)
            flip = normal_forms.flip(half.at(met.point.z), x)
            if point is not None:
                met = _Bifurcation(half, point, "period doubling", flip, met.branch, met.passed)
        for old in self.bifurcations:
            if old.type != met.type or old.curve.period != met.curve.period:
                continue
            z = old.point.z
            if abs(float(z[-1] - met.point.z[-1])) < SAME and _same(base, x, curve.split(z)[0], period):
                old.passed += met.passed
                return None, halved
        self.bifurcations.append(met)
        return met, halved


def _beginnings(met: _Bifurcation) -> list[_Beginning]:
    """Where the branches set out that a bifurcation gives birth to."""
    curve, z = met.curve, met.point.z
    if met.type == "period doubling":
        q, _ = normal_forms.critical_vectors(jacobian(curve.at(z), curve.split(z)[0]), -1.0)
        double = replace(curve, period=2 * curve.period)
        # the other direction leads to the same cycles, one phase later
        return [_Beginning(double, z, torch.cat((q, torch.zeros_like(q[:1]))), met)]
    return [] if met.other is None else [_Beginning(curve, z, sign * met.other, met) for sign in (1, -1)]


def _crossings(curve: Curve, a: Point, b: Point) -> list[_Bifurcation] | None:
    """The bifurcations between two neighbours on a branch, in order; None if the step is too long to tell."""
    end = float(a.tangent @ (b.z - a.z))
    if end <= 0:
        return None

    def at(way: float) -> Point:
        guess = a.z + way / end * (b.z - a.z)
        z = curve.correct(guess, a.tangent, float(a.tangent @ a.z) + way)
        # at a branch point itself Newton's method is singular; a straight branch may be hit there
        point = curve.point(guess if z is None else z, a.tangent, singular=True)
        if point is None:
            raise _LostError
        return point

    def root(function: Callable[[Point], float], accuracy: float) -> float:
        values = function(a), function(b)
        if values[0] * values[1] >= 0:
            return 0.0 if abs(values[0]) <= abs(values[1]) else end
        found: Any = brentq(lambda way: function(at(way)), 0.0, end, xtol=accuracy)
        return float(found)

    found: list[tuple[float, _Bifurcation]] = []
    branching, odd = a.side != b.side, [0, 0]
    turned = float(a.tangent[-1]) * float(b.tangent[-1]) < 0
    accuracy = 1e-7 * end if branching else 1e-15
    low, high = sorted((a.unstable, b.unstable))
    try:
        while high > low:
            way = root(lambda point, k=high - 1: float(point.growth[k]), accuracy)
            point = at(way)
            critical = point.eigenvalue[np.abs(point.growth) < CRITICAL]
            if len(critical) == 1 and (curve.flow or critical[0].real > 0):
                met = _at_one(curve, point, branching, end)
                odd[0] += 1
            else:
                met = _named(curve, point, critical)
                odd[1] += met.type == "period doubling"
            if met is None or not len(critical):
                return None
            found.append((way, met))
            high -= len(critical)
        if turned and not odd[0]:
            way = root(lambda point: float(point.tangent[-1]), accuracy)
            met = _at_one(curve, at(way), branching, end)
            if met is None:
                return None
            found.append((way, met))
        elif branching and not odd[0] and not found:
            return None
    except _LostError:
        return None
    sure = all(met.type != "unclassified" for _, met in found)
    changed = [int(p != q) for p, q in zip(a.parity(), b.parity(), strict=True)]
    if odd[0] > 1 or (sure and changed != [n % 2 for n in odd]):
        return None
    return [met for _, met in sorted(found, key=lambda pair: pair[0])]


class _LostError(Exception):
    """Newton's method left the branch."""


def _named(curve: Curve, point: Point, critical: np.ndarray) -> _Bifurcation:
    """The bifurcation of eigenvalues that cross anywhere but at one."""
    system, (x, _) = curve.at(point.z), curve.split(point.z)
    if len(critical) == 1:
        return _Bifurcation(curve, point, "period doubling", normal_forms.flip(system, x))
    if len(critical) == 2 and critical[0] == critical[1].conj() and critical[0].imag:
        if curve.flow:
            return _Bifurcation(curve, point, "Hopf", normal_forms.hopf(system, x))
        return _Bifurcation(curve, point, "Neimark-Sacker", normal_forms.neimark_sacker(system, x))
    return _Bifurcation(curve, point, "unclassified", normal_forms.NormalForm(math.nan, math.nan, ""))


def _at_one(curve: Curve, point: Point, branching: bool, reach: float) -> _Bifurcation | None:
    """A fold or, polished, a branch point; None if there is none near."""
    if not branching:
        form = normal_forms.fold(curve.at(point.z), curve.split(point.z)[0])
        return _Bifurcation(curve, point, "saddle-node", form)
    polished = branch_point(curve, point.z)
    if polished is None or float((polished[0] - point.z).norm()) > reach:
        return None
    z, kernel, bend = polished
    # directions (a, 1) or (1, a) in the kernel with bend[direction, direction] = 0: two branches cross
    values, vectors = torch.linalg.eigh(bend)
    if float(values[0] * values[1]) >= 0:
        return None
    sizes = values.abs().sqrt()
    ways = [kernel @ (vectors[:, 0] * sizes[1] + sign * vectors[:, 1] * sizes[0]) for sign in (1, -1)]
    ways = sorted((way / way.norm() for way in ways), key=lambda way: float((way @ point.tangent).abs()))
    other, own = ways[0], ways[1] * torch.sign(ways[1] @ point.tangent)
    there = curve.point(z, own, singular=True)
    if there is None:
        return None
    there = there._replace(tangent=own)
    system, x = curve.at(z), curve.split(z)[0]
    form = normal_forms.fold(system, x)
    kind = "transcritical"
    if form.criticality == "degenerate":
        kind, form = "pitchfork", normal_forms.pitchfork(system, x)
    passed = [(curve.period, own), (curve.period, -own)]
    return _Bifurcation(curve, there, kind, form, passed=passed, other=other)


def _dataset(search: _Search, size: int) -> xr.Dataset:
    branches, met = search.branches, search.bifurcations
    steps = max((len(branch.points) for branch in branches), default=0)
    phases = max((branch.curve.period for branch in branches), default=1)
    seen = [[_seen(branch.curve, point.z, phases) for point in branch.points] for branch in branches]
    observables = seen[0][0].shape[-1] if seen else 0

    def table(values: list[list[Any]], *shape: int, fill: Any = np.nan) -> np.ndarray:
        out = np.full((len(values), steps, *shape), fill, dtype=np.result_type(fill, np.array(fill)))
        for row, entries in zip(out, values, strict=True):
            row[: len(entries)] = entries
        return out

    def each(function: Callable[[Curve, Point], Any]) -> list[list[Any]]:
        return [[function(branch.curve, point) for point in branch.points] for branch in branches]

    def listed(values: list[Any], dtype: Any = float, *shape: int) -> np.ndarray:
        return np.array(values, dtype=dtype).reshape(len(values), *shape)

    on, at = ("branch", "step"), ("bifurcation",)
    critical = [np.abs(m.point.growth).min() for m in met]
    return xr.Dataset(
        {
            "parameter": (on, table(each(lambda curve, point: curve.split(point.z)[1]))),
            "point": ((*on, "state"), table(each(lambda c, p: to_numpy(c.split(p.z)[0])), size)),
            "y": ((*on, "phase", "observable"), table(seen, phases, observables)),
            "eigenvalue": (
                (*on, "mode"),
                table(each(lambda _, p: p.eigenvalue), size, fill=complex(np.nan, np.nan)),
            ),
            "unstable": (on, table(each(lambda _, p: p.unstable), fill=-1)),
            "residual": (on, table(each(lambda _, p: p.residual))),
            "period": (("branch",), listed([b.curve.period for b in branches], int)),
            "ended": (("branch",), np.array([b.ended for b in branches], dtype=str)),
            "bifurcation_parameter": (at, listed([m.curve.split(m.point.z)[1] for m in met])),
            "bifurcation_point": (
                (*at, "state"),
                listed([to_numpy(m.curve.split(m.point.z)[0]) for m in met], float, size),
            ),
            "bifurcation_y": (
                (*at, "phase", "observable"),
                listed([_seen(m.curve, m.point.z, phases) for m in met], float, phases, observables),
            ),
            "bifurcation_type": (at, np.array([m.type for m in met], dtype=str)),
            "criticality": (at, np.array([m.form.criticality for m in met], dtype=str)),
            "coefficient": (at, listed([m.form.coefficient for m in met])),
            "angle": (at, listed([m.form.angle for m in met])),
            "bifurcation_branch": (at, listed([m.branch for m in met], int)),
            "bifurcation_period": (at, listed([m.curve.period for m in met], int)),
            "bifurcation_residual": (at, listed([m.point.residual for m in met])),
            "bifurcation_distance": (at, listed(critical)),
        }
    )


def _seen(curve: Curve, z: Tensor, phases: int) -> np.ndarray:
    """What is observed along the cycle, `(phases, observable)`, NaN after its end."""
    x, s = curve.split(z)
    system = curve.family(z.new_tensor(s) if curve.exact else s)
    y = to_numpy(observe(system, _orbit(system, x, curve.period)))
    return np.concatenate((y, np.full((phases - len(y), y.shape[-1]), np.nan)))
