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


def test_the_readme_s_periods():
    (block,) = [b for b in blocks("README.md", "python") if "Logistic" in b]
    found = {"torch": torch}
    exec(block.replace("orbit(Logistic(r)", "seen = orbit(Logistic(r)").replace(").period", ")"), found)
    assert found["seen"].period.values.ravel().tolist() == [1, 2, 4, 8, 3]


@pytest.mark.parametrize(
    "name", ["README.md", "docs/extending.md", "docs/ribeiro2020_sine.md", "docs/benchmarks.md"]
)
def test_links_and_pictures_are_there(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    for link in re.findall(r"\]\((?!https?://)([^)#]+)\)", text):
        assert (ROOT / name).parent.joinpath(link).exists(), link
