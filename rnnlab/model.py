"""Encoder, recurrent cells, readout: a whole network."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from rnnlab.cells import Cell, Stack
from rnnlab.cells.base import Reduced, pushforward


class RecurrentModel(nn.Module):
    """A recurrent network: x' = cell(x, encoder(u)), y = readout(output(x)).

    Args:
        input_size: Length of one input vector, after the encoder if there is one.
        output_size: Length of one output vector.
        cell: Makes a cell from its input size, `cell(input_size=n)`; one is made for each layer.
        num_layers: Number of stacked layers.
        input_bound: Largest norm of an input vector; layers above the first see states in [-1, 1]. Cells
            that certify something (`StableLSTM`) rely on it.
        input_norm: Which norm: infinity, the largest absolute value of a component, or 1, the sum of them,
            as for one-hot inputs.
        encoder: Applied to the inputs first, for instance an embedding. Default: nothing.
        bias: Whether the linear readout has a bias.

    Raises:
        ValueError: A size is below 1, or `input_norm` neither 1 nor infinity.

    Example:
        >>> import torch
        >>> from functools import partial
        >>> from rnnlab.cells import LSTM
        >>> model = RecurrentModel(input_size=1, output_size=2, cell=partial(LSTM, hidden_size=8))
        >>> outputs, state = model(torch.zeros(5, 3, 1))
        >>> outputs.shape, state.shape
        (torch.Size([5, 3, 2]), torch.Size([3, 16]))
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        cell: Callable[..., Cell],
        *,
        num_layers: int = 1,
        input_bound: float = 1.0,
        input_norm: float = math.inf,
        encoder: nn.Module | None = None,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if not isinstance(num_layers, int) or num_layers < 1:
            raise ValueError(f"num_layers={num_layers!r} is not possible: give a whole number of at least 1.")
        if not isinstance(output_size, int) or output_size < 1:
            raise ValueError(
                f"output_size={output_size!r} is not possible: give a whole number of at least 1."
            )
        if input_norm not in (1, math.inf):
            raise ValueError(f"input_norm={input_norm!r} is not possible: give 1 or inf.")
        layers: list[Cell] = []
        for _ in range(num_layers):
            layer = cell(input_size=layers[-1].output_size if layers else input_size)
            bound, norm = (1.0, math.inf) if layers else (float(input_bound), float(input_norm))
            layer.input_bound, layer.input_norm = bound, norm
            layers.append(layer)
        self.encoder = encoder if encoder is not None else nn.Identity()
        self.cell = layers[0] if num_layers == 1 else Stack(layers)
        self.readout = nn.Linear(self.cell.output_size, output_size, bias=bias)
        self.constrain()

    @property
    def state_size(self) -> int:
        """Length of the flat state vector."""
        return self.cell.state_size

    def forward(self, inputs: Tensor, x0: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Run over whole sequences.

        Args:
            inputs: `(time, batch, *input)`.
            x0: Initial states `(batch, state)`. Default: zero.

        Returns:
            Outputs `(time, batch, output)` and the last states `(batch, state)`.
        """
        us = self.encoder(inputs)
        outputs, x = self.cell.scan(us, self.cell.initial_state(us.shape[1]) if x0 is None else x0)
        return self.readout(outputs), x

    def step(self, x: Tensor, u: Tensor) -> Tensor:
        """Next states `(*batch, state)` from states and raw inputs `(*batch, *input)`."""
        return self.cell.step(x, self.encoder(u))

    def read(self, x: Tensor) -> Tensor:
        """Outputs `(*batch, output)` at given states `(*batch, state)`."""
        return self.readout(self.cell.output(x))

    def push(self, x: Tensor, u: Tensor, dx: Tensor, du: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """One step of states and tangent vectors, those to raw inputs included, as `Cell.push` does it."""
        if du is None or isinstance(self.encoder, nn.Identity):
            return self.cell.push(x, self.encoder(u), dx, du)
        u, du = pushforward(self.encoder, (u,), (du,))
        return self.cell.push(x, u, dx, du)

    def jacobian(self, x: Tensor, u: Tensor) -> Tensor:
        """The matrices of d step/dx, `(*batch, state, state)`, at states and raw inputs."""
        return self.cell.jacobian(x, self.encoder(u))

    def reduced(self, u: Tensor) -> Reduced | None:
        """A smaller system with the fixed points of the network under raw inputs `u`, if there is one."""
        return self.cell.reduced(self.encoder(u))

    def bounds(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor] | None:
        """The box of states where orbits end, for raw inputs from `low` to `high`; see `Cell.bounds`.

        Raises:
            ValueError: A range of inputs goes through an encoder.
        """
        return self.cell.bounds(*self._encoded(low, high))

    def lipschitz(self, low: Tensor, high: Tensor) -> Tensor | None:
        """Certified upper bound on the Lipschitz constant of `step`; see `Cell.lipschitz`.

        Raises:
            ValueError: A range of inputs goes through an encoder.
        """
        return self.cell.lipschitz(*self._encoded(low, high))

    def _encoded(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        if not isinstance(self.encoder, nn.Identity) and not torch.equal(low, high):
            raise ValueError(
                f"a range of inputs is not possible with a {type(self.encoder).__name__} as encoder: "
                "give the model without it and the range of its outputs, or one input at a time."
            )
        return self.encoder(low), self.encoder(high)

    @torch.no_grad()
    def constrain(self) -> None:
        """Put constrained parameters back in their set."""
        self.cell.constrain()
