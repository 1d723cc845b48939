"""Branches of fixed points and cycles over a parameter, and the bifurcations on them."""

from __future__ import annotations

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
    "unclassified": ("?", "P", style.INK),
}
STABLE: dict[str, Any] = {"color": style.BLUE, "linewidth": 1.8, "zorder": 2.2}
UNSTABLE: dict[str, Any] = {"color": "#8a8a8a", "linewidth": 1.2, "linestyle": (0, (4, 2.5)), "zorder": 2.1}
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
    _legend(figure, dataset)
    return figure


def _draw_branch(axes: Axes, at: np.ndarray, y: np.ndarray, unstable: np.ndarray) -> None:
    """Pieces of equal stability: a piece between two steps is unstable if either end is."""
    dashed = unstable[:-1] | unstable[1:]
    cuts = [0, *(np.flatnonzero(dashed[1:] != dashed[:-1]) + 1), len(dashed)]
    for first, last in pairwise(cuts):
        if last == first:
            continue
        axes.plot(at[first : last + 1], y[first : last + 1], **(UNSTABLE if dashed[first] else STABLE))


def _draw_bifurcations(axes: Axes, dataset: xr.Dataset, y: np.ndarray) -> None:
    at = dataset["bifurcation_parameter"].values
    types, criticality = dataset["bifurcation_type"].values, dataset["criticality"].values
    for i in range(len(at)):
        _, marker, color = MARKS[str(types[i])]
        face = "white" if criticality[i] == "subcritical" else color
        look = {"marker": marker, "markersize": 7, "markeredgewidth": 1.4, "linestyle": "none", "zorder": 3}
        phases = y[i][np.isfinite(y[i])]
        axes.plot(np.full(len(phases), at[i]), phases, markeredgecolor=color, markerfacecolor=face, **look)
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


def _legend(figure: Figure, dataset: xr.Dataset) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], **STABLE, label="stable"),
        Line2D([], [], **UNSTABLE, label="unstable"),
    ]
    pairs = zip(dataset["bifurcation_type"].values, dataset["criticality"].values, strict=True)
    for kind, critical in sorted({(str(kind), str(critical)) for kind, critical in pairs}):
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
    figure.legend(handles=handles, loc="upper left", ncols=3, bbox_to_anchor=(0.1, 1.0), fontsize=8.5)
