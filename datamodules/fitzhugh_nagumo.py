"""The FitzHugh-Nagumo oscillator under a noisy current (Jordan et al. 2019, section 5.1)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from datamodules.planar import Planar, check_positive, check_variance


class FitzHughNagumoField:
    """dx/dt = x - x^3 / 3 - y + I, tau dy/dt = x + a - b y; each parameter a number or one a row.

    Truth at the defaults: one equilibrium, an unstable node with rates 0.616 and 0.054 (the paper calls it a
    spiral), within a stable limit cycle of period 36.979.
    """

    def __init__(
        self,
        *,
        tau: float | Tensor = 12.5,
        a: float | Tensor = 0.7,
        b: float | Tensor = 0.8,
        current: float | Tensor = 0.7,
    ) -> None:
        self.tau, self.a, self.b, self.current = tau, a, b, current

    def velocity(self, x: Tensor) -> Tensor:
        """dx/dt at states `(*batch, 2)`."""
        v, w = x.unbind(-1)
        return torch.stack((v - v**3 / 3 - w + self.current, (v + self.a - self.b * w) / self.tau), -1)


class FitzHughNagumo(Planar):
    """A limit cycle, eq. 15: the current is drawn anew at each step and held within it.

    The paper speaks of noise in the current only, so observations have none at the default. The attribute
    `field` is that of the mean current.

    Args:
        tau, a, b: Parameters of the field.
        current: Mean of the current, which is normally distributed.
        current_variance: Its variance.
        dt: Time between observations.
        low, high: Corners of the box in which series start.
        noise_variance: Variance of the noise of observation.
        substeps: Steps of the integrator between observations.
        options: The others of `Planar`.

    Raises:
        ValueError: An argument is out of range.

    Example:
        >>> FitzHughNagumo().sequences()[1].shape
        torch.Size([29, 667, 2])
    """

    def __init__(
        self,
        *,
        tau: float = 12.5,
        a: float = 0.7,
        b: float = 0.8,
        current: float = 0.7,
        current_variance: float = 0.04,
        dt: float = 1.0,
        low: Sequence[float] = (-2.5, -1.5),
        high: Sequence[float] = (2.5, 2.5),
        noise_variance: float = 0.0,
        substeps: int = 20,
        **options: Any,
    ) -> None:
        check_positive(tau=tau)
        check_variance(current_variance=current_variance)
        for name, number in (("a", a), ("b", b), ("current", current)):
            if not isinstance(number, int | float) or not math.isfinite(number):
                raise ValueError(f"{name}={number!r} is not possible: give a finite number.")
        self.current_variance = current_variance
        field = FitzHughNagumoField(tau=tau, a=a, b=b, current=current)
        given = {"dt": dt, "low": low, "high": high, "noise_variance": noise_variance, "substeps": substeps}
        super().__init__(field, **given, **options)

    def forced(self, count: int, generator: torch.Generator) -> FitzHughNagumoField:
        """The field with one current for each of `count` states."""
        mean: Any = self.field
        draw = torch.randn(count, generator=generator, dtype=torch.float64)
        current = mean.current + math.sqrt(self.current_variance) * draw
        return FitzHughNagumoField(tau=mean.tau, a=mean.a, b=mean.b, current=current)
