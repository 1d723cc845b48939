"""A line of equilibria (Jordan et al. 2019, section 5.2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from datamodules.planar import Planar


class LineField:
    """dx/dt = -x, dy/dt = 0.

    Truth: every point of the y-axis is an equilibrium and draws straight towards it what has the same y.
    """

    def velocity(self, x: Tensor) -> Tensor:
        """dx/dt at states `(*batch, 2)`."""
        return x * x.new_tensor([-1.0, 0.0])

    def solution(self, x: Tensor, t: float) -> Tensor:
        """States a time `t` later."""
        return x * x.new_tensor([math.exp(-t), 1.0])


class LineAttractor(Planar):
    """A line attractor, eq. 16: the network has to keep a number.

    Args:
        dt: Time between observations.
        low, high: Corners of the box in which series start.
        options: The others of `Planar`.

    Raises:
        ValueError: An argument is out of range.

    Example:
        >>> import torch
        >>> task = LineAttractor(noise_variance=0.0)
        >>> task.field.velocity(torch.tensor([2.0, 1.0]))
        tensor([-2.,  0.])
    """

    def __init__(
        self,
        *,
        dt: float = 0.1,
        low: Sequence[float] = (-2.0, -2.0),
        high: Sequence[float] = (2.0, 2.0),
        **options: Any,
    ) -> None:
        super().__init__(LineField(), dt=dt, low=low, high=high, **options)
