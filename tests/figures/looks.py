"""Datasets of analyses over epochs whose numbers follow from formulas, as the store gives them back."""

from __future__ import annotations

import itertools

import numpy as np
import xarray as xr
from scipy.optimize import brentq


def gains(epochs: np.ndarray, probes: int) -> np.ndarray:
    """w of x' = tanh(w x) at each look and probe: from 0.5 on upwards, `(epoch, probe)`."""
    return 0.5 + (1 + 0.2 * np.arange(probes)) * epochs[:, None] / 1000


def roots(w: float) -> list[float]:
    """Fixed points of x' = tanh(w x): one for w <= 1, three above."""
    if w <= 1:
        return [0.0]
    x = brentq(lambda x: np.tanh(w * x) - x, 0.5 * min(1.0, np.sqrt(3 * (w - 1) / w**3)), 1.0, xtol=1e-14)
    return [-float(x), 0.0, float(x)]


def names(count: int) -> list[str]:
    return [f"u = {0.1 * i:.1f}" for i in range(count)]


def pitchforks(epochs: np.ndarray, *, probes: int = 3, state: int = 2) -> xr.Dataset:
    """Fixed points of `state` maps x' = tanh(w x) side by side: 1, then 3^state of them.

    Stable where no x is 0 (beyond w = 1), one more unstable direction for each x = 0.
    """
    w = gains(epochs, probes)
    most = 3**state
    shape = (len(epochs), probes, most)
    point = np.full((*shape, state), np.nan)
    eigenvalue = np.full((*shape, state), np.nan + 0j)
    unstable = np.full(shape, -1)
    kind = np.full(shape, "", dtype="<U14")
    residual = np.full(shape, np.nan)
    index_sum = np.zeros(shape[:2], int)
    for look, probe in np.ndindex(*shape[:2]):
        found = sorted(itertools.product(roots(w[look, probe]), repeat=state))
        multipliers = [[w[look, probe] * (1 - x * x) for x in xs] for xs in found]
        order = sorted(range(len(found)), key=lambda i: (sum(m > 1 for m in multipliers[i]), found[i]))
        for place, i in enumerate(order):
            here = (look, probe, place)
            point[here] = found[i]
            eigenvalue[here] = multipliers[i]
            unstable[here] = sum(m > 1 for m in multipliers[i])
            residual[here] = 1e-16
            kind[here] = {0: "stable node", state: "unstable node"}.get(int(unstable[here]), "saddle")
            if any(abs(m - 1) < 1e-6 for m in multipliers[i]):
                kind[here] = "non-hyperbolic"
            index_sum[look, probe] += int(np.sign(np.prod(1 - np.array(multipliers[i]))))
    y = point @ (0.5 ** np.arange(state))
    axes = ("epoch", "probe", "index")
    return xr.Dataset(
        {
            "point": ((*axes, "state"), point),
            "y": ((*axes, "observable"), y[..., None]),
            "residual": (axes, residual),
            "correction": (axes, residual),
            "eigenvalue": ((*axes, "mode"), eigenvalue),
            "unstable": (axes, unstable),
            "kind": (axes, kind),
            "margin": (axes, np.abs(np.abs(eigenvalue) - 1).min(-1)),
            "hits": (axes, np.where(unstable < 0, -1, 10)),
            "index_sum": (axes[:2], index_sum),
            "not_converged": (axes[:2], np.zeros(shape[:2], int)),
            "starts": (axes[:2], np.full(shape[:2], 100)),
            "unseen": (axes[:2], np.full(shape[:2], 0.01)),
        },
        coords={"epoch": epochs, "probe": names(probes)},
    )


def spectra(epochs: np.ndarray, *, probes: int = 3, count: int = 3, times: int = 50) -> xr.Dataset:
    """Exponents 0.2 (w - 1.2 - i), all with standard errors, and curves that converge to them like 1 / t."""
    w = gains(epochs, probes)
    exponent = 0.2 * (w[..., None] - 1.2 - np.arange(count))
    error = 0.01 * np.ones_like(exponent)
    time = 10 * (1 + np.arange(times))
    running = exponent[:, :, None] + 1 / time[:, None]
    total = np.cumsum(exponent, -1)
    whole = (total >= 0).sum(-1)
    last = np.take_along_axis(np.abs(exponent), np.minimum(whole, count - 1)[..., None], -1)[..., 0]
    left = np.take_along_axis(total, np.maximum(whole - 1, 0)[..., None], -1)[..., 0]
    dimension = np.where(whole == 0, 0.0, np.where(whole == count, np.nan, whole + left / last))
    axes = ("epoch", "probe")
    return xr.Dataset(
        {
            "exponent": ((*axes, "mode"), exponent),
            "standard_error": ((*axes, "mode"), error),
            "sample_exponent": ((*axes, "sample", "mode"), np.stack([exponent] * 4, 2)),
            "kaplan_yorke": (axes, dimension),
            "running": ((*axes, "time", "mode"), running),
        },
        coords={"epoch": epochs, "probe": names(probes), "time": time},
    )


def settling(epochs: np.ndarray, *, probes: int = 3, samples: int = 20) -> xr.Dataset:
    """One fixed point while w < 1, two of 40 and 60 % while w < 1.5, then also a cycle and chaos."""
    w = gains(epochs, probes)
    shape = (len(epochs), probes)
    label = np.full((*shape, samples), -1)
    kind = np.full((*shape, samples), "undecided", dtype="<U14")
    table = {
        "attractor_kind": np.full((*shape, 4), "", dtype="<U14"),
        "period": np.full((*shape, 4), -1),
        "fraction": np.full((*shape, 4), np.nan),
        "fraction_low": np.full((*shape, 4), np.nan),
        "fraction_high": np.full((*shape, 4), np.nan),
        "leading_exponent": np.full((*shape, 4), np.nan),
    }
    y = {name: np.full((*shape, 4, 1), np.nan) for name in ("y_mean", "y_min", "y_max")}
    for here in np.ndindex(*shape):
        x = roots(w[here])[-1]
        if w[here] < 1:
            rows = [("fixed point", 1, 1.0, np.log(w[here]), 0.0, 0.0)]
        elif w[here] < 1.5:
            rows = [("fixed point", 1, 0.4, -0.1, -x, 0.0), ("fixed point", 1, 0.6, -0.1, x, 0.0)]
        else:
            rows = [
                ("fixed point", 1, 0.4, -0.1, -x, 0.0),
                ("periodic orbit", 2, 0.3, -0.2, x, 0.1),
                ("chaos", -1, 0.2, 0.3, 0.0, w[here] - 1.5),
            ]
        start = 0
        for i, (name, period, fraction, leading, middle, half) in enumerate(rows):
            stop = start + round(fraction * samples)
            label[here][start:stop], kind[here][start:stop] = i, name
            start = stop
            table["attractor_kind"][here][i] = name
            table["period"][here][i] = period
            table["fraction"][here][i] = fraction
            table["fraction_low"][here][i] = max(fraction - 0.1, 0)
            table["fraction_high"][here][i] = min(fraction + 0.1, 1)
            table["leading_exponent"][here][i] = leading
            for variable, value in (("y_mean", 0), ("y_min", -half), ("y_max", half)):
                y[variable][here][i] = middle + value
    axes = ("epoch", "probe")
    return xr.Dataset(
        {
            "label": ((*axes, "sample"), label),
            "kind": ((*axes, "sample"), kind),
            **{name: ((*axes, "attractor"), values) for name, values in table.items()},
            **{name: ((*axes, "attractor", "observable"), values) for name, values in y.items()},
        },
        coords={"epoch": epochs, "probe": names(probes)},
    )


def lipschitz(epochs: np.ndarray, *, probes: int = 3) -> xr.Dataset:
    """x' = tanh(w x): the bound is w, the largest stretch seen 0.95 w, the rate w (1 - x*^2)."""
    w = gains(epochs, probes)
    rate = np.vectorize(lambda w: w * (1 - roots(w)[-1] ** 2))(w)
    upper = np.stack([w, 1.2 * w, 0.97 * w], -1)
    axes = ("epoch", "probe", "norm")
    return xr.Dataset(
        {"upper": (axes, upper), "sampled": (axes, 0.95 * upper), "rate": (axes[:2], rate)},
        coords={"epoch": epochs, "probe": names(probes), "norm": ["2", "inf", "weighted"]},
    )
