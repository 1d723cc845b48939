"""What vanishes and what explodes: norms of gradients and of products of Jacobians, and their rates.

All read the dataset of `rnnlab.analysis.gradient_flow`: one look, or several stacked along one more axis,
such as the epochs of a run. Lines are medians over the sequences.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr

from rnnlab.figures import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from plotly.graph_objects import Figure as PlotlyFigure

NEEDS = ("gradient", "last_gradient", "norm", "rate", "rate_error", "exponent", "exponent_error")
# viridis, from light to dark; there is one for each look that is drawn
VIRIDIS = (
    "#9bd93c",
    "#69cd5b",
    "#42be71",
    "#26ad81",
    "#1f9a8a",
    "#24878e",
    "#2b748e",
    "#33628d",
    "#3d4d8a",
    "#453581",
    "#481c6e",
    "#440154",
)
DECADES = 20  # on an axis of norms: what lies lower is lost in any sum
ERRORS = 2.0  # half width of a bar in standard errors


class Norms(NamedTuple):
    """The dataset with its axes in a fixed order, medians over the sequences."""

    name: str  # of the axis of looks, "" for a single one
    at: np.ndarray  # (look,)
    time: np.ndarray
    gradient: np.ndarray  # (look, time)
    back: np.ndarray  # steps back from the last output that counts
    last: np.ndarray  # (look, back)
    lag: np.ndarray
    norm: np.ndarray  # (look, lag)
    rate: np.ndarray  # (look, sequence)
    rate_error: np.ndarray
    exponent: np.ndarray
    exponent_error: np.ndarray

    @classmethod
    def of(cls, dataset: xr.Dataset) -> Norms:
        """Raises ValueError where variables are missing, or more than one axis is left."""
        if missing := [name for name in NEEDS if name not in dataset]:
            there = ", ".join(map(str, dataset)) or "nothing"
            raise ValueError(f"a figure of gradients needs {', '.join(missing)}: the dataset has {there}.")
        others = [str(dim) for dim in dataset["rate"].dims if dim != "sequence"]
        if len(others) > 1:
            raise ValueError(
                f"a figure of gradients takes one axis of looks, such as epoch: rate has {', '.join(others)}."
            )
        axis = others[0] if others else "look"
        data = dataset if others else dataset.expand_dims("look")

        def values(variable: str, *axes: str) -> np.ndarray:
            return np.asarray(data[variable].transpose(axis, "sequence", *axes).values)

        last = _median(values("last_gradient", "time"))
        there = np.isfinite(last).any(0)
        end = int(np.flatnonzero(there)[-1]) if there.any() else last.shape[1] - 1
        return cls(
            others[0] if others else "",
            np.asarray(data[axis].values),
            np.asarray(data["time"].values),
            _median(values("gradient", "time")),
            np.arange(end + 1),
            last[:, end::-1],
            np.asarray(data["lag"].values),
            _median(values("norm", "lag")),
            *(values(name) for name in NEEDS[3:]),
        )

    def chosen(self) -> list[int]:
        """Positions of the looks to draw: all, or some spread over them, with first and last."""
        count = min(len(self.at), len(VIRIDIS))
        return np.unique(np.linspace(0, len(self.at) - 1, count).round().astype(int)).tolist()

    def colors(self) -> list[str]:
        """From light to dark, one for each look that is drawn."""
        spread = np.linspace(len(VIRIDIS) - 1, 0, len(self.chosen())).round().astype(int)
        return [VIRIDIS[i] for i in spread[::-1]]

    def curves(self) -> list[tuple[str, str, np.ndarray, np.ndarray]]:
        """Title, label of x, x and y `(look, x)` of each panel with norms."""
        return [
            ("gradient of the cost by the state", "time t", self.time, self.gradient),
            ("its part from the last output", "steps back", self.back, self.last),
            ("norm of the product of Jacobians", "steps back", self.lag, self.norm),
        ]


def _median(values: np.ndarray) -> np.ndarray:
    """Over the sequences, `(look, sequence, ...)`; NaN where none is a number."""
    known = np.where(np.isnan(values).all(1, keepdims=True), np.inf, values)
    median = np.nanmedian(known, axis=1)
    return np.where(np.isinf(median), np.nan, median)


def _limits(values: np.ndarray) -> tuple[float, float]:
    """Of a logarithmic axis: all that is positive, but no more than so many decades."""
    values = values[np.isfinite(values) & (values > 0)]
    if not values.size:
        return 0.1, 10.0
    high = float(values.max())
    return max(float(values.min()), high * 10.0**-DECADES) / 2, high * 2


@style.styled
def over_time(dataset: xr.Dataset) -> Figure:
    """Four panels: gradient against time, its part from the last output, norms of products, and the rates.

    Norms have logarithmic axes, where what grows or falls by the same factor at each step is a straight
    line; colour is the look. Rates are those of the second panel in nats per step back, one dot a sequence
    with two standard errors, beside the leading Lyapunov exponents: below zero gradients vanish, above they
    explode.

    Args:
        dataset: With or without an axis of looks.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: Variables are missing, or there is more than one axis of looks.
    """
    found = Norms.of(dataset)
    figure = style.new_figure(11.5, 6.4)
    panels = figure.subplots(2, 2)
    figure.subplots_adjust(
        left=0.065, right=0.875 if found.name else 0.98, bottom=0.085, top=0.95, wspace=0.2, hspace=0.42
    )
    looks = list(zip(found.chosen(), found.colors(), strict=True))
    for axes, (title, label, x, y) in zip(panels.flat, found.curves(), strict=False):
        for look, color in looks:
            marker = {"marker": "o", "ms": 3} if y is found.norm else {}
            values = np.where(y[look] > 0, y[look], np.nan)
            axes.plot(x, values, color=color, label=f"{found.name} {found.at[look]}".strip(), **marker)
        axes.set(title=title, xlabel=label, yscale="log", ylim=_limits(y[[look for look, _ in looks]]))
    for axes in (panels[0, 1], panels[1, 0]):
        axes.invert_xaxis()  # now is on the right, as in the first panel
    if found.name:
        handles, names = panels[0, 0].get_legend_handles_labels()
        figure.legend(handles, names, loc="center right", fontsize=9, borderaxespad=0.2)
    _rates(panels[1, 1], found)
    return figure


def _rates(axes: Any, found: Norms) -> None:
    """Rates and exponents, one dot a sequence, side by side at each look."""
    # both kinds beside each other, but no further from their epoch than a marker is wide
    apart = min(0.3 * np.diff(found.at).min(), 0.012 * np.ptp(found.at)) if len(found.at) > 1 else 0.3
    axes.axhline(0, color=style.INK, linewidth=0.9, zorder=1.5)
    kinds = (
        (found.rate, found.rate_error, style.BLUE, "o", "rate of the gradient"),
        (found.exponent, found.exponent_error, style.ORANGE, "D", "Lyapunov exponent"),
    )
    for place, (value, error, color, marker, label) in enumerate(kinds):
        at = np.broadcast_to(found.at[:, None] + (place - 0.5) * apart, value.shape)
        bars = ERRORS * np.where(np.isfinite(error), error, 0.0)
        axes.errorbar(
            at.ravel(), np.where(np.isfinite(value), value, np.nan).ravel(), bars.ravel(), color=color,
            fmt=marker, ms=3, elinewidth=0.8, alpha=0.7, label=label,
        )  # fmt: skip
    axes.set(title="nats per step back", xlabel=found.name or "")
    if len(found.at) == 1:
        axes.set(xlim=(found.at[0] - 1, found.at[0] + 1), xticks=found.at if found.name else [])
    axes.margins(y=0.22)
    axes.legend(loc="upper center", ncols=2, fontsize=9)


@style.styled
def parameters(dataset: xr.Dataset) -> Figure:
    """What each step adds to the gradient of each parameter, of one look: norms on a logarithmic axis.

    Args:
        dataset: One look, with `contribution` `(sequence, moment, parameter)`; of several the last is drawn.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: There is no `contribution`.
    """
    if "contribution" not in dataset or not dataset["contribution"].size:
        raise ValueError("a figure of contributions needs contribution: the dataset has none.")
    array = dataset["contribution"]
    for axis in [dim for dim in array.dims if dim not in ("sequence", "moment", "parameter")]:
        array = array.isel({axis: -1})
    values = _median(array.transpose("sequence", "moment", "parameter").values[None])[0]
    figure = style.new_figure(8.0, 3.8)
    axes = figure.add_axes((0.09, 0.14, 0.68, 0.78))
    for i, name in enumerate(dataset["parameter"].values):
        axes.plot(
            dataset["moment"].values,
            np.where(values[:, i] > 0, values[:, i], np.nan),
            color=style.COLORS[i % len(style.COLORS)],
            linestyle=("-", "--", ":")[i // len(style.COLORS) % 3],
            marker="o",
            ms=3,
            label=str(name),
        )
    axes.set(
        title="contribution of a step to the gradient", xlabel="time t", yscale="log", ylim=_limits(values)
    )
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1.02))
    return figure


def interactive(dataset: xr.Dataset) -> PlotlyFigure:
    """The same four panels to zoom, one colour a look.

    Args:
        dataset: As for `over_time`.

    Returns:
        A plotly figure.

    Raises:
        ValueError: As for `over_time`.
    """
    from plotly.subplots import make_subplots

    found = Norms.of(dataset)
    panels = found.curves()
    figure = make_subplots(
        2, 2, subplot_titles=[*(title for title, *_ in panels), "nats per step back"], vertical_spacing=0.16
    )
    for panel, (_, label, x, y) in enumerate(panels):
        row, column = divmod(panel, 2)
        for look, color in zip(found.chosen(), found.colors(), strict=True):
            name = f"{found.name} {found.at[look]}".strip() or "norm"
            figure.add_scatter(
                x=x,
                y=np.where(y[look] > 0, y[look], np.nan),
                line={"color": color},
                mode="lines+markers" if y is found.norm else "lines",
                name=name,
                legendgroup=name,
                showlegend=panel == 0 and bool(found.name),
                hovertemplate=f"{label} %{{x}}: %{{y:.3g}}",
                row=row + 1,
                col=column + 1,
            )
        limits = np.log10(_limits(y[found.chosen()]))
        figure.update_yaxes(
            type="log", range=limits.tolist(), exponentformat="power", row=row + 1, col=column + 1
        )
        figure.update_xaxes(
            title={"text": label}, autorange="reversed" if panel else True, row=row + 1, col=column + 1
        )
    for value, error, color, name in (
        (found.rate, found.rate_error, style.BLUE, "rate of the gradient"),
        (found.exponent, found.exponent_error, style.ORANGE, "Lyapunov exponent"),
    ):
        figure.add_scatter(
            x=np.repeat(found.at, value.shape[1]),
            y=np.where(np.isfinite(value), value, np.nan).ravel(),
            error_y={"array": ERRORS * np.nan_to_num(error).ravel(), "thickness": 1},
            mode="markers",
            marker={"color": color},
            name=name,
            hovertemplate="%{x}: %{y:.4g}",
            row=2,
            col=2,
        )
    figure.add_hline(0, line={"color": "#7a7a7a", "width": 1.2}, row=2, col=2)  # type: ignore[arg-type]
    figure.update_xaxes(title={"text": style.escape(found.name)}, row=2, col=2)
    figure.update_layout(**style.PLOTLY, height=640, legend={"orientation": "h", "y": -0.12})
    figure.update_xaxes(**style.PLOTLY_AXIS)
    figure.update_yaxes(**style.PLOTLY_AXIS)
    return figure
