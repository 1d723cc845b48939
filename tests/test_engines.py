"""The same sweep by all engines: the same table, also when a job's process is killed, and no process left."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import slurm
from tests.test_train import ROOT, SMALL

ENGINES: dict[str, tuple[str, ...]] = {
    "basic": (),
    "joblib": ("hydra.launcher.n_jobs=2",),
    "submitit_local": (),
    "ray": ("hydra.launcher.ray.init.num_cpus=2",),
    "slurm": ("hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=1"),
}
TOY = (
    "task.num_sequences=8",
    "task.num_validation=8",
    "task.batch_size=4",
    "model.cell.hidden_size=4",
    "trainer=cpu",
    "trainer.max_epochs=2",
    "logger=none",
    "callbacks=none",
)
EXPERIMENT = "ribeiro2020/symbols_code"
TABLE_1 = ("sweep=symbols_table1", "model=lstm,ornn", "task.length=50,60", "seed=1", *TOY)
TWO_JOBS = (*SMALL, "seed=1,2", "logger=none", "callbacks=none", "trainer=cpu", "trainer.max_epochs=5")
FAULT = ("+callbacks.fault._target_=tests.faults.Fault", "+callbacks.fault.does={}")
MARK = "RNNLAB_TEST_OF_ENGINES"

pytestmark = pytest.mark.slow
Sweep = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def cluster() -> Iterator[dict[str, str]]:
    """The variables of a SLURM on this machine; none, and a reason, where there is no SLURM."""
    if reason := slurm.missing():
        yield {"reason": reason}
        return
    with slurm.slurm() as variables:
        yield variables


@pytest.fixture
def environment(cluster: dict[str, str], tmp_path: Path) -> Iterator[dict[str, str]]:
    """Of the processes of a test, by which those that are left are found at its end."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "SLURM_"))}
    temporary = tempfile.mkdtemp(prefix="ray")  # a short path: that of a socket is bounded
    mark = uuid.uuid4().hex
    yield (
        ours
        | cluster
        | {
            MARK: mark,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
            "FAULTS": str(tmp_path / "faults"),
            "RAY_TMPDIR": temporary,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": mark,
        }
    )
    left = None
    for _ in range(200):
        left = _marked(mark)
        if not left:
            break
        time.sleep(0.1)
    for process in left or {}:
        os.kill(process, 9)
    shutil.rmtree(temporary, ignore_errors=True)
    assert not left


def _marked(mark: str) -> dict[int, str]:
    """The processes that have the mark in their environment, with their command lines."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes():
                found[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
        except OSError:  # it has ended, or is of somebody else
            pass
    return found


def start(
    environment: dict[str, str], place: Path, engine: str, folder: str, *arguments: str
) -> subprocess.Popen[str]:
    """Start `train.py -m` with one of the engines, in a session of its own."""
    launcher = (f"launcher={engine}", *ENGINES[engine], f"hydra.sweep.dir={folder}")
    return subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), "-m", *launcher, *arguments],
        cwd=place,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # a shell in the background makes its children deaf to it
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


@pytest.fixture
def sweep(environment: dict[str, str], tmp_path: Path) -> Sweep:
    """Calls `train.py -m` with one of the engines."""

    def call(engine: str, folder: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        if engine == "slurm" and "reason" in environment:
            pytest.skip(environment["reason"])
        process = start(environment, tmp_path, engine, folder, *arguments)
        try:
            out, err = process.communicate(timeout=300)
        finally:
            process.kill()
            process.wait()
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    return call


def table(folder: Path) -> dict[str, tuple[str, float | None, str]]:
    """Of each job its state, best value and all its numbers, to the last digit."""
    found = {}
    for path in sorted(folder.glob("*/status.json")):
        status = json.loads(path.read_text())
        numbers = (path.parent / "metrics.csv").read_text()
        found[path.parent.name] = (status["state"], status.get("best"), numbers)
    return found


def states(folder: Path) -> list[str]:
    """As the ledger has them, in the order of jobs."""
    paths = sorted((folder / "jobs").glob("*.json"), key=lambda path: int(path.stem))
    return [json.loads(path.read_text())["state"] for path in paths]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, float | None, str]]:
    """Table 1, of which one job is checked against a run that is no part of a sweep."""
    place = tmp_path_factory.mktemp("expected")
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    whole = start(env, place, "basic", "sweep", *TABLE_1).communicate(timeout=300)
    alone = (f"experiment={EXPERIMENT}", "model=ornn", "task.length=60", "seed=1", *TOY, "run_dir=alone")
    command = [sys.executable, str(ROOT / "train.py"), *alone]
    subprocess.run(command, cwd=place, env=env, check=True, timeout=300, capture_output=True)
    found, single = table(place / "sweep"), table(place)
    assert len(found) == 4, whole
    assert single["alone"] in found.values()
    return found


@pytest.fixture(scope="module")
def unharmed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, float | None, str]]:
    """The two jobs, with nobody to kill them."""
    place = tmp_path_factory.mktemp("unharmed")
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "FAULTS": str(place)}
    arguments = (*TWO_JOBS, *(part.format("nothing") for part in FAULT))
    said = start(env, place, "basic", "sweep", *arguments).communicate(timeout=300)
    found = table(place / "sweep")
    assert [row[0] for row in found.values()] == ["finished"] * 2, said
    return found


@pytest.mark.parametrize("engine", list(ENGINES)[1:])
def test_table_1_is_the_same_by_all_engines(sweep, tmp_path, expected, engine):
    done = sweep(engine, "sweep", *TABLE_1)
    assert done.returncode == 0, done.stdout + done.stderr
    found = table(tmp_path / "sweep")
    assert found == expected
    assert {row[0] for row in found.values()} == {"finished"}
    assert states(tmp_path / "sweep") == ["finished"] * 4
    for log in (tmp_path / "sweep").glob("*_*/log.txt"):
        assert "report: " in log.read_text()
    assert (tmp_path / "sweep/report.html").is_file()
    # nothing but the sweep's own lines: neither warnings of engines, nor their greetings
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line]
    assert [line for line in lines if not line.startswith(("sweep", "report: "))] == []


@pytest.mark.parametrize(
    "engine", ["joblib", *(pytest.param(name, marks=pytest.mark.long) for name in ("submitit_local", "ray"))]
)  # of slurm, see test_slurm.py
def test_a_killed_job_goes_on_to_the_same_end(sweep, tmp_path, unharmed, engine):
    arguments = (*TWO_JOBS, *(part.format("kill_0") for part in FAULT))
    done = sweep(engine, "sweep", *arguments)
    assert (tmp_path / "faults/kill_0").exists()
    if engine == "ray":  # which begins it again by itself
        assert done.returncode == 0, done.stdout + done.stderr
    else:
        assert done.returncode == 1, done.stdout + done.stderr
        (error,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert len(error) < 500
        assert "the same command goes on with it" in done.stderr
        if engine != "joblib":  # whose other workers end with the one
            assert sorted(states(tmp_path / "sweep")) == ["finished", "running"]
        again = sweep(engine, "sweep", *arguments)
        assert again.returncode == 0, again.stdout + again.stderr
    assert sorted(table(tmp_path / "sweep").values()) == sorted(unharmed.values())


@pytest.mark.parametrize("engine", ["submitit_local", pytest.param("ray", marks=pytest.mark.long), "slurm"])
def test_ctrl_c_ends_all_jobs(environment, tmp_path, engine):
    if engine == "slurm" and "reason" in environment:
        pytest.skip(environment["reason"])
    endless = [a for a in TWO_JOBS if not a.startswith("trainer.max_epochs")] + ["trainer.max_epochs=1000000"]
    process = start(environment, tmp_path, engine, "sweep", *endless)
    try:
        deadline = time.monotonic() + 240
        while len(list((tmp_path / "sweep").glob("*/checkpoints/last.ckpt"))) < 2:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        output = "".join(process.communicate(timeout=120))
    finally:
        process.kill()
        process.wait()
    assert process.returncode != 0
    assert "the same command goes on with it" in output
    # that no job is left is looked at when the environment is given back


@pytest.mark.long
def test_a_cluster_of_ray_with_two_nodes(environment, sweep, unharmed, tmp_path):
    """Joined by its address; it was started elsewhere, and works where the command was given."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    head = ("--head", f"--port={address.partition(':')[2]}", "--node-ip-address=127.0.0.1")
    head += ("--include-dashboard=false", f"--temp-dir={environment['RAY_TMPDIR']}")
    nodes = []
    try:
        for options in (head, (f"--address={address}", "--node-ip-address=127.0.0.2")):
            log = elsewhere / f"node{len(nodes)}.log"
            command = [
                str(Path(sys.executable).with_name("ray")),
                "start",
                "--block",
                "--num-cpus=1",
                *options,
            ]
            with log.open("w") as file:
                env = environment | {"RAY_USAGE_STATS_ENABLED": "0"}
                nodes.append(
                    subprocess.Popen(
                        command, cwd=elsewhere, env=env, stdout=file, stderr=file, start_new_session=True
                    )
                )
            deadline = time.monotonic() + 120
            while "Ray runtime started" not in log.read_text():
                assert nodes[-1].poll() is None, log.read_text()
                assert time.monotonic() < deadline
                time.sleep(0.2)
        where = (f"hydra.launcher.ray.init.address={address}", "hydra.launcher.ray.init.num_cpus=null")
        fault = [part.format("nothing") for part in FAULT]
        done = sweep("ray", "sweep", *TWO_JOBS, *fault, *where)
        assert done.returncode == 0, done.stdout + done.stderr
    finally:
        for node in reversed(nodes):
            node.terminate()
            node.wait(60)
    assert table(tmp_path / "sweep") == unharmed
    assert not (elsewhere / "sweep").exists()
