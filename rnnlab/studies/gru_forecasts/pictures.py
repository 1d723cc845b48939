"""Fig. 8 of Jordan et al. (2019) with typical members, the distributions over seeds, and all members."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from torch import Tensor

from rnnlab.analysis import phase_plane
from rnnlab.autonomous import HeldInput
from rnnlab.figures import phase_portrait, style
from rnnlab.integrate import integrate
from rnnlab.studies.gru_forecasts.members import Forecasts
from rnnlab.systems import ContinuousTime

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STEPS = 300  # of a forecast that is shown
ORBITS = 24  # of each member that are shown
EMPTY = xr.Dataset({"point": (("index", "state"), np.zeros((0, 2))), "type": ("index", np.zeros(0, "<U9"))})


def typical(rows: pd.DataFrame) -> int:
    """The position of the member whose training loss is the median (the lower of the two middle ones).

    Example:
        >>> typical(pd.DataFrame({"train_loss": [0.5, 0.1, 0.3, 0.2]}))
        3
    """
    return int(rows["train_loss"].argsort().iloc[(len(rows) - 1) // 2])


@style.styled
def forecasts_figure(
    runs: Sequence[Forecasts], tables: Sequence[pd.DataFrame], points: Sequence[Sequence[xr.Dataset]]
) -> Figure:
    """Fig. 8: the target field, what a typical member has learned, and a forecast of it.

    Args:
        runs: A column each.
        tables: Rows of their members.
        points: Their members' `fixed_points`.
    """
    width = 1.05 + 3.9 * len(runs)
    figure = style.new_figure(width, 10.9)
    grid = figure.add_gridspec(
        3,
        len(runs),
        height_ratios=[3, 3, 1.6],
        left=0.8 / width,
        right=1 - 0.15 / width,
        top=0.965,
        bottom=0.1,
        wspace=0.27,
        hspace=0.3,
    )
    from matplotlib.lines import Line2D

    shown = []
    for column, (run, rows, found) in enumerate(zip(runs, tables, points, strict=True)):
        member = typical(rows)
        top, middle, bottom = (figure.add_subplot(grid[row, column]) for row in range(3))
        room = 0.1 * (run.task.high - run.task.low)
        field = phase_plane(
            run.task.field,
            (run.task.low - room, run.task.high + room),
            found=EMPTY,
            nullclines=False,
            manifolds=False,
            starts=0,
        )
        phase_portrait.draw(top, field)
        top.plot(*run.target.curve.T, **_target(run))
        top.set_title(f"{run.name}: target", fontweight="bold")
        shown.append(_learned(middle, run, member, found[member]))
        middle.set_title(f"learned, seed {run.seeds[member]}")
        _series(bottom, run, member)
        if column == 0:
            bottom.set_ylabel("forecast")
    lines = {"the target's attractor": (style.ORANGE, 2.0), "the forecast below": ("black", 1.2)}
    entries = [Line2D([], [], color=c, linewidth=w, label=name) for name, (c, w) in lines.items()]
    entries = phase_portrait.handles(shown) + entries
    figure.legend(handles=entries, loc="lower center", ncols=5, fontsize=8.5)
    return figure


def _target(run: Forecasts) -> dict[str, Any]:
    if run.target.kind == "cycle":
        return {"color": style.ORANGE, "linewidth": 2.0, "zorder": 3}
    return {"color": style.ORANGE, "linestyle": "none", "marker": ".", "markersize": 3.5, "zorder": 3}


def _learned(axes: Axes, run: Forecasts, member: int, points: xr.Dataset) -> xr.Dataset:
    """The flow of a member in its own coordinates, with what is to be learned moved there by the readout."""
    network = run.networks[member]
    field = ContinuousTime(HeldInput(network, torch.zeros(2, dtype=torch.float64)))
    portrait = phase_plane(
        field, ((-1.1, -1.1), (1.1, 1.1)), found=points.assign(type=points.map_type), starts=6
    )
    phase_portrait.draw(axes, portrait)
    wanted = run.target.curve - network.readout.bias
    wanted = torch.linalg.solve(network.readout.weight, wanted.mT).mT
    look: dict[str, Any] = _target(run) | {"zorder": 2.5}
    axes.plot(wanted[:, 0], wanted[:, 1], **look)
    axes.plot(*_path(run, _start(run), STEPS)[:, member, 0].T, color="black", linewidth=1.2, zorder=3.5)
    axes.set_xlabel("$h_1$")
    axes.set_ylabel("$h_2$")
    return portrait


def _start(run: Forecasts) -> Tensor:
    return run.task.series["val"].observed[0, :1]


def _path(run: Forecasts, observed: Tensor, steps: int) -> Tensor:
    """States of all members, `(time, member, sample, unit)`, from the first step on."""
    path = [run.told(observed)]
    while len(path) < steps:
        path.append(run.units.step(path[-1]))
    return torch.stack(path)


def _series(axes: Axes, run: Forecasts, member: int) -> None:
    time = torch.arange(1, STEPS + 1).double()
    told = run.units.observe(_path(run, _start(run), STEPS))[:, member, 0]
    truth = integrate(run.task.field, run.task.series["val"].states[0, 0], time * run.task.dt)
    axes.axvspan(0, run.task.length, color=style.FAINT, alpha=0.6, linewidth=0)
    for k, (name, color) in enumerate((("x", style.BLUE), ("y", style.ORANGE))):
        axes.plot(time, truth[:, k], color=color, linestyle=":", linewidth=1.0)
        axes.plot(time, told[:, k], color=color, label=name)
    axes.set_xlabel("time step (grey: the horizon it learned; dotted: the target)", fontsize=8.5)
    axes.set_xlim(0, STEPS)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 0.97), ncols=2, fontsize=8, borderaxespad=0)


@style.styled
def distributions_figure(runs: Sequence[Forecasts], tables: Sequence[pd.DataFrame]) -> Figure:
    """How the numbers of the members are spread: losses, fixed points, periods, drift and retention."""
    figure = style.new_figure(11.5, 6.6)
    loss, count, period, drift, retention, error = np.ravel(figure.subplots(2, 3))
    for i, (run, rows) in enumerate(zip(runs, tables, strict=True)):
        color = style.COLORS[i % len(style.COLORS)]
        loss.ecdf(rows["fresh_loss"] - run.fresh_floor, color=color, label=run.name)
        numbers = rows["fixed_points"].value_counts(normalize=True).sort_index()
        count.bar(
            numbers.index + 0.8 / len(runs) * (i - (len(runs) - 1) / 2),
            numbers,
            0.75 / len(runs),
            color=color,
        )
        if run.target.kind == "cycle":
            known = rows["period"].dropna()
            period.hist(known, bins=24, color=color)
            period.axvline(
                run.target.period / run.task.dt, color=style.INK, linestyle="--", label="the target's"
            )
        if run.target.kind == "continuum":
            drift.ecdf(rows["drift_median"].clip(lower=1e-6), color=color, label=f"{run.name}: median")
            drift.ecdf(rows["drift_largest"], color=color, linestyle="--", label="largest")
            retention.ecdf(rows["retention_median"].clip(upper=1e4), color=color, label=f"{run.name}: median")
            retention.ecdf(rows["retention_shortest"], color=color, linestyle="--", label="shortest")
            error.ecdf(rows["held_error_median"], color=color, label=f"{run.name}: median")
            error.ecdf(rows["held_error_largest"], color=color, linestyle="--", label="largest")
    loss.set_xscale("symlog", linthresh=1e-3)
    drift.set_xscale("log")
    retention.set_xscale("log")
    for axes, title, label in (
        (loss, "A  Fresh series", "loss above the floor"),
        (count, "B  Fixed points", "number"),
        (period, "C  Closed curves", "period (steps)"),
        (drift, "D  Drift where nothing should move", "distance in one step"),
        (retention, "E  Retention", "steps until 0.1 away (10,000: never)"),
        (error, "F  Error at the end of the horizon", "distance"),
    ):
        axes.set_title(title, loc="left")
        axes.set_xlabel(label)
        axes.set_ylabel("members" if axes is period else "fraction of members")
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=8, loc="best")
    figure.tight_layout()
    return figure


@style.styled
def members_figure(run: Forecasts, rows: pd.DataFrame, points: Sequence[xr.Dataset]) -> Figure:
    """All members of a run in the coordinates that are observed, by rising training loss.

    Grey: the target's attractor; blue: forecasts, from where the horizon ends, for ten times as long again;
    marks: fixed points of the map as in phase portraits.
    """
    order = rows["train_loss"].argsort().to_numpy()
    columns = min(8, len(order))
    lines = -(-len(order) // columns)
    figure = style.new_figure(1.45 * columns + 0.1, 1.55 * lines + 0.45)
    every = run.told(run.target.ends[:ORBITS])
    path = [every]
    while len(path) < 11 * run.task.length:
        path.append(run.units.step(path[-1]))
    told = run.units.observe(torch.stack(path))[run.task.length :]
    room = 0.05 * (run.task.high - run.task.low)
    low, high = (run.task.low - room).tolist(), (run.task.high + room).tolist()
    for place, member in enumerate(order):
        axes = figure.add_subplot(lines, columns, place + 1)
        axes.plot(*run.target.curve.T, color="#aaaaaa", zorder=1, **_quiet(run))
        for sample in range(told.shape[2]):
            axes.plot(*told[:, member, sample].T, color=style.BLUE, linewidth=0.6, zorder=2)
        for kind in ("sink", "source", "saddle", "undecided"):
            y = points[member].y.values[points[member].map_type.values == kind]
            axes.plot(*y.T, **_mark(kind))
        axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), xticks=[], yticks=[])
        axes.set_title(f"seed {run.seeds[member]}: {rows['train_loss'].iloc[member]:.3f}", fontsize=7, pad=2)
        for spine in axes.spines.values():
            spine.set_visible(True)
    figure.tight_layout(pad=0.4)
    return figure


def _quiet(run: Forecasts) -> dict[str, Any]:
    if run.target.kind == "cycle":
        return {"linewidth": 1.2}
    return {"linestyle": "none", "marker": ".", "markersize": 1.5}


def _mark(kind: str) -> dict[str, Any]:
    mark = phase_portrait.MARKS[kind]
    full = mark.fill != "none"
    return {
        "linestyle": "none",
        "marker": mark.marker,
        "markersize": 0.6 * mark.size,
        "fillstyle": mark.fill if full else "full",
        "color": "black",
        "markerfacecolor": "black" if full else "white",
        "markerfacecoloralt": "white",
        "markeredgewidth": 0.6,
        "zorder": 4,
    }
