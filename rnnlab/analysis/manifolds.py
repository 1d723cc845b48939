"""Which way do saddles draw in and send out? Their stable and unstable manifolds in the plane."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rnnlab.analysis.nullclines import simplified
from rnnlab.analysis.planes import Confined, Region
from rnnlab.analysis.states import to_numpy
from rnnlab.integrate import integrate
from rnnlab.systems import System, VectorField, is_flow, jacobian

START = 1e-4  # distance from the saddle at which a manifold begins, as part of the diagonal
CLOSE = 1e-3  # distance at which it has reached a fixed point
EXACT = 1e-4  # the same for a saddle: whatever comes less close passes by
LENGTH = 8.0  # diagonals that it is followed for
SLOW = 0.02  # part of the median speed below which curves are followed in time, no more by length
PIECES = 250  # of an eighth of a diagonal in length: bound on what is integrated
FINE = 1e-4  # how far a curve may be from its polyline, as part of the diagonal
GAP = 0.01  # of the diagonal: largest step between neighbours on a map's manifold
ITERATES, MOST = 5_000, 20_000  # of a map: how many, and how many points side by side


class Manifold(NamedTuple):
    """A branch of a manifold, from its saddle on."""

    curve: np.ndarray  # (vertex, 2)
    stable: bool
    saddle: int
    end: str
    error: float


class _Start(NamedTuple):
    """Where a branch leaves its saddle."""

    saddle: int
    stable: bool
    origin: Tensor  # (2,)
    along: Tensor  # (2,), as long as the distance
    bend: Tensor  # (2, 2): what is to be added for each side
    eigenvalue: float
    error: float


def manifolds_of(
    system: System | VectorField, point: Tensor, kind: list[str], region: Region, tolerance: float
) -> list[Manifold]:
    """Grow both branches of the stable and the unstable manifold of every saddle.

    A branch begins at a distance of 1e-4 of the diagonal from the saddle, on the parabola that touches the
    manifold there; `error` is by how much that differs from the eigenvector. It is integrated (backward if
    stable) by length rather than by time. Of a map, a fundamental domain, from the first point to its image,
    is mapped again and again, by Newton's method to its preimage for stable branches, with points put in
    where neighbours come to lie more than a hundredth of the diagonal apart.

    A branch ends at a "fixed point" that it comes nearer to than 1e-3 of the diagonal (a saddle: 1e-4, for it
    is passed by otherwise), where it leaves the "box" by more than its margin, after a "length" of eight
    diagonals, after a long "time", or where a preimage is not found: "not invertible".

    Args:
        system: A planar map or field.
        point: All fixed points, `(index, 2)`.
        kind: Their types; those that are "saddle" have manifolds.
        region: The box.
        tolerance: Of the integration.
    """
    starts = [
        start
        for i, name in enumerate(kind)
        if name == "saddle"
        for start in _starts(system, point, i, region)
    ]
    if not starts:
        return []
    reach = torch.tensor([EXACT if name == "saddle" else CLOSE for name in kind]).double() * region.diagonal
    if is_flow(system):
        return _of_flow(system, starts, point, reach, region, tolerance)
    return [_of_map(system, start, side, point, reach, region) for start in starts for side in range(2)]


def _starts(system: Any, point: Tensor, i: int, region: Region) -> list[_Start]:
    flow, origin = is_flow(system), point[i]
    values, vectors = np.linalg.eig(to_numpy(jacobian(system, origin[None])[0]))
    if np.iscomplexobj(values):
        return []
    dual = np.linalg.inv(vectors)
    others = torch.linalg.vector_norm(torch.cat((point[:i], point[i + 1 :])) - origin, dim=-1)
    distance = min([START * region.diagonal, *(0.05 * others).tolist()])
    strength = values if flow else np.log(np.maximum(np.abs(values), 1e-300))
    starts = []
    for k in range(2):
        step = distance * torch.from_numpy(vectors[:, k])
        sides = torch.stack((origin + step, origin - step))
        moved = (system.velocity(sides) if flow else system.step(sides) - origin).numpy()
        # what leads off the eigenvector, of second order (even) and of third (odd)
        off = moved @ dual[1 - k]
        even, odd, other = off.mean(), (off[0] - off[1]) / 2, values[1 - k]
        second, third = ((n * values[k] if flow else values[k] ** n) - other for n in (2, 3))
        if min(abs(second), abs(third)) < 1e-9 or (not flow and abs(values[k]) < 1e-9):
            continue
        bend = np.array([even / second + odd / third, even / second - odd / third])
        shift = torch.from_numpy(bend[:, None] * vectors[:, 1 - k])
        starts.append(
            _Start(i, bool(strength[k] < 0), origin, step, shift, float(values[k]), float(np.abs(bend).max()))
        )
    return starts


class _Paced:
    """A field with time replaced by length wherever it is not slow, each row forward or backward."""

    def __init__(self, field: VectorField, sign: Tensor, slow: float) -> None:
        self.field, self.sign, self.slow = field, sign, slow

    def velocity(self, x: Tensor) -> Tensor:
        v = self.field.velocity(x)
        return self.sign * v / (torch.linalg.vector_norm(v, dim=-1, keepdim=True) + self.slow)


def _of_flow(
    field: Any, starts: list[_Start], point: Tensor, reach: Tensor, region: Region, tolerance: float
) -> list[Manifold]:
    branch = [(start, side) for start in starts for side in range(2)]
    sign = torch.tensor([[-1.0 if start.stable else 1.0] for start, _ in branch]).double()
    x = torch.stack(
        [start.origin + (1 - 2 * side) * start.along + start.bend[side] for start, side in branch]
    )
    own = torch.stack([start.origin for start, _ in branch])
    grid = torch.stack(
        torch.meshgrid(*(torch.linspace(0, 1, 9).double() for _ in range(2)), indexing="ij"), -1
    )
    speed = torch.linalg.vector_norm(field.velocity(region.low + grid * (region.high - region.low)), dim=-1)
    slow = SLOW * float(speed[speed.isfinite()].median()) or 1.0
    times = torch.linspace(0, region.diagonal / 8, 41).double()[1:]
    confined = Confined(field, region)
    paths = [[start.origin[None], x[i : i + 1].clone()] for i, (start, _) in enumerate(branch)]
    ends = [""] * len(branch)
    length, away = torch.zeros(len(branch)).double(), torch.zeros(len(branch), dtype=torch.bool)
    for _ in range(PIECES):
        alive = [i for i, end in enumerate(ends) if not end]
        if not alive:
            break
        piece = integrate(_Paced(confined, sign[alive], slow), x[alive], times, tolerance=tolerance)
        for row, i in enumerate(alive):
            path = piece[:, row]
            distance = torch.linalg.vector_norm(path[:, None] - point, dim=-1)
            home = torch.linalg.vector_norm(path - own[i], dim=-1) > 10 * CLOSE * region.diagonal
            away_now = away[i] | (home.cumsum(0) > 0)
            near = distance < reach
            near[:, branch[i][0].saddle] &= away_now
            stops = {"fixed point": near.any(-1), "box": ~region.holds(path)}
            first = {end: int(hit.int().argmax()) for end, hit in stops.items() if bool(hit.any())}
            if first:
                ends[i] = min(first, key=lambda end: first[end])
                path = path[: first[ends[i]] + 1]
                if ends[i] == "fixed point":
                    path = torch.cat((path, point[near[first[ends[i]]].int().argmax()][None]))
            paths[i].append(path)
            away[i] = away_now[-1]
            x[i] = path[-1]
            whole = torch.cat((paths[i][-2][-1:], path))
            length[i] += torch.linalg.vector_norm(whole.diff(dim=0), dim=-1).sum()
            if not ends[i] and length[i] > LENGTH * region.diagonal:
                ends[i] = "length"
    return [
        Manifold(
            simplified(to_numpy(torch.cat(paths[i])), FINE * region.diagonal),
            start.stable,
            start.saddle,
            ends[i] or "time",
            start.error,
        )
        for i, (start, _) in enumerate(branch)
    ]


def _of_map(system: Any, start: _Start, side: int, point: Tensor, reach: Tensor, region: Region) -> Manifold:
    def step(x: Tensor) -> tuple[Tensor, Tensor]:
        if start.stable:
            return _preimage(system, x)
        return system.step(x), torch.ones(len(x), dtype=torch.bool)

    factor = 1 / start.eigenvalue if start.stable else start.eigenvalue
    turns = 2 if factor < 0 else 1  # a negative eigenvalue swaps the sides
    growth = abs(factor) ** turns

    def image(part: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Points of the first domain, from 0 to 1 along it, mapped so many times."""
        scale = growth ** part[:, None]
        x = start.origin + scale * (1 - 2 * side) * start.along + scale**2 * start.bend[side]
        good = torch.ones(len(x), dtype=torch.bool)
        for _ in range(count * turns):
            x, known = step(x)
            good &= known
        return x, good

    part = torch.linspace(0, 1, 5).double()
    x, good = image(part, 0)
    path, end, length, away = [start.origin[None], x], "", 0.0, False
    count = 0
    while not end and count < ITERATES:
        count += 1
        for _ in range(turns):
            x, known = step(x)
            good &= known
        for _ in range(12):
            wide = torch.linalg.vector_norm(x.diff(dim=0), dim=-1) > GAP * region.diagonal
            wide &= good[1:] & good[:-1]
            if not bool(wide.any()) or len(part) > MOST:
                break
            extra = (part[1:] + part[:-1])[wide] / 2
            more, sure = image(extra, count)
            order = torch.cat((part, extra)).argsort()
            part, x, good = (
                torch.cat((part, extra))[order],
                torch.cat((x, more))[order],
                torch.cat((good, sure))[order],
            )
        distance = torch.linalg.vector_norm(x[:, None] - point, dim=-1)
        home = torch.linalg.vector_norm(x - start.origin, dim=-1) > 10 * CLOSE * region.diagonal
        near = distance < reach
        near[:, start.saddle] &= away | (home.cumsum(0) > 0)
        away = away or bool(home[-1])
        stops = {"not invertible": ~good, "box": ~region.holds(x), "fixed point": near.any(-1)}
        first = {name: int(hit.int().argmax()) for name, hit in stops.items() if bool(hit.any())}
        piece = x
        if first:
            end = min(first, key=lambda name: first[name])
            piece = x[: first[end] + (end != "not invertible")]
            if end == "fixed point":
                piece = torch.cat((piece, point[near[first[end]].int().argmax()][None]))
        path.append(piece[1:])
        length += float(torch.linalg.vector_norm(piece.diff(dim=0), dim=-1).sum())
        if not end and length > LENGTH * region.diagonal:
            end = "length"
    curve = simplified(to_numpy(torch.cat(path)), FINE * region.diagonal)
    return Manifold(curve, start.stable, start.saddle, end or "time", start.error)


def _preimage(system: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """Points that are mapped to `x`, by Newton's method, and whether each was found."""
    y = 2 * x - system.step(x)
    for _ in range(30):
        rest = system.step(y) - x
        found = torch.linalg.vector_norm(rest, dim=-1) <= 1e-13 * (1 + torch.linalg.vector_norm(x, dim=-1))
        if bool(found.all()):
            break
        y = torch.where(
            found[:, None], y, y - (torch.linalg.inv_ex(jacobian(system, y))[0] @ rest[..., None])[..., 0]
        )
    return y, found
