"""How a zero is come to: iteration, Newton's method, Levenberg and Marquardt's, and the last polish.

All work on many starts at once, `(*probe, sample, state)`, of which flags `(*probe, sample)` say which are to
go on. The probe axis belongs to the system, so what goes on is gathered along the sample axis alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from rnnlab.shares import cat_rows, shared
from rnnlab.systems import is_flow, jacobian, law, push

SETTLING = 1e-2  # speed of an orbit that may be on its way to a fixed point
SETTLED = 1e-4  # speed of one that is nearly there
FLAT = 1e-4  # gradient of the speed, relative to that of an average state, below which it is a minimum
ELEMENTS = 2**22  # of the Jacobians held at a time
EPS = torch.finfo(torch.float64).eps


class Zeros:
    """What is to vanish, F(x) - x of a map or f(x) of a vector field, and its derivative."""

    def __init__(self, system: Any) -> None:
        self.system, self.flow, self.rule = system, is_flow(system), law(system)

    def value(self, x: Tensor) -> Tensor:
        return self.rule(x) if self.flow else self.rule(x) - x

    def slope(self, x: Tensor) -> Tensor:
        matrix = jacobian(self.system, x)
        return matrix if self.flow else matrix - torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)

    def along(self, x: Tensor, direction: Tensor) -> Tensor:
        """The derivative along one vector, `(*batch, state)`."""
        moved = push(self.system, x, direction[..., None])[1][..., 0]
        return moved if self.flow else moved - direction


class Points(NamedTuple):
    """Polished candidates, `(*probe, sample)` each, and `(*probe, sample, state)`."""

    x: Tensor
    there: Tensor  # whether the row is one
    residual: Tensor
    correction: Tensor
    error: Tensor  # bound on the distance to the true point, up to a factor of order one
    sign: Tensor  # of det(I - J) or det(-Df); NaN where not resolved


def around(x: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """Corners of a box five times as wide as the starts, for each probe."""
    low = x.masked_fill(~real[..., None], math.inf).amin(-2, keepdim=True)
    high = x.masked_fill(~real[..., None], -math.inf).amax(-2, keepdim=True)
    half = 5 * ((high - low) / 2).clamp(min=1)
    return (low + high) / 2 - half, (low + high) / 2 + half


def by_parts(
    function: Callable[..., tuple[Tensor, ...]], x: Tensor, go: Tensor, bar: tqdm
) -> tuple[Tensor, ...]:
    """Apply to few enough rows `(*probe, sample, state)` at a time that their Jacobians fit the memory.

    Several processes share the rows out; see `rnnlab.shares`.
    """
    axis, size = x.ndim - 2, x.shape[-1]
    width = max(1, ELEMENTS // (x.shape[:-2].numel() * size * size))

    def look(rows: slice) -> tuple[Tensor, ...]:
        some = (slice(None),) * axis + (rows,)
        parts = []
        for states, active in zip(x[some].split(width, axis), go[some].split(width, axis), strict=True):
            parts.append(function(states, active))
            bar.update(int(active.sum()))
        return tuple(torch.cat(pieces, axis) for pieces in zip(*parts, strict=True))

    return cat_rows(shared(look, x.shape[axis]), axis)


def take(go: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
    """The rows that go on, gathered along the sample axis and padded with others to a rectangle."""
    width = int(go.sum(-1).max())
    rows = torch.argsort(~go, dim=-1, stable=True)[..., :width]
    return rows, *(gather(value, rows) for value in values)


def gather(value: Tensor, rows: Tensor) -> Tensor:
    tail = value.shape[rows.ndim :]
    return value.gather(rows.ndim - 1, rows.view(*rows.shape, *(1 for _ in tail)).expand(*rows.shape, *tail))


def put(value: Tensor, rows: Tensor, part: Tensor, go: Tensor) -> Tensor:
    """`value` with its rows `rows` replaced by `part`, but for those that only fill the rectangle."""
    tail = value.shape[rows.ndim :]
    live = go.gather(-1, rows).view(*rows.shape, *(1 for _ in tail))
    part = part.where(live, gather(value, rows))
    return value.scatter(rows.ndim - 1, rows.view(live.shape).expand(*rows.shape, *tail), part)


def scale(x: Tensor) -> Tensor:
    return x.abs().amax(-1).clamp(min=1)


def residual(value: Tensor, x: Tensor) -> Tensor:
    return value.abs().amax(-1) / scale(x)


def iterate(zeros: Zeros, x: Tensor, go: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """Orbits after some time, or once they rest well enough, and which of them have become slow."""
    started = go
    for done in range(0, iterations, 20):
        go = started & (residual(zeros.value(x), x) > SETTLED)
        if not bool(go.any()):
            break
        rows, part = take(go, x)
        for _ in range(min(20, iterations - done)):
            part = zeros.rule(part)
        x = put(x, rows, part, go)
    return x, started & (residual(zeros.value(x), x) < SETTLING)


def _inside(old: Tensor, new: Tensor, box: tuple[Tensor, Tensor]) -> Tensor:
    """States held at the walls of the box; those that would rest there are thrown back instead."""
    low, high = box
    held = torch.minimum(torch.maximum(new, low), high)
    stuck = (held - old).abs().amax(-1, keepdim=True) < 1e-2 * (new - old).abs().amax(-1, keepdim=True)
    back = torch.where(new < low, 2 * low - new, torch.where(new > high, 2 * high - new, new))
    return torch.minimum(torch.maximum(back, low), high).where(stuck, held)


def newton(
    zeros: Zeros,
    x: Tensor,
    go: Tensor,
    box: tuple[Tensor, Tensor] | None,
    tolerance: float,
    max_steps: int,
    max_step: float,
) -> tuple[Tensor, Tensor]:
    """Newton's method with bounded steps: states, and which have a residual below the tolerance."""
    value, started = zeros.value(x), go
    for _ in range(max_steps):
        go = started & (residual(value, x) > tolerance)  # NaN stops
        if not bool(go.any()):
            break
        rows, part, rest = take(go, x, value)
        step = torch.linalg.solve_ex(zeros.slope(part), -rest)[0]
        step = step * (max_step * scale(part) / step.abs().amax(-1)).clamp(max=1)[..., None]
        part = part + step if box is None else _inside(part, part + step, box)
        x, value = put(x, rows, part, go), put(value, rows, zeros.value(part), go)
    return x, started & (residual(value, x) <= tolerance)


def levenberg_marquardt(
    zeros: Zeros, x: Tensor, go: Tensor, box: tuple[Tensor, Tensor], tolerance: float, max_steps: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Descent of the speed: states, which of them rest, and which are a minimum without rest."""
    started, value = go, zeros.value(x)
    damping, growth = torch.full_like(value[..., 0], math.nan), torch.full_like(value[..., 0], 2.0)
    steepest, slope = torch.zeros_like(damping), torch.full_like(damping, math.inf)
    last = value.norm(dim=-1)
    for count in range(max_steps):
        go = go & (residual(value, x) > tolerance)
        if count and count % 10 == 0:  # near chaos there are traps without number: no progress, no more work
            speed = value.norm(dim=-1)
            go, last = go & (speed < 0.9 * last), speed
        if not bool(go.any()):
            break
        rows, part, rest, mu, nu, top = take(go, x, value, damping, growth, steepest)
        matrix = zeros.slope(part)
        gradient = (matrix.mT @ rest[..., None])[..., 0]
        top = torch.maximum(top, torch.linalg.matrix_norm(matrix) / math.sqrt(x.shape[-1]))
        normal = matrix.mT @ matrix
        mu = mu.where(~mu.isnan(), 1e-3 * normal.diagonal(dim1=-2, dim2=-1).amax(-1).clamp(min=EPS))
        normal.diagonal(dim1=-2, dim2=-1).add_(mu[..., None])
        step = torch.linalg.solve_ex(normal, -gradient)[0]
        new = torch.minimum(torch.maximum(part + step, box[0]), box[1])
        after = zeros.value(new)
        gain = (rest.square().sum(-1) - after.square().sum(-1)) / (
            step * (mu[..., None] * step - gradient)
        ).sum(-1)
        better = gain > 0
        slope = put(slope, rows, gradient.norm(dim=-1) / (rest.norm(dim=-1) * top), go)
        x = put(x, rows, new.where(better[..., None], part), go)
        value = put(value, rows, after.where(better[..., None], rest), go)
        easier = mu * (1 - (2 * gain - 1) ** 3).clamp(min=1 / 3)
        damping = put(damping, rows, easier.where(better, mu * nu).clamp(EPS**2, 1 / EPS**2), go)
        growth = put(growth, rows, torch.where(better, 2.0, (2 * nu).clamp(max=1 / EPS)), go)
        steepest = put(steepest, rows, top, go)
    rests = started & (residual(value, x) <= tolerance)
    return x, rests, started & ~rests & value.isfinite().all(-1) & (slope <= FLAT)


def polish(zeros: Zeros, x: Tensor, go: Tensor) -> Points:
    """Newton's method until rounding stops it, and what its last matrix tells of the point."""
    size = x.shape[-1]
    probing = torch.randn(size, 2, generator=torch.Generator().manual_seed(0), dtype=x.dtype).to(x.device)
    there, value = go, zeros.value(x)
    correction, error, sign = (torch.full_like(value[..., 0], math.nan) for _ in range(3))
    for _ in range(50):
        if not bool(go.any()):
            break
        rows, part, rest = take(go, x, value)
        matrix = zeros.slope(part)
        factors, pivots, _ = torch.linalg.lu_factor_ex(matrix)
        improved = on = torch.ones_like(part[..., 0], dtype=torch.bool)
        for chord in range(3):
            step = torch.linalg.lu_solve(factors, pivots, -rest[..., None])[..., 0]
            after = zeros.value(part + step)
            on = on & (after.abs().amax(-1) < 0.5 * rest.abs().amax(-1))
            improved = on if chord == 0 else improved
            part, rest = (part + step).where(on[..., None], part), after.where(on[..., None], rest)
        step = torch.linalg.lu_solve(factors, pivots, -rest[..., None])[..., 0]
        floor = 8 * EPS * scale(part) * matrix.abs().sum(-1).amax(-1).clamp(min=1)
        stretch, weak = _inverse_norm(factors, pivots, probing.expand(*part.shape, 2))
        bound = stretch * torch.maximum(rest.norm(dim=-1), floor * math.sqrt(size))
        # Kantorovich: there is a zero within the bound if the slope changes by less than half of itself
        here, beside = zeros.along(part, weak), zeros.along(part + bound[..., None] * weak, weak)
        change = (here - (matrix @ weak[..., None])[..., 0]).norm(dim=-1) + (beside - here).norm(dim=-1)
        resolved = change * stretch <= 0.25
        swaps = (pivots != torch.arange(1, size + 1, device=x.device)).sum(-1) + size
        signs = factors.diagonal(dim1=-2, dim2=-1).sign().prod(-1) * (1 - 2 * (swaps % 2))
        step = step.where(rest != 0, 0.0).norm(dim=-1).nan_to_num(math.inf)
        x, value = put(x, rows, part, go), put(value, rows, rest, go)
        correction, error = put(correction, rows, step, go), put(error, rows, bound, go)
        sign = put(sign, rows, signs.where(resolved, math.nan), go)
        # where the slope vanishes too, Newton's method creeps: done when rounding is all that is left
        more = improved & (~resolved | (rest.abs().amax(-1) > floor))
        go = put(torch.zeros_like(go), rows, more, go)
    return Points(x, there, residual(value, x), correction, error, sign)


def _inverse_norm(factors: Tensor, pivots: Tensor, left: Tensor) -> tuple[Tensor, Tensor]:
    """Euclidean norm of the inverse, by power iteration, and the unit vector that the matrix shrinks most."""
    for _ in range(3):
        left = left / left.norm(dim=-2, keepdim=True)
        right = torch.linalg.lu_solve(factors, pivots, left)
        stretch = right.norm(dim=-2)
        left = torch.linalg.lu_solve(factors, pivots, right / stretch[..., None, :], adjoint=True)
    stretch, best = stretch.nan_to_num(math.inf).max(-1)
    weak = right.gather(-1, best[..., None, None].expand(*right.shape[:-1], 1))[..., 0]
    return stretch, weak / stretch[..., None]
