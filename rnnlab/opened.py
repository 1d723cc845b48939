"""A sweep on disk, opened: its runs side by side as tables and labelled arrays."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from rnnlab.parameters import Varied, categories, seed_keys, summarise, varied
from rnnlab.stacking import Part, spread, stack
from rnnlab.sweeps import Sweep, numbers
from rnnlab.traces import Record

if TYPE_CHECKING:
    from rnnlab.runs import Run

RUN = "run"  # the axis of runs where there is no grid: their rows in the table
ABOUT = ("job", "member", "state")  # coordinates that say which run an entry is of
LARGEST = 10**7  # cells of a grid


class OpenedSweep:
    """Many runs side by side, made by `rnnlab.runs.open_sweep`, which says what its arrays are labelled by.

    Attributes:
        table: A row for each run, or for each member of an ensemble, also of those that failed, are running
            or were killed, with `state`: see `rnnlab.sweeps.Sweep`.
        problems: What could not be read, and jobs that left nothing; what is read later may add to it.
    """

    def __init__(self, sweep: Sweep, grid: bool | None = None) -> None:
        self.table, self.problems = sweep.table, sweep.problems
        self._grid = _grid(self.table, self.parameters, grid)
        self._base = Path.cwd()  # paths stay what they are when the working directory changes

    def __repr__(self) -> str:
        states = ", ".join(f"{n} {state}" for state, n in self.table["state"].value_counts().items())
        axes = ", ".join(f"{axis} ({len(labels)})" for axis, labels in self._grid.axes.items())
        problems = f"; {len(self.problems)} problems" if self.problems else ""
        return f"<sweep of {len(self.table)} runs ({states}) over {axes}{problems}>"

    @cached_property
    def varied(self) -> Varied:
        """What differs between the runs: values by row, keys of the configs, what goes with what."""
        return varied(self.table)

    @property
    def parameters(self) -> pd.DataFrame:
        """The parameters that differ, a column each, by row of `table`; seeds are none."""
        return self.varied.values

    @property
    def axes(self) -> tuple[str, ...]:
        """The leading axes of `metrics` and of each `analysis`."""
        return tuple(self._grid.axes)

    @cached_property
    def summary(self) -> pd.DataFrame:
        """Best values folded over seeds, a row for each combination of parameters: see `summarise`."""
        return summarise(self.table, self.parameters)

    @cached_property
    def metrics(self) -> xr.Dataset:
        """All columns of `metrics.csv`, or of an ensemble the numbers of its members: `(*axes, epoch)`."""
        parts: list[Part | None] = []
        for _, record, members in self._runs():
            found = {-1: record.metrics} if members == [-1] else numbers(record)
            parts += [_columns(found[member]) for member in members]
        return self._labelled(parts, ())

    @cached_property
    def analyses(self) -> dict[str, int]:
        """Names of the analyses that there are, and in how many runs."""
        names = Counter(name for _, record, _ in self._runs() for name in record.looks)
        return dict(sorted(names.items()))

    def analysis(
        self,
        name: str,
        *,
        looks: Literal["last", "all"] = "last",
        only: str | Collection[str] | None = None,
    ) -> xr.Dataset:
        """What was seen of all runs, as one labelled dataset.

        Args:
            name: The analysis, one of `analyses`.
            looks: `last`: the last look at each run, whose epoch is the coordinate `epoch` (-1 where there is
                none). `all`: with an axis `epoch` of all epochs at which any run was looked at.
            only: Names of the variables to read; None reads all of them.

        Returns:
            The variables of the analysis with the axes `axes` before their own. Axes with labels, such as
            `probe`, hold all labels of all runs; axes without are as long as the longest. What a run does
            not have is NaN, -1 in integers, "" in texts. Of an ensemble each member is an entry of its own.

        Raises:
            ValueError: No run has such an analysis or variable, or the runs were looked at in ways that have
                no common array.
        """
        if looks not in ("last", "all"):
            raise ValueError(f"looks={looks!r} is not possible: give 'last' or 'all'.")
        from rnnlab.glance import glance  # zarr is slow to load

        only = [only] if isinstance(only, str) else only
        parts: list[Part | None] = []
        coords: set[str] = set()
        lost: list[str] = []
        known = False
        for job, record, members in self._runs():
            found: Part | None = None
            if name in record.looks:
                known = True
                try:
                    store = record.run_dir / "analysis.zarr"
                    found, own = glance(store, name, last=looks == "last", only=only)
                    coords |= own
                except (ValueError, OSError) as error:
                    record.problems.append(str(error))
            lost += [f"{job}: {problem}" for problem in record.problems]
            parts += [found and _of_member(found, member) for member in members]
        if lost:
            warnings.warn(f"{name} of {len(lost)} runs is missing: {lost[0]}", stacklevel=2)
            self.problems += [problem for problem in lost if problem not in self.problems]
        if not known:
            there = ", ".join(self.analyses) or "none"
            raise ValueError(f"no analysis {name!r} in these runs: there is {there}.")
        if only is not None and (unknown := set(only) - {key for part in parts if part for key in part}):
            raise ValueError(f"{name!r} has no variable {', '.join(sorted(unknown))}.")
        return self._labelled(parts, coords)

    @cached_property
    def runs(self) -> dict[str, Run]:
        """Each run by its job, as `rnnlab.runs.open_run` opens it."""
        from rnnlab.runs import open_run

        return {job: open_run(record.run_dir) for job, record, _ in self._runs()}

    def _runs(self) -> Iterator[tuple[str, Record, list[int]]]:
        """Each run: its job, what it left, and which of its members are rows of the table."""
        groups: Any = self.table.groupby("path", sort=False)
        for path, rows in groups[["job", "member"]]:
            yield rows["job"].iloc[0], Record(self._base / str(path)), rows["member"].tolist()

    def _labelled(self, parts: Sequence[Part | None], coords: Collection[str]) -> xr.Dataset:
        """One part for each row of the table, put together."""
        grid = self._grid
        taken = {*grid.axes, *grid.about} - {"epoch"}
        parts = [None if part is None else _renamed(part, taken) for part in parts]
        data = stack(parts, RUN, {_free(name, taken) for name in coords} - {"epoch"})
        data = data.assign_coords({name: (RUN, values) for name, values in grid.about.items()})
        if grid.cells is not None:
            data = spread(data.drop_indexes(RUN), RUN, grid.axes, grid.cells)
        return data.set_coords("epoch") if "epoch" in data else data


class _Grid(NamedTuple):
    """How rows of a table are labelled: axes with labels, the cell of each row (None: one axis of runs), and
    what else is known of each row."""

    axes: dict[str, np.ndarray]
    cells: np.ndarray | None
    about: dict[str, np.ndarray]


def _grid(table: Any, parameters: Any, wanted: bool | None) -> _Grid:
    rows = np.arange(len(table))
    about = {RUN: rows, **{name: _array(table[name].tolist()) for name in ABOUT}}
    columns = {_free(name, {*about, "epoch", "seed"}): parameters[name] for name in parameters}
    columns |= {key: pd.Series(categories(table[key].tolist(), key), table.index) for key in seed_keys(table)}
    axes = {name: _array(column.cat.categories.tolist()) for name, column in columns.items()}
    flat = {name: _array(column.tolist()) for name, column in columns.items()}
    shape = tuple(len(labels) for labels in axes.values())
    full, size = len(rows), math.prod(shape)
    problem = "no parameter or seed is known"
    if axes and (size <= 2 * full or (wanted and size <= LARGEST)):
        codes = [column.cat.codes.to_numpy() for column in columns.values()]
        cells = np.asarray(np.ravel_multi_index(codes, shape))
        _, first, place = np.unique(cells, return_index=True, return_inverse=True)
        again = np.flatnonzero(first[place] != rows)
        if not again.size and wanted is not False:
            return _Grid(axes, cells, about)
        if again.size:
            one, other = (table["job"].iloc[row] for row in (first[place][again[0]], again[0]))
            problem = f"{one} and {other} have the same parameters and seed"
    elif axes:
        problem = f"{full} runs would be in {size} cells"
    if wanted:
        raise ValueError(f"grid=True is not possible: {problem}; give grid=False for one axis of runs.")
    return _Grid({RUN: rows}, None, about | flat)


def _array(values: list[Any]) -> np.ndarray:
    """As numbers or texts where all are; else as objects."""
    kinds = {type(value) for value in values}
    if kinds <= {int, float} or kinds in ({str}, {bool}):
        return np.array(values)
    array = np.empty(len(values), object)
    array[:] = values
    return array


def _free(name: str, taken: Collection[str]) -> str:
    return f"{name}_" if name in taken else name


def _renamed(part: Part, taken: Collection[str]) -> Part:
    return {
        _free(name, taken): xr.Variable(
            [_free(str(axis), taken) for axis in variable.dims], variable.values, variable.attrs
        )
        for name, variable in part.items()
    }


def _columns(frame: pd.DataFrame) -> Part | None:
    if frame.empty:
        return None
    columns = {str(name): xr.Variable("epoch", frame[name].to_numpy(float)) for name in frame}
    return {"epoch": xr.Variable("epoch", frame.index.to_numpy()), **columns}


def _of_member(found: Part, member: int) -> Part:
    """What is of one member; that which an ensemble has as a whole belongs to each."""
    if member < 0:
        return found
    return {name: variable.isel(member=member, missing_dims="ignore") for name, variable in found.items()}
