"""Results of analyses on disk: what was seen at each look, safe against a kill at any moment."""

from __future__ import annotations

import contextlib
import json
import operator
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
import zarr
from xarray.backends import ZarrStore
from zarr.codecs import BloscCodec

from rnnlab.labelled import missing

MARK = "rnnlab_committed"  # attribute of a group: {"looks": how many are whole, "sizes": of the other axes}
EPOCHS_PER_CHUNK = 4096  # epochs are read at every opening: one small file holds them all


class Store:
    """Analyses on disk: one zarr group an analysis, one chunk a look.

    A look is written array by array; the group's metadata file, replaced in one move, counts it last. What is
    not counted was never there: a process may be killed at any moment, readers see whole looks only, and the
    next append writes over what was left behind. One process writes; any number may read meanwhile.

    Variables get the leading axis `epoch`. Coordinates are stored once and must stay what they are. Other
    axes may change in length from look to look (the number of fixed points, say): each becomes as long as in
    the longest look, and missing cells hold NaN (floats, complex), NaT (times), -1 (integers; the largest
    value where unsigned), False (booleans) or "" (text).

    Args:
        path: Directory of the store; made at the first append.

    Raises:
        ValueError: There is something else at `path`, or the store is damaged.
        OSError: The directory cannot be read.

    Example:
        >>> import tempfile
        >>> store = Store(tempfile.mkdtemp())
        >>> for epoch in (100, 300):
        ...     look = xr.Dataset({"y": ("probe", [0.1 * epoch, 2.0])}, coords={"probe": ["slow", "fast"]})
        ...     store.append("bifurcation", look, epoch=epoch)
        >>> store.names
        ('bifurcation',)
        >>> float(store.read("bifurcation").y.sel(epoch=300, probe="slow"))
        30.0
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        with self._errors("read"):
            entries = [entry.name for entry in self.path.iterdir()] if self.path.exists() else []
        # a first append killed on its way leaves a partial file, which is no stranger
        if "zarr.json" not in entries and not all(entry.endswith(".partial") for entry in entries):
            raise ValueError(f"{self.path} is no analysis store: give an empty or a new directory.")
        _ = self.names  # opens every group, and says so where one is damaged

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r})"

    def __contains__(self, name: object) -> bool:
        return name in self.names

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the analyses that have at least one look, in alphabetical order."""
        with self._errors("read"):
            if not (self.path / "zarr.json").exists():
                return ()
            groups = zarr.open_group(self.path, mode="r").groups()
            return tuple(sorted(name for name, group in groups if _committed(group)[0]))

    def append(self, name: str, dataset: xr.Dataset, epoch: int) -> None:
        """Add one look. When this returns, the look survives a kill of the process.

        Args:
            name: The analysis: letters, digits, `_` and `-`.
            dataset: What was seen, without an `epoch` axis; the same variables at every look. Attributes of
                the dataset are kept from the latest look, attributes of a variable from the first.
            epoch: When it was seen; later than every look before.

        Raises:
            ValueError: The look does not fit those before it, or holds what cannot be stored.
            OSError: The directory cannot be written: no permission, a full disk.
        """
        epoch = operator.index(epoch)
        if not re.fullmatch(r"\w[\w-]*", name):
            raise ValueError(f"{name!r} cannot name an analysis: use letters, digits, _ and -.")
        attributes = _plain(dataset.attrs, repr(name))
        look = {str(key): _Piece.of(dataset, key) for key in dataset.variables}
        if "epoch" in look or "epoch" in dataset.sizes:
            raise ValueError(
                f"a look of {name!r} has an 'epoch' already: give one look, the store adds the axis."
            )
        sizes = {str(dim): size for dim, size in dataset.sizes.items()}
        with self._errors("write"):
            root = zarr.open_group(self.path, mode="a")
            group = root.require_group(name)
            looks, before = _committed(group)
            if not looks:  # new, truncated to nothing, or killed before its first look was whole
                group, before = root.create_group(name, overwrite=True), sizes
                for key, piece in look.items():
                    piece.create(group, key, chunks=tuple(max(n, 1) for n in piece.values.shape))
                _Piece.epoch(epoch).create(group, "epoch", chunks=(), looks_per_chunk=EPOCHS_PER_CHUNK)
            arrays = dict(group.arrays())
            last = arrays["epoch"][looks - 1] if looks else None
            mark = arrays.pop("epoch")

        if last is not None and epoch <= int(last):  # type: ignore[call-overload]
            raise ValueError(
                f"epoch={epoch} is not after {last}, the last look of {name!r} in {self.path}: epochs must "
                f"increase; truncate({epoch - 1}) forgets what is there from this epoch on."
            )
        if set(look) != set(arrays):
            odd = ", ".join(sorted(set(look) ^ set(arrays)))
            raise ValueError(
                f"not all looks of {name!r} in {self.path} have {odd}: give the same at every look."
            )
        if looks:
            for key, piece in look.items():
                piece.check_fits(arrays[key], before, f"{key!r} of {name!r} in {self.path} at epoch {epoch}")

        sizes = {dim: max(size, before.get(dim, 0)) for dim, size in sizes.items()}
        with self._errors("write"):
            for key, piece in look.items():
                piece.write(arrays[key], looks, before, sizes)
            _Piece.epoch(epoch).write(mark, looks, before, sizes)
            attributes["coordinates"] = " ".join(map(str, dataset.coords))
            group.attrs.put({**attributes, MARK: {"looks": looks + 1, "sizes": sizes}})

    def read(self, name: str) -> xr.Dataset:
        """All looks of an analysis; numbers are read from disk when they are used.

        Args:
            name: The analysis.

        Returns:
            What was appended: variables with a leading axis `epoch`, which is an index.

        Raises:
            ValueError: There is no such analysis.
        """
        names = self.names
        if name not in names:
            there = ", ".join(names) or "nothing yet"
            raise ValueError(f"no analysis {name!r} in {self.path}: there is {there}.")
        with self._errors("read"):
            # the count first: whatever a writer does meanwhile, these looks are there
            looks, sizes = _committed(zarr.open_group(self.path, mode="r", path=name))
            source = ZarrStore.open_group(self.path, mode="r", group=name, consolidated=False)
            variables, attributes = source.load()
            whole = {"epoch": slice(looks), **{dim: slice(size) for dim, size in sizes.items()}}
            coordinates = ["epoch", *attributes["coordinates"].split()]
            dataset = xr.Dataset(
                {
                    key: _text(variable.isel(whole, missing_dims="ignore"))
                    for key, variable in variables.items()
                },
                attrs={key: value for key, value in attributes.items() if key not in (MARK, "coordinates")},
            )
            return dataset.set_coords(coordinates)

    def truncate(self, epoch: int) -> None:
        """Forget all looks after an epoch, in every analysis: a resumed run makes them again.

        Args:
            epoch: The last epoch to keep.

        Raises:
            OSError: The directory cannot be written.
        """
        for name in self.names:
            with self._errors("write"):
                group = zarr.open_group(self.path, mode="r+", path=name)
                looks, sizes = _committed(group)
                epochs = np.asarray(dict(group.arrays())["epoch"][:looks])
                keep = int(np.searchsorted(epochs, epoch, side="right"))
                if keep < looks:
                    group.attrs.put({**group.attrs, MARK: {"looks": keep, "sizes": sizes}})

    @contextlib.contextmanager
    def _errors(self, verb: str) -> Iterator[None]:
        try:
            yield
        except (
            ValueError,
            TypeError,
            KeyError,
            RuntimeError,
        ) as error:  # what zarr raises on broken metadata
            broken = f"{type(error).__name__}: {error}".splitlines()[0]
            raise ValueError(
                f"the analysis store {self.path} is damaged ({broken}): move it away."
            ) from error
        except OSError as error:
            reason = error.strerror or str(error)
            raise OSError(error.errno, f"cannot {verb} the analysis store {self.path}: {reason}.") from error


class _Piece(NamedTuple):
    """One variable of one look."""

    values: np.ndarray
    dims: tuple[str, ...]
    attrs: dict[str, Any]
    static: bool  # a coordinate: stored once, without the epoch axis

    @classmethod
    def of(cls, dataset: xr.Dataset, key: Any) -> _Piece:
        if not re.fullmatch(r"\w[\w.-]*", str(key)):
            raise ValueError(f"{key!r} cannot name a variable: use letters, digits, _, . and -.")
        variable = dataset.variables[key]
        values = np.asarray(variable.values)
        if values.dtype.kind in "OUT" and all(isinstance(value, str) for value in values.flat):
            values = values.astype(np.dtypes.StringDType())
        elif values.dtype.kind not in "biufcmM":
            raise ValueError(f"{key!r} holds {values.dtype}: give booleans, numbers, times or text.")
        attrs = _plain(variable.attrs, repr(key))
        return cls(values, tuple(map(str, variable.dims)), attrs, key in dataset.coords)

    @classmethod
    def epoch(cls, epoch: int) -> _Piece:
        return cls(np.array(epoch, np.int64), (), {}, False)

    def create(self, group: zarr.Group, key: str, chunks: tuple[int, ...], looks_per_chunk: int = 1) -> None:
        lead = () if self.static else (0,)
        text = self.values.dtype.kind == "T"
        group.create_array(
            key,
            shape=(*lead, *self.values.shape),
            chunks=(*(looks_per_chunk for _ in lead), *chunks),
            dtype=str if text else self.values.dtype,
            fill_value=missing(self.values.dtype),
            dimension_names=(*("epoch" for _ in lead), *self.dims),
            compressors="auto" if text else BloscCodec(cname="zstd", clevel=3, shuffle="shuffle"),
            attributes=self.attrs,
        )

    def check_fits(self, array: zarr.Array, sizes: Mapping[str, int], where: str) -> None:
        names = array.metadata.dimension_names or ()  # type: ignore[union-attr]
        dims = tuple(map(str, names))[0 if self.static else 1 :]
        if self.dims != dims:
            raise ValueError(f"{where} has axes {self.dims}, before it had {dims}.")
        if not np.can_cast(self.values.dtype, array.dtype):
            raise ValueError(
                f"{where} holds {self.values.dtype}, which does not fit {array.dtype} as before."
            )
        if self.static:
            shared = tuple(slice(min(n, sizes[dim])) for n, dim in zip(self.values.shape, dims, strict=True))
            before = np.asarray(array[shared]).astype(self.values.dtype)
            if not xr.Variable(dims, self.values[shared]).equals(xr.Variable(dims, before)):
                raise ValueError(f"coordinate {where} is not what it was: what changes is a data variable.")

    def write(
        self, array: zarr.Array, looks: int, before: Mapping[str, int], after: Mapping[str, int]
    ) -> None:
        kept = (*(() if self.static else (looks,)), *(before.get(dim, 0) for dim in self.dims))
        wanted = (*(() if self.static else (looks + 1,)), *(after[dim] for dim in self.dims))
        if any(there > keep for there, keep in zip(array.shape, kept, strict=True)):
            array.resize(kept)  # drops what a kill left behind
        if array.shape != wanted:
            array.resize(wanted)
        elif self.static and looks:
            return
        if self.values.size:
            region = tuple(slice(n) for n in self.values.shape)
            array[region if self.static else (looks, *region)] = self.values


def _committed(group: zarr.Group) -> tuple[int, dict[str, int]]:
    mark: Any = group.attrs.get(MARK, {"looks": 0, "sizes": {}})
    return int(mark["looks"]), dict(mark["sizes"])


def _text(variable: xr.Variable) -> xr.Variable:
    """Text as numpy's fixed-length type, as xarray and pandas like it best."""
    if variable.dtype.kind != "T":
        return variable
    return xr.Variable(variable.dims, np.array(variable.values.tolist(), dtype=str), variable.attrs)


def _plain(attributes: Mapping[Any, Any], where: str) -> dict[str, Any]:
    """Attributes as JSON can hold them."""
    plain = {
        str(key): value.tolist() if hasattr(value, "tolist") else value for key, value in attributes.items()
    }
    for key, value in plain.items():
        try:
            json.dumps(value)
        except TypeError:
            raise ValueError(
                f"attribute {key!r} of {where} is a {type(value).__name__}: give text, numbers or lists."
            ) from None
    return plain
