"""What vanishes and what explodes on the way back through time: gradients, and products of Jacobians."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from rnnlab.analysis.lyapunov import lyapunov_spectrum
from rnnlab.analysis.states import one_thread, to_numpy
from rnnlab.shares import everyone
from rnnlab.systems import tangent

_BLOCKS = 8  # stretches of time that the rate and its standard error are made of
_VECTORS = 8  # carried along to find the norm of a product of Jacobians
_ROUNDS, _CLOSE = 20, 1e-3  # of the power method, and the change in nats at which it ends


def gradient_flow(
    network: Any,
    inputs: Tensor,
    targets: Tensor,
    objective: Callable[[Tensor, Tensor], dict[str, Tensor]],
    *,
    x0: Tensor | None = None,
    max_lag: int = 100,
    moments: int = 10,
    seed: int = 0,
) -> xr.Dataset:
    """How gradients of a cost V change on their way back from the outputs to earlier states x_t.

    Each sequence is looked at by itself: V is its own cost, as if it were all the data. A cost that asks at
    every step hides what vanishes, since each step adds a gradient of its own; so the gradient that comes
    from the last output alone is followed too, and its **rate** of growth for each step back tells: below
    zero gradients vanish, above they explode.

    The rate is from the means of the logarithm of that gradient's norm over eight equal stretches of time,
    without the last one, where the gradient turns to the directions that persist: the mean of the six
    differences between neighbours, per step. Its standard error is from their spread, so that correlations
    shorter than a stretch are respected.
    `fate` is "vanishing" or "exploding" where the rate is so by two standard errors, "steady" where these
    allow less than a factor e over all steps, else "undecided". In the long run the rate is the leading
    Lyapunov exponent along the same inputs, which is measured forward and by itself.

    Memory: the states of all steps, time x sequence x state numbers of 8 bytes a few times over, and the
    graph of a single step; never that of a whole sequence.

    Args:
        network: With `step(x, u)`, `read(x)` and `state_size`. If it is a module, its parameters are those
            whose gradients are told; a copy is differentiated, the network itself is left as it is.
        inputs: `(time, sequence, *input)`, float64 or symbols.
        targets: `(time, sequence, ...)`, or what else the objective takes, with sequences on the second axis.
        objective: Gives "loss" from outputs `(time, sequence, output)` and targets.
        x0: Initial states, `(sequence, state)`. Default: zero.
        max_lag: Longest product of Jacobians.
        moments: At how many steps, spread evenly, the contributions to the gradient of the parameters are
            taken. As many as there are steps: all of them, and they add up to the gradient.
        seed: Of the vectors by which norms of products are found.

    Returns:
        A dataset with

        - `cost` `(sequence)`;
        - `gradient` `(sequence, time)`: norm of dV/dx_t, at times 0 (the initial state) to the last;
        - `last_gradient` `(sequence, time)`: of its part by way of the last output that the cost asks for,
          at the time `end` (an attribute); NaN after that;
        - `rate`, `rate_error` `(sequence)`: growth of the latter in nats per step back, -inf where it is
          zero from some step on; `fate` `(sequence)`. NaN and "undecided" where there are fewer than 16 steps
          or the cost does not depend on that output;
        - `norm` `(sequence, lag)`: largest singular value of dx_end / dx_(end - lag), for lags 1, 2, 4 and
          so on. Found by a block power method, from below: `norm_change` is the relative change in its last
          round, 0 where the state has no more than 8 components and the value is exact;
        - `exponent`, `exponent_error` `(sequence)`: leading Lyapunov exponent, in nats per step, without the
          first eighth of the steps;
        - `contribution` `(sequence, moment, parameter)`: norm of what the step at each `moment` adds to the
          gradient of each parameter: through the state it makes and the output read there.

        What leaves the finite numbers is NaN or infinite, for the sequence where it happens.

    Raises:
        TypeError: `network` lacks a method, or `inputs` is no tensor.
        ValueError: An option is out of range, or inputs, targets or `x0` do not fit.

    References:
        Bengio, Simard, Frasconi, "Learning long-term dependencies with gradient descent is difficult", IEEE
        Transactions on Neural Networks 5, 1994.
        Pascanu, Mikolov, Bengio, "On the difficulty of training recurrent neural networks", ICML 2013.

    Example:
        >>> import torch
        >>> from rnnlab.objectives import MeanSquaredError
        >>> class Leaky:
        ...     state_size = 1
        ...     def step(self, x, u): return 0.9 * x + u
        ...     def read(self, x): return x
        >>> u = torch.ones(32, 1, 1).double()
        >>> found = gradient_flow(Leaky(), u, 0 * u, MeanSquaredError())
        >>> round(found.rate.item(), 4), round(found.exponent.item(), 4), found.fate.item()
        (-0.1054, -0.1054, 'vanishing')
    """
    _check(network, inputs, targets, max_lag=max_lag, moments=moments)
    steps, sequences = inputs.shape[:2]
    if x0 is None:
        x0 = torch.zeros(sequences, network.state_size, dtype=torch.float64, device=inputs.device)
    if x0.shape != (sequences, network.state_size) or x0.dtype != torch.float64:
        raise ValueError(
            f"x0 of shape {tuple(x0.shape)} and type {x0.dtype} is not possible: give float64, "
            f"({sequences}, {network.state_size}), one state for each sequence."
        )
    learner = copy.deepcopy(network).double().requires_grad_(True) if isinstance(network, nn.Module) else None
    network = copy.deepcopy(network).double().requires_grad_(False) if learner is not None else network
    names = [] if learner is None else [name for name, _ in learner.named_parameters()]
    chosen = np.unique(np.linspace(1, steps, min(moments, steps)).round().astype(int)) if moments else []

    with one_thread(), torch.enable_grad():
        driven = _Driven(network, inputs)
        states = _states(driven, x0)
        cost, by_output, by_state = _costs(network, objective, states[1:], targets)
        asked = torch.nonzero(by_output.flatten(1).nan_to_num(nan=1.0).any(-1))
        # of all processes that look at some of the sequences
        end = max(everyone(int(asked[-1]) + 1 if len(asked) else 0)) or steps
        size = torch.zeros(sequences, steps + 1, dtype=torch.float64, device=x0.device)
        last_log = torch.full_like(size, math.nan)
        contribution = np.zeros((sequences, len(chosen), len(names)))

        # the second row starts at `end`, is kept at the length 1, and its lengths are added up
        whole, last, log = by_state[-1], torch.zeros_like(x0), torch.zeros_like(x0[:, 0])
        for time in range(steps, -1, -1):
            if time < steps:
                both = _pull(driven, time, states[time], torch.stack((whole, last)))
                whole, last = both[0] + (by_state[time - 1] if time else 0.0), both[1]
            if time == end:
                last = by_state[time - 1]
            if time <= end:
                last, growth = _unit(last, -1)
                log = log + growth
                last_log[:, time] = log
            size[:, time] = torch.linalg.vector_norm(whole, dim=-1)
            if learner is not None and time in chosen:
                place = int(np.searchsorted(chosen, time))
                here = (states[time - 1], inputs[time - 1], states[time])
                contribution[:, place] = _contributions(learner, *here, whole, by_output[time - 1])
        lags = _lags(min(max_lag, end))
        norm, change = _norms(driven, states, end, lags, seed)
        rate, error = _rate(last_log[:, : end + 1].flip(-1))
        exponent, exponent_error = _exponent(driven, x0)

    per_step = {"units": "nats per time step"}
    return xr.Dataset(
        {
            "cost": ("sequence", to_numpy(cost)),
            "gradient": (("sequence", "time"), to_numpy(size)),
            "last_gradient": (("sequence", "time"), to_numpy(last_log.exp())),
            "rate": ("sequence", rate, per_step),
            "rate_error": ("sequence", error, per_step),
            "fate": ("sequence", _fate(rate, error, end)),
            "norm": (("sequence", "lag"), norm),
            "norm_change": (("sequence", "lag"), change),
            "exponent": ("sequence", exponent, per_step),
            "exponent_error": ("sequence", exponent_error, per_step),
            "contribution": (("sequence", "moment", "parameter"), contribution),
        },
        coords={
            "time": ("time", np.arange(steps + 1), {"units": "time steps"}),
            "lag": ("lag", np.array(lags), {"units": "time steps"}),
            "moment": ("moment", np.array(chosen, int), {"units": "time steps"}),
            "parameter": ("parameter", np.array(names, dtype=str)),
        },
        attrs={"analysis": "gradient_flow", "end": end, "max_lag": max_lag, "seed": seed},
    )


def _check(network: Any, inputs: Tensor, targets: Tensor, **whole: int) -> None:
    least = {"max_lag": 1, "moments": 0}
    for name, value in whole.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < least[name]:
            raise ValueError(
                f"{name}={value!r} is not possible: give a whole number of at least {least[name]}."
            )
    if lacking := [name for name in ("step", "read", "state_size") if not hasattr(network, name)]:
        raise TypeError(
            f"a {type(network).__name__} is no network, it lacks {', '.join(lacking)}: give an object with "
            "step(x, u), read(x) and state_size."
        )
    if not isinstance(inputs, Tensor):
        raise TypeError(f"inputs of type {type(inputs).__name__} are not possible: give a torch.Tensor.")
    if inputs.ndim < 2 or not inputs.numel():
        raise ValueError(
            f"inputs of shape {tuple(inputs.shape)} are not possible: give (time, sequence, *input)."
        )
    if inputs.is_floating_point() and inputs.dtype != torch.float64:
        raise ValueError(f"inputs of type {inputs.dtype} are not possible: give float64, or symbols.")
    if targets.ndim < 2 or targets.shape[1] != inputs.shape[1]:
        raise ValueError(
            f"targets of shape {tuple(targets.shape)} do not fit inputs of shape {tuple(inputs.shape)}: "
            "give the same sequences on the second axis."
        )


class _Held:
    """The network under one input for each sequence."""

    def __init__(self, network: Any, u: Tensor) -> None:
        self.network, self.u = network, u

    def step(self, x: Tensor) -> Tensor:
        return self.network.step(x, self.u)

    def observe(self, x: Tensor) -> Tensor:
        return self.network.read(x)


class _Driven:
    """The network along all inputs `(time, *batch, *input)`: a `Sequence` of systems."""

    def __init__(self, network: Any, inputs: Tensor) -> None:
        self.network, self.inputs = network, inputs

    def at(self, time: int) -> _Held:
        return _Held(self.network, self.inputs[time])

    def __len__(self) -> int:
        return len(self.inputs)


@torch.no_grad()
def _states(driven: _Driven, x: Tensor) -> Tensor:
    """`(time + 1, sequence, state)`, the initial ones first."""
    states = [x]
    for time in range(len(driven)):
        states.append(driven.at(time).step(states[-1]))
    return torch.stack(states)


def _costs(network: Any, objective: Any, states: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Each sequence's cost, its gradients by the outputs, and by the states that these are read off."""
    states = states.detach().requires_grad_()
    outputs = network.read(states)
    # one by one: the mean over a batch would depend on how many sequences there are
    each = [objective(outputs[:, i : i + 1], targets[:, i : i + 1])["loss"] for i in range(targets.shape[1])]
    cost = torch.stack(each)
    by_output, by_state = torch.autograd.grad(cost.sum(), (outputs, states), materialize_grads=True)
    return cost.detach(), by_output, by_state


def _pull(driven: _Driven, time: int, x: Tensor, rows: Tensor) -> Tensor:
    """Gradients `(k, sequence, state)` by the state after a step, to those by the state `x` before it."""
    u = driven.inputs[time]
    x = x.expand(rows.shape).detach().requires_grad_()
    image = driven.network.step(x, u.expand(len(rows), *u.shape))
    return torch.autograd.grad(image, x, rows, materialize_grads=True)[0]


def _unit(rows: Tensor, dim: int | tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Rows at the length 1, so that none is lost to underflow, and the logarithms of their lengths."""
    length = torch.linalg.vector_norm(rows, dim=dim, keepdim=True)
    return torch.where(length == 0, rows, rows / length), length.squeeze(dim).log()


def _contributions(
    learner: nn.Module, x: Tensor, u: Tensor, image: Tensor, by_image: Tensor, by_output: Tensor
) -> np.ndarray:
    """Norms `(sequence, parameter)` of what one step adds to the gradient of each parameter."""
    network: Any = learner
    parameters = list(learner.parameters())
    moved, read = network.step(x, u), network.read(image)
    share = (moved * by_image).sum(-1) + (read * by_output).sum(-1)
    found = np.zeros((len(x), len(parameters)))
    for i in range(len(x)) if share.requires_grad else ():
        parts = torch.autograd.grad(share[i], parameters, retain_graph=True, materialize_grads=True)
        found[i] = [float(torch.linalg.vector_norm(part)) for part in parts]
    return found


def _lags(most: int) -> list[int]:
    """Powers of two, and the longest.

    >>> _lags(1), _lags(10)
    ([1], [1, 2, 4, 8, 10])
    """
    return sorted({2**i for i in range(most.bit_length())} | {most})


def _norms(
    driven: _Driven, states: Tensor, end: int, lags: list[int], seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Largest singular values of products of Jacobians that end at `end`, and their last relative change."""
    size = states.shape[-1]
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(size, min(size, _VECTORS), dtype=torch.float64, generator=generator)
    frame = torch.linalg.qr(start)[0].to(states.device).expand(states.shape[1], -1, -1)
    lost = ~states[: end + 1].isfinite().all(-1).all(0)
    states = states.masked_fill(lost[:, None], 0.0)
    norm, change = np.empty((2, states.shape[1], len(lags)))
    for place, lag in enumerate(lags):
        before, moved = None, torch.zeros(())  # the frame hardly changes from one lag to the next
        for _ in range(_ROUNDS):
            frame, log = _multiply(driven, states, end - lag, end, frame)
            if before is not None:
                moved = (log - before).nan_to_num(nan=0.0).abs()
            if size <= _VECTORS or (before is not None and all(everyone(bool((moved < _CLOSE).all())))):
                break
            before = log
        norm[:, place] = to_numpy(log.exp().masked_fill(lost, math.nan))
        change[:, place] = to_numpy(moved.expand(len(log)).masked_fill(lost, math.nan))
    return norm, change


def _multiply(driven: _Driven, states: Tensor, start: int, stop: int, frame: Tensor) -> tuple[Tensor, Tensor]:
    """One round of the power method on P = dx_stop / dx_start, on a block of orthonormal columns.

    Returns:
        An orthonormal basis of P P^T frame, `(sequence, state, k)`, and log |P| on the span of P^T frame.
    """
    for time in range(stop - 1, start - 1, -1):
        frame = _pull(driven, time, states[time], frame.movedim(-1, 0)).movedim(0, -1)
        frame = _unit(frame, (-2, -1))[0]
    frame, log = torch.linalg.qr(frame)[0], torch.zeros_like(frame[:, 0, 0])
    for time in range(start, stop):
        # each sequence has its own input, which all columns share
        held = _Held(driven.network, driven.inputs[time])
        # a copy: forward mode gives a view a tangent as large as all that it is a view of
        frame, growth = _unit(tangent(held, states[time], frame), (-2, -1))
        log = log + growth
    return torch.linalg.qr(frame)[0], log + torch.linalg.matrix_norm(frame, 2).log()


def _rate(log: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Growth per step of `(sequence, steps back)` from the second block on, and its standard error."""
    steps = log.shape[-1] - 1
    if steps < 2 * _BLOCKS:
        return np.full((2, len(log)), math.nan)  # type: ignore[return-value]
    edges = np.linspace(0, steps + 1, _BLOCKS + 1).round().astype(int)[1:]
    values = to_numpy(log)
    with np.errstate(invalid="ignore"):
        level = np.stack([values[:, a:b].mean(-1) for a, b in pairwise(edges)])
        growth = np.diff(level, axis=0) / np.diff((edges[1:] + edges[:-1]) / 2)[:, None]
        rate, error = growth.mean(0), growth.std(0, ddof=1) / math.sqrt(len(growth))
    gone = np.isneginf(values[:, -1]) & np.isfinite(values[:, 0])
    return np.where(gone, -math.inf, rate), np.where(gone, 0.0, error)


def _fate(rate: np.ndarray, error: np.ndarray, steps: int) -> np.ndarray:
    low, high = rate - 2 * error, rate + 2 * error
    fates = ["vanishing", "exploding"]
    found = np.select([high < 0, low > 0], fates, "undecided")
    return np.where(np.maximum(abs(low), abs(high)) * steps <= 1, "steady", found).astype("U9")


def _exponent(driven: _Driven, x0: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Leading Lyapunov exponent of each sequence, and its standard error."""
    apart = _Driven(driven.network, driven.inputs.unsqueeze(2))  # one sample a sequence
    found = lyapunov_spectrum(apart, x0[:, None], count=1, discard=len(apart) // 8)
    return found["exponent"].values[:, 0], found["standard_error"].values[:, 0]
