"""Branches of fixed points and cycles over a parameter, and the bifurcations on them."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from rnnlab.figures import style
from rnnlab.figures.orbits import select

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# sign beside the point, marker, colour
MARKS = {
    "saddle-node": ("SN", "s", style.ORANGE),
    "transcritical": ("TC", "X", style.GREEN),
    "pitchfork": ("PF", "D", style.PURPLE),
    "period doubling": ("PD", "^", style.YELLOW),
    "Neimark-Sacker": ("NS", "o", style.SKY),
    "Hopf": ("H", "o", style.SKY),
    "fold of cycles": ("FC", "s", style.ORANGE),
    "branch point": ("BP", "D", style.PURPLE),
    "unclassified": ("?", "P", style.INK),
}
STABLE: dict[str, Any] = {"color": style.BLUE, "linewidth": 1.8, "zorder": 2.2}
UNSTABLE: dict[str, Any] = {"color": "#8a8a8a", "linewidth": 1.2, "linestyle": (0, (4, 2.5)), "zorder": 2.1}
INFINITE = ("saddle-node on the cycle", "homoclinic", "heteroclinic")  # ends of infinite period
MAX_LABELS = 24


@style.styled
def branch_diagram(dataset: xr.Dataset, *, observable: Any = 0) -> Figure:
    """Parameter against what is observed on each branch: solid where it is stable, dashed where not.

    A cycle shows all its phases. Bifurcations have a mark for each type, filled where supercritical, open
    where subcritical, and its abbreviation beside it; where there are many, the legend alone explains them.

    Args:
        dataset: From `rnnlab.analysis.continuation`.
        observable: Name or position of the observable.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: The dataset holds no branches of a continuation, or no such observable.
    """
    if "bifurcation_y" not in dataset or not dataset.sizes.get("branch"):
        raise ValueError("a branch diagram needs a dataset of `continuation` with at least one branch.")
    y = select(dataset["y"], "observable", observable).transpose("branch", "step", "phase").values
    at, unstable = dataset["parameter"].values, dataset["unstable"].values
    figure = style.new_figure(7.5, 4.6)
    figure.subplots_adjust(left=0.11, right=0.985, bottom=0.125, top=0.87)
    axes: Any = figure.subplots()
    axes.margins(x=0.01, y=0.08)
    for branch in range(len(at)):
        known = np.isfinite(at[branch])
        phases = np.isfinite(y[branch]).any(0)
        _draw_branch(axes, at[branch][known], y[branch][known][:, phases], unstable[branch][known] > 0)
    _draw_bifurcations(axes, dataset, select(dataset["bifurcation_y"], "observable", observable).values)
    start, stop = dataset.attrs["span"]
    axes.set_xlim(min(start, stop), max(start, stop))
    axes.set_xlabel(dataset.attrs["name"])
    axes.set_ylabel("$y$", fontsize=12)
    _legend(figure, _kinds(dataset))
    return figure


@style.styled
def piecewise_diagram(dataset: xr.Dataset, *, observable: Any = 0, title: str = "") -> Figure:
    """Branches along a training: above what is observed, below the size of the leading eigenvalue.

    Drawn as by `branch_diagram`, with a cross where a branch was lost. Below, a branch is stable under the
    line at 1. Ticks at the bottom stand at knots where the index sum is not 1: if orbits enter a box, points
    are missing there.

    Args:
        dataset: From `rnnlab.analysis.piecewise_continuation`.
        observable: Name or position of the observable.
        title: Above the picture.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: The dataset holds no branches of a piecewise continuation, or no such observable.
    """
    if "lost_parameter" not in dataset or not dataset.sizes.get("branch"):
        raise ValueError("this diagram needs a dataset of `piecewise_continuation` with at least one branch.")
    y = select(dataset["y"], "observable", observable).transpose("branch", "step", "phase").values
    at, unstable, modulus = (dataset[name].values for name in ("parameter", "unstable", "modulus"))
    figure = style.new_figure(7.5, 6.0)
    kinds, lost = _kinds(dataset), select(dataset["lost_y"], "observable", observable).values[:, 0]
    rows = math.ceil((2 + len(kinds) + bool(len(lost))) / 3)  # of the legend
    figure.subplots_adjust(left=0.11, right=0.97, bottom=0.09, top=0.975 - 0.034 * rows, hspace=0.08)
    above, below = figure.subplots(2, sharex=True, height_ratios=(3, 2))
    below.axhline(1, color=style.INK, linewidth=0.8, zorder=1.9)
    for branch in range(len(at)):
        known = np.isfinite(at[branch])
        for axes, values in ((above, y[branch]), (below, modulus[branch][:, None])):
            _draw_branch(axes, at[branch][known], values[known], unstable[branch][known] > 0)
    start, stop = dataset.attrs["span"]
    above.set_xlim(start, stop)
    _draw_bifurcations(above, dataset, select(dataset["bifurcation_y"], "observable", observable).values)
    if len(lost):
        above.plot(dataset["lost_parameter"], lost, "x", color=style.INK, markersize=7, zorder=3)
    odd = dataset["knot_parameter"].values[dataset["index_sum"].values != 1]
    below.plot(odd, np.zeros(len(odd)), "|", color=style.INK, transform=below.get_xaxis_transform())
    above.set_ylabel("$y$ at fixed points")
    below.set_ylabel("largest $|\\lambda|$")
    below.set_xlabel(dataset.attrs["name"])
    if title:
        figure.text(0.97, 0.985, title, ha="right", va="top", fontsize=9)
    _legend(figure, kinds, lost=bool(len(lost)))
    return figure


@style.styled
def cycle_diagram(
    dataset: xr.Dataset, *, equilibria: xr.Dataset | None = None, observable: Any = 0
) -> Figure:
    """Limit cycles over a parameter: above between which values they move, below their period.

    Solid where stable, dashed where not. A dotted line stands where the period runs to infinity.

    Args:
        dataset: From `rnnlab.analysis.cycle_continuation`.
        equilibria: From `rnnlab.analysis.continuation` over the same parameter: drawn above, thinner.
        observable: Name or position of the observable.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: The dataset holds no branch of cycles, or no such observable.
    """
    if "least_speed" not in dataset or "ended" not in dataset:
        raise ValueError("a cycle diagram needs a dataset of `cycle_continuation`.")
    figure = style.new_figure(7.5, 6.2)
    figure.subplots_adjust(left=0.11, right=0.985, bottom=0.09, top=0.9, hspace=0.08)
    above, below = figure.subplots(2, sharex=True, height_ratios=(3, 2))
    y = select(dataset["y"], "observable", observable).transpose("step", "phase").values
    at, dashed = dataset["parameter"].values, dataset["unstable"].values > 0
    kinds = _kinds(dataset)
    if equilibria is not None:
        points = select(equilibria["y"], "observable", observable).transpose("branch", "step", "phase").values
        for branch, s in enumerate(equilibria["parameter"].values):
            known = np.isfinite(s)
            unstable = equilibria["unstable"].values[branch][known] > 0
            _draw_branch(above, s[known], points[branch][known][:, :1], unstable, linewidth=1.0)
        seen = select(equilibria["bifurcation_y"], "observable", observable).values
        _draw_marks(above, equilibria, seen)
        kinds |= _kinds(equilibria)
    _draw_branch(above, at, np.stack((y.min(-1), y.max(-1)), -1), dashed)
    _draw_branch(below, at, dataset["period"].values[:, None], dashed)
    seen = select(dataset["bifurcation_y"], "observable", observable).values.reshape(-1, y.shape[-1])
    _draw_marks(above, dataset, np.stack((seen.min(-1), seen.max(-1)), -1) if len(seen) else seen)
    _draw_marks(below, dataset, dataset["bifurcation_period"].values[:, None])
    for end, limit in zip(dataset["ended"].values, dataset["ended_parameter"].values, strict=True):
        if end in INFINITE:
            for axes in (above, below):
                axes.axvline(limit, color=style.INK, linewidth=0.9, linestyle=":", zorder=1.9)
            # on the side where there are no cycles
            side = -1 if at.mean() > limit else 1
            near = {"textcoords": "offset points", "rotation": 90, "fontsize": 8, "va": "top"}
            place = {"xycoords": below.get_xaxis_transform(), "ha": "right" if side < 0 else "left"}
            below.annotate(str(end), (limit, 1), (3 * side, -3), **place, **near)
    low, high = dataset["period"].values.min(), dataset["period"].values.max()
    if high > 5 * low:
        below.set_yscale("log")
    elif high < 1.05 * low:  # rounding is not to be looked at
        below.set_ylim(0.9 * low, 1.1 * high)
    below.margins(x=0.02)
    below.set_xlabel(dataset.attrs["name"])
    below.set_ylabel(f"period [{dataset['period'].attrs.get('units', 'time units')}]")
    above.set_ylabel("$y$ (least and largest)")
    _legend(figure, kinds)
    return figure


def _kinds(dataset: xr.Dataset) -> set[tuple[str, str]]:
    """Types of the bifurcations, with their criticality."""
    kinds = dataset["bifurcation_type"].values
    critical = dataset["criticality"].values if "criticality" in dataset else [""] * len(kinds)
    return {(str(kind), str(how)) for kind, how in zip(kinds, critical, strict=True)}


def _draw_branch(axes: Axes, at: np.ndarray, y: np.ndarray, unstable: np.ndarray, **look: Any) -> None:
    """Pieces of equal stability: a piece between two steps is unstable if either end is."""
    dashed = unstable[:-1] | unstable[1:]
    cuts = [0, *(np.flatnonzero(dashed[1:] != dashed[:-1]) + 1), len(dashed)]
    for first, last in pairwise(cuts):
        if last == first:
            continue
        usual = UNSTABLE if dashed[first] else STABLE
        axes.plot(at[first : last + 1], y[first : last + 1], **{**usual, **look})


def _draw_marks(axes: Axes, dataset: xr.Dataset, y: np.ndarray) -> None:
    at, types = dataset["bifurcation_parameter"].values, dataset["bifurcation_type"].values
    criticality = dataset["criticality"].values if "criticality" in dataset else [""] * len(at)
    for i in range(len(at)):
        _, marker, color = MARKS[str(types[i])]
        face = "white" if criticality[i] == "subcritical" else color
        look = {"marker": marker, "markersize": 7, "markeredgewidth": 1.4, "linestyle": "none", "zorder": 3}
        phases = y[i][np.isfinite(y[i])]
        axes.plot(np.full(len(phases), at[i]), phases, markeredgecolor=color, markerfacecolor=face, **look)


def _draw_bifurcations(axes: Axes, dataset: xr.Dataset, y: np.ndarray) -> None:
    """Their marks, with labels where there is room."""
    _draw_marks(axes, dataset, y)
    at, types = dataset["bifurcation_parameter"].values, dataset["bifurcation_type"].values
    if len(at) > MAX_LABELS:
        return
    taken: list[tuple[float, float]] = []
    low, high = axes.get_ylim()
    start, stop = dataset.attrs["span"]
    point = (high - low) / 240  # height of the axes in printer's points
    for i in np.argsort(at):
        top, lift = float(np.nanmax(y[i])), 6
        # a label that would cover another one goes above it
        while any(
            abs(at[i] - x) < 0.03 * abs(stop - start) and abs(top / point + lift - height) < 10
            for x, height in taken
        ):
            lift += 5
        taken.append((float(at[i]), top / point + lift))
        near = {"textcoords": "offset points", "ha": "right", "fontsize": 8, "zorder": 4}
        axes.annotate(MARKS[str(types[i])][0], (at[i], top), xytext=(-4, lift), **near)


def _legend(figure: Figure, kinds: set[tuple[str, str]], lost: bool = False) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], **STABLE, label="stable"),
        Line2D([], [], **UNSTABLE, label="unstable"),
    ]
    for kind, critical in sorted(kinds):
        sign, marker, color = MARKS[kind]
        handles.append(
            Line2D(
                [],
                [],
                linestyle="none",
                marker=marker,
                markersize=6,
                markeredgewidth=1.4,
                markeredgecolor=color,
                markerfacecolor="white" if critical == "subcritical" else color,
                label=f"{sign}: {critical + ' ' if critical else ''}{kind}",
            )
        )
    if lost:
        handles.append(Line2D([], [], color=style.INK, marker="x", linestyle="none", label="lost"))
    figure.legend(handles=handles, loc="upper left", ncols=3, bbox_to_anchor=(0.1, 1.0), fontsize=8.5)
