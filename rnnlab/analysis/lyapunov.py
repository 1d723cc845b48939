"""How fast do neighbours part? The Lyapunov spectrum of a system."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor
from tqdm.auto import tqdm

from rnnlab.analysis.states import batch_axes, check_states, one_thread, to_numpy
from rnnlab.systems import Flow, Sequence, System, VectorField, is_flow, push

_BLOCKS = 64  # stretches of time that the convergence curve and the standard error are made of


def lyapunov_spectrum(
    system: System | VectorField | Sequence,
    x0: Tensor,
    *,
    count: int | None = None,
    steps: int | None = None,
    discard: int = 200,
    dt: float = 0.01,
    seed: int = 0,
    progress: bool = False,
) -> xr.Dataset:
    """Mean rates at which small deviations from an orbit grow, the largest first.

    A frame of orthonormal deviations is carried along each orbit and made orthonormal again after every step;
    the exponents are the means of the logarithms of what it grew by (the diagonal of R in DF Q = Q' R). While
    the first `discard` steps go by, the orbit comes to its attractor and the frame turns to its directions.
    Every step, because a frame that is left alone for longer loses its strongly contracting directions to
    rounding; and the factorisation costs less than the push it follows.

    An exponent is -inf where a direction is destroyed within one step (superstable orbits, dead units): what
    is left of a vector is then zero to rounding. Directions that shrink by more than rounding relative to the
    others (36 nats) in every step may also be such. Orbits that leave the finite numbers give NaN, are
    counted as `diverged` and disturb no other.

    **Standard error.** The larger of two: the spread of the samples over the square root of their number, and
    the spread of the means over 16, 32 or 64 blocks of time, whichever tells most, so that correlations
    shorter than a 16th of the run are respected and a frame still turning is seen. The first is blind when
    all starts meet in one orbit, the second when there are several attractors. Neither knows what the run has
    not seen. The samples of a sequence go through the same: over time, their errors are taken as one.

    Args:
        system: A map, a vector field, or a sequence of maps such as a network driven by inputs, which is
            followed from its time 0 on.
        x0: Initial states, `(sample, state)` or `(probe, sample, state)`, float64; the samples of a probe
            should lead to the same attractor, or `exponent` is the mean over different ones.
        count: How many exponents, from the largest on. Default: all. A step costs one `push` of `count`
            vectors and about 4 state count^2 operations.
        steps: Time steps to average over. Default: 1000, or all that a sequence has left.
        discard: Time steps before those.
        dt: For a vector field only: the time of one step of the integrator (Runge and Kutta's fourth-order
            method, see `Flow`). `integration_error` tells whether it is small enough.
        seed: Of the first frame.
        progress: Show a bar.

    Returns:
        A dataset with (no `probe` axis where `x0` has none)

        - `exponent` `(probe, mode)`: mean over samples, in nats per time step; for a vector field, and
          for a `Flow`, in nats per unit of its time;
        - `standard_error` `(probe, mode)`;
        - `sample_exponent` and `sample_error` `(probe, sample, mode)`: those of each orbit, the error from
          the blocks of time;
        - `running` `(probe, time, mode)`: the means over samples and over the time so far;
        - `kaplan_yorke` `(probe)`: dimension of the attractor by the conjecture of Kaplan and Yorke.
          Exponents within three standard errors of zero count as zero. NaN where `count` exponents do not
          reach far enough: the dimension is then at least `count`;
        - `diverged` `(probe)`: how many samples gave no number;
        - `integration_error` `(probe, mode)`, for flows only: what the step of the integrator adds to each
          exponent, from steps half as long at 64 times along the orbit.

        The sum of the full spectrum is the mean of ln |det DF| along the orbit.

    Raises:
        ValueError: An option is out of range, a sequence is too short, or `x0` or the system is refused
            (see `states.check_states`).

    References:
        Benettin, Galgani, Giorgilli, Strelcyn, "Lyapunov characteristic exponents for smooth dynamical
        systems and for Hamiltonian systems", Meccanica 15, 1980.
        Kaplan, Yorke, "Chaotic behavior of multidimensional difference equations", 1979.
        Flyvbjerg, Petersen, "Error estimates on averages of correlated data", J. Chem. Phys. 91, 1989.

    Example:
        >>> import torch
        >>> from rnnlab.maps import CatMap
        >>> found = lyapunov_spectrum(CatMap(), torch.tensor([[0.1, 0.2]]).double())
        >>> found.exponent.values.round(6).tolist(), found.kaplan_yorke.item()
        ([0.962424, -0.962424], 2.0)
    """
    return spectrum(
        growth(system, x0, count=count, steps=steps, discard=discard, dt=dt, seed=seed, progress=progress)
    )


@torch.no_grad()
def growth(
    system: System | VectorField | Sequence,
    x0: Tensor,
    *,
    count: int | None = None,
    steps: int | None = None,
    discard: int = 200,
    dt: float = 0.01,
    seed: int = 0,
    progress: bool = False,
) -> xr.Dataset:
    """What small deviations from each orbit grow by: the first half of `lyapunov_spectrum`.

    Nothing of an orbit depends on the others, so that they may be followed in several places.

    Args:
        system, x0, count, steps, discard, dt, seed, progress: Those of `lyapunov_spectrum`.

    Returns:
        A dataset with (no `probe` axis where `x0` has none)

        - `growth` `(probe, sample, time, mode)`: logarithms of growth in up to 64 blocks of time, which end
          at `time`; NaN for an orbit that leaves the finite numbers;
        - `integration_change` `(probe, sample, time, mode)`, for flows only.

    Raises:
        ValueError: As `lyapunov_spectrum`.

    Example:
        >>> import torch
        >>> from rnnlab.maps import CatMap
        >>> grown = growth(CatMap(), torch.tensor([[0.1, 0.2], [0.3, 0.1]]).double(), steps=10)
        >>> grown.growth.isel(mode=0).sum("time").round(3).values.tolist()
        [9.624, 9.624]
        >>> spectrum(grown).exponent.round(6).values.tolist()
        [0.962424, -0.962424]
    """
    size = x0.shape[-1] if isinstance(x0, Tensor) and x0.ndim else 1
    count = size if count is None else count
    length = len(system) if isinstance(system, Sequence) else None
    _whole("discard", discard, 0)
    if steps is None:
        steps = 1000 if length is None else length - discard
    elif length is not None and isinstance(steps, int) and discard + steps > length:
        raise ValueError(
            f"discard={discard} and steps={steps} are not possible: the sequence has {length} steps."
        )
    if length is not None and steps < 1:
        raise ValueError(f"discard={discard} is not possible: the sequence has {length} steps in all.")
    _whole("steps", steps, 1)
    _whole("count", count, 1, size)
    if isinstance(system, VectorField) and is_flow(system):
        system = Flow(system, dt)
    check_states(system.at(0) if isinstance(system, Sequence) else system, x0)

    at: Any = system.at if isinstance(system, Sequence) else lambda time: system
    flow = system if isinstance(system, Flow) else None
    unit = 1.0 if flow is None else abs(flow.dt)
    finer = None if flow is None else flow.finer()
    edges = np.unique(np.linspace(0, steps, min(_BLOCKS, steps) + 1).round().astype(int))
    generator = torch.Generator().manual_seed(seed)
    x, frame = x0, torch.randn(size, count, dtype=x0.dtype, generator=generator).to(x0.device)
    lost = torch.zeros_like(x0[..., 0], dtype=torch.bool)
    blocks, errors = [], []
    with one_thread(), tqdm(total=discard + steps, disable=not progress, desc="lyapunov_spectrum") as bar:
        frame = torch.linalg.qr(frame)[0].expand(*x0.shape, count)
        for start, stop in pairwise((0, *(discard + edges).tolist())):
            if flow is not None and finer is not None and start >= discard:
                coarse, fine = (_grow(each, x, frame)[2] for each in (flow, finer))
                errors.append(16 / 15 * (coarse - fine).abs() / unit)
            growth = torch.zeros_like(frame[..., 0, :])
            for time in range(start, stop):
                x, frame, logarithms = _grow(at(time), x, frame)
                growth = growth + logarithms
                lost = lost | ~x.isfinite().all(-1)
            blocks.append(growth)
            bar.update(stop - start)
    sums = torch.stack(blocks[1:], -2)  # without what was discarded
    lost = (lost | (sums.isnan() | sums.isposinf()).any(-1).any(-1))[..., None, None]
    axes = (*batch_axes(x0), "time", "mode")
    variables: dict[str, tuple] = {
        "growth": (axes, to_numpy(sums.masked_fill(lost, math.nan)), {"units": "nats"})
    }
    if errors:
        change = torch.stack(errors, -2).masked_fill(lost, math.nan)
        variables["integration_change"] = (axes, to_numpy(change))
    time_units = {"units": "time steps" if finer is None else "units of time of the flow"}
    return xr.Dataset(
        variables,
        coords={"time": ("time", edges[1:] * unit, time_units)},
        attrs={
            "analysis": "lyapunov_spectrum",
            "count": count,
            "steps": steps,
            "discard": discard,
            "dt": unit,
            "seed": seed,
            "driven": length is not None,
            "size": size,
        },
    )


def spectrum(grown: xr.Dataset) -> xr.Dataset:
    """Exponents and their errors from what deviations grew by: the second half of `lyapunov_spectrum`.

    Args:
        grown: What `growth` returned.

    Returns:
        The dataset of `lyapunov_spectrum`.
    """
    sums = torch.from_numpy(grown["growth"].values)  # (*probe, sample, block, mode)
    lengths = torch.from_numpy(np.diff(grown["time"].values, prepend=0).astype(float))
    lost = sums[..., 0, :1].isnan()
    sample = sums.sum(-2) / lengths.sum()
    mean = sample.nanmean(-2)
    running = sums.nanmean(-3).cumsum(-2) / lengths.cumsum(0)[:, None]
    sample_error = _block_error(sums, lengths)
    over_time = (sample_error.square().masked_fill(lost, 0.0).sum(-2) / (~lost).sum(-2)).sqrt()
    if not grown.attrs["driven"]:
        # samples of a sequence go through the same: their errors are no independent ones
        over_time = over_time / (~lost).sum(-2).sqrt()
    error = torch.maximum(_spread(sample), over_time)
    # a direction that is destroyed in every sample is so for certain
    destroyed = sample.isneginf()
    error = torch.where(destroyed.any(-2), torch.where((destroyed | lost).all(-2), 0.0, math.inf), error)
    sample_error = torch.where(destroyed, 0.0, sample_error)

    probe = ("probe",) * (sums.ndim - 3)
    axes = (*probe, "sample")
    units = {"units": "nats per " + ("time step" if grown["time"].units == "time steps" else "unit time")}
    size = grown.attrs["size"]
    variables = {
        "exponent": ((*probe, "mode"), to_numpy(mean), units),
        "standard_error": ((*probe, "mode"), to_numpy(error), units),
        "sample_exponent": ((*axes, "mode"), to_numpy(sample), units),
        "sample_error": ((*axes, "mode"), to_numpy(sample_error), units),
        "running": ((*probe, "time", "mode"), to_numpy(running), units),
        "kaplan_yorke": (probe, _kaplan_yorke(to_numpy(mean), to_numpy(error), size)),
        "diverged": (probe, to_numpy(lost[..., 0].sum(-1))),
    }
    if "integration_change" in grown:
        change = torch.from_numpy(grown["integration_change"].values)
        variables["integration_error"] = ((*probe, "mode"), to_numpy(change.nanmean(-3).mean(-2)), units)
    attrs = {key: value for key, value in grown.attrs.items() if key != "size"}
    return xr.Dataset(variables, coords={"time": grown["time"]}, attrs=attrs)


def _whole(name: str, value: int, least: int, most: float = math.inf) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        limit = f"at least {least}" if most == math.inf else f"from {least} to {most}, the size of the state"
        raise ValueError(f"{name}={value!r} is not possible: give a whole number of {limit}.")


def _grow(system: System, x: Tensor, frame: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One step: states, the frame made orthonormal, the logarithms of its growth `(*batch, count)`."""
    x, pushed = push(system, x, frame)
    frame, r = torch.linalg.qr(pushed)
    diagonal = r.diagonal(dim1=-2, dim2=-1).abs()
    # what is left of a column after cancellation down to rounding is no number but zero
    floor = 8 * pushed.shape[-2] * torch.finfo(x.dtype).eps * torch.linalg.vector_norm(r, dim=-2)
    return x, frame, torch.where(diagonal <= floor, 0.0, diagonal).log()


def _spread(values: Tensor) -> Tensor:
    """Standard error of the mean over those samples of `(..., sample, mode)` that are numbers."""
    number = (~values.isnan()).sum(-2)
    squares = (values - values.nanmean(-2, keepdim=True)).square().nansum(-2)
    return (squares / (number - 1).clamp(min=1) / number).sqrt()


def _block_error(sums: Tensor, lengths: Tensor) -> Tensor:
    """Standard error of the mean over time of `(..., block, mode)`: the spread of blocks of three sizes."""
    if len(lengths) < 2:
        return torch.full_like(sums[..., 0, :], math.nan)
    squares = []
    for _ in range(3):
        number = len(lengths)
        squares.append((sums / lengths[:, None]).var(-2) / number)
        pairs = number // 2
        if pairs < _BLOCKS // 4:
            break
        sums = sums[..., : 2 * pairs, :].unflatten(-2, (pairs, 2)).sum(-2)
        lengths = lengths[: 2 * pairs].unflatten(0, (pairs, 2)).sum(-1)
    return torch.stack(squares).amax(0).sqrt()


def _kaplan_yorke(exponent: np.ndarray, error: np.ndarray, size: int) -> np.ndarray:
    """Dimension `(*batch)` from exponents and their standard errors `(*batch, mode)`."""
    zero = np.isfinite(exponent) & (np.abs(exponent) <= 3 * error + 1e-12)
    exponent = -np.sort(-np.where(zero, 0.0, exponent), axis=-1)
    # the sums rise and then fall: how many are not negative says how far to go
    sums = np.insert(exponent.cumsum(-1), 0, 0.0, axis=-1)
    kept = (sums[..., 1:] >= -1e-12).sum(-1, keepdims=True)
    full = float(size) if exponent.shape[-1] == size else math.nan
    following = np.append(exponent, np.full_like(kept, -1.0, dtype=float), axis=-1)
    part = np.take_along_axis(sums, kept, -1) / -np.take_along_axis(following, kept, -1)
    dimension = np.where(kept == exponent.shape[-1], full, kept + part)[..., 0]
    return np.where(np.isnan(exponent).any(-1), math.nan, dimension)
