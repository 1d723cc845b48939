"""Labelled results whose axes differ in length: what fills the gaps, and how they are put together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr


def missing(dtype: np.dtype) -> Any:
    """What a cell holds that nothing has filled.

    NaN for floats and complex numbers, NaT for times, -1 for integers (the largest value where unsigned),
    False for booleans, "" for text.

    Example:
        >>> missing(np.dtype(int)), missing(np.dtype(float)), missing(np.dtype("U5"))
        (np.int64(-1), nan, '')
    """
    if dtype.kind in "iu":
        return np.array(-1).astype(dtype)[()]
    return {"b": False, "T": "", "U": "", "O": "", "M": "NaT", "m": "NaT"}.get(dtype.kind, np.nan)


def concatenate(parts: Sequence[xr.Dataset], dim: str) -> xr.Dataset:
    """Datasets one after another along `dim`; other axes become as long as the longest, filled by `missing`.

    The number of fixed points, say, differs from probe to probe. Coordinates and attributes are those of
    the first.

    Args:
        parts: At least one dataset; all with the same variables.
        dim: The axis to join. Variables without it are those of the first dataset.

    Example:
        >>> few, many = xr.Dataset({"point": ("index", [1.0])}), xr.Dataset({"point": ("index", [2.0, 3.0])})
        >>> both = concatenate([few.expand_dims("probe"), many.expand_dims("probe")], "probe")
        >>> both.point.values.tolist()
        [[1.0, nan], [2.0, 3.0]]
    """
    sizes: dict[Any, int] = {}
    for part in parts:
        for axis, size in part.sizes.items():
            sizes[axis] = max(size, sizes.get(axis, 0))
    sizes.pop(dim, None)
    padded = [_pad(part, sizes) for part in parts]
    return xr.concat(
        padded, dim, data_vars="minimal", coords="minimal", compat="override", combine_attrs="override"
    )


def _pad(dataset: xr.Dataset, sizes: dict[Any, int]) -> xr.Dataset:
    short = {axis for axis, size in dataset.sizes.items() if size < sizes.get(axis, size)}
    if not short:
        return dataset
    odd = short & set(dataset.coords)
    if odd:
        raise ValueError(f"parts differ along {', '.join(map(str, odd))}, which has coordinates.")
    filled = {}
    for name, variable in dataset.variables.items():
        if short & set(variable.dims):
            shape = tuple(sizes.get(axis, size) for axis, size in variable.sizes.items())
            values = np.full(shape, missing(variable.dtype), variable.dtype)
            values[tuple(slice(size) for size in variable.shape)] = variable.values
            variable = xr.Variable(variable.dims, values, variable.attrs)
        filled[name] = variable
    return xr.Dataset(filled, attrs=dataset.attrs).set_coords(list(dataset.coords))
