"""Seeds trained per second: an ensemble beside separate runs, in one process and on one thread.

    python benchmarks/ensemble.py [--cell gru] [--hidden 2] [--members 1 8 32 64] [--rounds 5] [--lightning]
                                  [--processes 2] [--train 400]

The task is FitzHugh-Nagumo's: 667 series of 29 steps, one batch an epoch, Adam and clipping. A row is an
epoch of M members: loss, gradients, clipping, update, constraints. "alone" is the same for one model in a
plain loop with the cell's own fast scan, measured in turns with the ensemble; "ratio" is M times its
processor time over that of the ensemble. With `--lightning` both are timed as learners under a trainer
without logger and checkpoints, too, which is nearer to what separate runs of `train.py` cost.

`--processes N` adds the rival on all cores: N processes of one thread, each with the same plain loop for one
model, started and warm before the clock runs, work off M epochs between them; "ratio" is their wall time over
that of the ensemble, which has one core. `--train E` lets `train.py` itself do both, M runs of E epochs, N at
a time, and one of `ensemble=M`, from the command to the last file, without callbacks, loggers and drawing.

The floor is the larger of two: the operations in arithmetic (products, with the sigmoids at this machine's
own rate) and the memory traffic of all that is kept between the way there and back, written and read once.
What goes beyond it: each of some thirty operations a step passes its data through the cache by itself.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from datamodules import FitzHughNagumo
from rnnlab.cells import GRU, LSTM, Elman, Orthogonal, StableLSTM
from rnnlab.cli import quiet
from rnnlab.ensemble import Ensemble, EnsembleLearner
from rnnlab.learner import SequenceLearner
from rnnlab.memory import keep_freed_memory
from rnnlab.model import RecurrentModel

# the cell, its arguments of sigmoid or tanh for each unit, and tensors kept for each unit and step
CELLS = {
    "gru": (GRU, 3, 4),
    "gru-after": (partial(GRU, reset="after"), 3, 5),
    "elman": (Elman, 1, 1),
    "lstm": (LSTM, 5, 6),
    "slstm": (StableLSTM, 5, 6),
    "ornn": (Orthogonal, 1, 1),
}


def milliseconds(work: Callable[[], object], calls: int) -> tuple[float, float]:
    """Processor and wall time of one call."""
    processor, wall = time.process_time(), time.perf_counter()
    for _ in range(calls):
        work()
    return (time.process_time() - processor) / calls * 1e3, (time.perf_counter() - wall) / calls * 1e3


def plain_loop(cell: str, hidden: int, task: FitzHughNagumo) -> Callable[[], None]:
    """One epoch of one model, with the cell's own fast scan."""
    inputs, targets = task.sequences()
    model = RecurrentModel(inputs.shape[-1], inputs.shape[-1], partial(CELLS[cell][0], hidden_size=hidden))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)

    def epoch() -> None:
        loss = task.objective(model(inputs)[0], targets)["loss"]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        model.constrain()

    return epoch


_EPOCH: list[Callable[[], None]] = []  # of this process


def _start(cell: str, hidden: int) -> None:
    torch.set_num_threads(1)
    keep_freed_memory()
    _EPOCH.append(plain_loop(cell, hidden, FitzHughNagumo()))
    _work(5)


def _work(epochs: int) -> None:
    for _ in range(epochs):
        _EPOCH[0]()


class Processes:
    """So many processes of one thread, each with one model."""

    def __init__(self, count: int, cell: str, hidden: int) -> None:
        self.pool = get_context("spawn").Pool(count, _start, (cell, hidden))
        self.pool.map(_work, [1] * 8 * count, chunksize=1)

    def milliseconds(self, members: int, epochs: int = 10) -> float:
        """Wall time of an epoch of so many members, each in turns of some epochs."""
        started = time.perf_counter()
        self.pool.map(_work, [epochs] * members, chunksize=1)
        return (time.perf_counter() - started) / epochs * 1e3


def train(arguments: Iterable[Iterable[str]], at_once: int) -> float:
    """Wall time of runs of `train.py`, so many at a time."""
    script = Path(__file__).parents[1] / "train.py"
    waiting, running = list(arguments), []
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        while waiting or running:
            if waiting and len(running) < at_once:
                run_dir = f"run_dir={folder}/{len(waiting)}"
                command = [sys.executable, str(script), *waiting.pop(), run_dir]
                single = {**os.environ, "OMP_NUM_THREADS": "1"}
                running.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, env=single))
                continue
            time.sleep(0.01)
            if any(process.poll() for process in running):
                raise SystemExit("a run of train.py failed; see above")
            running = [process for process in running if process.poll() is None]
        return time.perf_counter() - started


def lightning(learner: pl.LightningModule, task: FitzHughNagumo, epochs: int = 60) -> tuple[float, float]:
    """Processor and wall time of an epoch under a bare trainer, once it is warm."""
    marks = []

    class Clock(pl.Callback):
        def on_train_epoch_end(self, *_: object) -> None:
            marks.append((time.process_time(), time.perf_counter()))

    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    options |= {"enable_model_summary": False, "check_val_every_n_epoch": epochs}
    pl.Trainer(accelerator="cpu", max_epochs=epochs, callbacks=[Clock()], **options).fit(learner, task)
    gaps = [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(marks[5:-1])]
    return tuple(1e3 * statistics.median(part) for part in zip(*gaps, strict=True))


def machine() -> tuple[float, float, float]:
    """Products in GFLOPS, sigmoids in nanoseconds, memory traffic in GB/s, of one thread in float32."""
    square, many = torch.randn(1000, 1000), torch.randn(32, 2, 667)
    big, out = torch.ones(5_000_000), torch.empty(5_000_000)
    product = min(milliseconds(lambda: square @ square, 3)[0] for _ in range(3))
    sigmoid = min(milliseconds(lambda: torch.sigmoid(many, out=many), 100)[0] for _ in range(3))
    copy = min(milliseconds(lambda: torch.mul(big, 2.0, out=out), 3)[0] for _ in range(3))
    return 2e3 / product, sigmoid * 1e6 / many.numel(), 2 * 4 * 5e6 / copy / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cell", choices=CELLS, default="gru")
    parser.add_argument("--hidden", type=int, default=2)
    parser.add_argument("--members", type=int, nargs="+", default=[1, 8, 32, 64])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--lightning", action="store_true")
    parser.add_argument("--processes", type=int, help="so many side by side, beside the ensemble")
    parser.add_argument("--train", type=int, metavar="EPOCHS", help="with train.py itself, too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    task = FitzHughNagumo()
    inputs, targets = task.sequences()
    time_steps, batch, size = inputs.shape
    kind, arguments, kept = CELLS[options.cell]
    n = options.hidden

    def make() -> RecurrentModel:
        return RecurrentModel(size, size, partial(kind, hidden_size=n))

    alone = plain_loop(options.cell, n, task)
    gflops, sigmoid, bandwidth = machine()
    print(f"{options.cell}, {n} units, {batch} series of {time_steps} steps, float32, 1 thread")
    print(
        f"machine: products {gflops:.0f} GFLOPS, a sigmoid {sigmoid:.2f} ns, memory {bandwidth:.0f} GB/s; ms:"
    )
    run: dict[str, Any] = {"optimizer": partial(torch.optim.Adam, lr=1e-2), "clip_norm": 1.0}
    trained = None
    if options.lightning:
        quiet()
        trained = lightning(SequenceLearner(make(), task.objective, **run), task)
        print(f"one run under Lightning: processor {trained[0]:.2f}, wall {trained[1]:.2f} an epoch")
    rivals = Processes(options.processes, options.cell, n) if options.processes else None
    print(
        f"{'members':>8}{'cpu':>9}{'wall':>9}{'alone cpu':>11}{'wall':>9}{'ratio':>7}"
        f"{'seeds/s of 4000 epochs':>24}{'MFLOP':>8}{'MB kept':>9}{'floor':>8}{'over floor':>12}"
        + ("    Lightning cpu     wall  ratio" if trained else "")
        + (f"    {options.processes} processes wall  ratio" if rivals else "")
    )
    for members in options.members:
        ensemble = Ensemble.from_seeds(make, range(members))
        stacked_optimizer = torch.optim.Adam(ensemble.parameters(), lr=1e-2)

        def together(ensemble=ensemble, optimizer=stacked_optimizer) -> None:
            losses = ensemble.evaluate(task.objective, ensemble(inputs)[0], targets)["loss"]
            optimizer.zero_grad()
            losses.sum().backward()
            ensemble.update(optimizer, losses, 1.0)

        alone()
        together()
        ours, single = [], []
        for _ in range(options.rounds):
            single.append(milliseconds(alone, 5))
            ours.append(milliseconds(together, 2))
        (cpu, wall), (one, one_wall) = (
            [statistics.median(part) for part in zip(*times, strict=True)] for times in (ours, single)
        )
        units = members * time_steps * batch * n
        rows = {"gru": 3, "gru-after": 3, "lstm": 4, "slstm": 4}.get(options.cell, 1)
        # there, back to the states, back to the weights; recurrent matrix and readout
        flop = 3 * 2 * units * (rows * n + size)
        kept_bytes = 4 * units * (kept + size / n)
        arithmetic = flop / gflops / 1e6 + units * arguments * sigmoid / 1e6
        floor = max(arithmetic, 2 * kept_bytes / bandwidth / 1e6)
        row = (
            f"{members:8}{cpu:9.2f}{wall:9.2f}{one:11.2f}{one_wall:9.2f}{members * one / cpu:7.1f}"
            f"{members / (4 * cpu):24.3f}{flop / 1e6:8.0f}{kept_bytes / 1e6:9.1f}{floor:8.2f}"
            f"{cpu / floor:12.1f}"
        )
        if trained:
            both = lightning(EnsembleLearner(ensemble, task.objective, **run), task, epochs=30)
            row += f"{both[0]:17.2f}{both[1]:9.2f}{members * trained[0] / both[0]:7.1f}"
        if rivals:
            walls = []
            for _ in range(options.rounds):  # in turns again: a machine has moods
                walls.append((rivals.milliseconds(members), milliseconds(together, 2)[1]))
            theirs, mine = (statistics.median(part) for part in zip(*walls, strict=True))
            row += f"{theirs:20.2f}{theirs / mine:7.1f}"
        print(row, flush=True)
    if options.train:
        model = options.cell.removesuffix("-after")
        common = ["task=fitzhugh_nagumo", f"model={model}", f"model.cell.hidden_size={n}", "optim=adam"]
        common += ["callbacks=none", "logger=none", "trainer=cpu", f"trainer.max_epochs={options.train}"]
        common += ["checkpoint.every=10", "trainer.check_val_every_n_epoch=10"]
        if model == "gru":
            common.append(f"model.cell.reset={'after' if 'after' in options.cell else 'before'}")
        at_once = options.processes or 1
        for members in options.members:
            apart = train(([*common, f"seed={seed}"] for seed in range(members)), at_once)
            together_wall = train([[*common, f"ensemble={members}", "seed=0"]], 1)
            print(
                f"train.py, {members} seeds of {options.train} epochs: {apart:.1f} s as runs, {at_once} at a "
                f"time; {together_wall:.1f} s as an ensemble; ratio {apart / together_wall:.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
