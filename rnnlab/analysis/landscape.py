"""The cost along one or two directions in weight space, how rough it is, and training's path in it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn
from tqdm.auto import tqdm

from rnnlab.analysis.cost import Cost
from rnnlab.analysis.states import one_thread, to_numpy

AXES = ("a", "b")
MEASURES = {
    "minima_density": "local minima per unit of theta",
    "variation": "total variation / range",
    "second_difference": "mean second difference / range",
    "lost": "share of values that are not finite",
}


def landscape(
    network: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    objective: Any,
    directions: Mapping[str, Tensor],
    *,
    center: Tensor | None = None,
    low: tuple[float, ...] | float = -1.0,
    high: tuple[float, ...] | float = 1.0,
    points: int = 101,
    horizon: int | None = None,
    progress: bool = False,
) -> xr.Dataset:
    """The cost V(center + a d1) along one direction, or V(center + a d1 + b d2) in a plane.

    Directions are taken as they are, not normalised: a runs from `low` to `high` in their own lengths.
    `random_directions` gives some of the length of theta, without scaling by layer or filter (as Li et al.
    2018 do for networks with batch normalisation, which recurrent ones here have not); `principal_plane`
    those in which training moved.

    Args:
        network: A module in float64 (`freeze`); it is not touched.
        inputs: `(time, sequence, ...)`.
        targets: `(time, sequence, ...)`, or those of the last steps.
        objective: What is minimised; its mean over time and sequences is taken, see `cost.Cost`.
        directions: One or two by name, `(parameter,)` each.
        center: Weights in the middle, `(parameter,)`. Default: the network's.
        low: Where each axis begins.
        high: Where it ends.
        points: Values along each axis.
        horizon: Time steps that the cost is of. Default: all.
        progress: Show a bar.

    Returns:
        A dataset with `cost` `(a,)` or `(a, b)`, infinite or NaN where the network leaves the finite numbers;
        `center_cost`; the `length` of each direction `(axis,)`, whose name is the coordinate `axis`; and the
        measures of `roughness` along a, in units of theta's space, `(b,)` in a plane.

    Raises:
        TypeError, ValueError: What `Cost` refuses; directions of another size; an option out of range.

    References:
        Goodfellow, Vinyals, Saxe, "Qualitatively characterizing neural network optimization problems", ICLR
        2015. Li, Xu, Taylor, Studer, Goldstein, "Visualizing the loss landscape of neural nets", NeurIPS
        2018.
    """
    cost = Cost(network, inputs, targets, objective)
    if len(directions) not in (1, 2):
        raise ValueError(f"{len(directions)} directions are not possible: give one or two by name.")
    middle = cost.theta if center is None else center.to(cost.theta)
    for name, direction in (*directions.items(), ("center", middle)):
        if direction.shape != cost.theta.shape or not bool(direction.isfinite().all()):
            raise ValueError(
                f"{name} of shape {tuple(direction.shape)} is not possible: give {len(cost.theta)} finite "
                "numbers, one for each weight."
            )
    if not isinstance(points, int) or isinstance(points, bool) or points < 3:
        raise ValueError(f"points={points!r} is not possible: give a whole number of at least 3.")
    ends = [(x,) * len(directions) if isinstance(x, int | float) else tuple(x) for x in (low, high)]
    if any(len(x) != len(directions) for x in ends) or not all(
        math.isfinite(a) and math.isfinite(b) and a < b for a, b in zip(*ends, strict=True)
    ):
        raise ValueError(f"low={low}, high={high} is not possible: give low < high, finite, for each axis.")
    vectors = torch.stack([direction.to(cost.theta) for direction in directions.values()])
    lengths = torch.linalg.vector_norm(vectors, dim=-1)
    if not bool((lengths > 0).all()):
        raise ValueError(f"direction {list(directions)[int(lengths.argmin())]!r} is zero: give another.")
    grids = [torch.linspace(a, b, points, dtype=torch.float64) for a, b in zip(*ends, strict=True)]
    shifts = torch.cartesian_prod(*grids).reshape(-1, len(grids)).to(cost.theta)
    rows = max(1, 2**22 // len(cost.theta))  # of weights held at once
    with one_thread():
        values = [cost.values(middle[None], horizon)]
        for some in tqdm(shifts.split(rows), disable=not progress, desc="landscape"):
            values.append(cost.values(middle + some @ vectors, horizon))
    here, *found = values
    surface = to_numpy(torch.cat(found)).reshape([points] * len(grids))
    axes = AXES[: len(grids)]
    spacing = float((grids[0][1] - grids[0][0]) * lengths[0])
    lines = surface if surface.ndim == 1 else surface.T
    measures = np.array([list(roughness(line, spacing).values()) for line in np.atleast_2d(lines)])
    return xr.Dataset(
        {
            "cost": (axes, surface),
            "center_cost": float(here[0]),
            "length": ("axis", to_numpy(lengths), {"units": "theta"}),
            **{
                name: (axes[1:], measures[:, i].reshape(surface.shape[1:]), {"units": units})
                for i, (name, units) in enumerate(MEASURES.items())
            },
        },
        coords={"axis": list(directions), **{k: g.numpy() for k, g in zip(axes, grids, strict=True)}},
        attrs={"analysis": "landscape", "horizon": horizon or cost.steps},
    )


def roughness(values: np.ndarray, spacing: float) -> dict[str, float]:
    """How rough a curve is, from its values at evenly spaced points.

    - `minima_density`: local minima per unit of length: interior values, or runs of equal ones, that are
      below both neighbours, over the length of the curve;
    - `variation`: the sum of |V_{i+1} - V_i| over the range max - min: 1 for a monotone curve, 2 for a
      parabola seen from its middle, more for more ups and downs, whatever the spacing;
    - `second_difference`: the mean of |V_{i-1} - 2 V_i + V_{i+1}| over the range: falls as the square of the
      spacing where the curve is smooth at that scale, not at all where it is rough;
    - `lost`: the share of values that are not finite.

    Values that are not finite part the curve; differences and minima are taken where all neighbours are
    finite, and the length is that of the finite parts. None of the measures changes when the values are
    scaled or shifted, up to rounding: a curve that is flat but for rounding has minima of that.

    Args:
        values: `(point,)`.
        spacing: Distance of two points; lengths are in its unit.

    Returns:
        The four by name; NaN where there are too few finite values, for `variation` and `second_difference`
        also where all are the same.

    Raises:
        ValueError: `values` is no curve, or the spacing is not positive.

    Example:
        >>> x = np.linspace(-1, 1, 201)
        >>> found = roughness(x**2, spacing=0.01)
        >>> found["minima_density"], round(found["variation"], 9), round(found["second_difference"], 9)
        (0.5, 2.0, 0.0002)
    """
    values = np.asarray(values, float)
    if values.ndim != 1 or not (math.isfinite(spacing) and spacing > 0):
        raise ValueError(
            f"values of shape {values.shape} with spacing={spacing} are no curve: give (point,) and a "
            "positive number."
        )
    finite = np.isfinite(values)
    pairs = finite[1:] & finite[:-1]
    if not pairs.any():
        lost = float(np.mean(~finite)) if len(values) else math.nan
        return dict.fromkeys(MEASURES, math.nan) | {"lost": lost}
    with np.errstate(invalid="ignore"):
        steps, bends = np.diff(values), np.abs(np.diff(values, 2))[pairs[1:] & pairs[:-1]]
    scope = float(np.ptp(values[finite]))
    return {
        "minima_density": len(local_minima(values)) / (spacing * float(pairs.sum())),
        "variation": float(np.abs(steps[pairs]).sum()) / scope if scope else math.nan,
        "second_difference": float(bends.mean()) / scope if scope and len(bends) else math.nan,
        "lost": float(np.mean(~finite)),
    }


def local_minima(values: np.ndarray) -> np.ndarray:
    """Positions of interior values below both neighbours; of a run of equal ones, its first.

    Next to a value that is not finite there is no minimum.

    Example:
        >>> local_minima(np.array([2, 1, 3, 0, 0, 4, 1, np.inf, 0, 2])).tolist()
        [1, 3]
    """
    values = np.asarray(values, float)
    starts = (
        np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
        if len(values)
        else np.zeros(0, int)
    )
    runs = values[starts]
    inner, left, right = runs[1:-1], runs[:-2], runs[2:]
    low = np.isfinite(inner) & np.isfinite(left) & np.isfinite(right) & (inner < left) & (inner < right)
    return starts[1:-1][low]


def weights(network: nn.Module) -> Tensor:
    """All parameters of a network in one vector `(parameter,)` in float64, in the order of `cost.Cost`."""
    parts = [p.detach().flatten().double() for p in network.parameters() if p.is_floating_point()]
    if not parts:
        raise ValueError(f"the {type(network).__name__} has no parameters.")
    return torch.cat(parts)


def random_directions(theta: Tensor, count: int = 2, *, seed: int = 0) -> dict[str, Tensor]:
    """Normal random directions of the length of theta, by the names "random 0", ...

    Args:
        theta: `(parameter,)`.
        count: How many.
        seed: Of the draw.
    """
    generator = torch.Generator().manual_seed(seed)
    length, found = torch.linalg.vector_norm(theta), {}
    for i in range(count):
        draw = torch.randn(len(theta), generator=generator, dtype=torch.float64).to(theta)
        found[f"random {i}"] = draw * (length / torch.linalg.vector_norm(draw))
    return found


def principal_plane(path: Tensor, count: int = 2) -> tuple[dict[str, Tensor], np.ndarray]:
    """The directions in which training moved most: principal axes of its weights about their mean.

    A large share means little by itself: the first axis of a random walk in many dimensions explains 6 / pi^2
    = 61 % of it, the k-th 1 / k^2 times as much (Antognini and Sohl-Dickstein, NeurIPS 2018).

    Args:
        path: Weights after some epochs, as rows: `(epoch, parameter)`.
        count: How many directions.

    Returns:
        Unit vectors `(parameter,)` by the names "principal 0", ..., of which the sign is such that the path
        ends higher than it begins; and the share `(count,)` of the variance that each explains.

    Raises:
        ValueError: There are too few rows, or they span fewer directions.

    Example:
        >>> path = torch.tensor([[0.0, 0, 1], [2, 0, 1], [4, 0, 1], [2, 1, 1]]).double()
        >>> found, share = principal_plane(path)
        >>> found["principal 0"].round(decimals=6).tolist(), share.round(4).tolist()
        ([1.0, 0.0, 0.0], [0.9143, 0.0857])
    """
    if path.ndim != 2 or len(path) <= count or not bool(path.isfinite().all()):
        raise ValueError(
            f"a path of shape {tuple(path.shape)} has no {count} principal directions: give finite weights "
            f"of at least {count + 1} epochs as rows."
        )
    spread = path - path.mean(0)
    # parameters are many, epochs few: the small one of the two products
    values, vectors = torch.linalg.eigh(spread @ spread.mT)
    values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
    if not bool(values[count - 1] > 1e-12 * values.sum()) or not bool(values[0] > 0):
        raise ValueError(
            f"the path spans fewer than {count} directions: give epochs between which weights moved."
        )
    found = {}
    for i in range(count):
        axis = spread.mT @ vectors[:, i]
        axis = axis / torch.linalg.vector_norm(axis)
        found[f"principal {i}"] = axis if float((path[-1] - path[0]) @ axis) >= 0 else -axis
    return found, to_numpy(values[:count] / values.sum())


def project(path: Tensor, center: Tensor, directions: Mapping[str, Tensor]) -> np.ndarray:
    """Coordinates of weights `(epoch, parameter)` in a landscape: `(epoch, axis)`, by least squares.

    In a plane through `center` they are the foot points of weights that lie off it.
    """
    basis = torch.stack([direction.to(path) for direction in directions.values()], -1)
    return to_numpy(torch.linalg.lstsq(basis, (path - center.to(path)).mT).solution.mT)
