"""How strongly the network contracts, over training."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import xarray as xr

from callbacks.analysis import AnalysisCallback
from rnnlab.analysis import contraction


class Contraction(AnalysisCallback):
    """Certified bound on the Lipschitz constant of the state map under every held probe, and what is reached.

    Processes that are more than the probes share out the states at which norms are taken. Bounds are of whole
    probes: each process finds them for itself.

    Args:
        every: Look after every so many epochs.
        samples: Orbits, from random states, that the lower bound is sampled along.
        steps: Length of the orbits.
        **options: Further arguments of `AnalysisCallback`, such as `std` and `seed` of the initial states.
    """

    maps_only = True

    def __init__(
        self,
        *,
        every: int = 50,
        samples: int = 4,
        steps: int = 100,
        **options: Any,
    ) -> None:
        super().__init__(
            "contraction",
            partial(contraction, steps=steps),
            every=every,
            samples=samples,
            **{"draw": draw, "summary": summary, "share": "inside"} | options,
        )


def summary(look: xr.Dataset) -> dict[str, float]:
    """Scalars of one look, of the probe that contracts least: the bounds in the norm that certifies most."""
    best = look["upper"].min("norm")
    return {
        "upper": float(best.max()),
        "sampled": float(look["sampled"].min("norm").max()),
        "rate": float(look["rate"].min("norm").max()),
        "contracting": float((best < 1).mean()),
    }


def draw(looks: xr.Dataset) -> Mapping[str, Any]:
    """The bounds over epochs."""
    from rnnlab.figures import contraction

    return {"contraction": contraction.over_epochs(looks)}
