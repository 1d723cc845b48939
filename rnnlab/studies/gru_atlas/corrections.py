"""Parameters near the printed ones at which a published row holds.

    python -m rnnlab.studies.gru_atlas.corrections

Two fixed points that meet are a double root, f = 0 and det Df = 0, and that is one condition on the
parameters: at numbers rounded to some digits there are two points or none. For every way in which the pairs
and ghosts found at the printed numbers can make up the published row, the nearest parameters are sought at
which they all collide. Where that fails, the printed row may have a misprint: single changes of it are tried.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
import xarray as xr
from torch import Tensor
from tqdm import tqdm

from rnnlab.analysis import certified_fixed_points
from rnnlab.analysis.slow_points import slow_points
from rnnlab.analysis.topology import topology
from rnnlab.gru_flow import GRUFlow
from rnnlab.studies import program
from rnnlab.studies.gru_atlas.cases import NAMES, TYPES, Case, cases, flow
from rnnlab.studies.gru_atlas.table import index_sum

SQUARE = (-torch.ones(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64))  # tanh leads nowhere else
NEAR = 0.4  # two points further apart than that are not taken for a pair that was to be one
SLOW = 0.05  # nor faster minima of the speed for ghosts
BIASES = np.array([name.startswith("b") for name in NAMES])


class Collision(NamedTuple):
    """A point that may be there twice."""

    start: np.ndarray  # (2,)
    merges: tuple[int, ...]  # places of the two points that become one; none for a ghost


class Correction(NamedTuple):
    """Parameters at which the published row holds.

    Attributes:
        parameters: `(12,)`.
        points: Where fixed points collide there, `(collision, 2)`.
        residual: Largest violation of f = 0 and det Df = 0 at these.
        change: Largest change of a printed number.
        within: Whether no number changes by more than its rounding.
    """

    parameters: np.ndarray
    points: np.ndarray
    residual: float
    change: float
    within: bool


def correct(case: Case, reading: np.ndarray | None = None) -> Correction | None:
    """The nearest parameters at which the census is the published row.

    Numbers printed with decimals may change, in units of their rounding; and, if that leads further than the
    rounding, all biases with them, in units of one. The smaller change is taken.

    Args:
        case: The case.
        reading: Another reading of its twelve numbers, to start from, `(12,)`.

    Returns:
        The correction; None if no combination of collisions leads to the row.
    """
    printed = case.parameters if reading is None else reading
    field = flow(torch.from_numpy(printed))
    points = certified_fixed_points(field, SQUARE)
    simple = case.counts["sink_saddles"] + case.counts["source_saddles"] + case.counts["codimension_2"] == 0
    if (simple or not points.complete) and agrees(topology(field), case.counts):
        return Correction(printed, np.empty((0, 2)), 0.0, 0.0, True)
    if not points.complete:
        return None
    found = []
    for way in _ways(field, points, case.counts):
        starts = torch.from_numpy(np.stack([collision.start for collision in way]))
        for scale in _scales(case):
            solved = collide(torch.from_numpy(printed), starts, torch.from_numpy(scale))
            if solved is None:
                continue
            change = np.abs(solved[0].numpy() - printed)
            within = bool((change <= case.rounding).all())
            near, where, residual = solved
            found.append(Correction(near.numpy(), where.numpy(), residual, float(change.max()), within))
    for one in sorted(found, key=lambda one: (not one.within, one.change)):
        if agrees(topology(flow(torch.from_numpy(one.parameters))), case.counts):
            return one
    return None


def agrees(found: xr.Dataset, counts: dict[str, int]) -> bool:
    """Whether a `topology` has as many fixed points of each type, and none undecided."""
    return all(int(found[name]) == counts[name] for name in TYPES) and not int(found.undecided)


def collide(
    parameters: Tensor, starts: Tensor, scale: Tensor, steps: int = 100
) -> tuple[Tensor, Tensor, float] | None:
    """The nearest parameters at which the flow has double fixed points.

    Of all parameters with f = 0 and det Df = 0 at points near `starts`, those with the least norm of the
    change relative to `scale`: Newton's method, of which each step is the least-norm solution of the
    linearised equations. It stops where rounding does.

    Args:
        parameters: Where from, `(12,)`.
        starts: `(collision, 2)`.
        scale: Unit of each parameter's change, `(12,)`; 0 for those that stay.
        steps: At most so many.

    Returns:
        The parameters, the points, and the largest residual; None without convergence.
    """
    x, p, free = starts.clone(), parameters.clone(), scale > 0
    unit = scale[free]
    for _ in range(steps):
        value, along_x, along_p = _linearised(x, p)
        along_p = along_p[:, free] * unit
        moved = (p - parameters)[free] / unit
        # what no move of the points can mend, the parameters must
        rest = torch.linalg.svd(along_x)[0][:, x.numel() :].mT
        matrix = rest @ along_p
        target = torch.linalg.pinv(matrix, rtol=1e-14) @ (matrix @ moved - rest @ value)
        dp = target - moved
        dx = torch.linalg.lstsq(along_x, -(value + along_p @ dp)[:, None]).solution.view_as(x)
        length = torch.cat(((dp * unit).abs(), dx.abs().flatten())).max().item()
        if not math.isfinite(length):
            return None
        damping = min(1.0, 0.3 / max(length, 1e-300))
        p = p.index_put((free,), p[free] + damping * unit * dp)
        x = x + damping * dx
        if length < 1e-14 or float(x.abs().max()) > 1:
            break
    residual = float(_equations(x, p).abs().max())
    apart = torch.pdist(x).min().item() > 1e-3 if len(x) > 1 else True
    return (p, x, residual) if residual < 1e-12 and apart and float(x.abs().max()) <= 1 else None


def _equations(x: Tensor, p: Tensor) -> Tensor:
    """f and det Df at points `(collision, 2)`: `(collision, 3)`."""
    field = flow(p)
    return torch.cat((field.velocity(x), torch.linalg.det(field.jacobian(x))[:, None]), -1)


def _linearised(x: Tensor, p: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The equations, flattened, and their derivatives by all points and by all parameters."""
    derivative: Any = torch.autograd.functional.jacobian
    along_p = derivative(lambda q: _equations(x, q).flatten(), p)
    along_x = derivative(lambda y: _equations(y, p).sum(0), x)
    return _equations(x, p).flatten(), torch.block_diag(*along_x.movedim(1, 0)), along_p


def _scales(case: Case) -> Iterator[np.ndarray]:
    if case.rounding.any():
        yield case.rounding
    yield np.where(BIASES | (case.rounding > 0), 1.0, 0.0)


def _ways(field: GRUFlow, found: xr.Dataset, row: dict[str, int]) -> Iterator[tuple[Collision, ...]]:
    """Choices of collisions that make the row from the simple points `found`."""
    kind = found.kind.values
    saddles = kind == "saddle"
    merging, vanished = [], []
    for other, name in (("stable", "sink"), ("unstable", "source")):
        here = np.char.startswith(kind, other)
        pairs = int(here.sum()) - row[f"{name}s"]
        merging.append((_pairs(found.point.values, np.nonzero(here)[0], np.nonzero(saddles)[0]), pairs))
        vanished.append((f"{name}-saddle", row[f"{name}_saddles"] - pairs))
    if min(number for _, number in merging + vanished) < 0:
        return
    if saddles.sum() - sum(number for _, number in merging) != row["saddles"]:
        return
    slow = slow_points(field, SQUARE) if any(number for _, number in vanished) else []
    for name, number in vanished:
        ghosts = [Collision(s.point.numpy(), ()) for s in slow if s.type == name and s.speed < SLOW]
        merging.append((ghosts, number))
    for parts in itertools.product(*(itertools.combinations(*some) for some in merging)):
        way = tuple(itertools.chain(*parts))
        used = [i for collision in way for i in collision.merges]
        if way and len(set(used)) == len(used):
            yield way


def _pairs(point: np.ndarray, others: np.ndarray, saddles: np.ndarray) -> list[Collision]:
    return [
        Collision((point[i] + point[j]) / 2, (int(i), int(j)))
        for i, j in itertools.product(others, saddles)
        if np.linalg.norm(point[i] - point[j]) < NEAR
    ]


def readings(case: Case) -> dict[str, np.ndarray]:
    """Rows that differ from the printed one by one slip, by what is changed.

    A digit is another, or what is printed as 0 is a number of one digit; a sign, or two, are lost or added; a
    decimal point is moved by one place; or one digit is another in two numbers alike in the same matrix or
    vector.
    """
    slips: dict[str, dict[str, str]] = {}

    def note(change: dict[str, str]) -> None:
        slips.setdefault(", ".join(f"{name} = {text}" for name, text in change.items()), change)

    printed = dict(zip(NAMES, case.printed, strict=True))
    signs = {name: _negated(text) for name, text in printed.items() if float(text)}
    for name, text in printed.items():
        for other in [*_digits(text), *_shifted(text)]:
            note({name: other})
    for size in (1, 2):
        for names in itertools.combinations(signs, size):
            note({name: signs[name] for name in names})
    for one, two in itertools.combinations(printed, 2):
        if one[:2] == two[:2] and printed[one] == printed[two] and float(printed[one]):
            for other in _digits(printed[one]):
                note({one: other, two: other})
    return {
        label: np.array([float(change.get(name, text)) for name, text in printed.items()])
        for label, change in slips.items()
    }


def _digits(text: str) -> list[str]:
    if not float(text):
        return [f"{sign}{digit}" for digit in range(1, 10) for sign in ("", "-")]
    places = [i for i, letter in enumerate(text) if letter.isdigit()]
    others = (text[:i] + str(digit) + text[i + 1 :] for i in places for digit in range(10))
    return [other for other in others if float(other)]


def _shifted(text: str) -> list[str]:
    return [f"{float(text) * factor:g}" for factor in (0.1, 10)] if float(text) else []


def _negated(text: str) -> str:
    return text[1:] if text.startswith("-") else f"-{text}"


def best(case: Case, progress: bool = False) -> tuple[str, dict[str, int], Correction] | None:
    """What makes sense of a row: the reading, the numbers of fixed points by type, and where they hold.

    The first of these that there is: the published row near the printed parameters; another row with as many
    points within their rounding; the published row after a single slip, within the rounding of the other
    numbers; and of the last two that with the smaller change.

    Args:
        case: The case.
        progress: Show a bar where slips are tried, which takes minutes.
    """
    if (one := correct(case)) is not None:
        return "", case.counts, one
    found = [
        ("", row, one) for row in _others(case) if (one := correct(replace(case, counts=row))) is not None
    ]
    if not any(one.within for _, _, one in found):
        tried = tqdm(readings(case).items(), desc=f"slips in {case.name}", disable=not progress)
        found += [
            (label, case.counts, one)
            for label, reading in tried
            if (one := correct(case, reading)) is not None
        ]
    return min(found, key=lambda item: (not item[2].within, item[2].change), default=None)


def _others(case: Case) -> Iterator[dict[str, int]]:
    """Rows with as many points, at most as many collisions, and indices that add up to 1."""
    total, most = sum(case.counts.values()), case.counts["sink_saddles"] + case.counts["source_saddles"]
    for collisions in range(1, most + 1):
        pairs, even = divmod(total - collisions, 2)
        for attracting, sources in itertools.product(range(collisions + 1), range(pairs + 1)):
            if even:
                values = (pairs + 1 - sources, sources, pairs, attracting, collisions - attracting, 0)
                row = dict(zip(TYPES, values, strict=True))
                if row != case.counts:
                    yield row


def main(argv: list[str] | None = None) -> Path:
    """Write corrected.csv for all cases whose row does not come out and could be as printed."""
    parser = program.parser("gru_atlas.corrections", "Parameters at which the paper's rows hold. Slow.")
    options = parser.parse_args(argv)
    rows = []
    for case in tqdm(cases().values(), desc="cases"):
        if index_sum(case.counts) != 1 or agrees(topology(case.field()), case.counts):
            continue
        found = best(case, progress=True)
        if found is not None:
            reading, counts, one = found
            numbers = dict(zip(NAMES, (repr(float(p)) for p in one.parameters), strict=True))
            about = {"change": f"{one.change:.3g}", "within": one.within, "residual": f"{one.residual:.1g}"}
            rows.append({"case": case.name, "reading": reading, **counts, **about, **numbers})
    return program.save_table(pd.DataFrame(rows), options.out / "corrected.csv")


if __name__ == "__main__":
    program.run(main)
