"""Fixed points of the network and their stability, over training."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
import xarray as xr
from torch import Tensor

from callbacks.analysis import AnalysisCallback
from rnnlab.analysis import fixed_points
from rnnlab.systems import System


class FixedPoints(AnalysisCallback):
    """Fixed points under every held probe, with residual, eigenvalues and kind.

    Each look starts from new random states and from the points of the look before: these converge again in
    two or three steps, and a branch once found is not lost while it lives. So the list becomes more complete
    with every look; whether it is, the index sum tells. Not in generation mode, where the map may jump: no
    theorem says what the indices add up to, and no sum is stored.

    Processes that are more than the probes share out the starts, and what is found for its eigenvalues.

    Args:
        every: Look after every so many epochs.
        samples: Random initial states for every probe.
        tolerance: Largest residual of a fixed point.
        modes: Eigenvalues to store of each point, the least stable first.
        **options: Further arguments of `AnalysisCallback`, such as `std` and `seed` of the initial states.
    """

    maps_only = True

    def __init__(
        self,
        *,
        every: int = 10,
        samples: int = 16,
        tolerance: float = 1e-10,
        modes: int = 64,
        **options: Any,
    ) -> None:
        indices = not options.get("generation")
        super().__init__(
            "fixed_points",
            partial(points, tolerance=tolerance, modes=modes, indices=indices),
            every=every,
            samples=samples,
            **{"draw": draw, "summary": summary, "warm": known_points, "fresh": True, "share": "inside"}
            | options,
        )


def points(system: System, x0: Tensor, *, modes: int, indices: bool = True, **options: Any) -> xr.Dataset:
    """`fixed_points` with the leading eigenvalues; the index sum goes on record instead of into a warning.

    Without `indices` it is left out.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning)
        seen = fixed_points(system, x0, **options)
    # variables say it of all probes, these attributes of one process's part
    seen.attrs = {key: value for key, value in seen.attrs.items() if key not in seen}
    seen = seen if indices else seen.drop_vars("index_sum")
    return seen.isel(mode=slice(modes))


def known_points(look: xr.Dataset) -> dict[str, Any]:
    """The points of a look, to start the next from."""
    points = look["point"].transpose(..., "index", "state").values
    return {"known": torch.as_tensor(points)} if points.shape[-2] else {}


def summary(look: xr.Dataset) -> dict[str, float]:
    """Scalars of one look, means over probes: points, stable ones, most unstable directions, what is open."""
    there = look["unstable"] >= 0
    index = {"index_sum_is_one": float((look["index_sum"] == 1).mean())} if "index_sum" in look else {}
    return index | {
        "points": float(there.sum("index").mean()),
        "stable": float((look["unstable"] == 0).sum("index").mean()),
        "unstable_directions": float(look["unstable"].max()) if look.sizes["index"] else 0.0,
        "slow_points": float(look["slow_speed"].notnull().sum("slow").mean()),
        "not_converged": float((look["not_converged"] / look["starts"]).mean()),
    }


def draw(looks: xr.Dataset) -> Mapping[str, Any]:
    """Points over epochs, and the eigenvalues of the last look in the complex plane."""
    from rnnlab.figures import eigenvalues, fixed_points

    return {
        "fixed_points": fixed_points.over_epochs(looks),
        "fixed_points_eigenvalues": eigenvalues.plane(looks),
    }
