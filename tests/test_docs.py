"""The code in the documentation runs as it stands."""

import re
from pathlib import Path

import pytest
import torch
import yaml
from hydra.utils import instantiate

from callbacks import AnalysisCallback
from rnnlab.learner import SequenceLearner
from rnnlab.maps import Linear
from rnnlab.model import RecurrentModel
from rnnlab.report import write_report
from rnnlab.store import Store
from tests.trainers import quiet_trainer

ROOT = Path(__file__).parents[1]


def blocks(name, language):
    text = (ROOT / name).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.fixture(scope="module")
def names():
    found = {}
    for block in blocks("docs/extending.md", "python"):
        exec(block, found)
    return found


def test_the_cell_the_task_and_the_analysis_of_the_guide_work_together(names, tmp_path):
    torch.manual_seed(0)
    task = names["Counting"](num_sequences=20, length=10, batch_size=5)
    model = RecurrentModel(1, 1, lambda input_size: names["Leaky"](input_size, 6), num_layers=2)
    learner = SequenceLearner(model, task.objective, optimizer=torch.optim.Adam)
    watch = AnalysisCallback("speed", names["speed"], every=1, samples=3)
    trainer = quiet_trainer(watch, epochs=2, default_root_dir=tmp_path)
    trainer.fit(learner, datamodule=task)
    seen = Store(tmp_path / "analysis.zarr").read("speed")
    assert seen.speed.sizes == {"epoch": 3, "probe": 2, "sample": 3}
    assert seen.probe.values.tolist() == ["silence", "one"]


def test_the_analysis_of_the_guide_is_right(names):
    x0 = torch.tensor([[[1.0, -2.0]]], dtype=torch.float64)
    assert names["speed"](Linear(3 * torch.eye(2).double()), x0).speed.item() == 4.0


def test_the_yaml_of_the_guide_is_read(names):
    cell, look = (yaml.safe_load(block) for block in blocks("docs/extending.md", "yaml"))
    assert cell["_target_"] == "rnnlab.model.RecurrentModel"
    look["speed"]["analysis"] = names["speed"]
    assert isinstance(instantiate(look)["speed"], AnalysisCallback)


@pytest.mark.slow
def test_any_network_gets_every_analysis_live_and_from_a_checkpoint(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    code = blocks("docs/bring_your_own.md", "python")
    live = next(block for block in code if "watch =" in block)
    after = next(block for block in code if "load_from_checkpoint" in block)
    assert len([line for line in live.splitlines() if line and "import" not in line]) < 10
    assert len([line for line in after.splitlines() if line and "import" not in line]) < 10
    found = {}
    for block in code[:-1]:  # the last is a sketch
        exec(block, found)
    looks = ("attractors", "bifurcation", "contraction", "fixed_points", "lyapunov")
    store = Store("runs/mine/analysis.zarr")
    assert store.names == looks
    assert all(store.read(name).epoch.values.tolist() == list(range(0, 61, 10)) for name in looks)
    # the pulse's sign is remembered: two stable points with a saddle between them
    last = found["seen"].isel(epoch=-1, probe=0)
    assert (last.unstable == 0).sum() == 2
    assert (last.unstable == 1).sum() == 1
    _, points, orbits, exponents, basins, bound = found["results"]
    assert (points.unstable == 0).sum() == 2
    assert (orbits.period == 1).sum() >= 2
    assert exponents.exponent.sizes["mode"] == 16
    assert (basins.attractor_kind == "fixed point").sum() == 2
    assert (bound.upper >= bound.sampled).all()
    layered = found["points"]
    assert layered.point.sizes["probe"] == 5
    assert layered.point.sizes["state"] == 80
    assert (layered.residual.isnull() | (layered.residual < 1e-10)).all()
    assert found["cycle"].period.item() == pytest.approx(7.15691992)  # Brusselator, a = 1, b = 3, by SciPy
    page = write_report("runs/mine").read_text(encoding="utf-8")
    assert all(name.capitalize().replace("_", " ") in page for name in looks)
    assert "killed" not in page


def test_the_guide_to_the_dynamics_says_what_is_so():
    found = {}
    seven, branches, *others = blocks("docs/dynamics.md", "python")
    torch.manual_seed(0)
    exec(seven, found)
    line = seven.strip().splitlines()[-1]
    assert f"# {', '.join(map(str, eval(line, found)))}" in line
    exec(branches, found)
    assert found["branches"].bifurcation_type.values.tolist() == ["pitchfork"]
    assert found["branches"].bifurcation_parameter.values.tolist() == pytest.approx([1.0], abs=1e-9)
    for block in others:
        exec(block, found)
        line = block.strip().splitlines()[-1]
        assert f"# {', '.join(map(str, eval(line, found)))}" in line


def test_the_readme_s_maps():
    (block,) = [b for b in blocks("README.md", "python") if "Logistic" in b]
    found = {"torch": torch}
    exec(block.replace("\norbit(", "\nseen = orbit(").replace("\ncertified_", "\nproved = certified_"), found)
    assert found["seen"].values.ravel().tolist() == [1, 2, 4, 8, 3]
    assert found["proved"].shape == (3, 3)
    assert "# all three, proved" in block


@pytest.mark.parametrize(
    "name", ["README.md", *sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/*.md"))]
)
def test_links_and_pictures_are_there(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    for link in re.findall(r"\]\((?!https?://)([^)#]+)\)", text):
        assert (ROOT / name).parent.joinpath(link).exists(), link
