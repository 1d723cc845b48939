"""Multiple shooting: the linear algebra of a closed chain of segments, shared by orbits of maps and flows."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from rnnlab.analysis.states import one_thread

Border = tuple[Tensor, Tensor]


def newton_step(J: Tensor, r: Tensor, border: Border | None = None) -> tuple[Tensor, Tensor]:
    """Solve d_{i+1} = J_i d_i + r_i + c_i s around a closed chain: the Newton step of multiple shooting.

    First by condensing: one system of the size of the state, cheap, whose error grows with the largest
    multiplier of the chain. Where the chain then does not close, the equations are reduced pairwise by
    orthogonal transformations, which is accurate for any multipliers and some ten times dearer.

    Args:
        J: Derivatives of the segments, `(*batch, phase, state, state)`.
        r: How far each segment misses the start of the next one, `(*batch, phase, state)`.
        border: For orbits with an unknown period the columns c `(*batch, phase, state)` and the phase
            condition w `(*batch, state)`, which asks w . d_0 = 0.

    Returns:
        The steps d `(*batch, phase, state)` and s `(*batch)` (zero without a border). NaN where the system
        is singular.

    References:
        Ascher, Mattheij, Russell, "Numerical Solution of Boundary Value Problems", 1988: condensing.
        Wright, "Stable parallel algorithms for two-point boundary value problems", SIAM J. Sci. Stat.
        Comput. 13, 1992: orthogonal cyclic reduction.
    """
    columns = r.unsqueeze(-1) if border is None else torch.stack((r, border[0]), -1)
    row = None if border is None else border[1]
    with one_thread():
        d, s = _condensed(J, columns, row)
        again = (J[..., -1, :, :] @ d[..., -1, :, None] + _weigh(columns[..., -1, :, :], s)).squeeze(-1)
        gap = (again - d[..., 0, :]).abs().amax(-1)
        bad = ~(gap <= 1e-8 * d.abs().amax((-1, -2)))
        if bool(bad.any()):
            d[bad], s[bad] = _reduced(J[bad], columns[bad], None if row is None else row[bad])
    return d, s


def rounding(J: Tensor, scale: Tensor, border: Border | None = None) -> Tensor:
    """How far an orbit moves, `(*batch)`, when each of its equations is off by one rounding error.

    It is infinite, or so large as to be meaningless, where the equations do not determine the orbit.

    Args:
        J: Derivatives of the segments, `(*batch, phase, state, state)`.
        scale: Size of the states, `(*batch)`.
        border: As in `newton_step`.
    """
    # errors without a pattern that might add up to nothing
    pattern = torch.cos(torch.arange(1, 1 + J.shape[-2] * J.shape[-3], dtype=J.dtype, device=J.device) ** 2)
    error = torch.finfo(J.dtype).eps * scale[..., None, None] * pattern.view(J.shape[-3], -1)
    return newton_step(J, error, border)[0].norm(dim=-1).amax(-1).nan_to_num(torch.inf)


def _weigh(columns: Tensor, s: Tensor) -> Tensor:
    """r + c s as a column."""
    first = columns[..., :1]
    return first if columns.shape[-1] == 1 else first + columns[..., 1:] * s[..., None, None]


def _close(A: Tensor, g: Tensor, row: Tensor | None) -> tuple[Tensor, Tensor]:
    """A d = r + c s with row . d = 0: d `(*batch, state)` and s."""
    if row is None:
        d = torch.linalg.solve_ex(A, g)[0].squeeze(-1)
        return d, torch.zeros_like(d[..., 0])
    corner = torch.zeros_like(row[..., :1, None])
    whole = torch.cat((torch.cat((A, -g[..., 1:]), -1), torch.cat((row.unsqueeze(-2), corner), -1)), -2)
    solution = torch.linalg.solve_ex(whole, torch.cat((g[..., :1], corner), -2))[0].squeeze(-1)
    return solution[..., :-1], solution[..., -1]


def _condensed(J: Tensor, columns: Tensor, row: Tensor | None) -> tuple[Tensor, Tensor]:
    M, g = J[..., 0, :, :], columns[..., 0, :, :]
    for i in range(1, J.shape[-3]):
        M, g = J[..., i, :, :] @ M, J[..., i, :, :] @ g + columns[..., i, :, :]
    d, s = _close(torch.eye(J.shape[-1], dtype=J.dtype, device=J.device) - M, g, row)
    steps = [d.unsqueeze(-1)]
    for i in range(J.shape[-3] - 1):
        steps.append(J[..., i, :, :] @ steps[-1] + _weigh(columns[..., i, :, :], s))
    return torch.stack(steps, -3).squeeze(-1), s


def _reduced(J: Tensor, columns: Tensor, row: Tensor | None) -> tuple[Tensor, Tensor]:
    # the equations A_i d_i + B_i d_{i+1} = g_i; those of two neighbours, turned so that the unknown
    # between them drops out of the second half, leave one equation of the same form
    n = J.shape[-1]
    A, g = J, -columns
    B = -torch.eye(n, dtype=J.dtype, device=J.device).expand_as(J)
    levels = []
    while (count := A.shape[-3]) > 1:
        even, odd, end = slice(0, count - 1, 2), slice(1, count, 2), slice(count - count % 2, count)
        zero = torch.zeros_like(A[..., even, :, :])
        between = torch.cat((B[..., even, :, :], A[..., odd, :, :]), -2)
        beside = torch.cat(
            (
                torch.cat((A[..., even, :, :], zero, g[..., even, :, :]), -1),
                torch.cat((zero, B[..., odd, :, :], g[..., odd, :, :]), -1),
            ),
            -2,
        )
        Q, R = torch.linalg.qr(between, mode="complete")
        beside = Q.mT @ beside
        levels.append((count, R[..., :n, :], beside[..., :n, :]))
        left = beside[..., n:, :]
        A, B, g = (
            torch.cat((new, old[..., end, :, :]), -3)
            for new, old in zip(left.split((n, n, g.shape[-1]), -1), (A, B, g), strict=True)
        )
    first, s = _close((A + B).squeeze(-3), g.squeeze(-3), row)
    d = first[..., None, :, None]
    for count, R, beside in reversed(levels):
        pairs = count // 2
        E, F, h = beside.split((n, n, beside.shape[-1] - 2 * n), -1)
        after = d.roll(-1, -3)[..., :pairs, :, :]
        rest = _weigh(h, s.unsqueeze(-1)) - E @ d[..., :pairs, :, :] - F @ after
        middle = torch.linalg.solve_triangular(R, rest, upper=True)
        both = torch.stack((d[..., :pairs, :, :], middle), -3).flatten(-4, -3)
        d = torch.cat((both, d[..., pairs:, :, :]), -3)
    return d.squeeze(-1), s


def multipliers(J: Tensor, passes: int = 4) -> np.ndarray:
    """Eigenvalues of the products J_{p-1} ... J_0, the small ones too, sorted by falling modulus.

    In the product itself whatever is smaller than the largest multiplier by 1e-16 is lost. Here a frame is
    carried round the orbit and made orthonormal at every phase, so that the product is a product of
    triangles, up to a rotation of groups of multipliers of about equal modulus: each group is solved by
    itself, single ones are products of numbers.

    Args:
        J: Derivatives along the orbits, `(*batch, phase, state, state)`.
        passes: Turns round the orbit. Groups whose moduli differ by a factor q are told apart to q^-passes.

    Returns:
        `(*batch, state)`, complex.

    References:
        Bojanczyk, Golub, Van Dooren, "The periodic Schur decomposition", Proc. SPIE 1770, 1992: the form
        that the carried frame converges to.
    """
    n = J.shape[-1]
    eye = torch.eye(n, dtype=J.dtype, device=J.device)
    start = end = eye.expand(*J.shape[:-3], n, n)
    R = start
    with one_thread():
        for _ in range(passes if J.shape[-3] > 1 else 1):
            start, R = end, eye
            for i in range(J.shape[-3]):
                end, factor = torch.linalg.qr(J[..., i, :, :] @ end)
                R = factor @ R
        C = start.mT @ end
    C, R = (part.detach().cpu().numpy().reshape(-1, n, n) for part in (C, R))
    found = np.stack([_eigenvalues(c, r) for c, r in zip(C, R, strict=True)]) if len(C) else np.empty((0, n))
    return found.astype(complex).reshape(*J.shape[:-3], n)


def _eigenvalues(C: np.ndarray, R: np.ndarray) -> np.ndarray:
    """Eigenvalues of C R, C orthogonal and R upper triangular, group by group."""
    n = len(C)
    if not (np.isfinite(C).all() and np.isfinite(R).all()):
        return np.full(n, np.nan, complex)
    # largest entry of the lower left block at every cut
    below = np.array([np.abs(C[k:, :k]).max(initial=0.0) for k in range(n + 1)])
    cuts = np.flatnonzero(below <= 1e-13 * n)
    groups = [np.linalg.eigvals(C[a:b, a:b] @ R[a:b, a:b]) for a, b in pairwise(cuts)]
    values = np.concatenate(groups).astype(complex)
    # nine digits of the modulus: those of a conjugate pair may differ in the last one
    return np.array(sorted(values, key=lambda value: (-float(f"{abs(value):.9e}"), -value.real, -value.imag)))


def first_phase(points: np.ndarray, error: float) -> int:
    """The point `(phase, state)` that is smallest, component by component, where rounding may not decide."""
    phases = np.arange(len(points))
    for component in points.T:
        values = component[phases]
        phases = phases[values <= values.min() + error]
        if len(phases) == 1:
            break
    return int(phases[0])
