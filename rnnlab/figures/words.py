"""What a network of language says when it listens to itself: the loops its texts end in, over the looks.

All read the dataset of `rnnlab.analysis.itinerary` with the texts that `callbacks.Words` adds, stacked along
one more axis; see `rnnlab.figures.looks`.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr

from rnnlab.figures import style
from rnnlab.figures.looks import Grid, Looks, OneAtATime

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from plotly.graph_objects import Figure as PlotlyFigure

KINDS = {
    "proven": style.GREEN,
    "converging": style.SKY,
    "repeating": style.YELLOW,
    "undecided": "#b0b0b0",
    "diverged": "#555555",
}
NUMBERS, TEXTS = ("kind", "transient", "period"), ("loop", "opening")
HEADS = ("first word", "from state", "words before", "period", "verdict", "the loop")
MEANINGS = "proven: the state came back  ·  converging: states run into a cycle  ·  repeating: only words do"
MOST = 40  # rows of the table
_WIDTHS = (1.1, 1.15, 1.05, 0.6, 1.5, 6.6)  # of its columns, in inches
_LETTERS = 86  # that fit in the last, of one width
_MONO = "DejaVu Sans Mono"
_LINES = 3  # of a loop


class Texts(NamedTuple):
    """The dataset with its axes in a fixed order, `(parameter, probe, sample)`."""

    kind: np.ndarray
    before: np.ndarray  # words before the loop; NaN without one
    period: np.ndarray  # NaN without one
    steps: int

    @classmethod
    def of(cls, looks: Looks) -> Texts:
        kind = looks.values("kind", "sample").astype(str)
        period = looks.values("period", "sample").astype(float)
        before = np.where(period > 0, looks.values("transient", "sample"), np.nan)
        return cls(kind, before, np.where(period > 0, period, np.nan), int(looks.data.attrs["steps"]))

    def shares(self) -> dict[str, np.ndarray]:
        """The share of texts of each kind that occurs: `(parameter, probe)`."""
        found = {name: (self.kind == name).mean(-1) for name in KINDS}
        return {name: share for name, share in found.items() if share.any()}


@style.styled
def over_epochs(dataset: xr.Dataset, *, probes: Sequence[Any] | None = None) -> Figure:
    """How many words are said before the loop and how long it is, one panel a first word.

    The text from the first state, which is zero, is joined by a line; small marks are those from the others.
    Open marks at the top say that no loop was found within so many words. Below, the shares of the texts by
    what is known of their loop.

    Args:
        dataset: `kind`, `transient`, `period` `(parameter, probe, sample)`; attribute `steps`.
        probes: Names or positions. Default: all, or twelve spread over them.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: The dataset lacks one of them, or the parameter axis; no such probe.
    """
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    looks = Looks.of(dataset, "words", NUMBERS).pick(probes)
    found, edges = Texts.of(looks), looks.edges()
    shares = found.shares()
    marks: dict[str, dict[str, Any]] = {
        "words before the loop": {"color": style.BLUE, "marker": "o"},
        "its period": {"color": style.ORANGE, "marker": "D"},
        f"none in {found.steps} words": {"color": style.INK, "marker": "o", "markerfacecolor": "none"},
    }
    handles: list[Any] = [
        Line2D([], [], linestyle="", markersize=5, label=label, **mark) for label, mark in marks.items()
    ]
    handles += [Patch(color=KINDS[kind], label=kind) for kind in shares]
    grid = Grid.of(looks, "words", strip="texts", legend=handles)
    drawn = list(zip((found.before, found.period), marks.values(), strict=False))
    for p, (axes, strip) in enumerate(zip(grid.panels, grid.strips, strict=True)):
        for values, mark in drawn:
            axes.plot(looks.at, values[:, p, 1:], linestyle="", markersize=3, alpha=0.55, **mark)
            axes.plot(looks.at, values[:, p, 0], linewidth=1.2, markersize=5, **mark)
        for sample in range(found.kind.shape[-1]):
            none = found.kind[:, p, sample] == "undecided"
            axes.plot(
                looks.at[none], np.full(none.sum(), found.steps), linestyle="", color=style.INK, marker="o",
                markerfacecolor="none", markersize=3 if sample else 6.5, markeredgewidth=0.8,
            )  # fmt: skip
        low = np.zeros(len(looks.at))
        for kind, share in shares.items():
            high = low + share[:, p]
            strip.fill_between(
                edges, np.append(low, low[-1]), np.append(high, high[-1]), step="post",
                color=KINDS[kind], linewidth=0,
            )  # fmt: skip
            low = high
        strip.grid(visible=False)
    _counting(grid.panels[0], found.steps)
    grid.panels[0].set_xlim(edges[0], edges[-1])
    grid.strips[0].set(ylim=(0, 1), yticks=(0, 1))
    return grid.figure


def _counting(axes: Any, most: int) -> None:
    """A logarithmic axis that has a place for zero."""
    ticks = _ticks(most)
    axes.set_yscale("symlog", linthresh=1, linscale=0.35)
    axes.set_ylim(-0.35, 1.6 * most)
    axes.set_yticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()


def _ticks(most: int) -> list[int]:
    return [0] + [10**i for i in range(len(str(most)))]


def table(look: xr.Dataset) -> list[tuple[str, ...]]:
    """What the texts of one look end in; those of a first word with the same loop share a row.

    Args:
        look: One look of the callback `Words`.

    Returns:
        For each row: the first word, the states from which these texts begin, the words before the loop, its
        period, the verdict, and the text of the loop; where there is none, how the text begins.

    Raises:
        ValueError: The dataset lacks a variable.
    """
    looks = Looks.of(look.expand_dims("look"), "words", (*NUMBERS, *TEXTS))
    found = Texts.of(looks)
    loop, opening = (looks.values(name, "sample")[0].astype(str) for name in ("loop", "opening"))
    rows = []
    for p, name in enumerate(looks.names):
        groups: dict[tuple[str, str, str], list[int]] = {}
        for s, kind in enumerate(found.kind[0, p]):
            period = found.period[0, p, s]
            said = loop[p, s] if period > 0 else f"(begins) {opening[p, s]}"
            groups.setdefault((kind, f"{period:.0f}" if period > 0 else "", said), []).append(s)
        for (kind, period, said), members in groups.items():
            before = found.before[0, p, members]
            verdict = f"none in {found.steps} words" if kind == "undecided" else kind
            rows.append((name, _states(members), _span(before), period, verdict, said))
    return rows


def _states(members: Sequence[int]) -> str:
    """Which states these are: the first is zero.

    >>> _states([0]), _states([0, 2, 3]), _states([1])
    ('zero', 'zero, 2 random', '1 random')
    """
    others = sum(s > 0 for s in members)
    return ", ".join(["zero"] * (0 in members) + [f"{others} random"] * (others > 0))


def _span(values: np.ndarray) -> str:
    if np.isnan(values).any():
        return ""
    low, high = int(values.min()), int(values.max())
    return str(low) if low == high else f"{low} to {high}"


@style.styled
def loops(dataset: xr.Dataset) -> Figure:
    """The loops of the last look as text, one row for each first word and loop.

    Args:
        dataset: `kind`, `transient`, `period`, `loop`, `opening` `(parameter, probe, sample)`.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: The dataset lacks one of them, or the parameter axis.
    """
    looks = Looks.of(dataset, "words", (*NUMBERS, *TEXTS))
    rows = table(looks.data.isel({looks.name: -1}, drop=True))
    left_out = len(rows) - MOST
    cells = [[_lines(cell, i) for i, cell in enumerate(row)] for row in rows[:MOST]]
    heights = [max(len(lines) for lines in row) for row in cells]
    line, gap, top, side = 0.17, 0.09, 0.62, 0.15
    width = 2 * side + sum(_WIDTHS)
    height = top + sum(line * lines + gap for lines in heights) + 0.3
    figure = style.new_figure(width, height)
    starts = side + np.concatenate([[0], np.cumsum(_WIDTHS[:-1])])

    def write(x: float, y: float, text: str, **font: Any) -> None:
        font = {"fontsize": 9, "va": "baseline", "parse_math": False} | font
        figure.text(x / width, 1 - (y + 0.13) / height, text, **font)

    def rule(y: float, **line: Any) -> None:
        from matplotlib.lines import Line2D

        ends = side / width, 1 - side / width
        figure.add_artist(Line2D(ends, (1 - y / height,) * 2, **line))

    write(side, 0.08, f"What is said again and again, at {looks.name} {looks.at[-1]}", weight="bold")
    for x, head in zip(starts, HEADS, strict=True):
        write(x, 0.36, head, color="#666666")
    y = top - gap / 2
    previous = ""
    for row, lines in zip(cells, heights, strict=True):
        first = row[0][0]
        rule(y, color=style.INK if first != previous else style.FAINT, linewidth=0.6)
        for i, (x, cell) in enumerate(zip(starts, row, strict=True)):
            font = {"family": _MONO, "fontsize": 8.8} if i == len(starts) - 1 else {}
            for number, words in enumerate(cell if i or first != previous else []):
                write(x, y + gap / 2 + number * line, words, **font)
        y += line * lines + gap
        previous = first
    more = f"and {left_out} more  ·  " if left_out > 0 else ""
    rule(y, color=style.INK, linewidth=0.6)
    write(side, y + gap / 2, more + MEANINGS, color="#666666", fontsize=8)
    return figure


def _lines(cell: str, column: int) -> list[str]:
    """A cell in lines as long as its column is wide."""
    letters = _LETTERS if column == len(_WIDTHS) - 1 else int(_LETTERS * _WIDTHS[column] / _WIDTHS[-1])
    lines = textwrap.wrap(_drawable(cell), letters, max_lines=_LINES, placeholder=" ...")
    return lines or [""]


def _drawable(text: str) -> str:
    """Text without the letters that the font lacks."""
    known = _letters()
    return "".join(letter if ord(letter) in known else "\N{REPLACEMENT CHARACTER}" for letter in text)


@lru_cache(maxsize=1)
def _letters() -> frozenset[int]:
    from matplotlib.font_manager import findfont, get_font

    return frozenset(get_font(findfont(_MONO)).get_charmap())


def interactive(dataset: xr.Dataset) -> PlotlyFigure:
    """Words before the loop and its period, with the loop's text under the pointer and a menu of the words.

    Args:
        dataset: `kind`, `transient`, `period`, `loop`, `opening` `(parameter, probe, sample)`.

    Returns:
        A plotly figure.

    Raises:
        ValueError: The dataset lacks one of them, or the parameter axis.
    """
    looks = Looks.of(dataset, "words", (*NUMBERS, *TEXTS))
    found = Texts.of(looks)
    loop, opening = (looks.values(name, "sample").astype(str) for name in ("loop", "opening"))
    drawing = OneAtATime(looks.names)
    at = np.repeat(looks.at, found.kind.shape[-1])

    def said(texts: np.ndarray) -> list[str]:
        return ["<br>".join(textwrap.wrap(style.escape(text), 70)) for text in texts]

    for p in range(len(looks.names)):
        none = found.kind[:, p].ravel() == "undecided"
        top = np.full(none.sum(), float(found.steps))
        series = (
            (
                "words before the loop",
                at,
                found.before[:, p].ravel(),
                loop[:, p].ravel(),
                style.BLUE,
                "circle",
            ),
            ("its period", at, found.period[:, p].ravel(), loop[:, p].ravel(), style.ORANGE, "diamond"),
            (
                f"none in {found.steps} words",
                at[none],
                top,
                opening[:, p].ravel()[none],
                "#7a7a7a",
                "circle-open",
            ),
        )
        for name, x, y, texts, color, symbol in series:
            drawing.add(
                p,
                "scatter",
                x=x,
                # a logarithmic axis has no place for zero: it is drawn at one half
                y=np.where(y == 0, 0.5, y),
                text=said(texts),
                customdata=y,
                mode="markers",
                marker={"color": color, "symbol": symbol, "size": 7, "opacity": 0.75},
                name=name,
                hovertemplate=f"{looks.name} %{{x}}: %{{customdata:.0f}}<br>%{{text}}",
            )
    ticks = _ticks(found.steps)
    return drawing.laid_out(
        420,
        yaxis={
            **style.PLOTLY_AXIS, "title": {"text": "words"}, "type": "log",
            "tickvals": [tick or 0.5 for tick in ticks], "ticktext": [str(tick) for tick in ticks],
            "range": np.log10([0.4, 1.6 * found.steps]).tolist(),
        },
        xaxis={**style.PLOTLY_AXIS, "range": looks.span(), "title": {"text": style.escape(looks.label)}},
    )  # fmt: skip
