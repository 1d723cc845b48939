"""What is declared is what is there: names, versions and configuration of the installed package."""

import importlib
import tomllib
from importlib import metadata, resources
from pathlib import Path

import pytest

import rnnlab

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["train", "rnnlab", "callbacks", "datamodules", "conf"])
def test_top_level_names_resolve_to_this_checkout(name):
    module = importlib.import_module(name)
    assert module.__file__ is not None
    assert Path(module.__file__).is_relative_to(ROOT)


def test_versions_agree():
    assert PROJECT["project"]["version"] == rnnlab.__version__ == metadata.version("rnnlab")
    assert f"version: {rnnlab.__version__}" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_all_yaml_and_tables_are_declared_as_package_data():
    declared = {"conf": ["**/*.yaml"], "rnnlab": ["studies/**/*.csv"]}
    assert PROJECT["tool"]["setuptools"]["package-data"] == declared
    assert (resources.files("conf") / "train.yaml").is_file()


def test_the_script_calls_train():
    (script,) = metadata.entry_points(group="console_scripts", name="rnnlab-train")
    assert script.load() is importlib.import_module("train").main


def test_every_name_a_package_exports_is_there():
    for name in ("rnnlab.cells", "rnnlab.analysis", "rnnlab.loggers", "callbacks", "datamodules"):
        module = importlib.import_module(name)
        assert module.__all__
        assert all(hasattr(module, exported) for exported in module.__all__)
