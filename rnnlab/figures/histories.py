"""Training histories of many runs on common axes: a colour a kind, thin a seed, thick their median."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from rnnlab.figures import style
from rnnlab.figures.training import DECADES

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from plotly.graph_objects import Figure as PlotlyFigure

PANELS = 12  # drawn at most
SEEDS = 8
POINTS = 150_000  # of all lines together
STRETCH = 10  # runs whose lengths differ by more have a logarithmic axis of epochs
SCALE = np.array([[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [220, 200, 40]])
BASELINE = "#7a7a7a"


class Line(NamedTuple):
    """One number of one run over epochs.

    Attributes:
        values: By epoch; what is not finite is a gap.
        kind: Names the colour, such as the model.
        panel: Names the panel, such as the length of the sequences.
        seed: Names the run among those of its kind and panel.
        name: The metric.
        finished: Whether the run has come to its end; its last value then counts for later epochs.
        baseline: What a trivial answer costs.
    """

    values: pd.Series
    kind: str = ""
    panel: str = ""
    seed: str = ""
    name: str = ""
    finished: bool = True
    baseline: float | None = None


def median(lines: Sequence[Line]) -> pd.Series:
    """The median of several runs at each epoch, never of another set of runs than the epoch before.

    A run that has finished (at accuracy one, say) counts on with its last value: else the median after that
    epoch would be that of the slower ones. Where more than half have finished, the others (killed or still
    running) are left out; else the median ends where the first of them ends.

    Args:
        lines: At least one.

    Example:
        >>> early = Line(pd.Series([0.5, 1.0], index=[1, 2]))
        >>> late = Line(pd.Series([0.25, 0.5, 0.75], index=[1, 2, 3]))
        >>> median([early, late]).tolist()
        [0.375, 0.75, 0.875]
    """
    shown = [(line.finished, values) for line in lines if len(values := _finite(line.values))]
    finished = [(done, values) for done, values in shown if done]
    if 2 * len(finished) > len(shown):
        shown = finished
    if not shown:
        return pd.Series(dtype=float)
    frame = pd.concat([values for _, values in shown], axis=1).sort_index().ffill()
    ends = [values.index[-1] for done, values in shown if not done]
    return frame[frame.index <= min(ends, default=np.inf)].dropna().median(axis=1)


@style.styled
def curves(lines: Sequence[Line], title: str = "") -> Figure:
    """Histories, one panel for each of `Line.panel`, with a median for each kind.

    Args:
        lines: Of one metric, or of several of one quantity. At most the first `PANELS` panels are drawn.
        title: What is on the vertical axis.

    Returns:
        A matplotlib figure. Runs that have not finished end in a circle. Epochs are on a logarithmic axis
        where some runs are `STRETCH` times as long as others.

    Raises:
        ValueError: No line has a finite value.

    Example:
        >>> lines = [Line(pd.Series([0.9, 0.5 * n], index=[1, 2]), "LSTM", f"length = {n}") for n in (1, 2)]
        >>> [axes.get_title() for axes in curves(lines).axes]
        ['length = 1', 'length = 2']
    """
    lines = _drawable(lines)
    panels = list(dict.fromkeys(line.panel for line in lines))[:PANELS]
    lines = [line for line in lines if line.panel in panels]
    columns = min(len(panels), 3)
    rows = math.ceil(len(panels) / columns)
    figure, grid = _grid(rows, columns, lines, title)
    for axes, panel in zip(grid.flat, panels, strict=False):
        own = [line for line in lines if line.panel == panel]
        _draw(axes, own, _colors(lines), len(lines))
        axes.set_title(panel)
    for axes in grid.flat[len(panels) :]:
        axes.remove()
    return figure


@style.styled
def seeds(lines: Sequence[Line], title: str = "") -> Figure:
    """Histories seed by seed: a row for each panel, a column for each seed, no medians.

    Args:
        lines: Of one quantity; the first metric is drawn solid, others dotted; the baseline is that of the
            first. At most the first `SEEDS` seeds and `PANELS` panels are drawn.
        title: What is on the vertical axis.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: No line has a finite value.
    """
    lines = _drawable(lines)
    panels = list(dict.fromkeys(line.panel for line in lines))[:PANELS]
    columns = list(dict.fromkeys(line.seed for line in lines))[:SEEDS]
    lines = [line for line in lines if line.panel in panels and line.seed in columns]
    figure, grid = _grid(len(panels), len(columns), lines, title)
    for row, panel in zip(grid, panels, strict=True):
        for axes, seed in zip(row, columns, strict=True):
            own = [line for line in lines if (line.panel, line.seed) == (panel, seed)]
            _draw(axes, own, _colors(lines), len(lines), names=[line.name for line in lines], medians=False)
            axes.set_title(", ".join(filter(None, (panel, seed))))
    return figure


def interactive(lines: Sequence[Line], title: str = "") -> PlotlyFigure:
    """The same as `curves` to zoom, one panel below the other; a click on a kind hides it everywhere.

    Args:
        lines: As for `curves`.
        title: What is on the vertical axis.

    Returns:
        A plotly figure, with a switch between linear and logarithmic epochs.

    Raises:
        ValueError: No line has a finite value.
    """
    from plotly.subplots import make_subplots

    lines = _drawable(lines)
    panels = list(dict.fromkeys(line.panel for line in lines))[:PANELS]
    lines = [line for line in lines if line.panel in panels]
    colors = _colors(lines)
    height = 250 * len(panels)
    figure = make_subplots(
        rows=len(panels),
        cols=1,
        shared_xaxes=True,
        shared_yaxes="all",  # type: ignore[arg-type]
        vertical_spacing=min(60 / height, 0.9 / max(len(panels) - 1, 1)),
        subplot_titles=[_title(lines, panel) for panel in panels],
    )
    named = _some(list(colors))
    most = POINTS // len(lines)
    shown: set[str] = set()
    for row, panel in enumerate(panels, 1):
        for kind, own in _kinds(lines, panel).items():
            thin = {"color": colors[kind], "width": 1}
            for line in own if len(own) > 1 else []:
                figure.add_scatter(
                    **_points(line.values, most, line.finished, f"{kind} {line.seed}"),
                    line=thin,
                    opacity=0.45,
                    legendgroup=kind,
                    showlegend=False,
                    row=row,
                    col=1,
                )
            which, ended = f"median of {len(own)}", True
            if len(own) == 1:
                which, ended = own[0].seed, own[0].finished
            figure.add_scatter(
                **_points(median(own), max(most, 400), ended, f"{kind} {which}"),
                line={"color": colors[kind], "width": 2.6 if len(own) > 1 else 1.5},
                name=style.escape(kind),
                legendgroup=kind,
                showlegend=kind in named and kind not in shown,
                row=row,
                col=1,
            )
            shown.add(kind)
        baseline = _baseline(lines, panel)
        if baseline is not None:
            figure.add_hline(
                baseline,
                line={"color": BASELINE, "dash": "dash", "width": 1.2},
                row=row,  # type: ignore[arg-type]
                col=1,  # type: ignore[arg-type]
            )
    logarithmic = {"type": "log", "dtick": 1, "exponentformat": "power"} if _decades(lines) else {}
    figure.update_yaxes(**style.PLOTLY_AXIS, **logarithmic)
    start = "log" if _stretched(lines) else "linear"
    figure.update_xaxes(**style.PLOTLY_AXIS, type=start, showticklabels=True)
    figure.update_xaxes(title_text="epoch", row=len(panels), col=1)
    figure.update_yaxes(title_text=style.escape(title), row=(len(panels) + 1) // 2, col=1)
    axes = [f"xaxis{n or ''}.type" for n in (0, *range(2, len(panels) + 1))]
    buttons = [
        {"label": f"{kind} epochs", "method": "relayout", "args": [dict.fromkeys(axes, kind)]}
        for kind in ("linear", "log")
    ]
    top, bottom = 130, 110  # the modebar and a legend of some rows, the switch
    menu = {
        "type": "buttons",
        "direction": "right",
        "buttons": buttons,
        "active": int(start == "log"),
        "showactive": True,
        "x": 0,
        "xanchor": "left",
        "y": -60 / height,
        "yanchor": "top",
        "font": {"size": 12},
        "bgcolor": "rgba(128,128,128,0.12)",
    }
    legend = {
        "orientation": "h",
        "x": 0,
        "y": 1 + 28 / height,
        "yanchor": "bottom",
        "groupclick": "togglegroup",
    }
    margin = {**style.PLOTLY["margin"], "t": top, "b": bottom}
    figure.update_layout(
        **{**style.PLOTLY, "margin": margin},
        height=height + top + bottom,
        updatemenus=[menu],
        legend=legend,
        showlegend=True,
    )
    return figure


def _title(lines: Sequence[Line], panel: str) -> str:
    baseline = _baseline(lines, panel)
    said = [panel] if baseline is None else [panel, f"baseline {baseline:.4g}"]
    return style.escape(", ".join(filter(None, said)))


def _finite(values: pd.Series) -> pd.Series:
    return pd.Series(values[np.isfinite(values.to_numpy(float))])


def _drawable(lines: Sequence[Line]) -> list[Line]:
    there = [line._replace(values=_finite(line.values)) for line in lines]
    there = [line for line in there if len(line.values)]
    if not there:
        raise ValueError("there are no training histories yet: no run has a finite value.")
    return there


def _thinned(values: pd.Series, most: int) -> pd.Series:
    """About as many points as asked for, with the extremes of all that is left out.

    Bins are narrow at the beginning as well, for logarithmic axes.
    """
    count = len(values)
    if count <= most:
        return values
    bins = max(most // 4, 2)
    edges = np.unique(
        np.concatenate([np.linspace(0, count, bins), np.geomspace(1, count, bins), [0]]).astype(int)
    )
    y = values.to_numpy(float)
    kept = {0, count - 1}
    for low, high in itertools.pairwise(edges):
        kept |= {int(low + y[low:high].argmin()), int(low + y[low:high].argmax())}
    return values.iloc[sorted(kept)]


def _points(values: pd.Series, most: int, finished: bool, label: str) -> dict[str, Any]:
    """A line for plotly, with a circle at its end where the run has not come to its own."""
    values = _thinned(values, max(most, 40))
    ends = np.where(np.arange(len(values)) == len(values) - 1, 7, 0)
    some: dict[str, Any] = (
        {"mode": "lines"}
        if finished
        else {
            "mode": "lines+markers",
            "marker": {"size": ends, "symbol": "circle-open", "line": {"width": 1.5}},
        }
    )
    return {
        "x": values.index.to_numpy(np.int32),
        "y": values.to_numpy(np.float32),
        "hovertemplate": "%{y:.4g} at epoch %{x}<extra>" + style.escape(label.strip()) + "</extra>",
        **some,
    }


def _kinds(lines: Sequence[Line], panel: str) -> dict[str, list[Line]]:
    found: dict[str, list[Line]] = {}
    for line in lines:
        if line.panel == panel:
            found.setdefault(line.kind, []).append(line)
    return found


def _colors(lines: Sequence[Line]) -> dict[str, str]:
    """A colour for each kind; from dark to bright where there are many."""
    kinds = list(dict.fromkeys(line.kind for line in lines))
    if len(kinds) <= len(style.COLORS):
        return dict(zip(kinds, style.COLORS, strict=False))
    places = np.linspace(0, len(SCALE) - 1, len(kinds))
    rgb = np.stack([np.interp(places, range(len(SCALE)), channel) for channel in SCALE.T], -1).round()
    return {kind: "#" + "".join(f"{int(c):02x}" for c in row) for kind, row in zip(kinds, rgb, strict=True)}


def _some(kinds: list[str]) -> list[str]:
    """Those that a legend has room for."""
    if len(kinds) <= 2 * len(style.COLORS):
        return kinds
    places = np.linspace(0, len(kinds) - 1, len(style.COLORS)).round().astype(int)
    return [kinds[i] for i in places]


def _baseline(lines: Sequence[Line], panel: str) -> float | None:
    """The median over runs: it depends a little on the data that a seed draws."""
    own = [line for line in lines if line.panel == panel and line.name == lines[0].name]
    found = [line.baseline for line in own if line.baseline is not None]
    return float(np.median(found)) if found else None


def _decades(lines: Sequence[Line]) -> bool:
    values = np.concatenate([line.values.to_numpy(float) for line in lines])
    return bool(values.min() > 0 and math.log10(values.max() / values.min()) > DECADES)


def _stretched(lines: Sequence[Line]) -> bool:
    """Whether some runs are so much longer than others that only a logarithmic axis shows both."""
    ends = [line.values.index[-1] for line in lines if line.values.index[-1] > 0]
    return bool(ends) and max(ends) > STRETCH * min(ends)


def _grid(rows: int, columns: int, lines: Sequence[Line], title: str) -> tuple[Figure, np.ndarray]:
    """Empty panels with common axes, the legend above them."""
    from matplotlib.lines import Line2D

    width, height = max(3.2 * columns + 0.6, 6.0), max(2.3 * rows + 0.9, 3.6)
    figure = style.new_figure(width, height)
    figure.set_layout_engine("constrained")
    grid: Any = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    if _decades(lines):
        grid[0, 0].set_yscale("log")
    if _stretched(lines):
        grid[0, 0].set_xscale("log")
    else:
        grid[0, 0].xaxis.get_major_locator().set_params(integer=True)
    colors = _colors(lines)
    handles = [
        Line2D([], [], color=colors[kind], linewidth=2.2, label=kind) for kind in _some(list(colors)) if kind
    ]
    names = list(dict.fromkeys(line.name for line in lines))
    if len(names) > 1:
        handles += [
            Line2D([], [], color=style.INK, linestyle=_dash(i), linewidth=1.2, label=name)
            for i, name in enumerate(names)
        ]
    if any(line.baseline is not None for line in lines):
        handles.append(Line2D([], [], color=BASELINE, linestyle="--", linewidth=1.1, label="baseline"))
    if not all(line.finished for line in lines):
        handles.append(_circle(label="not finished"))
    if handles:
        figure.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), 6), fontsize=9)
    figure.supxlabel("epoch", fontsize=10)
    figure.supylabel(title, fontsize=10)
    return figure, grid


def _dash(i: int) -> Any:
    return "-" if i == 0 else (0, (1, 1.2))


def _circle(**options: Any) -> Any:
    from matplotlib.lines import Line2D

    look = {
        "color": style.INK,
        "marker": "o",
        "markerfacecolor": "none",
        "linestyle": "none",
        "markersize": 5,
    }
    return Line2D([], [], **{**look, **options})


def _draw(
    axes: Any,
    lines: Sequence[Line],
    colors: dict[str, str],
    total: int,
    *,
    names: Sequence[str] = (),
    medians: bool = True,
) -> None:
    names = list(dict.fromkeys(names or [line.name for line in lines]))
    most = max(POINTS // total, 200)
    for kind, own in _kinds(lines, lines[0].panel).items() if lines else ():
        thick = medians and len(own) > 1
        for line in own:
            values = _thinned(line.values, most)
            dash = _dash(names.index(line.name))
            look = {"linewidth": 0.7, "alpha": 0.45} if thick else {"linewidth": 1.2, "alpha": 0.85}
            axes.plot(values.index, values, color=colors[kind], linestyle=dash, **look)
            if not line.finished:
                end = {"marker": "o", "markerfacecolor": "none", "markersize": 5, "clip_on": False}
                axes.plot(values.index[-1:], values.iloc[-1:], color=colors[kind], linestyle="none", **end)
        if thick:
            values = _thinned(median(own), max(most, 400))
            axes.plot(values.index, values, color=colors[kind], linewidth=2.2)
    baseline = _baseline(lines, lines[0].panel) if lines else None
    if baseline is not None:
        axes.axhline(baseline, color=BASELINE, linestyle="--", linewidth=1.1)
    axes.tick_params(labelbottom=True, labelleft=True)
