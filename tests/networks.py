"""Networks whose fixed points are known, for the tests of all analyses."""

from __future__ import annotations

import torch
from torch import Tensor

from rnnlab.autonomous import HeldInput, Wrapped, freeze
from rnnlab.cells import GRU

# of the seven-point GRU, interval-certified: the number of unstable directions and the coordinates
SEVEN_POINTS = (
    (0, (-0.136741, 0.0)),
    (0, (0.0, -0.136741)),
    (0, (0.994901, 0.994901)),
    (1, (-0.053210, -0.053210)),
    (1, (0.0, 0.994682)),
    (1, (0.994682, 0.0)),
    (2, (0.0, 0.0)),
)


def held(cell, *u: float) -> HeldInput:
    """The cell with its input held at `u`, or at zero, ready to be analysed."""
    values = u or (0.0,) * cell.input_size
    return HeldInput(freeze(Wrapped(cell)), torch.tensor(values, dtype=torch.float64))


@torch.no_grad()
def seven_point_gru(gain: float = 3.0) -> HeldInput:
    """The GRU of two units with exactly seven fixed points; at `gain` 2 its origin is degenerate."""
    cell = GRU(1, 2, reset="before")
    for parameter in cell.parameters():
        parameter.zero_()
    cell.U[:2] = torch.tensor([[5.0, 8.0], [8.0, 5.0]])
    cell.U[4:] = gain * torch.eye(2)
    return held(cell)


def planted_weights(size: int = 200, blocks: int = 3, seed: int = 0) -> dict[str, Tensor]:
    """Weights of the planted GRU, see `planted_gru`; `size` units, a tenth of them in each block.

    - `candidate` (size, size): M of x = tanh(M x / 2), the fixed points' equation, but for `feedback`;
    - `feedback` (size, size): what is added to M;
    - `update` (size, size): of the gate z, which moves no fixed point.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    members = torch.randperm(size, generator=generator)
    block = size // 10
    inside, outside = members[: blocks * block], members[blocks * block :]
    candidate = torch.zeros(size, size, dtype=torch.float64)
    for rows in inside.split(block):
        signs = normal(block).sign()
        v = signs * (0.8 + 0.4 * torch.rand(block, dtype=torch.float64, generator=generator))
        w = signs * (0.8 + 0.4 * torch.rand(block, dtype=torch.float64, generator=generator))
        candidate[rows[:, None], rows] = 4 * torch.outer(v, w) / (v @ w)
    candidate[outside[:, None], inside] = normal(len(outside), len(inside)) / len(inside) ** 0.5
    rest = normal(len(outside), len(outside))
    candidate[outside[:, None], outside] = rest / rest.abs().sum(-1, keepdim=True)
    feedback = normal(size, size)
    return {
        "candidate": candidate,
        "feedback": 0.01 * feedback / feedback.abs().sum(-1, keepdim=True),
        "update": normal(size, size) / size**0.5,
        "inside": inside,
        "outside": outside,
    }


@torch.no_grad()
def planted_gru(size: int = 200, seed: int = 0) -> HeldInput:
    """A GRU with exactly 27 = 3^3 fixed points: 8 stable; 12, 6, 1 with one, two, three unstable directions.

    Its reset gates are 1/2, so that the fixed points are those of x = tanh(M x / 2), whatever the update
    gates are. In M, three disjoint blocks of units hold M = 4 v w^T / (v.w) with v_i w_i > 0. A block by
    itself rests at x = tanh(2 v s), where s is the weighted mean of its tanh(2 v_i s), with weights
    w_i / (v.w): an odd function of s, concave for s > 0, of slope 2 at 0. So s has exactly three values, and
    the slope at the outer two is below 1. The other units are driven by the blocks and contract among
    themselves (each row of |M| / 2 adds up to 1/2): one state for each state of the blocks. That makes 27.

    `feedback` then couples all units to all; each row of its |.| / 2 adds up to 0.005. A block has three
    solutions under any input e of that size, Lipschitz in e with a constant c that `test_fixed_points`
    bounds; on each of the 27 choices of branches, e as a function of itself contracts if 0.005 c < 1, so
    that there is exactly one solution.
    """
    weights = planted_weights(size, seed=seed)
    cell = GRU(1, size, reset="after").double()
    for parameter in cell.parameters():
        parameter.zero_()
    cell.weight_hh[size : 2 * size] = weights["update"]
    cell.weight_hh[2 * size :] = weights["candidate"] + weights["feedback"]
    return held(cell)
