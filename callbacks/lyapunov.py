"""Lyapunov exponents of the network, over training."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from callbacks.analysis import AnalysisCallback
from rnnlab.analysis.lyapunov import growth, spectrum


class Lyapunov(AnalysisCallback):
    """Leading Lyapunov exponents under every held probe, in nats per step, with their standard errors.

    With `driven` they are those of the network while it reads the task's `excerpts()`: a leading exponent
    below zero says that what is read makes the network forget the state it started from.

    Args:
        every: Look after every so many epochs.
        samples: Trajectories for every probe, from random states.
        count: How many exponents, the largest first.
        steps: Time steps averaged over. None: 1000, or all that an excerpt has left.
        discard: Time steps dropped first.
        **options: Further arguments of `AnalysisCallback`, such as `std` and `seed` of the initial states.
    """

    def __init__(
        self,
        *,
        every: int = 10,
        samples: int = 2,
        count: int = 4,
        steps: int | None = 500,
        discard: int = 500,
        **options: Any,
    ) -> None:
        super().__init__(
            "lyapunov",
            partial(leading_growth, count=count, steps=steps, discard=discard),
            every=every,
            samples=samples,
            **{"draw": draw, "summary": summary, "share": "row", "merge": spectrum} | options,
        )


def leading_growth(system: Any, x0: Any, *, count: int, **options: Any) -> xr.Dataset:
    """`growth` along each orbit, in no more directions than the state has components."""
    return growth(system, x0, count=min(count, x0.shape[-1]), **options)


def summary(look: xr.Dataset) -> dict[str, float]:
    """Scalars of one look: the leading exponent, its mean and largest over probes; the share of chaos."""
    leading = look["exponent"].isel(mode=0)
    error = look["standard_error"].isel(mode=0)
    return {
        "leading": float(np.nanmean(leading)) if leading.notnull().any() else float("nan"),
        "largest": float(leading.max()),
        "chaotic": float((leading > 3 * error + 1e-3).mean()),
    }


def draw(looks: xr.Dataset) -> Mapping[str, Any]:
    """Exponents over epochs, and how those of the last look converged."""
    from rnnlab.figures import lyapunov

    return {"lyapunov": lyapunov.over_epochs(looks), "lyapunov_convergence": lyapunov.convergence(looks)}
