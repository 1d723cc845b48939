"""Where does a function of the plane vanish? All curves of its zeros in a box, thin and straight ones too."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

Function = Callable[[np.ndarray], np.ndarray]

HALVINGS = 54  # of an interval: until rounding is left
PASSES = 40  # over edges that may hide a pair of zeros
FLAT = 1e-14  # what is below this part of the largest value counts as zero
NEAR = 1e-4  # how far a curve may be from its polyline, as part of the box's diagonal


def zero_curves(
    function: Function, low: np.ndarray, high: np.ndarray, *, cells: int = 160
) -> list[np.ndarray]:
    """Curves in a box on which a function is zero.

    The box is cut into triangles. An edge whose ends differ in sign holds a zero, which is bisected until
    rounding is left; every triangle with such edges has two, and a piece of a curve runs between them. An
    edge along which the function falls from both ends towards zero may hide a pair of zeros: the extremum
    between is looked for and, where it lies on the other side of zero or on it, becomes a corner of new
    triangles, until no edge hides any. So do extrema inside triangles. In this way branches much closer to
    each other than the mesh is wide are told apart, small loops are found, and so are curves that the
    function only touches (once along each side). Vertices are added where curves bend and taken away
    where they don't.

    A zero at a corner counts as of the sign that its neighbours lack, so that curves which run along the
    mesh are found as well. At a crossing, branches are joined in one of the possible ways; none is lost.

    Args:
        function: Points `(n, 2)` to values `(n,)`.
        low, high: Corners of the box, `(2,)`.
        cells: How many cells the mesh has along each side.

    Returns:
        Polylines `(vertex, 2)`, the longest first, those that close with the first vertex again at the end.
        They stay within 1e-4 of the diagonal from the curves, save within a cell of a crossing. Isolated
        zeros are no curves. A function that is zero everywhere has none.

    Example:
        >>> circle, = zero_curves(lambda x: (x**2).sum(-1) - 1, np.full(2, -1.5), np.full(2, 1.5))
        >>> bool((np.abs((circle**2).sum(-1) - 1) < 1e-15).all()), bool((circle[0] == circle[-1]).all())
        (True, True)
    """
    mesh = _Mesh(function, np.asarray(low, float), np.asarray(high, float), cells)
    if not mesh.value.any():
        return []
    mesh.find_loops()
    mesh.find_pairs()
    fine = NEAR * float(np.linalg.norm(mesh.high - mesh.low))
    curves = []
    for curve in mesh.curves():
        if len(curve) > 1:
            near = min(fine, 0.01 * _length(curve))  # small loops keep their shape
            curves.append(simplified(_refined(function, curve, near), near))
    return sorted(curves, key=_length, reverse=True)


class _Mesh:
    """Triangles, with the values at their corners and on which side of zero these are."""

    def __init__(self, function: Function, low: np.ndarray, high: np.ndarray, cells: int) -> None:
        self.function, self.low, self.high, self.cells = function, low, high, cells
        at = np.linspace(0, 1, cells + 1)
        grid = np.stack(np.meshgrid(at, at), -1).reshape(-1, 2)
        self.point = low + grid * (high - low)
        self.value = function(self.point)
        self.scale = np.abs(self.value).max()
        self.side = _sides(self.value.reshape(cells + 1, cells + 1)).ravel()
        self.touches = (self.value > 0) != self.side  # on zero, or so near that a curve only touches it there
        corner = np.arange((cells + 1) ** 2).reshape(cells + 1, cells + 1)
        a, b, c, d = (
            part.ravel() for part in (corner[:-1, :-1], corner[:-1, 1:], corner[1:, :-1], corner[1:, 1:])
        )
        # diagonals that alternate favour no direction
        even = (np.add.outer(np.arange(cells), np.arange(cells)) % 2 == 0).ravel()
        first = np.where(even[:, None], np.stack((a, b, d), 1), np.stack((a, b, c), 1))
        second = np.where(even[:, None], np.stack((a, d, c), 1), np.stack((b, d, c), 1))
        self.triangle = np.concatenate((first, second))

    def _add(self, point: np.ndarray, side: np.ndarray) -> np.ndarray:
        start = len(self.point)
        self.point = np.concatenate((self.point, point))
        self.side = np.concatenate((self.side, side))
        self.touches = np.concatenate((self.touches, (self.function(point) > 0) != side))
        return np.arange(start, len(self.point))

    def _crosses(self, value: np.ndarray, side: np.ndarray) -> np.ndarray:
        """Whether values are beyond zero, or on it, seen from a side."""
        return value * np.where(side, 1.0, -1.0) <= FLAT * self.scale

    def find_loops(self) -> None:
        """Put extrema beyond zero into the triangles that hold them."""
        size = self.cells + 1
        distance, side = np.abs(self.value).reshape(size, size), self.side.reshape(size, size)
        lowest = np.ones((size - 2, size - 2), bool)
        here = slice(1, size - 1)
        for i in range(3):
            for j in range(3):
                there = slice(i, size - 2 + i), slice(j, size - 2 + j)
                lowest &= (distance[here, here] <= distance[there]) & (side[here, here] == side[there])
        row, column = np.nonzero(lowest)
        start = ((row + 1) * size + column + 1)[: 4 * size]  # a plateau has no end of them
        if not len(start):
            return
        center, side, reach = self.point[start], self.side[start], (self.high - self.low) / self.cells
        offsets = np.stack(np.meshgrid(*2 * [np.linspace(-1, 1, 5)]), -1).reshape(-1, 2)
        best = self.value[start]
        for _ in range(HALVINGS // 2):
            tried = np.clip(center[:, None] + offsets * reach, self.low, self.high)
            value = self.function(tried.reshape(-1, 2)).reshape(len(center), -1)
            choice = (value * np.where(side, 1.0, -1.0)[:, None]).argmin(1)[:, None]
            center = np.take_along_axis(tried, choice[..., None], 1)[:, 0]
            best = np.take_along_axis(value, choice, 1)[:, 0]
            reach = reach / 2
        found = self._crosses(best, side)
        point, side = center[found], side[found]
        where = self._triangles_of(point)
        where, first = np.unique(where, return_index=True)
        if not len(where):
            return
        new = self._add(point[first], ~side[first])
        a, b, c = self.triangle[where].T
        pieces = [np.stack(piece, 1) for piece in ((a, b, new), (b, c, new), (c, a, new))]
        self.triangle = np.concatenate((np.delete(self.triangle, where, 0), *pieces))

    def _triangles_of(self, point: np.ndarray) -> np.ndarray:
        """Of the mesh as it is at first: the triangles that hold points."""
        cell = ((point - self.low) / (self.high - self.low) * self.cells).astype(int).clip(0, self.cells - 1)
        first = cell[:, 1] * self.cells + cell[:, 0]
        a, b, c = self.point[self.triangle[first]].transpose(1, 0, 2)
        turn = [np.linalg.det(np.stack((q - p, point - p), -1)) for p, q in ((a, b), (b, c), (c, a))]
        return np.where((np.stack(turn) >= 0).all(0), first, first + self.cells**2)

    def find_pairs(self) -> None:
        """Split edges at extrema beyond zero, until none is left."""
        done, clean, rng = [], np.zeros(0, np.int64), np.random.default_rng(0)
        for _ in range(PASSES):
            edges, keys, member = _edges(self.triangle)
            alike = self.side[edges[:, 0]] == self.side[edges[:, 1]]
            unseen = np.flatnonzero(alike & ~self.touches[edges].all(1) & ~np.isin(keys, clean))
            inside, point = self._extrema(edges[unseen])
            rank = np.full(len(edges), len(edges))
            rank[unseen[inside]] = order = rng.permutation(len(inside))
            point[order] = point.copy()
            clean = keys[rank == len(edges)]
            least = rank[member].min(1)
            active = least < len(edges)
            done.append(self.triangle[~active])
            self.triangle, member, least = self.triangle[active], member[active], least[active]
            if not len(self.triangle):
                break
            # one edge of a triangle at a time
            first = np.full(len(edges), len(edges))
            np.minimum.at(first, member.ravel(), np.repeat(least, 3))
            last = np.full(len(edges), -1)
            np.maximum.at(last, member.ravel(), np.repeat(least, 3))
            where = np.flatnonzero((rank < len(edges)) & (first == rank) & (last == rank))
            new = np.full(len(edges), -1)
            new[where] = self._add(point[rank[where]], ~self.side[edges[where, 0]])
            split = new[member] >= 0
            old = split.any(1)
            corner, rows = split.argmax(1)[old], np.arange(old.sum())
            a, b, c = (self.triangle[old][rows, (corner + k) % 3] for k in range(3))
            middle = new[member[old][rows, corner]]
            pieces = np.stack((a, middle, c), 1), np.stack((middle, b, c), 1)
            self.triangle = np.concatenate((self.triangle[~old], *pieces))
        self.triangle = np.concatenate((*done, self.triangle))

    def _extrema(self, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which edges hide a pair of zeros, and where each has its extremum."""
        start, along = self.point[edges[:, 0]], self.point[edges[:, 1]] - self.point[edges[:, 0]]
        sign = np.where(self.side[edges[:, 0]], 1.0, -1.0)

        def value(rows: np.ndarray, part: np.ndarray | float) -> np.ndarray:
            part = np.broadcast_to(part, len(rows))[:, None]
            return sign[rows] * self.function(start[rows] + part * along[rows])

        every = np.arange(len(edges))
        ends = (
            [value(every, part) for part in (0.0, 1e-6, 1 - 1e-6, 1.0)] if len(every) else [np.zeros(0)] * 4
        )
        rows = np.flatnonzero((ends[1] < ends[0]) & (ends[2] < ends[3]))
        low, high = np.zeros(len(rows)), np.ones(len(rows))
        for _ in range(HALVINGS if len(rows) else 0):
            left, right = (2 * low + high) / 3, (low + 2 * high) / 3
            falls = value(rows, left) > value(rows, right)
            low, high = np.where(falls, left, low), np.where(falls, high, right)
        part = (low + high) / 2
        beyond = value(rows, part) <= FLAT * self.scale if len(rows) else np.zeros(0, bool)
        rows, part = rows[beyond], part[beyond]
        return rows, start[rows] + part[:, None] * along[rows]

    def curves(self) -> list[np.ndarray]:
        """The zeros on edges, in the order in which the pieces join them."""
        edges, _, member = _edges(self.triangle)
        mixed = self.side[edges[:, 0]] != self.side[edges[:, 1]]
        zero = np.full((len(edges), 2), np.nan)
        ends = self.point[edges[mixed]]
        ends = np.where(self.side[edges[mixed, 0]][:, None, None], ends[:, ::-1], ends)
        zero[mixed] = bisect(self.function, ends[:, 0], ends[:, 1])
        crossed = mixed[member]
        pieces = member[crossed.any(1)][crossed[crossed.any(1)]].reshape(-1, 2)
        return [_distinct(zero[path], 1e-15 * np.abs(self.point).max()) for path in _paths(pieces)]


def _edges(triangle: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Edges `(edge, 2)`, a number for each, and which three of them each triangle has."""
    ends = np.sort(triangle[:, [[0, 1], [1, 2], [2, 0]]], -1).reshape(-1, 2)
    keys, member = np.unique(ends[:, 0] << 32 | ends[:, 1], return_inverse=True)
    return np.stack((keys >> 32, keys & 0xFFFFFFFF), 1), keys, member.reshape(-1, 3)


def _sides(value: np.ndarray) -> np.ndarray:
    """Whether values on a grid are above zero; a zero is where its neighbours are not."""
    padded = np.pad(np.sign(value), 1)
    rows, columns = value.shape
    near = [padded[i : rows + i, j : columns + j] for i in range(3) for j in range(3)]
    lonely = (value == 0) & (np.min(near, 0) < 0) & (np.max(near, 0) <= 0)
    return (value > 0) | lonely


def bisect(function: Function, below: np.ndarray, above: np.ndarray) -> np.ndarray:
    """Zeros `(n, 2)` between points where a function is not above zero and points where it is not below."""
    below, above = below.copy(), above.copy()
    for _ in range(HALVINGS if len(below) else 0):
        middle = (below + above) / 2
        value = function(middle)[:, None]
        below, above = np.where(value <= 0, middle, below), np.where(value >= 0, middle, above)
    if not len(below):
        return below
    ends = np.stack((below, above))
    sizes = np.abs(np.stack((function(below), function(above))))
    return np.take_along_axis(ends, sizes.argmin(0)[None, :, None], 0)[0]


def _paths(pieces: np.ndarray) -> list[list[int]]:
    """Chains of pieces `(piece, 2)`, at most two of which meet; closed ones end where they begin."""
    at: dict[int, list[int]] = {}
    for i, (first, last) in enumerate(pieces.tolist()):
        at.setdefault(first, []).append(i)
        at.setdefault(last, []).append(i)
    ends = pieces.tolist()
    used = [False] * len(ends)
    paths = []
    for start in [node for node, own in at.items() if len(own) == 1] + list(at):
        path, node = [start], start
        while (piece := next((i for i in at[node] if not used[i]), None)) is not None:
            used[piece] = True
            first, last = ends[piece]
            node = last if node == first else first
            path.append(node)
        if len(path) > 1:
            paths.append(path)
    return paths


def _distinct(curve: np.ndarray, least: float) -> np.ndarray:
    """Without vertices that repeat the one before."""
    moved = np.abs(np.diff(curve, axis=0)).max(1) > least
    return curve[np.concatenate(([True], moved))]


def _length(curve: np.ndarray) -> float:
    return float(np.linalg.norm(np.diff(curve, axis=0), axis=1).sum())


def _refined(function: Function, curve: np.ndarray, near: float) -> np.ndarray:
    """With vertices between those where the curve leaves its chord."""
    fresh = np.ones(len(curve) - 1, bool)
    for _ in range(10):
        rows = np.flatnonzero(fresh & (np.linalg.norm(np.diff(curve, axis=0), axis=1) > 2 * near))
        if not len(rows):
            break
        chord = curve[rows + 1] - curve[rows]
        middle = curve[rows] + chord / 2
        normal = np.stack((-chord[:, 1], chord[:, 0]), 1) / 2
        ends = np.stack((middle - normal, middle + normal))
        value = np.stack((function(ends[0]), function(ends[1])))
        across = np.flatnonzero((value[0] > 0) != (value[1] > 0))
        order = (value[0, across] > 0)[:, None]
        pair = ends[:, across]
        found = bisect(function, np.where(order, pair[1], pair[0]), np.where(order, pair[0], pair[1]))
        bends = np.linalg.norm(found - middle[across], axis=1) > near / 4
        place, found = rows[across][bends] + 1, found[bends]
        fresh = np.zeros(len(curve) - 1, bool)
        fresh[place - 1] = True
        curve = np.insert(curve, place, found, axis=0)
        fresh = np.insert(fresh, place, True)
    return curve


def simplified(curve: np.ndarray, tolerance: float) -> np.ndarray:
    """Without vertices that lie on the chord of their neighbours (Douglas and Peucker 1973)."""
    keep = np.zeros(len(curve), bool)
    keep[[0, -1]] = True
    if (curve[0] == curve[-1]).all():
        keep[len(curve) // 2] = True
    marks = np.flatnonzero(keep)
    spans = list(pairwise(marks.tolist()))
    while spans:
        first, last = spans.pop()
        if last - first < 2:
            continue
        chord, inner = curve[last] - curve[first], curve[first + 1 : last] - curve[first]
        part = (inner @ chord / max(chord @ chord, 1e-300)).clip(0, 1)
        away = np.linalg.norm(inner - part[:, None] * chord, axis=1)
        if away.max() > tolerance:
            middle = first + 1 + int(away.argmax())
            keep[middle] = True
            spans += [(first, middle), (middle, last)]
    return curve[keep]
