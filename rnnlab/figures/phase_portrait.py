"""Phase portraits: the datasets of `rnnlab.analysis.phase_plane`, in the look of Jordan et al. (2019)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr

from rnnlab.figures import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from plotly.graph_objects import Figure as PlotlyFigure

SPEED = "cividis"  # the same to all kinds of colour vision
NULLCLINES = ("#E69F00", "#FF8AC4")  # of the first and of the second component
TRAJECTORY = "#B79AF0"
CYCLE = "#00E5A0"
DECADES = 4.0  # below the largest speed that colours tell apart
ARROWS = 18  # a side


class Mark(NamedTuple):
    """How points of one type are drawn."""

    marker: str
    size: float
    fill: str  # of matplotlib's markers: full, none, left or bottom
    symbol: str  # in plotly


MARKS = {
    "sink": Mark("o", 6.5, "full", "circle"),
    "source": Mark("o", 6.5, "none", "circle-open"),
    "saddle": Mark("D", 6.0, "top", "diamond"),
    "sink-saddle": Mark("o", 7.0, "left", "circle-cross"),
    "source-saddle": Mark("o", 7.0, "bottom", "circle-x"),
    "codimension 2": Mark("*", 11.0, "full", "star"),
    "centre": Mark("s", 6.0, "none", "square-open"),
    "undecided": Mark("X", 7.0, "full", "x"),
}
LOOKS: dict[str, dict[str, Any]] = {
    "x-nullcline": {"color": NULLCLINES[0], "linewidth": 1.6},
    "y-nullcline": {"color": NULLCLINES[1], "linewidth": 1.6},
    "trajectory": {"color": TRAJECTORY, "linewidth": 0.7},
    "stable manifold": {"color": "white", "linewidth": 1.1, "linestyle": (0, (4, 2))},
    "unstable manifold": {"color": "white", "linewidth": 1.1},
    "stable cycle": {"color": CYCLE, "linewidth": 2.6},
    "unstable cycle": {"color": CYCLE, "linewidth": 2.2, "linestyle": (0, (2.5, 1.5))},
    "non-hyperbolic cycle": {"color": CYCLE, "linewidth": 1.4, "linestyle": (0, (1, 1))},
}


class Portrait(NamedTuple):
    """A dataset made ready for drawing: what there is of each thing, without padding."""

    low: np.ndarray
    high: np.ndarray
    labels: list[str]
    log_speed: np.ndarray  # (row, column)
    velocity: np.ndarray  # (row, column, 2)
    curves: dict[str, list[np.ndarray]]  # by the names in `LOOKS`
    points: dict[str, np.ndarray]  # by the names in `MARKS`
    basin: np.ndarray | None
    projection: str

    @classmethod
    def of(cls, dataset: xr.Dataset) -> Portrait:
        if missing := [name for name in ("velocity", "speed", "box_low", "box_high") if name not in dataset]:
            there = ", ".join(map(str, dataset)) or "nothing"
            raise ValueError(f"a phase portrait needs {', '.join(missing)}: the dataset has {there}.")
        axes = [str(dim) for dim in dataset["speed"].dims if dim not in ("row", "column")]
        if axes:
            raise ValueError(f"a phase portrait is of one system: select from {', '.join(axes)} first.")
        low, high = dataset["box_low"].values, dataset["box_high"].values
        speed = dataset["speed"].transpose("row", "column").values
        with np.errstate(divide="ignore"):
            log_speed = np.log10(speed)
        curves: dict[str, list[np.ndarray]] = {name: [] for name in LOOKS}
        for which, curve in zip(*_rows(dataset, "nullcline_of", "nullcline"), strict=True):
            if which >= 0:
                curves[f"{'xy'[which]}-nullcline"].append(curve)
        for path in _values(dataset, "trajectory", 3):
            curves["trajectory"].append(path)
        for stable, curve in zip(*_rows(dataset, "manifold_stable", "manifold"), strict=True):
            curves["stable manifold" if stable else "unstable manifold"].append(curve)
        discrete = dataset.attrs.get("time") == "discrete"
        for kind, cycle in zip(*_rows(dataset, "cycle_type", "cycle_point"), strict=True):
            cycle = cycle[np.isfinite(cycle).all(-1)]
            if len(cycle):
                # a map jumps from one point of a cycle to the next
                curves[f"{kind} cycle"].append(cycle if discrete else np.concatenate((cycle, cycle[:1])))
        points: dict[str, list[np.ndarray]] = {}
        for kind, point in zip(*_rows(dataset, "type", "point"), strict=True):
            if np.isfinite(point).all() and kind:
                points.setdefault(kind if kind in MARKS else "undecided", []).append(point)
        return cls(
            low,
            high,
            [str(label) for label in dataset.attrs.get("labels", ("x", "y"))],
            log_speed,
            dataset["velocity"].transpose("row", "column", "axis").values,
            {name: [c for c in own if np.isfinite(c).all(-1).any()] for name, own in curves.items()},
            {kind: np.array(points[kind]) for kind in MARKS if kind in points},
            dataset["basin"].transpose("row", "column").values if "basin" in dataset else None,
            str(dataset.attrs.get("projection", "")),
        )

    def limits(self) -> tuple[float, float]:
        """Of the colours: from where a twentieth of the plane is slower, four decades at most, to the top."""
        known = self.log_speed[np.isfinite(self.log_speed)]
        if not known.size:
            return -1.0, 0.0
        top = float(known.max())
        return max(float(np.quantile(known, 0.05)), top - DECADES) - 1e-9, top + 1e-9

    def arrows(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Places and directions of so many arrows a side."""
        rows, columns = self.log_speed.shape
        at = [np.linspace(0, n - 1, count + 1)[:-1] + (n - 1) / 2 / count for n in (columns, rows)]
        column, row = (part.ravel() for part in np.meshgrid(*at))
        places = self.low + np.stack((column / (columns - 1), row / (rows - 1)), -1) * (self.high - self.low)
        left, below = column.astype(int), row.astype(int)
        right, above = (column - left)[:, None], (row - below)[:, None]
        v = self.velocity
        low = (1 - right) * v[below, left] + right * v[below, left + 1]
        high = (1 - right) * v[below + 1, left] + right * v[below + 1, left + 1]
        direction = (1 - above) * low + above * high
        size = np.linalg.norm(direction, axis=-1, keepdims=True)
        there = np.isfinite(size[:, 0]) & (size[:, 0] > 0)
        return places[there], direction[there] / size[there]


def _values(dataset: xr.Dataset, name: str, ndim: int) -> np.ndarray:
    """A variable, nothing where there is none."""
    return dataset[name].values if name in dataset else np.zeros((0,) * (ndim - 1) + (2,))


def _rows(dataset: xr.Dataset, kind: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    if name not in dataset or kind not in dataset:
        return np.zeros(0), np.zeros((0, 2))
    return dataset[kind].values, dataset[name].values


@style.styled
def draw(
    axes: Axes,
    dataset: xr.Dataset,
    *,
    arrows: int = ARROWS,
    trajectories: bool = True,
    manifolds: bool = True,
    speed: tuple[float, float] | None = None,
    small: bool = False,
) -> Any:
    """Draw one phase portrait into axes.

    Speed is colour, on a logarithmic scale; direction are arrows of equal length. Nullclines are orange
    (first component) and pink (second), trajectories purple, stable manifolds dashed and unstable ones
    drawn through, cycles thick (dashed where unstable). Sinks are full circles, sources open ones, saddles
    half full diamonds, collisions half full circles, points of codimension 2 stars. Where the dataset has
    basins their borders are dotted.

    Args:
        axes: Of matplotlib.
        dataset: Of `phase_plane`, for one system.
        arrows: How many a side; 0 for none.
        trajectories: Whether to draw them.
        manifolds: Whether to draw them.
        speed: Limits of the colours, as log10. Default: the largest speed, and at most four decades down.
        small: Thinner and without axis labels, as one of many.

    Returns:
        The image of the speed, to make a colour bar of.

    Raises:
        ValueError: The dataset is none of `phase_plane`, or of several systems.
    """
    seen = Portrait.of(dataset)
    scale = 0.6 if small else 1.0
    low, high = seen.limits() if speed is None else speed
    x, y = (np.linspace(seen.low[k], seen.high[k], seen.log_speed.shape[1 - k]) for k in range(2))
    image = axes.pcolormesh(
        x,
        y,
        np.clip(seen.log_speed, low, high),  # where nothing moves it is as dark as it gets
        cmap=SPEED,
        vmin=low,
        vmax=high,
        shading="gouraud",
        rasterized=True,
        zorder=0,
    )
    axes.grid(False)
    if seen.basin is not None and seen.basin.size:
        for label in np.unique(seen.basin[seen.basin >= 0]):
            level = (seen.basin == label).astype(float)
            axes.contour(
                x, y, level, [0.5], colors="white", linewidths=0.8 * scale, linestyles="dotted", zorder=1.5
            )
    if arrows:
        _arrows(axes, seen, arrows, scale)
    hidden = _hidden(trajectories, manifolds)
    discrete = dataset.attrs.get("time") == "discrete"
    for order, (name, look) in enumerate(LOOKS.items()):
        own = {**look, "linewidth": scale * look["linewidth"], "zorder": 2 + order / 20}
        if discrete and _jumps(name):
            size = 2.0 if name == "trajectory" else 8.0
            own |= {"linestyle": "none", "marker": ".", "markersize": scale * size}
        for curve in () if name in hidden else seen.curves[name]:
            axes.plot(*curve.T, **own, **_outline(name, scale))
    for kind, points in seen.points.items():
        axes.plot(*points.T, **_mark(kind, 0.65 if small else 1.0), clip_on=False)
    axes.set_xlim(seen.low[0], seen.high[0])
    axes.set_ylim(seen.low[1], seen.high[1])
    for spine in axes.spines.values():
        spine.set_visible(True)
    if not small:
        axes.set_xlabel(seen.labels[0])
        axes.set_ylabel(seen.labels[1])
    if seen.projection:
        said = "projection" if small else f"projection: {seen.projection}"
        axes.text(
            0.02,
            0.98,
            said,
            transform=axes.transAxes,
            va="top",
            fontsize=6 if small else 8.5,
            color="white",
            bbox={"facecolor": "black", "alpha": 0.5, "pad": 1.5, "linewidth": 0},
            zorder=5,
        )
    return image


def _arrows(axes: Axes, seen: Portrait, count: int, scale: float) -> None:
    places, direction = seen.arrows(count)
    if not len(places):
        return
    step = (seen.high - seen.low) / count
    axes.quiver(
        *places.T,
        # directions are those of the drawing, whatever the axes' scales
        *(direction * 0.62 * step.min()).T,
        angles="xy",
        scale_units="xy",
        scale=1,
        pivot="middle",
        units="inches",
        width=0.011 * scale,
        headwidth=3.6,
        headlength=4.2,
        headaxislength=3.6,
        color="black",
        alpha=0.55,
        zorder=1,
    )


def _hidden(trajectories: bool, manifolds: bool) -> set[str]:
    return {
        name
        for name in LOOKS
        if (name == "trajectory" and not trajectories) or (name.endswith("manifold") and not manifolds)
    }


def _outline(name: str, scale: float = 1.0) -> dict[str, Any]:
    """White lines have a black edge, to be seen on any ground."""
    from matplotlib import patheffects

    if not name.endswith("manifold"):
        return {}
    edge = patheffects.Stroke(linewidth=2.4 * scale, foreground="black")
    return {"path_effects": [edge, patheffects.Normal()]}


def _jumps(name: str) -> bool:
    """Whether a map's curve of this name is but a row of points."""
    return name == "trajectory" or name.endswith("cycle")


def _mark(kind: str, scale: float = 1.0, *, legend: bool = False) -> dict[str, Any]:
    mark = MARKS[kind]
    return {
        "linestyle": "none",
        "marker": mark.marker,
        "markersize": scale * mark.size,
        "fillstyle": mark.fill if mark.fill != "none" else "full",
        "markerfacecolor": "white" if mark.fill == "none" else "black",
        "markerfacecoloralt": "white",
        "markeredgecolor": "black" if mark.fill != "full" or legend else "white",
        "markeredgewidth": 0.8 * scale,
        "zorder": 4,
    }


def handles(
    datasets: Iterable[xr.Dataset], *, trajectories: bool = True, manifolds: bool = True
) -> list[Any]:
    """Legend entries of all that portraits of these datasets show, for `Figure.legend`.

    Args:
        datasets: Of `phase_plane`.
        trajectories, manifolds: As for `draw`.
    """
    from matplotlib.lines import Line2D

    datasets = list(datasets)
    seen = [Portrait.of(dataset) for dataset in datasets]
    discrete = all(dataset.attrs.get("time") == "discrete" for dataset in datasets)
    hidden = _hidden(trajectories, manifolds)
    found = []
    for kind in MARKS:
        if any(kind in one.points for one in seen):
            found.append(Line2D([], [], label=kind, **_mark(kind, legend=True)))
    for name, look in LOOKS.items():
        if name not in hidden and any(one.curves[name] for one in seen):
            own = {**look, "linestyle": "none", "marker": "."} if discrete and _jumps(name) else look
            found.append(Line2D([], [], label=name, **own, **_outline(name)))
    if any(one.basin is not None for one in seen):
        found.append(Line2D([], [], label="border of a basin", color="#9a9a9a", linestyle="dotted"))
    return found


@style.styled
def portrait(dataset: xr.Dataset, *, title: str = "", **options: Any) -> Figure:
    """One phase portrait with its legend and colour bar.

    Args:
        dataset: Of `phase_plane`, for one system.
        title: Above it.
        **options: For `draw`.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: As `draw`.
    """
    shown = {name: on for name, on in options.items() if name in ("trajectories", "manifolds")}
    seen = Portrait.of(dataset)
    ratio = float(np.clip((seen.high[1] - seen.low[1]) / (seen.high[0] - seen.low[0]), 0.5, 1.4))
    height = 0.95 + 4.6 * ratio
    width = 8.3
    figure = style.new_figure(width, height)
    axes = figure.add_axes((0.62 / width, 0.52 / height, 4.6 / width, 4.6 * ratio / height))
    image = draw(axes, dataset, **options)
    axes.set_title(title)
    bar = figure.colorbar(
        image, cax=figure.add_axes((5.36 / width, 0.52 / height, 0.14 / width, 4.6 * ratio / height))
    )
    bar.set_label("log10 speed", labelpad=8)
    bar.outline.set_visible(False)
    figure.legend(
        handles=handles([dataset], **shown),
        loc="upper left",
        bbox_to_anchor=(6.3 / width, 1 - 0.38 / height),
        fontsize=8.5,
    )
    return figure


@style.styled
def portraits(
    datasets: Mapping[str, xr.Dataset], *, columns: int | None = None, title: str = "", **options: Any
) -> Figure:
    """Many small phase portraits with one legend, each on its own scale of colours.

    Args:
        datasets: Of `phase_plane`, by what is to be written above each.
        columns: How many side by side. Default: about as many as rows, at most six.
        title: Above all.
        **options: For `draw`.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: There are none, `columns` is below 1, or as `draw`.
    """
    if not datasets:
        raise ValueError("there is nothing to draw: give at least one dataset of phase_plane.")
    if columns is not None and (not isinstance(columns, int) or columns < 1):
        raise ValueError(f"columns={columns!r} is not possible: give a whole number of at least 1.")
    abreast = columns or min(6, math.ceil(math.sqrt(len(datasets))))
    rows = math.ceil(len(datasets) / abreast)
    shown = {name: on for name, on in options.items() if name in ("trajectories", "manifolds")}
    entries = handles(datasets.values(), **shown)
    boxes = {(*one.low.tolist(), *one.high.tolist()) for one in map(Portrait.of, datasets.values())}
    same = len(boxes) == 1  # then the numbers at the left and at the bottom do for all
    side, gap_x, gap_y, left = 1.75, 0.22 if same else 0.4, 0.28 if same else 0.42, 0.46
    width = max(left + abreast * (side + gap_x), 5.0)
    ncols = max(1, min(len(entries), int(width / 1.55)))
    top = 0.35 + 0.3 * bool(title)
    bottom = 0.35 + 0.22 * math.ceil(len(entries) / ncols)
    height = top + bottom + rows * side + (rows - 1) * gap_y
    figure = style.new_figure(width, height)
    for i, (name, dataset) in enumerate(datasets.items()):
        row, column = divmod(i, abreast)
        place = left + column * (side + gap_x), height - top - row * (side + gap_y) - side
        axes = figure.add_axes((place[0] / width, place[1] / height, side / width, side / height))
        draw(axes, dataset, small=True, **{"arrows": 12, **options})
        axes.set_title(name, fontsize=8.5, pad=3)
        last = i + abreast >= len(datasets)
        axes.tick_params(labelsize=6.5, length=2, pad=2)
        axes.tick_params(labelleft=not same or column == 0, labelbottom=not same or last)
    if title:
        figure.suptitle(title, y=1 - 0.08 / height, va="top", fontsize=11)
    figure.legend(handles=entries, loc="lower center", ncols=ncols, fontsize=8, borderaxespad=0.3)
    return figure


def interactive(dataset: xr.Dataset) -> PlotlyFigure:
    """One phase portrait to zoom, whose parts can be switched off in the legend.

    Args:
        dataset: Of `phase_plane`, for one system.

    Returns:
        A plotly figure.

    Raises:
        ValueError: The dataset is none of `phase_plane`, or of several systems.
    """
    import plotly.graph_objects as go

    seen = Portrait.of(dataset)
    low, high = seen.limits()
    figure = go.Figure()
    x, y = (np.linspace(seen.low[k], seen.high[k], seen.log_speed.shape[1 - k]) for k in range(2))
    figure.add_heatmap(
        x=x,
        y=y,
        z=np.clip(seen.log_speed, low, high).astype(np.float32),
        colorscale=SPEED,
        zsmooth="best",
        colorbar={"title": {"text": "log10 speed", "side": "right"}, "thickness": 14, "outlinewidth": 0},
        hovertemplate="(%{x:.3g}, %{y:.3g})<br>speed 10^%{z:.2f}<extra></extra>",
    )
    places, direction = seen.arrows(ARROWS)
    length = 0.35 * float((seen.high - seen.low).min()) / ARROWS
    ends = np.stack((places - length * direction, places + length * direction), 1)
    figure.add_scatter(
        **_joined(list(ends)),
        mode="lines",
        line={"color": "rgba(0,0,0,0.5)", "width": 1},
        name="direction",
        hoverinfo="skip",
    )
    discrete = dataset.attrs.get("time") == "discrete"
    for name, look in LOOKS.items():
        if not seen.curves[name]:
            continue
        dots = discrete and _jumps(name)
        dash = {"stable manifold": "dash", "unstable cycle": "dash"}.get(name, "solid")
        figure.add_scatter(
            **_joined(seen.curves[name]),
            mode="markers" if dots else "lines",
            line={"color": look["color"], "width": look["linewidth"], "dash": dash},
            marker={"color": look["color"], "size": 3},
            name=name,
            hoverinfo="skip",
        )
    for kind, points in seen.points.items():
        mark = MARKS[kind]
        figure.add_scatter(
            x=points[:, 0],
            y=points[:, 1],
            mode="markers",
            marker={
                "symbol": mark.symbol,
                "size": 1.5 * mark.size,
                "color": "white",
                "line": {"color": "black", "width": 1.5},
            },
            name=kind,
            hovertemplate=f"{kind}<br>(%{{x:.6g}}, %{{y:.6g}})<extra></extra>",
        )
    labels = [style.escape(label) for label in seen.labels]
    figure.update_layout(
        **style.PLOTLY,
        height=560,
        legend={"orientation": "v", "x": 1.16, "y": 1},
        xaxis={
            **style.PLOTLY_AXIS,
            "title": {"text": labels[0]},
            "range": [seen.low[0], seen.high[0]],
            "showgrid": False,
            "constrain": "domain",
        },
        yaxis={
            **style.PLOTLY_AXIS,
            "title": {"text": labels[1]},
            "range": [seen.low[1], seen.high[1]],
            "showgrid": False,
        },
        title={
            "text": f"projection: {style.escape(seen.projection)}" if seen.projection else "",
            "font": {"size": 13},
        },
    )
    return figure


def _joined(curves: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Curves as one trace, apart by gaps."""
    gap = np.full((1, 2), np.nan)
    points = np.concatenate([part for curve in curves for part in (curve, gap)]).astype(np.float32)
    return {"x": points[:, 0], "y": points[:, 1]}
