"""Which fixed points are there, provably? All of a small system's, each enclosed, by interval arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import xarray as xr
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree
from torch import Tensor
from tqdm import tqdm

from rnnlab.analysis.stability import classify, leading_first
from rnnlab.analysis.states import one_thread, to_numpy
from rnnlab.intervals import Interval, as_interval, differentiate, neg
from rnnlab.systems import System, VectorField, bounds, is_flow, jacobian, law, observe, reduced

CHUNK = 4096  # parts at a time: what one core keeps in its cache
CANDIDATES = 32  # Newton's method is started in so many of them at most
GAP = 1e3  # undecided parts nearer to each other than so many times the resolution count as one
HALVINGS = 40  # a neighbourhood is tried at half-widths from 1/2 down to 2^-HALVINGS of the box's widths


@torch.no_grad()
def certified_fixed_points(
    system: System | VectorField,
    box: tuple[Tensor, Tensor] | None = None,
    *,
    resolution: float = 1e-8,
    max_boxes: int = 500_000,
    progress: bool = False,
) -> xr.Dataset:
    """Enumerate the fixed points of a map, or equilibria of a field, in up to three dimensions, with proof.

    The box is subdivided. On each part the system's own code is evaluated in interval arithmetic, with its
    derivative, rounding included; so any system is certified that consists of operations that
    `rnnlab.intervals` knows. A part is dropped if the image or Krawczyk's operator

        K(X) = c - Y G(c) + (I - Y G'(X)) (X - c),  G = F - id or the field,  Y ~ G'(c)^-1,

    proves it empty. From the other parts Newton's method looks for solutions, and a box around a point that
    it finds holds exactly one if K maps that box into its own interior. The largest such box is taken, and
    parts inside it are dropped too, so that solutions on the edges of parts do no harm. What is left at the
    `resolution` is **undecided**: solutions that are degenerate, or nearly so, or not isolated, or that touch
    a jump. With none undecided the list is complete; and nothing on it is ever false.

    Only the box is searched. A solution counts if its enclosure touches it. If the system has a reduction
    (an LSTM without its cell state) that is enumerated, and the points are lifted to full states.

    Args:
        system: The map or field, one only: no probe axis. Where it offers several parameters, give one.
        box: Lower and upper corner, each `(state,)`. Default: the absorbing box `bounds(system)`, which holds
            all fixed points; else [-1, 1] in every dimension, of which it takes the fewest, up to three, with
            which the system runs.
        resolution: Size below which a part is divided no more, relative to the box, or to a hundredth of its
            distance from 0 if that is more.
        max_boxes: Bound on the number of parts examined; what is left then is undecided.
        progress: Show a bar.

    Returns:
        A dataset with, sorted by the number of unstable directions and then by the coordinates,

        - `point` `(index, state)`: the middle of the enclosure;
        - `radius` `(index, state)`: its half-widths: the solution lies within, proved;
        - `residual` `(index)`: norm of F(x) - x, or of the field, at `point`;
        - `sign` `(index)`: the sign of det(I - J), for a field of det(-J), proved; 0 where it is not;
        - `y` `(index, observable)`: what is observed at `point`;
        - `eigenvalue` `(index, mode)`, `unstable`, `margin`, `kind` `(index)`: of the Jacobian at `point`, in
          floating point, not proved: the eigenvalues, the least stable first, how many lie outside the unit
          circle (to the right of the imaginary axis), the smallest distance from it, and "stable node",
          "stable focus", "unstable node", "unstable focus", "saddle", or "non-hyperbolic" if that distance
          is below 1e-6; a focus if the eigenvalue nearest to deciding otherwise is complex;
        - `undecided_low`, `undecided_high` `(cluster, state)`: hulls of undecided parts that touch, or
          nearly: a thousand times the `resolution` apart at most.

        Attributes: `certified` and `undecided`, the numbers of points and of clusters; `undecided_boxes` and
        `undecided_volume`, relative to the box; `index_sum`, the sum of `sign`, which is 1 for a system that
        maps the box into itself; `boxes` examined; `complete`, whether none is undecided; `box_low`,
        `box_high`, in the coordinates that were divided.

    Raises:
        UnknownOperation: The system uses an operation that interval arithmetic does not know; a `TypeError`.
        ValueError: An option is out of range; the box is not finite, empty, or of the wrong size; the system
            has more than three dimensions, or a probe axis.

    References:
        Krawczyk, "Newton-Algorithmen zur Bestimmung von Nullstellen mit Fehlerschranken", Computing 4, 1969.
        Neumaier, "Interval Methods for Systems of Equations", Cambridge 1990, chapter 5.
        Rump, "Verification methods", Acta Numerica 19, 2010: epsilon-inflation.

    Example:
        >>> from rnnlab.maps import Henon
        >>> found = certified_fixed_points(Henon(1.4, 0.3), (torch.full((2,), -2.0), torch.full((2,), 2.0)))
        >>> found.point[:, 0].round(6).values.tolist(), found.certified, found.undecided
        ([-1.131354, 0.631354], 2, 0)
    """
    if not 0 < resolution < 1:
        raise ValueError(f"resolution={resolution} is not possible: give a number between 0 and 1.")
    if not isinstance(max_boxes, int) or max_boxes < 1:
        raise ValueError(f"max_boxes={max_boxes!r} is not possible: give a whole number of at least 1.")
    small: Any = reduced(system) or system
    rule, flow = law(small), is_flow(small)
    low, high = _box(system, small, box)

    def solve(x: Any) -> Any:
        return rule(x) if flow else rule(x) - x

    with one_thread():
        search = _Search(solve, low, high, resolution, max_boxes)
        search.run(progress)
    return _dataset(system, search, (lambda z: z) if small is system else small.lift)


def _box(system: Any, small: Any, box: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
    """The corners, in the coordinates of `small`."""
    given = bounds(system) if box is None else box
    if given is None:
        size = next((n for n in (1, 2, 3) if _runs(small, n)), None)
        if size is None:
            raise ValueError(
                "the system runs in none of 1, 2 and 3 dimensions: an enumeration takes no more."
            )
        ends = torch.ones(size, dtype=torch.float64)
        return -ends, ends
    low, high = (torch.as_tensor(end, dtype=torch.float64).detach() for end in given)
    if box is None and low.shape[:-1].numel() == 1 == high.shape[:-1].numel():
        low, high = low.reshape(-1), high.reshape(-1)
    if box is None:  # an absorbing box may be as thin as the point that it holds
        low, high = low - 1e-6 * (1 + low.abs()), high + 1e-6 * (1 + high.abs())
    if low.ndim != 1 or low.shape != high.shape or not len(low):
        raise ValueError(
            f"a box with corners of shapes {tuple(low.shape)} and {tuple(high.shape)} is not possible: "
            "give two corners (state,); of a system with several probes take one."
        )
    if not bool((low.isfinite() & high.isfinite() & (low < high)).all()):
        raise ValueError(
            f"a box from {low.tolist()} to {high.tolist()} is not possible: give finite low < high."
        )
    if small is not system:
        low, high = small.restrict(low), small.restrict(high)
    if len(low) > 3:
        raise ValueError(f"{len(low)} dimensions are too many for an enumeration: it takes up to 3.")
    if not _runs(small, len(low)):
        raise ValueError(
            f"the system does not map states (2, {len(low)}) to states (2, {len(low)}): "
            "give a box of the size of its state, and of a system with several probes one."
        )
    return low, high


def _runs(system: Any, size: int) -> bool:
    states = torch.full((2, size), 0.1, dtype=torch.float64)
    try:
        return law(system)(states).shape == states.shape
    except (RuntimeError, ValueError, IndexError):
        return False


class _Search:
    """Branch and bound for the zeros of `solve` in a box.

    Boxes are pairs of corners `(box, n)`. Of the zeros found, `wide` holds boxes with exactly one zero
    each, and `tight` enclosures of it.
    """

    def __init__(
        self, solve: Callable[[Any], Any], low: Tensor, high: Tensor, resolution: float, max_boxes: int
    ) -> None:
        self.solve = solve
        self.low, self.high = low, high
        # a box may be so narrow that rounding is all there is to see in it
        self.size = torch.maximum(high - low, 0.01 * torch.maximum(low.abs(), high.abs()))
        self.resolution = resolution
        self.max_boxes = max_boxes
        self.boxes = 0
        empty = low.new_zeros(0, len(low))
        self.wide, self.tight, self.undecided = (empty, empty), (empty, empty), (empty, empty)

    def run(self, progress: bool) -> None:
        low, high = self.low[None], self.high[None]
        with tqdm(total=self.max_boxes, unit=" boxes", disable=not progress) as bar:
            while len(low) and self.boxes < self.max_boxes:
                room = self.max_boxes - self.boxes
                parts = zip(low[:room].split(CHUNK), high[:room].split(CHUNK), strict=True)
                left = [*(self._examine(*part) for part in parts), (low[room:], high[room:])]
                low, high = (torch.cat(ends) for ends in zip(*left, strict=True))
                bar.update(self.boxes - bar.n)
        self.undecided = _join(self.undecided, (low, high))
        # some were set aside before the neighbourhood they lie in was found
        self.undecided = self._outside(*self.undecided)
        # a zero beyond the box has served its turn
        here = ((self.tight[0] <= self.high) & (self.tight[1] >= self.low)).all(-1)
        self.tight = self.tight[0][here], self.tight[1][here]
        for _ in range(3):
            image = self._krawczyk(*self.tight)[1]
            self.tight = torch.fmax(self.tight[0], image.low), torch.fmin(self.tight[1], image.high)

    def _examine(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """What is still to be searched of some boxes."""
        low, high = self._outside(low, high)
        if not len(low):
            return low, high
        self.boxes += len(low)
        value, image, newton = self._krawczyk(low, high)
        empty = (value.low > 0) | (value.high < 0) | (image.low > high) | (image.high < low)
        alive = ~empty.any(-1)
        low, high, newton, old = low[alive], high[alive], newton[alive], high[alive] - low[alive]
        reach = old + 1e-6 * self.size
        self._certify(newton[((newton > low - reach) & (newton < high + reach)).all(-1)])

        # all zeros of a box lie in its image too; where that is unknown, fmax and fmin keep the box
        low, high = torch.fmax(low, image.low[alive]), torch.fmin(high, image.high[alive])
        width, old = (high - low) / self.size, (old / self.size).amax(-1)
        # not those that the cut has just made so small: one more look may prove them empty
        done = old <= self.resolution
        self.undecided = _join(self.undecided, (low[done], high[done]))
        low, high, width, old = low[~done], high[~done], width[~done], old[~done]
        halved = width.amax(-1) > 0.5 * old
        widest = torch.arange(len(self.size)) == width.argmax(-1, keepdim=True)
        split, middle = widest & halved[:, None], low / 2 + high / 2
        return _join(
            (low, torch.where(split, middle, high)), (torch.where(split, middle, low)[halved], high[halved])
        )

    def _outside(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """The boxes that are in no neighbourhood."""
        inside = (low[:, None] >= self.wide[0]) & (high[:, None] <= self.wide[1])
        free = ~inside.all(-1).any(-1)
        return low[free], high[free]

    def _krawczyk(
        self, low: Tensor, high: Tensor, center: Tensor | None = None
    ) -> tuple[Interval, Interval, Tensor]:
        """Bounds on the function and on Krawczyk's operator over boxes; a Newton step from their centers."""
        center = low / 2 + high / 2 if center is None else center
        value, slope = differentiate(self.solve, low, high)
        inverse = torch.linalg.inv_ex(_middle(slope))[0]
        step = inverse @ as_interval(self.solve(Interval(center, center))).unsqueeze(-1)
        rest = (torch.eye(low.shape[-1], dtype=low.dtype) - inverse @ slope).magnitude
        radius = torch.maximum(high - center, center - low).unsqueeze(-1) * (1 + 1e-15)
        image = center - (step + rest @ Interval(-radius, radius)).squeeze(-1)
        return value, image, center - _middle(step).squeeze(-1)

    def _certify(self, points: Tensor) -> None:
        """Find zeros from `points` and prove them, each with the largest neighbourhood that can be had."""
        points = self._outside(points, points)[0]
        points = points[:: max(1, math.ceil(len(points) / CANDIDATES))]
        for _ in range(5 if len(points) else 0):
            value, slope = (_middle(part) for part in differentiate(self.solve, points, points))
            points = points - (torch.linalg.inv_ex(slope)[0] @ value.unsqueeze(-1)).squeeze(-1)
        near = ((points > self.low - self.size) & (points < self.high + self.size)).all(-1)
        points = _distinct(self._outside(points[near], points[near])[0], 1e-9 * self.size)
        if not len(points):
            return
        radii = self.size * 0.5 ** torch.arange(1.0, HALVINGS + 1, dtype=self.size.dtype)[:, None]
        center = points[:, None].expand(-1, HALVINGS, -1)
        low, high = center - radii, center + radii
        _, image, _ = self._krawczyk(*(ends.flatten(0, 1) for ends in (low, high, center)))
        image_low, image_high = image.low.view_as(low), image.high.view_as(low)
        proved = ((image_low > low) & (image_high < high)).all(-1)
        for i in range(len(points)):
            fits = proved[i].nonzero().flatten().tolist()
            if not fits:
                continue
            # the zero of the smallest box is that of the largest, which holds one only
            tight = image_low[i, fits[-1:]], image_high[i, fits[-1:]]
            # enclosures that meet may be of the same zero: that one is known
            if not bool(((tight[0] <= self.tight[1]) & (tight[1] >= self.tight[0])).all(-1).any()):
                self.tight = _join(self.tight, tight)
                self.wide = _join(self.wide, (low[i, fits[:1]], high[i, fits[:1]]))

    def signs(self) -> Tensor:
        """Proved signs of det(-G') at the zeros, 0 where there is no proof."""
        if not len(self.tight[0]):
            return torch.zeros(0, dtype=torch.int64)
        slope = differentiate(self.solve, *self.tight)[1]
        found = _determinant(neg(slope))
        return (found.low > 0).long() - (found.high < 0).long()


def _middle(x: Interval) -> Tensor:
    return x.low / 2 + x.high / 2


def _join(*boxes: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return torch.cat([low for low, _ in boxes]), torch.cat([high for _, high in boxes])


def _distinct(points: Tensor, tolerance: Tensor) -> Tensor:
    """Points `(point, n)` without those that repeat an earlier one."""
    close = ((points[:, None] - points).abs() <= tolerance).all(-1)
    return points[~close.tril(-1).any(-1)]


def _determinant(matrix: Any) -> Any:
    """Of matrices `(*batch, n, n)`, along the first row."""
    size = matrix.shape[-1]
    if size == 1:
        return matrix[..., 0, 0]
    total = 0.0
    for j in range(size):
        minor = torch.cat((matrix[..., 1:, :j], matrix[..., 1:, j + 1 :]), -1)
        total = total + (-1) ** j * matrix[..., 0, j] * _determinant(minor)
    return total


def _clusters(low: Tensor, high: Tensor, size: Tensor, gap: float) -> tuple[Tensor, Tensor]:
    """Hulls `(cluster, n)` of boxes within `gap` of each other, relative to `size`, one by the next."""
    if not len(low):
        return low, high
    center, radius = to_numpy((low + high) / 2 / size), to_numpy((high - low) / 2 / size) + gap / 2
    pairs = KDTree(center).query_pairs(2 * radius.max() * (1 + 1e-9), p=np.inf, output_type="ndarray")
    first, second = pairs.T
    near = np.abs(center[first] - center[second]) <= (radius[first] + radius[second]) * (1 + 1e-9) + 1e-15
    links = pairs[near.all(-1)].T
    graph = coo_array((np.ones(links.shape[1]), (links[0], links[1])), shape=(len(center),) * 2)
    count, label = connected_components(graph, directed=False)
    index = torch.as_tensor(label, dtype=torch.int64)[:, None].expand_as(low)
    hull = low.new_full((count, low.shape[-1]), math.inf)
    return hull.scatter_reduce(0, index, low, "amin"), (-hull).scatter_reduce(0, index, high, "amax")


def _dataset(system: Any, search: _Search, lift: Callable[[Any], Any]) -> xr.Dataset:
    full = as_interval(lift(Interval(*search.tight)))
    point = _middle(full)
    radius = torch.maximum(full.high - point, point - full.low) * (1 + 1e-15)
    residual = torch.linalg.vector_norm(law(system)(point) - (0 if is_flow(system) else point), dim=-1)
    matrices = jacobian(system, point) if len(point) else point.new_zeros(0, *2 * point.shape[-1:])
    values = leading_first(to_numpy(torch.linalg.eigvals(matrices)), flow=is_flow(system))
    unstable, kind, margin = classify(values, flow=is_flow(system))
    sign = search.signs()
    rows = np.lexsort([*to_numpy(point.round(decimals=6).mT.flip(0)), unstable])
    clusters = _clusters(*search.undecided, search.size, 0.0)
    if len(clusters[0]) < 2000:  # around one degenerate point there may be many, close together
        clusters = _clusters(*clusters, search.size, GAP * search.resolution)
    hull = as_interval(lift(Interval(*clusters)))
    volume = ((search.undecided[1] - search.undecided[0]) / (search.high - search.low)).prod(-1).sum()
    by_index = {
        "point": (("state",), point),
        "radius": (("state",), radius),
        "residual": ((), residual),
        "sign": ((), sign),
        "y": (("observable",), observe(system, point)),
        "eigenvalue": (("mode",), values),
        "unstable": ((), unstable),
        "margin": ((), margin),
        "kind": ((), kind),
    }
    return xr.Dataset(
        {
            **{
                name: (("index", *axes), (to_numpy(part) if isinstance(part, Tensor) else part)[rows])
                for name, (axes, part) in by_index.items()
            },
            "undecided_low": (("cluster", "state"), to_numpy(hull.low)),
            "undecided_high": (("cluster", "state"), to_numpy(hull.high)),
        },
        attrs={
            "analysis": "certified_fixed_points",
            "certified": len(point),
            "undecided": len(hull.low),
            "undecided_boxes": len(search.undecided[0]),
            "undecided_volume": volume.item(),
            "complete": not len(hull.low),
            "index_sum": int(sign.sum()),
            "boxes": search.boxes,
            "box_low": search.low.tolist(),
            "box_high": search.high.tolist(),
            "resolution": search.resolution,
            "max_boxes": search.max_boxes,
        },
    )
