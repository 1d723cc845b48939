"""Where in a plane of two parameters do the dynamics change? Curves of saddle-node and Hopf bifurcations."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr
from scipy.optimize import brentq
from torch import Tensor
from tqdm import tqdm

from rnnlab.analysis import normal_forms
from rnnlab.analysis.arclength import correct
from rnnlab.analysis.critical_points import (
    Critical,
    Equations,
    Family,
    Kind,
    check_differentiable,
    equations,
    plane,
)
from rnnlab.analysis.stability import leading_first
from rnnlab.analysis.states import check_states, one_thread, to_numpy
from rnnlab.systems import is_flow, jacobian, law

MIN_STEP = 1e-7  # of the arclength, at which a curve is given up
EDGE = 1e-9  # distance from the edge of the box, in its sides, at which it counts as reached
BENT = 0.97  # cosine of the largest turn in a step


@torch.no_grad()
def bifurcation_curve(
    family: Family,
    x0: Tensor,
    start: tuple[float, float],
    box: tuple[tuple[float, float], tuple[float, float]],
    *,
    kind: Kind = "saddle-node",
    names: tuple[str, str] = ("first", "second"),
    max_steps: int = 500,
    max_step: float = 0.02,
    progress: bool = False,
) -> xr.Dataset:
    """Follow saddle-node or Hopf bifurcations of a vector field in two parameters, and what is special there.

    A saddle-node solves f = 0, A v = 0, a Hopf bifurcation f = 0, (A^2 + omega^2) v = 0, with |v| fixed: one
    equation fewer than unknowns, so a curve, followed by its arclength in both directions. On it are located
    points of codimension 2, where a second condition is met:

    - on saddle-nodes: "cusp" (the quadratic coefficient vanishes), "Bogdanov-Takens" (a second eigenvalue is
      zero, with a Jordan block), "zero-Hopf" (a pair is imaginary);
    - on Hopf bifurcations: "generalised Hopf" (Bautin: the first Lyapunov coefficient vanishes; a curve of
      folds of cycles sets out there), "Bogdanov-Takens" (omega goes to zero: the curve ends), "zero-Hopf"
      and "Hopf-Hopf".

    Args:
        family: The vector field for values of the two parameters, tensors without axes in which it must be
            differentiable. It is asked slightly outside the box, too.
        x0: The equilibrium at a point of the curve, roughly, `(state,)`; such as `bifurcation_point` of
            `continuation`.
        start: The two parameters there, roughly.
        box: Least and largest value of the first and of the second parameter.
        kind: "saddle-node" or "Hopf".
        names: Names of the parameters.
        max_steps: Most steps, either way.
        max_step: Longest step: in sides of the box and in root mean square of the state's components.
        progress: Show a progress bar.

    Returns:
        A dataset over `step`, from one end of the curve to the other, special points among the steps:

        - `first`, `second` `(step)`: the parameters (named so whatever `names`); `point` `(step, state)`;
        - `eigenvalue` `(step, mode)`, `unstable` `(step)`: how many have a positive real part, critical ones
          not counted;
        - `coefficient` `(step)`: of the normal form, a or l1 (see `normal_forms`); near a Bogdanov-Takens
          point it runs to infinity; the sign of a is that of a direction which is carried along;
        - `frequency` `(step)`: omega, 0 on saddle-nodes;
        - `residual` `(step)`: the largest component of the velocity;

        over `special`: `special_step`, `special_first`, `special_second`, `special_point` `(.., state)`,
        `special_type`, and `special_distance`, the part of its size elsewhere that the condition is from
        zero;

        and `ended` `(end)`, at the first and last step: "left the box", "closed", "Bogdanov-Takens", "step
        too small", "max_steps".

    Raises:
        TypeError: A member of the family is no dynamical system.
        ValueError: An option is out of range, the family is one of maps or not differentiable, `x0` cannot
            be used, or leads to no bifurcation of that kind in the box.

    References:
        Y. A. Kuznetsov, "Elements of Applied Bifurcation Theory", 3rd ed., Springer 2004, ch. 8 and 10.

    Example:
        >>> import torch
        >>> class Cusp:
        ...     def __init__(self, p, q):
        ...         self.p, self.q = p, q
        ...
        ...     def velocity(self, x):
        ...         return self.p + self.q * x - x**3
        >>> box = (-1, 1), (-1, 1)
        >>> found = bifurcation_curve(Cusp, torch.tensor([0.5]).double(), (-0.3, 0.8), box)
        >>> found.special_type.values.tolist(), abs(found.special_second).round(9).values.tolist()
        (['cusp'], [0.0])
    """
    low, high = _check(box, kind, max_steps, max_step)
    x, parameter = _beginning(family, x0, start, high - low)
    with one_thread(), tqdm(disable=not progress, desc=f"{kind} curve", unit=" steps") as bar:
        guess = equations(family, x, parameter, kind)
        curve = None if guess is None else _Curve(guess[0], low, high - low)
        z = None if curve is None or guess is None else _land(curve, guess[1] / curve.scale(guess[1]))
        first = None if curve is None or z is None else _first(curve, z)
        if first is None:
            raise ValueError(
                f"x0={x0.tolist()} with start={tuple(start)} leads to no {kind} bifurcation in the box: give "
                "an equilibrium near one, as `continuation` finds them."
            )
        search = _Search(max_steps, max_step, bar)
        back = search.follow(first, -1)
        ahead = _Branch([first], "closed") if back.ended == "closed" else search.follow(first, 1)
        data = _dataset(back, ahead)
    return data.assign_attrs(
        analysis="bifurcation_curve",
        kind=kind,
        names=list(names),
        box=[[float(a), float(b)] for a, b in box],
        max_steps=max_steps,
        max_step=max_step,
    )


def _check(
    box: tuple[tuple[float, float], tuple[float, float]], kind: str, max_steps: int, max_step: float
) -> tuple[Tensor, Tensor]:
    if kind not in ("saddle-node", "Hopf"):
        raise ValueError(f'kind={kind!r} is not possible: give "saddle-node" or "Hopf".')
    if not isinstance(max_steps, int) or isinstance(max_steps, bool) or max_steps < 1:
        raise ValueError(f"max_steps={max_steps!r} is not possible: give a whole number of at least 1.")
    if not MIN_STEP < max_step <= 1:
        raise ValueError(f"max_step={max_step} is not possible: give a number above {MIN_STEP}, at most 1.")
    sides = torch.as_tensor(box, dtype=torch.float64)
    if (
        sides.shape != (2, 2)
        or not bool(sides.isfinite().all())
        or not bool((sides[:, 0] < sides[:, 1]).all())
    ):
        raise ValueError(f"box={box} is not possible: give two pairs of numbers, the lower one first.")
    return sides[:, 0], sides[:, 1]


def _beginning(
    family: Family, x0: Tensor, start: tuple[float, float], sides: Tensor
) -> tuple[Tensor, Tensor]:
    parameter = torch.as_tensor(start, dtype=torch.float64)
    if parameter.shape != (2,) or not bool(parameter.isfinite().all()):
        raise ValueError(f"start={start} is not possible: give two finite numbers.")
    system = family(*parameter.unbind())
    if x0.ndim != 1:
        raise ValueError(f"x0 of shape {tuple(x0.shape)} is not possible: give (state,).")
    check_states(system, x0[None])
    if not is_flow(system):
        raise ValueError("the family is one of maps: give vector fields, as `ContinuousTime` makes them.")
    check_differentiable(family, x0, parameter, sides)
    return x0, parameter


@dataclass(eq=False)
class _Curve:
    """The equations in coordinates where a step of one is a side of the box, or a move of all components."""

    equations: Equations
    low: Tensor
    sides: Tensor

    def scale(self, z: Tensor) -> Tensor:
        n = self.equations.rows.shape[-1]
        return torch.cat((torch.full_like(z[:-2], math.sqrt(n)), self.sides))

    def __call__(self, z: Tensor) -> tuple[Tensor, Tensor]:
        scale = self.scale(z)
        G, DG = self.equations(z * scale)
        return G, DG * scale

    def split(self, z: Tensor) -> Critical:
        return self.equations.split(z * self.scale(z))

    def join(self, point: Critical) -> Tensor:
        z = self.equations.join(point)
        return z / self.scale(z)

    def shares(self, z: Tensor) -> Tensor:
        """The parameters in parts of the box."""
        return z[-2:] - self.low / self.sides

    def renewed(self, z: Tensor) -> tuple[_Curve, Tensor]:
        """The curve with v normalised for this place, and z there."""
        point = self.split(z)
        rows = point.vector[None] / point.vector.norm()
        if self.equations.kind == "Hopf":
            A = jacobian(self.equations.family(*point.parameter.unbind()), point.x)
            rows = plane(A, point.vector, A @ point.vector)
        curve = replace(self, equations=replace(self.equations, rows=rows))
        return curve, curve.join(point._replace(vector=rows[0]))


class _Place(NamedTuple):
    """What is to be known at a point of the curve."""

    curve: _Curve
    z: Tensor
    tangent: Tensor
    eigenvalue: Tensor  # all, the least stable first
    growth: Tensor  # real parts of those that are not critical, falling
    coefficient: float
    conditions: dict[str, float]  # zero at special points
    right: Tensor  # critical vectors of a saddle-node, oriented along the curve
    left: Tensor
    residual: float
    special: str = ""

    @property
    def unstable(self) -> int:
        return int((self.growth > 0).sum())


def _place(curve: _Curve, z: Tensor, forward: Tensor, before: _Place | None) -> _Place | None:
    """What is to be known at a solution; None where there is no single tangent."""
    G, DG = curve(z)
    tangent = _tangent(DG, forward)
    if tangent is None:
        return None
    x, parameter, v, square = curve.split(z)
    system = curve.equations.family(*parameter.unbind())
    A = jacobian(system, x)
    values = torch.from_numpy(leading_first(to_numpy(torch.linalg.eigvals(A)), flow=True))
    q = p = v / v.norm()
    if curve.equations.kind == "saddle-node":
        p = torch.linalg.svd(A)[0][:, -1]
        if before is not None:
            q, p = q * torch.sign(q @ before.right), p * torch.sign(p @ before.left)
        bend, overlap = float(p @ normal_forms.derivative(law(system), x, q, q)), float(p @ q)
        conditions = {"cusp": bend, "Bogdanov-Takens": overlap}
        coefficient = bend / (2 * overlap) if overlap else math.inf
        critical = values.abs().argsort()[:1]
    else:
        omega = torch.sqrt(square.clamp(min=0))
        critical = ((values - 1j * omega).abs()).argsort()[:1]
        critical = torch.cat((critical, (values - values[critical].conj()).abs().argsort()[:1]))
        try:
            coefficient = normal_forms.hopf(system, x).coefficient if float(square) > 0 else math.nan
        except (ValueError, RuntimeError):  # a real pair, or a zero eigenvalue beside it
            coefficient = math.nan
        conditions = {"generalised Hopf": coefficient, "Bogdanov-Takens": float(square)}
    rest = np.delete(np.real(to_numpy(values)), to_numpy(critical))
    return _Place(
        curve,
        z,
        tangent,
        values,
        torch.from_numpy(np.sort(rest)[::-1].copy()),
        coefficient,
        conditions,
        q,
        p,
        float(G[: len(x)].abs().max()),
    )


def _tangent(DG: Tensor, forward: Tensor) -> Tensor | None:
    """The direction of the curve, on the side of `forward`; None where there is no single one."""
    unit = torch.zeros_like(forward)
    unit[-1] = 1
    tangent: Any
    tangent, info = torch.linalg.solve_ex(torch.cat((DG, forward[None])), unit)
    return None if int(info) or not bool(tangent.isfinite().all()) else tangent / tangent.norm()


def _land(curve: _Curve, z: Tensor) -> Tensor | None:
    """The nearest point of the curve, by Newton's method of least length."""
    for _ in range(30):
        G, DG = curve(z)
        step = torch.linalg.lstsq(DG, G[:, None], driver="gelsd").solution[:, 0]
        size = float(step.abs().max())
        if not math.isfinite(size):
            return None
        z = z - step * min(1.0, 0.3 / max(size, 1e-300))
        if size <= 1e-9:
            return z
    return None


def _first(curve: _Curve, z: Tensor) -> _Place | None:
    """Where to set out from; None outside the box, or where there is no bifurcation."""
    shares = curve.shares(z)
    if bool(((shares < -EDGE) | (shares > 1 + EDGE)).any()):
        return None
    if curve.equations.kind == "Hopf" and not float(curve.split(z).square) > 0:
        return None
    curve, z = curve.renewed(z)
    forward = torch.linalg.svd(curve(z)[1])[2][-1]
    return _place(curve, z, forward, None)


@dataclass(eq=False)
class _Branch:
    steps: list[_Place]
    ended: str = ""


class _LostError(Exception):
    """Newton's method left the curve."""


@dataclass(eq=False)
class _Search:
    max_steps: int
    max_step: float
    bar: Any

    def follow(self, first: _Place, sign: int) -> _Branch:
        """Follow the curve one way to its end."""
        here = first._replace(tangent=sign * first.tangent)
        branch, step = _Branch([here]), self.max_step / 3
        while not branch.ended:
            if len(branch.steps) >= self.max_steps:
                branch.ended = "max_steps"
            elif _outward(here):
                branch.ended = "left the box"
            else:
                there = self.advance(here, step)
                special = None if there is None else _special(here, there)
                if there is None or special is None:
                    step /= 2
                    branch.ended = "step too small" if step < MIN_STEP else ""
                    continue
                self.bar.update()
                if float(here.tangent @ there.tangent) > 0.995:
                    step = min(self.max_step, step * 1.37)
                branch.steps += special
                if special and special[-1].special == "Bogdanov-Takens" and _hopf(there):
                    branch.ended = "Bogdanov-Takens"
                    break
                if len(branch.steps) > 3 and _closed(branch.steps[0], here, there):
                    branch.ended = "closed"
                    break
                here = _settled(there)
                branch.steps.append(here)
        return branch

    def advance(self, here: _Place, step: float) -> _Place | None:
        """The next point; None if the step is too long."""
        curve = here.curve
        z = correct(curve, here.z + step * here.tangent, here.tangent, float(here.tangent @ here.z) + step)
        if z is None:
            return None
        shares = curve.shares(z)
        if bool(((shares < 0) | (shares > 1)).any()):
            # the side that is crossed first
            before, edge = curve.shares(here.z), (shares > 0.5).double()
            outside = (shares < 0) | (shares > 1)
            ways = torch.where(outside, (edge - before) / (shares - before), 2.0)
            side = int(ways.argmin())
            normal = torch.zeros_like(z)
            normal[side - 2] = 1
            guess = here.z + ways[side] * (z - here.z)
            z = correct(curve, guess, normal, float(edge[side] + (curve.low / curve.sides)[side]))
            if z is None or float((z - here.z).norm()) > 2 * step:
                return None
        there = _place(curve, z, here.tangent, here)
        return None if there is None or float(here.tangent @ there.tangent) < BENT else there


def _hopf(place: _Place) -> bool:
    return place.curve.equations.kind == "Hopf"


def _outward(here: _Place) -> bool:
    shares, way = here.curve.shares(here.z), here.tangent[-2:]
    return bool((((shares <= EDGE) & (way < 0)) | ((shares >= 1 - EDGE) & (way > 0))).any())


def _settled(there: _Place) -> _Place:
    """The same place with equations normalised for it."""
    curve, z = there.curve.renewed(there.z)
    # which way v points has changed, so it does not tell which way is forward
    n = there.right.shape[-1]
    forward = there.tangent.clone()
    forward[n : 2 * n] = 0
    tangent = _tangent(curve(z)[1], forward)
    return there if tangent is None else there._replace(curve=curve, z=z, tangent=tangent)


def _closed(first: _Place, here: _Place, there: _Place) -> bool:
    """Whether the curve came back to its first point between two others."""

    def known(place: _Place) -> Tensor:
        point = place.curve.split(place.z)
        return torch.cat((point.x, place.curve.shares(place.z)))

    a, b, c = known(first), known(here), known(there)
    along = float((a - b) @ (c - b)) / float((c - b) @ (c - b))
    return 0 <= along <= 1 and float((b + along * (c - b) - a).norm()) < 0.1 * float((c - b).norm())


def _special(here: _Place, there: _Place) -> list[_Place] | None:
    """Points of codimension 2 between two neighbours, in order; None if the step is too long to tell."""
    end = float(here.tangent @ (there.z - here.z))
    if end <= 0:
        return None

    def at(way: float) -> _Place:
        guess = here.z + way / end * (there.z - here.z)
        z = correct(here.curve, guess, here.tangent, float(here.tangent @ here.z) + way)
        place = None if z is None else _place(here.curve, z, here.tangent, here)
        if place is None:
            raise _LostError
        return place

    def root(function: Any) -> _Place:
        way: Any = brentq(lambda way: function(at(way)), 0.0, end, xtol=1e-14)
        return at(way)

    found: list[_Place] = []
    try:
        low, high = sorted((here.unstable, there.unstable))
        for name in here.conditions:
            a, b = here.conditions[name], there.conditions[name]
            # the Lyapunov coefficient changes its sign also where it is infinite
            pole = there.conditions["Bogdanov-Takens"] <= 0 or (high - low) % 2 == 1
            if a * b < 0 and not (name == "generalised Hopf" and pole):
                found.append(root(lambda place, n=name: place.conditions[n])._replace(special=name))
        takens = any(place.special == "Bogdanov-Takens" for place in found)
        crossed = 0 if takens and _hopf(here) else high - low - takens
        if crossed > 2 or (crossed == 1 and not _hopf(here)):
            return None
        if crossed:
            place = root(lambda place: float(place.growth[high - 1]))
            pair = crossed == 2
            found.append(place._replace(special="Hopf-Hopf" if pair and _hopf(here) else "zero-Hopf"))
    except (_LostError, ValueError):
        return None
    return sorted(found, key=lambda place: float(here.tangent @ (place.z - here.z)))


def _dataset(back: _Branch, ahead: _Branch) -> xr.Dataset:
    steps = back.steps[:0:-1] + ahead.steps
    points = [place.curve.split(place.z) for place in steps]
    parameter = torch.stack([point.parameter for point in points]).numpy()
    x = torch.stack([point.x for point in points]).numpy()
    special = [i for i, place in enumerate(steps) if place.special]
    size = {name: np.median([abs(p.conditions[name]) for p in steps]) for name in steps[0].conditions}
    distance = [
        abs(steps[i].conditions[steps[i].special]) / size[steps[i].special]
        if steps[i].special in size
        else float(steps[i].growth.abs().min() / steps[i].eigenvalue.abs().max())
        for i in special
    ]
    return xr.Dataset(
        {
            "first": (("step",), parameter[:, 0]),
            "second": (("step",), parameter[:, 1]),
            "point": (("step", "state"), x),
            "eigenvalue": (("step", "mode"), np.stack([to_numpy(place.eigenvalue) for place in steps])),
            "unstable": (("step",), np.array([place.unstable for place in steps])),
            "coefficient": (("step",), np.array([place.coefficient for place in steps])),
            "frequency": (("step",), np.sqrt([max(float(point.square), 0.0) for point in points])),
            "residual": (("step",), np.array([place.residual for place in steps])),
            "special_step": (("special",), np.array(special, dtype=int)),
            "special_first": (("special",), parameter[special, 0]),
            "special_second": (("special",), parameter[special, 1]),
            "special_point": (("special", "state"), x[special]),
            "special_type": (("special",), np.array([steps[i].special for i in special], dtype=str)),
            "special_distance": (("special",), np.array(distance, dtype=float)),
            "ended": (("end",), np.array([back.ended, ahead.ended], dtype=str)),
        }
    )
