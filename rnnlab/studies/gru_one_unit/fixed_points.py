"""All fixed points of one gated recurrent unit, for any parameters (Jordan et al. 2019, appendix B).

A fixed point of dh/dt = -z (h - tanh(Uh r h + bh)), r = sigmoid(Ur h + br), is h = tanh(y) with

    B(y) = bh,  B(y) = y - Uh g(tanh y),  g(h) = h sigmoid(Ur h + br).

B has derivative 1 - Uh phi with phi(y) = g'(tanh y) / cosh(y)^2, and **phi is zero at both ends, changes sign
once at most, and has one extremum on each side of that zero**. So Uh phi = 1 has at most two solutions, B at
most two turning points, and there are at most three fixed points: Theorem 1 of the paper, whose own argument
leaves it open. Let Ur = a > 0 (h -> -h serves a < 0), t = a h + br, s = a |h|, T = tanh(t / 2).

* g' = sigmoid(t) (1 + a h sigmoid(-t)) is zero at h_c = -(1 + W(exp(br - 1))) / a < 0 only (eq. 32).
* Right of h_c, g' rises until a h T = 2, which lies at h > 0, and then falls. So phi rises up to h = 0, and
  for h > 0 its extrema are where  a^2 (1 - h^2) (2 / s - T) / (1 + exp(t) + s) = 2. Where the bracket is
  positive, the left side is a product of positive factors that all fall with h: there is one solution.
* Left of h_c, likewise,  a^2 (1 - h^2) (2 / s + T) / (s - 1 - exp(t)) = 2, where all factors fall with |h|.

So every point is bracketed by points where B turns, and bisection finds all of them: nothing is searched for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, wrightomega

Array = NDArray[Any]

EPS = np.finfo(float).eps
LARGEST = 1e6  # beyond that rounding moves the gate visibly


class FixedPoints(NamedTuple):
    """Fixed points for an array of parameter sets `*sets`, padded with NaN (and "")."""

    count: NDArray[np.int64]  # (*sets): 1, 2 or 3
    h: Array  # (*sets, 3), rising
    slope: Array  # (*sets, 3): derivative of tanh(Uh r h + bh); the eigenvalue is z (slope - 1)
    kind: NDArray[np.str_]  # (*sets, 3): "stable", "unstable", "half-stable"
    residual: Array  # (*sets, 3): |tanh(Uh r h + bh) - h|


class SaddleNodes(NamedTuple):
    """The saddle-nodes for an array of parameter sets `*sets`, NaN where there are none."""

    bh: Array  # (*sets, 2), rising: between the two there are three fixed points
    h: Array  # (*sets, 2): where two points meet


class Cusps(NamedTuple):
    """Where saddle-nodes begin, for negative and positive Uh, for an array of parameter sets `*sets`."""

    Uh: Array  # (*sets, 2): three fixed points need Uh below the first or above the second; infinite: never
    bh: Array  # (*sets, 2)
    h: Array  # (*sets, 2): where three points meet


def critical_point(Ur: ArrayLike, br: ArrayLike) -> Array:
    """Where the argument of tanh, Uh sigmoid(Ur h + br) h + bh, turns (eq. 32): for every Uh other than 0.

    W(exp(x)) is Wright's omega function of x, which does not overflow.

    Args:
        Ur, br: Parameters of the reset gate, of shapes that broadcast.

    Returns:
        h; NaN where Ur is 0 and the argument is a straight line. The point may lie outside of (-1, 1).

    Raises:
        ValueError: A parameter is not finite or beyond 1e6.

    Example:
        >>> critical_point(80.0, 40.0).round(10)
        np.float64(-0.4554046759)
    """
    Ur, br = _parameters(Ur=Ur, br=br)
    with np.errstate(divide="ignore"):
        return np.where(Ur == 0, np.nan, -(1 + wrightomega(br - 1)) / Ur)[()]


def cusps(Ur: ArrayLike, br: ArrayLike) -> Cusps:
    """How strong a unit's own connection must be for three fixed points to be possible.

    Args:
        Ur, br: Parameters of the reset gate, of shapes that broadcast.

    Returns:
        The two cusps. That for negative Uh exists if the `critical_point` lies within (-1, 1).

    Raises:
        ValueError: A parameter is not finite or beyond 1e6.

    Example:
        >>> cusps(0.0, 0.0).Uh  # without a reset gate that varies: tanh(Uh h / 2)
        array([-inf,   2.])
    """
    Ur, br = _parameters(Ur=Ur, br=br)
    both = np.array([-1.0, 1.0])
    y, exists = _peak(both, Ur[..., None], br[..., None])
    with np.errstate(divide="ignore", invalid="ignore"):
        Uh = np.where(exists, 1 / _phi(y, Ur[..., None], br[..., None]), both * np.inf)
        bh = np.where(exists, _B(y, Uh, Ur[..., None], br[..., None]), np.nan)
    return Cusps(Uh, bh, np.where(exists, np.tanh(y), np.nan))


def saddle_nodes(Uh: ArrayLike, Ur: ArrayLike, br: ArrayLike) -> SaddleNodes:
    """All values of bh at which two fixed points meet.

    Args:
        Uh, Ur, br: Parameters, of shapes that broadcast.

    Returns:
        Two saddle-nodes or none for each set of parameters, to rounding.

    Raises:
        ValueError: A parameter is not finite or beyond 1e6.

    Example:
        >>> saddle_nodes(-60.0, 80.0, 40.0).bh.round(10)
        array([-27.06594812,  -0.70313084])
    """
    Uh, Ur, br = _parameters(Uh=Uh, Ur=Ur, br=br)
    y = _turns(Uh, Ur, br)[..., ::-1]
    return SaddleNodes(_B(y, Uh[..., None], Ur[..., None], br[..., None]), np.tanh(y))


def fixed_points(Uh: ArrayLike, Ur: ArrayLike, bh: ArrayLike, br: ArrayLike) -> FixedPoints:
    """All fixed points of one unit, for as many sets of parameters as are given.

    The update gate moves none of them and changes no stability: it is one positive factor.

    Args:
        Uh, Ur, bh, br: Parameters, of shapes that broadcast.

    Returns:
        The points. Where `bh` is a saddle-node's, to the rounding error of that value, there are two points,
        one of them half-stable.

    Raises:
        ValueError: A parameter is not finite or beyond 1e6.

    Example:
        >>> found = fixed_points(-60.0, 80.0, [-0.5, -1.0], 40.0)
        >>> found.count, found.kind[1].tolist()
        (array([1, 3]), ['stable', 'unstable', 'stable'])
    """
    Uh, Ur, bh, br = _parameters(Uh=Uh, Ur=Ur, bh=bh, br=br)
    shape = Uh.shape
    Uh, Ur, bh, br = (part.reshape(-1, 1) for part in (Uh, Ur, bh, br))
    turn = _turns(Uh[:, 0], Ur[:, 0], br[:, 0])
    gap = _B(turn, Uh, Ur, br) - bh  # at the left turn positive, at the right negative: three points
    known = 4 * EPS * (1 + abs(bh) + abs(Uh) * (1 + abs(Ur) + abs(br)))
    met = abs(gap) <= known
    met &= ~met.all(-1, keepdims=True)  # both: a cusp, one point
    three = (gap[:, :1] > known) & (gap[:, 1:] < -known)

    far = 1 + abs(Uh) + abs(bh)
    alone = ~(three | met.any(-1, keepdims=True))  # then the whole line brackets the only point
    low = np.concatenate([-far, turn], 1)
    high = np.concatenate([np.where(alone, far, turn[:, :1]), turn[:, 1:], far], 1)
    wanted = np.concatenate([three | alone | met[:, 1:], three, three | met[:, :1]], 1)

    set_, place = wanted.nonzero()
    falling = np.where(place == 1, -1.0, 1.0)
    part = [value[set_, 0] for value in (Uh, Ur, bh, br)]
    y = np.full((len(Uh), 3), np.nan)
    y[wanted] = _bisect(
        lambda at: falling * (_B(at, part[0], part[1], part[3]) - part[2]), low[wanted], high[wanted]
    )
    y[met[:, 0], 0], y[met[:, 1], 2] = turn[met[:, 0], 0], turn[met[:, 1], 1]

    slope = Uh * _phi(y, Ur, br)
    kind = np.where(np.isnan(y), "", "stable").astype("<U11")
    kind[three[:, 0], 1] = "unstable"
    kind[met[:, 0], 0] = kind[met[:, 1], 2] = "half-stable"
    order = np.argsort(y, axis=-1)
    y, slope, kind = (np.take_along_axis(part, order, -1) for part in (y, slope, kind))
    h = np.tanh(y)
    residual = abs(np.tanh(Uh * expit(Ur * h + br) * h + bh) - h)
    found = (part.reshape(*shape, 3) for part in (h, slope, kind, residual))
    return FixedPoints((~np.isnan(y)).sum(-1).reshape(shape)[()], *found)


def _parameters(**given: ArrayLike) -> list[Array]:
    arrays = {name: np.asarray(value, dtype=float) for name, value in given.items()}
    for name, array in arrays.items():
        bad = array[~(abs(array) <= LARGEST)]
        if bad.size:
            raise ValueError(f"{name}={bad.flat[0]} is not possible: give numbers of at most {LARGEST:g}.")
    return list(np.broadcast_arrays(*arrays.values()))


def _sech2(y: Array) -> Array:
    small = np.exp(-2 * abs(y))
    return 4 * small / (1 + small) ** 2


def _phi(y: Array, Ur: Array, br: Array) -> Array:
    """d/dy of h sigmoid(Ur h + br) at h = tanh(y)."""
    drive = Ur * np.tanh(y)
    return _sech2(y) * expit(drive + br) * (1 + drive * expit(-drive - br))


def _B(y: Array, Uh: Array, Ur: Array, br: Array) -> Array:
    h = np.tanh(y)
    return y - Uh * h * expit(Ur * h + br)


def _peak(Uh: Array, Ur: Array, br: Array) -> tuple[Array, Array]:
    """Where phi has its maximum (Uh > 0) or minimum (Uh < 0), and whether there is one."""
    flip, zero = np.where(Ur < 0, -1.0, 1.0), np.full(np.broadcast(Uh, Ur, br).shape, 0.0)
    a = abs(Ur) + zero
    with np.errstate(divide="ignore", invalid="ignore"):
        start = np.where(a == 0, -np.inf, -(1 + wrightomega(br - 1)) / a)  # the zero of phi
    edge = np.arctanh(np.clip(start, -1 + EPS, 0))
    exists = (Uh > 0) | ((Uh < 0) & (start > -1 + EPS))
    far = 20 + np.log1p(a)  # there phi falls as exp(-2 |y|), whatever the gate does

    def rising(y: Array) -> Array:
        h = np.tanh(y)
        shut = expit(-a * h - br)
        slope = _sech2(y) * a * shut * (2 - a * h * np.tanh((a * h + br) / 2)) - 2 * h * (1 + a * h * shut)
        return np.where(Uh > 0, -slope, slope)

    y = _bisect(rising, np.where(Uh > 0, zero, -far), np.where(Uh > 0, far, edge))
    return np.where(exists, flip * y, np.nan), exists


def _turns(Uh: Array, Ur: Array, br: Array) -> Array:
    """The two points y, rising, where B turns, `(*sets, 2)`; NaN where it rises throughout."""
    peak, exists = _peak(Uh, Ur, br)
    y = np.full((*peak.shape, 2), np.nan)
    with np.errstate(invalid="ignore"):
        many = exists & (Uh * _phi(peak, Ur, br) > 1)
    Uh, Ur, br, peak = (part[many] for part in (Uh, Ur, br, peak))
    far = 2 + 0.5 * np.log1p(4 * abs(Uh) * (1 + abs(Ur)))  # beyond, |Uh phi| < 1
    y[many, 0] = _bisect(lambda at: Uh * _phi(at, Ur, br) - 1, -far, peak)
    y[many, 1] = _bisect(lambda at: 1 - Uh * _phi(at, Ur, br), peak, far)
    return y


def _bisect(function: Callable[[Array], Array], low: Array, high: Array) -> Array:
    """The zeros of rising functions, one between each pair of ends, to rounding."""
    while np.any(high - low > 2 * EPS * np.maximum(abs(low), 0.01)):
        middle = low / 2 + high / 2
        above = function(middle) > 0
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return low / 2 + high / 2
