"""Long short-term memory."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rnnlab.cells import ranges
from rnnlab.cells.base import Cell, Reduction, check_sizes, product
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
        i, f, g, o = self._arguments(h, u).chunk(4, dim=-1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return torch.cat([o.sigmoid() * c.tanh(), c], dim=-1)

    def _arguments(self, h: Tensor, u: Tensor) -> Tensor:
        """What goes into the gates, `(*batch, 4 hidden)`."""
        return F.linear(u, self.weight_ih, self.bias_ih) + F.linear(h, self.weight_hh, self.bias_hh)

    def output(self, x: Tensor) -> Tensor:
        return x[..., : self.output_size]

    def output_bounds(self, box: ranges.Box) -> ranges.Box:
        return self.output(box[0]), self.output(box[1])

    def push(self, x: Tensor, u: Tensor, dx: Tensor, du: Tensor | None = None) -> tuple[Tensor, Tensor]:
        f, c, slopes, bend = self._linearised(x, u)
        dh, dc = dx.chunk(2, dim=-2)
        pushed = product(self.weight_hh, dh)
        if du is not None:
            pushed = pushed + product(self.weight_ih, du)
        of_i, of_f, of_g, of_o = (slopes.unsqueeze(-1) * pushed).chunk(4, dim=-2)
        dc = torch.addcmul(of_i + of_f + of_g, f.unsqueeze(-1), dc)
        return c, torch.cat([torch.addcmul(of_o, bend.unsqueeze(-1), dc), dc], dim=-2)

    def jacobian(self, x: Tensor, u: Tensor) -> Tensor:
        f, _, slopes, bend = self._linearised(x, u)
        of_i, of_f, of_g, of_o = (slopes.unsqueeze(-1) * self.weight_hh).chunk(4, dim=-2)
        c_h = of_i + of_f + of_g
        h_h = torch.addcmul(of_o, bend.unsqueeze(-1), c_h)
        diagonals = torch.cat([(bend * f).diag_embed(), f.diag_embed()], dim=-2)
        return torch.cat([torch.cat([h_h, c_h], dim=-2), diagonals], dim=-1)

    def _linearised(self, x: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """One step, and what makes its derivative.

        Returns:
            f, the next states, the derivatives of c' and (of the last block) h' by the arguments of the
            gates `(*batch, 4 hidden)`, and that of h' by c'.
        """
        h, c = x.chunk(2, dim=-1)
        arguments = self._arguments(h, u)
        i, f, _, o = arguments.sigmoid().chunk(4, dim=-1)
        g = arguments.chunk(4, dim=-1)[2].tanh()
        ig = i * g
        new = torch.addcmul(ig, f, c)
        t = new.tanh()
        ot = o * t
        slopes = torch.cat([ig - ig * i, f * c * (1 - f), i - ig * g, ot - ot * o], dim=-1)
        return f, torch.cat([ot, new], dim=-1), slopes, o - ot * t

    def push_output(self, x: Tensor, dx: Tensor) -> tuple[Tensor, Tensor]:
        return self.output(x), dx[..., : self.output_size, :]

    def reduction(self) -> HiddenMap:
        """h alone, for c follows from it at a fixed point."""
        return HiddenMap(self)

    @torch.no_grad()
    def bounds(self, low: Tensor, high: Tensor) -> ranges.Box:
        """|h| <= 1 bounds the gates, they bound c by what i g / (1 - f) can be, and c and o bound h again."""
        inputs = low.double(), high.double()
        ones = torch.ones(*low.shape[:-1], self.output_size, dtype=torch.float64, device=low.device)

        def image(h: ranges.Box) -> ranges.Box:
            return ranges.times(
                ranges.sigmoid(self._ranges(inputs, h)[3]), ranges.tanh(self._memory(inputs, h))
            )

        h = ranges.settle(image, (-ones, ones))
        c = self._memory(inputs, h)
        return torch.cat([h[0], c[0]], dim=-1), torch.cat([h[1], c[1]], dim=-1)

    def _ranges(self, inputs: ranges.Box, h: ranges.Box) -> list[ranges.Box]:
        """Ranges of the arguments of the gates, gate by gate."""
        bias = self.bias_ih.double() + self.bias_hh.double()
        low, high = ranges.affine((self.weight_ih, inputs), (self.weight_hh, h), bias=bias)
        return list(zip(low.chunk(4, dim=-1), high.chunk(4, dim=-1), strict=True))

    def _memory(self, inputs: ranges.Box, h: ranges.Box) -> ranges.Box:
        """The range of c in the long run, with h in its box."""
        i, f, g, _ = self._ranges(inputs, h)
        low, high = ranges.times(ranges.sigmoid(i), ranges.tanh(g))
        # 1 - f, without cancellation; where c is driven out, the largest f counts
        out, back = (-f[1]).sigmoid(), (-f[0]).sigmoid()
        low = torch.where(low == 0, low, low / torch.where(low < 0, out, back))
        high = torch.where(high == 0, high, high / torch.where(high > 0, out, back))
        return ranges.widen(low, high)

    @torch.no_grad()
    def gains(self, low: Tensor, high: Tensor, box: ranges.Box | None) -> tuple[Tensor, Tensor] | None:
        """Norms of the blocks of the derivative, from per-unit bounds of all gates; theirs is the 2 x 2 norm.

        None on the whole space, where the derivative by the forget gate, c f (1 - f), has no bound.
        """
        if box is None:
            return None
        n = self.output_size
        h, c = ((box[0][..., part], box[1][..., part]) for part in (slice(n), slice(n, None)))
        ranges_ = self._ranges((low.double(), high.double()), h)
        i, f, o = (ranges.sigmoid(ranges_[k])[1] for k in (0, 1, 3))
        g = ranges.largest(ranges.tanh(ranges_[2]))
        t = ranges.largest(ranges.tanh(c))
        bend = o * ranges.tanh_slope(c)
        slopes = (
            ranges.sigmoid_slope(ranges_[0]) * g,
            ranges.sigmoid_slope(ranges_[1]) * ranges.largest(c),
            ranges.tanh_slope(ranges_[2]) * i,
            ranges.sigmoid_slope(ranges_[3]) * t,
        )

        def by(weight: Tensor) -> tuple[Tensor, Tensor]:
            """Norms of dh' and dc', as far as they come by way of the gates."""
            *of_c, of_o = zip(weight.chunk(4), slopes, strict=True)
            return (
                ranges.norm(*of_o) + sum(ranges.norm(w, bend * slope) for w, slope in of_c),
                sum((ranges.norm(w, slope) for w, slope in of_c), torch.zeros(())),
            )

        h_h, c_h = by(self.weight_hh)
        blocks = torch.stack([h_h, (bend * f).amax(-1), c_h, f.amax(-1)], dim=-1).unflatten(-1, (2, 2))
        return ranges.norm(blocks), torch.hypot(*by(self.weight_ih))

    def scan(self, us: Tensor, x0: Tensor) -> tuple[Tensor, Tensor]:
        state = [part.contiguous()[None] for part in x0.chunk(2, dim=-1)]
        train = torch.is_grad_enabled()  # cuDNN has no way back without; the module's mode is not asked
        outputs, h, c = torch.lstm(us, state, self._weights(), True, 1, 0.0, train, False, False)
        return outputs, torch.cat([h[0], c[0]], dim=-1)

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.output_size}"


class HiddenMap(Reduction):
    """h' = o tanh(i g / (1 - f)), with all gates at h: an LSTM whose cell state has come to rest.

    Args:
        cell: The LSTM.
    """

    def __init__(self, cell: LSTM) -> None:
        super().__init__(cell.input_size, cell.output_size, cell.output_size)
        self.cell = cell

    def step(self, x: Tensor, u: Tensor) -> Tensor:
        i, f, g, o = self.cell._arguments(x, u).chunk(4, dim=-1)
        return o.sigmoid() * (i.sigmoid() * g.tanh() / (-f).sigmoid()).tanh()

    def push(self, x: Tensor, u: Tensor, dx: Tensor, du: Tensor | None = None) -> tuple[Tensor, Tensor]:
        h, slopes = self._linearised(x, u)
        pushed = product(self.cell.weight_hh, dx)
        if du is not None:
            pushed = pushed + product(self.cell.weight_ih, du)
        return h, (slopes.unsqueeze(-1) * pushed).unflatten(-2, (4, -1)).sum(-3)

    def jacobian(self, x: Tensor, u: Tensor) -> Tensor:
        slopes = self._linearised(x, u)[1]
        return (slopes.unsqueeze(-1) * self.cell.weight_hh).unflatten(-2, (4, -1)).sum(-3)

    def _linearised(self, x: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """The next h, and its derivatives by the arguments of the gates, `(*batch, 4 hidden)`."""
        arguments = self.cell._arguments(x, u)
        i, f, _, o = arguments.sigmoid().chunk(4, dim=-1)
        _, forget, g, _ = arguments.chunk(4, dim=-1)
        g, rest = g.tanh(), (-forget).sigmoid()
        c = i * g / rest
        t = c.tanh()
        ot = o * t
        bend = o - ot * t
        slopes = [bend * c * (1 - i), bend * c * f, bend * i * (1 - g * g) / rest, ot - ot * o]
        return ot, torch.cat(slopes, dim=-1)

    def restrict(self, x: Tensor) -> Tensor:
        return x[..., : self.output_size]

    def lift(self, z: Tensor, u: Tensor) -> Tensor:
        i, f, g, _ = self.cell._arguments(z, u).chunk(4, dim=-1)
        c = i.sigmoid() * g.tanh() / (-f).sigmoid()
        return torch.cat([z.expand_as(c), c], dim=-1)
