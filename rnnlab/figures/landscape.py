"""The cost around given weights: a curve along one direction, a map over two, and training's path in it.

All read the dataset of `rnnlab.analysis.landscape`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from rnnlab.figures import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DECADES = 20.0  # largest over smallest value from which colours and axis are logarithmic
LEVELS = 12


@style.styled
def curve(dataset: xr.Dataset) -> Figure:
    """The cost along one direction, with its roughness in words; gaps where it is not finite.

    Args:
        dataset: A landscape with the axis a.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: There is no cost, or it has other axes.
    """
    cost = _cost(dataset, ("a",))
    at, values = cost["a"].values, np.where(np.isfinite(cost.values), cost.values, np.nan)
    figure = style.new_figure(7.5, 3.6)
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    dot = "." if np.isfinite(values).sum() < 60 else ""
    axes.plot(at, values, lw=1.0, marker=dot, color=style.BLUE)
    axes.plot(0, float(dataset["center_cost"]), "o", mfc="none", mec=style.ORANGE, ms=8, zorder=3)
    if _logarithmic(values):
        axes.set_yscale("log")
    axes.set_xlabel(_axis(dataset, 0))
    axes.set_ylabel(f"cost of {dataset.attrs.get('horizon', 'all')} steps")
    axes.set_title(_said(dataset), fontsize=9, loc="left")
    return figure


@style.styled
def surface(dataset: xr.Dataset) -> Figure:
    """The cost over two directions as a map with contours, and the path of training where there is one.

    White: not finite. Colours are logarithmic where the cost spans decades. A variable `path` `(epoch, axis)`
    is drawn from its first epoch to its last (a ring); what of it lies off the plane is in `path_share`,
    the share of its variance that the two directions explain.

    Args:
        dataset: A landscape with the axes a and b.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: There is no cost, or it has other axes.
    """
    from matplotlib.colors import LogNorm, Normalize

    cost = _cost(dataset, ("b", "a"))
    a, b = cost["a"].values, cost["b"].values
    values = np.ma.masked_invalid(cost.values)
    figure = style.new_figure(6.8, 5.2)
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    low, high = (float(values.min()), float(values.max())) if values.count() else (0.0, 1.0)
    logarithmic = _logarithmic(values.compressed())
    norm = LogNorm(low, high) if logarithmic else Normalize(low, high)
    mesh = axes.pcolormesh(a, b, values, cmap="viridis", norm=norm, shading="nearest", rasterized=True)
    if high > low:
        levels = np.geomspace(low, high, LEVELS) if logarithmic else np.linspace(low, high, LEVELS)
        axes.contour(a, b, values, levels[1:-1], colors="white", linewidths=0.5, alpha=0.6)
    if "path" in dataset:
        path = dataset["path"].transpose("epoch", "axis").values
        epochs = dataset["epoch"].values
        axes.plot(*path.T, color=style.ORANGE, lw=1.2, marker=".", ms=4)
        axes.plot(*path[-1], "o", mfc="none", mec=style.ORANGE, ms=9, mew=1.5)
        for row in (0, -1):
            axes.annotate(
                f"epoch {epochs[row]}", path[row], (6, 6), textcoords="offset points", fontsize=8,
                color="white", bbox={"fc": style.INK, "ec": "none", "alpha": 0.6, "pad": 1.5},
            )  # fmt: skip
    axes.plot(0, 0, "+", color="white", ms=10, mew=1.5)
    axes.grid(False)
    axes.set_xlim(a[0], a[-1])
    axes.set_ylim(b[0], b[-1])
    axes.set_xlabel(_axis(dataset, 0))
    axes.set_ylabel(_axis(dataset, 1))
    figure.colorbar(mesh, ax=axes, label=f"cost of {dataset.attrs.get('horizon', 'all')} steps")
    return figure


def _cost(dataset: xr.Dataset, axes: tuple[str, ...]) -> xr.DataArray:
    if "cost" not in dataset or set(dataset["cost"].dims) != set(axes):
        there = ", ".join(map(str, dataset["cost"].dims)) if "cost" in dataset else "no cost"
        raise ValueError(f"a landscape with the axes {', '.join(sorted(axes))} is needed: there is {there}.")
    return dataset["cost"].transpose(*axes)


def _logarithmic(values: np.ndarray) -> bool:
    values = values[np.isfinite(values)]
    return bool(len(values) and values.min() > 0 and values.max() / values.min() > DECADES)


def _axis(dataset: xr.Dataset, axis: int) -> str:
    """Name of a direction and its unit, with the share of the path that it explains."""
    name, length = str(dataset["axis"].values[axis]), float(dataset["length"].values[axis])
    share = (
        f", {100 * float(dataset['path_share'][axis]):.3g} % of the path" if "path_share" in dataset else ""
    )
    unit = "" if abs(length - 1) < 1e-9 else f", in lengths of {length:.3g}"
    return f"along {name}{unit}{share}"


def _said(dataset: xr.Dataset) -> str:
    density, variation, second, lost = (
        float(dataset[name]) for name in ("minima_density", "variation", "second_difference", "lost")
    )
    gone = f", {100 * lost:.2g} % not finite" if lost else ""
    return (
        f"{density:.3g} local minima per unit of θ, variation {variation:.3g} ranges, "
        f"second difference {second:.2g} ranges{gone}"
    )
