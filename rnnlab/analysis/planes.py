"""Planes through a state space, on which systems of many units are looked at."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rnnlab.systems import VectorField

MARGIN = 0.25  # of the box's widths: what is further outside is not followed


class Region(NamedTuple):
    """A box of the plane, `(2,)` its corners."""

    low: Tensor
    high: Tensor

    @property
    def diagonal(self) -> float:
        return float(torch.linalg.vector_norm(self.high - self.low))

    def excess(self, place: Tensor) -> Tensor:
        """How far places `(*batch, 2)` are outside, in widths of the box; not above zero inside."""
        return (torch.maximum(self.low - place, place - self.high) / (self.high - self.low)).amax(-1)

    def holds(self, place: Tensor) -> Tensor:
        """Whether places `(*batch, 2)` are in the box or its margin."""
        return self.excess(place) <= MARGIN


class Confined:
    """A field that is slowed down beyond the margin of a region, to rest at twice the margin.

    Trajectories keep their course, so what is seen inside is true, and none runs to infinity.

    Args:
        field: The vector field.
        region: Where it is left as it is.
        plane: Where the region is, for fields of more than two components.
    """

    def __init__(self, field: VectorField, region: Region, plane: Plane | None = None) -> None:
        self.field, self.region, self.plane = field, region, plane

    def velocity(self, x: Tensor) -> Tensor:
        excess = self.region.excess(x if self.plane is None else self.plane.project(x))
        left = (2 - excess / MARGIN).clamp(0, 1)
        pace = (left * left * (3 - 2 * left)).unsqueeze(-1)
        # what has come to rest may be where the field is not defined
        return torch.where(pace > 0, pace * self.field.velocity(x), 0.0)


class Plane(NamedTuple):
    """A plane in state space, x = origin + a first + b second, with coordinates (a, b).

    Attributes:
        origin: The state at (0, 0), `(state,)`.
        axes: The two directions as rows, `(2, state)`.
        name: What it is called in figures.
        labels: Names of the two coordinates.
        box: Corners of what there is to see, each `(2,)`, where that is known.
    """

    origin: Tensor
    axes: Tensor
    name: str = "plane"
    labels: tuple[str, str] = ("a", "b")
    box: tuple[Tensor, Tensor] | None = None

    def lift(self, place: Tensor) -> Tensor:
        """The states `(*batch, state)` at coordinates `(*batch, 2)`."""
        return self.origin + place @ self.axes

    def project(self, x: Tensor) -> Tensor:
        """Coordinates `(*batch, 2)` of the points of the plane that are nearest to states."""
        return self.along(x - self.origin)

    def along(self, vector: Tensor) -> Tensor:
        """What of vectors `(*batch, state)`, such as velocities, is in the plane, `(*batch, 2)`."""
        return vector @ torch.linalg.pinv(self.axes)


def pca_plane(states: Tensor) -> Plane:
    """The plane through the mean of states in the two directions in which they vary most.

    Args:
        states: `(*batch, state)`, float64, for instance hidden states of a trained network.

    Returns:
        The plane, with orthonormal axes (the largest component of each is positive) and a box that holds
        all of the states, with a tenth of their extent around.

    Raises:
        ValueError: They are fewer than three, not finite, or have fewer than two components.

    Example:
        >>> line = torch.linspace(-1, 1, 9).double()
        >>> plane = pca_plane(torch.stack((0 * line, 3 * line, line**2), -1))
        >>> plane.axes.abs().tolist()
        [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    rows = states.reshape(-1, states.shape[-1])
    if len(rows) < 3 or rows.shape[-1] < 2 or not bool(rows.isfinite().all()):
        raise ValueError(
            f"states of shape {tuple(states.shape)} are not possible: give at least three, finite, "
            "of two components or more."
        )
    origin = rows.mean(0)
    _, size, axes = torch.linalg.svd(rows - origin, full_matrices=False)
    axes = axes[:2]
    axes = axes * axes.gather(-1, axes.abs().argmax(-1, keepdim=True)).sign()
    plane = Plane(origin, axes, "principal components", ("first component", "second component"))
    share = (size**2 / (size**2).sum().clamp_min(1e-300))[:2].tolist()
    labels = tuple(
        f"{which} component ({part:.0%})" for which, part in zip(("first", "second"), share, strict=True)
    )
    place = plane.project(rows)
    low, high = place.amin(0), place.amax(0)
    room = 0.1 * (high - low).clamp_min(1e-3 * float((high - low).max()) or 1.0)
    return plane._replace(labels=(labels[0], labels[1]), box=(low - room, high + room))


def readout_plane(weight: Tensor, bias: Tensor | None = None) -> Plane:
    """The plane of what a linear readout sees, y = weight h + bias, with y as its coordinates.

    Among all states with the same y it holds the one nearest to the state of least norm where y = 0.

    Args:
        weight: `(2, state)`, of rank 2, float64.
        bias: `(2,)`. Default: zero.

    Raises:
        ValueError: The shapes do not fit, or the rank is not 2.

    Example:
        >>> plane = readout_plane(torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 1.0]]).double())
        >>> plane.project(torch.tensor([1.0, 5.0, -2.0]).double()).round(decimals=9).tolist()
        [2.0, 3.0]
    """
    offset = weight.new_zeros(2) if bias is None else bias
    if weight.ndim != 2 or len(weight) != 2 or offset.shape != (2,):
        raise ValueError(
            f"a readout with weight of shape {tuple(weight.shape)} and bias of shape {tuple(offset.shape)} "
            "spans no plane: give (2, state) and (2,), two rows of a larger readout."
        )
    if int(torch.linalg.matrix_rank(weight)) < 2:
        raise ValueError("weight has not rank 2: its two outputs depend on each other, give another pair.")
    inverse = torch.linalg.pinv(weight)
    return Plane(-inverse @ offset, inverse.mT.contiguous(), "readout", ("first output", "second output"))
