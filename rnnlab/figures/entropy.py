"""How much is known of a state as time goes on: entropy, and the bound that it stays below.

All read the dataset of `rnnlab.analysis.entropy`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from rnnlab.figures import style
from rnnlab.figures.looks import Grid, Looks, limits_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NEEDS = ("change", "change_error", "hadamard", "bound", "nearest", "nearest_error", "singular")
ERRORS = 2.0  # half width of bands and bars in standard errors


@style.styled
def over_time(dataset: xr.Dataset, *, probes: Sequence[Any] | None = None) -> Figure:
    """H_t - H_0 against time, one panel a probe, with the region that the Lipschitz constant allows.

    The line is the mean of log |det DF| added up, which the entropy follows if the map is one-to-one and
    stays below otherwise; dots are the estimate from neighbours, where it can be trusted. Bands and bars are
    two standard errors wide to either side; where the line leaves for minus infinity, that is said.

    Args:
        dataset: `change`, `bound` and so on, `(probe, time)`.
        probes: Names or positions. Default: all, or twelve spread over them.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: Variables are missing, or there is no such probe.
    """
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    if missing := [name for name in NEEDS if name not in dataset]:
        there = ", ".join(map(str, dataset)) or "nothing"
        raise ValueError(f"a figure of entropy needs {', '.join(missing)}: the dataset has {there}.")
    looks = Looks.of(dataset.expand_dims("look"), "entropy", NEEDS).pick(probes)
    change, spread, hadamard, bound, nearest, error, singular = (
        looks.values(name, "time")[0].astype(float) for name in NEEDS
    )
    nearest = nearest - nearest[:, :1]
    time = dataset["time"].values
    shown: list[Any] = [Line2D([], [], color=style.BLUE, label="mean of log |det DF|, added up")]
    if np.isfinite(nearest).any():
        shown.append(Line2D([], [], color=style.ORANGE, marker="o", ms=4, ls="", label="estimate"))
    shown.append(Line2D([], [], color=style.BLUE, linestyle=":", label="by column lengths"))
    if np.isfinite(bound[:, 1:]).any():
        shown.append(Line2D([], [], color=style.INK, linestyle="--", label=r"$t\,n \log L$"))
        shown.append(Patch(color=style.SKY, alpha=0.15, label="possible"))
    grid = Grid.of(looks, r"$H_t - H_0$ (nats)", x="time t", legend=shown)
    together = np.concatenate([v[np.isfinite(v)] for v in (change, nearest, np.zeros(1))])
    inner = np.abs(together).max() or 1.0
    near = [v[np.isfinite(v) & (np.abs(v) <= 2 * inner)] for v in (hadamard, bound)]
    low, high = limits_of(np.concatenate([together, *near]))
    for p, axes in enumerate(grid.panels):
        axes.axhline(0, color=style.INK, linewidth=0.7, zorder=1.5)
        allowed = np.where(np.isfinite(bound[p]), bound[p], np.nan)
        axes.fill_between(time, low, np.minimum(allowed, high), color=style.SKY, alpha=0.15, linewidth=0)
        axes.plot(time, allowed, color=style.INK, linestyle="--")
        axes.plot(time, hadamard[p], color=style.BLUE, linestyle=":")
        line = np.where(np.isfinite(change[p]), change[p], np.nan)
        band = ERRORS * spread[p]
        axes.fill_between(time, line - band, line + band, color=style.BLUE, alpha=0.25, linewidth=0)
        axes.plot(time, line, color=style.BLUE, marker="o" if np.isfinite(line).sum() < 2 else None, ms=4)
        axes.errorbar(
            time, nearest[p], ERRORS * error[p], color=style.ORANGE, fmt="o", ms=3.5, elinewidth=0.9
        )
        if np.isneginf(change[p]).any():
            first = int(np.isneginf(change[p]).argmax())
            said = (
                rf"$-\infty$ from t = {time[first]} on:"
                + f"\nDF singular at {singular[p, -1]:.0%} of the states"
            )
            axes.text(0.97, 0.06, said, transform=axes.transAxes, ha="right", fontsize=8)
    grid.panels[0].set_ylim(low, high)
    grid.panels[0].set_xlim(time[0], time[-1])
    return grid.figure
