"""Bifurcation diagrams: which values an orbit visits once it has settled, along a curve of systems.

All three read the dataset of `rnnlab.analysis.orbit`, stacked along one more axis: the epochs of a training
run as the store keeps them, or the values of `rnnlab.analysis.sweep`. That axis is found by exclusion: it is
the one that is not probe, sample, time or observable.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from rnnlab.figures import style
from rnnlab.figures.orbits import Orbits, axis_names, position, reach

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from plotly.graph_objects import Figure as PlotlyFigure

COLUMNS = 700  # of a density picture
MAX_PANELS = 12


@style.styled
def diagram_3d(
    dataset: xr.Dataset,
    *,
    probe: Any = 0,
    observable: Any = 0,
    max_looks: int = 60,
    max_points: int = 30_000,
) -> Figure:
    """Parameter, y_t and its first difference in space, for one probe.

    A fixed point is one dot, a cycle of period p are p dots, a quasi-periodic oscillation is a closed loop.

    Args:
        dataset: `y` `(parameter, probe, sample, time, observable)` and `settled`; see the module.
        probe: Name or position of the probe.
        observable: Name or position of the observable.
        max_looks: Most values of the parameter to draw, evenly chosen: more would hide each other.
        max_points: Most dots to draw.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: The dataset has no parameter axis, no such probe or observable, or no two time steps.

    References:
        Ribeiro, Tiels, Aguirre, Schön, "Beyond exploding and vanishing gradients", AISTATS 2020, Fig. 4.
    """
    orbits = Orbits.of(dataset, observable).pick(probe)
    figure = style.new_figure(9.0, 4.6)
    axes: Any = figure.add_axes((-0.06, 0.02, 1.02, 1.04), projection="3d", computed_zorder=False)
    axes.set_box_aspect((2.6, 1, 1), zoom=1.4)
    axes.view_init(elev=20, azim=-58)
    draw_space(axes, orbits, 0, orbits.limits(), max_looks=max_looks, max_points=max_points)
    unsettled_legend(figure, (orbits, orbits.limits()))
    axes.set_xlabel(orbits.label, labelpad=20)
    axes.set_ylabel("$y_t$", labelpad=8, fontsize=12)
    axes.set_zlabel("$y_t - y_{t-1}$", labelpad=8, fontsize=12)
    axes.locator_params(axis="x", nbins=7)
    axes.locator_params(axis="y", nbins=4)
    axes.locator_params(axis="z", nbins=5)
    output = output_name(dataset, observable)
    said = f"{orbits.names[0]} → {output}" if output else orbits.names[0]
    figure.text(0.03, 0.94, style.plain(said), fontsize=11)
    return figure


def draw_space(
    axes: Any,
    orbits: Orbits,
    probe: int,
    limits: tuple[float, float],
    *,
    max_looks: int,
    max_points: int,
) -> None:
    """Dots in space, on axes without labels."""
    looks = np.unique(np.linspace(0, len(orbits.at) - 1, min(len(orbits.at), max_looks)).round().astype(int))
    points = orbits.points(probe, limits, differences=True, looks=looks, max_points=max_points)
    # unclipped: matplotlib would cut them to a square in the middle
    dots: Any = {
        "s": 14.0 if len(points.y) <= 250 else 6.0 if len(looks) <= 60 else 2.5,
        "linewidths": 0,
        "depthshade": False,
        "clip_on": False,
    }
    good = points.settled
    # the last look, nearest to the eye, is the darkest; the pale end of the scale stays out
    first, last = orbits.span()
    colors = {"c": points.at[good], "cmap": "viridis_r", "vmin": first - (last - first) / 6, "vmax": last}
    axes.scatter(points.at[good], points.y[good], points.dy[good], **colors, **dots)
    if not good.all():
        axes.scatter(points.at[~good], points.y[~good], points.dy[~good], color=style.UNSETTLED, **dots)
    axes.set_xlim(first, last)
    if (most := reach(points.dy, limits)) > np.abs(points.dy).max(initial=0):
        axes.set_zlim(-most, most)
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.pane.set(facecolor="white", edgecolor=style.FAINT)


@style.styled
def diagram_1d(
    dataset: xr.Dataset, *, probes: Sequence[Any] | None = None, observable: Any = 0, max_points: int = 4_000
) -> Figure:
    """Parameter against the values visited, one panel a probe.

    Up to `max_points` distinct points a panel are drawn as dots, more as a picture of how often each place is
    visited. Orbits that had
    not settled have a colour of their own. Where orbits that have not settled are far out of the scale of
    all others (states of an orthogonal network on their long way in), the axis leaves them out and says so.

    Args:
        dataset: `y` `(parameter, probe, sample, time, observable)` and `settled`; see the module.
        probes: Names or positions. Default: all, or twelve spread over them.
        observable: Name or position of the observable.
        max_points: Most dots in a panel.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: The dataset has no parameter axis, or no such probe or observable.
    """
    orbits = Orbits.of(dataset, observable)
    if probes is None:
        spread = np.linspace(0, len(orbits.names) - 1, min(len(orbits.names), MAX_PANELS))
        probes = [int(i) for i in spread.round()]
    orbits = orbits.pick(*probes)
    panels = len(orbits.names)
    columns = panels if panels <= 3 else min((5, 4, 3, 2), key=lambda n: (-panels % n, abs(n - 4)))
    rows = math.ceil(panels / columns)
    limits = orbits.limits()
    width = {1: 7.5, 2: 9.0}.get(columns, 12.0)
    height = 4.2 if panels == 1 else 2.3 * rows + 0.8
    figure = style.new_figure(width, height)
    output = output_name(dataset, observable)
    # margins by hand, in inches: matplotlib's own layout takes longer than all the drawing
    margins = {
        "left": (1.0 if output else 0.75) / width,
        "right": 1 - 0.15 / width,
        "bottom": 0.6 / height,
        "top": 1 - 0.55 / height,
    }
    figure.subplots_adjust(**margins, wspace=0.12, hspace=0.25)
    grid: Any = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    pieces = 480 if panels == 1 else 240
    visits = [orbits.visits(i, limits, pieces) for i in range(panels)]
    dense = max(int(np.count_nonzero(seen)) for seen in visits) > max_points
    for i, axes in enumerate(grid):
        if i < panels:
            draw_panel(axes, orbits, i, limits, visits[i], dense)
            axes.set_title(style.plain(orbits.names[i]))
            axes.tick_params(labelbottom=i + columns >= panels)
        else:
            axes.set_visible(False)
    grid[0].set(xlim=orbits.span(), ylim=limits)
    figure.supxlabel(orbits.label, fontsize=11, y=0.08 / height, va="bottom")
    figure.supylabel(
        f"$y_t$, {style.plain(output)}" if output else "$y_t$", fontsize=13, x=0.08 / width, ha="left"
    )
    unsettled_legend(figure, (orbits, limits))
    return figure


def interactive(dataset: xr.Dataset, *, observable: Any = None, max_points: int = 8_000) -> PlotlyFigure:
    """Both forms to turn and to zoom, with a menu of the probes, or of all pairs of probe and observable.

    Args:
        dataset: `y` `(parameter, probe, sample, time, observable)` and `settled`; see the module.
        observable: Name or position of the observable. Default: all in turn.
        max_points: Most points of each entry in space, and half as many in the plain form.

    Returns:
        A plotly figure: the space form above, the plain form below.

    Raises:
        ValueError: The dataset has no parameter axis, no such observable, or no two time steps.
    """
    import plotly.graph_objects as go

    count = dataset["y"].sizes.get("observable", 1) if "y" in dataset else 1
    chosen = [observable] if observable is not None else range(count)
    drawn = [Orbits.of(dataset, one) for one in chosen]
    first, last = drawn[0].span()
    pairs = [(orbits, i) for orbits in drawn for i in range(len(orbits.names))]
    names = [name for orbits in drawn for name in orbits.names]
    if len(drawn) > 1:
        outputs = [output_name(dataset, one) for one in chosen for _ in drawn[0].names]
        names = [f"{name} → {output}" for name, output in zip(names, outputs, strict=True)]
    figure = go.Figure()
    per_pair = 3
    ranges = []
    for number, ((orbits, i), name) in enumerate(zip(pairs, names, strict=True)):
        limits = orbits.limits()
        points = orbits.points(i, limits, differences=True, max_points=max_points)
        flat = orbits.points(i, limits, differences=False, max_points=max_points // 2)
        most = 1.05 * reach(points.dy, limits)
        ranges.append(
            {"scene.yaxis.range": limits, "scene.zaxis.range": (-most, most), "yaxis.range": limits}
        )
        hover = f"{orbits.name} %{{x}}<br>y = %{{y:.4g}}"
        dots = {"mode": "markers", "visible": number == 0, "showlegend": False}
        marker = {
            "size": 4 if len(orbits.at) <= 30 else 2.5 if len(orbits.at) <= 60 else 1.6,
            "color": points.at.astype(np.float32),
            "colorscale": "Viridis",
            "reversescale": True,
            "cmin": first - (last - first) / 6,
            "cmax": last,
        }
        figure.add_scatter3d(
            x=points.at,
            y=points.y.astype(np.float32),
            z=points.dy.astype(np.float32),
            marker=marker,
            hovertemplate=f"{hover}<br>difference = %{{z:.4g}}<extra>{style.escape(name)}</extra>",
            **dots,
        )
        for good, colour, said in (
            (True, style.BLUE, "settled"),
            (False, style.UNSETTLED, "not settled"),
        ):
            figure.add_scatter(  # not with WebGL, of which a page may have little
                x=flat.at[flat.settled == good],
                y=flat.y[flat.settled == good].astype(np.float32),
                marker={"size": 5 if len(orbits.at) <= 30 else 2.5, "color": colour},
                hovertemplate=f"{hover}<extra>{said}</extra>",
                name=said,
                **{**dots, "showlegend": not orbits.settled.all()},
            )
    menu = [
        {
            "label": style.escape(name),
            "method": "update",
            "args": [
                {"visible": [k // per_pair == i for k in range(per_pair * len(names))]},
                ranges[i],
            ],
        }
        for i, name in enumerate(names)
    ]
    limits = drawn[0].limits()
    axis, difference = style.PLOTLY_AXIS, "y<sub>t</sub> - y<sub>t-1</sub>"
    figure.update_layout(
        **{**style.PLOTLY, "margin": {**style.PLOTLY["margin"], "t": 80}},
        height=950,
        updatemenus=[{"buttons": menu, "x": 0, "xanchor": "left", "y": 1, "yanchor": "bottom"}],
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 0.42, "itemsizing": "constant"},
        scene={
            "domain": {"x": [0, 1], "y": [0.44, 1]},
            "aspectmode": "manual",
            "aspectratio": {"x": 2.4, "y": 1, "z": 1},
            "camera": {"eye": {"x": 0.8, "y": -2.4, "z": 0.75}, "center": {"x": 0.05, "y": 0, "z": -0.12}},
            "xaxis": {"title": {"text": drawn[0].label}, **_SCENE_AXIS},
            "yaxis": {"title": {"text": "y<sub>t</sub>"}, "range": limits, **_SCENE_AXIS},
            "zaxis": {"title": {"text": difference}, "range": ranges[0]["scene.zaxis.range"], **_SCENE_AXIS},
        },
        xaxis={**axis, "title": {"text": drawn[0].label}, "range": (first, last)},
        yaxis={
            **axis,
            "title": {"text": "y<sub>t</sub>"},
            "range": limits,
            "domain": [0, 0.38],
        },
    )
    return figure


def unsettled_legend(figure: Figure, *drawn: tuple[Orbits, tuple[float, float]]) -> None:
    """Say which colour is that of orbits that have not settled, where there are some."""
    if all(orbits.settled.all() for orbits, _ in drawn):
        return
    from matplotlib.lines import Line2D

    beyond = any(((orbits.y < low) | (orbits.y > high)).any() for orbits, (low, high) in drawn)
    label = "not settled (some out of the picture)" if beyond else "not settled"
    dot = Line2D([], [], linestyle="none", marker="o", markersize=4, color=style.UNSETTLED, label=label)
    figure.legend(handles=[dot], loc="upper right", borderaxespad=0.1)


def output_name(dataset: xr.Dataset, observable: Any) -> str:
    """Which output is drawn, where there are several."""
    if dataset["y"].sizes.get("observable", 1) == 1:
        return ""
    names = axis_names(dataset["y"], "observable")
    return names[position(names, observable, "observable")]


_SCENE_AXIS = {
    "gridcolor": "#aaaaaa",
    "zeroline": False,
    "showbackground": False,
    "nticks": 6,
}


def draw_panel(
    axes: Axes, orbits: Orbits, probe: int, limits: tuple[float, float], visits: np.ndarray, dense: bool
) -> None:
    """Dots, or where there are too many, how often each place is visited."""
    few = np.ones(len(orbits.at), bool)
    if dense:  # fixed points and short cycles stay dots
        few = np.count_nonzero(visits, axis=(0, 2)) <= 16
        strongest = np.log1p(visits[:, ~few].max(initial=1))
        for counts, color in zip(visits, (style.UNSETTLED, style.BLUE), strict=True):
            _draw_density(axes, orbits.at, np.where(few[:, None], 0, counts), strongest, color, limits)
    points = orbits.points(probe, limits, looks=few)
    size = 3.2 if len(orbits.at) <= 60 else 2.0 if len(orbits.at) <= 300 else 1.3
    for good, color in ((True, style.BLUE), (False, style.UNSETTLED)):
        dots = points.settled == good
        axes.plot(points.at[dots], points.y[dots], linestyle="none", marker="o", ms=size, mew=0, color=color)


def _draw_density(
    axes: Axes, at: np.ndarray, counts: np.ndarray, strongest: float, color: str, limits: tuple[float, float]
) -> None:
    """An image of counts `(look, place)`: each look as wide as the way to its neighbours."""
    from matplotlib.colors import to_rgb

    order = np.argsort(at)
    middles = (at[order][1:] + at[order][:-1]) / 2
    ends = np.diff(at[order])[[0, -1]] / 2 if len(at) > 1 else (0.5, 0.5)
    extent = (at.min() - ends[0], at.max() + ends[1])
    centers = extent[0] + (np.arange(COLUMNS) + 0.5) * (extent[1] - extent[0]) / COLUMNS
    picture = counts[order][np.searchsorted(middles, centers)]
    if len(at) > COLUMNS:  # looks that share a column
        column = np.searchsorted(centers, at).clip(max=COLUMNS - 1)
        picture = np.zeros((COLUMNS, counts.shape[1]))
        np.maximum.at(picture, column, counts)
    # to have been visited at all is much of what there is to see; chaos visits some places very often
    image = np.empty((*picture.T.shape, 4))
    image[..., :3] = to_rgb(color)
    image[..., 3] = np.where(picture > 0, 0.3 + 0.7 * np.log1p(picture) / strongest, 0.0).T
    axes.imshow(
        image, extent=(*extent, *limits), origin="lower", aspect="auto", interpolation="nearest", zorder=1.5
    )
