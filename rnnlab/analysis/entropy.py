"""How much is known of a state: the differential entropy of an ensemble that a system carries along."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import xarray as xr
from scipy.spatial import KDTree
from scipy.special import digamma, gammaln
from torch import Tensor

from rnnlab.analysis.contraction import ENTRIES, contraction
from rnnlab.analysis.states import batch_axes, check_states, one_thread, to_numpy
from rnnlab.systems import Sequence, System, is_flow, jacobian

_PARTS = (3, 10, 30)  # of an ensemble: estimates from them tell the error of that from all
_LEAST = 200  # states that an estimate needs
_EPS = torch.finfo(torch.float64).eps
REASONS = ("too few states", "not finite", "rounding", "thinner than its space", "too many dimensions")


@torch.no_grad()
def entropy(
    system: System | Sequence | Any,
    x0: Tensor,
    *,
    steps: int | None = None,
    neighbours: int = 4,
    lipschitz: float | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """How the entropy H_t = -E log p_t(x_t) of a cloud of states changes under x' = F(x), in nats.

    If F is one-to-one, H_{t+1} = H_t + E log |det DF(x_t)|, and so, with a Lipschitz constant L of F on
    n-dimensional states,

        H_t - H_0 = sum of E log |det DF|  <=  sum of E log (product of column lengths)  <=  t n log L.

    That is a bound from above: below L = 1 entropy must fall, above it may do either. (Ribeiro et al. 2020
    print it the other way round in eq. 4, as a bound from below; the map diag(2, 1/10) contradicts it.) If F
    is not one-to-one, as x -> 2x modulo 1, the first equality is an inequality too: H_t - H_0 is smaller.
    A point mass has the entropy minus infinity, not zero; zero is that of a unit cube.

    **Change.** The mean over the ensemble, with the standard error of a mean over independent draws; in any
    number of dimensions. -inf where DF is singular (to rounding) at some state, as where units are cut: part
    of the cloud is then flat, and has no density any more.

    **Estimate.** Kozachenko and Leonenko's, from the distances to the k-th of all neighbours, of states made
    white first, so that linear maps change nothing but the known log |det|. Its error is put together from
    the spread of estimates from parts of the ensemble (a third, a tenth, a thirtieth), and its bias, as told
    by how these differ from the estimate from all if the bias falls like N^(-1/n), as it does for a cloud
    with sharp edges; without them faster, and the error is too large. In up to three dimensions a thousand
    states do; in five, biases may cancel in that comparison, and the error can be half of what is true. The
    estimate is withheld, and `undecided` says why, where it means nothing:

    - "too few states": less than 200;
    - "not finite": an orbit has left the finite numbers;
    - "rounding": neighbours, or the thinnest extent of the cloud, are as small as rounding errors;
    - "thinner than its space": the number of neighbours within a distance grows as on a set of lower
      dimension, a curve in the plane say: the entropy is minus infinity, or that of folds finer than the
      ensemble can show;
    - "too many dimensions": the error is above 1 nat, or there are more than 20.

    Args:
        system: A map, or a sequence of maps such as a network driven by inputs.
        x0: The ensemble, independent draws: `(sample, state)` or `(probe, sample, state)`, float64.
        steps: Time steps. Default: 20, or all that a sequence has.
        neighbours: k of the estimate.
        lipschitz: Certified Lipschitz constant in any norm, valid for all steps and states. Default: of a
            map the smallest by `contraction`, valid within its box; of a sequence none is known
            (`contraction` of an `InputSet` gives one).
        seed: Of the parts that the ensemble is split into.

    Returns:
        A dataset with (no `probe` axis where `x0` has none)

        - `change`, `change_error` `(probe, time)`: sum of E log |det DF| up to each time, 0 at first, and its
          standard error: H_t - H_0 if F is one-to-one, an upper bound on it otherwise;
        - `singular` `(probe, time)`: share of the states whose DF was singular at some time;
        - `hadamard` `(probe, time)`: the same sum for the product of the lengths of the columns of DF, or its
          rows where that is smaller;
        - `bound` `(probe, time)`: t n log L; infinite where no finite L is known, NaN from where a state lies
          outside the box that L is certified for;
        - `nearest`, `nearest_error` `(probe, time)`: estimate of H_t itself and its error, NaN where
          withheld; `undecided` `(probe, time)`: why, else empty.

    Raises:
        TypeError: The system is a vector field, or none at all.
        ValueError: An option is out of range, a sequence is too short, or `x0` or the system is refused (see
            `states.check_states`).

    References:
        Cover, Thomas, "Elements of information theory", 2006, section 8.6.
        Kozachenko, Leonenko, "Sample estimate of the entropy of a random vector", Problems of Information
        Transmission 23, 1987.
        Ribeiro, Tiels, Umenberger, Schoen, Aguirre, "Beyond exploding and vanishing gradients: analysing RNN
        training using attractors and smoothness", AISTATS 2020, theorem 2.

    Example:
        >>> import torch
        >>> from rnnlab.maps import Linear
        >>> thinning = Linear(torch.diag(torch.tensor([2.0, 0.1])))  # L = 2, and yet:
        >>> found = entropy(thinning, torch.randn(1000, 2).double(), steps=2)
        >>> found.change.values.round(4).tolist(), found.bound.values.round(4).tolist()
        ([0.0, -1.6094, -3.2189], [0.0, 1.3863, 2.7726])
    """
    given: Any = system
    length = len(given) if isinstance(system, Sequence) else None
    steps = (20 if length is None else length) if steps is None else steps
    for name, value in (("steps", steps), ("neighbours", neighbours)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name}={value!r} is not possible: give a whole number of at least 1.")
    if length is not None and steps > length:
        raise ValueError(f"steps={steps} is not possible: the sequence has {length} steps.")
    if lipschitz is not None and not lipschitz > 0:
        raise ValueError(f"lipschitz={lipschitz} is not possible: give a number above 0.")
    if length is None and is_flow(given):
        raise TypeError(f"a {type(system).__name__} is a vector field: give Flow(field, dt), which is a map.")
    at: Any = (lambda time: system) if length is None else given.at
    check_states(at(0), x0)

    x = x0 if x0.ndim == 3 else x0[None]
    log_l, low, high = _certified(given, x0, lipschitz, length is None)
    probes, samples, size = x.shape
    sums = x.new_zeros(3, probes, samples)  # log |det|, log of column lengths, of row lengths
    outside = torch.zeros(probes, dtype=torch.bool, device=x.device)
    rows: dict[str, list[np.ndarray]] = {}
    with one_thread():
        for time in range(steps + 1):
            if time:
                outside = outside | ((x < low) | (x > high)).any(-1).any(-1)
                x_now = x if x0.ndim == 3 else x[0]
                sums = sums + _volume(at(time - 1), x_now).view(3, probes, samples)
                x = at(time - 1).step(x_now).view_as(x)
            lost = ~x.isfinite().all(-1).all(-1)
            nearest = [nearest_neighbour_entropy(cloud, k=neighbours, seed=seed) for cloud in x]
            singular = sums[0].isneginf()
            spread = sums[0].std(-1) / math.sqrt(samples)
            bound = time * size * log_l if time else torch.zeros_like(log_l)
            found = {
                "change": sums[0].mean(-1).masked_fill(lost, math.nan),
                "change_error": spread.where(~singular.any(-1), 0.0).masked_fill(lost, math.nan),
                "singular": singular.double().mean(-1),
                "hadamard": sums[1:].mean(-1).amin(0).masked_fill(lost, math.nan),
                "bound": bound.masked_fill(outside | lost, math.nan),
            }
            found = {name: to_numpy(values) for name, values in found.items()}
            told = dict(
                zip(("nearest", "nearest_error", "undecided"), zip(*nearest, strict=True), strict=True)
            )
            for name, values in (found | told).items():
                rows.setdefault(name, []).append(np.asarray(values))

    axes = (*batch_axes(x0)[:-1], "time")
    shape = (*x0.shape[:-2], steps + 1)
    unit = {"units": "nats"}
    return xr.Dataset(
        {
            name: (
                axes,
                np.stack(values, -1).reshape(shape),
                {} if name in ("singular", "undecided") else unit,
            )
            for name, values in rows.items()
        },
        coords={"time": ("time", np.arange(steps + 1), {"units": "time steps"})},
        attrs={
            "analysis": "entropy",
            "steps": steps,
            "neighbours": neighbours,
            "samples": samples,
            "seed": seed,
        },
    )


def nearest_neighbour_entropy(x: Tensor, *, k: int = 4, seed: int = 0) -> tuple[float, float, str]:
    """Kozachenko and Leonenko's estimate of differential entropy from independent draws; see `entropy`.

    Args:
        x: Draws, `(sample, state)`.
        k: Which neighbour is measured to.
        seed: Of the parts that the draws are split into.

    Returns:
        The estimate in nats, its error, and an empty text; or NaN, NaN and one of `REASONS`.

    Example:
        >>> unit_square = torch.rand(2000, 2, generator=torch.Generator().manual_seed(0)).double()
        >>> value, error, _ = nearest_neighbour_entropy(unit_square)
        >>> abs(value) < 3 * error < 0.3
        True
    """
    points = to_numpy(x)
    count, size = points.shape
    if not np.isfinite(points).all():
        return math.nan, math.nan, "not finite"
    if size > 20:
        return math.nan, math.nan, "too many dimensions"
    if count < max(_LEAST, 40 * k, 20 * size):
        return math.nan, math.nan, "too few states"
    scale = np.abs(points).max()
    points = points - points.mean(0)
    _, extent, axes = np.linalg.svd(points / math.sqrt(count), full_matrices=False)
    grain = 1e3 * _EPS * scale  # steps of numbers of that size, with a margin for rounding on the way
    if not extent[-1] > grain:
        return math.nan, math.nan, "rounding"
    white = points @ axes.T / extent
    shift = np.log(extent).sum()
    near, far = _distances(white, k, 4 * k)
    if np.quantile(near, 0.05) * extent[-1] <= grain:
        return math.nan, math.nan, "rounding"
    dimension = (digamma(4 * k) - digamma(k)) / np.log(far / near).mean()
    if dimension < 0.75 * size:
        return math.nan, math.nan, "thinner than its space"
    value = _estimate(near, k, size) + shift
    order = np.random.default_rng(seed).permutation(count)
    bias = spread = 0.0
    for number in _PARTS:
        parts = [_distances(white[chosen], k)[0] for chosen in np.array_split(order, number)]
        values = [_estimate(part, k, size) + shift for part in parts]
        bias = max(bias, abs(np.mean(values) - value) / (number ** (1 / size) - 1))
        spread = float(np.std(values, ddof=1)) / math.sqrt(number)
    error = math.hypot(bias, spread)
    return (value, error, "") if error <= 1 else (math.nan, math.nan, "too many dimensions")


def _distances(points: np.ndarray, *k: int) -> np.ndarray:
    """To the k-th neighbours, `(k, sample)`."""
    ranks: Any = [1 + i for i in k]  # the first is the point itself
    return KDTree(points).query(points, k=ranks)[0].T


def _estimate(radius: np.ndarray, k: int, size: int) -> float:
    ball = size / 2 * math.log(math.pi) - gammaln(size / 2 + 1)  # log volume of radius 1
    return float(digamma(len(radius)) - digamma(k) + ball + size * np.log(radius).mean())


def _certified(
    system: Any, x0: Tensor, lipschitz: float | None, is_map: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """log L of each probe, and the corners `(probe, 1, state)` of the box where it holds."""
    shape = (x0.shape[0] if x0.ndim == 3 else 1, 1, x0.shape[-1])
    everywhere = x0.new_full(shape, math.inf)
    if lipschitz is not None or not is_map:
        return x0.new_full(shape[:1], math.log(lipschitz or math.inf)), -everywhere, everywhere
    found = contraction(system, x0[..., :1, :], steps=1, burn_in=0, states=0)
    # |det DF| is a product of n eigenvalues, none above the norm, whichever norm it is
    upper = torch.as_tensor(found["upper"].min("norm").values).reshape(shape[0]).to(x0)
    low, high = (torch.as_tensor(found[name].values).reshape(shape).to(x0) for name in ("low", "high"))
    return upper.log(), low, high


def _volume(system: System, x: Tensor) -> Tensor:
    """Logarithms of |det DF| and of the products of the lengths of columns and rows, `(3, *batch)`."""
    parts = []
    # probes, which may have an input each, stay together
    for chunk in x.split(max(1, ENTRIES // (x[..., :1, :].numel() * x.shape[-1])), -2):
        matrix = jacobian(system, chunk)
        finite = matrix.isfinite().all(-1).all(-1)
        matrix = matrix.where(finite[..., None, None], torch.ones_like(matrix[..., :1, :1]))
        columns, rows = (torch.linalg.vector_norm(matrix, dim=dim) for dim in (-2, -1))
        # at columns and rows of length 1, a pivot that is all rounding is told from a small one
        matrix = _divide(matrix, columns[..., None, :])
        lengths = torch.linalg.vector_norm(matrix, dim=-1)
        pivots = torch.linalg.lu_factor_ex(_divide(matrix, lengths[..., None]))[0].diagonal(dim1=-2, dim2=-1)
        pivots = pivots.abs()
        pivots = pivots.where(pivots > 8 * x.shape[-1] * _EPS, 0.0)
        logs = torch.stack([v.log().sum(-1) for v in (columns * lengths * pivots, columns, rows)])
        parts.append(logs.masked_fill(~finite, math.nan))
    return torch.cat(parts, -1)


def _divide(matrix: Tensor, lengths: Tensor) -> Tensor:
    return torch.where(lengths > 0, matrix / lengths, matrix)
