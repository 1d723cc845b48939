"""Trajectories of vector fields at given times, as exactly as asked for."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

if TYPE_CHECKING:
    from rnnlab.systems import VectorField

LEAST = 3e-14  # tolerance below which rounding is all that is left


def integrate(field: VectorField, x0: Tensor, times: Tensor, *, tolerance: float = 1e-10) -> Tensor:
    """Solve dx/dt = f(x) from many states at once, with a step that adapts.

    All trajectories share the step, which the hardest of them decides; SciPy's DOP853 (Dormand and Prince's
    method of order 8) keeps the error of each step below the tolerance.

    Args:
        field: The vector field.
        x0: States at time 0, `(*batch, state)`, float64.
        times: When to look, `(time)`, rising from 0 or above, or falling from 0 or below: backward in time.
        tolerance: Largest error of a step of any trajectory, absolute and relative, root mean square over its
            components.

    Returns:
        States `(time, *batch, state)`. A trajectory that runs to infinity is NaN from then on.

    Raises:
        ValueError: The times are not in order or not finite, or the tolerance is not between 3e-14 and 1.

    References:
        E. Hairer, S. P. Norsett and G. Wanner, "Solving Ordinary Differential Equations I", 2nd ed., 1993.

    Example:
        >>> from rnnlab.maps import Hopf
        >>> turn = torch.tensor([0.0, 0.25, 0.5]).double()
        >>> path = integrate(Hopf(mu=1.0, omega=2 * torch.pi), torch.tensor([1.0, 0.0]).double(), turn)
        >>> path.round(decimals=8).abs().tolist()
        [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]
    """
    if not LEAST <= tolerance < 1:
        raise ValueError(f"tolerance={tolerance} is not possible: give a number from {LEAST} to 1.")
    if times.ndim != 1 or not len(times):
        raise ValueError(f"times of shape {tuple(times.shape)} are not possible: give (time).")
    if not bool(times.isfinite().all()):
        raise ValueError(f"times={times.tolist()} are not possible: give finite ones.")
    ends = [0.0, *times.tolist()]
    steps = np.diff(ends)
    if not (((steps[1:] > 0).all() and steps[0] >= 0) or ((steps[1:] < 0).all() and steps[0] <= 0)):
        raise ValueError(f"times={ends[1:]} are not possible: give them rising from 0, or falling from 0.")
    bounded = x0.new_full((len(times), *x0.shape), math.nan)
    if ends[-1] == 0:
        return x0[None].clone()

    def velocity(_: float, flat: np.ndarray) -> np.ndarray:
        return field.velocity(torch.from_numpy(flat).view(x0.shape).to(x0.device)).flatten().cpu().numpy()

    rows = x0.reshape(-1, x0.shape[-1])
    # the solver's mean is over all trajectories, of which one may have all the error
    share = max(tolerance / math.sqrt(max(len(rows), 1)), LEAST)
    with torch.no_grad(), np.errstate(over="ignore", invalid="ignore"):
        found = solve_ivp(
            velocity,
            (0.0, ends[-1]),
            rows.flatten().cpu().numpy(),
            "DOP853",
            ends[1:],
            rtol=share,
            atol=share,
        )
        if found.status == 0:
            return torch.from_numpy(found.y.T.copy()).view(bounded.shape).to(x0.device)
        if len(rows) == 1:
            if len(found.t):  # else it runs away before the first look
                bounded[: found.y.shape[1]] = torch.from_numpy(found.y.T.copy()).view(-1, *x0.shape)
            return bounded
    # one of them runs away and would stop the others: each by itself
    apart = [integrate(_Row(field, x0, i), row, times, tolerance=tolerance) for i, row in enumerate(rows)]
    return torch.stack(apart, 1).view(bounded.shape)


class _Row:
    """The law of one row of a batch, whose place may decide its parameters."""

    def __init__(self, field: VectorField, x0: Tensor, row: int) -> None:
        self.field, self.x0, self.row = field, x0, row

    def velocity(self, x: Tensor) -> Tensor:
        batch = self.x0.clone().view(-1, self.x0.shape[-1])
        batch[self.row] = x
        return self.field.velocity(batch.view(self.x0.shape)).view(batch.shape)[self.row]
