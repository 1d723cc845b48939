"""Lipschitz constants of the cost and of its gradient against the number of time steps, and over the looks.

All read the dataset of `rnnlab.analysis.smoothness`: one look, or several stacked along one more axis, such
as the epochs of a run. What is drawn are lower bounds; the reference lines are the rates, up to a factor, of
the upper bounds of Ribeiro et al. (2020), Theorem 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr

from rnnlab.figures import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from plotly.graph_objects import Figure as PlotlyFigure

TITLES = ("Lipschitz constant of the cost V, at least", "Lipschitz constant of its gradient, at least")
LABELS = ("loss per unit of θ", "loss per unit of θ²")
POWERS = (1, 3)  # of N, where L = 1
FACTORS = (2, 3)  # of N in the exponent of L, where L > 1
SEEN = "with parameters, seen"
MOST = 8  # looks that are drawn


class Constants(NamedTuple):
    """The dataset with its axes in a fixed order."""

    name: str  # of the axis of looks, "" for a single one
    at: np.ndarray  # (look,)
    horizons: np.ndarray  # (horizon,)
    values: np.ndarray  # (look, constant, horizon)
    resolved: np.ndarray  # (look, horizon)
    rate: np.ndarray  # (look, constant, law)
    error: np.ndarray  # the same
    laws: list[str]
    stretch: np.ndarray  # (look,), in state and parameters as seen

    @classmethod
    def of(cls, dataset: xr.Dataset) -> Constants:
        """Raises ValueError where variables are missing, or more than one axis is left."""
        needs = ("lipschitz", "resolved", "rate", "standard_error", "stretch")
        if missing := [name for name in needs if name not in dataset]:
            there = ", ".join(map(str, dataset)) or "nothing"
            raise ValueError(f"a figure of smoothness needs {', '.join(missing)}: the dataset has {there}.")
        others = [str(dim) for dim in dataset["lipschitz"].dims if dim not in ("constant", "horizon")]
        if len(others) > 1:
            raise ValueError(
                f"a figure of smoothness takes one axis of looks, such as epoch: lipschitz has "
                f"{', '.join(others)}."
            )
        name = others[0] if others else ""
        data = dataset if name else dataset.expand_dims("look")
        axis = name or "look"

        def values(variable: str, *axes: str) -> np.ndarray:
            return np.asarray(data[variable].transpose(axis, *axes).values)

        stretch = data["stretch"].sel(kind=SEEN) if SEEN in data["kind"].values else data["stretch"][..., 0]
        return cls(
            name,
            np.asarray(data[axis].values),
            np.asarray(data["horizon"].values),
            values("lipschitz", "constant", "horizon"),
            values("resolved", "horizon").astype(bool),
            values("rate", "constant", "law"),
            values("standard_error", "constant", "law"),
            [str(law) for law in data["law"].values],
            np.asarray(stretch.values),
        )

    def chosen(self) -> list[int]:
        """Positions of the looks to draw: all, or some spread over them, the last among them."""
        count = min(len(self.at), MOST)
        return np.unique(np.linspace(0, len(self.at) - 1, count).round().astype(int)).tolist()

    def colors(self) -> list[str]:
        """From pale to full, one for each look that is drawn."""
        from matplotlib.colors import to_hex, to_rgb

        pale, full = np.array(to_rgb("#bcd3e2")), np.array(to_rgb(style.BLUE))
        shares = np.linspace(0, 1, len(self.chosen())) if len(self.chosen()) > 1 else [1.0]
        return [to_hex(tuple((pale + share * (full - pale)).tolist())) for share in shares]

    def label(self, look: int) -> str:
        return f"{self.name} {self.at[look]}" if self.name else "largest seen"

    def references(self, constant: int) -> list[tuple[str, str, np.ndarray]]:
        """Name, dash and values `(horizon,)` of the theorem's rates, through the last look's first point."""
        values, n = self.values[-1, constant], self.horizons.astype(float)
        there = np.flatnonzero(np.isfinite(values) & (values > 0))
        if not len(there):
            return []
        first = there[0]
        start, power = values[first], POWERS[constant]
        lines = [(f"theorem, L = 1: N{'' if power == 1 else '³'}", "dashed", start * (n / n[first]) ** power)]
        stretch = self.stretch[-1]
        if np.isfinite(stretch) and stretch > 1:
            exponent = FACTORS[constant] * np.log(stretch) * (n - n[first])
            name = f"theorem, L = {stretch:.3g}: L{'²³'[constant]}ᴺ"
            lines.append((name, "dotted", start * np.exp(np.minimum(exponent, 600))))
        return lines

    def limits(self, constant: int) -> tuple[float, float]:
        """Of the logarithmic axis: all that was seen, with room for the reference lines."""
        values = self.values[:, constant]
        values = values[np.isfinite(values) & (values > 0)]
        if not values.size:
            return 0.1, 10.0
        return float(values.min()) / 3, float(values.max()) * 30


@style.styled
def against_horizon(dataset: xr.Dataset) -> Figure:
    """The constants against the number of time steps, both on logarithmic axes.

    A power of N is a straight line. Open circles: the curvature is larger than what is seen. Of many looks
    eight are drawn, the later the darker; the theorem's rates start at the first point of the last.

    Args:
        dataset: One look, or several along one axis.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: Variables are missing, or there is more than one axis of looks.
    """
    from matplotlib.lines import Line2D

    found = Constants.of(dataset)
    figure = style.new_figure(10.0, 4.0)
    figure.set_layout_engine("constrained")
    panels: Any = figure.subplots(1, 2, sharex=True)
    for constant, axes in enumerate(panels):
        for look, color in zip(found.chosen(), found.colors(), strict=True):
            values = _positive(found.values[look, constant])
            axes.plot(found.horizons, values, color=color, zorder=2)
            hidden = ~found.resolved[look] if constant else np.zeros(len(values), bool)
            axes.plot(found.horizons[~hidden], values[~hidden], "o", color=color, ms=4, zorder=3)
            axes.plot(found.horizons[hidden], values[hidden], "o", mfc="white", mec=color, ms=4, zorder=3)
        for name, dash, values in found.references(constant):
            axes.plot(found.horizons, values, color=style.INK, linestyle=dash, lw=1, label=name, zorder=1)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_ylim(found.limits(constant))
        axes.set_title(TITLES[constant])
        axes.set_ylabel(LABELS[constant])
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=8, loc="upper left", frameon=True, edgecolor="none", framealpha=0.8)
    if found.name:
        shown = zip(found.chosen(), found.colors(), strict=True)
        handles = [Line2D([], [], color=color, marker="o", ms=4, label=found.label(k)) for k, color in shown]
        figure.legend(handles=handles, loc="outside right center", fontsize=8)
    _plain_steps(panels[0], found.horizons)
    figure.supxlabel("time steps N", fontsize=11)
    return figure


@style.styled
def over_epochs(dataset: xr.Dataset) -> Figure:
    """The constants of the longest horizon, and the fitted power of N, over the looks.

    Args:
        dataset: Several looks along one axis.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: Variables are missing, or there is not one axis of looks.
    """
    found = Constants.of(dataset)
    if not found.name:
        raise ValueError("a figure over looks needs an axis such as epoch: draw one look by against_horizon.")
    figure = style.new_figure(7.5, 5.0)
    figure.set_layout_engine("constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    law = found.laws.index("power") if "power" in found.laws else 0
    for constant, name in enumerate(("cost", "gradient")):
        color = style.COLORS[constant]
        above.plot(found.at, _positive(found.values[:, constant, -1]), "o-", ms=3, color=color, label=name)
        rate, error = found.rate[:, constant, law], 2 * found.error[:, constant, law]
        below.errorbar(found.at, rate, error, fmt="o-", ms=3, lw=1, capsize=2, color=color, label=name)
        below.axhline(POWERS[constant], color=color, lw=1, ls="--")
    above.set_yscale("log")
    above.set_ylabel(f"Lipschitz constant, N = {found.horizons[-1]}")
    above.legend(fontsize=9)
    below.set_ylabel("power of N, ± 2 SE")
    below.set_title("dashed: the theorem's for L = 1", loc="right", fontsize=8)
    below.set_xlabel(found.name)
    return figure


def interactive(dataset: xr.Dataset) -> PlotlyFigure:
    """The constants against the number of time steps, to zoom.

    Args:
        dataset: As for `against_horizon`.

    Returns:
        A plotly figure.

    Raises:
        ValueError: Variables are missing, or there is more than one axis of looks.
    """
    from plotly.subplots import make_subplots

    found = Constants.of(dataset)
    figure = make_subplots(1, 2, subplot_titles=TITLES, horizontal_spacing=0.1)
    for constant in range(2):
        place: Any = {"row": 1, "col": constant + 1}
        for look, color in zip(found.chosen(), found.colors(), strict=True):
            hidden = ~found.resolved[look] if constant else np.zeros(len(found.horizons), bool)
            figure.add_scatter(
                x=found.horizons,
                y=_positive(found.values[look, constant]),
                mode="lines+markers",
                line={"color": color},
                marker={"color": color, "symbol": ["circle-open" if h else "circle" for h in hidden]},
                name=found.label(look),
                legendgroup=str(look),
                showlegend=constant == 0,
                hovertemplate="N = %{x}: %{y:.4g}",
                **place,
            )
        low, high = found.limits(constant)
        for name, dash, values in found.references(constant):
            figure.add_scatter(
                x=found.horizons,
                y=np.where(values < 10 * high, values, np.nan),
                mode="lines",
                line={"color": "#7a7a7a", "dash": "dash" if dash == "dashed" else "dot", "width": 1.4},
                name=style.escape(name),
                hoverinfo="skip",
                **place,
            )
        figure.update_xaxes(**style.PLOTLY_AXIS, type="log", title_text="time steps N", **place)
        figure.update_yaxes(
            **style.PLOTLY_AXIS,
            type="log",
            exponentformat="power",
            title_text=LABELS[constant],
            range=(float(np.log10(low)), float(np.log10(high))),
            **place,
        )
    figure.update_layout(**style.PLOTLY, height=440, legend={"orientation": "h", "y": -0.2})
    return figure


def _plain_steps(axes: Any, horizons: np.ndarray) -> None:
    """Ticks at some of the horizons, as plain numbers."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    gap = np.log(horizons[-1] / horizons[0]) / 9
    shown: list[int] = []
    for n in reversed(horizons.tolist()):  # the longest is the one that matters
        if not shown or np.log(shown[-1] / n) >= gap:
            shown.append(n)
    axes.xaxis.set_major_locator(FixedLocator(shown))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def _positive(values: np.ndarray) -> np.ndarray:
    """What a logarithmic axis can show."""
    return np.where(values > 0, values, np.nan)
