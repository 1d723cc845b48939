"""Does it attract? What eigenvalues say of a fixed point or a periodic orbit."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

HYPERBOLIC = 1e-6  # nearer to the border of stability than this, an eigenvalue decides nothing


class Stability(NamedTuple):
    """Of each point: number of unstable directions (-1 if not known), kind, distance from the border."""

    unstable: np.ndarray
    kind: np.ndarray
    margin: np.ndarray


def leading_first(eigenvalue: np.ndarray, *, flow: bool = False) -> np.ndarray:
    """Eigenvalues `(*batch, mode)` with the least stable first, in an order that rounding does not change."""
    size = np.real(eigenvalue) if flow else np.abs(eigenvalue)
    # conjugates may differ in their last digits
    order = np.lexsort((-np.imag(eigenvalue), -np.real(eigenvalue).round(9), -size.round(9)))
    return np.take_along_axis(eigenvalue, order, -1)


def classify(eigenvalue: np.ndarray, *, flow: bool = False) -> Stability:
    """Stability of fixed points of a map from the eigenvalues of its derivative, or of a vector field's.

    The border is the unit circle for a map, the imaginary axis for a vector field. The eigenvalue nearest to
    it decides: within 1e-6 the kind is "non-hyperbolic"; if it is complex the point is a focus, else a node;
    points with stable and unstable directions are saddles.

    Args:
        eigenvalue: `(*batch, mode)`, complex; NaN where not known.
        flow: Whether they are those of a vector field.

    Returns:
        `unstable`, `kind` and `margin`, each `(*batch)`: -1, "" and NaN where not known.

    Example:
        >>> classify(np.array([[0.5, -0.2], [2.0, 0.5], [1.1j, -1.1j], [1.0, 0.1]]))[:2]
        (array([0, 1, 2, 0]), array(['stable node', 'saddle', 'unstable focus', 'non-hyperbolic'],
              dtype='<U14'))
    """
    beyond = np.real(eigenvalue) if flow else np.abs(eigenvalue) - 1
    known = ~np.isnan(beyond).any(-1)
    nearest = np.abs(beyond).argmin(-1)[..., None]
    margin = np.abs(np.take_along_axis(beyond, nearest, -1))[..., 0]
    decider = np.take_along_axis(eigenvalue, nearest, -1)[..., 0]
    unstable = (beyond > HYPERBOLIC).sum(-1)
    some, every = unstable > 0, unstable == eigenvalue.shape[-1]
    turns = np.abs(np.imag(decider)) > HYPERBOLIC * np.abs(decider)
    kind = np.char.add(np.where(some, "unstable ", "stable "), np.where(turns, "focus", "node")).astype("U14")
    kind = np.where(some & ~every, "saddle", kind)
    kind = np.where(margin < HYPERBOLIC, "non-hyperbolic", kind)
    unstable, margin = np.where(known, unstable, -1), np.where(known, margin, np.nan)
    return Stability(unstable, np.where(known, kind, "").astype("U14"), margin)
