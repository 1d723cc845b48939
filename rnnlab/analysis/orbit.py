"""Where does it go? Orbits of a system once they have settled."""

from __future__ import annotations

import math

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from rnnlab.shares import everyone
from rnnlab.systems import System


@torch.no_grad()
def orbit(
    system: System,
    x0: Tensor,
    *,
    steps: int = 400,
    burn_in: int | None = None,
    max_burn_in: int = 8000,
    tolerance: float = 1e-7,
    max_period: int = 32,
) -> xr.Dataset:
    """Follow every initial state until it has settled, then record what is observed.

    **Settled** means that nothing changes any more while the elapsed time grows by a factor. Looks are taken
    at times whose ratio is sqrt 2; at a look an orbit is settled if one of these holds within `tolerance`,
    relative to the size of the state where that is above one:

    - it rests: the state is that of the look before, and of the step before;
    - mean and standard deviation of every state component agree between the last two stretches of time, each
      weighted by a window that vanishes at both ends. So weighted, averages over a periodic or quasi-periodic
      orbit converge fast, while those over a chaotic one never come near `tolerance`. A decay, however slow,
      shows at first order; one that alternates around a cycle only at second order, so it may be called
      settled with a remainder of sqrt(`tolerance`).

    Chaos stays undecided: `settled` is then False, which is a result. Orbits that leave the finite numbers
    are reported as `diverged` and disturb no other. The burn-in ends when all orbits have settled or
    diverged; those that settled early go on with the rest, and the verdict is that of the last look.

    Args:
        system: The system.
        x0: Initial states, `(probe, sample, state)`; `(sample, state)` or any other leading axes will do.
        steps: How many states to record, one time step apart, the first right after the burn-in.
        burn_in: Time steps to drop. Default: as many as it takes.
        max_burn_in: Bound on that number. The default leaves time to an orthogonal network started far
            outside, whose norm falls by a constant at each step.
        tolerance: What counts as no change. Rounding in float64 sets a floor of about 1e-8.
        max_period: Longest period to look for, at most `steps / 2`.

    Returns:
        A dataset with

        - `y` `(probe, sample, time, observable)`: what is observed, in float64;
        - `settled` `(probe, sample)`;
        - `diverged` `(probe, sample)`;
        - `drift` `(probe, sample)`: the change at the last look, which `settled` judges; infinite
          without a look;
        - `period` `(probe, sample)`: the smallest p such that the orbit returns after p steps, within
          sqrt(`tolerance`), all along the record; 0 if there is none; meaningless where not settled;
        - `burn_in`: time steps dropped, the same for all orbits;
        - `last_state` `(probe, sample, state)`: from which it can be continued.

        Leading axes are named probe and sample if there are two, sample if one, axis_0, axis_1, ... else.

    Raises:
        ValueError: An option is out of range, `x0` is no batch of floating-point states, or the system
            changes the shape or type of the batch.

    References:
        Das, Saiki, Sander, Yorke, "Quantitative quasiperiodicity", Nonlinearity 30, 2017: weighted averages.
        The window here is Kaiser's, which needs a few periods only to reach 1e-8.

    Example:
        >>> import torch
        >>> from rnnlab.maps import Logistic
        >>> found = orbit(Logistic(3.2), torch.full((1, 1), 0.3).double())
        >>> found.period.item(), sorted(found.y[0, :2, 0].round(4).values.tolist())
        (2, [0.513, 0.7995])
    """
    limit = max_burn_in if burn_in is None else burn_in
    bounds = {
        "steps": (steps, 1),
        "max_burn_in": (max_burn_in, 1),
        "burn_in": (limit, 0),
        "max_period": (max_period, 0),
    }
    for name, (value, least) in bounds.items():
        if not isinstance(value, int) or value < least:
            raise ValueError(f"{name}={value} is not possible: give a whole number of at least {least}.")
    if not tolerance > 0:
        raise ValueError(f"tolerance={tolerance} is not possible: give a number above 0.")
    if x0.ndim < 1 or not x0.is_floating_point():
        raise ValueError(
            f"x0 of shape {tuple(x0.shape)} and type {x0.dtype} is not possible: give (*batch, state)."
        )
    x = system.step(x0)
    if (x.shape, x.dtype) != (x0.shape, x0.dtype):
        raise ValueError(
            f"the system maps x0 of shape {tuple(x0.shape)} and type {x0.dtype} to shape {tuple(x.shape)} "
            f"and type {x.dtype}: give one state for each of its rows, in its type."
        )

    x, drift, dropped = _settle(system, x0, limit, tolerance, early=burn_in is None)
    states, observed = [], []
    for time in range(steps):
        x = system.step(x) if time else x
        observed.append(system.observe(x))
        if time <= max_period:
            states.append(x)
    y = torch.stack(observed, -2).double()
    finite = x.isfinite().all(-1) & y.isfinite().all(-1).all(-1)
    period = _period(torch.stack(states, -2), y, math.sqrt(tolerance))

    batch = {0: (), 1: ("sample",), 2: ("probe", "sample")}.get(x0.ndim - 1)
    batch = tuple(f"axis_{i}" for i in range(x0.ndim - 1)) if batch is None else batch
    time_steps = {"units": "time steps"}
    return xr.Dataset(
        {
            "y": ((*batch, "time", "observable"), _numpy(y)),
            "settled": (batch, _numpy((drift <= tolerance) & finite)),
            "diverged": (batch, _numpy(~finite)),
            "drift": (batch, _numpy(drift.double())),
            "period": (batch, _numpy(period), time_steps),
            "burn_in": ((), dropped, time_steps),
            "last_state": ((*batch, "state"), _numpy(x)),
        },
        coords={"time": ("time", np.arange(steps), {**time_steps, "long_name": "time after the burn-in"})},
        attrs={
            "analysis": "orbit",
            "steps": steps,
            "burn_in": "adaptive" if burn_in is None else burn_in,
            "max_burn_in": limit,
            "tolerance": tolerance,
            "max_period": max_period,
        },
    )


def _settle(
    system: System, x: Tensor, limit: int, tolerance: float, *, early: bool
) -> tuple[Tensor, Tensor, int]:
    """Advance by up to `limit` steps: states, drift `(*batch)` and the number of steps made."""
    drift = torch.full_like(x[..., 0], math.inf)
    time, mean, std = 0, drift[..., None], drift[..., None]
    for look in _looks(limit):
        start = before = x
        total, squares = torch.zeros_like(x), torch.zeros_like(x)
        for weight in _window(look - time):
            before, x = x, system.step(x)
            # deviations from a state of the orbit itself keep the variance free of cancellation
            deviation = x - start
            total.add_(deviation, alpha=weight)
            squares.addcmul_(deviation, deviation, value=weight)
        time, last_mean, last_std = look, mean, std
        mean, std = start + total, (squares - total.square()).clamp(min=0).sqrt()
        rest = torch.maximum((x - start).abs(), (x - before).abs()).amax(-1)
        change = torch.maximum((mean - last_mean).abs(), (std - last_std).abs()).amax(-1)
        drift = torch.minimum(rest, change) / (mean.abs() + std).amax(-1).clamp(min=1)
        # of all processes that follow some of the orbits
        if early and all(everyone(bool(((drift <= tolerance) | ~x.isfinite().all(-1)).all()))):
            break
    return x, drift, time


def _looks(limit: int) -> list[int]:
    """Times `limit / sqrt(2)^k`, rising, from about 16 to `limit`."""
    count = 1 + max(0, int(2 * math.log2(limit / 16))) if limit else 0
    return sorted({round(limit / 2 ** (k / 2)) for k in range(count)})


def _window(length: int) -> list[float]:
    """Kaiser's window with sum one; beta = 20 damps what turns by 40 radians or more to 2e-8."""
    weights = np.kaiser(length + 2, 20.0)[1:-1]
    return (weights / weights.sum()).tolist()


def _period(states: Tensor, y: Tensor, tolerance: float) -> Tensor:
    """Smallest return time of orbits `(*batch, time, ...)`: the state once, the observation all along."""
    scale, y_scale = (values.abs().amax((-1, -2)).clamp(min=1) for values in (states, y))
    period = torch.zeros(states.shape[:-2], dtype=torch.int64, device=states.device)
    time = torch.arange(y.shape[-2], device=y.device)
    for p in range(1, min(states.shape[-2] - 1, y.shape[-2] // 2) + 1):
        returns = (states[..., p, :] - states[..., 0, :]).abs().amax(-1) <= tolerance * scale
        if not bool((returns & (period == 0)).any()):
            continue
        # against the first cycle, not the cycle before: a slow drift adds up
        repeats = (y - y[..., time % p, :]).abs().amax((-1, -2)) <= tolerance * y_scale
        period = torch.where((period == 0) & returns & repeats, p, period)
    return period


def _numpy(values: Tensor) -> np.ndarray:
    return values.cpu().numpy()
