"""Parallel coordinates: every run a line across its parameters to what it reached."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from rnnlab.figures import style
from rnnlab.figures.training import DECADES

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

LEVELS = 12  # numbers with more values are on a scale, others are evenly spaced
SPREAD = 0.3  # of the distance between two levels: else runs of equal parameters were one line
NOTHING = "#8d949e"  # runs without a value
SCALE = ["#9467bd", "#5b7fd1", "#21918c", "#5ec962", "#dcc828"]  # to be seen on light and dark


def coordinates(parameters: pd.DataFrame, best: np.ndarray, title: str, *, largest: bool) -> Figure:
    """A line for each run, coloured by what it reached.

    Args:
        parameters: A row for each run, a column for each axis, as ordered categories.
        best: What the runs reached, `(runs,)`; what is not finite is drawn in grey, below the scale.
        title: Name of that.
        largest: Whether the largest are the best; these are bright.

    Returns:
        A plotly figure. Numbers that span more than a decade are on a logarithmic scale.

    Raises:
        ValueError: There is no parameter, or not as many values as runs.

    Example:
        >>> runs = pd.DataFrame({"length": pd.Categorical([50, 100], ordered=True)})
        >>> figure = coordinates(runs, np.array([0.5, np.nan]), "accuracy", largest=True)
        >>> [axis.label for axis in figure.data[0].dimensions]
        ['length', 'accuracy']
    """
    import plotly.graph_objects as go

    if not len(parameters.columns):
        raise ValueError("there is nothing to draw: the runs have the same parameters.")
    if len(best) != len(parameters):
        raise ValueError(f"{len(best)} values of {len(parameters)} runs are not possible: give one a run.")
    reached, heights = _reached(title, best)
    there = np.isfinite(best)
    # one scale of colours: below zero grey, from 0 to 1 from bad to good
    good = np.full(len(best), -0.25)
    if there.any():
        low, high = heights[there].min(), heights[there].max()
        share = (heights[there] - low) / ((high - low) or 1)
        good[there] = (share if largest else 1 - share) if high > low else 1
    dimensions = [_axis(str(name), values, heights) for name, values in parameters.items()]
    order = np.argsort(good, kind="stable")  # the good are drawn last
    for axis in (*dimensions, reached):
        axis["values"] = axis["values"][order]
    colors = [(0.0, NOTHING), (0.19, NOTHING)]
    colors += [(0.2 + 0.8 * i / (len(SCALE) - 1), color) for i, color in enumerate(SCALE)]
    figure = go.Figure(
        go.Parcoords(
            dimensions=[*dimensions, reached],
            line={"color": good[order], "colorscale": colors, "cmin": -0.25, "cmax": 1.0},
            unselected={"line": {"color": NOTHING, "opacity": 0.08}},
            labelfont={"size": 13, "color": style.PLOTLY["font"]["color"]},
            tickfont={"size": 12, "color": style.PLOTLY["font"]["color"]},
            rangefont={"size": 1, "color": "rgba(0,0,0,0)"},
        )
    )
    margin = {"l": 90, "r": 90, "t": 80, "b": 30}
    figure.update_layout(**{**style.PLOTLY, "margin": margin}, height=450)
    if len(dimensions) > 6:
        figure.update_layout(width=160 * (len(dimensions) + 1) + 180)
    return figure


def _axis(name: str, values: pd.Series, heights: np.ndarray) -> dict[str, Any]:
    """An axis of levels, around which runs are spread in the order of what they reached, or of numbers."""
    levels = list(values.cat.categories)
    numbers = [v for v in levels if isinstance(v, int | float) and not isinstance(v, bool)]
    label = style.escape(name)
    if len(numbers) <= LEVELS or len(numbers) < len(levels):
        codes = values.cat.codes.to_numpy()
        places = codes + SPREAD * (_share_of_rank(codes, heights) - 0.5)
        names = [style.escape(f"{v:.4g}" if isinstance(v, float) else str(v)) for v in levels]
        shown = list(range(len(levels))) if len(levels) <= 2 * LEVELS else _some(len(levels))
        return {
            "label": label,
            "values": places,
            "range": [-0.5, len(levels) - 0.5],
            "tickvals": shown,
            "ticktext": [_short(names[i]) for i in shown],
        }
    return {"label": label, **_scale(values.astype(float).to_numpy())}


def _share_of_rank(codes: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """From 0 to 1 within each level.

    >>> _share_of_rank(np.array([0, 0, 0, 1]), np.array([3.0, 1.0, 2.0, 9.0])).tolist()
    [1.0, 0.0, 0.5, 0.5]
    """
    shares = np.full(len(codes), 0.5)
    for code in np.unique(codes):
        own = np.flatnonzero(codes == code)
        if len(own) > 1:
            shares[own[np.argsort(heights[own], kind="stable")]] = np.linspace(0, 1, len(own))
    return shares


def _some(count: int) -> list[int]:
    return np.linspace(0, count - 1, LEVELS).round().astype(int).tolist()


def _short(name: str) -> str:
    return name if len(name) <= 24 else f"{name[:23]}…"


def _scale(values: np.ndarray) -> dict[str, Any]:
    """Numbers on a linear or a logarithmic scale, with the texts of round ones."""
    there = values[np.isfinite(values)]
    low, high = there.min(), there.max()
    if low > 0 and math.log10(high / low) > DECADES:
        powers = np.arange(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        steps = (1,) if len(powers) > 5 else (1, 3)
        ticks = [s * 10.0**p for p in powers for s in steps if low / 1.2 <= s * 10.0**p <= high * 1.2]
        return {
            "values": np.log10(values),
            "tickvals": np.log10(ticks),
            "ticktext": [f"{t:.4g}" for t in ticks],
        }
    ticks = _round_numbers(low, high)
    return {"values": values, "tickvals": ticks, "ticktext": [f"{t:.6g}" for t in ticks]}


def _round_numbers(low: float, high: float) -> np.ndarray:
    if high <= low:
        return np.array([low])
    step = 10.0 ** math.floor(math.log10((high - low) / 4))
    step *= next(s for s in (1, 2, 5, 10) if (high - low) / (s * step) <= 6)
    return np.arange(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1) * step


def _reached(title: str, best: np.ndarray) -> tuple[dict[str, Any], np.ndarray]:
    """The last axis, and its heights; runs without a value are below the others."""
    there = np.isfinite(best)
    if not there.any():
        axis = {"values": np.zeros(len(best)), "tickvals": [0], "ticktext": ["no value"]}
        return {"label": style.escape(title), **axis}, axis["values"]
    axis = _scale(np.where(there, best, np.nan))
    heights = axis["values"]
    if not there.all():
        low, high = heights[there].min(), heights[there].max()
        below = low - 0.12 * ((high - low) or 1)
        heights = np.where(there, heights, below)
        axis["tickvals"] = [below, *axis["tickvals"]]
        axis["ticktext"] = ["no value", *axis["ticktext"]]
    return {"label": style.escape(title), **axis, "values": heights}, heights
