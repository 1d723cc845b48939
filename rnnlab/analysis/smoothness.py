"""How smooth is the cost? Lipschitz constants of it and of its gradient, from below, and their growth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn
from tqdm.auto import tqdm

from rnnlab.analysis.cost import Cost
from rnnlab.analysis.states import one_thread
from rnnlab.shares import shared, sharers

CONSTANTS = ("V", "grad V")
LAWS = ("power", "exponential")  # constants that grow as N^rate and as e^(rate N)
STRETCHES = ("with parameters, seen", "of the state, seen", "of the state, certified")
THEOREM = {"power": (1.0, 3.0), "exponential": (2.0, 3.0)}  # of L = 1; times log L, of L > 1
NEAR = 1e-8  # distance of two points that tell a curvature, in lengths of theta
LINEAR = 0.1  # largest relative change of a gradient over that distance
ENTRIES = 2**22  # numbers of the points taken at once
STATES, ROUNDS = 4, 8  # states at which the step is looked at, and rounds of its power iteration


def smoothness(
    network: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    objective: Any,
    *,
    horizons: Sequence[int] | None = None,
    rays: int = 4,
    points: int = 5,
    radius: float = 0.05,
    directions: Mapping[str, Tensor] | None = None,
    contraction: xr.Dataset | None = None,
    seed: int = 0,
    progress: bool = False,
) -> xr.Dataset:
    """Lipschitz constants of the cost V_N(theta) and of its gradient, for growing horizons N.

    V_N is the mean loss over N time steps, with the network's initial state and inputs fixed; see
    `rnnlab.analysis.cost.Cost`, also for what a horizon is where only the last step is asked for.

    A look takes (2 points - 1) (rays + 2) + 1 gradients at each horizon (for an even number of points about
    as many). Several processes share out the horizons, of which the longest is nearly half of all work.

    **From below.** The constants are suprema over a set of weights, here the ball around theta with `radius`
    times its length. What is found is the largest value at some points of it, hence a lower bound, and in
    many dimensions one that may be far below. The points lie on rays through theta: in random directions, in
    the direction of the gradient, in the one in which the gradient changes along that ("sharpest", one step
    of a power iteration on the Hessian), and in the `directions` given. Each point has a neighbour at 1e-8 of
    theta's length, for the curvature; differences are also taken between the points themselves, which sees
    jumps. Of `points` an odd number is best, with theta itself among them. Weights off theta are not put back
    into the set that a cell may constrain them to.

    A gradient that changes much over the shortest distance has a curvature larger than what is seen; such
    horizons are not `resolved`. In chaos that comes at about 18 / lambda_1 steps, and at twice that rounding
    is as large as the gradient.

    **Rates.** Two laws are fitted to the constants, N^rate and e^(rate N), by least squares of their
    logarithms over the horizons of at least the square root of the longest. The standard error says how well
    the law fits these few points, and no more; the law with the smaller `misfit` describes them better.

    **The theorem** (Ribeiro et al. 2020, Theorem 1) bounds the growth by O(L^2N) and O(L^3N) for L > 1, by
    O(N) and O(N^3) for L = 1, and by constants for L < 1. L is the Lipschitz constant of the step in state
    *and parameters* over a compact set that holds all trajectories, so it is above that of the state alone
    (`rnnlab.analysis.contraction`), and in practice above 1. As outputs are bounded on a compact set, its
    proof gives the smaller O(L^N / N) and O(L^2N / N) as well; for L = 1, O(N^1/2) and O(N^2). Bounded
    trajectories under a step with constant 1 in the state alone have O(N) and O(N^3). All of these are
    upper bounds: a cost may be much smoother.

    Args:
        network: A module in float64 (`freeze`); it is not touched.
        inputs: `(time, sequence, ...)`.
        targets: `(time, sequence, ...)`, or those of the last steps.
        objective: What is minimised.
        horizons: Numbers of time steps. Default: powers of two, and all there are.
        rays: Random directions.
        points: Places along each ray, evenly from one side of the ball to the other.
        radius: Of the ball, relative to the length of theta.
        directions: Further ones by name, `(parameter,)` each, of any length.
        contraction: What `rnnlab.analysis.contraction` found for this network, to be set beside it.
        seed: Of the random directions.
        progress: Show a bar.

    Returns:
        A dataset with

        - `cost`, `gradient` `(horizon)`: V and |grad V| at theta;
        - `slope`, `steepest`, `bend` `(horizon, ray)`: largest |V(a) - V(b)| / |a - b|, |grad V|, and
          |grad V(a) - grad V(b)| / |a - b|, per unit of length in the space of weights; NaN where a direction
          does not exist;
        - `lipschitz` `(constant, horizon)`: lower bounds on the two constants, the largest of all these;
        - `resolved` `(horizon)`; `lost` `(horizon)`: share of points whose cost or gradient is not finite;
        - `rate`, `standard_error`, `misfit` `(constant, law)`: fitted, NaN where fewer than three horizons
          serve; a `rate` of "exponential" is in nats per time step, `misfit` in nats;
        - `stretch` `(kind)`: Lipschitz constant of the step, Euclidean, NaN where unknown: in state and
          parameters as reached at theta along the driven orbits (a lower bound on the theorem's L), and of
          the state alone as reached and as certified;
        - `bound` `(constant, law, kind)`: the theorem's rates if L were the stretch of that kind.

    Raises:
        TypeError, ValueError: An option is out of range; what `Cost` refuses; theta is zero, or its cost is
            not finite at all horizons.

    References:
        Ribeiro, Tiels, Aguirre, Schoen, "Beyond exploding and vanishing gradients: analysing RNN training
        using attractors and smoothness", AISTATS 2020, section 4 and supplement B.
    """
    _check(rays=(rays, 0), points=(points, 1))
    if not (math.isfinite(radius) and radius > 0):
        raise ValueError(f"radius={radius} is not possible: give a positive number, in lengths of theta.")
    cost = Cost(network, inputs, targets, objective)
    if horizons is None:
        powers = [2**k for k in range(cost.steps.bit_length()) if cost.shortest <= 2**k < cost.steps]
        horizons = [*powers, cost.steps]
    if not horizons or list(horizons) != sorted(set(horizons)):
        raise ValueError(f"horizons={list(horizons)} is not possible: give rising numbers of time steps.")
    length = float(torch.linalg.vector_norm(cost.theta))
    if not 0 < length < math.inf:
        raise ValueError(f"weights of length {length} have no ball around them: give a trained network.")
    generator = torch.Generator().manual_seed(seed)
    fixed: dict[str, Tensor] = {}
    for i in range(rays):
        draw = torch.randn(len(cost.theta), generator=generator, dtype=torch.float64)
        fixed[f"random {i}"] = draw.to(cost.theta.device)
    for name, direction in (directions or {}).items():
        if direction.shape != cost.theta.shape or not bool(direction.isfinite().all() & direction.any()):
            raise ValueError(
                f"direction {name!r} of shape {tuple(direction.shape)} is not possible: give "
                f"{len(cost.theta)} finite numbers, not all zero."
            )
        fixed[name] = direction.to(cost.theta)
    names = [*fixed, "gradient", "sharpest"]

    with one_thread():
        hands = _dealt(horizons, sharers())

        def look(rows: slice) -> dict[int, dict[str, Any]]:
            some = sorted(horizon for hand in hands[rows] for horizon in hand)
            return {
                horizon: _look(cost, horizon, fixed, names, length * radius, points, length * NEAR)
                for horizon in tqdm(some, disable=not progress, desc="smoothness")
            }

        seen = {horizon: look for part in shared(look, len(hands)) for horizon, look in part.items()}
        looks = [seen[horizon] for horizon in horizons]
        joint = _joint_stretch(cost, generator)
    found = {key: np.array([look[key] for look in looks]) for key in looks[0]}
    if not np.isfinite(found["cost"]).any():
        raise ValueError("the cost is not finite at any horizon: are the weights and inputs finite?")
    with np.errstate(invalid="ignore"):
        steepest = np.fmax.reduce(np.concatenate([found["slope"], found["steepest"]], 1), axis=1)
        bend = np.fmax.reduce(found["bend"], axis=1)
    fits = [
        _fits(np.asarray(horizons), values, good)
        for values, good in ((steepest, np.isfinite(steepest)), (bend, found["resolved"]))
    ]
    stretch = np.array([joint, *_of_the_state(contraction)])
    per_weight, per_square = {"units": "loss per unit of theta"}, {"units": "loss per unit of theta squared"}
    return xr.Dataset(
        {
            "cost": ("horizon", found["cost"]),
            "gradient": ("horizon", found["gradient"], per_weight),
            "slope": (("horizon", "ray"), found["slope"], per_weight),
            "steepest": (("horizon", "ray"), found["steepest"], per_weight),
            "bend": (("horizon", "ray"), found["bend"], per_square),
            "lipschitz": (("constant", "horizon"), np.stack([steepest, bend])),
            "resolved": ("horizon", found["resolved"]),
            "lost": ("horizon", found["lost"]),
            **{
                name: (("constant", "law"), np.array([[law[i] for law in fit] for fit in fits]))
                for i, name in enumerate(("rate", "standard_error", "misfit"))
            },
            "stretch": ("kind", stretch),
            "bound": (("constant", "law", "kind"), _theorem(stretch)),
        },
        coords={
            "horizon": ("horizon", np.asarray(horizons), {"units": "time steps"}),
            "ray": names,
            "constant": list(CONSTANTS),
            "law": list(LAWS),
            "kind": list(STRETCHES),
        },
        attrs={
            "analysis": "smoothness",
            "radius": radius,
            "length": length,
            "points": points,
            "seed": seed,
            "asked": "at the end" if len(targets) < len(inputs) else "at every step",
        },
    )


def _dealt(horizons: Sequence[int], hands: int) -> list[list[int]]:
    """Horizons for several processes, each of which takes as many steps as it has numbers.

    The longest that are left go to whoever has least.

    >>> _dealt([1, 2, 4, 8, 16, 20], 2)
    [[20, 4, 2], [16, 8, 1]]
    """
    dealt: list[list[int]] = [[] for _ in range(hands)]
    for horizon in sorted(horizons, reverse=True):
        min(dealt, key=sum).append(horizon)
    return dealt


def _check(**options: tuple[int, int]) -> None:
    for name, (value, least) in options.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ValueError(f"{name}={value!r} is not possible: give a whole number of at least {least}.")


def _look(
    cost: Cost,
    horizon: int,
    fixed: Mapping[str, Tensor],
    names: Sequence[str],
    reach: float,
    points: int,
    near: float,
) -> dict[str, Any]:
    """All that is seen at one horizon; the directions that depend on it are found first."""
    value, gradient = (found[0] for found in cost.gradients(cost.theta[None], horizon))
    size = torch.linalg.vector_norm(gradient)
    rows = dict.fromkeys(names, (math.nan,) * 3)
    turns, lost = [], []

    def along(directions: Mapping[str, Tensor]) -> Tensor:
        """Look along rays; returns how the gradient changes over the short distance in the middle."""
        places = torch.linspace(-reach, reach, points, dtype=torch.float64) if points > 1 else torch.zeros(1)
        shifts = torch.stack((places, places + near), 1).flatten().to(cost.theta)
        units = [direction / torch.linalg.vector_norm(direction) for direction in directions.values()]
        there = torch.cat([cost.theta + shifts[:, None] * unit for unit in units])
        values, gradients = value.repeat(len(there)), gradient.repeat(len(there), 1)
        new = (shifts != 0).repeat(len(units))
        values[new], gradients[new] = cost.gradients(there[new], horizon)
        parts = (x.split(len(shifts)) for x in (there, values, gradients))
        for name, *ray in zip(directions, *parts, strict=True):
            rows[name], turn, gone = _differences(*ray)
            turns.append(turn)
            lost.append(gone)
        middle = 2 * (points // 2)
        return gradients[middle + 1] - gradients[middle]

    some = max(1, ENTRIES // (2 * points * len(cost.theta)))  # rays taken at once
    for first in range(0, len(fixed), some):
        along({name: fixed[name] for name in list(fixed)[first : first + some]})
    if bool(size > 0) and bool(size.isfinite()):
        change = along({"gradient": gradient})
        if bool(change.any()) and bool(change.isfinite().all()):
            along({"sharpest": change})
    seen = np.array([rows[name] for name in names])
    return {
        "cost": float(value),
        "gradient": float(size),
        "slope": seen[:, 0],
        "steepest": seen[:, 1],
        "bend": seen[:, 2],
        "resolved": bool(turns) and all(turn <= LINEAR for turn in turns),
        "lost": float(np.mean(lost)) if lost else 0.0,
    }


def _differences(
    there: Tensor, values: Tensor, gradients: Tensor
) -> tuple[tuple[float, float, float], float, float]:
    """Of places along a ray, each followed by its near neighbour: slope, steepest and bend; the largest
    relative change of the gradient between near neighbours; the share of points that is not finite.
    """
    finite = values.isfinite() & gradients.isfinite().all(-1)
    sizes = torch.linalg.vector_norm(gradients, dim=-1)

    def largest(x: Tensor, both: Tensor) -> float:
        return float(x[both].amax()) if bool(both.any()) else math.nan

    def change(a: slice, b: slice) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        distance = torch.linalg.vector_norm(there[a] - there[b], dim=-1)
        turned = torch.linalg.vector_norm(gradients[a] - gradients[b], dim=-1)
        return finite[a] & finite[b], distance, (values[a] - values[b]).abs(), turned

    # over a short distance rounding is most of a difference of values
    both, distance, rise, turned = change(slice(None, -2), slice(2, None))
    slope, wide = largest(rise / distance, both), largest(turned / distance, both)
    both, distance, _, turned = change(slice(None, None, 2), slice(1, None, 2))
    turn = largest(turned / torch.maximum(sizes[::2], sizes[1::2]).clamp(min=1e-300), both)
    bend = float(np.fmax(wide, largest(turned / distance, both)))
    return (slope, largest(sizes, finite), bend), turn, float((~finite).double().mean())


def _fits(horizons: np.ndarray, values: np.ndarray, good: np.ndarray) -> list[tuple[float, float, float]]:
    """For each law its rate, the standard error of it, and the root mean square of what it leaves over."""
    use = good & (values > 0) & np.isfinite(values) & (horizons >= math.sqrt(horizons[-1]))
    if use.sum() < 3:
        return [(math.nan, math.nan, math.nan)] * len(LAWS)
    y, found = np.log(values[use]), []
    for x in (np.log(horizons[use]), horizons[use].astype(float)):
        x = x - x.mean()
        rate = float(x @ y / (x @ x))
        rest = y - y.mean() - rate * x
        found.append((rate, math.sqrt(rest @ rest / (len(x) - 2) / (x @ x)), math.sqrt((rest**2).mean())))
    return found


def _of_the_state(contraction: xr.Dataset | None) -> tuple[float, float]:
    """Euclidean stretch of the state alone, seen and certified, of the input under which it is largest."""
    if contraction is None:
        return math.nan, math.nan
    if missing := [name for name in ("sampled", "upper") if name not in contraction]:
        raise ValueError(
            f"contraction has no {', '.join(missing)}: give what rnnlab.analysis.contraction returned."
        )
    euclidean = contraction.sel(norm="2")
    return float(euclidean["sampled"].max()), float(euclidean["upper"].max(skipna=False))


def _theorem(stretch: np.ndarray) -> np.ndarray:
    """Rates of Theorem 1, `(constant, law, kind)`, if L were each stretch."""
    power, exponential = (np.array(THEOREM[law])[:, None] for law in LAWS)
    return np.stack(
        [
            np.where(stretch == 1, power, np.where(stretch < 1, 0.0, np.where(stretch > 1, np.inf, np.nan))),
            exponential * np.log(np.maximum(stretch, 1.0)),
        ],
        1,
    )


@torch.no_grad()
def _joint_stretch(cost: Cost, generator: torch.Generator) -> float:
    """Largest |(A B)| seen of the step's Jacobian A by the state and B by the parameters; NaN without steps.

    |(A B)^T v| for a unit vector v is a lower bound on the norm however v was found: by a power iteration,
    whose forward half takes differences, since not all steps can be derived twice.
    """
    if not cost.stepwise:
        return math.nan
    x = cost.theta.new_zeros(cost.inputs.shape[1], cost.network.state_size)
    pairs, times = [], set(np.linspace(0, cost.steps - 1, STATES).round().astype(int).tolist())
    for time, u in enumerate(cost.inputs):
        if time in times:
            row = len(pairs) % len(u)
            pairs.append((x[row], u[row]))
        x = cost.network.step(x, u)
    best = math.nan
    start = torch.randn(x.shape[-1], generator=generator, dtype=torch.float64).to(x)
    v = start
    for state, u in pairs:
        for _ in range(ROUNDS):
            size = torch.linalg.vector_norm(v)
            if not 0 < float(size) < math.inf:
                v = start
                break
            with torch.enable_grad():
                z, theta = state.detach().requires_grad_(), cost.theta.detach().requires_grad_()
                image = cost.call(theta, "step", z[None], u[None])[0]
                back = torch.autograd.grad(image, (z, theta), v / size, materialize_grads=True)
            stretch = math.sqrt(sum(float(part @ part) for part in back))
            best = float(np.fmax(best, stretch))
            if not 0 < stretch < math.inf:
                v = start
                break
            h = 1e-6 / stretch
            ahead, behind = (
                cost.call(cost.theta + s * back[1], "step", (state + s * back[0])[None], u[None])[0]
                for s in (h, -h)
            )
            v = ahead - behind
    return best
