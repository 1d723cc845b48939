"""Certified ranges: what holds of a cell for all states and inputs of a box.

Boxes are pairs of corners (low, high) of tensors `(*batch, size)`, in float64. Every bound is moved outward
by a share that is far above the rounding of what it was computed from.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Box = tuple[Tensor, Tensor]

OUTWARD = 5e-13  # a few thousand roundings
HUGE = 1e300  # stands for infinity, so that it may meet a weight of zero


def widen(low: Tensor, high: Tensor) -> Box:
    """The box, a little larger.

    Example:
        >>> widen(torch.tensor(0.0), torch.tensor(1.0).double())[1] - 1
        tensor(5.0004e-13, dtype=torch.float64)
    """
    return low - OUTWARD * low.abs(), high + OUTWARD * high.abs()


def affine(*terms: tuple[Tensor, Box], bias: Tensor) -> Box:
    """Range of the sum of all weight @ v and the bias, for each v in its box.

    Args:
        terms: Weights `(rows, size)`, each with its box `(*batch, size)`, which may be infinite.
        bias: `(rows,)`.

    Returns:
        Corners `(*batch, rows)`.
    """
    low = high = bias.double()
    size = low.abs()
    for weight, (below, above) in terms:
        weight, below, above = weight.double(), below.clamp(min=-HUGE), above.clamp(max=HUGE)
        up, down = weight.clamp(min=0).mT, weight.clamp(max=0).mT
        low = low + below @ up + above @ down
        high = high + above @ up + below @ down
        size = size + torch.maximum(below.abs(), above.abs()) @ weight.abs().mT
    return low - OUTWARD * size, high + OUTWARD * size


def times(a: Box, b: Box) -> Box:
    """Range of a product, factor by factor."""
    corners = torch.stack([p * q for p in a for q in b])
    return corners.amin(0), corners.amax(0)


def sigmoid(box: Box) -> Box:
    """Range of the logistic function."""
    return widen(box[0].sigmoid(), box[1].sigmoid())


def tanh(box: Box) -> Box:
    """Range of tanh."""
    low, high = widen(box[0].tanh(), box[1].tanh())
    return low.clamp(min=-1), high.clamp(max=1)


def largest(box: Box) -> Tensor:
    """Largest absolute value."""
    return torch.maximum(box[0].abs(), box[1].abs())


def nearest(box: Box) -> Tensor:
    """Smallest absolute value."""
    return torch.maximum(box[0], -box[1]).clamp(min=0)


def sigmoid_slope(box: Box) -> Tensor:
    """Largest slope of the logistic function, also as s (1 - s) has it in floating point."""
    a = nearest(box)
    return (a.sigmoid() * (-a).sigmoid() * (1 + OUTWARD) + 2**-52).clamp(max=0.25)


def tanh_slope(box: Box) -> Tensor:
    """Largest slope of tanh."""
    return 4 * sigmoid_slope((2 * box[0], 2 * box[1]))  # without the cancellation of 1 - tanh^2


def norm(matrix: Tensor, rows: Tensor | None = None, columns: Tensor | None = None) -> Tensor:
    """Upper bound on the spectral norm of diag(rows) matrix diag(columns).

    It bounds the norms for all smaller entries of either diagonal too.

    Args:
        matrix: `(n, m)`.
        rows: At least zero, `(*batch, n)`. Default: ones.
        columns: At least zero, `(*batch, m)`. Default: ones.

    Returns:
        `(*batch)`, infinite where an entry is.
    """
    matrix = matrix.double()
    if rows is not None:
        matrix = matrix * rows.unsqueeze(-1)
    if columns is not None:
        matrix = matrix * columns.unsqueeze(-2)
    finite = matrix.isfinite().all(-1).all(-1)
    safe = torch.where(finite[..., None, None], matrix, 0.0)
    return torch.where(finite, torch.linalg.matrix_norm(safe, 2) * (1 + OUTWARD), torch.inf)


def settle(image: Callable[[Box], Box], box: Box) -> Box:
    """Shrink a box that no orbit leaves to one that orbits end in.

    Args:
        image: A box that orbits within the given one come to and do not leave again.
        box: Where to start.

    Returns:
        The box after so many images that none moves a side by more than a hundredth of the width.
    """
    for _ in range(100):
        low, high = image(box)
        low, high = torch.maximum(low, box[0]), torch.minimum(high, box[1])
        moved = torch.maximum(low - box[0], box[1] - high) > 0.01 * (box[1] - box[0])
        box = low, high
        if not moved.any():
            break
    return box
