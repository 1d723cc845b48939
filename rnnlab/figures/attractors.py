"""What the initial states settle on, over the looks.

All read the dataset of `rnnlab.analysis.attractors`, stacked along one more axis; see
`rnnlab.figures.looks`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from rnnlab.figures import style
from rnnlab.figures.looks import Grid, Looks, OneAtATime, limits_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from plotly.graph_objects import Figure as PlotlyFigure

KINDS = {
    "fixed point": style.BLUE,
    "periodic orbit": style.GREEN,
    "torus": style.SKY,
    "chaos": style.ORANGE,
    "undecided": "#b0b0b0",
    "diverged": "#555555",
}


def shares(looks: Looks) -> dict[str, np.ndarray]:
    """The fraction of initial states that settles on each kind that occurs: `(parameter, probe)`."""
    kind = looks.values("kind", "sample").astype(str)
    there = kind != ""
    known = np.isin(kind, list(KINDS))
    kind = np.where(there & ~known, "undecided", kind)
    total = np.maximum(there.sum(-1), 1)
    found = {name: (kind == name).sum(-1) / total for name in KINDS}
    return {name: share for name, share in found.items() if share.any()}


def counts(looks: Looks) -> np.ndarray:
    """How many distinct attractors were found: `(parameter, probe)`."""
    return (looks.values("attractor_kind", "attractor").astype(str) != "").sum(-1)


@style.styled
def kinds(dataset: xr.Dataset, *, probes: Sequence[Any] | None = None) -> Figure:
    """Fractions of the initial states by what they settle on, one panel a probe.

    Below, how many distinct attractors were found.

    Args:
        dataset: `kind` `(parameter, probe, sample)`, `attractor_kind` `(parameter, probe, attractor)`.
        probes: Names or positions. Default: all, or twelve spread over them.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: The dataset lacks one of them, or the parameter axis; no such probe.
    """
    from matplotlib.patches import Patch

    looks = Looks.of(dataset, "attractors", ("kind", "attractor_kind")).pick(probes)
    found, number, edges = shares(looks), counts(looks), looks.edges()
    handles = [Patch(color=KINDS[kind], label=kind) for kind in found]
    grid = Grid.of(looks, "part of the\ninitial states", strip="attractors", legend=handles)
    for p, (axes, strip) in enumerate(zip(grid.panels, grid.strips, strict=True)):
        low = np.zeros(len(looks.at))
        for kind, share in found.items():
            high = low + share[:, p]
            # each look as wide as the way to its neighbours: nothing is known of what lies between
            axes.fill_between(
                edges, np.append(low, low[-1]), np.append(high, high[-1]), step="post",
                color=KINDS[kind], linewidth=0,
            )  # fmt: skip
            low = high
        axes.grid(visible=False)
        strip.stairs(number[:, p], edges, color=style.INK, linewidth=1.2, baseline=None)
    grid.panels[0].set(ylim=(0, 1), xlim=(edges[0], edges[-1]), yticks=(0, 0.5, 1))
    _whole_numbers(grid.strips[0], int(number.max(initial=1)))
    return grid.figure


def _whole_numbers(axes: Any, most: int) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_ylim(0, most + 0.5)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=3, integer=True))


class Ranges:
    """What y runs through on each attractor, `(parameter, probe, attractor)`."""

    def __init__(self, looks: Looks) -> None:
        self.kind = looks.values("attractor_kind", "attractor").astype(str)
        self.low = looks.values("y_min", "attractor").astype(float)
        self.high = looks.values("y_max", "attractor").astype(float)
        self.fraction = looks.values("fraction", "attractor", missing=np.nan)
        self.there = (self.kind != "") & np.isfinite(self.low) & np.isfinite(self.high)

    def limits(self) -> tuple[float, float]:
        return limits_of(np.concatenate([self.low[self.there], self.high[self.there]]))

    def of(self, probe: int, kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Look, lowest and highest y, and fraction of the attractors of this kind."""
        chosen = self.there[:, probe] & (self.kind[:, probe] == kind)
        columns = (self.low, self.high, self.fraction)
        low, high, fraction = (column[:, probe][chosen] for column in columns)
        return np.nonzero(chosen)[0], low, high, fraction


@style.styled
def ranges(dataset: xr.Dataset, *, probes: Sequence[Any] | None = None, observable: Any = 0) -> Figure:
    """The values that y runs through on each attractor, one panel a probe: a stroke from low to high.

    Args:
        dataset: `attractor_kind` `(parameter, probe, attractor)`, `y_min`, `y_max`
            `(parameter, probe, attractor, observable)`.
        probes: Names or positions. Default: all, or twelve spread over them.
        observable: Name or position of the observable.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: The dataset lacks one of them, or the parameter axis; no such probe or observable.
    """
    from matplotlib.collections import LineCollection
    from matplotlib.lines import Line2D

    needs = ("attractor_kind", "y_min", "y_max")
    looks = Looks.of(dataset, "ranges of attractors", needs, observable).pick(probes)
    found = Ranges(looks)
    limits = found.limits()
    present = [kind for kind in KINDS if (found.kind[found.there] == kind).any()]
    handles = [Line2D([], [], color=KINDS[kind], linewidth=3, label=kind) for kind in present]
    grid = Grid.of(looks, "y on the attractor", legend=handles)
    columns = 72 * grid.panels[0].get_position().width * grid.figure.get_figwidth() / len(looks.at)
    width = float(np.clip(0.6 * columns, 0.8, 5.0))
    for p, axes in enumerate(grid.panels):
        for kind in present:
            look, low, high, _ = found.of(p, kind)
            at = looks.at[look]
            strokes = np.stack([np.stack([at, low], -1), np.stack([at, high], -1)], 1)
            axes.add_collection(LineCollection(list(strokes), color=KINDS[kind], linewidths=width, zorder=2))
            # where low and high are one, or nearly so, a stroke would be too short to be seen
            short = high - low < 0.01 * (limits[1] - limits[0])
            middle = (low + high)[short] / 2
            axes.plot(at[short], middle, linestyle="none", marker="o", ms=width, mew=0, color=KINDS[kind])
    grid.panels[0].set_ylim(limits)
    return grid.figure


def interactive(dataset: xr.Dataset, *, observable: Any = 0) -> PlotlyFigure:
    """Both to zoom, with a menu of the probes: fractions above, then numbers, then ranges of y.

    Args:
        dataset: As for `kinds`, and as for `ranges` if those are there.
        observable: Name or position of the observable.

    Returns:
        A plotly figure.

    Raises:
        ValueError: The dataset lacks `kind`, `attractor_kind` or the parameter axis; no such observable.
    """
    looks = Looks.of(dataset, "attractors", ("kind", "attractor_kind"), observable)
    found, number, edges = shares(looks), counts(looks), looks.edges()
    strokes = Ranges(looks) if {"y_min", "y_max"} <= set(looks.data) else None
    drawing = OneAtATime(looks.names)
    for p in range(len(looks.names)):
        for kind, share in found.items():
            drawing.add(
                p,
                "bar",
                x=(edges[1:] + edges[:-1]) / 2,
                width=np.diff(edges),
                y=share[:, p],
                customdata=looks.at,
                marker={"color": KINDS[kind], "line": {"width": 0}},
                name=kind,
                legendgroup=kind,
                hovertemplate=f"{looks.name} %{{customdata}}: %{{y:.0%}}",
            )
        drawing.add(
            p,
            "scatter",
            x=np.repeat(edges, 2)[1:-1],
            y=np.repeat(number[:, p], 2),
            yaxis="y2",
            mode="lines",
            line={"color": "#7a7a7a", "width": 1.8},
            showlegend=False,
            hovertemplate=f"{looks.name} %{{x}}: %{{y}}<extra>distinct attractors</extra>",
        )
        if strokes is not None:
            for kind in KINDS:
                look, low, high, fraction = strokes.of(p, kind)
                if not len(look):
                    continue
                drawing.add(
                    p,
                    "scatter",
                    x=looks.at[look],
                    y=((low + high) / 2).astype(np.float32),
                    error_y={
                        "array": ((high - low) / 2).astype(np.float32),
                        "width": 0,
                        "thickness": 3 if len(looks.at) <= 120 else 1.5,
                    },
                    yaxis="y3",
                    customdata=np.stack([low, high, fraction], 1).astype(np.float32),
                    mode="markers",
                    marker={"color": KINDS[kind], "size": 5 if len(looks.at) <= 120 else 3},
                    name=kind,
                    legendgroup=kind,
                    showlegend=False,
                    hovertemplate=f"{looks.name} %{{x}}<br>y from %{{customdata[0]:.4g}} "
                    "to %{customdata[1]:.4g}<br>%{customdata[2]:.0%} of the initial states",
                )
    # from below to above: ranges, numbers, fractions
    parts = (
        ((0.0, 0.42), (0.48, 0.57), (0.62, 1.0)) if strokes is not None else ((), (0.0, 0.28), (0.38, 1.0))
    )
    more: dict[str, Any] = {}
    if strokes is not None:
        title = {"text": "y on the<br>attractor"}
        more["yaxis3"] = {**style.PLOTLY_AXIS, "title": title, "domain": parts[0]}
    return drawing.laid_out(
        760 if strokes is not None else 480,
        barmode="stack",
        bargap=0,
        xaxis={
            **style.PLOTLY_AXIS,
            "title": {"text": looks.label},
            "range": (edges[0], edges[-1]),
            "anchor": "y3" if strokes is not None else "y2",
        },
        yaxis={
            **style.PLOTLY_AXIS,
            "title": {"text": "part of the<br>initial states"},
            "range": (0, 1),
            "tickformat": ".0%",
            "domain": parts[2],
        },
        yaxis2={
            **style.PLOTLY_AXIS,
            "title": {"text": "how<br>many"},
            "range": (0, int(number.max(initial=1)) + 0.5),
            "tickformat": "d",
            "nticks": 4,
            "domain": parts[1],
        },
        **more,
    )
