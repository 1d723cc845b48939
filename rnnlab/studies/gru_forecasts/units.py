"""Trained networks of gated units side by side, as one system."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rnnlab.cells import GRU
from rnnlab.model import RecurrentModel

Layer = tuple[Tensor, Tensor]  # matrices (member, unit, unit), biases (member, 1, unit)


class GatedUnits:
    """The maps of networks without input, x' = z * tanh(Uh (r * x) + bh) + (1 - z) * x.

    One network is no work for a machine: sixty-four take the time of one. States are
    `(*batch, member, sample, unit)`.

    Args:
        r, z, h: Matrices and biases of the gates and of the candidate state.
        readout: Those of the linear readout.
    """

    def __init__(self, r: Layer, z: Layer, h: Layer, readout: Layer) -> None:
        self.r, self.z, self.h, self.readout = r, z, h, readout

    @classmethod
    def of(cls, networks: Sequence[RecurrentModel]) -> GatedUnits:
        """From networks in float64 that differ in nothing but their numbers.

        Raises:
            ValueError: Their cells are not gated units with the reset gate before the product.
        """
        cells: list[Any] = [network.cell for network in networks]
        if not all(isinstance(cell, GRU) and cell.reset == "before" for cell in cells):
            names = sorted({type(cell).__name__ for cell in cells})
            raise ValueError(
                f"cells of type {', '.join(names)} are not possible: give networks of GRU, reset='before'."
            )
        matrices = torch.stack([cell.U for cell in cells]).chunk(3, 1)
        biases = torch.stack([cell.b for cell in cells])[:, None].chunk(3, -1)
        read = (
            torch.stack([network.readout.weight for network in networks]),
            torch.stack([network.readout.bias for network in networks])[:, None],
        )
        r, z, h = zip(matrices, biases, strict=True)
        return cls(r, z, h, read)

    def half_open(self) -> GatedUnits:
        """The same with the update gates held at 1/2, as in the paper's tables.

        As gates are above 0 the fixed points stay, and the index of each.
        """
        nothing = torch.zeros_like(self.z[0]), torch.zeros_like(self.z[1])
        return GatedUnits(self.r, nothing, self.h, self.readout)

    def step(self, x: Tensor) -> Tensor:
        """Next states."""
        return x + self.displacement(x)

    def displacement(self, x: Tensor) -> Tensor:
        """What one step adds to states: the velocity of the flow."""
        r = _linear(x, self.r).sigmoid()
        return self.gate(x) * (_linear(r * x, self.h).tanh() - x)

    def gate(self, x: Tensor) -> Tensor:
        """The update gates, from 0, shut, to 1."""
        return _linear(x, self.z).sigmoid()

    def observe(self, x: Tensor) -> Tensor:
        """What the readouts tell."""
        return _linear(x, self.readout)


def _linear(x: Tensor, layer: Layer) -> Tensor:
    return x @ layer[0].mT + layer[1]
