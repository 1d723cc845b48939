"""A training step of the language model beside a plain loop: words a second, peak memory, floor.

    OMP_NUM_THREADS=2 python benchmarks/language_model.py --threads 2 --hidden 800 --batch 100 --steps 80
    python benchmarks/language_model.py --hidden 200 --batch 20 --steps 35 --cells lstm slstm ornn gru

A step is what training repeats: forward over a batch of random words, with the state carried from the batch
before, cross entropy, backward, clipping, Adam. Ours is `RecurrentModel` with dropout and embedding tied to
the readout, `TokenCrossEntropy` and fused Adam, in a process that keeps freed memory. The plain loop is
nn.Embedding, nn.LSTM, a tied nn.Linear, F.cross_entropy, clip_grad_norm_ and torch.optim.Adam as they come.
The tuned loop keeps freed memory, multiplies by oneDNN where that stays float32 (`rnnlab.products`) and fuses
Adam too, so that what remains is the chunked softmax.

Every contestant has a process of its own, so that peaks of memory don't mix, and waits for its turn; ratios
are taken turn by turn. The floor is the number of floating-point operations of the products over the rate of
a 1024 x 1024 product, by MKL or oneDNN, whichever is faster. `--precision` is that of ours; the loops stay
with float32.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rnnlab.cells import GRU, LSTM, Orthogonal, StableLSTM
from rnnlab.memory import keep_freed_memory
from rnnlab.model import RecurrentModel
from rnnlab.objectives import TokenCrossEntropy
from rnnlab.products import onednn_products

CELLS: dict[str, Callable[..., Any]] = {"lstm": LSTM, "slstm": StableLSTM, "ornn": Orthogonal, "gru": GRU}
PLAIN = ("plain loop", "tuned loop")
MATRICES = {"lstm": 4, "slstm": 4, "gru": 3, "ornn": 1}  # of the recurrence


class PlainModel(nn.Module):
    """The same network from the modules of torch."""

    def __init__(self, vocabulary: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, hidden)
        self.lstm = nn.LSTM(hidden, hidden)
        self.readout = nn.Linear(hidden, vocabulary)
        self.dropout = nn.Dropout(dropout)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        nn.init.zeros_(self.readout.bias)
        self.readout.weight = self.embedding.weight

    def forward(self, words: Tensor, state: tuple[Tensor, Tensor] | None):
        outputs, state = self.lstm(self.dropout(self.embedding(words)), state)
        return self.readout(self.dropout(outputs)), state


def plain_loss(model: PlainModel, words: Tensor, targets: Tensor, state: Any) -> tuple[Tensor, Any]:
    logits, (h, c) = model(words, state)
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten()), (h.detach(), c.detach())


def our_loss(model: RecurrentModel, words: Tensor, targets: Tensor, x0: Any) -> tuple[Tensor, Any]:
    outputs, x = model.unread(words, x0)
    return TokenCrossEntropy()(outputs, targets)["loss"], x.detach()


def our_model(cell: str, vocabulary: int, hidden: int, dropout: float = 0.5) -> RecurrentModel:
    make = partial(CELLS[cell], hidden_size=hidden)
    return RecurrentModel(vocabulary, vocabulary, make, symbols=True, dropout=dropout, tied=True)


def wait_for_turn() -> None:
    if not sys.stdin.readline().strip():
        sys.exit(0)


def synchronise(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def peak(device: str) -> float:
    """Peak memory so far in MB: of the process, or of the tensors on a GPU."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 1e6
    # kilobytes on Linux, bytes on macOS
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1e-6 if sys.platform == "darwin" else 1e-3)


def work(name: str, options: argparse.Namespace) -> None:
    """A contestant: one training step each turn; says how long it took, in wall and processor time."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    ours, device = name in CELLS, options.device
    if name != "plain loop":
        keep_freed_memory()
    make = partial(our_model, name) if ours else PlainModel
    with torch.device(device):
        model = make(options.vocabulary, options.hidden, dropout=0.5)
        words, targets = torch.randint(options.vocabulary, (2, options.steps, options.batch))
    loss_of: Callable[..., tuple[Tensor, Any]] = our_loss if ours else plain_loss
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True if name != "plain loop" else None)
    if ours and options.precision == "tf32":
        torch.backends.cuda.matmul.allow_tf32 = True
    half = ours and options.precision == "bf16-mixed"
    precision = torch.autocast(device, torch.bfloat16, enabled=half)
    products = onednn_products() if name == "tuned loop" else contextlib.nullcontext()
    state, before = None, peak(device)
    with products:
        while True:
            wait_for_turn()
            synchronise(device)
            wall, processor = time.perf_counter(), time.process_time()
            with precision:
                loss, state = loss_of(model, words, targets, state)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.25)
            optimizer.step()
            if isinstance(model, RecurrentModel):
                model.constrain()
            synchronise(device)
            times = time.perf_counter() - wall, time.process_time() - processor
            print(*times, before, peak(device), loss.item(), flush=True)


def difference(vocabulary: int, hidden: int) -> str:
    """Of the loss and the gradients of ours and of the plain loop, with the same weights and no dropout."""
    torch.manual_seed(0)
    ours, plain = our_model("lstm", vocabulary, hidden, dropout=0.0), PlainModel(vocabulary, hidden, 0.0)
    pairs = [(ours.readout.weight, plain.readout.weight), (ours.readout.bias, plain.readout.bias)]
    pairs += [(p, getattr(plain.lstm, f"{n}_l0")) for n, p in ours.cell.named_parameters()]
    for own, other in pairs:
        other.data.copy_(own.data)
    words, targets = torch.randint(vocabulary, (2, 20, 4))
    a, b = (loss(m, words, targets, None)[0] for loss, m in ((our_loss, ours), (plain_loss, plain)))
    (a + b).backward()
    worst = max(float((p.grad - q.grad).abs().max() / q.grad.abs().max()) for p, q in pairs)
    return f"losses {a.item():.6f} and {b.item():.6f}; gradients differ by {worst:.0e} of the largest entry"


def rate(device: str, *, half: bool = False) -> float:
    """Floating-point operations a second of a large product, best of many."""
    a = torch.randn(1024, 1024, device=device, dtype=torch.bfloat16 if half else torch.float32)
    best = math.inf
    for _ in range(15):
        synchronise(device)
        began = time.perf_counter()
        for _ in range(4):
            a @ a
        synchronise(device)
        best = min(best, (time.perf_counter() - began) / 4)
    return 2 * 1024**3 / best


def flops(name: str, options: argparse.Namespace) -> float:
    """Of the products of a step: softmax, recurrence and its inputs, forward once and backward twice."""
    matrices = MATRICES.get(name, 4) * 2 * options.hidden**2
    return 6.0 * options.batch * options.steps * (options.vocabulary * options.hidden + matrices)


def quartiles(values: Iterable[float]) -> str:
    values = sorted(values)
    if len(values) < 2:
        return f"{values[0]:.2f}"
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--hidden", type=int, default=200)
    parser.add_argument("--batch", type=int, default=20)
    parser.add_argument("--steps", type=int, default=35)
    parser.add_argument("--vocabulary", type=int, default=33278)
    parser.add_argument("--cells", nargs="*", choices=CELLS, default=["lstm"])
    parser.add_argument("--loops", nargs="*", choices=PLAIN, default=list(PLAIN))
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", choices=["32", "tf32", "bf16-mixed"], default="32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.precision == "tf32" and options.device == "cpu":
        parser.error("--precision tf32 is not possible on a CPU: choose 32 or bf16-mixed.")
    return options


def main() -> None:
    options = parse()
    if options.worker:
        work(options.worker, options)
    command = [sys.executable, __file__, *sys.argv[1:], "--worker"]
    workers = {
        name: subprocess.Popen(
            [*command, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            cwd=Path(__file__).parents[1],
        )
        for name in [*options.cells, *options.loops]
    }
    turns: dict[str, list[list[float]]] = {name: [] for name in workers}
    for turn in range(options.rounds + 1):
        for name, worker in workers.items():
            assert worker.stdin is not None
            assert worker.stdout is not None
            worker.stdin.write("go\n")
            line = worker.stdout.readline()
            if not line:
                sys.exit(f"{name} has failed.")
            if turn:  # the first is a warm-up
                turns[name].append([float(number) for number in line.split()])
    for worker in workers.values():
        worker.kill()

    torch.set_num_threads(options.threads)
    words = options.batch * options.steps
    print(
        f"{options.batch} columns x {options.steps} steps, {options.hidden} units, "
        f"{options.vocabulary} words, {options.device}, {options.threads} threads, {options.precision}"
    )
    print(difference(options.vocabulary, options.hidden))
    rates = {"float32": rate(options.device), "bfloat16": rate(options.device, half=True)}
    if options.device == "cpu":
        with onednn_products() as on:
            rates |= {"float32 by oneDNN": rate("cpu")} if on else {}
    print("products: " + ", ".join(f"{r / 1e9:.0f} GFLOP/s {name}" for name, r in rates.items()))
    fastest = max(r for name, r in rates.items() if name != "bfloat16")
    print(
        f"{'':12}{'s a step':>9}{'words/s':>9}{'times float32 floor':>21}{'peak MB':>9}{'to train MB':>13}"
        + "".join(f"{f'times {name}':>24}" for name in options.loops)
    )
    for name, rows in turns.items():
        median = statistics.median(row[0] for row in rows)
        over = median * fastest / flops(name, options)
        _, _, before, most, _ = rows[-1]
        line = f"{name:12}{median:9.3f}{words / median:9.0f}{over:21.2f}{most:9.0f}{most - before:13.0f}"
        for loop in options.loops:
            ratios = (a[0] / b[0] for a, b in zip(rows, turns[loop], strict=True))
            line += f"{quartiles(ratios):>24}"
        print(line)
    if options.device == "cpu" and options.threads == 1:
        for loop in options.loops:
            for name in options.cells:
                ratios = (a[1] / b[1] for a, b in zip(turns[name], turns[loop], strict=True))
                print(f"processor time, {name} / {loop}: {quartiles(ratios)}")


if __name__ == "__main__":
    main()
