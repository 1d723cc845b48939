"""The examples run, and show what they say."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name, *arguments, cwd):
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(EXAMPLES.parent)}
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    return subprocess.run(
        command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300, check=True
    ).stdout


def test_logistic_map(tmp_path):
    out = run("logistic_map.py", str(tmp_path / "diagram.png"), cwd=tmp_path)
    for r, period in ((2.8, 1), (3.2, 2), (3.5, 4), (3.55, 8), (3.83, 3)):
        assert f"r = {r}: period {period}" in out
    assert "r = 4.0: does not settle" in out
    assert (tmp_path / "diagram.png").stat().st_size > 10_000


@pytest.mark.slow
def test_seven_fixed_points(tmp_path):
    out = run("seven_fixed_points.py", str(tmp_path / "branches.png"), cwd=tmp_path)
    assert out.count(" stable node ") == 3
    assert out.count("unstable node ") == 1
    assert out.count("saddle ") == 3
    assert "index sum 1; proved: 7, undecided: 0" in out
    # on the axes and on the diagonal, where the map has one dimension, by SciPy
    assert out.count("saddle-node at gain 1.188352") == 2
    assert out.count("saddle-node at gain 1.052396") == 1
    assert (tmp_path / "branches.png").stat().st_size > 10_000


@pytest.mark.slow
def test_phase_portrait(tmp_path):
    out = run("phase_portrait.py", str(tmp_path / "portrait.png"), cwd=tmp_path)
    for kind, count in (("sink", 5), ("source", 1), ("saddle", 5)):
        assert out.count(f" {kind} ") == count
    # the sinks' shares of the plane make a whole, and mirror images are equal
    shares = [float(line.split()[-2]) for line in out.splitlines() if " sink " in line]
    assert sum(shares) == pytest.approx(100, abs=2.5)
    assert (tmp_path / "portrait.png").stat().st_size > 10_000


@pytest.mark.slow
def test_your_own_network_learns_two_resting_states(tmp_path):
    out = run("your_own_network.py", cwd=tmp_path)
    last = out.strip().splitlines()[-1]
    low, high = (float(value) for value in last[last.index("[") + 1 : last.index("]")].split(","))
    assert low < -0.5
    assert high > 0.5
    assert (tmp_path / "runs/your_own_network/figures/bifurcation.png").is_file()
