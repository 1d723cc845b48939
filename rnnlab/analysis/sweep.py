"""The same analysis along a curve of systems."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
import xarray as xr
from torch import Tensor
from tqdm import tqdm

from rnnlab.analysis.orbit import orbit
from rnnlab.systems import System


def sweep(
    family: Callable[[float], System],
    values: Iterable[float],
    x0: Tensor,
    analysis: Callable[[System, Tensor], xr.Dataset] = orbit,
    *,
    name: str = "parameter",
    follow: bool = False,
    progress: bool = False,
) -> xr.Dataset:
    """Run one analysis for each value of a parameter.

    A family whose parameters may have leading axes needs no sweep: `orbit(Logistic(r[:, None]), x0)` with `r`
    `(probe,)` and `x0` `(probe, sample, 1)` maps all values as one batch, which is much faster.

    Args:
        family: Makes the system from a value.
        values: The values, in the order to go through.
        x0: Initial states, `(*batch, state)`.
        analysis: What to do with each system; options by `functools.partial`.
        name: Name of the new axis.
        follow: Start each system where the orbit of the one before ended (continuation), not at `x0`. It
            follows one branch, also into bistability, and misses those that appear beside it. Orbits that
            diverged start at `x0` again.
        progress: Show a progress bar.

    Returns:
        The datasets one after another along a new first axis `name`, with `values` as coordinate.

    Raises:
        ValueError: There are no values, or `follow` is asked of an analysis that returns no `last_state`.

    Example:
        >>> import torch
        >>> from rnnlab.maps import Logistic
        >>> found = sweep(Logistic, [2.8, 3.2, 3.5], torch.full((1, 1), 0.3).double(), name="r")
        >>> found.period.squeeze().values.tolist()
        [1, 2, 4]
    """
    values = list(values)
    if not values:
        raise ValueError("values is empty: give at least one parameter value.")
    found: list[xr.Dataset] = []
    start = x0
    for value in tqdm(values, desc=name, disable=not progress):
        found.append(analysis(family(value), start))
        if follow:
            start = _continued(found[-1], x0)
    axis = xr.DataArray(np.asarray(values), dims=name, name=name)
    return xr.concat(found, axis, data_vars="all", coords="minimal", compat="override", join="exact")


def _continued(found: xr.Dataset, x0: Tensor) -> Tensor:
    if "last_state" not in found:
        raise ValueError("follow=True needs an analysis that returns last_state, such as orbit.")
    last = torch.as_tensor(found["last_state"].values, dtype=x0.dtype, device=x0.device)
    return torch.where(last.isfinite().all(-1, keepdim=True), last, x0)
