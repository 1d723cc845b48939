"""Orbits made ready for drawing: axes in a fixed order, and no dot that would fall on another."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

AXES = ("probe", "sample", "time", "observable")
CELLS = 400  # points closer than this part of an axis make one dot


class Points(NamedTuple):
    """Distinct points of one probe: places on the parameter axis, values, first differences."""

    at: np.ndarray
    y: np.ndarray
    dy: np.ndarray
    settled: np.ndarray


class Orbits(NamedTuple):
    """The dataset with its axes in a fixed order, one observable of it."""

    name: str  # of the parameter
    label: str  # of its axis, with units
    at: np.ndarray  # (parameter,)
    names: list[str]  # (probe,)
    y: np.ndarray  # (parameter, probe, sample, time)
    settled: np.ndarray  # (parameter, probe, sample)

    @classmethod
    def of(cls, dataset: xr.Dataset, observable: Any) -> Orbits:
        if "y" not in dataset:
            raise ValueError(
                f"a bifurcation diagram needs y: the dataset has {', '.join(map(str, dataset))}."
            )
        others = [str(dim) for dim in dataset["y"].dims if dim not in AXES]
        if not others:
            raise ValueError(
                f"a bifurcation diagram needs a parameter axis beside {', '.join(AXES)}: where that is the "
                'probe, rename it, for instance dataset.rename(probe="r").'
            )
        name, rest = others[0], others[1:]
        if rest:
            raise ValueError(
                f"a bifurcation diagram has one parameter axis, {name!r}: select from {rest} first."
            )
        y = dataset["y"].expand_dims([dim for dim in AXES if dim not in dataset["y"].dims])
        y = select(y, "observable", observable).transpose(name, *AXES[:3])
        settled = (
            dataset["settled"] if "settled" in dataset else xr.ones_like(y.isel(time=0, drop=True), bool)
        )
        settled = settled.broadcast_like(y.isel(time=0, drop=True)).transpose(name, *AXES[:2])
        at = np.asarray(y[name].values) if name in y.coords else np.arange(y.sizes[name])
        units = y[name].attrs.get("units") if name in y.coords else None
        return cls(
            name=name,
            label=f"{name} ({units})" if units else name,
            at=at,
            names=axis_names(y, "probe") if "probe" in dataset["y"].dims else [""],
            y=np.asarray(y.values, float),
            settled=np.asarray(settled.values, bool),
        )

    def pick(self, *probes: Any) -> Orbits:
        """Only these probes, in this order."""
        chosen = [position(self.names, probe, "probe") for probe in probes]
        return self._replace(
            names=[self.names[i] for i in chosen], y=self.y[:, chosen], settled=self.settled[:, chosen]
        )

    def span(self) -> tuple[float, float]:
        """Limits of the parameter axis."""
        low, high = float(self.at.min()), float(self.at.max())
        margin = 0.02 * (high - low) or 0.5
        return low - margin, high + margin

    def limits(self) -> tuple[float, float]:
        """Of the y axis: all that is finite, but for looks that have not settled and are far out of scale."""
        finite = np.isfinite(self.y)
        extent = np.abs(self.y).max((1, 2, 3), initial=0, where=finite)
        far = (extent > 3 * np.quantile(extent, 0.75))[:, None, None] & ~self.settled
        kept = self.y[finite & ~far[..., None]]
        if not kept.size:
            return -1.0, 1.0
        low, high = float(kept.min()), float(kept.max())
        margin = 0.05 * (high - low) or 0.5 * max(abs(high), 1e-3)
        return low - margin, high + margin

    def visits(self, probe: int, limits: tuple[float, float], pieces: int) -> np.ndarray:
        """How often each piece of the y axis is visited: `(settled no or yes, look, piece)`."""
        y = self.y[:, probe]
        seen = (y >= limits[0]) & (y <= limits[1])
        kind = self.settled[:, probe, :, None] * np.ones(y.shape, int)
        look = np.arange(len(self.at))[:, None, None]
        place = (kind * len(self.at) + look) * pieces + cells(np.where(seen, y, limits[0]), limits, pieces)
        shape = (2, len(self.at), pieces)
        return np.bincount(place[seen], minlength=math.prod(shape)).reshape(shape)

    def points(
        self,
        probe: int,
        limits: tuple[float, float],
        *,
        differences: bool = False,
        looks: np.ndarray | slice = slice(None),
        max_points: int | None = None,
    ) -> Points:
        """Distinct points of a probe, at most so many: looks with many give up some of theirs."""
        at, y, settled = self.at[looks], self.y[looks, probe], self.settled[looks, probe, :, None]
        if differences and y.shape[-1] < 2:
            raise ValueError("a first difference needs two time steps: give orbits of at least 2 steps.")
        with np.errstate(invalid="ignore"):
            dy = np.diff(y, axis=-1) if differences else np.zeros_like(y)
        at_y, y = y, y[..., 1:] if differences else y
        look = np.broadcast_to(np.arange(len(at))[:, None, None], y.shape)
        inside = (at_y >= limits[0]) & (at_y <= limits[1])
        seen = inside[..., 1:] & inside[..., :-1] if differences else inside
        look, y, dy, settled = look[seen], y[seen], dy[seen], np.broadcast_to(settled, y.shape)[seen]
        most = reach(dy, limits)
        first = distinct(look, settled, cells(y, limits), cells(dy, (-most, most)))
        if max_points is not None:
            first = first[thin(look[first], max_points)]
        return Points(at[look[first]], y[first], dy[first], settled[first])


def reach(dy: np.ndarray, limits: tuple[float, float]) -> float:
    """Half the axis of first differences: the tail of a decay must not look like a cycle."""
    return max(float(np.abs(dy).max(initial=0)), 0.1 * (limits[1] - limits[0]))


def cells(values: np.ndarray, limits: tuple[float, float], count: int = CELLS) -> np.ndarray:
    """Position of each value on a grid of so many cells between the limits."""
    low, high = limits
    return ((values - low) * ((count - 1) / (high - low) if high > low else 0.0)).astype(np.int64)


def distinct(*keys: np.ndarray) -> np.ndarray:
    """Positions of the first of each group of points that agree in all keys."""
    joint = np.zeros(keys[0].shape, np.int64)
    for key in keys:
        joint = joint * CELLS + key if key.dtype != bool else joint * 2 + key
    return np.unique(joint, return_index=True)[1]


def thin(look: np.ndarray, most: int) -> np.ndarray:
    """Positions of at most `most` points; the same bound for every look, so that no fixed point is lost."""
    if len(look) <= most:
        return np.arange(len(look))
    counts = np.bincount(look)
    bounds = np.arange(1, counts.max() + 1)
    totals = np.minimum(counts[:, None], bounds).sum(0)
    bound = max(1, int(np.searchsorted(totals, most, side="right")))
    order = np.random.default_rng(0).permutation(len(look))
    order = order[np.argsort(look[order], kind="stable")]
    rank = np.arange(len(look)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.sort(order[rank < bound])


def select(array: xr.DataArray, dim: str, choice: Any) -> xr.DataArray:
    return array.isel({dim: position(axis_names(array, dim), choice, dim)}, drop=True)


def axis_names(array: xr.DataArray, dim: str) -> list[str]:
    if dim in array.coords:
        return [str(name) for name in array[dim].values]
    return [f"{dim} {i}" for i in range(array.sizes[dim])]


def position(names: list[str], choice: Any, what: str) -> int:
    """Where a name stands, or a position counted from 0; whole numbers are positions, "1" may be a word.

    Example:
        >>> position(["1", "0"], 1, "word"), position(["1", "0"], "1", "word")
        (1, 0)
    """
    if isinstance(choice, int | np.integer) and -len(names) <= choice < len(names):
        return int(choice) % len(names)
    if str(choice) in names:
        return names.index(str(choice))
    raise ValueError(f"{what}={choice!r} is not there: choose a position or one of {', '.join(names)}.")
