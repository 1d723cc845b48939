"""What does the plane look like? Field, nullclines, fixed points, cycles, manifolds, trajectories, basins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from rnnlab.analysis.basins import basins_of
from rnnlab.analysis.certified import certified_fixed_points
from rnnlab.analysis.manifolds import manifolds_of
from rnnlab.analysis.nullclines import zero_curves
from rnnlab.analysis.periodic_orbits import periodic_orbits
from rnnlab.analysis.planes import Confined, Plane, Region
from rnnlab.analysis.states import check_states, one_thread, to_numpy
from rnnlab.integrate import integrate
from rnnlab.systems import System, VectorField, bounds, is_flow, law

Corner = Tensor | Sequence[float]

CROSSINGS = 10  # trajectories are followed for so many times as the diagonal takes at the median speed
STEPS = 100  # of a map
TYPES = {
    "stable node": "sink",
    "stable focus": "sink",
    "unstable node": "source",
    "unstable focus": "source",
    "saddle": "saddle",
}


@torch.no_grad()
def phase_plane(
    system: System | VectorField,
    box: tuple[Corner, Corner] | None = None,
    *,
    resolution: int = 41,
    found: xr.Dataset | None = None,
    plane: Plane | None = None,
    nullclines: bool = True,
    manifolds: bool = True,
    cycles: bool = False,
    basins: bool = False,
    starts: Tensor | int = 8,
    duration: float | None = None,
    frames: int = 601,
    tolerance: float = 1e-8,
) -> xr.Dataset:
    """Everything that a phase portrait shows, of a map or a vector field with two state components.

    Of a map the displacement F(x) - x is taken for the velocity; its nullclines are where one component
    stays, its trajectories are iterates. Systems of more components are seen on a `plane`: the velocity at
    the plane's own points, projected; trajectories from there and the points of `found`, projected. This
    is no portrait of a planar system: trajectories may cross, and nullclines and manifolds are left out.

    Args:
        system: The map or field, one only: no probe axis.
        box: Lower and upper corner, each `(2,)`. Default: the plane's box, or `bounds(system)` and a tenth
            of it around.
        resolution: Points of the grid along each side.
        found: Fixed points and perhaps cycles: a dataset of `topology`, `certified_fixed_points` or
            `fixed_points`, for one system. Default: certified here, in the box, for planar systems.
        plane: For systems of more than two components: where to look. See `pca_plane`, `readout_plane`.
        nullclines: Whether to look for them.
        manifolds: Whether to grow the stable and unstable manifolds of the saddles.
        cycles: Whether to look for cycles, where `found` has none.
        basins: Whether to find out where each point of the grid ends. Planar systems only.
        starts: Where trajectories start, `(trajectory, 2)`; a number n stands for n x n points, evenly
            spread over the box, edges included (64 in Jordan et al. 2019, Fig. 9); 0 for none.
        duration: How long they are followed, in time units or steps. Default: for fields ten times as long
            as the diagonal of the box takes at the median speed; for maps 100 steps.
        frames: For fields: at how many times they are shown, evenly spread.
        tolerance: Largest error of a step of the integration, see `integrate`.

    Returns:
        A dataset with axes `row` and `column`, with coordinates `second (row)` and `first (column)`, and

        - `velocity (row, column, axis)`, `speed (row, column)`: its norm;
        - `box_low`, `box_high (axis)`: the corners;
        - `nullcline (curve, vertex, axis)`: curves where one component of the velocity is zero,
          `nullcline_of (curve)`: which, `nullcline_residual (curve)`: its largest size at the
          vertices; see `zero_curves`. `vanishes (axis)`: a component that is zero on the whole grid has no
          curves;
        - `point (index, axis)`, `type (index)`: "sink", "source", "saddle", or what `found` says; clusters
          of undecided boxes are "undecided", at the middle of their hull;
        - `cycle_point (cycle, phase, axis)`, `cycle_type`, `cycle_period (cycle)`: type "stable",
          "unstable" or "non-hyperbolic";
        - `manifold (branch, vertex, axis)`, `manifold_stable`, `manifold_from`, `manifold_end`,
          `manifold_error (branch)`: whether it is a stable one, its saddle's place in `index`, why it ends
          ("fixed point", "box", "length", "time", "not invertible") and the error of its start; see
          `manifolds_of`;
        - `trajectory (start, time, axis)`, `trajectory_time (time)`: NaN once it has left the box by
          more than a quarter of its size;
        - `basin (row, column)`: position in `attractor` of where the point ends, -1 undecided;
          `attractor_point`, `attractor_cycle (attractor)`: its place in `index` or `cycle`, else -1.

        Attributes: `time`, "continuous" or "discrete"; `projection`, the plane's name or ""; `labels`.

    Raises:
        TypeError: `system` is no dynamical system, or holds operations that `certified_fixed_points` does
            not know: give `found`.
        ValueError: An option is out of range; the box is not finite, empty or of the wrong size; the system
            has not two components and no plane is given; the field is not finite in the box.

    References:
        I. D. Jordan, P. A. Sokol and I. M. Park, Gated recurrent units viewed through the lens of
        continuous time dynamical systems (2019), Fig. 2 to 9.

    Example:
        >>> from rnnlab.gru_flow import gru_flow
        >>> bistable = gru_flow(Uh=[[3.0, 0.0], [0.0, 3.0]])  # Fig. 2: all nullclines are straight
        >>> seen = phase_plane(bistable, ([-1.5, -1.5], [1.5, 1.5]), starts=2)
        >>> seen.nullcline_of.values.tolist(), (seen.type == "saddle").sum().item()
        ([0, 0, 0, 1, 1, 1], 4)
    """
    for name, number, least in (("resolution", resolution, 3), ("frames", frames, 2)):
        if not isinstance(number, int) or isinstance(number, bool) or number < least:
            raise ValueError(f"{name}={number!r} is not possible: give a whole number of at least {least}.")
    flow = is_flow(system)
    if duration is not None and not (0 < duration < float("inf") and (flow or duration == int(duration))):
        raise ValueError(
            f"duration={duration!r} is not possible: give a time above 0 (steps of a map: whole)."
        )
    if plane is not None and basins:
        raise ValueError("basins=True is not possible on a projection: states off the plane end elsewhere.")
    low, high = _corners(system, box, plane)
    rule = law(system)

    def velocity(place: Tensor) -> Tensor:
        x = place if plane is None else plane.lift(place)
        moved = rule(x) if flow else rule(x) - x
        return moved if plane is None else plane.along(moved)

    first, second = (
        torch.linspace(float(low[k]), float(high[k]), resolution, dtype=torch.float64) for k in range(2)
    )
    grid = torch.stack(torch.meshgrid(first, second, indexing="xy"), -1)
    _check(system, grid.flatten(0, 1) if plane is None else plane.lift(grid.flatten(0, 1)))
    with one_thread():
        v = velocity(grid)
        if not bool(v.isfinite().all()):
            bad = int((~v.isfinite().all(-1)).sum())
            raise ValueError(
                f"the field is not finite at {bad} of {resolution**2} grid points of the box from "
                f"{low.tolist()} to {high.tolist()}: give a box where it is."
            )
        if found is None and plane is None:
            found = certified_fixed_points(system, (low, high))
        point, kind = _points(found, plane)
        cycle = _cycles(system, found, plane, grid, cycles)
        lines = _nullclines(velocity, v, low, high) if nullclines and plane is None else []
        begin = _starts(starts, low, high)
        region = Region(low, high)
        time, path = _trajectories(system, begin, v, region, plane, duration, frames, tolerance)
        grown = manifolds_of(system, point, kind, region, tolerance) if manifolds and plane is None else []
        curves = _padded([curve for _, curve, _ in lines] + [one.curve for one in grown])
        data = {
            "velocity": (("row", "column", "axis"), to_numpy(v)),
            "speed": (("row", "column"), to_numpy(torch.linalg.vector_norm(v, dim=-1))),
            "box_low": ("axis", to_numpy(low)),
            "box_high": ("axis", to_numpy(high)),
            "vanishes": ("axis", to_numpy((v == 0).all(0).all(0))),
            "point": (("index", "axis"), to_numpy(point)),
            "type": ("index", np.array(kind, "<U14")),
            "cycle_point": (("cycle", "phase", "axis"), cycle[0]),
            "cycle_type": ("cycle", cycle[1]),
            "cycle_period": ("cycle", cycle[2]),
            "nullcline": (("curve", "vertex", "axis"), curves[: len(lines)]),
            "nullcline_of": ("curve", np.array([which for which, _, _ in lines], int)),
            "nullcline_residual": ("curve", np.array([residual for _, _, residual in lines], float)),
            "trajectory": (("start", "time", "axis"), to_numpy(path)),
            "trajectory_time": ("time", to_numpy(time), {"units": "time units" if flow else "time steps"}),
            "manifold": (("branch", "vertex", "axis"), curves[len(lines) :]),
            "manifold_stable": ("branch", np.array([one.stable for one in grown], bool)),
            "manifold_from": ("branch", np.array([one.saddle for one in grown], int)),
            "manifold_end": ("branch", np.array([one.end for one in grown], "<U14")),
            "manifold_error": ("branch", np.array([one.error for one in grown], float)),
        }
        if basins:
            data |= basins_of(system, grid, point, kind, cycle[0], cycle[1], region, tolerance)
    return xr.Dataset(
        data,
        coords={"first": ("column", to_numpy(first)), "second": ("row", to_numpy(second))},
        attrs={
            "analysis": "phase_plane",
            "time": "continuous" if flow else "discrete",
            "projection": "" if plane is None else plane.name,
            "labels": ["x", "y"] if plane is None else list(plane.labels),
            "resolution": resolution,
            "tolerance": tolerance,
        },
    )


def _corners(
    system: System | VectorField, box: tuple[Corner, Corner] | None, plane: Plane | None
) -> tuple[Tensor, Tensor]:
    """The box, checked."""
    given: Any = box if box is not None else plane.box if plane is not None else bounds(system)
    if given is None:
        raise ValueError("where to look is not known: give box=(low, high), each with two numbers.")
    low, high = (torch.as_tensor(end, dtype=torch.float64).detach() for end in given)
    if box is None and plane is None:
        if low.shape[:-1].numel() == 1:
            low, high = low.reshape(-1), high.reshape(-1)
        if low.ndim == 1 and len(low) != 2:
            raise ValueError(
                f"a system of {len(low)} state components has no phase plane: give two, or plane= (see "
                "pca_plane and readout_plane) and perhaps found=."
            )
        room = (high - low) / 10
        low, high = low - room, high + room
    if low.shape != (2,) or high.shape != (2,):
        raise ValueError(
            f"a box with corners of shapes {tuple(low.shape)} and {tuple(high.shape)} is not possible: "
            "give two corners, each with two numbers; of a system with several probes take one."
        )
    if not bool((low.isfinite() & high.isfinite() & (low < high)).all()):
        raise ValueError(
            f"a box from {low.tolist()} to {high.tolist()} is not possible: give finite low < high."
        )
    return low, high


def _check(system: System | VectorField, states: Tensor) -> None:
    try:
        check_states(system, states, "the grid")
    except ValueError as error:
        if "size of its state" not in str(error):
            raise
        raise ValueError(
            f"the system does not take states of {states.shape[-1]} components: for one that has not two "
            "give plane= (see pca_plane and readout_plane), of its size."
        ) from error


def _points(found: xr.Dataset | None, plane: Plane | None) -> tuple[Tensor, list[str]]:
    """Fixed points `(index, 2)` and their types."""
    if found is None:
        return torch.zeros(0, 2, dtype=torch.float64), []
    if "point" not in found or found["point"].dims != ("index", "state"):
        raise ValueError(
            "found has no point (index, state): give a dataset of topology, certified_fixed_points or "
            "fixed_points, of one system."
        )
    point = torch.as_tensor(found["point"].values, dtype=torch.float64)
    if "type" in found:
        kind = [str(name) for name in found["type"].values]
    else:
        kind = [TYPES.get(str(name), "undecided") for name in found["kind"].values]
    if "undecided_low" in found and "type" not in found:
        middle = (found["undecided_low"].values + found["undecided_high"].values) / 2
        point = torch.cat((point, torch.as_tensor(middle, dtype=torch.float64)))
        kind += ["undecided"] * len(middle)
    there = point.isfinite().all(-1)
    point, kind = point[there], [name for name, known in zip(kind, there.tolist(), strict=True) if known]
    return (point if plane is None else plane.project(point)), kind


def _cycles(
    system: System | VectorField, found: xr.Dataset | None, plane: Plane | None, grid: Tensor, search: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points `(cycle, phase, 2)`, types and periods of cycles."""
    if found is not None and "cycle_point" in found:
        point, kind, period = (found[f"cycle_{name}"].values for name in ("point", "type", "period"))
    elif search and plane is None:
        every = max(1, (len(grid) - 1) // 4)
        orbits = periodic_orbits(system, grid[::every, ::every].reshape(-1, 2))
        orbits = orbits.isel(orbit=np.flatnonzero(orbits["period"].values > (0 if is_flow(system) else 1)))
        names = np.where(orbits["unstable"].values == 0, "stable", "unstable")
        kind = np.where(orbits["kind"].values == "non-hyperbolic", "non-hyperbolic", names)
        point, period = orbits["point"].values, orbits["period"].values.astype(float)
    else:
        return np.zeros((0, 0, 2)), np.zeros(0, "<U14"), np.zeros(0)
    if plane is not None:
        point = to_numpy(plane.project(torch.as_tensor(point, dtype=torch.float64)))
    there = np.isfinite(point).all(-1).any(-1)
    return point[there], kind[there].astype("<U14"), period[there].astype(float)


def _nullclines(velocity: Any, v: Tensor, low: Tensor, high: Tensor) -> list[tuple[int, np.ndarray, float]]:
    """Which component is zero, where, and the largest that it is at the vertices."""
    lines = []
    for which in range(2):

        def component(x: np.ndarray, which: int = which) -> np.ndarray:
            return to_numpy(velocity(torch.from_numpy(x))[..., which])

        if bool((v[..., which] == 0).all()):
            continue
        for curve in zero_curves(component, to_numpy(low), to_numpy(high), cells=max(160, 2 * len(v))):
            lines.append((which, curve, float(np.abs(component(curve)).max())))
    return lines


def _starts(starts: Tensor | int, low: Tensor, high: Tensor) -> Tensor:
    if isinstance(starts, Tensor):
        if starts.ndim != 2 or starts.shape[-1] != 2 or not bool(starts.isfinite().all()):
            raise ValueError(
                f"starts of shape {tuple(starts.shape)} are not possible: give (trajectory, 2), finite."
            )
        return starts.double()
    if not isinstance(starts, int) or isinstance(starts, bool) or starts < 0:
        raise ValueError(
            f"starts={starts!r} is not possible: give places (trajectory, 2), or how many a side."
        )
    part = (
        torch.linspace(0, 1, starts, dtype=torch.float64)
        if starts > 1
        else torch.full((starts,), 0.5).double()
    )
    return low + torch.cartesian_prod(part, part).reshape(-1, 2) * (high - low)


def _trajectories(
    system: Any,
    begin: Tensor,
    v: Tensor,
    region: Region,
    plane: Plane | None,
    duration: float | None,
    frames: int,
    tolerance: float,
) -> tuple[Tensor, Tensor]:
    """Times, and places `(trajectory, time, 2)`."""
    x = begin if plane is None else plane.lift(begin)
    if not is_flow(system):
        steps = STEPS if duration is None else int(duration)
        time, path = torch.arange(steps + 1).double(), [x]
        for _ in range(steps):
            path.append(system.step(path[-1]))
        places = torch.stack(path)
    else:
        typical = float(torch.linalg.vector_norm(v, dim=-1).median())
        whole = duration or (CROSSINGS * region.diagonal / typical if typical else 1.0)
        time = torch.linspace(0, whole, frames, dtype=torch.float64)
        if not len(x):
            return time, x.new_zeros(0, frames, 2)
        confined = Confined(system, region, plane)
        places = integrate(confined, x, time, tolerance=tolerance)
    places = (places if plane is None else plane.project(places)).transpose(0, 1)
    gone = (~region.holds(places)).cumsum(1) > 0
    return time, places.masked_fill(gone[..., None], float("nan"))


def _padded(curves: list[np.ndarray]) -> np.ndarray:
    """Curves `(vertex, 2)` as one array, NaN where they are over."""
    full = np.full((len(curves), max(map(len, curves), default=0), 2), np.nan)
    for i, curve in enumerate(curves):
        full[i, : len(curve)] = curve
    return full
