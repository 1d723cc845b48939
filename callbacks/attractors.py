"""Attractors of the network and their basins, over training."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import xarray as xr

from callbacks.analysis import AnalysisCallback
from rnnlab.analysis import attractors


class Attractors(AnalysisCallback):
    """What random initial states settle on under every held probe: points, cycles, tori, chaos.

    Processes that are more than the probes share out the starts, until they have settled and for their
    exponents; what they have come to is compared by all.

    Args:
        every: Look after every so many epochs.
        samples: Initial states for every probe; their number sets the width of the basins' intervals.
        max_burn_in: Bound on the steps until they have settled.
        **options: Further arguments of `AnalysisCallback`, such as `std` and `seed` of the initial states.
    """

    maps_only = True

    def __init__(
        self,
        *,
        every: int = 50,
        samples: int = 16,
        max_burn_in: int = 4000,
        **options: Any,
    ) -> None:
        super().__init__(
            "attractors",
            partial(attractors, max_burn_in=max_burn_in),
            every=every,
            samples=samples,
            **{"draw": draw, "summary": summary, "share": "inside"} | options,
        )


def summary(look: xr.Dataset) -> dict[str, float]:
    """Scalars of one look: attractors of a probe, and the fraction of all starts on each kind."""
    kinds = ("fixed point", "periodic orbit", "torus", "chaos", "undecided")
    fractions = {kind.replace(" ", "_"): float((look["kind"] == kind).mean()) for kind in kinds}
    return {"count": float((look["attractor_kind"] != "").sum("attractor").mean()), **fractions}


def draw(looks: xr.Dataset) -> Mapping[str, Any]:
    """Kinds over epochs, and the range of each attractor."""
    from rnnlab.figures import attractors

    return {"attractors": attractors.kinds(looks), "attractors_ranges": attractors.ranges(looks)}
