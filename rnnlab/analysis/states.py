"""What every analysis asks of its system and initial states, and how it names their axes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rnnlab.systems import System, VectorField, law


def check_states(system: System | VectorField, x0: Tensor, name: str = "x0") -> Tensor:
    """Refuse what no analysis can use, before any work is done.

    Args:
        system: A map or a vector field.
        x0: States, `(sample, state)` or `(probe, sample, state)`, in float64.
        name: What the caller calls them.

    Returns:
        The image of `x0` (for a vector field its velocity).

    Raises:
        TypeError: `system` is no dynamical system, or `x0` no tensor.
        ValueError: `x0` has the wrong shape, type or size, is empty or not finite; the system gives NaN for
            all of it, changes its shape or type, or maps a state differently when others stand beside it.
    """
    rule = law(system)
    if not isinstance(x0, Tensor):
        raise TypeError(f"{name} of type {type(x0).__name__} is not possible: give a torch.Tensor.")
    shape = tuple(x0.shape)
    if x0.ndim not in (2, 3) or not x0.shape[-1]:
        raise ValueError(
            f"{name} of shape {shape} is not possible: give (sample, state) or (probe, sample, state)."
        )
    if x0.dtype != torch.float64:
        raise ValueError(
            f"{name} of type {x0.dtype} is not possible: give float64, and a network as freeze(model)."
        )
    if not x0.numel():
        raise ValueError(f"{name} of shape {shape} is empty: give at least one state.")
    if not bool(x0.isfinite().all()):
        raise ValueError(
            f"{name} is not finite: {_count(~x0.isfinite().all(-1))} states hold NaN or infinity."
        )
    try:
        image = rule(x0)
    except (RuntimeError, IndexError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"the system does not take {name} of shape {shape} ({reason}): "
            f"is {x0.shape[-1]} the size of its state?"
        ) from error
    if not isinstance(image, Tensor) or (image.shape, image.dtype) != (x0.shape, x0.dtype):
        said = (
            f"shape {tuple(image.shape)} and type {image.dtype}" if isinstance(image, Tensor) else type(image)
        )
        raise ValueError(
            f"the system maps {name} of shape {shape} and type {x0.dtype} to {said}: "
            "give one state for each of its rows, in its type."
        )
    if bool(image.isnan().any(-1).all()):
        raise ValueError(f"the system maps all of {name} to NaN: are its parameters finite?")
    _check_rows(rule, x0, image, name)
    return image


def _check_rows(rule: Any, x0: Tensor, image: Tensor, name: str) -> None:
    rows = x0.shape[:-1].numel()
    if rows < 2:
        return
    # every second row is moved: the others must not notice
    moved = (torch.arange(rows, device=x0.device) % 2 == 1).view(*x0.shape[:-1], 1)
    again = rule(torch.where(moved, 0.5 * x0 + 0.1, x0))
    noticed = ((again - image).abs() > 1e-9 * (1 + image.abs())) & ~moved & image.isfinite()
    if bool(noticed.any()):
        raise ValueError(
            f"the rows of {name} are not independent: the system maps a state differently when other states "
            "of the batch change (batch normalisation? dropout?). Give a system in eval mode."
        )


def _count(flags: Tensor) -> str:
    return f"{int(flags.sum())} of {flags.numel()}"


def batch_axes(x: Tensor) -> tuple[str, ...]:
    """Names of the axes of states `(sample, state)` or `(probe, sample, state)`, but for the state's."""
    return ("probe", "sample")[-(x.ndim - 1) :]


def to_numpy(values: Tensor) -> np.ndarray:
    """The numbers, wherever they are."""
    return values.detach().cpu().numpy()


@contextmanager
def one_thread() -> Iterator[None]:
    """Linear algebra on one thread: faster for small matrices, and right.

    With two threads or more torch's batched LU of 151 rows and up gives wrong numbers on the CPU without a
    word (pytorch issue 142815).
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
