"""The plane of two parameters: curves of bifurcations, special points, and what there is in each region."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from rnnlab.figures import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CURVES: dict[str, Any] = {"saddle-node": style.ORANGE, "Hopf": style.BLUE}
# sign beside the point and marker
MARKS = {
    "cusp": ("CP", "^"),
    "Bogdanov-Takens": ("BT", "s"),
    "generalised Hopf": ("GH", "D"),
    "zero-Hopf": ("ZH", "P"),
    "Hopf-Hopf": ("HH", "X"),
}
REGIONS = ("#cfe3f2", "#f6d5c3", "#cdeadf", "#efd9e6", "#fdebc3", "#dcdcdc", "#b9d6c9", "#d9c7b8")
NAMES = ("sinks", "sources", "saddles")


@style.styled
def bifurcation_set(curves: Sequence[xr.Dataset], *, samples: xr.Dataset | None = None) -> Figure:
    """Curves of saddle-nodes and Hopf bifurcations in the plane of two parameters.

    Hopf bifurcations are solid where supercritical, dashed where subcritical. Special points have a mark for
    each type and its abbreviation beside the mark.

    Args:
        curves: From `rnnlab.analysis.bifurcation_curve`, with the same two parameters and box.
        samples: Counts at points of the plane, over `sample`: `first`, `second`, `sinks`, `sources`,
            `saddles`. Each point is a dot coloured by them.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: There is no curve, or one has other parameters.
    """
    if not curves or any("special_type" not in curve for curve in curves):
        raise ValueError("a bifurcation set needs at least one dataset of `bifurcation_curve`.")
    names, box = curves[0].attrs["names"], curves[0].attrs["box"]
    for curve in curves:
        if curve.attrs["names"] != names or curve.attrs["box"] != box:
            raise ValueError(
                f"curves over {curve.attrs['names']} in {curve.attrs['box']} and over {names} in {box} are "
                "not possible in one picture: give curves in the same plane."
            )
    figure = style.new_figure(7.6, 5.4)
    figure.subplots_adjust(left=0.1, right=0.68, bottom=0.11, top=0.97)
    axes: Any = figure.subplots()
    regions = [] if samples is None else _draw_samples(axes, samples)
    for curve in curves:
        _draw_curve(axes, curve)
    seen: list[tuple[float, float, str]] = []
    for curve in curves:
        _draw_special(axes, curve, seen)
    axes.set_xlim(*box[0])
    axes.set_ylim(*box[1])
    axes.set_xlabel(names[0])
    axes.set_ylabel(names[1])
    _legend(figure, curves, regions)
    return figure


def _draw_curve(axes: Axes, curve: xr.Dataset) -> None:
    x, y, kind = curve["first"].values, curve["second"].values, curve.attrs["kind"]
    dashed = np.zeros(max(len(x) - 1, 0), bool)
    if kind == "Hopf":
        up = np.nan_to_num(curve["coefficient"].values) > 0
        dashed = up[:-1] | up[1:]
    cuts = [0, *(np.flatnonzero(dashed[1:] != dashed[:-1]) + 1), len(dashed)]
    for first, last in pairwise(cuts):
        line: Any = (0, (4, 2.5)) if last > first and dashed[first] else "-"
        axes.plot(x[first : last + 1], y[first : last + 1], color=CURVES[kind], linestyle=line, zorder=3)


def _draw_special(axes: Axes, curve: xr.Dataset, seen: list[tuple[float, float, str]]) -> None:
    places = zip(curve["special_first"].values, curve["special_second"].values, strict=True)
    box = np.array(curve.attrs["box"])
    near = 1e-3 * np.ptp(box, axis=1)
    for (x, y), kind in zip(places, curve["special_type"].values, strict=True):
        # two curves meet there
        if any(abs(x - p) < near[0] and abs(y - q) < near[1] and kind == k for p, q, k in seen):
            continue
        seen.append((x, y, str(kind)))
        sign, marker = MARKS[str(kind)]
        axes.plot(x, y, marker, color=style.INK, markersize=5, zorder=4)
        # those close to another one go below
        others = [p for p in seen[:-1] if abs(x - p[0]) < 60 * near[0] and abs(y - p[1]) < 60 * near[1]]
        shift = (5, -10) if others else (5, 4)
        axes.annotate(sign, (x, y), shift, textcoords="offset points", fontsize=8, zorder=5)


def _draw_samples(axes: Axes, samples: xr.Dataset) -> list[tuple[str, str]]:
    """Dots, and the names and colours of what there is, the most frequent first."""
    counts = np.stack([samples[name].values for name in NAMES], -1).astype(int)
    kinds, index, number = np.unique(counts, axis=0, return_inverse=True, return_counts=True)
    regions = []
    for rank, kind in enumerate(np.argsort(-number)):
        color = REGIONS[rank % len(REGIONS)]
        here = index.ravel() == kind
        x, y = samples["first"].values[here], samples["second"].values[here]
        axes.plot(x, y, "o", color=color, markersize=9, zorder=2)
        words = [
            f"{n} {name if n > 1 else name[:-1]}" for n, name in zip(kinds[kind], NAMES, strict=True) if n
        ]
        regions.append((", ".join(words) or "nothing", color))
    return regions


def _legend(figure: Figure, curves: Sequence[xr.Dataset], regions: list[tuple[str, str]]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=CURVES[kind], label=kind) for kind in sorted({c.attrs["kind"] for c in curves})
    ]
    if any(c.attrs["kind"] == "Hopf" and bool((c["coefficient"] > 0).any()) for c in curves):
        handles.append(Line2D([], [], color=CURVES["Hopf"], linestyle="--", label="subcritical Hopf"))
    for kind in sorted({str(kind) for curve in curves for kind in curve["special_type"].values}):
        sign, marker = MARKS[kind]
        look: Any = {"linestyle": "none", "marker": marker, "color": style.INK, "markersize": 5}
        handles.append(Line2D([], [], **look, label=f"{sign}: {kind}"))
    for words, color in regions:
        look = {"linestyle": "none", "marker": "o", "color": color, "markersize": 9}
        handles.append(Line2D([], [], **look, label=words))
    figure.legend(handles=handles, loc="upper left", bbox_to_anchor=(0.69, 0.98), fontsize=8.5)
