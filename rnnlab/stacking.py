"""Arrays of many runs as one: aligned by their labels, and spread over a grid of parameters."""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from rnnlab.labelled import missing

Part = Mapping[str, xr.Variable]


def stack(parts: Sequence[Part | None], dim: str, coords: Collection[str] = ()) -> xr.Dataset:
    """Variables of many runs along a new first axis.

    An axis that has labels (a variable of its name along it alone) is aligned by them: it gets all labels
    that there are, numbers in their order, others in that of appearance. Any other axis becomes as long as
    the longest. What a part does not have is filled by `rnnlab.labelled.missing`: NaN for floats, -1 for
    integers, "" for text.

    Args:
        parts: The variables of each run by name; None where a run has none.
        dim: Name of the new axis.
        coords: Names of those that are coordinates. One that is the same wherever it is there does not get
            the new axis.

    Returns:
        One dataset, without variables if all parts are None. Attributes of variables are those of the first.

    Raises:
        ValueError: A variable has other axes in one part than in another.

    Example:
        >>> slow = {"probe": xr.Variable("probe", ["a", "b"]), "y": xr.Variable("probe", [1.0, 2.0])}
        >>> fast = {"probe": xr.Variable("probe", ["b", "c"]), "y": xr.Variable("probe", [3.0, 4.0])}
        >>> stack([slow, fast, None], "run")["y"].sel(probe="b").values.tolist()
        [2.0, 3.0, nan]
    """
    there = [part for part in parts if part is not None]
    sizes: dict[Hashable, int] = {}
    for part in there:
        for variable in part.values():
            for axis, size in variable.sizes.items():
                sizes[axis] = max(size, sizes.get(axis, 0))
    labels: dict[Hashable, np.ndarray] = {}
    places: list[dict[Hashable, np.ndarray]] = [{} for _ in there]
    for axis in sizes:
        if aligned := _aligned(there, str(axis)):
            labels[axis] = aligned[0]
            for at, own in zip(places, aligned[1], strict=True):
                at[axis] = own
    sizes |= {axis: len(every) for axis, every in labels.items()}
    known = iter(places)
    where = [{} if part is None else next(known) for part in parts]

    variables: dict[str, xr.Variable] = {}
    for name in dict.fromkeys(name for part in there for name in part):
        first = next(part[name] for part in there if name in part)
        if name in labels:
            variables[name] = xr.Variable(name, labels[name], first.attrs)
            continue
        dtype = np.result_type(*{part[name].dtype for part in there if name in part})
        shape = tuple(sizes[axis] for axis in first.dims)
        shared = np.full(shape, missing(dtype), dtype) if name in coords else None
        values = np.full((len(parts), *shape), missing(dtype), dtype)
        for i, part in enumerate(parts):
            if part is None or name not in part:
                continue
            own = part[name]
            if own.dims != first.dims:
                raise ValueError(
                    f"{name!r} has the axes {own.dims} in one run and {first.dims} in another: "
                    "open runs that were looked at in the same way."
                )
            region = _region(own, where[i])
            values[(i, *region)] = own.values
            if shared is not None:
                shared[region] = own.values
        attributes = first.attrs
        if shared is not None and all(
            np.array_equal(shared[_region(part[name], at)], part[name].values, equal_nan=dtype.kind in "fc")
            for part, at in zip(there, places, strict=True)
            if name in part
        ):
            variables[name] = xr.Variable(first.dims, shared, attributes)
        else:
            variables[name] = xr.Variable((dim, *first.dims), values, attributes)
    return xr.Dataset(variables).set_coords([name for name in variables if name in coords])


def spread(dataset: xr.Dataset, dim: str, axes: Mapping[str, np.ndarray], cells: np.ndarray) -> xr.Dataset:
    """An axis of runs as a grid of parameters; cells that no run is in are filled by `missing`.

    Args:
        dataset: With an axis `dim` of n entries, which has no labels of its own.
        dim: The axis to replace.
        axes: Names of the new axes, with their labels.
        cells: `(n,)`, for each entry the number of its cell, the last of the new axes varying fastest.

    Example:
        >>> seen = xr.Dataset({"y": ("run", [1.0, 2.0, 3.0])})
        >>> grid = spread(seen, "run", {"a": np.array([5, 6]), "seed": np.array([1, 2])}, np.array([0, 1, 3]))
        >>> grid["y"].values.tolist()
        [[1.0, 2.0], [nan, 3.0]]
    """
    shape = tuple(len(labels) for labels in axes.values())
    variables: dict[Any, xr.Variable] = {name: xr.Variable(name, labels) for name, labels in axes.items()}
    for name, variable in dataset.variables.items():
        if dim in variable.dims:
            inner = tuple(axis for axis in variable.dims if axis != dim)
            variable = variable.transpose(dim, *inner)
            filled = np.full((math.prod(shape), *variable.shape[1:]), missing(variable.dtype), variable.dtype)
            filled[cells] = variable.values
            values = filled.reshape(*shape, *variable.shape[1:])
            variable = xr.Variable((*axes, *inner), values, variable.attrs)
        variables[name] = variable
    return xr.Dataset(variables, attrs=dataset.attrs).set_coords([*axes, *dataset.coords])


def _aligned(parts: Sequence[Part], axis: str) -> tuple[np.ndarray, list[np.ndarray]] | None:
    """All labels of an axis, and where those of each part are among them; None where a part has none.

    A label that occurs twice in a part is two: the first and the second of its name.
    """
    having = [any(axis in variable.dims for variable in part.values()) for part in parts]
    given = [part.get(axis) for part in parts]
    if any(has and (own is None or own.dims != (axis,)) for has, own in zip(having, given, strict=True)):
        return None
    distinct = {
        own.values.tobytes() + str(own.dtype).encode(): own.values for own in given if own is not None
    }
    numbered = {key: _numbered(values) for key, values in distinct.items()}
    every = list(dict.fromkeys(label for labels in numbered.values() for label in labels))
    dtype = np.result_type(*(values.dtype for values in distinct.values()))
    if dtype.kind in "iufM":
        every.sort()
    place = {label: i for i, label in enumerate(every)}
    places = {key: np.array([place[label] for label in labels], int) for key, labels in numbered.items()}
    none = np.empty(0, int)
    found = [none if own is None else places[own.values.tobytes() + str(own.dtype).encode()] for own in given]
    return np.array([label for label, _ in every], dtype), found


def _numbered(labels: np.ndarray) -> list[tuple[Any, int]]:
    """Each label and how many of its name were before it."""
    seen: dict[Any, int] = {}
    numbered = []
    for label in labels:
        numbered.append((label, seen.get(label, 0)))
        seen[label] = seen.get(label, 0) + 1
    return numbered


def _region(variable: xr.Variable, places: Mapping[Hashable, np.ndarray]) -> Any:
    """Where a part's values of a variable are among those of all parts."""
    if not any(axis in places for axis in variable.dims):
        return tuple(slice(size) for size in variable.shape)
    return np.ix_(*(places.get(axis, np.arange(size)) for axis, size in variable.sizes.items()))
