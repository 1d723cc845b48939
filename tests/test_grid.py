"""A grid composes few configs before it begins, and none too few."""

from types import SimpleNamespace

import pytest
from hydra.core.plugins import Plugins

from rnnlab.engines import adopt
from rnnlab.engines.grid import Grid


class Loader:
    """Puts down what it is asked to compose, and knows no `model=nope`."""

    def __init__(self):
        self.composed = []

    def list_groups(self, parent):
        assert parent == ""
        return ["model", "task"]

    def load_sweep_config(self, master_config, sweep_overrides):
        self.composed.append(sweep_overrides)
        if "model=nope" in sweep_overrides:
            raise ValueError("nope")


@pytest.fixture
def grid():
    grid = Grid(max_batch_size=None)
    grid.hydra_context, grid.config = SimpleNamespace(config_loader=Loader()), {}
    return grid


def test_one_job_of_each_choice_is_composed(grid):
    jobs = [[f"model={m}", f"task.length={n}", f"seed={s}"] for m in "ab" for n in (5, 6) for s in range(50)]
    grid.validate_batch_is_legal(jobs)
    composed = grid.hydra_context.config_loader.composed
    assert sorted(job[0] for job in composed) == ["model=a", "model=b"]
    assert all(job in jobs for job in composed)


def test_a_choice_that_is_not_there_is_found_before_any_job_begins(grid):
    with pytest.raises(ValueError, match="nope"):
        grid.validate_batch_is_legal([[f"model={m}", "seed=1"] for m in ("a", "b", "nope", "c")])


def test_it_takes_the_place_of_hydras_own(monkeypatch):
    plugins = Plugins.instance()
    monkeypatch.setattr(plugins, "class_name_to_class", dict(plugins.class_name_to_class))
    name = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"
    adopt(name, "hydra._internal.core_plugins.basic_launcher.BasicLauncher")
    assert plugins.class_name_to_class[name] is Grid
