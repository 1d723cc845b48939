"""Fixed points over the looks: where they are, and of which kind.

All read the dataset of `rnnlab.analysis.fixed_points`, stacked along one more axis; see
`rnnlab.figures.looks`. Colour says how many directions are unstable, the mark says the kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr

from rnnlab.figures import style
from rnnlab.figures.looks import Grid, Looks, OneAtATime, limits_of
from rnnlab.figures.orbits import cells, distinct, thin

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from plotly.graph_objects import Figure as PlotlyFigure

GREY = "#8c8c8c"
INCOMPLETE = "index sum is not 1: points missing or degenerate"
UNCONVERGED = "some starts did not converge"


class Class(NamedTuple):
    """Points that are drawn alike."""

    label: str
    color: str
    marker: str
    symbol: str  # the marker's name in plotly
    filled: bool


def _classes() -> list[Class]:
    found = [Class("stable", style.BLUE, "o", "circle", True)]
    colors = {"1": style.YELLOW, "2": style.ORANGE, "3 or more": style.PURPLE}
    for said, marker, symbol, filled in (
        ("saddle, {} unstable direction{}", "D", "diamond", True),
        ("unstable, {} direction{}", "o", "circle-open", False),
    ):
        found += [
            Class(said.format(count, "s" * (count != "1")), color, marker, symbol, filled)
            for count, color in colors.items()
        ]
    found.append(Class("non-hyperbolic", style.GREEN, "X", "x", True))
    found.append(Class("of unknown kind", GREY, "s", "square", True))
    return found


CLASSES = _classes()


def classify(kind: np.ndarray, unstable: np.ndarray) -> np.ndarray:
    """Positions in `CLASSES` of points with these kinds and numbers of unstable directions; -1: no point.

    Example:
        >>> kinds = np.array(["stable focus", "saddle", "unstable node", ""])
        >>> [CLASSES[i].label if i >= 0 else "" for i in classify(kinds, np.array([0, 3, 1, -1]))]
        ['stable', 'saddle, 3 or more unstable directions', 'unstable, 1 direction', '']
    """
    kind = kind.astype(str)
    count = np.clip(unstable, 1, 3) - 1
    found = np.full(kind.shape, len(CLASSES) - 1)
    found[kind == ""] = -1
    found = np.where(np.char.startswith(kind, "stable"), 0, found)
    found = np.where(kind == "saddle", 1 + count, found)
    found = np.where(np.char.startswith(kind, "unstable"), 4 + count, found)
    return np.where(kind == "non-hyperbolic", 7, found)


def is_flow(looks: Looks) -> bool:
    """Whether the points are those of a vector field: stable left of the imaginary axis."""
    return looks.data.attrs.get("time") == "continuous"


class Points(NamedTuple):
    """Points of one probe, and what is known of each; one row a point."""

    look: np.ndarray
    y: np.ndarray
    which: np.ndarray  # positions in CLASSES
    residual: np.ndarray
    leading: np.ndarray  # largest absolute eigenvalue, or largest real part of a flow's

    def of(self, which: int) -> Points:
        chosen = self.which == which
        return Points(*(column[chosen] for column in self))


class FixedPoints(NamedTuple):
    """The dataset with its axes in a fixed order."""

    y: np.ndarray  # (parameter, probe, index)
    which: np.ndarray  # (parameter, probe, index), positions in CLASSES
    residual: np.ndarray
    leading: np.ndarray
    incomplete: np.ndarray  # (parameter, probe): the index sum is not 1
    unconverged: np.ndarray  # (parameter, probe): starts that led nowhere
    slow_y: np.ndarray  # (parameter, probe, slow)
    slow_speed: np.ndarray

    @classmethod
    def of(cls, looks: Looks) -> FixedPoints:
        y = looks.values("y", "index").astype(float)
        which = classify(looks.values("kind", "index"), looks.values("unstable", "index", missing=0))
        unknown = len(CLASSES) - 1  # the analysis may leave the eigenvalues out
        which = np.where(np.isfinite(y), np.where(which < 0, unknown, which), -1)
        leading = np.full(y.shape, np.nan)
        if "eigenvalue" in looks.data:
            eigenvalue = looks.values("eigenvalue", "index", "mode")
            size = eigenvalue.real if is_flow(looks) else np.abs(eigenvalue)
            leading = np.max(np.where(np.isfinite(size), size, -np.inf), axis=-1, initial=-np.inf)
        return cls(
            y=y,
            which=which,
            residual=looks.values("residual", "index", missing=np.nan),
            leading=np.where(np.isfinite(leading), leading, np.nan),
            incomplete=looks.values("index_sum", missing=1) != 1,
            unconverged=looks.values("not_converged", missing=0) > 0,
            slow_y=looks.values("slow_y", "slow", missing=np.nan).astype(float),
            slow_speed=looks.values("slow_speed", "slow", missing=np.nan).astype(float),
        )

    def limits(self) -> tuple[float, float]:
        return limits_of(self.y)

    def points(self, probe: int, limits: tuple[float, float], most: int) -> Points:
        """At most so many points that differ to the eye; looks with many give up some of theirs."""
        there = self.which[:, probe] >= 0
        look = np.nonzero(there)[0]
        y, which, residual, leading = (
            values[:, probe][there] for values in (self.y, self.which, self.residual, self.leading)
        )
        first = distinct(look, which, cells(y, limits))
        first = first[thin(look[first], most)]
        return Points(look[first], y[first], which[first], residual[first], leading[first])

    def slow(self, probe: int, limits: tuple[float, float], most: int) -> tuple[np.ndarray, ...]:
        """Look, y and speed of the slow points."""
        y = self.slow_y[:, probe]
        there = np.isfinite(y) & (y >= limits[0]) & (y <= limits[1])
        look = np.nonzero(there)[0]
        kept = thin(look, most)
        return look[kept], y[there][kept], self.slow_speed[:, probe][there][kept]


@style.styled
def over_epochs(
    dataset: xr.Dataset, *, probes: Sequence[Any] | None = None, observable: Any = 0, max_points: int = 20_000
) -> Figure:
    """The readout at each fixed point against the looks, one panel a probe.

    Stable points are full circles, saddles diamonds, unstable points rings, non-hyperbolic ones crosses; slow
    points are small and grey. Under the points, a black stroke marks a look whose index sum is not 1: the
    list lacks points, or one of them is degenerate. A grey stroke marks one where some starts did not
    converge: it may lack some.

    Args:
        dataset: `y` and `kind` `(parameter, probe, index)`, and as far as they are there `unstable`,
            `slow_y`, `slow_speed`, `index_sum`, `not_converged`.
        probes: Names or positions. Default: all, or twelve spread over them.
        observable: Name or position of the observable.
        max_points: Most points in a panel.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: The dataset lacks `y`, `kind` or the parameter axis; no such probe or observable.
    """
    from matplotlib.lines import Line2D

    looks = Looks.of(dataset, "fixed points", ("kind", "y"), observable).pick(probes)
    found = FixedPoints.of(looks)
    limits = found.limits()
    drawn = [found.points(p, limits, max_points) for p in range(len(looks.names))]
    slow = [found.slow(p, limits, max_points) for p in range(len(looks.names))]
    size = 5.0 if len(looks.at) <= 30 else 3.4 if len(looks.at) <= 120 else 2.0
    size *= 1.0 if len(looks.names) == 1 else 0.8

    def mark(which: int, ms: float) -> dict[str, Any]:
        one = CLASSES[which]
        ring = not one.filled and ms >= 2.5
        return {
            "linestyle": "none",
            "marker": one.marker,
            "ms": ms * (0.85 if one.marker == "D" else 1.3 if one.marker == "X" else 1.0),
            "mfc": "white" if ring else one.color,
            "mec": one.color,
            "mew": 1.1 if ring else 0.0,
        }

    handles = [
        Line2D([], [], label=CLASSES[which].label, **mark(which, 5.0))
        for which in range(len(CLASSES))
        if any((points.which == which).any() for points in drawn)
    ]
    if any(len(look) for look, _, _ in slow):
        handles.append(
            Line2D([], [], linestyle="none", marker=".", color=GREY, alpha=0.5, label="slow, not fixed")
        )
    strokes = {
        INCOMPLETE: (found.incomplete, style.INK),
        UNCONVERGED: (found.unconverged & ~found.incomplete, "#b0b0b0"),
    }
    for label, (flags, color) in strokes.items():
        if flags.any():
            handles.append(
                Line2D([], [], linestyle="none", marker="|", ms=8, mew=2, color=color, label=label)
            )
    grid = Grid.of(looks, "y at the fixed point", legend=handles)
    floor = 0.06 * (limits[1] - limits[0]) * bool(found.incomplete.any() or found.unconverged.any())
    for p, axes in enumerate(grid.panels):
        look, y, speed = slow[p]
        if len(look):
            axes.scatter(looks.at[look], y, s=(0.7 * size) ** 2, c=GREY, alpha=_faint(speed), linewidths=0)
        # the few stable points on top of the many others
        for which in reversed(range(len(CLASSES))):
            points = drawn[p].of(which)
            if len(points.look):
                axes.plot(looks.at[points.look], points.y, **mark(which, size))
        for flags, color in strokes.values():
            at = looks.at[flags[:, p]]
            axes.plot(
                at,
                np.full(len(at), 0.022),
                linestyle="none",
                marker="|",
                ms=6,
                mew=2.0 if len(looks.at) <= 60 else 1.2,
                color=color,
                transform=axes.get_xaxis_transform(),
                clip_on=False,
            )
        if not len(drawn[p].look) and not len(look):
            axes.text(0.5, 0.5, "no fixed point found", transform=axes.transAxes, ha="center", color=GREY)
    grid.panels[0].set_ylim(limits[0] - floor, limits[1])
    return grid.figure


def _faint(speed: np.ndarray) -> np.ndarray:
    """Opacity of slow points: the slower, the more they count."""
    with np.errstate(divide="ignore", invalid="ignore"):
        decades = np.log10(speed)
    if not np.isfinite(decades).any():
        return np.full(len(speed), 0.35)
    low, high = np.nanmin(decades[np.isfinite(decades)]), np.nanmax(decades[np.isfinite(decades)])
    part = (high - decades) / (high - low) if high > low else np.ones(len(speed))
    return np.clip(np.nan_to_num(0.15 + 0.4 * part, nan=0.15, posinf=0.55, neginf=0.15), 0.15, 0.55)


def interactive(dataset: xr.Dataset, *, observable: Any = 0, max_points: int = 8_000) -> PlotlyFigure:
    """The same to zoom, with a menu of the probes, and below how many points of each kind there are.

    Args:
        dataset: As for `over_epochs`.
        observable: Name or position of the observable.
        max_points: Most points for each probe.

    Returns:
        A plotly figure.

    Raises:
        ValueError: The dataset lacks `y`, `kind` or the parameter axis, or no such observable.
    """
    looks = Looks.of(dataset, "fixed points", ("kind", "y"), observable)
    found = FixedPoints.of(looks)
    edges = looks.edges()
    size = 9 if len(looks.at) <= 30 else 7 if len(looks.at) <= 120 else 4.5
    leading = "largest real part" if is_flow(looks) else "largest |eigenvalue|"
    drawing = OneAtATime(looks.names)
    for p in range(len(looks.names)):
        limits = limits_of(found.y[:, p])  # each probe on its own scale
        points = found.points(p, limits, max_points)
        look, y, speed = found.slow(p, limits, max_points // 4)
        if len(look):
            drawing.add(
                p,
                "scattergl",
                x=looks.at[look],
                y=y.astype(np.float32),
                customdata=speed.astype(np.float32),
                mode="markers",
                marker={"size": 0.6 * size, "color": GREY, "opacity": 0.4},
                name="slow, not fixed",
                hovertemplate=f"{looks.name} %{{x}}<br>y = %{{y:.4g}}<br>speed %{{customdata:.2g}}",
            )
        for which in reversed(range(len(CLASSES))):
            kind, own = CLASSES[which], points.of(which)
            if not len(own.look):
                continue
            drawing.add(
                p,
                "scattergl",
                x=looks.at[own.look],
                y=own.y.astype(np.float32),
                customdata=np.stack([own.leading, own.residual], 1).astype(np.float32),
                mode="markers",
                marker={"size": size, "symbol": kind.symbol, "color": kind.color},
                name=kind.label,
                legendgroup=kind.label,
                legendrank=which + 1,
                hovertemplate=f"{looks.name} %{{x}}<br>y = %{{y:.5g}}<br>{leading} %{{customdata[0]:.4g}}"
                "<br>residual %{customdata[1]:.1e}",
            )
        for which, kind in enumerate(CLASSES):
            count = (found.which[:, p] == which).sum(-1)
            if not count.any():
                continue
            drawing.add(
                p,
                "bar",
                x=(edges[1:] + edges[:-1]) / 2,
                width=np.diff(edges),
                y=count,
                customdata=looks.at,
                yaxis="y2",
                marker={"color": kind.color, "line": {"width": 0}},
                name=kind.label,
                legendgroup=kind.label,
                showlegend=False,
                hovertemplate=f"{looks.name} %{{customdata}}: %{{y}}",
            )
        for flags, said, color in (
            (found.incomplete, INCOMPLETE, "#7a7a7a"),
            (found.unconverged & ~found.incomplete, UNCONVERGED, "#b0b0b0"),
        ):
            at = looks.at[flags[:, p]]
            if len(at):
                drawing.add(
                    p,
                    "scatter",
                    x=at,
                    y=np.full(len(at), limits[0]),
                    cliponaxis=False,
                    mode="markers",
                    marker={
                        "symbol": "line-ns-open",
                        "size": 11,
                        "color": color,
                        "line": {"width": 2.5 if said == INCOMPLETE else 1.5},
                    },
                    name=said,
                    hovertemplate=f"{looks.name} %{{x}}",
                )
    return drawing.laid_out(
        640,
        90,
        barmode="stack",
        bargap=0,
        xaxis={**style.PLOTLY_AXIS, "title": {"text": looks.label}, "range": looks.span(), "anchor": "y2"},
        yaxis={
            **style.PLOTLY_AXIS,
            "title": {"text": "y at the fixed point"},
            "domain": [0.3, 1],
        },
        yaxis2={
            **style.PLOTLY_AXIS,
            "title": {"text": "how many"},
            "rangemode": "tozero",
            "domain": [0, 0.24],
            "tickformat": "d",
        },
    )
