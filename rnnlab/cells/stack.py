"""Cells one above the other, as one cell."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from rnnlab.cells import ranges
from rnnlab.cells.base import Cell, Reduction


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

    def push(self, x: Tensor, u: Tensor, dx: Tensor, du: Tensor | None = None) -> tuple[Tensor, Tensor]:
        sizes = [cell.state_size for cell in self._cells()]
        states, frames = [], []
        for cell, state, frame in zip(self._cells(), self._split(x), dx.split(sizes, dim=-2), strict=True):
            state, frame = cell.push(state, u, frame, du)
            states.append(state)
            frames.append(frame)
            if len(states) < len(sizes):
                u, du = cell.push_output(state, frame)
        return torch.cat(states, dim=-1), torch.cat(frames, dim=-2)

    def push_output(self, x: Tensor, dx: Tensor) -> tuple[Tensor, Tensor]:
        top = self._cells()[-1]
        return top.push_output(self._split(x)[-1], dx[..., -top.state_size :, :])

    def jacobian(self, x: Tensor, u: Tensor) -> Tensor:
        x = x.expand(*torch.broadcast_shapes(x.shape[:-1], u.shape[:-1]), -1)
        below, rows = None, []
        for cell, state in zip(self._cells(), self._split(x), strict=True):
            block = cell.jacobian(state, u)
            if below is not None:  # what is seen of the layers below, and they of the state
                still = block.new_zeros(*block.shape[:-1], below.shape[-1])
                block = torch.cat([cell.push(state, u, still, below)[1], block], dim=-1)
            rows.append(nn.functional.pad(block, (0, self.state_size - block.shape[-1])))
            u, below = cell.push_output(cell.step(state, u), block)
        return torch.cat(rows, dim=-2)

    def reduction(self) -> Reduction | None:
        """The layers that can be reduced, reduced; None if there are none."""
        small = [cell.reduction() for cell in self._cells()]
        return None if all(cell is None for cell in small) else ReducedStack(self._cells(), small)

    def bounds(self, low: Tensor, high: Tensor) -> ranges.Box | None:
        """Those of the layers, each for the outputs of the one below; None if a layer has none."""
        boxes, seen = [], (low, high)
        for cell in self._cells():
            box = None if seen is None else cell.bounds(*seen)
            if box is None:
                return None
            boxes.append(box)
            seen = cell.output_bounds(box)
        lows, highs = zip(*boxes, strict=True)
        return torch.cat(lows, dim=-1), torch.cat(highs, dim=-1)

    def gains(self, low: Tensor, high: Tensor, box: ranges.Box | None) -> tuple[Tensor, Tensor] | None:
        """2-norms of the triangular matrix of the layers' constants: each sees those below by its input."""
        ones = torch.ones(*low.shape[:-1], self.state_size, dtype=torch.float64, device=low.device)
        everywhere = torch.inf * ones
        corners = (-everywhere, everywhere) if box is None else box
        seen: ranges.Box | None = (low, high)
        below = [ones[..., 0]]
        rows = []
        for cell, *part in zip(self._cells(), *map(self._split, corners), strict=True):
            part = part[0], part[1]
            found = None if seen is None else cell.gains(*seen, None if box is None else part)
            if found is None:
                return None
            own, by_input = found
            # zero by infinity is nothing known
            below = [*((by_input * gain).nan_to_num(torch.inf, torch.inf) for gain in below), own]
            rows.append(torch.stack(below, dim=-1))
            seen = cell.output_bounds(part)
        gains = torch.stack(
            [nn.functional.pad(row, (0, len(rows) + 1 - row.shape[-1])) for row in rows], dim=-2
        )
        return ranges.norm(gains[..., 1:]), ranges.norm(gains[..., :1])

    def output_bounds(self, box: ranges.Box) -> ranges.Box | None:
        return self._cells()[-1].output_bounds((self._split(box[0])[-1], self._split(box[1])[-1]))

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


class ReducedStack(Reduction):
    """A stack of reduced layers; a layer that cannot be reduced stays as it is.

    Args:
        cells: The layers, the lowest first.
        small: Their reductions, None where there is none.
    """

    def __init__(self, cells: Sequence[Cell], small: Sequence[Reduction | None]) -> None:
        layers = [cell if less is None else less for cell, less in zip(cells, small, strict=True)]
        stack = Stack(layers)
        super().__init__(stack.input_size, stack.state_size, stack.output_size)
        self.full, self.small = Stack(cells), stack

    def step(self, x: Tensor, u: Tensor) -> Tensor:
        return self.small.step(x, u)

    def output(self, x: Tensor) -> Tensor:
        return self.small.output(x)

    def push(self, x: Tensor, u: Tensor, dx: Tensor, du: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.small.push(x, u, dx, du)

    def push_output(self, x: Tensor, dx: Tensor) -> tuple[Tensor, Tensor]:
        return self.small.push_output(x, dx)

    def jacobian(self, x: Tensor, u: Tensor) -> Tensor:
        return self.small.jacobian(x, u)

    def restrict(self, x: Tensor) -> Tensor:
        parts = zip(self.small._cells(), self.full._split(x), strict=True)
        return torch.cat(
            [c.restrict(part) if isinstance(c, Reduction) else part for c, part in parts], dim=-1
        )

    def lift(self, z: Tensor, u: Tensor) -> Tensor:
        states = []
        for cell, small, part in zip(
            self.full._cells(), self.small._cells(), self.small._split(z), strict=True
        ):
            states.append(small.lift(part, u) if isinstance(small, Reduction) else part)
            u = cell.output(states[-1])
        return torch.cat(states, dim=-1)
