"""Paper against certificate, case by case, with a verdict that follows from the numbers."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from importlib import resources
from typing import NamedTuple

import numpy as np
import torch
import xarray as xr

from rnnlab.gru_flow import GRUFlow
from rnnlab.studies.gru_atlas.cases import NAMES, TYPES, Case, flow

SLOW = 0.01  # speed below which a minimum of it is called a ghost here
WORDS = {
    "sink_saddles": "sink-saddle",
    "source_saddles": "source-saddle",
    "codimension_2": "codimension-2 point",
}


class Corrected(NamedTuple):
    """Parameters near the printed ones, as `corrections` found them.

    Attributes:
        case: Name of the case.
        reading: The misprint that is assumed, such as "Ur22 = -1"; "" for none.
        counts: Fixed points of each type there: the published row, or another one.
        change: Largest change of a number read, in its own units.
        within: Whether no number changes by more than half a unit of its last printed place.
        residual: Largest violation of f = 0 and det Df = 0 at the points that collide.
        parameters: `(12,)`, in the order of `NAMES`.
    """

    case: str
    reading: str
    counts: dict[str, int]
    change: float
    within: bool
    residual: float
    parameters: np.ndarray

    def field(self) -> GRUFlow:
        """The flow with these parameters."""
        return flow(torch.from_numpy(self.parameters))


def corrected() -> dict[str, Corrected]:
    """What `python -m rnnlab.studies.gru_atlas.corrections` found, by case.

    Example:
        >>> corrected()["xxxiv"].reading
        'Uh11 = 2, Uh22 = 2'
    """
    with resources.files("rnnlab.studies.gru_atlas").joinpath("corrected.csv").open(encoding="utf-8") as text:
        rows = list(csv.DictReader(text))
    return {
        row["case"]: Corrected(
            row["case"],
            row["reading"],
            {name: int(row[name]) for name in TYPES},
            float(row["change"]),
            row["within"] == "True",
            float(row["residual"]),
            np.array([float(row[name]) for name in NAMES]),
        )
        for row in rows
    }


def words(counts: Mapping[str, int]) -> str:
    """Numbers of fixed points as text.

    Example:
        >>> words({"sinks": 2, "sources": 0, "saddles": 1, "sink_saddles": 1})
        '2 sinks, 1 saddle, 1 sink-saddle'
    """
    parts = [
        f"{number} {WORDS.get(name, name[:-1])}{'s' * (number > 1)}"
        for name, number in counts.items()
        if number
    ]
    return ", ".join(parts)


def counts(found: xr.Dataset) -> dict[str, int]:
    """Of a `topology`: number of fixed points of each type."""
    return {name: int(found[name]) for name in (*TYPES, "undecided")}


def certified(found: xr.Dataset) -> str:
    """Of a `topology`: what there is, and how many of the points are degenerate in spite of their name."""
    cubic = int((found.degeneracy == "cubic").sum())
    return f"{found.signature.item()}" + (
        f" ({cubic} without a linear and a quadratic term)" if cubic else ""
    )


def nearly(found: xr.Dataset) -> str:
    """Of a `topology`: pairs of points that nearly collide, and ghosts of collisions."""
    said = []
    for kind, near, distance in zip(
        found.type.values, found.nearly.values, found.nearly_distance.values, strict=True
    ):
        if near and kind != "saddle" and np.isfinite(distance):
            said.append(f"{near}: two points {distance:.2g} apart")
    for kind, speed in zip(found.slow_type.values, found.slow_speed.values, strict=True):
        if kind and speed < SLOW:
            said.append(f"{kind}: ghost of speed {speed:.2g}")
    return "; ".join(
        f"{said.count(one)} x {one}" if said.count(one) > 1 else one for one in dict.fromkeys(said)
    )


def index_sum(published: Mapping[str, int]) -> int:
    """Of the indices of a published row; collisions count 0. Poincare and Hopf: it is 1 for these flows."""
    return published["sinks"] + published["sources"] - published["saddles"]


def verdict(case: Case, found: xr.Dataset, near: Corrected | None) -> str:
    """What becomes of a published row, and why."""
    have = counts(found)
    if all(have[name] == case.counts[name] for name in TYPES) and not have["undecided"]:
        return "as published"
    if index_sum(case.counts) != 1:
        return (
            f"cannot be as printed: the indices of its points add up to {index_sum(case.counts)}, not 1; "
            f"certified are {words(have)}"
        )
    if near is None:
        return "not found near the printed parameters"
    size = f"changes of at most {near.change:.2g}, " + (
        "within rounding" if near.within else "beyond rounding (whole numbers taken as exact)"
    )
    if near.counts != case.counts:
        return f"not found; instead {words(near.counts)} by {size}"
    if not near.reading:
        return f"as published by {size}"
    if not near.within:
        return f"not found; the nearest guess is {near.reading} and {size}"
    return f"as published with {near.reading}, a misprint" + (f", and {size}" if near.change else "")


def row(case: Case, found: xr.Dataset, near: Corrected | None) -> dict[str, str | int]:
    """One row of the table."""
    return {
        "case": case.name,
        "paper": words(case.counts),
        "certified": certified(found),
        "nearly degenerate": nearly(found),
        "verdict": verdict(case, found, near),
    }
