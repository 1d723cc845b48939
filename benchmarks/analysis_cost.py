"""Cost of one look at the dynamics relative to one training epoch, cell by cell.

    python benchmarks/analysis_cost.py [--hidden 200] [--batch 10] [--train 20] [--rounds 5]

Each network is trained for a few epochs on the sine task, then epochs and looks alternate on one thread. A
look is what `callbacks.Bifurcation` does by default: 10 probes x 4 states of standard deviation 100, float64,
run until settled, 200 steps kept. The naive look is the paper's: 1200 steps dropped, 400 kept, in the
network's own float32.
"""

from __future__ import annotations

import argparse
import statistics
import time
from functools import partial

import torch

from callbacks.bifurcation import settled_output
from datamodules import Sine
from rnnlab.autonomous import HeldInput, freeze
from rnnlab.cells import GRU, LSTM, Elman, Orthogonal, StableLSTM
from rnnlab.memory import keep_freed_memory
from rnnlab.model import RecurrentModel

CELLS = {"elman": Elman, "gru": GRU, "lstm": LSTM, "slstm": StableLSTM, "ornn": Orthogonal}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hidden", type=int, default=200)
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--train", type=int, default=20, help="epochs before the first look")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    task = Sine(batch_size=options.batch)
    probes = task.probes().inputs[:, None]

    print(
        f"hidden {options.hidden}, batch {options.batch}, {options.train} epochs of training before, 1 thread"
    )
    print(f"{'':8}{'epoch s':>9}{'look s':>9}{'steps':>7}{'settled':>9}{'look/epoch':>12}{'naive/epoch':>13}")
    for name, cell in CELLS.items():
        torch.manual_seed(1)
        model = RecurrentModel(1, 1, partial(cell, hidden_size=options.hidden), input_bound=task.input_bound)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        states = 100 * torch.randn(4, model.state_size, dtype=torch.float64)
        states = states.expand(len(probes), -1, -1)

        def epoch(model=model, optimizer=optimizer):
            for inputs, targets in task.train_dataloader():
                loss = (model(inputs)[0] - targets).square().sum()
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 0.25)
                optimizer.step()
                model.constrain()

        def look(model=model, states=states):
            with torch.no_grad():
                return settled_output(HeldInput(freeze(model), probes), states, steps=200)

        def naive(model=model, states=states):
            with torch.no_grad():
                inputs = probes.float().expand(-1, 4, -1).reshape(1, -1, 1).expand(1600, -1, -1)
                return model(inputs, states.float().reshape(-1, model.state_size))[0][1200:]

        for _ in range(options.train):
            epoch()
        times = {"epoch": [], "look": [], "naive": []}
        for _ in range(options.rounds):
            for key, work in (("epoch", epoch), ("look", look), ("naive", naive)):
                began = time.perf_counter()
                result = work()
                times[key].append(time.perf_counter() - began)
                if key == "look":
                    seen = result
        median = {key: statistics.median(values) for key, values in times.items()}
        print(
            f"{name:8}{median['epoch']:9.3f}{median['look']:9.3f}{int(seen.burn_in.max()) + 200:7d}"
            f"{float(seen.settled.mean()):9.2f}{median['look'] / median['epoch']:12.2f}"
            f"{median['naive'] / median['epoch']:13.2f}"
        )


if __name__ == "__main__":
    main()
