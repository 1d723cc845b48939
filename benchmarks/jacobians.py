"""Derivatives in closed form against generic forward mode, cell by cell.

    python benchmarks/jacobians.py [--hidden 200] [--k 10] [--batch 1] [--rounds 7]

Float64, one thread, median of the rounds. `push` moves `batch` states and `k` tangent vectors of each by one
step, `jacobian` gives their matrices; "generic" is forward mode through `step`. "floor" is the least number
of floating-point operations that the products with the recurrent matrices and the diagonal scalings of them
take, "GFLOPS" what of it was done in a second; a product of two 1000 x 1000 matrices is the yardstick above.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch

from rnnlab.autonomous import freeze
from rnnlab.cells import GRU, LSTM, Elman, Orthogonal, Stack
from rnnlab.cells.base import pushforward

# blocks of the recurrent matrix, and products of two of them in the Jacobian
CELLS = {
    "elman": (Elman, 1, 0),
    "gru": (GRU, 3, 1),
    "gru after": (partial(GRU, reset="after"), 3, 0),
    "lstm": (LSTM, 4, 0),
    "ornn": (Orthogonal, 1, 0),
    "lstm h": (LSTM, 4, 0),
}


def milliseconds(work: Callable[[], object], rounds: int) -> float:
    work()
    began = time.perf_counter()
    work()
    calls = max(1, int(0.05 / (time.perf_counter() - began)))
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        for _ in range(calls):
            work()
        times.append((time.perf_counter() - began) / calls)
    return 1e3 * statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hidden", type=int, default=200)
    parser.add_argument("--k", type=int, default=10, help="tangent vectors")
    parser.add_argument("--batch", type=int, default=1, help="states")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    n, k, batch = options.hidden, options.k, options.batch
    square = torch.randn(1000, 1000, dtype=torch.float64)
    peak = 2 / milliseconds(lambda: square @ square, options.rounds) * 1e3
    print(f"hidden {n}, k {k}, batch {batch}, float64, 1 thread; matrix product {peak:.0f} GFLOPS")
    print(
        f"{'':12}{'push ms':>9}{'generic':>9}{'ratio':>7}{'floor MFLOP':>13}{'GFLOPS':>8}"
        f"{'jacobian ms':>14}{'generic':>9}{'ratio':>7}{'floor MFLOP':>13}"
    )
    rows = [(name, make(1, n), *counts) for name, (make, *counts) in CELLS.items()]
    rows.append(("lstm x 2", Stack([LSTM(1, n), LSTM(n, n)]), 12, 4))
    for name, given, blocks, products in rows:
        cell = freeze(given)
        cell = cell.reduction() if name == "lstm h" else cell
        x = torch.randn(batch, cell.state_size, dtype=torch.float64)
        u = torch.ones(1, dtype=torch.float64)
        frame = torch.linalg.qr(torch.randn(batch, cell.state_size, k, dtype=torch.float64))[0]
        eye = torch.eye(cell.state_size, dtype=torch.float64).expand(batch, -1, -1)

        def generic(frame, cell=cell, x=x, u=u):
            return pushforward(lambda x: cell.step(x, u), (x,), (frame,))

        with torch.no_grad():
            times = [
                milliseconds(work, options.rounds)
                for work in (
                    lambda cell=cell, x=x, u=u, frame=frame: cell.push(x, u, frame),
                    lambda generic=generic, frame=frame: generic(frame),
                    lambda cell=cell, x=x, u=u: cell.jacobian(x, u),
                    lambda generic=generic, eye=eye: generic(eye),
                )
            ]
        push = 2e-6 * batch * blocks * n * n * (k + 1)
        jacobian = batch * (2e-6 * blocks * n * n * 2 + 2e-6 * products * n**3)
        print(
            f"{name:12}{times[0]:9.3f}{times[1]:9.3f}{times[1] / times[0]:7.1f}{push:13.2f}"
            f"{push / times[0]:8.1f}{times[2]:14.3f}{times[3]:9.3f}{times[3] / times[2]:7.1f}{jacobian:13.2f}"
        )


if __name__ == "__main__":
    main()
