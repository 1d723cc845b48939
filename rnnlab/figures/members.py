"""The distribution over the members of an ensemble: which kind they are of, and numbers with their spread.

All read looks of an analysis with an axis `member`, or the rows of training, as `rnnlab.members.verdicts`
understands them. The other figures show one member: `dataset.isel(member=i)`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr

from rnnlab.figures import style
from rnnlab.figures.looks import Looks, OneAtATime, limits_of
from rnnlab.figures.training import DECADES
from rnnlab.members import verdicts

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from plotly.graph_objects import Figure as PlotlyFigure

BAND = (0.1, 0.9)  # quantiles that the band reaches
KINDS = 6  # that have colours of their own
OTHERS, GREY = "others", "#bdbdbd"
PROBES = 3  # side by side
LINES = 64  # members with a line of their own
POINTS = 120  # of such a line in a page
PART = 2**26  # bytes read at once


class Distribution(NamedTuple):
    """Kinds and numbers with their axes in a fixed order."""

    looks: Looks
    shares: dict[str, np.ndarray]  # of the members, by kind, (parameter, probe)
    numbers: dict[str, np.ndarray]  # (parameter, probe, member)

    @classmethod
    def of(cls, dataset: xr.Dataset, probes: Sequence[Any] | None = None) -> Distribution:
        if "member" not in dataset.dims:
            raise ValueError("a figure of members needs an axis member: this is of a single network.")
        found = _in_parts(dataset)
        if not found:
            there = ", ".join(map(str, dataset))
            raise ValueError(f"a figure of members needs a number or a word for each: there is {there}.")
        names = [str(name) for name in found]
        looks = Looks.of(found.rename(member="state"), "members", names[:1])  # no parameter axis
        if probes is not None:
            looks = looks.pick(probes)
        numbers = {name: looks.values(name, "state").astype(float) for name in names if name != "kind"}
        for values in numbers.values():
            values[~np.isfinite(values)] = np.nan
        shares = _shares(looks.values("kind", "state").astype(str)) if "kind" in found else {}
        # where kinds are told, a number that is always the same tells no more
        least = 2 if shares else 1
        told = {k: v for k, v in numbers.items() if len(np.unique(v[~np.isnan(v)])) >= least}
        return cls(looks, shares, told)

    def colors(self) -> dict[str, str]:
        """Of the kinds: the commonest first, the rest grey."""
        found = dict(zip(self.shares, style.COLORS, strict=False))
        return {name: GREY if name == OTHERS else color for name, color in found.items()}


def _in_parts(dataset: xr.Dataset) -> xr.Dataset:
    """The verdicts of a few looks after another: those of many members may not fit into memory."""
    count = dataset.sizes.get("epoch", 1)
    each = max(1, PART * count // max(dataset.nbytes, 1))
    if each >= count:
        return verdicts(dataset)
    parts = [verdicts(dataset.isel(epoch=slice(i, i + each)).load()) for i in range(0, count, each)]
    return xr.concat(parts, "epoch")


def _shares(kind: np.ndarray) -> dict[str, np.ndarray]:
    """Which part of the members is of each kind, the commonest kinds first: from `(*axes, member)`.

    >>> {name: share.tolist() for name, share in _shares(np.array([["a", "b", "b", ""]])).items()}
    {'b': [0.5], 'a': [0.25]}
    """
    names, counts = np.unique(kind[kind != ""], return_counts=True)
    ordered = [str(name) for name in names[np.argsort(-counts, kind="stable")]]
    shares = {name: (kind == name).mean(-1) for name in ordered}
    if len(shares) > KINDS:
        rest = [shares.pop(name) for name in ordered[KINDS - 1 :]]
        shares[OTHERS] = np.sum(rest, 0)
    return shares


class Spread(NamedTuple):
    """A number of all members over the looks `(parameter,)`; looks without any are left out."""

    at: np.ndarray
    median: np.ndarray
    low: np.ndarray
    high: np.ndarray
    lines: np.ndarray  # (parameter, member): of some members, where there are very many

    @classmethod
    def of(cls, at: np.ndarray, values: np.ndarray) -> Spread:
        known = ~np.isnan(values).all(-1)
        at, values = at[known], values[known]
        low, median, high = np.nanquantile(values, (BAND[0], 0.5, BAND[1]), axis=-1)
        some = np.unique(np.linspace(0, values.shape[1] - 1, LINES).round().astype(int))
        return cls(at, median, low, high, values[:, some])


def _logarithmic(values: np.ndarray) -> bool:
    values = values[np.isfinite(values)]
    return bool(values.size and values.min() > 0 and math.log10(values.max() / values.min()) > DECADES)


@style.styled
def over_epochs(dataset: xr.Dataset, *, probes: Sequence[Any] | None = None) -> Figure:
    """Shares of the kinds, then each number: median, band of four fifths of the members, a line a member.

    Args:
        dataset: Looks with an axis `member`; see the module.
        probes: Names or positions, a column each. Default: all, or three spread over them.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: The dataset has no axis `member`, no parameter axis, or no number for each member; no
            such probe.
    """
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    found = Distribution.of(dataset, probes)
    looks, colors = found.looks, found.colors()
    count = len(looks.names)
    chosen = range(count) if probes else np.unique(np.linspace(0, count - 1, PROBES).round().astype(int))
    names = [looks.names[i] for i in chosen]
    handles: list[Any] = [Patch(color=colors[kind], label=kind) for kind in found.shares]
    members = dataset.sizes["member"]
    if found.numbers:
        handles += [
            Line2D([], [], color=style.INK, linewidth=2.0, label=f"median of {members} members"),
            Patch(color=style.BLUE, alpha=0.25, label=f"{BAND[0]:.0%} to {BAND[1]:.0%}"),
        ]
    titles = [*([f"share of\n{members} members"] if found.shares else []), *found.numbers]
    rows, columns = len(titles), len(names)
    width = {1: 7.5, 2: 10.0}.get(columns, 12.5)
    letters = max((len(str(handle.get_label())) for handle in handles), default=0)
    abreast = max(1, min(len(handles), int((width - 0.3) / (0.5 + 0.077 * letters))))
    top = 0.35 + 0.21 * math.ceil(len(handles) / abreast)
    height = top + 0.55 + 1.75 * rows
    figure = style.new_figure(width, height)
    # margins by hand, in inches: matplotlib's own layout takes longer than all the drawing
    figure.subplots_adjust(
        left=0.95 / width,
        right=1 - 0.15 / width,
        bottom=0.55 / height,
        top=1 - top / height,
        wspace=0.08,
        hspace=0.16,
    )
    grid: Any = figure.subplots(rows, columns, sharex=True, sharey="row", squeeze=False)
    for column, probe in enumerate(chosen):
        panels = list(grid[:, column])
        panels[0].set_title(names[column])
        if found.shares:
            axes, bottom, edges = panels.pop(0), np.zeros(len(looks.at)), looks.edges()
            for kind, share in found.shares.items():
                upper = bottom + share[:, probe]
                ends = [np.append(line, line[-1]) for line in (bottom, upper)]
                axes.fill_between(edges, *ends, step="post", color=colors[kind], linewidth=0)
                bottom = upper
            axes.set_ylim(0, 1)
        for axes, values in zip(panels, found.numbers.values(), strict=True):
            _draw_spread(axes, Spread.of(looks.at, values[:, probe]))
    shares = len(titles) - len(found.numbers)
    for row, values in enumerate(found.numbers.values(), shares):
        if _logarithmic(values):
            grid[row, 0].set_yscale("log")
        else:
            grid[row, 0].set_ylim(limits_of(values))
    for row, title in enumerate(titles):
        grid[row, 0].set_ylabel(title)
    grid[0, 0].set_xlim(looks.span())
    figure.supxlabel(looks.label, fontsize=11, y=0.08 / height, va="bottom")
    figure.legend(
        handles=handles,
        loc="upper right",
        ncols=abreast,
        fontsize=9,
        borderaxespad=0.2,
        columnspacing=1.2,
        handletextpad=0.4,
        borderpad=0.1,
    )
    return figure


def _draw_spread(axes: Axes, spread: Spread) -> None:
    if not len(spread.at):
        return
    alone = {"marker": "o", "ms": 3} if len(spread.at) == 1 else {}
    fade = min(0.5, 6 / spread.lines.shape[1] + 0.08)
    axes.plot(spread.at, spread.lines, color=style.BLUE, linewidth=0.6, alpha=fade, **alone)
    axes.fill_between(spread.at, spread.low, spread.high, color=style.BLUE, alpha=0.2, linewidth=0)
    axes.plot(spread.at, spread.median, color=style.INK, linewidth=2.0, **alone)


def interactive(dataset: xr.Dataset) -> PlotlyFigure:
    """The same to zoom, with a menu of the probes.

    Args:
        dataset: As for `over_epochs`.

    Returns:
        A plotly figure.

    Raises:
        ValueError: As for `over_epochs`.
    """
    found = Distribution.of(dataset)
    looks, colors, edges = found.looks, found.colors(), found.looks.edges()
    members = dataset.sizes["member"]
    titles = [
        *([f"share of<br>{members} members"] if found.shares else []),
        *map(style.escape, found.numbers),
    ]
    drawing = OneAtATime(looks.names)
    for probe in range(len(looks.names)):
        for kind, share in found.shares.items():
            drawing.add(
                probe,
                "bar",
                x=(edges[1:] + edges[:-1]) / 2,
                width=np.diff(edges),
                y=share[:, probe],
                customdata=looks.at,
                marker={"color": colors[kind], "line": {"width": 0}},
                name=style.escape(kind),
                hovertemplate=f"{looks.name} %{{customdata}}: %{{y:.0%}}",
            )
        for row, (name, values) in enumerate(found.numbers.items(), bool(found.shares)):
            _add_spread(drawing, probe, row, name, Spread.of(looks.at, values[:, probe]), looks.name)
    rows = len(titles)
    gap = 0.25 / rows if rows > 1 else 0.0
    one = (1 - gap * (rows - 1)) / rows
    layout: dict[str, Any] = {}
    for row, title in enumerate(titles):
        start = 1 - row * (one + gap) - one
        axis = {**style.PLOTLY_AXIS, "title": {"text": title}, "domain": (max(start, 0.0), start + one)}
        if found.shares and not row:
            axis |= {"range": (0, 1), "tickformat": ".0%"}
        elif _logarithmic(list(found.numbers.values())[row - bool(found.shares)]):
            axis |= {"type": "log", "exponentformat": "power", "dtick": 1}
        layout[f"yaxis{_number(row)}"] = axis
    return drawing.laid_out(
        190 * rows + 130,
        barmode="stack",
        bargap=0,
        xaxis={
            **style.PLOTLY_AXIS,
            "title": {"text": looks.label},
            "range": (edges[0], edges[-1]),
            "anchor": f"y{_number(rows - 1)}",
        },
        **layout,
    )


def _add_spread(drawing: OneAtATime, probe: int, row: int, name: str, spread: Spread, parameter: str) -> None:
    some = np.unique(np.linspace(0, len(spread.at) - 1, POINTS).round().astype(int)) if len(spread.at) else []
    # one trace for all members, with gaps between them
    lines = np.concatenate([spread.lines[some], np.full((1, spread.lines.shape[1]), np.nan)])
    at = np.tile(np.append(spread.at[some], np.nan), spread.lines.shape[1])
    mode = "lines" if len(spread.at) > 1 else "markers"
    shared: dict[str, Any] = {"yaxis": f"y{_number(row)}", "showlegend": False, "mode": mode}
    drawing.add(
        probe,
        "scatter",
        x=at.astype(np.float32),
        y=lines.T.ravel().astype(np.float32),
        line={"color": style.BLUE, "width": 0.7},
        opacity=min(0.5, 6 / spread.lines.shape[1] + 0.12),
        hoverinfo="skip",
        **shared,
    )
    for values, fill in ((spread.low, None), (spread.high, "tonexty")):
        drawing.add(
            probe,
            "scatter",
            x=spread.at,
            y=values.astype(np.float32),
            line={"color": style.BLUE, "width": 0},
            fill=fill,
            fillcolor="rgba(0,114,178,0.2)",
            hoverinfo="skip",
            **shared,
        )
    drawing.add(
        probe,
        "scatter",
        x=spread.at,
        y=spread.median.astype(np.float32),
        customdata=np.stack([spread.low, spread.high], 1).astype(np.float32),
        line={"color": "#7a7a7a", "width": 2.4},
        hovertemplate=(
            f"{parameter} %{{x}}: median %{{y:.4g}}, %{{customdata[0]:.4g}} to %{{customdata[1]:.4g}}"
            f"<extra>{style.escape(name)}</extra>"
        ),
        **shared,
    )


def _number(row: int) -> str:
    """Of an axis, as plotly counts."""
    return str(row + 1) if row else ""
