"""Lyapunov exponents over the looks, and how well they have converged.

All read the dataset of `rnnlab.analysis.lyapunov_spectrum`, stacked along one more axis; see
`rnnlab.figures.looks`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr

from rnnlab.figures import style
from rnnlab.figures.looks import Grid, Looks, OneAtATime, limits_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from plotly.graph_objects import Figure as PlotlyFigure

ERRORS = 2.0  # half width of a band in standard errors
FEW = 5  # exponents that have colours of their own
GREY = "#8c8c8c"
MOST = 40  # exponents drawn


class Exponents(NamedTuple):
    """The dataset with its axes in a fixed order, the largest exponent first."""

    value: np.ndarray  # (parameter, probe, mode)
    error: np.ndarray
    dimension: np.ndarray  # (parameter, probe): Kaplan and Yorke's
    units: str

    @classmethod
    def of(cls, looks: Looks) -> Exponents:
        return cls(
            looks.values("exponent", "mode").astype(float),
            _finite(looks.values("standard_error", "mode", missing=0.0)),
            looks.values("kaplan_yorke", missing=np.nan).astype(float),
            str(looks.data["exponent"].attrs.get("units", "nats per time step")),
        )

    @property
    def fractal(self) -> bool:
        """Whether any dimension says more than that all is at rest."""
        return bool((self.dimension[np.isfinite(self.dimension)] > 0).any())

    def drawn(self) -> np.ndarray:
        """Positions of the exponents to draw: the first few, and of many others some spread evenly."""
        count = self.value.shape[-1]
        if count <= MOST:
            return np.arange(count)
        spread = np.linspace(FEW, count - 1, MOST - FEW).round().astype(int)
        return np.concatenate([np.arange(FEW), spread])

    def limits(self) -> tuple[float, float]:
        """Of the axis: with zero; very negative exponents are cut off rather than squash all others."""
        value = self.value[np.isfinite(self.value)]
        if not value.size:
            return -1.0, 1.0
        leading = self.value[..., : min(FEW, self.value.shape[-1])]
        near = leading[np.isfinite(leading)]
        reach = float(np.abs(near).max(initial=0)) or 1.0
        return limits_of(np.append(value[value >= -3 * reach], 0.0))


def _finite(values: np.ndarray) -> np.ndarray:
    """Zero where a value is missing or infinite."""
    return np.where(np.isfinite(values), values, 0.0)


def _color(rank: int) -> str:
    return style.COLORS[rank] if rank < FEW else GREY


@style.styled
def over_epochs(dataset: xr.Dataset, *, probes: Sequence[Any] | None = None) -> Figure:
    """Exponents with bands of two standard errors, one panel a probe; the leading one stands out.

    Below, where there is any, the Kaplan-Yorke dimension. Very negative exponents are cut off.

    Args:
        dataset: `exponent` `(parameter, probe, mode)`, and if there `standard_error`, `kaplan_yorke`.
        probes: Names or positions. Default: all, or twelve spread over them.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: The dataset lacks `exponent` or the parameter axis; no such probe.
    """
    from matplotlib.lines import Line2D

    looks = Looks.of(dataset, "exponents", ("exponent",)).pick(probes)
    found = Exponents.of(looks)
    ranks = found.drawn()
    handles = [
        Line2D([], [], color=_color(i), linewidth=2.4 if not i else 1.2, label=f"$\\lambda_{{{i + 1}}}$")
        for i in ranks[:FEW]
    ]
    if len(ranks) > FEW:
        handles.append(Line2D([], [], color=GREY, linewidth=0.6, label="further"))
    strip = "K.-Y. dim." if found.fractal else None
    grid = Grid.of(looks, f"exponent\n({found.units})", strip=strip, legend=handles)
    alone = {"marker": "o", "ms": 4} if len(looks.at) == 1 else {}
    for p, axes in enumerate(grid.panels):
        axes.axhline(0, color=style.INK, linewidth=0.9, zorder=1.5)
        for i in reversed(ranks):
            value, error = found.value[:, p, i], ERRORS * found.error[:, p, i]
            width = 2.2 if not i else 1.2 if i < FEW else 0.6
            if i < FEW:
                axes.fill_between(
                    looks.at, value - error, value + error, color=_color(i), alpha=0.22, linewidth=0
                )
            axes.plot(looks.at, value, color=_color(i), linewidth=width, zorder=3 if not i else 2, **alone)
        if grid.strips:
            grid.strips[p].plot(looks.at, found.dimension[:, p], color=style.PURPLE, **alone)
    grid.panels[0].set_ylim(found.limits())
    if grid.strips:
        grid.strips[0].set_ylim(0, 1.1 * np.nanmax(found.dimension))
    return grid.figure


@style.styled
def convergence(dataset: xr.Dataset, *, probes: Sequence[Any] | None = None, look: int = -1) -> Figure:
    """Running means of the exponents of one look over time: flat where the numbers can be trusted.

    Args:
        dataset: `running` `(parameter, probe, time, mode)` and `exponent`.
        probes: Names or positions. Default: all, or twelve spread over them.
        look: Position of the look. Default: the last.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: The dataset lacks `running`, `exponent` or the parameter axis; no such probe.
    """
    looks = Looks.of(dataset, "convergence", ("exponent", "running")).pick(probes)
    found = Exponents.of(looks)
    time, running = _running(looks, look)
    grid = Grid.of(looks, f"running mean\n({found.units})", x=f"time, at {looks.name} {looks.at[look]}")
    for p, axes in enumerate(grid.panels):
        axes.axhline(0, color=style.INK, linewidth=0.9, zorder=1.5)
        for i in reversed(found.drawn()):
            axes.plot(
                time, running[p, :, i], color=_color(i), linewidth=2.0 if not i else 1.0 if i < FEW else 0.6
            )
    low, high = limits_of(running[:, len(time) // 10 :])
    grid.panels[0].set_ylim(max(low, found.limits()[0]), max(high, 0.0))
    return grid.figure


def _running(looks: Looks, look: int) -> tuple[np.ndarray, np.ndarray]:
    """Times, and running means `(probe, time, mode)`."""
    running = looks.values("running", "time", "mode")[look]
    there = np.isfinite(running).any((0, 2))
    time = looks.data["time"].values if "time" in looks.data.coords else np.arange(1, 1 + running.shape[1])
    return time[there], running[:, there]


def interactive(dataset: xr.Dataset) -> PlotlyFigure:
    """Exponents, dimension and convergence of the last look to zoom, with a menu of the probes.

    Args:
        dataset: As for `over_epochs`, and `running` if there.

    Returns:
        A plotly figure.

    Raises:
        ValueError: The dataset lacks `exponent` or the parameter axis.
    """
    looks = Looks.of(dataset, "exponents", ("exponent",))
    found = Exponents.of(looks)
    ranks = found.drawn()
    rows = ["exponents"] + ["dimension"] * found.fractal + ["running"] * ("running" in looks.data)
    heights = {"exponents": 330, "dimension": 120, "running": 220}
    gap = 75
    total = sum(heights[row] for row in rows) + gap * (len(rows) - 1)
    drawing = OneAtATime(looks.names)
    axes: dict[str, Any] = {}
    top = 1.0
    for number, row in enumerate(rows, 1):
        suffix = "" if number == 1 else str(number)
        axes[row] = {"xaxis": f"x{suffix}", "yaxis": f"y{suffix}"}
        domain = [max(top - heights[row] / total, 0.0), top]
        top = domain[0] - gap / total
        label = looks.label if row != "running" else f"time, at {looks.name} {looks.at[-1]}"
        if row == "exponents" and found.fractal:  # said below
            label = ""
        title = {
            "exponents": f"exponent ({found.units})",
            "dimension": "Kaplan-Yorke<br>dimension",
            "running": "running mean",
        }[row]
        zero = {"zeroline": row != "dimension", "zerolinecolor": "#7a7a7a", "zerolinewidth": 1.4}
        limits: dict[str, Any] = {"range": found.limits()} if row == "exponents" else {}
        limits = {"rangemode": "tozero"} if row == "dimension" else limits
        matches = {"matches": "x"} if row == "dimension" else {}
        span = {} if row == "running" else {"range": looks.span()}
        drawing.figure.update_layout(
            {
                f"yaxis{suffix}": {
                    **style.PLOTLY_AXIS, **zero, **limits, "domain": domain, "title": {"text": title},
                    "anchor": f"x{suffix}",
                },
                f"xaxis{suffix}": {
                    **style.PLOTLY_AXIS, **span, **matches, "title": {"text": style.escape(label)},
                    "anchor": f"y{suffix}",
                },
            }
        )  # fmt: skip
    mode = {"mode": "lines" if len(looks.at) > 1 else "markers"}

    def add(probe: int, row: str, **trace: Any) -> None:
        drawing.add(probe, "scatter", **axes[row], **trace)

    time, running = _running(looks, -1) if "running" in looks.data else (np.empty(0), np.empty((0, 0, 0)))
    for p in range(len(looks.names)):
        for i in reversed(ranks):
            value, error = found.value[:, p, i], ERRORS * found.error[:, p, i]
            name = f"λ<sub>{i + 1}</sub>"
            line = {"color": _color(i), "width": 3 if not i else 1.6 if i < FEW else 0.8}
            said = {"name": name, "legendgroup": name, "legendrank": int(i) + 1}
            if i < FEW and error.any():
                add(
                    p,
                    "exponents",
                    x=np.concatenate([looks.at, looks.at[::-1]]),
                    y=np.concatenate([value + error, (value - error)[::-1]]).astype(np.float32),
                    fill="toself",
                    fillcolor=_color(i),
                    opacity=0.25,
                    mode="none",
                    hoverinfo="skip",
                    showlegend=False,
                    **said,
                )
            add(
                p,
                "exponents",
                x=looks.at,
                y=value.astype(np.float32),
                customdata=found.error[:, p, i].astype(np.float32),
                line=line,
                marker={"color": _color(i)},
                showlegend=bool(i < FEW),
                hovertemplate=f"{looks.name} %{{x}}<br>%{{y:.4g}} ± %{{customdata:.1g}}",
                **said,
                **mode,
            )
            if "running" in axes and i < 2 * FEW:
                add(
                    p,
                    "running",
                    x=time,
                    y=running[p, :, i].astype(np.float32),
                    line=line,
                    mode="lines",
                    showlegend=False,
                    hovertemplate="time %{x}: %{y:.4g}",
                    **said,
                )
        if found.fractal:
            add(
                p,
                "dimension",
                x=looks.at,
                y=found.dimension[:, p],
                line={"color": style.PURPLE, "width": 1.8},
                marker={"color": style.PURPLE},
                name="Kaplan-Yorke dimension",
                showlegend=False,
                hovertemplate=f"{looks.name} %{{x}}: %{{y:.3g}}<extra></extra>",
                **mode,
            )
    return drawing.laid_out(total + 130)
