"""Bifurcation diagrams: which values an orbit visits once it has settled, along a curve of systems.

All three read the dataset of `rnnlab.analysis.orbit`, stacked along one more axis: the epochs of a training
run as the store keeps them, or the values of `rnnlab.analysis.sweep`. That axis is found by exclusion: it is
the one that is not probe, sample, time or observable.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr

from rnnlab.figures import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from plotly.graph_objects import Figure as PlotlyFigure

AXES = ("probe", "sample", "time", "observable")
CELLS = 400  # points closer than this part of an axis make one dot
MAX_PANELS = 12


@style.styled
def diagram_3d(
    dataset: xr.Dataset, *, probe: Any = 0, observable: Any = 0, max_points: int = 30_000
) -> Figure:
    """Parameter, y_t and its first difference in space, for one probe.

    A fixed point is one dot, a cycle of period p are p dots, a quasi-periodic oscillation is a closed loop.

    Args:
        dataset: `y` `(parameter, probe, sample, time, observable)` and `settled`; see the module.
        probe: Name or position of the probe.
        observable: Name or position of the observable.
        max_points: Most dots to draw.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: The dataset has no parameter axis, no such probe or observable, or no two time steps.

    References:
        Ribeiro, Tiels, Aguirre, Schön, "Beyond exploding and vanishing gradients", AISTATS 2020, Fig. 4.
    """
    orbits = _Orbits.of(dataset, observable).pick(probe)
    points = orbits.points(0, differences=True, max_points=max_points)
    figure = style.new_figure(9.0, 4.6)
    axes: Any = figure.add_subplot(projection="3d", computed_zorder=False)
    axes.set_box_aspect((2.6, 1, 1), zoom=1.25)
    axes.view_init(elev=20, azim=-58)
    good = points.settled
    shown = {"s": 2.0, "linewidths": 0, "depthshade": False}
    axes.scatter(
        points.at[good], points.y[good], points.dy[good], c=points.at[good], cmap=style.SEQUENTIAL, **shown
    )
    if not good.all():
        axes.scatter(
            points.at[~good],
            points.y[~good],
            points.dy[~good],
            color=style.UNSETTLED,
            label="not settled",
            **shown,
        )
        figure.legend(loc="upper right", markerscale=4)
    axes.set_xlabel(orbits.label, labelpad=18)
    axes.set_ylabel(f"${orbits.symbol}_t$", labelpad=6)
    axes.set_zlabel(f"${orbits.symbol}_t - {orbits.symbol}_{{t-1}}$", labelpad=8)
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.pane.set(facecolor="white", edgecolor=style.FAINT)
        axis._axinfo["grid"].update(color=style.FAINT, linewidth=0.5)
    axes.set_title(orbits.names[0], y=0.98)
    return figure


@style.styled
def diagram_1d(
    dataset: xr.Dataset, *, probes: Sequence[Any] | None = None, observable: Any = 0, max_points: int = 20_000
) -> Figure:
    """Parameter against the values visited, one panel a probe.

    Up to `max_points` distinct points a panel are drawn as dots, more as a density picture. Orbits that had
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
    orbits = _Orbits.of(dataset, observable)
    if probes is None:
        spread = np.linspace(0, len(orbits.names) - 1, min(len(orbits.names), MAX_PANELS))
        probes = [int(i) for i in spread.round()]
    orbits = orbits.pick(*probes)
    panels = len(orbits.names)
    columns = min(panels, 2 if panels <= 4 else 3)
    rows = math.ceil(panels / columns)
    low, high, beyond = orbits.range()
    size = (7.5, 4.2) if panels == 1 else (3.4 * columns + 0.6, 2.1 * rows + 0.9)
    figure = style.new_figure(*size)
    grid: Any = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes in grid[panels:]:
        axes.set_visible(False)
        grid[panels - columns : panels][0].tick_params(labelbottom=True)
    for i, axes in enumerate(grid[:panels]):
        _draw_panel(axes, orbits, i, (low, high), max_points)
        axes.set_title(orbits.names[i])
        if i + columns >= panels:
            axes.tick_params(labelbottom=True)
    grid[0].set_ylim(low, high)
    grid[0].set_xlim(*orbits.span())
    figure.supxlabel(orbits.label, fontsize=10)
    figure.supylabel(f"${orbits.symbol}_t$", fontsize=11)
    if not orbits.settled.all():
        from matplotlib.lines import Line2D

        label = "not settled (some out of the picture)" if beyond else "not settled"
        dot = Line2D([], [], linestyle="none", marker="o", markersize=4, color=style.UNSETTLED, label=label)
        figure.legend(handles=[dot], loc="outside upper right")
    return figure


def interactive(dataset: xr.Dataset, *, observable: Any = 0, max_points: int = 8_000) -> PlotlyFigure:
    """Both forms to turn and to zoom, with a menu of the probes.

    Args:
        dataset: `y` `(parameter, probe, sample, time, observable)` and `settled`; see the module.
        observable: Name or position of the observable.
        max_points: Most points for each probe and form; 20000 are still smooth on a laptop.

    Returns:
        A plotly figure: the space form above, the plain form below.

    Raises:
        ValueError: The dataset has no parameter axis, no such observable, or no two time steps.
    """
    import plotly.graph_objects as go

    orbits = _Orbits.of(dataset, observable)
    low, high, _ = orbits.range()
    figure = go.Figure()
    per_probe = 3
    for i, name in enumerate(orbits.names):
        points = orbits.points(i, differences=True, max_points=max_points)
        flat = orbits.points(i, differences=False, max_points=max_points)
        hover = f"{orbits.name} %{{x}}<br>y = %{{y:.4g}}"
        dots = {"mode": "markers", "visible": i == 0, "showlegend": False}
        color = {"color": points.at.astype(np.float32), "colorscale": style.SEQUENTIAL.capitalize()}
        figure.add_scatter3d(
            x=points.at,
            y=points.y.astype(np.float32),
            z=points.dy.astype(np.float32),
            marker={"size": 1.6, **color},
            hovertemplate=f"{hover}<br>difference = %{{z:.4g}}<extra>{_escape(name)}</extra>",
            **dots,
        )
        for good, colour, said in (
            (True, style.BLUE, "settled"),
            (False, style.UNSETTLED, "not settled"),
        ):
            figure.add_scattergl(
                x=flat.at[flat.settled == good],
                y=flat.y[flat.settled == good].astype(np.float32),
                marker={"size": 2.5, "color": colour},
                hovertemplate=f"{hover}<extra>{said}</extra>",
                name=said,
                **{**dots, "showlegend": not orbits.settled.all()},
            )
    menu = [
        {
            "label": _escape(name),
            "method": "update",
            "args": [{"visible": [k // per_probe == i for k in range(per_probe * len(orbits.names))]}],
        }
        for i, name in enumerate(orbits.names)
    ]
    axis, difference = style.PLOTLY_AXIS, f"{orbits.symbol}<sub>t</sub> − {orbits.symbol}<sub>t−1</sub>"
    figure.update_layout(
        **style.PLOTLY,
        height=950,
        updatemenus=[{"buttons": menu, "x": 0, "xanchor": "left", "y": 1.0, "yanchor": "bottom"}],
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 0.42, "itemsizing": "constant"},
        scene={
            "domain": {"x": [0, 1], "y": [0.44, 1]},
            "aspectmode": "manual",
            "aspectratio": {"x": 2.4, "y": 1, "z": 1},
            "camera": {"eye": {"x": 0.9, "y": -2.3, "z": 0.8}},
            "xaxis": {"title": {"text": orbits.label}, **_SCENE_AXIS},
            "yaxis": {"title": {"text": f"{orbits.symbol}<sub>t</sub>"}, "range": [low, high], **_SCENE_AXIS},
            "zaxis": {"title": {"text": difference}, **_SCENE_AXIS},
        },
        xaxis={**axis, "title": {"text": orbits.label}, "range": orbits.span()},
        yaxis={
            **axis,
            "title": {"text": f"{orbits.symbol}<sub>t</sub>"},
            "range": [low, high],
            "domain": [0, 0.38],
        },
    )
    return figure


_SCENE_AXIS = {
    "gridcolor": "rgba(128,128,128,0.35)",
    "zeroline": False,
    "showbackground": False,
}


class _Points(NamedTuple):
    """Distinct points of one probe: places on the parameter axis, values, first differences."""

    at: np.ndarray
    y: np.ndarray
    dy: np.ndarray
    settled: np.ndarray


class _Orbits(NamedTuple):
    """The dataset with its axes in a fixed order, one observable of it."""

    name: str  # of the parameter
    label: str  # of its axis, with units
    symbol: str
    at: np.ndarray  # (parameter,)
    names: list[str]  # (probe,)
    y: np.ndarray  # (parameter, probe, sample, time)
    settled: np.ndarray  # (parameter, probe, sample)

    @classmethod
    def of(cls, dataset: xr.Dataset, observable: Any) -> _Orbits:
        if "y" not in dataset:
            raise ValueError(
                f"a bifurcation diagram needs y: the dataset has {', '.join(map(str, dataset))}."
            )
        others = [str(dim) for dim in dataset["y"].dims if dim not in AXES]
        if not others:
            raise ValueError(
                f"a bifurcation diagram needs a parameter axis beside {', '.join(AXES)}: if that is the probe, "
                'rename it, for instance dataset.rename(probe="r").'
            )
        name, rest = others[0], others[1:]
        if rest:
            raise ValueError(
                f"a bifurcation diagram has one parameter axis, {name!r}: select from {rest} first."
            )
        y = dataset["y"].expand_dims([dim for dim in AXES if dim not in dataset["y"].dims])
        y = _select(y, "observable", observable).transpose(name, *AXES[:3])
        settled = (
            dataset["settled"] if "settled" in dataset else xr.ones_like(y.isel(time=0, drop=True), bool)
        )
        settled = settled.broadcast_like(y.isel(time=0, drop=True)).transpose(name, *AXES[:2])
        at = np.asarray(y[name].values) if name in y.coords else np.arange(y.sizes[name])
        units = y[name].attrs.get("units") if name in y.coords else None
        return cls(
            name=name,
            label=f"{name} ({units})" if units else name,
            symbol="y",
            at=at,
            names=[str(p) for p in y["probe"].values] if "probe" in y.coords else _numbered(y.sizes["probe"]),
            y=np.asarray(y.values, float),
            settled=np.asarray(settled.values, bool),
        )

    def pick(self, *probes: Any) -> _Orbits:
        """Only these probes, in this order."""
        chosen = [_position(self.names, probe, "probe") for probe in probes]
        return self._replace(
            names=[self.names[i] for i in chosen], y=self.y[:, chosen], settled=self.settled[:, chosen]
        )

    def span(self) -> tuple[float, float]:
        """Limits of the parameter axis."""
        low, high = float(self.at.min()), float(self.at.max())
        margin = 0.02 * (high - low) or 0.5
        return low - margin, high + margin

    def range(self) -> tuple[float, float, bool]:
        """Limits of the y axis, and whether they leave out orbits that have not settled."""
        y = np.where(np.isfinite(self.y), self.y, np.nan)
        if np.isnan(y).all():
            return -1.0, 1.0, False
        with np.errstate(all="ignore"):
            extent = np.nan_to_num(np.abs(y).max((1, 2, 3), initial=0, where=~np.isnan(y)))
        far = (extent > 8 * np.quantile(extent, 0.75))[:, None, None] & ~self.settled
        kept = y[~far] if not far.all() else y
        low, high = float(np.nanmin(kept)), float(np.nanmax(kept))
        margin = 0.05 * (high - low) or 0.5 * max(abs(high), 1e-3)
        low, high = low - margin, high + margin
        return low, high, bool(((y < low) | (y > high)).any())

    def points(self, probe: int, *, differences: bool, max_points: int) -> _Points:
        """Distinct points of a probe, at most so many: looks that visit many places give up some of theirs."""
        y = self.y[:, probe]
        if differences and y.shape[-1] < 2:
            raise ValueError("a first difference needs two time steps: give orbits with steps of at least 2.")
        dy = np.diff(y, axis=-1) if differences else np.zeros_like(y)
        y = y[..., 1:] if differences else y
        look = np.broadcast_to(np.arange(len(self.at))[:, None, None], y.shape)
        settled = np.broadcast_to(self.settled[:, probe, :, None], y.shape)
        low, high, _ = self.range()
        seen = np.isfinite(y) & np.isfinite(dy) & (y >= low) & (y <= high)
        look, y, dy, settled = look[seen], y[seen], dy[seen], settled[seen]
        first = _distinct(look, settled, _cells(y), _cells(dy))
        first = first[_thin(look[first], max_points)]
        return _Points(self.at[look[first]], y[first], dy[first], settled[first])


def _draw_panel(
    axes: Axes, orbits: _Orbits, probe: int, limits: tuple[float, float], max_points: int
) -> None:
    """Dots where there are few, else how often each place is visited."""
    points = orbits.points(probe, differences=False, max_points=10**9)
    for good, color in ((True, style.BLUE), (False, style.UNSETTLED)):
        kind = points.settled == good
        if not kind.any():
            continue
        if len(points.y) <= max_points:
            looks = len(orbits.at)
            size = 2.2 if looks <= 150 else 1.2
            axes.plot(
                points.at[kind],
                points.y[kind],
                linestyle="none",
                marker="o",
                markersize=size,
                markeredgewidth=0,
                color=color,
                rasterized=True,
            )
        else:
            _draw_density(axes, orbits, probe, good, color, limits)


def _draw_density(
    axes: Axes, orbits: _Orbits, probe: int, good: bool, color: str, limits: tuple[float, float]
) -> None:
    from matplotlib.colors import to_rgb

    y = np.where(orbits.settled[:, probe, :, None] == good, orbits.y[:, probe], np.nan)
    at = np.broadcast_to(orbits.at[:, None, None], y.shape)
    seen = np.isfinite(y)
    columns = min(len(orbits.at), 700)
    step = (orbits.at.max() - orbits.at.min()) / max(columns - 1, 1)
    span = (orbits.at.min() - step / 2, orbits.at.max() + step / 2)
    counts, _, _ = np.histogram2d(at[seen], y[seen], bins=(columns, CELLS), range=(span, limits))
    if not counts.any():
        return
    # the busiest cells of chaos are far above all others: half of the strength for being visited at all
    strength = np.where(counts > 0, 0.3 + 0.7 * np.log1p(counts) / np.log1p(counts.max()), 0)
    image = np.empty((CELLS, columns, 4))
    image[..., :3], image[..., 3] = to_rgb(color), strength.T
    axes.imshow(image, extent=(*span, *limits), origin="lower", aspect="auto", interpolation="antialiased")


def _cells(values: np.ndarray) -> np.ndarray:
    """Position on a grid of `CELLS` cells over the range of the values."""
    if not values.size:
        return np.zeros(0, np.int64)
    low, high = values.min(), values.max()
    return ((values - low) * ((CELLS - 1) / (high - low) if high > low else 0.0)).astype(np.int64)


def _distinct(*keys: np.ndarray) -> np.ndarray:
    """Positions of the first of each group of points that agree in all keys."""
    joint = np.zeros(keys[0].shape, np.int64)
    for key in keys:
        joint = joint * CELLS + key if key.dtype != bool else joint * 2 + key
    return np.unique(joint, return_index=True)[1]


def _thin(look: np.ndarray, most: int) -> np.ndarray:
    """Positions of at most `most` points; the same bound for every look, so that no fixed point is lost."""
    if len(look) <= most:
        return np.arange(len(look))
    counts = np.bincount(look)
    bounds = np.arange(1, counts.max() + 1)
    totals = np.minimum(counts[:, None], bounds).sum(0)
    bound = max(1, int(np.searchsorted(totals, most, side="right")))
    order = np.random.default_rng(0).permutation(len(look))
    order = order[np.argsort(look[order], kind="stable")]
    rank = np.arange(len(look)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.sort(order[rank < bound])


def _select(array: xr.DataArray, dim: str, choice: Any) -> xr.DataArray:
    names = [str(v) for v in array[dim].values] if dim in array.coords else _numbered(array.sizes[dim])
    return array.isel({dim: _position(names, choice, dim)}, drop=True)


def _position(names: list[str], choice: Any, what: str) -> int:
    if str(choice) in names:
        return names.index(str(choice))
    if isinstance(choice, int | np.integer) and -len(names) <= choice < len(names):
        return int(choice) % len(names)
    raise ValueError(f"{what}={choice!r} is not there: choose a position or one of {', '.join(names)}.")


def _numbered(count: int) -> list[str]:
    return [str(i) for i in range(count)]


def _escape(text: str) -> str:
    """Plotly reads its labels as a kind of HTML."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
