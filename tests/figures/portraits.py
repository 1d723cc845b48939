"""Looks of the callback `phase_portrait`, as the store gives them back, from formulas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from rnnlab.labelled import concatenate

WEIGHT = np.array([[2.0, 1.0], [-0.5, 1.5]])  # of the readout y = W x + b
OFFSET = np.array([0.2, -0.1])
STEPS, SERIES, SIDE = 40, 2, 6


def grid(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    axes = (np.linspace(low[k], high[k], SIDE) for k in range(2))
    return np.stack(np.meshgrid(*axes), -1)


def network(rates: Sequence[float], *, goal: bool = True, planar: bool = True) -> xr.Dataset:
    """Maps x' = (rate, 1/2) * x, a member each: a sink or a saddle at 0; a cycle where the rate is -1."""
    parts = [_one(rate, goal, planar) for rate in rates]
    return concatenate([part.expand_dims("member") for part in parts], "member")


def _one(rate: float, goal: bool, planar: bool) -> xr.Dataset:
    factors = np.array([rate, 0.5])
    low, high = np.full(2, -1.0), np.full(2, 1.0)
    path = np.array([[0.8, 0.4], [-0.3, 0.6]])[:, None] * factors ** np.arange(STEPS)[:, None]
    kind, flow = ("saddle", "saddle") if rate > 1 else ("saddle", "sink") if rate < -1 else ("sink", "sink")
    turning = rate == -1
    kind = "undecided" if turning else kind
    cycles = int(turning)
    curve = np.array([[[0.8, 0.0], [-0.8, 0.0]]])[:cycles]
    names = {"sink": "sinks", "saddle": "saddles", "undecided": "undecided"}
    signature = f"1 {kind}" + ", 1 stable cycle" * cycles
    data: dict[str, Any] = {
        "velocity": (("row", "column", "axis"), grid(low, high) * (factors - 1)),
        "box_low": ("axis", low),
        "box_high": ("axis", high),
        "label": ("axis", ["x", "y"] if planar else ["first component (90%)", "second component (10%)"]),
        "nullcline": (
            ("curve", "vertex", "axis"),
            np.array([[[0.0, -1.0], [0.0, 1.0]], [[-1.0, 0.0], [1.0, 0.0]]])[: 2 * planar],
        ),
        "nullcline_of": ("curve", np.arange(2)[: 2 * planar]),
        "trajectory": (("series", "time", "axis"), path),
        "forecast": (("series", "time", "observable"), path @ WEIGHT.T + OFFSET),
        "point": (("index", "axis"), np.zeros((1, 2))),
        "y": (("index", "observable"), OFFSET[None]),
        "eigenvalue": (("index", "mode"), factors[None] + 0j),
        "residual": ("index", [1e-17]),
        "certified": ("index", [planar]),
        "type": ("index", [kind]),
        "flow_type": ("index", [flow]),
        "cycle_point": (("cycle", "phase", "axis"), curve),
        "cycle_y": (("cycle", "phase", "observable"), curve @ WEIGHT.T + OFFSET),
        "cycle_period": ("cycle", np.full(cycles, 2.0)),
        "cycle_type": ("cycle", np.full(cycles, "stable")),
        **{plural: int(kind == name) for name, plural in names.items()},
        "sources": 0,
        "cycles": cycles,
        "signature": signature,
        "flow_signature": f"1 {flow}",
    }
    if goal:
        target_low, target_high = np.array([-2.0, -1.0]), np.array([2.0, 1.5])
        nodes = grid(target_low, target_high)
        inverse = np.linalg.inv(WEIGHT)
        moved = ((nodes - OFFSET) @ inverse.T * (factors - 1)) @ WEIGHT.T
        end = ((nodes - OFFSET) @ inverse.T * factors**STEPS) @ WEIGHT.T + OFFSET
        corners = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]]) @ WEIGHT.T + OFFSET
        axes = ("target_row", "target_column")
        data |= {
            "predicted_velocity": ((*axes, "axis"), moved),
            "predicted_corner": (("corner", "axis"), corners),
            "predicted_end": ((*axes, "observable"), end),
        }
    attrs = {"projection": "" if planar else "principal components"}
    return xr.Dataset(data, attrs=attrs)


def target() -> xr.Dataset:
    """The field -y, which everything in the box follows to 0."""
    low, high = np.array([-2.0, -1.0]), np.array([2.0, 1.5])
    nodes, shown = grid(low, high), np.array([[1.5, 1.0], [-1.0, 0.5]])
    fading = np.exp(-0.1 * np.arange(1, STEPS + 1))[:, None]
    axes = ("target_row", "target_column", "axis")
    return xr.Dataset(
        {
            "target_low": ("axis", low),
            "target_high": ("axis", high),
            "target_velocity": (axes, -nodes),
            "target_end": (axes, nodes * fading[-1]),
            "shown": (("series", "axis"), shown),
            "target_series": (("series", "time", "axis"), shown[:, None] * fading),
            "trained_steps": 29,
        }
    )


def looks(history: Sequence[Sequence[float]], *, goal: bool = True, planar: bool = True) -> xr.Dataset:
    """At epochs 0, 100, ... members with these rates."""
    parts = [network(rates, goal=goal, planar=planar).expand_dims(probe=["silence"]) for rates in history]
    whole = concatenate([part.expand_dims("epoch") for part in parts], "epoch")
    if goal:
        whole = whole.merge(target().expand_dims(epoch=len(parts)))
    return whole.assign_coords(epoch=100 * np.arange(len(parts)))


def alone(history: Sequence[float], **options: Any) -> xr.Dataset:
    """One network."""
    return looks([[rate] for rate in history], **options).isel(member=0, drop=True)
