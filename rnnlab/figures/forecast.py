"""Fig. 8 of Jordan et al. (2019): the field to be learned, the learned one, and forecasts.

All read the dataset of the callback `phase_portrait`: looks along `epoch`, networks along `probe` and, of an
ensemble, `member`. `networks` takes a look apart; `target_plane`, `predicted_plane` and `state_plane` make of
each network datasets that `rnnlab.figures.phase_portrait` draws.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from rnnlab.figures import phase_portrait, style
from rnnlab.figures.looks import OneAtATime
from rnnlab.figures.orbits import axis_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from plotly.graph_objects import Figure as PlotlyFigure

FEW = 4  # networks side by side
MANY = 12  # to choose from
ENDS: dict[str, Any] = {
    "linestyle": "none",
    "marker": ".",
    "markersize": 3,
    "color": style.ORANGE,
    "zorder": 3,
}


def networks(looks: xr.Dataset) -> Iterator[tuple[str, xr.Dataset]]:
    """Each network of the last look by its name, without the cells that fill the axes up.

    Args:
        looks: See above; the axis `epoch` may be missing.
    """
    look = looks.isel(epoch=-1) if "epoch" in looks.dims else looks
    axes = [dim for dim in ("probe", "member") if dim in look["type"].dims]
    probes = axis_names(look["probe"], "probe") if "probe" in axes else []
    for place in np.ndindex(*(look.sizes[dim] for dim in axes)):
        at = dict(zip(axes, place, strict=True))
        names = [probes[at["probe"]]] if len(probes) > 1 or (probes and "member" not in at) else []
        names += [f"member {at['member']}"] if "member" in at else []
        one = look.isel(at, drop=True)
        there = {
            "index": one["type"].values != "",
            "cycle": one["cycle_type"].values != "",
            "curve": one["nullcline_of"].values >= 0,
        }
        yield ", ".join(names), one.isel({dim: np.flatnonzero(kept) for dim, kept in there.items()})


def target_plane(one: xr.Dataset) -> xr.Dataset | None:
    """The task's field with the series that follow on the observations; None if the task has no field."""
    if "target_velocity" not in one:
        return None
    series = one["target_series"].transpose("series", "time", "axis").values
    return _plane(
        one["target_velocity"],
        one["target_low"],
        one["target_high"],
        attrs={"time": "continuous", "labels": _labels(one)},
        trajectory=np.concatenate((one["shown"].transpose("series", "axis").values[:, None], series), 1),
    )


def predicted_plane(one: xr.Dataset) -> xr.Dataset | None:
    """The learned field in the coordinates of the predictions; None where the readout has no inverse."""
    if "predicted_velocity" not in one or not np.isfinite(one["predicted_velocity"].values).any():
        return None
    low, high, y = (one[name].values for name in ("target_low", "target_high", "y"))
    inside = ((y >= low) & (y <= high)).all(-1)
    return _plane(
        one["predicted_velocity"],
        one["target_low"],
        one["target_high"],
        attrs={"time": "discrete", "labels": _labels(one)},
        trajectory=one["forecast"].transpose("series", "time", "observable").values,
        point=one["y"].transpose("index", "observable").values[inside],
        type=one["type"].values[inside],
        cycle_point=one["cycle_y"].transpose("cycle", "phase", "observable").values,
        cycle_type=one["cycle_type"].values,
    )


def state_plane(one: xr.Dataset) -> xr.Dataset:
    """The learned field in the plane of states."""
    projection = one.attrs.get("projection", "")
    return _plane(
        one["velocity"],
        one["box_low"],
        one["box_high"],
        attrs={
            "time": "discrete",
            "labels": one["label"].values.tolist() if projection else ["x[0]", "x[1]"],
            "projection": projection,
        },
        trajectory=one["trajectory"].transpose("series", "time", "axis").values,
        nullcline=one["nullcline"].transpose("curve", "vertex", "axis").values,
        nullcline_of=one["nullcline_of"].values,
        point=one["point"].transpose("index", "axis").values,
        type=one["type"].values,
        cycle_point=one["cycle_point"].transpose("cycle", "phase", "axis").values,
        cycle_type=one["cycle_type"].values,
    )


def _plane(
    velocity: xr.DataArray, low: xr.DataArray, high: xr.DataArray, attrs: dict[str, Any], **parts: np.ndarray
) -> xr.Dataset:
    """As `rnnlab.analysis.phase_plane` has it, with axes that need no names."""
    values = velocity.transpose(..., "axis").values
    data: dict[str, Any] = {
        "velocity": (("row", "column", "axis"), values),
        "speed": (("row", "column"), np.linalg.norm(values, axis=-1)),
        "box_low": ("axis", low.values),
        "box_high": ("axis", high.values),
    }
    for name, part in parts.items():
        data[name] = tuple(f"{name}_{i}" for i in range(part.ndim)), part
    return xr.Dataset(data, attrs=attrs)


def _labels(one: xr.Dataset) -> list[str]:
    return [f"y[{i}]" for i in range(one.sizes["observable"])]


@style.styled
def portraits(looks: xr.Dataset) -> Figure:
    """The rows of Fig. 8 at the last look: target, learned field, forecast; a column a network.

    The learned field stands twice: in the coordinates of the predictions, to be compared with the target's
    and in its colours; and in the plane of states. Orange dots are what becomes of a grid over the target's
    box after as many steps as a forecast has: attractors, and what is slow. A network by itself has one row.

    Args:
        looks: See above; the first four networks are shown.

    Returns:
        A matplotlib figure.
    """
    from matplotlib.lines import Line2D

    shown = [one for _, one in zip(range(FEW), networks(looks), strict=False)]
    planes = {
        "target": [target_plane(one) for _, one in shown],
        "learned (predictions)": [predicted_plane(one) for _, one in shown],
        "learned (states)": [state_plane(one) for _, one in shown],
    }
    planes = {kind: row for kind, row in planes.items() if any(plane is not None for plane in row)}
    page = _Page(len(planes), len(shown))
    for column, (name, one) in enumerate(shown):
        speed = None
        for row, (kind, plane) in enumerate((kind, own[column]) for kind, own in planes.items()):
            if plane is None:
                continue
            axes = page.panel(row, column, kind)
            image = phase_portrait.draw(axes, plane, speed=speed)
            if kind == "target":
                speed = image.get_clim()
            if kind != "learned (states)":
                end = one["target_end" if kind == "target" else "predicted_end"].values.reshape(-1, 2)
                axes.plot(*end.T, **ENDS)
            if kind == "learned (predictions)":
                _beyond(axes, one["predicted_corner"].transpose("corner", "axis").values)
            speed = speed if kind == "target" else None
        _series(page.panel(len(planes), column, "forecast"), one)
        page.head(column, _head(name, one))
    every = [plane for row in planes.values() for plane in row if plane is not None]
    handles = phase_portrait.handles(every)
    if "target" in planes:
        handles.append(Line2D([], [], label="where a grid of observations ends", **ENDS))
        handles.append(Line2D([], [], label="target's series", color=style.INK, linewidth=3.5, alpha=0.3))
    handles.append(Line2D([], [], label="forecast", color=style.INK, linewidth=1.2))
    page.legend(handles)
    return page.figure


class _Page:
    """Panels in inches: kinds below each other, networks side by side; one by itself the other way."""

    SIDE, LEFT, GAP, TOP, LOW = 2.7, 1.1, 0.8, 0.6, 1.5

    def __init__(self, kinds: int, networks: int) -> None:
        self.kinds, self.flat = kinds, networks == 1
        across = kinds + 1 if self.flat else networks
        self.width = self.LEFT + across * (self.SIDE + self.GAP) - 0.5
        self.foot = 1.05
        tall = self.SIDE if self.flat else kinds * (self.SIDE + 0.6) + self.LOW
        self.height = self.TOP + tall + self.foot
        self.figure = style.new_figure(self.width, self.height)

    def panel(self, row: int, column: int, kind: str) -> Axes:
        """The place of a network's kind of panel."""
        low = row == self.kinds and not self.flat
        tall, across = self.LOW if low else self.SIDE, row if self.flat else column
        x = self.LEFT + across * (self.SIDE + self.GAP)
        y = self.height - self.TOP - (0 if self.flat else row * (self.SIDE + 0.6)) - tall
        size = (x / self.width, y / self.height, self.SIDE / self.width, tall / self.height)
        axes = self.figure.add_axes(size)
        if self.flat:
            axes.set_title(kind)
        elif column == 0:
            self.figure.text(
                0.12 / self.width, size[1] + size[3] / 2, kind, rotation=90, va="center", ha="left"
            )
        return axes

    def head(self, column: int, text: str) -> None:
        """What is written above a network."""
        x = self.LEFT + column * (self.SIDE + self.GAP) + (0 if self.flat else self.SIDE / 2)
        y = 1 - (0.12 if self.flat else 0.1) / self.height
        self.figure.text(x / self.width, y, text, va="top", ha="left" if self.flat else "center")

    def legend(self, handles: list[Any]) -> None:
        abreast = max(1, int(self.width / 2.1))
        self.figure.legend(
            handles=handles, loc="lower center", ncols=abreast, fontsize=8.5, borderaxespad=0.2
        )


def _head(name: str, one: xr.Dataset) -> str:
    """The network's name and its topology, that of its flow as well where the points are of other types."""
    said = ": ".join(part for part in (name, one["signature"].item()) if part)
    differ = (one["type"].values != one["flow_type"].values).any()
    return f"{said}\n(as a flow: {one['flow_signature'].item()})" if differ else said


def _beyond(axes: Axes, corners: np.ndarray) -> None:
    """Cover what no state of the plane predicts."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    frame = np.array([[left, low], [right, low], [right, high], [left, high]])
    (a, b), (c, d) = corners[1] - corners[0], corners[2] - corners[0]
    # one way round outside, the other inside: what is between is filled
    inner = corners[::-1] if a * d > b * c else corners
    codes = [Path.MOVETO, *[Path.LINETO] * 3, Path.CLOSEPOLY] * 2
    points = np.concatenate((frame, frame[:1], inner, inner[:1]))
    axes.add_patch(
        PathPatch(Path(points, codes), facecolor="white", edgecolor=style.INK, linewidth=0.6, zorder=1.2)
    )


def _series(axes: Axes, one: xr.Dataset) -> None:
    """The first forecast, and how the target goes on, over time steps."""
    predicted = one["forecast"].transpose("series", "time", "observable").values[0]
    steps = np.arange(1, len(predicted) + 1)
    for i, values in enumerate(predicted.T[: len(style.COLORS)]):
        color = style.COLORS[i]
        if "target_series" in one:
            target = one["target_series"].transpose("series", "time", "axis").values[0, :, i]
            axes.plot(steps, target, color=color, linewidth=3.5, alpha=0.3)
        axes.plot(steps, values, color=color, linewidth=1.2)
        place = {"transform": axes.transAxes, "va": "bottom", "fontsize": 9}
        axes.text(0.02 + 0.12 * i, 1.01, f"y[{i}]", color=color, **place)
    if "trained_steps" in one:
        axes.axvline(int(one["trained_steps"]), color=style.INK, linestyle="dashed", linewidth=0.9)
    axes.set_xlim(0, len(predicted))
    axes.set_xlabel("time step")


def interactive(looks: xr.Dataset, *, states: bool = False) -> PlotlyFigure:
    """Phase portraits of the last look to choose from, in the coordinates of the predictions, and the target.

    Args:
        looks: See above; the first twelve networks are there.
        states: In the plane of states instead.

    Raises:
        ValueError: There is nothing to show: the task has no field, or no readout an inverse.
    """
    shown = [one for _, one in zip(range(MANY), networks(looks), strict=False)]
    planes = {name or "network": (state_plane if states else predicted_plane)(one) for name, one in shown}
    if not states and shown:
        planes["target"] = target_plane(shown[0][1])
    there = {name: plane for name, plane in planes.items() if plane is not None}
    if not set(there) - {"target"}:
        raise ValueError("no portrait can be shown: the task has no field, or the readout has no inverse.")
    menu = OneAtATime(list(there))
    layout: dict[str, Any] = {}
    for i, plane in enumerate(there.values()):
        figure: Any = phase_portrait.interactive(plane)
        for trace in figure.data:
            kind = trace.type
            menu.add(
                i, kind, **{key: value for key, value in trace.to_plotly_json().items() if key != "type"}
            )
        layout = {axis: {**figure.layout[axis].to_plotly_json()} for axis in ("xaxis", "yaxis")}
    for axis in layout.values():
        axis.pop("range", None)
    return menu.laid_out(620, **layout)


def topologies(looks: xr.Dataset) -> PlotlyFigure:
    """How many networks have which topology, over the looks.

    Args:
        looks: See above, with `epoch`.
    """
    import plotly.graph_objects as go

    signature = looks["signature"].values.reshape(looks.sizes["epoch"], -1)
    last, counts = np.unique(signature[-1], return_counts=True)
    names = list(last[np.argsort(-counts, kind="stable")])
    names += [name for name in dict.fromkeys(signature.ravel()) if name not in names]
    figure = go.Figure()
    for name in names:
        figure.add_scatter(
            x=looks["epoch"].values,
            y=(signature == name).sum(1),
            name=style.escape(str(name)),
            mode="lines",
            line={"shape": "hvh", "width": 0.5},
            stackgroup="all",
            hovertemplate="%{y}",
        )
    figure.update_xaxes(**style.PLOTLY_AXIS, title_text="epoch")
    figure.update_yaxes(**style.PLOTLY_AXIS, title_text="networks")
    figure.update_layout(**{**style.PLOTLY, "hovermode": "x unified"}, height=360)
    return figure
