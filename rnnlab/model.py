"""Encoder, recurrent cells, readout: a whole network."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from rnnlab.cells import Cell, Stack
from rnnlab.cells.base import Reduced, pushforward
from rnnlab.objectives import LinearOutputs


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
        encoder: Applied to the inputs first. Default: nothing, or an embedding where inputs are symbols.
        bias: Whether the linear readout has a bias.
        symbols: Inputs are no vectors but whole numbers from 0 to `input_size` - 1, the words of a language,
            each of which is given a vector to be learned. What cells certify is then certified for all words
            as they stand: `input_bound` is that of the longest of them, after every update.
        embedding_size: Length of these vectors. Default: that of the cell's output.
        dropout: Share of what enters the first and leaves the last layer that is set to zero in training.
        tied: Outputs are compared with the vectors of the words: one matrix serves as embedding and readout.

    Raises:
        ValueError: A size is below 1, `dropout` not in [0, 1), `input_norm` neither 1 nor infinity, options
            of symbols are given for vectors, or an `encoder` for symbols.

    References:
        Press, Wolf, "Using the output embedding to improve language models", EACL 2017: tied weights.
        Zaremba, Sutskever, Vinyals, "Recurrent neural network regularization", 2014, arXiv:1409.2329.

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
        symbols: bool = False,
        embedding_size: int | None = None,
        dropout: float = 0.0,
        tied: bool = False,
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
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout={dropout!r} is not possible: give a number from 0 to below 1.")
        if not symbols and (tied or embedding_size is not None):
            raise ValueError(
                f"tied={tied}, embedding_size={embedding_size} is not possible: the inputs of this task are "
                "vectors and need no embedding. Leave both out."
            )
        if symbols and encoder is not None:
            raise ValueError(
                f"a {type(encoder).__name__} as encoder is not possible: the inputs of this task are "
                "symbols, which get an embedding of their own. Leave encoder out."
            )
        width = input_size
        if symbols:
            # a cell shows as much as it can be asked for before it is known what goes in
            width = cell(input_size=1).output_size if embedding_size is None else embedding_size
        layers: list[Cell] = []
        for _ in range(num_layers):
            layer = cell(input_size=layers[-1].output_size if layers else width)
            bound, norm = (1.0, math.inf) if layers else (float(input_bound), float(input_norm))
            layer.input_bound, layer.input_norm = bound, norm
            layers.append(layer)
        if symbols:
            encoder = nn.Embedding(input_size, width)
            nn.init.uniform_(encoder.weight, -0.1, 0.1)
        self.encoder = encoder if encoder is not None else nn.Identity()
        self.cell = layers[0] if num_layers == 1 else Stack(layers)
        self.readout = nn.Linear(self.cell.output_size, output_size, bias=bias)
        self.dropout = nn.Dropout(dropout)
        if symbols:
            nn.init.uniform_(self.readout.weight, -0.1, 0.1)
            if bias:
                nn.init.zeros_(self.readout.bias)
        if tied:
            self._tie(width, input_size, output_size)
        self.register_load_state_dict_post_hook(_bound_words)
        self.constrain()

    def _tie(self, width: int, input_size: int, output_size: int) -> None:
        if (output_size, self.cell.output_size) != (input_size, width):
            raise ValueError(
                f"tied=true is not possible: the embedding is {input_size} x {width}, the readout "
                f"{output_size} x {self.cell.output_size}. Give embedding_size as long as the cell's output, "
                "or tied=false."
            )
        assert isinstance(self.encoder, nn.Embedding)
        self.readout.weight = self.encoder.weight

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
        features, x = self._scan(inputs, x0)
        return self.readout(features), x

    def unread(self, inputs: Tensor, x0: Tensor | None = None) -> tuple[LinearOutputs, Tensor]:
        """`forward`, with outputs that are not multiplied out: of a large vocabulary they are too many."""
        features, x = self._scan(inputs, x0)
        return LinearOutputs(features, self.readout.weight, self.readout.bias), x

    def _scan(self, inputs: Tensor, x0: Tensor | None) -> tuple[Tensor, Tensor]:
        us = self.dropout(self.encoder(inputs))
        # in mixed precision the recurrence keeps its own: its rounding errors would be fed back at each step
        if torch.is_autocast_enabled(us.device.type):
            us = us.to(self.readout.weight.dtype)
        with torch.autocast(us.device.type, enabled=False):
            features, x = self.cell.scan(us, self.cell.initial_state(us.shape[1]) if x0 is None else x0)
        return self.dropout(features), x

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
        _bound_words(self)
        self.cell.constrain()


def _bound_words(model: RecurrentModel, *_: Any) -> None:
    """Tell the first layer how long the longest word is; words that were loaded are others than before."""
    if isinstance(model.encoder, nn.Embedding):
        first = model.cell.layers[0] if isinstance(model.cell, Stack) else model.cell
        assert isinstance(first, Cell)
        low, high = model.encoder.weight.detach().aminmax()
        first.input_bound = float(torch.maximum(-low, high))
