"""What is there in the plane, in one call? Points by type, cycles, slow points, homoclinic regions, lines."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from rnnlab.analysis.certified import certified_fixed_points
from rnnlab.analysis.closed_curves import closed_curves
from rnnlab.analysis.fates import Cycles, fates
from rnnlab.analysis.homoclinic import homoclinic_regions
from rnnlab.analysis.planar_points import TYPES, PlanarPoint, nearly_degenerate, planar_points
from rnnlab.analysis.roots import Zeros
from rnnlab.analysis.slow_lines import slow_lines
from rnnlab.analysis.slow_points import slow_points
from rnnlab.analysis.states import one_thread
from rnnlab.systems import System, VectorField, bounds, is_flow

COUNTS = {
    "sinks": "sink",
    "sources": "source",
    "saddles": "saddle",
    "sink_saddles": "sink-saddle",
    "source_saddles": "source-saddle",
    "codimension_2": "codimension 2",
    "centres": "centre",
    "undecided": "undecided",
}
LONGEST = 500.0  # default of `duration`, in units of 1 / the typical slope,
SETTLED = 20.0  # at least so many units of 1 / the slowest rate at a sink, and of a map so many steps
LEAST_STEPS, MOST_STEPS = 4000, 20_000
SHORTEST = 0.1  # length of a pseudo-line attractor, relative to the box
LOOK = 16  # starts along each axis in search of slow points


@torch.no_grad()
def topology(
    system: System | VectorField,
    box: tuple[Tensor, Tensor] | None = None,
    *,
    tolerance: float = 1e-6,
    near: float = 0.05,
    duration: float | None = None,
    starts: int = 64,
    line_speed: float = 0.05,
    resolution: float = 1e-8,
    max_boxes: int = 500_000,
) -> xr.Dataset:
    """List what the phase portrait of a planar map or field consists of, each item by type.

    **Fixed points** are those of `certified_fixed_points`. Simple ones are proved to be there; they are
    sink, source or saddle by their eigenvalues (for a map: all multipliers inside the unit circle, all
    outside, else). What the certificate leaves undecided is located by the equations that make a point
    degenerate and classified by normal forms, see `degenerate.degenerate_point`: so far as a computation in
    finite precision can tell, within `tolerance`. With parameters that were rounded a degenerate point is two
    close points or a slow point instead: `nearly` and `slow_type` name what it nearly is. The Poincare
    indices of all points add up to 1 where the field points inward all around the box.

    **Cycles** of a field: starts on a grid, and on small circles around points of index 1, are followed
    forward and backward in time. What comes to no fixed point and does not leave the box is closed to a cycle
    and solved for by collocation (`periodic_orbits`). Found are the cycles that attract a start in one
    direction of time; a cycle whose basin lies between the starts is missed, as is one of a period longer
    than `duration`. Of a map, attracting periodic orbits and closed curves are found (`closed_curves`).

    **Slow points** are local minima of the speed that are no fixed points, see `slow_points`.

    **Homoclinic regions** of degenerate points of a field, see `homoclinic_regions`. None are looked for in
    maps, which cannot be run backward.

    **Pseudo-line attractors** are curves on which the speed stays below `line_speed` times the median speed
    in the box, and towards which the dynamics lead, at least a tenth of the box long, see `slow_lines`.

    Args:
        system: A map or field of two state components, one only: no probe axis.
        box: Lower and upper corner, `(2,)` each. Default: `bounds(system)`, widened to hold [-1, 1]^2.
        tolerance: Within which a degenerate point is taken as exactly so, relative to the typical slope: the
            median norm of the derivative over the box.
        near: Threshold for `nearly`: on eigenvalues relative to the typical slope, on distances relative to
            the box.
        duration: Time, or steps of a map, for which starts are followed. Default: 500 over the typical slope,
            or that at a fixed point if it is smaller (down to a 20th), and up to ten times that where the
            slowest eigenvalue of a sink asks for it; 4000 to 20 000 steps of a map.
        starts: Number of starts in search of cycles, on a square grid.
        line_speed: Speed below which a place is slow, relative to the median.
        resolution, max_boxes: See `certified_fixed_points`.

    Returns:
        A dataset. Fixed points are in the order of the types below, then of the coordinates:

        - `point` `(index, state)`; `type` `(index)`: "sink", "source", "saddle", "sink-saddle",
          "source-saddle", "codimension 2", "centre" or "undecided"; `certified` `(index)`; `eigenvalue`
          `(index, mode)`; `residual` `(index)`: norm of f, or F(x) - x; `poincare_index` `(index)`, 0 also
          where it is not clear;
        - `degeneracy` `(index)`: "" of a simple point; "saddle-node", "cubic" (sinks, sources and saddles by
          terms of third order), "nilpotent", "zero", "hopf", "neimark-sacker", "flip", or "extended" for a
          continuum of fixed points; `defect` `(index)`: by how much it is not exactly that;
        - `nearly` `(index)`, `nearly_distance` `(index)`: see `nearly_degenerate`;
        - `cycle_point` `(cycle, phase, state)`, `cycle_period` `(cycle)`, `cycle_type` `(cycle)`: "stable",
          "unstable" or "non-hyperbolic";
        - `slow_point` `(slow, state)`, `slow_speed` `(slow)`, `slow_type` `(slow)`: the collision it is the
          ghost of, "" where undecided, `slow_passage` `(slow)`: time through the bottleneck, `slow_distance`
          `(slow)`: from the nearest fixed point;
        - `homoclinic_point` `(region, state)`: the fixed point, `homoclinic_share` `(region)`: of the box,
          `homoclinic_start` `(region, state)`: a state deep inside;
        - `line_point` `(line, vertex, state)`, `line_length`, `line_curvature` (the largest), `line_speed`
          (the largest on it), `line_closed` `(line)`;
        - counts: `sinks`, `sources`, `saddles`, `sink_saddles`, `source_saddles`, `codimension_2`, `centres`,
          `undecided`, `cycles`, `slow_points`, `homoclinic_regions`, `lines`;
        - `index_sum`: of all points; `leaves`: whether starts left the box forward in time; `unsettled`: how
          many starts were followed without result; `typical_speed`, `typical_slope`: medians over the box;
        - `signature`: points and cycles in words, such as "2 sinks, 1 saddle".

    Raises:
        UnknownOperation: See `certified_fixed_points`.
        ValueError: An option is out of range, the box is not finite or empty, or the state does not have two
            components.

    References:
        Jordan, Sokol and Park, "Gated recurrent units viewed through the lens of continuous time dynamical
        systems" (2019): the types, homoclinic regions, slow points and pseudo-line attractors.

    Example:
        >>> from rnnlab.gru_flow import gru_flow
        >>> found = topology(gru_flow(Uh=[[2.0, 0.0], [0.0, 2.0]], Ur=[[-1.0, 0.0], [0.0, -1.0]]))  # Fig. 3B
        >>> found.signature.item(), found.index_sum.item()
        ('1 sink, 2 sink-saddles, 1 codimension-2 point', 1)
    """
    for name, value in {"tolerance": tolerance, "near": near, "line_speed": line_speed}.items():
        if not 0 < value < 1:
            raise ValueError(f"{name}={value} is not possible: give a number between 0 and 1.")
    if duration is not None and not 0 < duration < math.inf:
        raise ValueError(f"duration={duration} is not possible: give a time above 0.")
    if not isinstance(starts, int) or isinstance(starts, bool) or starts < 1:
        raise ValueError(f"starts={starts!r} is not possible: give a whole number of at least 1.")
    low, high = corners = _box(system, box)
    found = certified_fixed_points(system, corners, resolution=resolution, max_boxes=max_boxes)
    size = float((high - low).max())
    with one_thread():
        speed, slope = _typical(system, corners)
        points = planar_points(system, found, size, slope, tolerance)
        loops, regions, counted = _orbits(system, points, corners, slope, duration, starts)
        slow = slow_points(system, corners, resolution=LOOK)
        seeds = _stack([p.point for p in points] + [s.point for s in slow])
        lines = slow_lines(system, seeds, corners, line_speed * speed, least=SHORTEST * size)
    nearly, apart = nearly_degenerate(points, flow=is_flow(system), slope=slope, size=size, near=near)

    places = _stack([p.point for p in points])
    spots = _stack([s.point for s in slow])
    types, kinds = [p.type for p in points], [kind for _, _, kind in loops]
    numbers = {name: types.count(kind) for name, kind in COUNTS.items()} | {
        "cycles": len(loops),
        "slow_points": len(slow),
        "homoclinic_regions": len(regions),
        "lines": len(lines),
    }
    columns: Mapping[str, tuple[tuple[str, ...], Any]] = {
        "point": (("index", "state"), places.numpy()),
        "type": (("index",), _text(types)),
        "certified": (("index",), np.array([p.certified for p in points], dtype=bool)),
        "eigenvalue": (("index", "mode"), np.array([p.eigenvalue for p in points], complex).reshape(-1, 2)),
        "residual": (("index",), Zeros(system).value(places).norm(dim=-1).numpy()),
        "poincare_index": (("index",), np.array([p.index for p in points], dtype=int)),
        "degeneracy": (("index",), _text([p.degeneracy for p in points])),
        "defect": (("index",), np.array([p.defect for p in points], dtype=float)),
        "nearly": (("index",), _text(nearly)),
        "nearly_distance": (("index",), np.array(apart, dtype=float)),
        "cycle_point": (("cycle", "phase", "state"), _padded([curve for curve, _, _ in loops])),
        "cycle_period": (("cycle",), np.array([period for _, period, _ in loops], dtype=float)),
        "cycle_type": (("cycle",), _text(kinds)),
        "slow_point": (("slow", "state"), spots.numpy()),
        "slow_speed": (("slow",), np.array([s.speed for s in slow], dtype=float)),
        "slow_type": (("slow",), _text([s.type for s in slow])),
        "slow_passage": (("slow",), np.array([s.passage for s in slow], dtype=float)),
        "slow_distance": (("slow",), _nearest(spots, places)),
        "homoclinic_point": (("region", "state"), _stack([point for point, _, _ in regions]).numpy()),
        "homoclinic_share": (("region",), np.array([share for _, share, _ in regions], dtype=float)),
        "homoclinic_start": (("region", "state"), _stack([start for _, _, start in regions]).numpy()),
        "line_point": (("line", "vertex", "state"), _padded([line.points for line in lines])),
        "line_length": (("line",), np.array([line.length for line in lines], dtype=float)),
        "line_curvature": (("line",), np.array([line.curvature for line in lines], dtype=float)),
        "line_speed": (("line",), np.array([line.speed for line in lines], dtype=float)),
        "line_closed": (("line",), np.array([line.closed for line in lines], dtype=bool)),
        **{name: ((), count) for name, count in (numbers | counted).items()},
        "index_sum": ((), sum(p.index for p in points)),
        "typical_speed": ((), speed),
        "typical_slope": ((), slope),
        "signature": ((), _signature(types, kinds)),
    }
    return xr.Dataset(
        columns,
        attrs={
            "analysis": "topology",
            "tolerance": tolerance,
            "near": near,
            "starts": starts,
            "line_speed": line_speed,
            "resolution": resolution,
            "max_boxes": max_boxes,
        },
    )


def _box(system: Any, box: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
    one = torch.ones(2, dtype=torch.float64)
    given = (bounds(system) or (-one, one)) if box is None else box
    low, high = (torch.as_tensor(end, dtype=torch.float64).detach() for end in given)
    if box is None and low.shape[:-1].numel() == 1 == high.shape[:-1].numel():
        low, high = low.reshape(-1), high.reshape(-1)
    if low.shape[-1:] != (2,) or high.shape[-1:] != (2,):
        raise ValueError(
            f"a state of {low.shape[-1] if low.ndim else 1} components is not possible: topology is of "
            "planar systems, give one with 2 (of others phase_plane shows a plane)."
        )
    # an absorbing box may be as small as the point that it holds
    return (torch.minimum(low, -one), torch.maximum(high, one)) if box is None else (low, high)


def _typical(system: Any, box: tuple[Tensor, Tensor]) -> tuple[float, float]:
    """Median speed and median norm of the derivative over the box."""
    x, zeros = _grid(box, 12), Zeros(system)
    slope = torch.linalg.matrix_norm(zeros.slope(x), 2)
    return float(zeros.value(x).norm(dim=-1).median()), max(float(slope.median()), 1e-300)


def _grid(box: tuple[Tensor, Tensor], side: int) -> Tensor:
    """The middles of `side` x `side` cells."""
    share = (torch.arange(side, dtype=torch.float64) + 0.5) / side
    return torch.cartesian_prod(*(a + (b - a) * share for a, b in zip(*box, strict=True)))


def _orbits(
    system: Any,
    points: list[PlanarPoint],
    box: tuple[Tensor, Tensor],
    slope: float,
    duration: float | None,
    starts: int,
) -> tuple[list[tuple[np.ndarray, float, str]], list[tuple[Tensor, float, Tensor]], dict[str, Any]]:
    """Cycles, homoclinic regions, and what is counted on the way."""
    x0, places = _grid(box, math.ceil(math.sqrt(starts))), _stack([p.point for p in points])
    types = np.array([p.type for p in points], dtype="<U16")
    sinks, sources = (torch.from_numpy(types == kind) for kind in ("sink", "source"))
    size = float((box[1] - box[0]).max())
    radius = _radii(points, size)
    if not is_flow(system):
        loops, unsettled = closed_curves(
            system, x0, places, radius, int(duration or _while(system, points, slope))
        )
        outside = (system.step(x0) < box[0]) | (system.step(x0) > box[1])
        return loops, [], {"leaves": bool(outside.any()), "unsettled": unsettled}
    time = duration or _while(system, points, slope)
    angle = torch.arange(8, dtype=torch.float64) * math.pi / 4
    ring = torch.stack((angle.cos(), angle.sin()), -1)
    # a cycle around a point of index 1 may be too small for the grid
    rings = [p.point + 1.5 * r * ring for p, r in zip(points, radius, strict=True) if p.index >= 1]
    x0 = torch.minimum(torch.maximum(torch.cat([x0, *rings]), box[0]), box[1])
    cycles = Cycles(system, box, time)
    onward = fates(system, x0, places, sinks, radius, box, time, cycles)
    back = fates(system, x0, places, sources, radius, box, -time, cycles)
    regions = [
        (places[i], region.share, region.start)
        for i in np.flatnonzero(types == "codimension 2").tolist()
        for region in homoclinic_regions(system, i, places, sinks, sources, radius, box, time)
    ]
    counted = {
        "leaves": bool((onward == -2).any()),
        "unsettled": int((onward == -1).sum() + (back == -1).sum()),
    }
    return sorted(cycles.found, key=lambda row: row[1]), regions, counted


def _while(system: Any, points: Sequence[PlanarPoint], slope: float) -> float:
    """How long starts are followed: long beside what is usual, and beside the slowest rate at a sink."""
    flow = is_flow(system)
    simple = np.array([p.eigenvalue for p in points if not p.degeneracy], dtype=complex).reshape(-1, 2)
    sinks = simple[[p.type == "sink" for p in points if not p.degeneracy]]
    rates = np.abs(np.real(sinks) if flow else np.abs(sinks) - 1)
    slowest = SETTLED / max(float(rates.min(initial=math.inf)), 1e-300)
    if not flow:
        return min(max(LEAST_STEPS, slowest), MOST_STEPS)
    sizes = np.abs(simple).max(-1)
    usual = LONGEST / min([slope, *sizes[sizes > slope / 20]])
    return min(max(usual, slowest), 10 * usual)


def _radii(points: Sequence[PlanarPoint], size: float) -> Tensor:
    """Of discs around points: what stays in one has come to the point, or to one very near to it.

    Where it is degenerate trajectories come slowly, and the disc is larger.
    """
    radii = []
    for p in points:
        apart = [float((p.point - q.point).norm()) for q in points if q is not p]
        partner = max((d for d in apart if d < 0.01 * size), default=0.0)
        free = min((d for d in apart if d >= 0.01 * size), default=size)
        share, most = (0.1, 0.02) if p.certified and not p.degeneracy else (0.25, 0.05)
        radii.append(min(share * free, most * size) + partner)
    return torch.tensor(radii, dtype=torch.float64)


def _signature(types: Sequence[str], loops: Sequence[str]) -> str:
    """Such as "2 sinks, 1 saddle, 1 stable cycle"."""
    long = {"codimension 2": "codimension-2 point", "undecided": "undecided point"}
    rows = [(types.count(kind), long.get(kind, kind)) for kind in TYPES]
    rows += [(loops.count(kind), f"{kind} cycle") for kind in ("stable", "unstable", "non-hyperbolic")]
    return ", ".join(f"{count} {name}{'s' * (count > 1)}" for count, name in rows if count) or "nothing"


def _stack(states: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(states)) if states else torch.zeros(0, 2, dtype=torch.float64)


def _text(words: Sequence[str]) -> np.ndarray:
    return np.array(words, dtype="<U16")


def _padded(curves: Sequence[np.ndarray]) -> np.ndarray:
    """Curves `(curve, vertex, 2)`, the shorter ones filled by NaN."""
    values = np.full((len(curves), max(map(len, curves), default=0), 2), np.nan)
    for row, curve in zip(values, curves, strict=True):
        row[: len(curve)] = curve
    return values


def _nearest(x: Tensor, points: Tensor) -> np.ndarray:
    """Distance of each state from the nearest of the points."""
    return torch.cdist(x, points).amin(-1).numpy() if len(points) else np.full(len(x), np.nan)
