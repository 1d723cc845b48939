"""Where do the dynamics change in training? Fixed points followed through a chain of families."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor
from tqdm import tqdm

from rnnlab.analysis.arclength import NEUTRAL, Family
from rnnlab.analysis.continuation import SAME, continuation
from rnnlab.analysis.fixed_points import fixed_points
from rnnlab.analysis.states import check_states, one_thread, to_numpy
from rnnlab.systems import jacobian, observe

STEPS = ("parameter", "point", "y", "unstable", "residual", "modulus", "angle_leading")
KINDS: dict[str, Any] = {  # what is known of a bifurcation
    **dict.fromkeys(("parameter", "point", "y", "residual", "distance", "coefficient", "angle"), float),
    **dict.fromkeys(("type", "criticality"), str),
    **dict.fromkeys(("branch", "unstable_before", "unstable_after"), int),
}
REFINEMENTS = 3  # of the step within a piece, each to a quarter
BACKWARD = slice(None, None, -1)
PLAIN = ("criticality", "coefficient", "angle", "unstable_before", "unstable_after")
BIFURCATION = {  # by its name in the dataset of a continuation
    name: name if name in PLAIN else f"bifurcation_{name}"
    for name in KINDS
    if name not in ("branch", "unstable_before", "unstable_after")
}


@torch.no_grad()
def piecewise_continuation(
    pieces: Sequence[Family],
    knots: Sequence[float],
    x0: Tensor,
    *,
    samples: int = 0,
    seed: int = 0,
    name: str = "epoch",
    max_steps: int = 200,
    max_step: float = 0.25,
    progress: bool = False,
) -> xr.Dataset:
    """Follow all fixed points of a map along a curve of systems with bends, and name their bifurcations.

    Kept checkpoints of a training, joined by straight lines, are such a curve (`rnnlab.families.through`):
    its systems between the knots are not those that the training went through, but every one is between two
    that it did, and where the two ends differ in their fixed points or in the stability of these, any curve
    between them has a bifurcation.

    At each knot `fixed_points` searches from `x0`, from random states and from what is known there. Whatever
    is found is followed both ways, piece by piece, by `continuation`: through folds, back to earlier knots
    and on to later ones, until it leaves the curve at an end or is lost. So a point that is found late gets
    its past as well, and a branch ends for a reason that has a name. Where two branches run into one, a step
    was too long: that piece is followed anew by steps of a quarter, up to three times. Bifurcations exactly
    at a knot belong to the piece behind it.

    Args:
        pieces: For each piece the system over the parameter, as `continuation` wants it: smooth, and defined
            slightly beyond its ends. Neighbours agree at the knot between them.
        knots: The parameter at both ends of each piece, rising; one more than there are pieces.
        x0: States to search from at every knot, `(sample, state)`.
        samples: Further ones at every knot, random, see `fixed_points`.
        seed: Of these.
        name: Name of the parameter.
        max_steps: Most steps on a branch within one piece.
        max_step: Longest step, in parts of a piece and in root mean square of the state's components.
        progress: Show a progress bar.

    Returns:
        A dataset over `branch` and `step` (padded by NaN, -1), bifurcations among the steps; each branch
        begins at its earlier end. As `continuation`'s: `parameter`, `point` `(.., state)`, `y` `(.., phase,
        observable)` with one phase, `unstable`, `residual` and over `bifurcation`, sorted by the parameter,
        each listed once, `bifurcation_` `parameter`, `point`, `y`, `type`, `branch`, `residual`, `distance`,
        and `criticality`, `coefficient` and `angle`. Besides:

        - `modulus`, `angle_leading` `(branch, step)`: of the eigenvalue that is largest in size, the angle
          in [0, pi];
        - `began`, `ended` `(branch,)`: "left the span", "closed" or "lost";
        - `unstable_before`, `unstable_after` `(bifurcation,)`: unstable directions at slightly lower and
          higher parameters. At a saddle-node one of them is -1, where the two points do not exist, the other
          that of the point with fewer;
        - `lost_parameter`, `lost_point`, `lost_y`, `lost_branch`, `lost_reason` over `lost`: where a branch
          could not be followed on, and why;
        - `refined` `(piece,)`: how many times it was followed anew;
        - over `knot`: `knot_parameter`; `found`, the points known there in the end, `late`, how many of them
          its own search did not find; `index_sum` of all of them (NaN if one is degenerate), which is 1 for
          systems whose orbits enter a box, if none is missing; `not_converged`, starts that led nowhere.

        Attribute `derivative` says of those by the parameter how they were made, see `continuation`.

    Raises:
        ValueError: The knots do not rise or do not fit the pieces, an option is out of range, or `x0` cannot
            be used.

    Example:
        >>> import torch
        >>> from rnnlab.maps import TanhMap
        >>> pieces = [lambda s: TanhMap(2.0, 0.1 * s), lambda s: TanhMap(2.0, 0.2 * s - 0.3)]
        >>> found = piecewise_continuation(pieces, [0, 3, 6], torch.zeros(1, 1).double(), samples=9)
        >>> found.bifurcation_type.item(), round(found.bifurcation_parameter.item(), 3)
        ('saddle-node', 4.164)
        >>> found.found.values.tolist(), found.ended.values.tolist()
        ([3, 3, 1], ['left the span', 'left the span'])
    """
    _check(pieces, knots, samples)
    check_states(pieces[0](float(knots[0])), x0)
    search = _Search(list(pieces), [float(knot) for knot in knots], name, max_steps, max_step)
    with one_thread(), tqdm(total=len(knots), disable=not progress, desc=f"over {name}", unit="knot") as bar:
        for number in range(len(knots)):
            search.look(number, x0, samples, seed)
            search.follow_up_to(number)
            bar.update()
        data = _dataset(search, x0.shape[-1])
    return data.assign_attrs(
        analysis="piecewise_continuation",
        name=name,
        span=[search.knots[0], search.knots[-1]],
        samples=samples,
        seed=seed,
        max_steps=max_steps,
        max_step=max_step,
        derivative="forward mode" if search.exact else "central differences",
    )


def _check(pieces: Sequence[Family], knots: Sequence[float], samples: int) -> None:
    if len(pieces) < 1 or len(knots) != len(pieces) + 1:
        raise ValueError(
            f"{len(pieces)} pieces and {len(knots)} knots do not fit: give one knot more than pieces, "
            "at least two."
        )
    for a, b in pairwise(knots):
        if not (math.isfinite(a) and math.isfinite(b) and a < b):
            raise ValueError(f"knots {a:g}, {b:g} are not possible: give finite numbers that rise.")
    if not isinstance(samples, int) or isinstance(samples, bool) or samples < 0:
        raise ValueError(f"samples={samples!r} is not possible: give a whole number of at least 0.")


@dataclass(eq=False)
class _Part:
    """Steps of a branch by name of the variable, and the bifurcations among them."""

    steps: dict[str, np.ndarray]
    bifurcations: list[dict[str, Any]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.steps["parameter"])

    def take(self, which: slice) -> _Part:
        return _Part({name: values[which] for name, values in self.steps.items()}, self.bifurcations)

    def position(self, what: dict[str, Any]) -> int:
        """The step at which a bifurcation is."""
        same = (self.steps["point"] == what["point"]).all(-1)
        return int((same & (self.steps["parameter"] == what["parameter"])).argmax())


def _join(parts: list[_Part]) -> _Part:
    steps = {name: np.concatenate([part.steps[name] for part in parts]) for name in STEPS}
    return _Part(steps, [what for part in parts for what in part.bifurcations])


@dataclass(eq=False)
class _Node:
    """A fixed point at a knot, with the segments that lead on from it: 1 up, -1 down the parameter."""

    knot: int
    x: Tensor
    sign: float
    part: _Part
    segments: dict[int, _Segment] = field(default_factory=dict)
    lost: set[int] = field(default_factory=set)  # sides on which no segment could be started


@dataclass(eq=False)
class _Segment:
    """A branch within one piece, from a node to another one, or to where it was lost."""

    part: _Part
    start: tuple[_Node, int]
    end: tuple[_Node, int] | None
    reason: str  # why it has no end


@dataclass(eq=False)
class _Search:
    pieces: list[Family]
    knots: list[float]
    name: str
    max_steps: int
    max_step: float
    nodes: list[_Node] = field(default_factory=list)
    pending: list[tuple[_Node, int]] = field(default_factory=list)
    looks: list[dict[str, int]] = field(default_factory=list)
    exact: bool = True  # derivatives by the parameter
    refined: dict[int, int] = field(default_factory=dict)  # how often a piece was followed anew

    def system(self, knot: int) -> Any:
        return self.pieces[min(knot, len(self.pieces) - 1)](self.knots[knot])

    def at(self, knot: int) -> list[_Node]:
        return [node for node in self.nodes if node.knot == knot]

    def look(self, knot: int, x0: Tensor, samples: int, seed: int) -> None:
        """Search for fixed points at a knot; new ones become nodes."""
        known = [node.x for node in self.at(knot)]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "the indices of the fixed points", UserWarning)
            seen = fixed_points(
                self.system(knot),
                x0,
                known=torch.stack(known) if known else None,
                samples=samples,
                seed=seed,
                eigenvalues=False,
            )
        for x in seen["point"].values:
            self.node(knot, torch.as_tensor(x))
        self.looks.append({"searched": len(self.at(knot)), "not_converged": int(seen["not_converged"])})

    def node(self, knot: int, x: Tensor) -> _Node:
        """The fixed point at a knot that a state is; a new one if it is none of those known."""
        distance, near = min(
            ((float((node.x - x).abs().max()), node) for node in self.at(knot)),
            key=lambda pair: pair[0],
            default=(math.inf, None),
        )
        if near is not None and distance <= SAME * (1 + float(x.abs().max())):
            return near
        made = _node(self.system(knot), knot, self.knots[knot], x)
        self.nodes.append(made)
        self.pending += [(made, side) for side in (1, -1) if 0 <= knot + side < len(self.knots)]
        return made

    def follow_up_to(self, knot: int) -> None:
        """Follow all that is known as far as through the piece behind a knot."""
        while ready := [
            (node, side) for node, side in self.pending if min(node.knot, node.knot + side) <= knot
        ]:
            self.pending.remove(ready[0])
            self._follow(*ready[0])

    def _follow(self, node: _Node, side: int) -> None:
        if side in node.segments:
            return
        piece = min(node.knot, node.knot + side)
        finer = 4 ** self.refined.get(piece, 0)
        span = self.knots[node.knot], self.knots[node.knot + side]
        found = continuation(
            self.pieces[piece],
            node.x[None],
            span,
            name=self.name,
            max_steps=self.max_steps * finer,
            max_step=self.max_step / finer,
        )
        self.exact &= found.attrs["derivative"] == "forward mode"
        if not found.sizes["branch"]:
            node.lost.add(side)
            return
        part = _part(found)
        reason = str(found["ended"].item())
        node.segments[side] = segment = _Segment(part, (node, side), None, reason)
        if reason != "left the span":
            return
        last = part.steps["parameter"][-1]
        turned = abs(last - span[0]) < abs(last - span[1])
        other = self.node(node.knot + (0 if turned else side), torch.as_tensor(part.steps["point"][-1]))
        way = side if turned else -side
        if way not in other.segments:
            segment.end, segment.reason = (other, way), ""
            other.segments[way] = segment
        elif self.refined.get(piece, 0) < REFINEMENTS:
            self._follow_anew(piece)
        else:
            segment.reason = "met another branch"

    def _follow_anew(self, piece: int) -> None:
        """Two branches ran into one, so a step was too long: all in this piece again by shorter ones."""
        self.refined[piece] = self.refined.get(piece, 0) + 1
        for knot, side in ((piece, 1), (piece + 1, -1)):
            for node in self.at(knot):
                node.segments.pop(side, None)
                node.lost.discard(side)
                if (node, side) not in self.pending:
                    self.pending.append((node, side))

    def branches(self) -> list[_Branch]:
        """The segments put together, those first that begin first."""
        seen: set[int] = set()
        branches = []
        for node in sorted(self.nodes, key=lambda node: node.knot):
            if id(node) not in seen:
                ahead, end, path = _walk(node, 1)
                back, began, other = ([], end, []) if end[0] == "closed" else _walk(node, -1)
                seen |= {id(node), *map(id, path), *map(id, other)}
                parts = [*(part.take(BACKWARD) for part in reversed(back)), node.part, *ahead]
                branches.append(_Branch(_join(parts), began, end))
        return branches


def _node(system: Any, knot: int, parameter: float, x: Tensor) -> _Node:
    A = jacobian(system, x)
    eye = torch.eye(len(A), dtype=A.dtype)
    values = to_numpy(torch.linalg.eigvals(A))
    growth = np.abs(values) - 1
    leading = values[growth.argmax()]
    steps = {
        "parameter": parameter,
        "point": to_numpy(x),
        "y": to_numpy(observe(system, x))[None],
        "unstable": int((growth > NEUTRAL).sum()),
        "residual": float((system.step(x) - x).abs().max()),
        "modulus": abs(leading),
        "angle_leading": abs(np.angle(leading)),
    }
    part = _Part({name: np.asarray(value)[None] for name, value in steps.items()})
    return _Node(knot, x, float(torch.linalg.slogdet(eye - A)[0]), part)


def _part(found: xr.Dataset) -> _Part:
    """The one branch of a continuation."""
    found = found.isel(branch=0)
    leading = found["eigenvalue"].values[:, 0]
    steps = {name: found[name].values for name in ("parameter", "point", "y", "unstable", "residual")}
    steps |= {"modulus": np.abs(leading), "angle_leading": np.abs(np.angle(leading))}
    met = [
        {name: found[source].values[number] for name, source in BIFURCATION.items()}
        for number in range(found.sizes["bifurcation"])
    ]
    return _Part(steps, met)


@dataclass(eq=False)
class _Branch:
    part: _Part
    began: tuple[str, str]  # and why, if lost
    ended: tuple[str, str]


def _walk(first: _Node, side: int) -> tuple[list[_Part], tuple[str, str], list[_Node]]:
    """From a node on: the segments without the knots they begin at, how that ends, the nodes passed."""
    parts, passed, node = [], [], first
    while True:
        segment = node.segments.get(side)
        if segment is None:
            end = ("lost", "no step off the knot") if side in node.lost else ("left the span", "")
            return parts, end, passed
        away = segment.start == (node, side)
        part = segment.part if away else segment.part.take(BACKWARD)
        parts.append(part.take(slice(1, None)))
        end = segment.end if away else segment.start
        if end is None:
            return parts, ("lost", segment.reason), passed
        node, side = end[0], -end[1]
        if node is first:
            return parts, ("closed", ""), passed
        passed.append(node)


def _stability(branch: _Part, what: dict[str, Any]) -> tuple[int, int]:
    """Unstable directions at the nearest ordinary steps below and above a bifurcation; -1 where none is."""
    at, special = branch.position(what), {branch.position(each) for each in branch.bifurcations}
    ordinary = [step for step in range(len(branch)) if step not in special]
    before = max(step for step in ordinary if step < at)
    after = min(step for step in ordinary if step > at)
    s, unstable = branch.steps["parameter"], branch.steps["unstable"]
    if what["type"] == "saddle-node":
        fewer = int(min(unstable[before], unstable[after]))
        return (-1, fewer) if s[before] + s[after] > 2 * s[at] else (fewer, -1)
    first, second = (before, after) if s[before] < s[after] else (after, before)
    return int(unstable[first]), int(unstable[second])


def _dataset(search: _Search, size: int) -> xr.Dataset:
    branches = search.branches()
    gap = min(b - a for a, b in pairwise(search.knots))
    steps = max((len(branch.part) for branch in branches), default=0)
    observables = branches[0].part.steps["y"].shape[-1] if branches else 0

    def table(name: str) -> np.ndarray:
        shape = (len(branches), steps, *shapes[name])
        out = np.full(shape, -1) if name == "unstable" else np.full(shape, np.nan)
        for row, branch in zip(out, branches, strict=True):
            row[: len(branch.part)] = branch.part.steps[name]
        return out

    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(STEPS, ()) | {"point": (size,), "y": (1, observables)}
    axes = {"point": ("state",), "y": ("phase", "observable")}
    on = ("branch", "step")
    variables: dict[str, Any] = {name: ((*on, *axes.get(name, ())), table(name)) for name in STEPS}
    variables["began"] = "branch", np.array([branch.began[0] for branch in branches], dtype=str)
    variables["ended"] = "branch", np.array([branch.ended[0] for branch in branches], dtype=str)

    met: list[dict[str, Any]] = []
    for number, branch in enumerate(branches):
        for what in branch.part.bifurcations:
            if not any(_one(what, old, gap) for old in met):
                before, after = _stability(branch.part, what)
                met.append({**what, "branch": number, "unstable_before": before, "unstable_after": after})
    met.sort(key=lambda what: what["parameter"])
    for name, kind in KINDS.items():
        shape = shapes.get(name, ())
        values = np.array([what[name] for what in met], dtype=kind).reshape(len(met), *shape)
        title = name if name in PLAIN else f"bifurcation_{name}"
        variables[title] = (("bifurcation", *axes.get(name, ())), values)

    lost = [
        (number, 0 if end is branch.began else len(branch.part) - 1, end[1])
        for number, branch in enumerate(branches)
        for end in (branch.began, branch.ended)
        if end[0] == "lost"
    ]
    for name in ("parameter", "point", "y"):
        values = [branches[number].part.steps[name][step] for number, step, _ in lost]
        values = np.array(values, dtype=float).reshape(len(lost), *shapes[name])
        variables[f"lost_{name}"] = (("lost", *axes.get(name, ())), values)
    variables["lost_branch"] = "lost", np.array([number for number, *_ in lost], dtype=int)
    variables["lost_reason"] = "lost", np.array([reason for *_, reason in lost], dtype=str)

    at = [search.at(knot) for knot in range(len(search.knots))]
    signs = [np.array([node.sign for node in nodes]) for nodes in at]
    variables |= {
        "refined": ("piece", [search.refined.get(piece, 0) for piece in range(len(search.pieces))]),
        "knot_parameter": ("knot", search.knots),
        "found": ("knot", [len(nodes) for nodes in at]),
        "late": ("knot", [len(n) - look["searched"] for n, look in zip(at, search.looks, strict=True)]),
        "index_sum": ("knot", [float(s.sum()) if s.all() else math.nan for s in signs]),
        "not_converged": ("knot", [look["not_converged"] for look in search.looks]),
    }
    return xr.Dataset(variables)


def _one(a: dict[str, Any], b: dict[str, Any], gap: float) -> bool:
    """Whether two bifurcations, met on two branches, are one."""
    near = np.abs(a["point"] - b["point"]).max() <= SAME * (1 + np.abs(b["point"]).max())
    return bool(a["type"] == b["type"] and abs(a["parameter"] - b["parameter"]) <= SAME * gap and near)
