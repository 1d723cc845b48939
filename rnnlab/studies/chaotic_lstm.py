"""The chaotic LSTM of Ribeiro et al. (2020), Fig. 1 and Supplementary Fig. 1.

    python -m rnnlab.studies.chaotic_lstm

Two units without input and biases, whose weights s theta pass through chaos as s grows. Where the dynamics
are chaotic, the cost of fitting what the network with s = 1 did is full of local minima.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from rnnlab.analysis import continuation, lyapunov_spectrum, orbit
from rnnlab.analysis.landscape import local_minima
from rnnlab.studies.program import markdown, parser, run, save_table

# gates i, f, g, o one below the other. The paper's text prints +4 and +7 in the first and last row; its
# figures come from -4 and -7, with which s = 1 is chaotic (with the printed signs it has period 6)
WEIGHTS = torch.tensor(
    [[-1, -4], [-3, -2], [-2, 6], [0, -6], [-1, -6], [6, -9], [4, 1], [-9, -7]], dtype=torch.float64
)
START = torch.full((4,), 0.5, dtype=torch.float64)  # h and c
STEPS = 200  # of the simulations that the cost compares
ORIGIN_LOSES_STABILITY = (10 + 8 * math.sqrt(10)) / 45  # see `origin_eigenvalues`


class ScaledLSTM:
    """An LSTM without input and biases, with the sum of s_k theta_k for its recurrent weights.

    The state is (h, c), what is observed is h.

    Args:
        scales: The factors s_k, numbers or tensors `(probe,)`, one probe a network.
        weights: The matrices theta_k, each `(4 units, units)` with the rows of i, f, g and o.

    Raises:
        ValueError: A factor is not finite.

    Example:
        >>> ScaledLSTM(1.0).step(START).round(decimals=4)
        tensor([ 0.3228, -0.0000,  0.3647, -0.0449], dtype=torch.float64)
    """

    def __init__(self, *scales: float | Tensor, weights: tuple[Tensor, ...] = (WEIGHTS,)) -> None:
        self.scales = [torch.as_tensor(s, dtype=torch.float64) for s in scales]
        self.weights = weights
        for s in self.scales:
            if not bool(s.detach().isfinite().all()):
                raise ValueError(f"scale={s.tolist()} is not possible: give finite numbers.")

    def _mix(self, terms: list[Tensor]) -> Tensor:
        """The sum of s_k times terms `(probe, ...)`."""
        scales = (s.view(-1, *[1] * (terms[0].ndim - 1)) if s.ndim else s for s in self.scales)
        return torch.stack([s * term for s, term in zip(scales, terms, strict=True)]).sum(0)

    def _gates(self, h: Tensor) -> tuple[Tensor, ...]:
        i, f, g, o = self._mix([F.linear(h, w) for w in self.weights]).chunk(4, -1)
        return i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()

    def step(self, x: Tensor) -> Tensor:
        h, c = x.chunk(2, -1)
        i, f, g, o = self._gates(h)
        c = f * c + i * g
        return torch.cat((o * c.tanh(), c), -1)

    def observe(self, x: Tensor) -> Tensor:
        return x.chunk(2, -1)[0]

    def push(self, x: Tensor, frame: Tensor) -> tuple[Tensor, Tensor]:
        """States and tangent vectors, moved together."""
        h, c = x.chunk(2, -1)
        dh, dc = frame.chunk(2, -2)
        i, f, g, o = self._gates(h)
        di, df, dg, do = self._mix([w @ dh for w in self.weights]).chunk(4, -2)
        new = f * c + i * g
        t = new.tanh()
        dc = _rows(f) * dc + _rows(f * (1 - f) * c) * df
        dc = dc + _rows(i * (1 - i) * g) * di + _rows(i * (1 - g * g)) * dg
        dh = _rows(o * (1 - o) * t) * do + _rows(o * (1 - t * t)) * dc
        return torch.cat((o * t, new), -1), torch.cat((dh, dc), -2)


def _rows(x: Tensor) -> Tensor:
    return x.unsqueeze(-1)


@torch.no_grad()
def cost(*scales: Tensor, weights: tuple[Tensor, ...] = (WEIGHTS,), steps: int = STEPS) -> Tensor:
    """Mean squared difference of what the networks do to what the one with s = (1, 0, ...) does.

    Eq. 2 of the paper: all start at h = c = 1/2 and run for `steps` steps; their output is h.

    Args:
        scales: The factors of each weight matrix, `(probe,)`.
        weights: The matrices.
        steps: Time steps N.

    Returns:
        `(probe,)`.

    Example:
        >>> cost(torch.tensor([1.0, 1.1]).double()).sign().tolist()
        [0.0, 1.0]
    """
    one = [torch.zeros_like(scales[0][:1]) + (k == 0) for k in range(len(scales))]
    system = ScaledLSTM(*(torch.cat((a, b)) for a, b in zip(one, scales, strict=True)), weights=weights)
    x = START.expand(len(scales[0]) + 1, 1, 4)
    total = torch.zeros(len(scales[0]), dtype=torch.float64)
    for _ in range(steps):
        x = system.step(x)
        y = system.observe(x)[:, 0]
        total += (y[1:] - y[0]).square().sum(-1)
    return total / steps


def origin_eigenvalues(s: float) -> np.ndarray:
    """Eigenvalues of the fixed point h = c = 0, beside two that are 0.

    There all gates are 1/2, so that c' = c / 2 + s G h / 2 and h' = c' / 2, with G the rows of g in theta;
    after one step h = c / 2, and c' = (1 / 2 + s G / 4) c. G has the eigenvalues -5 +- i sqrt(20), hence
    |eigenvalue|^2 = (1/2 - 5 s / 4)^2 + 5 s^2 / 4, which is 1 at 45 s^2 - 20 s - 12 = 0.

    Example:
        >>> abs(origin_eigenvalues(ORIGIN_LOSES_STABILITY)).round(12).tolist()
        [1.0, 1.0]
    """
    return 0.5 + s * np.linalg.eigvals(WEIGHTS[4:6].numpy()) / 4


def survey(values: Tensor, *, steps: int = 4000, discard: int = 1000) -> xr.Dataset:
    """What the networks s theta do, all values of s at once.

    Args:
        values: The factors s, `(s)`.
        steps: Time steps that exponents are averaged over.
        discard: Time steps before those, and before orbits are recorded.

    Returns:
        A dataset over `s` with `y` `(s, sample, time, observable)`, `settled`, `period` (0 where there is
        none) from the paper's start, `exponent` and `standard_error` in nats a step, and `cost`.
    """
    system, start = ScaledLSTM(values), START.expand(len(values), 1, 4)
    seen = orbit(system, start, steps=100, burn_in=discard, tolerance=1e-6)
    growth = lyapunov_spectrum(system, start, count=1, steps=steps, discard=discard)
    found = seen[["y", "settled", "period"]].rename(probe="s").assign_coords(s=values.numpy())
    return found.assign(
        exponent=("s", growth.exponent.values[:, 0], {"units": "nats per time step"}),
        standard_error=("s", growth.standard_error.values[:, 0]),
        cost=("s", cost(values).numpy()),
    )


def windows(found: xr.Dataset) -> pd.DataFrame:
    """Stretches of s on which orbits settle on cycles of one period: first and last s, period, exponent."""
    period = np.where(found["settled"][:, 0], found["period"][:, 0], 0)
    edges = np.flatnonzero(np.diff(period)) + 1
    rows = []
    for part in np.split(np.arange(len(period)), edges):
        if period[part[0]] and len(part) > 1:
            rows.append(
                {
                    "from s": round(float(found.s[part[0]]), 4),
                    "to s": round(float(found.s[part[-1]]), 4),
                    "period": int(period[part[0]]),
                    "largest exponent": round(float(found.exponent[part].max()), 4),
                }
            )
    return pd.DataFrame(rows)


def surface(first: Tensor, second: Tensor, seed: int = 0) -> xr.DataArray:
    """The cost of s1 theta + s2 theta_random over a grid, `(s1, s2)`.

    The entries of theta_random are normal with the root mean square of those of theta.
    """
    generator = torch.Generator().manual_seed(seed)
    other = torch.randn(WEIGHTS.shape, generator=generator, dtype=torch.float64)
    other = other * WEIGHTS.square().mean().sqrt()
    s1, s2 = (grid.flatten() for grid in torch.meshgrid(first, second, indexing="ij"))
    values = cost(s1, s2, weights=(WEIGHTS, other)).view(len(first), len(second))
    return xr.DataArray(values.numpy(), {"s1": first.numpy(), "s2": second.numpy()}, name="cost")


def cycle_of_three() -> float:
    """Where a cycle of three is born, by a saddle-node bifurcation beside the fixed point, still stable."""
    found = orbit(ScaledLSTM(0.76), START[None], burn_in=2000)
    cycle = torch.from_numpy(found["last_state"].values)
    branch = continuation(ScaledLSTM, cycle, (0.76, 0.7), period=3, name="s")
    return branch["bifurcation_parameter"].item()


def draw(found: xr.Dataset, fine: xr.DataArray, fold: float) -> Any:
    """Fig. 1: orbits, exponent and cost over s, the last from a finer grid."""
    from rnnlab.figures.style import BLUE, INK, ORANGE, new_figure, styled

    @styled
    def drawing() -> Any:
        figure = new_figure(7.5, 7.5)
        orbits, exponents, costs = figure.subplots(3, 1, sharex=True, height_ratios=[2, 1, 1])
        y = found["y"].isel(sample=0, observable=0).transpose("s", "time")
        orbits.plot(np.repeat(found.s, y.shape[1]), y.values.ravel(), ",", color=BLUE, alpha=0.6)
        orbits.set_ylabel("first unit's h, settled")
        for at, side, words in (
            (fold, "right", "saddle-node of a \ncycle of three "),
            (ORIGIN_LOSES_STABILITY, "left", " Neimark-Sacker\n bifurcation of 0"),
        ):
            orbits.axvline(at, color=INK, lw=0.8, ls="--")
            orbits.annotate(
                words, (at, 0.95), ha=side, va="top", fontsize=8, xycoords=("data", "axes fraction")
            )
        exponents.axhline(0, color=INK, lw=0.8)
        exponents.plot(found.s, found.exponent, color=ORANGE, lw=0.8)
        exponents.set_ylabel("λ₁, nats a step")
        costs.plot(fine.s, fine, color=BLUE, lw=0.5)
        costs.axvline(1.0, color=INK, lw=0.8, ls=":")
        costs.set_ylabel("mean squared cost")
        costs.set_xlabel("s: the weights are s θ, the data were made with s = 1")
        figure.tight_layout()
        return figure

    return drawing()


def draw_surface(values: xr.DataArray) -> Any:
    """Supplementary Fig. 1: the cost over two directions, from above."""
    from rnnlab.figures.style import new_figure, styled

    @styled
    def drawing() -> Any:
        figure = new_figure(6.5, 5)
        axes = figure.subplots()
        seen = values.where(values > 0)  # the logarithm of the true network's cost has no colour
        mesh = axes.pcolormesh(values.s2, values.s1, seen, cmap="viridis", norm="log", rasterized=True)
        axes.plot(0, 1, "o", mfc="none", mec="white", ms=9)
        axes.annotate("θ, cost 0", (0, 1), (6, 6), textcoords="offset points", color="white")
        axes.grid(False)
        axes.set_xlabel("s₂, along random weights")
        axes.set_ylabel("s₁, along θ")
        figure.colorbar(mesh, ax=axes, label="mean squared cost")
        figure.tight_layout()
        return figure

    return drawing()


def main() -> None:
    """The command line."""
    from rnnlab.figures.style import save_png

    options = parser("chaotic_lstm", "Chaos and cost of an LSTM of two units, Ribeiro et al. 2020, Fig. 1.")
    options.add_argument("--values", type=int, default=1501, help="values of s from 0.5 to 2")
    options.add_argument("--grid", type=int, default=150, help="points a side of the cost surface")
    given = options.parse_args()
    for name, least in (("values", 3), ("grid", 2)):
        if getattr(given, name) < least:
            raise ValueError(f"--{name}={getattr(given, name)} is not possible: give at least {least}.")
    out: Path = given.out
    with tqdm(total=4, desc="chaotic LSTM", unit=" parts") as bar:
        found = survey(torch.linspace(0.5, 2, given.values, dtype=torch.float64))
        bar.update()
        fine = torch.linspace(0.5, 2, 5000, dtype=torch.float64)
        costs = xr.DataArray(cost(fine).numpy(), {"s": fine.numpy()}, name="cost")
        fold = cycle_of_three()
        save_png(draw(found, costs, fold), out / "chaotic_lstm.png")
        bar.update()
        over = torch.linspace(0, 2, given.grid, dtype=torch.float64)
        save_png(draw_surface(surface(over, (over - 1) / 2)), out / "chaotic_lstm_surface.png")
        bar.update()
        branch = continuation(ScaledLSTM, torch.zeros(1, 4, dtype=torch.float64), (0.5, 1.0), name="s")
        bar.update()
    scalars = found[["settled", "period", "exponent", "standard_error", "cost"]].isel(sample=0)
    save_table(scalars.to_dataframe().reset_index(), out / "chaotic_lstm.csv")
    stretches = windows(found)
    save_table(stretches, out / "chaotic_lstm_windows.csv")
    at = fine.numpy()[local_minima(costs.values)]
    chaotic = found.s[found.exponent > 3 * found.standard_error].values
    print(
        f"{branch.bifurcation_type.item()} bifurcation of the origin, {branch.criticality.item()}, at s = "
        f"{branch.bifurcation_parameter.item():.10f}; in closed form {ORIGIN_LOSES_STABILITY:.10f}"
    )
    print(f"saddle-node bifurcation of a cycle of three at s = {fold:.10f}")
    print(f"chaos at {len(chaotic)} of {len(found.s)} values of s, from {chaotic.min()} to {chaotic.max()}")
    print(
        f"local minima of the cost on 5000 values: {(at < 0.9).sum()} below s = 0.9, "
        f"{((at >= 0.9) & (at <= 1.45)).sum()} up to 1.45, {(at > 1.45).sum()} above"
    )
    print(markdown(stretches.astype(object)))


if __name__ == "__main__":
    run(main)
