"""Sweeps that W&B's server steers: its own agent starts `train.py` as our files say."""

import json
import math
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

from rnnlab.sweeps import read_sweep
from tests.wandb_server import Server

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "conf" / "wandb").glob("*.yml"))
TOY = (
    "model.cell.hidden_size=3",
    "task.num_sequences=8",
    "task.batch_size=4",
    "trainer=cpu",
    "trainer.max_epochs=1",
    "callbacks=none",
)


GROUPS = ("experiment", "model", "callbacks")


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def sweep(request):
    return yaml.safe_load(request.param.read_text(encoding="utf-8"))


def draw(parameters, rng):
    """Values as W&B's server would choose them."""

    def one(said):
        if "distribution" in said:
            assert said["distribution"] == "log_uniform_values"
            return math.exp(rng.uniform(math.log(said["min"]), math.log(said["max"])))
        return rng.choice(said["values"]) if "values" in said else said["value"]

    return {key: one(said) for key, said in parameters.items()}


def command(sweep, values):
    """What W&B's agent would start, word by word: see `wandb.wandb_agent.Agent._command_run`."""
    words = create_sweep_command_args({"args": {key: {"value": value} for key, value in values.items()}})
    words |= {"env": ["/usr/bin/env"], "interpreter": ["python"], "program": [str(ROOT / sweep["program"])]}
    whole = []
    for chunk in create_sweep_command(list(sweep["command"])):
        whole += words[chunk[2:-1]] if chunk.startswith("${") and chunk.endswith("}") else [chunk]
    return whole


def environment(home, **more):
    """A fresh one, in which `python` is this one."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_") and not k.endswith("_proxy")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return kept | {"HOME": str(home), "PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | more


def test_there_are_files():
    assert {path.stem for path in FILES} == {"symbols_table1", "orthogonal_lr"}
    assert all(path.read_text(encoding="utf-8").startswith("# ") for path in FILES)


@pytest.mark.parametrize("name", ["symbols_table1", "orthogonal_lr"])
def test_it_asks_what_our_own_sweep_asks(name):
    ours = OmegaConf.load(ROOT / "conf" / "sweep" / f"{name}.yaml")
    (experiment,) = [d["override /experiment"] for d in ours.defaults if "override /experiment" in d]
    parameters = yaml.safe_load((ROOT / "conf" / "wandb" / f"{name}.yml").read_text())["parameters"]
    assert parameters.pop("experiment") == {"value": experiment}

    def as_hydra_writes(said):
        if "distribution" in said:
            return re.sub(r"e-0", "e-", f"tag(log,interval({said['min']:.0e},{said['max']:.0e}))")
        return ",".join(map(str, said.get("values", [said.get("value")])))

    asked = {key: as_hydra_writes(said) for key, said in parameters.items()}
    assert asked == {key: str(value) for key, value in ours.hydra.sweeper.params.items()}


def test_every_key_is_one_of_the_config_and_comes_through(sweep):
    rng = random.Random(0)
    for _ in range(3):
        values = draw(sweep["parameters"], rng)
        given = [f"{key}={value}" for key, value in values.items()]
        with initialize_config_module("conf", version_base="1.3"):
            cfg = compose("train", given)
        for key, value in values.items():
            if key not in GROUPS:
                assert OmegaConf.select(cfg, key, throw_on_missing=True) == value, key
    name, goal = sweep["metric"]["name"], sweep["metric"]["goal"]
    assert goal == {"accuracy": "maximize", "loss": "minimize"}[name.partition("/")[2]]


def test_it_trains_as_the_agent_starts_it(sweep, tmp_path):
    values = draw(sweep["parameters"], random.Random(1))
    folder = tmp_path / "wandb" / "sweep-sw1"
    folder.mkdir(parents=True)
    parameters = folder / "config-run7.yaml"
    # what the agent leaves for wandb
    parameters.write_text(
        yaml.safe_dump({"wandb_version": 1, **{k: {"value": v} for k, v in values.items()}})
    )
    agent = {"WANDB_SWEEP_ID": "sw1", "WANDB_RUN_ID": "run7", "WANDB_SWEEP_PARAM_PATH": str(parameters)}
    agent |= {"WANDB_PROJECT": "theirs", "WANDB_ENTITY": "me", "WANDB_DIR": str(tmp_path)}
    done = subprocess.run(
        [*command(sweep, values), *TOY],
        cwd=tmp_path,
        env=environment(tmp_path, **agent),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    run_dir = tmp_path / "sweeps" / "sw1" / "run7"
    assert sweep["metric"]["name"] in pd.read_csv(run_dir / "metrics.csv").columns
    assert (run_dir / "wandb" / "run-id.txt").read_text().strip() == "run7"
    assert len(list((run_dir / "wandb").glob("offline-run-*-run7"))) == 1
    config = OmegaConf.load(run_dir / "config.yaml")
    toy = {word.partition("=")[0] for word in TOY}
    for key in values.keys() - toy - set(GROUPS):
        assert OmegaConf.select(config, key) == values[key]
    assert f"To upload it: wandb sync {run_dir / 'wandb'}" in done.stdout


class SweepServer(Server):
    """W&B's, with the part that makes sweeps and hands their jobs out."""

    def __init__(self) -> None:
        super().__init__()
        self.config, self.jobs, self.given = None, [], []
        self.answers |= {
            "UpsertSweep": self._make,
            "SweepWithRuns": lambda given: {"project": {"sweep": self._sweep()}},
            "CreateAgent": lambda given: {"createAgent": {"agent": {"id": "agent1"}}},
            "Heartbeat": self._beat,
        }

    def _make(self, given):
        self.config = given["config"]
        project = {"id": "UA==", "name": "rnnlab", "entity": {"id": "RQ==", "name": "me"}}
        return {"upsertSweep": {"sweep": {"name": "sw1", "project": project}, "configValidationWarnings": []}}

    def _sweep(self):
        return {"id": "U1c=", "name": "sw1", "state": "RUNNING", "config": self.config, "runs": {"edges": []}}

    def _beat(self, given):
        idle = not json.loads(given["runState"])
        commands = [self.jobs.pop(0)] if idle and self.jobs else []
        return {"agentHeartbeat": {"agent": {"id": "agent1"}, "commands": json.dumps(commands)}}


@pytest.mark.slow
def test_wandb_sweep_and_wandb_agent_drive_it(tmp_path):
    """W&B's own commands, from our file to a directory that reads as a sweep."""
    server = SweepServer()
    env = environment(tmp_path, WANDB_BASE_URL=server.url, WANDB_API_KEY="k" * 40)
    wandb = [sys.executable, "-m", "wandb"]
    file = ROOT / "conf" / "wandb" / "symbols_table1.yml"
    options = {"cwd": tmp_path, "env": env, "capture_output": True, "text": True, "timeout": 300}
    made = subprocess.run([*wandb, "sweep", "-e", "me", "-p", "rnnlab", str(file)], **options)
    assert made.returncode == 0, made.stderr
    config = yaml.safe_load(server.config)
    assert config["parameters"].keys() == yaml.safe_load(file.read_text())["parameters"].keys()

    toy = dict(word.split("=") for word in TOY)
    rng = random.Random(2)
    for name in ("first", "second"):
        values = draw(config["parameters"], rng) | {"task.length": 50} | toy
        args = {key: {"value": value} for key, value in values.items()}
        job = {"type": "run", "run_id": name, "program": str(ROOT / "train.py"), "args": args}
        server.jobs.append(job)
        server.given.append(values)
    agent = subprocess.run([*wandb, "agent", "--count", "2", "me/rnnlab/sw1"], **options)
    server.close()
    assert agent.returncode == 0, agent.stderr
    assert list(server.runs) == ["first", "second"], agent.stdout + agent.stderr
    table = read_sweep(tmp_path / "sweeps" / "sw1").table
    assert table["state"].tolist() == ["finished", "finished"]
    for name, values in zip(("first", "second"), server.given, strict=True):
        assert server.runs[name][0]["sweep"] == "sw1"
        logged = [row["val/accuracy"] for row in server.rows[name] if "val/accuracy" in row]
        metrics = pd.read_csv(tmp_path / "sweeps" / "sw1" / name / "metrics.csv")
        assert logged == metrics["val/accuracy"].tolist()
        assert OmegaConf.load(tmp_path / "sweeps" / "sw1" / name / "config.yaml").seed == values["seed"]
