"""How evenly processes share out a look, callback by callback.

    OMP_NUM_THREADS=1 python benchmarks/ranks.py [--task sine|fitzhugh_nagumo] [--hidden 200] [--ranks 1 2]
        [--only bifurcation lyapunov]

One look at an LSTM with random weights, at the callbacks' own numbers of samples and steps. `cpu s` is the
time that each process had a core, without waiting for others: where cores are free, the largest is how long
a look takes.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist

import callbacks
from datamodules import FitzHughNagumo, Sine
from rnnlab.cells import LSTM
from rnnlab.model import RecurrentModel

TASKS = {"sine": Sine, "fitzhugh_nagumo": FitzHughNagumo}
LOOKS = {
    "attractors": callbacks.Attractors,
    "bifurcation": callbacks.Bifurcation,
    "contraction": callbacks.Contraction,
    "fixed_points": callbacks.FixedPoints,
    "gradient_flow": callbacks.GradientFlow,
    "lyapunov": callbacks.Lyapunov,
    "phase_portrait": callbacks.PhasePortrait,
    "smoothness": callbacks.Smoothness,
}


def look(rank: int, size: int, name: str, options: argparse.Namespace, folder: Path, seconds: Any) -> None:
    """One process: its part of a look, in seconds of the processor."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=size)
    task = TASKS[options.task]()
    torch.manual_seed(1)
    model = RecurrentModel(
        task.input_size,
        task.output_size,
        partial(LSTM, hidden_size=options.hidden),
        input_bound=task.input_bound,
    )
    callback = LOOKS[name](draw=None)
    module: Any = SimpleNamespace(model=model, device=torch.device("cpu"), objective=task.objective)
    trainer: Any = SimpleNamespace(
        default_root_dir=folder,
        datamodule=task,
        is_global_zero=not rank,
        current_epoch=0,
        max_epochs=1,
        loggers=[],
    )
    callback.setup(trainer, module, "fit")
    callback.on_train_start(trainer, module)  # once, so that all is loaded
    started = time.process_time()
    callback.look(trainer, module, 1)
    seconds[rank] = time.process_time() - started
    dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--task", choices=TASKS, default="sine")
    parser.add_argument("--hidden", type=int, default=200)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--only", nargs="+", choices=LOOKS, default=list(LOOKS))
    options = parser.parse_args()
    print(f"{options.task}, LSTM of {options.hidden} units")
    print(f"{'':16}{'processes':>10}{'largest / one':>15}  cpu s")
    fork: Any = multiprocessing.get_context("fork")
    for name in options.only:
        alone = None
        for size in options.ranks:
            with tempfile.TemporaryDirectory() as folder:
                seconds = fork.Array("d", size)
                ranks = [
                    fork.Process(target=look, args=(rank, size, name, options, Path(folder), seconds))
                    for rank in range(size)
                ]
                for process in ranks:
                    process.start()
                for process in ranks:
                    process.join()
            alone = max(seconds) if alone is None else alone
            each = ", ".join(f"{second:.2f}" for second in seconds)
            print(f"{name:16}{size:>10}{max(seconds) / alone:>15.2f}  {each}", flush=True)


if __name__ == "__main__":
    main()
