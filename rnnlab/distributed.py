"""Many processes: sharing out analyses, and a DDP strategy that needs no command line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch.distributed as dist
import xarray as xr
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

from rnnlab.labelled import concatenate

CHILD = "RNNLAB_CHILD_OF"  # in a child process: the run directory whose config.yaml it is to run
_CHILDREN: list[subprocess.Popen[bytes]] = []
_LAUNCH_VARIABLES = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", CHILD)


def shard(length: int, rank: int, world_size: int) -> slice:
    """The contiguous part of `range(length)` that falls to one process; parts differ by one at most.

    Example:
        >>> [list(range(10))[shard(10, rank, 3)] for rank in range(3)]
        [[0, 1, 2, 3], [4, 5, 6], [7, 8, 9]]
    """
    size, longer = divmod(length, world_size)
    start = rank * size + min(rank, longer)
    return slice(start, start + size + (rank < longer))


def gather(dataset: xr.Dataset | None, dim: str) -> xr.Dataset | None:
    """Put the parts of all processes together along `dim`, on rank zero; None elsewhere.

    Every process must call it. A process with nothing to give passes None. Without a process group the
    dataset comes back as it is. Other axes may differ in length; see `rnnlab.labelled.concatenate`.
    """
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return dataset
    parts: list[Any] | None = [None] * dist.get_world_size() if dist.get_rank() == 0 else None
    dist.gather_object(dataset, parts, dst=0)
    if parts is None:
        return None
    return concatenate([part for part in parts if part is not None], dim)


class _ConfigLauncher(_SubprocessScriptLauncher):
    """Starts the other processes on the config that the run directory holds, with no arguments."""

    def _call_children_scripts(self) -> None:
        self._check_can_spawn_children()
        if CHILD not in os.environ:
            raise RuntimeError(
                f"{CHILD} is not set: train within launching(run_dir), whose config children run."
            )
        environment = self.cluster_environment
        os.environ |= {
            "MASTER_ADDR": environment.main_address,
            "MASTER_PORT": str(environment.main_port),
            "NODE_RANK": str(environment.node_rank()),
            "LOCAL_RANK": str(environment.local_rank()),
            "WORLD_SIZE": str(self.num_processes * self.num_nodes),
        }
        self.procs = []
        _CHILDREN.clear()
        script = getattr(sys.modules["__main__"], "__file__", None)
        if script is None:
            raise RuntimeError(
                "Several processes need a script to start: run train.py, not an interactive session."
            )
        for local_rank in range(1, self.num_processes):
            env = os.environ | {"LOCAL_RANK": str(local_rank)}
            self.procs.append(subprocess.Popen([sys.executable, script], env=env))
        _CHILDREN.extend(self.procs)


class DDP(DDPStrategy):
    """Data-parallel training whose child processes run on rank zero's resolved config.

    Lightning's own strategy repeats the command line, which under a sweep would start the sweep again in
    every child. Here a child is the same script with no arguments and `RNNLAB_CHILD_OF` set to the run
    directory. Where torchrun or SLURM made the processes, none is started.
    """

    def _configure_launcher(self) -> None:
        assert self.cluster_environment is not None
        if not self.cluster_environment.creates_processes_externally:
            self._launcher = _ConfigLauncher(self.cluster_environment, self.num_processes, self.num_nodes)


@contextmanager
def launching(run_dir: str, *, patience: float = 30.0) -> Iterator[None]:
    """Within it, `DDP` may start child processes on `run_dir`; afterwards nothing of it is left.

    Args:
        run_dir: The directory whose `config.yaml` the children run.
        patience: Seconds that children get to end by themselves; after an error they get none.
    """
    before: Mapping[str, str | None] = {name: os.environ.get(name) for name in _LAUNCH_VARIABLES}
    os.environ[CHILD] = run_dir
    failed = True
    try:
        yield
        failed = False
    finally:
        if failed:
            for child in _CHILDREN:
                child.terminate()
        elif dist.is_available() and dist.is_initialized():
            dist.destroy_process_group()
        for child in _CHILDREN:
            try:
                child.wait(timeout=5.0 if failed else patience)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        _CHILDREN.clear()
        if failed and dist.is_available() and dist.is_initialized():
            dist.destroy_process_group()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
