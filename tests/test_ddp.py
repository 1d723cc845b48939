"""Several processes under Hydra, started for real: they train as one, end as one and leave none behind."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
import torch
import torch.distributed as dist

from rnnlab.ledger import Ledger
from tests.corpora import write_corpus
from tests.test_train import ROOT, SMALL, start, weights
from tests.test_train import cli as cli  # a fixture

pytestmark = pytest.mark.slow
MARK = "RNNLAB_TEST_OF_MANY"
DDP = (*SMALL, "logger=none", "callbacks=none", "trainer=ddp", "trainer.accelerator=cpu")
FAULT = ("+callbacks.fault._target_=tests.faults.Fault",)
WITNESS = ("+callbacks.witness._target_=tests.faults.Witness",)


def marked(mark: str) -> list[int]:
    """Processes other than this one whose environment has the mark."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in path.read_bytes() and int(path.parent.name) != os.getpid():
                found.append(int(path.parent.name))
        except OSError:  # it has ended, or is somebody else's
            continue
    return found


def until(condition, seconds: float, what: str):
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"{seconds} s have gone by: {what}"
        time.sleep(0.02)
    return answer


@pytest.fixture(autouse=True)
def nothing_left(monkeypatch, tmp_path):
    """Marks all processes that a test starts; none may be left at its end, nor a folder of theirs."""
    mark = str(uuid.uuid4())
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    for name, value in {
        MARK: mark,
        "TMPDIR": str(scratch),
        "FAULTS": str(tmp_path / "faults"),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    yield mark
    try:
        until(lambda: not marked(mark), 20, "processes are left")
        assert list(scratch.glob("rnnlab-*")) == []
    finally:
        for pid in marked(mark):
            os.kill(pid, signal.SIGKILL)


@contextmanager
def undisturbed():
    """Within it a process is used; afterwards it is as it was."""

    def now():
        handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)]
        return dict(os.environ), handlers, os.getcwd(), signal.pthread_sigmask(signal.SIG_BLOCK, ())

    before, threads = now(), set(threading.enumerate())
    yield
    assert now() == before
    assert not dist.is_initialized()
    # a bar's monitor is one for all bars, as long as the process lives
    assert {thread.name for thread in threading.enumerate() if thread not in threads} <= {"tqdm_monitor"}


def finish(process: subprocess.Popen, seconds: float = 600) -> str:
    """All that it says, once it has ended."""
    try:
        return process.communicate(timeout=seconds)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        try:
            said = process.communicate(timeout=10)[0]
        except subprocess.TimeoutExpired as late:  # others hold its output open
            said = late.output
        raise AssertionError(said) from None


def status(run_dir: Path) -> dict:
    return json.loads((run_dir / "status.json").read_text())


def epochs(run_dir: Path) -> int:
    path = run_dir / "metrics.csv"
    return path.read_text().count("\n") - 1 if path.is_file() else 0


def assert_equal_runs(one: Path, other: Path) -> None:
    assert (one / "metrics.csv").read_text() == (other / "metrics.csv").read_text()
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert status(one)["best"] == status(other)["best"]


def by_deed(sweep: Path) -> dict[str, Path]:
    """The directories of a sweep's jobs by what happened to a rank of theirs."""
    entries = Ledger(sweep).read()
    words = [next(o for o in entry["overrides"] if "does=" in o) for entry in entries]
    return {word.rpartition("=")[2]: sweep / entry["run"] for word, entry in zip(words, entries, strict=True)}


def test_fit_then_test_in_two_processes_is_that_of_one_and_changes_nothing_here(cli, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    sizes = ("task.batch_size=4", "task.eval_batch_size=4", "task.steps=7", "model.cell.hidden_size=6")
    language = (f"task.data_dir={write_corpus(tmp_path / 'texts')}", "task.allow_other_corpus=true", *sizes)
    plain = ("experiment=ribeiro2020/wikitext2", *language, "model.embedding_size=6", "model.dropout=0")
    plain += ("logger=none", "callbacks=none", "trainer.max_epochs=3")
    assert cli(*plain, "trainer=cpu", "run_dir=one")[0] == 0
    with undisturbed():
        code, out, err = cli(*plain, "trainer=ddp", "trainer.accelerator=cpu", *WITNESS, "run_dir=two")
    assert code == 0, err
    assert out.count("report: ") == 1
    one, two = (pd.read_csv(tmp_path / name / "metrics.csv", index_col="epoch") for name in ("one", "two"))
    assert "test/perplexity" in one
    pd.testing.assert_frame_equal(one, two, rtol=1e-5, atol=1e-6)
    seen = [json.loads((tmp_path / "two" / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    assert [(rank["world_size"], rank["first"]) for rank in seen] == [(2, True), (2, False)]
    assert len({os.getpid(), *(rank["pid"] for rank in seen)}) == 3


def test_jobs_one_after_the_other(cli, tmp_path):
    """What all ranks refuse is told once, in plain words; what one does not survive is told with its rank."""
    sweep = (
        "-m",
        *DDP,
        *FAULT,
        "hydra.sweep.dir=all",
        "trainer.max_epochs=3",
        "+callbacks.fault.does=raise_1",
    )
    with undisturbed():
        code, _, err = cli(*sweep, "task.batch_size=1,2")
    assert code == 1
    errors = [entry["error"] for entry in Ledger("all").read()]
    assert errors == [
        "batch_size=1 of 4 sequences can't be shared evenly by 2 processes.",
        "rank 1 of 2 failed: a fault on purpose",
    ]
    assert "2 jobs failed" in err
    assert all(f": {error}" in err for error in errors)
    assert "Traceback" not in err
    states = [status(tmp_path / "all" / entry["run"])["state"] for entry in Ledger("all").read()]
    assert states == ["failed", "failed"]


def test_jobs_beside_each_other_of_which_ranks_die(tmp_path):
    """The others finish; those that failed do so the next time, and it makes no difference."""
    sweep = ("-m", *DDP, *FAULT, "hydra.sweep.dir=all", "trainer.max_epochs=4")
    sweep += ("launcher=joblib", "hydra.launcher.n_jobs=2", "+callbacks.fault.does=kill_1,kill_0,nothing")
    out = finish(first := start(*sweep, cwd=tmp_path))
    assert first.returncode == 1, out
    jobs = by_deed(tmp_path / "all")
    states = {deed: (status(job)["state"], status(job)["error"]) for deed, job in jobs.items()}
    assert states == {
        "nothing": ("finished", None),
        "kill_0": ("failed", "rank 0 of 2 was killed by signal 9 (Killed)"),
        "kill_1": ("failed", "rank 1 of 2 was killed by signal 9 (Killed)"),
    }
    assert "2 jobs failed; the others are complete." in out
    assert [entry["state"] for entry in Ledger(tmp_path / "all").read()] == ["failed", "failed", "finished"]
    out = finish(second := start(*sweep, cwd=tmp_path))
    assert second.returncode == 0, out
    assert [entry["state"] for entry in Ledger(tmp_path / "all").read()] == [
        "finished",
        "finished",
        "skipped",
    ]
    for job in jobs.values():
        assert epochs(job) == 4
        assert_equal_runs(job, jobs["nothing"])


def test_jobs_of_submitit(tmp_path):
    sweep = ("-m", *DDP, *FAULT, "hydra.sweep.dir=all", "trainer.max_epochs=3", "launcher=submitit_local")
    sweep += ("launcher=submitit_local", "+callbacks.fault.does=nothing,raise_0")
    out = finish(process := start(*sweep, cwd=tmp_path))
    assert process.returncode == 1, out
    entries = Ledger(tmp_path / "all").read()
    assert [entry["state"] for entry in entries] == ["finished", "failed"]
    assert entries[1]["error"] == "rank 0 of 2 failed: a fault on purpose"
    assert epochs(by_deed(tmp_path / "all")["nothing"]) == 3


def test_ranks_of_an_unseeded_search_train_the_same(cli, tmp_path):
    import optuna

    search = ("-m", *DDP, *WITNESS, "hydra.sweep.dir=all", "trainer.max_epochs=1", "sweep=optuna")
    search += ("hydra.sweeper.sampler.seed=null", "hydra.sweeper.n_trials=2")
    with undisturbed():
        code, _, err = cli(*search, "optim.optimizer.lr=tag(log,interval(1e-4,1e-1))")
    assert code == 0, err
    jobs = [tmp_path / "all" / entry["run"] for entry in Ledger("all").read()]
    rates = [{json.loads((job / f"rank{rank}.json").read_text())["lr"] for rank in (0, 1)} for job in jobs]
    assert [len(rate) for rate in rates] == [1, 1]
    assert len(set.union(*rates)) == 2
    study = optuna.load_study("rnnlab", storage=f"sqlite:///{tmp_path}/all/study.db")
    assert [trial.value for trial in study.trials] == [status(job)["best"] for job in jobs]
    assert [{trial.params["optim.optimizer.lr"]} for trial in study.trials] == rates


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 1), (signal.SIGTERM, 143)])
def test_who_stops_the_command_stops_the_ranks(tmp_path, signum, code):
    process = start(*DDP, "trainer.max_epochs=100000", "run_dir=run", cwd=tmp_path)
    until(lambda: epochs(tmp_path / "run") > 5 or process.poll() is not None, 300, "no training")
    process.send_signal(signum)
    out = finish(process, 60)
    assert process.returncode == code, out
    assert f"stopped; to go on: python train.py run_dir={tmp_path / 'run'} ckpt_path=last" in out
    assert "Traceback" not in out
    assert "error" not in out
    assert (status(tmp_path / "run")["state"], status(tmp_path / "run")["error"]) == ("stopped", None)


def test_ranks_of_a_command_that_is_killed_end_and_hold_its_lock_until_then(tmp_path):
    sweep = ("-m", *DDP, *WITNESS, "trainer.max_epochs=100000", "hydra.sweep.dir=all", "seed=1")
    process = start(*sweep, cwd=tmp_path)
    folder = until(lambda: [path.parent for path in tmp_path.glob("all/*/rank1.json")], 300, "no training")[0]
    ranks = [json.loads((folder / f"rank{rank}.json").read_text())["pid"] for rank in (0, 1)]

    def is_free():
        with (folder / ".lock").open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

    def alive():
        return [pid for pid in ranks if Path(f"/proc/{pid}/fd").is_dir() and os.listdir(f"/proc/{pid}/fd")]

    assert not is_free()
    process.kill()
    finish(process)
    deadline = time.monotonic() + 15
    while not is_free():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert alive() == []


OUTSIDE = (*DDP, "trainer.max_epochs=4")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run in two processes that this house has started: what all others have to equal."""
    folder = tmp_path_factory.mktemp("whole")
    out = finish(process := start(*OUTSIDE, "run_dir=run", cwd=folder))
    assert process.returncode == 0, out
    return folder / "run"


def test_a_run_of_which_a_rank_is_killed_says_so(cli, tmp_path):
    run = (*OUTSIDE, *FAULT, "+callbacks.fault.does=kill_0", "run_dir=run")
    killed = "rank 0 of 2 was killed by signal 9 (Killed)"
    with undisturbed():
        code, _, err = cli(*run)
        assert (code, err) == (1, f"error: {killed}\n")
    assert (status(tmp_path / "run")["state"], status(tmp_path / "run")["error"]) == ("failed", killed)


def torchrun(*options: str, within: tuple[str, ...] = (), cwd: Path, **variables: str) -> subprocess.Popen:
    """torchrun with its options, those that begin with a dash, and the arguments of `train.py`."""
    own = [option for option in options if option.startswith("--")]
    command = [*within, sys.executable, "-m", "torch.distributed.run", *own, str(ROOT / "train.py")]
    cwd.mkdir(exist_ok=True)
    return subprocess.Popen(
        [*command, *(option for option in options if option not in own)],
        cwd=cwd,
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def two_nodes(
    *arguments: str, cwd: Path, address: str = "127.0.0.1", interfaces=("lo", "lo"), within=((), ())
) -> list[subprocess.Popen]:
    """torchrun twice, as on two machines with a folder of their own each."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ("--nnodes=2", "--nproc-per-node=1", f"--master-addr={address}", f"--master-port={port}")
    many = ("trainer.num_nodes=2", "trainer.devices=1")
    return [
        torchrun(
            *options,
            f"--node-rank={node}",
            *arguments,
            *many,
            cwd=cwd / f"node{node}",
            within=within[node],
            GLOO_SOCKET_IFNAME=interfaces[node],
        )
        for node in (0, 1)
    ]


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_torchrun_makes_the_processes(whole, tmp_path):
    process = torchrun("--standalone", "--nproc-per-node=2", *OUTSIDE, "run_dir=run", cwd=tmp_path)
    out = finish(process)
    assert process.returncode == 0, out
    assert out.count("report: ") == 1
    assert_equal_runs(tmp_path / "run", whole)
    before = {path: path.read_bytes() for path in files(tmp_path / "run")}
    process = torchrun("--standalone", "--nproc-per-node=2", *OUTSIDE, "run_dir=run", cwd=tmp_path)
    out = finish(process)
    assert process.returncode != 0
    assert "holds another run: give another run_dir, or ckpt_path=last" in out
    assert before == {path: path.read_bytes() for path in files(tmp_path / "run")}


def test_slurm_makes_the_processes(whole, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    step = {
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NAME": "train",
        "SLURM_NTASKS": "2",
        "SLURM_NTASKS_PER_NODE": "2",
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_NNODES": "1",
        "SLURM_NODEID": "0",
        "SLURM_NODELIST": "localhost",
        "MASTER_PORT": str(port),
    }
    tasks = [
        subprocess.Popen(
            [sys.executable, str(ROOT / "train.py"), *OUTSIDE, "run_dir=run"],
            cwd=tmp_path,
            env=os.environ | step | {"SLURM_PROCID": rank, "SLURM_LOCALID": rank},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in "01"
    ]
    said = [finish(task) for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], said
    assert ["report: " in out for out in said] == [True, False]
    assert_equal_runs(tmp_path / "run", whole)


def test_two_nodes_are_one_run_that_the_first_writes(whole, tmp_path):
    nodes = two_nodes(*OUTSIDE, "logger=wandb", "run_dir=run", cwd=tmp_path, address="127.0.0.2")
    said = [finish(node) for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], said
    assert ["report: " in out for out in said] == [True, False]
    assert_equal_runs(tmp_path / "node0" / "run", whole)
    assert len(list((tmp_path / "node0" / "run" / "wandb").glob("offline-run-*"))) == 1
    assert files(tmp_path / "node1") == []


@pytest.fixture
def namespaces():
    """Two networks joined by a cable; gives the first's address, interfaces, what starts a process there."""
    names = [f"rnnlab{os.getpid()}{end}" for end in "ab"]
    cable = [f"v{os.getpid()}{end}" for end in "ab"]

    def ip(*words: str, check: bool = True) -> None:
        subprocess.run(["ip", *words], check=check, capture_output=True, timeout=20)

    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", cable[0], "netns", names[0], "type", "veth", "peer", cable[1], "netns", names[1])
        for i, name in enumerate(names):
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "addr", "add", f"10.77.0.{i + 1}/24", "dev", cable[i])
            ip("-n", name, "link", "set", cable[i], "up")
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"no network of one's own can be made here: {error}")
    else:
        yield "10.77.0.1", cable, [("ip", "netns", "exec", name) for name in names]
    finally:
        if shutil.which("ip"):
            for name in names:
                ip("netns", "del", name, check=False)


@pytest.mark.long
def test_two_nodes_with_a_cable_between_them(namespaces, whole, tmp_path):
    """The second one's process is killed; torchrun ends both, and both go on from where it was."""
    address, interfaces, within = namespaces
    where = {"address": address, "interfaces": interfaces, "within": within}
    run = (*OUTSIDE, *FAULT, "+callbacks.fault.does=kill_1", f"run_dir={tmp_path / 'run'}")
    nodes = two_nodes(*run, cwd=tmp_path, **where)
    said = [finish(node) for node in nodes]
    assert all(node.returncode for node in nodes), said
    assert "Signal 9 (SIGKILL)" in said[1]
    assert status(tmp_path / "run")["state"] == "failed"
    nodes = two_nodes(*run, "ckpt_path=last", cwd=tmp_path, **where)
    said = [finish(node) for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], said
    assert_equal_runs(tmp_path / "run", whole)
