"""Fixed points of networks whose number is known: seconds from scratch and from the last look.

    python -m benchmarks.fixed_points [--starts 100] [--rounds 3] [--threads 1]

The least of all rounds is printed: wall-clock time, and processor time, which other programs disturb less.
The floor is what the mathematics cannot do without, at the rate this machine reaches on a product of two
matrices of that size: 2/3 n^3 floating-point operations for each Jacobian that is factored, as many as the
search asked for, and 10 n^3 for the eigenvalues of each point. LAPACK reaches about half of that rate on one
matrix of 200 rows, and a tenth on eigenvalues.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
import xarray as xr
from torch import Tensor

from rnnlab.analysis.fixed_points import fixed_points
from rnnlab.cells import LSTM
from rnnlab.systems import bounds, jacobian, push, reduced
from tests.networks import held, planted_gru, seven_point_gru


class Counted:
    """A system that counts the Jacobians it is asked for.

    Args:
        closed: Whether its derivatives are those in closed form that the system has.
        small: Whether the smaller system is handed on.
    """

    def __init__(self, system: Any, closed: bool = True, small: bool = True) -> None:
        self.system, self.small, self.count, self.inner = system, small, 0, None
        self.source = system if closed else SimpleNamespace(step=system.step)
        self.step, self.observe = system.step, getattr(system, "observe", None)
        self.restrict, self.lift = getattr(system, "restrict", None), getattr(system, "lift", None)

    def push(self, x: Tensor, frame: Tensor) -> tuple[Tensor, Tensor]:
        return push(self.source, x, frame)

    def jacobian(self, x: Tensor) -> Tensor:
        self.count += x.shape[:-1].numel()
        return jacobian(self.source, x)

    def bounds(self) -> tuple[Tensor, Tensor] | None:
        return bounds(self.system)

    def reduced(self) -> Any:
        inner = reduced(self.system) if self.small else None
        self.inner = None if inner is None else Counted(inner)
        return self.inner


def seconds(work: Callable[[], Any], rounds: int) -> tuple[float, float]:
    """Least wall-clock and processor time."""
    times = []
    for _ in range(rounds):
        wall, processor = time.perf_counter(), time.process_time()
        work()
        times.append((time.perf_counter() - wall, time.process_time() - processor))
    return min(wall for wall, _ in times), min(processor for _, processor in times)


def rate(n: int) -> float:
    """Floating-point operations a second of a product of two matrices."""
    a = torch.randn(n, n, dtype=torch.float64)
    return 2 * n**3 / min(seconds(lambda: a @ a, 50))


def report(name: str, system: Counted, x0: Tensor, rounds: int, **options: Any) -> xr.Dataset:
    n = x0.shape[-1]
    found = fixed_points(system, x0, **options)
    flops = 10 * n**3 * found.sizes["index"] * options.get("eigenvalues", True)
    count, inner = system.count, system.inner
    flops += 2 / 3 * n**3 * count
    if inner is not None:
        flops += 2 / 3 * inner.restrict(x0).shape[-1] ** 3 * inner.count
        count += inner.count
    wall, processor = seconds(lambda: fixed_points(system, x0, **options), rounds)
    print(
        f"{name:46} {wall:8.3f} {processor:8.3f} {flops / rate(n):8.4f} {count:9} {found.sizes['index']:6} "
        f"{int(found.index_sum):5} {int(found.not_converged):5}"
    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--starts", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.simplefilter("ignore")
    generator = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    heads = "wall s", "cpu s", "floor s", "Jacobians", "points", "index", "lost"
    print(f"{'':46} {heads[0]:>8} {heads[1]:>8} {heads[2]:>8} {' '.join(heads[3:])}")
    seven = seven_point_gru()
    report("GRU(2), 7 points, 200 starts", Counted(seven), normal(200, 2), args.rounds)
    report("  generic Jacobian", Counted(seven, closed=False), normal(200, 2), args.rounds)

    planted, x0, none = planted_gru(), normal(args.starts, 200), torch.empty(0, 200).double()
    label = f"GRU(200), 27 points, {args.starts} starts"
    known = report(label, Counted(planted), x0, args.rounds).point.values
    report("  generic Jacobian", Counted(planted, closed=False), x0, args.rounds)
    weights = planted.model.cell.weight_hh
    weights *= 1 + 0.01 * normal(*weights.shape)
    report("  weights moved by 1 %, from the known points", Counted(planted), none, args.rounds, known=known)
    report("    without eigenvalues", Counted(planted), none, args.rounds, known=known, eigenvalues=False)

    torch.manual_seed(0)
    cell = LSTM(1, 200)
    with torch.no_grad():
        cell.weight_hh *= 3
    lstm, x0 = held(cell), normal(args.starts // 5, 400)
    report(f"LSTM(200), {args.starts // 5} starts, h alone", Counted(lstm), x0, args.rounds)
    report("  h and c", Counted(lstm, small=False), x0, args.rounds)


if __name__ == "__main__":
    main()
