"""Many processes: starting one a rank on a resolved config, and watching over them to the end."""

from __future__ import annotations

import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from rnnlab.ledger import LAUNCH

if TYPE_CHECKING:
    from pytorch_lightning.plugins.environments import LightningEnvironment

# heavy imports wait inside the functions: the process that watches over the ranks is a light one

# seconds
PATIENCE = 45.0  # that the other ranks get to end by themselves when one has failed: W&B takes up to 30
LAG = 120.0  # that a rank may go on after rank zero has finished, or rank zero when asked to stop


class RankError(RuntimeError):
    """A process of several died; says which, and why."""


def from_outside() -> bool:
    """Whether something else has made the processes of this run: torchrun, SLURM's srun, or `launch`."""
    return "LOCAL_RANK" in os.environ or int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1


def leads() -> bool:
    """Whether this process is the first of its run, on all machines: the one that writes."""
    return os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0"


def processes(trainer: DictConfig) -> int:
    """How many processes this one is to start for a trainer's config; 0 where it trains by itself.

    Args:
        trainer: `strategy`, `devices`, `accelerator` and `num_nodes` of Lightning's Trainer.

    Raises:
        ValueError: The strategy is not one of a process for each device, or there are not so many devices,
            or several machines and nobody who starts processes there.
    """
    strategy = trainer.strategy
    if strategy == "auto":
        return 0
    if not _has_process_per_device(strategy):
        name = strategy.get("_target_") if OmegaConf.is_dict(strategy) else strategy
        raise ValueError(
            f"trainer.strategy={name} is not possible: give auto for one process, or ddp for one a device."
        )
    if from_outside():
        return 0
    if trainer.get("num_nodes", 1) != 1:
        raise ValueError(
            f"trainer.num_nodes={trainer.num_nodes} is not possible by itself: start train.py on each "
            "machine by torchrun, or by srun with a task for each device."
        )
    devices, on_cpu = trainer.devices, trainer.accelerator == "cpu"
    if not on_cpu:
        from pytorch_lightning.accelerators import CUDAAccelerator
        from pytorch_lightning.utilities.exceptions import MisconfigurationException

        there = CUDAAccelerator.auto_device_count()
        on_cpu = there == 0 and trainer.accelerator == "auto"
        if not on_cpu:
            ids = None
            with suppress(MisconfigurationException, TypeError, ValueError):
                ids = CUDAAccelerator.parse_devices(there if devices in ("auto", -1, "-1") else devices)
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


def _has_process_per_device(strategy: Any) -> bool:
    """Whether it is Lightning's DDP, in processes that others make, or somebody's own."""
    if not OmegaConf.is_dict(strategy):
        return strategy in ("ddp", "ddp_find_unused_parameters_false", "ddp_find_unused_parameters_true")
    package, _, name = str(strategy.get("_target_")).rpartition(".")
    own = not package.startswith(("pytorch_lightning", "lightning"))
    return own or (name == "DDPStrategy" and strategy.get("start_method", "popen") == "popen")


def environment() -> list[LightningEnvironment]:
    """What tells Lightning that the processes are ours, where it would take them for SLURM's."""
    if LAUNCH in os.environ or ("SLURM_NTASKS" in os.environ and not from_outside()):
        from pytorch_lightning.plugins.environments import LightningEnvironment

        return [LightningEnvironment()]
    return []


def launch(cfg: DictConfig, script: str | Path, number: int, *, keep: Iterable[int] = ()) -> None:
    """Run one job in `number` processes on this machine, one a rank, and watch over them to the end.

    Each is `python script` with `RNNLAB_LAUNCH` set to a folder that holds the config: no arguments and no
    Hydra, so it is the same alone and within a sweep, whatever started this process. This one trains nothing
    and its environment stays as it is. Ctrl-C and SIGTERM stop rank zero, and then the others. When this
    process is killed, the ranks end themselves.

    Args:
        cfg: Resolved config.
        script: The script, which calls `rank_config`.
        number: How many processes.
        keep: Descriptors of files that ranks keep open.

    Raises:
        RankError: A rank has failed or was killed. The others were ended.
        ValueError: All ranks refused the config for the same reason.
        SystemExit: This process was told to stop, and the ranks have.
    """
    folder = Path(tempfile.mkdtemp(prefix="rnnlab-"))
    ranks: list[subprocess.Popen[bytes]] = []
    try:
        OmegaConf.save(cfg, folder / "config.yaml")
        (folder / "parent").write_text(str(os.getpid()))
        with _told_to_stop() as told, _port() as port:
            common = {
                LAUNCH: str(folder),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "NODE_RANK": "0",
                "WORLD_SIZE": str(number),
            }
            for rank in range(number):
                ranks.append(
                    subprocess.Popen(
                        [sys.executable, str(script)],
                        env=os.environ | common | {"LOCAL_RANK": str(rank), "RANK": str(rank)},
                        stdin=subprocess.DEVNULL,  # who asks for the terminal from another group is stopped
                        pass_fds=tuple(keep),
                        process_group=0,
                    )
                )
            failed = _watch(ranks, folder, told)
        if told:
            raise SystemExit(128 + signal.SIGTERM if signal.SIGTERM in told else 1)
        if failed is not None:
            raise _error(failed, ranks, folder)
    finally:
        _end(ranks)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _port() -> Iterator[int]:
    """A free port, which nothing else on this machine is given until rank zero listens there."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


@contextmanager
def _told_to_stop() -> Iterator[list[int]]:
    """Within it the signals that ask to stop are only put down in the list that it gives."""
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda number, _: came.append(number)) for number in numbers}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _watch(ranks: Sequence[subprocess.Popen[bytes]], folder: Path, told: Sequence[int]) -> int | None:
    """Wait until all have ended, or it makes no sense to wait longer.

    Rank zero alone is told to stop: it is the one that writes, and has to find the others alive until then.

    Returns:
        The rank that failed first or has not ended in time; None where all went well.
    """
    deadline = math.inf
    asked = False
    while True:
        codes = [process.poll() for process in ranks]
        if any(codes):
            cause = _cause(codes, folder)
            _wait(ranks[:1] if asked else ranks, PATIENCE)
            return cause
        if None not in codes:
            return None
        if told and not asked:
            asked, deadline = True, time.monotonic() + LAG
            if codes[0] is None:
                ranks[0].send_signal(signal.SIGINT)
        if codes[0] == 0:
            deadline = min(deadline, time.monotonic() + LAG)
        if time.monotonic() > deadline:
            return codes.index(None)
        time.sleep(0.02)


def _cause(codes: Sequence[int | None], folder: Path) -> int:
    """Of the ranks that have failed the first: one that was killed, else the first to tell of an error."""

    def order(rank: int) -> tuple[bool, float, int]:
        told = folder / f"rank{rank}"
        return (codes[rank] or 0) >= 0, told.stat().st_mtime if told.is_file() else math.inf, rank

    return min((rank for rank, code in enumerate(codes) if code), key=order)


def _wait(ranks: Sequence[subprocess.Popen[bytes]], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and any(process.poll() is None for process in ranks):
        time.sleep(0.02)


def _end(ranks: Sequence[subprocess.Popen[bytes]]) -> None:
    """Nothing of them is left afterwards, neither what they have started themselves."""
    for process in ranks:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _error(first: int, ranks: Sequence[subprocess.Popen[bytes]], folder: Path) -> Exception:
    """The one error of all ranks."""
    said = [_read(folder / f"rank{rank}") for rank in range(len(ranks))]
    if said[first] and all(text == said[first] for text in said):
        return ValueError(said[first])
    codes = [process.poll() for process in ranks]
    code = codes[first]
    if code is None:
        how = f"has not ended {LAG:.0f} s after rank 0"
    elif said[first]:
        how = f"failed: {said[first]}"
    elif code < 0:
        how = f"was killed by signal {-code} ({signal.strsignal(-code)})"
    else:
        how = f"ended with exit code {code}"
    silent = [str(rank) for rank, code in enumerate(codes) if code is None and rank != first]
    left = f" (rank{'s' * (len(silent) > 1)} {', '.join(silent)} did not answer)" if silent else ""
    return RankError(f"rank {first} of {len(ranks)} {how}{left}")


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def rank_config() -> DictConfig | None:
    """In a process that `launch` has started: the config to run. It ends when its parent is gone.

    SIGTERM is for the parent, which stops rank zero by SIGINT. Schedulers send it to all processes of a job
    at once, and Lightning's handler then talks to ranks that wait for others, or have gone.
    """
    if LAUNCH not in os.environ:
        return None
    # before there are other threads, which inherit it
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    sys.excepthook = _say_unless_stopped
    folder = Path(os.environ[LAUNCH])
    threading.Thread(target=_follow, args=(int((folder / "parent").read_text()), folder), daemon=True).start()
    cfg = OmegaConf.load(folder / "config.yaml")
    assert isinstance(cfg, DictConfig)
    return cfg


def _say_unless_stopped(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)


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
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
