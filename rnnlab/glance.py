"""What a store holds of one analysis, read straight from its files: for tables over a thousand runs.

zarr spends about a millisecond on each small array, of which decoding takes a fiftieth. What is read here is
what `rnnlab.store.Store` writes; whatever else is met is left to it, and so is saying what is damaged.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numcodecs import Blosc, VLenUTF8, Zstd

from rnnlab.labelled import missing
from rnnlab.store import MARK, Store

_DECODERS = {"blosc": Blosc().decode, "zstd": Zstd().decode, "vlen-utf8": VLenUTF8().decode}


def glance(
    store: str | Path, name: str, *, last: bool = True, only: Collection[str] | None = None
) -> tuple[dict[str, xr.Variable], set[str]]:
    """The looks of an analysis: the same as `Store(store).read(name)`, ten times faster.

    Args:
        store: Directory of a `Store`.
        name: The analysis.
        last: The last look alone, without the axis `epoch`; else all of them.
        only: Names of the variables to read; None reads all. Coordinates of their axes come with them.

    Returns:
        Variables by name, in memory, and which of them are coordinates: `epoch` is there always.

    Raises:
        ValueError: There is no such analysis, or the store is damaged.
        OSError: It cannot be read.

    Example:
        >>> import tempfile
        >>> store = Store(tempfile.mkdtemp())
        >>> store.append("orbits", xr.Dataset({"y": ("time", [0.5, 0.25])}), epoch=10)
        >>> variables, coordinates = glance(store.path, "orbits")
        >>> variables["y"].values.tolist(), int(variables["epoch"]), coordinates
        ([0.5, 0.25], 10, {'epoch'})
    """
    try:
        return _from_files(Path(store) / name, last, only)
    except (OSError, ValueError, TypeError, KeyError, IndexError, RuntimeError):
        found = Store(store).read(name)
    if only is not None:
        epoch = found["epoch"]
        found = found[[key for key in only if key in found.data_vars]].assign_coords(epoch=epoch)
    found = (found.isel(epoch=-1) if last else found).load()
    return {str(key): variable for key, variable in found.variables.items()}, set(map(str, found.coords))


def _from_files(
    folder: Path, last: bool, only: Collection[str] | None
) -> tuple[dict[str, xr.Variable], set[str]]:
    group = json.loads((folder / "zarr.json").read_bytes())["attributes"]
    looks, sizes = int(group[MARK]["looks"]), group[MARK]["sizes"]
    coordinates = {"epoch", *group["coordinates"].split()}
    arrays = {path.parent.name: json.loads(path.read_bytes()) for path in folder.glob("*/zarr.json")}
    if only is not None:
        kept = {key: array for key, array in arrays.items() if key in only and key not in coordinates}
        axes = {axis for array in kept.values() for axis in array["dimension_names"]}
        arrays = kept | {
            key: array
            for key, array in arrays.items()
            if key == "epoch" or (key in coordinates and axes >= set(array["dimension_names"]))
        }
    whole = {"epoch": (looks - 1 if last else 0, looks), **{axis: (0, size) for axis, size in sizes.items()}}
    variables = {}
    for key, array in arrays.items():
        axes = array["dimension_names"]
        values = _values(folder / key, array, [whole[axis] for axis in axes])
        if last and axes[:1] == ["epoch"]:
            axes, values = axes[1:], values[0]
        variables[key] = xr.Variable(axes, values, array["attributes"])
    return variables, coordinates & variables.keys()


def _values(folder: Path, array: dict[str, Any], bounds: list[tuple[int, int]]) -> np.ndarray:
    """What is between the bounds, one pair an axis; a chunk that has no file holds nothing."""
    chunk = array["chunk_grid"]["configuration"]["chunk_shape"]
    serializer, *compressors = array["codecs"]
    text = array["data_type"] == "string"
    dtype = np.dtype(object if text else array["data_type"])
    if serializer["name"] == "bytes" and serializer.get("configuration") == {"endian": "big"}:
        raise ValueError("big-endian")  # nothing that a Store writes
    values = np.full([stop - start for start, stop in bounds], "" if text else missing(dtype), dtype)
    for place in _chunks(chunk, bounds):
        try:
            content: Any = folder.joinpath("c", *map(str, place)).read_bytes()
        except FileNotFoundError:
            continue
        for codec in reversed(compressors):
            content = _DECODERS[codec["name"]](content)
        content = _DECODERS["vlen-utf8"](content) if text else np.frombuffer(content, dtype)
        region, own = [], []
        for i, size, (start, stop) in zip(place, chunk, bounds, strict=True):
            low, high = max(i * size, start), min((i + 1) * size, stop)
            region.append(slice(low - start, high - start))
            own.append(slice(low - i * size, high - i * size))
        values[tuple(region)] = content.reshape(chunk)[tuple(own)]
    return np.array(values.tolist(), str) if text else values


def _chunks(chunk: list[int], bounds: list[tuple[int, int]]) -> Iterator[tuple[int, ...]]:
    """The numbers of the chunks that have a part within the bounds."""
    return itertools.product(
        *(range(start // size, -(-stop // size)) for size, (start, stop) in zip(chunk, bounds, strict=True))
    )
