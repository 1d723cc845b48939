"""Datasets of settled orbits whose values follow from a formula."""

from __future__ import annotations

import numpy as np
import xarray as xr

DIMS = ("probe", "sample", "time", "observable")


def logistic(r: np.ndarray, samples: int = 2, steps: int = 64) -> xr.Dataset:
    """x' = r x (1 - x), as `rnnlab.analysis.sweep` returns it for a batch without probes."""
    x = np.random.default_rng(0).uniform(0.2, 0.8, (len(r), samples))
    orbit = []
    for time in range(5000 + steps):
        x = r[:, None] * x * (1 - x)
        if time >= 5000:
            orbit.append(x)
    y = np.stack(orbit, axis=-1)[..., None]
    settled = np.broadcast_to((r < 3.56)[:, None], y.shape[:2])
    return xr.Dataset({"y": (("r", *DIMS[1:]), y), "settled": (("r", "sample"), settled)}, coords={"r": r})


def growing_circle(
    epochs: np.ndarray, *, probes: int = 3, samples: int = 2, steps: int = 100, birth: float = 500.0
) -> xr.Dataset:
    """A Neimark-Sacker bifurcation: rest at 0.1 until `birth`, then a circle of radius sqrt(mu)."""
    omega = 1.0 + 0.1 * np.arange(probes)
    mu = np.clip((epochs - birth) / 1000, 0, None)
    phase = np.random.default_rng(0).uniform(0, 6, (len(epochs), probes, samples, 1))
    angle = omega[:, None, None] * np.arange(steps) + phase
    y = 0.1 + np.sqrt(mu)[:, None, None, None] * np.sin(angle)
    verdict = ("epoch", "probe", "sample")
    shape = y.shape[:3]
    return xr.Dataset(
        {
            "y": (("epoch", *DIMS), y[..., None]),
            "settled": (verdict, np.ones(shape, bool)),
            "diverged": (verdict, np.zeros(shape, bool)),
            "period": (verdict, np.broadcast_to(np.where(mu > 0, 0, 1)[:, None, None], shape)),
            "burn_in": ("epoch", np.full(len(epochs), 1200)),
        },
        coords={"epoch": epochs, "probe": [f"ω = {w:.1f}" for w in omega]},
    )
