"""Cost of one time step of a Lyapunov spectrum: an LSTM's leading exponents and all of them.

    python benchmarks/lyapunov.py [--hidden 200] [--count 10] [--rounds 7]

Milliseconds a step on one thread, medians of rounds in which the contestants take turns: the whole analysis
with the network's own derivative in closed form, if it has one, and with the generic forward-mode one. The
floor is the floating-point operations of the recurrent products and of the QR decomposition, at the rate this
machine reaches on a large product of two matrices.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import torch
from torch import Tensor

from rnnlab.analysis.lyapunov import lyapunov_spectrum
from rnnlab.autonomous import HeldInput, Wrapped, freeze
from rnnlab.cells import LSTM


class Generic:
    """A system stripped of everything but its step: derivatives by forward-mode differentiation."""

    def __init__(self, system: Any) -> None:
        self.step, self.observe = system.step, system.observe


def rate() -> float:
    """Floating-point operations a second, in a product of two 600 x 600 matrices."""
    a, seconds = torch.randn(600, 600, dtype=torch.float64), []
    for _ in range(20):
        start = time.perf_counter()
        a @ a
        seconds.append(time.perf_counter() - start)
    return 2 * 600**3 / statistics.median(seconds)


def seconds(system: Any, x0: Tensor, count: int, steps: int) -> float:
    start = time.perf_counter()
    lyapunov_spectrum(system, x0, count=count, steps=steps, discard=0)
    return (time.perf_counter() - start) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--hidden", type=int, default=200)
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    hidden, size = options.hidden, 2 * options.hidden
    held = HeldInput(freeze(Wrapped(LSTM(1, hidden))), torch.ones(1, dtype=torch.float64))
    contestants = {"closed form": held, "generic": Generic(held)}
    if not hasattr(held, "push"):
        print("this network knows no closed form: both columns are generic")
    flops = rate()

    print(f"LSTM of {hidden} units, float64, 1 thread, {flops / 1e9:.0f} GFLOPS; ms a step")
    print(f"{'exponents':>9}{'orbits':>8}{'closed form':>13}{'generic':>9}{'floor':>8}{'ms/step/orbit':>15}")
    for count, steps in ((options.count, 300), (size, 10)):
        for orbits in (1, 4):
            x0 = 0.1 * torch.randn(orbits, size, dtype=torch.float64)
            times: dict[str, list[float]] = {name: [] for name in contestants}
            for system in contestants.values():
                seconds(system, x0, count, 3)
            for _ in range(options.rounds):
                for name, system in contestants.items():
                    times[name].append(seconds(system, x0, count, steps))
            closed, generic = (1e3 * statistics.median(values) for values in times.values())
            # four gates of (hidden x hidden) times the state and the frame; Householder's QR, R and Q
            work = 8 * hidden**2 * (count + 1) + 4 * size * count**2 - 4 / 3 * count**3
            floor = 1e3 * orbits * work / flops
            print(f"{count:9}{orbits:8}{closed:13.3f}{generic:9.3f}{floor:8.3f}{closed / orbits:15.3f}")


if __name__ == "__main__":
    main()
