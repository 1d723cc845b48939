"""The exponential of a skew-symmetric matrix beside torch's general one: time and rounding.

    python benchmarks/expm.py [--sizes 50 100 200] [--rounds 15] [--threads 1]

Contestants take turns; medians of processor time are printed. Errors are the largest over all entries, of
the value relative to one and of the gradient relative to its largest entry, against `torch.matrix_exp` in
float64. The floor is the floating-point operations of `expm_skew` at the rate this machine reaches on a
product of the same size.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from rnnlab.cells.expm import expm_skew

CONTESTANTS = {"expm_skew": expm_skew, "torch.matrix_exp": torch.matrix_exp}
# in products of two matrices: four for the polynomial, two or four squarings, two for the last correction
FORWARD = {torch.float32: 4 + 2 + 2, torch.float64: 4 + 4 + 2}
BACKWARD = {torch.float32: 2 * (4 + 2), torch.float64: 2 * (4 + 4)}


def parameter(n: int, dtype: torch.dtype) -> Tensor:
    """Random rotations of pairs by angles in [-pi, pi], then moved a little, as training does."""
    a = torch.zeros(n, n, dtype=torch.float64)
    even = 2 * torch.arange(n // 2)
    a[even, even + 1] = (2 * torch.rand(n // 2, dtype=torch.float64) - 1) * torch.pi
    return (a + 0.01 * torch.randn(n, n, dtype=torch.float64).triu(1)).to(dtype).requires_grad_()


def run(
    exponential: Callable[[Tensor], Tensor], a: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor, float, float]:
    """Value, gradient, seconds forward, seconds backward."""
    start = time.process_time()
    value = exponential(a - a.mT)
    middle = time.process_time()
    (gradient,) = torch.autograd.grad(value, a, weight)
    return value.detach(), gradient, middle - start, time.process_time() - middle


def product_seconds(n: int, dtype: torch.dtype) -> float:
    """Median time of one product of two matrices."""
    a, out = torch.randn(n, n, dtype=dtype), torch.empty(n, n, dtype=dtype)
    seconds = []
    for _ in range(50):
        start = time.process_time()
        torch.mm(a, a, out=out)
        seconds.append(time.process_time() - start)
    return statistics.median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[50, 100, 200])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    print(f"   n {'type':26} {'forward':>9} {'backward':>9}   {'value':>8} {'gradient':>8} {'B^T B':>8}")
    for n in args.sizes:
        for dtype in FORWARD:
            a, weight = parameter(n, dtype), torch.randn(n, n, dtype=dtype)
            exact, slope, _, _ = run(torch.matrix_exp, a.detach().double().requires_grad_(), weight.double())
            turns = {name: [] for name in CONTESTANTS}
            for _ in range(args.rounds):
                for name, exponential in CONTESTANTS.items():
                    turns[name].append(run(exponential, a, weight))
            label = f"{n:4} {str(dtype).removeprefix('torch.'):8}"
            for name, results in turns.items():
                value, gradient = (result.double() for result in results[0][:2])
                errors = (
                    (value - exact).abs().max(),
                    (gradient - slope).abs().max() / slope.abs().max(),
                    (value.mT @ value - torch.eye(n, dtype=value.dtype)).abs().max(),
                )
                forward, backward = (1e3 * statistics.median(result[k] for result in results) for k in (2, 3))
                print(
                    f"{label} {name:17} {forward:6.2f} ms {backward:6.2f} ms   "
                    + " ".join(f"{float(error):8.0e}" for error in errors)
                )
            one = 1e3 * product_seconds(n, dtype)
            print(f"{label} {'floor':17} {FORWARD[dtype] * one:6.2f} ms {BACKWARD[dtype] * one:6.2f} ms")


if __name__ == "__main__":
    main()
