"""How smooth the cost is, over training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import xarray as xr
from torch import Tensor

from callbacks.cost import CostCallback
from rnnlab.analysis import smoothness


class Smoothness(CostCallback):
    """Lipschitz constants of the cost and of its gradient, from below, for growing numbers of time steps.

    By default they are those at the weights themselves: three gradients at each horizon. With horizons that
    double and 4 sequences of 400 steps that costs as much as about 4 epochs of the sine task's training (an
    LSTM of 200 units, 100 sequences in batches of 10). `points=3` looks in the ball as well and costs
    four times as much.

    Args:
        every: Look after every so many epochs.
        sequences: How many sequences the cost is of.
        horizons: Numbers of time steps. Default: powers of two, and all there are.
        rays: Random directions, beside that of the gradient and the sharpest.
        points: Places along each; 1 is the weights themselves.
        radius: How far the others lie apart from them, relative to the length of all weights.
        **options: Further arguments of `CostCallback`.
    """

    def __init__(
        self,
        *,
        every: int = 100,
        sequences: int = 4,
        horizons: Sequence[int] | None = None,
        rays: int = 0,
        points: int = 1,
        radius: float = 0.05,
        seed: int = 0,
        **options: Any,
    ) -> None:
        def look(network: Any, inputs: Tensor, targets: Tensor, objective: Any) -> xr.Dataset:
            return smoothness(
                network,
                inputs,
                targets,
                objective,
                horizons=None if horizons is None else list(horizons),
                rays=rays,
                points=points,
                radius=radius,
                seed=seed,
            )

        super().__init__(
            "smoothness",
            look,
            every=every,
            sequences=sequences,
            **{"draw": draw, "summary": summary} | options,
        )


def summary(look: xr.Dataset) -> dict[str, float]:
    """Scalars of one look: the constants of the longest horizon, and the powers of N that they grow as.

    Of an ensemble the largest.
    """
    last = look["lipschitz"].isel(horizon=-1)
    power = look["rate"].sel(law="power")
    return {
        "lipschitz": float(last.sel(constant="V").max()),
        "gradient_lipschitz": float(last.sel(constant="grad V").max()),
        "power": float(power.sel(constant="V").max()),
        "gradient_power": float(power.sel(constant="grad V").max()),
    }


def draw(looks: xr.Dataset) -> Mapping[str, Any]:
    """The constants against the number of steps, and over epochs."""
    from rnnlab.figures import smoothness

    return {
        "smoothness": smoothness.against_horizon(looks),
        "smoothness_epochs": smoothness.over_epochs(looks),
    }
