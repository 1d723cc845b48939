"""Cells one above the other, as one cell."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from rnnlab.cells.base import Cell


class Stack(Cell):
    """Layers that each see the output of the layer below at the same time step.

    The state is the states of the layers one after the other, the lowest first; the output is that of the
    highest layer.

    Args:
        layers: Cells of any kinds, the lowest first.

    Raises:
        ValueError: There is no layer, or a layer does not fit on the one below.

    Example:
        >>> from rnnlab.cells import LSTM, Elman
        >>> stack = Stack([LSTM(1, 8), Elman(8, 4)])
        >>> stack.input_size, stack.state_size, stack.output_size
        (1, 20, 4)
    """

    def __init__(self, layers: Sequence[Cell]) -> None:
        if not layers:
            raise ValueError("layers=[] is not possible: a stack has at least one cell.")
        for number, (below, above) in enumerate(pairwise(layers), start=1):
            if above.input_size != below.output_size:
                raise ValueError(
                    f"layers[{number}] takes inputs of size {above.input_size} but layers[{number - 1}] "
                    f"gives {below.output_size}: make it with input_size={below.output_size}."
                )
        super().__init__(
            layers[0].input_size, sum(layer.state_size for layer in layers), layers[-1].output_size
        )
        self.layers = nn.ModuleList(layers)

    def _cells(self) -> list[Cell]:
        """The layers, the lowest first."""
        return cast("list[Cell]", list(self.layers))

    def _split(self, x: Tensor) -> tuple[Tensor, ...]:
        """Cut states `(*batch, state)` into those of the layers."""
        return x.split([cell.state_size for cell in self._cells()], dim=-1)

    def step(self, x: Tensor, u: Tensor) -> Tensor:
        states = []
        for cell, state in zip(self._cells(), self._split(x), strict=True):
            states.append(cell.step(state, u))
            u = cell.output(states[-1])
        return torch.cat(states, dim=-1)

    def output(self, x: Tensor) -> Tensor:
        return self._cells()[-1].output(self._split(x)[-1])

    def scan(self, us: Tensor, x0: Tensor) -> tuple[Tensor, Tensor]:
        states = []
        for cell, state in zip(self._cells(), self._split(x0), strict=True):
            us, state = cell.scan(us, state)
            states.append(state)
        return us, torch.cat(states, dim=-1)

    def constrain(self) -> None:
        for cell in self._cells():
            cell.constrain()

    def certificates(self) -> dict[str, float]:
        """Those of the layers, as `layers.0.name`."""
        return {
            f"layers.{number}.{name}": value
            for number, cell in enumerate(self._cells())
            for name, value in cell.certificates().items()
        }
