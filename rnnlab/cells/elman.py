"""The simple recurrent network."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rnnlab.cells import ranges
from rnnlab.cells.base import Cell, check_sizes, product
from rnnlab.cells.cudnn import flatten_weights


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

    def __init__(
        self, input_size: int, hidden_size: int, *, nonlinearity: Literal["tanh", "relu"] = "tanh"
    ) -> None:
        check_sizes(input_size=input_size, hidden_size=hidden_size)
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"nonlinearity={nonlinearity!r} is not possible: give 'tanh' or 'relu'.")
        super().__init__(input_size, hidden_size, hidden_size)
        self.nonlinearity = nonlinearity
        self.weight_ih = nn.Parameter(torch.empty(hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(hidden_size, hidden_size))
        self.bias_ih = nn.Parameter(torch.empty(hidden_size))
        self.bias_hh = nn.Parameter(torch.empty(hidden_size))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(hidden_size**-0.5), hidden_size**-0.5)
        self._flatten()

    def _weights(self) -> tuple[nn.Parameter, ...]:
        return self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh

    def _flatten(self) -> None:
        flatten_weights("RNN_TANH" if self.nonlinearity == "tanh" else "RNN_RELU", *self._weights())

    def _apply(self, fn, recurse: bool = True):
        super()._apply(fn, recurse)
        self._flatten()
        return self

    def step(self, x: Tensor, u: Tensor) -> Tensor:
        preactivation = F.linear(u, self.weight_ih, self.bias_ih) + F.linear(x, self.weight_hh, self.bias_hh)
        return preactivation.tanh() if self.nonlinearity == "tanh" else preactivation.relu()

    def push(self, x: Tensor, u: Tensor, dx: Tensor, du: Tensor | None = None) -> tuple[Tensor, Tensor]:
        h = self.step(x, u)
        pushed = product(self.weight_hh, dx)
        if du is not None:
            pushed = pushed + product(self.weight_ih, du)
        return h, self._slope(h).unsqueeze(-1) * pushed

    def jacobian(self, x: Tensor, u: Tensor) -> Tensor:
        return self._slope(self.step(x, u)).unsqueeze(-1) * self.weight_hh

    def _slope(self, h: Tensor) -> Tensor:
        return 1 - h * h if self.nonlinearity == "tanh" else (h > 0).to(h.dtype)

    @torch.no_grad()
    def bounds(self, low: Tensor, high: Tensor) -> ranges.Box | None:
        """Where tanh takes the units; None for relu, whose states may grow for ever."""
        if self.nonlinearity == "relu":
            return None
        inputs = low.double(), high.double()
        ones = torch.ones(*low.shape[:-1], self.state_size, dtype=torch.float64, device=low.device)
        return ranges.settle(lambda box: ranges.tanh(self._range(inputs, box)), (-ones, ones))

    def _range(self, inputs: ranges.Box, box: ranges.Box) -> ranges.Box:
        bias = self.bias_ih.double() + self.bias_hh.double()
        return ranges.affine((self.weight_ih, inputs), (self.weight_hh, box), bias=bias)

    @torch.no_grad()
    def gains(self, low: Tensor, high: Tensor, box: ranges.Box | None) -> tuple[Tensor, Tensor]:
        """||diag(s) W_hh|| and ||diag(s) W_ih|| with s the largest slopes of phi in the box, unit by unit."""
        slope = torch.ones(*low.shape[:-1], self.state_size, dtype=torch.float64, device=low.device)
        if self.nonlinearity == "tanh" and box is not None:
            slope = ranges.tanh_slope(self._range((low.double(), high.double()), box))
        return ranges.norm(self.weight_hh, slope), ranges.norm(self.weight_ih, slope)

    def scan(self, us: Tensor, x0: Tensor) -> tuple[Tensor, Tensor]:
        train = torch.is_grad_enabled()  # cuDNN has no way back without; the module's mode is not asked
        kernel = torch.rnn_tanh if self.nonlinearity == "tanh" else torch.rnn_relu
        outputs, h = kernel(us, x0.contiguous()[None], self._weights(), True, 1, 0.0, train, False, False)
        return outputs, h[0]

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.output_size}, nonlinearity={self.nonlinearity!r}"
