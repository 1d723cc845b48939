"""Long short-term memory."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rnnlab.cells.base import Cell, check_sizes
from rnnlab.cells.cudnn import flatten_weights


class LSTM(Cell):
    """c' = f c + i g, h' = o tanh(c'), with gates i, f, o = sigmoid and g = tanh of affine maps of (u, h).

    The state is (h, c), one after the other; the output is h. Parameters have the names, shapes, gate order
    (i, f, g, o) and initial values of `nn.LSTMCell`: state dicts can be exchanged.

    Args:
        input_size: Length of one input vector.
        hidden_size: Number of units.

    Raises:
        ValueError: A size is below 1.

    References:
        Hochreiter and Schmidhuber, "Long short-term memory", Neural Computation 9 (1997).
        Gers, Schmidhuber and Cummins, "Learning to forget", Neural Computation 12 (2000).

    Example:
        >>> cell = LSTM(1, 8)
        >>> outputs, x = cell.scan(torch.zeros(5, 3, 1), cell.initial_state(3))
        >>> outputs.shape, x.shape
        (torch.Size([5, 3, 8]), torch.Size([3, 16]))
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        check_sizes(input_size=input_size, hidden_size=hidden_size)
        super().__init__(input_size, 2 * hidden_size, hidden_size)
        self.weight_ih = nn.Parameter(torch.empty(4 * hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(4 * hidden_size, hidden_size))
        self.bias_ih = nn.Parameter(torch.empty(4 * hidden_size))
        self.bias_hh = nn.Parameter(torch.empty(4 * hidden_size))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(hidden_size**-0.5), hidden_size**-0.5)
        flatten_weights("LSTM", *self._weights())

    def _weights(self) -> tuple[nn.Parameter, ...]:
        return self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh

    def _apply(self, fn, recurse: bool = True):
        super()._apply(fn, recurse)
        flatten_weights("LSTM", *self._weights())
        return self

    def step(self, x: Tensor, u: Tensor) -> Tensor:
        h, c = x.chunk(2, dim=-1)
        gates = F.linear(u, self.weight_ih, self.bias_ih) + F.linear(h, self.weight_hh, self.bias_hh)
        i, f, g, o = gates.chunk(4, dim=-1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return torch.cat([o.sigmoid() * c.tanh(), c], dim=-1)

    def output(self, x: Tensor) -> Tensor:
        return x[..., : self.output_size]

    def scan(self, us: Tensor, x0: Tensor) -> tuple[Tensor, Tensor]:
        state = [part.contiguous()[None] for part in x0.chunk(2, dim=-1)]
        train = torch.is_grad_enabled()  # cuDNN has no way back without; the module's mode is not asked
        outputs, h, c = torch.lstm(us, state, self._weights(), True, 1, 0.0, train, False, False)
        return outputs, torch.cat([h[0], c[0]], dim=-1)

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.output_size}"
