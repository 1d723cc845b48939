"""Do all orbits come together? Certified bounds on the stretch of the state map, and what is reached."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor
from tqdm.auto import tqdm

from rnnlab.analysis.states import check_states, one_thread, to_numpy
from rnnlab.intervals import UNIT, Interval, UnknownOperation, differentiate
from rnnlab.shares import shared
from rnnlab.systems import System, bounds, is_flow, jacobian, push

NORMS = ("2", "inf", "weighted")
ENTRIES = 2**20  # of the derivatives carried at once, and of Jacobians held at once


@torch.no_grad()
def contraction(
    system: System | Any,
    x0: Tensor,
    *,
    steps: int = 100,
    burn_in: int = 100,
    states: int = 32,
    seed: int = 0,
    progress: bool = False,
) -> xr.Dataset:
    """Bound the Lipschitz constant of x' = F(x) from above, with proof, and from below, by what is seen.

    Below 1 in some norm, F contracts: there is exactly one fixed point, and every orbit goes to it. Three
    norms are tried, since each has its own constant:

    - "2", the Euclidean norm;
    - "inf", the largest component;
    - "weighted", the largest of |x_i| / w_i, with the weights w that serve best: the bound is then the
      spectral radius of the matrix M below.

    **From above.** The system's own code is evaluated in interval arithmetic over its absorbing box
    `bounds(system)`, in which all orbits end, or over the whole space where it knows none. That gives bounds
    on each entry of DF, valid for every state of the box; M has the largest magnitudes. In the Euclidean norm
    the system's own certificate, `lipschitz()`, counts too where that is smaller. Norms of matrices are
    not taken on trust: they are evaluated with bounds on all rounding. Where nothing can be proved the bound
    is infinite.

    **From below.** `sampled` is the largest stretch of a tangent vector along the orbits, or norm of DF at
    `states` states of the orbits and as many random ones in the part of the box that orbits span. `rate` is
    the mean stretch along an orbit, exp(lambda_1), of the orbit where it is largest. So upper >= sampled >=
    rate, always.

    A set of inputs (`rnnlab.autonomous.InputSet`) in place of a system: the bounds are over all inputs of its
    box, held or changing, and the orbits are driven by random ones.

    Args:
        system: A map. Of a vector field make one by `Flow`; or any object with `at(u)`, `sample(generator,
            count)` and the corners `low` and `high` of a box of inputs.
        x0: Initial states of the orbits, `(sample, state)` or `(probe, sample, state)`, float64.
        steps: Time steps along which stretches are measured.
        burn_in: Time steps before those, in which orbits come to the box and tangent vectors turn to the
            direction that grows most.
        states: At how many states DF itself is looked at, along the orbits and at random each.
        seed: Of tangent vectors, random states and inputs.
        progress: Show a bar.

    Returns:
        A dataset with (no `probe` axis where `x0` has none)

        - `upper`, `sampled`, `rate` `(probe, norm)`: stretch per time step; `rate` is NaN where all orbits
          leave the finite numbers;
        - `contracting` `(probe)`: whether `upper` is below 1 in some norm; `best` `(probe)`: the norm in
          which it is smallest, empty if infinite;
        - `weights` `(probe, state)`: those of the weighted norm, the largest 1; all 1 where nothing better
          is known;
        - `low`, `high` `(probe, state)`: the box on which all that holds, infinite if it is the whole space.

        The attribute `unknown` says which operation of the system interval arithmetic does not know, if any.

    Raises:
        TypeError: The system is a vector field, or none at all.
        ValueError: An option is out of range; `x0` or the system is refused (see `states.check_states`); or
            an orbit leaves what the system gives as its absorbing box.

    References:
        Collatz, "Einschliessungssatz fuer die charakteristischen Zahlen von Matrizen", Mathematische
        Zeitschrift 48, 1942: bounds on the spectral radius of a non-negative matrix.
        Lohmiller, Slotine, "On contraction analysis for non-linear systems", Automatica 34, 1998.

    Example:
        >>> from rnnlab.maps import TanhMap
        >>> found = contraction(TanhMap(0.5), torch.ones(1, 1).double())
        >>> found.upper.values.round(12).tolist(), found.contracting.item()
        ([0.5, 0.5, 0.5], True)
    """
    least = {"steps": (steps, 1), "burn_in": (burn_in, 0), "states": (states, 0)}
    for name, (value, bound) in least.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < bound:
            raise ValueError(f"{name}={value!r} is not possible: give a whole number of at least {bound}.")
    generator = torch.Generator().manual_seed(seed)
    inputs: Any = system
    driven = all(hasattr(system, name) for name in ("at", "sample", "low", "high"))
    if not driven and is_flow(system):
        raise TypeError(f"a {type(system).__name__} is a vector field: give Flow(field, dt), which is a map.")
    maps = inputs.sample(generator, burn_in + steps) if driven else [system] * (burn_in + steps)
    check_states(maps[0], x0)
    low, high = _box(system, x0)

    with one_thread():
        whole = inputs.at(Interval(inputs.low.double(), inputs.high.double())) if driven else system
        lows, highs, unknown = _derivatives(whole, low, high)
        weights, upper = _certificates(lows, highs)
        own = getattr(system, "lipschitz", lambda: None)()
        if own is not None:
            own = own.double().reshape(-1).expand(len(upper)).to(upper.device)
            upper[:, 0] = torch.fmin(upper[:, 0], own)
        upper = upper.masked_fill(upper.isnan(), math.inf)
        sampled, rate = _reached(
            maps,
            x0,
            low,
            high,
            weights,
            burn_in=burn_in,
            states=states,
            generator=generator,
            progress=progress,
        )
    best = [
        NORMS[i] if value < math.inf else ""
        for value, i in zip(*(t.tolist() for t in upper.min(-1)), strict=True)
    ]

    probe = ("probe",) * (x0.ndim - 2)
    shape = x0.shape[:-2]
    stretch = {"units": "per time step"}
    by_norm = {"upper": upper, "sampled": sampled, "rate": rate}
    by_state = {"weights": weights, "low": low.squeeze(-2), "high": high.squeeze(-2)}
    return xr.Dataset(
        {
            **{k: ((*probe, "norm"), to_numpy(v.reshape(*shape, 3)), stretch) for k, v in by_norm.items()},
            "contracting": (probe, to_numpy((upper < 1).any(-1).reshape(shape))),
            "best": (probe, np.array(best, dtype="U8").reshape(shape)),
            **{k: ((*probe, "state"), to_numpy(v.reshape(*shape, -1))) for k, v in by_state.items()},
        },
        coords={"norm": list(NORMS)},
        attrs={
            "analysis": "contraction",
            "steps": steps,
            "burn_in": burn_in,
            "states": states,
            "seed": seed,
            "unknown": unknown,
        },
    )


def _box(system: Any, x0: Tensor) -> tuple[Tensor, Tensor]:
    """Corners of the absorbing box, one for the samples of a probe: `(*probe, 1, state)`."""
    shape = (*x0.shape[:-2], 1, x0.shape[-1])
    found = bounds(system)
    if found is None:
        ends = x0.new_full(shape, math.inf)
        return -ends, ends
    try:
        low, high = (end.to(x0).expand(shape) for end in found)
    except RuntimeError as error:
        raise ValueError(
            f"the system's bounds of shape {tuple(found[0].shape)} do not fit x0 of shape {tuple(x0.shape)}: "
            "give inputs (probe, 1, input) for states (probe, sample, state)."
        ) from error
    return low, high


def _derivatives(system: Any, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor, str]:
    """Bounds on the entries of DF in each probe's box, `(probe, state, state)`, and why there are none."""
    size = low.shape[-1]
    try:
        found = differentiate(system.step, low, high, columns=max(1, ENTRIES // low.numel()))[1]
    except UnknownOperation as error:
        nothing = low.new_full((low.numel() // size, size, size), math.inf)
        return -nothing, nothing, str(error).partition(" is ")[0]
    shape = (low.numel() // size, size, size)
    return (
        found.low.expand(*low.shape, size).reshape(shape),
        found.high.expand(*low.shape, size).reshape(shape),
        "",
    )


# Norms, from above. Rounding in sums of products is bounded by `_error` (Higham 2002, chapter 3), relative to
# the sum of absolute values.


def _error(n: int) -> float:
    return 4 * (n + 4) * UNIT


def _certificates(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Weights `(probe, state)` and upper bounds `(probe, norm)` from those on the entries of DF."""
    weights = low.new_ones(low.shape[:-1])
    upper = low.new_full((len(low), 3), math.inf)
    for i, (below, above) in enumerate(zip(low, high, strict=True)):
        largest = torch.maximum(below.abs(), above.abs())
        if not bool(largest.isfinite().all()):
            continue
        center = below / 2 + above / 2
        radius = torch.maximum(above - center, center - below) * (1 + 4 * UNIT)
        weights[i] = _weights(largest)
        upper[i, 0] = min(_non_negative_norm(largest), _norm(center) + _non_negative_norm(radius)) * (
            1 + 4 * UNIT
        )
        upper[i, 1] = _stretch(largest, torch.ones_like(weights[i]))
        upper[i, 2] = _stretch(largest, weights[i])
    return weights, upper


def _stretch(matrix: Tensor, weights: Tensor) -> float:
    """The largest of (M w)_i / w_i, for a non-negative matrix: its norm, and above its spectral radius."""
    return float((matrix @ weights / weights).amax()) * (1 + _error(len(matrix)))


def _weights(matrix: Tensor) -> Tensor:
    """Positive w for which M w <= r w, with r hardly above the spectral radius of the non-negative M."""
    ones = matrix.new_ones(len(matrix))
    radius = float(torch.linalg.eigvals(matrix).abs().amax())
    level = max(radius, 1e-6 * float(matrix.sum(-1).amax())) * (1 + 1e-6)
    # M w = r w - 1 < r w, also where M is reducible and its Perron vector has zeros
    eye = torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    weights, info = torch.linalg.solve_ex(level * eye - matrix, ones)
    weights = weights / weights.abs().amax()
    if int(info) or not bool((weights > 1e-100).all()):
        return ones
    return weights if _stretch(matrix, weights) < _stretch(matrix, ones) else ones


def _non_negative_norm(matrix: Tensor) -> float:
    """Upper bound on the Euclidean norm of a non-negative matrix: a root of the stretch of M^T M."""
    scale = float(matrix.amax())
    if scale == 0:
        return 0.0
    matrix = matrix / scale
    weights = torch.linalg.eigh(matrix.mT @ matrix)[1][:, -1].abs().clamp(min=1e-8)
    ratio = float((matrix.mT @ (matrix @ weights) / weights).amax())
    return (
        min(math.sqrt(ratio), float(torch.linalg.vector_norm(matrix))) * scale * (1 + 2 * _error(len(matrix)))
    )


def _norm(matrix: Tensor) -> float:
    """Upper bound on the Euclidean norm of a matrix A: of A V, V nearly orthogonal, whose columns are too."""
    error = _error(len(matrix))
    eye = torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    V = torch.linalg.eigh(matrix.mT @ matrix)[1]
    B = matrix @ V

    def size(a: Tensor) -> float:
        return float(torch.linalg.vector_norm(a))

    def rows(a: Tensor) -> float:
        return float(a.abs().sum(-1).amax())

    top = math.sqrt(rows(B.mT @ B) + error * size(B) ** 2) + error * size(matrix) * size(V)
    bent = rows(V.mT @ V - eye) + error * size(V) ** 2
    return min(top / math.sqrt(1 - bent), size(matrix)) * (1 + error)


# Norms, from below


def _reached(
    maps: list[Any],
    x: Tensor,
    low: Tensor,
    high: Tensor,
    weights: Tensor,
    *,
    burn_in: int,
    states: int,
    generator: torch.Generator,
    progress: bool,
) -> tuple[Tensor, Tensor]:
    """Largest and mean stretch, `(probe, norm)`."""
    weights = weights.view(*low.shape[:-2], 1, -1).to(x)
    room = 1e-9 * (1 + torch.maximum(low.abs(), high.abs()))

    def random() -> Tensor:
        # the same for every probe, so that none depends on which others stand beside it
        return torch.randn(x.shape[-2:], dtype=x.dtype, generator=generator).to(x.device).expand(x.shape)

    def lengths(v: Tensor) -> Tensor:
        norms = (torch.linalg.vector_norm(v, dim=-1), v.abs().amax(-1), (v.abs() / weights).amax(-1))
        return torch.stack(norms, -1)

    v, spare, some = random(), random(), []
    total, most = x.new_zeros(*x.shape[:-1], 3), x.new_zeros(*x.shape[:-1], 3)
    times = (
        {burn_in + int(t) for t in np.linspace(0, len(maps) - burn_in - 1, -(-states // x.shape[-2]))}
        if states
        else set()
    )
    start = x.clamp(low, high)
    least, greatest = start.amin(-2, keepdim=True), start.amax(-2, keepdim=True)
    for time, system in enumerate(tqdm(maps, disable=not progress, desc="contraction")):
        if time >= burn_in:
            if time > burn_in and bool(((x < low - room) | (x > high + room)).any()):
                raise ValueError(
                    "an orbit leaves the box that the system's bounds() give as absorbing: they do not hold."
                )
            x = x.clamp(low, high)  # after the burn-in it is all but there
            least = torch.fmin(least, x.amin(-2, keepdim=True))
            greatest = torch.fmax(greatest, x.amax(-2, keepdim=True))
        if time in times:
            some.append((system, x))
        x, pushed = push(system, x, v.unsqueeze(-1))
        pushed = pushed.squeeze(-1)
        if time >= burn_in:
            stretch = lengths(pushed) / lengths(v)
            total, most = total + stretch.log(), torch.fmax(most, stretch)
        size = lengths(pushed)[..., :1]
        # a vector that is lost has the stretch 0; another takes its place
        v = torch.where(size > 0, pushed / size, spare)
    rate = (total / (len(maps) - burn_in)).exp()
    most, rate = (_most(values).reshape(-1, 3) for values in (most, rate))

    if states:
        # the whole box may be wider by orders of magnitude than where orbits go
        shares = torch.rand(states, x.shape[-1], dtype=x.dtype, generator=generator).to(x.device)
        some.append((maps[-1], torch.lerp(least, greatest, shares).clamp(low, high)))
    size = max(1, ENTRIES // (x[..., :1, :].numel() * x.shape[-1]))
    pieces = [(system, piece) for system, points in some for piece in points.split(size, -2)]

    def reached(rows: slice) -> tuple[Tensor, ...]:
        found = most
        for system, piece in pieces[rows]:
            found = torch.fmax(found, _most(_norms(jacobian(system, piece), weights)).reshape(-1, 3))
        return (found,)

    for (found,) in shared(reached, len(pieces)):
        most = torch.fmax(most, found)
    # rounding must not lift what is a lower bound
    most = most * (1 - 2 * _error(x.shape[-1]))
    return most, torch.minimum(rate, most)


def _most(values: Tensor) -> Tensor:
    """The largest number over the samples of `(*probe, sample, norm)`; NaN if there is none."""
    best = values.masked_fill(values.isnan(), -math.inf).amax(-2)
    return best.masked_fill(values.isnan().all(-2), math.nan)


def _norms(matrix: Tensor, weights: Tensor) -> Tensor:
    """All norms of matrices `(*probe, sample, state, state)`."""
    finite = matrix.isfinite().all(-1).all(-1)
    matrix = torch.where(finite[..., None, None], matrix, 0.0)
    euclidean = torch.linalg.eigvalsh(matrix.mT @ matrix)[..., -1].clamp(min=0).sqrt()
    rows = matrix.abs()
    weighted = ((rows @ weights.unsqueeze(-1)).squeeze(-1) / weights).amax(-1)
    norms = torch.stack((euclidean, rows.sum(-1).amax(-1), weighted), -1)
    return norms.masked_fill(~finite[..., None], math.nan)
