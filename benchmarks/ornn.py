"""A training step of the orthogonal network beside other ways to write it: time, floor, gradients.

    OMP_NUM_THREADS=1 python benchmarks/ornn.py [--batches 100 10] [--hidden 200] [--rounds 9]

A step is what training repeats: forward over a batch of sine waves (400 steps, one input), sum of squared
errors, backward, clipping, Adam. Contestants take turns step by step in one process of one thread; times are
those of the processor, so that another process makes them slower only by what it takes of the cache and the
memory. Medians, of ratios with quartiles. An epoch has 100 sequences: one step at batch 100, ten at batch 10.
The process keeps freed memory (`rnnlab.memory`), from which the others gain as much.

The floor is the time of the three large products a step cannot do without (states, gradients of the states,
gradient of the matrix), measured in the same turn, by the same operations and at the very same shapes.

The others: torch's orthogonal parametrisation by each of its maps and geotorch's (if `pip install geotorch`
was done), read once a step, in a Python loop over the formula; the same loop with `torch.matrix_exp`; and,
"step by step", what the code of Ribeiro et al. does: modules called at every step, a Pade approximant whose
scaling takes the sum of all entries for a norm, its derivative from the exponential of a matrix twice as
large, and a collection of garbage at every update.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import math
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import orthogonal

from rnnlab.cells import Orthogonal
from rnnlab.cells.expm import expm_skew
from rnnlab.memory import keep_freed_memory
from rnnlab.model import RecurrentModel

LENGTH, SEQUENCES = 400, 100


def mod_relu(z: Tensor, b: Tensor) -> Tensor:
    return torch.sign(z) * torch.relu(z.abs() + b)


def skew(a: Tensor) -> Tensor:
    return a.triu(1) - a.triu(1).mT


class Loop(nn.Module):
    """The formula in a Python loop over time, with the parameters of a cell of ours.

    Args:
        cell: Where the parameters come from.
        exponential: Of a skew-symmetric matrix.
        parametrise: What makes the weight of a linear layer orthogonal, in place of the exponential of `A`.
    """

    def __init__(
        self,
        cell: Orthogonal,
        exponential: Callable[[Tensor], Tensor] = torch.matrix_exp,
        parametrise: Callable[[nn.Module], object] | None = None,
    ) -> None:
        super().__init__()
        self.W, self.b = (nn.Parameter(p.detach().clone()) for p in (cell.W, cell.b))
        self.exponential = exponential
        if parametrise is None:
            self.A = nn.Parameter(cell.A.detach().clone())
        else:
            self.layer = nn.Linear(len(self.b), len(self.b), bias=False)
            parametrise(self.layer)

    def matrix(self) -> Tensor:
        return self.layer.weight.mT if hasattr(self, "layer") else self.exponential(skew(self.A))

    def forward(self, us: Tensor, x: Tensor) -> Tensor:
        rotation, xs = self.matrix(), []
        for driven in F.linear(us, self.W):
            x = mod_relu(driven + x @ rotation, self.b)
            xs.append(x)
        return torch.stack(xs)


class StepByStep(Loop):
    """The same with a module for each part of a step, called at every step."""

    class Recurrence(nn.Module):
        def forward(self, x: Tensor, rotation: Tensor) -> Tensor:
            return x.matmul(rotation)

    class Nonlinearity(nn.Module):
        def forward(self, z: Tensor, b: Tensor) -> Tensor:
            return mod_relu(z, b)

    class Drive(nn.Module):
        def forward(self, u: Tensor, w: Tensor) -> Tensor:
            return F.linear(u, w)

    def __init__(self, cell: Orthogonal) -> None:
        super().__init__(cell, BlockExponential.apply)
        self.drive, self.recurrence, self.nonlinearity = self.Drive(), self.Recurrence(), self.Nonlinearity()

    def forward(self, us: Tensor, x: Tensor) -> Tensor:
        gc.collect()
        rotation, xs = self.matrix(), []
        for u in us.unbind():
            x = self.nonlinearity(self.drive(u, self.W) + self.recurrence(x, rotation), self.b)
            xs.append(x)
        return torch.stack(xs)


def pade(a: Tensor) -> Tensor:
    """Degree 7, scaled by the sum of the entries of the sixth and the eighth power."""
    a2 = a @ a
    a4 = a2 @ a2
    a6, eye = a4 @ a2, torch.eye(len(a), dtype=a.dtype)
    norm = max(float(power.abs().sum()) ** (1 / k) for power, k in ((a6, 6), (a6 @ a2, 8)))
    squarings = max(0, math.ceil(math.log2(norm / 3.925724846433284)))
    a, a2, a4, a6 = (p * 2.0 ** (-squarings * k) for p, k in ((a, 1), (a2, 2), (a4, 4), (a6, 6)))
    odd = a @ (a6 + 1512 * a4 + 277200 * a2 + 8648640 * eye)
    even = 56 * a6 + 25200 * a4 + 1995840 * a2 + 17297280 * eye
    return torch.matrix_power(torch.linalg.solve(even - odd, even + odd), 2**squarings)


class BlockExponential(torch.autograd.Function):
    """The exponential of a skew-symmetric matrix, its derivative from one twice as large."""

    @staticmethod
    def forward(ctx, a):
        rotation = pade(a)
        ctx.save_for_backward(a, rotation)
        return rotation

    @staticmethod
    def backward(ctx, grad):
        a, rotation = ctx.saved_tensors
        n, turn = len(a), rotation.mT @ grad
        block = torch.block_diag(-a, -a)
        block[:n, n:] = (turn - turn.mT) / 2
        out = rotation @ pade(block)[:n, n:]
        return (out - out.mT) / 2


class Ours(nn.Module):
    def __init__(self, cell: Orthogonal) -> None:
        super().__init__()
        self.model = RecurrentModel(cell.input_size, 1, lambda input_size: cell)

    def forward(self, us: Tensor, x: Tensor) -> Tensor:
        return self.model.cell.scan(us, x)[0]


def contestants() -> dict[str, Callable[[Orthogonal], nn.Module]]:
    found: dict[str, Callable[[Orthogonal], nn.Module]] = {"rnnlab": Ours, "torch.matrix_exp": Loop}
    for name in ("matrix_exp", "cayley", "householder"):
        parametrise = partial(orthogonal, orthogonal_map=name)
        found[f"orthogonal, {name}"] = partial(Loop, parametrise=parametrise)
    if importlib.util.find_spec("geotorch") is None:
        print("geotorch is not installed: left out")
    else:
        geotorch = importlib.import_module("geotorch")
        found["geotorch"] = partial(Loop, parametrise=partial(geotorch.orthogonal, tensor_name="weight"))
    return found | {"step by step": StepByStep}


def training(network: nn.Module, hidden: int, batch: int) -> Callable[[], float]:
    """A training step, which gives its processor time."""
    readout = nn.Linear(hidden, 1)
    parameters = [*network.parameters(), *readout.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=1e-4)
    omega = torch.linspace(torch.pi / 16, torch.pi / 8, SEQUENCES)[:: SEQUENCES // batch]
    us = omega.expand(LENGTH, -1)[..., None].contiguous()
    targets = torch.sin(torch.arange(1, LENGTH + 1)[:, None] * omega)[..., None]
    x0 = torch.zeros(batch, hidden)

    def step() -> float:
        began = time.process_time()
        loss = (readout(network(us, x0)) - targets).square().sum()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 0.25)
        optimizer.step()
        if isinstance(network, Ours):
            network.model.constrain()
        return time.process_time() - began

    return step


def products(hidden: int, batch: int) -> Callable[[], tuple[float, float]]:
    """Processor time of the products at every step, and of the one at the end."""
    matrix, xs = torch.randn(hidden, hidden), torch.randn(LENGTH, batch, hidden)
    out, deltas = torch.zeros_like(xs), torch.randn(LENGTH * batch, hidden)

    def measure() -> tuple[float, float]:
        began = time.process_time()
        for right in (matrix, matrix.mT):
            for x, z in zip(xs.unbind(), out.unbind(), strict=True):
                torch.mm(x, right, out=z)
        middle = time.process_time()
        xs.flatten(0, 1).mT @ deltas
        return middle - began, time.process_time() - middle

    return measure


def largest_difference(hidden: int) -> float:
    """Of the gradients of ours and of the loop with `torch.matrix_exp`, float64, 100 steps, relative."""
    cell = Orthogonal(1, hidden).double()
    # the backward pass of torch.matrix_exp rounds the worse the larger the gradient that comes in
    weight = 1e-4 * torch.randn(100, 4, hidden, dtype=torch.float64)
    us, x0 = torch.randn(100, 4, 1, dtype=torch.float64), torch.zeros(4, hidden, dtype=torch.float64)
    gradients = []
    for network, run in ((cell, lambda: cell.scan(us, x0)[0]), (loop := Loop(cell), lambda: loop(us, x0))):
        gradients.append(torch.autograd.grad((weight * run()).sum(), [network.A, network.W, network.b]))
    pairs = zip(*gradients, strict=True)
    return max(float((ours - theirs).abs().max() / theirs.abs().max()) for ours, theirs in pairs)


def rounding(exponential: Callable[[Tensor], Tensor], hidden: int, size: float) -> float:
    """Relative error of the gradient by a skew matrix in float32, where entries of `size` come in."""
    generator = torch.Generator().manual_seed(0)
    a, weight = (torch.randn(hidden, hidden, generator=generator, dtype=torch.float64) for _ in range(2))
    a = a * (3 / torch.linalg.matrix_norm(skew(a), 2))

    def gradient(function: Callable[[Tensor], Tensor], dtype: torch.dtype) -> Tensor:
        leaf = a.to(dtype).requires_grad_()
        return torch.autograd.grad(function(skew(leaf)), leaf, (size * weight).to(dtype))[0].double()

    exact = gradient(expm_skew, torch.float64)
    return float((gradient(exponential, torch.float32) - exact).abs().max() / exact.abs().max())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--batches", type=int, nargs="+", default=[100, 10])
    parser.add_argument("--hidden", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    torch.manual_seed(0)
    entrants = contestants()
    print(f"gradients, float64: ours and those of the loop differ by {largest_difference(args.hidden):.0e}")
    print("gradient of the exponential, float32, where entries of size 1 and 100 come in, relative error:")
    exponentials = {"ours": expm_skew, "torch's": torch.matrix_exp, "step by step": BlockExponential.apply}
    for name, exponential in exponentials.items():
        errors = (rounding(exponential, args.hidden, size) for size in (1.0, 100.0))
        print(f"    {name:14}" + " ".join(f"{error:8.0e}" for error in errors))
    for batch in args.batches:
        cell = Orthogonal(1, args.hidden)
        floor = products(args.hidden, batch)
        steps = {name: training(make(cell), args.hidden, batch) for name, make in entrants.items()}
        for step in (floor, *steps.values()):
            step()  # a warm-up
        turns, floors = {name: [] for name in steps}, []
        for _ in range(args.rounds):
            for name, step in steps.items():
                turns[name].append(step())
            floors.append(floor())
        at_steps, at_end = (statistics.median(part) for part in zip(*floors, strict=True))
        work, updates = 2 * args.hidden**2 * LENGTH * batch / 1e9, SEQUENCES // batch
        print(
            f"\nbatch {batch}, {args.hidden} units, {LENGTH} steps, float32; products: {3 * work:.2f} GFLOP "
            f"at {2 * work / at_steps:.0f} GFLOP/s step by step, {work / at_end:.0f} at the end"
        )
        print(f"{'':26}{'ms a step':>10}{'s an epoch':>12}{'times ours':>12}{'':10}{'times floor':>12}")
        for name, seconds in [*turns.items(), ("floor", [sum(pair) for pair in floors])]:
            ratios = [a / b for a, b in zip(seconds, turns["rnnlab"], strict=True)]
            low, middle, high = statistics.quantiles(ratios, n=4)
            over = statistics.median(a / sum(b) for a, b in zip(seconds, floors, strict=True))
            median = statistics.median(seconds)
            print(
                f"{name:26}{1e3 * median:10.1f}{updates * median:12.3f}{middle:12.2f}"
                f"  {f'({low:.2f}-{high:.2f})':12}{over:8.2f}"
            )


if __name__ == "__main__":
    main()
