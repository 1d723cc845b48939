"""Inputs held and generation mode side by side: the same network, told what comes in or left alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr

from rnnlab.figures import style
from rnnlab.figures.bifurcation import draw_panel, draw_space, unsettled_legend
from rnnlab.figures.orbits import Orbits, axis_names, position

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLES = ("input held", "generation mode")
PIECES = 320  # of the y axis
FEW = 2  # probes shown without a choice
MOST = 6  # observables shown without a choice


class Pair(NamedTuple):
    """One observable in both modes, on one axis of values."""

    observable: str
    both: tuple[Orbits, Orbits]
    limits: tuple[float, float]


@style.styled
def modes(
    held: xr.Dataset,
    generation: xr.Dataset,
    *,
    probes: Sequence[Any] | None = None,
    observables: Sequence[Any] | None = None,
    max_points: int = 4_000,
) -> Figure:
    """Epoch against the values visited, with inputs held in the left columns, and left alone in the right.

    In generation mode the network's own output takes the place of what it is told. A row is an observable,
    with the same axes in all its panels.

    Args:
        held: Looks at the network under held inputs: `y` `(parameter, probe, sample, time, observable)` and
            `settled`.
        generation: Looks at the network that is fed its own output, of the same form.
        probes: Names of probes, or their positions in `held`: a column of each mode for each. Default: all if
            there are two at most, else the one under which the ranges visited at the last look differ most.
        observables: Names or positions, the rows. Default: all, or six spread over them.
        max_points: Most dots in a panel; of more, how often each place is visited.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: A dataset has no parameter axis, or one of them no such probe or observable.

    References:
        Ribeiro, Tiels, Aguirre, Schön, "Beyond exploding and vanishing gradients", AISTATS 2020, Fig. 2,
        Supplementary Fig. 6 and 7.
    """
    rows = _rows(held, generation, probes, observables)
    names = rows[0].both[0].names
    columns = 2 * len(names)
    alone = len(rows) == len(names) == 1
    wide, high = (4.6, 3.0) if alone else (2.6, 1.5)
    width, height = 0.9 + wide * columns, 1.22 + high * len(rows)
    figure = style.new_figure(width, height)
    left, right, bottom, top = 0.85 / width, 1 - 0.15 / width, 0.6 / height, 1 - 0.62 / height
    figure.subplots_adjust(left, bottom, right, top, wspace=0.06, hspace=0.14)
    starts, ends = zip(*(orbits.span() for orbits in rows[0].both), strict=True)
    grid: Any = figure.subplots(len(rows), columns, sharex=True, sharey="row", squeeze=False)
    for panels, row in zip(grid, rows, strict=True):
        drawn = [(orbits, i) for orbits in row.both for i in range(len(names))]
        for axes, (orbits, i) in zip(panels, drawn, strict=True):
            visits = orbits.visits(i, row.limits, PIECES)
            draw_panel(axes, orbits, i, row.limits, visits, int(np.count_nonzero(visits)) > max_points)
        panels[0].set(xlim=(min(starts), max(ends)), ylim=row.limits)
        panels[0].locator_params(axis="y", nbins=5)
        panels[0].locator_params(axis="x", nbins=6, integer=_whole(row.both[0]))
        if len(rows) > 1:
            panels[0].set_ylabel(style.plain(row.observable))
            panels[0].yaxis.set_label_coords(-0.52 / wide, 0.5)
    for axes, title in zip(grid[0], _titles(names), strict=True):
        axes.set_title(title)
    if said := _said(rows):
        figure.text(0.08 / width, 1 - 0.08 / height, said, va="top", fontsize=11)
    figure.supxlabel(rows[0].both[0].label, fontsize=11, y=0.08 / height, va="bottom")
    figure.supylabel("$y_t$", fontsize=13, x=0.08 / width, ha="left")
    unsettled_legend(figure, *((orbits, row.limits) for row in rows for orbits in row.both))
    return figure


@style.styled
def modes_3d(
    held: xr.Dataset,
    generation: xr.Dataset,
    *,
    probes: Sequence[Any] | None = None,
    observables: Sequence[Any] | None = None,
    max_looks: int = 60,
    max_points: int = 6_000,
) -> Figure:
    """The same with the first difference as a third axis: what oscillates turns in a loop of its own.

    Args:
        held, generation, probes, observables: As for `modes`.
        max_looks: Most values of the parameter to draw, evenly chosen: more would hide each other.
        max_points: Most dots in a panel.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: As for `modes`, or an orbit has a single time step.

    References:
        Ribeiro, Tiels, Aguirre, Schön, "Beyond exploding and vanishing gradients", AISTATS 2020, Fig. 8,
        Supplementary Fig. 5.
    """
    rows = _rows(held, generation, probes, observables)
    names = rows[0].both[0].names
    columns = 2 * len(names)
    wide, high, above, margin = 3.5, 2.3, 0.75, 0.45
    width, height = margin + wide * columns, above + high * len(rows)
    figure = style.new_figure(width, height)
    for r, row in enumerate(rows):
        drawn = [(orbits, i) for orbits in row.both for i in range(len(names))]
        for c, (orbits, i) in enumerate(drawn):
            place = ((margin + c * wide) / width, (len(rows) - 1 - r) * high / height)
            size = (wide / width, high / height)
            axes: Any = figure.add_axes((*place, *size), projection="3d", computed_zorder=False)
            axes.set_box_aspect((2.2, 1, 1), zoom=1.2)
            axes.view_init(elev=20, azim=-58)
            draw_space(axes, orbits, i, row.limits, max_looks=max_looks, max_points=max_points)
            axes.set_ylim(row.limits)
            axes.tick_params(labelsize=7, pad=-2)
            axes.set_xlabel(orbits.label, fontsize=8, labelpad=-2)
            axes.set_ylabel("$y_t$", fontsize=9, labelpad=-6)
            axes.set_zlabel("$y_t - y_{t-1}$", fontsize=8, labelpad=-6)
            for axis, bins in zip("xyz", (5, 3, 4), strict=True):
                axes.locator_params(axis=axis, nbins=bins, integer=axis == "x" and _whole(orbits))
        if len(rows) > 1:
            y = (len(rows) - r - 0.5) * high / height
            name = style.plain(row.observable)
            figure.text(0.1 / width, y, name, rotation=90, va="center", fontsize=11)
    for c, title in enumerate(_titles(names)):
        x = (margin + (c + 0.5) * wide) / width
        figure.text(x, 1 - 0.62 / height, title, ha="center", va="bottom", fontsize=11)
    if said := _said(rows):
        figure.text(0.08 / width, 1 - 0.08 / height, said, va="top", fontsize=11)
    unsettled_legend(figure, *((orbits, row.limits) for row in rows for orbits in row.both))
    return figure


def _rows(
    held: xr.Dataset,
    generation: xr.Dataset,
    probes: Sequence[Any] | None,
    observables: Sequence[Any] | None,
) -> list[Pair]:
    """What is drawn: the observables with the chosen probes, in both modes."""
    both = held, generation
    y = held["y"] if "y" in held else xr.DataArray()
    known = axis_names(y, "observable") if "observable" in y.dims else [""]
    if observables is None:
        rows = np.linspace(0, len(known) - 1, min(len(known), MOST)).round().astype(int).tolist()
    else:
        rows = [position(known, one, "observable") for one in observables]
    first: tuple[Orbits, Orbits] = tuple(Orbits.of(dataset, rows[0]) for dataset in both)  # type: ignore
    if probes is None:
        count = len(first[0].names)
        probes = range(count) if count <= FEW else [_telling(*first)]
    names = [first[0].names[position(first[0].names, one, "probe")] for one in probes]
    pairs = []
    for row in rows:
        chosen: Any = tuple(Orbits.of(dataset, row).pick(*names) for dataset in both)
        lows, highs = zip(*(orbits.limits() for orbits in chosen), strict=True)
        pairs.append(Pair(known[row] if len(known) > 1 else "", chosen, (min(lows), max(highs))))
    return pairs


def _whole(orbits: Orbits) -> bool:
    """Whether there is nothing between one value of the parameter and the next, as with epochs."""
    return orbits.at.dtype.kind in "iu"


def _titles(names: Sequence[str]) -> list[str]:
    """Of the columns: inputs held first."""
    if len(names) == 1:
        return list(TITLES)
    return [style.plain(f"{name}: {title}") for title in TITLES for name in names]


def _said(rows: Sequence[Pair]) -> str:
    """What is the same in all panels."""
    names = rows[0].both[0].names
    parts = [names[0]] if len(names) == 1 else []
    parts += [rows[0].observable] if len(rows) == 1 and rows[0].observable else []
    return style.plain(" → ".join(parts))


def _telling(held: Orbits, generation: Orbits) -> int:
    """The probe whose two modes differ most, by the lowest and the highest value at the last look."""
    ranges = []
    for orbits in (held, generation.pick(*held.names)):
        y = orbits.y[np.argmax(orbits.at)]
        y = np.where(np.isfinite(y), y, 0.0)
        ranges.append(np.stack((y.min((1, 2)), y.max((1, 2)))))
    return int(np.abs(ranges[0] - ranges[1]).sum(0).argmax())
