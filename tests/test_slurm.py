"""What only SLURM does: ranks made by it, jobs cancelled or sent back into the queue by it."""

from __future__ import annotations

import subprocess
import time

import pytest

from tests import slurm
from tests.test_engines import FAULT, TWO_JOBS, start, states, table
from tests.test_engines import cluster as cluster  # fixtures
from tests.test_engines import environment as environment
from tests.test_engines import sweep as sweep
from tests.test_engines import unharmed as unharmed
from tests.test_train import SMALL

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(slurm.missing()), reason=slurm.missing())]
JOBS = (*SMALL, "seed=1,2", "logger=none", "callbacks=none", "trainer.max_epochs=5")
DDP = ("trainer=ddp", "trainer.accelerator=cpu")
FROZEN = (*TWO_JOBS, *(part.format("freeze_0") for part in FAULT))


def test_ranks_made_by_us_and_by_slurm_give_the_same(sweep, tmp_path):
    """One task that starts two ranks, and two tasks that are the ranks."""
    ours = sweep("slurm", "ours", *JOBS, *DDP, "hydra.launcher.cpus_per_task=2")
    assert ours.returncode == 0, ours.stdout + ours.stderr
    theirs = sweep("slurm", "theirs", *JOBS, *DDP, "hydra.launcher.tasks_per_node=2")
    assert theirs.returncode == 0, theirs.stdout + theirs.stderr
    one, other = table(tmp_path / "ours"), table(tmp_path / "theirs")
    assert one == other
    assert [row[0] for row in one.values()] == ["finished"] * 2
    assert states(tmp_path / "theirs") == ["finished"] * 2
    assert len(list((tmp_path / "theirs/.submitit").glob("*/*_1_log.out"))) == 2  # of second ranks


@pytest.mark.parametrize("means", ["scancel", "requeue"])
def test_a_job_that_slurm_took_away_goes_on_to_the_same_end(sweep, environment, unharmed, tmp_path, means):
    """Cancelled, the same command goes on with it; sent back into the queue, it goes on by itself."""
    process = start(environment, tmp_path, "slurm", "sweep", *FROZEN)
    try:
        deadline = time.monotonic() + 240
        while not (tmp_path / "faults/freeze_0").exists() or len(states(tmp_path / "sweep")) < 2:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        while sorted(states(tmp_path / "sweep")) != ["finished", "running"]:  # the one that is frozen
            assert time.monotonic() < deadline
            time.sleep(0.2)
        number = states(tmp_path / "sweep").index("running")
        job = next((tmp_path / "sweep/.submitit").glob(f"*_{number}")).name  # of the array
        signals = ["--signal=USR2", job] if means == "requeue" else [job]
        subprocess.run(["scancel", *signals], env=environment, check=True, timeout=60)
        if means == "requeue":
            subprocess.run(["scancel", "--signal=CONT", job], env=environment, check=True, timeout=60)
        output = "".join(process.communicate(timeout=240))
    finally:
        process.kill()
        process.wait()
    if means == "scancel":
        assert process.returncode == 1, output
        assert "was ended from outside: CANCELLED" in output
        again = sweep("slurm", "sweep", *FROZEN)
        assert again.returncode == 0, again.stdout + again.stderr
    else:
        assert process.returncode == 0, output
    assert sorted(table(tmp_path / "sweep").values()) == sorted(unharmed.values())
