"""Every key of every yaml fits what it configures: under `_partial_` a wrong one fails only when called."""

import importlib
import inspect
from pathlib import Path

import pytest
import pytorch_lightning as pl
import yaml
from hydra import compose, initialize_config_module
from hydra.utils import instantiate
from omegaconf import OmegaConf

ROOT = Path(__file__).parents[1] / "conf"
ENGINES = {"launcher": "launcher", "sweep": "sweeper"}
FILES = sorted(p.relative_to(ROOT).as_posix() for p in ROOT.rglob("*.yaml") if p.name != "train.yaml")


def targets(node, path=""):
    if isinstance(node, dict):
        if "_target_" in node:
            yield path, node
        for key, value in node.items():
            yield from targets(value, f"{path}.{key}".strip("."))
    elif isinstance(node, list):
        for i, value in enumerate(node):
            yield from targets(value, f"{path}[{i}]")


def locate(target):
    """The object a dotted name means, as Hydra finds it: the longest module, then attributes."""
    parts = target.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for name in parts[cut:]:
            found = getattr(found, name)
        return found
    raise ImportError(target)


def composed(file):
    group, _, name = file.removesuffix(".yaml").partition("/")
    with initialize_config_module("conf", version_base="1.3"):
        cfg = compose("train", overrides=[f"{group}={name}"], return_hydra_config=group in ENGINES)
    if group in ENGINES:  # what these choose is Hydra's
        return OmegaConf.create({key: cfg.hydra[key] for key in ENGINES.values()})
    return cfg


@pytest.mark.parametrize("file", FILES)
def test_keys_bind_to_signatures(file):
    cfg = OmegaConf.to_container(composed(file), resolve=False)
    found = list(targets(cfg))
    assert found
    for path, node in found:
        keys = {key: None for key in node if not key.startswith("_")}
        signature = inspect.signature(locate(node["_target_"]))
        try:
            (signature.bind_partial if node.get("_partial_") else signature.bind)(**keys)
        except TypeError as error:
            pytest.fail(f"{file}, {path}: {error}")


@pytest.mark.parametrize("file", [f for f in FILES if f.startswith("callbacks/")])
def test_callbacks_can_be_made(file):
    # some hand further arguments on, which a signature does not show
    made = instantiate(composed(file).callbacks)
    assert all(isinstance(callback, pl.Callback) for callback in made.values())


@pytest.mark.parametrize("file", FILES)
def test_each_file_says_what_it_is(file):
    assert (ROOT / file).read_text(encoding="utf-8").startswith("# ")


def test_a_wrong_key_is_noticed():
    with pytest.raises(TypeError):
        inspect.signature(locate("rnnlab.model.RecurrentModel")).bind_partial(num_layer=2)


@pytest.mark.parametrize("file", [f for f in FILES if f.startswith("model/")])
def test_no_sizes_of_the_data_in_models(file):
    text = yaml.safe_load((ROOT / file).read_text(encoding="utf-8"))
    assert "input_size" not in str(text)
    assert "output_size" not in str(text)
