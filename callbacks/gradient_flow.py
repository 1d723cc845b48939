"""What vanishes and what explodes on the way back through time, over training."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import xarray as xr

from callbacks.cost import CostCallback
from rnnlab.analysis import gradient_flow


class GradientFlow(CostCallback):
    """Gradients of the cost with respect to earlier states, and products of Jacobians, of some sequences.

    Args:
        every: Look after every so many epochs.
        sequences: How many training sequences are looked at; several processes share them out.
        max_lag: Longest product of Jacobians.
        moments: At how many steps the contributions to the gradient of the parameters are taken.
        **options: Further arguments of `CostCallback`.
    """

    def __init__(
        self,
        *,
        every: int = 100,
        sequences: int = 4,
        max_lag: int = 100,
        moments: int = 10,
        **options: Any,
    ) -> None:
        super().__init__(
            "gradient_flow",
            partial(gradient_flow, max_lag=max_lag, moments=moments),
            every=every,
            sequences=sequences,
            shared=True,
            **{"draw": draw, "summary": summary} | options,
        )


def summary(look: xr.Dataset) -> dict[str, float]:
    """Scalars of one look: mean rate and exponent, the shares of sequences that vanish and explode."""
    return {
        "rate": float(look["rate"].mean()),
        "exponent": float(look["exponent"].mean()),
        "vanishing": float((look["fate"] == "vanishing").mean()),
        "exploding": float((look["fate"] == "exploding").mean()),
    }


def draw(looks: xr.Dataset) -> Mapping[str, Any]:
    """Norms against time and lag, one line a look, the rates over epochs, and what each parameter gets."""
    from rnnlab.figures import gradient_flow

    figures = {"gradient_flow": gradient_flow.over_time(looks)}
    if looks["contribution"].size:
        figures["gradient_flow_parameters"] = gradient_flow.parameters(looks)
    return figures
