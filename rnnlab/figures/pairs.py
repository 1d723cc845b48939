"""Where outputs settle under constant inputs, pair by pair, over training (Ribeiro et al. 2020, Fig. 7)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr

from rnnlab.figures import style
from rnnlab.figures.bifurcation import unsettled_legend
from rnnlab.figures.orbits import AXES, Orbits, axis_names, position, reach

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = (6, 6)  # outputs and inputs shown without a choice
LOOKS = 60  # drawn, evenly chosen: more would hide each other
DOTS = 1500  # in a panel
SAME = 0.02  # of the axis, by which orbits on one attractor differ at most
FAR = 0.12  # of the axis, that an arrow has to go
ARROWS = 3  # in a panel, the longest


@style.styled
def pairs(
    looks: xr.Dataset,
    *,
    inputs: Sequence[Any] | None = None,
    outputs: Sequence[Any] | None = None,
    epochs: tuple[float, float] | None = None,
) -> Figure:
    """y_t against its first difference, a panel for each pair of a constant input and an output.

    A fixed point is one dot on the middle line, a cycle of period p are p dots, a quasi-periodic oscillation
    is a closed loop. The colour is the epoch, early looks are pale. Arrows lead from where an attractor was
    to where it went: from look to look an attractor is followed as long as it and its successor are the
    nearest of each other, so those that coexist have arrows of their own, above the dots to the right and
    below them to the left, and one that appears or vanishes has none. A way back and forth has an arrow for
    each leg. Orbits that have not settled are dots of another colour, without arrows.

    Args:
        looks: `y` `(parameter, probe, sample, time, observable)` and `settled`, such as all looks of
            `bifurcation`; the parameter is the axis that is none of the others.
        inputs: Names or positions of the probes, the columns. Default: all, or six spread over them.
        outputs: Names or positions of the observables, the rows. Default: all, or six spread over them.
        epochs: First and last epoch to draw, or value of another parameter. Default: all. Of more than 60
            looks sixty are drawn, evenly chosen.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: The dataset has no parameter axis, no such input, output or epochs, or no two time steps.

    References:
        Ribeiro, Tiels, Aguirre, Schön, "Beyond exploding and vanishing gradients", AISTATS 2020, Fig. 7,
        Supplementary Fig. 3 and 4.
    """
    looks = _chosen(looks, epochs)
    y = looks.get("y", looks)  # what is missing Orbits says
    known = axis_names(looks["y"], "observable") if "observable" in y.dims else [""]
    rows = _choose(known, outputs, MOST[0], "observable")
    orbits = [Orbits.of(looks, row) for row in rows]
    columns = _choose(orbits[0].names, inputs, MOST[1], "probe")
    orbits = [each.pick(*columns) for each in orbits]

    wide, high = (2.0, 1.75) if len(columns) > 3 else (3.2, 2.4)
    width, height = 1.9 + wide * len(columns), 1.0 + high * len(rows)
    figure = style.new_figure(width, height)
    left, right, bottom, top = 0.95 / width, 1 - 1.05 / width, 0.62 / height, 1 - 0.5 / height
    figure.subplots_adjust(left, bottom, right, top, wspace=0.1, hspace=0.42)
    grid: Any = figure.subplots(len(rows), len(columns), sharex="row", sharey="row", squeeze=False)
    first, last = float(orbits[0].at.min()), float(orbits[0].at.max())
    # the pale end of the scale stays out
    colors: Any = {"cmap": "viridis_r", "vmin": first - (last - first or 1) / 6, "vmax": last}
    dots: Any = None
    for panels, own, row in zip(grid, orbits, rows, strict=True):
        limits, most = own.limits(), 0.0
        for i, axes in enumerate(panels):
            points = own.points(i, limits, differences=True, max_points=DOTS)
            most, good = max(most, reach(points.dy, limits)), points.settled
            axes.plot(points.y[~good], points.dy[~good], "o", ms=1.2, mew=0, color=style.UNSETTLED, alpha=0.5)
            place = (points.y[good], points.dy[good])
            dots = axes.scatter(*place, c=points.at[good], s=5, linewidths=0, zorder=2, **colors)
            for leg in legs(own, i, limits):
                _draw_arrow(axes, leg)
            axes.tick_params(labelsize=8)
            said = f"{own.names[i]} → {known[row]}" if len(known) > 1 else own.names[i]
            axes.set_title(style.plain(said), pad=3)
        panels[0].set(xlim=limits, ylim=(-1.1 * most, 1.1 * most))
        panels[0].locator_params(axis="x", nbins=4)
        panels[0].locator_params(axis="y", nbins=4)
    figure.supxlabel("$y_t$", fontsize=12, x=(left + right) / 2, y=0.06 / height, va="bottom")
    figure.supylabel("$y_t - y_{t-1}$", fontsize=12, x=0.08 / width, ha="left")
    scale = figure.add_axes((right + 0.15 / width, bottom, 0.12 / width, top - bottom))
    bar = figure.colorbar(dots, cax=scale, label=orbits[0].label)
    bar.outline.set_visible(False)  # type: ignore[operator]
    scale.set_ylim(first, last if last > first else first + 1)
    scale.grid(visible=False)
    unsettled_legend(figure, *((own, own.limits()) for own in orbits))
    return figure


def _chosen(looks: xr.Dataset, epochs: tuple[float, float] | None) -> xr.Dataset:
    """At most `LOOKS` of the looks, evenly chosen, read from disk."""
    others = [str(dim) for dim in looks["y"].dims if dim not in AXES] if "y" in looks else []
    if len(others) != 1:
        return looks  # Orbits says so
    at = np.asarray(looks[others[0]].values)
    inside = np.arange(len(at))
    if epochs is not None:
        inside = np.flatnonzero((at >= epochs[0]) & (at <= epochs[1]))
        if not len(inside):
            raise ValueError(f"epochs={epochs} is not possible: looks go from {at.min()} to {at.max()}.")
    spread = np.linspace(0, len(inside) - 1, min(len(inside), LOOKS)).round().astype(int)
    kept = [name for name in ("y", "settled") if name in looks]
    return looks[kept].isel({others[0]: inside[spread]}).load()


def _choose(names: list[str], chosen: Sequence[Any] | None, most: int, what: str) -> list[int]:
    if chosen is None:
        return [int(i) for i in np.linspace(0, len(names) - 1, min(len(names), most)).round()]
    return [position(names, one, what) for one in chosen]


class Leg(NamedTuple):
    """The way of an attractor's mean output in one direction, from a look to a later one."""

    start: float
    end: float
    first: float  # value of the parameter
    last: float


def legs(orbits: Orbits, probe: int, limits: tuple[float, float]) -> list[Leg]:
    """Which ways the attractors of one probe go, the longest first: at most `ARROWS` that are worth one."""
    span = limits[1] - limits[0]
    branches = follow([_attractors(orbits, look, probe, SAME * span) for look in range(len(orbits.at))])
    found = [
        Leg(branch[i][1], branch[j][1], float(orbits.at[branch[i][0]]), float(orbits.at[branch[j][0]]))
        for branch in branches
        for i, j in turns(np.array([mean for _, mean in branch]), FAR * span)
    ]
    return sorted(found, key=lambda leg: -abs(leg.end - leg.start))[:ARROWS]


def _attractors(orbits: Orbits, look: int, probe: int, same: float) -> np.ndarray:
    """Mean and standard deviation of what each attractor visits, `(attractor, 2)`."""
    y = orbits.y[look, probe][orbits.settled[look, probe]]
    y = y[np.isfinite(y).all(-1)]
    kept: list[np.ndarray] = []
    for one in np.stack((y.mean(-1), y.std(-1)), -1):
        if not any(np.abs(one - other).max() <= same for other in kept):
            kept.append(one)
    return np.array(kept).reshape(-1, 2)


def follow(points: Sequence[np.ndarray]) -> list[list[tuple[int, float]]]:
    """Branches through sets of points `(point, axis)`, one set a look.

    A point goes on to the one of the next look that is nearest to it, if that has no nearer one before it.

    Returns:
        For each branch the looks and the first coordinates.

    Example:
        >>> sets = [np.array([[0.0]]), np.array([[0.1], [5.0]]), np.array([[5.2]])]
        >>> follow(sets)
        [[(0, 0.0), (1, 0.1)], [(1, 5.0), (2, 5.2)]]
    """
    branches: list[list[tuple[int, float]]] = []
    open_: list[list[tuple[int, float]]] = []
    for look, here in enumerate(points):
        own: list[list[tuple[int, float]]] = [[] for _ in here]
        before = points[look - 1] if look else here[:0]
        if len(before) and len(here):
            apart = np.abs(before[:, None] - here[None]).max(-1)
            onward, back = apart.argmin(1), apart.argmin(0)
            for i, j in enumerate(onward):
                if back[j] == i:
                    own[j] = open_[i]
        for branch, point in zip(own, here, strict=True):
            if not branch:
                branches.append(branch)
            branch.append((look, float(point[0])))
        open_ = own
    return branches


def turns(values: np.ndarray, least: float) -> list[tuple[int, int]]:
    """Legs of a way, as first and last position: from extreme to extreme, each at least so long.

    Example:
        >>> turns(np.array([0.0, 1.0, 0.9, 3.0, 2.9, 1.0]), 0.5)
        [(0, 3), (3, 5)]
    """
    corners = [0]
    low = high = 0  # since the last corner
    direction = 0
    for i, value in enumerate(values):
        low, high = (i if value < values[low] else low), (i if value > values[high] else high)
        if direction >= 0 and values[high] - value >= least:
            corners.append(high)
            direction, low, high = -1, i, i
        elif direction <= 0 and value - values[low] >= least:
            corners.append(low)
            direction, low, high = 1, i, i
    corners.append(high if direction > 0 else low)
    return [(i, j) for i, j in pairwise(corners) if i < j and abs(values[j] - values[i]) >= least]


def _draw_arrow(axes: Axes, leg: Leg) -> None:
    """Along the middle line, bent so that both directions can be told apart."""
    from matplotlib.patheffects import Normal, Stroke

    arrow = {
        "arrowstyle": "-|>,head_length=0.35,head_width=0.17",
        "connectionstyle": "arc3,rad=-0.3",
        "color": style.INK,
        "linewidth": 0.9,
        "shrinkA": 2,
        "shrinkB": 2,
        "path_effects": [Stroke(linewidth=2.4, foreground="white"), Normal()],
    }
    axes.annotate("", (leg.end, 0.0), (leg.start, 0.0), arrowprops=arrow, zorder=3)
