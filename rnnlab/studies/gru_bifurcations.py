"""Bifurcations of two gated units as a flow: Fig. 5's cycle, Table 3's saddle-nodes, a plane of parameters.

    python -m rnnlab.studies.gru_bifurcations [--out DIR]

Makes `figure_5.png` with `figure_5.csv` (the cycle along the angle, from its Hopf bifurcation to its end in
four saddle-nodes), `saddle_nodes.csv` (how far each case of Table 3 is from a saddle-node, along each of its
biases) and `regions.png` with `codimension_2.csv`.

Reference: I. D. Jordan, P. A. Sokol and I. M. Park, Gated recurrent units viewed through the lens of
continuous time dynamical systems (2019).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from torch import Tensor
from torch.nn import functional as F

from rnnlab.analysis import (
    bifurcation_curve,
    certified_fixed_points,
    continuation,
    cycle_continuation,
    cycle_from_hopf,
)
from rnnlab.figures.bifurcation_curves import bifurcation_set
from rnnlab.figures.continuation import cycle_diagram
from rnnlab.figures.style import save_png
from rnnlab.gru_flow import GRUFlow, gru_flow
from rnnlab.studies.gru_atlas.cases import NAMES, cases
from rnnlab.studies.program import parser, run, save_table
from rnnlab.systems import jacobian, push

ANGLE = 0.2  # of the rotation in the plane of biases
SIDE = 0.6  # of that plane: both biases from -SIDE to SIDE
SAMPLES = 13  # points of the plane, each way, where fixed points are counted
STARTS = 31  # of Newton's method along each axis, for saddle-nodes
NEAR = 0.1  # distance up to which they are put into the table
REACH = 0.5  # how far from the printed value of a bias saddle-nodes are looked for
SINGULAR = 1e-5  # ratio of singular values below which equations count as singular
SAME = 1e-4  # distance below which two are one
DEGENERATE = 1e-5  # size of the trace below which both eigenvalues vanish


def rotated(angle: float | Tensor, bh: Any = (0.0, 0.0)) -> GRUFlow:
    """Two units with Uh = 3 R(angle), R a rotation, and no gate but 1/2 (eq. 8, Fig. 5)."""
    a = torch.as_tensor(angle, dtype=torch.float64)
    rotation = torch.stack((torch.stack((a.cos(), -a.sin())), torch.stack((a.sin(), a.cos()))))
    return gru_flow(Uh=3 * rotation, bh=bh)


def cycle_along_the_angle() -> tuple[xr.Dataset, xr.Dataset]:
    """The cycle of Fig. 5 over the angle, and the equilibria.

    Equilibria h = tanh(3/2 R(a) h) have |artanh h| = 3/2 |h|, and a is the angle between h and artanh h: so
    those beside 0 exist up to the largest such angle on that closed curve, where the cycle ends.
    """
    low, high = 0.05, 1.0
    points = torch.from_numpy(certified_fixed_points(rotated(low)).point.values)
    equilibria = continuation(rotated, points, (low, high), name="angle [rad]")
    birth = equilibria.bifurcation_type.values == "Hopf"
    point = torch.from_numpy(equilibria.bifurcation_point.values[birth][0])
    x, period, angle = cycle_from_hopf(
        rotated, point, float(equilibria.bifurcation_parameter.values[birth][0])
    )
    return cycle_continuation(rotated, x, period, (high, low), at=angle, name="angle [rad]"), equilibria


class SaddleNodes:
    """A vector field that vanishes at the saddle-nodes of two units along a line of parameters.

    Its state is (h1, h2, s): the two equilibrium equations tanh(...) - h and the determinant of their
    derivative, at `parameters` + s `direction`. Its operations are known to interval arithmetic, so that
    `certified_fixed_points` proves how many saddle-nodes there are.

    Args:
        parameters: The twelve numbers of a case, `(12,)`, see `gru_atlas.cases.NAMES`.
        direction: The same, at least one not zero.
    """

    def __init__(self, parameters: Tensor, direction: Tensor) -> None:
        self.parameters, self.direction = parameters, direction

    def velocity(self, x: Tensor) -> Tensor:
        h, s = x[..., :2], x[..., 2:]

        def linear(h: Tensor, weight: slice, bias: slice) -> Tensor:
            rows = (F.linear(h, p[weight].view(2, 2), p[bias]) for p in (self.parameters, self.direction))
            first, along = rows
            return first + s * along

        r = torch.sigmoid(linear(h, slice(4, 8), slice(10, 12)))
        t = torch.tanh(linear(r * h, slice(0, 4), slice(8, 10)))
        (u, v), (a, b) = (t - h).unbind(-1), (1 - t * t).unbind(-1)
        U = [self.parameters[i] + s[..., 0] * self.direction[i] for i in range(8)]
        (r1, r2), (e1, e2) = r.unbind(-1), (h * r * (1 - r)).unbind(-1)
        # derivative of r * h, row by row
        m11, m12, m21, m22 = r1 + e1 * U[4], e1 * U[5], e2 * U[6], r2 + e2 * U[7]
        first = a * (U[0] * m11 + U[1] * m21) - 1, a * (U[0] * m12 + U[1] * m22)
        second = b * (U[2] * m11 + U[3] * m21), b * (U[2] * m12 + U[3] * m22) - 1
        return torch.stack((u, v, first[0] * second[1] - first[1] * second[0]), -1)


@torch.no_grad()
def nearest_saddle_nodes(parameters: Tensor, direction: Tensor, reach: float = REACH) -> pd.DataFrame:
    """Where fixed points of two units collide along a line of parameters, the nearest place first.

    Newton's method from a grid of states finds them; a list without proof.

    Args:
        parameters: The twelve numbers of a case, `(12,)`.
        direction: Along which to change them, `(12,)`.
        reach: Largest |s| in parameters + s direction.

    Returns:
        A table: `distance` (s), `h1`, `h2`, `type` ("sink-saddle", "source-saddle", or "codimension 2" where
        both eigenvalues vanish), `eigenvalue` (the other one), `residual`, and `unfolding`: "saddle-node",
        where they meet and vanish, or "branch point", where the equations are singular, as at a
        transcritical bifurcation; those are located to six digits.

    Raises:
        ValueError: `direction` is zero, or `reach` not above zero.

    Example:
        >>> one = torch.eye(12).double()
        >>> rotation = torch.tensor([3.0, 0, 0, 3] + 8 * [0.0]).double()
        >>> found = nearest_saddle_nodes(rotation, one[8])  # bh1: h1 = tanh(3/2 h1 + bh1) folds at 3^-1/2
        >>> sorted(set(found.distance.round(6))), len(found)
        ([-0.207546, 0.207546], 6)
    """
    if not bool(direction.any()):
        raise ValueError("direction=0 is not possible: say along which parameters to look.")
    if not reach > 0:
        raise ValueError(f"reach={reach} is not possible: give a number above zero.")
    field = SaddleNodes(parameters, direction)
    axis = torch.linspace(-1, 1, STARTS, dtype=torch.float64)
    x = torch.cat((torch.cartesian_prod(axis, axis), torch.zeros(STARTS**2, 1, dtype=torch.float64)), 1)
    for _ in range(50):  # where the equations are singular a step only halves the distance
        value, slope = push(field, x, torch.eye(3, dtype=x.dtype).expand(len(x), 3, 3))
        step = torch.linalg.solve_ex(slope, value)[0]
        step = torch.where((value == 0).all(-1, keepdim=True), 0.0, step)
        x = x - step * (0.2 / step.abs().amax(-1, keepdim=True)).clamp(max=1)
        x = x[(x.abs().amax(-1) < 1 + reach) & x.isfinite().all(-1)]
    residual, size = field.velocity(x).abs().amax(-1), torch.linalg.svdvals(jacobian(field, x))
    x, size = x[residual < 1e-13], size[residual < 1e-13]
    regular = size[:, -1] > SINGULAR * size[:, 0]
    rows: list[dict[str, Any]] = []
    # the regular ones first, which are exact
    for i in torch.argsort(regular.int(), descending=True, stable=True).tolist():
        place = x[i]
        if float(place[2].abs()) > reach or any(
            float((place - row["place"]).abs().max()) < SAME for row in rows
        ):
            continue
        p = parameters + place[2] * direction
        flow = gru_flow(Uh=p[:4].view(2, 2), Ur=p[4:8].view(2, 2), bh=p[8:10], br=p[10:])
        A = jacobian(flow, place[:2])
        other = float(A.trace())
        name = "sink-saddle" if other < 0 else "source-saddle"
        rows.append(
            {
                "place": place,
                "distance": float(place[2]),
                "h1": float(place[0]),
                "h2": float(place[1]),
                "type": "codimension 2" if abs(other) < DEGENERATE else name,
                "eigenvalue": other,
                "unfolding": "saddle-node" if bool(regular[i]) else "branch point",
                "residual": float(field.velocity(place).abs().max()),
            }
        )
    columns = ["distance", "h1", "h2", "type", "eigenvalue", "unfolding", "residual"]
    return pd.DataFrame(rows, columns=columns).sort_values("distance", key=np.abs, ignore_index=True)


def saddle_node_table() -> pd.DataFrame:
    """For the cases of Table 3 with collisions: all of them that are near along each bias.

    Returns:
        A table with the columns of `nearest_saddle_nodes` and `case`, `parameter`, its `printed` value, the
        `value` of the collision, and how many of its type the paper counts (`published`).
    """
    found = []
    for name, case in cases().items():
        wanted = {
            "sink-saddle": case.counts["sink_saddles"],
            "source-saddle": case.counts["source_saddles"],
            "codimension 2": case.counts["codimension_2"],
        }
        for i in range(8, 12) if any(wanted.values()) else ():
            direction = torch.zeros(12, dtype=torch.float64)
            direction[i] = 1
            near = nearest_saddle_nodes(torch.from_numpy(case.parameters), direction)
            near.insert(0, "printed", float(case.parameters[i]))
            near.insert(0, "parameter", NAMES[i])
            near.insert(0, "case", name)
            near.insert(6, "value", near["printed"] + near["distance"])
            near["published"] = [wanted[kind] for kind in near["type"]]
            near = near[near["distance"].abs() <= NEAR]
            found += [near] if len(near) else []
    return pd.concat(found, ignore_index=True)


def curves_of_biases() -> list[xr.Dataset]:
    """Saddle-node and Hopf curves of Uh = 3 R(0.2) in the plane of its two biases bh.

    A quarter turn of the states and of bh maps the system to itself: what starts from one saddle-node and
    from one Hopf bifurcation is turned three times.
    """

    def family(p: Tensor, q: Tensor) -> GRUFlow:
        return rotated(ANGLE, torch.stack((p, q)))

    def along(p: Any) -> GRUFlow:
        p = torch.as_tensor(p, dtype=torch.float64)
        return family(p, torch.zeros_like(p))

    met = continuation(along, torch.zeros(1, 2, dtype=torch.float64), (0.0, SIDE))
    box = (-SIDE, SIDE), (-SIDE, SIDE)
    curves = []
    for kind in ("saddle-node", "Hopf"):
        i = int(np.flatnonzero(met.bifurcation_type.values == kind)[0])
        start = float(met.bifurcation_parameter[i]), 0.0
        point = torch.from_numpy(met.bifurcation_point.values[i])
        names = "bh1", "bh2"
        curve = bifurcation_curve(family, point, start, box, kind=kind, names=names, max_step=0.04)  # type: ignore[arg-type]
        for _ in range(4):
            curves.append(curve)
            turned = {
                f"{part}{axis}": sign * curve[f"{part}{other}"]
                for part in ("", "special_")
                for axis, other, sign in (("first", "second", -1), ("second", "first", 1))
            }
            curve = curve.assign(turned).drop_vars(["point", "special_point"], errors="ignore")
    return curves


def counts_of_biases() -> xr.Dataset:
    """Certified numbers of sinks, sources and saddles at a grid of points of that plane."""
    axis = SIDE * (2 * np.arange(SAMPLES) + 1 - SAMPLES) / SAMPLES
    rows = []
    for p in axis:
        for q in axis:
            found = certified_fixed_points(rotated(ANGLE, (p, q)))
            kind = found.kind.values
            stable, unstable = (np.char.startswith(kind, word) for word in ("stable", "unstable"))
            saddles = int((kind == "saddle").sum())
            rows.append((p, q, int(stable.sum()), int(unstable.sum()), saddles, found.undecided))
    names = ("first", "second", "sinks", "sources", "saddles", "undecided")
    columns = np.array(rows).T
    return xr.Dataset({name: ("sample", column) for name, column in zip(names, columns, strict=True)})


def main(arguments: list[str] | None = None) -> None:
    """Make all of it."""
    out: Path = (
        parser("gru_bifurcations", "Bifurcations of two gated units as a flow.").parse_args(arguments).out
    )
    cycle, equilibria = cycle_along_the_angle()
    columns = ("parameter", "period", "period_error", "least_speed", "intervals")
    table = pd.DataFrame({name: cycle[name].values for name in columns}).rename(
        columns={"parameter": "angle"}
    )
    save_table(table, out / "figure_5.csv")
    save_png(cycle_diagram(cycle, equilibria=equilibria), out / "figure_5.png")
    born, died = cycle.ended_parameter.values
    print(f"Hopf bifurcation at {born:.10f}, arccos(2/3) = {math.acos(2 / 3):.10f}")
    print(f"{cycle.ended.values[1]} at {died:.10f}; period ~ distance^{cycle.ended_rate.values[1]:.3f}")
    near = saddle_node_table()
    save_table(near, out / "saddle_nodes.csv")
    print(f"{len(near)} saddle-nodes within {NEAR} of a printed bias, in {near['case'].nunique()} cases")
    curves, samples = curves_of_biases(), counts_of_biases()
    save_png(bifurcation_set(curves, samples=samples), out / "regions.png")
    special = [
        pd.DataFrame({n: curve[f"special_{n}"].values for n in ("type", "first", "second", "distance")})
        for curve in curves
    ]
    save_table(pd.concat(special, ignore_index=True), out / "codimension_2.csv")
    print(f"made: {', '.join(sorted(path.name for path in out.iterdir()))} in {out}")


if __name__ == "__main__":
    run(main)
