"""The commands and keys of the guide to clusters are there."""

import shlex

import pytest
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra

from tests.test_docs import blocks


def commands(name):
    for block in blocks(name, "sh"):
        for line in block.replace("\\\n", " ").split("\n"):
            words = shlex.split(line, comments=True)
            if words[:3] == ["python", "train.py", "-m"]:
                yield [
                    word.replace("$((part * 1000 + 1)),$((part * 1000 + 1001))", "1,9") for word in words[3:]
                ]


# the keys that its table names, as examples
KEYS = {
    "joblib": ["n_jobs=8"],
    "slurm": [
        "array_parallelism=64",
        "cpus_per_task=2",
        "gpus_per_node=1",
        "gres=gpu:a100:1",
        "mem_gb=8",
        "timeout_min=1440",
        "partition=x",
        "account=x",
        "qos=x",
        "constraint=x",
        "setup=[module load cuda]",
        "tasks_per_node=4",
        "nodes=2",
        "max_num_timeout=5",
    ],
    "ray": [
        "ray.remote.num_cpus=1",
        "ray.remote.num_gpus=0.5",
        "ray.remote.max_retries=3",
        "ray.init.address=auto",
        "ray.init.num_cpus=4",
    ],
}
COMMANDS = [*commands("docs/clusters.md"), *commands("docs/ten_thousand_runs.md")]
COMMANDS += [["launcher=slurm", "+hydra.launcher.additional_parameters.reservation=x"]]
COMMANDS += [["launcher=ray", "+hydra.launcher.ray.remote.memory=8000000000"]]
COMMANDS += [["launcher=ray", "+hydra.launcher.ray.init.runtime_env={env_vars: {A: b}}"]]
COMMANDS += [[f"launcher={name}", *(f"hydra.launcher.{key}" for key in keys)] for name, keys in KEYS.items()]


@pytest.fixture
def composer():
    GlobalHydra.instance().clear()
    with initialize_config_module("conf", version_base="1.3"):
        yield compose


@pytest.mark.parametrize("overrides", COMMANDS, ids=lambda words: words[0])
def test_every_command_can_be_composed(composer, overrides):
    """All but what is swept: of several values the first."""
    fixed = [word.split(",")[0] if "{" not in word and "(" not in word else word for word in overrides]
    fixed = ["seed=1" if word.startswith("seed=range") else word for word in fixed]
    cfg = composer("train", overrides=fixed, return_hydra_config=True)
    assert cfg.hydra.launcher._target_


def test_the_guide_has_commands():
    assert len(COMMANDS) >= 8
