"""Several processes of a test, which meet through a file; what is imported is so once."""

import importlib
import multiprocessing
import subprocess
import sys
import time
from multiprocessing.connection import wait
from pathlib import Path

import torch
import torch.distributed as dist

ROOT = Path(__file__).parents[1]
PATIENCE = 200  # seconds for one group of processes


def on_ranks(function, folder, *sizes):
    """Call a function of a test's module on so many processes, with `folder / str(size)`, for each size.

    Raises:
        AssertionError: A process has failed, or taken too long. None is left.
    """
    words = [sys.executable, "-m", "tests.ranks", function.__module__, function.__name__, folder, *sizes]
    run = subprocess.run(
        [str(word) for word in words],
        cwd=ROOT,
        timeout=(PATIENCE + 10) * len(sizes) + 60,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert run.returncode == 0, run.stdout


def _rank(function, rank, size, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=size)
    function(folder)
    dist.destroy_process_group()


def _together(function, size, folder):
    folder.mkdir(parents=True)
    fork = multiprocessing.get_context("fork")
    ranks = [fork.Process(target=_rank, args=(function, rank, size, folder)) for rank in range(size)]
    for rank in ranks:
        rank.start()
    deadline = time.monotonic() + PATIENCE
    while (running := [rank for rank in ranks if rank.exitcode is None]) and time.monotonic() < deadline:
        wait([rank.sentinel for rank in running], timeout=1.0)
        if any(rank.exitcode for rank in ranks):
            break
    codes = [rank.exitcode for rank in ranks]
    for rank in ranks:
        rank.kill()
        rank.join()
    assert codes == [0] * size, f"exit codes of {size} processes, None for one that had not ended: {codes}"


if __name__ == "__main__":
    module, name, where, *numbers = sys.argv[1:]
    for number in numbers:
        _together(getattr(importlib.import_module(module), name), int(number), Path(where) / number)
