"""Work shared out among the processes of a run: even parts, and the whole on each of them.

All processes run the same program on the same numbers. Where there is much to do in rows that do not depend
on each other, each process does its part and tells the others, and all go on with the whole:

    with sharing():
        (doubled,) = cat_rows(shared(lambda rows: (2 * x[rows],), len(x)), 0)

Outside `sharing`, and in a process that is alone, all is computed here and nobody is asked. So an analysis
that shares out its work is the same pure function everywhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal, TypeVar

import numpy as np
import torch
import torch.distributed as dist
import xarray as xr
from torch import Tensor

from rnnlab.labelled import concatenate

T = TypeVar("T")

_mode: ContextVar[Literal["alone", "together", "in step"]] = ContextVar("_mode", default="alone")


@contextmanager
def sharing() -> Iterator[None]:
    """Within it `shared` and `everyone` are in force: all processes must come here and go the same way."""
    token = _mode.set("together")
    try:
        yield
    finally:
        _mode.reset(token)


def everyone(value: T) -> list[T]:
    """What each process says, in the order of their ranks; `[value]` of one that is alone.

    All must ask equally often. A part of `shared` is alone, unless parts are `in_step`.

    Example:
        >>> everyone("here")
        ['here']
    """
    _, size = _place()
    if size == 1 or _mode.get() == "alone":
        return [value]
    values: list[Any] = [None] * size
    dist.all_gather_object(values, value)
    return values


def sharers() -> int:
    """How many processes share out what is done here."""
    return _place()[1] if _mode.get() == "together" else 1


def shared(function: Callable[[slice], T], count: int, *, in_step: bool = False) -> list[T]:
    """The parts of a function of independent rows, one of each process; `cat_rows` or `join_rows` makes one.

    Rows are dealt like cards: parts differ by one at most, and neighbours, which often take equally long, go
    to different processes. A process that gets none does the first row once more, unheard, so that all go the
    same way. What is done within a part is not shared out again.

    Args:
        function: From rows to a tuple of tensors, or to anything that can be pickled and holds none. It finds
            of a row the same whatever rows stand beside it, unless it asks `everyone`.
        count: How many rows there are.
        in_step: All parts ask `everyone` equally often.

    Raises:
        RuntimeError: The processes do not have the same number of rows: they have parted ways.

    Example:
        >>> x = torch.arange(5.0)
        >>> shared(lambda rows: float(x[rows].sum()), len(x))
        [10.0]
    """
    rank, size = _place()
    if size == 1 or not count or _mode.get() != "together":
        return [function(slice(0, count))]
    token = _mode.set("in step" if in_step else "alone")
    try:
        part: Any = function(slice(rank, count, size) if rank < count else slice(0, 1))
    finally:
        _mode.reset(token)
    tensors = isinstance(part, tuple)
    # a tensor comes out on the device where it went in, which the others may not have
    told = everyone((count, tuple(x.cpu() for x in part) if tensors else part))
    counts = [number for number, _ in told]
    if len(set(counts)) > 1:
        raise RuntimeError(f"the processes have parted ways: they have {counts} rows to share out.")
    parts: list[Any] = [each for _, each in told[:count]]
    if not tensors:
        return parts
    return [tuple(x.to(y.device) for x, y in zip(each, part, strict=True)) for each in parts]  # type: ignore[misc]


def cat_rows(parts: Sequence[tuple[Tensor, ...]], axis: int) -> tuple[Tensor, ...]:
    """Tensors whose rows lie along an axis, from the parts that `shared` gave."""
    if len(parts) == 1:
        return parts[0]
    whole = [torch.cat(pieces, axis) for pieces in zip(*parts, strict=True)]
    return tuple(
        x.index_select(axis, torch.from_numpy(_order(x.shape[axis], len(parts))).to(x.device)) for x in whole
    )


def join_rows(parts: Sequence[xr.Dataset], dim: str) -> xr.Dataset:
    """A dataset whose rows lie along `dim`, from the parts that `shared` gave.

    Other axes may differ in length. Attributes, and what has no such axis, are those of the first part; see
    `rnnlab.labelled.concatenate`.
    """
    if len(parts) == 1:
        return parts[0]
    whole = concatenate(parts, dim)
    return whole.isel({dim: _order(whole.sizes[dim], len(parts))})


def _order(count: int, hands: int) -> np.ndarray:
    """Where each row is, once rows are dealt to so many hands and these put one after another.

    >>> _order(5, 2).tolist()
    [0, 3, 1, 4, 2]
    """
    return np.argsort(np.concatenate([np.arange(hand, count, hands) for hand in range(hands)]))


def _place() -> tuple[int, int]:
    """Rank of this process, and how many there are."""
    if not (dist.is_available() and dist.is_initialized()):
        return 0, 1
    return dist.get_rank(), dist.get_world_size()
