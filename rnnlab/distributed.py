"""Many processes: sharing out analyses, and starting one process a rank without a command line."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch.distributed as dist
import xarray as xr
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.accelerators import CUDAAccelerator
from pytorch_lightning.plugins.environments import LightningEnvironment

from rnnlab.labelled import concatenate
from rnnlab.ledger import LAUNCH

PATIENCE = 20.0  # seconds that the other ranks get to end by themselves when one has failed
MERCY = 10.0  # seconds between asking a process to end and ending it
LAG = 120.0  # seconds that other ranks may go on after rank zero has finished


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


class RankError(RuntimeError):
    """A process of several died; says which, and why."""


def from_outside() -> bool:
    """Whether something else has made the processes of this run: torchrun, SLURM with several tasks, ours."""
    return "LOCAL_RANK" in os.environ or int(os.environ.get("SLURM_NTASKS", "1")) > 1


def processes(trainer: DictConfig) -> int:
    """How many processes this one is to start for a trainer's config; 0 where it trains by itself.

    Args:
        trainer: `strategy`, `devices`, `accelerator` and `num_nodes` of Lightning's Trainer.

    Raises:
        ValueError: There are not so many devices, or several machines and nobody who starts processes there.
    """
    if trainer.strategy == "auto" or from_outside():
        return 0
    if trainer.get("num_nodes", 1) != 1:
        raise ValueError(
            f"trainer.num_nodes={trainer.num_nodes} is not possible by itself: start train.py on each "
            "machine by torchrun, or as a job of SLURM with a task for each device."
        )
    devices, on_cpu = trainer.devices, trainer.accelerator == "cpu"
    if not on_cpu:
        there = CUDAAccelerator.auto_device_count()
        on_cpu = there == 0 and trainer.accelerator == "auto"
        if not on_cpu:
            wanted = there if devices in ("auto", -1, "-1") else devices
            ids = CUDAAccelerator.parse_devices(wanted) if there >= _most(wanted) else None
            if not ids:
                found = "is 1 CUDA device" if there == 1 else f"are {there} CUDA devices"
                raise ValueError(f"trainer.devices={devices} is not possible: there {found} here.")
            return len(ids)
    if not isinstance(devices, int) or isinstance(devices, bool) or devices < 1:
        raise ValueError(
            f"trainer.devices={devices} is not possible on the CPU: give a whole number of processes, "
            "at least 1."
        )
    return devices


def _most(devices: Any) -> int:
    """The least number of devices that have to be there for these."""
    if OmegaConf.is_list(devices):
        return max(map(int, devices), default=-1) + 1
    return int(devices) if str(devices).isdigit() else 1


def environment() -> list[LightningEnvironment]:
    """What tells Lightning that the processes are ours, where it would take them for SLURM's."""
    alone_in_slurm = os.environ.get("SLURM_NTASKS") == "1" and "LOCAL_RANK" not in os.environ
    return [LightningEnvironment()] if LAUNCH in os.environ or alone_in_slurm else []


def launch(cfg: DictConfig, script: str | Path, number: int, *, keep: Iterable[int] = ()) -> None:
    """Run one job in `number` processes on this machine, one a rank, and watch over them to the end.

    Each is `python script` with `RNNLAB_LAUNCH` set to a folder that holds the config: no arguments and no
    Hydra, so it is the same alone and within a sweep, whatever started this process. This one trains nothing
    and its environment stays as it is. Ctrl-C and SIGTERM are handed on. When this process is killed, the
    ranks end themselves.

    Args:
        cfg: Resolved config.
        script: The script, which calls `rank_config`.
        number: How many processes.
        keep: Descriptors of files that ranks keep open.

    Raises:
        RankError: A rank has failed or was killed. The others were ended.
        ValueError: All ranks refused the config for the same reason.
        SystemExit: The ranks were told to stop, and have.
    """
    folder = Path(tempfile.mkdtemp(prefix="rnnlab-"))
    ranks: list[subprocess.Popen[bytes]] = []
    try:
        OmegaConf.save(cfg, folder / "config.yaml")
        (folder / "parent").write_text(str(os.getpid()))
        env = os.environ | {
            LAUNCH: str(folder),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(_free_port()),
            "NODE_RANK": "0",
            "WORLD_SIZE": str(number),
        }
        with _handing_on(ranks) as stopped:
            for rank in range(number):
                ranks.append(
                    subprocess.Popen(
                        [sys.executable, str(script)],
                        env=env | {"LOCAL_RANK": str(rank)},
                        pass_fds=tuple(keep),
                        process_group=0,
                    )
                )
            failed = _watch(ranks)
        if stopped:
            raise SystemExit(128 + signal.SIGTERM if signal.SIGTERM in stopped else 1)
        if failed is not None:
            raise _told(failed, ranks, folder)
    finally:
        _end(ranks)
        shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def _handing_on(ranks: list[subprocess.Popen[bytes]]) -> Iterator[list[int]]:
    """Within it the signals that ask to stop go to the ranks; gives those that came."""
    came: list[int] = []

    def hand_on(number: int, frame: object) -> None:
        came.append(number)
        for process in ranks:
            if process.poll() is None:
                process.send_signal(number)

    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    before = {number: signal.signal(number, hand_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _watch(ranks: list[subprocess.Popen[bytes]]) -> int | None:
    """Wait until all have ended; the first rank that failed, if one has, with all ended by then."""
    deadline = None
    while True:
        codes = [process.poll() for process in ranks]
        bad = [rank for rank, code in enumerate(codes) if code]
        if bad:
            # of several seen at once the one that was killed is the cause
            first = min(bad, key=lambda rank: ((codes[rank] or 0) > 0, rank))
            _wait(ranks, PATIENCE)
            return first
        if None not in codes:
            return None
        if codes[0] == 0:
            deadline = deadline or time.monotonic() + LAG
            if time.monotonic() > deadline:
                return codes.index(None)
        time.sleep(0.02)


def _wait(ranks: list[subprocess.Popen[bytes]], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and any(process.poll() is None for process in ranks):
        time.sleep(0.02)


def _end(ranks: list[subprocess.Popen[bytes]]) -> None:
    """Nothing of them is left afterwards, neither what they have started themselves."""
    if any(process.poll() is None for process in ranks):
        for process in ranks:
            if process.poll() is None:
                process.terminate()
        _wait(ranks, MERCY)
    for process in ranks:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _told(first: int, ranks: list[subprocess.Popen[bytes]], folder: Path) -> Exception:
    """The one error of all ranks."""
    said = [_read(folder / f"rank{rank}") for rank in range(len(ranks))]
    if said[first] and all(text == said[first] for text in said):
        return ValueError(said[first])
    code = ranks[first].poll()
    if code is None:
        how = f"has not ended {LAG:.0f} s after rank 0"
    elif said[first]:
        how = f"failed: {said[first]}"
    elif code < 0:
        how = f"was killed by signal {-code} ({signal.Signals(-code).name})"
    else:
        how = f"ended with exit code {code}"
    return RankError(f"rank {first} of {len(ranks)} {how}")


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def rank_config() -> DictConfig | None:
    """In a process that `launch` has started: the config to run. It ends when its parent is gone."""
    if LAUNCH not in os.environ:
        return None
    folder = Path(os.environ[LAUNCH])
    threading.Thread(target=_follow, args=(int((folder / "parent").read_text()), folder), daemon=True).start()
    cfg = OmegaConf.load(folder / "config.yaml")
    assert isinstance(cfg, DictConfig)
    return cfg


def _follow(parent: int, folder: Path) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    shutil.rmtree(folder, ignore_errors=True)
    os.killpg(0, signal.SIGKILL)


def tell_launcher(error: str) -> bool:
    """In a process that `launch` has started: hand over what went wrong; False elsewhere."""
    if LAUNCH not in os.environ:
        return False
    path = Path(os.environ[LAUNCH]) / f"rank{os.environ['LOCAL_RANK']}"
    try:
        path.write_text(error, encoding="utf-8")
    except OSError:  # the launcher is gone
        return False
    return True


def leave() -> None:
    """Take this process out of its group, at the end of a job that went well."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
