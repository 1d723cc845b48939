"""Contraction over the looks: the certified bound, the largest stretch seen, and the rate in the long run.

All read the dataset of `rnnlab.analysis.contraction`, stacked along one more axis; see
`rnnlab.figures.looks`. The Lipschitz constant lies between `sampled` and `upper`; where `upper` is below 1 in
one norm, all orbits come together: there is one fixed point, and everything goes to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr

from rnnlab.figures import style
from rnnlab.figures.looks import Grid, Looks, OneAtATime, logarithmic_ticks

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from plotly.graph_objects import Figure as PlotlyFigure

COLORS = (style.BLUE, style.PURPLE, style.YELLOW)  # of the norms
FLOOR = 1e-6  # nothing is drawn below
ALL = "all probes (the largest)"


class Bounds(NamedTuple):
    """The dataset with its axes in a fixed order."""

    upper: np.ndarray  # (parameter, probe, norm)
    sampled: np.ndarray  # the same
    rate: np.ndarray  # (parameter, probe)
    norms: list[str]

    @classmethod
    def of(cls, looks: Looks) -> Bounds:
        upper = looks.values("upper", "norm").astype(float)
        rate = looks.values("rate", "norm", missing=np.nan).astype(float)
        with np.errstate(invalid="ignore"):
            rate = np.fmax.reduce(rate, axis=-1)
        norms = [str(norm) for norm in looks.data["norm"].values] if "norm" in looks.data.coords else []
        names = norms or [str(i) for i in range(upper.shape[-1])] * (upper.shape[-1] > 1) or [""]
        return cls(upper, looks.values("sampled", "norm", missing=np.nan).astype(float), rate, names)

    def folded(self) -> Bounds:
        """The worst probe, as one; a bound that is unknown for one probe is unknown for all."""
        return self._replace(
            upper=self.upper.max(1, keepdims=True),
            sampled=np.fmax.reduce(self.sampled, axis=1, keepdims=True),
            rate=np.fmax.reduce(self.rate, axis=1, keepdims=True),
        )

    def contracting(self) -> np.ndarray:
        """Where a bound below 1 is certified in some norm: `(parameter, probe)`.

        Of several probes folded into one, each must have it; they need not in the same norm.
        """
        return np.asarray((self.upper < 1).any(-1))

    def limits(self) -> tuple[float, float]:
        """Of the logarithmic axis, with the line 1 in it."""
        values = np.concatenate([self.upper.ravel(), self.sampled.ravel(), self.rate.ravel(), [1.0]])
        values = values[np.isfinite(values) & (values > FLOOR)]
        return float(values.min()) / 1.25, float(values.max()) * 1.25


@style.styled
def over_epochs(dataset: xr.Dataset, *, probes: Sequence[Any] | None = None, fold: bool = False) -> Figure:
    """Certified bound, sampled bound and rate on a logarithmic axis, one panel a probe.

    The Lipschitz constant of a norm lies in the shaded band between its two lines. Green ground: contracting
    for certain. Bounds of several norms have a colour each.

    Args:
        dataset: `upper` `(parameter, probe, norm)`, and `sampled`, `rate` if there.
        probes: Names or positions. Default: all, or twelve spread over them.
        fold: One panel with the largest values over these probes (by default over all).

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: The dataset lacks `upper` or the parameter axis; no such probe.
    """
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    looks = Looks.of(dataset, "contraction", ("upper",))
    looks = looks.pick(range(len(looks.names)) if fold and probes is None else probes)
    found = Bounds.of(looks)
    certain = found.contracting()
    if fold:
        certain = np.asarray(certain.all(1, keepdims=True))
        found, looks = found.folded(), looks._replace(names=[ALL])
    several = len(found.norms) > 1
    handles: list[Any] = [
        Line2D(
            [],
            [],
            color=COLORS[n % 3],
            label=f"certified bound, norm {name}" if several else "certified bound",
        )
        for n, name in enumerate(found.norms)
    ]
    if np.isfinite(found.sampled).any():
        handles.append(
            Line2D([], [], color=style.INK if several else COLORS[0], linestyle="--", label="largest seen")
        )
    if np.isfinite(found.rate).any():
        handles.append(
            Line2D([], [], color=style.INK, linestyle=":", linewidth=1.8, label=r"rate $e^{\lambda_1}$")
        )
    if certain.any():
        handles.append(Patch(color=style.GREEN, alpha=0.15, label="contracting for certain"))
    grid = Grid.of(looks, "growth per step", legend=handles)
    edges = looks.edges()
    alone = {"marker": "o", "ms": 4} if len(looks.at) == 1 else {}
    for p, axes in enumerate(grid.panels):
        for start, stop in _runs(certain[:, p]):
            axes.axvspan(edges[start], edges[stop], color=style.GREEN, alpha=0.12, linewidth=0, zorder=0.5)
        axes.axhline(1, color=style.INK, linewidth=0.9, zorder=1.5)
        for n in range(len(found.norms)):
            upper, sampled = found.upper[:, p, n], found.sampled[:, p, n]
            axes.fill_between(looks.at, sampled, upper, color=COLORS[n % 3], alpha=0.12, linewidth=0)
            axes.plot(looks.at, upper, color=COLORS[n % 3], **alone)
            axes.plot(looks.at, sampled, color=COLORS[n % 3], linestyle="--", linewidth=1.0, **alone)
        axes.plot(looks.at, found.rate[:, p], color=style.INK, linestyle=":", linewidth=1.8, **alone)
        axes.set_yscale("log")
    grid.panels[0].set_ylim(found.limits())
    _plain_ticks(grid.panels, logarithmic_ticks(found.limits()))
    return grid.figure


def _runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """Where flags are set: first, and one past the last.

    >>> _runs(np.array([True, True, False, True]))
    [(0, 2), (3, 4)]
    """
    ends = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(int)))
    return [(int(start), int(stop)) for start, stop in zip(ends[::2], ends[1::2], strict=True)]


def _plain_ticks(panels: Sequence[Any], ticks: list[float] | None) -> None:
    """Plain numbers, not powers of ten with crowds of minor labels."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

    if ticks is None:
        return
    for axes in panels:
        axes.yaxis.set_major_locator(FixedLocator(ticks))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())


def interactive(dataset: xr.Dataset) -> PlotlyFigure:
    """The same to zoom, with a menu of the probes, first all of them folded into the worst.

    Args:
        dataset: As for `over_epochs`.

    Returns:
        A plotly figure.

    Raises:
        ValueError: The dataset lacks `upper` or the parameter axis.
    """
    looks = Looks.of(dataset, "contraction", ("upper",))
    every = Bounds.of(looks)
    certain = every.contracting()
    names = looks.names
    if len(names) > 1:
        fold = every.folded()
        every = every._replace(
            upper=np.concatenate([fold.upper, every.upper], 1),
            sampled=np.concatenate([fold.sampled, every.sampled], 1),
            rate=np.concatenate([fold.rate, every.rate], 1),
        )
        certain = np.concatenate([certain.all(1, keepdims=True), certain], 1)
        names = [ALL, *names]
    low, high = every.limits()
    ticks = logarithmic_ticks((low, high))
    edges = looks.edges()
    mode = "lines" if len(looks.at) > 1 else "markers"
    drawing = OneAtATime(names)
    for p in range(len(names)):
        if certain[:, p].any():
            drawing.add(
                p,
                "bar",
                x=((edges[1:] + edges[:-1]) / 2)[certain[:, p]],
                width=np.diff(edges)[certain[:, p]],
                base=low,
                y=np.full(int(certain[:, p].sum()), high - low),
                marker={"color": style.GREEN, "opacity": 0.14, "line": {"width": 0}},
                name="contracting for certain",
                hoverinfo="skip",
            )
        for n, norm in enumerate(every.norms):
            color = COLORS[n % 3]
            said = f", norm {norm}" if len(every.norms) > 1 else ""
            for name, values, dash in (
                (f"certified bound{said}", every.upper[:, p, n], "solid"),
                (f"largest seen{said}", every.sampled[:, p, n], "dash"),
            ):
                if np.isfinite(values).any():
                    drawing.add(
                        p,
                        "scatter",
                        x=looks.at,
                        y=_positive(values),
                        mode=mode,
                        line={"color": color, "dash": dash, "width": 2 if dash == "solid" else 1.4},
                        marker={"color": color},
                        name=style.escape(name),
                        hovertemplate=f"{looks.name} %{{x}}: %{{y:.5g}}",
                    )
        if np.isfinite(every.rate[:, p]).any():
            drawing.add(
                p,
                "scatter",
                x=looks.at,
                y=_positive(every.rate[:, p]),
                mode=mode,
                line={"color": "#7a7a7a", "dash": "dot", "width": 2.4},
                marker={"color": "#7a7a7a"},
                name="rate e<sup>λ<sub>1</sub></sup>",
                hovertemplate=f"{looks.name} %{{x}}: %{{y:.5g}}",
            )
    drawing.figure.add_hline(1, line={"color": "#7a7a7a", "width": 1.2})
    return drawing.laid_out(
        500,
        110,
        bargap=0,
        barmode="overlay",
        xaxis={**style.PLOTLY_AXIS, "title": {"text": looks.label}, "range": looks.span()},
        yaxis={
            **style.PLOTLY_AXIS,
            "title": {"text": "growth per step"},
            "type": "log",
            "range": (float(np.log10(low)), float(np.log10(high))),
            **({"tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]} if ticks else {"dtick": 1}),
        },
    )


def _positive(values: np.ndarray) -> np.ndarray:
    """What a logarithmic axis can show."""
    return np.where(values > 0, values, np.nan).astype(np.float32)
