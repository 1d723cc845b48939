"""How many processes a config means; a launch of scripts that know no network."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from pytorch_lightning.accelerators import CUDAAccelerator

from rnnlab import distributed
from rnnlab.distributed import (
    RankError,
    environment,
    from_outside,
    launch,
    leads,
    processes,
    rank_config,
)

OUTSIDE = ("LOCAL_RANK", "RANK", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS", "SLURM_PROCID", distributed.LAUNCH)


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    for name in OUTSIDE:
        monkeypatch.delenv(name, raising=False)


def trainer(**options):
    return OmegaConf.create(
        {"strategy": "ddp", "accelerator": "auto", "devices": 2, "num_nodes": 1} | options
    )


@pytest.fixture
def gpus(monkeypatch):
    """Lets there be so many CUDA devices."""

    def there_are(count):
        monkeypatch.setattr(CUDAAccelerator, "auto_device_count", staticmethod(lambda: count))
        monkeypatch.setattr("lightning_fabric.accelerators.cuda.num_cuda_devices", lambda: count)

    return there_are


TIMEOUT = {"_target_": "datetime.timedelta", "minutes": 5}
COUNTS = [
    (0, {}, 2),
    (0, {"accelerator": "cpu", "devices": 3}, 3),
    (0, {"strategy": "auto", "devices": 1}, 0),
    (0, {"strategy": "ddp_find_unused_parameters_true"}, 2),
    (0, {"strategy": {"_target_": "pytorch_lightning.strategies.DDPStrategy", "timeout": TIMEOUT}}, 2),
    (4, {}, 2),
    (4, {"devices": "auto"}, 4),
    (4, {"devices": -1}, 4),
    (4, {"devices": "3"}, 3),
    (4, {"devices": "1,3"}, 2),
    (4, {"devices": [1, 3], "accelerator": "cuda"}, 2),
    (4, {"devices": 8, "accelerator": "cpu"}, 8),
]


@pytest.mark.parametrize(("there", "options", "count"), COUNTS)
def test_a_process_for_each_device(gpus, there, options, count):
    gpus(there)
    assert processes(trainer(**options)) == count


REFUSED = [
    (0, {"devices": 0}, "trainer.devices=0 is not possible on the CPU: give a whole number of processes"),
    (0, {"devices": -1}, "trainer.devices=-1 is not possible on the CPU"),
    (0, {"devices": "auto"}, "trainer.devices=auto is not possible on the CPU"),
    (0, {"devices": [0, 1]}, r"trainer.devices=\[0, 1\] is not possible on the CPU"),
    (0, {"devices": True}, "trainer.devices=True is not possible on the CPU"),
    (0, {"accelerator": "cuda"}, "trainer.devices=2 is not possible: there are 0 CUDA devices here."),
    (1, {}, "trainer.devices=2 is not possible: there is 1 CUDA device here."),
    (4, {"devices": 0}, "trainer.devices=0 is not possible: there are 4 CUDA devices here."),
    (4, {"devices": [0, 4]}, r"trainer.devices=\[0, 4\] is not possible: there are 4 CUDA devices here."),
    (4, {"devices": "0,4"}, "trainer.devices=0,4 is not possible: there are 4 CUDA devices here."),
    (4, {"devices": [1, 1]}, r"trainer.devices=\[1, 1\] is not possible: there are 4 CUDA devices here."),
    (4, {"devices": []}, r"trainer.devices=\[\] is not possible: there are 4 CUDA devices here."),
    (4, {"devices": "two"}, "trainer.devices=two is not possible: there are 4 CUDA devices here."),
    (4, {"devices": None}, "trainer.devices=None is not possible: there are 4 CUDA devices here."),
    (0, {"num_nodes": 2}, "trainer.num_nodes=2 is not possible by itself: start train.py on each machine"),
    (0, {"strategy": "fsdp"}, "trainer.strategy=fsdp is not possible: give auto for one process, or ddp"),
    (0, {"strategy": "ddp_spawn"}, "trainer.strategy=ddp_spawn is not possible"),
    (
        0,
        {"strategy": {"_target_": "pytorch_lightning.strategies.FSDPStrategy"}},
        "FSDPStrategy is not possible",
    ),
    (
        0,
        {"strategy": {"_target_": "pytorch_lightning.strategies.DDPStrategy", "start_method": "spawn"}},
        "DDPStrategy is not possible",
    ),
]


@pytest.mark.parametrize(("there", "options", "message"), REFUSED)
def test_what_is_not_possible_gets_one_line(gpus, there, options, message):
    gpus(there)
    with pytest.raises(ValueError, match=message):
        processes(trainer(**options))


@pytest.mark.parametrize(
    ("variables", "outside", "first", "ours"),
    [
        ({}, False, True, False),
        ({"LOCAL_RANK": "0", "RANK": "2"}, True, False, False),  # the second node of torchrun
        ({"SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3"}, True, False, False),
        ({"SLURM_NTASKS": "1", "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, False, True, True),
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, False, True, True),  # a batch script without srun
        ({distributed.LAUNCH: "x", "LOCAL_RANK": "1", "RANK": "1", "SLURM_NTASKS": "1"}, True, False, True),
    ],
)
def test_who_made_the_processes(monkeypatch, variables, outside, first, ours):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert (from_outside(), leads(), bool(environment())) == (outside, first, ours)
    assert processes(trainer(accelerator="cpu")) == (0 if outside else 2)


@pytest.fixture
def script(tmp_path, monkeypatch):
    """Writes what each rank is to run, with `rank`, `cfg` and `tell`; gives the file."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))

    def write(text):
        head = (
            "import os, pathlib, signal, subprocess, sys, time\n"
            "from rnnlab.distributed import rank_config, tell_launcher as tell\n"
            "cfg, rank = rank_config(), int(os.environ['RANK'])\n"
            "here = pathlib.Path(cfg.here)\n"
        )
        path = tmp_path / "script.py"
        path.write_text(head + text)
        return path

    yield write
    assert list(scratch.iterdir()) == []


@pytest.fixture
def cfg(tmp_path):
    return OmegaConf.create({"here": str(tmp_path), "number": 1e-5, "nothing": None, "name": "1e-3"})


def test_each_rank_gets_the_config_and_its_place(script, cfg, tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "7")  # of something else
    monkeypatch.setenv("MASTER_PORT", "1234")
    before = dict(os.environ)
    typed = os.memfd_create("typed")  # what a terminal would give
    os.pwrite(typed, b"yes", 0)
    mine = os.dup(0)
    code = (
        "from omegaconf import OmegaConf; import json\n"
        "names = ('RANK', 'LOCAL_RANK', 'WORLD_SIZE', 'NODE_RANK', 'MASTER_PORT')\n"
        "place = {name: os.environ[name] for name in names}\n"
        "seen = [OmegaConf.to_container(cfg), place, sys.stdin.read(), os.getpgid(0) == os.getpid()]\n"
        "(here / f'seen{rank}').write_text(json.dumps(seen))\n"
    )
    try:
        os.dup2(typed, 0)
        launch(cfg, script(code), 3)
    finally:
        os.dup2(mine, 0)
        os.close(mine)
        os.close(typed)
    seen = [json.loads((tmp_path / f"seen{rank}").read_text()) for rank in range(3)]
    assert [given for given, *_ in seen] == [OmegaConf.to_container(cfg)] * 3
    for rank, (_, place, answer, leads_its_group) in enumerate(seen):
        assert (place["RANK"], place["LOCAL_RANK"], place["WORLD_SIZE"], place["NODE_RANK"]) == (
            str(rank),
            str(rank),
            "3",
            "0",
        )
        assert place["MASTER_PORT"] == seen[0][1]["MASTER_PORT"] != "1234"
        assert answer == ""
        assert leads_its_group
    assert dict(os.environ) == before


def test_no_rank_s_process_has_no_config():
    assert rank_config() is None


FAILURES = [
    # all for the same reason
    ("tell('no'); sys.exit(1)", ValueError, "^no$"),
    ("tell(f'no {rank}'); time.sleep(rank); sys.exit(1)", RankError, "^rank 0 of 3 failed: no 0$"),
    ("tell(f'no {rank}'); time.sleep(3 - rank); sys.exit(1)", RankError, "^rank 2 of 3 failed: no 2$"),
    ("sys.exit(5 * (rank == 1))", RankError, "^rank 1 of 3 ended with exit code 5$"),
    (
        "rank == 1 and os.kill(os.getpid(), 9); time.sleep(1); tell('lost'); sys.exit(1)",
        RankError,
        r"^rank 1 of 3 was killed by signal 9 \(Killed\)$",
    ),
    (
        "rank == 2 and os.kill(os.getpid(), signal.SIGRTMAX); time.sleep(1)",
        RankError,
        "^rank 2 of 3 was killed by signal 64",
    ),
    # those that wait for it for ever are ended
    (
        "rank == 0 and sys.exit(1); time.sleep(600)",
        RankError,
        r"^rank 0 of 3 ended with exit code 1 \(ranks 1, 2 did not answer\)$",
    ),
    # one does not end
    ("rank == 1 and time.sleep(600)", RankError, "^rank 1 of 3 has not ended 2 s after rank 0$"),
]


@pytest.mark.parametrize(("code", "kind", "message"), FAILURES)
def test_one_error_tells_which_rank_and_why(script, cfg, monkeypatch, code, kind, message):
    monkeypatch.setattr(distributed, "PATIENCE", 4.0)
    monkeypatch.setattr(distributed, "LAG", 2.0)
    children = "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
    children += "(here / f'pid{rank}').write_text(str(child.pid))\n"
    with pytest.raises(kind, match=message):
        launch(cfg, script(children + code), 3)
    for path in Path(cfg.here).glob("pid*"):  # nor is left what they had started
        wait_until(lambda path=path: not is_alive(int(path.read_text())))


def test_of_failures_seen_at_once_the_cause_is_told(tmp_path):
    for rank, second in ((1, 30), (2, 20)):
        (tmp_path / f"rank{rank}").touch()
        os.utime(tmp_path / f"rank{rank}", (second, second))
    assert (
        distributed._cause([1, 1, 1, None], tmp_path) == 2
    )  # the first to tell, before one that told nothing
    assert distributed._cause([None, 1, 0, 1], tmp_path) == 1
    assert distributed._cause([1, 1, 1, -9], tmp_path) == 3  # others lose the one that was killed


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 1), (signal.SIGTERM, 143)])
def test_a_stop_reaches_rank_zero_while_the_others_live(script, cfg, tmp_path, monkeypatch, signum, status):
    monkeypatch.setattr(distributed, "PATIENCE", 4.0)
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    code = (
        "(here / f'up{rank}').touch()\n"
        "while len(list(here.glob('up*'))) < 2: time.sleep(0.01)\n"
        # a scheduler tells all processes of a job at once
        "rank or os.kill(os.getppid(), cfg.signum)\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
        "try: time.sleep(600)\n"
        "except KeyboardInterrupt: (here / f'stopped{rank}').touch(); sys.exit(1)\n"
    )
    cfg.signum = int(signum)
    with pytest.raises(SystemExit) as stop:
        launch(cfg, script(code), 2)
    assert stop.value.code == status
    assert [path.name for path in tmp_path.glob("stopped*")] == ["stopped0"]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_ranks_end_when_their_launcher_is_killed(script, cfg, tmp_path):
    path = script("(here / f'up{rank}').write_text(str(os.getpid())); time.sleep(600)\n")
    OmegaConf.save(cfg, tmp_path / "cfg.yaml")
    code = (
        "import tempfile; from omegaconf import OmegaConf; from rnnlab.distributed import launch\n"
        f"tempfile.tempdir = {tempfile.tempdir!r}\n"
        f"launch(OmegaConf.load({str(tmp_path / 'cfg.yaml')!r}), {str(path)!r}, 2)\n"
    )
    launcher = subprocess.Popen([sys.executable, "-c", code])
    wait_until(
        lambda: all(path.is_file() and path.read_text() for path in (tmp_path / "up0", tmp_path / "up1"))
    )
    launcher.kill()
    launcher.wait()
    ranks = [int((tmp_path / f"up{rank}").read_text()) for rank in range(2)]
    try:
        wait_until(lambda: not any(is_alive(pid) for pid in ranks))
    finally:
        for pid in filter(is_alive, ranks):
            os.kill(pid, signal.SIGKILL)


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # an orphan that nobody has waited for yet
    return not any(word in Path(f"/proc/{pid}/stat").read_text() for word in (") Z ", ") X "))


def wait_until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_port_is_kept_for_rank_zero():
    import torch.distributed as dist

    with distributed._port() as port:
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))
        store = dist.TCPStore("127.0.0.1", port, 1, is_master=True)
        store.set("key", "value")
        assert store.get("key") == b"value"
