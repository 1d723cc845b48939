"""A sweep of a thousand runs: how long it takes to open, and what the least is that this could take.

    python benchmarks/open_sweep.py [--runs 1000] [--rounds 3] [--keep DIR]

One small run is made by `train.py`. The others are copies of the files it left that are read here (config,
status, metrics, analyses), with parameters, seeds and numbers of their own; the ledger has a file for each.
Times are processor time, with the files in memory, as after the first reading. The floors are other ways to
touch the same files: to read all their bytes, and to parse what they hold with no more than the parsers.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import yaml

from rnnlab.runs import open_sweep
from rnnlab.traces import LOADER

TRAIN = Path(__file__).parents[1] / "train.py"
ARGUMENTS = (
    "model=lstm",
    "model.cell.hidden_size=8",
    "task.length=20",
    "task.num_sequences=20",
    "task.batch_size=10",
    "trainer=cpu",
    "trainer.max_epochs=100",
    "trainer.enable_progress_bar=false",
    "logger=none",
    "callbacks=[bifurcation,lyapunov]",
    "callbacks.bifurcation.every=10",
    "callbacks.bifurcation.steps=100",
)
MODELS, RATES, LENGTHS = ("LSTM", "GRU"), (0.001, 0.003, 0.01, 0.03, 0.1), (10, 20, 50, 100, 200)


def make_sweep(folder: Path, runs: int) -> Path:
    """Directories of `runs` runs: a grid of models, rates and lengths, as many seeds as it takes."""
    one = folder / "one"
    command = [sys.executable, str(TRAIN), *ARGUMENTS, f"run_dir={one}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    config = yaml.load((one / "config.yaml").read_text(), Loader=LOADER)
    status = json.loads((one / "status.json").read_text())
    head, *rows = csv.reader((one / "metrics.csv").read_text().splitlines())
    loss = head.index("train/loss")
    sweep = folder / "sweep"
    (sweep / "jobs").mkdir(parents=True)
    seeds = range(1, 1 + -(-runs // (len(MODELS) * len(RATES) * len(LENGTHS))))
    jobs = list(itertools.product(seeds, MODELS, RATES, LENGTHS))[:runs]
    for job, (seed, model, rate, length) in enumerate(jobs):
        run = sweep / f"{model.lower()}_sine_seed{seed}_{job:08x}"
        shutil.copytree(one / "analysis.zarr", run / "analysis.zarr")
        config["model"]["cell"]["_target_"] = f"rnnlab.cells.{model}"
        config["optim"]["optimizer"]["lr"] = rate
        config["task"] |= {"length": length, "seed": seed}
        config |= {"seed": seed, "run_dir": str(run)}
        (run / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        factor = 1 + job / runs
        lines = [
            [repr(factor * float(v)) if i == loss and v else v for i, v in enumerate(row)] for row in rows
        ]
        with (run / "metrics.csv").open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([head, *lines])
        overrides = [
            f"model={model.lower()}",
            f"optim.optimizer.lr={rate}",
            f"task.length={length}",
            f"seed={seed}",
        ]
        best = factor * status["best"]
        (run / "status.json").write_text(
            json.dumps(status | {"best": best, "job": job, "overrides": overrides}, indent=1)
        )
        entry = {"job": job, "run": run.name, "overrides": overrides, "state": "finished", "error": None}
        (sweep / "jobs" / f"{job}.json").write_text(json.dumps(entry))
    return sweep


def files(sweep: Path, *patterns: str) -> list[Path]:
    """What is read of each run."""
    return [path for pattern in patterns for path in sweep.glob(pattern) if path.is_file()]


def parse(sweep: Path) -> None:
    """The same three files of each run through the parsers, and nothing made of it."""
    for run in sweep.glob("*_*"):
        yaml.load((run / "config.yaml").read_text(), Loader=LOADER)
        json.loads((run / "status.json").read_text())
        for row in itertools.islice(csv.reader((run / "metrics.csv").read_text().splitlines()), 1, None):
            [float(value) for value in row if value]


def read(paths: Iterable[Path]) -> None:
    """All bytes."""
    for path in paths:
        path.read_bytes()


def in_terminal(*arguments: str) -> None:
    """`python -m rnnlab.runs` in a process of its own."""
    command = [sys.executable, "-m", "rnnlab.runs", *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=TRAIN.parent)


def processor() -> float:
    """Seconds that this process and those it has waited for have had."""
    return sum(os.times()[:4])


def seconds(what: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Median processor time and median time by the clock."""
    spent = []
    for _ in range(rounds):
        cpu, clock = processor(), time.perf_counter()
        what()
        spent.append((processor() - cpu, time.perf_counter() - clock))
    return statistics.median(s[0] for s in spent), statistics.median(s[1] for s in spent)


def main() -> None:
    """Print a table of times."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="where the sweep is made and stays, or is already")
    given = parser.parse_args()
    folder = given.keep or Path(tempfile.mkdtemp())
    try:
        sweep = folder / "sweep" if (folder / "sweep").is_dir() else make_sweep(folder, given.runs)
        one = next(sweep.glob("*_*"))
        small = files(sweep, "*/config.yaml", "*/status.json", "*/metrics.csv")
        looks = files(sweep, "*/analysis.zarr/lyapunov/**/*")
        for name, found in (("config, status, metrics", small), ("lyapunov", looks)):
            print(f"{name}: {len(found)} files, {sum(p.stat().st_size for p in found) / 1e6:.1f} MB")
        measured = {
            "read the bytes": lambda: read(small),
            "read and parse": lambda: parse(sweep),
            "open_sweep": lambda: open_sweep(sweep),
            "open_sweep, metrics": lambda: open_sweep(sweep).metrics,
            "... last look": lambda: open_sweep(sweep).analysis("lyapunov"),
            "... of one variable": lambda: open_sweep(sweep).analysis("lyapunov", only=["exponent"]),
            "... all looks": lambda: open_sweep(sweep).analysis("lyapunov", looks="all"),
            "ls": lambda: in_terminal("ls", str(sweep)),
            "ls of one run": lambda: in_terminal("ls", str(one)),
        }
        for name, what in measured.items():
            cpu, clock = seconds(what, given.rounds)
            print(f"{name:26s} {cpu:8.2f} s processor {clock:8.2f} s clock")
    finally:
        if given.keep is None:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
