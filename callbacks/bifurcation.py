"""Bifurcation diagrams over training (Ribeiro et al. 2020, Fig. 4 and 7)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from torch import Tensor

from callbacks.analysis import AnalysisCallback, Draw, best_member
from rnnlab.analysis import orbit
from rnnlab.store import Store
from rnnlab.systems import System


class Bifurcation(AnalysisCallback):
    """Steady output under every held probe, epoch by epoch.

    From each random initial state the network runs until it has settled (or a bound is reached: then
    `settled` says so), and the outputs it goes on visiting are stored as `y`.

    Args:
        every: Look after every so many epochs.
        samples: Random initial states for every probe.
        std: Their standard deviation; the paper's authors take 100 for hidden and cell state alike.
        seed: Seed of the initial states.
        steps: Steps kept once settled.
        burn_in: Steps dropped first. Default: as many as it takes, up to `max_burn_in`.
        max_burn_in: Bound on the adaptive burn-in.
        tolerance: Largest relative change that still counts as settled. A diagram shows no less than
            1e-4, and cycles close to a resonance take very long to come below it.
        max_period: Longest period to look for, at most half of `steps`. Raise it with them where loops are
            long, as those of words are; on a torus a long enough one is found by chance.
        **options: Further arguments of `AnalysisCallback`.
    """

    maps_only = True

    def __init__(
        self,
        *,
        every: int = 10,
        samples: int = 4,
        std: float = 100.0,
        seed: int = 0,
        steps: int = 200,
        burn_in: int | None = None,
        max_burn_in: int = 4000,
        tolerance: float = 1e-4,
        max_period: int = 32,
        **options: Any,
    ) -> None:
        super().__init__(
            "bifurcation",
            partial(
                settled_output,
                steps=steps,
                burn_in=burn_in,
                max_burn_in=max_burn_in,
                tolerance=tolerance,
                max_period=max_period,
            ),
            every=every,
            samples=samples,
            std=std,
            seed=seed,
            **{"draw": draw, "summary": summary, "share": "row"} | options,
        )

    def _figures(self, draw: Draw, store: Store) -> Mapping[str, Any]:
        """With both modes side by side where both are looked at."""
        figures = dict(super()._figures(draw, store))
        if self.generates and self._base in store:
            from rnnlab.figures.modes import modes, modes_3d

            both = [store.read(name) for name in (self._base, self.name)]
            if "member" in both[1].dims:
                both = [looks.isel(member=best_member(store)) for looks in both]
            figures[f"{self._base}_modes"] = modes(*both)
            figures[f"{self._base}_modes_3d"] = modes_3d(*both)
        return figures


def settled_output(system: System, x0: Tensor, **options: Any) -> xr.Dataset:
    """`orbit` without the states, which are as large as all the rest and of no use to the diagram."""
    seen = orbit(system, x0, **options).drop_vars("last_state")
    return seen.assign(burn_in=seen["burn_in"].broadcast_like(seen["settled"]))


def summary(look: xr.Dataset) -> dict[str, float]:
    """Scalars of one look: fractions of orbits settled, at rest and oscillating; mean peak-to-peak output."""
    settled = look["settled"]
    return {
        "settled": float(settled.mean()),
        "at_rest": float((settled & (look["period"] == 1)).mean()),
        "oscillating": float((settled & (look["period"] != 1)).mean()),
        "peak_to_peak": float(np.nanmean(look["y"].max("time") - look["y"].min("time"))),
    }


def draw(looks: xr.Dataset) -> Mapping[str, Any]:
    """The paper's form (epoch, y, first difference) for the middle probe, and the plain form for all.

    Of a network with several outputs also each pair of a probe and an output.
    """
    from rnnlab.figures import bifurcation
    from rnnlab.figures.pairs import pairs

    middle = looks.sizes["probe"] // 2
    figures: dict[str, Any] = {
        "bifurcation": bifurcation.diagram_1d(looks),
        "bifurcation_3d": bifurcation.diagram_3d(looks, probe=middle),
    }
    if looks["y"].sizes["observable"] > 1:
        figures["bifurcation_pairs"] = pairs(looks)
    return figures
