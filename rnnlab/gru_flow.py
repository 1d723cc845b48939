"""The gated recurrent unit in continuous time (Jordan et al. 2019, eq. 5-7)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from rnnlab.cells import ranges

Numbers = Tensor | Sequence[Any] | float


class GRUFlow:
    """The vector field dh/dt = -z * (h - tanh(Uh (r * h) + bh)) of gated recurrent units without input.

    With z = sigmoid(Uz h + bz) and r = sigmoid(Ur h + br). `gru_flow` makes one.

    Args:
        Uh, Ur, Uz: Matrices `(state, state)`.
        bh, br, bz: Vectors `(state,)`.
    """

    def __init__(self, Uh: Tensor, Ur: Tensor, Uz: Tensor, bh: Tensor, br: Tensor, bz: Tensor) -> None:
        self.Uh, self.Ur, self.Uz, self.bh, self.br, self.bz = Uh, Ur, Uz, bh, br, bz

    @property
    def state_size(self) -> int:
        return len(self.bh)

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gates r and z, and where tanh leads."""
        r = torch.sigmoid(F.linear(x, self.Ur, self.br))
        z = torch.sigmoid(F.linear(x, self.Uz, self.bz))
        return r, z, torch.tanh(F.linear(r * x, self.Uh, self.bh))

    def velocity(self, x: Tensor) -> Tensor:
        """dh/dt at states `(*batch, state)`."""
        _, z, target = self._parts(x)
        return z * (target - x)

    def observe(self, x: Tensor) -> Tensor:
        """The states themselves."""
        return x

    def jacobian(self, x: Tensor) -> Tensor:
        """The matrices of its derivative, `(*batch, state, state)`."""
        r, z, target = self._parts(x)
        reset = (x * r * (1 - r)).unsqueeze(-1) * self.Ur + r.diag_embed()
        pull = (1 - target * target).unsqueeze(-1) * (self.Uh @ reset)
        pace = ((target - x) * (1 - z)).unsqueeze(-1) * self.Uz
        return z.unsqueeze(-1) * (pull - torch.eye(len(self.bh), dtype=x.dtype, device=x.device) + pace)

    def push(self, x: Tensor, frame: Tensor) -> tuple[Tensor, Tensor]:
        """Velocities, and the derivative times the columns of `frame`."""
        return self.velocity(x), self.jacobian(x) @ frame

    @torch.no_grad()
    def bounds(self) -> tuple[Tensor, Tensor]:
        """Corners of a box where all trajectories end: each unit moves towards a value of tanh."""

        def image(box: ranges.Box) -> ranges.Box:
            reset = ranges.times(ranges.sigmoid(ranges.affine((self.Ur, box), bias=self.br)), box)
            return ranges.tanh(ranges.affine((self.Uh, reset), bias=self.bh))

        ones = torch.ones_like(self.bh)
        return ranges.settle(image, (-ones, ones))


def gru_flow(
    *,
    Uh: Numbers,
    Ur: Numbers | None = None,
    bh: Numbers | None = None,
    br: Numbers | None = None,
    Uz: Numbers | None = None,
    bz: Numbers | None = None,
) -> GRUFlow:
    """The flow of gated recurrent units from their parameters, zero where not given.

    The flow of a trained network of any kind is `ContinuousTime(HeldInput(freeze(model), u))`.

    Args:
        Uh: Matrix of the candidate state, `(state, state)`; a number for one unit. It may be made of tensors
            that carry derivatives, so that `continuation` can follow a parameter.
        Ur: Matrix of the reset gate.
        bh: Bias inside tanh, `(state,)`, outside the product with Uh: as the paper's eq. 7 has it, not its
            eq. 4.
        br: Bias of the reset gate.
        Uz: Matrix of the update gate.
        bz: Its bias. With Uz = 0 and bz = 0 the gate is 1/2, as in the paper's tables.

    Returns:
        The vector field, in float64.

    Raises:
        ValueError: Shapes do not fit, or a number is not finite.

    References:
        I. D. Jordan, P. A. Sokol and I. M. Park, Gated recurrent units viewed through the lens of
        continuous time dynamical systems (2019).

    Example:
        >>> bistable = gru_flow(Uh=[[3.0, 0.0], [0.0, 3.0]])  # Fig. 2
        >>> bistable.velocity(torch.tensor([[0.0, 0.0], [0.5, -0.5]]).double()).round(decimals=4)
        tensor([[ 0.0000,  0.0000],
                [ 0.0676, -0.0676]], dtype=torch.float64)
    """
    first = torch.as_tensor(Uh, dtype=torch.float64)
    size = first.shape[-1] if first.ndim else 1
    given: dict[str, Tensor] = {}
    for name, value in {"Uh": Uh, "Ur": Ur, "Uz": Uz, "bh": bh, "br": br, "bz": bz}.items():
        shape = (size, size) if name[0] == "U" else (size,)
        tensor = torch.as_tensor(0.0 if value is None else value, dtype=torch.float64)
        if value is None or (not tensor.ndim and size == 1):
            tensor = tensor.expand(shape)
        if tensor.shape != shape:
            raise ValueError(
                f"{name} of shape {tuple(tensor.shape)} is not possible beside Uh of shape "
                f"{tuple(first.shape)}: give {shape}."
            )
        if not bool(tensor.detach().isfinite().all()):
            raise ValueError(f"{name}={tensor.tolist()} is not possible: give finite numbers.")
        given[name] = tensor
    return GRUFlow(**given)
