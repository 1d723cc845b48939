"""A ring of equilibria (Jordan et al. 2019, section 5.3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from datamodules.planar import Planar


class RingField:
    """dx/dt = -(x^2 + y^2 - 1) x, dy/dt = -(x^2 + y^2 - 1) y.

    Truth: the origin repels at the rate 1 and the circle of radius one, on which each point is an
    equilibrium, attracts at the rate 2; all motion is along rays from the origin.
    """

    def velocity(self, x: Tensor) -> Tensor:
        """dx/dt at states `(*batch, 2)`."""
        return x * (1 - x.square().sum(-1, keepdim=True))

    def solution(self, x: Tensor, t: float) -> Tensor:
        """States a time `t` later."""
        square = x.square().sum(-1, keepdim=True)
        return x * (square + (1 - square) * math.exp(-2 * t)).rsqrt()


class RingAttractor(Planar):
    """A ring attractor, eq. 17: the network has to keep an angle.

    Args:
        dt: Time between observations.
        low, high: Corners of the box in which series start.
        options: The others of `Planar`.

    Raises:
        ValueError: An argument is out of range.

    Example:
        >>> import torch
        >>> task = RingAttractor(noise_variance=0.0)
        >>> task.field.velocity(torch.tensor([0.6, 0.8])).abs().max() < 1e-6
        tensor(True)
    """

    def __init__(
        self,
        *,
        dt: float = 0.1,
        low: Sequence[float] = (-1.5, -1.5),
        high: Sequence[float] = (1.5, 1.5),
        **options: Any,
    ) -> None:
        super().__init__(RingField(), dt=dt, low=low, high=high, **options)
