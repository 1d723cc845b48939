"""The workspace for W&B: what is in it is what runs log, and what goes wrong is said in one line."""

import json
import sys

import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf, open_dict
from pytorch_lightning.loggers import Logger

import train
from rnnlab.wandb_workspace import SECTIONS, Section, main, workspace
from tests.wandb_server import Server

pytest.importorskip("wandb_workspaces")
KEY = "k" * 40
TINY = (
    "task=symbols",
    "task.length=12",
    "task.first=[2,4]",
    "task.second=[6,8]",
    "task.num_sequences=8",
    "task.num_validation=8",
    "task.batch_size=4",
    "model.cell.hidden_size=3",
    "callbacks=all",
    "callbacks.bifurcation.steps=10",
    "callbacks.bifurcation.max_burn_in=64",
    "callbacks.attractors.max_burn_in=64",
    "callbacks.lyapunov.steps=20",
    "callbacks.lyapunov.discard=20",
    "trainer=cpu",
    "trainer.max_epochs=1",
    "logger=none",
)


class Recorder(Logger):
    """Keeps the names of what is logged."""

    name, version = "recorder", 0
    numbers: set[str] = set()  # noqa: RUF012  of the one run below
    images: set[str] = set()  # noqa: RUF012

    def log_hyperparams(self, params, *_, **__): ...

    def log_metrics(self, metrics, step=None):
        self.numbers.update(metrics)

    def log_image(self, key, images, step=None):
        self.images.add(key)


def in_specification(sections=SECTIONS):
    """Diagrams, as lists of numbers, and images, as W&B would be told of them."""
    spec = workspace("me", "rnnlab", sections=sections)._spec["spec"]["section"]
    found = {"Run History Line Plot": [], "Media Browser": []}
    for section in spec["panelBankConfig"]["sections"]:
        for panel in section["panels"]:
            config = panel["config"]
            found[panel["viewType"]].append(config.get("metrics") or config.get("mediaKeys"))
            assert config.get("xAxis", "epoch") == "epoch"
    return found["Run History Line Plot"], found["Media Browser"]


def test_all_that_is_shown_is_logged_by_a_run(tmp_path):
    with initialize_config_module("conf", version_base="1.3"):
        cfg = compose("train", [*TINY, f"run_dir={tmp_path}"])
    OmegaConf.resolve(cfg)
    with open_dict(cfg):
        cfg.logger = {"recorder": {"_target_": f"{__name__}.Recorder"}}
    train.run(cfg)
    diagrams, images = in_specification()
    assert {key for keys in diagrams for key in keys} <= Recorder.numbers
    assert {key for keys in images for key in keys} <= Recorder.images
    # and of each analysis that a run makes, something is shown
    analyses = {key.partition("/")[0] for key in Recorder.images}
    assert {key.partition("/")[0] for keys in images for key in keys} == analyses


def test_diagrams_and_groups_are_as_said():
    made = [Section("a", {"one": ("x", "y"), "two": ("z",)}, images=("i/j",), log=("two",)), Section("b", {})]
    assert in_specification(made) == ([["x", "y"], ["z"]], [["i/j"]])
    spec = workspace("me", "rnnlab", sections=made)._spec["spec"]["section"]
    first, second = spec["panelBankConfig"]["sections"]
    assert (first["name"], second["name"]) == ("a", "b")
    assert {p["config"].get("chartTitle"): p["config"].get("yLogScale") for p in first["panels"][1:]} == {
        "one": None,
        "two": True,
    }
    (runs,) = spec["runSets"]
    assert [(key["section"], key["name"]) for key in runs["grouping"]] == [
        ("run", "jobType"),
        ("config", "seed.value"),
    ]


def test_print_needs_neither_network_nor_key(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    assert main(["me/rnnlab", "--name", "mine", "--print"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["entity"], shown["project"], shown["displayName"]) == ("me", "rnnlab", "mine")
    names = [section["name"] for section in shown["spec"]["section"]["panelBankConfig"]["sections"]]
    assert names == [section.name for section in SECTIONS]


@pytest.mark.parametrize("path", ["rnnlab", "me/rnnlab/runs", "/rnnlab", "me/", "https://wandb.ai/me/rnnlab"])
def test_a_path_that_is_none(capsys, path):
    assert main([path, "--print"]) == 1
    assert capsys.readouterr().err == (
        f"error: {path} is not possible: give ENTITY/PROJECT, for example my-team/rnnlab.\n"
    )


def test_the_package_is_missing(capsys, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "wandb_workspaces"]:
        monkeypatch.setitem(sys.modules, name, None)
    assert main(["me/rnnlab", "--print"]) == 1
    assert capsys.readouterr().err == (
        "error: A W&B workspace needs a package that is not installed: pip install 'rnnlab[workspace]'.\n"
    )


@pytest.fixture
def server(monkeypatch, tmp_path):
    """W&B's, with a project `me/rnnlab`, and a key for it."""
    import wandb

    server = Server()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    server.views = []
    view = {"upsertView": {"view": {"id": "VmlldzoxMjM=", "name": "nw-abcdefghijk-v"}, "inserted": True}}
    server.answers |= {"UpsertView2": lambda given: server.views.append(given) or view}
    wandb.teardown()
    yield server
    server.close()
    wandb.teardown()


def test_it_is_saved(capsys, server):
    assert main(["me/rnnlab"]) == 0
    (sent,) = server.views
    assert (sent["entityName"], sent["projectName"], sent["displayName"]) == ("me", "rnnlab", "rnnlab")
    sections = json.loads(sent["spec"])["section"]["panelBankConfig"]["sections"]
    assert [section["name"] for section in sections] == [section.name for section in SECTIONS]
    assert capsys.readouterr().out == f"{server.url}/me/rnnlab?nw=abcdefghijk\n"


def test_no_such_project(capsys, server):
    assert main(["me/other"]) == 1
    assert server.views == []
    err = capsys.readouterr().err
    assert err.startswith(f"error: me/other got no workspace from {server.url} (")
    assert err.count("\n") == 1


@pytest.mark.parametrize("mood", [401, 403])
def test_the_server_refuses(capsys, server, mood):
    server.mood = mood
    assert main(["me/rnnlab"]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"error: me/rnnlab got no workspace from {server.url} (")
    assert err.count("\n") == 1
    assert KEY not in err


def test_the_server_is_away_or_there_is_no_key(capsys, server, monkeypatch):
    server.close()
    assert main(["me/rnnlab"]) == 1
    assert capsys.readouterr().err == (
        f"error: {server.url} can't be reached: try again later, or give --print.\n"
    )
    monkeypatch.delenv("WANDB_API_KEY")
    import wandb

    wandb.teardown()
    assert main(["me/rnnlab"]) == 1
    assert capsys.readouterr().err == (
        f"error: There is no key for {server.url}: run `wandb login`, or give --print.\n"
    )
