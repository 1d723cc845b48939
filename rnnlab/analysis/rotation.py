"""Does it close? The rotation number of a recorded orbit: a cycle told from a torus."""

from __future__ import annotations

import math

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from rnnlab.analysis.states import one_thread, to_numpy


@torch.no_grad()
def rotation_number(y: Tensor, *, max_period: int = 32, tolerance: float = 1e-6) -> xr.Dataset:
    """By how much of a turn an orbit goes round at each step, on average, and whether that is a fraction.

    An orbit on a closed curve turns about the curve's middle. Where the mean turn is p/q the orbit is
    periodic, elsewhere it fills the curve: a torus, quasi-periodic. The angle is taken about the mean in the
    plane of the two principal components, each scaled to one; an orbit of one component is first drawn
    against its own next value. Averages are weighted by exp(-1/(s (1 - s))), s the elapsed part of the time,
    and so converge faster than any power of the number of steps on a torus or a cycle, but not in chaos.

    The decision, with `rotation` known within `error`, its largest change when only the first or only the
    second half of the record is used:

    - "periodic": `error` is below `tolerance`, the orbit comes back after p steps, p <= `max_period`, within
      sqrt(`tolerance`) of its size all along the record, and p turns by `rotation` are whole turns to within
      twice the error. That last tells a cycle from a torus that nearly closes;
    - "torus": `error` is below `tolerance`, and so far from every fraction whose denominator is at most
      `max_period` that twice the error does not reach it. A cycle longer than that passes for a torus;
    - "undecided": neither. So it is with chaos, with records that are too short, and with curves on which the
      angle runs back and forth by a whole turn.

    Args:
        y: Settled orbits, `(*batch, time, component)`: states, or what is observed of them; one time step
            apart. Some hundred turns should be in a record.
        max_period: Longest period, and largest denominator, to look for.
        tolerance: Largest error of a rotation number that is called known.

    Returns:
        A dataset over the leading axes, named (probe, sample) if there are two and sample if one, with

        - `rotation`: turns per time step, from 0 to 1/2: a plane has no sign of its own, and whole turns are
          not seen. Where a harmonic outweighs the ground frequency it is a multiple of the orbit's own;
        - `error`: see above;
        - `kind`: "periodic", "torus" or "undecided";
        - `period`: time steps after which the orbit returns; 0 unless periodic.

    Raises:
        ValueError: An option is out of range, or `y` is no batch of float64 orbits of at least 8 steps.

    References:
        Das, Saiki, Sander, Yorke, "Quantitative quasiperiodicity", Nonlinearity 30, 2017.
        Sander, Meiss, "Birkhoff averages and rotational invariant circles for area-preserving maps",
        Physica D 411, 2020: fractions.

    Example:
        >>> import torch
        >>> turn = 2 * torch.pi * torch.tensor([[0.4], [2**0.5 - 1]], dtype=torch.float64)
        >>> angle = turn * torch.arange(1000)
        >>> found = rotation_number(torch.stack((angle.cos(), 3 * angle.sin()), -1))
        >>> found.kind.values.tolist(), found.period.values.tolist(), found.rotation.values.round(8).tolist()
        (['periodic', 'torus'], [5, 0], [0.4, 0.41421356])
    """
    if not isinstance(max_period, int) or isinstance(max_period, bool) or max_period < 1:
        raise ValueError(f"max_period={max_period!r} is not possible: give a whole number of at least 1.")
    if not tolerance > 0:
        raise ValueError(f"tolerance={tolerance} is not possible: give a number above 0.")
    if not isinstance(y, Tensor) or y.ndim < 2 or y.dtype != torch.float64 or y.shape[-2] < 8:
        said = (
            f"shape {tuple(y.shape)} and type {y.dtype}" if isinstance(y, Tensor) else f"{type(y).__name__}"
        )
        raise ValueError(f"y of {said} is not possible: give (*batch, time, component), 8 steps, float64.")
    finite = y.isfinite().all(-1).all(-1)
    y = torch.where(finite[..., None, None], y, 0.0)
    scale = y.abs().amax((-1, -2))
    orbit = torch.cat((y[..., :-1, :], y[..., 1:, :]), -1) if y.shape[-1] == 1 else y
    centred = orbit - (_weights(orbit) @ orbit).unsqueeze(-2)
    with one_thread():
        left, size, _ = torch.linalg.svd(centred, full_matrices=False)
    size = size / math.sqrt(orbit.shape[-2])
    rests = size[..., 0] <= 1e-8 * scale.clamp(min=1)
    # the smaller axis of what lies on a line is rounding
    second = torch.where(size[..., 1:2] > 1e-7 * size[..., :1], left[..., 1], 0.0)
    angle = torch.atan2(second, left[..., 0]) / (2 * torch.pi)
    turns, wraps = _lift(angle.diff(dim=-1))

    half = turns.shape[-1] // 2
    mean, before, after = (
        (part * _weights(part[..., None])).sum(-1) for part in (turns, turns[..., :half], turns[..., half:])
    )
    rotation = (mean - mean.round()).abs()
    # not the halves against one another: those of an orbit that runs back as it runs forth are alike
    error = torch.maximum((after - mean).abs(), (before - mean).abs())
    rotation, error = (torch.where(rests, 0.0, values) for values in (rotation, error))
    known = finite & (rests | (error <= tolerance) & ~wraps)

    period = torch.zeros_like(rotation, dtype=torch.int64)
    fraction = torch.zeros_like(rests)
    for p in range(1, max_period + 1):
        closes = (p * rotation - (p * rotation).round()).abs() <= p * (2 * error + 1e-12)
        fraction = fraction | closes
        if 2 * p < y.shape[-2]:
            returns = (y[..., p:, :] - y[..., :-p, :]).abs().amax((-1, -2)) <= math.sqrt(tolerance) * size[
                ..., 0
            ]
            period = torch.where((period == 0) & known & closes & (returns | rests), p, period)
    kind = np.where(
        to_numpy(period > 0), "periodic", np.where(to_numpy(known & ~fraction), "torus", "undecided")
    )
    rotation, error = (values.masked_fill(~finite | wraps & ~rests, math.nan) for values in (rotation, error))

    axes = {0: (), 1: ("sample",), 2: ("probe", "sample")}.get(y.ndim - 2)
    axes = tuple(f"axis_{i}" for i in range(y.ndim - 2)) if axes is None else axes
    units = {"units": "turns per time step"}
    return xr.Dataset(
        {
            "rotation": (axes, to_numpy(rotation), units),
            "error": (axes, to_numpy(error), units),
            "kind": (axes, kind),
            "period": (axes, to_numpy(period), {"units": "time steps"}),
        },
        attrs={"analysis": "rotation_number", "max_period": max_period, "tolerance": tolerance},
    )


def _weights(values: Tensor) -> Tensor:
    """Weights over the axis before the last, `(time,)`: smooth, flat at both ends, with sum one."""
    number = values.shape[-2]
    part = torch.arange(1, number + 1, dtype=values.dtype, device=values.device) / (number + 1)
    return (-1 / (part * (1 - part))).softmax(0)


def _lift(turns: Tensor) -> tuple[Tensor, Tensor]:
    """Turns `(*batch, time)`, known up to whole ones, cut where none lies; and whether they lie everywhere.

    On a curve the turn is a continuous function of the place, so it must be cut outside of its range.
    """
    turns = turns % 1
    ordered = turns.sort(-1).values
    gaps = torch.cat((ordered[..., 1:], ordered[..., :1] + 1), -1) - ordered
    gap, place = gaps.max(-1)
    cut = ordered.gather(-1, place[..., None]) + gap[..., None] / 2
    return (turns - cut) % 1 + cut, gap < 0.02
