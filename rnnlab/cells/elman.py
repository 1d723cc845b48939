"""The simple recurrent network."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rnnlab.cells.base import Cell, check_sizes

NONLINEARITIES = {"tanh": torch.tanh, "relu": torch.relu}
KERNELS = {"tanh": torch.rnn_tanh, "relu": torch.rnn_relu}


class Elman(Cell):
    """h' = phi(W_ih u + b_ih + W_hh h + b_hh).

    Parameters have the names, shapes and initial values of `nn.RNNCell`: state dicts can be exchanged.

    Args:
        input_size: Length of one input vector.
        hidden_size: Number of units; the state is h.
        nonlinearity: phi, "tanh" or "relu".

    Raises:
        ValueError: A size is below 1 or the nonlinearity unknown.

    References:
        Elman, "Finding structure in time", Cognitive Science 14 (1990).

    Example:
        >>> cell = Elman(1, 8)
        >>> outputs, x = cell.scan(torch.zeros(5, 3, 1), cell.initial_state(3))
        >>> outputs.shape, x.shape
        (torch.Size([5, 3, 8]), torch.Size([3, 8]))
    """

    def __init__(self, input_size: int, hidden_size: int, *, nonlinearity: str = "tanh") -> None:
        check_sizes(input_size=input_size, hidden_size=hidden_size)
        if nonlinearity not in NONLINEARITIES:
            raise ValueError(f"nonlinearity={nonlinearity!r} is not possible: give 'tanh' or 'relu'.")
        super().__init__(input_size, hidden_size, hidden_size)
        self.nonlinearity = nonlinearity
        self.weight_ih = nn.Parameter(torch.empty(hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(hidden_size, hidden_size))
        self.bias_ih = nn.Parameter(torch.empty(hidden_size))
        self.bias_hh = nn.Parameter(torch.empty(hidden_size))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(hidden_size**-0.5), hidden_size**-0.5)

    def step(self, x: Tensor, u: Tensor) -> Tensor:
        preactivation = F.linear(u, self.weight_ih, self.bias_ih) + F.linear(x, self.weight_hh, self.bias_hh)
        return NONLINEARITIES[self.nonlinearity](preactivation)

    def scan(self, us: Tensor, x0: Tensor) -> tuple[Tensor, Tensor]:
        weights = (self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)
        outputs, h = KERNELS[self.nonlinearity](
            us, x0.contiguous()[None], weights, True, 1, 0.0, self.training, False, False
        )
        return outputs, h[0]

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.output_size}, nonlinearity={self.nonlinearity!r}"
