"""Eigenvalues of all fixed points in the complex plane, with the line where stability ends.

For maps that is the unit circle, for flows (datasets whose attribute `time` is "continuous") the imaginary
axis. Both read the dataset of `rnnlab.analysis.fixed_points`, stacked along one more axis; see
`rnnlab.figures.looks`. Colours and marks are those of `rnnlab.figures.fixed_points`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from rnnlab.figures import style
from rnnlab.figures.fixed_points import CLASSES, classify, is_flow
from rnnlab.figures.looks import Grid, Looks, OneAtATime
from rnnlab.figures.orbits import cells, distinct

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from plotly.graph_objects import Figure as PlotlyFigure

FAR = 3.0  # times the usual size: eigenvalues beyond are left out of the picture
MOST = 200_000  # eigenvalues in all positions of the slider: 2 MB on the page
ANGLE = np.linspace(0, 2 * np.pi, 181)


class Spectra(NamedTuple):
    """All eigenvalues with the class of their point, and the part of the plane that shows them."""

    value: NDArray[np.complex128]  # (parameter, probe, index, mode)
    which: np.ndarray  # the same, positions in CLASSES; -1: no eigenvalue
    flow: bool
    real: tuple[float, float]  # limits of the axes
    imaginary: tuple[float, float]
    beyond: bool  # some are out of the picture

    @classmethod
    def of(cls, looks: Looks) -> Spectra:
        value = looks.values("eigenvalue", "index", "mode")
        kind = looks.values("kind", "index")
        which = classify(kind, looks.values("unstable", "index", missing=0))
        which = np.where(np.isfinite(value), which[..., None], -1)
        flow = is_flow(looks)
        return cls(value, which, flow, *_limits(value[which >= 0], flow))

    def points(
        self, probe: int, looks: np.ndarray, most: int
    ) -> tuple[np.ndarray, NDArray[np.complex128], np.ndarray]:
        """Look, eigenvalue and class of at most so many eigenvalues that differ to the eye.

        Where there are more each look keeps as many of its least stable ones.
        """
        value, which = self.value[looks, probe], self.which[looks, probe]
        inside = (which >= 0) & (value.real >= self.real[0]) & (value.real <= self.real[1])
        inside &= np.abs(value.imag) <= self.imaginary[1]
        look, value, which = np.nonzero(inside)[0], value[inside], which[inside]
        first = distinct(look, which, cells(value.real, self.real), cells(value.imag, self.imaginary))
        if len(first) > most:
            look, value, which = look[first], value[first], which[first]
            first = np.lexsort((-(value.real if self.flow else np.abs(value)), look))
            counts = np.bincount(look, minlength=1)
            rank = np.arange(len(look)) - np.repeat(np.cumsum(counts) - counts, counts)
            first = first[np.argsort(rank, kind="stable")[:most]]
        return looks[look[first]], value[first], which[first]


def _limits(
    value: NDArray[np.complex128], flow: bool
) -> tuple[tuple[float, float], tuple[float, float], bool]:
    """Limits of the real and the imaginary axis, and whether they leave eigenvalues out."""
    size = np.abs(value)
    usual = float(np.quantile(size, 0.9)) if size.size else 0.0
    usual = (usual or 1.0) if flow else max(usual, 1.0)
    near = value[size <= FAR * usual]
    edge = 0.0 if flow else 1.0
    left, right = float(near.real.min(initial=-edge)), float(near.real.max(initial=edge))
    high = float(np.abs(near.imag).max(initial=edge)) or 0.5 * (right - left) or 1.0
    room = 0.08 * max(right - left, 2 * high)
    return (left - room, right + room), (-high - room, high + room), len(near) < len(value)


@style.styled
def plane(
    dataset: xr.Dataset,
    *,
    probes: Sequence[Any] | None = None,
    max_looks: int = 60,
    max_points: int = 10_000,
) -> Figure:
    """Eigenvalues at the last look in colours of their points, on the paths that led there; a panel a probe.

    The paths are the eigenvalues of the looks before, the older the paler. Where some eigenvalues are far
    larger than all others the axes leave them out and say so.

    Args:
        dataset: `eigenvalue` `(parameter, probe, index, mode)`, `kind`, and `unstable` if there.
        probes: Names or positions. Default: all, or twelve spread over them.
        max_looks: Most looks to show, evenly chosen: hundreds of units have very many eigenvalues.
        max_points: Most dots in a panel.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: The dataset lacks `eigenvalue`, `kind` or the parameter axis; no such probe.
    """
    from matplotlib.lines import Line2D

    looks = Looks.of(dataset, "eigenvalues", ("kind", "eigenvalue")).pick(probes).some(max_looks)
    spectra = Spectra.of(looks)
    real, imaginary = spectra.real, spectra.imaginary
    last = len(looks.at) - 1
    handles = [
        Line2D(
            [], [], linestyle="none", marker=one.marker, ms=5, mfc=_face(i), mec=one.color, label=one.label
        )
        for i, one in enumerate(CLASSES)
        if (spectra.which[last] == i).any()
    ]
    if last:
        path = Line2D(
            [], [], linestyle="none", marker=".", color="#555555", label="looks before: the older the paler"
        )
        handles.append(path)
    if spectra.beyond:
        handles.append(Line2D([], [], linestyle="none", label="some are out of the picture"))
    grid = Grid.of(
        looks,
        "imaginary part",
        legend=handles,
        x=f"real part, {looks.label} {looks.at[last]}",
        shape=(imaginary[1] - imaginary[0]) / (real[1] - real[0]) if not spectra.flow else 0.8,
    )
    for p, axes in enumerate(grid.panels):
        line = {"color": style.INK, "linewidth": 0.9, "zorder": 1.5}
        if spectra.flow:
            axes.axvline(0, **line)
            axes.axvspan(min(real[0], 0), 0, color=style.BLUE, alpha=0.05, linewidth=0)
        else:
            axes.plot(np.cos(ANGLE), np.sin(ANGLE), **line)
            axes.fill(np.cos(ANGLE), np.sin(ANGLE), color=style.BLUE, alpha=0.05, linewidth=0)
            axes.set_aspect("equal", adjustable="box")
        if last:
            look, value, _ = spectra.points(p, np.arange(last), max_points)
            age = {"c": look, "cmap": "Greys", "vmin": -0.4 * last, "vmax": 1.3 * last}
            axes.scatter(value.real, value.imag, s=5, linewidths=0, zorder=2, **age)
        _, value, which = spectra.points(p, np.array([last]), max_points)
        for i in reversed(range(len(CLASSES))):
            own, one = value[which == i], CLASSES[i]
            if len(own):
                marks = {"marker": one.marker, "facecolor": _face(i), "edgecolor": one.color}
                axes.scatter(own.real, own.imag, s=26, linewidths=1.0, zorder=3, **marks)
    grid.panels[0].set(xlim=real, ylim=imaginary)
    return grid.figure


def _face(which: int) -> str:
    return CLASSES[which].color if CLASSES[which].filled else "white"


def interactive(
    dataset: xr.Dataset, *, max_looks: int = 60, max_points: int = 1_500, max_path: int = 3_000
) -> PlotlyFigure:
    """The plane with a slider over the looks and a menu of the probes.

    Args:
        dataset: As for `plane`.
        max_looks: Most looks on the slider, evenly chosen.
        max_points: Most eigenvalues of one look and probe; fewer where there are many looks and probes.
        max_path: Most eigenvalues of a probe's paths.

    Returns:
        A plotly figure, at its last look.

    Raises:
        ValueError: The dataset lacks `eigenvalue`, `kind` or the parameter axis.
    """
    import plotly.graph_objects as go

    looks = Looks.of(dataset, "eigenvalues", ("kind", "eigenvalue")).pick(None).some(max_looks)
    spectra = Spectra.of(looks)
    real, imaginary = spectra.real, spectra.imaginary
    shown = np.arange(len(looks.at))
    max_points = min(max_points, max(MOST // (len(shown) * len(looks.names)), 50))
    present = [i for i in reversed(range(len(CLASSES))) if (spectra.which == i).any()]
    drawing = OneAtATime(looks.names)
    moving: list[int] = []  # the traces that the slider moves

    def at(look: int) -> list[dict[str, np.ndarray]]:
        """Coordinates for each moving trace."""
        found = []
        for p in range(len(looks.names)):
            _, value, which = spectra.points(p, np.array([look]), max_points)
            found += [
                {
                    "x": value.real[which == i].astype(np.float32),
                    "y": value.imag[which == i].astype(np.float32),
                }
                for i in present
            ]
        return found

    for p in range(len(looks.names)):
        if len(shown) > 1:
            look, value, _ = spectra.points(p, shown, max_path)
            drawing.add(
                p,
                "scatter",
                x=value.real.astype(np.float32),
                y=value.imag.astype(np.float32),
                mode="markers",
                marker={
                    "size": 3.5,
                    "color": looks.at[look].astype(np.float32),
                    "colorscale": "Viridis",
                    "reversescale": True,
                    "cmin": looks.span()[0],
                    "cmax": looks.span()[1],
                    "opacity": 0.55,
                    "colorbar": {"title": {"text": looks.label, "side": "right"}, "thickness": 12},
                },
                name="all looks",
                legendrank=len(CLASSES) + 1,
                customdata=looks.at[look],
                hovertemplate=f"{looks.name} %{{customdata}}<br>%{{x:.4g}} %{{y:+.4g}} i<extra></extra>",
            )
        for i in present:
            moving.append(len(drawing.probes))
            one = CLASSES[i]
            drawing.add(
                p,
                "scatter",
                mode="markers",
                marker={
                    "size": 9,
                    "symbol": one.symbol,
                    "color": one.color,
                    "line": {"width": 1.2, "color": one.color if not one.filled else "rgba(255,255,255,0.8)"},
                },
                name=one.label,
                legendrank=i + 1,
                hovertemplate="%{x:.5g} %{y:+.5g} i",
            )
    for trace, coordinates in zip(moving, at(int(shown[-1])), strict=True):
        drawing.figure.data[trace].update(coordinates)
    drawing.figure.frames = [
        go.Frame(name=str(looks.at[look]), data=[go.Scatter(**xy) for xy in at(int(look))], traces=moving)
        for look in shown
    ]
    step = {"mode": "immediate", "frame": {"duration": 0, "redraw": False}, "transition": {"duration": 0}}
    slider = {
        "active": len(shown) - 1,
        "currentvalue": {"prefix": f"{style.escape(looks.name)} "},
        "pad": {"t": 45},
        "bgcolor": "rgba(128,128,128,0.25)",
        "bordercolor": "rgba(128,128,128,0.6)",
        "tickcolor": "rgba(128,128,128,0.6)",
        "steps": [
            {"label": str(looks.at[look]), "method": "animate", "args": [[str(looks.at[look])], step]}
            for look in shown
        ],
    }
    line = {"color": "#7a7a7a", "width": 1.4}
    if spectra.flow:
        border = {"type": "line", "x0": 0, "x1": 0, "yref": "paper", "y0": 0, "y1": 1, "line": line}
    else:
        border = {"type": "circle", "x0": -1, "x1": 1, "y0": -1, "y1": 1, "line": line}
        border |= {"fillcolor": "rgba(128,128,128,0.08)", "layer": "below"}
    same_scale = {} if spectra.flow else {"scaleanchor": "x", "scaleratio": 1}
    missing = {"text": "some are out of the picture", "showarrow": False, "xref": "paper", "yref": "paper"}
    return drawing.laid_out(
        680,
        annotations=[{**missing, "x": 0, "y": 0, "xanchor": "left", "yanchor": "bottom"}] * spectra.beyond,
        sliders=[slider] if len(shown) > 1 else [],
        shapes=[border],
        xaxis={**style.PLOTLY_AXIS, "title": {"text": "real part"}, "range": real},
        yaxis={**style.PLOTLY_AXIS, "title": {"text": "imaginary part"}, "range": imaginary, **same_scale},
    )
