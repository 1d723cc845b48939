"""From a run directory to pictures and numbers, and one line where that is not possible."""

import sys

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from rnnlab.analysis.landscape import weights
from rnnlab.autonomous import freeze
from rnnlab.ensemble import Ensemble
from rnnlab.runs import open_run
from rnnlab.studies import landscape as study
from rnnlab.studies.program import run

EPOCHS = 5


def make_run(folder, *, kept=EPOCHS, members=None):
    """A run directory as train.py leaves one: weights that move on a known line, then turn."""
    config = {
        "task": {"_target_": "datamodules.Sine", "num_sequences": 6, "length": 12, "batch_size": 3},
        "model": {
            "_target_": "rnnlab.model.RecurrentModel",
            "_partial_": True,
            "cell": {"_target_": "rnnlab.cells.LSTM", "_partial_": True, "hidden_size": 3},
        },
        "ensemble": members,
    }
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "checkpoints").mkdir()
    opened = open_run(folder)
    torch.manual_seed(0)
    make = opened._make("model")
    build = lambda: make(input_size=1, output_size=1, input_bound=1.0)  # noqa: E731
    model = build() if members is None else Ensemble([build() for _ in range(members)])
    state = {f"model.{name}": value.clone() for name, value in model.state_dict().items()}
    floats = {name: value for name, value in state.items() if value.is_floating_point()}
    one, other = ({name: torch.randn_like(value) for name, value in floats.items()} for _ in range(2))
    for epoch in range(kept):
        moved = {
            n: v + 0.1 * (epoch - kept + 1) * one[n] + 0.03 * (epoch % 2) * other[n]
            for n, v in floats.items()
        }
        torch.save(
            {"state_dict": state | moved, "loops": {}}, folder / "checkpoints" / f"epoch_{epoch:06d}.ckpt"
        )
    torch.save({"state_dict": state, "loops": {}}, folder / "checkpoints" / "best.ckpt")
    return folder


def call(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["landscape", *map(str, arguments)])
    code = 0
    try:
        run(study.main)
    except SystemExit as stop:
        code = stop.code
    return code, *capsys.readouterr()


def test_the_plane_goes_through_the_best_weights_and_holds_the_path(tmp_path):
    opened = open_run(make_run(tmp_path / "run"))
    inputs, targets = study.sequences(opened, 2)
    assert (inputs.shape, inputs.dtype) == ((12, 2, 1), torch.float64)
    found = study.plane(opened, inputs, targets, points=5, radius=0.1)
    assert found.epoch.values.tolist() == list(range(EPOCHS))
    # all moves lie in a plane, and the last kept weights are the best but for none
    assert float(found.path_share.sum()) == pytest.approx(1)
    np.testing.assert_allclose(found.path[-1], 0, atol=1e-6)
    theta = weights(study.network(opened))
    steps = [
        float(torch.linalg.vector_norm(weights(study.network(opened, k)) - theta)) for k in range(EPOCHS)
    ]
    np.testing.assert_allclose(np.linalg.norm(found.path, axis=1), steps, atol=1e-6)
    assert (found.path.min("epoch") >= [found.a[0], found.b[0]]).all()
    assert (found.path.max("epoch") <= [found.a[-1], found.b[-1]]).all()
    model = freeze(opened.model)
    assert found.center_cost.item() == pytest.approx(float((model(inputs)[0] - targets).square().mean()))


def test_without_checkpoints_the_plane_is_random(tmp_path):
    opened = open_run(make_run(tmp_path / "run", kept=0))
    found = study.plane(opened, *study.sequences(opened, 2), points=5, radius=0.1)
    assert found.axis.values.tolist() == ["random 0", "random 1"]
    assert "path" not in found
    assert (float(found.a[0]), float(found.b[-1])) == (-0.1, 0.1)


def test_of_a_long_path_some_epochs_are_taken(tmp_path):
    opened = open_run(make_run(tmp_path / "run"))
    epochs, rows = study.path(opened, most=3)
    assert epochs.tolist() == [0, 2, 4]
    assert len(rows) == 3


def test_an_ensemble_is_looked_at_by_member(tmp_path):
    opened = open_run(make_run(tmp_path / "run", members=2))
    one, other = (weights(study.network(opened, member=i)) for i in range(2))
    assert one.shape == other.shape
    assert not torch.equal(one, other)
    with pytest.raises(ValueError, match="--member=2 is not possible: give a number from 0 to 1"):
        study.network(opened, member=2)


def test_the_program_draws_writes_and_says(tmp_path, monkeypatch, capsys):
    folder = make_run(tmp_path / "run")
    code, said, _ = call(monkeypatch, capsys, folder, "--points", 9, "--grid", 5, "--sequences", 2)
    assert code == 0
    names = ("cost_along_random", "cost_along_gradient", "cost_plane", "smoothness")
    out = folder / "landscape"
    assert {path.name for path in out.iterdir()} == {f"{n}.{e}" for n in names for e in ("png", "csv")}
    assert len(pd.read_csv(out / "cost_plane.csv")) == 25
    assert pd.read_csv(out / "cost_along_random.csv")["cost"].notna().sum() == 9
    assert "along gradient: cost" in said
    assert "Lipschitz constant of grad V at N = 12: at least" in said
    assert "of the state, certified" in said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["{}/none"], "holds no run"),
        (["{}/run", "--points", "2"], "--points=2 is not possible"),
        (["{}/run", "--grid", "1"], "--grid=1 is not possible"),
        (["{}/run", "--radius", "-1"], "--radius=-1.0 is not possible"),
        (["{}/run", "--radius", "nan"], "--radius=nan is not possible"),
        (["{}/run", "--sequences", "7"], "--sequences=7 is not possible: give a number from 1 to 6"),
        (["{}/run", "--sequences", "0"], "--sequences=0 is not possible"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, monkeypatch, capsys, arguments, says):
    make_run(tmp_path / "run")
    code, _, said = call(monkeypatch, capsys, *(a.format(tmp_path) for a in arguments))
    assert code == 1
    assert says in said
    assert said.strip().count("\n") == 0
