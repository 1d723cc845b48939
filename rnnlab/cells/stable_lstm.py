"""An LSTM that provably forgets its initial state."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from rnnlab.cells.lstm import LSTM

# l1 norms to which the authors' code rescales the columns of W_i, W_f, W_g, W_o, and those of U_f
RESCALED_RECURRENT = (0.395, 0.155, 0.099, 0.395)
RESCALED_INPUT = 0.25

# Rows count as inside up to this share of what is added up, so that a projected row stays as it is
TOLERANCE = 1e-6


def level(
    a: Tensor,
    bound: Tensor | float,
    weight: Tensor | float = 1.0,
    offset: Tensor | float = 0.0,
    slope: float = 0.0,
) -> Tensor:
    """Smallest t >= 0 with sum_j weight_j max(a_j - weight_j t, 0) + offset - slope t <= bound, for each row.

    The left side is convex, decreasing and piecewise linear, so that Newton's method from t = 0 climbs to
    the root in a few steps; no sorting is needed.

    Args:
        a: Absolute values, `(rows, columns)`.
        bound: `(rows,)` or a number, positive if `slope` is 0.
        weight: `(columns,)` or a number, at least 0.
        offset: `(rows,)` or a number.
        slope: At least 0.

    Returns:
        `(rows,)`.

    References:
        Michelot, "A finite algorithm for finding the projection of a point onto the canonical simplex",
        Journal of Optimization Theory and Applications 50 (1986): the case without weights and offset.

    Example:
        >>> level(torch.tensor([[3.0, 1.0], [0.5, 0.2]]), bound=1.0)
        tensor([2., 0.])
    """
    ones = a.new_ones(a.shape[1])
    t = a.new_zeros(len(a))
    for _ in range(a.shape[1] + 1):  # each step leaves at least one column behind
        over = (a - weight * t[:, None]).relu_()
        excess = over @ (weight * ones) + offset - slope * t - bound
        move = (excess / (over.sign_() @ (weight**2 * ones) + slope)).relu()
        t = t + move
        if not (move > 1e-12 * t).any():
            break
    return t


def soften(x: Tensor, t: Tensor) -> Tensor:
    """Move each entry of `x` `(rows, columns)` towards zero by `t` `(rows,)`, at most to zero."""
    t = t[:, None]
    return x - x.clamp(-t, t)


def rescale_columns(x: Tensor, norm: float) -> None:
    """Scale each column of `x` to the given l1 norm, in place; columns of zeros stay."""
    norms = x.abs().sum(dim=0)
    x.mul_(torch.where(norms > 0, norm / norms, 1.0))


class StableLSTM(LSTM):
    """LSTM whose step contracts in the max norm of (h, c), whatever the inputs within `input_bound`.

    Let ||.|| be the largest l1 norm of a row, B = `input_bound` and b_f the sum of both forget biases. Inputs
    of norm B drive a forget gate by at most B |U_f,k|, where |.| is the l1 norm of the row or, where inputs
    are bounded in the l1 norm (`input_norm` = 1, one-hot inputs), its largest entry. Once |h| <= 1 (after one
    step, from any state) the forget gates stay below f = sigmoid(max_k(||W_f,k|| + B |U_f,k| + b_f,k)), |c|
    ends below 1 / (1 - f), and one step contracts by the factor

        f + (||W_f|| / (1 - f) + ||W_i|| + 4 ||W_g|| + ||W_o||) / 4,

    which `certificates` reports as "contraction". Below 1 there is one attracting orbit for each input
    sequence, so one fixed point for a constant input.

    `constrain` with "projection" moves each row to the nearest point, in Euclidean distance, of the set

        ||W_i,k||, ||W_o,k|| <= r (1 - f), ||W_f,k|| <= r (1 - f)^2, ||W_g,k|| <= r (1 - f) / 4,
        ||W_f,k|| + B |U_f,k| + b_f,k <= logit(r f), with r = 1 - margin and f = `forget_bound`,

    on which the factor is at most r; rows already there stay as they are, bit for bit. With "rescale" it
    does what the authors' code does, except that a column of zeros is left alone where theirs divides by
    zero: each column of W_i, W_f, W_g, W_o is scaled (up or down) to l1 norm 0.395, 0.155, 0.099, 0.395 and
    each column of U_f to 0.25; biases stay free. Columns are not rows and biases count, so this guarantees
    nothing: the certificate may well be above 1.

    Parameters are as drawn until the first `constrain`; `RecurrentModel` calls it when it is made.

    Args:
        input_size: Length of one input vector.
        hidden_size: Number of units.
        constraint: "projection" or "rescale".
        forget_bound: f, the largest value of a forget gate, in (0, 1). Only for "projection".
        margin: Share of each bound that is kept free, in [1e-4, 1). Only for "projection".

    Raises:
        ValueError: A size is below 1, the constraint unknown, or a number out of its range.

    References:
        Miller and Hardt, "Stable recurrent models", ICLR 2019, Proposition 2 and appendix.

    Example:
        >>> cell = StableLSTM(1, 8)
        >>> cell.constrain()
        >>> 0 < cell.certificates()["contraction"] < 1
        True
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        constraint: Literal["projection", "rescale"] = "projection",
        forget_bound: float = 0.6,
        margin: float = 0.01,
    ) -> None:
        super().__init__(input_size, hidden_size)
        if constraint not in ("projection", "rescale"):
            raise ValueError(f"constraint={constraint!r} is not possible: give 'projection' or 'rescale'.")
        if not 0 < forget_bound < 1:
            raise ValueError(f"forget_bound={forget_bound!r} is not possible: give a number between 0 and 1.")
        if not 1e-4 <= margin < 1:
            raise ValueError(f"margin={margin!r} is not possible: give a number from 1e-4 to below 1.")
        self.constraint = constraint
        self.forget_bound = forget_bound
        self.margin = margin

    @torch.no_grad()
    def constrain(self) -> None:
        if self.constraint == "rescale":
            self._rescale()
        else:
            self._project()

    def _rescale(self) -> None:
        for block, norm in zip(self.weight_hh.chunk(4), RESCALED_RECURRENT, strict=True):
            rescale_columns(block, norm)
        rescale_columns(self.weight_ih.chunk(4)[1], RESCALED_INPUT)

    def _project(self) -> None:
        share, f, n = 1 - self.margin, self.forget_bound, self.output_size
        forget = slice(n, 2 * n)
        recurrent, inputs = self.weight_hh.double(), self.weight_ih[forget].double()
        biases = torch.stack([self.bias_ih[forget], self.bias_hh[forget]]).double()

        radii = (
            recurrent.new_tensor([1 - f, (1 - f) ** 2, (1 - f) / 4, 1 - f]).mul(share).repeat_interleave(n)
        )
        t = torch.zeros_like(radii)
        rows = recurrent.abs().sum(dim=1) > (1 + TOLERANCE) * radii
        t[rows] = level(recurrent[rows].abs(), radii[rows])

        bound = math.log(share * f / (1 - share * f))
        w, u, b = recurrent[forget].abs(), inputs.abs(), biases.sum(dim=0)
        ball = soften(w, t[forget]).sum(dim=1)
        drive = self._drive(u)
        rows = ball + drive + b > bound + TOLERANCE * (1 + ball + drive + biases.abs().sum(dim=0))
        w, u, b, ball = w[rows], u[rows], b[rows], ball[rows]
        # for W_f,k the joint level counts only above that of its ball: the smaller of both norms holds,
        # so the smaller of both roots is the root
        u, weight = self._columns(u)
        weight = torch.cat([w.new_ones(n), weight])
        joint = torch.zeros_like(t[forget])
        joint[rows] = torch.minimum(
            level(u, bound, weight=weight[n:], offset=ball + b, slope=2.0),
            level(torch.cat([w, u], dim=1), bound, weight=weight, offset=b, slope=2.0),
        )
        t[forget] = torch.maximum(t[forget], joint)

        self.weight_hh.copy_(soften(recurrent, t))
        self.weight_ih[forget] = self._lower(inputs, self.input_bound * joint)
        self.bias_ih[forget] = biases[0] - joint
        self.bias_hh[forget] = biases[1] - joint

    def _drive(self, u: Tensor) -> Tensor:
        """By how much an input can at most drive gates whose rows have absolute values `u`."""
        return self.input_bound * (u.amax(dim=1) if self.input_norm == 1 else u.sum(dim=1))

    def _columns(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """The columns and weights for which the sum in `level` is the drive of the row nearest to `u` at t.

        The largest entry falls as those at the top are lowered together by t in all: at the rate 1 / k once
        the k largest are level. This is convex and piecewise linear, thus a sum of max(t_k - t, 0).
        """
        if self.input_norm != 1:
            return u, u.new_full((self.input_size,), self.input_bound)
        u = u.sort(dim=1, descending=True).values
        k = torch.arange(1, self.input_size + 1, dtype=u.dtype, device=u.device)
        change = 1 / (k * (k + 1))
        change[-1] = 1 / k[-1]
        until = u.cumsum(dim=1) - k * nn.functional.pad(u[:, 1:], (0, 1))
        return change.sqrt() * until, self.input_bound * change.sqrt()

    def _lower(self, u: Tensor, t: Tensor) -> Tensor:
        """Move rows to those nearest among them whose drive is `level` at t / `input_bound`."""
        if self.input_norm != 1:
            return soften(u, t)
        rows = t > 0
        u = u.clone()
        u[rows] -= soften(u[rows], level(u[rows].abs(), t[rows]))
        return u

    @torch.no_grad()
    def certificates(self) -> dict[str, float]:
        """The contraction factor of the weights as they are, in float64."""
        recurrent = self.weight_hh.double().abs().sum(dim=1).chunk(4)
        w_i, w_f, w_g, w_o = (norms.max() for norms in recurrent)
        u_f = self._drive(self.weight_ih.chunk(4)[1].double().abs())
        b_f = self.bias_ih.chunk(4)[1].double() + self.bias_hh.chunk(4)[1].double()
        # 1 / (1 - sigmoid(z)) = 1 + exp(z), finite up to z = 700
        z = (recurrent[1] + u_f + b_f).max().clamp(max=700.0)
        factor = z.sigmoid() + (w_f * (1 + z.exp()) + w_i + 4 * w_g + w_o) / 4
        return {"contraction": factor.item()}
