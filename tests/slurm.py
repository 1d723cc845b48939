"""A SLURM of one node with two processors on this machine, for the time of a test."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "srun", "sbatch", "scancel", "scontrol")
CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
KillWait=5
SchedulerParameters=batch_sched_delay=0,sched_interval=1
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
PlugStackConfig={folder}/plugstack.conf
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=2000
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
# what sacct would say if there were accounting, which needs a database: scontrol knows it for five minutes
SACCT = """#!/usr/bin/env python3
import re, subprocess, sys
print("JobID|State|NodeList")
for job in [value for key, value in zip(sys.argv, sys.argv[1:]) if key == "-j"]:
    told = subprocess.run(["scontrol", "show", "job", "-o", job], capture_output=True, text=True).stdout
    for line in told.splitlines():
        facts = dict(re.findall(r"(\\S+?)=(\\S*)", line))
        place = facts.get("ArrayTaskId", "")
        name = facts["JobId"] if not place else f"{facts['ArrayJobId']}_{place}"
        if not place.isdigit() and place:
            name = f"{facts['ArrayJobId']}_[{place}]"
        print(f"{name}|{facts['JobState']}|{facts['NodeList']}")
"""


def missing() -> str:
    """Why there can be no SLURM here; empty where there can."""
    gone = [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]
    if gone:
        return f"no SLURM here: {', '.join(gone)}"
    return "" if os.geteuid() == 0 else "SLURM's daemons are started by root"


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def _free_ports() -> list[int]:
    with socket.socket() as one, socket.socket() as other:
        for each in (one, other):
            each.bind(("127.0.0.1", 0))
        return [one.getsockname()[1], other.getsockname()[1]]


@contextmanager
def slurm() -> Iterator[dict[str, str]]:
    """Start it; gives the variables by which its commands find it. At the end jobs are cancelled."""
    folder = Path(tempfile.mkdtemp(prefix="slurm"))
    folder.chmod(0o755)  # munge trusts no other
    host = socket.gethostname().split(".")[0]
    for name in ("state", "spool", "bin"):
        (folder / name).mkdir()
    (folder / "munge.key").write_bytes(secrets.token_bytes(128))
    (folder / "munge.key").chmod(0o400)
    (folder / "plugstack.conf").touch()
    (folder / "slurm.conf").write_text(CONF.format(folder=folder, host=host, ports=_free_ports()))
    (folder / "bin" / "sacct").write_text(SACCT)
    (folder / "bin" / "sacct").chmod(0o755)
    env = {"SLURM_CONF": f"{folder}/slurm.conf", "PATH": f"{folder}/bin:{_path()}"}
    options = [f"--{name}={folder}/munge.{name}" for name in ("socket", "pid-file", "log-file", "seed-file")]
    daemons = (
        ["munged", "--force", "--foreground", f"--key-file={folder}/munge.key", *options],
        ["slurmctld", "-D"],
        ["slurmd", "-D"],
    )
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        for command in daemons:
            log = stack.enter_context((folder / f"{command[0]}.log").open("w"))
            process = subprocess.Popen(
                command, env=os.environ | env, stdout=log, stderr=log, start_new_session=True
            )
            stack.callback(_end, process)
            if command[0] == "munged":
                _wait(lambda: (folder / "munge.socket").exists(), folder)
        _wait(lambda: "idle" in _ask(env, "sinfo", "--noheader", "-o", "%T"), folder)
        try:
            yield env
        finally:
            _ask(env, "scancel", "--quiet", "--user=root")
            with suppress(TimeoutError):
                _wait(lambda: not _ask(env, "squeue", "--noheader").strip(), folder)


def _ask(env: dict[str, str], *command: str) -> str:
    done = subprocess.run(command, env=os.environ | env, capture_output=True, text=True, timeout=60)
    return done.stdout


def _wait(until, folder: Path, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        if time.monotonic() > deadline:
            logs = "\n".join(path.read_text()[-1000:] for path in folder.glob("*.log"))
            raise TimeoutError(f"SLURM is not ready after {seconds} s: {logs}")
        time.sleep(0.1)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
