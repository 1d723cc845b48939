"""Time of one training epoch on the sine task, cell by cell, beside plain PyTorch loops.

    python benchmarks/train_step.py [--batch 100] [--hidden 200] [--rounds 7]

Every contestant has a process of its own, with one thread, that waits for its turn; turns go round, so that
a machine that slows down slows all of them. The rnnlab rows are whole epochs as `train.py` runs them:
Lightning, metrics.csv, checkpoints. Medians are printed, with the floating-point operations an epoch needs
and the time they would take at this machine's rate for large products.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

LENGTH, SEQUENCES = 400, 100
OURS = ("elman", "gru", "gru-after", "lstm", "slstm", "ornn")
PLAIN = ("nn.RNN", "nn.GRU", "nn.LSTM", "orthogonal loop")
# reads the parametrised matrix anew at every step, as a naive loop does: minutes an epoch at batch 10
SLOW = ("orthogonal layer loop",)
# recurrent products a step: forward one, backward two (states and weights)
GATES = {"elman": 1, "nn.RNN": 1, "ornn": 1, "orthogonal loop": 1, "orthogonal layer loop": 1}
GATES |= {"gru": 3, "gru-after": 3, "nn.GRU": 3, "lstm": 4, "slstm": 4, "nn.LSTM": 4}


def wait_for_turn(since: float | None) -> float:
    """Report the time since the last turn began, wait for the next, and say when it began."""
    if since is not None:
        print(time.perf_counter() - since, flush=True)
    if not sys.stdin.readline().strip():
        sys.exit(0)
    return time.perf_counter()


def run_ours(name: str, batch: int, hidden: int) -> None:
    import pytorch_lightning as pl
    import torch

    from callbacks import Checkpoints
    from datamodules import Sine
    from rnnlab.cells import GRU, LSTM, Elman, Orthogonal, StableLSTM
    from rnnlab.checkpoints import AtomicCheckpointIO
    from rnnlab.learner import SequenceLearner
    from rnnlab.loggers import MetricsCSV
    from rnnlab.memory import keep_freed_memory
    from rnnlab.model import RecurrentModel
    from rnnlab.objectives import MeanSquaredError

    keep_freed_memory()
    cells = {"elman": Elman, "gru": GRU, "lstm": LSTM, "slstm": StableLSTM, "ornn": Orthogonal}
    cells["gru-after"] = partial(GRU, reset="after")

    class Turns(pl.Callback):
        began: float | None = None

        def on_train_epoch_start(self, *_):
            self.began = wait_for_turn(self.began)

    torch.manual_seed(1)
    task = Sine(batch_size=batch, objective=MeanSquaredError(reduction="sum"))
    model = RecurrentModel(1, 1, partial(cells[name], hidden_size=hidden), input_bound=task.input_bound)
    learner = SequenceLearner(
        model, task.objective, optimizer=partial(torch.optim.Adam, lr=1e-3), clip_norm=0.25
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            accelerator="cpu",
            max_epochs=-1,
            logger=[MetricsCSV(folder)],
            callbacks=[Turns(), Checkpoints(folder)],
            plugins=[AtomicCheckpointIO()],
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=1,
        )
        trainer.fit(learner, datamodule=task)


class OrthogonalLoop:
    """torch's own orthogonal parametrisation in a Python loop; read once a batch, or at every step."""

    def __init__(self, hidden: int, *, every_step: bool) -> None:
        import torch

        self.layer = torch.nn.utils.parametrizations.orthogonal(torch.nn.Linear(hidden, hidden, bias=False))
        self.inputs = torch.nn.Linear(1, hidden, bias=False)
        self.bias = torch.nn.Parameter(torch.empty(hidden).uniform_(-0.01, 0.01))
        self.every_step = every_step

    def parameters(self) -> list:
        return [*self.layer.parameters(), *self.inputs.parameters(), self.bias]

    def __call__(self, us):
        import torch

        weight = None if self.every_step else self.layer.weight
        products, outputs = self.inputs(us), []
        h = us.new_zeros(us.shape[1], self.bias.shape[0])
        for product in products:
            z = product + (self.layer(h) if weight is None else h @ weight.mT)
            h = torch.sign(z) * torch.relu(z.abs() + self.bias)
            outputs.append(h)
        return torch.stack(outputs), h


def run_plain(name: str, batch: int, hidden: int) -> None:
    import torch
    from torch import nn

    torch.manual_seed(1)
    if name.startswith("orthogonal"):
        network = OrthogonalLoop(hidden, every_step="layer" in name)
    else:
        network = getattr(nn, name.removeprefix("nn."))(1, hidden)
    readout = nn.Linear(hidden, 1)
    parameters = [*network.parameters(), *readout.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=1e-3)
    omega = torch.linspace(torch.pi / 16, torch.pi / 8, SEQUENCES)
    inputs = omega.expand(LENGTH, -1)[..., None].contiguous()
    targets = torch.sin(torch.arange(1, LENGTH + 1)[:, None] * omega)[..., None]
    began = None
    while True:
        began = wait_for_turn(began)
        for us, ys in zip(inputs.split(batch, dim=1), targets.split(batch, dim=1), strict=True):
            loss = (readout(network(us)[0]) - ys).square().sum()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 0.25)
            optimizer.step()


def flops(name: str, hidden: int) -> float:
    return 3 * 2.0 * GATES[name] * hidden * (hidden + 1) * LENGTH * SEQUENCES


def gemm_rate(rows: int, inner: int, columns: int) -> float:
    """Floating-point operations a second of a float32 product on one thread, best of many."""
    import torch

    torch.set_num_threads(1)
    a, b = torch.randn(rows, inner), torch.randn(inner, columns)
    repeats = max(1, int(2e8 / (rows * inner * columns)))
    best = float("inf")
    for _ in range(15):
        began = time.perf_counter()
        for _ in range(repeats):
            a @ b
        best = min(best, (time.perf_counter() - began) / repeats)
    return 2.0 * rows * inner * columns / best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--hidden", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--only", nargs="*", default=[*OURS, *PLAIN], help=f"contestants, by name; also {SLOW[0]}"
    )
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        import torch

        torch.set_num_threads(1)
        run = run_ours if options.worker in OURS else run_plain
        run(options.worker, options.batch, options.hidden)
        return

    def start(name: str) -> subprocess.Popen:
        size = ["--batch", str(options.batch), "--hidden", str(options.hidden)]
        command = [sys.executable, __file__, *size, "--worker", name]
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            bufsize=1,
            cwd=Path(__file__).parents[1],
        )

    workers = {name: start(name) for name in options.only}
    times: dict[str, list[float]] = {name: [] for name in workers}
    for turn in range(options.rounds + 1):
        for name, worker in workers.items():
            worker.stdin.write("go\n")
            # Lightning checks the end of an epoch at the start of the next
            line = worker.stdout.readline()
            while line and not line[0].isdigit():
                line = worker.stdout.readline()
            if turn:  # the first is a warm-up
                times[name].append(float(line))
    for worker in workers.values():
        worker.kill()
    large, small = gemm_rate(1024, 1024, 1024), gemm_rate(options.batch, options.hidden, 4 * options.hidden)
    print(
        f"one epoch: {SEQUENCES} x {LENGTH}, "
        f"batch {options.batch}, hidden {options.hidden}, float32, 1 thread"
    )
    print(f"products: {large / 1e9:.0f} GFLOP/s large, {small / 1e9:.0f} at the LSTM's own size")
    print(f"{'':22}{'median s':>9}{'min':>8}{'max':>8}{'GFLOP':>8}{'floor s':>9}{'x floor':>9}")
    for name, measured in times.items():
        median, floor = statistics.median(measured), flops(name, options.hidden) / large
        print(
            f"{name:22}{median:9.3f}{min(measured):8.3f}{max(measured):8.3f}"
            f"{flops(name, options.hidden) / 1e9:8.1f}{floor:9.3f}{median / floor:9.2f}"
        )
    pairs = (("lstm", "nn.LSTM"), ("slstm", "nn.LSTM"), ("gru", "nn.GRU"), ("gru-after", "nn.GRU"))
    pairs += (("elman", "nn.RNN"), ("ornn", "orthogonal loop"), ("ornn", "orthogonal layer loop"))
    for ours, theirs in pairs:
        if ours in times and theirs in times:
            ratios = [a / b for a, b in zip(times[ours], times[theirs], strict=True)]
            print(
                f"{ours} / {theirs}: {statistics.median(ratios):.2f}"
                f"  ({min(ratios):.2f} to {max(ratios):.2f})"
            )


if __name__ == "__main__":
    main()
