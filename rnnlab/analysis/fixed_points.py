"""Where does it rest? Fixed points of maps and equilibria of vector fields, stable or not."""

from __future__ import annotations

import math
import warnings
from functools import partial

import numpy as np
import torch
import xarray as xr
from torch import Tensor
from tqdm import tqdm

from rnnlab.analysis.roots import (
    Points,
    Zeros,
    around,
    by_parts,
    gather,
    iterate,
    levenberg_marquardt,
    newton,
    polish,
    scale,
)
from rnnlab.analysis.stability import classify, leading_first
from rnnlab.analysis.states import batch_axes, check_states, one_thread, to_numpy
from rnnlab.shares import cat_rows, shared
from rnnlab.systems import (
    System,
    VectorField,
    bounds,
    jacobian,
    observe,
    reduced,
)

PLACED = 1e-2  # Newton step, relative to the state, that a degenerate point may be away from its place


@torch.no_grad()
def fixed_points(
    system: System | VectorField,
    x0: Tensor,
    *,
    known: Tensor | np.ndarray | None = None,
    samples: int = 0,
    seed: int = 0,
    tolerance: float = 1e-10,
    iterations: int = 200,
    max_steps: int = 100,
    max_step: float = 1.0,
    slow: bool = False,
    eigenvalues: bool = True,
    progress: bool = False,
) -> xr.Dataset:
    """Find the states that rest: F(x) = x of a map, f(x) = 0 of a vector field.

    **Search.** From every start, given, known or sampled: (1) Newton's method with the largest component of a
    step at most `max_step`, inside the system's `bounds()` or, without, a box around the starts: points of
    any stability. (2) The map is iterated, and Newton's method takes over where the orbit has slowed down:
    stable points. (3) Levenberg and Marquardt's descent of the speed |F(x) - x|, if both led nowhere. Then
    (4) Newton's method again from halfway between the points found, as many pairs as there are starts, the
    nearest first: between two attractors there is a saddle. A system that offers a smaller one with the same
    fixed points is searched in that. What is found is polished by Newton's method, at last in the full
    system, until rounding stops.

    **Verdict.** A fixed point has a residual below `tolerance`: the largest component of F(x) - x or f(x),
    relative to the largest of x where that is above one. Anything else is no fixed point: local minima of the
    speed are listed as slow points, other starts are counted as not converged.

    **Duplicates** are points that lie within each other's error bound ||(I - J)^-1|| |F(x) - x|, where the
    residual counts as no smaller than its rounding. So two points as close as 1e-6 stay two if each is well
    conditioned. Where I - J is nearly singular the bound is large, and what it holds is one point, called
    non-hyperbolic. Where F(x) - x is so flat that Newton's steps stay large, as with closed gates, a small
    residual is no sign of a point, and it is not listed.

    **Completeness.** If all orbits enter a box (`bounds()`), the signs of det(I - J), det(-Df) for a vector
    field, add up to 1 over all fixed points (Lefschetz; Poincare and Hopf). A list that violates this lacks a
    point, of which a warning tells; one that keeps it may still lack some. `unseen` estimates how likely
    another start would find a new one: the fraction of the starts in `x0` that found a point which no other
    start found. For each of these, by exchangeability, that is the chance that the last start brings news to
    the ones before; so it is unbiased for one start fewer (Good 1953, after Turing).

    Args:
        system: A map or a vector field, whose rows may differ along the probe axis only.
        x0: Starts, `(sample, state)` or `(probe, sample, state)`: any states; those of orbits are good ones,
            reshaped to this. There may be none, `(0, state)` or `(probe, 0, state)`, if there are `known`.
        known: Points of an earlier look, `(index, state)` or `(probe, index, state)` as `x0`, from which to
            start too; rows of NaN are none. After a small change of the system they converge in 2 to 3
            steps.
        samples: Further starts, drawn uniformly in the system's `bounds()`, or in [-1, 1] along axes where
            it knows none; the same for every probe.
        seed: Of these.
        tolerance: Residual below which a point is a fixed point.
        iterations: Of the map, from each start. Not used for a vector field.
        max_steps: Of Newton's method and of Levenberg and Marquardt's, from each start.
        max_step: Largest component of one of Newton's steps, relative to that of the state where above one.
        slow: Also look for slow points from those starts that led to a fixed point.
        eigenvalues: Whether to compute them, which for hundreds of units takes longer than following known
            points does. Without, `eigenvalue`, `unstable`, `kind` and `margin` are missing values.
        progress: Show a bar.

    Returns:
        A dataset; the axis `probe` is there if `x0` has it. Points are sorted by `unstable`, then by their
        coordinates, and padded where probes differ in number.

        - `point` `(probe, index, state)`;
        - `y` `(probe, index, observable)`: what is observed there;
        - `residual` `(probe, index)`: as judged by `tolerance`;
        - `correction` `(probe, index)`: length of the next Newton step, an estimate of the error;
        - `eigenvalue` `(probe, index, mode)`: of the full system's Jacobian, complex, the least stable first;
        - `unstable` `(probe, index)`: how many lie outside the unit circle, or right of the imaginary axis,
          by more than 1e-6;
        - `kind` `(probe, index)`: "stable node", "stable focus", "unstable node", "unstable focus", "saddle"
          or "non-hyperbolic"; a focus if the eigenvalue nearest to deciding otherwise is complex;
          non-hyperbolic if it is within 1e-6 of the circle or axis, or not resolved within the error bound;
        - `margin` `(probe, index)`: distance of that eigenvalue from the unit circle or imaginary axis;
        - `sign` `(probe, index)`: of det(I - J) or det(-Df), 1 or -1; NaN where not resolved;
        - `hits` `(probe, index)`: starts that led there; 0 if it was found halfway between others;
        - `slow_point` `(probe, slow, state)`, `slow_y` `(probe, slow, observable)`, `slow_speed`, `slow_hits`
          `(probe, slow)`: minima of the speed (Euclidean norm) that are no fixed points, the slowest first;
        - `starts`, `not_converged`, `index_sum` (the sum of `sign`), `unseen` (NaN without `x0`) `(probe)`.

        The attributes hold the options and, once more, `index_sum` and `not_converged`.

    Warns:
        UserWarning: The system has `bounds()`, and the index sum is not 1.

    Raises:
        TypeError, ValueError: An option is out of range, or the system or the starts are not possible (see
            `rnnlab.analysis.states.check_states`).

    References:
        Sussillo and Barak, "Opening the black box", Neural Computation 25 (2013): fixed and slow points.
        Marquardt, SIAM J. Appl. Math. 11 (1963); damping after Nielsen, report IMM-REP-1999-05 (1999).
        Ortega, SIAM J. Numer. Anal. 5 (1968): the theorem of Newton and Kantorovich, behind "resolved".
        Good, "The population frequencies of species", Biometrika 40 (1953).

    Example:
        >>> import torch
        >>> from rnnlab.maps import TanhMap
        >>> found = fixed_points(TanhMap(2.0), torch.linspace(-1, 1, 20).double()[:, None])
        >>> found.point.values.ravel().round(4).tolist(), found.kind.values.tolist()
        ([-0.9575, 0.9575, 0.0], ['stable node', 'stable node', 'unstable node'])
        >>> found.attrs["index_sum"], found.attrs["not_converged"]
        (1, 0)
    """
    for name, value in {"iterations": iterations, "max_steps": max_steps, "samples": samples}.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise ValueError(f"{name}={value!r} is not possible: give a whole number of at least 0.")
    for name, value in {"tolerance": tolerance, "max_step": max_step}.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name}={value} is not possible: give a number above 0.")
    if samples and isinstance(x0, Tensor) and x0.ndim > 1:
        x0 = torch.cat([x0, _uniform(system, x0, samples, seed)], -2)
    x, real = _starts(system, x0, known)
    fresh = real & (torch.arange(x.shape[-2], device=x.device) < x0.shape[-2])
    zeros, corners = Zeros(system), bounds(system)
    with one_thread(), tqdm(disable=not progress, unit="start", leave=False) as bar:
        points, label, ends, flat = _search(
            zeros, x, real, fresh, corners, tolerance, iterations, max_steps, max_step, slow, bar
        )
        spectrum = torch.full_like(points.x, math.nan, dtype=torch.complex128)
        if eigenvalues:
            (spectrum,) = by_parts(partial(_spectrum, zeros), points.x, points.there, bar)
    stability = classify(to_numpy(spectrum), flow=zeros.flow)
    unstable, margin = (torch.from_numpy(values).to(x.device) for values in stability[::2])
    kind = np.where(to_numpy(points.sign.isnan()) & (stability.kind != ""), "non-hyperbolic", stability.kind)

    # starts that led to a point, and whether no other did
    led = (label[..., None] == torch.arange(points.there.shape[-1], device=x.device)).any(-2)
    hits = led.sum(-2)
    news = (led & (hits == 1)[..., None, :]).any(-1) & fresh
    speed = zeros.value(ends).norm(dim=-1)
    slow_label, slowest = _cluster(ends, flat, 1e-3 * scale(ends), speed)
    slow_hits = (slow_label[..., None] == torch.arange(slowest.shape[-1], device=x.device)).sum(-2)
    index_sum = points.sign.nan_to_num().where(points.there, 0).sum(-1).long()
    not_converged = (real & ~led.any(-1) & ~flat).sum(-1)

    batch = batch_axes(x)[:-1]
    tables = {
        "index": (
            _order(points, unstable),
            {
                "point": (points.x, "state"),
                "y": (observe(system, points.x), "observable"),
                "residual": (points.residual,),
                "correction": (points.correction,),
                "eigenvalue": (spectrum, "mode"),
                "unstable": (unstable,),
                "kind": (kind,),
                "margin": (margin,),
                "sign": (points.sign,),
                "hits": (hits,),
            },
        ),
        "slow": (
            slowest,
            {
                "slow_point": (ends, "state"),
                "slow_y": (observe(system, ends), "observable"),
                "slow_speed": (speed,),
                "slow_hits": (slow_hits.gather(-1, slow_label.clamp(min=0)),),
            },
        ),
    }
    variables = {
        name: ((*batch, axis, *tail), _rows(to_numpy(values) if isinstance(values, Tensor) else values, rows))
        for axis, (rows, table) in tables.items()
        for name, (values, *tail) in table.items()
    }
    for name, values in {
        "starts": real.sum(-1),
        "not_converged": not_converged,
        "index_sum": index_sum,
        "unseen": news.sum(-1).double() / fresh.sum(-1),
    }.items():
        variables[name] = (batch, to_numpy(values))
    if corners is not None and bool((index_sum != 1).any()):
        degenerate = int((points.there & points.sign.isnan()).sum())
        warnings.warn(
            f"the indices of the fixed points add up to {index_sum.tolist()}, not 1: "
            f"points are missing, give more starts"
            + (f" (or it is due to {degenerate} degenerate ones of unknown index)." if degenerate else "."),
            stacklevel=3,
        )
    return xr.Dataset(
        variables,
        attrs={
            "analysis": "fixed_points",
            "time": "continuous" if zeros.flow else "discrete",
            "samples": samples,
            "seed": seed,
            "tolerance": tolerance,
            "iterations": iterations,
            "max_steps": max_steps,
            "max_step": max_step,
            "slow": slow,
            "eigenvalues": eigenvalues,
            "index_sum": index_sum.tolist(),
            "not_converged": not_converged.tolist(),
        },
    )


def _search(
    full: Zeros,
    x: Tensor,
    real: Tensor,
    fresh: Tensor,
    corners: tuple[Tensor, Tensor] | None,
    tolerance: float,
    iterations: int,
    max_steps: int,
    max_step: float,
    slow: bool,
    bar: tqdm,
) -> tuple[Points, Tensor, Tensor, Tensor]:
    """All searches from all starts.

    Returns:
        Points; for each start the rows of those it led to, one a search, -1 where to none, `(*probe, sample,
        search)`; where the descent from each start ended, and whether in a minimum of the speed.
    """
    small = reduced(full.system)
    zeros = full if small is None else Zeros(small)
    restrict = (lambda states: states) if small is None else small.restrict
    z, axis = restrict(x), x.ndim - 2
    if corners is None:
        infinite = torch.full_like(z[..., :1, :], math.inf)
        walls, box = (-infinite, infinite), around(z, real)
    else:
        box = walls = restrict(corners[0]), restrict(corners[1])

    def jump(states: Tensor, go: Tensor) -> tuple[Tensor, Tensor]:
        return newton(zeros, states, go, box, tolerance, max_steps, max_step)

    def settle(states: Tensor, go: Tensor) -> tuple[Tensor, Tensor]:
        return newton(full, states, go, None, tolerance, max_steps, max_step)

    def descend(states: Tensor, go: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return levenberg_marquardt(zeros, states, go, walls, tolerance, max_steps)

    def finish(states: Tensor, go: Tensor) -> Points:
        found = polish(zeros, states, go)
        beyond = torch.maximum(walls[0] - found.x, found.x - walls[1]).amax(-1)
        return found._replace(there=found.there & (beyond < PLACED))

    searches = [by_parts(jump, z, real, bar)]
    if iterations and not full.flow and bool(fresh.any()):
        ends, settling = _iterate(full, x, fresh, iterations)
        searches.append(by_parts(jump, restrict(ends), settling, bar))
    led = torch.stack([good for _, good in searches]).any(0)
    ends, good, flat = by_parts(descend, z, real if slow else real & ~led, bar)
    searches.append((ends, good))

    candidates, good = (torch.cat(parts, axis) for parts in zip(*searches, strict=True))
    polished = by_parts(finish, candidates, good, bar)
    points, _ = _merge(polished, tolerance)
    # between two attractors there is a saddle
    middle, good = by_parts(jump, *_between(points, int(fresh.sum(-1).max())), bar)
    more = by_parts(finish, middle, good, bar)
    points, label = _merge(
        tuple(torch.cat(both, axis) for both in zip(polished, more, strict=True)), tolerance
    )
    if small is not None:
        # what rests in the small system rests in the full one, but for rounding
        lifted, good = by_parts(settle, small.lift(points.x), points.there, bar)
        points, again = _merge(by_parts(partial(polish, full), lifted, good, bar), tolerance)
        label = again.gather(-1, label.clamp(min=0)).where(label >= 0, -1)
        ends = small.lift(ends)
    label = label[..., : candidates.shape[-2]]
    return points, torch.stack(label.split(real.shape[-1], -1), -1), ends, flat


def _iterate(zeros: Zeros, x: Tensor, go: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """`iterate`, all rows at once, which needs no Jacobians; several processes share them out."""
    axis = x.ndim - 2

    def part(rows: slice) -> tuple[Tensor, Tensor]:
        return iterate(zeros, x[..., rows, :], go[..., rows], iterations)

    ends, settling = cat_rows(shared(part, x.shape[axis]), axis)
    return ends, settling


def _uniform(system: System | VectorField, x0: Tensor, count: int, seed: int) -> Tensor:
    """Random states in the system's absorbing box, `(*probe, count, state)`."""
    shape = (*x0.shape[:-2], count, x0.shape[-1])
    generator = torch.Generator().manual_seed(seed)
    shares = torch.rand(shape[-2:], dtype=torch.float64, generator=generator).to(x0.device)
    one = torch.ones_like(shares[:1])
    low, high = bounds(system) or (-one, one)
    low, high = low.where(low.isfinite(), -1.0), high.where(high.isfinite(), 1.0)
    return (low + (high - low) * shares).expand(shape)


def _starts(
    system: System | VectorField, x0: Tensor, known: Tensor | np.ndarray | None
) -> tuple[Tensor, Tensor]:
    """All starts, `(*probe, sample, state)`, and which of them are real."""
    if known is None or not isinstance(x0, Tensor) or x0.numel():
        check_states(system, x0)
    real = torch.ones(x0.shape[:-1], dtype=torch.bool, device=x0.device)
    if known is None:
        return x0, real
    known = torch.as_tensor(known, device=x0.device)
    if known.ndim != x0.ndim or (known.shape[:-2], known.shape[-1]) != (x0.shape[:-2], x0.shape[-1]):
        raise ValueError(
            f"known of shape {tuple(known.shape)} does not fit x0 of shape {tuple(x0.shape)}: give "
            "(index, state) or (probe, index, state), with the same probes and states."
        )
    there = ~known.isnan().any(-1)
    if bool(there.any()):
        known = known.where(there[..., None], 0.0)
        check_states(system, known, "known")
    elif not x0.numel():
        raise ValueError("there is no start: x0 is empty and known has no points. Give at least one state.")
    return torch.cat([x0, known.nan_to_num()], -2), torch.cat([real, there], -1)


def _merge(points: tuple[Tensor, ...], tolerance: float) -> tuple[Points, Tensor]:
    """One row a point, `(*probe, index)`, and for each candidate the row of its point, -1 if it is none."""
    found = Points(*points)
    degenerate = found.sign.isnan()
    # where F(x) - x is flat, it may be small far from any zero: then Newton's steps are large
    placed = ~degenerate | (found.correction <= PLACED * scale(found.x))
    good = found.there & (found.residual <= tolerance) & placed & ~found.error.isnan()
    # at a zero of order m rounding leaves m times the bound, on both sides
    radius = torch.where(degenerate, 30.0, 4.0) * found.error
    label, firsts = _cluster(found.x, good, radius, found.error)
    kept = Points(*(gather(value, firsts.clamp(min=0)) for value in found))
    return kept._replace(there=firsts >= 0), label


def _between(points: Points, limit: int) -> tuple[Tensor, Tensor]:
    """States halfway between two points, the nearest pairs first, up to `limit`; and which are real."""
    first, second = torch.triu_indices(points.there.shape[-1], points.there.shape[-1], device=points.x.device)
    pair = points.there[..., first] & points.there[..., second] & (first < second)
    distance = torch.cdist(points.x, points.x)[..., first, second].masked_fill(~pair, math.inf)
    nearest = distance.argsort(dim=-1, stable=True)[..., : max(limit, 1)]
    middle = (gather(points.x, first[nearest]) + gather(points.x, second[nearest])) / 2
    return middle, pair.gather(-1, nearest) & (limit > 0)


def _cluster(x: Tensor, good: Tensor, radius: Tensor, rank: Tensor) -> tuple[Tensor, Tensor]:
    """Number the good rows so that those within each other's radius share a number, the lowest rank first.

    Returns:
        The numbers, -1 for the others, `(*probe, sample)`, and the first row of each, `(*probe, number)`, -1
        where there are fewer; the last axis is 1 long at least.
    """
    label = torch.full(good.shape, -1, device=x.device)
    firsts = []
    for probe in np.ndindex(*good.shape[:-1]):
        rows, first = good[probe].nonzero()[:, 0], []
        rows = rows[rank[probe][rows].argsort(dim=-1, stable=True)]
        while len(rows):
            distance = (x[probe][rows] - x[probe][rows[0]]).norm(dim=-1)
            near = distance <= torch.minimum(radius[probe][rows], radius[probe][rows[0]])
            near[0] = True
            label[probe][rows[near]] = len(first)
            first.append(int(rows[0]))
            rows = rows[~near]
        firsts.append(first)
    width = max(1, *map(len, firsts))
    padded = torch.tensor([first + [-1] * (width - len(first)) for first in firsts], device=x.device)
    return label, padded.view(*good.shape[:-1], width)


def _spectrum(zeros: Zeros, x: Tensor, go: Tensor) -> tuple[Tensor]:
    """Eigenvalues of the Jacobian, `(*probe, index, mode)`, the least stable first."""
    spectrum = torch.full_like(x, math.nan, dtype=torch.complex128)
    if bool(go.any()):
        values = to_numpy(torch.linalg.eigvals(jacobian(zeros.system, x)[go]))
        spectrum[go] = torch.from_numpy(leading_first(values, flow=zeros.flow)).to(x.device)
    return (spectrum,)


def _order(points: Points, unstable: Tensor) -> Tensor:
    """The rows in the order in which they are listed, `(*probe, index)`; -1 where there is none."""
    there, counts = to_numpy(points.there), to_numpy(unstable)
    coordinates = to_numpy(points.x).round(6)
    rows = np.full(there.shape, -1)
    for probe in np.ndindex(*there.shape[:-1]):
        order = np.lexsort((*coordinates[probe].T[::-1], counts[probe], ~there[probe]))
        rows[probe] = np.where(there[probe][order], order, -1)
    return torch.from_numpy(rows)


def _rows(values: np.ndarray, rows: Tensor) -> np.ndarray:
    """Listed rows of `values` along the sample axis, without those that are missing in all probes."""
    wanted = to_numpy(rows)[..., : int((rows >= 0).sum(-1).max())]
    tail = (1,) * (values.ndim - wanted.ndim)
    listed = np.take_along_axis(values, wanted.clip(0).reshape(*wanted.shape, *tail), wanted.ndim - 1)
    missing = "" if values.dtype.kind == "U" else -1 if values.dtype.kind == "i" else math.nan
    return np.where((wanted >= 0).reshape(*wanted.shape, *tail), listed, np.array(missing, values.dtype))
