"""Looks made ready for drawing: axes in a fixed order, one panel a probe.

A dataset here is one of `rnnlab.analysis`, stacked along one more axis: the epochs of a training run as the
store keeps them, or the values of `rnnlab.analysis.sweep`. That axis is found by exclusion.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr

from rnnlab.figures import style
from rnnlab.figures.orbits import axis_names, position

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

AXES = {"probe", "sample", "time", "state", "observable", "index", "mode", "slow", "attractor", "norm"}
MAX_PANELS = 12


class Looks(NamedTuple):
    """A dataset whose variables can be asked for with their axes in a fixed order."""

    name: str  # of the parameter
    label: str  # of its axis, with units
    at: np.ndarray  # (parameter,)
    names: list[str]  # (probe,)
    data: xr.Dataset

    @classmethod
    def of(cls, dataset: xr.Dataset, figure: str, needs: Sequence[str], observable: Any = 0) -> Looks:
        """A dataset, one observable of it, or all where `observable` is None.

        Raises:
            ValueError: It lacks variables that the figure needs, a parameter axis, or this observable.
        """
        if missing := [name for name in needs if name not in dataset]:
            there = ", ".join(map(str, dataset)) or "nothing"
            raise ValueError(f"a figure of {figure} needs {', '.join(missing)}: the dataset has {there}.")
        others = [str(dim) for dim in dataset[needs[0]].dims if dim not in AXES]
        if len(others) != 1:
            raise ValueError(
                f"a figure of {figure} needs one parameter axis, such as epoch: {needs[0]} has the axes "
                f"{', '.join(map(str, dataset[needs[0]].dims))}."
            )
        name = others[0]
        if observable is not None and "observable" in dataset.dims:
            known = axis_names(dataset["observable"], "observable")
            dataset = dataset.isel(observable=position(known, observable, "observable"))
        if "probe" not in dataset.dims:
            dataset = dataset.expand_dims("probe")
            names = [""]
        else:
            names = axis_names(dataset["probe"], "probe")
            if "probe" not in dataset.coords:
                names = [f"probe {i}" for i in range(dataset.sizes["probe"])]
        at = np.asarray(dataset[name].values)
        units = dataset[name].attrs.get("units")
        return cls(name, f"{name} ({units})" if units else name, at, names, dataset)

    def values(self, variable: str, *axes: str, missing: Any = None) -> Any:
        """A variable as `(parameter, probe, *axes)`, repeated along axes it lacks.

        Where there is no such variable it is all `missing`, if that is given.
        """
        wanted = (self.name, "probe", *axes)
        if missing is not None and variable not in self.data:
            return np.full([self.data.sizes.get(dim, 0) for dim in wanted], missing)
        array = self.data[variable]
        new = {dim: self.data.sizes.get(dim, 1) for dim in wanted if dim not in array.dims}
        return array.expand_dims(new).transpose(*wanted).values

    def pick(self, probes: Sequence[Any] | None) -> Looks:
        """Only these probes, in this order; without a choice all, or twelve spread over them."""
        if probes is None:
            spread = np.linspace(0, len(self.names) - 1, min(len(self.names), MAX_PANELS)).round()
            chosen = [int(i) for i in spread]
        else:
            chosen = [position(self.names, probe, "probe") for probe in probes]
        return self._replace(names=[self.names[i] for i in chosen], data=self.data.isel(probe=chosen))

    def span(self) -> tuple[float, float]:
        """Limits of the parameter axis."""
        low, high = float(self.at.min()), float(self.at.max())
        margin = 0.02 * (high - low) or 0.5
        return low - margin, high + margin

    def edges(self) -> np.ndarray:
        """Where each look ends and the next begins, halfway between them: one more than looks."""
        if len(self.at) == 1:
            return np.array([self.at[0] - 0.5, self.at[0] + 0.5])
        middles = (self.at[1:] + self.at[:-1]) / 2
        return np.concatenate([[2 * self.at[0] - middles[0]], middles, [2 * self.at[-1] - middles[-1]]])

    def some(self, most: int) -> Looks:
        """At most so many looks, evenly chosen, the first and the last among them."""
        chosen = np.unique(np.linspace(0, len(self.at) - 1, min(len(self.at), most)).round().astype(int))
        return self._replace(at=self.at[chosen], data=self.data.isel({self.name: chosen}))


def limits_of(values: np.ndarray, *, margin: float = 0.05) -> tuple[float, float]:
    """Limits of an axis that shows all that is finite."""
    values = values[np.isfinite(values)]
    if not values.size:
        return -1.0, 1.0
    low, high = float(values.min()), float(values.max())
    room = margin * (high - low) or 0.5 * max(abs(high), 1e-3)
    return low - room, high + room


def logarithmic_ticks(limits: tuple[float, float]) -> list[float] | None:
    """Plain numbers for a logarithmic axis of less than two decades; None: powers of ten do.

    Example:
        >>> logarithmic_ticks((0.15, 2.5)), logarithmic_ticks((1e-4, 1))
        ([0.2, 0.5, 1.0, 2.0], None)
    """
    span = limits[1] / limits[0]
    if span > 50:
        return None
    digits = (
        (1, 2, 5) if span > 4 else (1, 1.5, 2, 3, 5, 7) if span > 1.6 else [1 + i / 10 for i in range(90)]
    )
    nice = [float(f"{digit}e{power}") for power in range(-8, 9) for digit in digits]
    return [tick for tick in nice if limits[0] <= tick <= limits[1]]


class Grid(NamedTuple):
    """Panels side by side, each with a low strip under it where one was asked for."""

    figure: Figure
    panels: list[Any]
    strips: list[Any]

    @classmethod
    def of(
        cls,
        looks: Looks,
        label: str,
        *,
        strip: str | None = None,
        legend: Sequence[Any] = (),
        x: str | None = None,
        shape: float | None = None,
    ) -> Grid:
        """Empty panels with titles, labels and legend.

        Args:
            looks: Give the probes and the axis.
            label: Of the y axis.
            strip: Label of the strips. Default: none.
            legend: What to explain, by handles with labels.
            x: Label of the x axis, where it is not that of the looks.
            shape: Height of a panel over its width. Default: wide.
        """
        count = len(looks.names)
        columns = count if count <= 3 else min((5, 4, 3, 2), key=lambda n: (-count % n, abs(n - 4)))
        rows = math.ceil(count / columns)
        width = {1: 7.5, 2: 9.0}.get(columns, 12.0)
        left, gap = 0.8, 0.25
        wide = (width - left - 0.15 - (columns - 1) * gap) / columns
        one = 3.2 if count == 1 else 1.9
        if shape:
            wide = min(wide, 4.5, 4.5 / shape)
            width, one = left + 0.15 + columns * wide + (columns - 1) * gap, shape * wide
        low = 0.32 * one if strip else 0.0
        # as many entries in a line as there is room for
        letters = max((len(str(entry.get_label())) for entry in legend), default=0)
        abreast = max(1, min(len(legend), int((width - 0.3) / (0.5 + 0.077 * letters))))
        lines = math.ceil(len(legend) / abreast)
        top, bottom, between = 0.4 + 0.21 * lines, 0.6, 0.42
        height = top + bottom + rows * (one + low) + (rows - 1) * between
        figure = style.new_figure(width, height)
        # margins by hand, in inches: matplotlib's own layout takes longer than all the drawing
        panels: list[Axes] = []
        strips: list[Axes] = []
        for i in range(count):
            row, column = divmod(i, columns)
            x0 = (left + column * (wide + gap)) / width
            y0 = (height - top - row * (one + low + between) - one) / height
            ends = i + columns >= count
            shared: Any = {"sharex": panels[0], "sharey": panels[0]} if panels else {}
            panel = figure.add_axes((x0, y0, wide / width, one / height), **shared)
            panel.set_title(style.plain(looks.names[i]))
            panel.tick_params(labelleft=column == 0, labelbottom=ends and not strip)
            panels.append(panel)
            if strip:
                shared = {"sharex": panels[0], "sharey": strips[0]} if strips else {"sharex": panels[0]}
                place = (x0, y0 - low / height, wide / width, 0.8 * low / height)
                strips.append(figure.add_axes(place, **shared))
                strips[-1].tick_params(labelleft=column == 0, labelbottom=ends)
                if column == 0:
                    strips[-1].set_ylabel(strip, fontsize=8)
            if column == 0:
                panel.set_ylabel(label)
        if x is None:
            panels[0].set_xlim(looks.span())
        figure.supxlabel(looks.label if x is None else x, fontsize=11, y=0.08 / height, va="bottom")
        if legend:
            figure.legend(
                handles=list(legend),
                loc="upper right",
                ncols=abreast,
                fontsize=9,
                borderaxespad=0.2,
                columnspacing=1.2,
                handletextpad=0.4,
                borderpad=0.1,
            )
        return cls(figure, panels, strips)


class OneAtATime:
    """A plotly figure that shows one probe, with a menu of all of them."""

    def __init__(self, names: Sequence[str]) -> None:
        import plotly.graph_objects as go

        self.figure: Any = go.Figure()
        self.names = names
        self.probes: list[int] = []  # of each trace

    def add(self, probe: int, kind: str, **trace: Any) -> None:
        """Add a trace of a kind such as "scatter"."""
        self.probes.append(probe)
        getattr(self.figure, f"add_{kind}")(visible=probe == 0, **trace)

    def laid_out(self, height: int, top: int = 80, **layout: Any) -> Any:
        """The figure with its layout: house style, menu, legend beside it."""
        buttons = [
            {
                "label": style.escape(name),
                "method": "update",
                "args": [{"visible": [probe == i for probe in self.probes]}],
            }
            for i, name in enumerate(self.names)
        ]
        place = {"x": 0, "xanchor": "left", "y": 1, "yanchor": "bottom", "pad": {"b": 8}}
        self.figure.update_layout(
            **{**style.PLOTLY, "margin": {**style.PLOTLY["margin"], "t": top}},
            height=height,
            updatemenus=[{"buttons": buttons, **place}] if len(buttons) > 1 else [],
            legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1.01, "yanchor": "bottom"},
            **layout,
        )
        return self.figure
