"""Training curves: every number that was logged, over the epochs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from rnnlab.figures import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from plotly.graph_objects import Figure as PlotlyFigure

PARTS = ("train", "val", "test")  # the same quantity on other data: one panel
DECADES = 1.3  # a quantity that spans more has a logarithmic axis


@style.styled
def curves(metrics: pd.DataFrame, baselines: Mapping[str, float] | None = None) -> Figure:
    """All metrics over epochs, one panel a quantity.

    Columns `train/x`, `val/x` and `test/x` share the panel of `x`; other columns share that of what stands
    before their stroke. Axes are logarithmic where all values are positive and span decades.

    Args:
        metrics: Column `epoch` (or an index of that name), and a column a metric; gaps are NaN.
        baselines: By column name: what a trivial answer costs, a dashed line.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: There is no `epoch`, or no metric.

    Example:
        >>> figure = curves(pd.DataFrame({"epoch": [1, 2], "train/mse": [0.5, 0.1]}), {"train/mse": 0.5})
        >>> [axes.get_title() for axes in figure.axes]
        ['mse']
    """
    panels = _panels(metrics, baselines or {})
    columns = min(len(panels), 3)
    rows = math.ceil(len(panels) / columns)
    width, height = (6.0, 4.0) if columns == 1 else (4.0 * columns, 2.6 * rows + 0.6)
    figure = style.new_figure(width, height)
    figure.set_layout_engine("constrained")
    grid: Any = figure.subplots(rows, columns, sharex=True, squeeze=False).ravel()
    for axes, panel in zip(grid, panels, strict=False):
        for i, (name, line) in enumerate(panel.lines.items()):
            dots = "o" if len(line) == 1 else None
            axes.plot(line.index, line, marker=dots, color=style.COLORS[i % len(style.COLORS)], label=name)
        for name, value in panel.baselines.items():
            label = f"baseline {value:.4g}" if len(panel.baselines) == 1 else f"{name} baseline {value:.4g}"
            axes.axhline(value, color=style.INK, linestyle="--", linewidth=1, label=label)
        if panel.logarithmic:
            axes.set_yscale("log")
        if len(panel.lines) + len(panel.baselines) > 1:
            axes.legend(fontsize=8)
        axes.set_title(panel.title)
        axes.tick_params(labelbottom=True)
    for axes in grid[len(panels) :]:
        axes.remove()
    figure.supxlabel("epoch", fontsize=11)
    return figure


def interactive(metrics: pd.DataFrame, baselines: Mapping[str, float] | None = None) -> PlotlyFigure:
    """The same to zoom, one panel below the other.

    Args:
        metrics: As for `curves`.
        baselines: As for `curves`.

    Returns:
        A plotly figure.

    Raises:
        ValueError: There is no `epoch`, or no metric.
    """
    from plotly.subplots import make_subplots

    panels = _panels(metrics, baselines or {})
    gap = 70 / (230 * len(panels))
    figure = make_subplots(
        rows=len(panels),
        cols=1,
        shared_xaxes=True,
        vertical_spacing=min(gap, 0.9 / max(len(panels) - 1, 1)),
        subplot_titles=[style.escape(panel.title) for panel in panels],
    )
    for row, panel in enumerate(panels, 1):
        for i, (name, line) in enumerate(panel.lines.items()):
            figure.add_scatter(
                x=line.index.to_numpy(),
                y=line.to_numpy(),
                mode="lines" if len(line) > 1 else "markers",
                line={"color": style.COLORS[i % len(style.COLORS)], "width": 1.8},
                name=style.escape(name),
                showlegend=False,
                hovertemplate="%{y:.4g}",
                row=row,
                col=1,
            )
        several = len(panel.baselines) > 1
        for i, (name, value) in enumerate(panel.baselines.items()):
            figure.add_hline(
                value,
                line={"color": "#7a7a7a", "dash": "dash", "width": 1.2},
                annotation_text=f"{name if several else ''} baseline {value:.4g}".strip(),
                annotation_position=("top right", "top left", "bottom right")[i % 3],  # they may lie close
                row=row,  # type: ignore[arg-type]
                col=1,  # type: ignore[arg-type]
            )
        kind: dict[str, Any] = (
            {"type": "log", "dtick": 1, "exponentformat": "power"} if panel.logarithmic else {}
        )
        if panel.constant is not None:  # plotly would show it as zero
            kind = {"range": sorted((0.0, 2 * panel.constant)) if panel.constant else (-1, 1)}
        figure.update_yaxes(**style.PLOTLY_AXIS, **kind, row=row, col=1)
    figure.update_xaxes(**style.PLOTLY_AXIS, showticklabels=True)
    figure.update_xaxes(title_text="epoch", row=len(panels), col=1)
    figure.update_layout(**{**style.PLOTLY, "hovermode": "x unified"}, height=230 * len(panels) + 60)
    figure.update_annotations(font_size=13)
    return figure


class _Panel(NamedTuple):
    title: str
    lines: dict[str, pd.Series]  # without gaps, over epochs
    baselines: dict[str, float]
    logarithmic: bool
    constant: float | None  # the one value that all lines have


def _panels(metrics: pd.DataFrame, baselines: Mapping[str, float]) -> list[_Panel]:
    if "epoch" in metrics:
        metrics = metrics.set_index("epoch")
    if metrics.index.name != "epoch":
        raise ValueError(
            f"training curves need a column epoch: there is {', '.join(map(str, metrics.columns))}."
        )
    grouped: dict[str, list[str]] = {}
    for column in map(str, metrics.columns):
        if len(pd.Series(metrics[column]).dropna()):
            head, _, tail = column.partition("/")
            grouped.setdefault(tail if head in PARTS and tail else head, []).append(column)
    if not grouped:
        raise ValueError("there are no training curves yet: no metric has a value.")
    panels = []
    for title, columns in grouped.items():
        lines = {column: pd.Series(metrics[column]).dropna() for column in columns}
        own = {column: float(baselines[column]) for column in columns if column in baselines}
        values = np.concatenate([*(line.to_numpy(float) for line in lines.values()), list(own.values())])
        values = values[np.isfinite(values)]
        span = (
            bool(values.size) and bool(values.min() > 0) and math.log10(values.max() / values.min()) > DECADES
        )
        constant = float(values[0]) if values.size and bool((values == values[0]).all()) else None
        panels.append(_Panel(title, lines, own, span, constant))
    return panels
